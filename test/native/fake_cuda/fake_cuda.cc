// A libcuda for machines without a GPU: device memory is host memory, and a "kernel" is a command that modules name.
// It is strict where the real driver is lenient: a bad handle, a write past an allocation, a call from a thread without
// the context, work on a capturing stream, a launch that does not wait for a copy in another stream (or a copy for a
// launch), a node of a graph that touches what another one writes without an edge between them, or anything still alive when
// the context goes is recorded as a complaint. Kernels wait for the words before them as emitted ones do, all but one ("hasty").
// The addon opens it through WIDEWORD_LIBCUDA. Environment: FAKE_CUDA_FAIL=<function>:<n>:<error> makes that function's
// n-th call (from 1) fail; FAKE_CUDA_ASKS=<n>,<n>,... makes the events that are recorded from then on (in a stream, not in a graph) say so
// often that there is more to do, rather than once; FAKE_CUDA_KEEP_FAULT=1 keeps a kernel's fault for the rest of the process, as driver
// 580 does, rather than until the context goes; FAKE_CUDA_MAJOR=<n> is the GPU's compute capability (9); FAKE_CUDA_LOG=<file> receives the
// complaints, the edges of graphs that are built (~ before one of programmatic dependent launch) and the priorities of their kernels if any
// has one, and the counts when the context goes. Built with FAKE_CUDA_OLD it has none of the entry points that a driver may lack.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <initializer_list>
#include <map>

#include "codegen/prelude/host.h"
#include "codegen/prelude/slot.h"
#include "codegen/prelude/share.h"
#include "runtime/native/cuda_api.h"

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NO_BINARY = 209, INVALID_HANDLE = 400,
       NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900 };
enum { kMost = 4096, kBytes = 1 << 30, kStreams = 64, kNodes = 64 };
// Bytes of shared memory: what a function declares, what a block has unasked, and what it can ask for.
enum { kLeastPriority = 0, kGreatestPriority = -5 };
enum { kOwnShared = 1024, kPlainShared = 48 << 10, kMaxShared = 227 << 10 };

using Address = unsigned long long;
using wideword::CUDA_KERNEL_NODE_PARAMS;
using wideword::CUgraphEdgeData;
using wideword::CUlaunchAttributeValue;
enum Kind { FREE, MEMORY, PINNED, STREAM, EVENT, MODULE, FUNCTION, GRAPH, EXECUTABLE };
struct Object;

struct Node {
  unsigned grid, threads;
  int entry;  // 0: event, 1: add, 2: fault, 3: nothing, 4: hasty (adds, but waits for no word before it)
  WordLaunch launch;
  int priority;
  Object* event;
  // The nodes it has edges to, those of programmatic dependent launch among them, and all that have ended when it begins to use
  // memory; a bit each.
  unsigned long long edges, overlaps, before;
};

