// The sessions of one worker: found from inside and from outside, timed, counted. Pure; the worker's thread.
#pragma once

#include "config.h"
#include "hash_index.h"
#include "mappings.h"
#include "remotes.h"
#include "tables.h"
#include "timer_wheel.h"

namespace vx::nat {

struct InsideKey {
	uint32_t realm, inside_be, remote_be;
	uint16_t inside_port_be, remote_port_be;
	uint8_t protocol;
};

struct OutsideKey {
	uint32_t public_be, remote_be;
	uint16_t public_port_be, remote_port_be;
	uint8_t protocol;
};

class Sessions {
public:
	Sessions(Arena &arena, const Config &config, const PortBlocks &blocks, Subscribers &subscribers,
		 Mappings &mappings, Stats &stats);

	uint64_t hash(const InsideKey &key) const
	{
		return hash_words(key_, uint64_t{key.realm} << 32 | key.inside_be,
				  uint64_t{key.remote_be} << 32 | uint32_t{key.inside_port_be} << 16 |
					  key.remote_port_be) +
		       key.protocol * 0x9e3779b97f4a7c15u;
	}
	uint64_t hash(const OutsideKey &key) const
	{
		return hash_words(key_, uint64_t{key.public_be} << 32 | key.remote_be,
				  uint64_t{key.protocol} << 32 | uint32_t{key.public_port_be} << 16 |
					  key.remote_port_be);
	}
	uint32_t find(const InsideKey &key, uint64_t hash) const;
	uint32_t find(const OutsideKey &key, uint64_t hash) const;

	// For batches: brings the lines near that find() will touch.
	void prefetch_inside(uint64_t hash) const { inside_.prefetch(hash); }
	void prefetch_outside(uint64_t hash) const { outside_.prefetch(hash); }
	// False: there is no such session.
	bool prefetch_inside_record(uint64_t hash) const { return prefetch_record(inside_.likely(hash)); }
	bool prefetch_outside_record(uint64_t hash) const { return prefetch_record(outside_.likely(hash)); }

	// Also while its records have no room; counted then.
	bool full()
	{
		if (recorded_ && records_.room() < kRecordsOfPacket) [[unlikely]] {
			stats_.sessions_unrecorded++;
			return true;
		}
		return slab_.full();
	}
	struct Remote {
		uint32_t address_be;
		uint16_t port_be;
		bool is_pool_address;
	};
	// There is room (full() is false) and the key is not there yet.
	uint32_t add(uint32_t mapping, const Remote &remote, bool from_inside, Ticks now, uint64_t now_ns);
	// Whether the mapping has a session with any port of this address; only asked where filtering needs it.
	bool knows_address(uint32_t mapping, uint32_t remote_be) const { return remotes_.contains(mapping, remote_be); }

	// A packet from inside keeps session and mapping alive.
	void used_from_inside(Session &session, Ticks now)
	{
		session.last_seen = now;
		if (!(session.flags & kSessionHolds)) [[unlikely]]
			hold_mapping(session);
	}
	// FIN or RST: the short timer from now on, but no longer than `was`, the timer so far, would have let it live
	// (RFC 7857 section 2.2: an RST from inside, which may only answer a stranger, must not keep a mapping alive).
	void shorten(uint32_t number, Ticks was, Ticks now);
	Ticks timeout(const Session &session) const;

	// Ends what has timed out; looks at most at `budget` sessions, and those that go with one's mapping. False: some
	// are left that could end now.
	bool expire(Ticks now, uint64_t now_ns, uint32_t budget);

	Session &operator[](uint32_t number) { return slab_[number]; }
	const Session &operator[](uint32_t number) const { return slab_[number]; }
	uint32_t count() const { return slab_.used(); }
	uint32_t top() const { return slab_.top(); }
	void prefetch_add() const { slab_.prefetch_next(); }
	void start(Ticks now) { wheel_.start(now); }

private:
	static constexpr uint64_t kRecordsOfPacket = 4;  // a block and a session, and both again by hairpin

	bool prefetch_record(uint32_t number) const
	{
		if (number == kNone)
			return false;
		slab_.prefetch(number);
		return true;
	}
	InsideKey inside_key(const Session &session) const;
	OutsideKey outside_key(const Session &session) const;
	void hold_mapping(Session &session);
	void prefetch_removal(uint32_t number) const;
	bool can_be_recorded(uint32_t number) const;
	void record(const Session &session, vx_nat_event event, uint64_t now_ns);
	uint32_t remove(uint32_t number, Ticks now, uint64_t now_ns);
	void unlink_from_mapping(uint32_t number);
	void forget(uint32_t number, uint64_t now_ns);

	const PortBlocks &blocks_;
	Subscribers &subscribers_;
	LogRecords &records_;
	const bool recorded_;
	Mappings &mappings_;
	Slab<Session, &Session::timer_next> slab_;
	HashIndex inside_;
	HashIndex outside_;
	Remotes remotes_;
	TimerWheel wheel_;
	Key key_;
	Ticks udp_, icmp_, tcp_opening_, tcp_established_, tcp_closing_;
	Stats &stats_;
};

}  // namespace vx::nat
