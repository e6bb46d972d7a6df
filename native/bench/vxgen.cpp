// vxgen: sends VXLAN packets of known contents out of an interface and prints how many really left.
//
// Two senders, both on the one main thread, pinned: XDP live frames for load (generator.bpf.c writes the
// packets, the kernel hands them to the driver in bulks of 16), and AF_PACKET without a qdisc for latency
// (single packets at even distances, stamped). Run by the test bed, the bench and the demo inside a network
// namespace. `--help` lists the options; the only output is one line of JSON.
#include <sched.h>

#include <cstdio>

#include "options.h"
#include "packets.h"
#include "senders.h"

namespace vx::bench {

namespace {

constexpr uint64_t kForever = ~0ull;

const std::vector<OptionSpec> kOptions = {
	{"interface", "NAME", "interface to send from (required)"},
	{"dst-mac", "MAC", "outer destination MAC (required)"},
	{"src-mac", "MAC", "outer source MAC (the interface's)"},
	{"outer-source", "IP", "outer source address (192.0.2.1)"},
	{"outer-destination", "IP", "outer destination address (192.0.2.2)"},
	{"port", "N", "UDP port of VXLAN (4789)"},
	{"vni", "N", "VNI of all classes but other_vni (1)"},
	{"other-vni", "N", "VNI of class other_vni (16777215)"},
	{"inner-dst-mac", "MAC", "inner destination MAC (02:00:00:00:00:aa)"},
	{"sources", "RANGES", "allowed inner sources: A, A-B, A/LEN, separated by commas (10.0.0.1)"},
	{"denied-sources", "RANGES", "inner sources of class denied (198.51.100.0/24)"},
	{"destination", "IP", "inner destination (203.0.113.9); class ipv6: 2001:db8::/96 of it"},
	{"ports", "N,...", "inner destination ports with a rule (31765)"},
	{"other-ports", "N,...", "inner destination ports of class no_rule (9)"},
	{"flows", "N", "inner flows, 1 to 1000000 (1): sources x source ports, in turn"},
	{"size", "N", "bytes of the inner IP packet, header included, 64 to 3300 (64); the frame is 64 longer"},
	{"dont-fragment", nullptr, "set DF in the inner header"},
	{"no-checksum", nullptr, "inner UDP checksum 0"},
	{"mix", "CLASS=WEIGHT,...", "proportions: rule no_rule denied no_flag truncated ipv6 other_vni (rule=1)"},
	{"count", "N", "packets to send"},
	{"duration", "SECONDS", "how long to send (1, unless --count)"},
	{"rate", "PPS", "packets a second; 0: as fast as it goes (0; --latency 100000)"},
	{"first-sequence", "N", "sequence number of the first packet (1)"},
	{"cpu", "N", "CPU to run on"},
	{"answers", "FILE", "send what answers the UDP packets of this capture, in turn, instead of VXLAN"},
	{"latency", nullptr, "single stamped packets by AF_PACKET instead of live frames"},
};

std::vector<uint16_t> parse_ports(const std::string &text)
{
	std::vector<uint16_t> ports;
	for (const std::string &part : split(text, ','))
		ports.push_back(static_cast<uint16_t>(parse_number(part, 1, 65535, "port")));
	if (ports.empty() || ports.size() > VX_PORTS_MAX)
		usage_error("1 to " + std::to_string(VX_PORTS_MAX) + " ports, not: " + text);
	return ports;
}

PacketPlan read_plan(const Options &options, const Interface &interface)
{
	PacketPlan plan = {};
	plan.destination_mac = parse_mac(options.required("dst-mac"));
	plan.source_mac = options.has("src-mac") ? parse_mac(options.text("src-mac", "")) : interface.mac;
	plan.inner_destination_mac = parse_mac(options.text("inner-dst-mac", "02:00:00:00:00:aa"));
	plan.inner_source_mac = parse_mac("02:00:00:00:00:bb");
	plan.outer_source_be = parse_ipv4_be(options.text("outer-source", "192.0.2.1"));
	plan.outer_destination_be = parse_ipv4_be(options.text("outer-destination", "192.0.2.2"));
	plan.port = static_cast<uint16_t>(options.number("port", 4789, 1, 65535));
	plan.vni = static_cast<uint32_t>(options.number("vni", 1, 0, 0xffffff));
	plan.other_vni = static_cast<uint32_t>(options.number("other-vni", 0xffffff, 0, 0xffffff));
	plan.sources_be = parse_ranges_be(options.text("sources", "10.0.0.1"), VX_SOURCES_MAX);
	plan.denied_sources_be = parse_ranges_be(options.text("denied-sources", "198.51.100.0/24"), VX_SOURCES_MAX);
	plan.destination_be = parse_ipv4_be(options.text("destination", "203.0.113.9"));
	plan.ports = parse_ports(options.text("ports", "31765"));
	plan.other_ports = parse_ports(options.text("other-ports", "9"));
	plan.flows = static_cast<uint32_t>(options.number("flows", 1, 1, VX_FLOWS_MAX));
	plan.inner_bytes = static_cast<uint32_t>(options.number("size", 64, VX_INNER_BYTES_MIN, 3300));
	plan.dont_fragment = options.has("dont-fragment");
	plan.checksum = !options.has("no-checksum") && !options.has("latency");
	plan.mix = parse_mix(options.text("mix", "rule=1"));
	plan.frame_bytes = 0;
	if (options.has("answers"))
		read_answers(options.text("answers", ""), plan);
	else
		plan.frame_bytes = frame_bytes(plan.inner_bytes);
	if (plan.turned.empty() && (plan.flows - 1) / plan.sources_be.size() >= VX_SPORTS)
		usage_error("more flows than sources x source ports: give more --sources");
	return plan;
}

Limits read_limits(const Options &options)
{
	Limits limits = {};
	limits.count = options.number("count", kForever, 1, 1ull << 40);
	limits.seconds = options.real("duration", options.has("count") ? 3600 : 1);
	limits.rate = options.real("rate", options.has("latency") ? 100000 : 0);
	if (options.has("latency") && limits.rate < 1)
		usage_error("--latency needs a rate");
	return limits;
}

void print_report(const Report &report, const PacketPlan &plan)
{
	printf("{\"sent\":%llu,\"generated\":%llu,\"refused\":%llu,\"seconds\":%.6f,\"waitedSeconds\":%.6f,\"pps\":%.0f,\"innerBytes\":%u,"
	       "\"frameBytes\":%u,\"flows\":%u,\"classes\":{",
	       static_cast<unsigned long long>(report.sent), static_cast<unsigned long long>(report.generated),
	       static_cast<unsigned long long>(report.generated - report.sent), report.seconds, report.waited,
	       report.seconds > 0 ? static_cast<double>(report.sent) / report.seconds : 0.0, plan.inner_bytes,
	       plan.frame_bytes, plan.flows);
	for (uint32_t i = 0; i < VX_CLASS_COUNT; i++)
		printf("%s\"%s\":%llu", i ? "," : "", class_name(i),
		       static_cast<unsigned long long>(report.classes[i]));
	printf("}}\n");
}

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxgen: sends VXLAN packets of known contents and counts what left", kOptions);
	Interface interface = find_interface(options.required("interface"));
	PacketPlan plan = read_plan(options, interface);
	Limits limits = read_limits(options);
	uint64_t first = options.number("first-sequence", 1, 1, 1ull << 60);
	block_signals();
	if (options.has("cpu"))
		pin_to_cpu(options.number("cpu", 0, 0, CPU_SETSIZE - 1));
	Report report = options.has("latency") ? send_paced(interface, plan, limits, first)
					       : send_live(interface, plan, limits, first);
	print_report(report, plan);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
