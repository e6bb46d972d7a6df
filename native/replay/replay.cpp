// See replay.h: the programs' surroundings, and the way of a frame through them. What the worker does beside them is in
// replay_worker.cpp and replay_nat.cpp.
#include "replay.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "../core/address.h"
#include "../core/broken.h"
#include "capture.h"

namespace vx {
namespace {

constexpr uint32_t kHeadroom = 256;  // XDP_PACKET_HEADROOM
constexpr uint32_t kVnis = 1u << 24;
constexpr uint32_t kMtu = 1500;
constexpr uint64_t kTickNs = 1000000000;
constexpr uint8_t kInsideMac[6] = {2, 0, 0, 0, 0, 1}, kOutsideMac[6] = {2, 0, 0, 0, 0, 2};
constexpr uint8_t kNextHopMac[6] = {2, 0, 0, 0, 0, 3};
constexpr vx_addr kVtep = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}};
constexpr vx_addr kGateway = {};  // has no address anybody sees

// The program's globals are one set.
std::mutex program_mutex;

program_knobs knobs_of(const DatapathPlan &plan)
{
	program_knobs knobs{};
	knobs.plain_ethernet = plan.plain_ethernet;
	knobs.port_be = htons(plan.vxlan_port);
	knobs.any_vni = !plan.vni_ranges;
	knobs.any_peer = !plan.peers;
	knobs.any_local = !plan.local && !plan.source_nat;
	knobs.local = plan.local.value_or(kVtep);
	knobs.match_source = plan.match_source;
	knobs.match_destination = plan.match_destination;
	knobs.clear_df = plan.clear_dont_fragment;
	knobs.forward_ipv6 = plan.forward_ipv6;
	knobs.decrement_ttl = plan.decrement_ttl;
	knobs.translate = plan.source_nat.has_value();
	knobs.fixed_next_hop = plan.next_hop_mac.has_value();
	if (plan.next_hop_mac)
		std::copy_n(plan.next_hop_mac->data(), sizeof knobs.next_hop_mac, knobs.next_hop_mac);
	return knobs;
}

HostMaps::Sizes sizes_of(const DatapathPlan &plan)
{
	HostMaps::Sizes sizes{{"vni_set", plan.vni_ranges ? kVnis / 64 : 1}};
	if (plan.source_nat) {
		const nat::PoolConfig &pools = plan.source_nat->pools;
		sizes["pool_addresses"] = sizes["port_owners"] = nat::PortBlocks::addresses_most(pools);
		sizes["nat_forwards"] = pools.forwards.size();
		sizes["nat_gateways"] = plan.source_nat->engine.gateways.size();
	}
	return sizes;
}

Face face_of(const uint8_t mac[6])
{
	Face face{{}, kMtu};
	memcpy(face.mac, mac, sizeof face.mac);
	return face;
}

// A table of an allowlist: records are keys, and being there is all that counts.
template <typename Key, typename Map>
std::unique_ptr<HostMap> table_of(const std::vector<uint8_t> &keys)
{
	const uint8_t present = 1;
	const auto count = static_cast<uint32_t>(keys.size() / sizeof(Key));
	auto table = std::make_unique<Map>(sizeof(Key), sizeof present, std::max(count, 1u));
	for (uint32_t i = 0; i < count; i++)
		table->update(keys.data() + i * sizeof(Key), &present, BPF_ANY);
	return table;
}

}  // namespace

Replay::Replay(const ReplayPlan &plan, ReplaySender::Emit emit)
	: only_one_(program_mutex),
	  maps_(sizes_of(plan.datapath),
		[this](const void *record) {
			vx_exception exception;
			memcpy(&exception, record, sizeof exception);
			auto *frame = static_cast<uint8_t *>(const_cast<void *>(record)) + sizeof exception;
			take_exception(exception, {frame, exception.length});
		}),
	  sender_(std::move(emit), face_of(kOutsideMac), worker()),
	  changes_{0, plan.datapath.decrement_ttl, plan.datapath.clear_dont_fragment},
	  fixed_next_hop_(plan.datapath.next_hop_mac.has_value()), buffer_(kHeadroom + kCaptureBytesMax), holder_(held_limits())
{
	const program_knobs knobs = knobs_of(plan.datapath);
	program_set_knobs(&knobs);
	*program_control() = {};
	program_control()->epoch.generation = 1;
	set_host(plan.datapath);
	set_filters(plan.datapath);
	set_allowlist(plan.allowlist);
	set_rules(plan.rules);
}

