// A device's own thread and its queue. Everything a device does happens there, in order, so neither backends nor their
// resources need locks, and a CUDA context is current on one thread only.
#ifndef WIDEWORD_EXECUTOR_H
#define WIDEWORD_EXECUTOR_H

#include <atomic>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <unordered_map>

#include "runtime/native/backend.h"
#include "runtime/native/gate.h"

namespace wideword {

// Something that has work of its own for the device's thread, between jobs.
class Stepped {
 public:
  virtual ~Stepped() = default;
  // Does a little of it; false if there is none now. Must not throw.
  virtual bool Step() = 0;
};

// A backend and what has been made on it; what is left when the device closes is freed then.
struct DeviceState {
  explicit DeviceState(std::unique_ptr<Backend> made) : backend(std::move(made)) {}
  ~DeviceState();
  void Free(Address address);

  std::unique_ptr<Backend> backend;
  std::unordered_map<Address, std::size_t> memories;
  std::unordered_map<LoadedCode*, std::unique_ptr<LoadedCode>> codes;
  std::unordered_map<LoadedProgram*, std::unique_ptr<LoadedProgram>> programs;
  std::unordered_map<Stepped*, std::unique_ptr<Stepped>> stepped;
};

class Executor {
 public:
  using Job = std::function<void(DeviceState&)>;
  using MakeBackend = std::function<std::unique_ptr<Backend>()>;
  enum class Order { kInTurn, kNext };

  // Makes the backend on the new thread; its failure is thrown here.
  explicit Executor(MakeBackend make);
  ~Executor() { Stop(); }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs the job some time; false (and no run) once stopped. The job must not throw.
  bool Post(Job job, Order order = Order::kInTurn);
  // There may be something to step. Cheap, and from any thread.
  void Wake();
  // Runs the job and waits for it; throws what it throws, or that the device is closed.
  void Call(const Job& job, Order order = Order::kInTurn);
  // Runs what is queued, frees all that was made and ends the thread. Any thread may call it, any number of times; on
  // the device's own thread (a job held the last reference) it only asks for the end.
  void Stop();
  bool stopped() const;

 private:
  struct Queue {
    std::mutex mutex;
    std::deque<Job> jobs;
    bool stopping = false;
    std::atomic<bool> awaited{false};  // a job, the end, or steps: the thread has something to do
    Gate changed;
  };
  static void Work(const std::shared_ptr<Queue>& queue, DeviceState& state);

  std::shared_ptr<Queue> queue_ = std::make_shared<Queue>();
  std::thread thread_;
};

}  // namespace wideword

#endif
