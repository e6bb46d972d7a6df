// Whether an interface takes redirected frames, found out by asking and by doing. Called for `datapath: auto` when the
// gateway starts, with its outside program attached already (some drivers take frames only then); any thread.
//
// First what the driver says (xdp_features.h): a "no" is final, and of a veth, whose answer is about its far end, so is a
// "yes". Elsewhere one frame is redirected, such as an operator expects from a router that starts: an ARP request for the
// next hop, or where there is none an announcement of the own address, or without one a frame to the interface's own MAC
// (EtherType 0x9000, which switches know as loopback test). Drivers have been seen to take frames and lose them, so the
// next hop's answer is waited for, and where it does not come the same request goes the ordinary way: who answers that and
// not the other has been lost on the way.
#pragma once

#include <string>

#include "result.h"

namespace vx {

struct Trial {
	// Also where nothing could be tried: then the first packets tell.
	bool able = true;
	// What was seen, for people.
	std::string found;
	// That left, for the ledger.
	unsigned frames = 0;
};

// An error: the trial itself could not be made.
Result<Trial> try_redirect(int ifindex);

}  // namespace vx
