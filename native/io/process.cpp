// See process.h.
//
// Capabilities belong to threads, and no thread can take them from another: each has to give up its own. keep_capabilities
// asks every thread by a signal, as libc does for setuid(2), and by that very signal (SIGSETXID): libc never lets a thread
// block it, while all others may be blocked, as Node's and our own threads do. Libc's action is put back afterwards.
#include "process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <set>

#include "fd.h"

namespace vx {
namespace {

constexpr int kSetxid = 33;
constexpr int kCapabilitiesMax = 64;
constexpr useconds_t kGlance_us = 100;
constexpr int kGlancesMax = 100000;

// As the kernel has it: libc's sigaction() refuses the signals it keeps for itself.
struct KernelAction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)();
	uint64_t mask;
};

// For the handler, which takes no argument. One call at a time: Node's main thread.
uint64_t kept;
std::atomic<int> answered, refused;

int give_up()
{
	__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
	__user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};

	// Only with CAP_SETPCAP, without which nothing can be regained through it either, as no set-uid program is started.
	for (int capability = 0; capability < kCapabilitiesMax; capability++)
		if (!(kept >> capability & 1))
			prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_capget, &header, data))
		return errno;
	for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
		const uint32_t mask = static_cast<uint32_t>(kept >> (32 * word));

		data[word].effective &= mask;
		data[word].permitted &= mask;
		data[word].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) ? errno : 0;
}

void answer(int)
{
	const int before = errno;

	if (const int err = give_up())
		refused = err;
	answered++;
	errno = before;
}

int kernel_action(const KernelAction *wanted, KernelAction *old)
{
	return static_cast<int>(syscall(SYS_rt_sigaction, kSetxid, wanted, old, sizeof(wanted->mask)));
}

// Libc's own way back from a handler, which only libc knows: taken from an action that it installs.
Result<KernelAction> our_action()
{
	struct sigaction ours {}, before {};
	KernelAction action{};

	ours.sa_handler = answer;
	ours.sa_flags = SA_RESTART;
	sigfillset(&ours.sa_mask);
	if (sigaction(SIGRTMAX, &ours, &before))
		return Error{"PRIVILEGES_FAILED", "sigaction", errno, ""};
	const long failed = syscall(SYS_rt_sigaction, SIGRTMAX, nullptr, &action, sizeof(action.mask));
	sigaction(SIGRTMAX, &before, nullptr);
	if (failed)
		return Error{"PRIVILEGES_FAILED", "rt_sigaction", errno, ""};
	return action;
}

// Asks each thread that has not been asked. True: there was one.
bool ask_threads(std::set<int> &asked, int &expected)
{
	std::error_code error;
	bool found = false;

	for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task", error)) {
		const int thread = atoi(entry.path().filename().c_str());

		if (!asked.insert(thread).second || thread == static_cast<int>(gettid()))
			continue;
		found = true;
		// One that has ended meanwhile owes no answer.
		expected += !syscall(SYS_tgkill, getpid(), thread, kSetxid);
	}
	return found;
}

}  // namespace

bool has_capability(unsigned capability)
{
	__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
	__user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};

	return capability < kCapabilitiesMax && !syscall(SYS_capget, &header, data) &&
	       (data[capability / 32].effective >> (capability % 32) & 1);
}

Result<void> keep_capabilities(std::span<const unsigned> capabilities)
{
	auto action = our_action();
	KernelAction before{};
	std::set<int> asked;
	int expected = 0, glances = 0;

	if (!action)
		return action.error();
	kept = 0;
	for (unsigned capability : capabilities)
		kept |= uint64_t{1} << capability;
	answered = refused = 0;
	if (kernel_action(&*action, &before))
		return Error{"PRIVILEGES_FAILED", "rt_sigaction", errno, ""};
	// The caller first: threads that it starts from here on have no more than it.
	if (const int err = give_up())
		refused = err;
	// A thread that was asked may have started another before it answered: until a look finds no new one.
	while (ask_threads(asked, expected))
		while (answered < expected && glances++ < kGlancesMax)
			usleep(kGlance_us);
	if (answered < expected)
		return Error{"PRIVILEGES_FAILED", "give up capabilities", ETIMEDOUT, "a thread did not answer"};
	kernel_action(&before, nullptr);
	if (refused)
		return Error{"PRIVILEGES_FAILED", "capset", refused, ""};
	return {};
}

Result<void> notify_supervisor(const std::string &address, const std::string &text)
{
	Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	sockaddr_un to{};

	if (!fd || address.size() < 2 || address.size() >= sizeof(to.sun_path))
		return Error{"SUPERVISOR_FAILED", "notify " + address, fd ? EINVAL : errno, ""};
	to.sun_family = AF_UNIX;
	memcpy(to.sun_path, address.data(), address.size());
	if (address[0] == '@')
		to.sun_path[0] = '\0';
	const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
	if (sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr *>(&to), length) < 0)
		return Error{"SUPERVISOR_FAILED", "notify " + address, errno, ""};
	return {};
}

Result<bool> lock_file(int fd)
{
	struct flock whole{};

	whole.l_type = F_WRLCK;
	whole.l_whence = SEEK_SET;
	if (!fcntl(fd, F_OFD_SETLK, &whole))
		return true;
	if (errno == EAGAIN || errno == EACCES)
		return false;
	return Error{"RECORDS_UNWRITABLE", "fcntl(F_OFD_SETLK)", errno, ""};
}

}  // namespace vx
