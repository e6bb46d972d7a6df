// When to look at a session again: a wheel of lists, linked through the sessions. Pure; the worker's thread.
//
// Re-armed lazily: a packet only writes last_seen, and a session whose turn comes before its time goes to a later slot.
// Longer than one turn of the wheel is several looks. Only what shortens a session's life (FIN, RST) moves it at once.
#pragma once

#include <algorithm>

#include "tables.h"

namespace vx::nat {

class TimerWheel {
public:
	TimerWheel(Arena &arena, Session *sessions) : sessions_(sessions), heads_(arena.take<uint32_t>(kSlots)) {}

	void arm(uint32_t number, Ticks now, Ticks in)
	{
		// Ahead of the hand, which lags behind the time when ticks were late, by less than a turn: what came to
		// lie where the hand is would be looked at again and again.
		const uint32_t due = std::max(now >> kSlotShift, hand_) + (in >> kSlotShift) + 1;
		const uint32_t slot = std::min(due, hand_ + kSlots - 1) % kSlots;
		Session &session = sessions_[number];
		const uint32_t head = heads_[slot];
		session.timer_slot = static_cast<uint16_t>(slot);
		session.timer_next = head;
		session.timer_previous = 0;
		if (head)
			sessions_[head - 1].timer_previous = number + 1;
		heads_[slot] = number + 1;
	}

	// Also of one that is not armed, because its turn has come.
	void disarm(uint32_t number)
	{
		Session &session = sessions_[number];
		if (session.timer_slot == kNotArmed)
			return;
		if (session.timer_previous)
			sessions_[session.timer_previous - 1].timer_next = session.timer_next;
		else
			heads_[session.timer_slot] = session.timer_next;
		if (session.timer_next)
			sessions_[session.timer_next - 1].timer_previous = session.timer_previous;
		session.timer_slot = kNotArmed;
	}

	// The next session whose turn has come, disarmed; kNone: none until later.
	uint32_t pop(Ticks now)
	{
		// After a long sleep one turn shows them all.
		if ((now >> kSlotShift) > hand_ + kSlots)
			hand_ = (now >> kSlotShift) - kSlots;
		for (; hand_ <= now >> kSlotShift; hand_++) {
			const uint32_t head = heads_[hand_ % kSlots];
			if (!head)
				continue;
			disarm(head - 1);
			return head - 1;
		}
		return kNone;
	}

	void start(Ticks now) { hand_ = now >> kSlotShift; }

private:
	static constexpr uint32_t kSlots = 1024;
	static constexpr uint16_t kNotArmed = UINT16_MAX;
	static constexpr int kSlotShift = 2;  // a slot is 268 ms, a turn 275 s

	Session *sessions_;
	uint32_t *heads_;  // number + 1
	uint32_t hand_ = 0;
};

}  // namespace vx::nat
