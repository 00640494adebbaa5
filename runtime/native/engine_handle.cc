// The JavaScript side of the issue engine: what createEngine is given, and an engine's methods.
#include <algorithm>
#include <unordered_set>

#include "runtime/native/engine_drive.h"
#include "runtime/native/handles.h"
#include "runtime/native/slot_table.h"

namespace wideword {

namespace {

constexpr std::uint32_t kMaxTenants = 1u << 12;
constexpr std::uint32_t kMaxTasks = 1u << 16;
constexpr std::uint32_t kMaxVariants = 1u << 5;
constexpr std::uint32_t kMaxPorts = 1u << 10;
constexpr std::int64_t kMaxClasses = 1 << 11;
constexpr std::uint32_t kMaxCodes = 1u << 12;
constexpr std::int64_t kMaxAhead = 16;
constexpr std::size_t kMaxArrivals = std::size_t{1} << 22;
// Of a second: no block, word or arrival takes or comes later than that.
constexpr double kMaxNanoseconds = 1e15;
// Streams beyond the device's queues would wait for one another.
constexpr std::int64_t kMaxLanes = 16;
constexpr std::uint32_t kMaxArenas = 16;

class SpecReader {
 public:
  SpecReader(const Device& device, EngineRef& engine) : device_(device), engine_(engine) {}

  EngineSpec Read(Napi::Value value);
  EngineCode ReadCode(Napi::Value value, const Where& where);

 private:
  EngineTenant ReadTenant(Napi::Value value, const Where& where);
  void ReadTask(Napi::Value value, const Where& where, unsigned tenant, EngineTenant& to);
  EngineVariant ReadVariant(const Napi::Object& object, const Where& where, unsigned tenant);
  std::vector<EnginePort> ReadPorts(Napi::Value value, const Where& where, std::vector<std::size_t>& bytes);
  void Keep(const std::shared_ptr<Memory>& memory) {
    if (kept_.insert(memory.get()).second) engine_.memories.push_back(memory);
  }
  // Throws for one in another arena than the first, which requests that run elsewhere would share.
  bool InArena(const OperandView& operand, Napi::Env env, const Where& where) const {
    const auto at = std::find(arenas_.begin(), arenas_.end(), operand.memory);
    if (at == arenas_.end()) return false;
    if (at != arenas_.begin()) ThrowRange(env, where, "in no arena but the first");
    return true;
  }

  std::vector<std::shared_ptr<Memory>> ReadArenas(Napi::Value value, const Where& where);

