// One rtnetlink socket: requests, dumps and what the kernel announces. Used by worker 0: before its
// thread runs on the starting thread, then on its own.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>

#include "fd.h"
#include "netlink_parse.h"
#include "result.h"

namespace vx {

class Netlink {
public:
	// Joins the given RTNLGRP_* groups; none: a socket for requests.
	static Result<Netlink> open(std::initializer_list<int> groups);

	int fd() const { return fd_.get(); }
	using Visit = std::function<void(NetlinkBytes)>;

	// Everything of a kind (RTM_GETROUTE, ...). Dumps that the kernel calls inconsistent are read again.
	Result<void> dump(uint16_t type, uint8_t family, const Visit &visit);
	// One request and its answer. Returns the errno, 0: done. `visit` sees messages that come before the answer.
	int request(uint16_t type, uint16_t flags, NetlinkBytes body, const Visit &visit = {});
	// What has been announced so far, without waiting. Returns ENOBUFS when announcements were lost: what was
	// visited is then older than a full reading made now.
	int receive(const Visit &visit);

private:
	Fd fd_;
	std::unique_ptr<uint8_t[]> buffer_;
	uint32_t sequence_ = 0;

	Result<bool> dump_once(uint16_t type, uint8_t family, const Visit &visit);
	int send(uint16_t type, uint16_t flags, NetlinkBytes body);
};

// Builds the body of a request: a fixed header, then attributes.
class NetlinkBody {
public:
	template <typename Header>
	explicit NetlinkBody(const Header &header)
	{
		append(&header, sizeof header);
	}
	void attribute(uint16_t type, const void *value, size_t length);
	NetlinkBytes bytes() const { return {bytes_, length_}; }

private:
	uint8_t bytes_[256] = {};
	size_t length_ = 0;

	void append(const void *value, size_t length);
};

}  // namespace vx
