// See translator.h. Runs on the worker's thread.
#include "translator.h"

#include <algorithm>
#include <cstring>

#include "../core/ip.h"
#include "../core/ipv4_fragments.h"
#include "../core/nat/steering.h"
#include "broken.h"

namespace vx {
namespace {

constexpr uint64_t kTickNs = 100000000;
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

Translator::Translator(Nat &nat, Shared &shared, uint32_t number, Frames &frames, Sender &outside, Sender &inside,
		       Exceptions *exceptions, vx_slot &slot)
	: nat_(nat), engine_(nat.engine(number)), shared_(shared), number_(number), frames_(frames), outside_(outside),
	  inside_(inside), exceptions_(exceptions), slot_(slot), host_(shared.config.tunnel_host)
{
	const nat::Config &config = nat.plan().engine;
	packets_.reserve(kBatch + config.fragments_waiting);
	verdicts_.reserve(packets_.capacity());
	follow_links();  // before the first tick too
}

void Translator::follow_links()
{
	const Face inside = shared_.links.face(VX_INSIDE), outside = shared_.links.face(VX_OUTSIDE);
	memcpy(host_.mac, inside.mac, sizeof host_.mac);
	engine_.set_mtu(nat::Side::inside, inside.mtu - encapsulation_mtu_bytes(host_));
	engine_.set_mtu(nat::Side::outside, outside.mtu);
}

void Translator::append(Frame frame, nat::Stage stage)
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

void Translator::add(Frame frame, nat::Stage stage, uint64_t now_ns)
{
	if (frame.length < kHeaderBytes + kIpv4HeaderBytes || header_of(frame).mark_be != htons(VX_ETHERTYPE_TRANSLATE))
		broken("a packet to be translated without its header");
	append(frame, stage);
	if (packets_.size() >= kBatch)
		process(now_ns);
}

void Translator::process(uint64_t now_ns)
{
	if (packets_.empty())
		return;
	verdicts_.resize(packets_.size());
	engine_.process_batch(packets_, verdicts_, now_ns);
	send_replies(now_ns);  // while the packets they are about still have their headers
	for (size_t i = 0; i < packets_.size(); i++)
		act(packets_[i], verdicts_[i], frame_of(packets_[i].cookie), now_ns);
	packets_.clear();
	let_go();
	wake_others();  // not only when the turn ends: a ring has less room than many turns bring
}

// Fragments whose first one has come are translated next; those nobody waits for any more are dropped.
void Translator::let_go()
{
	for (nat::KeptFragment kept; engine_.take_fragment(kept);) {
		kept_--;
		if (kept.again)
			append(frame_of(kept.cookie), stage_of(kept.cookie));
		else
			drop(frame_of(kept.cookie), VX_DROP_fragment_limit);
	}
}

void Translator::act(const nat::Packet &packet, const nat::Verdict &verdict, Frame frame, uint64_t now_ns)
{
	if (verdict.sender != nat::kNone)
		learn(verdict.sender, frame);
	switch (verdict.action) {
	case nat::Action::forward:
		return verdict.to == nat::Side::inside ? send_inside(frame, verdict) : send_outside(frame, now_ns);
	case nat::Action::drop: return drop(frame, static_cast<vx_drop>(verdict.reason));
	case nat::Action::hand_over:
		if (!hand_over(verdict.worker, {frame, HandedOver::translate, packet.stage}))
			drop(frame, VX_DROP_handoff_full);
		return;
	case nat::Action::hold: kept_++; return;
	case nat::Action::pass: broken("a packet for an address that is not the pools'");
	}
}

void Translator::learn(uint32_t subscriber, Frame frame)
{
	static_assert(sizeof(Tunnel) <= sizeof(nat::Subscriber::way));
	Tunnel seen{};
	seen.learn(header_of(frame));
	uint8_t *way = engine_.subscriber(subscriber).way;
	if (memcmp(way, &seen, sizeof seen))
		memcpy(way, &seen, sizeof seen);
}

void Translator::send_outside(Frame frame, uint64_t now_ns)
{
	const vx_translate &header = header_of(frame);
	const bool known = header.hop == VX_VERDICT_FORWARD;
	const uint8_t *next_hop = header.next_hop_mac;  // stays where it is: the Ethernet header goes to the end
	frame.address += kHeaderBytes - kEthernetBytes;
	uint8_t *ethernet = frames_.at(frame.address);
	frame.length = kEthernetBytes + ip_length(ethernet + kEthernetBytes);
	store16_be(ethernet + kEtherTypeAt, kEtherTypeIpv4);
	if (known)
		outside_.send(frame, next_hop);
	else
		route(frame, now_ns);
}

// Takes a frame from its Ethernet header on, whose next hop only worker 0 can find.
void Translator::route(Frame frame, uint64_t now_ns)
{
	if (exceptions_)
		exceptions_->forward(frame, now_ns);
	else if (!hand_over(0, {frame, HandedOver::route, nat::Stage::arrived}))
		outside_.drop(frame, VX_DROP_handoff_full);
}

Frame Translator::encapsulated(Ledger ledger, uint8_t *ip, uint32_t length, const Tunnel &tunnel, uint32_t realm,
			       uint32_t hash)
{
	const uint8_t *begin = encapsulate(ip, length, realm, tunnel, host_, hash, outer_id_++);
	if (!begin)
		broken("a packet for a tunnel that cannot be");
	return {static_cast<uint64_t>(begin - frames_.at(0)), static_cast<uint32_t>(ip + length - begin), ledger};
}

void Translator::send_inside(Frame frame, const nat::Verdict &verdict)
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
	inside_.send_ready(
		encapsulated(frame.ledger, ip, length, tunnel, subscriber.realm, inner_flow_hash(ip, length)));
}

void Translator::send_pieces(Frame frame, const Tunnel &tunnel, uint32_t realm, uint32_t mtu)
{
	const uint8_t *ip = ip_of(frame);
	const uint32_t hash = inner_flow_hash(ip, ip_length(ip));
	Ipv4Fragments fragments({ip, ip_length(ip)}, mtu);
	if (!fragments.possible())
		return drop(frame, VX_DROP_too_big);
	if (!frames_.has(fragments.count()))
		return drop(frame, VX_DROP_fill_empty);
	if (!shared_.links.sends(VX_INSIDE))
		return drop(frame, VX_DROP_carrier_down);
	const uint32_t pieces = inside_.begin_pieces(fragments.count());
	for (uint32_t i = 0; i < fragments.count(); i++) {
		uint8_t *piece = frames_.at(frames_.take()) + kPacketAt;
		const uint32_t length = fragments.next(piece);
		inside_.send_piece(encapsulated(frame.ledger, piece, length, tunnel, realm, hash), pieces);
	}
	frames_.put(frame.address);
}

bool Translator::hand_over(uint32_t worker, const HandedOver &packet)
{
	if (!nat_.handoffs().between(number_, worker).push(packet))
		return false;
	handed_over_++;
	woken_ |= uint64_t{1} << worker;
	return true;
}

// Takes a frame that still begins with its header.
void Translator::drop(Frame frame, vx_drop reason)
{
	frame.address += kHeaderBytes - kEthernetBytes;
	frame.length -= kHeaderBytes - kEthernetBytes;
	store16_be(frames_.at(frame.address) + kEtherTypeAt, kEtherTypeIpv4);
	outside_.drop(frame, reason);
}

void Translator::send_replies(uint64_t now_ns)
{
	nat::Replies &replies = engine_.replies();
	for (; const nat::Reply *reply = replies.peek(); replies.done())
		if (frames_.has())
			send_reply(*reply, now_ns);
}

void Translator::send_reply(const nat::Reply &reply, uint64_t now_ns)
{
	if (!reply.cookie && reply.to == nat::Side::inside)
		return;  // its tunnel is long gone
	const uint64_t chunk = frames_.take();
	uint8_t *ip = frames_.at(chunk) + kPacketAt;
	memcpy(ip, reply.bytes, reply.length);
	const vx_translate *about = reply.cookie ? &header_of(frame_of(reply.cookie)) : nullptr;
	if (reply.to == nat::Side::inside) {
		Tunnel back{};
		back.learn(*about);
		if (!reachable(back, host_))
			return frames_.put(chunk);
		return inside_.send_ready(encapsulated(Ledger::originated, ip, reply.length, back, reply.realm,
						       inner_flow_hash(ip, reply.length)));
	}
	const Frame out{chunk + kPacketAt - kEthernetBytes, kEthernetBytes + reply.length, Ledger::originated};
	if (about && about->direction == VX_OUTSIDE)
		outside_.send(out, about->peer_mac);  // the way the packet came
	else
		route(out, now_ns);
}

void Translator::answer_arp(Frame frame)
{
	const vx_translate &about = header_of(frame);
	const bool inside = about.direction == VX_INSIDE;
	const Face face = shared_.links.face(inside ? VX_INSIDE : VX_OUTSIDE);
	const auto request = read_arp_request({ip_of(frame), frame.length - kHeaderBytes});
	if (!request)
		return frames_.put(frame.address);
	Tunnel back{};
	back.learn(about);
	TunnelHost host = host_;
	host.vxlan = host.vxlan && inside;
	memcpy(host.mac, face.mac, sizeof host.mac);
	uint8_t *arp = ip_of(frame);
	arp_reply(arp, *request, face.mac);
	const uint8_t *begin = encapsulate(arp, kArpBytes, about.realm, back, host, 0, outer_id_++, kEtherTypeArp);
	if (!begin)
		return frames_.put(frame.address);
	(inside ? inside_ : outside_)
		.send_ready({static_cast<uint64_t>(begin - frames_.at(0)), static_cast<uint32_t>(arp + kArpBytes - begin),
			     Ledger::originated});
}

bool Translator::take_over(uint64_t now_ns)
{
	bool more = false;
	// From all of them together as much as this worker receives in a turn: with less, rings fill up however fast it is.
	const uint32_t most = std::max(VX_INJECTION_MAX / nat_.handoffs().workers(), kBatch);
	for (uint32_t from = 0; from < nat_.handoffs().workers(); from++) {
		HandedOver packet;
		uint32_t left = from == number_ ? 0 : most;
		for (; left && nat_.handoffs().between(from, number_).pop(packet); left--) {
			taken_over_++;
			if (packet.what == HandedOver::route)
				exceptions_->forward(packet.frame, now_ns);
			else
				add(packet.frame, packet.stage, now_ns);
		}
		more |= from != number_ && !left;
	}
	return more;
}

bool Translator::pending()
{
	for (uint32_t from = 0; from < nat_.handoffs().workers(); from++)
		if (from != number_ && nat_.handoffs().between(from, number_).size())
			return true;
	return false;
}

bool Translator::settle(uint64_t now_ns)
{
	bool more = take_over(now_ns);
	while (!packets_.empty())
		process(now_ns);
	wake_others();
	more |= nat_.answer(number_);
	publish();
	return more;
}

// What was handed over is there before it is looked whether its new owner sleeps; who goes to sleep does it the other way
// round (Loop::wait).
void Translator::wake_others()
{
	if (!woken_)
		return;
	std::atomic_thread_fence(std::memory_order_seq_cst);
	for (; woken_; woken_ &= woken_ - 1) {
		const auto worker = static_cast<uint32_t>(__builtin_ctzll(woken_));
		if (__atomic_load_n(&shared_.config.control->worker_sleeps[worker], __ATOMIC_RELAXED))
			nat_.wake(worker);
	}
}

bool Translator::tick(uint64_t now_ns)
{
	if (now_ns < next_tick_ns_)
		return false;
	follow_links();
	const bool more = !engine_.tick(now_ns, kTickBudget);
	let_go();
	send_replies(now_ns);
	next_tick_ns_ = more ? now_ns : now_ns + kTickNs;
	return more;
}

void Translator::finish(uint64_t now_ns)
{
	settle(now_ns);
	engine_.give_up_fragments();
	let_go();
	settle(now_ns);
	nat_.close(number_);
}

void Translator::publish()
{
	slot_.nat = engine_.stats();
	slot_.nat.handed_over = handed_over_;
	slot_.nat.taken_over = taken_over_;
}

}  // namespace vx
