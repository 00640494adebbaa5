// What programs and the issue engine have in common on CUDA: the context, events and streams, tables in device memory,
// loaded code.
#ifndef WIDEWORD_CUDA_PARTS_H
#define WIDEWORD_CUDA_PARTS_H

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/native/backend.h"
#include "runtime/native/cuda_driver.h"
#include "runtime/native/cuda_image.h"

namespace wideword {

// The device's context, current on its thread as long as this lives, and its stream.
class CudaContext {
 public:
  CudaContext(const CudaDriver& opened, int ordinal) : driver(opened), cu(opened.cu) {
    Check(cu.DeviceGet(&device_, ordinal), "getting the CUDA device");
    Check(cu.DeviceGetAttribute(&max_shared_bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device_),
          "asking for the CUDA device's properties");
    Check(cu.DeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device_),
          "asking for the CUDA device's properties");
    int major = 0;
    Check(cu.DeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device_),
          "asking for the CUDA device's properties");
    overlaps_words = major >= 9;
    overlaps_branches = overlaps_words && cu.GraphAddDependencies;
    CUcontext context = nullptr;
    const CUresult made = cu.DevicePrimaryCtxRetain(&context, device_);
    // NVIDIA promises no way back from a fault but a new process. Some drivers make a sound context once the last
    // device of the process is closed, others (580) say the old error here as well.
    if (CudaDriver::IsFatal(made)) {
      throw std::runtime_error("making the CUDA context failed: " + driver.Describe(made) +
                               "; after a fault on the GPU a process has to be started anew to use it");
    }
    Check(made, "making the CUDA context");
    try {
      Check(cu.CtxSetCurrent(context), "entering the CUDA context");
      Check(cu.CtxGetStreamPriorityRange(&least_priority, &greatest_priority), "asking for the CUDA device's priorities");
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
  // For what lanes have begun, which the stream knows nothing of.
  void WaitForLanes() {
    for (CUstream lane : lanes) Check(cu.StreamSynchronize(lane), "waiting for the CUDA device");
  }

  const CudaDriver& driver;
  const CudaFunctions& cu;
  CUstream stream = nullptr;
  std::vector<CUstream> lanes;  // streams of cohorts (cuda_lanes.h)
  bool overlaps_words = false;  // has programmatic dependent launch
  bool overlaps_branches = false;  // and a driver that takes it between any two kernels of a graph
  // Smaller numbers are greater priorities; both are 0 if there are none.
  int least_priority = 0;
  int greatest_priority = 0;
  // The priority for an urgency from 0 to 1, each as wide a range of urgencies as the others.
  int PriorityOf(double urgency) const {
    const int levels = least_priority - greatest_priority + 1;
    return least_priority - std::min(levels - 1, static_cast<int>(urgency * levels));
  }
  // The most shared memory that a block can ask for, in bytes.
  int max_shared_bytes = 0;
  int multiprocessors = 1;

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
  // Its first bytes, in the order of another stream.
  void Upload(const void* data, std::size_t bytes, CUstream stream) {
    context_.Check(context_.cu.MemcpyHtoDAsync(address_, data, bytes, stream), "writing a slot table");
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
  // One that nobody asks for times is recorded in a fifth of the time (0.17 of 0.85 us, H100).
  enum class Kind { kTimed, kUntimed };
  explicit CudaEvent(CudaContext& context, Kind kind = Kind::kTimed) : context_(context) {
    const unsigned flags = kind == Kind::kTimed ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING;
    context_.Check(context_.cu.EventCreate(&event_, flags), "making a CUDA event");
  }
  ~CudaEvent() { context_.cu.EventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  // While capturing: a node that records the event each time the graph runs.
  void Capture() {
    context_.Check(context_.cu.EventRecordWithFlags(event_, context_.stream, CU_EVENT_RECORD_EXTERNAL),
                   "capturing a CUDA event");
  }
  // The same in a graph that is built, once these nodes have ended.
  CUgraphNode AddTo(CUgraph graph, const std::vector<CUgraphNode>& waited_for) {
    CUgraphNode node = nullptr;
    context_.Check(context_.cu.GraphAddEventRecordNode(&node, graph, waited_for.data(), waited_for.size(), event_),
                   "adding a CUDA event to a program");
    return node;
  }
  // Whether all that was in the stream before it has ended.
  bool HasPassed() const {
    const CUresult result = context_.cu.EventQuery(event_);
    if (result == CUDA_ERROR_NOT_READY) return false;
    context_.Check(result, "looking at a CUDA event");
    return true;
  }
  void Record(CUstream stream) {
    context_.Check(context_.cu.EventRecordWithFlags(event_, stream, CU_EVENT_RECORD_DEFAULT), "recording a CUDA event");
  }
  // What is put into the stream from now on waits for what was there when the event was recorded.
  void HoldUp(CUstream stream) {
    context_.Check(context_.cu.StreamWaitEvent(stream, event_, CU_EVENT_WAIT_DEFAULT), "joining CUDA streams");
  }
  // Since another event; both are timed and have come to pass.
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
  explicit CudaSideStream(CudaContext& context) : end(context, CudaEvent::Kind::kUntimed), context_(context) {
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
  unsigned blocks_at_once(unsigned threads, unsigned shared_bytes) const override {
    int each = 0;
    context_.Check(context_.cu.OccupancyMaxActiveBlocksPerMultiprocessor(&each, function, static_cast<int>(threads), shared_bytes),
                   "asking how many blocks run at once");
    return static_cast<unsigned>(std::max(1, each) * context_.multiprocessors);
  }

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

}  // namespace wideword

#endif