struct Object {
  Kind kind;
  char* memory;        // MEMORY
  size_t bytes;
  int entry;           // FUNCTION
  int dynamic_shared;
  Node nodes[kNodes];  // GRAPH, EXECUTABLE, capturing STREAM
  int node_count;
  int capturing;
  int is_built;        // GRAPH: node by node
  int recorded, asks;  // EVENT; how often it has still to say that there is more to do
  int takes_no_times;  // EVENT
  int stream;          // STREAM: its number; EVENT: that of the stream it was recorded in
  unsigned long seen[kStreams];  // STREAM, EVENT: how much of each stream's work comes before what comes next
  Object* owner;  // FUNCTION: its module
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Object* objects[kMost];
static int retained, made[9], ended[9], launches, contexts, fault, complaints;
static size_t in_use;
static __thread int current;
// Of each stream, how much work was put into it and how much of that has been waited for; and the last copy. Of this thread:
// each device has one, and what others do is no concern of it.
static __thread unsigned long put[kStreams], done[kStreams], copied;
static __thread int copied_in;

static void complain(const char* text) {
  const char* path = getenv("FAKE_CUDA_LOG");
  ++complaints;
  if (!path) return;
  FILE* file = fopen(path, "a");
  if (!file) return;
  fprintf(file, "complaint: %s\n", text);
  fclose(file);
}

// Whether this call is to fail, by the environment.
static int scheduled(const char* name) {
  static struct { char name[64]; int calls; } counts[64];
  static char last[128];
  const char* plan = getenv("FAKE_CUDA_FAIL");
  if (!plan) return 0;
  if (strcmp(plan, last) != 0) {  // counting starts with each new plan
    snprintf(last, sizeof last, "%s", plan);
    memset(counts, 0, sizeof counts);
  }
  char wanted[64];
  int at = 0, error = 0;
  if (sscanf(plan, "%63[^:]:%d:%d", wanted, &at, &error) != 3 || strcmp(wanted, name) != 0) return 0;
  for (int i = 0; i < 64; ++i) {
    if (counts[i].name[0] == 0) strcpy(counts[i].name, name);
    if (strcmp(counts[i].name, name) == 0) return ++counts[i].calls == at ? error : 0;
  }
  return 0;
}

#define API(NAME, ...)                                       \
  extern "C" __attribute__((visibility("default"))) int NAME(__VA_ARGS__)
#define BEGIN(NAME)                                          \
  int planned = scheduled(NAME);                             \
  if (planned) {                                             \
    if (planned >= 700 && planned < 720 && retained) fault = planned;          \
    return planned;                                          \
  }
#define NEEDS_CONTEXT(NAME)                                  \
  BEGIN(NAME)                                                \
  if (!current) {                                            \
    complain(NAME " without a context");                     \
    return INVALID_CONTEXT;                                  \
  }                                                          \
  if (fault) return fault;

static Object* make(Kind kind) {
  pthread_mutex_lock(&lock);
  Object* object = NULL;
  for (int i = 0; i < kMost && !object; ++i) {
    if (!objects[i]) objects[i] = object = static_cast<Object*>(calloc(1, sizeof(Object)));
  }
  if (object) {
    object->kind = kind;
    ++made[kind];
  }
  pthread_mutex_unlock(&lock);
  return object;
}

static int known(const Object* object, Kind kind) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost; ++i) found |= object && objects[i] == object && object->kind == kind;
  pthread_mutex_unlock(&lock);
  if (!found) complain("a bad handle");
  return found;
}

static int finish(Object* object, Kind kind) {
  if (!known(object, kind)) return INVALID_HANDLE;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost; ++i) {
    if (objects[i] == object) objects[i] = NULL;
  }
  ++ended[kind];
  pthread_mutex_unlock(&lock);
  free(object);
  return SUCCESS;
}

// The allocation that holds all these bytes.
static Object* holder(Address address, size_t bytes) {
  Object* found = NULL;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost && !found; ++i) {
    Object* object = objects[i];
    if (!object || object->kind != MEMORY) continue;
    Address start = (Address)object->memory;
    if (address >= start && address - start <= object->bytes && object->bytes - (address - start) >= bytes) found = object;
  }
  pthread_mutex_unlock(&lock);
  if (!found) complain("memory outside of allocations");
  return found;
}

// Everything is done at once, so order is kept by counting: whether the next work of `stream` comes after work `count` of stream `other`.
static int after(const Object* stream, int other, unsigned long count) {
  return stream->seen[other] >= count || done[other] >= count;
}
static void work(Object* stream) { stream->seen[stream->stream] = ++put[stream->stream]; }
static void copy(Object* stream) {
  for (int i = 0; i < kStreams; ++i) {
    if (!after(stream, i, put[i]) && !fault) complain("a copy that does not wait for another stream");
  }
  work(stream);
  copied = put[stream->stream];
  copied_in = stream->stream;
}
// Page-locked memory: who copies from or to it sees to the order of streams.
static int pinned(const void* data, size_t bytes) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost && !found; ++i) {
    const Object* object = objects[i];
    found = object && object->kind == PINNED && (const char*)data >= object->memory &&
            (const char*)data + bytes <= object->memory + object->bytes;
  }
  pthread_mutex_unlock(&lock);
  return found;
}
static void launch(Object* stream) {
  if (!after(stream, copied_in, copied) && !fault) complain("a launch that does not wait for a copy");
  work(stream);
}
static void record(Object* event, const Object* stream) {
  event->recorded = 1;
  event->asks = 1;
  event->stream = stream->stream;
  memcpy(event->seen, stream->seen, sizeof event->seen);
}

// By the environment, how often the next event says that there is more to do; -1 if that is not said.
static int plannedAsks() {
  static char last[256];
  static const char* at = NULL;
  const char* plan = getenv("FAKE_CUDA_ASKS");
  if (!plan) return -1;
  if (strcmp(plan, last) != 0) {  // each new plan begins at its start
    snprintf(last, sizeof last, "%s", plan);
    at = last;
  }
  if (!*at) return -1;
  char* end;
  const int asks = (int)strtol(at, &end, 10);
  at = *end == ',' ? end + 1 : end;
  return asks;
}

