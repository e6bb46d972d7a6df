/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Every counter and every drop reason of the ledger: name and help text, once.
 *
 * eBPF, C++ and (generated from BTF and from these lists) TypeScript, Prometheus help, `stats` and the
 * documentation all come from here. Order is ABI within one build only: the three are built together.
 */
#ifndef VX_ABI_COUNTERS_H
#define VX_ABI_COUNTERS_H

/* X(name, help). One set per direction; `inside` = packets that arrived on the inside interface. */
#define VX_COUNTERS(X)                                                                                  \
	X(received, "Frames XDP saw on this interface, counted before anything else")                       \
	X(received_bytes, "Bytes of those frames")                                                          \
	X(passed, "Frames left to the kernel's own stack")                                                  \
	X(redirected, "Packets handed to the outside driver by the fast path, fate not known yet")          \
	X(redirected_bytes, "Bytes of those packets as they leave")                                         \
	X(forwarded, "Packets the outside driver took")                                                     \
	X(unreported, "Redirected packets whose fate the kernel did not report: counted as the last one was") \
	X(injected, "Packets the worker sent many a system call, of those forwarded")                        \
	X(to_worker, "Packets handed to the worker")                                                        \
	X(worker_bytes, "Bytes the worker handed to the outside driver")                                     \
	X(fragments_extra, "Frames sent beyond the one received, because a packet was fragmented")          \
	X(originated, "Frames of the gateway's own (ARP, neighbour discovery, ICMP)")                       \
	X(translated, "Packets whose destination a static rule rewrote")                                    \
	X(checksum_completed, "TCP and UDP checksums the sender had left to hardware, completed here")      \
	X(cache_misses, "Addresses and ports looked up in the tables because the caches did not know them") \
	X(sampled, "Dropped packets copied for those who watch (vxpipe monitor)")

/* X(name, help). One NAT engine's: what it did since the start, then what it has now. */
#define VX_NAT_COUNTERS(X)                                                                              \
	X(sessions_created, "NAT sessions created")                                                         \
	X(sessions_expired, "NAT sessions that timed out or were closed")                                   \
	X(mappings_created, "Public ports given to an inside endpoint")                                     \
	X(mappings_expired, "Public ports that came free after their rest")                                 \
	X(mappings_revived, "Inside endpoints that came back while their public port rested")               \
	X(blocks_granted, "Port blocks granted to subscribers")                                             \
	X(blocks_released, "Port blocks given back")                                                        \
	X(translated_out, "Packets from inside whose source was translated")                                \
	X(translated_in, "Packets whose destination was translated back to a subscriber")                   \
	X(hairpinned, "Packets between subscribers by a pool address")                                      \
	X(checksums_completed, "TCP and UDP checksums the sender had left to hardware, completed by the engine") \
	X(misses, "Packets that belonged to no session yet")                                                \
	X(replies, "ICMP errors of the gateway's own")                                                      \
	X(replies_limited, "ICMP errors not sent because of their rate limit")                              \
	X(records_full, "Port blocks not granted because the log of grants lags behind")                    \
	X(sessions_unrecorded, "NAT sessions refused because the log of sessions lags behind")              \
	X(handed_over, "Packets given to the worker that owns their session")                               \
	X(taken_over, "Packets taken from another worker")                                                  \
	X(sessions, "NAT sessions there are now")                                                           \
	X(mappings, "Inside endpoints that have a public port now, resting ones too")                       \
	X(subscribers, "Inside hosts that have a port block now")

/* X(name, help). Reasons that later datapaths add are added here when they are built. */
#define VX_DROPS(X)                                                                                     \
	X(vxlan_flags, "VXLAN header without the I flag (RFC 7348 section 5)")                              \
	X(malformed_outer, "Outer headers that are cut short or contradict the frame's length")             \
	X(peer_not_allowed, "Tunnel from an address outside inside.vxlan.peers")                            \
	X(not_ip, "Inner frame is neither IPv4 nor IPv6")                                                   \
	X(ipv6, "Inner IPv6 while packet.ipv6 is drop")                                                     \
	X(malformed_inner, "Inner headers that are cut short or contradict each other")                     \
	X(truncated, "Inner packet longer than what was captured of it")                                    \
	X(not_allowed, "Neither inner address the allowlist looks at is on it")                             \
	X(ecn, "The tunnel met congestion, and its packet cannot say so (RFC 6040 section 4.2)")            \
	X(fragment_limit, "Fragment of a packet with a rule whose first fragment is unknown or over limit") \
	X(no_route, "No route to the destination through the outside interface")                            \
	X(no_neighbour, "The next hop does not answer ARP or neighbour discovery, or too many wait for it") \
	X(too_big, "Larger than the outside MTU and not to be fragmented, or than a worker takes (3,584)")  \
	X(ttl_expired, "TTL or hop limit ran out here")                                                     \
	X(ring_full, "The worker's receive ring was full")                                                  \
	X(fill_empty, "The worker had no free frame for the packet")                                        \
	X(redirect_error, "The kernel refused the redirect")                                                \
	X(tx_refused, "The outside driver refused the packet")                                              \
	X(carrier_down, "The outside interface or its far end was down")                                    \
	X(handoff_full, "The ring to the worker that owns the session was full")                            \
	X(answered, "ARP requests for a gateway address inside, answered")                                  \
	X(session_table_full, "No room for another NAT session or mapping")                                 \
	X(no_block, "No free port block in the pools of the subscriber")                                    \
	X(no_port, "The subscriber has all the blocks it may have, and no free port in them")               \
	X(subscriber_limit, "The subscriber has all the NAT sessions it may have")                          \
	X(session_rate, "The subscriber opens NAT sessions faster than it may")                             \
	X(no_session, "From outside, or about a packet, that belongs to no NAT mapping")                    \
	X(filtered, "From a remote the mapping does not admit, or from a source that cannot be one")        \
	X(bad_checksum, "ICMP error with a wrong checksum, its own or of the header it quotes")             \
	X(protocol, "Neither TCP, UDP, ICMP echo nor an ICMP error: source NAT cannot translate it")        \
	X(hairpin_off, "From inside to a pool address while nat.source.hairpin is false")                   \
	X(no_subscriber, "For a forward whose inside host has not been heard of yet")                       \
	X(crash_lost, "In flight when an earlier daemon was killed")

#endif