Result<std::unique_ptr<Replay>> Replay::open(const ReplayPlan &plan, ReplaySender::Emit emit)
{
	std::unique_ptr<Replay> self(new Replay(plan, std::move(emit)));
	if (plan.datapath.source_nat)
		if (auto done = self->set_nat(plan.datapath); !done)
			return done.error();
	return self;
}

Result<void> Replay::set_nat(const DatapathPlan &plan)
{
	const TunnelHost tunnel{.vxlan = !plan.plain_ethernet,
				.local = plan.local.value_or(kVtep),
				.mac = {},
				.port = plan.vxlan_port};
	auto &owners = maps_.get<HostArray>("port_owners");
	auto made = ReplayNat::make(*plan.source_nat,
				    {reinterpret_cast<vx_port_owners *>(owners.data()), owners.entries()},
				    {tunnel, face_of(kInsideMac), face_of(kOutsideMac),
				     [this](const uint8_t *frame, uint8_t mac[6]) { return find_next_hop(frame, mac); }},
				    sender_);
	if (!made)
		return made.error();
	nat_ = std::move(*made);
	program_set_block_shift(static_cast<uint32_t>(std::countr_zero(plan.source_nat->pools.block_size)));
	worker().work.thread = 1;  // its engine's counters are there to be read
	const PoolTables tables = nat_->tables();
	for (uint32_t number = 0; number < tables.addresses_be.size(); number++)
		maps_["pool_addresses"].update(&tables.addresses_be[number], &number, BPF_ANY);
	for (const ForwardOwner &forward : tables.forwards)
		maps_["nat_forwards"].update(&forward.key, &forward.worker, BPF_ANY);
	const uint8_t present = 1;
	for (const vx_gateway_key &gateway : tables.gateways)
		maps_["nat_gateways"].update(&gateway, &present, BPF_ANY);
	return {};
}

void Replay::set_host(const DatapathPlan &plan)
{
	vx_interface inside{}, outside{};
	const uint32_t indexes[] = {VX_INSIDE, VX_OUTSIDE};
	inside.ifindex = PROGRAM_INSIDE_IFINDEX;
	outside.ifindex = PROGRAM_OUTSIDE_IFINDEX;
	inside.mtu = outside.mtu = kMtu;
	memcpy(inside.mac, kInsideMac, sizeof inside.mac);
	memcpy(outside.mac, kOutsideMac, sizeof outside.mac);
	maps_["interface_map"].update(&indexes[0], &inside, BPF_ANY);
	maps_["interface_map"].update(&indexes[1], &outside, BPF_ANY);

	vx_neighbour next_hop{};
	next_hop.state = VX_NEIGHBOUR_VALID;
	memcpy(next_hop.mac, kNextHopMac, sizeof next_hop.mac);
	memcpy(next_hop_mac_, fixed_next_hop_ ? plan.next_hop_mac->data() : kNextHopMac, sizeof next_hop_mac_);
	maps_["neighbours"].update(&kGateway, &next_hop, BPF_ANY);

	const vx_addr own = plan.local.value_or(kVtep);
	const vx_route by_gateway{VX_ROUTE_GATEWAY, {}, kGateway}, none{VX_ROUTE_NONE, {}, {}};
	const vx_route local{VX_ROUTE_LOCAL, {}, {}};
	struct {
		vx_prefix4 prefix;
		const vx_route &route;
	} const routes4[] = {
		{{0, 0}, by_gateway},
		{{8, 0}, none},
		{{8, htonl(0x7f000000)}, none},
		{{32, 0xffffffff}, local},
	};
	for (const auto &one : routes4)
		maps_["routes4"].update(&one.prefix, &one.route, BPF_ANY);
	const vx_prefix6 everything{}, own6{128, own};
	maps_["routes6"].update(&everything, &by_gateway, BPF_ANY);
	if (is_mapped(own)) {
		vx_prefix4 own4{32, 0};
		memcpy(&own4.address_be, own.bytes + 12, 4);
		maps_["routes4"].update(&own4, &local, BPF_ANY);
	} else {
		maps_["routes6"].update(&own6, &local, BPF_ANY);
	}
}

