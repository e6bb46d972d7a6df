// See libbpf_error.h.
#include "libbpf_error.h"

#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace vx {
namespace {

thread_local std::string libbpf_log;

int keep_log(libbpf_print_level level, const char *format, va_list arguments)
{
	char text[512];

	if (level != LIBBPF_WARN || vsnprintf(text, sizeof(text), format, arguments) <= 0 || libbpf_log.size() >= 4096)
		return 0;
	// Lines become one: it is the detail of an error.
	std::string line(text);
	line.erase(line.find_last_not_of('\n') + 1);
	libbpf_log += (libbpf_log.empty() ? "" : "; ") + line;
	return 0;
}

}  // namespace

void keep_libbpf_log()
{
	libbpf_set_print(keep_log);
}

Error kernel_error(const char *code, const char *op)
{
	return Error{code, op, errno, std::exchange(libbpf_log, {})};
}

}  // namespace vx
