// The CUDA driver, opened at run time.
#ifndef WIDEWORD_CUDA_DRIVER_H
#define WIDEWORD_CUDA_DRIVER_H

#include <string>
#include <vector>

#include "runtime/native/cuda_api.h"

namespace wideword {

struct CudaFunctions {
#define ENTRY(NAME, SYMBOL, PARAMETERS) CUresult(*NAME) PARAMETERS = nullptr;
  WIDEWORD_CUDA_FUNCTIONS(ENTRY)
  WIDEWORD_CUDA_OPTIONAL_FUNCTIONS(ENTRY)
#undef ENTRY
};

struct CudaDeviceInfo {
  int ordinal = 0;
  std::string name;
  std::string target;  // such as sm_90
  int multiprocessors = 0;
  std::size_t bytes = 0;
};

class CudaDriver {
 public:
  // The driver, opened and initialised by the first call that finds it and kept for the process. Throws in one line why
  // there is none. $WIDEWORD_LIBCUDA names another library than libcuda.so.1 (tests). JavaScript thread only, as it
  // reads the environment.
  static const CudaDriver& Get();

  // Throws what was being done, with the error's name and text, if the result is one.
  void Check(CUresult result, const char* doing) const;
  std::string Describe(CUresult result) const;
  // Whether the error leaves the context unusable, so that each later call fails too.
  static bool IsFatal(CUresult result);

  std::string Version() const;
  int DeviceCount() const;
  CudaDeviceInfo Info(int ordinal) const;

  CudaFunctions cu;

 private:
  explicit CudaDriver(const char* library);
};

}  // namespace wideword

#endif
