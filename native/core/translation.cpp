// See translation.h.
#include "translation.h"

#include <arpa/inet.h>

#include <cstring>

#include "broken.h"
#include "ip.h"
#include "ipv4_fragments.h"

namespace vx {
namespace {

constexpr uint32_t kBatch = 64;
constexpr uint32_t kTickBudget = 512;  // records that end in a turn: some 50 us
constexpr uint32_t kHeaderBytes = sizeof(vx_translate);
// Where an inner packet of our own making starts in its frame: behind the longest tunnel.
constexpr uint32_t kPacketAt = VX_FRAME_OFFSET_MAX / 2 + kHeaderBytes;

// A frame's name in the engine, for packets it keeps or answers.
uint64_t cookie_of(Frame frame, nat::Stage stage)
{
	return frame.address | uint64_t{frame.length} << 32 | uint64_t{static_cast<uint8_t>(stage)} << 48 |
	       uint64_t{static_cast<uint8_t>(frame.ledger)} << 56;
}

Frame frame_of(uint64_t cookie)
{
	return {cookie & UINT32_MAX, static_cast<uint32_t>(cookie >> 32 & 0xffff), static_cast<Ledger>(cookie >> 56)};
}

nat::Stage stage_of(uint64_t cookie)
{
	return static_cast<nat::Stage>(cookie >> 48 & 0xff);
}

}  // namespace

Translation::Translation(nat::Engine &engine, const TunnelHost &host, uint8_t *memory, Ways &ways)
	: engine_(engine), host_(host), memory_(memory), ways_(ways)
{
	packets_.reserve(kBatch + kNatFragmentsHeld);
	verdicts_.reserve(packets_.capacity());
}

void Translation::set_faces(const Face &inside, const Face &outside)
{
	memcpy(host_.mac, inside.mac, sizeof host_.mac);
	memcpy(outside_mac_, outside.mac, sizeof outside_mac_);
	engine_.set_mtu(nat::Side::inside, inner_mtu(inside.mtu, host_));
	engine_.set_mtu(nat::Side::outside, outside.mtu);
}

void Translation::append(Frame frame, nat::Stage stage)
{
	const vx_translate &header = header_of(frame);
	const bool inside = header.direction == VX_INSIDE;
	frame.ledger = inside ? Ledger::inside : Ledger::outside;
	uint8_t *ip = ip_of(frame);
	packets_.push_back({.ip = ip,
			    .length = frame.length - kHeaderBytes,
			    .realm = header.realm,
			    .from = inside ? nat::Side::inside : nat::Side::outside,
			    .stage = stage,
			    .cookie = cookie_of(frame, stage)});
}

void Translation::take(Frame frame, nat::Stage stage, uint64_t now_ns)
{
	if (frame.length < kHeaderBytes + kIpv4HeaderBytes || header_of(frame).mark_be != htons(VX_ETHERTYPE_TRANSLATE))
		broken("a packet to be translated without its header");
	append(frame, stage);
	if (packets_.size() >= kBatch)
		process(now_ns);
}

void Translation::process(uint64_t now_ns)
{
	verdicts_.resize(packets_.size());
	engine_.process_batch(packets_, verdicts_, now_ns);
	send_replies(now_ns);  // while the packets they are about still have their headers
	for (size_t i = 0; i < packets_.size(); i++)
		act(packets_[i], verdicts_[i], frame_of(packets_[i].cookie), now_ns);
	packets_.clear();
	let_go();
}

// Fragments whose first one has come are translated next; those nobody waits for any more are dropped.
void Translation::let_go()
{
	for (nat::KeptFragment kept; engine_.take_fragment(kept);) {
		kept_--;
		if (kept.again)
			append(frame_of(kept.cookie), stage_of(kept.cookie));
		else
			drop(frame_of(kept.cookie), VX_DROP_fragment_limit);
	}
}

void Translation::act(const nat::Packet &packet, const nat::Verdict &verdict, Frame frame, uint64_t now_ns)
{
	if (verdict.sender != nat::kNone)
		learn(verdict.sender, frame);
	switch (verdict.action) {
	case nat::Action::forward:
		return verdict.to == nat::Side::inside ? send_inside(frame, verdict) : send_outside(frame, now_ns);
	case nat::Action::drop: return drop(frame, static_cast<vx_drop>(verdict.reason));
	case nat::Action::hand_over:
		if (!ways_.hand_over(verdict.worker, frame, packet.stage))
			drop(frame, VX_DROP_handoff_full);
		return;
	case nat::Action::hold: kept_++; return;
	case nat::Action::pass: broken("a packet for an address that is not the pools'");
	}
}

void Translation::learn(uint32_t subscriber, Frame frame)
{
	static_assert(sizeof(Tunnel) <= sizeof(nat::Subscriber::way));
	Tunnel seen{};
	seen.learn(header_of(frame));
	uint8_t *way = engine_.subscriber(subscriber).way;
	if (memcmp(way, &seen, sizeof seen))
		memcpy(way, &seen, sizeof seen);
}

void Translation::send_outside(Frame frame, uint64_t now_ns)
{
	const vx_translate &header = header_of(frame);
	const bool known = header.hop == VX_VERDICT_FORWARD;
	const uint8_t *next_hop = header.next_hop_mac;  // stays where it is: the Ethernet header goes to the end
	frame.address += kHeaderBytes - kEthernetBytes;
	uint8_t *ethernet = at(frame.address);
	frame.length = kEthernetBytes + ip_length(ethernet + kEthernetBytes);
	store16_be(ethernet + kEtherTypeAt, kEtherTypeIpv4);
	if (known)
		ways_.send_outside(frame, next_hop);
	else
		ways_.route(frame, now_ns);
}

Frame Translation::encapsulated(Ledger ledger, uint8_t *ip, uint32_t length, const Tunnel &tunnel, uint32_t realm,
				uint32_t hash)
{
	const uint8_t *begin = encapsulate(ip, length, realm, tunnel, host_, hash, outer_id_++);
	if (!begin)
		broken("a packet for a tunnel that cannot be");
	return {static_cast<uint64_t>(begin - memory_), static_cast<uint32_t>(ip + length - begin), ledger};
}

void Translation::send_inside(Frame frame, const nat::Verdict &verdict)
{
	const nat::Subscriber &subscriber = engine_.subscriber(verdict.subscriber);
	Tunnel tunnel;
	memcpy(&tunnel, subscriber.way, sizeof tunnel);
	if (!reachable(tunnel, host_))
		return drop(frame, VX_DROP_no_subscriber);
	if (verdict.fragment_mtu)
		return send_pieces(frame, tunnel, subscriber.realm, verdict.fragment_mtu);
	uint8_t *ip = ip_of(frame);
	const uint32_t length = ip_length(ip);
	ways_.send_ready(VX_INSIDE, encapsulated(frame.ledger, ip, length, tunnel, subscriber.realm,
						 inner_flow_hash(ip, length)));
}

void Translation::send_pieces(Frame frame, const Tunnel &tunnel, uint32_t realm, uint32_t mtu)
{
	const uint8_t *ip = ip_of(frame);
	const uint32_t hash = inner_flow_hash(ip, ip_length(ip));
	Ipv4Fragments fragments({ip, ip_length(ip)}, mtu);
	if (!fragments.possible())
		return drop(frame, VX_DROP_too_big);
	if (!ways_.has_frames(fragments.count()))
		return drop(frame, VX_DROP_fill_empty);
	if (!ways_.inside_sends())
		return drop(frame, VX_DROP_carrier_down);
	const uint32_t pieces = ways_.begin_pieces(fragments.count());
	for (uint32_t i = 0; i < fragments.count(); i++) {
		uint8_t *piece = at(ways_.take_frame()) + kPacketAt;
		const uint32_t length = fragments.next(piece);
		ways_.send_piece(encapsulated(frame.ledger, piece, length, tunnel, realm, hash), pieces);
	}
	ways_.put_frame(frame.address);
}

// Takes a frame that still begins with its header.
void Translation::drop(Frame frame, vx_drop reason)
{
	frame.address += kHeaderBytes - kEthernetBytes;
	frame.length -= kHeaderBytes - kEthernetBytes;
	store16_be(at(frame.address) + kEtherTypeAt, kEtherTypeIpv4);
	ways_.drop(frame, reason);
}

void Translation::send_replies(uint64_t now_ns)
{
	nat::Replies &replies = engine_.replies();
	for (; const nat::Reply *reply = replies.peek(); replies.done())
		if (ways_.has_frames(1))
			send_reply(*reply, now_ns);
}

void Translation::send_reply(const nat::Reply &reply, uint64_t now_ns)
{
	if (!reply.cookie && reply.to == nat::Side::inside)
		return;  // its tunnel is long gone
	const uint64_t chunk = ways_.take_frame();
	uint8_t *ip = at(chunk) + kPacketAt;
	memcpy(ip, reply.bytes, reply.length);
	const vx_translate *about = reply.cookie ? &header_of(frame_of(reply.cookie)) : nullptr;
	if (reply.to == nat::Side::inside) {
		Tunnel back{};
		back.learn(*about);
		if (!reachable(back, host_))
			return ways_.put_frame(chunk);
		return ways_.send_ready(VX_INSIDE, encapsulated(Ledger::originated, ip, reply.length, back, reply.realm,
								inner_flow_hash(ip, reply.length)));
	}
	const Frame out{chunk + kPacketAt - kEthernetBytes, kEthernetBytes + reply.length, Ledger::originated};
	if (about && about->direction == VX_OUTSIDE)
		ways_.send_outside(out, about->peer_mac);  // the way the packet came
	else
		ways_.route(out, now_ns);
}

void Translation::answer_arp(Frame frame)
{
	const vx_translate &about = header_of(frame);
	const bool inside = about.direction == VX_INSIDE;
	const auto request = read_arp_request({ip_of(frame), frame.length - kHeaderBytes});
	if (!request)
		return ways_.put_frame(frame.address);
	Tunnel back{};
	back.learn(about);
	TunnelHost host = host_;
	host.vxlan = host.vxlan && inside;
	if (!inside)
		memcpy(host.mac, outside_mac_, sizeof host.mac);
	uint8_t *arp = ip_of(frame);
	arp_reply(arp, *request, host.mac);
	const uint8_t *begin = encapsulate(arp, kArpBytes, about.realm, back, host, 0, outer_id_++, kEtherTypeArp);
	if (!begin)
		return ways_.put_frame(frame.address);
	ways_.send_ready(inside ? VX_INSIDE : VX_OUTSIDE,
			 {static_cast<uint64_t>(begin - memory_), static_cast<uint32_t>(arp + kArpBytes - begin),
			  Ledger::originated});
}

bool Translation::tick(uint64_t now_ns)
{
	const bool more = !engine_.tick(now_ns, kTickBudget);
	let_go();
	send_replies(now_ns);
	return more;
}

void Translation::give_up(uint64_t now_ns)
{
	settle(now_ns);
	engine_.give_up_fragments();
	let_go();
	settle(now_ns);
}

}  // namespace vx
