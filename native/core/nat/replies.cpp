// ICMP errors of our own. See the header.
#include "replies.h"

#include <algorithm>

#include "checksums.h"

namespace vx::nat {

Replies::Replies(Arena &arena, const Config &config, Stats &stats)
	: config_(config), ring_(arena.take<Reply>(kRing)), side_(Rate::per_second(config.icmp_per_second)),
	  subscriber_(Rate::per_second(config.icmp_per_second_subscriber)),
	  newcomers_(Rate::per_second(config.icmp_per_second / 2)), stats_(stats)
{
}

Reply *Replies::next()
{
	if (end_ - first_ == kRing) {
		stats_.replies_limited++;
		return nullptr;
	}
	return &ring_[end_ % kRing];
}

void Replies::answer(const Packet &packet, const Headers &h, Side to, const IcmpError &error, Subscriber *subscriber,
		     uint64_t now_ns)
{
	// Fragmentation Needed goes outside even so: it is about a live session, and without it the path is a black
	// hole.
	const bool wanted = to == Side::inside ? config_.icmp_inside
					       : config_.icmp_outside || (error.type == 3 && error.code == 4);
	if (!wanted || h.piece == Piece::later || !is_host(h.source_be) || !is_host(h.destination_be))
		return;
	if (h.protocol == IPPROTO_ICMP && h.icmp_type() != kIcmpEcho && h.icmp_type() != kIcmpEchoReply)
		return;
	const bool newcomer = to == Side::inside && !(subscriber && (subscriber->blocks || subscriber->permanent));
	if ((subscriber && !subscriber_.allows(subscriber->icmp_due_ns, now_ns)) ||
	    (newcomer && !newcomers_.allows(newcomers_due_ns_, now_ns))) {
		stats_.replies_limited++;
		return;
	}
	Reply *reply = next();
	if (!reply)
		return;
	if (!side_.take(due_ns_[static_cast<int>(to)], now_ns)) {
		stats_.replies_limited++;
		return;
	}
	if (subscriber)
		subscriber_.charge(subscriber->icmp_due_ns, now_ns);
	if (newcomer)
		newcomers_.charge(newcomers_due_ns_, now_ns);
	reply->to = to;
	reply->realm = packet.realm;
	reply->cookie = packet.cookie;
	write(*reply, {h.ip, h.length}, error);
}

void Replies::answer_quote(std::span<const uint8_t> quote, const IcmpError &error, uint64_t now_ns)
{
	Reply *reply = next();
	if (!reply || !side_.take(due_ns_[static_cast<int>(Side::outside)], now_ns))
		return;
	reply->to = Side::outside;
	reply->realm = 0;
	reply->cookie = 0;
	write(*reply, quote, error);
}

void Replies::write(Reply &reply, std::span<const uint8_t> quote, const IcmpError &error)
{
	const uint32_t quoted = static_cast<uint32_t>(std::min<size_t>(quote.size(), kReplyBytesMax - 28));
	uint8_t *ip = reply.bytes, *icmp = ip + 20;
	reply.length = static_cast<uint16_t>(28 + quoted);
	memset(ip, 0, 28);
	ip[0] = 0x45;
	ip[1] = 0xc0;  // RFC 1812 section 4.3.2.5: internetwork control
	store(ip + 2, host16(reply.length));
	store(ip + 4, host16(++id_));
	ip[8] = 64;
	ip[9] = IPPROTO_ICMP;
	store(ip + 12, error.source_be);
	memcpy(ip + 16, &quote[12], 4);
	store(ip + 10, internet_checksum(ip, 20));
	icmp[0] = error.type;
	icmp[1] = error.code;
	store(icmp + 6, host16(error.next_mtu));
	memcpy(icmp + 8, quote.data(), quoted);
	store(icmp + 2, internet_checksum(icmp, 8 + quoted));
	end_++;
	stats_.replies++;
}

}  // namespace vx::nat
