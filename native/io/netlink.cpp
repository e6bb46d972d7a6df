// One rtnetlink socket. Used by worker 0, on the thread that runs it.
#include "netlink.h"

#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace vx {
namespace {

constexpr size_t kBufferBytes = 256 * 1024;   // the kernel builds dumps in messages of at most 32 KiB
constexpr int kReceiveBytes = 8 * 1024 * 1024;  // announcements that may queue while a dump is read
constexpr int kDumpTries = 5;

}  // namespace

Result<Netlink> Netlink::open(std::initializer_list<int> groups)
{
	Netlink netlink;
	netlink.fd_ = Fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	if (!netlink.fd_)
		return Error{"WORKER_FAILED", "socket(NETLINK_ROUTE)", errno, ""};
	const int fd = netlink.fd();
	// FORCE needs CAP_NET_ADMIN, which the product has; a smaller buffer only means more full readings.
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBytes, sizeof kReceiveBytes);
	const int on = 1;
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	sockaddr_nl self{};
	self.nl_family = AF_NETLINK;
	if (bind(fd, reinterpret_cast<sockaddr *>(&self), sizeof self))
		return Error{"WORKER_FAILED", "bind(NETLINK_ROUTE)", errno, ""};
	for (const int group : groups)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group))
			return Error{"WORKER_FAILED", "NETLINK_ADD_MEMBERSHIP", errno, std::to_string(group)};
	netlink.buffer_ = std::make_unique<uint8_t[]>(kBufferBytes);
	return netlink;
}

int Netlink::send(uint16_t type, uint16_t flags, NetlinkBytes body)
{
	nlmsghdr header{};
	header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(body.size()));
	header.nlmsg_type = type;
	header.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
	header.nlmsg_seq = ++sequence_;
	iovec parts[2] = {{&header, sizeof header}, {const_cast<uint8_t *>(body.data()), body.size()}};
	msghdr message{};
	message.msg_iov = parts;
	message.msg_iovlen = 2;
	return sendmsg(fd(), &message, 0) < 0 ? errno : 0;
}

int Netlink::request(uint16_t type, uint16_t flags, NetlinkBytes body, const Visit &visit)
{
	if (const int err = send(type, static_cast<uint16_t>(flags | NLM_F_ACK), body))
		return err;
	while (true) {
		const ssize_t length = recv(fd(), buffer_.get(), kBufferBytes, 0);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return errno;
		NetlinkBytes rest{buffer_.get(), static_cast<size_t>(length)};
		for (NetlinkBytes one = next_message(rest); !one.empty(); one = next_message(rest)) {
			const nlmsghdr header = header_of(one);
			if (header.nlmsg_seq != sequence_)
				continue;
			if (header.nlmsg_type == NLMSG_ERROR)
				return parse_error(one);
			if (visit)
				visit(one);
		}
	}
}

Result<bool> Netlink::dump_once(uint16_t type, uint8_t family, const Visit &visit)
{
	// Every dump's own header begins with the family; the rest stays zero. Its length must fit, or the kernel log
	// complains of bytes left over.
	static_assert(sizeof(rtmsg) == sizeof(ndmsg) && sizeof(rtmsg) == sizeof(fib_rule_hdr));
	const uint8_t body[sizeof(ifinfomsg)] = {family};
	const size_t body_length = type == RTM_GETLINK ? sizeof(ifinfomsg) : sizeof(rtmsg);
	if (const int err = send(type, NLM_F_DUMP, {body, body_length}))
		return Error{"WORKER_FAILED", "netlink dump", err, std::to_string(type)};
	bool consistent = true;
	while (true) {
		const ssize_t length = recv(fd(), buffer_.get(), kBufferBytes, 0);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return Error{"WORKER_FAILED", "netlink dump", errno, std::to_string(type)};
		NetlinkBytes rest{buffer_.get(), static_cast<size_t>(length)};
		for (NetlinkBytes one = next_message(rest); !one.empty(); one = next_message(rest)) {
			const nlmsghdr header = header_of(one);
			if (header.nlmsg_seq != sequence_)
				continue;
			consistent &= !(header.nlmsg_flags & NLM_F_DUMP_INTR);
			if (header.nlmsg_type == NLMSG_DONE)
				return consistent;
			if (header.nlmsg_type == NLMSG_ERROR)
				return Error{"WORKER_FAILED", "netlink dump", parse_error(one), std::to_string(type)};
			visit(one);
		}
	}
}

Result<void> Netlink::dump(uint16_t type, uint8_t family, const Visit &visit)
{
	for (int i = 0; i < kDumpTries; i++) {
		auto done = dump_once(type, family, visit);
		if (!done)
			return done.error();
		// A table that changes all the time is announced as well, so the last reading is good enough.
		if (*done)
			break;
	}
	return {};
}

int Netlink::receive(const Visit &visit)
{
	bool lost = false;
	while (true) {
		const ssize_t length = recv(fd(), buffer_.get(), kBufferBytes, MSG_DONTWAIT);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return lost ? ENOBUFS : 0;
		if (length < 0 && errno != ENOBUFS)
			return errno;
		// Read on after a loss: until the queue is empty the kernel keeps losing, and says so only once.
		lost |= length < 0;
		NetlinkBytes rest{buffer_.get(), length < 0 ? 0 : static_cast<size_t>(length)};
		for (NetlinkBytes one = next_message(rest); !one.empty(); one = next_message(rest))
			visit(one);
	}
}

void NetlinkBody::append(const void *value, size_t length)
{
	if (length_ + NLMSG_ALIGN(length) > sizeof bytes_)
		abort();
	memcpy(bytes_ + length_, value, length);
	length_ += NLMSG_ALIGN(length);
}

void NetlinkBody::attribute(uint16_t type, const void *value, size_t length)
{
	nlattr header{};
	header.nla_len = static_cast<uint16_t>(NLA_HDRLEN + length);
	header.nla_type = type;
	append(&header, sizeof header);
	append(value, length);
}

}  // namespace vx
