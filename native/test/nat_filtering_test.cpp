// Who may send to a mapping (RFC 4787 section 5), and whose packets make none. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";
const char *const kR2 = "192.0.2.9:4000";

TEST(Filter, StrangersDoNotKeepAMappingAliveUnderEndpointIndependentFiltering)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	for (uint16_t i = 0; i < 5; i++) {
		nat.advance(65);
		nat.outside(udp({address("192.0.2.66"), static_cast<uint16_t>(1000 + i)}, mapped));
	}
	EXPECT_EQ(nat.outside(udp(endpoint("192.0.2.66:1004"), mapped)).verdict.reason, VX_DROP_no_session);
	EXPECT_EQ(nat.sessions(), 0u);
}

TEST(Filter, EndpointIndependentFilteringAdmitsAnyRemote)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR2), mapped)).sent(Side::inside));
}

TEST(Filter, AddressDependentFilteringAdmitsAnyPortOfAKnownRemoteOnly)
{
	Nat nat(filtering(Filtering::address_dependent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_TRUE(nat.outside(udp(endpoint("198.51.100.7:9999"), mapped)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint(kR2), mapped)).verdict.reason, VX_DROP_filtered);
	nat.advance(310);
	nat.open_udp(kA, kR2);
	EXPECT_EQ(nat.outside(udp(endpoint("198.51.100.7:9999"), mapped)).verdict.reason, VX_DROP_filtered)
		<< "a remote whose sessions have ended is still admitted";
}

TEST(Filter, AddressAndPortDependentFilteringAdmitsOnlyWhoWasSpokenTo)
{
	Nat nat(filtering(Filtering::address_and_port_dependent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint("198.51.100.7:54"), mapped)).verdict.reason, VX_DROP_filtered);
	EXPECT_EQ(nat.outside(udp(endpoint(kR2), mapped)).verdict.reason, VX_DROP_filtered);
}

TEST(Filter, ARemoteIsAdmittedByOneOfTwoPublicPortsThatTheHostCouldNotTellApart)
{
	Scene scene = filtering(Filtering::endpoint_independent);
	scene.config.mapping = Mapping::address_and_port_dependent;
	Nat nat(scene);
	const Endpoint first = nat.open_udp(kA, kR1), second = nat.open_udp(kA, kR2);
	EXPECT_TRUE(nat.outside(udp(endpoint("192.0.2.66:9"), first)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint("192.0.2.66:9"), second)).verdict.reason, VX_DROP_filtered);
	EXPECT_EQ(nat.open_udp(kA, "192.0.2.66:9"), first) << "the answer leaves by the port it came to";
}

TEST(Filter, APoolAddressAsSourceIsForgedOnEitherSide)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint a = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint("203.0.113.1:80"), endpoint(kR1))), VX_DROP_filtered);
	EXPECT_EQ(nat.outside(udp(endpoint("203.0.113.1:80"), a)).verdict.reason, VX_DROP_filtered);
	EXPECT_EQ(nat.sessions(), 1u);
	const Endpoint b = nat.open_udp(kB, kR1);
	nat.inside(udp(endpoint(kA), b));
	EXPECT_EQ(nat.outside(udp(a, b)).verdict.reason, VX_DROP_filtered)
		<< "as in a hairpinned session, but from outside";
}

TEST(Filter, ASourceThatIsNoHostTakesNoPort)
{
	Nat nat(one_address());
	for (const char *source : {"0.0.0.0:68", "127.0.0.1:5000", "224.0.0.251:5353", "255.255.255.255:1"})
		EXPECT_EQ(nat.refusal(udp(endpoint(source), endpoint(kR1))), VX_DROP_filtered) << source;
	EXPECT_EQ(nat.mappings(), 0u);
}

TEST(Filter, AMappingOfOneProtocolAdmitsNoOther)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.outside(tcp(endpoint(kR1), mapped, kSyn)).verdict.reason, VX_DROP_no_session);
}

}  // namespace
}  // namespace vx::nat::test
