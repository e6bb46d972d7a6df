// See xdp_bed.h.
#include "xdp_bed.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "xdp_words.h"

namespace vx::test {
namespace {

constexpr uint32_t kSocketsMax = 16;
constexpr uint32_t kLanes = 2;  // of the inside, of the outside

#define VX_REQUIRE(condition) require(condition, #condition, __LINE__)

void require(bool holds, const char *what, int line)
{
	if (holds)
		return;
	fprintf(stderr, "xdp_bed.cpp:%d: %s: %s\n", line, what, strerror(errno));
	abort();
}

uint64_t now_ns()
{
	timespec now{};
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

DatapathPlan plan_of(const std::string &knobs)
{
	DatapathPlan plan;
	plan.vxlan_port = 4789;
	plan.match_source = plan.match_destination = true;
	std::istringstream stream(knobs);
	for (std::string word; stream >> word;) {
		const size_t equals = word.find('=');
		const std::string key = word.substr(0, equals);
		const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
		if (key == "plain") {
			plan.plain_ethernet = true;
		} else if (key == "port") {
			plan.vxlan_port = static_cast<uint16_t>(std::stoul(value));
		} else if (key == "local") {
			plan.local = address_from(value);
		} else if (key == "vnis") {
			plan.vni_ranges = ranges_from(value);
		} else if (key == "peers") {
			plan.peers = prefixes_from(value);
		} else if (key == "match") {
			plan.match_source = value == "source";
			plan.match_destination = value == "destination";
		} else if (key == "workers") {
			plan.workers = static_cast<uint32_t>(std::stoul(value));
		} else if (key == "hand_over") {
			plan.hand_over = value == "rings" ? VX_HAND_OVER_RINGS : VX_HAND_OVER_SOCKETS;
		} else if (key == "nat") {
			plan.source_nat.emplace();
			plan.source_nat->pools.block_size = static_cast<uint32_t>(std::stoul(value));
			plan.source_nat->pools.pools = {{std::vector<uint32_t>(4), 1024, 65535, {}}};
			plan.source_nat->pools.forwards.resize(4);
			plan.source_nat->engine.gateways.resize(4);
			plan.outside_sockets = 1;
		} else if (key == "next_hop") {
			plan.next_hop_mac = mac_from(value);
		} else {
			plan.clear_dont_fragment |= key == "clear_df";
			plan.forward_ipv6 |= key == "forward_ipv6";
			plan.decrement_ttl |= key == "decrement_ttl";
			VX_REQUIRE(key == "clear_df" || key == "forward_ipv6" || key == "decrement_ttl");
		}
	}
	return plan;
}

void delete_everything(int fd, size_t key_size)
{
	Bytes key(key_size);
	while (!bpf_map_get_next_key(fd, nullptr, key.data()))
		bpf_map_delete_elem(fd, key.data());
}

void note_risen(const vx_counters &before, const vx_counters &after, const std::string &prefix,
		std::map<std::string, uint64_t> &risen)
{
	const auto note = [&](const char *name, uint64_t from, uint64_t to) {
		if (from != to)
			risen[prefix + name] = to - from;
	};
#define X(name, help) note(#name, before.name, after.name);
	VX_COUNTERS(X)
#undef X
#define X(name, help) note(#name, before.dropped[VX_DROP_##name], after.dropped[VX_DROP_##name]);
	VX_DROPS(X)
#undef X
}

}  // namespace

XdpBed &XdpBed::instance()
{
	static XdpBed bed;
	return bed;
}

XdpBed::XdpBed()
{
	if (geteuid() != 0)
		fprintf(stderr, "eBPF programs are loaded: run it as root\n");
	VX_REQUIRE(unshare(CLONE_NEWNET) == 0);
	VX_REQUIRE(system("ip link add in0 numrxqueues 2 numtxqueues 2 type veth peer name gen0 && ip link add out0 type veth peer name far0") == 0);
	inside_ifindex_ = static_cast<int>(if_nametoindex("in0"));
	outside_ifindex_ = static_cast<int>(if_nametoindex("out0"));
	// Programs run on the CPU that asks: one, so that its flow cache and slot are the ones looked at.
	cpu_set_t set;
	CPU_ZERO(&set);
	cpu_ = sched_getcpu();
	CPU_SET(cpu_, &set);
	VX_REQUIRE(cpu_ >= 0 && sched_setaffinity(0, sizeof set, &set) == 0);
}

void XdpBed::unload()
{
	rings_.clear();
	sockets_.clear();
	datapath_.reset();
}

void XdpBed::load(const std::string &knobs)
{
	if (!datapath_ || knobs != knobs_) {
		unload();
		DatapathPlan plan = plan_of(knobs);
		plan.inside_ifindex = inside_ifindex_;
		plan.outside_ifindex = outside_ifindex_;
		auto opened = Datapath::open(plan);
		if (!opened)
			fprintf(stderr, "%s: %s\n", opened.error().op.c_str(), opened.error().detail.c_str());
		VX_REQUIRE(static_cast<bool>(opened));
		datapath_ = std::move(*opened);
		knobs_ = knobs;
		for (uint32_t worker = 0; worker < plan.workers; worker++) {
			auto rings = RingReader::open(
				datapath_->exception_rings(), [this, worker](const uint8_t *bytes, size_t) { take_record(worker, bytes); },
				worker, plan.workers);
			VX_REQUIRE(static_cast<bool>(rings));
			rings_.push_back(std::move(*rings));
		}
	}
	empty_maps();
}

void XdpBed::empty_maps()
{
	delete_everything(map("routes4"), sizeof(vx_prefix4));
	delete_everything(map("routes6"), sizeof(vx_prefix6));
	delete_everything(map("neighbours"), sizeof(vx_addr));
	delete_everything(map("fragments"), sizeof(vx_fragment_key));
	const vx_interface none{};
	for (uint32_t direction = 0; direction < VX_DIRECTIONS; direction++)
		bpf_map_update_elem(map("interface_map"), &direction, &none, 0);
	const uint32_t to = VX_OUTSIDE, outside = static_cast<uint32_t>(outside_ifindex_);
	VX_REQUIRE(bpf_map_update_elem(map("redirect_map"), &to, &outside, 0) == 0);
	if (datapath_->control()->epoch.allowlist & VX_ALLOW_ENFORCE)
		VX_REQUIRE(static_cast<bool>(datapath_->set_allowlist(nullptr)));
	rules_.clear();
	datapath_->control()->rules = 0;  // a protocol that had a rule would keep its mark
	VX_REQUIRE(static_cast<bool>(datapath_->set_rules(rules_)));  // a new generation, too
	sockets_.clear();
	for (uint32_t at = 0; at < kSocketsMax; at++)
		bpf_map_delete_elem(map("worker_sockets"), &at);
	for (RingReader &rings : rings_)
		rings.consume();
	records_.clear();
}

void XdpBed::apply(const Words &words)
{
	const std::string &what = words.at(0);
	if (what == "interface") {
		const uint32_t direction = words.at(1) == "outside" ? VX_OUTSIDE : VX_INSIDE;
		vx_interface interface{};
		interface.ifindex = static_cast<uint32_t>(direction == VX_OUTSIDE ? outside_ifindex_ : inside_ifindex_);
		interface.mtu = static_cast<uint32_t>(std::stoul(words.at(3)));
		memcpy(interface.mac, mac_from(words.at(2)).data(), 6);
		VX_REQUIRE(bpf_map_update_elem(map("interface_map"), &direction, &interface, 0) == 0);
	} else if (what == "neighbour") {
		const vx_addr address = address_from(words.at(1));
		vx_neighbour neighbour{};
		neighbour.state = state_from(words.at(2), {"resolving", "valid", "failed"});
		if (words.size() > 3)
			memcpy(neighbour.mac, mac_from(words[3]).data(), 6);
		VX_REQUIRE(bpf_map_update_elem(map("neighbours"), &address, &neighbour, 0) == 0);
	} else if (what == "route") {
		apply_route(words);
	} else if (what == "allow") {
		apply_allow(words);
	} else if (what == "allow-all") {
		VX_REQUIRE(static_cast<bool>(datapath_->set_allowlist(nullptr)));
	} else if (what == "rule") {
		apply_rule(words);
	} else if (what == "fragment") {
		apply_fragment(words);
	} else if (what == "fragments") {
		fill_fragments();
	} else if (what == "redirect") {
		const uint32_t to = VX_OUTSIDE;
		VX_REQUIRE(bpf_map_delete_elem(map("redirect_map"), &to) == 0);
	} else if (what == "ring") {
		apply_ring(words.at(1));
	} else if (what == "socket") {
		const int descriptors = 64;
		const uint32_t at = words.size() > 1 ? static_cast<uint32_t>(std::stoul(words[1])) : 0;
		const int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
		sockets_.emplace_back(fd);
		VX_REQUIRE(setsockopt(fd, SOL_XDP, XDP_RX_RING, &descriptors, sizeof descriptors) == 0);
		VX_REQUIRE(bpf_map_update_elem(map("worker_sockets"), &at, &fd, 0) == 0);
	} else {
		VX_REQUIRE(what == "generation");
		__atomic_fetch_add(&datapath_->control()->epoch.generation, 1, __ATOMIC_RELEASE);
	}
}

void XdpBed::take_record(uint32_t worker, const uint8_t *bytes)
{
	ExceptionRecord record{};
	memcpy(&record.head, bytes, sizeof record.head);
	record.frame.assign(bytes + sizeof record.head, bytes + sizeof record.head + record.head.length);
	record.ring = worker;
	records_.push_back(record);
}

void XdpBed::apply_route(const Words &words)
{
	const vx_prefix6 prefix = prefix_from(words.at(1));
	vx_route route{};
	route.kind = state_from(words.at(2), {"none", "onlink", "gateway", "local"});
	if (words.size() > 3)
		route.gateway = address_from(words[3]);
	if (is_ipv4(words[1])) {
		vx_prefix4 prefix4{prefix.length - 96, 0};
		memcpy(&prefix4.address_be, prefix.address.bytes + 12, 4);
		VX_REQUIRE(bpf_map_update_elem(map("routes4"), &prefix4, &route, 0) == 0);
	} else {
		VX_REQUIRE(bpf_map_update_elem(map("routes6"), &prefix, &route, 0) == 0);
	}
}

void XdpBed::apply_allow(const Words &words)
{
	AllowlistTables tables;
	const auto append = [](Bytes &into, const void *from, size_t size) {
		into.insert(into.end(), static_cast<const uint8_t *>(from), static_cast<const uint8_t *>(from) + size);
	};
	for (size_t i = 1; i < words.size(); i++) {
		const vx_prefix6 prefix = prefix_from(words[i]);
		const bool exact = words[i].find('/') == std::string::npos;
		vx_prefix4 prefix4{prefix.length - 96, 0};
		memcpy(&prefix4.address_be, prefix.address.bytes + 12, 4);
		if (!is_ipv4(words[i]))
			exact ? append(tables.exact6, &prefix.address, 16) : append(tables.prefix6, &prefix, sizeof prefix);
		else
			exact ? append(tables.exact4, &prefix4.address_be, 4) : append(tables.prefix4, &prefix4, sizeof prefix4);
	}
	VX_REQUIRE(static_cast<bool>(datapath_->set_allowlist(&tables)));
}

void XdpBed::apply_rule(const Words &words)
{
	if (words.at(1) == "none") {
		rules_.clear();
	} else {
		Rule rule{};
		rule.key.protocol = words.at(1) == "tcp" ? IPPROTO_TCP : IPPROTO_UDP;
		rule.key.port_be = htons(static_cast<uint16_t>(std::stoul(words.at(2))));
		rule.value.address_be = ipv4_from(words.at(3));
		rule.value.port_be = htons(static_cast<uint16_t>(std::stoul(words.at(4))));
		std::erase_if(rules_, [&](const Rule &old) { return !memcmp(&old.key, &rule.key, sizeof rule.key); });
		rules_.push_back(rule);
	}
	VX_REQUIRE(static_cast<bool>(datapath_->set_rules(rules_)));
}

namespace {

vx_fragment_key fragment_key(const Words &words)
{
	vx_fragment_key key{};
	key.source_be = ipv4_from(words.at(1));
	key.destination_be = ipv4_from(words.at(2));
	key.protocol = static_cast<uint8_t>(std::stoul(words.at(3)));
	key.id_be = htons(static_cast<uint16_t>(std::stoul(words.at(4))));
	return key;
}

constexpr auto kFragmentStates = {"decided", "held", "dropped"};

}  // namespace

void XdpBed::apply_fragment(const Words &words)
{
	const vx_fragment_key key = fragment_key(words);
	vx_fragment fragment{};
	fragment.state = state_from(words.at(5), kFragmentStates);
	fragment.expires_ns = now_ns() + static_cast<uint64_t>(std::stoll(words.at(6)) * 1000000000ll);
	if (words.size() > 7)
		fragment.address_be = ipv4_from(words[7]);
	VX_REQUIRE(bpf_map_update_elem(map("fragments"), &key, &fragment, 0) == 0);
}

void XdpBed::fill_fragments()
{
	vx_fragment_key key{};
	const vx_fragment fragment{.expires_ns = UINT64_MAX, .address_be = 0, .state = VX_FRAGMENT_HELD, .pad = {}};
	do
		key.source_be++;
	while (!bpf_map_update_elem(map("fragments"), &key, &fragment, BPF_NOEXIST));
	VX_REQUIRE(errno == E2BIG);
}

void XdpBed::apply_ring(const std::string &state)
{
	Fd small(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "small_ring", 0, 0, 4096, nullptr));  // one page
	const int fd = small.get();
	const auto workers = static_cast<uint32_t>(rings_.size());
	for (uint32_t at = 0; at < kLanes * workers; at++) {
		if (state == "none")
			bpf_map_delete_elem(map("percpu_ringbufs"), &at);
		if (state == "small" && at % workers == 0)
			VX_REQUIRE(bpf_map_update_elem(map("percpu_ringbufs"), &at, &fd, 0) == 0);
	}
	knobs_ = "(changed)";  // the next case starts anew
}

std::string XdpBed::differs(const Words &words)
{
	if (words.at(0) == "neighbour") {
		const vx_addr address = address_from(words.at(1));
		vx_neighbour neighbour{};
		if (bpf_map_lookup_elem(map("neighbours"), &address, &neighbour))
			return "no such neighbour";
		return neighbour.used == (words.at(2) == "used") ? "" : neighbour.used ? "used" : "unused";
	}
	const vx_fragment_key key = fragment_key(words);
	vx_fragment fragment{};
	if (bpf_map_lookup_elem(map("fragments"), &key, &fragment))
		return words.at(5) == "absent" ? "" : "no such fragment";
	if (words.at(5) == "absent" || fragment.state != state_from(words.at(5), kFragmentStates))
		return "state " + std::to_string(fragment.state);
	if (fragment.state == VX_FRAGMENT_DECIDED && fragment.address_be != (words.size() > 6 ? ipv4_from(words[6]) : 0))
		return "another address";
	const uint64_t left = fragment.expires_ns - now_ns();
	return left <= VX_FRAGMENT_TIMEOUT_NS ? "" : "a wrong time to live: " + std::to_string(left);
}

XdpBed::Counters XdpBed::counters() const
{
	Counters sum{};
	constexpr size_t words = sizeof(vx_counters) / sizeof(uint64_t);
	for (int i = 0; i < VX_SLOTS_MAX; i++)
		for (size_t direction = 0; direction < VX_DIRECTIONS; direction++) {
			const auto *from = reinterpret_cast<const uint64_t *>(&datapath_->slots()[i].direction[direction]);
			auto *into = reinterpret_cast<uint64_t *>(&sum[direction]);
			for (size_t word = 0; word < words; word++)
				into[word] += from[word];
		}
	return sum;
}

Outcome XdpBed::run(const Bytes &frame, Rings rings, vx_direction from, uint32_t queue)
{
	Outcome outcome;
	const int program = from == VX_INSIDE ? datapath_->inside_program_fd() : datapath_->outside_program_fd();
	const Counters before = counters();
	outcome.out.resize(VX_FRAME_BYTES);
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = outcome.out.data(),
		    .data_size_in = static_cast<uint32_t>(frame.size()),
		    .data_size_out = static_cast<uint32_t>(outcome.out.size()), .repeat = 1);
	xdp_md context{};
	if (from == VX_OUTSIDE || queue) {  // else from the loopback device
		context.data_end = static_cast<uint32_t>(frame.size());
		context.ingress_ifindex = static_cast<uint32_t>(from == VX_INSIDE ? inside_ifindex_ : outside_ifindex_);
		context.rx_queue_index = queue;
		options.ctx_in = &context;
		options.ctx_size_in = sizeof context;
	}
	VX_REQUIRE(bpf_prog_test_run_opts(program, &options) == 0);
	outcome.action = static_cast<int>(options.retval);
	outcome.out.resize(options.data_size_out);
	const Counters after = counters();
	note_risen(before[VX_INSIDE], after[VX_INSIDE], "", outcome.counts);
	note_risen(before[VX_OUTSIDE], after[VX_OUTSIDE], "outside.", outcome.counts);
	if (rings == Rings::read)
		for (RingReader &reader : rings_)
			reader.consume();
	outcome.records = std::exchange(records_, {});
	return outcome;
}

}  // namespace vx::test
