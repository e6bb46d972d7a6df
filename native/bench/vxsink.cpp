// vxsink: the far end. Attaches sink.bpf.c to an interface, and reports what arrived there as JSON.
//
// Run by the test bed, the bench and the demo inside the target's network namespace. One thread: it waits
// for a line on standard input (`report`, `reset`, `quit`), a signal or the end of --duration. Prints
// {"ready":true} when the program is attached, one line a `report`, and the final report when it ends.
// `report` and `reset` are exact when nothing is arriving.
#include <bpf/libbpf.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "attach.h"
#include "options.h"
#include "packets.h"
#include "sink.h"
#include "sink.skel.h"

namespace vx::bench {

namespace {

const std::vector<OptionSpec> kOptions = {
	{"interface", "NAME", "interface to count on (required)"},
	{"raw", nullptr, "count and drop every IPv4 frame, look at nothing else"},
	{"rule", "PORT=IP:PORT,...", "what class rule must have been translated to, by its original port"},
	{"unchanged", "IP", "destination that class no_rule must still have"},
	{"check-every", "N", "verify the UDP checksum of every Nth packet on a CPU; 0: none (1)"},
	{"no-order", nullptr, "don't follow the order within flows"},
	{"flows", "N", "flows whose order can be followed (1000000)"},
	{"duration", "SECONDS", "stop after so long (0: until told)"},
};

void read_rules(const std::string &text, vx_sink_rule *rules)
{
	for (const std::string &part : split(text, ',')) {
		size_t equals = part.find('=');
		size_t colon = part.rfind(':');
		if (equals == std::string::npos || colon == std::string::npos || colon < equals)
			usage_error("--rule: not PORT=IP:PORT: " + part);
		auto from = static_cast<uint16_t>(parse_number(part.substr(0, equals), 1, 65535, "--rule"));
		auto to = static_cast<uint16_t>(parse_number(part.substr(colon + 1), 1, 65535, "--rule"));
		vx_sink_rule &rule = rules[vx_swap16(from)];
		rule.address_be = parse_ipv4_be(part.substr(equals + 1, colon - equals - 1));
		rule.port_be = vx_swap16(to);
		rule.set = 1;
	}
}

sink *load(const Options &options)
{
	sink *skeleton = sink__open();
	if (!skeleton)
		fail("opening the sink's program", errno);
	auto flows = static_cast<uint32_t>(options.number("flows", VX_FLOWS_MAX, 1, VX_FLOWS_MAX));
	skeleton->rodata->raw = options.has("raw");
	skeleton->rodata->check_every = static_cast<uint32_t>(options.number("check-every", 1, 0, 1u << 30));
	skeleton->rodata->check_order = !options.has("no-order");
	skeleton->rodata->flows = flows;
	if (options.has("unchanged"))
		skeleton->rodata->unchanged_be = parse_ipv4_be(options.text("unchanged", ""));
	bpf_map__set_max_entries(skeleton->maps.last_sequence, flows * VX_SINK_ORDERED);
	if (int err = sink__load(skeleton))
		fail("loading the sink's program", -err);
	read_rules(options.text("rule", ""), skeleton->bss->rules);
	return skeleton;
}

// All slots as one.
vx_sink_slot add_up(const sink *skeleton)
{
	vx_sink_slot total = {};
	for (const vx_sink_slot &slot : skeleton->bss->slots) {
		auto *to = reinterpret_cast<__u64 *>(&total);
		auto *from = reinterpret_cast<const volatile __u64 *>(&slot);
		uint64_t largest = std::max(total.latency_max_ns, slot.latency_max_ns);
		for (size_t i = 0; i < sizeof(total) / sizeof(__u64); i++)
			to[i] += from[i];
		total.latency_max_ns = largest;
	}
	return total;
}

double percentile_us(const vx_sink_slot &total, double share)
{
	auto wanted = static_cast<uint64_t>(share * static_cast<double>(total.latency_count));
	uint64_t seen = 0;
	for (uint32_t i = 0; i < VX_SINK_BUCKETS; i++) {
		seen += total.latency[i];
		if (seen > wanted)
			return static_cast<double>(vx_sink_bucket_top(i)) / 1000;
	}
	return 0;
}

struct Field {
	const char *name;
	uint64_t value;
};

void print_fields(std::initializer_list<Field> fields)
{
	const char *comma = "";
	for (const Field &field : fields) {
		printf("%s\"%s\":%llu", comma, field.name, static_cast<unsigned long long>(field.value));
		comma = ",";
	}
}

void print_report(const sink *skeleton, double seconds)
{
	vx_sink_slot total = add_up(skeleton);
	printf("{\"seconds\":%.6f,", seconds);
	print_fields({{"packets", total.packets},
		      {"bytes", total.bytes},
		      {"fragments", total.fragments},
		      {"otherIp", total.other_ip},
		      {"neighbour", total.neighbour},
		      {"other", total.other}});
	printf(",\"classes\":{");
	for (uint32_t i = 0; i < VX_CLASS_COUNT; i++)
		printf("%s\"%s\":%llu", i ? "," : "", class_name(i), static_cast<unsigned long long>(total.classes[i]));
	printf("},\"wrong\":{");
	print_fields({{"class", total.wrong_class},
		      {"destination", total.wrong_destination},
		      {"ipChecksum", total.wrong_ip_checksum},
		      {"udpChecksum", total.wrong_udp_checksum},
		      {"length", total.wrong_length},
		      {"order", total.out_of_order},
		      {"duplicate", total.duplicates}});
	printf("},\"udpChecksums\":{");
	print_fields({{"checked", total.udp_checked}, {"zero", total.udp_unsummed}});
	printf("},\"latency\":");
	if (total.latency_count == 0)
		printf("null");
	else
		printf("{\"count\":%llu,\"meanUs\":%.3f,\"p50Us\":%.3f,\"p99Us\":%.3f,\"maxUs\":%.3f}",
		       static_cast<unsigned long long>(total.latency_count),
		       static_cast<double>(total.latency_sum_ns) / static_cast<double>(total.latency_count) / 1000,
		       percentile_us(total, 0.5), percentile_us(total, 0.99),
		       static_cast<double>(total.latency_max_ns) / 1000);
	printf("}\n");
	fflush(stdout);
}

void reset(sink *skeleton)
{
	memset(skeleton->bss->slots, 0, sizeof(skeleton->bss->slots));
	size_t bytes = bpf_map__max_entries(skeleton->maps.last_sequence) * sizeof(uint64_t);
	void *last = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			  bpf_map__fd(skeleton->maps.last_sequence), 0);
	if (last == MAP_FAILED)
		fail("mapping last_sequence", errno);
	memset(last, 0, bytes);
	munmap(last, bytes);
	printf("{\"reset\":true}\n");
	fflush(stdout);
}

// Commands from standard input, a line each. Returns false on `quit` or at its end.
class Commands {
public:
	bool read_some(sink *skeleton, double &started)
	{
		char bytes[256];
		ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));
		if (got <= 0)
			return false;
		pending_.append(bytes, static_cast<size_t>(got));
		size_t end;
		while ((end = pending_.find('\n')) != std::string::npos) {
			std::string line = pending_.substr(0, end);
			pending_.erase(0, end + 1);
			if (line == "quit")
				return false;
			if (line == "report") {
				print_report(skeleton, seconds_now() - started);
			} else if (line == "reset") {
				reset(skeleton);
				started = seconds_now();
			} else {
				fprintf(stderr, "report, reset or quit, not: %s\n", line.c_str());
			}
		}
		return true;
	}

