// Command lines of the traffic tools: `--name value` and `--flag`. Read once, on the main thread, before
// anything else happens; what does not parse is one sentence and exit code 2.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vx::bench {

struct OptionSpec {
	const char *name;
	const char *value; // what stands behind it in the help text; nullptr: a flag
	const char *help;
};

class Options {
public:
	Options(int argc, char **argv, const char *summary, std::vector<OptionSpec> specs);
	bool has(std::string_view name) const { return values_.find(std::string(name)) != values_.end(); }
	std::string text(const std::string &name, const std::string &fallback) const;
	std::string required(const std::string &name) const;
	uint64_t number(const std::string &name, uint64_t fallback, uint64_t least, uint64_t most) const;
	double real(const std::string &name, double fallback) const;

private:
	std::map<std::string, std::string> values_;
};

[[noreturn]] void usage_error(const std::string &sentence);
[[noreturn]] void fail(const std::string &what, int err);

std::vector<std::string> split(const std::string &text, char separator);
uint64_t parse_number(const std::string &text, uint64_t least, uint64_t most, const std::string &what);
uint32_t parse_ipv4_be(const std::string &text);
struct Mac {
	uint8_t bytes[6];
};
Mac parse_mac(const std::string &text);
// "A", "A-B" and "A/LEN", separated by commas, each address once in the order given.
std::vector<uint32_t> parse_ranges_be(const std::string &text, size_t most);

struct Interface {
	uint32_t ifindex;
	Mac mac;
};
Interface find_interface(const std::string &name);

double seconds_now();
// How long this thread has been ready to run while its CPU ran something else.
double seconds_waited();
void pin_to_cpu(uint64_t cpu);

// Blocks every signal in the calling thread (BPF_PROG_RUN ends early on one); stop_asked() looks for SIGINT
// and SIGTERM without waiting.
void block_signals();
bool stop_asked();

} // namespace vx::bench
