// The fixtures as values: native/test/fixtures/*.txt, written by fixtures/generate.py. Used by xdp_fixtures_test.cpp
// and by the differential test, for their frames.
//
// A line is a word and its arguments. Lines before the first `case` are every case's set-up, unless it says `bare`.
//   case TITLE                        a sentence
//   knobs KEY[=VALUE]...              what the programs are loaded with (xdp_bed.h)
//   SET-UP                            interface, route, neighbour, allow, rule, fragment, ... (xdp_bed.h)
//   in HEX                            a frame; the lines behind it are its outcome, then set-up for the next frame
//   verdict redirect|drop|pass|worker|unread   unread: to the worker, which leaves it in its ring
//   out HEX|same                      the frame afterwards; to the worker: what it gets, behind the Ethernet addresses
//   exception REASON original A new A what the worker is told
//   count NAME=N...                   exactly these increments, all others 0
//   after SET-UP                      what a map holds then
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace vx::test {

using Bytes = std::vector<uint8_t>;
using Words = std::vector<std::string>;

struct FixtureStep {
	std::vector<Words> setup;  // before the frame
	Bytes in;
	std::string verdict;
	Bytes out;
	Words exception;
	std::map<std::string, uint64_t> counts;
	std::vector<Words> after;
	int line = 0;
};

struct Fixture {
	std::string group;
	std::string title;
	std::string knobs;
	std::vector<FixtureStep> steps;
	int line = 0;
};

// All cases of all files, ordered so that those with the same knobs follow each other. Aborts on a broken file.
std::vector<Fixture> read_fixtures(const std::string &directory);
Bytes from_hex(const std::string &hex);
std::string to_hex(const Bytes &bytes);

}  // namespace vx::test
