// Reading what run, write, read and createProgram are given.
#include <algorithm>
#include <unordered_set>

#include "codegen/prelude/slot.h"
#include "runtime/native/handles.h"

namespace wideword {

namespace {

constexpr std::uint32_t kMaxWords = 1u << 16;
constexpr std::uint32_t kMaxSlots = 1u << 16;
constexpr std::uint32_t kMaxThreads = 1024;
// Of a whole program: 256 MiB of block map. A word's grid is thereby far below CUDA's limit of 2^31 - 1.
constexpr std::uint64_t kMaxBlocks = std::uint64_t{1} << 26;
constexpr std::size_t kMaxRows = std::size_t{1} << 20;

// offset + bytes within the memory; neither is above 2^53, so the sum does not wrap.
void CheckRange(Napi::Env env, const Memory& memory, std::uint64_t offset, std::uint64_t bytes, const Where& where) {
  if (offset + bytes <= memory.bytes) return;
  ThrowRange(env, where,
             "within the buffer's " + std::to_string(memory.bytes) + " bytes, not " + std::to_string(bytes) +
                 " bytes from " + std::to_string(offset));
}

// What has been referred to so far, each once.
class PartsBuilder {
 public:
  explicit PartsBuilder(const Device& device) : device_(device) {}

  void AddWord(Napi::Value value, const Where& where);
  ProgramParts Take() {
    SortUnique(parts_.tenants);
    return std::move(parts_);
  }

