#include "runtime/native/host_device.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <latch>
#include <stdexcept>
#include <thread>

#include "runtime/native/slot_table.h"
#include "runtime/native/thread_pool.h"

namespace wideword {

namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

using Clock = std::chrono::steady_clock;
double MillisecondsBetween(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - start).count();
}

// How much can be allocated before the system starts killing processes. It promises more memory than it has, so asking
// for too much does not fail by itself.
std::size_t AvailableBytes() {
  std::size_t available = SIZE_MAX;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key;) {
    std::size_t kilobytes = 0;
    meminfo >> kilobytes;
    std::getline(meminfo, unit);
    if (key == "MemAvailable:") available = kilobytes * 1024;
  }
  std::size_t limit = 0;
  std::size_t used = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit && std::ifstream("/sys/fs/cgroup/memory.current") >> used) {
    available = std::min(available, limit > used ? limit - used : 0);
  }
  return available;
}

class HostCode : public LoadedCode {
 public:
  HostCode(const std::string& path, const std::string& entry, unsigned units) : units_(units) {
    // Without a slash the loader would look in the system's folders.
    const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
    library_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library_) throw std::runtime_error("cannot load " + path + ": " + LoaderProblem());
    runner = reinterpret_cast<BlockRunner>(dlsym(library_, entry.c_str()));
    if (!runner) {
      dlclose(library_);
      throw std::runtime_error(path + " has no entry " + entry);
    }
  }
  ~HostCode() override { dlclose(library_); }
  unsigned max_threads() const override { return 1024; }
  unsigned max_shared_bytes() const override { return 0; }
  unsigned blocks_at_once(unsigned, unsigned) const override { return units_; }

  BlockRunner runner = nullptr;

 private:
  static std::string LoaderProblem() {
    const char* text = dlerror();
    return text ? text : "unknown reason";
  }
  const unsigned units_;
  void* library_ = nullptr;
};

class HostProgram : public LoadedProgram {
 public:
  HostProgram(ThreadPool& pool, const std::vector<WordSpec>& words) : pool_(pool), table_(words) {
    for (const WordSpec& word : words) runners_.push_back(static_cast<HostCode*>(word.code)->runner);
  }

  void Activate(const std::vector<unsigned>& tenants) override { table_.Activate(tenants); }

  void Launch() override {
    const Clock::time_point start = Clock::now();
    RunOn(pool_);
    milliseconds_ = MillisecondsBetween(start, Clock::now());
  }

  double Milliseconds() override { return milliseconds_; }

  std::vector<double> TimeWords() override {
    std::vector<double> milliseconds;
    for (std::size_t i = 0; i < runners_.size(); ++i) {
      const Clock::time_point start = Clock::now();
      RunWord(i, pool_);
      milliseconds.push_back(MillisecondsBetween(start, Clock::now()));
    }
    return milliseconds;
  }

  // Notes in `times`, if they are given, when which block ran.
  void RunOn(ThreadPool& pool, ProgramTimes* times = nullptr) const {
    for (std::size_t i = 0; i < runners_.size(); ++i) RunWord(i, pool, times ? (*times)[i].data() : nullptr);
  }

  ProgramTimes BlankTimes() const {
    ProgramTimes times;
    for (const SlotTable::Word& word : table_.words()) times.emplace_back(word.grid, BlockTime{});
    return times;
  }

 private:
  void RunWord(std::size_t i, ThreadPool& pool, BlockTime* times = nullptr) const {
    const SlotTable::Word& word = table_.words()[i];
    // Idle blocks come last in a word, so they need not even be visited.
    WordLaunch launch = {};
    launch.rows = table_.rows().data() + word.first_row;
    launch.block_slot = table_.map().data() + word.first_map;
    launch.times = times;
    pool.Run(runners_[i], launch, word.busy);
  }

  ThreadPool& pool_;
  SlotTable table_;
  std::vector<BlockRunner> runners_;
  double milliseconds_ = 0;
};