void Replay::set_filters(const DatapathPlan &plan)
{
	if (plan.vni_ranges) {
		auto *words = reinterpret_cast<uint64_t *>(maps_.get<HostArray>("vni_set").data());
		const auto &ranges = *plan.vni_ranges;
		for (size_t i = 0; i + 1 < ranges.size(); i += 2)
			for (uint32_t vni = ranges[i]; vni <= ranges[i + 1] && vni < kVnis; vni++)
				words[vni / 64] |= 1ull << (vni % 64);
	}
	const uint8_t present = 1;
	for (const vx_prefix6 &peer : plan.peers.value_or(std::vector<vx_prefix6>{}))
		maps_["peers"].update(&peer, &present, BPF_ANY);
}

void Replay::set_allowlist(const std::optional<AllowlistTables> &tables)
{
	if (!tables)
		return;
	uint32_t selector = VX_ALLOW_ENFORCE;
	const auto put = [&](const char *name, std::unique_ptr<HostMap> table, bool filled, uint32_t flag) {
		maps_.get<HostTableOfMaps>(name).put(0, std::move(table));
		selector |= filled ? flag : 0;
	};
	put("ip_allowlist", table_of<uint32_t, HostHash>(tables->exact4), !tables->exact4.empty(), VX_ALLOW_EXACT4);
	put("ip_allowlist6", table_of<vx_addr, HostHash>(tables->exact6), !tables->exact6.empty(), VX_ALLOW_EXACT6);
	put("prefix_allow", table_of<vx_prefix4, HostTrie>(tables->prefix4), !tables->prefix4.empty(),
	    VX_ALLOW_PREFIX4);
	put("prefix_allow6", table_of<vx_prefix6, HostTrie>(tables->prefix6), !tables->prefix6.empty(),
	    VX_ALLOW_PREFIX6);
	program_control()->epoch.allowlist = selector;
}

void Replay::set_rules(const std::vector<Rule> &rules)
{
	for (const Rule &rule : rules) {
		maps_["nat_map"].update(&rule.key, &rule.value, BPF_ANY);
		program_control()->rules |= rule.key.protocol == IPPROTO_TCP ? VX_RULES_TCP : VX_RULES_UDP;
	}
}

vx_slot &Replay::slot(uint32_t index)
{
	return *static_cast<vx_slot *>(maps_["stats_map"].look_up(&index));
}

std::span<const uint8_t> Replay::counters()
{
	return {maps_.get<HostArray>("stats_map").data(), sizeof(vx_slot) * VX_SLOTS_MAX};
}

// What the worker does between packets. While something waits it looks once a second; the rest of a long silence is one.
void Replay::wait_until(uint64_t now_ns)
{
	const uint64_t arrives_ns = std::max(now_ns_, now_ns);
	if (!next_tick_ns_)
		next_tick_ns_ = arrives_ns + kTickNs;
	for (; next_tick_ns_ <= arrives_ns && holder_.frames(); next_tick_ns_ += kTickNs) {
		now_ns_ = next_tick_ns_;
		give_up(holder_.expire(now_ns_));
	}
	now_ns_ = arrives_ns;
	set_host_clock(now_ns_);
	if (next_tick_ns_ <= now_ns_) {
		forget_fates();
		next_tick_ns_ = now_ns_ + kTickNs;
	}
	if (nat_)
		nat_->advance(now_ns_);
}

void Replay::receive(vx_direction from, uint64_t time_ns, std::span<const uint8_t> frame)
{
	if (frame.size() > kCaptureBytesMax)
		frame = frame.first(kCaptureBytesMax);
	wait_until(time_ns);
	sender_.set_time(time_ns);
	// At the end of the buffer, where a sanitizer sees the first byte read too many.
	uint8_t *end = buffer_.data() + buffer_.size();
	program_frame in_buffer{buffer_.data(), std::copy_backward(frame.begin(), frame.end(), end), end};
	switch (from == VX_INSIDE ? program_run(&in_buffer) : program_run_outside(&in_buffer)) {
	case XDP_PASS:
	case XDP_DROP: return;
	case XDP_REDIRECT:
		slot(0).direction[VX_INSIDE].forwarded++;  // what bpf/losses.bpf.c does when the driver took it
		return sender_.emit(VX_OUTSIDE, {in_buffer.data, in_buffer.end});
	default: broken("a packet without a fate");
	}
}

void Replay::finish()
{
	give_up(holder_.expire(UINT64_MAX));
	if (!nat_)
		return;
	nat_->finish();
	worker().nat = nat_->stats();
}

}  // namespace vx
