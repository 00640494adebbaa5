// Rounds on their way: started from the JavaScript thread, run on the device's, and settled as promises back on the
// JavaScript thread. All but the signal between the two is used on the JavaScript thread only.
#ifndef WIDEWORD_ROUND_QUEUE_H
#define WIDEWORD_ROUND_QUEUE_H

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "runtime/native/device.h"

namespace wideword {

class RoundQueue : public std::enable_shared_from_this<RoundQueue> {
 public:
  enum class Result { kRun, kTime, kTrace };

  static std::shared_ptr<RoundQueue> Open(Napi::Env env);
  ~RoundQueue();

  // Starts the round and gives its promise. `targets` are the Uint8Arrays that the round's reads fill, in order.
  Napi::Value Start(Napi::Env env, std::shared_ptr<Round> round, Result result, std::vector<Napi::Value> targets);
  // The same for what `start` begins. It gets what is to be called, once and on any thread, when the round is over.
  using Begin = std::function<void(std::function<void()> done)>;
  Napi::Value Start(Napi::Env env, std::shared_ptr<Round> round, Result result, std::vector<Napi::Value> targets,
                    const Begin& begin);

 private:
  struct Pending {
    std::shared_ptr<Round> round;
    Result result = Result::kRun;
    napi_deferred deferred = nullptr;
    std::vector<napi_ref> targets;
    // While a promise is pending nothing else may be keeping the queue.
    std::shared_ptr<RoundQueue> self;
  };

  // Shared with the device's thread. Node frees the function below when its environment ends, whoever is about to call
  // it; hence the lock.
  struct Signal {
    std::mutex mutex;
    napi_threadsafe_function function = nullptr;
    RoundQueue* queue = nullptr;  // JavaScript thread only
  };

  static void Send(Signal& signal, std::uint32_t id);
  static void Settle(napi_env env, napi_value function, void* context, void* data);
  static void Finalize(napi_env env, void* data, void* hint);
  static void SettleOne(napi_env env, Pending& pending);
  static napi_value MakeResult(napi_env env, Pending& pending);

  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  std::unordered_map<std::uint32_t, Pending> pending_;
  std::uint32_t next_ = 0;
};

}  // namespace wideword

#endif
