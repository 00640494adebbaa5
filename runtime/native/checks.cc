#include "runtime/native/checks.h"

#include <algorithm>
#include <cmath>

namespace wideword {

namespace {

// Numbers as JavaScript prints them, so that -1.5 and NaN are recognised in a message.
std::string Shown(Napi::Value value) {
  switch (value.Type()) {
    case napi_number:
      return value.ToString().Utf8Value();
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_string:
      return "a string";
    case napi_bigint:
      return "a bigint";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    default:
      return value.IsArray() ? "an array" : "an object";
  }
}

}  // namespace

std::string Where::Text() const {
  const std::string before = parent_ ? parent_->Text() : "";
  if (!name_) return before + "[" + std::to_string(index_) + "]";
  return before.empty() ? name_ : before + "." + name_;
}

void ThrowType(Napi::Env env, const Where& where, const std::string& wanted) {
  throw Napi::TypeError::New(env, where.Text() + " must be " + wanted);
}

void ThrowRange(Napi::Env env, const Where& where, const std::string& wanted) {
  throw Napi::RangeError::New(env, where.Text() + " must be " + wanted);
}

std::int64_t ReadInteger(Napi::Value value, const Where& where, std::int64_t least, std::int64_t most) {
  const std::string wanted = "an integer from ";
  const auto range = [&] { return wanted + std::to_string(least) + " to " + std::to_string(most); };
  if (!value.IsNumber()) ThrowType(value.Env(), where, range() + ", not " + Shown(value));
  const double number = value.As<Napi::Number>().DoubleValue();
  // The comparisons are false for NaN.
  const bool fits = number >= static_cast<double>(least) && number <= static_cast<double>(most);
  if (!fits || number != std::floor(number)) ThrowRange(value.Env(), where, range() + ", not " + Shown(value));
  return static_cast<std::int64_t>(number);
}

double ReadNumber(Napi::Value value, const Where& where, double least, double most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= least && number <= most)) {
    ThrowRange(value.Env(), where, "a number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return number;
}

bool ReadFlag(Napi::Value value, const Where& where) {
  if (value.IsUndefined()) return false;
  if (!value.IsBoolean()) ThrowType(value.Env(), where, "true or false, not " + Shown(value));
  return value.As<Napi::Boolean>();
}

std::string ReadString(Napi::Value value, const Where& where) {
  if (!value.IsString()) ThrowType(value.Env(), where, "a string, not " + Shown(value));
  std::string text = value.As<Napi::String>().Utf8Value();
  // It goes to C functions, which would silently take the part before.
  if (text.find('\0') != std::string::npos) ThrowRange(value.Env(), where, "a string without NUL characters");
  return text;
}

Napi::Object ReadObject(Napi::Value value, const Where& where) {
  if (!value.IsObject()) ThrowType(value.Env(), where, "an object, not " + Shown(value));
  return value.As<Napi::Object>();
}

List::List(Napi::Value value, const Where& where, std::uint32_t most) {
  if (!value.IsArray()) ThrowType(value.Env(), where, "an array, not " + Shown(value));
  array_ = value.As<Napi::Array>();
  size_ = array_.Length();
  if (size_ > most) {
    ThrowRange(value.Env(), where, "at most " + std::to_string(most) + " long, not " + std::to_string(size_));
  }
}

bool LooksLikeBytes(Napi::Value value, ByteView& view) {
  if (!value.IsTypedArray()) return false;
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  std::size_t size = 0;
  const napi_status status = napi_get_typedarray_info(value.Env(), value, &type, &size, &data, nullptr, nullptr);
  if (status != napi_ok || type != napi_uint8_array) return false;
  view.data = static_cast<std::uint8_t*>(data);
  view.size = data ? size : 0;  // a detached array
  return true;
}

ByteView ReadBytes(Napi::Value value, const Where& where) {
  ByteView view;
  if (!LooksLikeBytes(value, view)) ThrowType(value.Env(), where, "a Uint8Array, not " + Shown(value));
  return view;
}

void SortUnique(std::vector<unsigned>& tenants) {
  std::sort(tenants.begin(), tenants.end());
  tenants.erase(std::unique(tenants.begin(), tenants.end()), tenants.end());
}

std::vector<unsigned> ReadTenants(Napi::Value value, const Where& where) {
  const List list(value, where, 1u << 20);
  std::vector<unsigned> tenants;
  for (std::uint32_t i = 0; i < list.size(); ++i) {
    tenants.push_back(static_cast<unsigned>(ReadInteger(list[i], Where(where, i), 0, UINT32_MAX)));
  }
  SortUnique(tenants);
  return tenants;
}

}  // namespace wideword
