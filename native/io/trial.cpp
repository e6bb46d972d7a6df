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
#include <functional>
#include <memory>
#include <optional>

#include "fd.h"
#include "interface.h"
#include "libbpf_error.h"
#include "netlink.h"
#include "umem.h"
#include "xdp_features.h"
#include "xsk.h"

#include "../../bpf/abi/trial.h"
#include "trial.skel.h" // needs the struct of abi/trial.h

namespace vx {
namespace {

constexpr int kAnswerMs = 250;
constexpr int kTries = 2;
constexpr int kKicks = 16;
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

std::chrono::steady_clock::time_point patience_ends()
{
	return std::chrono::steady_clock::now() + std::chrono::milliseconds(kAnswerMs);
}

// Redirects: the trial's programs, loaded and watching.
class Redirector {
public:
	static Result<std::unique_ptr<Redirector>> load(int ifindex);
	~Redirector() { trial__destroy(skeleton_); }
	// Redirects the frame. 0: the driver took it; else the errno, ENODATA: the kernel did not tell.
	int send(const ArpFrame &frame);

private:
	struct trial *skeleton_ = nullptr;
};

Result<std::unique_ptr<Redirector>> Redirector::load(int ifindex)
{
	std::unique_ptr<Redirector> self(new Redirector);
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

int Redirector::send(const ArpFrame &frame)
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

// Sends by AF_XDP as the workers do: from their memory, by a queue of theirs, in their mode.
class AfxdpSender {
public:
	static Result<std::unique_ptr<AfxdpSender>> open(int ifindex, int umem_fd, uint32_t queue);
	// 0: the driver took it; else the errno.
	int send(const ArpFrame &frame);
	// Whether the driver gives back in time what it took.
	bool completes();

private:
	AfxdpSender(std::unique_ptr<Umem> umem, int ifindex, uint32_t queue)
		: umem_(std::move(umem)), frames_(*umem_, UINT32_MAX), rings_(static_cast<uint32_t>(ifindex), queue),
		  queue_(rings_, 1)
	{
	}
	const std::unique_ptr<Umem> umem_;
	Frames frames_;
	QueueRings rings_;
	TxQueue queue_;
	XskTransmitter transmitter_;
};

Result<std::unique_ptr<AfxdpSender>> AfxdpSender::open(int ifindex, int umem_fd, uint32_t queue)
{
	auto umem = Umem::map(umem_fd);
	if (!umem)
		return umem.error();
	std::unique_ptr<AfxdpSender> self(new AfxdpSender(std::move(*umem), ifindex, queue));
	auto transmitter = XskTransmitter::open(*self->umem_, self->queue_, -1);
	if (!transmitter)
		return transmitter.error();
	self->transmitter_ = std::move(*transmitter);
	return self;
}

int AfxdpSender::send(const ArpFrame &frame)
{
	if (!frames_.has())
		return ENOBUFS;
	const uint64_t address = frames_.take();
	std::optional<TxFate> told;
	const auto tell = [&](TxFate fate, uint32_t, uint32_t) { told = fate; };
	int err = 0;

	memcpy(frames_.at(address), &frame, sizeof frame);
	transmitter_.queue({address, sizeof frame, Ledger::originated}, 0);
	for (int i = 0; i < kKicks && !told && err != ENETDOWN && err != ENXIO; i++)
		err = transmitter_.kick(tell);
	if (!told)
		transmitter_.take_back(frames_, tell);
	return told == TxFate::sent ? 0 : err ? err : EBUSY;
}

bool AfxdpSender::completes()
{
	const auto until = patience_ends();

	for (transmitter_.reap(frames_); queue_.in_kernel(); transmitter_.reap(frames_)) {
		if (std::chrono::steady_clock::now() >= until)
			return false;
		poll(nullptr, 0, 1);  // completions wake nobody
	}
	return true;
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
	bool there() const { return static_cast<bool>(fd_); }
	bool send(const ArpFrame &frame) { return ::send(fd_.get(), &frame, sizeof frame, 0) == sizeof frame; }
	// What has come so far answers nothing that is sent from now on.
	void forget()
	{
		ArpFrame frame;
		while (fd_ && recv(fd_.get(), &frame, sizeof frame, MSG_DONTWAIT) >= 0) {
		}
	}
	// Whether that address answers in time.
	bool hears(uint32_t address_be)
	{
		using std::chrono::milliseconds, std::chrono::steady_clock;
		const auto until = patience_ends();

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

// Tries ways out of an interface, one after the other.
class Asking {
public:
	Asking(const Outside &outside, unsigned *frames)
		: frame_(frame_for(outside)), hop_be_(outside.next_hop_be),
		  hop_("the next hop " + address_text_of(outside.next_hop_be)), ordinary_(outside.ifindex), frames_(frames)
	{
	}
	// `sent` says of what, `none` of which no one, is answered.
	Way ask(const std::string &sent, const char *none, const std::function<int(const ArpFrame &)> &send);

private:
	const ArpFrame frame_;
	const uint32_t hop_be_;
	const std::string hop_;
	Ordinary ordinary_;
	std::optional<bool> answers_ordinary_;
	unsigned *const frames_;

	bool answers_ordinary();
};

// Asked once.
bool Asking::answers_ordinary()
{
	if (!answers_ordinary_) {
		ordinary_.forget();
		*frames_ += ordinary_.send(frame_);
		answers_ordinary_ = ordinary_.hears(hop_be_);
	}
	return *answers_ordinary_;
}

Way Asking::ask(const std::string &sent, const char *none, const std::function<int(const ArpFrame &)> &send)
{
	ordinary_.forget();
	if (const int refused = send(frame_); refused == ENODATA || refused == EINVAL)
		return {true, "the kernel does not tell what became of " + sent};
	else if (refused)
		return {false, "the driver refused " + sent + ": " + strerror(refused)};
	++*frames_;
	if (!hop_be_)
		return {true, "the driver took " + sent};
	if (!ordinary_.there())
		return {true, "the driver took " + sent + "; answers to it cannot be heard, for there is no AF_PACKET socket"};
	for (int i = 1; answers_ordinary_ != false; i++) {
		if (ordinary_.hears(hop_be_))
			return {true, hop_ + " answered " + sent};
		if (i == kTries || send(frame_))
			break;
		++*frames_;
	}
	if (answers_ordinary())
		return {false, hop_ + " answers a request sent the ordinary way, and none " + none};
	return {true, "the driver took " + sent + "; " + hop_ + " answers no request, however sent"};
}

Result<Way> try_redirect(const Outside &outside, Asking &asking)
{
	const auto features = xdp_features(outside.ifindex);

	if (features && !(*features & kXdpNdoXmit))
		return Way{false, outside.facts.driver == "veth" ? "the far end of the veth has neither an XDP program nor GRO"
								 : "the driver says that it takes no redirected frames"};
	auto redirector = Redirector::load(outside.ifindex);
	if (!redirector)
		return redirector.error();
	return asking.ask("a redirected frame", "that was redirected",
			  [&](const ArpFrame &frame) { return (*redirector)->send(frame); });
}

Result<Way> try_afxdp_tx(const Outside &outside, Asking &asking, int umem_fd, uint32_t queue)
{
	auto sender = AfxdpSender::open(outside.ifindex, umem_fd, queue);
	if (!sender)
		return sender.error();
	Way way = asking.ask("a frame sent by AF_XDP TX", "that was sent by AF_XDP TX",
			     [&](const ArpFrame &frame) { return (*sender)->send(frame); });
	if (way.able && !(*sender)->completes())
		return Way{false, "the driver does not give back a frame sent by AF_XDP TX"};
	return way;
}

}  // namespace

Result<Trial> try_ways_out(int ifindex, int umem_fd, uint32_t queue)
{
	const auto outside = look(ifindex);
	Trial trial;

	if (!outside)
		return Error{"INTERFACE_MISSING", "try the outside interface", ENODEV, ""};
	if (!outside->facts.carrier) {
		trial.redirect.found = trial.afxdp_tx.found = "without carrier nothing could be tried";
		return trial;
	}
	Asking asking(*outside, &trial.frames);
	auto redirect = try_redirect(*outside, asking);
	if (!redirect)
		return redirect.error();
	auto afxdp_tx = try_afxdp_tx(*outside, asking, umem_fd, queue);
	if (!afxdp_tx)
		return afxdp_tx.error();
	trial.redirect = std::move(*redirect);
	trial.afxdp_tx = std::move(*afxdp_tx);
	return trial;
}

}  // namespace vx
