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

// Memory of our own: slot rows and block maps.
class CudaTable {
 public:
  CudaTable(CudaContext& context, std::size_t bytes) : context_(context), bytes_(bytes) {
    context_.Check(context_.cu.MemAlloc(&address_, bytes), "allocating a slot table");
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
  CUevent event() const { return event_; }

 private:
  CudaContext& context_;
  CUevent event_ = nullptr;
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

  CUfunction function = nullptr;

 private:
  CudaContext& context_;
  CUmodule module_ = nullptr;
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
      if (word.shared_bytes == 0) continue;
      // More than any code may have unasked.
      context_.Check(context_.cu.FuncSetAttribute(functions_.back(), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                  static_cast<int>(word.shared_bytes)),
                     "asking for shared memory");
    }
  }

  ~CudaProgram() override {
    if (executable_) context_.cu.GraphExecDestroy(executable_);
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
    if (!executable_) Capture();
    context_.Check(context_.cu.GraphLaunch(executable_, context_.stream), "launching a program");
  }

  double Milliseconds() override {
    float milliseconds = 0;
    context_.Check(context_.cu.EventElapsedTime(&milliseconds, start_.event(), end_.event()), "timing a program");
    return milliseconds;
  }

 private:
  void Capture() {
    const CudaFunctions& cu = context_.cu;
    context_.Check(cu.StreamBeginCapture(context_.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "starting a capture");
    CUgraph graph = nullptr;
    try {
      start_.Capture();
      for (std::size_t i = 0; i < functions_.size(); ++i) CaptureWord(i);
      end_.Capture();
    } catch (...) {
      // A stream left capturing would refuse everything else.
      if (cu.StreamEndCapture(context_.stream, &graph) == CUDA_SUCCESS && graph) cu.GraphDestroy(graph);
      throw;
    }
    context_.Check(cu.StreamEndCapture(context_.stream, &graph), "capturing a program");
    const CUresult result = cu.GraphInstantiate(&executable_, graph, 0);
    cu.GraphDestroy(graph);
    if (result != CUDA_SUCCESS) executable_ = nullptr;
    context_.Check(result, "instantiating a program");
  }

  void CaptureWord(std::size_t index) {
    const SlotTable::Word& word = table_.words()[index];
    CUdeviceptr rows = rows_.address() + word.first_row * sizeof(SlotRow);
    CUdeviceptr map = map_.address() + word.first_map * sizeof(unsigned);
    void* parameters[] = {&rows, &map};
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

 private:
  CudaContext context_;
  const CudaFunctions& cu_;
  DeviceInfo info_;
};

}  // namespace

std::unique_ptr<Backend> MakeCudaBackend(const CudaDriver& driver, int ordinal) {
  return std::make_unique<CudaBackend>(driver, ordinal);
}

}  // namespace wideword
