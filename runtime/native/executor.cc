#include "runtime/native/executor.h"

namespace wideword {

DeviceState::~DeviceState() {
  stepped.clear();   // before the programs and the code that they launch
  programs.clear();  // likewise
  codes.clear();
  for (const auto& [address, bytes] : memories) backend->Free(address, bytes);
}

void DeviceState::Free(Address address) {
  const auto found = memories.find(address);
  if (found == memories.end()) return;
  backend->Free(address, found->second);
  memories.erase(found);
}

namespace {

// Spinning for jobs and replies was measured to lose: it takes the processor from the thread that is waited for.
constexpr unsigned kSpins = 0;

// What a thread waits for that gave the device's thread a job. Shared by the two: either may be the last to touch it.
class Reply {
 public:
  void Done(std::exception_ptr problem) {
    problem_ = std::move(problem);
    done_.store(true, std::memory_order_release);
    changed_.Notify();
  }
  void Wait() {
    changed_.Wait(kSpins, [this] { return done_.load(std::memory_order_acquire); });
    if (problem_) std::rethrow_exception(problem_);
  }

 private:
  std::exception_ptr problem_;
  std::atomic<bool> done_{false};
  Gate changed_;
};

}  // namespace

Executor::Executor(MakeBackend make) {
  const auto made = std::make_shared<Reply>();
  thread_ = std::thread([queue = queue_, make = std::move(make), made] {
    std::unique_ptr<DeviceState> state;
    try {
      state = std::make_unique<DeviceState>(make());
    } catch (...) {
      made->Done(std::current_exception());
      return;
    }
    made->Done(nullptr);
    Work(queue, *state);
  });
  try {
    made->Wait();
  } catch (...) {
    thread_.join();
    throw;
  }
}

void Executor::Work(const std::shared_ptr<Queue>& queue, DeviceState& state) {
  const auto step_all = [&state] {
    bool busy = false;
    for (const auto& [key, stepped] : state.stepped) busy |= stepped->Step();
    return busy;
  };
  for (;;) {
    if (!queue->awaited.exchange(false, std::memory_order_acq_rel) && !step_all()) {
      queue->changed.Wait(kSpins, [&] { return queue->awaited.load(std::memory_order_acquire); });
      continue;
    }
    Job job;
    {
      std::lock_guard<std::mutex> lock(queue->mutex);
      if (queue->jobs.empty() && queue->stopping) return;
      if (!queue->jobs.empty()) {
        job = std::move(queue->jobs.front());
        queue->jobs.pop_front();
        if (queue->stopping || !queue->jobs.empty()) queue->awaited.store(true, std::memory_order_release);
      }
    }
    if (!job) continue;
    job(state);
    job = nullptr;  // it, and what it holds, goes before anything else runs
    step_all();     // so that many jobs do not hold these up
  }
}

bool Executor::Post(Job job, Order order) {
  {
    std::lock_guard<std::mutex> lock(queue_->mutex);
    if (queue_->stopping) return false;
    if (order == Order::kNext) {
      queue_->jobs.push_front(std::move(job));
    } else {
      queue_->jobs.push_back(std::move(job));
    }
    queue_->awaited.store(true, std::memory_order_release);
  }
  queue_->changed.Notify();
  return true;
}

void Executor::Wake() {
  queue_->awaited.store(true, std::memory_order_release);
  queue_->changed.Notify();
}

void Executor::Call(const Job& job, Order order) {
  const auto reply = std::make_shared<Reply>();
  const bool posted = Post(
      [reply, &job](DeviceState& state) {
        try {
          job(state);
        } catch (...) {
          reply->Done(std::current_exception());
          return;
        }
        reply->Done(nullptr);
      },
      order);
  if (!posted) throw std::runtime_error("the device is closed");
  reply->Wait();
}

bool Executor::stopped() const {
  std::lock_guard<std::mutex> lock(queue_->mutex);
  return queue_->stopping;
}

void Executor::Stop() {
  {
    std::lock_guard<std::mutex> lock(queue_->mutex);
    queue_->stopping = true;
    queue_->awaited.store(true, std::memory_order_release);
  }
  queue_->changed.Notify();
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

}  // namespace wideword
