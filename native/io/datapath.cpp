// See datapath.h. The order of things in attach() and stop_receiving() is what keeps the ledger exact:
//
//   attach:  tracepoints, outside program, inside program. The tracepoints count nothing but what this inside
//            program redirected (bpf/losses.bpf.c), so being early costs nothing and being late would lose counts.
//   takeover: the pinned link gets the new program; after one grace period the old one has settled all it
//            redirected; then the old tracepoints go, and after another what the old ledger still misses was in the
//            killed daemon's hands: crash_lost.
//   stop:    inside program off, one grace period, and every redirected packet has met its tracepoint.
#include "datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "abi_layout.gen.h"
#include "claim.h"
#include "datapath.skel.h"
#include "libbpf_error.h"

namespace vx {
namespace {

const char *const kPinnedMaps[] = {
	"stats_map",     "ip_allowlist", "nat_map",  "interface_map", "redirect_map",
	"packet_ringbuf", "percpu_ringbufs", "routes4", "routes6",       "neighbours",
};

std::string describe_program(uint32_t id)
{
	Fd fd(bpf_prog_get_fd_by_id(id));
	bpf_prog_info info{};
	uint32_t length = sizeof(info);

	if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length))
		return "program " + std::to_string(id);
	return "program " + std::to_string(id) + " (" + info.name + ")";
}

std::string describe_attached(int ifindex)
{
	uint32_t id = 0;

	return bpf_xdp_query_id(ifindex, 0, &id) || !id ? "another program" : describe_program(id);
}

uint32_t link_ifindex(int link_fd)
{
	bpf_link_info info{};
	uint32_t length = sizeof(info);

	return bpf_obj_get_info_by_fd(link_fd, &info, &length) ? 0 : info.xdp.ifindex;
}

bool is_attached_as(int ifindex, uint32_t flags)
{
	uint32_t id = 0;

	return !bpf_xdp_query_id(ifindex, static_cast<int>(flags), &id) && id;
}

uint64_t netns_cookie()
{
	Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	return fd && !getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) ? cookie : 0;
}

// The verifier gives up with EAGAIN when a signal is pending (kernel/bpf/verifier.c: do_check), and libbpf with it
// after five times: a profiler's timer is enough.
int load_undisturbed(struct datapath *skeleton)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int failed = datapath__load(skeleton), reason = errno;
	pthread_sigmask(SIG_SETMASK, &before, nullptr);
	errno = reason;
	return failed;
}

}  // namespace

Result<std::unique_ptr<Datapath>> Datapath::open(const DatapathPlan &plan)
{
	std::unique_ptr<Datapath> self(new Datapath);

	if (auto claimed = self->claim(plan); !claimed)
		return claimed.error();
	self->pin_directory_ = plan.pin_directory;
	self->inside_ifindex_ = plan.inside_ifindex;
	self->outside_ifindex_ = plan.outside_ifindex;
	self->inside_generic_ = plan.inside_generic;
	self->outside_generic_ = plan.outside_generic;
	keep_libbpf_log();
	if (auto loaded = self->load(plan); !loaded)
		return loaded.error();
	if (auto filled = self->fill_filters(plan); !filled)
		return filled.error();
	if (auto made = self->make_exception_rings(plan); !made)
		return made.error();
	if (auto mapped = self->map_memory(); !mapped)
		return mapped.error();
	return self;
}

Result<void> Datapath::claim(const DatapathPlan &plan)
{
	auto inside = claim_interface(plan.inside_ifindex), outside = claim_interface(plan.outside_ifindex);

	if (!inside)
		return Error{inside.error().code, "claim the inside interface", inside.error().err, inside.error().detail};
	if (!outside)
		return Error{outside.error().code, "claim the outside interface", outside.error().err, outside.error().detail};
	inside_claim_ = std::move(*inside);
	outside_claim_ = std::move(*outside);
	return {};
}

Datapath::~Datapath()
{
	if (slots_)
		munmap(slots_, slots_bytes());
	if (injections_)
		munmap(injections_, injection_lanes_ * sizeof(vx_injection));
	if (!port_owners_.empty())
		munmap(port_owners_.data(), port_owners_.size_bytes());
	if (skeleton_)
		datapath__destroy(skeleton_);
}

