// Attaching the traffic tools' XDP programs, and waiting to be told to let go (attach.h). Main thread.
#include "attach.h"

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace vx::bench {

int attach_native(const bpf_program *program, const Interface &interface)
{
	LIBBPF_OPTS(bpf_link_create_opts, native, .flags = XDP_FLAGS_DRV_MODE);
	int link = bpf_link_create(bpf_program__fd(program), static_cast<int>(interface.ifindex), BPF_XDP, &native);
	if (link < 0)
		fail(std::string("attaching ") + bpf_program__name(program) + " natively", errno);
	return link;
}

void wait_for_end()
{
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	pollfd polled[2] = {{signalfd(-1, &ends, SFD_CLOEXEC), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
	char byte;
	for (;;) {
		if (poll(polled, 2, -1) < 0)
			continue;
		if (polled[0].revents || (polled[1].revents && read(STDIN_FILENO, &byte, 1) <= 0))
			return;
	}
}

} // namespace vx::bench
