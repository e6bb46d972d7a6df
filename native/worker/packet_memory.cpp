// See packet_memory.h.
#include "packet_memory.h"

#include <algorithm>

#include "../core/translation.h"

namespace vx {
namespace {

// What can be held (1,024 for neighbours, 1,024 fragments) and queued to leave (1,024); what each further worker queues and
// keeps; what each queues to leave the other way, and holds there.
constexpr uint32_t kHeldFrames = 3072, kWorkerFrames = 2048, kOtherWayFrames = 1024 + 2 * kNatFragmentsHeld;
// The queues go through all they are lent in turn: more would bridge a longer pause of a worker, but fall out of the
// cores' caches and page tables, which costs more of the rate than the packet itself (docs/PERFORMANCE.md).
constexpr uint32_t kReceiveFrames = 1024, kReceiveFramesMin = 128;
// Where all comes by socket. Of many queues each is lent less: what the kernel keeps grows with frames times queues.
constexpr uint32_t kReceiveAllFrames = 2048, kReceiveAllFramesEach = 1024, kReceiveAllFramesMost = 16384;
// Of a queue's, each worker's: what one NAPI poll may bring.
constexpr uint32_t kReceiveFramesWorker = 64;
// Queues need frames while a turn's are being sent: no more than were lent, and than a worker has in hand and in the driver.
constexpr uint32_t kTurnFrames = 4096;
constexpr uint64_t kKernelBytes = 128;  // struct xdp_buff_xsk, Linux 6.18

}  // namespace

uint32_t PacketMemory::receive_share(uint32_t queues) const
{
	const uint32_t least = workers * kReceiveFramesWorker;
	queues = std::max(queues, 1u);
	if (hand_over != VX_HAND_OVER_SOCKETS)
		return std::max({kReceiveFrames / queues, kReceiveFramesMin, least});
	const uint32_t each = std::min(kReceiveAllFramesEach, kReceiveAllFramesMost / queues);
	return std::max({kReceiveAllFrames / queues, each, kReceiveFramesMin, least});
}

uint32_t PacketMemory::frames() const
{
	uint32_t lent = 0;
	for (const uint32_t queues : {inside_queues, outside_rx_queues})
		lent += queues * receive_share(queues);
	const uint32_t turns = hand_over == VX_HAND_OVER_SOCKETS ? std::min(lent, workers * kTurnFrames) : 0;
	const uint32_t other_way = inside_tx_queues ? workers * kOtherWayFrames : 0;
	return kHeldFrames + (workers - 1) * kWorkerFrames + other_way + lent + turns;
}

uint64_t PacketMemory::bytes() const
{
	const uint32_t inside = std::max(inside_queues, std::min(inside_tx_queues, workers));
	const uint32_t outside = std::max(outside_rx_queues, std::min(outside_queues, workers));
	return frames() * (VX_FRAME_BYTES + kKernelBytes * (inside + outside));
}

}  // namespace vx
