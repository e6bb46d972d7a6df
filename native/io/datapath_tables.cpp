// See datapath.h: what the maps are filled with. Order in every function: the tables first, then the word that puts
// them in force, then the generation (bpf/decide.h).
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <string>
#include <unordered_set>

#include "datapath.h"
#include "datapath.skel.h"
#include "libbpf_error.h"

namespace vx {
namespace {

constexpr uint32_t kPacketRingBytes = 4 << 20, kRingBytesMin = 64 << 10;

constexpr uint32_t kBatch = 65536;  // keys a system call: a daemon that is told to stop waits for one at most

// A kind of table the allowlist is made of, in the order of Datapath::allowlist_.
struct TableKind {
	const char *outer, *name;
	bpf_map_type type;
	size_t key_bytes;
	uint32_t flags;
	uint32_t not_empty;  // in control.epoch.allowlist
	std::vector<uint8_t> AllowlistTables::*keys;
};

constexpr TableKind kTables[] = {
	{"ip_allowlist", "vx_exact4", BPF_MAP_TYPE_HASH, sizeof(uint32_t), 0, VX_ALLOW_EXACT4, &AllowlistTables::exact4},
	{"prefix_allow", "vx_prefix4", BPF_MAP_TYPE_LPM_TRIE, sizeof(vx_prefix4), BPF_F_NO_PREALLOC, VX_ALLOW_PREFIX4,
	 &AllowlistTables::prefix4},
	{"ip_allowlist6", "vx_exact6", BPF_MAP_TYPE_HASH, sizeof(vx_addr), 0, VX_ALLOW_EXACT6, &AllowlistTables::exact6},
	{"prefix_allow6", "vx_prefix6", BPF_MAP_TYPE_LPM_TRIE, sizeof(vx_prefix6), BPF_F_NO_PREALLOC, VX_ALLOW_PREFIX6,
	 &AllowlistTables::prefix6},
};

// Tables have room for edits in place; one that outgrows it is replaced with the whole list.
constexpr uint32_t with_room(uint32_t count)
{
	return count + std::max(count / 16, 4096u);
}

Result<Fd> make_table(const TableKind &kind, std::span<const uint8_t> keys)
{
	auto count = static_cast<uint32_t>(keys.size() / kind.key_bytes);
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = kind.flags);
	Fd fd(bpf_map_create(kind.type, kind.name, static_cast<uint32_t>(kind.key_bytes), 1, with_room(count), &options));
	std::vector<uint8_t> values(std::min(count, kBatch), 1);

	if (!fd)
		return kernel_error("MAP_FAILED", "create allowlist table");
	for (uint32_t at = 0; at < count; at += kBatch) {
		uint32_t done = std::min(count - at, kBatch);

		if (bpf_map_update_batch(fd.get(), keys.data() + at * kind.key_bytes, values.data(), &done, nullptr))
			return kernel_error("MAP_FAILED", "fill allowlist table");
	}
	return fd;
}

// Makes `wanted` the keys of a map that XDP is using: what is new goes in before what is stale goes out.
template <typename Key>
bool replace_keys(int fd, std::span<const Key> wanted)
{
	auto text = [](const Key &key) { return std::string(reinterpret_cast<const char *>(&key), sizeof(key)); };
	std::unordered_set<std::string> kept;
	std::vector<Key> stale;
	Key key, *previous = nullptr;
	uint8_t present = 1;

	for (const Key &one : wanted)
		kept.insert(text(one));
	for (; !bpf_map_get_next_key(fd, previous, &key); previous = &key)
		if (!kept.contains(text(key)))
			stale.push_back(key);
	for (const Key &one : wanted)
		if (bpf_map_update_elem(fd, &one, &present, 0))
			return false;
	for (const Key &gone : stale)
		bpf_map_delete_elem(fd, &gone);
	return true;
}

}  // namespace

Result<void> Datapath::fill_filters(const DatapathPlan &plan)
{
	const int interfaces[] = {inside_ifindex_, outside_ifindex_};

	for (uint32_t direction = 0; direction < VX_DIRECTIONS; direction++)
		if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.redirect_map), &direction, &interfaces[direction], 0))
			return kernel_error("MAP_FAILED", "fill redirect_map");
	return set_filters(plan.vni_ranges, plan.peers);
}

Result<void> Datapath::set_filters(const std::optional<std::vector<uint32_t>> &vni_ranges,
				   const std::optional<std::vector<vx_prefix6>> &peers)
{
	int fd = bpf_map__fd(skeleton_->maps.vni_set);

	if (vni_ranges) {
		std::vector<uint64_t> words((1u << 24) / 64);

		for (size_t i = 0; i + 1 < vni_ranges->size(); i += 2)
			for (uint32_t vni = (*vni_ranges)[i]; vni <= (*vni_ranges)[i + 1]; vni++)
				words[vni / 64] |= 1ull << (vni % 64);
		vnis_.resize(words.size());
		for (uint32_t word = 0; word < words.size(); word++) {
			if (words[word] == vnis_[word])
				continue;
			if (bpf_map_update_elem(fd, &word, &words[word], 0))
				return kernel_error("MAP_FAILED", "fill vni_set");
			vnis_[word] = words[word];
		}
	}
	if (peers && !replace_keys<vx_prefix6>(bpf_map__fd(skeleton_->maps.peers), *peers))
		return kernel_error("MAP_FAILED", "fill peers");
	return {};
}

