#include "runtime/native/cuda_device.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/native/cuda_image.h"
#include "runtime/native/slot_table.h"

namespace wideword {

namespace {

// The device's context, current on its thread as long as this lives, and its stream.
class CudaContext {
 public:
  CudaContext(const CudaDriver& opened, int ordinal) : driver(opened), cu(opened.cu) {
    Check(cu.DeviceGet(&device_, ordinal), "getting the CUDA device");
    Check(cu.DeviceGetAttribute(&max_shared_bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device_),
          "asking for the CUDA device's properties");
    CUcontext context = nullptr;
    Check(cu.DevicePrimaryCtxRetain(&context, device_), "making the CUDA context");
    try {
      Check(cu.CtxSetCurrent(context), "entering the CUDA context");
      Check(cu.StreamCreate(&stream, CU_STREAM_NON_BLOCKING), "making the CUDA stream");
    } catch (...) {
      Leave();
      throw;
    }
  }
  ~CudaContext() {
    cu.StreamDestroy(stream);
    Leave();
  }
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  // Every call's result comes through here. After an error that ruined the context, all that follows fails with that
  // first reason rather than with what it led to.
  void Check(CUresult result, const char* doing) {
    if (result == CUDA_SUCCESS) return;
    const std::string message = std::string(doing) + " failed: " + driver.Describe(result);
    if (fault_.empty() && CudaDriver::IsFatal(result)) fault_ = message;
    throw std::runtime_error(fault_.empty() ? message : "the CUDA device cannot be used any more: " + fault_);
  }
  void CheckUsable() const {
    if (!fault_.empty()) throw std::runtime_error("the CUDA device cannot be used any more: " + fault_);
  }
  bool faulty() const { return !fault_.empty(); }

  void Wait() { Check(cu.StreamSynchronize(stream), "waiting for the CUDA device"); }

  const CudaDriver& driver;
  const CudaFunctions& cu;
  CUstream stream = nullptr;
  // The most shared memory that a block can ask for, in bytes.
  int max_shared_bytes = 0;

 private:
  void Leave() {
    cu.CtxSetCurrent(nullptr);
    cu.DevicePrimaryCtxRelease(device_);
  }
  CUdevice device_ = 0;
  std::string fault_;
};

// Memory of our own: slot rows, block maps and times of blocks.
class CudaTable {
 public:
  CudaTable(CudaContext& context, std::size_t bytes) : context_(context), bytes_(bytes) {
    context_.Check(context_.cu.MemAlloc(&address_, bytes), "allocating a program's table");
  }
  ~CudaTable() {
    // Rows hold the tenants' addresses.
    context_.cu.MemsetD8Async(address_, 0, bytes_, context_.stream);
    context_.cu.StreamSynchronize(context_.stream);
    context_.cu.MemFree(address_);
  }
  CudaTable(const CudaTable&) = delete;
  CudaTable& operator=(const CudaTable&) = delete;

  void Upload(const void* data) {
    context_.Check(context_.cu.MemcpyHtoDAsync(address_, data, bytes_, context_.stream), "writing a slot table");
  }
  void Clear() {
    context_.Check(context_.cu.MemsetD8Async(address_, 0, bytes_, context_.stream), "clearing a program's table");
  }
  void Download(void* data) const {
    context_.Check(context_.cu.MemcpyDtoHAsync(data, address_, bytes_, context_.stream), "reading a program's table");
  }
  CUdeviceptr address() const { return address_; }

 private:
  CudaContext& context_;
  const std::size_t bytes_;
  CUdeviceptr address_ = 0;
};

class CudaEvent {
 public:
  explicit CudaEvent(CudaContext& context) : context_(context) {
    context_.Check(context_.cu.EventCreate(&event_, CU_EVENT_DEFAULT), "making a CUDA event");
  }
  ~CudaEvent() { context_.cu.EventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  // While capturing: a node that records the event each time the graph runs.
  void Capture() {
    context_.Check(context_.cu.EventRecordWithFlags(event_, context_.stream, CU_EVENT_RECORD_EXTERNAL),
                   "capturing a CUDA event");
  }
  void Record(CUstream stream) {
    context_.Check(context_.cu.EventRecordWithFlags(event_, stream, CU_EVENT_RECORD_DEFAULT), "recording a CUDA event");
  }
  // What is put into the stream from now on waits for what was there when the event was recorded.
  void HoldUp(CUstream stream) {
    context_.Check(context_.cu.StreamWaitEvent(stream, event_, CU_EVENT_WAIT_DEFAULT), "joining CUDA streams");
  }
  // Since another event; both have come to pass.
  double MillisecondsSince(const CudaEvent& start) const {
    float milliseconds = 0;
    context_.Check(context_.cu.EventElapsedTime(&milliseconds, start.event_, event_), "timing a program");
    return milliseconds;
  }

 private:
  CudaContext& context_;
  CUevent event_ = nullptr;
};

// A stream beside the device's own, and the end of what runs on it.
class CudaSideStream {
 public:
  explicit CudaSideStream(CudaContext& context) : end(context), context_(context) {
    context_.Check(context_.cu.StreamCreate(&stream, CU_STREAM_NON_BLOCKING), "making a CUDA stream");
  }
  ~CudaSideStream() { context_.cu.StreamDestroy(stream); }
  CudaSideStream(const CudaSideStream&) = delete;
  CudaSideStream& operator=(const CudaSideStream&) = delete;

