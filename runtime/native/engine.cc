#include "runtime/native/engine.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>

namespace wideword {

namespace {

// Requests that are looked at for one word.
constexpr std::size_t kMostReady = 2 * kMaxIssued;
// How strongly one measurement moves what a block is expected to take.
constexpr double kLearning = 0.2;
// How often a word is packed anew as it has fewer slots than its variants are for.
constexpr unsigned kMostPacks = 3;
// What a block is taken to need, at least and at most, whatever has been measured.
constexpr double kLeastBlockNs = 1e-3;
constexpr double kMostBlockNs = 1e15;
// No code of several bodies makes blocks so many times as long, or as short.
constexpr double kMostFactor = 8;

}  // namespace

double NowNs() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Engine::Engine(Backend& backend, EngineSpec spec)
    : backend_(backend),
      spec_(std::move(spec)),
      packer_(spec_.limits, spec_.classes),
      claimed_(spec_.tenants.size() * places()) {
  const std::size_t tenants = spec_.tenants.size();
  const std::size_t requests = tenants * places();
  // One more than are under way: a word is timed from the end of the one before it.
  flights_.resize(spec_.ahead + 2);
  issuer_ = backend_.MakeIssuer(static_cast<unsigned>(flights_.size() + requests));
  issuer_->SetRows(spec_.rows);
  block_ns_.resize(spec_.rows.size(), 0);
  task_of_.resize(spec_.rows.size(), 0);
  for (const EngineTenant& tenant : spec_.tenants) {
    double cost = 0;
    for (const EngineTask& task : tenant.tasks) {
      for (const EngineVariant& variant : task.variants) {
        block_ns_[variant.row] = variant.block_ns;
        task_of_[variant.row] = static_cast<unsigned>(task_ns_.size());
      }
      task_ns_.push_back(task.variants.front().block_ns * task.variants.front().blocks);
      cost += task_ns_.back();
    }
    cost_ns_.push_back(cost);
    // A round gives each tenant one request, whatever its share, and a cohort takes all that wait.
    if (tenant.weight != spec_.tenants.front().weight) {
      spec_.captured = nullptr;
      spec_.lanes = 0;
    }
    const auto stage = [this](const std::vector<EnginePort>& ports) {
      std::size_t bytes = 0;
      for (const EnginePort& port : ports) bytes += port.bytes;
      return issuer_->Stage(std::max<std::size_t>(bytes, 1));
    };
    for (unsigned place = 0; place < places(); ++place) stages_.push_back({stage(tenant.inputs), stage(tenant.outputs)});
    copies_.reserve(std::max({copies_.capacity(), tenant.inputs.size(), tenant.outputs.size()}));
  }
  actives_.resize(requests);
  finish_tag_.resize(tenants, 0);
  busy_.resize(tenants, 0);
  // No vector grows once requests are served.
  for (auto* list : {&order_, &copying_, &candidates_}) list->reserve(requests);
  round_tenants_.reserve(tenants);
  ready_.reserve(kMostReady);
  chosen_.reserve(kMostReady);
  together_in_.resize(spec_.classes, 0);
  packed_of_.resize(spec_.classes, 0);
  mail_.reserve(requests);
  taken_.reserve(requests);
  for (Flight& flight : flights_) flight.ending.reserve(requests);
  wishes_.resize(std::size_t{spec_.classes} * spec_.classes, 0);
  together_.resize(wishes_.size(), false);
  const std::vector<EngineCode> codes = std::move(spec_.codes);
  spec_.codes.clear();
  for (const EngineCode& code : codes) AddCode(code);
  first_codes_ = codes.size();
  stats_.slots_of.resize(spec_.classes, 0);
  if (spec_.lanes == 0) return;
  lanes_ = std::make_unique<Lanes>(*issuer_, spec_);
  if (!lanes_->are_there()) lanes_ = nullptr;
}

Engine::~Engine() {
  Fail("the engine is closed");
  TakeMail();
}

void Engine::AddCode(const EngineCode& code) {
  issuer_->Prepare(*code.code, code.shared_bytes);
  packer_.AddCode({code.code->blocks_at_once(code.threads, code.shared_bytes), code.body_of, code.factor});
  stats_.words_on.push_back(0);
  for (std::size_t one = 0; one < code.body_of.size(); ++one) {
    for (std::size_t other = 0; other < code.body_of.size(); ++other) {
      if (code.body_of[one] < 0 || code.body_of[other] < 0) continue;
      together_[one * spec_.classes + other] = true;
    }
  }
  spec_.codes.push_back(code);
}

// ---- requests ----

int Engine::Claim(unsigned tenant) {
  for (unsigned place = 0; place < places(); ++place) {
    if (!claimed_[tenant * places() + place].exchange(true, std::memory_order_acq_rel)) return static_cast<int>(place);
  }
  return -1;
}

void Engine::Submit(EngineRequest request) {
  std::lock_guard<std::mutex> lock(mail_mutex_);
  mail_.push_back(std::move(request));
  has_mail_.store(true, std::memory_order_release);
}

void Engine::TakeMail() {
  if (!has_mail_.load(std::memory_order_acquire)) return;
  taken_.clear();
  {
    std::lock_guard<std::mutex> lock(mail_mutex_);
    taken_.swap(mail_);
    has_mail_.store(false, std::memory_order_relaxed);
  }
  for (EngineRequest& request : taken_) {
    const unsigned tenant = request.tenant;
    const unsigned number = tenant * places() + request.place;
    if (!IsThere(tenant)) ++present_;
    Active& active = actives_[number];
    active = Active{};
    active.request = std::move(request);
    active.state = State::kWaiting;
    active.queued_ns = now_ns_;
    active.arrival = arrivals_++;
    active.start_tag = std::max(virtual_time_, finish_tag_[tenant]);
    finish_tag_[tenant] = active.start_tag + std::max(cost_ns_[tenant], 1.0) / spec_.tenants[tenant].weight;
    ++stats_.requests;
    if (!problem_.empty()) End(number, problem_);
  }
  // All are known before anything is begun: if that fails, all are told.
  if (!problem_.empty()) return;
  for (const EngineRequest& request : taken_) BeginNext(request.tenant);
}

bool Engine::IsThere(unsigned tenant) const {
  const auto first = actives_.begin() + tenant * places();
  return std::any_of(first, first + places(), [](const Active& active) { return active.state != State::kFree; });
}

// Whether so many tenants have a request that one of each is enough: then who sends many at once must not get more than the others. It lasts
// for a while, as those whose request has just ended are about to send the next one.
bool Engine::IsCrowded() const { return gathers_ || present_ >= Quorum() || now_ns_ < crowded_until_ns_; }

// What had to wait for the crowd to go.
void Engine::BeginWhatMay() {
  const bool is_crowded = IsCrowded();
  if (!std::exchange(was_crowded_, is_crowded) || is_crowded) return;
  for (unsigned tenant = 0; tenant < spec_.tenants.size(); ++tenant) BeginNext(tenant);
}

// What of a tenant's requests can begin, in the order in which they came: one in each of its arenas, in the first free one. So where a
// tenant sends one at a time all run in the first, which rounds need.
void Engine::BeginNext(unsigned tenant) {
  const unsigned at_once = IsCrowded() ? 1 : spec_.arenas;
  while (static_cast<unsigned>(std::popcount(busy_[tenant])) < at_once) {
    int first = -1;
    for (unsigned place = 0; place < places(); ++place) {
      const unsigned number = tenant * places() + place;
      if (actives_[number].state != State::kWaiting) continue;
      if (first < 0 || actives_[number].arrival < actives_[static_cast<unsigned>(first)].arrival) first = static_cast<int>(number);
    }
    if (first < 0) return;
    const auto number = static_cast<unsigned>(first);
    Active& active = actives_[number];
    active.arena = static_cast<unsigned>(std::countr_one(busy_[tenant]));
    busy_[tenant] |= 1u << active.arena;
    if (const std::vector<StagedCopy>& uploads = CopiesOf(number, true); !uploads.empty()) {
      active.state = State::kUploading;
      issuer_->Upload(uploads, CopyMarkOf(number));
      copying_.push_back(number);
    } else {
      Start(number);
    }
  }
}

// Those of a request's inputs or outputs, valid until the next call.
const std::vector<StagedCopy>& Engine::CopiesOf(unsigned number, bool up) {
  copies_.clear();
  const Active& active = actives_[number];
  const EngineTenant& tenant = spec_.tenants[TenantOf(number)];
  if (!active.request.with_copies) return copies_;
  std::uint8_t* staged = up ? stages_[number].inputs : stages_[number].outputs;
  for (const EnginePort& port : up ? tenant.inputs : tenant.outputs) {
    const Address shift = port.in_arena ? tenant.arenas[active.arena] - tenant.arenas.front() : 0;
    if (port.bytes > 0) copies_.push_back({port.address + shift, staged, port.bytes});
    staged += port.bytes;
  }
  return copies_;
}

// Its inputs are there.
void Engine::Start(unsigned number) {
  Active& active = actives_[number];
  active.state = State::kRunning;
  const auto later = [this](unsigned a, unsigned b) {
    const Active &one = actives_[a], &other = actives_[b];
    return one.start_tag != other.start_tag ? one.start_tag < other.start_tag : one.arrival < other.arrival;
  };
  order_.insert(std::upper_bound(order_.begin(), order_.end(), number, later), number);
  // A model without kernels: outputs without elements.
  if (spec_.tenants[TenantOf(number)].tasks.empty()) {
    order_.erase(std::find(order_.begin(), order_.end(), number));
    Finish(number);
  }
}

// Its last word is over.
void Engine::Finish(unsigned number) {
  if (const std::vector<StagedCopy>& downloads = CopiesOf(number, false); !downloads.empty()) {
    actives_[number].state = State::kDownloading;
    issuer_->Download(downloads, CopyMarkOf(number));
    copying_.push_back(number);
  } else {
    End(number, {});
  }
}

void Engine::PollCopies() {
  for (std::size_t i = 0; i < copying_.size();) {
    const unsigned number = copying_[i];
    if (!issuer_->Passed(CopyMarkOf(number))) {
      ++i;
      continue;
    }
    copying_[i] = copying_.back();
    copying_.pop_back();
    if (actives_[number].state == State::kUploading) {
      Start(number);
    } else {
      End(number, {});
    }
  }
}

void Engine::End(unsigned number, const std::string& problem) {
  Active& active = actives_[number];
  const unsigned tenant = TenantOf(number);
  const bool served = active.state != State::kWaiting;
  const auto done = std::move(active.request.done);
  const auto over = std::move(active.request.over);
  const EngineOutcome outcome{problem, active.queued_ns, active.started_ns, NowNs()};
  const unsigned present = present_;
  if (present >= Quorum()) crowded_until_ns_ = outcome.ended_ns + (outcome.ended_ns - outcome.queued_ns);
  active.state = State::kFree;
  if (served) busy_[tenant] &= ~(1u << active.arena);
  if (!IsThere(tenant)) --present_;
  if (keeps_journal_ && problem.empty() && journal_.requests.size() < kMostInJournal) {
    journal_.requests.push_back({tenant, outcome.queued_ns, outcome.started_ns, outcome.ended_ns});
  }
  // Nobody is owed anything for a time when there was nothing to do.
  if (present_ == 0) virtual_time_ = *std::max_element(finish_tag_.begin(), finish_tag_.end());
  ConsiderGathering(present);
  done(outcome, stages_[number].outputs);
  claimed_[number].store(false, std::memory_order_release);
  if (over) over();
  // Last, as it may fail, and this request is told of already.
  if (problem_.empty()) BeginNext(tenant);
}

void Engine::Fail(const std::string& problem) {
  if (problem_.empty()) problem_ = problem;
  order_.clear();
  copying_.clear();
  ended_ = issued_;
  if (lanes_) lanes_->Forget();
  for (unsigned number = 0; number < actives_.size(); ++number) {
    if (actives_[number].state != State::kFree) End(number, problem_);
  }
  if (source_ && !source_(NowNs(), problem_)) source_ = nullptr;
}

// ---- words ----

bool Engine::Step() {
  try {
    now_ns_ = NowNs();
    if (source_ && !source_(now_ns_, problem_)) source_ = nullptr;
    TakeMail();
    if (!problem_.empty()) return false;
    PollCopies();
    Collect();
    if (lanes_) CollectCohorts();
    BeginWhatMay();
    while (issued_ - ended_ < spec_.ahead && IssueNext()) {
    }
    return source_ || present_ > 0;
  } catch (const std::exception& error) {
    Fail(error.what());
    return false;
  }
}

void Engine::Collect() {
  while (ended_ < issued_ && issuer_->Passed(MarkOf(ended_))) {
    Flight& flight = flights_[MarkOf(ended_)];
    const int before = flight.back_to_back ? static_cast<int>(MarkOf(ended_ - 1)) : -1;
    const double ns = issuer_->Nanoseconds(MarkOf(ended_), before);
    ++ended_;
    if (flight.is_round) {
      EndRound(ns);
    } else if (!std::isnan(ns)) {
      Learn(flight, ns);
    }
    if (keeps_journal_) Keep(std::move(flight.note));
    // Finish may end requests, whose successors only begin with the next flight.
    for (unsigned number : flight.ending) Finish(number);
  }
}

void Engine::Learn(const Flight& flight, double ns) {
  const double launch = spec_.limits.launch_ns;
  const double expected = std::max(flight.word.expected_ns - launch, 1.0);
  const double factor = std::pow(std::clamp((ns - launch) / expected, 0.25, 4.0), kLearning);
  const unsigned code = flight.word.code;
  if (code >= first_codes_) {
    // Of words that are hardly longer than a launch nothing can be learned; they must not carry it off.
    return packer_.SetFactor(code, std::clamp(packer_.codes()[code].factor * factor, 1 / kMostFactor, kMostFactor));
  }
  for (unsigned n = 0; n < flight.word.count; ++n) {
    const unsigned row = flight.rows[n];
    block_ns_[row] = std::clamp(block_ns_[row] * factor, kLeastBlockNs, kMostBlockNs);
    // Shares are of the time that requests take, not of what was thought that they would.
    const double now = block_ns_[row] * spec_.rows[row].end;
    cost_ns_[spec_.rows[row].tenant] += now - std::exchange(task_ns_[task_of_[row]], now);
  }
}

bool Engine::IssueNext() {
  if (gathers_) {
    FindReady(true);
    if (!ready_.empty()) return IssueWord();
    if (HasRound()) {
      IssueRound();
      return true;
    }
    if (gathers_) return false;
  }
  if (lanes_) return IssueCohort();
  FindReady(false);
  return !ready_.empty() && IssueWord();
}

void Engine::FindReady(bool begun_only) {
  ready_.clear();
  candidates_.clear();
  for (unsigned number : order_) {
    const Active& active = actives_[number];
    if (begun_only && !active.begun()) continue;
    candidates_.push_back(number);
    ready_.push_back({});
    if (ready_.size() == kMostReady) return;
  }
}

// Which variant each of the ready tasks runs: that for as many slots as its group is thought to have in the word, or, if it was
// cut, the one that it began with.
void Engine::ChooseVariants() {
  chosen_.clear();
  const bool beside = candidates_.size() > 1;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    const Active& active = actives_[candidates_[i]];
    const EngineTask& task = TaskOf(candidates_[i]);
    const unsigned number = active.block == 0 ? task.VariantFor(together_in_[task.group], beside) : active.variant;
    const EngineVariant& variant = task.variants[number];
    chosen_.push_back(number);
    ready_[i] = {variant.row + active.arena, variant.kernel_class, active.block, variant.blocks, block_ns_[variant.row]};
  }
}

