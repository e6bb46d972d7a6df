// Errors of the native rooms: a value or one error, never an exception. clang 14 has no std::expected.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace vx {

// What happened, once: `code` is a stable name the control plane has a sentence for, `op` what was tried,
// `err` the errno (0: none), `detail` what else is known.
struct Error {
	std::string code;
	std::string op;
	int err = 0;
	std::string detail;
};

template <typename T>
class [[nodiscard]] Result {
public:
	Result(T value) : state_(std::move(value)) {}
	Result(Error error) : state_(std::move(error)) {}
	explicit operator bool() const { return state_.index() == 0; }
	T &operator*() { return std::get<0>(state_); }
	T *operator->() { return &std::get<0>(state_); }
	const Error &error() const { return std::get<1>(state_); }

private:
	std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
public:
	Result() = default;
	Result(Error error) : error_(std::move(error)) {}
	explicit operator bool() const { return !error_; }
	const Error &error() const { return *error_; }

private:
	std::optional<Error> error_;
};

}  // namespace vx
