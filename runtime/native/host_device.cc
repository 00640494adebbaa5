#include "runtime/native/host_device.h"

#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "runtime/native/slot_table.h"
#include "runtime/native/thread_pool.h"

namespace wideword {

namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

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
  HostCode(const std::string& path, const std::string& entry) {
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

  BlockRunner runner = nullptr;

 private:
  static std::string LoaderProblem() {
    const char* text = dlerror();
    return text ? text : "unknown reason";
  }
  void* library_ = nullptr;
};

class HostProgram : public LoadedProgram {
 public:
  HostProgram(ThreadPool& pool, const std::vector<WordSpec>& words) : pool_(pool), table_(words) {
    for (const WordSpec& word : words) runners_.push_back(static_cast<HostCode*>(word.code)->runner);
  }

  void Activate(const std::vector<unsigned>& tenants) override { table_.Activate(tenants); }

  void Launch() override {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < runners_.size(); ++i) {
      const SlotTable::Word& word = table_.words()[i];
      // Idle blocks come last in a word, so they need not even be visited.
      pool_.Run(runners_[i], table_.rows().data() + word.first_row, table_.map().data() + word.first_map, word.busy);
    }
    const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
    milliseconds_ = taken.count();
  }

  double Milliseconds() override { return milliseconds_; }

 private:
  ThreadPool& pool_;
  SlotTable table_;
  std::vector<BlockRunner> runners_;
  double milliseconds_ = 0;
};

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
    return std::make_unique<HostCode>(code, entry);
  }
  std::unique_ptr<LoadedProgram> Prepare(const std::vector<WordSpec>& words) override {
    return std::make_unique<HostProgram>(pool_, words);
  }

 private:
  DeviceInfo info_;
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> MakeHostBackend(unsigned threads) { return std::make_unique<HostBackend>(threads); }

}  // namespace wideword
