// See trial.h.
#include "trial.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>

#include "fd.h"
#include "interface.h"
#include "libbpf_error.h"
#include "netlink.h"
#include "xdp_features.h"

#include "../../bpf/abi/trial.h"
#include "trial.skel.h" // needs the struct of abi/trial.h

namespace vx {
namespace {

constexpr int kAnswerMs = 250;
constexpr int kTries = 2;
constexpr uint16_t kLoopbackTest = 0x9000;

struct [[gnu::packed]] ArpFrame {
	ether_header ethernet;
	arphdr arp;
	uint8_t sender_mac[6];
	uint32_t sender_be;
	uint8_t target_mac[6];
	uint32_t target_be;
	uint8_t padding[18];  // to the shortest frame there is
};
static_assert(sizeof(ArpFrame) == ETH_ZLEN);

struct Outside {
	int ifindex;
	std::string name;
	InterfaceFacts facts;
	uint32_t address_be = 0;
	uint32_t next_hop_be = 0;
};

std::string address_text_of(uint32_t address_be)
{
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &address_be, text, sizeof text);
	return text;
}

uint32_t own_address(const std::string &name)
{
	Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	ifreq request{};

	memcpy(request.ifr_name, name.c_str(), std::min(name.size(), sizeof(request.ifr_name) - 1));
	if (!fd || ioctl(fd.get(), SIOCGIFADDR, &request))
		return 0;
	return reinterpret_cast<const sockaddr_in *>(&request.ifr_addr)->sin_addr.s_addr;
}

// The gateway of the widest IPv4 route by this interface.
uint32_t next_hop(int ifindex)
{
	auto netlink = Netlink::open({});
	int widest = 33;
	uint32_t found_be = 0;

	if (!netlink)
		return 0;
	auto read = netlink->dump(RTM_GETROUTE, AF_INET, [&](NetlinkBytes bytes) {
		const auto route = parse_route(bytes, static_cast<uint32_t>(ifindex));
		if (!route || route->prefix.family != AF_INET || route->candidate.route.kind != VX_ROUTE_GATEWAY ||
		    route->prefix.length >= widest || !is_mapped(route->candidate.route.gateway))
			return;
		widest = route->prefix.length;
		memcpy(&found_be, route->candidate.route.gateway.bytes + 12, sizeof found_be);
	});
	return read ? found_be : 0;
}

std::optional<Outside> look(int ifindex)
{
	char name[IF_NAMESIZE];

	if (!if_indextoname(static_cast<unsigned>(ifindex), name))
		return std::nullopt;
	auto facts = interface_facts(name);
	if (!facts)
		return std::nullopt;
	return Outside{ifindex, name, *facts, own_address(name), next_hop(ifindex)};
}

ArpFrame frame_for(const Outside &outside)
{
	ArpFrame frame{};
	const uint8_t *mac = outside.facts.mac;

	memcpy(frame.ethernet.ether_shost, mac, 6);
	if (!outside.next_hop_be && !outside.address_be) {
		memcpy(frame.ethernet.ether_dhost, mac, 6);
		frame.ethernet.ether_type = htons(kLoopbackTest);
		return frame;
	}
	memset(frame.ethernet.ether_dhost, 0xff, 6);
	frame.ethernet.ether_type = htons(ETHERTYPE_ARP);
	frame.arp = {htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), 6, 4, htons(ARPOP_REQUEST)};
	memcpy(frame.sender_mac, mac, 6);
	frame.sender_be = outside.address_be;
	frame.target_be = outside.next_hop_be ? outside.next_hop_be : outside.address_be;
	return frame;
}

// The trial's programs, loaded and watching.
class Programs {
public:
	static Result<std::unique_ptr<Programs>> load(int ifindex);
	~Programs() { trial__destroy(skeleton_); }
	// Redirects the frame. 0: the driver took it; else the errno, ENODATA: the kernel did not tell.
	int send(const ArpFrame &frame);

private:
	struct trial *skeleton_ = nullptr;
};

Result<std::unique_ptr<Programs>> Programs::load(int ifindex)
{
	std::unique_ptr<Programs> self(new Programs);
	const uint32_t key = 0, index = static_cast<uint32_t>(ifindex);
	bpf_prog_info info{};
	uint32_t length = sizeof info;
	Fd any(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	keep_libbpf_log();
	self->skeleton_ = trial__open_and_load();
	if (!self->skeleton_)
		return kernel_error("LOAD_FAILED", "load the trial's programs");
	auto &state = self->skeleton_->bss->trial;
	socklen_t cookie = sizeof state.netns_cookie;
	if (bpf_obj_get_info_by_fd(bpf_program__fd(self->skeleton_->progs.vx_trial_send), &info, &length) || !any ||
	    getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &state.netns_cookie, &cookie) ||
	    bpf_map_update_elem(bpf_map__fd(self->skeleton_->maps.trial_outlet), &key, &index, 0) ||
	    trial__attach(self->skeleton_))
		return kernel_error("ATTACH_FAILED", "prepare the trial");
	state.ifindex = index;
	state.program = info.id;
	return self;
}

