#include "runtime/native/cuda_issuer.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/native/cuda_lanes.h"

namespace wideword {

namespace {

// Which words are timed: two in a row, so that the time of the second is known, then none for 4 to 11. To take a time costs the processor nearly
// a third of a launch. At random, so that chains of no length have always the same words timed.
class TimedWords {
 public:
  bool Next() {
    if (left_ == 0) {
      random_ = random_ * 1664525 + 1013904223;
      left_ = 2 + 4 + (random_ >> 29);
    }
    return left_-- <= 2;
  }

 private:
  unsigned left_ = 2;
  std::uint32_t random_ = 1;
};

// Has passed when all before it has; says when that was if it is timed.
class Mark {
 public:
  explicit Mark(CudaContext& context) : context_(context), untimed_(context, CudaEvent::Kind::kUntimed) {}
  void Record(CUstream stream, bool is_timed) {
    is_timed_ = is_timed;
    // Marks of copies never have one.
    if (is_timed && !timed_) timed_ = std::make_unique<CudaEvent>(context_);
    (is_timed ? *timed_ : untimed_).Record(stream);
  }
  bool HasPassed() const { return (is_timed_ ? *timed_ : untimed_).HasPassed(); }
  // NaN if not both are timed.
  double NanosecondsSince(const Mark& start) const {
    if (!is_timed_ || !start.is_timed_) return std::numeric_limits<double>::quiet_NaN();
    return timed_->MillisecondsSince(*start.timed_) * 1e6;
  }

 private:
  CudaContext& context_;
  CudaEvent untimed_;
  std::unique_ptr<CudaEvent> timed_;
  bool is_timed_ = false;
};

class CudaIssuer : public Issuer {
 public:
  // Copies have streams of their own, one each way, so that they run beside words.
  CudaIssuer(CudaContext& context, unsigned marks) : context_(context), up_(context), down_(context) {
    for (unsigned i = 0; i < marks; ++i) marks_.push_back(std::make_unique<Mark>(context));
  }
  ~CudaIssuer() override {
    // Nothing may be under way that uses the rows, the staged memory or what belongs to the tenants.
    for (CUstream stream : {up_.stream, context_.stream, down_.stream}) context_.cu.StreamSynchronize(stream);
    for (const auto& [data, bytes] : staged_) {
      std::memset(data, 0, bytes);
      context_.cu.MemFreeHost(data);
    }
  }

  std::uint8_t* Stage(std::size_t bytes) override {
    void* data = nullptr;
    const std::string doing = "allocating " + std::to_string(bytes) + " bytes of page-locked memory";
    context_.Check(context_.cu.MemHostAlloc(&data, bytes, 0), doing.c_str());
    std::memset(data, 0, bytes);
    staged_.emplace_back(data, bytes);
    return static_cast<std::uint8_t*>(data);
  }

  void SetRows(const std::vector<SlotRow>& rows) override {
    if (rows.empty()) return;
    rows_ = std::make_unique<CudaTable>(context_, rows.size() * sizeof(SlotRow));
    rows_->Upload(rows.data());
    context_.Wait();
  }

  void Prepare(LoadedCode& code, unsigned shared_bytes) override { static_cast<CudaCode&>(code).AskForShared(shared_bytes); }

  void Issue(LoadedCode& code, unsigned threads, unsigned shared_bytes, WordLaunch launch, unsigned mark) override {
    launch.rows = reinterpret_cast<const SlotRow*>(rows_->address());
    void* parameters[] = {&launch};
    context_.Check(context_.cu.LaunchKernel(static_cast<CudaCode&>(code).function, launch.blocks, 1, 1, threads, 1, 1,
                                            shared_bytes, context_.stream, parameters, nullptr),
                   "issuing a word");
    marks_[mark]->Record(context_.stream, timed_.Next());
  }

  void Run(LoadedProgram& program, unsigned mark) override {
    program.Launch();
    marks_[mark]->Record(context_.stream, true);
  }

  // What the copies write is not in use: the tenant's last request has ended, and this one has not begun.
  void Upload(const std::vector<StagedCopy>& copies, unsigned mark) override {
    for (const StagedCopy& copy : copies) {
      context_.Check(context_.cu.MemcpyHtoDAsync(copy.address, copy.staged, copy.bytes, up_.stream), "writing device memory");
    }
    marks_[mark]->Record(up_.stream, false);
  }

  // The words have ended, as their mark has passed; so the copies need not wait for what has been issued since.
  void Download(const std::vector<StagedCopy>& copies, unsigned mark) override {
    for (const StagedCopy& copy : copies) {
      context_.Check(context_.cu.MemcpyDtoHAsync(copy.staged, copy.address, copy.bytes, down_.stream), "reading device memory");
    }
    marks_[mark]->Record(down_.stream, false);
  }

  std::vector<std::unique_ptr<Lane>> MakeLanes(const std::vector<CohortChain>& chains, unsigned most) override {
    return MakeCudaLanes(context_, chains, most, [this](std::size_t bytes) { return Stage(bytes); });
  }

  bool Passed(unsigned mark) override { return marks_[mark]->HasPassed(); }

  double Nanoseconds(unsigned mark, int before) override {
    if (before < 0) return std::numeric_limits<double>::quiet_NaN();
    return marks_[mark]->NanosecondsSince(*marks_[static_cast<unsigned>(before)]);
  }

 private:
  CudaContext& context_;
  CudaSideStream up_, down_;
  std::unique_ptr<CudaTable> rows_;
  std::vector<std::unique_ptr<Mark>> marks_;
  TimedWords timed_;
  std::vector<std::pair<void*, std::size_t>> staged_;
};

}  // namespace

std::unique_ptr<Issuer> MakeCudaIssuer(CudaContext& context, unsigned marks) {
  return std::make_unique<CudaIssuer>(context, marks);
}

}  // namespace wideword
