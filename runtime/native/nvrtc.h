// NVRTC, NVIDIA's run-time compiler, found and opened at run time.
#ifndef WIDEWORD_NVRTC_H
#define WIDEWORD_NVRTC_H

#include <memory>
#include <string>
#include <vector>

#include "runtime/native/cuda_api.h"

namespace wideword {

// What the environment says about where NVRTC is; read on the JavaScript thread, the only one that may.
struct NvrtcSearch {
  static NvrtcSearch FromEnvironment();
  std::string chosen;                // $WIDEWORD_NVRTC: this file or folder and no other
  std::vector<std::string> folders;  // patterns, best first
};

struct CudaImage {
  std::vector<unsigned char> bytes;
  std::string log;
};

class Nvrtc {
 public:
  // Opened by the first call that finds it and kept for the process. Throws in one line why there is none.
  static const Nvrtc& Get(const NvrtcSearch& search);

  // A cubin for sm_*, PTX for compute_*. The exception of a failed compile holds one line and then NVRTC's log. Several
  // threads may compile at once.
  CudaImage Compile(const std::string& source, const std::string& target) const;

  const std::string& path() const { return path_; }
  const std::string& version() const { return version_; }

 private:
  Nvrtc() = default;
  // Null if the file is not there; else why it cannot be used goes to `problem`.
  static std::unique_ptr<Nvrtc> Open(const std::string& file, std::string& problem);
  void Check(nvrtcResult result, const char* doing) const;
  std::string Log(nvrtcProgram program) const;

  std::string path_;
  std::string version_;
  nvrtcResult (*GetVersion)(int* major, int* minor) = nullptr;
  const char* (*GetErrorString)(nvrtcResult) = nullptr;
  nvrtcResult (*CreateProgram)(nvrtcProgram*, const char* source, const char* name, int header_count,
                               const char* const* headers, const char* const* include_names) = nullptr;
  nvrtcResult (*CompileProgram)(nvrtcProgram, int option_count, const char* const* options) = nullptr;
  nvrtcResult (*DestroyProgram)(nvrtcProgram*) = nullptr;
  nvrtcResult (*GetLogSize)(nvrtcProgram, std::size_t*) = nullptr;
  nvrtcResult (*GetLog)(nvrtcProgram, char*) = nullptr;
  nvrtcResult (*GetPtxSize)(nvrtcProgram, std::size_t*) = nullptr;
  nvrtcResult (*GetPtx)(nvrtcProgram, char*) = nullptr;
  nvrtcResult (*GetCubinSize)(nvrtcProgram, std::size_t*) = nullptr;
  nvrtcResult (*GetCubin)(nvrtcProgram, char*) = nullptr;
};

}  // namespace wideword

#endif
