// The inside program on a bench: loaded as the daemon loads it (vx::Datapath), attached to nothing, and run on one frame
// at a time by BPF_PROG_TEST_RUN. Used by xdp_*_test.cpp on the test's thread, in a network namespace of its own
// that vanishes with the process.
//
// Knobs: plain port=N local=ADDRESS vnis=A-B,C-D peers=PREFIX,... match=source|destination next_hop=MAC clear_df
//        forward_ipv6 decrement_ttl      workers=N hand_over=sockets|rings nat=BLOCK_SIZE
// Set-up: interface inside|outside MAC MTU      route PREFIX none|onlink|local|gateway [ADDRESS]
//         neighbour ADDRESS resolving|valid|failed [MAC]      allow [ADDRESS|PREFIX]...      allow-all
//         rule tcp|udp PORT ADDRESS PORT      fragment SOURCE DESTINATION PROTOCOL ID STATE SECONDS [ADDRESS]
//         fragments full      redirect none      ring none|small     socket [INDEX]      generation
// After:  fragment SOURCE DESTINATION PROTOCOL ID STATE|absent [ADDRESS]      neighbour ADDRESS used|unused
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../io/datapath.h"
#include "../io/ring_reader.h"
#include "xdp_fixture_file.h"

namespace vx::test {

struct ExceptionRecord {
	vx_exception head;
	Bytes frame;
	uint32_t ring;  // whose it was in
};

struct Outcome {
	int action = -1;
	Bytes out;                               // with an AF_XDP socket: metadata first
	std::map<std::string, uint64_t> counts;  // what rose, by name; `outside.` in front of the other direction's
	std::vector<ExceptionRecord> records;    // what went to workers by ring buffer
};

class XdpBed {
public:
	// The one bed of this process, made by its first user. Aborts where it cannot be made: nothing is skipped.
	static XdpBed &instance();

	// Loads the programs unless they are loaded with these knobs already, and empties the maps.
	void load(const std::string &knobs);
	void apply(const Words &setup);
	// Empty when the map holds what an `after` line says, else what it holds.
	std::string differs(const Words &expected);
	enum class Rings { read, leave };
	Outcome run(const Bytes &frame, Rings rings = Rings::read, vx_direction from = VX_INSIDE, uint32_t queue = 0);
	int cpu() const { return cpu_; }

	Datapath &datapath() { return *datapath_; }
	vx_slot &slot() { return datapath_->slots()[cpu_]; }
	int map(const char *name) const { return datapath_->map_fd(name); }

private:
	XdpBed();
	void unload();
	void empty_maps();
	void take_record(uint32_t worker, const uint8_t *bytes);
	void apply_route(const Words &words);
	void apply_allow(const Words &words);
	void apply_rule(const Words &words);
	void apply_fragment(const Words &words);
	void apply_ring(const std::string &state);
	void fill_fragments();
	using Counters = std::array<vx_counters, VX_DIRECTIONS>;
	Counters counters() const;

	int cpu_ = 0;
	int inside_ifindex_ = 0, outside_ifindex_ = 0;
	std::string knobs_;
	std::unique_ptr<Datapath> datapath_;
	std::vector<RingReader> rings_;  // by worker
	std::vector<Fd> sockets_;
	std::vector<Rule> rules_;
	std::vector<ExceptionRecord> records_;
};

}  // namespace vx::test
