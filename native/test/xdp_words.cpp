// See xdp_words.h.
#include "xdp_words.h"

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace vx::test {
namespace {

[[noreturn]] void broken(const std::string &word)
{
	fprintf(stderr, "fixture: cannot read '%s'\n", word.c_str());
	abort();
}

std::vector<std::string> items(const std::string &list, char separator)
{
	std::vector<std::string> all;
	std::istringstream stream(list);
	for (std::string one; std::getline(stream, one, separator);)
		all.push_back(one);
	return all;
}

}  // namespace

bool is_ipv4(const std::string &text)
{
	return text.find(':') == std::string::npos;
}

uint32_t ipv4_from(const std::string &text)
{
	uint32_t address_be = 0;
	if (inet_pton(AF_INET, text.c_str(), &address_be) != 1)
		broken(text);
	return address_be;
}

vx_addr address_from(const std::string &text)
{
	vx_addr address{};
	if (is_ipv4(text)) {
		const uint32_t address_be = ipv4_from(text);
		address.bytes[10] = address.bytes[11] = 0xff;
		memcpy(address.bytes + 12, &address_be, 4);
	} else if (inet_pton(AF_INET6, text.c_str(), address.bytes) != 1) {
		broken(text);
	}
	return address;
}

vx_prefix6 prefix_from(const std::string &text)
{
	const auto parts = items(text, '/');
	const uint32_t length = parts.size() > 1 ? static_cast<uint32_t>(std::stoul(parts[1])) + (is_ipv4(text) ? 96 : 0) : 128;
	return {length, address_from(parts.at(0))};
}

std::vector<vx_prefix6> prefixes_from(const std::string &list)
{
	std::vector<vx_prefix6> all;
	for (const std::string &one : items(list, ','))
		all.push_back(prefix_from(one));
	return all;
}

std::vector<uint32_t> ranges_from(const std::string &list)
{
	std::vector<uint32_t> all;
	for (const std::string &range : items(list, ','))
		for (const std::string &end : items(range, '-'))
			all.push_back(static_cast<uint32_t>(std::stoul(end)));
	return all;
}

std::vector<uint8_t> mac_from(const std::string &text)
{
	std::vector<uint8_t> mac;
	for (const std::string &byte : items(text, ':'))
		mac.push_back(static_cast<uint8_t>(std::stoul(byte, nullptr, 16)));
	if (mac.size() != 6)
		broken(text);
	return mac;
}

uint8_t state_from(const std::string &word, std::initializer_list<const char *> names)
{
	uint8_t state = 0;
	for (const char *name : names) {
		if (word == name)
			return state;
		state++;
	}
	broken(word);
}

}  // namespace vx::test