void Datapath::set_knobs(const DatapathPlan &plan)
{
	auto *knobs = skeleton_->rodata;
	knobs->vx_hand_over = plan.hand_over;
	knobs->vx_workers = plan.workers;
	knobs->vx_plain_ethernet = plan.plain_ethernet;
	knobs->vx_port_be = htobe16(plan.vxlan_port);
	knobs->vx_any_vni = !plan.vni_ranges;
	knobs->vx_any_peer = !plan.peers;
	knobs->vx_any_local = !plan.local;
	if (plan.local)
		knobs->vx_local = *plan.local;
	knobs->vx_match_source = plan.match_source;
	knobs->vx_match_destination = plan.match_destination;
	knobs->vx_clear_df = plan.clear_dont_fragment;
	knobs->vx_forward_ipv6 = plan.forward_ipv6;
	knobs->vx_decrement_ttl = plan.decrement_ttl;
	knobs->vx_fixed_next_hop = plan.next_hop_mac.has_value();
	if (plan.next_hop_mac)
		memcpy(knobs->vx_next_hop_mac, plan.next_hop_mac->data(), sizeof(knobs->vx_next_hop_mac));
	knobs->vx_translate = plan.source_nat.has_value();
	knobs->vx_outside_sockets = plan.inside_queues * plan.workers;
	knobs->vx_inside_lanes = plan.inside_lanes;
	knobs->vx_outside_lanes = plan.outside_lanes;
	if (plan.source_nat)
		knobs->vx_block_shift = static_cast<uint32_t>(std::countr_zero(plan.source_nat->pools.block_size));
}

void Datapath::size_maps(const DatapathPlan &plan, uint32_t cpus)
{
	bpf_map__set_max_entries(skeleton_->maps.host_cache, cpus * VX_HOSTS_PER_CPU);
	bpf_map__set_max_entries(skeleton_->maps.rule_cache, cpus * VX_RULE_MEMOS_PER_CPU);
	bpf_map__set_max_entries(skeleton_->maps.umem, plan.umem_chunks);
	bpf_map__set_max_entries(skeleton_->maps.worker_sockets,
				 std::max((plan.inside_queues + plan.outside_sockets) * plan.workers, 1u));
	bpf_map__set_max_entries(skeleton_->maps.percpu_ringbufs, (plan.inside_lanes + plan.outside_lanes) * plan.workers);
	injection_lanes_ = plan.injects() ? cpus : 1;
	bpf_map__set_max_entries(skeleton_->maps.injections, injection_lanes_);
	bpf_map__set_max_entries(skeleton_->maps.vni_set, plan.vni_ranges ? (1u << 24) / 64 : 1);
	if (!plan.source_nat)
		return;
	const auto fitting = [](size_t count) { return std::max(static_cast<uint32_t>(count), 1u); };
	const uint32_t addresses = fitting(nat::PortBlocks::addresses_most(plan.source_nat->pools));
	bpf_map__set_max_entries(skeleton_->maps.pool_addresses, addresses);
	bpf_map__set_max_entries(skeleton_->maps.port_owners, addresses);
	bpf_map__set_max_entries(skeleton_->maps.nat_forwards, fitting(plan.source_nat->pools.forwards.size()));
	bpf_map__set_max_entries(skeleton_->maps.nat_gateways, fitting(plan.source_nat->engine.gateways.size()));
}

Result<void> Datapath::load(const DatapathPlan &plan)
{
	int cpus = libbpf_num_possible_cpus();

	if (cpus > VX_CPUS_MAX)
		return Error{"LOAD_FAILED", "count CPUs", 0, std::to_string(cpus) + " possible CPUs, at most " +
							 std::to_string(VX_CPUS_MAX) + " are supported"};
	skeleton_ = datapath__open();
	if (!skeleton_)
		return kernel_error("LOAD_FAILED", "open programs");
	set_knobs(plan);
	if (getrandom(&skeleton_->rodata->vx_cache_seed, sizeof(skeleton_->rodata->vx_cache_seed), 0) < 0)
		return kernel_error("LOAD_FAILED", "getrandom");
	bpf_program__set_autoload(plan.source_nat ? skeleton_->progs.vx_ingress : skeleton_->progs.vx_ingress_nat, false);
	size_maps(plan, static_cast<uint32_t>(cpus));
	if (load_undisturbed(skeleton_)) {
		bool denied = errno == EPERM || errno == EACCES;
		return kernel_error(denied && geteuid() ? "NO_PERMISSION" : "LOAD_FAILED", "load programs");
	}
	skeleton_->bss->control.epoch.generation = 1;
	return {};
}

