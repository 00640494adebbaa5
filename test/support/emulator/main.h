// The emulator's program: reads launches from standard input, runs them, and writes what the buffers then hold to standard output.
// Every operand of a slot is an allocation of its own and of its own size, so the address sanitizer sees each byte beyond it.
//
//   u32 seed · u32 buffers · (u32 bytes · bytes)* · u32 launches · launch*
//   launch: u32 code · u32 slots · slot*
//   slot: u32 body · u32 begin · u32 end · u32 blocks · u32 operands · (u32 buffer · u32 offset · u32 bytes)* · u32 inputs · u32 sizes · i32*
#include <unistd.h>

namespace emulated {
struct Code {
  Entry entry;
  int threads;
};

static void read_all(void* to, size_t bytes) {
  if (fread(to, 1, bytes, stdin) != bytes) fail("the input is cut short");
}
static unsigned read_number() {
  unsigned n;
  read_all(&n, sizeof n);
  return n;
}

struct Part { unsigned buffer, offset, bytes; void* own; };

static int run(const Code* codes) {
#if defined(__SANITIZE_THREAD__)
  __tsan_java_init(8, 1ul << 47);
#endif
  random_state = read_number();
  const unsigned buffers = read_number();
  char** memory = (char**)calloc(buffers + 1, sizeof *memory);
  unsigned* sizes = (unsigned*)calloc(buffers + 1, sizeof *sizes);
  for (unsigned b = 0; b < buffers; b++) {
    sizes[b] = read_number();
    memory[b] = (char*)malloc(sizes[b]);
    read_all(memory[b], sizes[b]);
  }
  for (unsigned launches = read_number(); launches > 0; launches--) {
    const Code& code = codes[read_number()];
    const unsigned slots = read_number();
    SlotRow* rows = (SlotRow*)calloc(slots, sizeof *rows);
    Part* parts = (Part*)calloc((size_t)slots * kMaxOperands, sizeof *parts);
    unsigned* inputs = (unsigned*)calloc(slots, sizeof *inputs);
    unsigned* counts = (unsigned*)calloc(slots, sizeof *counts);
    unsigned grid = 0;
    for (unsigned s = 0; s < slots; s++) {
      SlotRow& row = rows[s];
      row.body = read_number();
      row.begin = read_number();
      row.end = read_number();
      row.first_block = grid;
      row.blocks = read_number();
      grid += row.blocks;
      counts[s] = read_number();
      for (unsigned n = 0; n < counts[s]; n++) {
        Part& p = parts[s * kMaxOperands + n];
        p.buffer = read_number(), p.offset = read_number(), p.bytes = read_number();
        if (posix_memalign(&p.own, 256, p.bytes) != 0) fail("no memory");
        memcpy(p.own, memory[p.buffer] + p.offset, p.bytes);
        row.operand[n] = (unsigned long long)p.own;
      }
      inputs[s] = read_number();
      const unsigned open = read_number();
      for (unsigned n = 0; n < open; n++) row.size[n] = (int)read_number();
    }
    unsigned* map = (unsigned*)malloc(grid * sizeof *map);
    for (unsigned s = 0; s < slots; s++)
      for (unsigned b = 0; b < rows[s].blocks; b++) map[rows[s].first_block + b] = s;
    // Blocks come in any order.
    unsigned* order = (unsigned*)malloc(grid * sizeof *order);
    for (unsigned b = 0; b < grid; b++) {
      const unsigned at = random_below(b + 1);
      order[b] = order[at], order[at] = b;
    }
    // As a part of a program, or issued by itself.
    WordLaunch launch = {rows, map, nullptr, slots, grid, {}};
    if (slots <= kMaxIssued && random_below(2) == 0) {
      launch.block_slot = nullptr;
      for (unsigned s = 0; s < slots; s++) launch.slot[s] = {s, rows[s].body, rows[s].first_block, rows[s].begin, rows[s].end};
    }
    BlockTime* times = (BlockTime*)calloc(grid, sizeof *times);
    if (random_below(4) == 0) launch.times = times;
    launch_begin.release();
    for (unsigned b = 0; b < grid; b++) run_block(code.entry, launch, order[b], code.threads);
    launch_end.acquire();
    for (unsigned b = 0; b < grid && launch.times; b++)
      if (times[b].begin == 0 || times[b].end <= times[b].begin || times[b].row != map[b]) fail("a block's time is missing");
    free(times);
    for (unsigned s = 0; s < slots; s++) {
      for (unsigned n = 0; n < counts[s]; n++) {
        Part& p = parts[s * kMaxOperands + n];
        if (n < inputs[s] && memcmp(memory[p.buffer] + p.offset, p.own, p.bytes) != 0) fail("an input was written to");
        if (n >= inputs[s]) memcpy(memory[p.buffer] + p.offset, p.own, p.bytes);
        free(p.own);
      }
    }
    free(order), free(map), free(counts), free(inputs), free(parts), free(rows);
  }
  for (unsigned b = 0; b < buffers; b++) fwrite(memory[b], 1, sizes[b], stdout);
  fflush(stdout);
  _exit(0);  // leaves the fibers where they stand
}
}  // namespace emulated
