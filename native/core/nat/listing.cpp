// What an engine has, for people. See the header.
#include "listing.h"

namespace vx::nat {
namespace {

bool matches(const std::optional<EndpointFilter> &filter, uint32_t address_be, uint16_t port_be)
{
	return !filter || (filter->address_be == address_be && filter->port_be.value_or(port_be) == port_be);
}

bool matches(const SessionFilter &filter, const Session &session)
{
	return filter.realm.value_or(session.realm) == session.realm &&
	       filter.protocol.value_or(session.protocol) == session.protocol &&
	       matches(filter.inside, session.inside_be, session.inside_port_be) &&
	       matches(filter.outside, session.public_be, session.public_port_be) &&
	       matches(filter.remote, session.remote_be, session.remote_port_be);
}

vx_session_state state_of(TcpState state)
{
	switch (state) {
	case TcpState::none:
		return VX_SESSION_ACTIVE;
	case TcpState::opening:
		return VX_SESSION_OPENING;
	case TcpState::established:
		return VX_SESSION_ESTABLISHED;
	case TcpState::fin_inside:
	case TcpState::fin_outside:
		return VX_SESSION_HALF_CLOSED;
	case TcpState::closing:
		return VX_SESSION_CLOSING;
	case TcpState::reset:
		return VX_SESSION_RESET;
	}
	require(false);
	return VX_SESSION_ACTIVE;
}

uint32_t seconds_of(Ticks ticks)
{
	return static_cast<uint32_t>((uint64_t{ticks} << kTickShift) / 1000000000);
}

vx_session_view view_of(const Engine &engine, const Session &session)
{
	const Ticks age = engine.now() - session.created;
	// A session that is closing has its last_seen put back, perhaps to before it began.
	const Ticks idle = std::min(age, engine.now() - session.last_seen);
	return {.realm = session.realm,
		.inside_be = session.inside_be,
		.outside_be = session.public_be,
		.remote_be = session.remote_be,
		.inside_port_be = session.inside_port_be,
		.outside_port_be = session.public_port_be,
		.remote_port_be = session.remote_port_be,
		.protocol = session.protocol,
		.state = static_cast<uint8_t>(state_of(session.tcp)),
		.age_seconds = seconds_of(age),
		.idle_seconds = seconds_of(idle),
		.worker = static_cast<uint8_t>(engine.worker()),
		.pad = {}};
}

// Puts it where it belongs among the top ones, which are in order; those behind it move down, the last one perhaps out.
void place(TopSubscribers &top, const Subscriber &subscriber)
{
	const auto begin = top.room.begin(), end = begin + top.count;
	const auto same = [&](const vx_subscriber_use &use) {
		return use.inside_be == subscriber.inside_be && use.realm == subscriber.realm;
	};
	if (std::any_of(begin, end, same))
		return;  // it went and came back, further on
	auto at = std::find_if(begin, end, [&](const auto &use) { return use.sessions < subscriber.sessions; });
	if (top.count < top.room.size())
		top.count++;
	std::move_backward(at, begin + top.count - 1, begin + top.count);
	*at = {subscriber.realm, subscriber.inside_be, subscriber.sessions, subscriber.blocks};
}

}  // namespace

Listed list_sessions(const Engine &engine, const SessionFilter &filter, uint32_t from, uint32_t budget,
		     std::span<vx_session_view> out)
{
	const Sessions &sessions = engine.sessions();
	const uint32_t top = sessions.top();
	Listed listed{from, 0};
	for (; listed.next < top && budget && listed.count < out.size(); listed.next++, budget--) {
		const Session &session = sessions[listed.next];
		if ((session.flags & kSessionLive) && matches(filter, session))
			out[listed.count++] = view_of(engine, session);
	}
	if (listed.next >= top)
		listed.next = kNone;
	return listed;
}

uint32_t find_top_subscribers(const Engine &engine, uint32_t from, uint32_t budget, TopSubscribers &top)
{
	const Subscribers &subscribers = engine.subscribers();
	const uint32_t end = subscribers.top();
	for (; from < end && budget; from++, budget--) {
		const Subscriber &subscriber = subscribers[from];
		if (!subscriber.in_use || !(subscriber.sessions || subscriber.blocks) || top.room.empty())
			continue;
		if (top.count < top.room.size() || top.room.back().sessions < subscriber.sessions)
			place(top, subscriber);
	}
	return from < end ? from : kNone;
}

}  // namespace vx::nat
