#include "runtime/native/device.h"

#include <utility>

namespace wideword {

Memory::Memory(std::shared_ptr<Device> owner, Address at, std::size_t size)
    : device(std::move(owner)), address(at), bytes(size) {}

Memory::~Memory() {
  device->executor_.Post([at = address](DeviceState& state) { state.Free(at); });
}

Code::Code(std::shared_ptr<Device> owner, LoadedCode* made)
    : device(std::move(owner)), loaded(made), max_threads(made->max_threads()), max_shared_bytes(made->max_shared_bytes()) {}

Code::~Code() {
  device->executor_.Post([key = loaded](DeviceState& state) { state.codes.erase(key); });
}

Program::~Program() {
  if (!loaded) return;
  device->executor_.Post([key = loaded](DeviceState& state) { state.programs.erase(key); });
}

EngineRef::~EngineRef() {
  if (!engine) return;
  device->executor_.Post([key = static_cast<Stepped*>(engine)](DeviceState& state) { state.stepped.erase(key); });
}

std::shared_ptr<Device> Device::Open(Executor::MakeBackend make) {
  std::shared_ptr<Device> device(new Device(std::move(make)));
  device->executor_.Call([&](DeviceState& state) { device->info_ = state.backend->info(); });
  return device;
}

std::shared_ptr<Memory> Device::Allocate(std::size_t bytes) {
  Address address = 0;
  const auto allocate = [&](DeviceState& state) {
    address = state.backend->Allocate(bytes);
    state.memories.emplace(address, bytes);
  };
  try {
    // New memory concerns no round in the queue, so it need not wait for them...
    executor_.Call(allocate, Executor::Order::kNext);
  } catch (const std::exception&) {
    // ... unless there is too little until what was released behind them is freed.
    executor_.Call(allocate);
  }
  return std::make_shared<Memory>(shared_from_this(), address, bytes);
}

void Device::Write(const Memory& memory, std::size_t offset, const void* data, std::size_t bytes) {
  executor_.Call([&](DeviceState& state) {
    state.backend->Write(memory.address + offset, data, bytes);
    state.backend->Wait();
  });
}

void Device::Read(const Memory& memory, std::size_t offset, void* data, std::size_t bytes) {
  executor_.Call([&](DeviceState& state) {
    state.backend->Read(data, memory.address + offset, bytes);
    state.backend->Wait();
  });
}

std::shared_ptr<Code> Device::Load(const std::string& code, const std::string& entry) {
  LoadedCode* loaded = nullptr;
  executor_.Call(
      [&](DeviceState& state) {
        std::unique_ptr<LoadedCode> made = state.backend->Load(code, entry);
        loaded = made.get();
        state.codes.emplace(loaded, std::move(made));
      },
      Executor::Order::kNext);
  return std::make_shared<Code>(shared_from_this(), loaded);
}

std::shared_ptr<Program> Device::CreateProgram(ProgramParts parts) {
  const auto program = std::make_shared<Program>();
  program->device = shared_from_this();
  program->words = parts.words.size();
  for (const WordSpec& word : parts.words) {
    for (const SlotSpec& slot : word.slots) program->blocks += slot.blocks;
  }
  program->tenants = std::move(parts.tenants);
  program->memories = std::move(parts.memories);
  program->codes = std::move(parts.codes);
  executor_.Call(
      [&](DeviceState& state) {
        std::unique_ptr<LoadedProgram> made = state.backend->Prepare(parts.words, parts.order);
        program->loaded = made.get();
        state.programs.emplace(program->loaded, std::move(made));
      },
      Executor::Order::kNext);
  return program;
}

std::shared_ptr<EngineRef> Device::CreateEngine(std::shared_ptr<EngineRef> made, EngineSpec spec) {
  made->device = shared_from_this();
  executor_.Call(
      [&](DeviceState& state) {
        auto engine = std::make_unique<Engine>(*state.backend, std::move(spec));
        made->engine = engine.get();
        state.stepped.emplace(made->engine, std::move(engine));
      },
      Executor::Order::kNext);
  return made;
}

void Device::WithEngine(const EngineRef& engine, const std::function<void(Engine&)>& job) {
  executor_.Call([&](DeviceState&) { job(*engine.engine); }, Executor::Order::kNext);
}

void Device::Submit(const EngineRef& engine, EngineRequest request) {
  if (closed()) throw std::runtime_error("the device is closed");
  engine.engine->Submit(std::move(request));
  executor_.Wake();
}

namespace {

void RunRound(Backend& backend, Round& round) {
  LoadedProgram& program = *round.programs.front()->loaded;
  for (const Copy& write : round.writes) {
    backend.Write(write.memory->address + write.offset, write.data.data(), write.data.size());
  }
  program.Activate(round.active);
  for (unsigned i = 1; i <= round.repetitions; ++i) {
    program.Launch();
    if (i == round.repetitions) {
      for (Copy& read : round.reads) {
        backend.Read(read.data.data(), read.memory->address + read.offset, read.data.size());
      }
    }
    backend.Wait();
    round.milliseconds.push_back(program.Milliseconds());
  }
}

void TimeWords(Round& round) {
  LoadedProgram& program = *round.programs.front()->loaded;
  program.Activate(round.active);
  for (unsigned i = 0; i < round.repetitions; ++i) {
    const std::vector<double> words = program.TimeWords();
    round.milliseconds.insert(round.milliseconds.end(), words.begin(), words.end());
  }
}

void TimeTogether(Backend& backend, Round& round, Together together) {
  std::vector<LoadedProgram*> programs;
  for (const std::shared_ptr<Program>& program : round.programs) {
    program->loaded->Activate(program->tenants);
    programs.push_back(program->loaded);
  }
  if (round.is_traced) {
    round.trace = backend.TraceTogether(programs, together);
    return;
  }
  for (unsigned i = 0; i < round.repetitions; ++i) {
    round.milliseconds.push_back(backend.TimeTogether(programs, together));
  }
}

void Run(Backend& backend, Round& round) {
  switch (round.measure) {
    case Measure::kRounds:
      return RunRound(backend, round);
    case Measure::kWords:
      return TimeWords(round);
    case Measure::kInTurn:
      return TimeTogether(backend, round, Together::kInTurn);
    case Measure::kSideBySide:
      return TimeTogether(backend, round, Together::kSideBySide);
  }
}

}  // namespace

void Device::Start(std::shared_ptr<Round> round, std::function<void()> done) {
  const bool posted = executor_.Post([round = std::move(round), done = std::move(done)](DeviceState& state) {
    try {
      Run(*state.backend, *round);
    } catch (const std::exception& error) {
      round->problem = error.what();
      try {
        state.backend->Wait();  // copies under way still use the round's data
      } catch (const std::exception&) {
        // For the same reason, most likely; the device does nothing any more.
      }
    }
    // Before `done`: from then on the round belongs to the other thread, but for this thread's reference to it.
    done();
  });
  if (!posted) throw std::runtime_error("the device is closed");
}

void Device::Drain() {
  if (!closed()) executor_.Call([](DeviceState&) {});
}

}  // namespace wideword