  const Device& device_;
  EngineRef& engine_;
  EngineSpec spec_;
  std::vector<std::shared_ptr<Memory>> arenas_;  // of the tenant that is being read
  std::unordered_set<const void*> taken_;        // arenas of all tenants so far
  std::unordered_set<const void*> kept_;
};

EngineSpec SpecReader::Read(Napi::Value value) {
  const Napi::Env env = value.Env();
  const Where where("engine");
  const Napi::Object object = ReadObject(value, where);
  const auto number = [&](const char* name, double least) {
    return ReadNumber(object.Get(name), Where(where, name), least, kMaxNanoseconds);
  };
  engine_.classes = spec_.classes =
      static_cast<unsigned>(ReadInteger(object.Get("classes"), Where(where, "classes"), 1, kMaxClasses));
  spec_.limits.bound_ns = number("boundNanoseconds", 1);
  spec_.limits.launch_ns = number("launchNanoseconds", 0);
  spec_.limits.stretch = number("stretch", 1);
  const Napi::Value lanes = object.Get("lanes");
  if (!lanes.IsUndefined()) spec_.lanes = static_cast<unsigned>(ReadInteger(lanes, Where(where, "lanes"), 0, kMaxLanes));
  spec_.ahead = static_cast<unsigned>(ReadInteger(object.Get("ahead"), Where(where, "ahead"), 1, kMaxAhead));
  const Where tenants_where(where, "tenants");
  const List tenants(object.Get("tenants"), tenants_where, kMaxTenants);
  if (tenants.size() == 0) ThrowRange(env, tenants_where, "at least one tenant");
  for (std::uint32_t i = 0; i < tenants.size(); ++i) {
    const Napi::HandleScope scope(env);
    spec_.tenants.push_back(ReadTenant(tenants[i], Where(tenants_where, i)));
  }
  const Where codes_where(where, "codes");
  const List codes(object.Get("codes"), codes_where, kMaxCodes);
  std::vector<bool> served(spec_.classes, false);
  for (std::uint32_t i = 0; i < codes.size(); ++i) {
    const Napi::HandleScope scope(env);
    spec_.codes.push_back(ReadCode(codes[i], Where(codes_where, i)));
    for (std::size_t c = 0; c < served.size(); ++c) served[c] = served[c] || spec_.codes.back().body_of[c] >= 0;
  }
  for (const EngineTenant& tenant : spec_.tenants) {
    for (const EngineTask& task : tenant.tasks) {
      for (const EngineVariant& variant : task.variants) {
        if (served[variant.kernel_class]) continue;
        ThrowRange(env, codes_where, "code for each class of a task, and class " + std::to_string(variant.kernel_class) + " has none");
      }
    }
  }
  const Napi::Value program = object.Get("program");
  if (!program.IsUndefined()) {
    const Where program_where(where, "program");
    engine_.captured = ProgramHandle::Of(program, program_where).Open(env);
    if (engine_.captured->device.get() != &device_) ThrowRange(env, program_where, "a program of this device");
    for (unsigned i = 0; i < spec_.tenants.size(); ++i) {
      const std::vector<unsigned>& of = engine_.captured->tenants;
      if (spec_.tenants[i].tasks.empty() || std::binary_search(of.begin(), of.end(), i)) continue;
      ThrowRange(env, program_where, "a program of all tenants, and " + std::to_string(i) + " is not in it");
    }
    spec_.captured = engine_.captured->loaded;
  }
  return std::move(spec_);
}

EngineTenant SpecReader::ReadTenant(Napi::Value value, const Where& where) {
  const Napi::Object object = ReadObject(value, where);
  EngineTenant tenant;
  tenant.weight = ReadNumber(object.Get("weight"), Where(where, "weight"), 1e-6, 1e6);
  arenas_ = ReadArenas(object.Get("arenas"), Where(where, "arenas"));
  for (const std::shared_ptr<Memory>& arena : arenas_) tenant.arenas.push_back(arena->address);
  const unsigned arenas = std::max(1u, static_cast<unsigned>(arenas_.size()));
  if (spec_.tenants.empty()) spec_.arenas = arenas;
  if (arenas != spec_.arenas) ThrowRange(value.Env(), Where(where, "arenas"), "as many as the first tenant's");
  engine_.inputs.emplace_back();
  engine_.outputs.emplace_back();
  tenant.inputs = ReadPorts(object.Get("inputs"), Where(where, "inputs"), engine_.inputs.back());
  tenant.outputs = ReadPorts(object.Get("outputs"), Where(where, "outputs"), engine_.outputs.back());
  const Where tasks_where(where, "tasks");
  const List tasks(object.Get("tasks"), tasks_where, kMaxTasks);
  for (std::uint32_t i = 0; i < tasks.size(); ++i) {
    const Napi::HandleScope scope(value.Env());
    ReadTask(tasks[i], Where(tasks_where, i), static_cast<unsigned>(spec_.tenants.size()), tenant);
  }
  return tenant;
}

std::vector<EnginePort> SpecReader::ReadPorts(Napi::Value value, const Where& where, std::vector<std::size_t>& bytes) {
  std::vector<EnginePort> ports;
  const List list(value, where, kMaxPorts);
  for (std::uint32_t i = 0; i < list.size(); ++i) {
    const OperandView operand = ReadOperand(device_, list[i], Where(where, i));
    Keep(operand.memory);
    ports.push_back({operand.address, operand.bytes, InArena(operand, value.Env(), Where(where, i))});
    bytes.push_back(operand.bytes);
  }
  return ports;
}

void SpecReader::ReadTask(Napi::Value value, const Where& where, unsigned tenant, EngineTenant& to) {
  const Napi::Object object = ReadObject(value, where);
  EngineTask task;
  task.variants.push_back(ReadVariant(object, where, tenant));
  const Napi::Value group = object.Get("group");
  task.group = task.variants.front().kernel_class;
  if (!group.IsUndefined()) {
    task.group = static_cast<unsigned>(ReadInteger(group, Where(where, "group"), 0, std::int64_t{spec_.classes} - 1));
  }
  const Napi::Value wider = object.Get("wider");
  if (!wider.IsUndefined()) {
    const Where wider_where(where, "wider");
    const List variants(wider, wider_where, kMaxVariants);
    for (std::uint32_t i = 0; i < variants.size(); ++i) {
      const Where at(wider_where, i);
      const Napi::Object read = ReadObject(variants[i], at);
      EngineVariant variant = ReadVariant(read, at, tenant);
      // The first of one slot runs by itself; one more may be for words of one slot beside others.
      const std::int64_t least = i == 0 ? 1 : std::int64_t{task.variants.back().from} + 1;
      variant.from = static_cast<unsigned>(ReadInteger(read.Get("from"), Where(at, "from"), least, INT32_MAX));
      task.variants.push_back(variant);
    }
  }
  to.tasks.push_back(std::move(task));
}

EngineVariant SpecReader::ReadVariant(const Napi::Object& object, const Where& where, unsigned tenant) {
  EngineVariant variant;
  variant.kernel_class =
      static_cast<unsigned>(ReadInteger(object.Get("class"), Where(where, "class"), 0, std::int64_t{spec_.classes} - 1));
  // As a slot's virtual blocks (transfers.cc).
  variant.blocks = static_cast<unsigned>(ReadInteger(object.Get("blocks"), Where(where, "blocks"), 1, INT32_MAX));
  variant.block_ns = ReadNumber(object.Get("blockNanoseconds"), Where(where, "blockNanoseconds"), 1e-3, kMaxNanoseconds);
  SlotRow row = {};
  row.end = variant.blocks;
  row.tenant = tenant;
  const Where operands_where(where, "operands");
  const List operands(object.Get("operands"), operands_where, kMaxOperands);
  bool in_arena[kMaxOperands] = {};
  for (std::uint32_t i = 0; i < operands.size(); ++i) {
    const OperandView operand = ReadOperand(device_, operands[i], Where(operands_where, i));
    Keep(operand.memory);
    row.operand[i] = operand.address;
    in_arena[i] = InArena(operand, object.Env(), Where(operands_where, i));
    if (operand.constant) row.constants |= 1u << i;
  }
  const Where sizes_where(where, "sizes");
  const List sizes(object.Get("sizes"), sizes_where, kMaxSizes);
  for (std::uint32_t i = 0; i < sizes.size(); ++i) {
    row.size[i] = static_cast<int>(ReadInteger(sizes[i], Where(sizes_where, i), INT32_MIN, INT32_MAX));
  }
  variant.row = static_cast<unsigned>(spec_.rows.size());
  for (unsigned arena = 0; arena < spec_.arenas; ++arena) {
    spec_.rows.push_back(row);
    if (arena == 0) continue;
    for (std::uint32_t i = 0; i < operands.size(); ++i) {
      if (in_arena[i]) spec_.rows.back().operand[i] += arenas_[arena]->address - arenas_.front()->address;
    }
  }
  return variant;
}

// Buffers of one size that no tenant has yet. Operands name places in the first, and stand for the same place in each.
std::vector<std::shared_ptr<Memory>> SpecReader::ReadArenas(Napi::Value value, const Where& where) {
  std::vector<std::shared_ptr<Memory>> arenas;
  if (value.IsUndefined()) return arenas;
  const List list(value, where, kMaxArenas);
  for (std::uint32_t i = 0; i < list.size(); ++i) {
    arenas.push_back(ReadBuffer(device_, list[i], Where(where, i)));
    if (arenas.back()->bytes != arenas.front()->bytes) {
      ThrowRange(value.Env(), Where(where, i), "of " + std::to_string(arenas.front()->bytes) + " bytes, as the first");
    }
    if (!taken_.insert(arenas.back().get()).second) ThrowRange(value.Env(), Where(where, i), "a buffer that is no arena yet");
  }
  for (const std::shared_ptr<Memory>& arena : arenas) Keep(arena);
  return arenas;
}

EngineCode SpecReader::ReadCode(Napi::Value value, const Where& where) {
  const Napi::Object object = ReadObject(value, where);
  const Where code_where(where, "code");
  const std::shared_ptr<Code> loaded = CodeHandle::Of(object.Get("code"), code_where).held;
  if (loaded->device.get() != &device_) ThrowRange(value.Env(), code_where, "a function of this device");
  EngineCode code;
  code.code = loaded->loaded;
  const std::uint32_t most = std::min(1024u, loaded->max_threads);
  code.threads = static_cast<unsigned>(ReadInteger(object.Get("threads"), Where(where, "threads"), 1, most));
  code.shared_bytes =
      static_cast<unsigned>(ReadInteger(object.Get("sharedBytes"), Where(where, "sharedBytes"), 0, loaded->max_shared_bytes));
  code.body_of.assign(engine_.classes, -1);
  const Where classes_where(where, "classes");
  const List classes(object.Get("classes"), classes_where, static_cast<std::uint32_t>(kMaxClasses));
  const Where bodies_where(where, "bodies");
  const List bodies(object.Get("bodies"), bodies_where, static_cast<std::uint32_t>(kMaxClasses));
  if (bodies.size() != classes.size()) ThrowRange(value.Env(), bodies_where, "one for each class");
  for (std::uint32_t i = 0; i < classes.size(); ++i) {
    const auto c = static_cast<std::size_t>(
        ReadInteger(classes[i], Where(classes_where, i), 0, std::int64_t{engine_.classes} - 1));
    code.body_of[c] = static_cast<int>(ReadInteger(bodies[i], Where(bodies_where, i), 0, kMaxClasses));
  }
  const Napi::Value factor = object.Get("factor");
  if (!factor.IsUndefined()) code.factor = ReadNumber(factor, Where(where, "factor"), 1e-3, 1e3);
  engine_.codes.push_back(loaded);
  return code;
}

Napi::Float64Array Doubles(Napi::Env env, const std::vector<double>& values) {
  Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace

Napi::Value DeviceHandle::CreateEngine(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Device& device = Open(env);
  auto engine = std::make_shared<EngineRef>();
  EngineSpec spec = SpecReader(device, *engine).Read(info[0]);
  return EngineHandle::Make(env, Instance::Of(env).engine, {device.CreateEngine(engine, std::move(spec)), held.rounds});
}

Napi::Function EngineHandle::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeEngine",
      {InstanceMethod<&EngineHandle::Submit>("submit"), InstanceMethod<&EngineHandle::Drive>("drive"),
       InstanceMethod<&EngineHandle::AddCode>("addCode"), InstanceMethod<&EngineHandle::Stats>("stats"),
       InstanceMethod<&EngineHandle::KeepJournal>("keepJournal"),
       InstanceMethod<&EngineHandle::TakeJournal>("takeJournal"), InstanceMethod<&EngineHandle::Close>("close")});
}

const EngineRef& EngineHandle::Open(Napi::Env env) const {
  if (!held.engine) throw Napi::Error::New(env, "the engine is closed");
  if (held.engine->device->closed()) throw Napi::Error::New(env, "the device is closed");
  return *held.engine;
}

Napi::Value EngineHandle::Submit(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Promised(env, [&]() -> Napi::Value {
    Open(env);
    // Held, as getters of what is read may close the engine, and may resize and detach arrays.
    const std::shared_ptr<EngineRef> engine = held.engine;
    const auto tenants = static_cast<std::int64_t>(engine->inputs.size());
    const auto tenant = static_cast<unsigned>(ReadInteger(info[0], Where("tenant"), 0, tenants - 1));
    const auto read = [&](const Napi::Value& value, const Where& where, const std::vector<std::size_t>& bytes) {
      const List list(value, where, kMaxPorts);
      if (list.size() != bytes.size()) ThrowRange(env, where, "one for each port, " + std::to_string(bytes.size()));
      std::vector<Napi::Value> arrays;
      for (std::uint32_t i = 0; i < list.size(); ++i) arrays.push_back(list[i]);
      return arrays;
    };
    const auto check = [&](const std::vector<Napi::Value>& arrays, const Where& where, const std::vector<std::size_t>& bytes) {
      for (std::uint32_t i = 0; i < arrays.size(); ++i) {
        if (ReadBytes(arrays[i], Where(where, i)).size == bytes[i]) continue;
        ThrowRange(env, Where(where, i), "of " + std::to_string(bytes[i]) + " bytes");
      }
    };
    const std::vector<Napi::Value> writes = read(info[1], Where("writes"), engine->inputs[tenant]);
    const std::vector<Napi::Value> reads = read(info[2], Where("reads"), engine->outputs[tenant]);
    // From here on nothing of the caller's runs.
    Open(env);
    check(writes, Where("writes"), engine->inputs[tenant]);
    check(reads, Where("reads"), engine->outputs[tenant]);
    const int place = engine->engine->Claim(tenant);
    if (place < 0) {
      ThrowRange(env, Where("tenant"), "one with fewer than " + std::to_string(engine->engine->places()) + " requests under way");
    }
    std::uint8_t* staged = engine->engine->InputsOf(tenant, static_cast<unsigned>(place));
    for (std::size_t i = 0; i < writes.size(); ++i) {
      const ByteView view = ReadBytes(writes[i], Where("writes"));
      std::copy(view.data, view.data + view.size, staged);
      staged += view.size;
    }
    const auto round = std::make_shared<Round>();
    for (std::size_t bytes : engine->outputs[tenant]) round->reads.push_back({nullptr, 0, std::vector<std::uint8_t>(bytes)});
    return held.rounds->Start(env, round, RoundQueue::Result::kRun, reads, [&](std::function<void()> done) {
      engine->device->Submit(*engine, {tenant, static_cast<unsigned>(place), true,
                                       [round](const EngineOutcome& outcome, const std::uint8_t* outputs) {
                                         round->problem = outcome.problem;
                                         round->milliseconds = {(outcome.ended_ns - outcome.queued_ns) / 1e6};
                                         for (Copy& copy : round->reads) {
                                           std::copy(outputs, outputs + copy.data.size(), copy.data.begin());
                                           outputs += copy.data.size();
                                         }
                                       },
                                       std::move(done)});
    });
  });
}

Napi::Value EngineHandle::Drive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Promised(env, [&]() -> Napi::Value {
    const EngineRef& engine = Open(env);
    const auto tenants = static_cast<unsigned>(engine.inputs.size());
    const Where at_where("milliseconds");
    const Where tenant_where("tenants");
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
      ThrowType(env, at_where, "a Float64Array");
    }
    if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
      ThrowType(env, tenant_where, "a Uint32Array");
    }
    const auto at = info[0].As<Napi::Float64Array>();
    const auto of = info[1].As<Napi::Uint32Array>();
    if (at.ElementLength() == 0 || at.ElementLength() > kMaxArrivals) {
      ThrowRange(env, at_where, "from 1 to " + std::to_string(kMaxArrivals) + " arrivals");
    }
    if (of.ElementLength() != at.ElementLength()) ThrowRange(env, tenant_where, "as long as milliseconds");
    std::vector<Arrival> arrivals;
    for (std::size_t i = 0; i < at.ElementLength(); ++i) {
      const double ns = at[i] * 1e6;
      if (!(ns >= (arrivals.empty() ? 0 : arrivals.back().at_ns) && ns <= kMaxNanoseconds)) {
        ThrowRange(env, at_where, "ascending, from 0");
      }
      if (of[i] >= tenants) ThrowRange(env, tenant_where, "of tenants below " + std::to_string(tenants));
      arrivals.push_back({ns, of[i]});
    }
    const auto round = std::make_shared<Round>();
    return held.rounds->Start(env, round, RoundQueue::Result::kTime, {}, [&](std::function<void()> done) {
      engine.device->WithEngine(engine, [&](Engine& running) {
        if (running.has_source()) throw std::runtime_error("the engine is being driven already");
        wideword::Drive(running, std::move(arrivals), tenants,
                        [round, done = std::move(done)](std::vector<double> latencies, const std::string& problem) {
                          for (double& latency : latencies) latency /= 1e6;
                          round->milliseconds = std::move(latencies);
                          round->problem = problem;
                          done();
                        });
      });
    });
  });
}

