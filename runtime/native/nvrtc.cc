#include "runtime/native/nvrtc.h"

#include <dlfcn.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

namespace wideword {

namespace {

const char* const kNames[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"};

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool IsFolder(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// Newest version first, as far as names tell.
std::vector<std::string> Matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (std::size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
  std::reverse(paths.begin(), paths.end());
  return paths;
}

// NVRTC opens its builtins by bare name in the middle of a compile, which fails with error 7 wherever they are not on
// the loader's path, unless they are in the process already.
void OpenBuiltinsBeside(const std::string& file) {
  const std::string folder = file.substr(0, file.rfind('/') + 1);
  for (const std::string& builtins : Matches(folder + "libnvrtc-builtins.so*")) {
    dlopen(builtins.c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
}

std::string LoaderProblem() {
  const char* text = dlerror();
  return text ? text : "unknown reason";
}

}  // namespace

NvrtcSearch NvrtcSearch::FromEnvironment() {
  NvrtcSearch search;
  search.chosen = Variable("WIDEWORD_NVRTC");
  auto& folders = search.folders;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const std::string root = Variable(variable);
    if (root.empty()) continue;
    folders.push_back(root + "/lib64");
    folders.push_back(root + "/lib");
  }
  folders.push_back("/usr/local/cuda/lib64");
  folders.push_back("/usr/local/cuda-*/lib64");
  // Where pip puts the nvidia-cuda-nvrtc package.
  const std::string package = "/nvidia/*/lib";
  folders.push_back("./.nvrtc" + package);
  const std::string virtual_env = Variable("VIRTUAL_ENV");
  if (!virtual_env.empty()) folders.push_back(virtual_env + "/lib/python*/site-packages" + package);
  const std::string home = Variable("HOME");
  if (!home.empty()) folders.push_back(home + "/.local/lib/python*/site-packages" + package);
  for (const char* root : {"/usr/lib/python3*", "/usr/local/lib/python3*"}) {
    const std::string base = root;
    folders.push_back(base + "/site-packages" + package);
    folders.push_back(base + "/dist-packages" + package);
  }
  folders.push_back("/opt/*/.venv/lib/python3*/site-packages" + package);
  folders.push_back("/opt/*/lib/python3*/site-packages" + package);
  return search;
}

std::unique_ptr<Nvrtc> Nvrtc::Open(const std::string& file, std::string& problem) {
  const bool named_path = file.find('/') != std::string::npos;
  if (named_path) {
    struct stat status;
    if (stat(file.c_str(), &status) != 0) return nullptr;
    OpenBuiltinsBeside(file);
  }
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const std::string reason = LoaderProblem();
    if (named_path && problem.empty()) problem = reason;
    return nullptr;
  }
  std::unique_ptr<Nvrtc> nvrtc(new Nvrtc);
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
    if (!function && !missing) missing = symbol;
  };
  find(nvrtc->GetVersion, "nvrtcVersion");
  find(nvrtc->GetErrorString, "nvrtcGetErrorString");
  find(nvrtc->CreateProgram, "nvrtcCreateProgram");
  find(nvrtc->CompileProgram, "nvrtcCompileProgram");
  find(nvrtc->DestroyProgram, "nvrtcDestroyProgram");
  find(nvrtc->GetLogSize, "nvrtcGetProgramLogSize");
  find(nvrtc->GetLog, "nvrtcGetProgramLog");
  find(nvrtc->GetPtxSize, "nvrtcGetPTXSize");
  find(nvrtc->GetPtx, "nvrtcGetPTX");
  find(nvrtc->GetCubinSize, "nvrtcGetCUBINSize");
  find(nvrtc->GetCubin, "nvrtcGetCUBIN");
  int major = 0;
  int minor = 0;
  if (missing || nvrtc->GetVersion(&major, &minor) != NVRTC_SUCCESS) {
    if (problem.empty()) problem = file + (missing ? std::string(" lacks ") + missing : " tells no version");
    dlclose(library);
    return nullptr;
  }
  nvrtc->path_ = file;
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(nvrtc->GetVersion), &info) != 0 && info.dli_fname) nvrtc->path_ = info.dli_fname;
  if (!named_path) OpenBuiltinsBeside(nvrtc->path_);
  nvrtc->version_ = std::to_string(major) + "." + std::to_string(minor);
  return nvrtc;
}

