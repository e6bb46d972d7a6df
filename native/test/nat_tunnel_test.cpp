// The way back to inside hosts: every byte against scapy's frames (fixtures/tunnel, written by fixtures/generate.py).
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <set>
#include <sstream>

#include "../core/address.h"
#include "../core/ip.h"
#include "../core/tunnel.h"
#include "nat_packets.h"
#include "xdp_fixture_file.h"
#include "xdp_words.h"

namespace vx::test {
namespace {

// The cases of a file: title, then lines by their first word.
std::vector<std::pair<std::string, std::map<std::string, Words>>> cases(const std::string &name)
{
	std::vector<std::pair<std::string, std::map<std::string, Words>>> all;
	std::ifstream file(std::string(VX_FIXTURES) + "/tunnel/" + name + ".txt");
	for (std::string line; std::getline(file, line);) {
		std::istringstream stream(line);
		std::string first;
		if (!(stream >> first) || first == "#")
			continue;
		if (first == "case") {
			all.push_back({line.substr(5), {}});
			continue;
		}
		Words &words = all.back().second[first];
		for (std::string word; stream >> word;)
			words.push_back(word);
	}
	return all;
}

TunnelHost host_of(const Words &words)
{
	TunnelHost host{};
	host.vxlan = words.at(0) != "plain";
	if (host.vxlan)
		host.local = address_from(words[0]);
	memcpy(host.mac, mac_from(words.at(1)).data(), 6);
	host.port = static_cast<uint16_t>(std::stoul(words.at(2)));
	return host;
}

Tunnel tunnel_of(const Words &words)
{
	vx_translate received{};
	if (words.at(0) != "::")
		received.peer = address_from(words[0]);
	memcpy(received.peer_mac, mac_from(words.at(1)).data(), 6);
	memcpy(received.inner_macs, mac_from(words.at(2)).data(), 6);
	memcpy(received.inner_macs + 6, mac_from(words.at(3)).data(), 6);
	for (size_t i = 4; i < words.size(); i++)
		memcpy(&received.tags[i - 4], from_hex(words[i]).data(), sizeof(vx_tag));
	Tunnel tunnel{};
	tunnel.learn(received);
	return tunnel;
}

TEST(Tunnel, FramesAreThoseOfAnotherImplementation)
{
	const auto all = cases("frames");
	ASSERT_GT(all.size(), 20u);
	for (const auto &[title, lines] : all) {
		SCOPED_TRACE(title);
		const TunnelHost host = host_of(lines.at("host"));
		const Tunnel tunnel = tunnel_of(lines.at("learned"));
		const Words &send = lines.at("send");
		const Bytes packet = from_hex(send.at(4)), expected = from_hex(lines.at("leaves").at(0));
		// Exactly the room it says it needs, so that the sanitizer sees every byte beyond.
		const uint32_t room = encapsulation_bytes(tunnel, host);
		auto memory = std::make_unique<uint8_t[]>(room + packet.size());
		memset(memory.get(), 0xa5, room);
		std::copy(packet.begin(), packet.end(), memory.get() + room);
		const uint8_t *frame = encapsulate(
			memory.get() + room, static_cast<uint32_t>(packet.size()),
			static_cast<uint32_t>(std::stoul(send[0])), tunnel, host,
			static_cast<uint32_t>(std::stoul(send[1], nullptr, 16)),
			static_cast<uint16_t>(std::stoul(send[2], nullptr, 16)),
			static_cast<uint16_t>(std::stoul(send[3], nullptr, 16)));
		ASSERT_EQ(frame, memory.get());
		EXPECT_EQ(Bytes(frame, frame + room + packet.size()), expected);
	}
}

TEST(Tunnel, TheInnerMtuIsTheInterfacesLessAllHeadersButItsEthernetHeader)
{
	TunnelHost host{.vxlan = true, .local = address_from("192.0.2.1"), .mac = {}, .port = 4789};
	EXPECT_EQ(inner_mtu(1500, host), 1450u);
	host.local = address_from("2001:db8::1");
	EXPECT_EQ(inner_mtu(1500, host), 1430u);
	host.vxlan = false;
	EXPECT_EQ(inner_mtu(1500, host), 1500u);
}

TEST(Tunnel, AnInterfaceWhoseMtuIsLessThanTheHeadersLeavesTheInnerPacketNothing)
{
	const TunnelHost host{.vxlan = true, .local = address_from("2001:db8::1"), .mac = {}, .port = 4789};
	EXPECT_EQ(inner_mtu(71, host), 1u);
	for (const uint32_t mtu : {70u, 69u, 68u, 0u})
		EXPECT_EQ(inner_mtu(mtu, host), 0u) << mtu;
}

TEST(Tunnel, APeerOfTheOtherAddressFamilyCannotBeAnswered)
{
	uint8_t memory[200] = {};
	memory[150] = 0x45;
	const TunnelHost host{.vxlan = true, .local = address_from("192.0.2.1"), .mac = {}, .port = 4789};
	Tunnel tunnel{};
	tunnel.peer = address_from("2001:db8::1");
	EXPECT_EQ(encapsulate(memory + 150, 20, 1, tunnel, host, 0, 0), nullptr);
}

TEST(Tunnel, AFlowKeepsItsHashAndFlowsHaveDifferentOnes)
{
	using namespace nat::test;
	const auto hash = [](const Bytes &packet) {
		return inner_flow_hash(packet.data(), static_cast<uint32_t>(packet.size()));
	};
	std::set<uint32_t> ports;
	for (uint16_t port = 1; port <= 1000; port++) {
		const Endpoint from = endpoint("198.51.100.7:443"), to{address("10.0.0.5"), port};
		const Bytes one = tcp(from, to, kSyn | kAck), other = tcp(from, to, kAck, 1000);
		EXPECT_EQ(hash(one), hash(other));
		ports.insert(hash(one) >> 18);
	}
	EXPECT_GT(ports.size(), 900u) << "of 16384 source ports, a thousand flows share more than chance would have it";
}

TEST(Tunnel, PiecesOfOneDatagramHaveOneHash)
{
	using namespace nat::test;
	std::set<uint32_t> hashes;
	for (const Bytes &piece :
	     in_pieces(udp(endpoint("198.51.100.7:53"), endpoint("10.0.0.5:5000"), 3000, {.dont_fragment = false}), 1000))
		hashes.insert(inner_flow_hash(piece.data(), static_cast<uint32_t>(piece.size())));
	EXPECT_EQ(hashes.size(), 1u);
}

TEST(Arp, RequestsAreAnsweredAndNothingElse)
{
	const auto all = cases("arp");
	ASSERT_GT(all.size(), 10u);
	for (const auto &[title, lines] : all) {
		SCOPED_TRACE(title);
		const Bytes asked = lines.at("asked").empty() ? Bytes{} : from_hex(lines.at("asked")[0]);
		auto memory = std::make_unique<uint8_t[]>(asked.size());
		std::copy(asked.begin(), asked.end(), memory.get());
		const auto request = read_arp_request({memory.get(), asked.size()});
		const std::string &answer = lines.at("answer").at(0);
		ASSERT_EQ(request.has_value(), answer != "none");
		if (!request)
			continue;
		uint8_t mac[6];
		memcpy(mac, mac_from("02:00:00:00:00:02").data(), 6);
		auto reply = std::make_unique<uint8_t[]>(kArpBytes);
		arp_reply(reply.get(), *request, mac);
		EXPECT_EQ(Bytes(reply.get(), reply.get() + kArpBytes), from_hex(answer));
	}
}

}  // namespace
}  // namespace vx::test
