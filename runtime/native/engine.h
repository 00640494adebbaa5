// The issue engine: takes requests of tenants at any time, each a chain of tasks. With lanes (lanes.h) it runs them in cohorts, each
// launched at once for all its tasks. Without, it packs at every step what can go on into the next word and launches it, a word or two
// ahead of the device. It lives on its device's thread (executor.h), which steps it between jobs; only Submit and what is said so are
// for other threads.
//
// Order among requests is that of start-time fair queueing (Goyal, Vin, Cheng 1996) over the time that requests are
// expected to take: a tenant that asks for more than its share waits behind the others, and where nobody does, the
// request that came first goes first. Where all tenants are there all the time it runs rounds of a captured program.
#ifndef WIDEWORD_ENGINE_H
#define WIDEWORD_ENGINE_H

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/native/backend.h"
#include "runtime/native/engine_spec.h"
#include "runtime/native/executor.h"
#include "runtime/native/lanes.h"
#include "runtime/native/packer.h"

namespace wideword {

// What became of a request. Times in nanoseconds of the steady clock.
struct EngineOutcome {
  std::string problem;  // empty if it went well
  // Taken in, its first word issued (0 if none was), all over.
  double queued_ns = 0, started_ns = 0, ended_ns = 0;
};

struct EngineRequest {
  unsigned tenant = 0;
  unsigned place = 0;        // which of the tenant's, and of its staging memory
  bool with_copies = true;   // or it computes on what is in the inputs, and leaves the outputs where they are
  // On the device's thread, when all has been done. `outputs` is the staged memory of the outputs, one after another.
  std::function<void(const EngineOutcome&, const std::uint8_t* outputs)> done;
  // After `done`, and after the place is free again.
  std::function<void()> over;
};

// One issued word as the journal keeps it, oldest first; slots in order.
struct IssuedWord {
  double issued_ns = 0, ended_ns = 0;
  double expected_ns = 0;
  unsigned code = 0;  // number of the code; kRound for a captured round, kCohort for a cohort, of which only the tenants are kept
  std::vector<unsigned> tenants, tasks, begins, ends;
};
constexpr unsigned kRound = 0xffffffffu;
constexpr unsigned kCohort = 0xfffffffeu;

// What an engine did while its journal was kept: words as they ended, and requests likewise.
constexpr std::size_t kMostInJournal = std::size_t{1} << 16;
struct Journal {
  struct Request {
    unsigned tenant = 0;
    double queued_ns = 0, started_ns = 0, ended_ns = 0;
  };
  std::vector<IssuedWord> words;
  std::vector<Request> requests;
};

struct EngineStats {
  std::uint64_t words = 0, slots = 0, slices = 0, rounds = 0, requests = 0;
  double issue_ns = 0;  // of this thread, for all words: from the choice of a word to its launch
  std::uint64_t cohorts = 0, cohort_requests = 0;
  double cohort_issue_ns = 0;  // likewise, for all cohorts
  // Pairs of classes that were ready at the same time and that no code has both bodies for, and how often.
  struct Wish {
    unsigned one = 0, other = 0;
    std::uint64_t times = 0;
  };
  std::vector<Wish> wishes;
  std::vector<std::uint64_t> slots_of;  // by class
  std::vector<std::uint64_t> words_on;  // by code
  std::vector<double> factors;          // by code: as measured so far
};

// Of the steady clock.
double NowNs();

class Engine : public Stepped {
 public:
  Engine(Backend& backend, EngineSpec spec);
  ~Engine() override;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Requests that one tenant can have at the engine: one that runs in each of its arenas, and one whose inputs lie ready.
  unsigned places() const { return spec_.arenas + 1; }
  // A place for a request of the tenant's, or -1 if it has as many as it can have. Any thread.
  int Claim(unsigned tenant);
  // Any thread. The request has a place that was claimed for it, and its inputs lie in InputsOf.
  void Submit(EngineRequest request);
  // Where the inputs of a request are to be put, one after another. Any thread, from Claim to Submit.
  std::uint8_t* InputsOf(unsigned tenant, unsigned place) const { return stages_[tenant * places() + place].inputs; }

  // The device's thread from here on. Does what can be done now; false if nothing is under way.
  bool Step() override;
  void AddCode(const EngineCode& code);
  // All that is under way, and all that comes, ends with this problem.
  void Fail(const std::string& problem);
  // Called at the start of every step, with the time and with what went wrong, as long as it returns true: it has more to
  // do later.
  using Source = std::function<bool(double now_ns, const std::string& problem)>;
  void SetSource(Source source) { source_ = std::move(source); }
  EngineStats Stats() const;
  bool has_source() const { return static_cast<bool>(source_); }
  void KeepJournal(bool keep) { keeps_journal_ = keep; }
  Journal TakeJournal();

