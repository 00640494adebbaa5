// The part of the CUDA driver API and of NVRTC that Wideword uses, declared here because no CUDA toolkit is needed to
// build it. Types and values are those of cuda.h and nvrtc.h, which NVIDIA keeps stable across versions.
#ifndef WIDEWORD_CUDA_API_H
#define WIDEWORD_CUDA_API_H

#include <cstddef>

namespace wideword {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphNode = struct CUgraphNode_st*;
using CUgraphExec = struct CUgraphExec_st*;
using CUkernel = struct CUkern_st*;

constexpr CUresult CUDA_SUCCESS = 0;
constexpr CUresult CUDA_ERROR_NOT_READY = 600;
constexpr int CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16;
constexpr int CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75;
constexpr int CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76;
constexpr int CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97;
constexpr int CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0;
constexpr int CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1;
constexpr int CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
constexpr unsigned CU_STREAM_NON_BLOCKING = 1;
constexpr int CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1;
constexpr unsigned CU_EVENT_DEFAULT = 0, CU_EVENT_DISABLE_TIMING = 2;
constexpr unsigned CU_EVENT_RECORD_DEFAULT = 0;
constexpr unsigned CU_EVENT_RECORD_EXTERNAL = 1;
constexpr unsigned CU_EVENT_WAIT_DEFAULT = 0;

constexpr unsigned long long CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY = 8;

constexpr int CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6;
constexpr int CU_LAUNCH_ATTRIBUTE_PRIORITY = 8;
constexpr unsigned char CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC = 1;
constexpr unsigned char CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC = 1;

union CUlaunchAttributeValue {
  char room[64];
  int programmaticStreamSerializationAllowed;
  int priority;
};
struct CUlaunchAttribute {
  int id;
  int padding;
  CUlaunchAttributeValue value;
};
static_assert(sizeof(CUlaunchAttribute) == 72);

struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute* attrs;
  unsigned numAttrs;
};
static_assert(sizeof(CUlaunchConfig) == 56 && offsetof(CUlaunchConfig, attrs) == 40);

struct CUDA_KERNEL_NODE_PARAMS {  // version 2
  CUfunction func;
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  void** kernelParams;
  void** extra;
  CUkernel kern;  // null, as there is a func
  CUcontext ctx;
};
static_assert(sizeof(CUDA_KERNEL_NODE_PARAMS) == 72 && offsetof(CUDA_KERNEL_NODE_PARAMS, kernelParams) == 40);

struct CUgraphEdgeData {  // all zero: the node begins when the one before it has ended
  unsigned char from_port, to_port, type, reserved[5];
};
static_assert(sizeof(CUgraphEdgeData) == 8);

