// RFC 5508: queries, errors both ways, hairpinned ones, what is quoted. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";
const char *const kR2 = "192.0.2.9:4000";
const char *const kRouter = "192.0.2.254";
const char *const kInsideRouter = "10.9.9.9";

uint32_t remote(const char *text)
{
	return endpoint(text).address_be;
}

Endpoint open_echo(Nat &nat, const char *from, const char *to)
{
	const Out out = nat.inside(echo_request(endpoint(from), remote(to)));
	EXPECT_TRUE(out.sent(Side::outside));
	return from_of(out.packet);
}

TEST(Icmp, AnEchoGoesOutAndItsReplyComesBack)
{
	Nat nat(one_address());
	const Endpoint mapped = open_echo(nat, kA, kR1);
	const Out back = nat.outside(echo_reply(remote(kR1), mapped));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(text(to_of(back.packet)), kA);
}

TEST(Icmp, OneIdentifierTowardsTwoRemotesIsOneMapping)
{
	Nat nat(one_address());
	const Endpoint mapped = open_echo(nat, kA, kR1);
	EXPECT_EQ(open_echo(nat, kA, kR2), mapped);
	EXPECT_TRUE(nat.outside(echo_reply(remote(kR2), mapped)).sent(Side::inside));
	EXPECT_TRUE(nat.outside(echo_reply(remote(kR1), mapped)).sent(Side::inside));
}

TEST(Icmp, EqualIdentifiersOfTwoHostsAreTold)
{
	Nat nat(one_address());
	const Endpoint a = open_echo(nat, "10.0.0.5:7", kR1), b = open_echo(nat, "10.0.0.6:7", kR1);
	EXPECT_NE(a, b);
	EXPECT_EQ(text(to_of(nat.outside(echo_reply(remote(kR1), b)).packet)), "10.0.0.6:7");
}

TEST(Icmp, AQueryMappingLivesAt59SecondsAndEndsAfterItsTimeout)
{
	Nat nat(one_address());
	const Endpoint mapped = open_echo(nat, kA, kR1);
	nat.advance(59);
	EXPECT_TRUE(nat.outside(echo_reply(remote(kR1), mapped)).sent(Side::inside));
	nat.advance(3);
	EXPECT_EQ(nat.outside(echo_reply(remote(kR1), mapped)).verdict.reason, VX_DROP_no_session);
}

TEST(Icmp, AForeignEchoRequestToThePoolIsNobodysWhateverItsIdentifier)
{
	Scene scene = one_address();
	scene.config.filtering = Filtering::endpoint_independent;
	Nat nat(scene);
	const Endpoint mapped = open_echo(nat, kA, kR1);
	EXPECT_EQ(nat.outside(echo_request({remote(kR1), mapped.port}, mapped.address_be)).verdict.reason,
		  VX_DROP_no_session);
}

TEST(Icmp, AReplyNobodyAskedForIsDropped)
{
	Nat nat(one_address());
	EXPECT_EQ(nat.outside(echo_reply(remote(kR1), endpoint("203.0.113.1:2000"))).verdict.reason,
		  VX_DROP_no_session);
}

TEST(Icmp, PaddingBehindAShortEchoIsIgnored)
{
	Nat nat(one_address());
	Bytes ping = echo_request(endpoint(kA), remote(kR1), 1);
	ping.resize(46, 0xaa);
	EXPECT_TRUE(nat.inside(ping).sent(Side::outside));
}

TEST(Icmp, OtherTypesAreDroppedByName)
{
	Nat nat(one_address());
	for (const uint8_t type : std::initializer_list<uint8_t>{5, 9, 10, 13, 14, 15, 17, 30, 42, 255}) {
		Bytes packet = echo_request(endpoint(kA), remote(kR1));
		packet[20] = type;
		fix_checksums(packet);
		EXPECT_EQ(nat.refusal(packet), VX_DROP_protocol) << int{type};
		packet = echo_request(endpoint(kR1), address("203.0.113.1"));
		packet[20] = type;
		fix_checksums(packet);
		EXPECT_EQ(nat.outside(packet).verdict.reason, VX_DROP_protocol) << int{type};
	}
}

