// Writing to the maps that XDP decides by. Used by the worker's rooms on its thread.
//
// Flows that XDP remembers are worth nothing once a table they were decided by has changed: every change is
// followed by a new generation, after the write, once for a run of writes.
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "../../bpf/abi/abi.h"

namespace vx {

class Tables {
public:
	explicit Tables(vx_control *control) : control_(control) {}

	// False: the kernel refused, as when the map is full.
	template <typename Key, typename Value>
	bool put(int fd, const Key &key, const Value &value)
	{
		changed_ = true;
		return !bpf_map_update_elem(fd, &key, &value, BPF_ANY);
	}
	template <typename Key>
	void erase(int fd, const Key &key)
	{
		changed_ |= !bpf_map_delete_elem(fd, &key);
	}
	// Erases what `keep` does not want. For what an earlier daemon left in a map.
	template <typename Key, typename Keep>
	void sweep(int fd, Keep keep)
	{
		std::vector<Key> doomed;
		Key key, next;
		for (const Key *at = nullptr; !bpf_map_get_next_key(fd, at, &next); at = &key) {
			key = next;
			if (!keep(key))
				doomed.push_back(key);
		}
		for (const Key &one : doomed)
			erase(fd, one);
	}
	void publish()
	{
		if (changed_)
			__atomic_fetch_add(&control_->epoch.generation, 1, __ATOMIC_RELEASE);
		changed_ = false;
	}

private:
	vx_control *control_;
	bool changed_ = false;
};

}  // namespace vx
