#include "runtime/native/cuda_driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <stdexcept>

namespace wideword {

namespace {

template <class Function>
void FindOptional(void* library, const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, symbol));
}

template <class Function>
void Find(void* library, const char* symbol, Function& function) {
  FindOptional(library, symbol, function);
  if (!function) throw std::runtime_error(std::string("the CUDA driver is too old: it lacks ") + symbol);
}

}  // namespace

CudaDriver::CudaDriver(const char* library) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(std::string("no CUDA driver: ") + dlerror());
  try {
#define ENTRY(NAME, SYMBOL, PARAMETERS) Find(handle, SYMBOL, cu.NAME);
    WIDEWORD_CUDA_FUNCTIONS(ENTRY)
#undef ENTRY
#define ENTRY(NAME, SYMBOL, PARAMETERS) FindOptional(handle, SYMBOL, cu.NAME);
    WIDEWORD_CUDA_OPTIONAL_FUNCTIONS(ENTRY)
#undef ENTRY
    Check(cu.Init(0), "initialising the CUDA driver");
  } catch (...) {
    dlclose(handle);
    throw;
  }
}

const CudaDriver& CudaDriver::Get() {
  static std::mutex mutex;
  static const CudaDriver* driver = nullptr;  // never deleted: device threads may outlive static destruction
  std::lock_guard<std::mutex> lock(mutex);
  if (!driver) {
    const char* other = std::getenv("WIDEWORD_LIBCUDA");
    driver = new CudaDriver(other && *other ? other : "libcuda.so.1");
  }
  return *driver;
}

std::string CudaDriver::Describe(CUresult result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cu.GetErrorName(result, &name) != CUDA_SUCCESS || !name) return "CUDA error " + std::to_string(result);
  std::string description = name;
  if (cu.GetErrorString(result, &text) == CUDA_SUCCESS && text) description += std::string(" (") + text + ")";
  return description;
}

void CudaDriver::Check(CUresult result, const char* doing) const {
  if (result != CUDA_SUCCESS) throw std::runtime_error(std::string(doing) + " failed: " + Describe(result));
}

bool CudaDriver::IsFatal(CUresult result) {
  switch (result) {
    case 214:  // ECC_UNCORRECTABLE
    case 220:  // NVLINK_UNCORRECTABLE
    case 226:  // CONTAINED
    case 700:  // ILLEGAL_ADDRESS
    case 702:  // LAUNCH_TIMEOUT
    case 709:  // CONTEXT_IS_DESTROYED
    case 710:  // ASSERT
    case 714:  // HARDWARE_STACK_ERROR
    case 715:  // ILLEGAL_INSTRUCTION
    case 716:  // MISALIGNED_ADDRESS
    case 717:  // INVALID_ADDRESS_SPACE
    case 718:  // INVALID_PC
    case 719:  // LAUNCH_FAILED
    case 721:  // TENSOR_MEMORY_LEAK
    case 999:  // UNKNOWN
      return true;
    default:
      return false;
  }
}

std::string CudaDriver::Version() const {
  int version = 0;
  Check(cu.DriverGetVersion(&version), "asking for the CUDA driver's version");
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int CudaDriver::DeviceCount() const {
  int count = 0;
  Check(cu.DeviceGetCount(&count), "counting the CUDA devices");
  return count;
}

CudaDeviceInfo CudaDriver::Info(int ordinal) const {
  CudaDeviceInfo info;
  info.ordinal = ordinal;
  CUdevice device = 0;
  Check(cu.DeviceGet(&device, ordinal), "getting the CUDA device");
  char name[256] = {};
  Check(cu.DeviceGetName(name, sizeof name - 1, device), "asking for the CUDA device's name");
  info.name = name;
  int major = 0;
  int minor = 0;
  const char* doing = "asking for the CUDA device's properties";
  Check(cu.DeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device), doing);
  Check(cu.DeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device), doing);
  info.target = "sm_" + std::to_string(major) + std::to_string(minor);
  Check(cu.DeviceGetAttribute(&info.multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device), doing);
  Check(cu.DeviceTotalMem(&info.bytes, device), doing);
  return info;
}

}  // namespace wideword
