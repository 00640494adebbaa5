// What the issue engine serves: tenants with their tasks, the rows of these, and code.
#ifndef WIDEWORD_ENGINE_SPEC_H
#define WIDEWORD_ENGINE_SPEC_H

#include <vector>

#include "runtime/native/backend.h"
#include "runtime/native/packer.h"

namespace wideword {

// A task as words of `from` slots of its group and more run it, up to the next variant's; a second one from 1 is for words of one slot that
// others run beside.
struct EngineVariant {
  unsigned from = 1;
  unsigned kernel_class = 0;
  unsigned blocks = 0;   // virtual
  double block_ns = 0;   // that one is expected to take, before it has been measured
  unsigned row = 0;      // of EngineSpec::rows, for the first arena; those for the others follow
};

struct EngineTask {
  unsigned group = 0;  // tasks of one group run in one word under the same variant; below EngineSpec::classes
  std::vector<EngineVariant> variants;  // ascending, the first from 1
  bool HasOneBesideOthers() const { return variants.size() > 1 && variants[1].from == 1; }
  // The number of the variant for words of so many slots of the group, by themselves or beside others.
  unsigned VariantFor(unsigned slots, bool beside) const {
    if (slots <= 1 && !beside) return 0;
    auto number = static_cast<unsigned>(variants.size()) - 1;
    while (number > 0 && variants[number].from > slots) --number;
    return number;
  }
};

struct EnginePort {
  Address address = 0;
  std::size_t bytes = 0;
  bool in_arena = false;
};

struct EngineTenant {
  double weight = 1;
  std::vector<EnginePort> inputs, outputs;
  std::vector<EngineTask> tasks;
  std::vector<Address> arenas;  // EngineSpec::arenas of them, or none: then operands lie where they lie, and there is one of each
};

struct EngineCode {
  LoadedCode* code = nullptr;
  unsigned threads = 1;
  unsigned shared_bytes = 0;
  std::vector<int> body_of;  // by class; -1 if it has none
  double factor = 1;         // how much longer blocks are expected to take on it than on the first code of their class
};

struct EngineSpec {
  unsigned classes = 0;
  std::vector<EngineTenant> tenants;
  unsigned arenas = 1;        // of each tenant: as many of its requests can run at the same time
  std::vector<SlotRow> rows;  // of each variant of each tenant's tasks, for each arena
  std::vector<EngineCode> codes;
  LoadedProgram* captured = nullptr;  // of all tenants, if rounds may be run
  unsigned lanes = 0;                 // cohorts of requests side by side, at most (lanes.h); only where all weights are equal
  PackLimits limits;
  unsigned ahead = 2;  // words that wait on the device or run
};

}  // namespace wideword

#endif