void EngineHandle::AddCode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Open(env);
  const std::shared_ptr<EngineRef> engine = held.engine;  // getters of the code may close it
  const EngineCode code = SpecReader(*engine->device, *engine).ReadCode(info[0], Where("code"));
  Open(env);
  engine->device->WithEngine(*engine, [&](Engine& running) { running.AddCode(code); });
}

Napi::Value EngineHandle::Stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const EngineRef& engine = Open(env);
  EngineStats stats;
  engine.device->WithEngine(engine, [&](Engine& running) { stats = running.Stats(); });
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* name, double value) { object.Set(name, value); };
  set("words", static_cast<double>(stats.words));
  set("slots", static_cast<double>(stats.slots));
  set("slices", static_cast<double>(stats.slices));
  set("rounds", static_cast<double>(stats.rounds));
  set("requests", static_cast<double>(stats.requests));
  set("issueNanoseconds", stats.issue_ns);
  set("cohorts", static_cast<double>(stats.cohorts));
  set("cohortRequests", static_cast<double>(stats.cohort_requests));
  set("cohortIssueNanoseconds", stats.cohort_issue_ns);
  std::vector<double> wishes;
  for (const EngineStats::Wish& wish : stats.wishes) {
    wishes.insert(wishes.end(), {static_cast<double>(wish.one), static_cast<double>(wish.other), static_cast<double>(wish.times)});
  }
  object.Set("wishes", Doubles(env, wishes));
  object.Set("slotsOf", Doubles(env, {stats.slots_of.begin(), stats.slots_of.end()}));
  object.Set("wordsOn", Doubles(env, {stats.words_on.begin(), stats.words_on.end()}));
  object.Set("factors", Doubles(env, stats.factors));
  return object;
}

