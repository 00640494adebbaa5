// Reading JavaScript values that may be anything: each reader gives the checked value or throws an Error that names the
// place, such as "words[0].slots[2].blocks must be ...". Getters may run code of the caller's at any read, so a value
// is read once and whatever has been taken from it is ours.
#ifndef WIDEWORD_CHECKS_H
#define WIDEWORD_CHECKS_H

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace wideword {

constexpr std::uint64_t kMaxSafeInteger = (std::uint64_t{1} << 53) - 1;

// Where a value came from. A chain on the stack, so that it costs nothing unless there is something to say.
class Where {
 public:
  explicit Where(const char* name) : name_(name) {}
  Where(const Where& parent, const char* name) : parent_(&parent), name_(name) {}
  Where(const Where& parent, std::uint32_t index) : parent_(&parent), index_(index) {}
  std::string Text() const;

 private:
  const Where* parent_ = nullptr;
  const char* name_ = nullptr;
  std::uint32_t index_ = 0;
};

[[noreturn]] void ThrowType(Napi::Env env, const Where& where, const std::string& wanted);
[[noreturn]] void ThrowRange(Napi::Env env, const Where& where, const std::string& wanted);

std::int64_t ReadInteger(Napi::Value value, const Where& where, std::int64_t least, std::int64_t most);
double ReadNumber(Napi::Value value, const Where& where, double least, double most);
// False if it is not given.
bool ReadFlag(Napi::Value value, const Where& where);
std::string ReadString(Napi::Value value, const Where& where);
Napi::Object ReadObject(Napi::Value value, const Where& where);

// A JavaScript array, read element by element: entries that vanish meanwhile are undefined.
class List {
 public:
  List(Napi::Value value, const Where& where, std::uint32_t most);
  std::uint32_t size() const { return size_; }
  Napi::Value operator[](std::uint32_t index) const { return array_.Get(index); }

 private:
  Napi::Array array_;
  std::uint32_t size_ = 0;
};

// The bytes of a Uint8Array as they are now; any call into JavaScript may move them or take them away.
struct ByteView {
  std::uint8_t* data = nullptr;
  std::size_t size = 0;
};
bool LooksLikeBytes(Napi::Value value, ByteView& view);
ByteView ReadBytes(Napi::Value value, const Where& where);

// Tenant numbers, ascending and without repeats.
std::vector<unsigned> ReadTenants(Napi::Value value, const Where& where);
void SortUnique(std::vector<unsigned>& tenants);

}  // namespace wideword

#endif
