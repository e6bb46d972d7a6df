// See xdp_features.h.
#include "xdp_features.h"

#include <linux/genetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "fd.h"
#include "netlink_parse.h"

namespace vx {
namespace {

// linux/netdev.h
constexpr uint8_t kDevGet = 1;
constexpr uint16_t kDevIfindex = 1, kDevXdpFeatures = 3;

struct Request {
	nlmsghdr header;
	genlmsghdr generic;
	nlattr attribute;
	uint8_t value[16];
};

// The value of an attribute in the answer to a request with one attribute; empty: there is none.
NetlinkBytes ask(int fd, uint16_t type, uint8_t command, uint16_t attribute, const void *value, size_t length,
		 uint16_t wanted, uint8_t *buffer, size_t room)
{
	Request request{};
	request.header.nlmsg_len = static_cast<uint32_t>(offsetof(Request, value) + NLA_ALIGN(length));
	request.header.nlmsg_type = type;
	request.header.nlmsg_flags = NLM_F_REQUEST;
	request.generic = {.cmd = command, .version = 1, .reserved = 0};
	request.attribute = {static_cast<uint16_t>(NLA_HDRLEN + length), attribute};
	memcpy(request.value, value, length);
	if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
		return {};
	const ssize_t got = recv(fd, buffer, room, 0);
	NetlinkBytes rest{buffer, got < 0 ? 0 : static_cast<size_t>(got)};
	NetlinkBytes message = next_message(rest);
	if (message.size() < NLMSG_HDRLEN + GENL_HDRLEN || header_of(message).nlmsg_type != type)
		return {};  // NLMSG_ERROR: no such family or device
	message = message.subspan(NLMSG_HDRLEN + GENL_HDRLEN);
	nlattr head;
	while (message.size() >= sizeof head) {
		memcpy(&head, message.data(), sizeof head);
		if (head.nla_len < sizeof head || head.nla_len > message.size())
			return {};
		if ((head.nla_type & NLA_TYPE_MASK) == wanted)
			return message.subspan(sizeof head, head.nla_len - sizeof head);
		message = message.subspan(std::min<size_t>(NLA_ALIGN(head.nla_len), message.size()));
	}
	return {};
}

}  // namespace

std::optional<uint64_t> xdp_features(int ifindex)
{
	constexpr std::string_view family = "netdev";
	Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
	uint8_t buffer[8192];
	uint16_t type;
	uint64_t features;
	const auto index = static_cast<uint32_t>(ifindex);

	if (!fd)
		return std::nullopt;
	// With its closing zero, as the kernel wants names.
	const NetlinkBytes id = ask(fd.get(), GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, family.data(),
				    family.size() + 1, CTRL_ATTR_FAMILY_ID, buffer, sizeof buffer);
	if (id.size() != sizeof type)
		return std::nullopt;
	memcpy(&type, id.data(), sizeof type);
	const NetlinkBytes found = ask(fd.get(), type, kDevGet, kDevIfindex, &index, sizeof index, kDevXdpFeatures, buffer,
				       sizeof buffer);
	if (found.size() != sizeof features)
		return std::nullopt;
	memcpy(&features, found.data(), sizeof features);
	return features;
}

}  // namespace vx