void EngineHandle::KeepJournal(const Napi::CallbackInfo& info) {
  const EngineRef& engine = Open(info.Env());
  const bool keep = info[0].ToBoolean();
  engine.device->WithEngine(engine, [&](Engine& running) { running.KeepJournal(keep); });
}

Napi::Value EngineHandle::TakeJournal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const EngineRef& engine = Open(env);
  Journal journal;
  engine.device->WithEngine(engine, [&](Engine& running) { journal = running.TakeJournal(); });
  std::vector<double> words, slots;
  for (std::size_t n = 0; n < journal.words.size(); ++n) {
    const IssuedWord& word = journal.words[n];
    const bool is_whole = word.code == kRound || word.code == kCohort;
    const double code = word.code == kRound ? -1.0 : word.code == kCohort ? -2.0 : word.code;
    words.insert(words.end(), {word.issued_ns, word.ended_ns, word.expected_ns, code});
    for (std::size_t s = 0; s < word.tenants.size(); ++s) {
      slots.insert(slots.end(), {static_cast<double>(n), static_cast<double>(word.tenants[s]),
                                 is_whole ? -1.0 : word.tasks[s], is_whole ? 0.0 : word.begins[s],
                                 is_whole ? 0.0 : word.ends[s]});
    }
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("words", Doubles(env, words));
  object.Set("slots", Doubles(env, slots));
  std::vector<double> requests;
  for (const Journal::Request& request : journal.requests) {
    requests.insert(requests.end(), {static_cast<double>(request.tenant), request.queued_ns, request.started_ns, request.ended_ns});
  }
  object.Set("requests", Doubles(env, requests));
  return object;
}

void EngineHandle::Close(const Napi::CallbackInfo&) {
  const std::shared_ptr<EngineRef> engine = std::move(held.engine);
  if (!engine || engine->device->closed()) return;
  // What is under way is called off now, and not when the last reference goes.
  engine->device->WithEngine(*engine, [](Engine& running) { running.Fail("the engine is closed"); });
}

}  // namespace wideword
