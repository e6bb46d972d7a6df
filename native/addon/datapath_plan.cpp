// See datapath_plan.h.
#include "datapath_plan.h"

#include "marshal.h"
#include "source_nat.h"

namespace vx {

DatapathPlan to_datapath_plan(const Napi::Object &plan)
{
	DatapathPlan out;
	const auto flag = [&](const char *key) { return plan.Get(key).ToBoolean().Value(); };
	const int match = plan.Get("match").ToNumber().Int32Value();
	const auto local = records_of<vx_addr>(plan.Get("local"));
	const auto mac = bytes_of(plan.Get("nextHop"));

	out.plain_ethernet = plan.Get("encapsulation").ToString().Utf8Value() == "ethernet";
	out.vxlan_port = static_cast<uint16_t>(plan.Get("vxlanPort").ToNumber().Int32Value());
	if (local.size() == 1)
		out.local = local[0];
	if (plan.Get("vnis").IsTypedArray())
		out.vni_ranges = records_of<uint32_t>(plan.Get("vnis"));
	if (plan.Get("peers").IsTypedArray())
		out.peers = records_of<vx_prefix6>(plan.Get("peers"));
	out.match_source = match & 1;
	out.match_destination = match & 2;
	if (mac.size() == 6)
		out.next_hop_mac = mac;
	out.clear_dont_fragment = flag("clearDontFragment");
	out.forward_ipv6 = flag("forwardIpv6");
	out.decrement_ttl = flag("decrementTtl");
	if (plan.Get("sourceNat").IsObject())
		out.source_nat = to_source_nat(plan.Get("sourceNat").As<Napi::Object>());
	return out;
}

AllowlistTables to_allowlist(const Napi::Value &value)
{
	auto list = value.As<Napi::Object>();

	return {bytes_of(list.Get("exact4")), bytes_of(list.Get("exact6")), bytes_of(list.Get("prefix4")),
		bytes_of(list.Get("prefix6"))};
}

}  // namespace vx
