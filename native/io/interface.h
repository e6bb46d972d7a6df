// Facts about this host and its interfaces, for the control plane. Called on Node's main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "result.h"

namespace vx {

struct InterfaceFacts {
	int ifindex;
	uint8_t mac[6];
	uint32_t mtu;
	std::string driver;
	bool carrier;
	bool ethernet;  // its frames begin with an Ethernet header, and it is not the loopback device
	uint32_t rx_queues, tx_queues;
};

// nullopt: there is no interface of that name in this network namespace.
std::optional<InterfaceFacts> interface_facts(const std::string &name);
// "": none has that index any more. An error: the kernel could not be asked.
Result<std::string> interface_name(int ifindex);

// Makes `directory` exist on a bpffs. Returns its mount point where it is one that we mounted, now or in an earlier run,
// else "".
Result<std::string> ensure_bpffs(const std::string &directory);
// Unmounts what ensure_bpffs mounted, if nothing is pinned there any more.
void release_bpffs(const std::string &mount_point);

}  // namespace vx