// Entry points of the driver. A member is called as cu.MemAlloc(...); the table's second column is the symbol that the
// member is found under, which carries a version where NVIDIA changed the signature.
#define WIDEWORD_CUDA_FUNCTIONS(ENTRY)                                                                           \
  ENTRY(Init, "cuInit", (unsigned flags))                                                                        \
  ENTRY(DriverGetVersion, "cuDriverGetVersion", (int* version))                                                  \
  ENTRY(GetErrorName, "cuGetErrorName", (CUresult error, const char** text))                                     \
  ENTRY(GetErrorString, "cuGetErrorString", (CUresult error, const char** text))                                 \
  ENTRY(DeviceGetCount, "cuDeviceGetCount", (int* count))                                                        \
  ENTRY(DeviceGet, "cuDeviceGet", (CUdevice * device, int ordinal))                                              \
  ENTRY(DeviceGetName, "cuDeviceGetName", (char* name, int length, CUdevice device))                             \
  ENTRY(DeviceGetAttribute, "cuDeviceGetAttribute", (int* value, int attribute, CUdevice device))                \
  ENTRY(DeviceTotalMem, "cuDeviceTotalMem_v2", (std::size_t * bytes, CUdevice device))                           \
  ENTRY(DevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))              \
  ENTRY(DevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))                              \
  ENTRY(CtxSetCurrent, "cuCtxSetCurrent", (CUcontext context))                                                   \
  ENTRY(CtxGetStreamPriorityRange, "cuCtxGetStreamPriorityRange", (int* least, int* greatest))                   \
  ENTRY(MemAlloc, "cuMemAlloc_v2", (CUdeviceptr * address, std::size_t bytes))                                   \
  ENTRY(MemFree, "cuMemFree_v2", (CUdeviceptr address))                                                          \
  ENTRY(MemHostAlloc, "cuMemHostAlloc", (void** data, std::size_t bytes, unsigned flags))                        \
  ENTRY(MemFreeHost, "cuMemFreeHost", (void* data))                                                              \
  ENTRY(MemsetD8Async, "cuMemsetD8Async",                                                                        \
        (CUdeviceptr address, unsigned char value, std::size_t bytes, CUstream stream))                          \
  ENTRY(MemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                                                 \
        (CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream))                                  \
  ENTRY(MemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                                                 \
        (void* to, CUdeviceptr from, std::size_t bytes, CUstream stream))                                        \
  ENTRY(StreamCreate, "cuStreamCreate", (CUstream * stream, unsigned flags))                                     \
  ENTRY(StreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                                  \
  ENTRY(StreamSynchronize, "cuStreamSynchronize", (CUstream stream))                                             \
  ENTRY(StreamWaitEvent, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned flags))                  \
  ENTRY(StreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream stream, int mode))                              \
  ENTRY(StreamEndCapture, "cuStreamEndCapture", (CUstream stream, CUgraph * graph))                              \
  ENTRY(GraphCreate, "cuGraphCreate", (CUgraph * graph, unsigned flags))                                         \
  ENTRY(GraphAddKernelNode, "cuGraphAddKernelNode_v2",                                                           \
        (CUgraphNode * node, CUgraph graph, const CUgraphNode* waited_for, std::size_t count,                    \
         const CUDA_KERNEL_NODE_PARAMS* parameters))                                                             \
  ENTRY(GraphKernelNodeSetAttribute, "cuGraphKernelNodeSetAttribute",                                            \
        (CUgraphNode node, int attribute, const CUlaunchAttributeValue* value))                                  \
  ENTRY(GraphAddEventRecordNode, "cuGraphAddEventRecordNode",                                                    \
        (CUgraphNode * node, CUgraph graph, const CUgraphNode* waited_for, std::size_t count, CUevent event))    \
  ENTRY(GraphInstantiate, "cuGraphInstantiateWithFlags",                                                         \
        (CUgraphExec * executable, CUgraph graph, unsigned long long flags))                                     \
  ENTRY(GraphUpload, "cuGraphUpload", (CUgraphExec executable, CUstream stream))                                 \
  ENTRY(GraphLaunch, "cuGraphLaunch", (CUgraphExec executable, CUstream stream))                                 \
  ENTRY(GraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec executable))                                        \
  ENTRY(GraphDestroy, "cuGraphDestroy", (CUgraph graph))                                                         \
  ENTRY(EventCreate, "cuEventCreate", (CUevent * event, unsigned flags))                                         \
  ENTRY(EventDestroy, "cuEventDestroy_v2", (CUevent event))                                                      \
  ENTRY(EventQuery, "cuEventQuery", (CUevent event))                                                             \
  ENTRY(EventRecordWithFlags, "cuEventRecordWithFlags", (CUevent event, CUstream stream, unsigned flags))        \
  ENTRY(EventElapsedTime, "cuEventElapsedTime", (float* milliseconds, CUevent start, CUevent end))               \
  ENTRY(ModuleLoadData, "cuModuleLoadData", (CUmodule * module, const void* image))                              \
  ENTRY(ModuleUnload, "cuModuleUnload", (CUmodule module))                                                       \
  ENTRY(ModuleGetFunction, "cuModuleGetFunction", (CUfunction * function, CUmodule module, const char* name))    \
  ENTRY(FuncGetAttribute, "cuFuncGetAttribute", (int* value, int attribute, CUfunction function))                \
  ENTRY(FuncSetAttribute, "cuFuncSetAttribute", (CUfunction function, int attribute, int value))                 \
  ENTRY(OccupancyMaxActiveBlocksPerMultiprocessor, "cuOccupancyMaxActiveBlocksPerMultiprocessor",                \
        (int* blocks, CUfunction function, int threads, std::size_t shared_bytes))                               \
  ENTRY(LaunchKernel, "cuLaunchKernel",                                                                          \
        (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,               \
         unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters,          \
         void** extra))                                                                                          \
  ENTRY(LaunchKernelEx, "cuLaunchKernelEx",                                                                      \
        (const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra))

// The same of entry points that older drivers lack; the member is then null.
#define WIDEWORD_CUDA_OPTIONAL_FUNCTIONS(ENTRY)                                                                  \
  /* From CUDA 12.3 on. The name without a version is another function in libcuda, without edge data. */        \
  ENTRY(GraphAddDependencies, "cuGraphAddDependencies_v2",                                                       \
        (CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, const CUgraphEdgeData* edges,            \
         std::size_t count))

using nvrtcResult = int;
using nvrtcProgram = struct _nvrtcProgram*;

constexpr nvrtcResult NVRTC_SUCCESS = 0;
constexpr nvrtcResult NVRTC_ERROR_COMPILATION = 6;

}  // namespace wideword

#endif
