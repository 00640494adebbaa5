// What a kind of device (CUDA, host) implements. A backend and all it makes live on their device's own thread
// (device.h), so nothing in here needs a lock. Everything arriving has been checked; a failure is a std::exception
// whose message says what was being done.
#ifndef WIDEWORD_BACKEND_H
#define WIDEWORD_BACKEND_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/native/block_times.h"

namespace wideword {

using Address = std::uint64_t;

struct DeviceInfo {
  std::string kind;
  std::string name;
  std::string target;
  unsigned units = 0;
};

// An entry of loaded code.
class LoadedCode {
 public:
  virtual ~LoadedCode() = default;
  // The most threads a block of it can have.
  virtual unsigned max_threads() const = 0;
  // The most shared memory, in bytes, that a block of it can have beside what the code declares.
  virtual unsigned max_shared_bytes() const = 0;
};

struct SlotSpec {
  unsigned tenant = 0;
  unsigned body = 0;
  unsigned begin = 0;
  unsigned end = 0;
  unsigned blocks = 0;
  std::vector<Address> operands;
  std::vector<int> sizes;
};

struct WordSpec {
  LoadedCode* code = nullptr;
  unsigned threads = 0;
  unsigned shared_bytes = 0;  // beside what the code declares
  std::vector<SlotSpec> slots;
};

// A program as its device runs it.
class LoadedProgram {
 public:
  virtual ~LoadedProgram() = default;
  // Deals the blocks to these tenants; ascending and without repeats.
  virtual void Activate(const std::vector<unsigned>& tenants) = 0;
  // Starts the words; they have ended after Backend::Wait.
  virtual void Launch() = 0;
  // How long the last launch's words took; only after Backend::Wait.
  virtual double Milliseconds() = 0;
  // Runs the words once and gives how long each of them took.
  virtual std::vector<double> TimeWords() = 0;
};

// How several programs run one round each: one behind the other, or each on a queue (a stream, threads) of its own.
enum class Together { kInTurn, kSideBySide };

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const DeviceInfo& info() const = 0;
  // Zeroed.
  virtual Address Allocate(std::size_t bytes) = 0;
  // Zeroes first, so that no tenant's data goes back to the system.
  virtual void Free(Address address, std::size_t bytes) noexcept = 0;
  // Copies are ordered with launches; `data` has been used up, or filled, after Wait.
  virtual void Write(Address address, const void* data, std::size_t bytes) = 0;
  virtual void Read(void* data, Address address, std::size_t bytes) = 0;
  virtual void Wait() = 0;
  // `code` is a cubin's or PTX's bytes on CUDA, a shared library's path on the host.
  virtual std::unique_ptr<LoadedCode> Load(const std::string& code, const std::string& entry) = 0;
  virtual std::unique_ptr<LoadedProgram> Prepare(const std::vector<WordSpec>& words) = 0;
  // Runs distinct programs of this backend and gives the milliseconds from the launch of the first to the end of the last.
  virtual double TimeTogether(const std::vector<LoadedProgram*>& programs, Together together) = 0;
  // The same, with every block noting when it ran. On the host, side by side, each program's threads are numbered on from
  // those of the one before.
  virtual TracedRound TraceTogether(const std::vector<LoadedProgram*>& programs, Together together) = 0;
};

}  // namespace wideword

#endif
