// Cohorts of the issue engine: requests of tenants of one model that run all their tasks together, from the first to the last, as one
// launch. A word that is issued by itself costs the processor more than many words take on the device, so words in a chain that is
// captured once are faster; a cohort's chain is captured for any tenants, whose slot rows it is given. Several run side by side, in
// lanes: who comes while others run waits for no more than a free lane, and the more have to wait, the wider the next cohort is.
#ifndef WIDEWORD_LANES_H
#define WIDEWORD_LANES_H

#include <memory>
#include <vector>

#include "runtime/native/backend.h"
#include "runtime/native/engine_spec.h"

namespace wideword {

// Tenants whose requests can run together.
struct LaneGroup {
  std::vector<unsigned> tenants;
  // Its chains, ascending by how many slots their words have; the last for all that the tenants can run at once, or as many as a cohort can have. If `has_beside`
  // there is one more before them, of one slot, for cohorts beside others.
  unsigned first_chain = 0;
  bool has_beside = false;
  std::vector<unsigned> widths;
};

// Whose request a slot of all of a cohort's words is, and in which of the tenant's arenas.
struct CohortSlot {
  unsigned tenant = 0, arena = 0;
  bool operator==(const CohortSlot&) const = default;
};

// What runs, or ran last, on a lane.
struct Cohort {
  std::unique_ptr<Lane> lane;
  bool runs = false;
  std::vector<unsigned> actives;  // the engine's numbers of the requests
  std::vector<CohortSlot> slots;  // theirs, in the same order
  double issued_ns = 0;
  // What the lane's rows are of.
  unsigned chain = ~0u;
  std::vector<CohortSlot> bound;
};

class Lanes {
 public:
  // Captures the chains. None, and no lanes, if that would take too much memory.
  Lanes(Issuer& issuer, const EngineSpec& spec);

  bool are_there() const { return !cohorts_.empty(); }
  std::vector<Cohort>& cohorts() { return cohorts_; }
  unsigned running() const { return running_; }
  // One that does not run; null if all do.
  Cohort* Free();
  unsigned GroupOf(unsigned tenant) const { return group_of_[tenant]; }
  const LaneGroup& group(unsigned number) const { return groups_[number]; }
  // Starts a cohort whose slots have been filled in, all of one group and no more than its widest chain is for.
  void Launch(Cohort& cohort);
  void Ended(Cohort& cohort);
  // After a failure: of what runs nobody wants to know any more.
  void Forget();

 private:
  // A word of a chain: its rows are those of one variant of the tenants' task of the same number.
  struct Word {
    unsigned variant = 0, body = 0, blocks = 0;
  };
  struct Chain {
    unsigned width = 0;
    std::vector<Word> words;
  };

  void FindGroups();
  std::vector<CohortChain> AddChains(unsigned requests_of_each);
  CohortChain AddChain(const LaneGroup& group, unsigned width, bool beside);
  void Bind(Cohort& cohort, const Chain& chain) const;

  const EngineSpec& spec_;
  std::vector<LaneGroup> groups_;
  std::vector<unsigned> group_of_;  // by tenant
  std::vector<Chain> chains_;
  std::vector<Cohort> cohorts_;
  unsigned running_ = 0;
};

}  // namespace wideword

#endif
