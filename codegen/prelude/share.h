// How a block finds what it has to do, and notes when it did it.

// The virtual blocks first, first + step, ... below end, of the slot in a row, and which kernel body computes them. Step is how many
// physical blocks the slot has, place which of them this one is.
struct Share { unsigned row, body, first, step, end, place; };

__device__ inline Share share_of(const WordLaunch& launch, unsigned block) {
  if (launch.block_slot) {
    const unsigned at = launch.block_slot[block];
    if (at == kIdleBlock) return {0, 0, 0, 1, 0, 0};
    const SlotRow& row = launch.rows[at];
    const unsigned place = block - row.first_block;
    return {at, row.body, row.begin + place, row.blocks, row.end, place};
  }
  unsigned n = 0;
  while (n + 1 < launch.slots && launch.slot[n + 1].first_block <= block) n++;
  const IssuedSlot& slot = launch.slot[n];
  const unsigned next = n + 1 < launch.slots ? launch.slot[n + 1].first_block : launch.blocks;
  const unsigned place = block - slot.first_block;
  return {slot.row, slot.body, slot.begin + place, next - slot.first_block, slot.end, place};
}

// Asks for what the slot's tenant reads next, while the memory has little else to do: in pieces, dealt out to the blocks, and theirs to
// their threads. Nothing is computed from it.
__device__ inline void fetch_ahead(const SlotRow& row, const Share& share, unsigned thread, unsigned threads) {
  const unsigned long long piece = 4096, all = (unsigned long long)share.step * threads;
  for (unsigned long long n = (unsigned long long)thread * share.step + share.place; n * piece < row.ahead_bytes; n += all) {
    const unsigned long long left = row.ahead_bytes - n * piece;
    bring_near(row.ahead + n * piece, (unsigned)(left < piece ? left : piece));
  }
}

__device__ inline void note_begin(const WordLaunch& launch, unsigned row) {
  if (launch.times && threadIdx.x == 0) launch.times[blockIdx.x] = {nanoseconds(), 0, unit_index(), row};
}
__device__ inline void note_end(const WordLaunch& launch) {
  if (!launch.times) return;
  __syncthreads();
  if (threadIdx.x == 0) launch.times[blockIdx.x].end = nanoseconds();
}
