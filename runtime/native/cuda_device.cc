#include "runtime/native/cuda_device.h"

#include "runtime/native/cuda_issuer.h"
#include "runtime/native/cuda_parts.h"
#include "runtime/native/slot_table.h"
#include "runtime/native/word_order.h"

namespace wideword {

namespace {

// The words as one graph. What differs between rounds is in the slot table, so it is made and instantiated once.
class CudaProgram : public LoadedProgram {
 public:
  CudaProgram(CudaContext& context, const std::vector<WordSpec>& words, WordOrder order)
      : context_(context),
        order_(order),
        waited_for_(WaitedFor(words)),
        table_(words),
        rows_(context, table_.rows().size() * sizeof(SlotRow)),
        map_(context, table_.map().size() * sizeof(unsigned)),
        start_(context),
        end_(context) {
    for (const WordSpec& word : words) {
      functions_.push_back(static_cast<CudaCode*>(word.code)->function);
      threads_.push_back(word.threads);
      shared_bytes_.push_back(word.shared_bytes);
      priorities_.push_back(context.PriorityOf(word.urgency));
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

  // With a mark between any two words, in a graph as well: launched one by one, short words would wait for the next launch. A chain
  // in any order: each word is timed by itself.
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
    if (order_ == WordOrder::kBranches) return BuildBranches(executable_);
    Capture(executable_, [this] {
      start_.Capture();
      for (std::size_t i = 0; i < functions_.size(); ++i) CaptureWord(i, nullptr, i > 0);
      end_.Capture();
    });
  }

  void LaunchOn(CUstream stream) { LaunchGraph(executable_, stream); }

  // Makes the graph whose blocks note when they run, if there is none yet, and forgets what they noted before.
  void ReadyToTrace() {
    if (!times_) times_ = std::make_unique<CudaTable>(context_, table_.map().size() * sizeof(BlockTime));
    times_->Clear();
    if (traced_) return;
    if (order_ == WordOrder::kBranches) return BuildBranches(traced_, times_.get());
    Capture(traced_, [this] {
      for (std::size_t i = 0; i < functions_.size(); ++i) CaptureWord(i, times_.get(), i > 0);
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
    Instantiate(executable, graph, 0);
  }

  void Instantiate(CUgraphExec& executable, CUgraph graph, unsigned long long flags) {
    const CUresult result = context_.cu.GraphInstantiate(&executable, graph, flags);
    context_.cu.GraphDestroy(graph);
    if (result != CUDA_SUCCESS) executable = nullptr;
    context_.Check(result, "instantiating a program");
  }

  // A graph in which each word waits for no more than it must: the start for nothing, words without a word before them for the
  // start, the end for all words that none waits for. Those of start and end are full edges, as events have no others; the end has
  // nothing to wait for of other words, as no word ends before those that it waits for (AddOverlaps).
  void BuildBranches(CUgraphExec& executable, const CudaTable* times = nullptr) {
    CUgraph graph = nullptr;
    context_.Check(context_.cu.GraphCreate(&graph, 0), "making a program's graph");
    try {
      const CUgraphNode start = start_.AddTo(graph, {});
      std::vector<CUgraphNode> nodes;
      std::vector<bool> is_last(functions_.size(), true);
      for (std::size_t i = 0; i < functions_.size(); ++i) {
        std::vector<CUgraphNode> before;
        for (const std::size_t word : waited_for_[i]) {
          before.push_back(nodes[word]);
          is_last[word] = false;
        }
        if (before.empty()) {
          nodes.push_back(AddWord(graph, {start}, i, times));
        } else if (!context_.overlaps_branches) {
          nodes.push_back(AddWord(graph, before, i, times));
        } else {
          nodes.push_back(AddWord(graph, {}, i, times));
          AddOverlaps(graph, before, nodes.back());
        }
      }
      std::vector<CUgraphNode> last;
      for (std::size_t i = 0; i < nodes.size(); ++i) {
        if (is_last[i]) last.push_back(nodes[i]);
      }
      end_.AddTo(graph, last);
    } catch (...) {
      context_.cu.GraphDestroy(graph);
      throw;
    }
    // Without it all nodes have the priority of the stream that the graph is launched in.
    Instantiate(executable, graph, CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY);
  }

  // With a table of times, one for each entry of the block map, its blocks note theirs there.
  WordLaunch LaunchOf(std::size_t index, const CudaTable* times) const {
    const SlotTable::Word& word = table_.words()[index];
    WordLaunch launch = {};
    launch.rows = reinterpret_cast<const SlotRow*>(rows_.address() + word.first_row * sizeof(SlotRow));
    launch.block_slot = reinterpret_cast<const unsigned*>(map_.address() + word.first_map * sizeof(unsigned));
    if (times) launch.times = reinterpret_cast<BlockTime*>(times->address() + word.first_map * sizeof(BlockTime));
    return launch;
  }

  // If it follows another word it may begin while that one ends, where the GPU can: the emitted code waits for it by itself
  // (await_word_before in codegen/prelude/cuda.h).
  void CaptureWord(std::size_t index, const CudaTable* times = nullptr, bool follows = false) {
    WordLaunch launch = LaunchOf(index, times);
    void* parameters[] = {&launch};
    CUlaunchAttribute overlap = {};
    overlap.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    overlap.value.programmaticStreamSerializationAllowed = 1;
    CUlaunchConfig config = {};
    config.gridDimX = table_.words()[index].grid;
    config.gridDimY = config.gridDimZ = 1;
    config.blockDimX = threads_[index];
    config.blockDimY = config.blockDimZ = 1;
    config.sharedMemBytes = shared_bytes_[index];
    config.hStream = context_.stream;
    config.attrs = &overlap;
    config.numAttrs = follows && context_.overlaps_words ? 1 : 0;
    context_.Check(context_.cu.LaunchKernelEx(&config, functions_[index], parameters, nullptr), "capturing a word");
  }

  CUgraphNode AddWord(CUgraph graph, const std::vector<CUgraphNode>& before, std::size_t index, const CudaTable* times) {
    WordLaunch launch = LaunchOf(index, times);  // copied into the node
    void* parameters[] = {&launch};
    CUDA_KERNEL_NODE_PARAMS kernel = {};
    kernel.func = functions_[index];
    kernel.gridDimX = table_.words()[index].grid;
    kernel.gridDimY = kernel.gridDimZ = 1;
    kernel.blockDimX = threads_[index];
    kernel.blockDimY = kernel.blockDimZ = 1;
    kernel.sharedMemBytes = shared_bytes_[index];
    kernel.kernelParams = parameters;
    CUgraphNode node = nullptr;
    context_.Check(context_.cu.GraphAddKernelNode(&node, graph, before.data(), before.size(), &kernel),
                   "adding a word to a program");
    CUlaunchAttributeValue priority = {};
    priority.priority = priorities_[index];
    context_.Check(context_.cu.GraphKernelNodeSetAttribute(node, CU_LAUNCH_ATTRIBUTE_PRIORITY, &priority),
                   "giving a word of a program its priority");
    return node;
  }

  // Edges of programmatic dependent launch: the word may begin once all blocks of all words before it have begun (and said so:
  // let_next_word_begin), and waits for their ends by itself, as words of a chain do. No attribute of the node has to say so, too.
  // Every block of every word, idle ones as well, waits before it ends. So a word's end is behind those of all it waits for, theirs
  // behind those of the words before them, and so on: an edge to the last words of its tenants orders a word behind all of their
  // words. Nor can words wait for each other's places: those that one waits for have theirs.
  void AddOverlaps(CUgraph graph, const std::vector<CUgraphNode>& before, CUgraphNode node) {
    CUgraphEdgeData overlap = {};
    overlap.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
    overlap.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
    const std::vector<CUgraphNode> to(before.size(), node);
    const std::vector<CUgraphEdgeData> edges(before.size(), overlap);
    context_.Check(context_.cu.GraphAddDependencies(graph, before.data(), to.data(), edges.data(), before.size()),
                   "ordering the words of a program");
  }

  CudaContext& context_;
  const WordOrder order_;
  const std::vector<std::vector<std::size_t>> waited_for_;
  SlotTable table_;
  CudaTable rows_;
  CudaTable map_;
  CudaEvent start_;
  CudaEvent end_;
  std::vector<CUfunction> functions_;
  std::vector<unsigned> threads_;
  std::vector<unsigned> shared_bytes_;
  std::vector<int> priorities_;  // of branches
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

  std::unique_ptr<LoadedProgram> Prepare(const std::vector<WordSpec>& words, WordOrder order) override {
    context_.CheckUsable();
    return std::make_unique<CudaProgram>(context_, words, order);
  }

  std::unique_ptr<Issuer> MakeIssuer(unsigned marks) override {
    context_.CheckUsable();
    return MakeCudaIssuer(context_, marks);
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
