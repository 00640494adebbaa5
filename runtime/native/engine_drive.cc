#include "runtime/native/engine_drive.h"

#include <algorithm>

namespace wideword {

namespace {

class Driver : public std::enable_shared_from_this<Driver> {
 public:
  Driver(Engine& engine, std::vector<Arrival> arrivals, unsigned tenants, DriveDone done)
      : engine_(engine), arrivals_(std::move(arrivals)), waiting_(tenants), next_(tenants, 0), of_tenant_(tenants, 0), done_(std::move(done)) {
    latencies_.resize(arrivals_.size(), 0);
  }

  // Hands over what has arrived; false when all has ended.
  bool Step(double now, const std::string& problem) {
    if (problem_.empty()) problem_ = problem;
    if (start_ns_ < 0) start_ns_ = now;
    // The places of what has ended since the last step are free now.
    trying_.swap(refill_);
    for (unsigned tenant : trying_) Submit(tenant);
    trying_.clear();
    while (arrived_ < arrivals_.size() && start_ns_ + arrivals_[arrived_].at_ns <= now) {
      const unsigned tenant = arrivals_[arrived_].tenant;
      waiting_[tenant].push_back(arrived_++);
      Submit(tenant);
    }
    if (ended_ < arrivals_.size() && (problem_.empty() || under_way_ > 0)) return true;
    done_(std::move(latencies_), problem_);
    return false;
  }

 private:
  // As many of a tenant's requests as find a place.
  void Submit(unsigned tenant) {
    while (problem_.empty() && next_[tenant] < waiting_[tenant].size()) {
      const int place = engine_.Claim(tenant);
      if (place < 0) {
        // Of ours one will end, and then it is tried again; where both places are others', nothing else would tell.
        if (of_tenant_[tenant] == 0) refill_.push_back(tenant);
        return;
      }
      const std::size_t number = waiting_[tenant][next_[tenant]++];
      ++under_way_;
      ++of_tenant_[tenant];
      engine_.Submit({tenant, static_cast<unsigned>(place), false,
                      [self = shared_from_this(), number](const EngineOutcome& outcome, const std::uint8_t*) {
                        self->End(number, outcome);
                      },
                      nullptr});
    }
  }

  void End(std::size_t number, const EngineOutcome& outcome) {
    ++ended_;
    --under_way_;
    --of_tenant_[arrivals_[number].tenant];
    if (problem_.empty()) problem_ = outcome.problem;
    latencies_[number] = outcome.ended_ns - (start_ns_ + arrivals_[number].at_ns);
    refill_.push_back(arrivals_[number].tenant);
  }

  Engine& engine_;
  const std::vector<Arrival> arrivals_;
  std::vector<std::vector<std::size_t>> waiting_;  // by tenant
  std::vector<std::size_t> next_;                  // of those, by tenant
  std::vector<unsigned> of_tenant_;                // under way, by tenant
  DriveDone done_;
  std::vector<double> latencies_;
  std::vector<unsigned> refill_, trying_;          // tenants whose waiting requests may find a place
  double start_ns_ = -1;
  std::size_t arrived_ = 0, ended_ = 0, under_way_ = 0;
  std::string problem_;
};

}  // namespace

void Drive(Engine& engine, std::vector<Arrival> arrivals, unsigned tenants, DriveDone done) {
  const auto driver = std::make_shared<Driver>(engine, std::move(arrivals), tenants, std::move(done));
  engine.SetSource([driver](double now, const std::string& problem) { return driver->Step(now, problem); });
}

}  // namespace wideword
