// The JavaScript classes behind the interfaces of runtime/native.ts. Instances are only made here; each carries a type
// tag, so any other object given in its place is an Error.
#ifndef WIDEWORD_HANDLES_H
#define WIDEWORD_HANDLES_H

#include <napi.h>

#include <memory>
#include <string>

#include "runtime/native/checks.h"
#include "runtime/native/device.h"
#include "runtime/native/round_queue.h"

namespace wideword {

// What belongs to one Node environment (the main thread or a worker_thread).
struct Instance {
  Napi::FunctionReference device;
  Napi::FunctionReference buffer;
  Napi::FunctionReference code;
  Napi::FunctionReference program;
  Napi::FunctionReference engine;
  // What the constructor that Make is calling takes; null when JavaScript calls it.
  void* handover = nullptr;
  static Instance& Of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }
};

template <class Derived, class Held>
class Handle : public Napi::ObjectWrap<Derived> {
 public:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Derived>(info) {
    void*& handover = Instance::Of(info.Env()).handover;
    if (!handover) throw Napi::TypeError::New(info.Env(), "only the addon makes these objects");
    held = std::move(*static_cast<Held*>(handover));
    handover = nullptr;
    const Napi::Value self = info.This();
    self.As<Napi::Object>().TypeTag(&Derived::kTag);
  }

  static Napi::Object Make(Napi::Env env, Napi::FunctionReference& constructor, Held made) {
    Instance& instance = Instance::Of(env);
    instance.handover = &made;
    try {
      return constructor.New({});
    } catch (...) {
      instance.handover = nullptr;
      throw;
    }
  }

  // The native side of `value`, which lives as long as that does.
  static Derived& Of(Napi::Value value, const Where& where) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&Derived::kTag)) {
      ThrowType(value.Env(), where, Derived::kWhat);
    }
    return *Derived::Unwrap(value.As<Napi::Object>());
  }

  Held held;
};

// A read-only property of a handle. A value and not an accessor: V8 does not check what an accessor is called on.
void SetFixed(Napi::Object object, const char* name, Napi::Value value);

class BufferHandle : public Handle<BufferHandle, std::shared_ptr<Memory>> {
 public:
  static constexpr napi_type_tag kTag = {0x5769646577427566, 0x8d1f0d4b6a1e4c01};
  static constexpr const char* kWhat = "a buffer made by a device's allocate()";
  static Napi::Function Define(Napi::Env env);
  using Handle::Handle;
};

class CodeHandle : public Handle<CodeHandle, std::shared_ptr<Code>> {
 public:
  static constexpr napi_type_tag kTag = {0x5769646577436f64, 0x8d1f0d4b6a1e4c02};
  static constexpr const char* kWhat = "a function made by a device's load()";
  static Napi::Function Define(Napi::Env env);
  using Handle::Handle;
};

struct ProgramAndQueue {
  std::shared_ptr<Program> program;  // null once closed
  std::shared_ptr<RoundQueue> rounds;
};

class ProgramHandle : public Handle<ProgramHandle, ProgramAndQueue> {
 public:
  static constexpr napi_type_tag kTag = {0x5769646577507267, 0x8d1f0d4b6a1e4c03};
  static constexpr const char* kWhat = "a program made by a device's createProgram()";
  static Napi::Function Define(Napi::Env env);
  using Handle::Handle;
  // Throws if the program or its device is closed.
  std::shared_ptr<Program> Open(Napi::Env env) const;

 private:
  Napi::Value Run(const Napi::CallbackInfo& info);
  Napi::Value Time(const Napi::CallbackInfo& info);
  Napi::Value TimeWords(const Napi::CallbackInfo& info);
  Napi::Value Measured(const Napi::CallbackInfo& info, Measure measure);
  void Close(const Napi::CallbackInfo& info);
  std::vector<unsigned> ReadActive(const Program& program, Napi::Value value, const Where& where) const;
};

struct DeviceAndQueue {
  std::shared_ptr<Device> device;
  std::shared_ptr<RoundQueue> rounds;
};

class DeviceHandle : public Handle<DeviceHandle, DeviceAndQueue> {
 public:
  static constexpr napi_type_tag kTag = {0x5769646577446576, 0x8d1f0d4b6a1e4c04};
  static constexpr const char* kWhat = "a device";
  static Napi::Function Define(Napi::Env env);
  // The JavaScript object of a device just opened.
  static Napi::Object Wrap(Napi::Env env, std::shared_ptr<Device> device);
  using Handle::Handle;

 private:
  Napi::Value Allocate(const Napi::CallbackInfo& info);
  void Release(const Napi::CallbackInfo& info);
  void Write(const Napi::CallbackInfo& info);
  void Read(const Napi::CallbackInfo& info);
  Napi::Value Load(const Napi::CallbackInfo& info);
  Napi::Value CreateProgram(const Napi::CallbackInfo& info);
  Napi::Value CreateEngine(const Napi::CallbackInfo& info);
  Napi::Value Time(const Napi::CallbackInfo& info);
  Napi::Value Trace(const Napi::CallbackInfo& info);
  // A round of several programs: the first two arguments of time and trace.
  std::shared_ptr<Round> ReadTogether(const Napi::CallbackInfo& info) const;
  void Close(const Napi::CallbackInfo& info);
  Device& Open(Napi::Env env) const;
};

struct EngineAndQueue {
  std::shared_ptr<EngineRef> engine;  // null once closed
  std::shared_ptr<RoundQueue> rounds;
};

class EngineHandle : public Handle<EngineHandle, EngineAndQueue> {
 public:
  static constexpr napi_type_tag kTag = {0x5769646577456e67, 0x8d1f0d4b6a1e4c05};
  static constexpr const char* kWhat = "an engine made by a device's createEngine()";
  static Napi::Function Define(Napi::Env env);
  using Handle::Handle;

 private:
  // Throws if the engine or its device is closed.
  const EngineRef& Open(Napi::Env env) const;
  Napi::Value Submit(const Napi::CallbackInfo& info);
  Napi::Value Drive(const Napi::CallbackInfo& info);
  void AddCode(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  void KeepJournal(const Napi::CallbackInfo& info);
  Napi::Value TakeJournal(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
};

// The memory of a buffer of this device that has not been released.
std::shared_ptr<Memory> ReadBuffer(const Device& device, Napi::Value value, const Where& where);

// A transfer of runtime/native.ts, checked against its buffer; `view` is where its data is now.
struct TransferView {
  std::shared_ptr<Memory> memory;
  std::size_t offset = 0;
  Napi::Value array;
  ByteView view;
};
TransferView ReadTransfer(const Device& device, Napi::Value value, const Where& where);

// Part of a buffer, checked.
struct OperandView {
  std::shared_ptr<Memory> memory;
  Address address = 0;
  std::size_t bytes = 0;
  bool constant = false;
};
OperandView ReadOperand(const Device& device, Napi::Value value, const Where& where);

// The words of createProgram.
ProgramParts ReadWords(const Device& device, Napi::Value value);

// Makes what `start` throws the rejection of a promise, as an async function would.
template <class Start>
Napi::Value Promised(Napi::Env env, Start start) {
  try {
    return start();
  } catch (const Napi::Error& error) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  } catch (const std::exception& error) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(Napi::Error::New(env, error.what()).Value());
    return deferred.Promise();
  }
}

}  // namespace wideword

#endif
