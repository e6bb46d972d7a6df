// vxbare: bare XDP programs in the gateway's place, the ceiling the bench compares with: redirect every
// frame unread, or drop it, or leave it to the kernel, or do the gateway's own first steps and no more. Run by the
// bench inside the gateway's namespace; holds the programs until a signal or the end of standard input. Prints
// {"ready":true}, then what `--drop` or the `--stage` counted.
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdio>

#include "attach.h"
#include "bare.skel.h"
#include "options.h"
#include "stages.h"

namespace vx::bench {

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxbare: bare XDP programs in the gateway's place",
			{{"inside", "NAME", "interface packets arrive on (required)"},
			 {"outside", "NAME", "interface they are redirected to"},
			 {"drop", nullptr, "count and drop instead of redirecting"},
			 {"pass", nullptr, "leave everything to the kernel: makes a veth take XDP frames without GRO"},
			 {"stage", "NAME", "the gateway's steps up to this one, then redirect: parse, decapsulate, count, check"},
			 {"ledger", nullptr, "with --stage: the ledger's tracepoints too"}});
	Interface inside = find_interface(options.required("inside"));
	block_signals();
	if (options.has("stage"))
		return run_stage(options.required("stage"), options.has("ledger"), inside,
				 find_interface(options.required("outside")));
	bare *skeleton = bare__open_and_load();
	if (!skeleton)
		fail("loading the bare programs", errno);
	if (options.has("drop")) {
		attach_native(skeleton->progs.bare_drop, inside);
	} else if (options.has("pass")) {
		attach_native(skeleton->progs.bare_pass, inside);
	} else {
		Interface outside = find_interface(options.required("outside"));
		uint32_t key = 0;
		if (bpf_map__update_elem(skeleton->maps.outlet, &key, sizeof(key), &outside.ifindex, sizeof(uint32_t), 0) < 0)
			fail("device map", errno);
		attach_native(skeleton->progs.bare_pass, outside);
		attach_native(skeleton->progs.bare_redirect, inside);
	}
	printf("{\"ready\":true}\n");
	fflush(stdout);
	wait_for_end();
	unsigned long long packets = 0;
	for (const auto &line : skeleton->bss->dropped)
		packets += line[0];
	printf("{\"packets\":%llu}\n", packets);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
