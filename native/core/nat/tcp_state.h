// What a TCP segment does to its session: RFC 6146 section 3.5.2.2 with RFC 7857 section 2, IPv4 on both sides. Pure.
//
// A NAT sees segments, not connections: sequence numbers are not followed, so an RST may be forged, and does not end
// the session. It starts the short timer; the next segment that is not an RST shows the connection lives, and brings
// the long one back.
#pragma once

#include "tables.h"

namespace vx::nat {

inline constexpr uint8_t kTcpFin = 1, kTcpSyn = 2, kTcpRst = 4, kTcpAck = 16;

// True: the session's timer may have become shorter.
inline bool tcp_step(Session &session, uint8_t flags, bool from_inside)
{
	const uint16_t seen = from_inside ? kSessionSeenInside : kSessionSeenOutside;
	const TcpState before = session.tcp;
	if (flags & kTcpRst) {
		if (before == TcpState::closing)
			return false;
		session.tcp = TcpState::reset;
		return true;
	}
	if (flags & kTcpSyn) {
		// A new connection on an old one's ports: from here on as at the beginning. A repeated SYN changes
		// nothing.
		if (before == TcpState::closing || before == TcpState::reset) {
			session.flags &= static_cast<uint16_t>(~(kSessionSeenInside | kSessionSeenOutside));
			session.tcp = TcpState::opening;
		}
	} else if (before == TcpState::reset) {
		session.tcp = TcpState::established;
	}
	session.flags |= seen;
	const bool both = (session.flags & kSessionSeenInside) && (session.flags & kSessionSeenOutside);
	// Not by the answer to a SYN, which a host gives to any: a flood of SYNs from nowhere would make sessions that
	// last for hours.
	if (session.tcp == TcpState::opening && both && !(flags & kTcpSyn))
		session.tcp = TcpState::established;
	if (flags & kTcpFin) {
		const TcpState mine = from_inside ? TcpState::fin_inside : TcpState::fin_outside;
		const TcpState other = from_inside ? TcpState::fin_outside : TcpState::fin_inside;
		if (session.tcp == TcpState::established)
			session.tcp = mine;
		else if (session.tcp == other)
			session.tcp = TcpState::closing;
	}
	return session.tcp == TcpState::closing && before != TcpState::closing;
}

}  // namespace vx::nat