// The workers of a queue share what one alone would have.
Result<void> Datapath::make_exception_rings(const DatapathPlan &plan)
{
	const uint32_t all = plan.hand_over == VX_HAND_OVER_RINGS ? kPacketRingBytes : VX_RING_BYTES;
	const uint32_t bytes = std::max(kRingBytesMin, std::bit_floor(all / plan.workers));
	uint32_t rings = bpf_map__max_entries(skeleton_->maps.percpu_ringbufs);
	std::vector<uint32_t> places;
	std::vector<int> fds;

	for (uint32_t at = 0; at < rings; at++) {
		Fd ring(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "exception_ring", 0, 0, bytes, nullptr));
		if (!ring)
			return kernel_error("MAP_FAILED", "make exception rings");
		places.push_back(at);
		fds.push_back(ring.get());
		exception_rings_.push_back(std::move(ring));
	}
	// At once: for each call the kernel waits until no program looks at what was there before.
	if (bpf_map_update_batch(bpf_map__fd(skeleton_->maps.percpu_ringbufs), places.data(), fds.data(), &rings, nullptr))
		return kernel_error("MAP_FAILED", "enter exception rings");
	return {};
}

std::vector<int> Datapath::exception_rings() const
{
	std::vector<int> fds;

	for (const Fd &ring : exception_rings_)
		fds.push_back(ring.get());
	return fds;
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

// The selector of a list whose tables have these numbers of entries.
uint32_t Datapath::selector_of(uint32_t set) const
{
	uint32_t selector = set | VX_ALLOW_ENFORCE;

	for (size_t i = 0; i < std::size(kTables); i++)
		if (allowlist_[i].count)
			selector |= kTables[i].not_empty;
	return selector;
}

Result<void> Datapath::set_allowlist(const AllowlistTables *tables)
{
	uint32_t old_set = control()->epoch.allowlist & VX_ALLOW_SET, set = old_set ^ VX_ALLOW_SET;
	std::array<AllowlistTable, std::size(kTables)> made;

	for (size_t i = 0; tables && i < std::size(kTables); i++) {
		const auto &keys = tables->*kTables[i].keys;
		auto table = make_table(kTables[i], keys);

		if (!table)
			return table.error();
		int fd = table->get();
		if (bpf_map_update_elem(map_fd(kTables[i].outer), &set, &fd, 0))
			return kernel_error("MAP_FAILED", "put allowlist table in place");
		made[i] = {std::move(*table), keys.size() / kTables[i].key_bytes};
	}
	std::swap(allowlist_, made);
	swap_allowlist(tables ? selector_of(set) : set);
	wait_for_softirqs();  // nobody looks at the old tables any more
	for (const TableKind &kind : kTables)
		bpf_map_delete_elem(map_fd(kind.outer), &old_set);
	return {};
}

// What is new goes in before what is gone goes out: an address that the list before and the list after allow is
// allowed by the tables at every moment between. Remembered answers end with the generation.
Result<void> Datapath::edit_allowlist(const AllowlistTables &added, const AllowlistTables &removed)
{
	uint32_t set = control()->epoch.allowlist & VX_ALLOW_SET;
	uint8_t present = 1;

	for (size_t i = 0; i < std::size(kTables); i++) {
		const TableKind &kind = kTables[i];
		const auto &keys = added.*kind.keys;

		for (size_t at = 0; at < keys.size(); at += kind.key_bytes) {
			if (!bpf_map_update_elem(allowlist_[i].fd.get(), keys.data() + at, &present, 0))
				continue;
			Error error = kernel_error("MAP_FAILED", "edit allowlist");
			// Tables before this one are in whole, this one up to here.
			for (size_t k = 0; k <= i; k++) {
				const auto &back = added.*kTables[k].keys;

				for (size_t undo = 0; undo < (k == i ? at : back.size()); undo += kTables[k].key_bytes)
					bpf_map_delete_elem(allowlist_[k].fd.get(), back.data() + undo);
			}
			bump_generation();
			return error;
		}
	}
	// Nobody goes on who looked for an address in one table before it was put there, and looks in the next one after it
	// was taken away there.
	auto anything = [](const AllowlistTables &tables) {
		return std::ranges::any_of(kTables, [&](const TableKind &kind) { return !(tables.*kind.keys).empty(); });
	};
	if (anything(added) && anything(removed))
		wait_for_softirqs();
	for (size_t i = 0; i < std::size(kTables); i++) {
		const TableKind &kind = kTables[i];
		const auto &keys = removed.*kind.keys;

		for (size_t at = 0; at < keys.size(); at += kind.key_bytes)
			bpf_map_delete_elem(allowlist_[i].fd.get(), keys.data() + at);
		allowlist_[i].count += (added.*kind.keys).size() / kind.key_bytes;
		allowlist_[i].count -= keys.size() / kind.key_bytes;
	}
	swap_allowlist(selector_of(set));
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

Result<void> Datapath::set_pool(const PoolTables &tables)
{
	const uint8_t present = 1;

	for (uint32_t number = 0; number < tables.addresses_be.size(); number++)
		if (bpf_map_update_elem(map_fd("pool_addresses"), &tables.addresses_be[number], &number, 0))
			return kernel_error("MAP_FAILED", "fill pool_addresses");
	for (const ForwardOwner &forward : tables.forwards)
		if (bpf_map_update_elem(map_fd("nat_forwards"), &forward.key, &forward.worker, 0))
			return kernel_error("MAP_FAILED", "fill nat_forwards");
	for (const vx_gateway_key &gateway : tables.gateways)
		if (bpf_map_update_elem(map_fd("nat_gateways"), &gateway, &present, 0))
			return kernel_error("MAP_FAILED", "fill nat_gateways");
	bump_generation();
	return {};
}

// From now on the outside program leaves everything to the kernel.
void Datapath::clear_pool()
{
	uint32_t address_be;

	while (!bpf_map_get_next_key(map_fd("pool_addresses"), nullptr, &address_be))
		if (bpf_map_delete_elem(map_fd("pool_addresses"), &address_be))
			return;
}

}  // namespace vx
