#include "runtime/native/handles.h"

#include <algorithm>
#include <unordered_set>

namespace wideword {

namespace {

constexpr std::int64_t kMaxRepetitions = 1000000;
// Side by side, each takes a stream, or a thread of the host.
constexpr std::uint32_t kMaxPrograms = 256;
// Of timeWords, all repetitions: 128 MiB.
constexpr std::size_t kMaxTimes = std::size_t{1} << 24;

// Of a trace: 96 MiB of times.
constexpr std::size_t kMaxTracedBlocks = std::size_t{1} << 22;

unsigned ReadRepetitions(Napi::Value value, std::int64_t most = kMaxRepetitions) {
  return static_cast<unsigned>(ReadInteger(value, Where("rounds"), 1, most));
}

// What createProgram takes beside words.
WordOrder ReadOrder(Napi::Value options) {
  if (options.IsUndefined()) return WordOrder::kChain;
  const Where where("options");
  const Napi::Value value = ReadObject(options, where).Get("order");
  if (value.IsUndefined()) return WordOrder::kChain;
  const Where order_where(where, "order");
  const std::string order = ReadString(value, order_where);
  if (order == "chain") return WordOrder::kChain;
  if (order == "strict") return WordOrder::kStrict;
  if (order == "branches") return WordOrder::kBranches;
  ThrowRange(options.Env(), order_where, "'chain', 'strict' or 'branches'");
}

}  // namespace

void SetFixed(Napi::Object object, const char* name, Napi::Value value) {
  object.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
}

Napi::Function BufferHandle::Define(Napi::Env env) { return DefineClass(env, "NativeBuffer", {}); }

Napi::Function CodeHandle::Define(Napi::Env env) { return DefineClass(env, "NativeFunction", {}); }

// ---- programs ----

Napi::Function ProgramHandle::Define(Napi::Env env) {
  return DefineClass(env, "NativeProgram",
                     {InstanceMethod<&ProgramHandle::Run>("run"), InstanceMethod<&ProgramHandle::Time>("time"),
                      InstanceMethod<&ProgramHandle::TimeWords>("timeWords"), InstanceMethod<&ProgramHandle::Close>("close")});
}

std::shared_ptr<Program> ProgramHandle::Open(Napi::Env env) const {
  if (!held.program) throw Napi::Error::New(env, "the program is closed");
  if (held.program->device->closed()) throw Napi::Error::New(env, "the device is closed");
  return held.program;
}

std::vector<unsigned> ProgramHandle::ReadActive(const Program& program, Napi::Value value, const Where& where) const {
  std::vector<unsigned> active = ReadTenants(value, where);
  for (unsigned tenant : active) {
    if (std::binary_search(program.tenants.begin(), program.tenants.end(), tenant)) continue;
    ThrowRange(value.Env(), where, "tenants of this program, and " + std::to_string(tenant) + " is not");
  }
  return active;
}

Napi::Value ProgramHandle::Run(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Promised(env, [&]() -> Napi::Value {
    const auto round = std::make_shared<Round>();
    const std::shared_ptr<Program> program = Open(env);
    round->programs = {program};
    const Device& device = *program->device;
    const Where where("round");
    const Napi::Object object = ReadObject(info[0], where);
    round->active = ReadActive(*program, object.Get("active"), Where(where, "active"));
    const Where writes_where(where, "writes");
    const List writes(object.Get("writes"), writes_where, UINT32_MAX);
    for (std::uint32_t i = 0; i < writes.size(); ++i) {
      const TransferView write = ReadTransfer(device, writes[i], Where(writes_where, i));
      // Copied now, so that the caller may use the array again at once.
      round->writes.push_back({write.memory, write.offset, {write.view.data, write.view.data + write.view.size}});
    }
    const Where reads_where(where, "reads");
    const List reads(object.Get("reads"), reads_where, UINT32_MAX);
    std::vector<Napi::Value> targets;
    for (std::uint32_t i = 0; i < reads.size(); ++i) {
      const TransferView read = ReadTransfer(device, reads[i], Where(reads_where, i));
      round->reads.push_back({read.memory, read.offset, std::vector<std::uint8_t>(read.view.size)});
      targets.push_back(read.array);
    }
    return held.rounds->Start(env, round, RoundQueue::Result::kRun, std::move(targets));
  });
}

Napi::Value ProgramHandle::Time(const Napi::CallbackInfo& info) { return Measured(info, Measure::kRounds); }
Napi::Value ProgramHandle::TimeWords(const Napi::CallbackInfo& info) { return Measured(info, Measure::kWords); }

Napi::Value ProgramHandle::Measured(const Napi::CallbackInfo& info, Measure measure) {
  const Napi::Env env = info.Env();
  return Promised(env, [&]() -> Napi::Value {
    const auto round = std::make_shared<Round>();
    const std::shared_ptr<Program> program = Open(env);
    round->measure = measure;
    round->programs = {program};
    round->active = ReadActive(*program, info[0], Where("active"));
    const std::size_t each = measure == Measure::kWords ? program->words : 1;
    const auto most = std::min<std::size_t>(kMaxRepetitions, std::max<std::size_t>(1, kMaxTimes / each));
    round->repetitions = ReadRepetitions(info[1], static_cast<std::int64_t>(most));
    return held.rounds->Start(env, round, RoundQueue::Result::kTime, {});
  });
}

void ProgramHandle::Close(const Napi::CallbackInfo&) {
  const std::shared_ptr<Program> program = std::move(held.program);
  if (program) program->device->Drain();
}

// ---- devices ----

Napi::Function DeviceHandle::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeDevice",
      {InstanceMethod<&DeviceHandle::Allocate>("allocate"), InstanceMethod<&DeviceHandle::Release>("release"),
       InstanceMethod<&DeviceHandle::Write>("write"), InstanceMethod<&DeviceHandle::Read>("read"),
       InstanceMethod<&DeviceHandle::Load>("load"), InstanceMethod<&DeviceHandle::CreateProgram>("createProgram"),
       InstanceMethod<&DeviceHandle::CreateEngine>("createEngine"),
       InstanceMethod<&DeviceHandle::Time>("time"), InstanceMethod<&DeviceHandle::Trace>("trace"),
       InstanceMethod<&DeviceHandle::Close>("close")});
}

