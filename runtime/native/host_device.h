// The host device: the same programs on the processor's threads.
#ifndef WIDEWORD_HOST_DEVICE_H
#define WIDEWORD_HOST_DEVICE_H

#include <memory>

#include "runtime/native/backend.h"

namespace wideword {

std::unique_ptr<Backend> MakeHostBackend(unsigned threads);

}  // namespace wideword

#endif
