// See claim.h.
#include "claim.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <fstream>

namespace vx {
namespace {

std::string describe_process(int pid)
{
	std::string name;
	std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> name;
	return "process " + std::to_string(pid) + (name.empty() ? "" : " (" + name + ")");
}

std::string describe_holder(const sockaddr_un &address, socklen_t length)
{
	// Nobody accepts: with a full queue a blocking connect would wait for ever.
	Fd peer(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	ucred credentials{};
	socklen_t size = sizeof(credentials);

	if (!peer || connect(peer.get(), reinterpret_cast<const sockaddr *>(&address), length) ||
	    getsockopt(peer.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size))
		return "another process";
	return describe_process(credentials.pid);
}

}  // namespace

Result<Fd> claim_interface(int ifindex)
{
	Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	sockaddr_un address{};
	int name;
	socklen_t length;

	if (!fd)
		return Error{"CLAIM_FAILED", "socket", errno, ""};
	address.sun_family = AF_UNIX;
	name = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "vxpipe/interface/%d", ifindex);
	length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(name));
	if (bind(fd.get(), reinterpret_cast<sockaddr *>(&address), length)) {
		if (errno == EADDRINUSE)
			return Error{"INTERFACE_HELD", "claim interface", EADDRINUSE, describe_holder(address, length)};
		return Error{"CLAIM_FAILED", "bind", errno, ""};
	}
	// Each who is refused leaves a place taken in the queue: it has to last for a supervisor that tries for days.
	if (listen(fd.get(), SOMAXCONN))
		return Error{"CLAIM_FAILED", "listen", errno, ""};
	return fd;
}

}  // namespace vx