// Runs a chain when it is launched, on all threads: a second lane would have nothing to run on.
class HostLane : public Lane {
 public:
  HostLane(ThreadPool& pool, const std::vector<CohortChain>& chains) : pool_(pool), chains_(chains) {
    std::size_t most_rows = 0, most_blocks = 0;
    for (const CohortChain& chain : chains) {
      most_rows = std::max(most_rows, RowsOf(chain));
      for (const CohortWord& word : chain) most_blocks = std::max(most_blocks, std::size_t{word.slots} * word.blocks);
    }
    rows_.resize(most_rows);
    map_.resize(most_blocks);
  }

  SlotRow* Rows() override { return rows_.data(); }

  void Launch(unsigned chain, bool) override {
    WordLaunch launch = {};
    launch.rows = rows_.data();
    launch.block_slot = map_.data();
    for (const CohortWord& word : chains_[chain]) {
      for (unsigned slot = 0; slot < word.slots; ++slot) std::fill_n(map_.begin() + slot * word.blocks, word.blocks, slot);
      pool_.Run(static_cast<HostCode*>(word.code)->runner, launch, word.slots * word.blocks);
      launch.rows += word.slots;
    }
  }

  bool Passed() override { return true; }

 private:
  ThreadPool& pool_;
  const std::vector<CohortChain> chains_;
  std::vector<SlotRow> rows_;
  std::vector<unsigned> map_;  // of the word that runs
};

// A word is over when Issue returns, a copy when it has been made; so every mark has passed.
class HostIssuer : public Issuer {
 public:
  HostIssuer(ThreadPool& pool, unsigned marks) : pool_(pool), nanoseconds_(marks, 0) {}
  ~HostIssuer() override {
    for (std::vector<std::uint8_t>& memory : staged_) {
      std::fill(memory.begin(), memory.end(), std::uint8_t{0});
      asm volatile("" : : "r"(memory.data()) : "memory");
    }
  }

  std::uint8_t* Stage(std::size_t bytes) override { return staged_.emplace_back(bytes).data(); }
  void SetRows(const std::vector<SlotRow>& rows) override { rows_ = rows; }
  void Prepare(LoadedCode&, unsigned) override {}

  void Issue(LoadedCode& code, unsigned, unsigned, WordLaunch launch, unsigned mark) override {
    launch.rows = rows_.data();
    const Clock::time_point start = Clock::now();
    pool_.Run(static_cast<HostCode&>(code).runner, launch, launch.blocks);
    nanoseconds_[mark] = MillisecondsBetween(start, Clock::now()) * 1e6;
  }
  void Run(LoadedProgram& program, unsigned mark) override {
    program.Launch();
    nanoseconds_[mark] = program.Milliseconds() * 1e6;
  }
  void Upload(const std::vector<StagedCopy>& copies, unsigned) override {
    for (const StagedCopy& copy : copies) std::memcpy(reinterpret_cast<void*>(copy.address), copy.staged, copy.bytes);
  }
  void Download(const std::vector<StagedCopy>& copies, unsigned) override {
    for (const StagedCopy& copy : copies) std::memcpy(copy.staged, reinterpret_cast<const void*>(copy.address), copy.bytes);
  }
  std::vector<std::unique_ptr<Lane>> MakeLanes(const std::vector<CohortChain>& chains, unsigned) override {
    std::vector<std::unique_ptr<Lane>> lanes;
    lanes.push_back(std::make_unique<HostLane>(pool_, chains));
    return lanes;
  }
  bool Passed(unsigned) override { return true; }
  double Nanoseconds(unsigned mark, int) override { return nanoseconds_[mark]; }

 private:
  ThreadPool& pool_;
  std::vector<SlotRow> rows_;
  std::vector<std::vector<std::uint8_t>> staged_;
  std::vector<double> nanoseconds_;
};

