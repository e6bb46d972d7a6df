// Between JavaScript values and the native rooms' types. Node's main thread. Arguments come validated from
// src/pipeline; what is checked here is only what memory safety needs.
#pragma once

#include <napi.h>

#include <cstring>
#include <string>
#include <vector>

#include "../io/result.h"

namespace vx {

// A coded error (native/index.d.ts: NativeError).
inline Napi::Error to_js_error(Napi::Env env, const Error &error)
{
	std::string message = error.op;

	if (error.err)
		message += std::string(": ") + strerror(error.err);
	if (!error.detail.empty())
		message += " (" + error.detail + ")";
	Napi::Error thrown = Napi::Error::New(env, message);
	thrown.Set("code", Napi::String::New(env, error.code));
	thrown.Set("op", Napi::String::New(env, error.op));
	thrown.Set("errno", Napi::Number::New(env, error.err));
	thrown.Set("detail", Napi::String::New(env, error.detail));
	return thrown;
}

inline std::vector<uint8_t> bytes_of(const Napi::Value &value)
{
	if (!value.IsTypedArray())
		return {};
	auto array = value.As<Napi::TypedArray>();
	auto *data = static_cast<const uint8_t *>(array.ArrayBuffer().Data()) + array.ByteOffset();

	return {data, data + array.ByteLength()};
}

// Whole records of type T; a rest that is no whole record is left out.
template <typename T>
std::vector<T> records_of(const Napi::Value &value)
{
	std::vector<uint8_t> bytes = bytes_of(value);
	std::vector<T> records(bytes.size() / sizeof(T));

	if (!records.empty())
		memcpy(records.data(), bytes.data(), records.size() * sizeof(T));
	return records;
}

// As they lie in memory, in an array of bytes.
template <typename T>
Napi::Value to_js_records(Napi::Env env, const std::vector<T> &records)
{
	return Napi::Buffer<uint8_t>::Copy(env, reinterpret_cast<const uint8_t *>(records.data()),
					   records.size() * sizeof(T));
}

}  // namespace vx