// An error from outside about what A sent, for each protocol and length of quote.
TEST(Icmp, AnErrorFromOutsideReachesTheHostWithWhatItSent)
{
	Nat nat(one_address());
	const Bytes originals[] = {udp(endpoint(kA), endpoint(kR1), 40), tcp(endpoint(kA), endpoint(kR1), kSyn, 30),
				   echo_request(endpoint(kA), remote(kR1), 40),
				   udp_without_checksum(endpoint(kA), endpoint(kR1), 40)};
	for (const Bytes &original : originals) {
		const Bytes sent = nat.inside(original).packet;
		for (const auto &[type, code] :
		     {std::pair{3, 0}, {3, 1}, {3, 3}, {3, 4}, {3, 13}, {4, 0}, {11, 0}, {11, 1}, {12, 0}})
			for (const size_t quoted : std::initializer_list<size_t>{28, 29, 36, 40, 500}) {
				const Bytes error =
					icmp_error(address(kRouter), source_of(sent), static_cast<uint8_t>(type),
						   static_cast<uint8_t>(code), sent, quoted);
				const Out out = nat.outside(error);
				ASSERT_TRUE(out.sent(Side::inside)) << type << "/" << code << " quoting " << quoted;
				EXPECT_EQ(out.packet[20], type);
				EXPECT_EQ(out.packet[21], code);
				EXPECT_EQ(text(source_of(out.packet)), kRouter);
				EXPECT_EQ(text(destination_of(out.packet)), "10.0.0.5");
				Bytes quote = quoted_by(out.packet), expected = original;
				expected[8]--;  // one hop from A to where it was quoted
				expected[10] = quote[10], expected[11] = quote[11];  // which wrong_with() has checked
				expected.resize(quote.size());
				EXPECT_EQ(quote, expected);
			}
	}
}

TEST(Icmp, ANextHopMtuPasses)
{
	Nat nat(one_address());
	const Bytes sent = nat.inside(udp(endpoint(kA), endpoint(kR1), 1200)).packet;
	Bytes error = icmp_error(address(kRouter), source_of(sent), 3, 4, sent, 28);
	error[26] = 1280 >> 8, error[27] = 1280 & 255;
	fix_checksums(error);
	EXPECT_EQ(word(nat.outside(error).packet, 26), 1280);
}

TEST(Icmp, AnExtensionBehindTheQuoteIsTolerated)
{
	Nat nat(one_address());
	const Bytes sent = nat.inside(udp(endpoint(kA), endpoint(kR1), 40)).packet;
	const Bytes extension{0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0x40};
	const Bytes error = icmp_error(address(kRouter), source_of(sent), 11, 0, sent, 500, extension);
	const Out out = nat.outside(error);
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(Bytes(out.packet.end() - 12, out.packet.end()), extension);
	EXPECT_EQ(out.packet[25], 32) << "RFC 4884's length of the quote";
}

TEST(Icmp, OptionsOfAQuotedHeaderAreUnderstood)
{
	Nat nat(one_address());
	const Bytes original = udp(endpoint(kA), endpoint(kR1), 20, {.options = {7, 7, 4, 0, 0, 0, 0, 0}});
	const Bytes sent = nat.inside(original).packet;
	const Out out = nat.outside(icmp_error(address(kRouter), source_of(sent), 3, 1, sent, 36));
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(text(from_of(quoted_by(out.packet))), kA);
}

TEST(Icmp, AnErrorWithABadChecksumIsDropped)
{
	Nat nat(one_address());
	const Bytes sent = nat.inside(udp(endpoint(kA), endpoint(kR1), 40)).packet;
	Bytes error = icmp_error(address(kRouter), source_of(sent), 3, 1, sent, 28);
	error[22] ^= 1;
	EXPECT_EQ(nat.outside(error).verdict.reason, VX_DROP_bad_checksum);
}

TEST(Icmp, AnErrorThatQuotesAHeaderWithABadChecksumIsDropped)
{
	Nat nat(one_address());
	Bytes sent = nat.inside(udp(endpoint(kA), endpoint(kR1), 40)).packet;
	sent[10] ^= 1;
	EXPECT_EQ(nat.outside(icmp_error(address(kRouter), source_of(sent), 3, 1, sent, 28)).verdict.reason,
		  VX_DROP_bad_checksum);
}

TEST(Icmp, AQuotedTransportChecksumIsNotJudged)
{
	Nat nat(one_address());
	Bytes sent = nat.inside(udp(endpoint(kA), endpoint(kR1), 40)).packet;
	sent[26] ^= 1;
	Bytes error =
		icmp_error(address(kRouter), source_of(sent), 3, 1, sent, 28); // cut short: not checked by the bed
	EXPECT_TRUE(nat.outside(error).sent(Side::inside));
}

