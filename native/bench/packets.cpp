// Templates of the generated packets, with the sums that stamping completes (packets.h, traffic.h). Pure.
#include "packets.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <set>

namespace vx::bench {

namespace {

constexpr uint32_t kInnerEthernet = 14;
constexpr uint8_t kTtl = 64;

class Writer {
public:
	explicit Writer(uint8_t *at) : at_(at) {}
	void u8(uint32_t value) { *at_++ = static_cast<uint8_t>(value); }
	void u16(uint32_t value)
	{
		u8(value >> 8);
		u8(value & 0xff);
	}
	void u32(uint32_t value)
	{
		u16(value >> 16);
		u16(value & 0xffff);
	}
	void copy(const void *from, size_t bytes)
	{
		memcpy(at_, from, bytes);
		at_ += bytes;
	}

private:
	uint8_t *at_;
};

uint64_t sum_bytes(const uint8_t *at, size_t bytes)
{
	uint64_t sum = 0;
	for (size_t i = 0; i + 1 < bytes; i += 2) {
		uint16_t word;
		memcpy(&word, at + i, 2);
		sum += word;
	}
	if (bytes & 1)
		sum += at[bytes - 1];
	return sum;
}

void write_ethernet(Writer &out, const Mac &to, const Mac &from, uint32_t type)
{
	out.copy(to.bytes, 6);
	out.copy(from.bytes, 6);
	out.u16(type);
}

// The checksum of the outer header is final here: nothing in it changes from packet to packet.
void write_outer(Writer &out, const PacketPlan &plan, uint8_t *frame)
{
	uint32_t bytes = frame_bytes(plan.inner_bytes) - 14;
	write_ethernet(out, plan.destination_mac, plan.source_mac, 0x0800);
	out.u16(0x4500);
	out.u16(bytes);
	out.u16(0);
	out.u16(0x4000); // don't fragment, as VTEPs send
	out.u8(kTtl);
	out.u8(IPPROTO_UDP);
	out.u16(0);
	out.copy(&plan.outer_source_be, 4);
	out.copy(&plan.outer_destination_be, 4);
	uint16_t check = static_cast<uint16_t>(~vx_fold(sum_bytes(frame + 14, 20)));
	memcpy(frame + 14 + 10, &check, 2);
	out.u16(0); // source port: stamped
	out.u16(plan.port);
	out.u16(bytes - 20);
	out.u16(0); // no outer UDP checksum, as RFC 7348 section 5 wants it
}

void write_inner_ipv4(Writer &out, const PacketPlan &plan, uint32_t claimed_bytes)
{
	out.u16(0x4500);
	out.u16(claimed_bytes);
	out.u16(0);
	out.u16(plan.dont_fragment ? 0x4000 : 0);
	out.u8(kTtl);
	out.u8(IPPROTO_UDP);
	out.u16(0);
	out.u32(0); // source: stamped
	out.copy(&plan.destination_be, 4);
	out.u32(0);
	out.u16(claimed_bytes - 20);
	out.u16(0);
}

void write_inner_ipv6(Writer &out, const PacketPlan &plan)
{
	static const uint8_t documentation[12] = {0x20, 0x01, 0x0d, 0xb8};
	out.u32(0x60000000);
	out.u16(plan.inner_bytes - 40);
	out.u8(IPPROTO_UDP);
	out.u8(kTtl);
	out.copy(documentation, sizeof(documentation));
	out.u32(0); // low bits of the source: stamped
	out.copy(documentation, sizeof(documentation));
	out.copy(&plan.destination_be, 4);
	out.u32(0);
	out.u16(plan.inner_bytes - 40);
	out.u16(0);
}

void fill_template(const PacketPlan &plan, uint32_t class_of, vx_template &into)
{
	memset(&into, 0, sizeof(into));
	into.v6 = class_of == VX_CLASS_ipv6;
	into.checksum = plan.checksum || into.v6; // UDP over IPv6 has no zero checksum
	Writer out(into.bytes);
	write_outer(out, plan, into.bytes);
	out.u32(class_of == VX_CLASS_no_flag ? 0 : 0x08000000);
	out.u32((class_of == VX_CLASS_other_vni ? plan.other_vni : plan.vni) << 8);
	write_ethernet(out, plan.inner_destination_mac, plan.inner_source_mac, into.v6 ? 0x86dd : 0x0800);
	uint32_t claimed = plan.inner_bytes + (class_of == VX_CLASS_truncated ? VX_TRUNCATED_BY : 0);
	if (into.v6)
		write_inner_ipv6(out, plan);
	else
		write_inner_ipv4(out, plan, claimed);
	// Behind the payload's fields the template and the tail together hold zeros: they add nothing to a sum.
	const uint8_t *ip = into.bytes + VX_AT_INNER_IP;
	const uint8_t *udp = into.bytes + (into.v6 ? VX_AT_UDP6 : VX_AT_UDP);
	uint64_t sum = into.v6 ? sum_bytes(ip + 8, 32) : sum_bytes(ip + 12, 8);
	sum += sum_bytes(udp, 8);
	sum += htons(IPPROTO_UDP);
	sum += htons(static_cast<uint16_t>(claimed - (into.v6 ? 40 : 20)));
	sum += VX_PAYLOAD_MAGIC;
	into.udp_sum = vx_fold(sum);
	into.ip_sum = into.v6 ? 0 : vx_fold(sum_bytes(ip, 20));
}

} // namespace

void read_answers(const std::string &file, PacketPlan &plan)
{
	std::ifstream in(file, std::ios::binary);
	std::string bytes((std::istreambuf_iterator<char>(in)), {});
	std::set<std::string> seen;
	for (size_t at = 24; at + 16 <= bytes.size();) {
		uint32_t length;
		memcpy(&length, bytes.data() + at + 8, 4);
		at += 16;
		if (at + length > bytes.size())
			break;
		uint8_t *frame = reinterpret_cast<uint8_t *>(&bytes[at]);
		at += length;
		bool ours = length >= VX_TURNED_BYTES && frame[12] == 8 && frame[13] == 0 && frame[14] == 0x45 &&
			    frame[23] == IPPROTO_UDP;
		if (!ours || !seen.emplace(reinterpret_cast<char *>(frame) + 26, 12).second)
			continue;
		if (plan.frame_bytes != 0 && plan.frame_bytes != length)
			usage_error("--answers: packets of different lengths in " + file);
		plan.frame_bytes = length;
		std::swap_ranges(frame, frame + 6, frame + 6);
		std::swap_ranges(frame + 26, frame + 30, frame + 30);
		std::swap_ranges(frame + 34, frame + 36, frame + 36);
		Turned turned;
		memcpy(turned.bytes, frame, sizeof(turned.bytes));
		plan.turned.push_back(turned);
	}
	if (plan.turned.empty() || plan.turned.size() > VX_TURNED_MAX)
		usage_error("--answers: 1 to " + std::to_string(VX_TURNED_MAX) + " UDP packets of IPv4, not as in " + file);
	plan.flows = static_cast<uint32_t>(plan.turned.size());
}

const char *class_name(uint32_t class_of)
{
	static const char *const names[] = {
#define X(name, help) #name,
		VX_CLASSES(X)
#undef X
	};
	return names[class_of];
}

Mix parse_mix(const std::string &text)
{
	Mix mix = {};
	uint64_t total = 0;
	for (const std::string &part : split(text, ',')) {
		size_t equals = part.find('=');
		std::string name = part.substr(0, equals);
		uint32_t found = VX_CLASS_COUNT;
		for (uint32_t i = 0; i < VX_CLASS_COUNT; i++)
			if (name == class_name(i))
				found = i;
		if (equals == std::string::npos || found == VX_CLASS_COUNT)
			usage_error("--mix: not CLASS=WEIGHT: " + part);
		mix.weight[found] = static_cast<uint32_t>(
			parse_number(part.substr(equals + 1), 0, VX_SCHEDULE_MAX, "--mix " + name));
		total += mix.weight[found];
	}
	if (total == 0 || total > VX_SCHEDULE_MAX)
		usage_error("--mix: weights must add up to 1.." + std::to_string(VX_SCHEDULE_MAX));
	return mix;
}

uint32_t frame_bytes(uint32_t inner_bytes)
{
	return VX_OUTER_BYTES + kInnerEthernet + inner_bytes;
}

std::vector<uint8_t> frame_tail(uint32_t inner_bytes)
{
	return std::vector<uint8_t>(frame_bytes(inner_bytes) - VX_HEAD_BYTES, 0);
}

void fill_traffic(const PacketPlan &plan, vx_traffic &traffic)
{
	memset(&traffic, 0, sizeof(traffic));
	traffic.flows = plan.flows;
	traffic.sources = static_cast<uint32_t>(plan.sources_be.size());
	traffic.denied_sources = static_cast<uint32_t>(plan.denied_sources_be.size());
	traffic.ports = static_cast<uint32_t>(plan.ports.size());
	traffic.other_ports = static_cast<uint32_t>(plan.other_ports.size());
	for (size_t i = 0; i < plan.ports.size(); i++)
		traffic.port_be[i] = htons(plan.ports[i]);
	for (size_t i = 0; i < plan.other_ports.size(); i++)
		traffic.other_port_be[i] = htons(plan.other_ports[i]);
	for (uint32_t i = 0; i < VX_CLASS_COUNT; i++)
		fill_template(plan, i, traffic.templates[i]);
	// Classes are spread evenly: each step the class that is furthest behind its share.
	uint32_t total = std::accumulate(plan.mix.weight, plan.mix.weight + VX_CLASS_COUNT, 0u);
	int64_t credit[VX_CLASS_COUNT] = {};
	for (uint32_t i = 0; i < total; i++) {
		for (uint32_t c = 0; c < VX_CLASS_COUNT; c++)
			credit[c] += plan.mix.weight[c];
		auto next = std::max_element(credit, credit + VX_CLASS_COUNT) - credit;
		credit[next] -= total;
		traffic.schedule[i] = static_cast<uint8_t>(next);
	}
	traffic.schedule_length = total;
}

void count_classes(const vx_traffic &traffic, uint64_t count, uint64_t (&into)[VX_CLASS_COUNT])
{
	uint64_t rest = count % traffic.schedule_length;
	std::fill(std::begin(into), std::end(into), 0);
	for (uint32_t i = 0; i < traffic.schedule_length; i++)
		into[traffic.schedule[i]] += count / traffic.schedule_length + (i < rest ? 1 : 0);
}

} // namespace vx::bench