  CUstream stream = nullptr;
  CudaEvent end;

 private:
  CudaContext& context_;
};

class CudaCode : public LoadedCode {
 public:
  CudaCode(CudaContext& context, const std::string& image, const std::string& entry) : context_(context) {
    CheckCudaImage(image);
    context_.Check(context_.cu.ModuleLoadData(&module_, image.c_str()), "loading CUDA code");
    try {
      const std::string doing = "finding " + entry + " in CUDA code";
      context_.Check(context_.cu.ModuleGetFunction(&function, module_, entry.c_str()), doing.c_str());
      int threads = 0;
      context_.Check(context_.cu.FuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function),
                     "asking for a CUDA function's limits");
      max_threads_ = static_cast<unsigned>(threads);
      int own = 0;
      context_.Check(context_.cu.FuncGetAttribute(&own, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function),
                     "asking for a CUDA function's limits");
      max_shared_bytes_ = static_cast<unsigned>(std::max(0, context_.max_shared_bytes - own));
    } catch (...) {
      context_.cu.ModuleUnload(module_);
      throw;
    }
  }
  ~CudaCode() override { context_.cu.ModuleUnload(module_); }
  unsigned max_threads() const override { return max_threads_; }
  unsigned max_shared_bytes() const override { return max_shared_bytes_; }

  // Before a launch with so much shared memory beside what the code declares.
  void AskForShared(unsigned bytes) {
    if (bytes <= granted_) return;
    context_.Check(context_.cu.FuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                static_cast<int>(bytes)),
                   "asking for shared memory");
    granted_ = bytes;
  }

  CUfunction function = nullptr;

 private:
  CudaContext& context_;
  CUmodule module_ = nullptr;
  unsigned granted_ = 0;
  unsigned max_threads_ = 0;
  unsigned max_shared_bytes_ = 0;
};

// The words as one graph. What differs between rounds is in the slot table, so it is captured and instantiated once.
class CudaProgram : public LoadedProgram {
 public:
  CudaProgram(CudaContext& context, const std::vector<WordSpec>& words)
      : context_(context),
        table_(words),
        rows_(context, table_.rows().size() * sizeof(SlotRow)),
        map_(context, table_.map().size() * sizeof(unsigned)),
        start_(context),
        end_(context) {
    for (const WordSpec& word : words) {
      functions_.push_back(static_cast<CudaCode*>(word.code)->function);
      threads_.push_back(word.threads);
      shared_bytes_.push_back(word.shared_bytes);
      static_cast<CudaCode*>(word.code)->AskForShared(word.shared_bytes);
    }
  }

  ~CudaProgram() override {
    for (CUgraphExec graph : {executable_, marked_, traced_}) {
      if (graph) context_.cu.GraphExecDestroy(graph);
    }
  }

  void Activate(const std::vector<unsigned>& tenants) override {
    context_.CheckUsable();
    if (!table_.Activate(tenants) && uploaded_) return;
    uploaded_ = false;
    // The last round has ended, so nothing reads the old rows.
    rows_.Upload(table_.rows().data());
    map_.Upload(table_.map().data());
    uploaded_ = true;
  }

  void Launch() override {
    Ready();
    LaunchOn(context_.stream);
  }

  double Milliseconds() override { return end_.MillisecondsSince(start_); }

  // With a mark between any two words, in a graph as well: launched one by one, short words would wait for the next launch.
  std::vector<double> TimeWords() override {
    context_.CheckUsable();
    if (!marked_) {
      while (marks_.size() <= functions_.size()) marks_.push_back(std::make_unique<CudaEvent>(context_));
      Capture(marked_, [this] {
        marks_[0]->Capture();
        for (std::size_t i = 0; i < functions_.size(); ++i) {
          CaptureWord(i);
          marks_[i + 1]->Capture();
        }
      });
    }
    LaunchGraph(marked_, context_.stream);
    context_.Wait();
    std::vector<double> milliseconds;
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      milliseconds.push_back(marks_[i + 1]->MillisecondsSince(*marks_[i]));
    }
    return milliseconds;
  }