TEST(Icmp, AnErrorAboutNoMappingIsDropped)
{
	Nat nat(one_address());
	const Bytes forged = udp(endpoint("203.0.113.1:2000"), endpoint(kR1), 40);
	EXPECT_EQ(nat.outside(icmp_error(address(kRouter), address("203.0.113.1"), 3, 1, forged, 28)).verdict.reason,
		  VX_DROP_no_session);
}

TEST(Icmp, AnErrorThatQuotesWhatItsAddresseeDidNotSendIsDropped)
{
	// Two hosts have the same ports of two addresses: only the address tells them apart.
	Scene scene = addresses(2);
	scene.pools.block_size = 64;
	scene.pools.pools[0].first_port = 8192;
	scene.pools.pools[0].last_port = 8192 + 63;
	Nat nat(scene);
	Bytes sent;
	for (uint16_t i = 0; i < 64; i++) {
		sent = nat.inside(udp({address("10.0.0.5"), static_cast<uint16_t>(3000 + i)}, endpoint(kR1))).packet;
		nat.inside(udp({address("10.0.0.6"), static_cast<uint16_t>(3000 + i)}, endpoint(kR1)));
	}
	const uint32_t other =
		source_of(sent) == address("203.0.113.1") ? address("203.0.113.2") : address("203.0.113.1");
	EXPECT_TRUE(nat.outside(icmp_error(address(kRouter), source_of(sent), 3, 1, sent, 28)).sent(Side::inside));
	EXPECT_EQ(nat.outside(icmp_error(address(kRouter), other, 3, 1, sent, 28)).verdict.reason, VX_DROP_no_session);
}

TEST(Icmp, AnErrorFromInsideToSomebodyElseThanItQuotesIsDropped)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, kR1);
	const Bytes received = nat.outside(udp(endpoint(kR1), mapped)).packet;
	EXPECT_EQ(nat.refusal(icmp_error(address("10.0.0.5"), remote(kR2), 3, 3, received)), VX_DROP_no_session);
}

TEST(Icmp, AnErrorCutShortIsDropped)
{
	Nat nat(one_address());
	const Bytes sent = nat.inside(udp(endpoint(kA), endpoint(kR1), 40)).packet;
	for (size_t quoted = 0; quoted < 28; quoted++)
		EXPECT_EQ(nat.outside(icmp_error(address(kRouter), source_of(sent), 3, 1, sent, quoted)).verdict.reason,
			  VX_DROP_malformed_inner);
}

TEST(Icmp, AnErrorFromInsideLeavesFromThePoolWithWhatTheRemoteSent)
{
	Nat nat(one_address());
	for (const char *sender : {"10.0.0.5", kInsideRouter}) {
		const Endpoint mapped = nat.open_udp(kA, kR1);
		const Bytes original = udp(endpoint(kR1), mapped, 40);
		const Bytes received = nat.outside(original).packet;
		const Out out = nat.inside(icmp_error(address(sender), remote(kR1), 3, 3, received, 500));
		ASSERT_TRUE(out.sent(Side::outside)) << sender;
		EXPECT_EQ(source_of(out.packet), mapped.address_be);
		EXPECT_EQ(text(destination_of(out.packet)), "198.51.100.7");
		EXPECT_EQ(to_of(quoted_by(out.packet)), mapped);
		EXPECT_EQ(text(from_of(quoted_by(out.packet))), kR1);
		EXPECT_EQ(payload_of(quoted_by(out.packet)), payload_of(original));
	}
}

TEST(Icmp, AnErrorFromInsideAboutATcpSegmentAndAnEchoReplyLeaves)
{
	Nat nat(one_address());
	const Endpoint connection = nat.open_tcp(kA, kR1);
	const Bytes segment = nat.outside(tcp(endpoint(kR1), connection, kSyn | kAck)).packet;
	EXPECT_EQ(to_of(quoted_by(nat.inside(icmp_error(address("10.0.0.5"), remote(kR1), 3, 10, segment)).packet)),
		  connection);
	const Endpoint echo = open_echo(nat, kA, kR1);
	const Bytes reply = nat.outside(echo_reply(remote(kR1), echo)).packet;
	EXPECT_EQ(to_of(quoted_by(nat.inside(icmp_error(address("10.0.0.5"), remote(kR1), 3, 10, reply)).packet)),
		  echo);
}

TEST(Icmp, AnErrorFromInsideAboutNoMappingIsDropped)
{
	Nat nat(one_address());
	const Bytes never = udp(endpoint(kR1), endpoint(kA), 40);
	EXPECT_EQ(nat.refusal(icmp_error(address("10.0.0.5"), remote(kR1), 3, 3, never)), VX_DROP_no_session);
}

