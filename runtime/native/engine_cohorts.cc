// Where the issue engine runs several requests from their first task to their last: rounds of the captured program, and cohorts.
#include <algorithm>
#include <cmath>

#include "runtime/native/engine.h"

namespace wideword {

namespace {

// A round is run for so large a part of the tenants, at least.
constexpr double kQuorum = 0.75;
// How long tenants of a round are waited for after it, as a part of the round, and at least.
constexpr double kGatherPart = 0.15;
constexpr double kGatherNs = 50e3;
// Requests that must end before rounds are tried again; doubled by each try that came to few rounds or none.
constexpr unsigned kLeastPatience = 8;
constexpr unsigned kMostPatience = 4096;
constexpr unsigned kFewRounds = 4;
// How strongly one measurement moves what a request is expected to take.
constexpr double kLearning = 0.2;
// Lanes serve random arrivals well and must drain before a round, so that there were enough for one by chance, for a while, is no reason:
// as many requests as this for each tenant must have ended while there were.
constexpr std::size_t kCrowdedEnds = 2;

}  // namespace

// ---- rounds ----

double Engine::Quorum() const { return std::max(2.0, kQuorum * static_cast<double>(spec_.tenants.size())); }

// As a request ends, with how many tenants there were until then.
void Engine::ConsiderGathering(unsigned present) {
  if (ends_before_gathering_ > 0) --ends_before_gathering_;
  if (!spec_.captured || gathers_ || ends_before_gathering_ > 0 || present < Quorum()) return;
  if (lanes_ && crowded_ends_ < kCrowdedEnds * spec_.tenants.size()) return;
  gathers_ = true;
  gather_until_ns_ = 0;
  rounds_in_row_ = 0;
}

// While the engine gathers: whether all that was begun has ended and enough are there. Those that are held go on without a round once
// the others have been waited for in vain, and if some have their inputs in another arena than the program's words read.
bool Engine::HasRound() {
  if (ended_ < issued_ || (lanes_ && lanes_->running() > 0)) return false;
  if (std::all_of(order_.begin(), order_.end(), [this](unsigned number) { return actives_[number].arena == 0; })) {
    if (static_cast<double>(order_.size()) >= Quorum()) return true;
    if (gather_until_ns_ == 0) gather_until_ns_ = now_ns_ + std::max(kGatherNs, kGatherPart * round_ns_);
    if (now_ns_ < gather_until_ns_) return false;
  }
  gathers_ = false;
  crowded_ends_ = 0;
  if (rounds_in_row_ >= kFewRounds) patience_ = 0;
  patience_ = std::clamp(2 * patience_, kLeastPatience, kMostPatience);
  ends_before_gathering_ = patience_;
  return false;
}

void Engine::IssueRound() {
  Flight& flight = NextFlight();
  flight.is_round = true;
  round_tenants_.clear();
  for (unsigned number : order_) round_tenants_.push_back(TenantOf(number));
  std::sort(round_tenants_.begin(), round_tenants_.end());
  spec_.captured->Activate(round_tenants_);
  issuer_->Run(*spec_.captured, MarkOf(issued_));
  ++issued_;
  flight.ending.assign(order_.begin(), order_.end());
  for (unsigned number : order_) {
    actives_[number].state = State::kEnding;
    actives_[number].started_ns = flight.note.issued_ns;
    virtual_time_ = std::max(virtual_time_, actives_[number].start_tag);
  }
  if (keeps_journal_) flight.note.tenants = round_tenants_;
  flight.note.code = kRound;
  order_.clear();
  ++rounds_in_row_;
  ++stats_.rounds;
}

void Engine::EndRound(double ns) {
  if (!std::isnan(ns)) round_ns_ = ns;
  gather_until_ns_ = NowNs() + std::max(kGatherNs, kGatherPart * round_ns_);
}

// ---- cohorts ----

// The request that leads, and all others of its group that are ready.
bool Engine::IssueCohort() {
  Cohort* cohort = order_.empty() ? nullptr : lanes_->Free();
  if (!cohort) return false;
  cohort->issued_ns = NowNs();
  virtual_time_ = std::max(virtual_time_, actives_[order_.front()].start_tag);
  const unsigned number_of_group = lanes_->GroupOf(TenantOf(order_.front()));
  const std::size_t widest = lanes_->group(number_of_group).widths.back();
  cohort->actives.clear();
  std::size_t kept = 0;
  for (unsigned number : order_) {
    if (cohort->actives.size() < widest && lanes_->GroupOf(TenantOf(number)) == number_of_group) {
      cohort->actives.push_back(number);
    } else {
      order_[kept++] = number;
    }
  }
  order_.resize(kept);
  // In one order whoever leads, so that a lane often finds the rows that it has already.
  const auto place_of = [this](unsigned number) { return std::pair(TenantOf(number), actives_[number].arena); };
  std::sort(cohort->actives.begin(), cohort->actives.end(), [&](unsigned a, unsigned b) { return place_of(a) < place_of(b); });
  cohort->slots.clear();
  for (unsigned number : cohort->actives) {
    cohort->slots.push_back({TenantOf(number), actives_[number].arena});
    actives_[number].state = State::kEnding;
    actives_[number].started_ns = cohort->issued_ns;
  }
  lanes_->Launch(*cohort);
  ++stats_.cohorts;
  stats_.cohort_requests += cohort->actives.size();
  stats_.cohort_issue_ns += NowNs() - cohort->issued_ns;
  return true;
}

// Those that have ended, in whatever order.
void Engine::CollectCohorts() {
  for (Cohort& cohort : lanes_->cohorts()) {
    if (!cohort.runs || !cohort.lane->Passed()) continue;
    lanes_->Ended(cohort);
    const double now = NowNs();
    const auto requests = static_cast<double>(cohort.actives.size());
    // What runs beside it makes it longer for all alike.
    for (unsigned tenant : lanes_->group(lanes_->GroupOf(cohort.slots.front().tenant)).tenants) {
      cost_ns_[tenant] += kLearning * ((now - cohort.issued_ns) / requests - cost_ns_[tenant]);
    }
    crowded_ends_ = present_ >= Quorum() ? crowded_ends_ + cohort.actives.size() : 0;
    if (keeps_journal_) {
      IssuedWord note;
      note.issued_ns = cohort.issued_ns;
      note.code = kCohort;
      for (const CohortSlot& slot : cohort.slots) note.tenants.push_back(slot.tenant);
      Keep(std::move(note));
    }
    for (unsigned number : cohort.actives) Finish(number);
  }
}

// In the journal, as it ends.
void Engine::Keep(IssuedWord note) {
  if (journal_.words.size() >= kMostInJournal) return;
  note.ended_ns = NowNs();
  journal_.words.push_back(std::move(note));
}

}  // namespace wideword
