// The inside program's steps one by one (stages.h): what the product's control plane would set up for them, and no
// more. Main thread of vxbare.
#include "stages.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "../../bpf/abi/abi.h"
#include "attach.h"
#include "ladder.skel.h"

namespace vx::bench {

namespace {

// The bed's links; a longer inner packet would be a drop by the `check` step.
constexpr uint32_t kMtu = 3400;

bpf_program *program_of(ladder *skeleton, const std::string &stage)
{
	if (stage == "parse")
		return skeleton->progs.parse;
	if (stage == "decapsulate")
		return skeleton->progs.decapsulate;
	if (stage == "count")
		return skeleton->progs.count;
	if (stage == "check")
		return skeleton->progs.check;
	usage_error("--stage: parse, decapsulate, count or check, not: " + stage);
}

uint64_t netns_cookie()
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
		fail("cookie of the network namespace", errno);
	close(fd);
	return cookie;
}

// Neither the programs nor the tracepoints look into the tables of a configured gateway; they need not exist in
// their full size.
void shrink_tables(ladder *skeleton)
{
	for (bpf_map *map : {skeleton->maps.nat_map, skeleton->maps.routes4, skeleton->maps.routes6,
			     skeleton->maps.neighbours, skeleton->maps.fragments})
		bpf_map__set_max_entries(map, 1);
}

void describe_interfaces(ladder *skeleton, const Interface &inside, const Interface &outside)
{
	uint64_t cookie = netns_cookie();
	for (uint32_t direction : {VX_INSIDE, VX_OUTSIDE}) {
		const Interface &from = direction == VX_INSIDE ? inside : outside;
		vx_interface described = {};
		described.ifindex = from.ifindex;
		described.mtu = kMtu;
		described.netns_cookie = cookie;
		memcpy(described.mac, from.mac.bytes, sizeof(described.mac));
		if (bpf_map__update_elem(skeleton->maps.interface_map, &direction, sizeof(direction), &described,
					 sizeof(described), 0) < 0)
			fail("describing the interfaces", errno);
	}
	uint32_t key = VX_OUTSIDE;
	if (bpf_map__update_elem(skeleton->maps.redirect_map, &key, sizeof(key), &outside.ifindex, sizeof(uint32_t), 0) < 0)
		fail("device map", errno);
}

void attach_ledger(ladder *skeleton, const bpf_program *program)
{
	bpf_prog_info info = {};
	uint32_t length = sizeof(info);
	if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) < 0)
		fail("the program's id", errno);
	skeleton->bss->control.ingress_prog_id = info.id;
	for (bpf_program *tracepoint : {skeleton->progs.vx_devmap_xmit, skeleton->progs.vx_redirect_err})
		if (!bpf_program__attach(tracepoint))
			fail("attaching the ledger's tracepoints", errno);
}

void print_counters(ladder *skeleton)
{
	unsigned long long received = 0, redirected = 0, forwarded = 0;
	for (uint32_t i = 0; i < bpf_map__max_entries(skeleton->maps.stats_map); i++) {
		vx_slot slot;
		if (bpf_map__lookup_elem(skeleton->maps.stats_map, &i, sizeof(i), &slot, sizeof(slot), 0) < 0)
			fail("reading the counters", errno);
		received += slot.direction[VX_INSIDE].received;
		redirected += slot.direction[VX_INSIDE].redirected;
		forwarded += slot.direction[VX_INSIDE].forwarded;
	}
	printf("{\"received\":%llu,\"redirected\":%llu,\"forwarded\":%llu}\n", received, redirected, forwarded);
}

} // namespace

int run_stage(const std::string &stage, bool ledger, const Interface &inside, const Interface &outside)
{
	struct ladder *skeleton = ladder__open();
	if (!skeleton)
		fail("opening the stages' programs", errno);
	bpf_program *program = program_of(skeleton, stage);
	skeleton->rodata->stage_mtu = kMtu;
	// The far end's program takes frames for any address.
	memset(skeleton->rodata->stage_hop.destination_mac, 0xff, sizeof(skeleton->rodata->stage_hop.destination_mac));
	memcpy(skeleton->rodata->stage_hop.source_mac, outside.mac.bytes, sizeof(outside.mac.bytes));
	shrink_tables(skeleton);
	bpf_program__set_autoload(skeleton->progs.vx_devmap_xmit, ledger);
	bpf_program__set_autoload(skeleton->progs.vx_redirect_err, ledger);
	if (int err = ladder__load(skeleton))
		fail("loading the stages' programs", -err);
	describe_interfaces(skeleton, inside, outside);
	if (ledger)
		attach_ledger(skeleton, program);
	attach_native(skeleton->progs.outside_pass, outside);
	attach_native(program, inside);
	printf("{\"ready\":true}\n");
	fflush(stdout);
	wait_for_end();
	print_counters(skeleton);
	return 0;
}

} // namespace vx::bench
