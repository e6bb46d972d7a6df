// Datagrams in fragments. See the header.
#include "fragments.h"

#include "steering.h"

namespace vx::nat {

Fragments::Fragments(Arena &arena, const Config &config)
	: config_(config), slab_(arena, config.datagrams_waiting + config.datagrams_known),
	  frames_(arena, config.fragments_waiting), index_(arena, config.datagrams_waiting + config.datagrams_known),
	  waiting_by_source_(arena.take<uint16_t>(kSources)), key_(config.key),
	  timeout_(ticks_for_seconds(config.timeouts.fragments))
{
}

uint32_t Fragments::number_of(const DatagramKey &key) const
{
	return index_.find(hash(key), [&](uint32_t number) { return slab_[number].key == key; });
}

uint16_t &Fragments::waiting_of_source(const DatagramKey &key)
{
	// With a secret: nobody can choose a source that shares somebody else's share.
	const uint32_t secret = static_cast<uint32_t>(key_.words[1]);
	return waiting_by_source_[spread(key.source_be ^ spread(key.realm ^ secret)) % kSources];
}

void Fragments::push(Queue &queue, uint32_t number)
{
	slab_[number].next = kNone;
	slab_[number].previous = queue.last;
	(queue.last == kNone ? queue.first : slab_[queue.last].next) = number;
	queue.last = number;
	queue.count++;
}

void Fragments::remove(Queue &queue, uint32_t number)
{
	const Datagram &datagram = slab_[number];
	(datagram.previous == kNone ? queue.first : slab_[datagram.previous].next) = datagram.next;
	(datagram.next == kNone ? queue.last : slab_[datagram.next].previous) = datagram.previous;
	queue.count--;
}

uint32_t Fragments::add(const DatagramKey &key, Ticks now)
{
	const uint32_t number = slab_.take();
	slab_[number] = {.key = key,
			 .fate = {},
			 .since = now,
			 .next = kNone,
			 .previous = kNone,
			 .first_frame = kNone,
			 .last_frame = kNone,
			 .frame_count = 0,
			 .known = false};
	index_.insert(hash(key), number);
	return number;
}

// Moves the datagram's frames to the list of those let go.
void Fragments::let_go(Datagram &datagram, bool again)
{
	if (datagram.first_frame == kNone)
		return;
	for (uint32_t at = datagram.first_frame; at != kNone; at = frames_[at].next)
		frames_[at].again = again;
	(go_last_ == kNone ? go_first_ : frames_[go_last_].next) = datagram.first_frame;
	go_last_ = datagram.last_frame;
	datagram.first_frame = datagram.last_frame = kNone;
	datagram.frame_count = 0;
}

void Fragments::drop_datagram(Queue &queue, uint32_t number)
{
	Datagram &datagram = slab_[number];
	remove(queue, number);
	let_go(datagram, false);
	if (!datagram.known)
		waiting_of_source(datagram.key)--;
	index_.erase(hash(datagram.key), number);
	slab_.give_back(number);
}

const Fate *Fragments::find(const DatagramKey &key, Ticks now)
{
	const uint32_t number = number_of(key);
	if (number == kNone || !slab_[number].known || now - slab_[number].since >= timeout_)
		return nullptr;
	return &slab_[number].fate;
}

bool Fragments::keep(const DatagramKey &key, uint64_t cookie, Ticks now)
{
	uint32_t number = number_of(key);
	if (number != kNone && slab_[number].known) {  // too old to be believed
		remove(known_, number);
		index_.erase(hash(key), number);
		slab_.give_back(number);
		number = kNone;
	}
	if (number == kNone) {
		if (waiting_of_source(key) >= config_.datagrams_waiting_per_source)
			return false;
		if (waiting_.count == config_.datagrams_waiting)
			drop_oldest(waiting_);
		number = add(key, now);
		push(waiting_, number);
		waiting_of_source(key)++;
	} else if (slab_[number].frame_count == kFramesPerDatagram) {
		return false;
	}
	if (frames_.full()) {
		// The oldest makes room for the next one to come; no need where some are on their way out already.
		if (go_first_ == kNone && waiting_.first != number)
			drop_oldest(waiting_);
		if (slab_[number].first_frame == kNone)
			drop_datagram(waiting_, number);
		return false;
	}
	Datagram &datagram = slab_[number];
	const uint32_t frame = frames_.take();
	frames_[frame] = {cookie, kNone, false};
	(datagram.last_frame == kNone ? datagram.first_frame : frames_[datagram.last_frame].next) = frame;
	datagram.last_frame = frame;
	datagram.frame_count++;
	return true;
}

void Fragments::learn(const DatagramKey &key, const Fate &fate, Ticks now)
{
	uint32_t number = number_of(key);
	if (number == kNone) {
		if (known_.count == config_.datagrams_known)
			drop_oldest(known_);
		number = add(key, now);
	} else if (slab_[number].known) {
		remove(known_, number);
	} else {
		if (known_.count == config_.datagrams_known)
			drop_oldest(known_);
		remove(waiting_, number);
		waiting_of_source(key)--;
		let_go(slab_[number], true);
	}
	Datagram &datagram = slab_[number];
	datagram.fate = fate;
	datagram.since = now;
	datagram.known = true;
	push(known_, number);
}

void Fragments::give_up()
{
	while (waiting_.first != kNone)
		drop_oldest(waiting_);
}

bool Fragments::expire(Ticks now, uint32_t budget)
{
	for (Queue *queue : {&waiting_, &known_})
		while (queue->first != kNone && now - slab_[queue->first].since >= timeout_) {
			if (!budget--)
				return false;
			drop_oldest(*queue);
		}
	return true;
}

bool Fragments::take(KeptFragment &fragment)
{
	if (go_first_ == kNone)
		return false;
	const uint32_t frame = go_first_;
	fragment = {frames_[frame].cookie, frames_[frame].again};
	go_first_ = frames_[frame].next;
	if (go_first_ == kNone)
		go_last_ = kNone;
	frames_.give_back(frame);
	return true;
}

}  // namespace vx::nat
