// What vxgen sends, as a pure value: from a description to the templates and the walk that the eBPF program
// (or the paced sender) follows. No system calls but for reading a capture. Called by vxgen before it starts and by its tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "options.h"
#include "traffic.h"

namespace vx::bench {

struct Mix {
	uint32_t weight[VX_CLASS_COUNT];
};

struct Turned {
	uint8_t bytes[VX_TURNED_BYTES];
};

struct PacketPlan {
	Mac destination_mac;
	Mac source_mac;
	Mac inner_destination_mac;
	Mac inner_source_mac;
	uint32_t outer_source_be;
	uint32_t outer_destination_be;
	uint16_t port;
	uint32_t vni;
	uint32_t other_vni;
	std::vector<uint32_t> sources_be;
	std::vector<uint32_t> denied_sources_be;
	uint32_t destination_be;
	std::vector<uint16_t> ports;
	std::vector<uint16_t> other_ports;
	uint32_t flows;
	uint32_t inner_bytes;
	bool dont_fragment;
	bool checksum;
	Mix mix;
	std::vector<Turned> turned; // when not empty: these, in turn, instead of tunnelled packets
	uint32_t frame_bytes;
};

// Packets of a capture as their receiver would answer them: addresses and ports change places, and no checksum by that.
// Each once, all of one length.
void read_answers(const std::string &file, PacketPlan &plan);
const char *class_name(uint32_t class_of);
Mix parse_mix(const std::string &text);
// The whole frame's length for an inner IP packet of so many bytes.
uint32_t frame_bytes(uint32_t inner_bytes);
// Bytes behind VX_HEAD_BYTES, the same in every packet.
std::vector<uint8_t> frame_tail(uint32_t inner_bytes);
void fill_traffic(const PacketPlan &plan, vx_traffic &traffic);
// Packets of each class among the first `count`.
void count_classes(const vx_traffic &traffic, uint64_t count, uint64_t (&into)[VX_CLASS_COUNT]);

} // namespace vx::bench
