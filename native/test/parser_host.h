// bpf/parse.h and bpf/checksum.h built for the host, composed as bpf/ingress.bpf.c composes them, and what must be true
// of every answer. Used by the fuzzer (native/fuzz) and by the parser tests; any thread.
#pragma once

#include <linux/types.h>
#include <stddef.h>

#include "../../bpf/abi/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

enum parser_fate {
	PARSER_PASS,
	PARSER_DROP,
	PARSER_PACKET, /* an inner packet; `l3` and on say where */
};

struct parser_answer {
	enum parser_fate fate;
	__u32 drop; /* enum vx_drop */
	/* The tunnel, when there was one. */
	__u8 outer_is_ipv6, outer_ecn;
	__u32 vni;
	__u32 flags;
	/* The inner packet. */
	__u32 l3, l4, length, l4_length;
	__u16 source_port, destination_port; /* host order */
	__u8 protocol, fragment, is_ipv6;
};

struct parser_knobs {
	int plain_ethernet;
	int forward_ipv6;
	__u16 port;
	__u8 stale; /* what the parser's structs are full of beforehand: must not matter */
};

/* `frame` is read only within its `size` bytes: give it memory that ends there. */
void parser_run(const __u8 *frame, size_t size, const struct parser_knobs *knobs, struct parser_answer *answer);

/* NULL, or which promise of the parser the answer breaks. */
const char *parser_broken_promise(const __u8 *frame, size_t size, const struct parser_knobs *knobs,
				  const struct parser_answer *answer);

__u16 parser_fold(__u32 sum);
__u32 parser_sum32(__u32 word);
__u16 parser_delta32(__u32 from, __u32 to);
__u16 parser_delta16(__u16 from, __u16 to);
__u16 parser_checksum_add(__u16 check, __u32 delta);
__u16 parser_udp_nonzero(__u16 check);

#ifdef __cplusplus
}
#endif