API(cuInit, unsigned flags) { BEGIN("cuInit") return flags ? INVALID_VALUE : SUCCESS; }
API(cuDriverGetVersion, int* version) { *version = 13010; return SUCCESS; }
API(cuGetErrorName, int error, const char** text) {
  *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
        : error == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : error == 12345 ? NULL : "CUDA_ERROR_OTHER";
  return *text ? SUCCESS : INVALID_VALUE;
}
API(cuGetErrorString, int error, const char** text) { (void)error; *text = "said by the fake"; return SUCCESS; }
API(cuDeviceGetCount, int* count) { BEGIN("cuDeviceGetCount") *count = 1; return SUCCESS; }
API(cuDeviceGet, int* device, int ordinal) { BEGIN("cuDeviceGet") *device = 7; return ordinal == 0 ? SUCCESS : 101; }
API(cuDeviceGetName, char* name, int length, int device) { (void)device; snprintf(name, length, "Fake GPU"); return SUCCESS; }
API(cuDeviceGetAttribute, int* value, int attribute, int device) {
  (void)device;
  const char* major = getenv("FAKE_CUDA_MAJOR");
  *value = attribute == 16 ? 4 : attribute == 75 ? (major ? atoi(major) : 9) : attribute == 97 ? kMaxShared : 0;
  return SUCCESS;
}
API(cuDeviceTotalMem_v2, size_t* bytes, int device) { (void)device; *bytes = kBytes; return SUCCESS; }
API(cuDevicePrimaryCtxRetain, void** context, int device) {
  BEGIN("cuDevicePrimaryCtxRetain")
  if (device != 7) complain("not our device");
  if (fault) return fault;
  ++retained;
  ++contexts;
  *context = &retained;
  return SUCCESS;
}
API(cuDevicePrimaryCtxRelease_v2, int device) {
  if (device != 7 || retained <= 0) complain("a release without a retain");
  if (--retained > 0) return SUCCESS;
  if (!getenv("FAKE_CUDA_KEEP_FAULT")) fault = 0;
  memcpy(done, put, sizeof done);
  for (int i = MEMORY; i <= EXECUTABLE; ++i) {
    if (made[i] != ended[i]) complain("something is left when the context goes");
  }
  const char* path = getenv("FAKE_CUDA_LOG");
  FILE* file = path ? fopen(path, "a") : NULL;
  if (file) {
    fprintf(file, "contexts %d, allocations %d, modules %d, graphs %d, launches %d, complaints %d\n", contexts, made[MEMORY],
            made[MODULE], made[EXECUTABLE], launches, complaints);
    fclose(file);
  }
  return SUCCESS;
}
API(cuCtxSetCurrent, void* context) { BEGIN("cuCtxSetCurrent") current = context != NULL; return SUCCESS; }

API(cuCtxGetStreamPriorityRange, int* least, int* greatest) {
  NEEDS_CONTEXT("cuCtxGetStreamPriorityRange")
  *least = kLeastPriority;
  *greatest = kGreatestPriority;
  return SUCCESS;
}

