// A traced round as JavaScript gets it: NativeTrace of runtime/native.ts.
#ifndef WIDEWORD_TRACE_RESULT_H
#define WIDEWORD_TRACE_RESULT_H

#include <node_api.h>

#include "runtime/native/block_times.h"

namespace wideword {

// Null if the environment refuses a call: it is ending, or out of memory.
napi_value MakeTraceResult(napi_env env, const TracedRound& round);

}  // namespace wideword

#endif