// The next word. How many slots a group has in it decides on their variants, and these on what fits: at first all that are ready are
// thought to, then as many as turned out to.
bool Engine::PackReady(PackedWord& word) {
  std::fill(together_in_.begin(), together_in_.end(), 0u);
  for (unsigned number : candidates_) {
    if (actives_[number].block == 0) ++together_in_[TaskOf(number).group];
  }
  for (unsigned left = kMostPacks; left > 0; --left) {
    ChooseVariants();
    if (!packer_.Pack(ready_.data(), ready_.size(), word)) return false;
    std::fill(packed_of_.begin(), packed_of_.end(), 0u);
    for (unsigned n = 0; n < word.count; ++n) ++packed_of_[TaskOf(candidates_[word.ready[n]]).group];
    bool fewer = false;
    for (unsigned n = 0; n < word.count; ++n) {
      const unsigned i = word.ready[n];
      const EngineTask& task = TaskOf(candidates_[i]);
      const unsigned packed = packed_of_[task.group];
      fewer = fewer || (actives_[candidates_[i]].block == 0 && packed < task.variants[chosen_[i]].from);
      together_in_[task.group] = std::min(together_in_[task.group], packed);
    }
    if (!fewer) return true;
  }
  return true;
}

Engine::Flight& Engine::NextFlight() {
  Flight& flight = flights_[MarkOf(issued_)];
  flight.back_to_back = ended_ < issued_;
  flight.ending.clear();
  flight.note = IssuedWord{};
  flight.note.issued_ns = NowNs();
  return flight;
}

