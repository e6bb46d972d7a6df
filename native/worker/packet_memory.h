// How much memory packets get: what receive queues are lent, the frames of the UMEM, and what the kernel keeps beside them.
// Pure. Asked by the gateway before anything is made, and by Workers.
#pragma once

#include <cstdint>

#include "../../bpf/abi/abi.h"

namespace vx {

// What has a say in it.
struct PacketMemory {
	uint32_t workers = 1;
	vx_hand_over hand_over = VX_HAND_OVER_EXCEPTIONS;
	uint32_t inside_queues = 0;      // sockets receive from
	uint32_t outside_rx_queues = 0;  // likewise, with source NAT
	uint32_t inside_tx_queues = 0;   // sent by, with source NAT
	uint32_t outside_queues = 1;     // sent by

	// Frames lent to each of so many receive queues at once.
	uint32_t receive_share(uint32_t queues) const;
	uint32_t frames() const;
	// With what the kernel keeps for each frame at each queue that has sockets (struct xdp_buff_xsk).
	uint64_t bytes() const;
};

// An address in the UMEM has 32 bits (vx_injected).
constexpr uint64_t kFramesMax = (uint64_t{1} << 32) / VX_FRAME_BYTES;

}  // namespace vx
