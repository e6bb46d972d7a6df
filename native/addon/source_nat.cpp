// See source_nat.h.
#include "source_nat.h"

#include <functional>

#include "marshal.h"

namespace vx {
namespace {

uint32_t number(const Napi::Object &from, const char *key)
{
	return from.Get(key).ToNumber().Uint32Value();
}

bool flag(const Napi::Object &from, const char *key)
{
	return from.Get(key).ToBoolean().Value();
}

bool says(const Napi::Object &from, const char *key, const char *word)
{
	return from.Get(key).ToString().Utf8Value() == word;
}

// 0: there is none.
uint32_t address_be(const Napi::Object &from, const char *key)
{
	auto addresses = records_of<uint32_t>(from.Get(key));
	return addresses.empty() ? 0 : addresses[0];
}

uint32_t realm(const Napi::Object &from)
{
	return from.Get("vni").IsNumber() ? number(from, "vni") : nat::kPlainRealm;
}

void each(const Napi::Object &from, const char *key, const std::function<void(const Napi::Object &)> &take)
{
	auto list = from.Get(key).As<Napi::Array>();
	for (uint32_t i = 0; i < list.Length(); i++)
		take(list.Get(i).As<Napi::Object>());
}

nat::Pool to_pool(const Napi::Object &from)
{
	nat::Pool pool{records_of<uint32_t>(from.Get("addresses")), static_cast<uint16_t>(number(from, "firstPort")),
		       static_cast<uint16_t>(number(from, "lastPort")), {}};
	auto ranges = records_of<uint32_t>(from.Get("vnis"));
	for (size_t i = 0; i + 1 < ranges.size(); i += 2)
		pool.realms.push_back({ranges[i], ranges[i + 1]});
	return pool;
}

nat::PoolConfig to_pools(const Napi::Object &plan)
{
	nat::PoolConfig out;

	out.block_size = number(plan, "blockSize");
	each(plan, "pools", [&](const Napi::Object &pool) { out.pools.push_back(to_pool(pool)); });
	each(plan, "forwards", [&](const Napi::Object &forward) {
		out.forwards.push_back({address_be(forward, "address"), static_cast<uint16_t>(number(forward, "port")),
					static_cast<uint8_t>(number(forward, "protocol")), realm(forward),
					address_be(forward, "inside"),
					static_cast<uint16_t>(number(forward, "insidePort"))});
	});
	return out;
}

nat::Filtering to_filtering(const Napi::Object &plan)
{
	return says(plan, "filtering", "endpoint-independent") ? nat::Filtering::endpoint_independent
	       : says(plan, "filtering", "address-dependent")  ? nat::Filtering::address_dependent
							       : nat::Filtering::address_and_port_dependent;
}

nat::Timeouts to_timeouts(const Napi::Object &from)
{
	nat::Timeouts out;

	out.tcp_established = number(from, "tcpEstablished");
	out.tcp_opening = out.tcp_closing = number(from, "tcpTransitory");
	out.udp = number(from, "udp");
	out.icmp = number(from, "icmp");
	out.port_hold = number(from, "portHold");
	return out;
}

nat::Config to_engine(const Napi::Object &plan)
{
	nat::Config out;

	out.mapping = says(plan, "mapping", "endpoint-independent") ? nat::Mapping::endpoint_independent
								    : nat::Mapping::address_and_port_dependent;
	out.filtering = to_filtering(plan);
	out.midstream = says(plan, "midstream", "drop") ? nat::Midstream::drop : nat::Midstream::create;
	out.pair_strictly = flag(plan, "paired");
	out.hairpin = flag(plan, "hairpin");
	out.icmp_inside = flag(plan, "icmpInside");
	out.icmp_outside = flag(plan, "icmpOutside");
	out.blocks_per_subscriber = number(plan, "blocksPerSubscriber");
	out.sessions_per_subscriber = number(plan, "sessionsPerSubscriber");
	out.new_sessions_per_second = number(plan, "newSessionsPerSecond");
	out.sessions_max = number(plan, "sessionsPerWorker");
	out.mss_clamp = plan.Get("mssClamp").IsNumber() ? number(plan, "mssClamp") : nat::kMssThatFits;
	out.record_sessions = flag(plan, "recordSessions");
	out.timeouts = to_timeouts(plan.Get("timeouts").As<Napi::Object>());
	each(plan, "exclude", [&](const Napi::Object &prefix) {
		out.exclude.push_back({address_be(prefix, "address"), static_cast<uint8_t>(number(prefix, "length"))});
	});
	each(plan, "gateways", [&](const Napi::Object &gateway) {
		out.gateways.push_back({realm(gateway), address_be(gateway, "address")});
	});
	return out;
}

}  // namespace

SourceNat to_source_nat(const Napi::Object &plan)
{
	return {to_pools(plan), to_engine(plan)};
}

}  // namespace vx
