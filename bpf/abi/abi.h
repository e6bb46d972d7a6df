/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* The ABI between the XDP programs, the native threads and TypeScript: every struct, limit and verdict that
 * more than one of them sees, defined here and nowhere else.
 *
 * eBPF and C++ include this file. TypeScript reads src/pipeline/abi.gen.ts and C++ asserts
 * native/io/abi_layout.gen.h; both are generated from the BTF of bpf/abi/abi.bpf.c (`make abi`), and
 * `make lint` fails when they are stale. Fixed-width fields, named padding, no bitfields, no unions.
 * A field that ends in _be is in network order.
 */
#ifndef VX_ABI_H
#define VX_ABI_H

#include <linux/types.h>

#include "counters.h"

#define VX_CPUS_MAX 512             /* slots of stats_map: one per CPU, one per native worker, the control plane's */
#define VX_WORKERS_MAX 64           /* native workers; number 0 has the exceptions too */
#define VX_CONTROL_SLOT (VX_CPUS_MAX + VX_WORKERS_MAX) /* what no packet's own CPU or worker could count */
#define VX_SLOTS_MAX (VX_CONTROL_SLOT + 1)
#define VX_QUEUES_MAX 128           /* inside receive queues that get an AF_XDP socket */
#define VX_RULES_MAX 131072         /* nat_map: every port of TCP and UDP */
#define VX_ROUTES_MAX 1048576
#define VX_NEIGHBOURS_MAX 16384
#define VX_FRAGMENTS_MAX 131072     /* datagrams in fragments whose fate is remembered at once */
#define VX_FRAGMENT_TIMEOUT_NS 30000000000ULL /* as the kernel's ipfrag_time */
#define VX_HOSTS_PER_CPU 8192       /* powers of two: small enough to stay in a core's own cache */
#define VX_RULE_MEMOS_PER_CPU 1024
#define VX_FRAME_BYTES 4096         /* UMEM chunk; an ENA zero-copy requirement */
#define VX_FRAME_OFFSET_MAX 512     /* where a packet starts in its chunk, at most */
#define VX_EXCEPTION_BYTES_MAX 3584 /* largest packet that can go to the worker */
#define VX_RING_BYTES 262144        /* packet_ringbuf, and each queue's exception ring */
#define VX_BLOCK_PORTS_MIN 64       /* source NAT: smallest port block */
#define VX_BLOCKS_PER_ADDRESS 1024  /* port_owners: blocks of a pool address, at most */
#define VX_PLAIN_REALM 0x1000000u   /* source NAT: subscribers in plain Ethernet; above every VNI */
#define VX_SAMPLE_BYTES 240         /* VLAN, IPv6 and VXLAN outside, VLAN, IPv6 and TCP with options inside */
#define VX_LATENCY_BUCKETS 24       /* bucket i counts samples below 2^i * 128 ns */
#define VX_LATENCY_SAMPLE_MASK 0x3ff /* one packet in 1,024 a CPU is timed */

/* What goes to the worker, and how. */
enum vx_hand_over {
	VX_HAND_OVER_EXCEPTIONS, /* what XDP cannot send itself; by socket where there is one */
	VX_HAND_OVER_SOCKETS,    /* everything, by socket */
	VX_HAND_OVER_RINGS,      /* everything, by ring buffer */
};

enum vx_direction {
	VX_INSIDE,
	VX_OUTSIDE,
	VX_DIRECTIONS,
};

enum vx_drop {
#define X(name, help) VX_DROP_##name,
	VX_DROPS(X)
#undef X
	VX_DROP_COUNT,
};

/* One direction's counters, written by exactly one CPU (or worker) and read by anyone; a CPU's `unreported` by the
 * control plane. */
struct vx_counters {
#define X(name, help) __u64 name;
	VX_COUNTERS(X)
#undef X
	__u64 dropped[VX_DROP_COUNT];
};

/* How many drops of a reason were sampled in a round (vx_control). */
struct vx_sampled {
	__u32 round;
	__u32 count;
};

/* How a worker works, for people; written by native threads only. */
struct vx_work {
	__u64 thread;        /* id in the process's own namespace */
	__u64 taken;         /* packets received from its sockets and rings */
	__u64 batches;       /* receives that brought any */
	__u64 ring_permille; /* how full the ring was at each of these, added up */
};

/* One worker's NAT engine, written by it alone. */
struct vx_nat_counters {
#define X(name, help) __u64 name;
	VX_NAT_COUNTERS(X)
#undef X
};

