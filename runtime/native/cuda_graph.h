// Words in graphs on CUDA: how they are captured and launched, for programs and for lanes.
#ifndef WIDEWORD_CUDA_GRAPH_H
#define WIDEWORD_CUDA_GRAPH_H

#include "runtime/native/cuda_parts.h"

namespace wideword {

// A word but for what its blocks are launched with.
struct CudaWord {
  CUfunction function = nullptr;
  unsigned threads = 1;
  unsigned shared_bytes = 0;
  unsigned grid = 1;
};

// Puts a word into the context's stream, which is being captured. If it follows another word it may begin while that one ends, where the
// GPU can: the emitted code waits for it by itself (await_word_before in codegen/prelude/cuda.h).
inline void CaptureWord(CudaContext& context, const CudaWord& word, WordLaunch launch, bool follows) {
  void* parameters[] = {&launch};
  CUlaunchAttribute overlap = {};
  overlap.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  overlap.value.programmaticStreamSerializationAllowed = 1;
  CUlaunchConfig config = {};
  config.gridDimX = word.grid;
  config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = word.threads;
  config.blockDimY = config.blockDimZ = 1;
  config.sharedMemBytes = word.shared_bytes;
  config.hStream = context.stream;
  config.attrs = &overlap;
  config.numAttrs = follows && context.overlaps_words ? 1 : 0;
  context.Check(context.cu.LaunchKernelEx(&config, word.function, parameters, nullptr), "capturing a word");
}

// A graph that can be launched once it has been made, by capture or node by node.
class CudaGraph {
 public:
  explicit CudaGraph(CudaContext& context) : context_(context) {}
  ~CudaGraph() {
    if (executable_) context_.cu.GraphExecDestroy(executable_);
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  bool is_made() const { return executable_ != nullptr; }

  // Of what `nodes` puts into the context's stream.
  template <class Nodes>
  void Capture(Nodes nodes) {
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
    Instantiate(graph, 0);
  }

  // Of what `nodes` adds to the graph that it is given.
  template <class Nodes>
  void Build(Nodes nodes) {
    CUgraph graph = nullptr;
    context_.Check(context_.cu.GraphCreate(&graph, 0), "making a program's graph");
    try {
      nodes(graph);
    } catch (...) {
      context_.cu.GraphDestroy(graph);
      throw;
    }
    // Without it all nodes have the priority of the stream that the graph is launched in.
    Instantiate(graph, CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY);
  }

  // So that the first launch has no more to do than others.
  void Upload(CUstream stream) { context_.Check(context_.cu.GraphUpload(executable_, stream), "uploading a program"); }
  void Launch(CUstream stream) { context_.Check(context_.cu.GraphLaunch(executable_, stream), "launching a program"); }

 private:
  void Instantiate(CUgraph graph, unsigned long long flags) {
    const CUresult result = context_.cu.GraphInstantiate(&executable_, graph, flags);
    context_.cu.GraphDestroy(graph);
    if (result != CUDA_SUCCESS) executable_ = nullptr;
    context_.Check(result, "instantiating a program");
  }

  CudaContext& context_;
  CUgraphExec executable_ = nullptr;
};

}  // namespace wideword

#endif