  // Makes the graph if there is none yet.
  void Ready() {
    if (executable_) return;
    Capture(executable_, [this] {
      start_.Capture();
      for (std::size_t i = 0; i < functions_.size(); ++i) CaptureWord(i);
      end_.Capture();
    });
  }

  void LaunchOn(CUstream stream) { LaunchGraph(executable_, stream); }

  // Makes the graph whose blocks note when they run, if there is none yet, and forgets what they noted before.
  void ReadyToTrace() {
    if (!times_) times_ = std::make_unique<CudaTable>(context_, table_.map().size() * sizeof(BlockTime));
    times_->Clear();
    if (traced_) return;
    Capture(traced_, [this] {
      for (std::size_t i = 0; i < functions_.size(); ++i) CaptureWord(i, times_.get());
    });
  }

  void LaunchTracedOn(CUstream stream) { LaunchGraph(traced_, stream); }

  // What the blocks have noted.
  ProgramTimes ReadTimes() const {
    std::vector<BlockTime> blocks(table_.map().size());
    times_->Download(blocks.data());
    context_.Wait();
    ProgramTimes times;
    for (const SlotTable::Word& word : table_.words()) {
      const auto first = blocks.begin() + static_cast<std::ptrdiff_t>(word.first_map);
      times.emplace_back(first, first + word.grid);
    }
    return times;
  }

 private:
  void LaunchGraph(CUgraphExec graph, CUstream stream) {
    context_.Check(context_.cu.GraphLaunch(graph, stream), "launching a program");
  }

  template <class Nodes>
  void Capture(CUgraphExec& executable, Nodes nodes) {
    const CudaFunctions& cu = context_.cu;
    context_.Check(cu.StreamBeginCapture(context_.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "starting a capture");
    CUgraph graph = nullptr;
    try {
      nodes();
    } catch (...) {
      // A stream left capturing would refuse everything else.
      if (cu.StreamEndCapture(context_.stream, &graph) == CUDA_SUCCESS && graph) cu.GraphDestroy(graph);
      throw;
    }
    context_.Check(cu.StreamEndCapture(context_.stream, &graph), "capturing a program");
    const CUresult result = cu.GraphInstantiate(&executable, graph, 0);
    cu.GraphDestroy(graph);
    if (result != CUDA_SUCCESS) executable = nullptr;
    context_.Check(result, "instantiating a program");
  }

  // With a table of times, one for each entry of the block map, its blocks note theirs there.
  void CaptureWord(std::size_t index, const CudaTable* times = nullptr) {
    const SlotTable::Word& word = table_.words()[index];
    WordLaunch launch = {};
    launch.rows = reinterpret_cast<const SlotRow*>(rows_.address() + word.first_row * sizeof(SlotRow));
    launch.block_slot = reinterpret_cast<const unsigned*>(map_.address() + word.first_map * sizeof(unsigned));
    if (times) launch.times = reinterpret_cast<BlockTime*>(times->address() + word.first_map * sizeof(BlockTime));
    void* parameters[] = {&launch};
    context_.Check(context_.cu.LaunchKernel(functions_[index], word.grid, 1, 1, threads_[index], 1, 1, shared_bytes_[index],
                                            context_.stream, parameters, nullptr),
                   "capturing a word");
  }

  CudaContext& context_;
  SlotTable table_;
  CudaTable rows_;
  CudaTable map_;
  CudaEvent start_;
  CudaEvent end_;
  std::vector<CUfunction> functions_;
  std::vector<unsigned> threads_;
  std::vector<unsigned> shared_bytes_;
  CUgraphExec executable_ = nullptr;
  // The graph of TimeWords, and its events: before the first word and behind each.
  CUgraphExec marked_ = nullptr;
  std::vector<std::unique_ptr<CudaEvent>> marks_;
  // The graph of TraceTogether, and where its blocks note their times.
  CUgraphExec traced_ = nullptr;
  std::unique_ptr<CudaTable> times_;
  bool uploaded_ = false;
};

class CudaBackend : public Backend {
 public:
  CudaBackend(const CudaDriver& driver, int ordinal) : context_(driver, ordinal), cu_(driver.cu) {
    const CudaDeviceInfo info = driver.Info(ordinal);
    info_.kind = "cuda";
    info_.name = info.name;
    info_.target = info.target;
    info_.units = static_cast<unsigned>(info.multiprocessors);
  }

  const DeviceInfo& info() const override { return info_; }

