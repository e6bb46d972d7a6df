// What an engine has, for people: sessions by filter, subscribers with the most of them. Pure; the worker's thread.
//
// In slices: each call looks at no more than `budget` records and returns the number to go on from, or kNone when there
// is nothing more, so that a worker can answer between two batches. Between slices things come and go: a session that
// is there all the time is listed once.
#pragma once

#include <optional>
#include <span>

#include "engine.h"

namespace vx::nat {

struct EndpointFilter {
	uint32_t address_be;
	std::optional<uint16_t> port_be;
};

// What is absent is any.
struct SessionFilter {
	std::optional<uint32_t> realm;
	std::optional<uint8_t> protocol;
	std::optional<EndpointFilter> inside, outside, remote;
};

struct Listed {
	uint32_t next;
	uint32_t count;  // written to `out`
};
// At most out.size() sessions.
Listed list_sessions(const Engine &engine, const SessionFilter &filter, uint32_t from, uint32_t budget,
		     std::span<vx_session_view> out);

// The subscribers with the most sessions of those looked at so far, most first, as many as there is room for.
struct TopSubscribers {
	std::span<vx_subscriber_use> room;
	uint32_t count = 0;
};
uint32_t find_top_subscribers(const Engine &engine, uint32_t from, uint32_t budget, TopSubscribers &top);

}  // namespace vx::nat
