// What runtime/native.ts loads: probe, compileCuda, openCuda and openHost.
#include <napi.h>

#include <memory>
#include <string>

#include "runtime/native/cuda_device.h"
#include "runtime/native/cuda_driver.h"
#include "runtime/native/handles.h"
#include "runtime/native/host_device.h"
#include "runtime/native/nvrtc.h"

namespace wideword {

namespace {

constexpr unsigned kMaxHostThreads = 256;

Napi::Object ProbeCuda(Napi::Env env) {
  Napi::Object result = Napi::Object::New(env);
  Napi::Array devices = Napi::Array::New(env);
  result.Set("devices", devices);
  try {
    const CudaDriver& driver = CudaDriver::Get();
    result.Set("driver", driver.Version());
    const int count = driver.DeviceCount();
    for (int i = 0; i < count; ++i) {
      const CudaDeviceInfo info = driver.Info(i);
      Napi::Object device = Napi::Object::New(env);
      device.Set("ordinal", info.ordinal);
      device.Set("name", info.name);
      device.Set("target", info.target);
      device.Set("multiprocessors", info.multiprocessors);
      device.Set("memoryBytes", static_cast<double>(info.bytes));
      devices.Set(static_cast<std::uint32_t>(i), device);
    }
    if (count == 0) result.Set("problem", "there is no CUDA device");
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    result.Set("problem", error.what());
  }
  return result;
}

Napi::Object ProbeNvrtc(Napi::Env env) {
  Napi::Object result = Napi::Object::New(env);
  try {
    const Nvrtc& nvrtc = Nvrtc::Get(NvrtcSearch::FromEnvironment());
    result.Set("path", nvrtc.path());
    result.Set("version", nvrtc.version());
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    result.Set("problem", error.what());
  }
  return result;
}

Napi::Value Probe(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("cuda", ProbeCuda(info.Env()));
  result.Set("nvrtc", ProbeNvrtc(info.Env()));
  return result;
}

class CompileWorker : public Napi::AsyncWorker {
 public:
  CompileWorker(Napi::Env env, std::string source, std::string target)
      : Napi::AsyncWorker(env, "wideword compile"),
        deferred_(Napi::Promise::Deferred::New(env)),
        search_(NvrtcSearch::FromEnvironment()),
        source_(std::move(source)),
        target_(std::move(target)) {}

  Napi::Promise Promise() { return deferred_.Promise(); }

 protected:
  // AsyncWorker turns an exception of this into OnError.
  void Execute() override { image_ = Nvrtc::Get(search_).Compile(source_, target_); }

  void OnOK() override {
    const Napi::Env env = Env();
    const std::size_t size = image_.bytes.size();
    Napi::Uint8Array image = Napi::Uint8Array::New(env, size);
    if (size > 0) std::copy(image_.bytes.begin(), image_.bytes.end(), image.Data());
    Napi::Object result = Napi::Object::New(env);
    result.Set("image", image);
    result.Set("log", image_.log);
    deferred_.Resolve(result);
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  NvrtcSearch search_;
  std::string source_;
  std::string target_;
  CudaImage image_;
};

// sm_90, sm_90a, compute_100f.
bool IsCudaTarget(const std::string& target) {
  std::size_t at = target.rfind("sm_", 0) == 0 ? 3 : target.rfind("compute_", 0) == 0 ? 8 : 0;
  if (at == 0) return false;
  const std::size_t digits = at;
  while (at < target.size() && target[at] >= '0' && target[at] <= '9') ++at;
  if (at - digits < 2 || at - digits > 3) return false;
  if (at < target.size() && target[at] >= 'a' && target[at] <= 'z') ++at;
  return at == target.size();
}

Napi::Value CompileCuda(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Promised(env, [&]() -> Napi::Value {
    std::string source = ReadString(info[0], Where("source"));
    std::string target = ReadString(info[1], Where("target"));
    if (!IsCudaTarget(target)) ThrowRange(env, Where("target"), "such as sm_90 or compute_90");
    auto* worker = new CompileWorker(env, std::move(source), std::move(target));  // deletes itself when done
    const Napi::Promise promise = worker->Promise();
    worker->Queue();
    return promise;
  });
}

Napi::Value OpenHost(const Napi::CallbackInfo& info) {
  const auto threads = static_cast<unsigned>(ReadInteger(info[0], Where("threads"), 1, kMaxHostThreads));
  return DeviceHandle::Wrap(info.Env(), Device::Open([threads] { return MakeHostBackend(threads); }));
}

Napi::Value OpenCuda(const Napi::CallbackInfo& info) {
  const auto ordinal = static_cast<int>(ReadInteger(info[0], Where("ordinal"), 0, 1023));
  const CudaDriver& driver = CudaDriver::Get();
  const int count = driver.DeviceCount();
  if (ordinal >= count) {
    throw Napi::RangeError::New(info.Env(), "there is no CUDA device " + std::to_string(ordinal) + ", only " +
                                                std::to_string(count));
  }
  return DeviceHandle::Wrap(info.Env(), Device::Open([&driver, ordinal] { return MakeCudaBackend(driver, ordinal); }));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance;  // Node deletes it with the environment
  instance->device = Napi::Persistent(DeviceHandle::Define(env));
  instance->buffer = Napi::Persistent(BufferHandle::Define(env));
  instance->code = Napi::Persistent(CodeHandle::Define(env));
  instance->program = Napi::Persistent(ProgramHandle::Define(env));
  instance->engine = Napi::Persistent(EngineHandle::Define(env));
  env.SetInstanceData(instance);
  exports.Set("probe", Napi::Function::New<Probe>(env, "probe"));
  exports.Set("compileCuda", Napi::Function::New<CompileCuda>(env, "compileCuda"));
  exports.Set("openCuda", Napi::Function::New<OpenCuda>(env, "openCuda"));
  exports.Set("openHost", Napi::Function::New<OpenHost>(env, "openHost"));
  return exports;
}

}  // namespace

}  // namespace wideword

Napi::Object InitWideword(Napi::Env env, Napi::Object exports) { return wideword::Init(env, exports); }

NODE_API_MODULE(wideword, InitWideword)
