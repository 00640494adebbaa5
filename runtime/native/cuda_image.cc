#include "runtime/native/cuda_image.h"

#include <elf.h>

#include <cstring>
#include <stdexcept>

namespace wideword {

namespace {

// A record at `offset`, or an exception if it is not wholly inside.
template <class Record>
Record RecordAt(const std::string& image, std::uint64_t offset) {
  if (offset > image.size() || image.size() - offset < sizeof(Record)) {
    throw std::runtime_error("the cubin is cut short");
  }
  Record record;
  std::memcpy(&record, image.data() + offset, sizeof record);
  return record;
}

void CheckInside(const std::string& image, std::uint64_t offset, std::uint64_t bytes) {
  if (offset > image.size() || image.size() - offset < bytes) throw std::runtime_error("the cubin is cut short");
}

}  // namespace

void CheckCudaImage(const std::string& image) {
  if (image.compare(0, SELFMAG, ELFMAG) != 0) {
    if (image.find('\0') == std::string::npos && image.find(".version") != std::string::npos) return;
    // NVRTC counts PTX's terminating NUL in.
    if (image.find('\0') == image.size() - 1 && image.find(".version") != std::string::npos) return;
    throw std::runtime_error("the code is neither a cubin nor PTX");
  }
  const auto header = RecordAt<Elf64_Ehdr>(image, 0);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    throw std::runtime_error("the cubin is not a 64-bit ELF file");
  }
  constexpr std::uint16_t kCuda = 190;  // EM_CUDA
  if (header.e_machine != kCuda) throw std::runtime_error("the code is an ELF file for another machine than CUDA");
  if (header.e_shnum == 0 || header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shstrndx >= header.e_shnum) {
    throw std::runtime_error("the cubin has no sections");
  }
  CheckInside(image, header.e_shoff, std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr));
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const auto section = RecordAt<Elf64_Shdr>(image, header.e_shoff + std::uint64_t{i} * sizeof(Elf64_Shdr));
    if (section.sh_type != SHT_NOBITS) CheckInside(image, section.sh_offset, section.sh_size);
  }
  if (header.e_phnum > 0) {
    if (header.e_phentsize != sizeof(Elf64_Phdr)) throw std::runtime_error("the cubin's program headers are wrong");
    CheckInside(image, header.e_phoff, std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr));
  }
}

}  // namespace wideword