  Address Allocate(std::size_t bytes) override {
    context_.CheckUsable();
    CUdeviceptr address = 0;
    const std::string doing = "allocating " + std::to_string(bytes) + " bytes of device memory";
    context_.Check(cu_.MemAlloc(&address, bytes), doing.c_str());
    try {
      context_.Check(cu_.MemsetD8Async(address, 0, bytes, context_.stream), "zeroing device memory");
      context_.Wait();
    } catch (...) {
      cu_.MemFree(address);
      throw;
    }
    return address;
  }

  void Free(Address address, std::size_t bytes) noexcept override {
    // After a fault these fail, and the memory goes with the context.
    cu_.MemsetD8Async(address, 0, bytes, context_.stream);
    cu_.StreamSynchronize(context_.stream);
    cu_.MemFree(address);
  }

  void Write(Address address, const void* data, std::size_t bytes) override {
    context_.CheckUsable();
    if (bytes == 0) return;
    context_.Check(cu_.MemcpyHtoDAsync(address, data, bytes, context_.stream), "writing device memory");
  }

  void Read(void* data, Address address, std::size_t bytes) override {
    context_.CheckUsable();
    if (bytes == 0) return;
    context_.Check(cu_.MemcpyDtoHAsync(data, address, bytes, context_.stream), "reading device memory");
  }

  void Wait() override { context_.Wait(); }

  std::unique_ptr<LoadedCode> Load(const std::string& code, const std::string& entry) override {
    context_.CheckUsable();
    return std::make_unique<CudaCode>(context_, code, entry);
  }

  std::unique_ptr<LoadedProgram> Prepare(const std::vector<WordSpec>& words) override {
    context_.CheckUsable();
    return std::make_unique<CudaProgram>(context_, words);
  }

  double TimeTogether(const std::vector<LoadedProgram*>& programs, Together together) override {
    context_.CheckUsable();
    for (LoadedProgram* program : programs) static_cast<CudaProgram*>(program)->Ready();
    return LaunchTogether(programs, together, &CudaProgram::LaunchOn);
  }

  TracedRound TraceTogether(const std::vector<LoadedProgram*>& programs, Together together) override {
    context_.CheckUsable();
    for (LoadedProgram* program : programs) static_cast<CudaProgram*>(program)->ReadyToTrace();
    TracedRound round;
    round.milliseconds = LaunchTogether(programs, together, &CudaProgram::LaunchTracedOn);
    for (LoadedProgram* program : programs) round.programs.push_back(static_cast<CudaProgram*>(program)->ReadTimes());
    return round;
  }

 private:
  // Launches one graph of each program and gives the milliseconds from the first launch to the last end.
  double LaunchTogether(const std::vector<LoadedProgram*>& programs, Together together, void (CudaProgram::*launch)(CUstream)) {
    if (!ends_) ends_ = std::make_unique<Ends>(context_);
    const std::size_t sides = together == Together::kSideBySide ? programs.size() : 0;
    while (sides_.size() < sides) sides_.push_back(std::make_unique<CudaSideStream>(context_));
    try {
      ends_->first.Record(context_.stream);
      for (std::size_t i = 0; i < programs.size(); ++i) {
        auto& program = *static_cast<CudaProgram*>(programs[i]);
        if (together == Together::kInTurn) {
          (program.*launch)(context_.stream);
          continue;
        }
        CudaSideStream& side = *sides_[i];
        ends_->first.HoldUp(side.stream);
        (program.*launch)(side.stream);
        side.end.Record(side.stream);
      }
      for (std::size_t i = 0; i < sides; ++i) sides_[i]->end.HoldUp(context_.stream);
      ends_->last.Record(context_.stream);
    } catch (...) {
      // Nobody else waits for what has been launched so far.
      for (std::size_t i = 0; i < sides; ++i) cu_.StreamSynchronize(sides_[i]->stream);
      throw;
    }
    context_.Wait();
    return ends_->last.MillisecondsSince(ends_->first);
  }

  // Before the first and behind the last of several programs.
  struct Ends {
    explicit Ends(CudaContext& context) : first(context), last(context) {}
    CudaEvent first;
    CudaEvent last;
  };

  CudaContext context_;
  const CudaFunctions& cu_;
  DeviceInfo info_;
  // Made when they are first asked for, and kept.
  std::unique_ptr<Ends> ends_;
  std::vector<std::unique_ptr<CudaSideStream>> sides_;
};

}  // namespace

std::unique_ptr<Backend> MakeCudaBackend(const CudaDriver& driver, int ordinal) {
  return std::make_unique<CudaBackend>(driver, ordinal);
}

}  // namespace wideword