Result<void> Datapath::map_memory()
{
	slots_ = map_slots_of(bpf_map__fd(skeleton_->maps.stats_map), PROT_READ | PROT_WRITE);
	if (!slots_)
		return kernel_error("MAP_FAILED", "map stats_map");
	void *memory = mmap(nullptr, injection_lanes_ * sizeof(vx_injection), PROT_READ | PROT_WRITE, MAP_SHARED,
			    bpf_map__fd(skeleton_->maps.injections), 0);
	if (memory == MAP_FAILED)
		return kernel_error("MAP_FAILED", "map injections");
	injections_ = static_cast<vx_injection *>(memory);
	const size_t addresses = bpf_map__max_entries(skeleton_->maps.port_owners);
	if (!skeleton_->rodata->vx_translate)
		return {};
	memory = mmap(nullptr, addresses * sizeof(vx_port_owners), PROT_READ | PROT_WRITE, MAP_SHARED,
		      bpf_map__fd(skeleton_->maps.port_owners), 0);
	if (memory == MAP_FAILED)
		return kernel_error("MAP_FAILED", "map port_owners");
	port_owners_ = {static_cast<vx_port_owners *>(memory), addresses};
	return {};
}

vx_control *Datapath::control()
{
	return &skeleton_->bss->control;
}

int Datapath::inside_program_fd() const
{
	return bpf_program__fd(skeleton_->rodata->vx_translate ? skeleton_->progs.vx_ingress_nat : skeleton_->progs.vx_ingress);
}

int Datapath::outside_program_fd() const
{
	return bpf_program__fd(skeleton_->progs.vx_egress);
}

int Datapath::map_fd(const char *name) const
{
	return bpf_object__find_map_fd_by_name(skeleton_->obj, name);
}

// A pinned array that is as large as this build's: what another build pinned may not fit what a lookup writes to.
Fd Datapath::open_old_array(const char *name, size_t value_bytes, uint32_t entries) const
{
	Fd fd(bpf_obj_get(pin(name).c_str()));
	bpf_map_info info{};
	uint32_t length = sizeof(info);

	if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length) || info.type != BPF_MAP_TYPE_ARRAY ||
	    info.value_size != value_bytes || info.max_entries != entries)
		return {};
	return fd;
}

// Finds what a killed daemon left pinned, if it is of this network namespace, and its counters if this build can read them.
Result<void> Datapath::adopt_predecessor()
{
	const uint32_t inside_key = VX_INSIDE, control_key = VX_CONTROL_SLOT;
	const Fd interfaces = open_old_array("interface_map", sizeof(vx_interface), VX_DIRECTIONS);
	vx_interface inside{};
	vx_slot control{};

	// Stays so from build to build: it keeps a gateway from the pins of one that lives in another namespace.
	static_assert(sizeof(vx_interface) == 24 && offsetof(vx_interface, netns_cookie) == 16);
	if (interfaces && !bpf_map_lookup_elem(interfaces.get(), &inside_key, &inside) && inside.netns_cookie &&
	    inside.netns_cookie != netns_cookie())
		return Error{"PIN_FAILED", "take over", 0,
			     pin_directory_ + " holds the maps of a gateway in another network namespace"};
	old_devmap_xmit_ = Fd(bpf_obj_get(pin("link_devmap_xmit").c_str()));
	old_redirect_err_ = Fd(bpf_obj_get(pin("link_redirect_err").c_str()));
	old_stats_ = open_old_array("stats_map", sizeof(vx_slot), VX_SLOTS_MAX);
	if (old_stats_ && (bpf_map_lookup_elem(old_stats_.get(), &control_key, &control) || control.layout != kLedgerLayout))
		old_stats_.reset();
	return {};
}

Result<int> Datapath::attach_xdp(int prog_fd, int ifindex, bool generic, const char *name, Fd *link, bool *took_over)
{
	Fd old(bpf_obj_get(pin(name).c_str()));
	const uint32_t flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = flags);

	// A link keeps the mode it was made with.
	if (old && link_ifindex(old.get()) == static_cast<uint32_t>(ifindex) && is_attached_as(ifindex, flags) &&
	    !bpf_link_update(old.get(), prog_fd, nullptr)) {
		*link = std::move(old);
		*took_over = true;
		return 0;
	}
	unlink(pin(name).c_str());
	old.reset();
	*link = Fd(bpf_link_create(prog_fd, ifindex, BPF_XDP, &options));
	if (*link)
		return 0;
	if (errno == EBUSY || errno == EEXIST)
		return Error{"XDP_BUSY", "attach XDP", errno, describe_attached(ifindex)};
	if (errno == ERANGE)
		return kernel_error("MTU_TOO_BIG", "attach XDP");
	return kernel_error(errno == EOPNOTSUPP ? "NO_NATIVE_XDP" : "ATTACH_FAILED", "attach XDP");
}

