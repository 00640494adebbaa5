// Devices, and handles on what was made on them, for use from the JavaScript thread. A handle keeps its device and what
// it depends on alive; dropping the last one frees the resource on the device's thread, after the jobs queued before.
// Handles may go in any order and after their device was closed (which freed everything).
#ifndef WIDEWORD_DEVICE_H
#define WIDEWORD_DEVICE_H

#include <memory>
#include <string>
#include <vector>

#include "runtime/native/backend.h"
#include "runtime/native/engine.h"
#include "runtime/native/executor.h"

namespace wideword {

class Device;

struct Memory {
  Memory(std::shared_ptr<Device> owner, Address at, std::size_t size);
  ~Memory();
  const std::shared_ptr<Device> device;
  const Address address;
  const std::size_t bytes;
};

struct Code {
  Code(std::shared_ptr<Device> owner, LoadedCode* made);
  ~Code();
  const std::shared_ptr<Device> device;
  LoadedCode* const loaded;
  const unsigned max_threads;
  const unsigned max_shared_bytes;
};

struct Program {
  ~Program();
  std::shared_ptr<Device> device;
  LoadedProgram* loaded = nullptr;
  std::size_t words = 0;
  std::size_t blocks = 0;         // physical ones, of all words
  std::vector<unsigned> tenants;  // ascending, without repeats
  std::vector<std::shared_ptr<Memory>> memories;
  std::vector<std::shared_ptr<Code>> codes;
};

// An issue engine and what it works with.
struct EngineRef {
  ~EngineRef();
  std::shared_ptr<Device> device;
  Engine* engine = nullptr;
  unsigned classes = 0;
  // Bytes of each tenant's inputs and outputs.
  std::vector<std::vector<std::size_t>> inputs, outputs;
  std::vector<std::shared_ptr<Memory>> memories;
  std::vector<std::shared_ptr<Code>> codes;
  std::shared_ptr<Program> captured;
};

// A copy between device memory and `data`, which is memory of ours: JavaScript's may change or go away meanwhile.
struct Copy {
  std::shared_ptr<Memory> memory;
  std::size_t offset = 0;
  std::vector<std::uint8_t> data;
};

// What the milliseconds of a call are: one a repetition; of each word, repetition by repetition; or one a repetition of
// all its programs, in turn or side by side. A trace is of one such round.
enum class Measure { kRounds, kWords, kInTurn, kSideBySide };

// One call of run, time, timeWords or trace, and its outcome.
struct Round {
  Measure measure = Measure::kRounds;
  // At least one, all of one device; several only in turn or side by side, where all of their tenants are active.
  std::vector<std::shared_ptr<Program>> programs;
  std::vector<unsigned> active;
  std::vector<Copy> writes;
  std::vector<Copy> reads;
  unsigned repetitions = 1;
  bool is_traced = false;  // in turn or side by side
  std::vector<double> milliseconds;
  TracedRound trace;
  std::string problem;
};

// What a word's slots refer to, all of this device.
struct ProgramParts {
  std::vector<WordSpec> words;
  WordOrder order = WordOrder::kChain;
  std::vector<unsigned> tenants;
  std::vector<std::shared_ptr<Memory>> memories;
  std::vector<std::shared_ptr<Code>> codes;
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  static std::shared_ptr<Device> Open(Executor::MakeBackend make);

  const DeviceInfo& info() const { return info_; }
  std::shared_ptr<Memory> Allocate(std::size_t bytes);
  void Write(const Memory& memory, std::size_t offset, const void* data, std::size_t bytes);
  void Read(const Memory& memory, std::size_t offset, void* data, std::size_t bytes);
  std::shared_ptr<Code> Load(const std::string& code, const std::string& entry);
  std::shared_ptr<Program> CreateProgram(ProgramParts parts);
  // `made` says all but the engine itself.
  std::shared_ptr<EngineRef> CreateEngine(std::shared_ptr<EngineRef> made, EngineSpec spec);
  // Runs on the device's thread with the engine, and waits for it.
  void WithEngine(const EngineRef& engine, const std::function<void(Engine&)>& job);
  void Submit(const EngineRef& engine, EngineRequest request);
  // Runs the round some time and then calls `done` on the device's thread.
  void Start(std::shared_ptr<Round> round, std::function<void()> done);
  // Returns when all that was started before has ended.
  void Drain();
  void Close() { executor_.Stop(); }
  bool closed() const { return executor_.stopped(); }

 private:
  friend struct Memory;
  friend struct Code;
  friend struct Program;
  friend struct EngineRef;
  explicit Device(Executor::MakeBackend make) : executor_(std::move(make)) {}

  DeviceInfo info_;
  Executor executor_;
};

}  // namespace wideword

#endif
