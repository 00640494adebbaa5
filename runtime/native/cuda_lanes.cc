#include "runtime/native/cuda_lanes.h"

#include <algorithm>

#include "runtime/native/cuda_graph.h"

namespace wideword {

namespace {

// Of all chains' words, one after another: which slot each physical block serves. Never changes, so all lanes share it.
class BlockMaps {
 public:
  BlockMaps(CudaContext& context, const std::vector<CohortChain>& chains) {
    std::vector<unsigned> map;
    for (const CohortChain& chain : chains) {
      first_.push_back(map.size());
      for (const CohortWord& word : chain) {
        for (unsigned slot = 0; slot < word.slots; ++slot) map.insert(map.end(), word.blocks, slot);
      }
    }
    table_ = std::make_unique<CudaTable>(context, map.size() * sizeof(unsigned));
    table_->Upload(map.data());
    context.Wait();
  }
  CUdeviceptr AddressOf(std::size_t chain) const { return table_->address() + first_[chain] * sizeof(unsigned); }

 private:
  std::vector<std::size_t> first_;
  std::unique_ptr<CudaTable> table_;
};

class CudaLane : public Lane {
 public:
  CudaLane(CudaContext& context, const std::vector<CohortChain>& chains, std::shared_ptr<BlockMaps> maps, std::size_t most_rows,
           std::uint8_t* staged)
      : context_(context),
        maps_(std::move(maps)),
        side_(context),
        rows_(context, most_rows * sizeof(SlotRow)),
        staged_(reinterpret_cast<SlotRow*>(staged)) {
    for (std::size_t i = 0; i < chains.size(); ++i) {
      graphs_.push_back(std::make_unique<CudaGraph>(context_));
      bytes_.push_back(RowsOf(chains[i]) * sizeof(SlotRow));
      graphs_.back()->Capture([&] { CaptureChain(chains[i], maps_->AddressOf(i)); });
      graphs_.back()->Upload(side_.stream);
    }
    context_.lanes.push_back(side_.stream);
  }
  // Nothing may be under way that uses the rows, or what belongs to the tenants. Lanes go together, so all are waited for.
  ~CudaLane() override {
    for (CUstream lane : context_.lanes) context_.cu.StreamSynchronize(lane);
    std::erase(context_.lanes, side_.stream);
  }

  SlotRow* Rows() override { return staged_; }

  void Launch(unsigned chain, bool are_new) override {
    if (are_new) rows_.Upload(staged_, bytes_[chain], side_.stream);
    graphs_[chain]->Launch(side_.stream);
    side_.end.Record(side_.stream);
  }

  bool Passed() override { return side_.end.HasPassed(); }

 private:
  void CaptureChain(const CohortChain& chain, CUdeviceptr map) {
    CUdeviceptr row = rows_.address();
    for (std::size_t i = 0; i < chain.size(); ++i) {
      const CohortWord& word = chain[i];
      WordLaunch launch = {};
      launch.rows = reinterpret_cast<const SlotRow*>(row);
      launch.block_slot = reinterpret_cast<const unsigned*>(map);
      const unsigned grid = word.slots * word.blocks;
      CaptureWord(context_, {static_cast<CudaCode*>(word.code)->function, word.threads, word.shared_bytes, grid}, launch, i > 0);
      row += word.slots * sizeof(SlotRow);
      map += grid * sizeof(unsigned);
    }
  }

  CudaContext& context_;
  const std::shared_ptr<BlockMaps> maps_;
  CudaSideStream side_;
  CudaTable rows_;
  SlotRow* const staged_;
  std::vector<std::unique_ptr<CudaGraph>> graphs_;  // by chain
  std::vector<std::size_t> bytes_;                  // of its rows
};

}  // namespace

std::vector<std::unique_ptr<Lane>> MakeCudaLanes(CudaContext& context, const std::vector<CohortChain>& chains, unsigned count,
                                                 const std::function<std::uint8_t*(std::size_t)>& stage) {
  std::size_t most_rows = 0;
  for (const CohortChain& chain : chains) most_rows = std::max(most_rows, RowsOf(chain));
  const auto maps = std::make_shared<BlockMaps>(context, chains);
  std::vector<std::unique_ptr<Lane>> lanes;
  for (unsigned i = 0; i < count; ++i) {
    lanes.push_back(std::make_unique<CudaLane>(context, chains, maps, most_rows, stage(most_rows * sizeof(SlotRow))));
  }
  return lanes;
}

}  // namespace wideword