/* stats_map[slot]: slot = CPU for XDP and the tracepoints, VX_CPUS_MAX + worker for native threads, VX_CONTROL_SLOT. */
struct vx_slot {
	struct vx_counters direction[VX_DIRECTIONS];
	__u64 latency[VX_LATENCY_BUCKETS];
	__u64 latency_sum_ns;
	__u64 latency_start_ns; /* a sample under way on this CPU, 0 = none; XDP and the tracepoint only */
	__u64 settled;          /* redirected packets whose fate was reported; XDP's tracepoints only */
	__u64 last_fate;        /* of those, most of the last bulk's: 0 forwarded, else 1 + enum vx_drop; the same writers */
	__u64 heartbeat;        /* native threads: loop iterations */
	struct vx_work work;
	struct vx_nat_counters nat; /* its worker's engine */
	struct vx_sampled sampled[VX_DROP_COUNT];
	__u64 layout; /* VX_CONTROL_SLOT's: kLedgerLayout of the build that counts, for the daemon that finds it dead */
} __attribute__((aligned(64))); /* no two writers in one cache line */

/* An IPv6 address, or an IPv4 one mapped into ::ffff:0:0/96. */
struct vx_addr {
	__u8 bytes[16];
};

/* The allowlist's selector: bit 0 names the set of tables in use, the others say which are not empty. */
#define VX_ALLOW_SET 0x1u
#define VX_ALLOW_ENFORCE 0x2u
#define VX_ALLOW_EXACT4 0x4u
#define VX_ALLOW_PREFIX4 0x8u
#define VX_ALLOW_EXACT6 0x10u
#define VX_ALLOW_PREFIX6 0x20u

#define VX_RULES_TCP 0x1u
#define VX_RULES_UDP 0x2u

/* The caches' generation and the list it belongs to, read and swapped as one 64-bit word: what is remembered under a
 * generation was found in that list, so no packet is judged by half of one list and half of another. */
struct vx_epoch {
	__u32 generation; /* what is remembered from another generation is found out anew */
	__u32 allowlist;  /* VX_ALLOW_* */
};

/* `control` in the programs' .bss. */
struct vx_control {
	struct vx_epoch epoch;
	__u32 rules;           /* VX_RULES_*: protocols that have, or had, a static rule */
	__u32 ingress_prog_id; /* so that host-wide tracepoints count only our redirects; 0: count none */
	__u32 egress_prog_id;  /* the same for what the workers inject */
	__u32 sample_round;    /* 0: nobody watches; else a new one whenever the samples were read */
	__u32 sample_most;     /* samples of a reason that a CPU, or worker, takes in a round */
	__u32 pad[9]; /* going to sleep costs XDP no line it reads */
	__u32 worker_sleeps[VX_WORKERS_MAX]; /* waits in poll(2): the next ring record has to wake it, and takes this back */
} __attribute__((aligned(64))); /* XDP reads it for every packet: nobody may write to its first line that often */

struct vx_prefix4 {
	__u32 length;
	__be32 address_be;
};

struct vx_prefix6 {
	__u32 length;
	struct vx_addr address;
};