Napi::Object DeviceHandle::Wrap(Napi::Env env, std::shared_ptr<Device> device) {
  const DeviceInfo& info = device->info();
  const Napi::Object object =
      Make(env, Instance::Of(env).device, DeviceAndQueue{device, RoundQueue::Open(env)});
  SetFixed(object, "kind", Napi::String::New(env, info.kind));
  SetFixed(object, "name", Napi::String::New(env, info.name));
  SetFixed(object, "target", Napi::String::New(env, info.target));
  SetFixed(object, "units", Napi::Number::New(env, info.units));
  return object;
}

Device& DeviceHandle::Open(Napi::Env env) const {
  if (held.device->closed()) throw Napi::Error::New(env, "the device is closed");
  return *held.device;
}

Napi::Value DeviceHandle::Allocate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Device& device = Open(env);
  const auto bytes = static_cast<std::size_t>(ReadInteger(info[0], Where("bytes"), 1, kMaxSafeInteger));
  const Napi::Object object = BufferHandle::Make(env, Instance::Of(env).buffer, device.Allocate(bytes));
  SetFixed(object, "bytes", Napi::Number::New(env, static_cast<double>(bytes)));
  return object;
}

void DeviceHandle::Release(const Napi::CallbackInfo& info) {
  const Where where("buffer");
  const Device& device = Open(info.Env());
  ReadBuffer(device, info[0], where);
  // Programs that use the memory keep it until they close.
  BufferHandle::Of(info[0], where).held.reset();
}