private:
	std::string pending_;
};

void wait_until_told(sink *skeleton, double duration, double &started)
{
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	int signals = signalfd(-1, &ends, SFD_CLOEXEC);
	pollfd polled[2] = {{signals, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
	Commands commands;
	for (;;) {
		int timeout = -1;
		if (duration > 0) {
			double left = started + duration - seconds_now();
			if (left <= 0)
				return;
			timeout = static_cast<int>(left * 1000) + 1;
		}
		if (poll(polled, 2, timeout) < 0 && errno != EINTR)
			fail("waiting", errno);
		if (polled[0].revents)
			return;
		// With a --duration a closed standard input means only that nobody will ask.
		if (polled[1].revents && !commands.read_some(skeleton, started)) {
			if (duration <= 0)
				return;
			polled[1].fd = -1;
		}
	}
}

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxsink: counts and checks what arrives at the far end", kOptions);
	Interface interface = find_interface(options.required("interface"));
	double duration = options.real("duration", 0);
	block_signals();
	sink *skeleton = load(options);
	int link = attach_native(skeleton->progs.sink, interface);
	double started = seconds_now();
	printf("{\"ready\":true}\n");
	fflush(stdout);
	wait_until_told(skeleton, duration, started);
	double seconds = seconds_now() - started;
	close(link);
	print_report(skeleton, seconds);
	sink__destroy(skeleton);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
