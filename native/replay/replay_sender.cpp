// See replay_sender.h.
#include "replay_sender.h"

#include <cstring>
#include <vector>

#include "../core/ip.h"
#include "../core/ipv4_fragments.h"

namespace vx {

void ReplaySender::send(std::span<uint8_t> frame, const uint8_t destination_mac[6], Ledger ledger)
{
	memcpy(frame.data(), destination_mac, 6);
	memcpy(frame.data() + 6, outside_.mac, 6);
	store16_be(frame.data() + kEtherTypeAt, ethertype_for(frame.data() + kEthernetBytes));
	if (frame.size() - kEthernetBytes > outside_.mtu)
		return send_fragments(frame, ledger);
	send_ready(VX_OUTSIDE, frame, ledger);
}

void ReplaySender::send_ready(vx_direction to, std::span<const uint8_t> frame, Ledger ledger)
{
	vx_counters &counted = counters(ledger);
	(ledger == Ledger::originated ? counted.originated : counted.forwarded)++;
	counted.worker_bytes += frame.size();
	emit(to, frame);
}

void ReplaySender::send_piece(vx_direction to, std::span<const uint8_t> frame, Ledger ledger)
{
	vx_counters &counted = counters(ledger);
	(first_piece_ ? counted.forwarded : counted.fragments_extra)++;
	first_piece_ = false;
	counted.worker_bytes += frame.size();
	emit(to, frame);
}

void ReplaySender::send_fragments(std::span<uint8_t> frame, Ledger ledger)
{
	Ipv4Fragments fragments(frame.subspan(kEthernetBytes), outside_.mtu);
	if (!fragments.possible())
		return drop(ledger, VX_DROP_too_big);
	std::vector<uint8_t> piece(kEthernetBytes + outside_.mtu);
	memcpy(piece.data(), frame.data(), kEthernetBytes);
	begin_pieces();
	while (const uint32_t length = fragments.next(piece.data() + kEthernetBytes))
		send_piece(VX_OUTSIDE, std::span(piece).first(kEthernetBytes + length), ledger);
}

void ReplaySender::drop(Ledger ledger, vx_drop reason)
{
	if (ledger != Ledger::originated)
		counters(ledger).dropped[reason]++;
}

}  // namespace vx
