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

#include "codegen/prelude/slot.h"
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
  // How many blocks of so many threads and so much shared memory the device runs at a time.
  virtual unsigned blocks_at_once(unsigned threads, unsigned shared_bytes) const = 0;
};

struct SlotSpec {
  unsigned tenant = 0;
  unsigned body = 0;
  unsigned begin = 0;
  unsigned end = 0;
  unsigned blocks = 0;
  std::vector<Address> operands;
  unsigned constants = 0;  // a bit for each operand that no kernel writes
  std::vector<int> sizes;
};

struct WordSpec {
  LoadedCode* code = nullptr;
  unsigned threads = 0;
  unsigned shared_bytes = 0;  // beside what the code declares
  double urgency = 0;         // from 0 to 1: which of the words that could run at a time should have its places first
  std::vector<SlotSpec> slots;
};

// What of a program's words comes before what: each word before the next, which may begin while it ends and waits for it then; likewise, but
// the next begins when it has ended; or only what tenants demand (word_order.h).
enum class WordOrder { kChain, kStrict, kBranches };

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

// A copy between a device's memory and memory of the issuer's (Issuer::Stage).
struct StagedCopy {
  Address address = 0;
  std::uint8_t* staged = nullptr;
  std::size_t bytes = 0;
};

// A word of the chain of them that a cohort runs as (lanes.h): slots of one code, each on as many physical blocks.
struct CohortWord {
  LoadedCode* code = nullptr;
  unsigned threads = 1;
  unsigned shared_bytes = 0;
  unsigned slots = 1;
  unsigned blocks = 1;
};
using CohortChain = std::vector<CohortWord>;

inline std::size_t RowsOf(const CohortChain& chain) {
  std::size_t rows = 0;
  for (const CohortWord& word : chain) rows += word.slots;
  return rows;
}
inline std::size_t BlocksOf(const CohortChain& chain) {
  std::size_t blocks = 0;
  for (const CohortWord& word : chain) blocks += std::size_t{word.slots} * word.blocks;
  return blocks;
}

// Runs chains of words, one at a time, on rows that can be other ones at each launch; beside other lanes, and beside what else the
// issuer is given. What a launch needs is made with the lane.
class Lane {
 public:
  virtual ~Lane() = default;
  // The rows of the next launch: word after word, those of its slots, whose blocks follow one another. Only while nothing runs.
  virtual SlotRow* Rows() = 0;
  // `are_new`: the rows are not those of the launch before, which was of the same chain.
  virtual void Launch(unsigned chain, bool are_new) = 0;
  // Whether what was launched is over.
  virtual bool Passed() = 0;
};

// Launches words one by one, in order, and copies beside them. A mark passes when what it was given to is over; its
// number may then be given again.
class Issuer {
 public:
  virtual ~Issuer() = default;
  // Memory that copies do not wait for, zeroed; lives as long as the issuer.
  virtual std::uint8_t* Stage(std::size_t bytes) = 0;
  // Puts rows where words find them; once, before the first word.
  virtual void SetRows(const std::vector<SlotRow>& rows) = 0;
  // Once for each code, before its first word.
  virtual void Prepare(LoadedCode& code, unsigned shared_bytes) = 0;
  // `launch` says everything but where the rows are.
  virtual void Issue(LoadedCode& code, unsigned threads, unsigned shared_bytes, WordLaunch launch, unsigned mark) = 0;
  // A round of a program whose tenants are activated.
  virtual void Run(LoadedProgram& program, unsigned mark) = 0;
  virtual void Upload(const std::vector<StagedCopy>& copies, unsigned mark) = 0;
  // Of what words issued so far leave behind.
  virtual void Download(const std::vector<StagedCopy>& copies, unsigned mark) = 0;
  // So many lanes for these chains, or as many as the device has a use for. They go before the issuer does.
  virtual std::vector<std::unique_ptr<Lane>> MakeLanes(const std::vector<CohortChain>& chains, unsigned most) = 0;
  virtual bool Passed(unsigned mark) = 0;
  // What the word or round of a passed mark took. `before` is the mark of the one before it, passed too, if the device
  // still had that when this one was issued, else -1; NaN where that leaves it open, and where the device does not time every one.
  virtual double Nanoseconds(unsigned mark, int before) = 0;
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
  // A device may keep to more order than it is asked for.
  virtual std::unique_ptr<LoadedProgram> Prepare(const std::vector<WordSpec>& words, WordOrder order) = 0;
  // `marks` is how many numbers it is given.
  virtual std::unique_ptr<Issuer> MakeIssuer(unsigned marks) = 0;
  // Runs distinct programs of this backend and gives the milliseconds from the launch of the first to the end of the last.
  virtual double TimeTogether(const std::vector<LoadedProgram*>& programs, Together together) = 0;
  // The same, with every block noting when it ran. On the host, side by side, each program's threads are numbered on from
  // those of the one before.
  virtual TracedRound TraceTogether(const std::vector<LoadedProgram*>& programs, Together together) = 0;
};

}  // namespace wideword

#endif
