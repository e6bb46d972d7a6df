// See translator.h. Runs on the worker's thread.
#include "translator.h"

#include <algorithm>
#include <atomic>

namespace vx {

Translator::Translator(Nat &nat, Shared &shared, uint32_t number, Frames &frames, Sender &outside, Sender &inside,
		       Exceptions *exceptions, vx_slot &slot)
	: nat_(nat), engine_(nat.engine(number)), shared_(shared), number_(number), frames_(frames), outside_(outside),
	  inside_(inside), exceptions_(exceptions), slot_(slot),
	  translation_(engine_, shared.config.tunnel_host, frames.at(0), *this)
{
	follow_links();  // before the first tick too
}

void Translator::follow_links()
{
	translation_.set_faces(shared_.links.face(VX_INSIDE), shared_.links.face(VX_OUTSIDE));
}

void Translator::translate(Frame frame, nat::Stage stage, uint64_t now_ns)
{
	translation_.take(frame, stage, now_ns);
	wake_others();  // not only when the turn ends: a ring has less room than many turns bring
}

// Takes a frame from its Ethernet header on, whose next hop only worker 0 can find.
void Translator::route(Frame frame, uint64_t now_ns)
{
	if (exceptions_)
		exceptions_->forward(frame, now_ns);
	else if (!push(0, {frame, HandedOver::route, nat::Stage::arrived}))
		outside_.drop(frame, VX_DROP_handoff_full);
}

bool Translator::hand_over(uint32_t worker, Frame frame, nat::Stage stage)
{
	return push(worker, {frame, HandedOver::translate, stage});
}

bool Translator::push(uint32_t worker, const HandedOver &packet)
{
	if (!nat_.handoffs().between(number_, worker).push(packet))
		return false;
	handed_over_++;
	woken_ |= uint64_t{1} << worker;
	return true;
}

bool Translator::take_over(uint64_t now_ns)
{
	bool more = false;
	// From all of them together as much as this worker receives in a turn: with less, rings fill up however fast it is.
	const uint32_t most = std::max(VX_INJECTION_MAX / nat_.handoffs().workers(), kLeast);
	for (uint32_t from = 0; from < nat_.handoffs().workers(); from++) {
		HandedOver packet;
		uint32_t left = from == number_ ? 0 : most;
		for (; left && nat_.handoffs().between(from, number_).pop(packet); left--) {
			taken_over_++;
			if (packet.what == HandedOver::route)
				exceptions_->forward(packet.frame, now_ns);
			else
				translate(packet.frame, packet.stage, now_ns);
		}
		more |= from != number_ && !left;
	}
	return more;
}

bool Translator::pending()
{
	for (uint32_t from = 0; from < nat_.handoffs().workers(); from++)
		if (from != number_ && nat_.handoffs().between(from, number_).size())
			return true;
	return false;
}

bool Translator::settle(uint64_t now_ns)
{
	bool more = take_over(now_ns);
	translation_.settle(now_ns);
	wake_others();
	more |= nat_.answer(number_);
	publish();
	return more;
}

// What was handed over is there before it is looked whether its new owner sleeps; who goes to sleep does it the other way
// round (Loop::wait).
void Translator::wake_others()
{
	if (!woken_)
		return;
	std::atomic_thread_fence(std::memory_order_seq_cst);
	for (; woken_; woken_ &= woken_ - 1) {
		const auto worker = static_cast<uint32_t>(__builtin_ctzll(woken_));
		if (__atomic_load_n(&shared_.config.control->worker_sleeps[worker], __ATOMIC_RELAXED))
			nat_.wake(worker);
	}
}

bool Translator::tick(uint64_t now_ns)
{
	if (now_ns < next_tick_ns_)
		return false;
	follow_links();
	const bool more = translation_.tick(now_ns);
	next_tick_ns_ = more ? now_ns : now_ns + Translation::kTickNs;
	return more;
}

void Translator::finish(uint64_t now_ns)
{
	settle(now_ns);
	translation_.give_up(now_ns);
	settle(now_ns);
	nat_.close(number_);
}

void Translator::publish()
{
	slot_.nat = engine_.stats();
	slot_.nat.handed_over = handed_over_;
	slot_.nat.taken_over = taken_over_;
}

}  // namespace vx