// Runs each program on threads of its own, which share out the device's; every one gets at least one. Notes in `times`, if
// they are given, when the blocks of each program ran.
double TimeSideBySide(const std::vector<LoadedProgram*>& programs, unsigned device_threads,
                      std::vector<ProgramTimes>* times = nullptr) {
  const auto count = static_cast<std::ptrdiff_t>(programs.size());
  const unsigned share = std::max(1u, device_threads / static_cast<unsigned>(count));
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (std::ptrdiff_t i = 0; i < count; ++i) pools.push_back(std::make_unique<ThreadPool>(share));
  std::vector<Clock::time_point> ends(programs.size());
  std::latch ready(count);
  std::latch go(1);
  bool called_off = false;  // written before `go`
  std::vector<std::thread> threads;
  const auto join = [&] {
    go.count_down();
    for (std::thread& thread : threads) thread.join();
  };
  try {
    for (std::size_t i = 0; i < programs.size(); ++i) {
      threads.emplace_back([&, i] {
        ready.count_down();
        go.wait();
        if (called_off) return;
        static_cast<HostProgram*>(programs[i])->RunOn(*pools[i], times ? &(*times)[i] : nullptr);
        ends[i] = Clock::now();
      });
    }
  } catch (...) {  // the system has no more threads
    called_off = true;
    join();
    throw;
  }
  ready.wait();
  const Clock::time_point start = Clock::now();
  join();
  for (std::size_t i = 0; times && i < times->size(); ++i) {
    for (std::vector<BlockTime>& word : (*times)[i]) {
      for (BlockTime& block : word) block.unit += static_cast<unsigned>(i) * share;
    }
  }
  return MillisecondsBetween(start, *std::max_element(ends.begin(), ends.end()));
}

class HostBackend : public Backend {
 public:
  explicit HostBackend(unsigned threads) : pool_(threads) {
    info_.kind = "host";
    info_.name = "host, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
    info_.target = "host";
    info_.units = threads;
  }

  const DeviceInfo& info() const override { return info_; }

  Address Allocate(std::size_t bytes) override {
    // From malloc's family, so that AddressSanitizer sees an access beside a buffer.
    void* memory = nullptr;
    if (bytes > AvailableBytes() || posix_memalign(&memory, kAlignment, bytes) != 0) {
      throw std::runtime_error("cannot allocate " + std::to_string(bytes) + " bytes of host memory");
    }
    std::memset(memory, 0, bytes);
    return reinterpret_cast<Address>(memory);
  }

  void Free(Address address, std::size_t bytes) noexcept override {
    void* memory = reinterpret_cast<void*>(address);
    std::memset(memory, 0, bytes);
    // Or the compiler would drop the stores as dead.
    asm volatile("" : : "r"(memory) : "memory");
    std::free(memory);
  }

  void Write(Address address, const void* data, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(reinterpret_cast<void*>(address), data, bytes);
  }
  void Read(void* data, Address address, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(data, reinterpret_cast<const void*>(address), bytes);
  }
  void Wait() override {}

  std::unique_ptr<LoadedCode> Load(const std::string& code, const std::string& entry) override {
    return std::make_unique<HostCode>(code, entry, info_.units);
  }
  // Words in order keep to either order: each fills the pool by itself.
  std::unique_ptr<LoadedProgram> Prepare(const std::vector<WordSpec>& words, WordOrder) override {
    return std::make_unique<HostProgram>(pool_, words);
  }

  std::unique_ptr<Issuer> MakeIssuer(unsigned marks) override { return std::make_unique<HostIssuer>(pool_, marks); }

  double TimeTogether(const std::vector<LoadedProgram*>& programs, Together together) override {
    if (together == Together::kSideBySide) return TimeSideBySide(programs, info_.units);
    const Clock::time_point start = Clock::now();
    for (LoadedProgram* program : programs) program->Launch();
    return MillisecondsBetween(start, Clock::now());
  }

  TracedRound TraceTogether(const std::vector<LoadedProgram*>& programs, Together together) override {
    TracedRound round;
    for (LoadedProgram* program : programs) {
      round.programs.push_back(static_cast<HostProgram*>(program)->BlankTimes());
    }
    if (together == Together::kSideBySide) {
      round.milliseconds = TimeSideBySide(programs, info_.units, &round.programs);
      return round;
    }
    const Clock::time_point start = Clock::now();
    for (std::size_t i = 0; i < programs.size(); ++i) {
      static_cast<HostProgram*>(programs[i])->RunOn(pool_, &round.programs[i]);
    }
    round.milliseconds = MillisecondsBetween(start, Clock::now());
    return round;
  }

 private:
  DeviceInfo info_;
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> MakeHostBackend(unsigned threads) { return std::make_unique<HostBackend>(threads); }

}  // namespace wideword
