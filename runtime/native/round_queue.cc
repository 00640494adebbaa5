#include "runtime/native/round_queue.h"

#include <cstring>

#include "runtime/native/checks.h"
#include "runtime/native/trace_result.h"

namespace wideword {

std::shared_ptr<RoundQueue> RoundQueue::Open(Napi::Env env) {
  const auto queue = std::make_shared<RoundQueue>();
  queue->signal_->queue = queue.get();
  // Freed by Finalize, the last that Node does with it.
  auto* context = new std::shared_ptr<Signal>(queue->signal_);
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "wideword rounds"), 0, 1, context, Finalize, context, Settle,
      &queue->signal_->function);
  if (status != napi_ok) {
    delete context;
    throw Napi::Error::New(env, "cannot make the queue of a device's rounds");
  }
  // Only rounds in flight keep the process running, not an open device.
  napi_unref_threadsafe_function(env, queue->signal_->function);
  return queue;
}

RoundQueue::~RoundQueue() {
  signal_->queue = nullptr;
  std::lock_guard<std::mutex> lock(signal_->mutex);
  if (signal_->function) napi_release_threadsafe_function(signal_->function, napi_tsfn_release);
  signal_->function = nullptr;
}

Napi::Value RoundQueue::Start(Napi::Env env, std::shared_ptr<Round> round, Result result,
                              std::vector<Napi::Value> targets) {
  return Start(env, round, result, std::move(targets), [&round](std::function<void()> done) {
    round->programs.front()->device->Start(round, std::move(done));
  });
}

Napi::Value RoundQueue::Start(Napi::Env env, std::shared_ptr<Round> round, Result result,
                              std::vector<Napi::Value> targets, const Begin& begin) {
  if (!signal_->function) throw std::runtime_error("this thread is ending");
  Pending pending;
  pending.round = round;
  pending.result = result;
  pending.self = shared_from_this();
  napi_value promise = nullptr;
  if (napi_create_promise(env, &pending.deferred, &promise) != napi_ok) throw Napi::Error::New(env);
  for (const Napi::Value& target : targets) {
    napi_ref reference = nullptr;
    if (napi_create_reference(env, target, 1, &reference) != napi_ok) throw Napi::Error::New(env);
    pending.targets.push_back(reference);
  }
  const std::uint32_t id = next_++;
  if (pending_.empty()) napi_ref_threadsafe_function(env, signal_->function);
  Pending& kept = pending_.emplace(id, std::move(pending)).first->second;
  try {
    begin([signal = signal_, id] { Send(*signal, id); });
  } catch (const std::exception& error) {
    kept.round->problem = error.what();
    Send(*signal_, id);
  }
  return Napi::Value(env, promise);
}

void RoundQueue::Send(Signal& signal, std::uint32_t id) {
  std::lock_guard<std::mutex> lock(signal.mutex);
  if (!signal.function) return;  // the environment has ended, and nobody waits
  void* data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(id));
  if (napi_call_threadsafe_function(signal.function, data, napi_tsfn_nonblocking) == napi_closing) {
    signal.function = nullptr;
  }
}

void RoundQueue::Settle(napi_env env, napi_value, void* context, void* data) {
  // Called for what was left in the queue at the end of an environment, after Finalize, so not even the context is there.
  if (!env) return;
  Signal& signal = **static_cast<std::shared_ptr<Signal>*>(context);
  if (!signal.queue) return;
  const auto id = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(data));
  RoundQueue& queue = *signal.queue;
  const auto found = queue.pending_.find(id);
  if (found == queue.pending_.end()) return;
  Pending pending = std::move(found->second);
  queue.pending_.erase(found);
  if (queue.pending_.empty() && signal.function) napi_unref_threadsafe_function(env, signal.function);
  try {
    SettleOne(env, pending);
  } catch (...) {
    // The environment is ending and refused a call, or memory is out: the promise stays pending.
  }
  for (napi_ref target : pending.targets) napi_delete_reference(env, target);
  // `pending` may hold the last references to the queue and to a closed program; they go here.
}

void RoundQueue::Finalize(napi_env, void* data, void*) {
  auto* context = static_cast<std::shared_ptr<Signal>*>(data);
  const std::shared_ptr<Signal> signal = std::move(*context);
  delete context;
  {
    std::lock_guard<std::mutex> lock(signal->mutex);
    signal->function = nullptr;
  }
  // At the end of an environment rounds may be pending. Their references go with the environment.
  if (signal->queue) {
    const auto dropped = std::move(signal->queue->pending_);
    signal->queue->pending_.clear();
  }
}

void RoundQueue::SettleOne(napi_env env, Pending& pending) {
  // Plain C calls: in a thread that is being terminated each of them may fail, and then there is nothing left to do.
  napi_value result = nullptr;
  if (pending.round->problem.empty()) {
    result = MakeResult(env, pending);
    if (result) {
      napi_resolve_deferred(env, pending.deferred, result);
      return;
    }
    if (pending.round->problem.empty()) pending.round->problem = "cannot make the round's result";
  }
  napi_value message = nullptr;
  napi_value error = nullptr;
  const std::string& problem = pending.round->problem;
  if (napi_create_string_utf8(env, problem.c_str(), problem.size(), &message) != napi_ok) return;
  if (napi_create_error(env, nullptr, message, &error) != napi_ok) return;
  napi_reject_deferred(env, pending.deferred, error);
}

napi_value RoundQueue::MakeResult(napi_env env, Pending& pending) {
  Round& round = *pending.round;
  for (std::size_t i = 0; i < pending.targets.size(); ++i) {
    napi_value target = nullptr;
    ByteView view;
    const std::vector<std::uint8_t>& data = round.reads[i].data;
    const bool there = napi_get_reference_value(env, pending.targets[i], &target) == napi_ok && target;
    // Its memory may have been transferred or resized while the round ran.
    if (!there || !LooksLikeBytes(Napi::Value(env, target), view) || view.size != data.size()) {
      round.problem = "reads[" + std::to_string(i) + "].data changed its size during the round";
      return nullptr;
    }
    if (!data.empty()) std::memcpy(view.data, data.data(), data.size());
  }
  if (pending.result == Result::kTrace) return MakeTraceResult(env, round.trace);
  napi_value result = nullptr;
  if (pending.result == Result::kRun) {
    napi_value milliseconds = nullptr;
    if (napi_create_double(env, round.milliseconds.at(0), &milliseconds) != napi_ok) return nullptr;
    if (napi_create_object(env, &result) != napi_ok) return nullptr;
    if (napi_set_named_property(env, result, "milliseconds", milliseconds) != napi_ok) return nullptr;
    return result;
  }
  const std::size_t count = round.milliseconds.size();
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_arraybuffer(env, count * sizeof(double), &data, &buffer) != napi_ok) return nullptr;
  std::memcpy(data, round.milliseconds.data(), count * sizeof(double));
  if (napi_create_typedarray(env, napi_float64_array, count, buffer, 0, &result) != napi_ok) return nullptr;
  return result;
}

}  // namespace wideword
