// See datapath.h: what the maps are filled with. Order in every function: the tables first, then the word that puts
// them in force, then the generation (bpf/decide.h).
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "datapath.h"
#include "datapath.skel.h"
#include "libbpf_error.h"

namespace vx {
namespace {

constexpr uint32_t kPacketRingBytes = 4 << 20;

template <typename Key>
Result<Fd> make_table(bpf_map_type type, const char *name, std::span<const uint8_t> keys, uint32_t flags)
{
	auto count = static_cast<uint32_t>(keys.size() / sizeof(Key));
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);
	Fd fd(bpf_map_create(type, name, sizeof(Key), 1, std::max(count, 1u), &options));
	std::vector<uint8_t> values(count, 1);
	uint32_t done = count;

	if (!fd)
		return kernel_error("MAP_FAILED", "create allowlist table");
	if (count && bpf_map_update_batch(fd.get(), keys.data(), values.data(), &done, nullptr))
		return kernel_error("MAP_FAILED", "fill allowlist table");
	return fd;
}

}  // namespace

Result<void> Datapath::fill_filters(const DatapathPlan &plan)
{
	int vnis_fd = bpf_map__fd(skeleton_->maps.vni_set), peers_fd = bpf_map__fd(skeleton_->maps.peers);
	uint8_t present = 1;

	if (plan.vni_ranges) {
		std::vector<uint64_t> words((1u << 24) / 64);
		const auto &ranges = *plan.vni_ranges;

		for (size_t i = 0; i + 1 < ranges.size(); i += 2)
			for (uint32_t vni = ranges[i]; vni <= ranges[i + 1]; vni++)
				words[vni / 64] |= 1ull << (vni % 64);
		for (uint32_t word = 0; word < words.size(); word++)
			if (words[word] && bpf_map_update_elem(vnis_fd, &word, &words[word], 0))
				return kernel_error("MAP_FAILED", "fill vni_set");
	}
	if (plan.peers)
		for (const vx_prefix6 &peer : *plan.peers)
			if (bpf_map_update_elem(peers_fd, &peer, &present, 0))
				return kernel_error("MAP_FAILED", "fill peers");
	uint32_t first = 0, outside = static_cast<uint32_t>(outside_ifindex_);
	if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.redirect_map), &first, &outside, 0))
		return kernel_error("MAP_FAILED", "fill redirect_map");
	return {};
}

Result<void> Datapath::make_exception_rings(vx_hand_over hand_over)
{
	const uint32_t bytes = hand_over == VX_HAND_OVER_RINGS ? kPacketRingBytes : VX_RING_BYTES;
	int outer = bpf_map__fd(skeleton_->maps.percpu_ringbufs);
	auto cpus = static_cast<uint32_t>(libbpf_num_possible_cpus());

	for (uint32_t cpu = 0; cpu < cpus; cpu++) {
		Fd ring(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "exception_ring", 0, 0, bytes, nullptr));
		int fd = ring.get();

		if (!ring || bpf_map_update_elem(outer, &cpu, &fd, 0))
			return kernel_error("MAP_FAILED", "make exception rings");
	}
	return {};
}

void Datapath::bump_generation()
{
	__atomic_fetch_add(&control()->epoch.generation, 1, __ATOMIC_RELEASE);
}

// One store: a new generation with a list of its own. The worker may start a generation at the same time.
void Datapath::swap_allowlist(uint32_t selector)
{
	auto *word = reinterpret_cast<uint64_t *>(&control()->epoch);
	uint64_t expected = __atomic_load_n(word, __ATOMIC_RELAXED), wanted;

	do {
		auto epoch = std::bit_cast<vx_epoch>(expected);

		wanted = std::bit_cast<uint64_t>(vx_epoch{epoch.generation + 1, selector});
	} while (!__atomic_compare_exchange_n(word, &expected, wanted, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

Result<void> Datapath::set_allowlist(const AllowlistTables *tables)
{
	int outers[] = {map_fd("ip_allowlist"), map_fd("prefix_allow"), map_fd("ip_allowlist6"), map_fd("prefix_allow6")};
	const uint32_t flags[] = {VX_ALLOW_EXACT4, VX_ALLOW_PREFIX4, VX_ALLOW_EXACT6, VX_ALLOW_PREFIX6};
	uint32_t old_set = control()->epoch.allowlist & VX_ALLOW_SET, set = old_set ^ VX_ALLOW_SET, selector = set;

	if (tables) {
		Result<Fd> made[] = {
			make_table<uint32_t>(BPF_MAP_TYPE_HASH, "vx_exact4", tables->exact4, 0),
			make_table<vx_prefix4>(BPF_MAP_TYPE_LPM_TRIE, "vx_prefix4", tables->prefix4, BPF_F_NO_PREALLOC),
			make_table<vx_addr>(BPF_MAP_TYPE_HASH, "vx_exact6", tables->exact6, 0),
			make_table<vx_prefix6>(BPF_MAP_TYPE_LPM_TRIE, "vx_prefix6", tables->prefix6, BPF_F_NO_PREALLOC),
		};
		const bool filled[] = {!tables->exact4.empty(), !tables->prefix4.empty(), !tables->exact6.empty(),
				       !tables->prefix6.empty()};

		selector |= VX_ALLOW_ENFORCE;
		for (int i = 0; i < 4; i++) {
			if (!made[i])
				return made[i].error();
			int fd = made[i]->get();

			if (bpf_map_update_elem(outers[i], &set, &fd, 0))
				return kernel_error("MAP_FAILED", "put allowlist table in place");
			if (filled[i])
				selector |= flags[i];
		}
	}
	swap_allowlist(selector);
	wait_for_softirqs();  // nobody looks at the old tables any more
	for (int outer : outers)
		bpf_map_delete_elem(outer, &old_set);
	return {};
}

Result<void> Datapath::set_rules(std::span<const Rule> rules)
{
	int fd = map_fd("nat_map");
	std::vector<vx_rule_key> stale;
	std::unordered_set<uint32_t> wanted;
	vx_rule_key key, *previous = nullptr;
	// A protocol that had a rule keeps its mark: datagrams whose first fragment was translated may be half way.
	uint32_t protocols = control()->rules;
	auto word = [](const vx_rule_key &rule_key) { return std::bit_cast<uint32_t>(rule_key); };

	for (const Rule &rule : rules)
		wanted.insert(word(rule.key));
	for (; !bpf_map_get_next_key(fd, previous, &key); previous = &key)
		if (!wanted.contains(word(key)))
			stale.push_back(key);
	for (const Rule &rule : rules) {
		if (bpf_map_update_elem(fd, &rule.key, &rule.value, 0))
			return kernel_error("MAP_FAILED", "set rule");
		protocols |= rule.key.protocol == IPPROTO_TCP ? VX_RULES_TCP : VX_RULES_UDP;
	}
	for (const vx_rule_key &gone : stale)
		bpf_map_delete_elem(fd, &gone);
	__atomic_store_n(&control()->rules, protocols, __ATOMIC_RELEASE);
	bump_generation();
	return {};
}

}  // namespace vx
