// Which remote addresses a mapping has sessions with: what address-dependent filtering asks. Pure; the worker's thread.
//
// Open addressing with linear probing; twelve bytes an entry, one for each (mapping, address) with a count of sessions.
// Has no memory where filtering is not address-dependent.
#pragma once

#include "config.h"
#include "memory.h"

namespace vx::nat {

class Remotes {
public:
	Remotes(Arena &arena, uint32_t sessions, const Key &key)
		: size_(sessions ? sessions + sessions / 2 + 2 : 0), entries_(arena.take<Entry>(size_)), key_(key)
	{
	}

	bool contains(uint32_t mapping, uint32_t remote_be) const
	{
		return size_ && entries_[place(mapping, remote_be)].count;
	}

	void add(uint32_t mapping, uint32_t remote_be)
	{
		if (!size_)
			return;
		Entry &entry = entries_[place(mapping, remote_be)];
		entry = {mapping, remote_be, entry.count + 1};
	}

	void remove(uint32_t mapping, uint32_t remote_be)
	{
		if (!size_)
			return;
		uint32_t hole = place(mapping, remote_be);
		require(entries_[hole].count > 0);
		if (--entries_[hole].count)
			return;
		// Closes the gap: moves back whoever probed past it (Knuth, 6.4, Algorithm R).
		for (uint32_t at = next(hole); entries_[at].count; at = next(at)) {
			const uint32_t wanted = home(entries_[at].mapping, entries_[at].remote_be);
			const bool stays = hole < at ? hole < wanted && wanted <= at : hole < wanted || wanted <= at;
			if (stays)
				continue;
			entries_[hole] = entries_[at];
			entries_[at].count = 0;
			hole = at;
		}
	}

private:
	struct Entry {
		uint32_t mapping;
		uint32_t remote_be;
		uint32_t count;  // 0: free
	};

	uint32_t home(uint32_t mapping, uint32_t remote_be) const
	{
		return static_cast<uint32_t>((hash_words(key_, mapping, remote_be) >> 32) * size_ >> 32);
	}
	uint32_t next(uint32_t at) const { return at + 1 == size_ ? 0 : at + 1; }

	// Where the entry is, or would be.
	uint32_t place(uint32_t mapping, uint32_t remote_be) const
	{
		uint32_t at = home(mapping, remote_be);
		while (entries_[at].count && !(entries_[at].mapping == mapping && entries_[at].remote_be == remote_be))
			at = next(at);
		return at;
	}

	uint32_t size_;
	Entry *entries_;
	Key key_;
};

}  // namespace vx::nat