void DeviceHandle::Write(const Napi::CallbackInfo& info) {
  Device& device = Open(info.Env());
  const TransferView transfer = ReadTransfer(device, info[0], Where("transfer"));
  device.Write(*transfer.memory, transfer.offset, transfer.view.data, transfer.view.size);
}

void DeviceHandle::Read(const Napi::CallbackInfo& info) {
  Device& device = Open(info.Env());
  const TransferView transfer = ReadTransfer(device, info[0], Where("transfer"));
  device.Read(*transfer.memory, transfer.offset, transfer.view.data, transfer.view.size);
}

Napi::Value DeviceHandle::Load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Device& device = Open(env);
  const bool host = device.info().kind == "host";
  const std::string entry = ReadString(info[1], Where("entry"));
  if (entry.empty()) ThrowRange(env, Where("entry"), "a name");
  const Where where("code");
  std::string code;
  if (host) {
    if (!info[0].IsString()) ThrowType(env, where, "a shared library's path on the host device");
    code = ReadString(info[0], where);
  } else {
    const ByteView view = ReadBytes(info[0], where);
    code.assign(reinterpret_cast<const char*>(view.data), view.size);
  }
  const Napi::Object object = CodeHandle::Make(env, Instance::Of(env).code, device.Load(code, entry));
  SetFixed(object, "name", Napi::String::New(env, entry));
  return object;
}

Napi::Value DeviceHandle::CreateProgram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Device& device = Open(env);
  const WordOrder order = ReadOrder(info[1]);
  ProgramParts parts = ReadWords(device, info[0]);
  parts.order = order;
  ProgramAndQueue made{device.CreateProgram(std::move(parts)), held.rounds};
  return ProgramHandle::Make(env, Instance::Of(env).program, std::move(made));
}

std::shared_ptr<Round> DeviceHandle::ReadTogether(const Napi::CallbackInfo& info) const {
  const Napi::Env env = info.Env();
  Device& device = Open(env);
  const auto round = std::make_shared<Round>();
  const Where where("programs");
  const List programs(info[0], where, kMaxPrograms);
  if (programs.size() == 0) ThrowRange(env, where, "at least one program");
  std::unordered_set<const Program*> seen;
  for (std::uint32_t i = 0; i < programs.size(); ++i) {
    const Where program_where(where, i);
    const std::shared_ptr<Program> program = ProgramHandle::Of(programs[i], program_where).Open(env);
    if (program->device.get() != &device) ThrowRange(env, program_where, "a program of this device");
    // Two rounds of one program at the same time would write the same memory.
    if (!seen.insert(program.get()).second) ThrowRange(env, program_where, "a program that is not given before");
    round->programs.push_back(program);
  }
  const std::string together = ReadString(info[1], Where("together"));
  if (together != "in turn" && together != "side by side") {
    ThrowRange(env, Where("together"), "'in turn' or 'side by side'");
  }
  round->measure = together == "in turn" ? Measure::kInTurn : Measure::kSideBySide;
  return round;
}

Napi::Value DeviceHandle::Time(const Napi::CallbackInfo& info) {
  return Promised(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Round> round = ReadTogether(info);
    round->repetitions = ReadRepetitions(info[2]);
    return held.rounds->Start(info.Env(), round, RoundQueue::Result::kTime, {});
  });
}

Napi::Value DeviceHandle::Trace(const Napi::CallbackInfo& info) {
  return Promised(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Round> round = ReadTogether(info);
    std::size_t blocks = 0;
    for (const std::shared_ptr<Program>& program : round->programs) blocks += program->blocks;
    if (blocks > kMaxTracedBlocks) {
      ThrowRange(info.Env(), Where("programs"),
                 "of at most " + std::to_string(kMaxTracedBlocks) + " physical blocks to be traced, not " + std::to_string(blocks));
    }
    round->is_traced = true;
    return held.rounds->Start(info.Env(), round, RoundQueue::Result::kTrace, {});
  });
}

void DeviceHandle::Close(const Napi::CallbackInfo&) { held.device->Close(); }

}  // namespace wideword
