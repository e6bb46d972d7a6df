// See host_maps.h. The helpers at the end are what the programs call; a map's symbol holds its HostMap.
#include "host_maps.h"

#include <linux/bpf.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "program.h"

namespace vx {
namespace {

constexpr uint32_t kCacheLine = 64;

uint64_t clock_ns;
HostMap *reserved_from;

uint32_t index_of(const void *key)
{
	uint32_t index;
	memcpy(&index, key, sizeof index);
	return index;
}

HostMap &map_at(void *symbol)
{
	HostMap *map;
	memcpy(&map, symbol, sizeof map);
	return *map;
}

std::unique_ptr<HostMap> make(const program_map &map, uint32_t entries)
{
	switch (map.type) {
	case BPF_MAP_TYPE_ARRAY: return std::make_unique<HostArray>(map.value_size, entries);
	case BPF_MAP_TYPE_HASH: return std::make_unique<HostHash>(map.key_size, map.value_size, entries);
	case BPF_MAP_TYPE_LPM_TRIE: return std::make_unique<HostTrie>(map.key_size, map.value_size, entries);
	case BPF_MAP_TYPE_ARRAY_OF_MAPS: return std::make_unique<HostTableOfMaps>();
	case BPF_MAP_TYPE_DEVMAP: return std::make_unique<HostRedirect>();
	default: return std::make_unique<HostMap>();  // sockets, samples: nobody is there
	}
}

void each_program_map(const std::function<void(const program_map &)> &take)
{
	for (const auto &maps_of : {program_maps, program_outside_maps}) {
		size_t count;
		const program_map *maps = maps_of(&count);
		for (size_t i = 0; i < count; i++)
			take(maps[i]);
	}
}

}  // namespace

long HostMap::update(const void *, const void *, uint64_t)
{
	return -EINVAL;
}

HostArray::HostArray(uint32_t value_size, uint32_t entries) : value_size_(value_size), entries_(entries)
{
	const size_t bytes = (size_t{value_size} * entries + kCacheLine - 1) / kCacheLine * kCacheLine;
	memory_.reset(static_cast<uint8_t *>(aligned_alloc(kCacheLine, bytes)));
	if (!memory_)
		abort();
	memset(memory_.get(), 0, bytes);
}

void *HostArray::look_up(const void *key)
{
	const uint32_t index = index_of(key);
	return index < entries_ ? memory_.get() + size_t{index} * value_size_ : nullptr;
}

long HostArray::update(const void *key, const void *value, uint64_t)
{
	void *at = look_up(key);
	if (!at)
		return -E2BIG;
	memcpy(at, value, value_size_);
	return 0;
}

void *HostHash::look_up(const void *key)
{
	const auto at = table_.find(std::string_view(static_cast<const char *>(key), key_size_));
	return at == table_.end() ? nullptr : at->second.get();
}

long HostHash::update(const void *key, const void *value, uint64_t flags)
{
	void *at = look_up(key);
	if (at && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!at) {
		if (table_.size() == entries_)
			return -E2BIG;
		std::string own(static_cast<const char *>(key), key_size_);
		at = table_.emplace(std::move(own), new uint8_t[value_size_]).first->second.get();
	}
	memcpy(at, value, value_size_);
	return 0;
}

void HostHash::erase_if(const std::function<bool(const void *)> &gone)
{
	std::erase_if(table_, [&](const auto &entry) { return gone(entry.second.get()); });
}

std::string HostTrie::masked(const void *key, uint32_t length) const
{
	std::string address(static_cast<const char *>(key) + sizeof length, address_size_);
	for (uint32_t i = 0; i < address_size_; i++) {
		const uint32_t bits = length > i * 8 ? length - i * 8 : 0;
		if (bits < 8)
			address[i] = static_cast<char>(address[i] & (0xff00 >> bits));
	}
	return address;
}

void *HostTrie::look_up(const void *key)
{
	const uint32_t most = index_of(key);
	for (auto &[length, table] : lengths_)
		if (length <= most)
			if (void *found = table.look_up(masked(key, length).data()))
				return found;
	return nullptr;
}

long HostTrie::update(const void *key, const void *value, uint64_t flags)
{
	const uint32_t length = index_of(key);
	if (length > address_size_ * 8)
		return -EINVAL;
	const auto at = lengths_.try_emplace(length, address_size_, value_size_, entries_).first;
	return at->second.update(masked(key, length).data(), value, flags);
}

void *HostTableOfMaps::look_up(const void *key)
{
	const uint32_t index = index_of(key);
	return index < kSlots && slots_[index] ? &slots_[index] : nullptr;
}

void HostTableOfMaps::put(uint32_t index, std::unique_ptr<HostMap> map)
{
	slots_[index] = map.get();
	owned_[index] = std::move(map);
}

void *HostRing::reserve(uint64_t size)
{
	record_.resize((size + 7) / 8);
	return record_.data();
}

HostMaps::HostMaps(const Sizes &sizes, std::function<void(const void *)> take_exception)
{
	each_program_map([&](const program_map &map) {
		const auto sized = sizes.find(map.name);
		const auto entries = sized == sizes.end() ? map.max_entries : static_cast<uint32_t>(sized->second);
		HostMap *made = maps_.emplace(map.name, make(map, entries)).first->second.get();
		memcpy(map.symbol, &made, sizeof made);
	});
	get<HostTableOfMaps>("percpu_ringbufs").put(0, std::make_unique<HostRing>(std::move(take_exception)));
}

HostMaps::~HostMaps()
{
	each_program_map([](const program_map &map) { memset(map.symbol, 0, sizeof(HostMap *)); });
}

void set_host_clock(uint64_t now_ns)
{
	clock_ns = now_ns;
}

}  // namespace vx

extern "C" {

void *replay_bpf_map_lookup_elem(void *map, const void *key)
{
	return vx::map_at(map).look_up(key);
}

long replay_bpf_map_update_elem(void *map, const void *key, const void *value, uint64_t flags)
{
	return vx::map_at(map).update(key, value, flags);
}

long replay_bpf_redirect_map(void *map, uint64_t, uint64_t flags)
{
	return vx::map_at(map).redirects() ? XDP_REDIRECT : static_cast<long>(flags);
}

void *replay_bpf_ringbuf_reserve(void *ring, uint64_t size, uint64_t)
{
	vx::reserved_from = &vx::map_at(ring);
	return vx::reserved_from->reserve(size);
}

void replay_bpf_ringbuf_submit(void *record, uint64_t)
{
	vx::reserved_from->submit(record);
}

void replay_bpf_ringbuf_discard(void *, uint64_t) {}

uint64_t replay_bpf_ktime_get_ns()
{
	return vx::clock_ns;
}

uint32_t replay_bpf_get_smp_processor_id()
{
	return 0;
}
}
