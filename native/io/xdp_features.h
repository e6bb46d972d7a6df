// What an interface's driver says of XDP, by the generic netlink family netdev (Linux 6.3 and later). Asked by the trial of
// the outside interface and by `vxpipe doctor`, on any thread.
#pragma once

#include <cstdint>
#include <optional>

namespace vx {

// Bits of enum netdev_xdp_act in linux/netdev.h, which is newer than Debian 12's headers.
constexpr uint64_t kXdpBasic = 1, kXdpRedirect = 2, kXdpNdoXmit = 4, kXdpZeroCopy = 8;

// nullopt: this kernel does not tell.
std::optional<uint64_t> xdp_features(int ifindex);

}  // namespace vx
