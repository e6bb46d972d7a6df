// Any bytes as a frame: the parser reads nothing outside them, and what it says is true of them. With VXLAN and with plain
// Ethernet inside, IPv6 forwarded or not. libFuzzer's thread; scripts/test-native runs it for a bounded time.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../test/parser_host.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const parser_knobs kinds[] = {{0, 1, 4789, 0}, {0, 0, 4789, 0}, {1, 1, 4789, 0}, {1, 0, 4789, 0}};
	// Memory of exactly its size, so that the sanitizer sees the first byte read too many.
	const std::unique_ptr<uint8_t[]> frame(new uint8_t[size]);
	memcpy(frame.get(), data, size);
	for (const parser_knobs &knobs : kinds) {
		parser_answer answer, again;
		parser_knobs stale = knobs;
		stale.stale = 0xff;
		parser_run(frame.get(), size, &knobs, &answer);
		parser_run(frame.get(), size, &stale, &again);
		const char *broken = parser_broken_promise(frame.get(), size, &knobs, &answer);
		if (memcmp(&answer, &again, sizeof answer))
			broken = "every field of an answer is written";
		if (broken) {
			fprintf(stderr, "broken (%s): %s\n", knobs.plain_ethernet ? "plain" : "vxlan", broken);
			abort();
		}
	}
	return 0;
}
