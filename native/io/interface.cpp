// See interface.h.
#include "interface.h"

#include <linux/ethtool.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "fd.h"

namespace vx {
namespace {

namespace fs = std::filesystem;

bool on_bpffs(const fs::path &path)
{
	struct statfs facts;

	return !statfs(path.c_str(), &facts) && static_cast<uint64_t>(facts.f_type) == BPF_FS_MAGIC;
}

fs::path existing_ancestor(fs::path path)
{
	std::error_code ignored;

	while (!fs::exists(path, ignored) && path.has_relative_path())
		path = path.parent_path();
	return path;
}

// The mount's source: who mounted it, which outlives the process. It has to be taken away again by whoever leaves last.
constexpr const char *kOurMount = "vxpipe";

bool mount_bpffs(const fs::path &path)
{
	return !mount(kOurMount, path.c_str(), "bpf", 0, "mode=0700");
}

// The mount point of the bpffs that `path` is on, if this process or an earlier one of ours mounted it; else "".
std::string our_mount(const std::string &path)
{
	std::ifstream mounts("/proc/self/mounts");
	std::string source, point, type, rest, ours;
	size_t longest = 0;

	while (mounts >> source >> point >> type && std::getline(mounts, rest)) {
		const bool above = path == point || point == "/" || path.starts_with(point + "/");

		// The longest mount point is the nearest one, and of several on it the last.
		if (!above || point.size() < longest)
			continue;
		longest = point.size();
		ours = source == kOurMount && type == "bpf" ? point : "";
	}
	return ours;
}

}  // namespace

std::optional<InterfaceFacts> interface_facts(const std::string &name)
{
	Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	ifreq request{};
	ethtool_drvinfo driver{};
	ethtool_channels channels{};
	InterfaceFacts facts{};

	if (!fd || name.empty() || name.size() >= IFNAMSIZ)
		return std::nullopt;
	memcpy(request.ifr_name, name.c_str(), name.size());
	if (ioctl(fd.get(), SIOCGIFINDEX, &request))
		return std::nullopt;
	facts.ifindex = request.ifr_ifindex;
	if (!ioctl(fd.get(), SIOCGIFHWADDR, &request)) {
		memcpy(facts.mac, request.ifr_hwaddr.sa_data, sizeof(facts.mac));
		facts.ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
	}
	if (!ioctl(fd.get(), SIOCGIFMTU, &request))
		facts.mtu = static_cast<uint32_t>(request.ifr_mtu);
	if (!ioctl(fd.get(), SIOCGIFFLAGS, &request))
		facts.carrier = request.ifr_flags & IFF_RUNNING;
	driver.cmd = ETHTOOL_GDRVINFO;
	request.ifr_data = reinterpret_cast<char *>(&driver);
	if (!ioctl(fd.get(), SIOCETHTOOL, &request))
		facts.driver = driver.driver;
	channels.cmd = ETHTOOL_GCHANNELS;
	request.ifr_data = reinterpret_cast<char *>(&channels);
	if (!ioctl(fd.get(), SIOCETHTOOL, &request)) {
		facts.rx_queues = channels.rx_count + channels.combined_count;
		facts.tx_queues = channels.tx_count + channels.combined_count;
	}
	facts.rx_queues = std::max(facts.rx_queues, 1u);
	facts.tx_queues = std::max(facts.tx_queues, 1u);
	return facts;
}

Result<std::string> interface_name(int ifindex)
{
	char name[IF_NAMESIZE];

	if (if_indextoname(static_cast<unsigned>(ifindex), name))
		return std::string(name);
	if (errno == ENXIO || errno == ENODEV)
		return std::string();
	return Error{"NATIVE_FAILED", "ask for an interface's name", errno, ""};
}

Result<std::string> ensure_bpffs(const std::string &directory)
{
	fs::path wanted(directory), ancestor = existing_ancestor(wanted);
	std::error_code error;

	if (on_bpffs(ancestor)) {
		fs::create_directories(wanted, error);
		if (error)
			return Error{"BPFFS_FAILED", "create " + directory, error.value(), ""};
		return our_mount(directory);
	}
	// sysfs lets nobody make a directory; its own mount point for a bpffs is where that is wanted.
	if (ancestor == "/sys/fs/bpf") {
		if (!mount_bpffs(ancestor))
			return Error{"BPFFS_FAILED", "mount a bpffs on /sys/fs/bpf", errno, ""};
		fs::create_directories(wanted, error);
		if (error)
			return Error{"BPFFS_FAILED", "create " + directory, error.value(), ""};
		return ancestor.string();
	}
	fs::create_directories(wanted, error);
	if (error)
		return Error{"BPFFS_FAILED", "create " + directory, error.value(), ""};
	if (!mount_bpffs(wanted))
		return Error{"BPFFS_FAILED", "mount a bpffs on " + directory, errno, ""};
	return directory;
}

void release_bpffs(const std::string &mount_point)
{
	std::error_code error;

	for (const auto &entry : fs::recursive_directory_iterator(mount_point, error)) {
		const std::string name = entry.path().filename();

		// The kernel's own, in the root of a new bpffs (kernel/bpf/preload).
		if (!entry.is_directory(error) && name != "maps.debug" && name != "progs.debug")
			return;
	}
	umount2(mount_point.c_str(), 0);
}

}  // namespace vx
