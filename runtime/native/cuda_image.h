// Whether bytes can be given to the driver as code. It takes a bare address and trusts what stands there, so bytes cut
// short would make it read past their end.
#ifndef WIDEWORD_CUDA_IMAGE_H
#define WIDEWORD_CUDA_IMAGE_H

#include <string>

namespace wideword {

// Throws if the image is neither a whole cubin nor PTX.
void CheckCudaImage(const std::string& image);

}  // namespace wideword

#endif
