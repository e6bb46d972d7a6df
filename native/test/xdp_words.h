// Words of a fixture file as values. Used by the XDP bed; a broken word aborts.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "../../bpf/abi/abi.h"

namespace vx::test {

bool is_ipv4(const std::string &text);
uint32_t ipv4_from(const std::string &text);  // network order
vx_addr address_from(const std::string &text);
// ADDRESS or ADDRESS/LENGTH; IPv4 mapped, its length 96 more.
vx_prefix6 prefix_from(const std::string &text);
std::vector<vx_prefix6> prefixes_from(const std::string &list);
std::vector<uint32_t> ranges_from(const std::string &list);
std::vector<uint8_t> mac_from(const std::string &text);
uint8_t state_from(const std::string &word, std::initializer_list<const char *> names);

}  // namespace vx::test