API(cuMemAlloc_v2, Address* address, size_t bytes) {
  NEEDS_CONTEXT("cuMemAlloc")
  if (bytes == 0) return INVALID_VALUE;
  if (bytes > kBytes || in_use + bytes > kBytes) return OUT_OF_MEMORY;
  Object* object = make(MEMORY);
  object->memory = (char*)aligned_alloc(256, (bytes + 255) / 256 * 256);
  object->bytes = bytes;
  in_use += bytes;
  memset(object->memory, 0xab, bytes);  // the real one does not zero either
  *address = (Address)object->memory;
  return SUCCESS;
}
API(cuMemFree_v2, Address address) {
  if (!current) complain("cuMemFree without a context");
  Object* object = holder(address, 1);
  if (!object || (Address)object->memory != address) { complain("a free of no allocation"); return INVALID_VALUE; }
  int zero = 1;
  for (size_t i = 0; i < object->bytes; ++i) zero &= object->memory[i] == 0;
  if (!zero && !fault) complain("freed before it was zeroed");
  in_use -= object->bytes;
  free(object->memory);
  finish(object, MEMORY);
  return fault;
}
static int quiet(Object* stream) {
  if (!known(stream, STREAM)) return INVALID_HANDLE;
  if (!stream->capturing) return SUCCESS;
  complain("work on a capturing stream");
  return CAPTURE_UNSUPPORTED;
}
API(cuMemsetD8Async, Address address, unsigned char value, size_t bytes, Object* stream) {
  NEEDS_CONTEXT("cuMemsetD8Async")
  int error = quiet(stream);
  if (error) return error;
  if (!holder(address, bytes)) return INVALID_VALUE;
  copy(stream);
  memset((void*)address, value, bytes);
  return SUCCESS;
}
API(cuMemcpyHtoDAsync_v2, Address to, const void* from, size_t bytes, Object* stream) {
  NEEDS_CONTEXT("cuMemcpyHtoDAsync")
  int error = quiet(stream);
  if (error) return error;
  if (!holder(to, bytes)) return INVALID_VALUE;
  if (!pinned(from, bytes)) copy(stream);
  memcpy((void*)to, from, bytes);
  return SUCCESS;
}
API(cuMemcpyDtoHAsync_v2, void* to, Address from, size_t bytes, Object* stream) {
  NEEDS_CONTEXT("cuMemcpyDtoHAsync")
  int error = quiet(stream);
  if (error) return error;
  if (!holder(from, bytes)) return INVALID_VALUE;
  if (!pinned(to, bytes)) copy(stream);
  memcpy(to, (void*)from, bytes);
  return SUCCESS;
}
API(cuMemHostAlloc, void** data, size_t bytes, unsigned flags) {
  NEEDS_CONTEXT("cuMemHostAlloc")
  if (flags || bytes == 0) return INVALID_VALUE;
  Object* object = make(PINNED);
  object->memory = (char*)malloc(bytes);
  object->bytes = bytes;
  *data = object->memory;
  return SUCCESS;
}
API(cuMemFreeHost, void* data) {
  Object* found = NULL;
  for (int i = 0; i < kMost; ++i) {
    if (objects[i] && objects[i]->kind == PINNED && objects[i]->memory == data) found = objects[i];
  }
  if (!found) return INVALID_VALUE;
  for (size_t i = 0; i < found->bytes; ++i) {
    if (found->memory[i]) complain("page-locked memory that was not cleared");
  }
  free(data);
  return finish(found, PINNED);
}
// Says once that there is more to do.
API(cuEventQuery, Object* event) {
  NEEDS_CONTEXT("cuEventQuery")
  if (!known(event, EVENT)) return INVALID_HANDLE;
  if (!event->recorded) return SUCCESS;
  if (event->asks > 0) {
    --event->asks;
    return NOT_READY;
  }
  for (int i = 0; i < kStreams; ++i) {
    if (event->seen[i] > done[i]) done[i] = event->seen[i];
  }
  return SUCCESS;
}
API(cuOccupancyMaxActiveBlocksPerMultiprocessor, int* blocks, Object* function, int threads, size_t shared) {
  NEEDS_CONTEXT("cuOccupancyMaxActiveBlocksPerMultiprocessor")
  if (!known(function, FUNCTION) || threads <= 0 || shared > (size_t)kMaxShared) return INVALID_VALUE;
  *blocks = 2;
  return SUCCESS;
}
API(cuStreamCreate, Object** stream, unsigned flags) {
  NEEDS_CONTEXT("cuStreamCreate")
  if (flags != 1) complain("a stream that waits for the default stream");
  int number = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost; ++i) {
    if (!objects[i] || objects[i]->kind != STREAM || objects[i]->stream != number) continue;
    ++number;
    i = -1;  // from the beginning
  }
  pthread_mutex_unlock(&lock);
  if (number >= kStreams) return OUT_OF_MEMORY;
  *stream = make(STREAM);
  (*stream)->stream = number;
  return SUCCESS;
}
API(cuStreamDestroy_v2, Object* stream) {
  if (known(stream, STREAM) && done[stream->stream] < put[stream->stream] && !fault) complain("a stream that ends with work in it");
  return finish(stream, STREAM);
}
API(cuStreamSynchronize, Object* stream) {
  NEEDS_CONTEXT("cuStreamSynchronize")
  int error = quiet(stream);
  if (error) return error;
  for (int i = 0; i < kStreams; ++i) {
    if (done[i] < stream->seen[i]) done[i] = stream->seen[i];
  }
  return SUCCESS;
}
API(cuStreamWaitEvent, Object* stream, Object* event, unsigned flags) {
  NEEDS_CONTEXT("cuStreamWaitEvent")
  int error = quiet(stream);
  if (error) return error;
  if (flags || !known(event, EVENT)) return INVALID_VALUE;
  if (!event->recorded) complain("a wait for an event that was never recorded");
  for (int i = 0; i < kStreams; ++i) {
    if (stream->seen[i] < event->seen[i]) stream->seen[i] = event->seen[i];
  }
  return SUCCESS;
}
API(cuStreamBeginCapture_v2, Object* stream, int mode) {
  NEEDS_CONTEXT("cuStreamBeginCapture")
  int error = quiet(stream);
  if (error) return error;
  if (mode != 1) complain("a capture that other threads disturb");
  stream->capturing = 1;
  stream->node_count = 0;
  return SUCCESS;
}
API(cuStreamEndCapture, Object* stream, Object** graph) {
  if (!known(stream, STREAM)) return INVALID_HANDLE;
  if (!stream->capturing) { complain("the end of no capture"); return INVALID_VALUE; }
  stream->capturing = 0;
  *graph = NULL;
  NEEDS_CONTEXT("cuStreamEndCapture")
  *graph = make(GRAPH);
  memcpy((*graph)->nodes, stream->nodes, sizeof stream->nodes);
  (*graph)->node_count = stream->node_count;
  return SUCCESS;
}
// Adds a node that waits for these; NULL if it must not be.
static Node* addNode(Object* graph, Node* const* waited_for, size_t count) {
  if (!known(graph, GRAPH) || graph->node_count >= kNodes) return NULL;
  unsigned long long edges = 0, before = 0;
  for (size_t i = 0; i < count; ++i) {
    const long at = waited_for[i] - graph->nodes;
    if (waited_for[i] < graph->nodes || at >= graph->node_count) { complain("an edge from no node of this graph"); return NULL; }
    if (edges >> at & 1) { complain("an edge twice"); return NULL; }
    edges |= 1ull << at;
    before |= graph->nodes[at].before;
  }
  Node* node = &graph->nodes[graph->node_count++];
  *node = {};
  node->edges = edges;
  node->before = before | edges;
  return node;
}
// What a stream captures comes one after the other.
static Node* captureNode(Object* stream) {
  if (stream->node_count >= kNodes) return NULL;
  Node* node = &stream->nodes[stream->node_count];
  *node = {};
  node->before = (1ull << stream->node_count++) - 1;
  return node;
}
static int isLaunchable(Object* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
                        unsigned shared, void** extra) {
  return known(function, FUNCTION) && x > 0 && y == 1 && z == 1 && threads > 0 && threads <= 256 && ty == 1 && tz == 1 &&
         shared <= (unsigned)function->dynamic_shared && !extra;
}
static void setKernel(Node* node, const Object* function, unsigned grid, unsigned threads, void** parameters) {
  node->entry = function->entry;
  node->grid = grid;
  node->threads = threads;
  node->launch = *(const WordLaunch*)parameters[0];
}
API(cuGraphCreate, Object** graph, unsigned flags) {
  NEEDS_CONTEXT("cuGraphCreate")
  if (flags) return INVALID_VALUE;
  *graph = make(GRAPH);
  (*graph)->is_built = 1;
  return SUCCESS;
}
API(cuGraphAddKernelNode_v2, Node** node, Object* graph, Node* const* waited_for, size_t count, const CUDA_KERNEL_NODE_PARAMS* p) {
  NEEDS_CONTEXT("cuGraphAddKernelNode")
  Object* function = (Object*)p->func;
  if (!isLaunchable(function, p->gridDimX, p->gridDimY, p->gridDimZ, p->blockDimX, p->blockDimY, p->blockDimZ,
                    p->sharedMemBytes, p->extra)) return INVALID_VALUE;
  if (p->kern || p->ctx) complain("a kernel node with more than a function");
  if (!(*node = addNode(graph, waited_for, count))) return INVALID_VALUE;
  setKernel(*node, function, p->gridDimX, p->blockDimX, p->kernelParams);
  return SUCCESS;
}
API(cuGraphKernelNodeSetAttribute, Node* node, int attribute, const CUlaunchAttributeValue* value) {
  NEEDS_CONTEXT("cuGraphKernelNodeSetAttribute")
  int found = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost; ++i) {
    const Object* graph = objects[i];
    found |= graph && graph->kind == GRAPH && node >= graph->nodes && node < graph->nodes + graph->node_count;
  }
  pthread_mutex_unlock(&lock);
  if (!found || node->entry == 0) { complain("an attribute of no kernel node"); return INVALID_HANDLE; }
  if (attribute != 8) return INVALID_VALUE;
  if (value->priority > kLeastPriority || value->priority < kGreatestPriority) complain("a priority that there is not");
  node->priority = value->priority;
  return SUCCESS;
}
API(cuGraphAddEventRecordNode, Node** node, Object* graph, Node* const* waited_for, size_t count, Object* event) {
  NEEDS_CONTEXT("cuGraphAddEventRecordNode")
  if (!known(event, EVENT) || !(*node = addNode(graph, waited_for, count))) return INVALID_VALUE;
  (*node)->event = event;
  return SUCCESS;
}
#ifndef FAKE_CUDA_OLD
API(cuGraphAddDependencies_v2, Object* graph, Node* const* from, Node* const* to, const CUgraphEdgeData* edges, size_t count) {
  NEEDS_CONTEXT("cuGraphAddDependencies")
  if (!known(graph, GRAPH) || graph->node_count == 0 || !edges) return INVALID_VALUE;
  // What had come to depend on it would have to learn of this.
  Node* last = &graph->nodes[graph->node_count - 1];
  for (size_t i = 0; i < count; ++i) {
    const long at = from[i] - graph->nodes;
    if (to[i] != last || from[i] < graph->nodes || from[i] >= last) { complain("an edge that leads to no new node"); return INVALID_VALUE; }
    if (last->edges >> at & 1) { complain("an edge twice"); return INVALID_VALUE; }
    static const CUgraphEdgeData plain = {}, overlap = {1, 0, 1, {}};
    const int overlaps = !memcmp(&edges[i], &overlap, sizeof overlap);
    if (!overlaps && memcmp(&edges[i], &plain, sizeof plain)) return INVALID_VALUE;
    if (overlaps && (from[i]->entry == 0 || last->entry == 0)) { complain("words that overlap with what is no kernel"); return INVALID_VALUE; }
    last->edges |= 1ull << at;
    if (overlaps) last->overlaps |= 1ull << at;
    // Who does not wait is sure of nothing, and nor is who waits for it, but that it has ended itself.
    if (!overlaps || last->entry != 4) last->before |= 1ull << at | from[i]->before;
  }
  return SUCCESS;
}
#endif
// What each node waits for, and how urgent kernels are.
static void logEdges(const Object* graph) {
  const char* path = getenv("FAKE_CUDA_LOG");
  FILE* file = path ? fopen(path, "a") : NULL;
  if (!file) return;
  fprintf(file, "edges");
  for (int i = 0; i < graph->node_count; ++i) {
    fprintf(file, " %d(", i);
    for (int other = 0, n = 0; other < i; ++other) {
      if (graph->nodes[i].edges >> other & 1) fprintf(file, "%s%s%d", n++ ? "," : "", graph->nodes[i].overlaps >> other & 1 ? "~" : "", other);
    }
    fprintf(file, ")");
  }
  fprintf(file, "\n");
  int any = 0;
  for (int i = 0; i < graph->node_count; ++i) any |= graph->nodes[i].priority;
  for (int i = 0, n = 0; i < graph->node_count && any; ++i) {
    if (graph->nodes[i].entry) fprintf(file, n++ ? " %d" : "priorities %d", graph->nodes[i].priority);
  }
  if (any) fprintf(file, "\n");
  fclose(file);
}
API(cuGraphInstantiateWithFlags, Object** executable, Object* graph, unsigned long long flags) {
  NEEDS_CONTEXT("cuGraphInstantiate")
  if ((flags & ~8ull) || !known(graph, GRAPH)) return INVALID_VALUE;
  for (int i = 0; i < graph->node_count; ++i) {
    if (graph->nodes[i].priority && !(flags & 8)) complain("priorities that the graph is not to look at");
  }
  if (graph->is_built) logEdges(graph);
  *executable = make(EXECUTABLE);
  memcpy((*executable)->nodes, graph->nodes, sizeof graph->nodes);
  (*executable)->node_count = graph->node_count;
  return SUCCESS;
}
API(cuGraphDestroy, Object* graph) { return finish(graph, GRAPH); }
API(cuGraphExecDestroy, Object* executable) { return finish(executable, EXECUTABLE); }

