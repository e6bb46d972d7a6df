// BPF maps as plain memory, for the programs built for the host. Made by Replay, on whichever thread it is used.
//
// Same promises as the kernel's: an array's elements are always there, a hash refuses what exceeds its size, a trie finds
// the longest prefix. No locks: one thread, one replay at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vx {

class HostMap {
public:
	virtual ~HostMap() = default;
	virtual void *look_up(const void *) { return nullptr; }
	// 0, or a negative errno as the kernel's.
	virtual long update(const void *, const void *, uint64_t flags);
	virtual bool redirects() const { return false; }
	// Memory for a ring's record; nullptr: the ring takes nothing.
	virtual void *reserve(uint64_t) { return nullptr; }
	virtual void submit(const void *) {}
};

class HostArray : public HostMap {
public:
	HostArray(uint32_t value_size, uint32_t entries);
	void *look_up(const void *key) override;
	long update(const void *key, const void *value, uint64_t flags) override;
	uint8_t *data() { return memory_.get(); }
	uint32_t entries() const { return entries_; }

private:
	struct Free {
		void operator()(uint8_t *memory) const { free(memory); }
	};
	const uint32_t value_size_, entries_;
	std::unique_ptr<uint8_t, Free> memory_;  // aligned as a cache line is
};

struct KeyHash {
	using is_transparent = void;
	size_t operator()(std::string_view key) const { return std::hash<std::string_view>{}(key); }
};

class HostHash : public HostMap {
public:
	HostHash(uint32_t key_size, uint32_t value_size, uint32_t entries)
		: key_size_(key_size), value_size_(value_size), entries_(entries)
	{
	}
	void *look_up(const void *key) override;
	long update(const void *key, const void *value, uint64_t flags) override;
	// Removes what `gone` says of a value.
	void erase_if(const std::function<bool(const void *)> &gone);
	bool empty() const { return table_.empty(); }

private:
	const uint32_t key_size_, value_size_, entries_;
	std::unordered_map<std::string, std::unique_ptr<uint8_t[]>, KeyHash, std::equal_to<>> table_;
};

// Keys are a prefix length (32 bits, host order) and an address. One hash a length, asked from the longest on.
class HostTrie : public HostMap {
public:
	HostTrie(uint32_t key_size, uint32_t value_size, uint32_t entries)
		: address_size_(key_size - 4), value_size_(value_size), entries_(entries)
	{
	}
	void *look_up(const void *key) override;
	long update(const void *key, const void *value, uint64_t flags) override;

private:
	const uint32_t address_size_, value_size_, entries_;
	std::map<uint32_t, HostHash, std::greater<>> lengths_;

	std::string masked(const void *key, uint32_t length) const;
};

// Two slots for tables (or one for a ring): what a look-up gives is used as a map's symbol is.
class HostTableOfMaps : public HostMap {
public:
	void *look_up(const void *key) override;
	void put(uint32_t index, std::unique_ptr<HostMap> map);

private:
	static constexpr uint32_t kSlots = 2;
	std::unique_ptr<HostMap> owned_[kSlots];
	HostMap *slots_[kSlots] = {};
};

class HostRedirect : public HostMap {
public:
	bool redirects() const override { return true; }
};

// The ring of exceptions: each record goes to `take` when it is submitted.
class HostRing : public HostMap {
public:
	explicit HostRing(std::function<void(const void *)> take) : take_(std::move(take)) {}
	void *reserve(uint64_t size) override;
	void submit(const void *record) override { take_(record); }

private:
	std::function<void(const void *)> take_;
	std::vector<uint64_t> record_;  // words: records are aligned to 8
};

// All the programs' maps, in place of their symbols as long as this lives.
class HostMaps {
public:
	// Entries of those maps whose size is the configuration's; the rest are as declared.
	using Sizes = std::map<std::string_view, size_t>;
	HostMaps(const Sizes &sizes, std::function<void(const void *)> take_exception);
	~HostMaps();
	HostMaps(const HostMaps &) = delete;
	HostMaps &operator=(const HostMaps &) = delete;

	HostMap &operator[](const char *name) { return *maps_.at(name); }
	template <typename Map>
	Map &get(const char *name)
	{
		return static_cast<Map &>(*maps_.at(name));
	}

private:
	std::map<std::string, std::unique_ptr<HostMap>, std::less<>> maps_;
};

// What bpf_ktime_get_ns answers.
void set_host_clock(uint64_t now_ns);

}  // namespace vx