Result<void> Datapath::attach_tracepoint(int prog_fd, Fd *link)
{
	*link = Fd(bpf_raw_tracepoint_open(nullptr, prog_fd));
	if (!*link)
		return kernel_error("ATTACH_FAILED", "attach tracepoint");
	return {};
}

Result<void> Datapath::pin_everything()
{
	const std::pair<const char *, int> links[] = {
		{"link_ingress", ingress_.get()},
		{"link_egress", egress_.get()},
		{"link_devmap_xmit", devmap_xmit_.get()},
		{"link_redirect_err", redirect_err_.get()},
	};

	pinned_ = true;
	slots_[VX_CONTROL_SLOT].layout = kLedgerLayout;
	for (const char *name : kPinnedMaps) {
		unlink(pin(name).c_str());
		if (bpf_obj_pin(map_fd(name), pin(name).c_str()))
			return kernel_error("PIN_FAILED", pin(name).c_str());
	}
	for (auto [name, fd] : links) {
		unlink(pin(name).c_str());
		if (bpf_obj_pin(fd, pin(name).c_str()))
			return kernel_error("PIN_FAILED", pin(name).c_str());
	}
	return {};
}

Result<void> Datapath::attach_outside()
{
	bool taken = false;

	if (egress_)
		return {};
	if (auto done = attach_xdp(outside_program_fd(), outside_ifindex_, outside_generic_, "link_egress", &egress_, &taken);
	    !done)
		return Error{done.error().code, "attach to the outside interface", done.error().err, done.error().detail};
	return {};
}

Result<Attached> Datapath::attach()
{
	Attached attached;
	int ingress_fd = inside_program_fd();
	bpf_prog_info info{};
	uint32_t length = sizeof(info);

	if (bpf_obj_get_info_by_fd(outside_program_fd(), &info, &length))
		return kernel_error("ATTACH_FAILED", "read program id");
	control()->egress_prog_id = info.id;
	info = {};
	if (auto adopted = adopt_predecessor(); !adopted)
		return adopted.error();
	if (bpf_obj_get_info_by_fd(ingress_fd, &info, &length))
		return kernel_error("ATTACH_FAILED", "read program id");
	control()->ingress_prog_id = info.id;
	if (auto done = attach_tracepoint(bpf_program__fd(skeleton_->progs.vx_devmap_xmit), &devmap_xmit_); !done)
		return done.error();
	if (auto done = attach_tracepoint(bpf_program__fd(skeleton_->progs.vx_redirect_err), &redirect_err_); !done)
		return done.error();
	if (auto done = attach_outside(); !done)
		return done.error();
	if (auto done = attach_xdp(ingress_fd, inside_ifindex_, inside_generic_, "link_ingress", &ingress_, &attached.took_over);
	    !done)
		return Error{done.error().code, "attach to the inside interface", done.error().err, done.error().detail};
	receiving_ = true;
	attached.crash_lost = settle_predecessor();
	if (auto pinned = pin_everything(); !pinned)
		return pinned.error();
	return attached;
}

bool Datapath::attached() const
{
	return ingress_ && egress_ && link_ifindex(ingress_.get()) == static_cast<uint32_t>(inside_ifindex_) &&
	       link_ifindex(egress_.get()) == static_cast<uint32_t>(outside_ifindex_);
}

void Datapath::stop_receiving()
{
	if (pinned_)
		unlink(pin("link_ingress").c_str());
	if (ingress_)
		bpf_link_detach(ingress_.get());
	ingress_.reset();
	clear_pool();
	wait_for_softirqs();
	receiving_ = false;
	settle();
}

void Datapath::remove()
{
	if (egress_)
		bpf_link_detach(egress_.get());
	egress_.reset();
	devmap_xmit_.reset();
	redirect_err_.reset();
	if (!pinned_)
		return;
	for (const char *name : kPinnedMaps)
		unlink(pin(name).c_str());
	for (const char *name : {"link_egress", "link_devmap_xmit", "link_redirect_err"})
		unlink(pin(name).c_str());
	rmdir(pin_directory_.c_str());
	pinned_ = false;
}

}  // namespace vx
