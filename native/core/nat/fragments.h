// Datagrams in fragments: later ones have no ports, and get what their first one got. Pure; the worker's thread.
//
// A later fragment that comes before its first one is kept: the caller holds its memory, the engine its cookie. Kept
// datagrams are bounded in number, in number by source, and in frames; who does not fit loses the oldest, whole. What
// is known of a datagram is bounded apart from that, so that a flood of incomplete ones pushes out nobody who is
// complete.
#pragma once

#include "config.h"
#include "hash_index.h"
#include "memory.h"
#include "packet.h"
#include "tables.h"

namespace vx::nat {

struct DatagramKey {
	uint32_t realm;
	uint32_t source_be;
	uint32_t destination_be;
	uint16_t id_be;
	uint8_t protocol;
	uint8_t stage;  // and side: a datagram may be known to one worker in two roles
	bool operator==(const DatagramKey &) const = default;
};

// What became of the first fragment.
struct Fate {
	Verdict verdict;
	uint32_t source_be;
	uint32_t destination_be;
	uint16_t id_be;
	Stage stage;
	bool decrement;
	uint32_t incarnations[2] = {};  // of the verdict's subscriber and sender, who may be gone by the next fragment
};

class Fragments {
public:
	Fragments(Arena &arena, const Config &config);

	// nullptr: the first one has not come.
	const Fate *find(const DatagramKey &key, Ticks now);
	// Keeps a later fragment. False: it does not fit, and is to be dropped.
	bool keep(const DatagramKey &key, uint64_t cookie, Ticks now);
	// The first one has come: those kept are let go.
	void learn(const DatagramKey &key, const Fate &fate, Ticks now);
	// Forgets what is too old, at most `budget` datagrams; false: some are left.
	bool expire(Ticks now, uint32_t budget);
	void give_up();

	// Fragments let go since; false: no more.
	bool take(KeptFragment &fragment);
	uint32_t kept() const { return frames_.used(); }

private:
	struct Datagram {
		DatagramKey key;
		Fate fate;
		Ticks since;
		uint32_t next, previous;  // of its queue; number, kNone
		uint32_t first_frame, last_frame;
		uint32_t frame_count;
		bool known;
	};
	struct Frame {
		uint64_t cookie;
		uint32_t next;
		bool again;
	};
	struct Queue {
		uint32_t first = kNone, last = kNone, count = 0;
	};
	static constexpr uint32_t kSources = 4096;
	static constexpr uint32_t kFramesPerDatagram = 64;

	uint64_t hash(const DatagramKey &key) const
	{
		return hash_words(key_, uint64_t{key.source_be} << 32 | key.destination_be,
				  uint64_t{key.realm} << 32 | uint32_t{key.id_be} << 16 | key.protocol << 8 |
					  key.stage);
	}
	uint32_t number_of(const DatagramKey &key) const;
	uint16_t &waiting_of_source(const DatagramKey &key);
	void push(Queue &queue, uint32_t number);
	void remove(Queue &queue, uint32_t number);
	uint32_t add(const DatagramKey &key, Ticks now);
	void let_go(Datagram &datagram, bool again);
	void drop_datagram(Queue &queue, uint32_t number);
	void drop_oldest(Queue &queue) { drop_datagram(queue, queue.first); }

	const Config &config_;
	Slab<Datagram, &Datagram::next> slab_;
	Slab<Frame, &Frame::next> frames_;
	HashIndex index_;
	uint16_t *waiting_by_source_;
	Queue waiting_, known_;
	uint32_t go_first_ = kNone, go_last_ = kNone;  // those let go and not yet taken: their memory is still held
	Key key_;
	Ticks timeout_;
};

}  // namespace vx::nat
