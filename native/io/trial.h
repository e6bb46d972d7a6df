// Whether frames leave an interface by each way this gateway sends, found out by asking and by doing. Called for
// `datapath: auto` when the gateway starts, with its outside program attached already (some drivers take redirected frames
// only then); any thread.
//
// Two ways: redirected, by XDP or by injection (injector.h), and AF_XDP TX (xsk.h), which is what workers send few frames
// by. A driver's "no" to redirected frames (xdp_features.h; of a veth about its far end) is final. Else each way is tried
// with one frame, such as an operator expects from a router that starts: an ARP request for the next hop, or where there is
// none an announcement of the own address, or without one a frame to the interface's own MAC (EtherType 0x9000, which
// switches know as loopback test). That the driver took it proves little: drivers have been seen to lose redirected frames,
// and both ways go past what the kernel does to all it sends itself (qdiscs, tc and nftables at the egress). So the next
// hop's answer is waited for, and where it does not come the same request goes the ordinary way: who answers that and not
// the other has been lost on the way.
#pragma once

#include <string>

#include "result.h"

namespace vx {

struct Way {
	// Also where nothing could be tried: then the first packets tell.
	bool able = true;
	// What was seen, for people.
	std::string found;
};

struct Trial {
	Way redirect, afxdp_tx;
	// That left, for the ledger.
	unsigned frames = 0;
};

// `umem_fd`: the map that the workers' frames will be in (umem.h), before there are any; `queue`: one they will send by.
// An error: the trial itself could not be made.
Result<Trial> try_ways_out(int ifindex, int umem_fd, uint32_t queue);

}  // namespace vx