 private:
  SlotSpec ReadSlot(Napi::Value value, const Where& where);
  const Device& device_;
  ProgramParts parts_;
  std::unordered_set<const void*> kept_;
  std::uint64_t blocks_ = 0;
  std::size_t rows_ = 0;
};

void PartsBuilder::AddWord(Napi::Value value, const Where& where) {
  const Napi::HandleScope scope(value.Env());
  const Napi::Object object = ReadObject(value, where);
  const Where code_where(where, "code");
  const std::shared_ptr<Code> code = CodeHandle::Of(object.Get("code"), code_where).held;
  if (code->device.get() != &device_) ThrowRange(value.Env(), code_where, "a function of this device");
  WordSpec word;
  word.code = code->loaded;
  const std::uint32_t most = std::min(kMaxThreads, code->max_threads);
  word.threads = static_cast<unsigned>(ReadInteger(object.Get("threads"), Where(where, "threads"), 1, most));
  const Napi::Value shared = object.Get("sharedBytes");
  if (!shared.IsUndefined()) {
    word.shared_bytes = static_cast<unsigned>(ReadInteger(shared, Where(where, "sharedBytes"), 0, code->max_shared_bytes));
  }
  const Napi::Value urgency = object.Get("urgency");
  if (!urgency.IsUndefined()) word.urgency = ReadNumber(urgency, Where(where, "urgency"), 0, 1);
  const Where slots_where(where, "slots");
  const List slots(object.Get("slots"), slots_where, kMaxSlots);
  if (slots.size() == 0) ThrowRange(value.Env(), slots_where, "at least one slot");
  rows_ += slots.size();
  if (rows_ > kMaxRows) ThrowRange(value.Env(), slots_where, "at most " + std::to_string(kMaxRows) + " in a program");
  for (std::uint32_t i = 0; i < slots.size(); ++i) {
    const Napi::HandleScope slot_scope(value.Env());
    const Where slot_where(slots_where, i);
    word.slots.push_back(ReadSlot(slots[i], slot_where));
    blocks_ += word.slots.back().blocks;
    if (blocks_ > kMaxBlocks) {
      ThrowRange(value.Env(), Where(slot_where, "blocks"),
                 "such that a program has at most " + std::to_string(kMaxBlocks) + " physical blocks");
    }
  }
  if (kept_.insert(code.get()).second) parts_.codes.push_back(code);
  parts_.words.push_back(std::move(word));
}

SlotSpec PartsBuilder::ReadSlot(Napi::Value value, const Where& where) {
  const Napi::Object object = ReadObject(value, where);
  const auto unsigned_field = [&](const char* name, std::int64_t least, std::int64_t most) {
    return static_cast<unsigned>(ReadInteger(object.Get(name), Where(where, name), least, most));
  };
  SlotSpec slot;
  slot.tenant = unsigned_field("tenant", 0, UINT32_MAX);
  slot.body = unsigned_field("body", 0, UINT32_MAX);
  // Below 2^31, so that a grid-stride loop's next block (at most `blocks` further) does not wrap.
  slot.begin = unsigned_field("begin", 0, INT32_MAX - 1);
  slot.end = unsigned_field("end", std::int64_t{slot.begin} + 1, INT32_MAX);
  slot.blocks = unsigned_field("blocks", 1, slot.end - slot.begin);
  const Where operands_where(where, "operands");
  const List operands(object.Get("operands"), operands_where, kMaxOperands);
  for (std::uint32_t i = 0; i < operands.size(); ++i) {
    const OperandView operand = ReadOperand(device_, operands[i], Where(operands_where, i));
    if (kept_.insert(operand.memory.get()).second) parts_.memories.push_back(operand.memory);
    slot.operands.push_back(operand.address);
    if (operand.constant) slot.constants |= 1u << i;
  }
  const Where sizes_where(where, "sizes");
  const List sizes(object.Get("sizes"), sizes_where, kMaxSizes);
  for (std::uint32_t i = 0; i < sizes.size(); ++i) {
    slot.sizes.push_back(static_cast<int>(ReadInteger(sizes[i], Where(sizes_where, i), INT32_MIN, INT32_MAX)));
  }
  parts_.tenants.push_back(slot.tenant);
  return slot;
}

}  // namespace

std::shared_ptr<Memory> ReadBuffer(const Device& device, Napi::Value value, const Where& where) {
  const std::shared_ptr<Memory> memory = BufferHandle::Of(value, where).held;
  if (!memory) ThrowRange(value.Env(), where, "a buffer that has not been released");
  if (memory->device.get() != &device) ThrowRange(value.Env(), where, "a buffer of this device");
  return memory;
}

OperandView ReadOperand(const Device& device, Napi::Value value, const Where& where) {
  const Napi::Object object = ReadObject(value, where);
  OperandView operand;
  operand.memory = ReadBuffer(device, object.Get("buffer"), Where(where, "buffer"));
  const Where offset_where(where, "offset");
  const auto offset =
      static_cast<std::uint64_t>(ReadInteger(object.Get("offset"), offset_where, 0, kMaxSafeInteger));
  if (offset % 16 != 0) ThrowRange(value.Env(), offset_where, "a multiple of 16, not " + std::to_string(offset));
  const auto bytes =
      static_cast<std::uint64_t>(ReadInteger(object.Get("bytes"), Where(where, "bytes"), 0, kMaxSafeInteger));
  CheckRange(value.Env(), *operand.memory, offset, bytes, where);
  operand.address = operand.memory->address + offset;
  operand.bytes = static_cast<std::size_t>(bytes);
  operand.constant = ReadFlag(object.Get("constant"), Where(where, "constant"));
  return operand;
}

TransferView ReadTransfer(const Device& device, Napi::Value value, const Where& where) {
  const Napi::Object object = ReadObject(value, where);
  // All reads that may run JavaScript come before the data's place is looked up.
  const Napi::Value buffer = object.Get("buffer");
  const Napi::Value offset = object.Get("offset");
  TransferView transfer;
  transfer.array = object.Get("data");
  transfer.memory = ReadBuffer(device, buffer, Where(where, "buffer"));
  transfer.offset = static_cast<std::size_t>(ReadInteger(offset, Where(where, "offset"), 0, kMaxSafeInteger));
  transfer.view = ReadBytes(transfer.array, Where(where, "data"));
  CheckRange(value.Env(), *transfer.memory, transfer.offset, transfer.view.size, where);
  return transfer;
}

ProgramParts ReadWords(const Device& device, Napi::Value value) {
  const Where where("words");
  const List words(value, where, kMaxWords);
  if (words.size() == 0) ThrowRange(value.Env(), where, "at least one word");
  PartsBuilder builder(device);
  for (std::uint32_t i = 0; i < words.size(); ++i) builder.AddWord(words[i], Where(where, i));
  return builder.Take();
}

}  // namespace wideword
