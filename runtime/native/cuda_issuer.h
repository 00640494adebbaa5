// Words one by one on a CUDA device, for the issue engine.
#ifndef WIDEWORD_CUDA_ISSUER_H
#define WIDEWORD_CUDA_ISSUER_H

#include <memory>

#include "runtime/native/cuda_parts.h"

namespace wideword {

// Words go into the context's stream, as programs do.
std::unique_ptr<Issuer> MakeCudaIssuer(CudaContext& context, unsigned marks);

}  // namespace wideword

#endif
