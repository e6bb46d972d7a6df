// Memory near the CPU that will use it. Called where memory is made, on Node's main thread.
#pragma once

namespace vx {

// While it lives, what this thread makes (pages it touches, maps, rings of sockets) comes from the CPU's NUMA node as long as
// that has any left: set_mempolicy(2), MPOL_PREFERRED. Nothing happens on a kernel without NUMA.
class PreferNodeOf {
public:
	explicit PreferNodeOf(int cpu);
	PreferNodeOf(const PreferNodeOf &) = delete;
	PreferNodeOf &operator=(const PreferNodeOf &) = delete;
	~PreferNodeOf();

private:
	static constexpr unsigned kNodesMax = 1024;  // as CONFIG_NODES_SHIFT allows
	static constexpr unsigned kBits = 8 * sizeof(unsigned long);

	int mode_before_ = 0;
	unsigned long before_[kNodesMax / kBits] = {};
	bool set_ = false;
};

// -1: the kernel does not say.
int node_of_cpu(int cpu);

}  // namespace vx
