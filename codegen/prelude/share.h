// How a block finds what it has to do, and notes when it did it.

// The virtual blocks first, first + step, ... below end, of the slot in a row; and which kernel body computes them.
struct Share { unsigned row, body, first, step, end; };

__device__ inline Share share_of(const WordLaunch& launch, unsigned block) {
  if (launch.block_slot) {
    const unsigned at = launch.block_slot[block];
    if (at == kIdleBlock) return {0, 0, 0, 1, 0};
    const SlotRow& row = launch.rows[at];
    return {at, row.body, row.begin + (block - row.first_block), row.blocks, row.end};
  }
  unsigned n = 0;
  while (n + 1 < launch.slots && launch.slot[n + 1].first_block <= block) n++;
  const IssuedSlot& slot = launch.slot[n];
  const unsigned next = n + 1 < launch.slots ? launch.slot[n + 1].first_block : launch.blocks;
  return {slot.row, slot.body, slot.begin + (block - slot.first_block), next - slot.first_block, slot.end};
}

__device__ inline void note_begin(const WordLaunch& launch, unsigned row) {
  if (launch.times && threadIdx.x == 0) launch.times[blockIdx.x] = {nanoseconds(), 0, unit_index(), row};
}
__device__ inline void note_end(const WordLaunch& launch) {
  if (!launch.times) return;
  __syncthreads();
  if (threadIdx.x == 0) launch.times[blockIdx.x].end = nanoseconds();
}
