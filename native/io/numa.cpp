// See numa.h.
#include "numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace vx {

int node_of_cpu(int cpu)
{
	std::error_code error;
	for (const auto &entry :
	     std::filesystem::directory_iterator("/sys/devices/system/cpu/cpu" + std::to_string(cpu), error)) {
		const std::string name = entry.path().filename();
		if (name.starts_with("node") && name.find_first_not_of("0123456789", 4) == std::string::npos)
			return atoi(name.c_str() + 4);
	}
	return -1;
}

PreferNodeOf::PreferNodeOf(int cpu)
{
	const int node = node_of_cpu(cpu);
	if (node < 0 || node >= static_cast<int>(kNodesMax) ||
	    syscall(SYS_get_mempolicy, &mode_before_, before_, kNodesMax + 1, nullptr, 0))
		return;
	unsigned long nodes[kNodesMax / kBits] = {};
	nodes[static_cast<unsigned>(node) / kBits] = 1ul << (static_cast<unsigned>(node) % kBits);
	set_ = !syscall(SYS_set_mempolicy, MPOL_PREFERRED, nodes, kNodesMax + 1);
}

PreferNodeOf::~PreferNodeOf()
{
	if (set_)
		syscall(SYS_set_mempolicy, mode_before_, before_, kNodesMax + 1);
}

}  // namespace vx