 private:
  enum class State { kFree, kWaiting, kUploading, kRunning, kEnding, kDownloading };
  struct Stage {
    std::uint8_t* inputs = nullptr;
    std::uint8_t* outputs = nullptr;
  };
  // A request under way, and how far it is.
  struct Active {
    EngineRequest request;
    State state = State::kFree;
    double queued_ns = 0, started_ns = 0;
    double start_tag = 0;
    std::uint64_t arrival = 0;
    unsigned arena = 0;  // of its tenant's, once it is past waiting
    unsigned task = 0;   // the next one
    unsigned block = 0;  // and its next virtual block,
    unsigned variant = 0;  // of this variant, if the task has begun
    bool begun() const { return task > 0 || block > 0; }
  };
  // A word or a round that has been issued and not been seen to end.
  struct Flight {
    bool back_to_back = false;  // the device still had the one before it
    bool is_round = false;
    PackedWord word;
    unsigned rows[kMaxIssued] = {};  // of the first arena
    std::vector<unsigned> ending;  // actives whose last word this is
    IssuedWord note;
  };

  void TakeMail();
  bool IsCrowded() const;
  void BeginWhatMay();
  void BeginNext(unsigned tenant);
  const std::vector<StagedCopy>& CopiesOf(unsigned active, bool up);
  void Start(unsigned active);
  void PollCopies();
  void Collect();
  void Finish(unsigned active);
  void End(unsigned active, const std::string& problem);
  bool IssueNext();
  bool IssueWord();
  // Rounds and cohorts (engine_cohorts.cc).
  double Quorum() const;
  void ConsiderGathering(unsigned present);
  bool HasRound();
  void IssueRound();
  void EndRound(double ns);
  bool IssueCohort();
  void CollectCohorts();
  void Keep(IssuedWord note);
  void FindReady(bool begun_only);
  void ChooseVariants();
  bool PackReady(PackedWord& word);
  const EngineTask& TaskOf(unsigned active) const {
    return spec_.tenants[TenantOf(active)].tasks[actives_[active].task];
  }
  Flight& NextFlight();
  void Learn(const Flight& flight, double ns);
  bool IsThere(unsigned tenant) const;
  void NoteWishes();
  unsigned MarkOf(std::uint64_t flight) const { return static_cast<unsigned>(flight % flights_.size()); }
  unsigned CopyMarkOf(unsigned active) const { return static_cast<unsigned>(flights_.size()) + active; }
  unsigned TenantOf(unsigned active) const { return active / places(); }

  Backend& backend_;
  EngineSpec spec_;
  std::unique_ptr<Issuer> issuer_;
  Packer packer_;
  double now_ns_ = 0;                // at the start of the step
  std::vector<double> cost_ns_;      // by tenant: what a request takes, by block_ns_
  std::vector<double> block_ns_;     // by row of a first arena: what a virtual block takes, as measured so far
  std::vector<unsigned> task_of_;    // likewise: tasks are numbered tenant after tenant
  std::vector<double> task_ns_;      // by task: its part of cost_ns_, by the variant that was measured last
  std::vector<Stage> stages_;        // by tenant and place
  std::vector<Active> actives_;      // likewise
  std::vector<double> finish_tag_;   // by tenant
  std::vector<unsigned> busy_;       // by tenant: a bit for each arena that has a request
  std::vector<StagedCopy> copies_;   // of the request whose copies are started
  double crowded_until_ns_ = 0;      // for so long after the last time that enough tenants had a request
  bool was_crowded_ = false;         // at the last look
  unsigned present_ = 0;             // tenants with a request
  double virtual_time_ = 0;
  std::uint64_t arrivals_ = 0;

  std::vector<unsigned> order_;      // actives that run, in order of precedence
  std::vector<unsigned> copying_;    // actives that upload or download
  std::vector<unsigned> candidates_; // of order_, those of ready_
  std::vector<ReadyTask> ready_;
  std::vector<unsigned> chosen_;     // of each of ready_, the variant
  std::vector<unsigned> together_in_;  // by group: slots that the next word is thought to have of it
  std::vector<unsigned> packed_of_;    // likewise: slots that it turned out to have
  std::vector<Flight> flights_;      // a ring, by number
  std::uint64_t issued_ = 0, ended_ = 0;  // numbers of flights: the next to be issued, and to end

  // Rounds of the captured program. While the engine gathers, requests that have not begun are held for the next round.
  bool gathers_ = false;
  double gather_until_ns_ = 0;
  double round_ns_ = 0;
  unsigned ends_before_gathering_ = 0, patience_ = 0;
  unsigned rounds_in_row_ = 0;
  std::vector<unsigned> round_tenants_;

  // If requests run in cohorts.
  std::unique_ptr<Lanes> lanes_;
  std::size_t crowded_ends_ = 0;  // requests that ended one after another while there were enough for a round

  Source source_;
  std::vector<std::atomic<bool>> claimed_;  // by tenant and place
  std::mutex mail_mutex_;
  std::vector<EngineRequest> mail_, taken_;
  std::atomic<bool> has_mail_{false};

  std::string problem_;
  EngineStats stats_;
  std::size_t first_codes_ = 0;        // what came with the engine; by these blocks are measured
  std::vector<std::uint64_t> wishes_;  // by pair of classes
  std::vector<bool> together_;         // likewise: some code has both
  bool keeps_journal_ = false;
  Journal journal_;
};

}  // namespace wideword

#endif