/* nat_map: static destination rules. */
struct vx_rule_key {
	__be16 port_be;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

struct vx_rule {
	__be32 address_be;
	__be16 port_be;
	__u16 pad;
};

/* interface_map[vx_direction] */
struct vx_interface {
	__u32 ifindex;
	__u32 mtu; /* layer 3 */
	__u8 mac[6];
	__u8 pad[2];
	__u64 netns_cookie;
};

/* routes4 and routes6: longest match on the destination, as the kernel's main and local tables have it. */
enum vx_route_kind {
	VX_ROUTE_NONE,    /* by another interface, blackhole, unreachable */
	VX_ROUTE_ONLINK,  /* the destination is a neighbour of the outside interface */
	VX_ROUTE_GATEWAY, /* by a gateway there */
	VX_ROUTE_LOCAL,   /* an address of this host, or a broadcast */
};

struct vx_route {
	__u8 kind;
	__u8 pad[3];
	struct vx_addr gateway;
};

/* neighbours: absent = never asked for: worker 0 resolves it. */
enum vx_neighbour_state {
	VX_NEIGHBOUR_RESOLVING, /* packets wait at worker 0 */
	VX_NEIGHBOUR_VALID,
	VX_NEIGHBOUR_FAILED,
};

struct vx_neighbour {
	__u8 mac[6];
	__u8 state;
	__u8 used; /* set by XDP when it looks the neighbour up, cleared by the worker's ageing */
};

/* fragments: what became of a datagram with fragments while static rules exist. */
enum vx_fragment_state {
	VX_FRAGMENT_DECIDED, /* first fragment seen: address_be replaces the destination (0: unchanged) */
	VX_FRAGMENT_HELD,    /* later fragments wait at worker 0 for the first */
	VX_FRAGMENT_DROPPED, /* all of it is dropped */
};

struct vx_fragment_key {
	__be32 source_be;
	__be32 destination_be;
	__be16 id_be;
	__u8 protocol;
	__u8 pad;
};

struct vx_fragment {
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__be32 address_be;
	__u8 state;
	__u8 pad[3];
};

/* host_cache: what was found out about an IPv4 address under a generation; half a cache line, sets of two. */
#define VX_HOST_LISTED_KNOWN 0x1u
#define VX_HOST_HOP_KNOWN 0x2u

struct vx_host {
	__be32 address_be;
	__u32 generation;
	__u8 known;   /* VX_HOST_*_KNOWN: which of the below is filled in */
	__u8 listed;  /* on the allowlist */
	__u8 verdict; /* enum vx_verdict for packets to it */
	__u8 drop;    /* enum vx_drop, when that is VX_VERDICT_DROP */
	__u32 mtu;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u8 pad[4];
};

/* rule_cache: likewise, the static rule of a protocol and port, or that there is none. */
struct vx_rule_memo {
	struct vx_rule_key key;
	__u32 generation;
	struct vx_rule rule;
	__u8 has_rule;
	__u8 pad[3];
};

enum vx_verdict {
	VX_VERDICT_FORWARD, /* redirect to the outside interface */
	VX_VERDICT_DROP,    /* with a named reason */
	VX_VERDICT_PASS,    /* the kernel's own */
	VX_VERDICT_WORKER,  /* worker 0's */
	VX_VERDICT_POOL,    /* source NAT: to a pool address, so hairpin */
};

/* Source NAT: port_owners[pool address], by port / block size: the worker + 1 that has the block, 0: nobody. */
struct vx_port_owners {
	__u8 worker[VX_BLOCKS_PER_ADDRESS];
};

/* nat_forwards: static forwards; the value is the worker. */
struct vx_forward_key {
	__be32 address_be;
	__be16 port_be;
	__u8 protocol;
	__u8 pad;
};

/* nat_gateways: addresses that are ours inside, a set. */
struct vx_gateway_key {
	__u32 realm;
	__be32 address_be;
};

/* What a NAT session looks like to people (`nat session list`). */
enum vx_session_state {
	VX_SESSION_ACTIVE, /* UDP, ICMP */
	VX_SESSION_OPENING,
	VX_SESSION_ESTABLISHED,
	VX_SESSION_HALF_CLOSED, /* one side has sent its FIN */
	VX_SESSION_CLOSING,
	VX_SESSION_RESET,
};

struct vx_session_view {
	__u32 realm;
	__be32 inside_be;
	__be32 outside_be;
	__be32 remote_be;
	__be16 inside_port_be;  /* ICMP: the identifier */
	__be16 outside_port_be; /* likewise, as the remote sees it */
	__be16 remote_port_be;  /* ICMP: 0 */
	__u8 protocol;
	__u8 state; /* enum vx_session_state */
	__u32 age_seconds;
	__u32 idle_seconds; /* since the last packet from inside */
	__u8 worker;
	__u8 pad[3];
};

/* An inside host and what it has. */
struct vx_subscriber_use {
	__u32 realm;
	__be32 inside_be;
	__u32 sessions;
	__u32 blocks;
};

/* What is logged of a NAT: whose public ports were from when to when and, where that is wanted, with whom. */
enum vx_nat_event {
	VX_NAT_BLOCK_GRANTED,
	VX_NAT_BLOCK_RELEASED,
	VX_NAT_SESSION_CREATED,
	VX_NAT_SESSION_ENDED,
};

struct vx_nat_record {
	__u64 time_ns; /* of the engine's clock */
	__u32 realm;
	__be32 inside_be;
	__be32 public_be;
	__be32 remote_be; /* from here on: of sessions, but for last_port; ICMP: the identifier as inside and public port */
	__u16 first_port; /* public */
	__u16 last_port;
	__u16 inside_port;
	__u16 remote_port;
	__u8 protocol;
	__u8 event; /* enum vx_nat_event */
	__u8 pad[6];
};

/* A packet for the NAT engine: this header lies where its Ethernet header ended, right in front of the IPv4 header, and
 * the frame that is handed to the worker begins with it. */
#define VX_ETHERTYPE_TRANSLATE 1 /* at the place of an EtherType, as VX_ETHERTYPE_EXCEPTION */

struct vx_tag {
	__be16 protocol_be; /* 0: no tag */
	__be16 tci_be;
};

struct vx_translate {
	__u8 next_hop_mac[6]; /* from inside, when hop is VX_VERDICT_FORWARD */
	__u8 peer_mac[6];     /* the received frame's source */
	__be16 mark_be;       /* VX_ETHERTYPE_TRANSLATE */
	__u8 direction;       /* enum vx_direction: where it was received */
	__u8 hop;             /* from inside: enum vx_verdict, FORWARD, WORKER or POOL */
	__u32 realm;          /* from inside: its VNI, or VX_PLAIN_REALM */
	__u8 inner_macs[12];  /* of the inner frame: destination, source; plain Ethernet: 0 */
	struct vx_addr peer;  /* outer source address; plain Ethernet: 0 */
	struct vx_tag tags[2]; /* of the received frame, outermost first */
	__u64 started_ns;     /* as vx_exception's */
};

/* In front of a packet handed to a worker: of every one in a ring buffer (record header), and of those in a socket
 * whose EtherType is VX_ETHERTYPE_EXCEPTION (XDP metadata). Without it the frame is READY, as nearly all are where
 * the workers send everything: the header would be one more cache line to carry between two cores. The packet starts at
 * an Ethernet header; its addresses are to be filled in, but for READY, its EtherType too. */
#define VX_ETHERTYPE_EXCEPTION 0 /* no frame has it: up to 1,500 it is a length (IEEE 802.3) */

enum vx_exception_reason {
	VX_EXCEPTION_NEIGHBOUR,      /* translated; next hop unknown or being resolved */
	VX_EXCEPTION_TOO_BIG,        /* translated; exceeds the outside MTU, DF clear */
	VX_EXCEPTION_FRAGMENT_FIRST, /* translated; later fragments of it may be waiting */
	VX_EXCEPTION_FRAGMENT_LATER, /* not translated; waits for the first */
	VX_EXCEPTION_READY,          /* complete: only to be sent */
	VX_EXCEPTION_TRANSLATE,      /* begins with a vx_translate: for the NAT engine */
	VX_EXCEPTION_ARP,            /* a copy of an ARP request for a pool or gateway address, behind a vx_translate; the
					request itself has its fate already */
};

#define VX_EXCEPTION_MAGIC 0x56585831u /* "VXX1": a header without it is a broken invariant */

struct vx_exception {
	__u32 magic;
	__u16 length; /* of the Ethernet frame that follows */
	__u8 reason;
	__u8 worker; /* READY: the flow's; TRANSLATE: the owner; exceptions: 0 */
	__be32 original_destination_be; /* before translation: the fragment's key */
	__be32 new_destination_be;      /* FRAGMENT_FIRST: what the rest gets; 0: unchanged */
	__u64 started_ns;               /* when XDP saw it, where its latency is measured; else 0 */
};

/* injections[CPU]: what a worker on that CPU has the outside program send by XDP live frames. */
#define VX_INJECTION_MAX 1024 /* frames a call */

#define VX_LOOPBACK_IFINDEX 1 /* in every network namespace: include/net/net_namespace.h */

struct vx_chunk {
	__u8 bytes[VX_FRAME_BYTES];
};

struct vx_injected {
	__u32 address; /* in the UMEM */
	__u32 length;
};

struct vx_injection {
	__u32 worker; /* who has it for the call, + 1; 0: nobody */
	__u32 count;
	__u32 cursor; /* frames the program has taken */
	__u32 to;     /* enum vx_direction: the interface they leave by */
	__u64 taken;  /* likewise, in all calls */
	__u64 told;   /* of those, the ones whose fate is counted */
	__u32 ledger; /* enum vx_direction: where they were received, and are counted */
	__u32 pad[7];
	struct vx_injected frames[VX_INJECTION_MAX];
} __attribute__((aligned(64))); /* written for every packet: in no cache line that XDP reads */

/* What of a dropped packet was sampled. */
enum vx_sample_form {
	VX_SAMPLE_RECEIVED, /* the frame as it came */
	VX_SAMPLE_LEAVING,  /* the packet as it would have left, its Ethernet addresses not filled in yet */
};

/* packet_ringbuf, and what workers drop: for people who watch. */
struct vx_sample {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 length;  /* of the frame */
	__u8 captured;
	__u8 drop; /* enum vx_drop */
	__u8 direction;
	__u8 form; /* enum vx_sample_form */
	__u8 bytes[VX_SAMPLE_BYTES];
};

#endif
