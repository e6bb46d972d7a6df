// Hashes with a secret, and the random numbers ports are chosen by. Pure: the key is a parameter, from getrandom(2) in
// production, from a seed in tests. The worker's thread.
#pragma once

#include <cstdint>

namespace vx::nat {

struct Key {
	uint64_t words[2];
};

// The middle of a 128-bit product: every bit of the result depends on every bit of both.
inline uint64_t mix(uint64_t a, uint64_t b)
{
	const auto product = static_cast<unsigned __int128>(a) * b;
	return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// For the tables: a sender who does not know the key cannot choose addresses that fall into one bucket.
inline uint64_t hash_words(const Key &key, uint64_t a, uint64_t b)
{
	const uint64_t first = mix(a ^ key.words[0], b ^ key.words[1] ^ 0x9e3779b97f4a7c15u);
	return mix(first ^ key.words[0], 0xd6e8feb86659fd93u);
}

// SipHash-2-4 (Aumasson, Bernstein 2012) of a counter: unpredictable from the ports seen so far, which RFC 6056
// section 3.3 wants, and repeatable from the key.
class Random {
public:
	explicit Random(const Key &key) : key_(key) {}

	uint64_t next()
	{
		uint64_t v[4] = {key_.words[0] ^ 0x736f6d6570736575u, key_.words[1] ^ 0x646f72616e646f6du,
				 key_.words[0] ^ 0x6c7967656e657261u, key_.words[1] ^ 0x7465646279746573u};
		absorb(v, counter_++);
		absorb(v, uint64_t{8} << 56);
		v[2] ^= 0xff;
		for (int i = 0; i < 4; i++)
			round(v);
		return v[0] ^ v[1] ^ v[2] ^ v[3];
	}

	// Uniform in [0, bound), but for 2^-32.
	uint32_t below(uint32_t bound) { return static_cast<uint32_t>((next() >> 32) * bound >> 32); }

private:
	static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

	static void round(uint64_t v[4])
	{
		v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
		v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
		v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
		v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
	}

	static void absorb(uint64_t v[4], uint64_t word)
	{
		v[3] ^= word;
		round(v);
		round(v);
		v[0] ^= word;
	}

	Key key_;
	uint64_t counter_ = 0;
};

}  // namespace vx::nat
