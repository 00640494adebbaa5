// Lanes on a CUDA device: a stream each, and a graph for each chain.
#ifndef WIDEWORD_CUDA_LANES_H
#define WIDEWORD_CUDA_LANES_H

#include <functional>
#include <memory>
#include <vector>

#include "runtime/native/cuda_parts.h"

namespace wideword {

// `stage` gives page-locked memory that outlives the lanes.
std::vector<std::unique_ptr<Lane>> MakeCudaLanes(CudaContext& context, const std::vector<CohortChain>& chains, unsigned count,
                                                 const std::function<std::uint8_t*(std::size_t)>& stage);

}  // namespace wideword

#endif
