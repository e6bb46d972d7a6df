// Command lines of the traffic tools and the few system calls all of them make first (options.h). Main thread.
#include "options.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace vx::bench {

void usage_error(const std::string &sentence)
{
	fprintf(stderr, "%s\n", sentence.c_str());
	exit(2);
}

void fail(const std::string &what, int err)
{
	fprintf(stderr, "%s: %s\n", what.c_str(), strerror(err));
	exit(1);
}

Options::Options(int argc, char **argv, const char *summary, std::vector<OptionSpec> specs)
{
	for (int i = 1; i < argc; i++) {
		std::string argument = argv[i];
		if (argument == "--help") {
			printf("%s\n", summary);
			for (const OptionSpec &spec : specs)
				printf("  --%s%s%s\n      %s\n", spec.name, spec.value ? " " : "", spec.value ? spec.value : "",
				       spec.help);
			exit(0);
		}
		const OptionSpec *found = nullptr;
		for (const OptionSpec &spec : specs)
			if (argument == std::string("--") + spec.name)
				found = &spec;
		if (!found)
			usage_error("no such option: " + argument + " (--help lists them)");
		if (found->value && i + 1 >= argc)
			usage_error(argument + " needs a value");
		values_[found->name] = found->value ? argv[++i] : "";
	}
}

std::string Options::text(const std::string &name, const std::string &fallback) const
{
	auto found = values_.find(name);
	return found == values_.end() ? fallback : found->second;
}

std::string Options::required(const std::string &name) const
{
	if (!has(name))
		usage_error("--" + name + " is required");
	return text(name, "");
}

uint64_t Options::number(const std::string &name, uint64_t fallback, uint64_t least, uint64_t most) const
{
	return has(name) ? parse_number(text(name, ""), least, most, "--" + name) : fallback;
}

double Options::real(const std::string &name, double fallback) const
{
	if (!has(name))
		return fallback;
	std::string value = text(name, "");
	char *end = nullptr;
	double parsed = strtod(value.c_str(), &end);
	if (value.empty() || *end || !(parsed >= 0))
		usage_error("--" + name + ": not a number: " + value);
	return parsed;
}

std::vector<std::string> split(const std::string &text, char separator)
{
	std::vector<std::string> parts;
	size_t from = 0;
	while (from <= text.size()) {
		size_t to = text.find(separator, from);
		if (to == std::string::npos)
			to = text.size();
		if (to > from)
			parts.push_back(text.substr(from, to - from));
		from = to + 1;
	}
	return parts;
}

uint64_t parse_number(const std::string &text, uint64_t least, uint64_t most, const std::string &what)
{
	char *end = nullptr;
	errno = 0;
	uint64_t parsed = strtoull(text.c_str(), &end, 10);
	if (text.empty() || *end || errno || text[0] == '-' || parsed < least || parsed > most)
		usage_error(what + ": " + text + " is not a whole number from " + std::to_string(least) + " to " +
			    std::to_string(most));
	return parsed;
}

uint32_t parse_ipv4_be(const std::string &text)
{
	in_addr parsed = {};
	if (inet_pton(AF_INET, text.c_str(), &parsed) != 1)
		usage_error("not an IPv4 address: " + text);
	return parsed.s_addr;
}

Mac parse_mac(const std::string &text)
{
	Mac mac = {};
	unsigned parts[6];
	char rest = 0;
	if (sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4],
		   &parts[5], &rest) != 6)
		usage_error("not a MAC address: " + text);
	for (int i = 0; i < 6; i++)
		mac.bytes[i] = static_cast<uint8_t>(parts[i]);
	return mac;
}

std::vector<uint32_t> parse_ranges_be(const std::string &text, size_t most)
{
	std::vector<uint32_t> addresses;
	for (const std::string &part : split(text, ',')) {
		uint64_t first = 0;
		uint64_t last = 0;
		size_t dash = part.find('-');
		size_t slash = part.find('/');
		if (dash != std::string::npos) {
			first = ntohl(parse_ipv4_be(part.substr(0, dash)));
			last = ntohl(parse_ipv4_be(part.substr(dash + 1)));
		} else if (slash != std::string::npos) {
			uint64_t length = parse_number(part.substr(slash + 1), 0, 32, "prefix length");
			uint64_t size = 1ull << (32 - length);
			first = ntohl(parse_ipv4_be(part.substr(0, slash))) & ~(size - 1);
			last = first + size - 1;
		} else {
			first = last = ntohl(parse_ipv4_be(part));
		}
		if (last < first || last - first >= most - addresses.size())
			usage_error("empty or too large a range: " + part);
		for (uint64_t address = first; address <= last; address++)
			addresses.push_back(htonl(static_cast<uint32_t>(address)));
	}
	if (addresses.empty())
		usage_error("no address in: " + text);
	return addresses;
}

Interface find_interface(const std::string &name)
{
	Interface found = {};
	found.ifindex = if_nametoindex(name.c_str());
	if (!found.ifindex)
		usage_error("no interface " + name + " in this network namespace");
	ifreq request = {};
	strncpy(request.ifr_name, name.c_str(), sizeof(request.ifr_name) - 1);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		fail("MAC address of " + name, errno);
	close(fd);
	memcpy(found.mac.bytes, request.ifr_hwaddr.sa_data, sizeof(found.mac.bytes));
	return found;
}

double seconds_now()
{
	timespec now = {};
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double seconds_waited()
{
	unsigned long long running = 0;
	unsigned long long waiting = 0;
	FILE *file = fopen("/proc/thread-self/schedstat", "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu %llu", &running, &waiting) != 2)
		waiting = 0;
	fclose(file);
	return static_cast<double>(waiting) * 1e-9;
}

void pin_to_cpu(uint64_t cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("pinning to CPU " + std::to_string(cpu), errno);
}

void block_signals()
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

bool stop_asked()
{
	sigset_t pending;
	return sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1);
}

} // namespace vx::bench