bool Engine::IssueWord() {
  const double start = NowNs();
  Flight& flight = NextFlight();
  flight.is_round = false;
  PackedWord& word = flight.word;
  if (!PackReady(word)) throw std::runtime_error("no code for a task's class");
  NoteWishes();
  WordLaunch launch = {};
  for (unsigned n = 0; n < word.count; ++n) {
    const ReadyTask& task = ready_[word.ready[n]];
    flight.rows[n] = task.row - actives_[candidates_[word.ready[n]]].arena;
    launch.slot[n] = {task.row, word.body[n], launch.blocks, word.begin[n], word.end[n]};
    launch.blocks += word.blocks[n];
    stats_.slices += word.end[n] < task.end;
    ++stats_.slots_of[task.kernel_class];
  }
  launch.slots = word.count;
  const EngineCode& code = spec_.codes[word.code];
  issuer_->Issue(*code.code, code.threads, code.shared_bytes, launch, MarkOf(issued_));
  ++issued_;
  virtual_time_ = std::max(virtual_time_, actives_[candidates_[word.ready[0]]].start_tag);
  for (unsigned n = 0; n < word.count; ++n) {
    const unsigned number = candidates_[word.ready[n]];
    Active& active = actives_[number];
    const unsigned tenant = TenantOf(number);
    if (keeps_journal_) {
      flight.note.tenants.push_back(tenant);
      flight.note.tasks.push_back(active.task);
      flight.note.begins.push_back(word.begin[n]);
      flight.note.ends.push_back(word.end[n]);
    }
    if (!active.begun()) active.started_ns = flight.note.issued_ns;
    const std::vector<EngineTask>& tasks = spec_.tenants[tenant].tasks;
    active.variant = chosen_[word.ready[n]];
    active.block = word.end[n];
    if (active.block == tasks[active.task].variants[active.variant].blocks) {
      active.block = 0;
      ++active.task;
    }
    if (active.task < tasks.size()) continue;
    active.state = State::kEnding;
    order_.erase(std::find(order_.begin(), order_.end(), number));
    flight.ending.push_back(number);
  }
  flight.note.code = word.code;
  flight.note.expected_ns = word.expected_ns;
  ++stats_.words;
  ++stats_.words_on[word.code];
  stats_.slots += word.count;
  stats_.issue_ns += NowNs() - start;
  return true;
}

// What the leader's class could have had beside it.
void Engine::NoteWishes() {
  const unsigned one = ready_[0].kernel_class;
  for (std::size_t i = 1; i < std::min<std::size_t>(ready_.size(), 8); ++i) {
    const unsigned other = ready_[i].kernel_class;
    if (other == one) continue;
    const std::size_t pair = std::size_t{std::min(one, other)} * spec_.classes + std::max(one, other);
    if (!together_[pair]) ++wishes_[pair];
  }
}

EngineStats Engine::Stats() const {
  EngineStats stats = stats_;
  for (const PackCode& code : packer_.codes()) stats.factors.push_back(code.factor);
  for (unsigned one = 0; one < spec_.classes; ++one) {
    for (unsigned other = one + 1; other < spec_.classes; ++other) {
      const std::uint64_t times = wishes_[std::size_t{one} * spec_.classes + other];
      if (times > 0) stats.wishes.push_back({one, other, times});
    }
  }
  return stats;
}

Journal Engine::TakeJournal() { return std::exchange(journal_, {}); }

}  // namespace wideword
