#include "runtime/native/lanes.h"

#include <algorithm>
#include <map>

#include "runtime/native/packer.h"

namespace wideword {

namespace {

// Most slots of a cohort's word, as of one that is issued by itself. Wider ones gain little, and take rows for every task.
constexpr unsigned kWidest = kMaxIssued;
// What all chains may come to: launches to capture (on each lane), and entries of block maps; and the rows of the largest. Beyond that the
// engine goes word by word.
constexpr std::size_t kMostLaunches = std::size_t{1} << 14;
constexpr std::size_t kMostBlocks = std::size_t{1} << 24;
constexpr std::size_t kMostRows = std::size_t{1} << 16;

// What tenants of a group have in common: each task's group, and the classes and blocks of its variants.
std::vector<unsigned> LikenessOf(const EngineTenant& tenant) {
  std::vector<unsigned> likeness;
  for (const EngineTask& task : tenant.tasks) {
    likeness.insert(likeness.end(), {task.group, static_cast<unsigned>(task.variants.size())});
    for (const EngineVariant& variant : task.variants) {
      likeness.insert(likeness.end(), {variant.from, variant.kernel_class, variant.blocks});
    }
  }
  return likeness;
}

}  // namespace

Lanes::Lanes(Issuer& issuer, const EngineSpec& spec) : spec_(spec) {
  FindGroups();
  // Wide enough for all requests that can run at once, or at least for one of each tenant.
  std::vector<CohortChain> chains = AddChains(spec.arenas);
  if (chains.empty()) chains = AddChains(1);
  if (chains.empty()) return;
  for (std::unique_ptr<Lane>& lane : issuer.MakeLanes(chains, spec.lanes)) {
    Cohort cohort;
    cohort.lane = std::move(lane);
    // Nothing grows once requests are served.
    cohort.actives.reserve(kWidest);
    for (auto* list : {&cohort.slots, &cohort.bound}) list->reserve(kWidest);
    cohorts_.push_back(std::move(cohort));
  }
}

// Chains of all groups; none if they come to more than a device is to hold.
std::vector<CohortChain> Lanes::AddChains(unsigned requests_of_each) {
  std::vector<CohortChain> chains;
  std::size_t launches = 0, blocks = 0;
  chains_.clear();
  for (LaneGroup& group : groups_) {
    group.first_chain = static_cast<unsigned>(chains_.size());
    group.widths.clear();
    const unsigned widest = std::min(kWidest, requests_of_each * static_cast<unsigned>(group.tenants.size()));
    const std::vector<EngineTask>& tasks = spec_.tenants[group.tenants.front()].tasks;
    group.has_beside = std::any_of(tasks.begin(), tasks.end(), [](const EngineTask& task) { return task.HasOneBesideOthers(); });
    const auto fits = [&](unsigned width, bool beside) {
      chains.push_back(AddChain(group, width, beside));
      launches += chains.back().size();
      blocks += BlocksOf(chains.back());
      return launches <= kMostLaunches && blocks <= kMostBlocks && RowsOf(chains.back()) <= kMostRows;
    };
    if (group.has_beside && !fits(1, true)) return {};
    for (unsigned width = 1;; width = std::min(2 * width, widest)) {
      group.widths.push_back(width);
      if (!fits(width, false)) return {};
      if (width == widest) break;
    }
  }
  return chains;
}

void Lanes::FindGroups() {
  std::map<std::vector<unsigned>, unsigned> known;
  for (unsigned tenant = 0; tenant < spec_.tenants.size(); ++tenant) {
    group_of_.push_back(0);
    if (spec_.tenants[tenant].tasks.empty()) continue;  // such requests end without running
    const auto [at, is_new] = known.emplace(LikenessOf(spec_.tenants[tenant]), static_cast<unsigned>(groups_.size()));
    if (is_new) groups_.emplace_back();
    group_of_.back() = at->second;
    groups_[at->second].tenants.push_back(tenant);
  }
}

// Words of so many slots, on the last code that came with the engine for each class: the one that is most of its own.
CohortChain Lanes::AddChain(const LaneGroup& group, unsigned width, bool beside) {
  Chain chain;
  chain.width = width;
  CohortChain launches;
  for (const EngineTask& task : spec_.tenants[group.tenants.front()].tasks) {
    const unsigned number = task.VariantFor(width, beside);
    const EngineVariant& variant = task.variants[number];
    const EngineCode& code = *std::find_if(spec_.codes.rbegin(), spec_.codes.rend(),
                                           [&](const EngineCode& c) { return c.body_of[variant.kernel_class] >= 0; });
    const unsigned most = kBlocksAtOnce * code.code->blocks_at_once(code.threads, code.shared_bytes);
    const unsigned blocks = std::min(variant.blocks, std::max(1u, most / width));
    chain.words.push_back({number, static_cast<unsigned>(code.body_of[variant.kernel_class]), blocks});
    launches.push_back({code.code, code.threads, code.shared_bytes, width, blocks});
  }
  chains_.push_back(std::move(chain));
  return launches;
}

Cohort* Lanes::Free() {
  for (Cohort& cohort : cohorts_) {
    if (!cohort.runs) return &cohort;
  }
  return nullptr;
}

void Lanes::Launch(Cohort& cohort) {
  const LaneGroup& group = groups_[group_of_[cohort.slots.front().tenant]];
  unsigned number = group.first_chain;
  const bool beside = running_ > 0 && cohort.slots.size() == 1;
  if (group.has_beside && !beside) ++number;
  while (chains_[number].width < cohort.slots.size()) ++number;
  const bool are_new = cohort.chain != number || cohort.bound != cohort.slots;
  if (are_new) {
    cohort.chain = number;
    cohort.bound = cohort.slots;
    Bind(cohort, chains_[number]);
  }
  cohort.lane->Launch(number, are_new);
  cohort.runs = true;
  ++running_;
}

// Slots without a tenant have no virtual blocks: their physical ones leave at once.
void Lanes::Bind(Cohort& cohort, const Chain& chain) const {
  SlotRow* row = cohort.lane->Rows();
  for (std::size_t task = 0; task < chain.words.size(); ++task) {
    const Word& word = chain.words[task];
    for (unsigned slot = 0; slot < chain.width; ++slot, ++row) {
      if (slot < cohort.bound.size()) {
        const auto [tenant, arena] = cohort.bound[slot];
        *row = spec_.rows[spec_.tenants[tenant].tasks[task].variants[word.variant].row + arena];
      } else {
        *row = SlotRow{};
      }
      row->first_block = slot * word.blocks;
      row->blocks = word.blocks;
      row->body = word.body;
    }
  }
}

void Lanes::Ended(Cohort& cohort) {
  cohort.runs = false;
  --running_;
}

void Lanes::Forget() {
  for (Cohort& cohort : cohorts_) cohort.runs = false;
  running_ = 0;
}

}  // namespace wideword