int Programs::send(const ArpFrame &frame)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &frame, .data_size_in = sizeof frame, .repeat = 1,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
	auto &state = skeleton_->bss->trial;
	sigset_t all, before;

	state.taken = 0;
	state.err = 0;
	sigfillset(&all);  // a pending signal would end the run before the frame
	pthread_sigmask(SIG_SETMASK, &all, &before);
	const int failed = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.vx_trial_send), &options);
	pthread_sigmask(SIG_SETMASK, &before, nullptr);
	if (state.taken)
		return 0;
	return state.err ? -state.err : failed ? -failed : ENODATA;
}

// Hears ARP on the interface, and sends the ordinary way.
class Ordinary {
public:
	explicit Ordinary(int ifindex) : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETHERTYPE_ARP)))
	{
		sockaddr_ll address{};

		address.sll_family = AF_PACKET;
		address.sll_protocol = htons(ETHERTYPE_ARP);
		address.sll_ifindex = ifindex;
		if (fd_ && bind(fd_.get(), reinterpret_cast<sockaddr *>(&address), sizeof address))
			fd_.reset();
	}
	bool send(const ArpFrame &frame) { return ::send(fd_.get(), &frame, sizeof frame, 0) == sizeof frame; }
	// Whether that address answers in time.
	bool hears(uint32_t address_be)
	{
		using std::chrono::milliseconds, std::chrono::steady_clock;
		const auto until = steady_clock::now() + milliseconds(kAnswerMs);

		for (auto now = steady_clock::now(); fd_ && now < until; now = steady_clock::now()) {
			const auto left = std::chrono::ceil<milliseconds>(until - now);
			pollfd polled{fd_.get(), POLLIN, 0};
			ArpFrame frame{};

			if (poll(&polled, 1, static_cast<int>(left.count())) > 0 &&
			    recv(fd_.get(), &frame, sizeof frame, 0) >= static_cast<ssize_t>(offsetof(ArpFrame, padding)) &&
			    frame.arp.ar_op == htons(ARPOP_REPLY) && frame.sender_be == address_be)
				return true;
		}
		return false;
	}

private:
	Fd fd_;
};

// After the driver took a frame: whether that has arrived.
void judge_answer(const Outside &outside, Programs &programs, Ordinary &ordinary, const ArpFrame &frame, Trial *trial)
{
	const std::string hop = "the next hop " + address_text_of(outside.next_hop_be);

	for (int i = 1;; i++) {
		if (ordinary.hears(outside.next_hop_be)) {
			trial->found = hop + " answered a redirected frame";
			return;
		}
		if (i == kTries || programs.send(frame))
			break;
		trial->frames++;
	}
	trial->frames += ordinary.send(frame);
	trial->able = !ordinary.hears(outside.next_hop_be);
	trial->found = trial->able ? "the driver took a redirected frame; " + hop + " answers no request, however sent"
				   : hop + " answers a request sent the ordinary way, and none that was redirected";
}

}  // namespace

Result<Trial> try_redirect(int ifindex)
{
	const auto outside = look(ifindex);
	const auto features = xdp_features(ifindex);
	Trial trial;

	if (!outside)
		return Error{"INTERFACE_MISSING", "try the outside interface", ENODEV, ""};
	const bool veth = outside->facts.driver == "veth";
	if (features && (veth || !(*features & kXdpNdoXmit))) {
		trial.able = *features & kXdpNdoXmit;
		trial.found = trial.able ? "the far end of the veth has an XDP program or GRO"
			      : veth     ? "the far end of the veth has neither an XDP program nor GRO"
					 : "the driver says that it takes no redirected frames";
		return trial;
	}
	if (!outside->facts.carrier) {
		trial.found = "without carrier nothing could be tried";
		return trial;
	}
	auto programs = Programs::load(ifindex);
	if (!programs)
		return programs.error();
	Ordinary ordinary(ifindex);
	const ArpFrame frame = frame_for(*outside);
	const int refused = (*programs)->send(frame);
	if (refused == ENODATA || refused == EINVAL) {
		trial.found = "the kernel does not tell what became of a redirected frame";
		return trial;
	}
	trial.able = !refused;
	trial.frames = trial.able;
	trial.found = trial.able ? "the driver took a redirected frame"
				 : std::string("the driver refused a redirected frame: ") + strerror(refused);
	if (trial.able && outside->next_hop_be)
		judge_answer(*outside, **programs, ordinary, frame, &trial);
	return trial;
}

}  // namespace vx