TEST(Icmp, AnErrorAboutARemoteThatAMappingOfItsOwnWasNotForIsDropped)
{
	Scene scene = one_address();
	scene.config.mapping = Mapping::address_and_port_dependent;
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	const auto told = [&](const char *about) {
		return nat.outside(icmp_error(address(kRouter), mapped.address_be, 3, 1, udp(mapped, endpoint(about))));
	};
	EXPECT_TRUE(told(kR1).sent(Side::inside));
	EXPECT_EQ(told(kR2).verdict.reason, VX_DROP_no_session);
}

TEST(Icmp, AnErrorAboutAnEchoRequestToTheInsideIsDropped)
{
	Nat nat(one_address());
	open_echo(nat, kA, kR1);
	const Bytes never = echo_request({remote(kR1), endpoint(kA).port}, address("10.0.0.5"));
	EXPECT_EQ(nat.refusal(icmp_error(address("10.0.0.5"), remote(kR1), 3, 10, never)), VX_DROP_no_session);
}

TEST(Icmp, AnErrorWhoseTtlRunsOutHereIsDroppedAndNotAnswered)
{
	Scene scene = one_address();
	scene.config.icmp_outside = true;
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	const Bytes received = nat.outside(udp(endpoint(kR1), mapped)).packet;
	for (const uint8_t ttl : {uint8_t{1}, uint8_t{2}}) {
		Bytes out = icmp_error(address("10.0.0.5"), remote(kR1), 3, 3, received);
		Bytes in = icmp_error(address(kRouter), mapped.address_be, 3, 1, udp(mapped, endpoint(kR1)));
		for (Bytes *packet : {&out, &in}) {
			(*packet)[8] = ttl;
			fix_checksums(*packet);
		}
		EXPECT_EQ(nat.refusal(out), ttl == 1 ? VX_DROP_ttl_expired : -1);
		EXPECT_EQ(nat.outside(in).sent(Side::inside), ttl == 2);
	}
	EXPECT_TRUE(nat.answers().empty());
}

TEST(Icmp, AnErrorToAPoolAddressIsDroppedWhereHairpinIsOff)
{
	Scene scene = one_address();
	scene.config.hairpin = false;
	scene.config.filtering = Filtering::endpoint_independent;
	Nat nat(scene);
	const Endpoint a = nat.open_udp(kA, kR1);
	nat.open_udp(kB, kR1);
	EXPECT_EQ(nat.refusal(icmp_error(address("10.0.0.6"), a.address_be, 3, 3, udp(a, endpoint(kB)))),
		  VX_DROP_hairpin_off);
}

TEST(Icmp, AnErrorRefreshesNothingAndEndsNothing)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, kR1);
	for (int i = 0; i < 29; i++) {
		nat.advance(10);
		const Bytes received = nat.outside(udp(endpoint(kR1), mapped)).packet;
		EXPECT_TRUE(
			nat.inside(icmp_error(address("10.0.0.5"), remote(kR1), 3, 3, received)).sent(Side::outside));
		const Bytes sent = udp(mapped, endpoint(kR1));
		EXPECT_TRUE(
			nat.outside(icmp_error(address(kRouter), mapped.address_be, 3, 1, sent)).sent(Side::inside));
	}
	EXPECT_EQ(nat.sessions(), 1u);
	nat.advance(13);
	EXPECT_EQ(nat.sessions(), 0u);
}

TEST(Icmp, AHairpinnedErrorReachesTheSender)
{
	Scene scene = one_address();
	scene.config.filtering = Filtering::endpoint_independent;
	Nat nat(scene);
	const Endpoint b = nat.open_udp(kB, kR1);
	const Bytes original = udp(endpoint(kA), b, 40);
	const Out arrived = nat.inside(original);
	ASSERT_TRUE(arrived.sent(Side::inside));
	const Out out = nat.inside(icmp_error(address("10.0.0.6"), source_of(arrived.packet), 3, 3, arrived.packet));
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(source_of(out.packet), b.address_be);
	EXPECT_EQ(text(destination_of(out.packet)), "10.0.0.5");
	const Bytes quote = quoted_by(out.packet);
	EXPECT_EQ(text(from_of(quote)), kA);
	EXPECT_EQ(to_of(quote), b);
	EXPECT_EQ(payload_of(quote), payload_of(original));
}

}  // namespace
}  // namespace vx::nat::test
