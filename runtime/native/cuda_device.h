// A CUDA device: one context, one stream, one captured graph a program.
#ifndef WIDEWORD_CUDA_DEVICE_H
#define WIDEWORD_CUDA_DEVICE_H

#include <memory>

#include "runtime/native/backend.h"
#include "runtime/native/cuda_driver.h"

namespace wideword {

std::unique_ptr<Backend> MakeCudaBackend(const CudaDriver& driver, int ordinal);

}  // namespace wideword

#endif