// Which nodes of the graph that is being run have touched an address so far, a bit each. Whoever comes to it later, in whatever
// order nodes run here, must be ordered with them by edges unless all only read.
struct Touched { unsigned long long readers, writers; };
static __thread std::map<Address, Touched>* touched;
static void touch(const Node* node, unsigned long long self, Address address, int is_write) {
  if (!touched) return;
  Touched& known_touches = (*touched)[address];
  const unsigned long long others = is_write ? known_touches.readers | known_touches.writers : known_touches.writers;
  if (others & ~(node->before | self)) complain(is_write ? "a write that waits for no node that used this" : "a read that waits for no node that wrote this");
  (is_write ? known_touches.writers : known_touches.readers) |= self;
}

// c = a + b, one float a virtual block. A block takes five nanoseconds, the n-th of a word on multiprocessor n % 4, and the
// next begins as it ends.
static int runAdd(const Node* node, unsigned long long self) {
  static unsigned long long now = 1000000;
  const WordLaunch& launch = node->launch;
  BlockTime* times = launch.times;
  if (times && !holder((Address)times, node->grid * sizeof(BlockTime))) return ILLEGAL_ADDRESS;
  if (launch.block_slot && !holder((Address)launch.block_slot, node->grid * sizeof(unsigned))) return ILLEGAL_ADDRESS;
  if (!launch.block_slot && (launch.slots == 0 || launch.slots > kMaxIssued || launch.blocks != node->grid)) complain("slots that are not of this launch");
  for (unsigned block = 0; block < node->grid; ++block) {
    if (times && times[block].begin != 0) complain("times that were not cleared");
    const Share share = share_of(launch, block);
    if (share.first >= share.end) continue;
    if (!holder((Address)&launch.rows[share.row], sizeof(SlotRow))) return ILLEGAL_ADDRESS;
    const SlotRow* row = &launch.rows[share.row];
    if (times) times[block] = {now, now + 5, block % 4, share.row};
    now += 5;
    if (share.first >= share.end || share.step == 0) complain("a block outside of its slot");
    for (unsigned at = share.first; at < share.end; at += share.step) {
      Address to = row->operand[2] + at * sizeof(float);
      if (!holder(to, sizeof(float))) return ILLEGAL_ADDRESS;
      touch(node, self, row->operand[0] + at * sizeof(float), 0);
      touch(node, self, row->operand[1] + at * sizeof(float), 0);
      touch(node, self, to, 1);
      *(float*)to = ((const float*)row->operand[0])[at] + ((const float*)row->operand[1])[at];
    }
  }
  return SUCCESS;
}
static int runNode(const Node* node, unsigned long long self) {
  if (node->entry == 1 || node->entry == 4) {
    int result = runAdd(node, self);
    if (result) fault = result;
  } else if (node->entry == 2) {
    fault = ILLEGAL_ADDRESS;  // noticed by the next call, as with a real kernel
  }
  return SUCCESS;
}
API(cuGraphUpload, Object* executable, Object* stream) {
  NEEDS_CONTEXT("cuGraphUpload")
  int error = quiet(stream);
  if (error) return error;
  return known(executable, EXECUTABLE) ? SUCCESS : INVALID_HANDLE;
}
API(cuGraphLaunch, Object* executable, Object* stream) {
  NEEDS_CONTEXT("cuGraphLaunch")
  int error = quiet(stream);
  if (error) return error;
  if (!known(executable, EXECUTABLE)) return INVALID_HANDLE;
  ++launches;
  launch(stream);
  std::map<Address, Touched> touches;
  touched = &touches;
  const int count = executable->node_count;
  unsigned long long ended = 0;
  int error_found = SUCCESS;
  for (int ran = 0; ran < count; ++ran) {
    // Of those that may run the one added last, so that nobody gets by with the order of adding.
    int i = count - 1;
    while (ended >> i & 1 || executable->nodes[i].before & ~ended) --i;
    const Node* node = &executable->nodes[i];
    if (node->entry == 0) {
      if (!known(node->event, EVENT)) error_found = INVALID_HANDLE;
      else record(node->event, stream);
      for (int other = 0; other < count; ++other) {
        if (other != i && !(node->before >> other & 1) && !(executable->nodes[other].before >> i & 1)) complain("an event beside other work");
      }
    } else {
      runNode(node, 1ull << i);
    }
    ended |= 1ull << i;
  }
  touched = NULL;
  return error_found;
}
API(cuEventCreate, Object** event, unsigned flags) {
  NEEDS_CONTEXT("cuEventCreate")
  if (flags & ~2u) return INVALID_VALUE;
  *event = make(EVENT);
  (*event)->takes_no_times = flags == 2;
  return SUCCESS;
}
API(cuEventDestroy_v2, Object* event) { return finish(event, EVENT); }
API(cuEventRecordWithFlags, Object* event, Object* stream, unsigned flags) {
  NEEDS_CONTEXT("cuEventRecordWithFlags")
  if (!known(event, EVENT) || !known(stream, STREAM)) return INVALID_HANDLE;
  if (!stream->capturing && flags == 0) {
    record(event, stream);
    const int asks = plannedAsks();
    if (asks >= 0) event->asks = asks;
    return SUCCESS;
  }
  if (!stream->capturing || flags != 1) return INVALID_VALUE;
  Node* node = captureNode(stream);
  if (!node) return INVALID_VALUE;
  node->event = event;
  return SUCCESS;
}
API(cuEventElapsedTime, float* milliseconds, Object* start, Object* end) {
  NEEDS_CONTEXT("cuEventElapsedTime")
  if (!known(start, EVENT) || !known(end, EVENT)) return INVALID_HANDLE;
  if (!start->recorded || !end->recorded || start->takes_no_times || end->takes_no_times) return INVALID_HANDLE;
  for (const Object* event : {start, end}) {
    if (event->seen[event->stream] > done[event->stream]) return NOT_READY;
  }
  *milliseconds = 0.25f;
  return SUCCESS;
}
API(cuModuleLoadData, Object** module, const void* image) {
  NEEDS_CONTEXT("cuModuleLoadData")
  if (!strstr((const char*)image, ".version")) return NO_BINARY;
  *module = make(MODULE);
  return SUCCESS;
}
API(cuModuleUnload, Object* module) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kMost; ++i) {
    if (objects[i] && objects[i]->kind == FUNCTION && objects[i]->owner == module) {
      free(objects[i]);
      objects[i] = NULL;
      ++ended[FUNCTION];
    }
  }
  pthread_mutex_unlock(&lock);
  return finish(module, MODULE);
}
API(cuModuleGetFunction, Object** function, Object* module, const char* name) {
  NEEDS_CONTEXT("cuModuleGetFunction")
  if (!known(module, MODULE)) return INVALID_HANDLE;
  int entry = !strcmp(name, "add") ? 1 : !strcmp(name, "fault") ? 2 : !strcmp(name, "nothing") ? 3 : !strcmp(name, "hasty") ? 4 : 0;
  if (!entry) return NOT_FOUND;
  *function = make(FUNCTION);
  (*function)->entry = entry;
  (*function)->owner = module;
  (*function)->dynamic_shared = kPlainShared - kOwnShared;
  return SUCCESS;
}
API(cuFuncGetAttribute, int* value, int attribute, Object* function) {
  NEEDS_CONTEXT("cuFuncGetAttribute")
  if (!known(function, FUNCTION) || (attribute != 0 && attribute != 1)) return INVALID_VALUE;
  *value = attribute == 0 ? 256 : kOwnShared;
  return SUCCESS;
}
API(cuFuncSetAttribute, Object* function, int attribute, int value) {
  NEEDS_CONTEXT("cuFuncSetAttribute")
  if (!known(function, FUNCTION) || attribute != 8 || value < 0 || value > kMaxShared - kOwnShared) return INVALID_VALUE;
  function->dynamic_shared = value;
  return SUCCESS;
}
static int launchKernel(Object* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
                        unsigned shared, Object* stream, void** parameters, void** extra) {
  if (!known(function, FUNCTION) || !known(stream, STREAM)) return INVALID_HANDLE;
  if (!isLaunchable(function, x, y, z, threads, ty, tz, shared, extra)) return INVALID_VALUE;
  if (stream->capturing) {
    Node* node = captureNode(stream);
    if (!node) return INVALID_VALUE;
    setKernel(node, function, x, threads, parameters);
    return SUCCESS;
  }
  Node node = {};
  setKernel(&node, function, x, threads, parameters);
  launch(stream);
  ++launches;
  return runNode(&node, 1);
}
API(cuLaunchKernel, Object* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
    unsigned shared, Object* stream, void** parameters, void** extra) {
  NEEDS_CONTEXT("cuLaunchKernel")
  return launchKernel(function, x, y, z, threads, ty, tz, shared, stream, parameters, extra);
}

struct LaunchAttribute {
  int id, padding;
  union { char room[64]; int allowed; } value;
};
struct LaunchConfig {
  unsigned x, y, z, threads, ty, tz, shared;
  Object* stream;
  LaunchAttribute* attributes;
  unsigned count;
};
API(cuLaunchKernelEx, const LaunchConfig* config, Object* function, void** parameters, void** extra) {
  NEEDS_CONTEXT("cuLaunchKernelEx")
  Object* stream = config->stream;
  if (config->count > 0) {
    const LaunchAttribute& overlap = config->attributes[0];
    if (config->count > 1 || overlap.id != 6 || overlap.value.allowed != 1) return INVALID_VALUE;
    // Only what follows a kernel may begin before that ends.
    const int before = known(stream, STREAM) && stream->capturing ? stream->node_count : 0;
    if (before == 0 || stream->nodes[before - 1].event) complain("a word that begins early, but no word before it");
  }
  return launchKernel(function, config->x, config->y, config->z, config->threads, config->ty, config->tz, config->shared, stream,
                      parameters, extra);
}