const Nvrtc& Nvrtc::Get(const NvrtcSearch& search) {
  static std::mutex mutex;
  static const Nvrtc* kept = nullptr;  // never deleted: a compile may outlive static destruction
  std::lock_guard<std::mutex> lock(mutex);
  if (kept) return *kept;
  std::vector<std::string> files;
  if (!search.chosen.empty()) {
    if (IsFolder(search.chosen)) {
      for (const char* name : kNames) files.push_back(search.chosen + "/" + name);
    } else {
      // A bare name would be looked for in the system's folders.
      files.push_back(search.chosen.find('/') == std::string::npos ? "./" + search.chosen : search.chosen);
    }
  } else {
    for (const char* name : kNames) files.emplace_back(name);
    for (const std::string& pattern : search.folders) {
      for (const std::string& folder : Matches(pattern)) {
        for (const char* name : kNames) files.push_back(folder + "/" + name);
      }
    }
  }
  std::string problem;
  for (const std::string& file : files) {
    std::unique_ptr<Nvrtc> nvrtc = Open(file, problem);
    if (!nvrtc) continue;
    kept = nvrtc.release();
    return *kept;
  }
  if (!search.chosen.empty()) {
    throw std::runtime_error("NVRTC was not found at WIDEWORD_NVRTC=" + search.chosen +
                             (problem.empty() ? "" : ": " + problem));
  }
  throw std::runtime_error(
      problem.empty() ? "NVRTC was not found: install it (pip install nvidia-cuda-nvrtc) or say with WIDEWORD_NVRTC where it is"
                      : "NVRTC cannot be used: " + problem);
}

void Nvrtc::Check(nvrtcResult result, const char* doing) const {
  if (result != NVRTC_SUCCESS) throw std::runtime_error(std::string(doing) + " failed: " + GetErrorString(result));
}

std::string Nvrtc::Log(nvrtcProgram program) const {
  std::size_t size = 0;
  if (GetLogSize(program, &size) != NVRTC_SUCCESS || size == 0) return "";
  std::string log(size, '\0');
  if (GetLog(program, log.data()) != NVRTC_SUCCESS) return "";
  return log.substr(0, log.find('\0'));
}

namespace {

// The first line of a log that tells an error.
std::string FirstError(const std::string& log) {
  const std::size_t error = log.find("error");
  if (error == std::string::npos) return "";
  const std::size_t before = log.rfind('\n', error);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  return log.substr(begin, log.find('\n', error) - begin);
}

}  // namespace

CudaImage Nvrtc::Compile(const std::string& source, const std::string& target) const {
  struct Closer {
    const Nvrtc& nvrtc;
    nvrtcProgram program = nullptr;
    ~Closer() {
      if (program) nvrtc.DestroyProgram(&program);
    }
  } made{*this};
  Check(CreateProgram(&made.program, source.c_str(), "wideword.cu", 0, nullptr, nullptr), "making an NVRTC program");
  // Code for 9.0 runs on 9.0 alone in any case, so it may use what only that has.
  const std::string architecture = "--gpu-architecture=" + (target == "sm_90" ? "sm_90a" : target);
  const std::vector<const char*> options = {
      architecture.c_str(), "--std=c++17",
      // Results are promised to the bit: a*b+c is contracted only where the source says fma.
      "--fmad=false", "--device-as-default-execution-space",
      "--ptxas-options=-v",  // registers, spills and shared memory, into the log
  };
  const nvrtcResult result = CompileProgram(made.program, static_cast<int>(options.size()), options.data());
  CudaImage image;
  image.log = Log(made.program);
  if (result != NVRTC_SUCCESS) {
    std::string message = "CUDA compilation for " + target + " failed: " + GetErrorString(result);
    // What is wrong goes into the first line, which is all that many will show.
    const std::string first = FirstError(image.log);
    if (!first.empty()) message += ": " + first;
    if (!image.log.empty()) message += "\n" + image.log;
    throw std::runtime_error(message);
  }
  const bool cubin = target.rfind("sm_", 0) == 0;
  std::size_t size = 0;
  Check((cubin ? GetCubinSize : GetPtxSize)(made.program, &size), "asking for the compiled code's size");
  image.bytes.resize(size);
  Check((cubin ? GetCubin : GetPtx)(made.program, reinterpret_cast<char*>(image.bytes.data())), "getting compiled code");
  return image;
}

}  // namespace wideword
