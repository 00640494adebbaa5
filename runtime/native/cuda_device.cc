#include "runtime/native/cuda_device.h"

#include "runtime/native/cuda_graph.h"
#include "runtime/native/cuda_issuer.h"
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
        end_(context),
        graph_(context),
        marked_(context),
        traced_(context) {
    for (const WordSpec& word : words) {
      auto& code = *static_cast<CudaCode*>(word.code);
      words_.push_back({code.function, word.threads, word.shared_bytes, table_.words()[words_.size()].grid});
      priorities_.push_back(context.PriorityOf(word.urgency));
      code.AskForShared(word.shared_bytes);
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
    if (!marked_.is_made()) {
      while (marks_.size() <= words_.size()) marks_.push_back(std::make_unique<CudaEvent>(context_));
      marked_.Capture([this] {
        marks_[0]->Capture();
        for (std::size_t i = 0; i < words_.size(); ++i) {
          CaptureWord(context_, words_[i], LaunchOf(i, nullptr), false);
          marks_[i + 1]->Capture();
        }
      });
    }
    marked_.Launch(context_.stream);
    context_.Wait();
    std::vector<double> milliseconds;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      milliseconds.push_back(marks_[i + 1]->MillisecondsSince(*marks_[i]));
    }
    return milliseconds;
  }

  // Makes the graph if there is none yet.
  void Ready() {
    if (graph_.is_made()) return;
    if (order_ == WordOrder::kBranches) return BuildBranches(graph_);
    graph_.Capture([this] {
      start_.Capture();
      for (std::size_t i = 0; i < words_.size(); ++i) CaptureWord(context_, words_[i], LaunchOf(i, nullptr), Overlaps(i));
      end_.Capture();
    });
  }

  void LaunchOn(CUstream stream) { graph_.Launch(stream); }

  // Makes the graph whose blocks note when they run, if there is none yet, and forgets what they noted before.
  void ReadyToTrace() {
    if (!times_) times_ = std::make_unique<CudaTable>(context_, table_.map().size() * sizeof(BlockTime));
    times_->Clear();
    if (traced_.is_made()) return;
    if (order_ == WordOrder::kBranches) return BuildBranches(traced_, times_.get());
    traced_.Capture([this] {
      for (std::size_t i = 0; i < words_.size(); ++i) CaptureWord(context_, words_[i], LaunchOf(i, times_.get()), Overlaps(i));
    });
  }

  void LaunchTracedOn(CUstream stream) { traced_.Launch(stream); }

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
  // A graph in which each word waits for no more than it must: the start for nothing, words without a word before them for the
  // start, the end for all words that none waits for. Those of start and end are full edges, as events have no others; the end has
  // nothing to wait for of other words, as no word ends before those that it waits for (AddOverlap).
  void BuildBranches(CudaGraph& to, const CudaTable* times = nullptr) {
    to.Build([&](CUgraph graph) {
      const CUgraphNode start = start_.AddTo(graph, {});
      std::vector<CUgraphNode> nodes;
      std::vector<bool> is_last(words_.size(), true);
      for (std::size_t i = 0; i < words_.size(); ++i) {
        std::vector<CUgraphNode> before;
        for (const std::size_t word : waited_for_[i]) {
          before.push_back(nodes[word]);
          is_last[word] = false;
        }
        if (before.empty()) {
          nodes.push_back(AddWord(graph, {start}, i, times));
        } else if (!context_.overlaps_branches || before.size() > 1) {
          nodes.push_back(AddWord(graph, before, i, times));
        } else {
          nodes.push_back(AddWord(graph, {}, i, times));
          AddOverlap(graph, before.front(), nodes.back());
        }
      }
      std::vector<CUgraphNode> last;
      for (std::size_t i = 0; i < nodes.size(); ++i) {
        if (is_last[i]) last.push_back(nodes[i]);
      }
      end_.AddTo(graph, last);
    });
  }

  // Whether a word of a chain may begin while the one before it ends.
  bool Overlaps(std::size_t index) const { return order_ == WordOrder::kChain && index > 0; }

  // With a table of times, one for each entry of the block map, its blocks note theirs there.
  WordLaunch LaunchOf(std::size_t index, const CudaTable* times) const {
    const SlotTable::Word& word = table_.words()[index];
    WordLaunch launch = {};
    launch.rows = reinterpret_cast<const SlotRow*>(rows_.address() + word.first_row * sizeof(SlotRow));
    launch.block_slot = reinterpret_cast<const unsigned*>(map_.address() + word.first_map * sizeof(unsigned));
    launch.eager = order_ == WordOrder::kChain;
    if (times) launch.times = reinterpret_cast<BlockTime*>(times->address() + word.first_map * sizeof(BlockTime));
    return launch;
  }

  CUgraphNode AddWord(CUgraph graph, const std::vector<CUgraphNode>& before, std::size_t index, const CudaTable* times) {
    WordLaunch launch = LaunchOf(index, times);  // copied into the node
    void* parameters[] = {&launch};
    CUDA_KERNEL_NODE_PARAMS kernel = {};
    kernel.func = words_[index].function;
    kernel.gridDimX = words_[index].grid;
    kernel.gridDimY = kernel.gridDimZ = 1;
    kernel.blockDimX = words_[index].threads;
    kernel.blockDimY = kernel.blockDimZ = 1;
    kernel.sharedMemBytes = words_[index].shared_bytes;
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

  // An edge of programmatic dependent launch: the word may begin once all blocks of the word before it have begun (and said so:
  // let_next_word_begin), and waits for its end by itself, as words of a chain do. No attribute of the node has to say so, too. Every
  // block of every word, idle ones as well, waits before it ends. So a word's end is behind that of the word it waits for, that behind
  // the one before, and so on: an edge to the last word of its tenants orders a word behind all of their words. A word that waits for
  // several has full edges: it might begin before all of them have places, and wait in the place that one of them needs.
  void AddOverlap(CUgraph graph, CUgraphNode before, CUgraphNode node) {
    CUgraphEdgeData overlap = {};
    overlap.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
    overlap.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
    context_.Check(context_.cu.GraphAddDependencies(graph, &before, &node, &overlap, 1), "ordering the words of a program");
  }

  CudaContext& context_;
  const WordOrder order_;
  const std::vector<std::vector<std::size_t>> waited_for_;
  SlotTable table_;
  CudaTable rows_;
  CudaTable map_;
  CudaEvent start_;
  CudaEvent end_;
  std::vector<CudaWord> words_;
  std::vector<int> priorities_;  // of branches
  CudaGraph graph_;
  // The graph of TimeWords, and its events: before the first word and behind each.
  CudaGraph marked_;
  std::vector<std::unique_ptr<CudaEvent>> marks_;
  // The graph of TraceTogether, and where its blocks note their times.
  CudaGraph traced_;
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
    context_.WaitForLanes();
    context_.Check(cu_.MemcpyHtoDAsync(address, data, bytes, context_.stream), "writing device memory");
  }

  void Read(void* data, Address address, std::size_t bytes) override {
    context_.CheckUsable();
    if (bytes == 0) return;
    context_.WaitForLanes();
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
