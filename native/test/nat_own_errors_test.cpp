// ICMP errors of our own: refusals, TTL, MTU, limits, silence. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";
const char *const kR2 = "192.0.2.9:4000";

uint32_t remote(const char *text)
{
	return endpoint(text).address_be;
}

TEST(Icmp, WhoIsRefusedForLackOfPortsOrByALimitIsTold)
{
	Scene scene = one_address();
	scene.config.sessions_per_subscriber = 1;
	Nat nat(scene);
	nat.open_udp(kA, kR1);
	const Bytes refused = udp(endpoint(kA), endpoint(kR2), 40);
	EXPECT_EQ(nat.refusal(refused), VX_DROP_subscriber_limit);
	const auto answers = nat.answers();
	ASSERT_EQ(answers.size(), 1u);
	EXPECT_EQ(answers[0].to, Side::inside);
	EXPECT_EQ(answers[0].realm, kVni);
	EXPECT_EQ(answers[0].packet[20], 3);
	EXPECT_EQ(answers[0].packet[21], 13);
	EXPECT_EQ(text(source_of(answers[0].packet)), "203.0.113.1") << "there is no gateway address";
	EXPECT_EQ(text(destination_of(answers[0].packet)), "10.0.0.5");
	EXPECT_EQ(quoted_by(answers[0].packet), refused) << "as it was sent";
}

TEST(Icmp, WhateverIsLackingTheRefusedOneIsTold)
{
	const auto told = [](int reason, const auto &limit) {
		Scene scene = one_address();
		scene.pools.pools[0].last_port = 1024 + 128 - 1;  // one block
		limit(scene.config);
		Nat nat(scene);
		for (uint16_t port = 5000; port < 5128; port++)
			nat.inside(udp({address("10.0.0.5"), port}, endpoint(kR1)));
		nat.answers();
		const char *const host = reason == VX_DROP_no_block ? "10.0.0.6:6000" : "10.0.0.5:6000";
		EXPECT_EQ(nat.refusal(udp(endpoint(host), endpoint(kR1))), reason);
		const auto answers = nat.answers();
		ASSERT_EQ(answers.size(), 1u) << reason;
		EXPECT_EQ(word(answers[0].packet, 20), 3 << 8 | 13);
		EXPECT_EQ(destination_of(answers[0].packet), endpoint(host).address_be);
	};
	told(VX_DROP_no_block, [](Config &) {});
	told(VX_DROP_no_port, [](Config &config) { config.blocks_per_subscriber = 1; });
	told(VX_DROP_session_table_full, [](Config &config) { config.sessions_max = 128; });
	told(VX_DROP_subscriber_limit, [](Config &config) { config.sessions_per_subscriber = 128; });
	told(VX_DROP_session_rate, [](Config &config) { config.new_sessions_per_second = 128; });
}

TEST(Icmp, OurOwnErrorsComeFromTheGatewayOfTheVni)
{
	Scene scene = one_address();
	scene.config.gateways = {{200, address("10.0.0.2")}, {kVni, address("10.0.0.1")}};
	Nat nat(scene);
	nat.inside(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1}));
	EXPECT_EQ(text(source_of(nat.answers().at(0).packet)), "10.0.0.1");
}

TEST(Icmp, ASwitchASideSilencesOurAnswers)
{
	Scene scene = one_address();
	scene.config.icmp_inside = false;
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1})), VX_DROP_ttl_expired);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), mapped, 20, {.ttl = 1})).verdict.reason, VX_DROP_ttl_expired);
	EXPECT_TRUE(nat.answers().empty());
	scene.config.icmp_inside = scene.config.icmp_outside = true;
	Nat loud(scene);
	const Endpoint again = loud.open_udp(kA, kR1);
	loud.inside(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1}));
	loud.outside(udp(endpoint(kR1), again, 20, {.ttl = 1}));
	EXPECT_EQ(loud.answers().size(), 2u);
}

TEST(Icmp, AnExpiringTtlIsAnsweredForUdpTcpAndEchoWithoutASession)
{
	Nat nat(one_address());
	const Bytes probes[] = {udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1}),
				tcp(endpoint(kA), endpoint(kR1), kSyn, 0, {.ttl = 1}),
				echo_request(endpoint(kA), remote(kR1), 20, {.ttl = 1})};
	for (const Bytes &probe : probes) {
		EXPECT_EQ(nat.refusal(probe), VX_DROP_ttl_expired);
		const auto answers = nat.answers();
		ASSERT_EQ(answers.size(), 1u);
		EXPECT_EQ(answers[0].packet[20], 11);
		EXPECT_EQ(answers[0].packet[21], 0);
		EXPECT_EQ(quoted_by(answers[0].packet), probe);
	}
	EXPECT_EQ(nat.sessions(), 0u);
}

TEST(Icmp, ATtlOfTwoPassesBothWaysAndOneDoesNot)
{
	Nat nat(one_address());
	const Out out = nat.inside(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 2}));
	ASSERT_TRUE(out.sent(Side::outside));
	EXPECT_EQ(out.packet[8], 1);
	const Out back = nat.outside(udp(endpoint(kR1), from_of(out.packet), 20, {.ttl = 2}));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(back.packet[8], 1);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), from_of(out.packet), 20, {.ttl = 1})).verdict.reason,
		  VX_DROP_ttl_expired);
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 0})), VX_DROP_ttl_expired);
}

TEST(Icmp, TooBigAndNotToBeFragmentedIsAnsweredWithTheMtuOnBothSides)
{
	Scene scene = one_address();
	scene.config.mtu_outside = 1000;
	scene.config.mtu_inside = 900;
	Nat nat(scene);
	const Bytes big = udp(endpoint(kA), endpoint(kR1), 973);
	EXPECT_EQ(nat.refusal(big), VX_DROP_too_big);
	auto answers = nat.answers();
	ASSERT_EQ(answers.size(), 1u);
	EXPECT_EQ(word(answers[0].packet, 20), 3 << 8 | 4);
	EXPECT_EQ(word(answers[0].packet, 26), 1000);
	EXPECT_EQ(answers[0].packet.size(), 576u);
	EXPECT_TRUE(std::equal(big.begin(), big.begin() + 548, answers[0].packet.begin() + 28))
		<< "quotes the original";
	EXPECT_EQ(nat.sessions(), 0u);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.refusal(big), VX_DROP_too_big);
	nat.answers();
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), mapped, 873)).verdict.reason, VX_DROP_too_big);
	answers = nat.answers();
	ASSERT_EQ(answers.size(), 1u) << "also where icmpErrors.outside is off: else the path is a black hole";
	EXPECT_EQ(answers[0].to, Side::outside);
	EXPECT_EQ(word(answers[0].packet, 26), 900);
	EXPECT_EQ(source_of(answers[0].packet), mapped.address_be);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped, 872)).sent(Side::inside));
}

// Routers quote as much as they like.
TEST(Icmp, AnErrorThatIsTooLongForTheWayOutIsSentInPiecesOrNotAtAll)
{
	Scene scene = one_address();
	scene.config.mtu_inside = scene.config.mtu_outside = 500;
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	const Bytes sent = udp(mapped, endpoint(kR1), 400), came = udp(endpoint(kR1), endpoint(kA), 400);
	const Bytes extension(200);
	const auto in = [&](bool dont_fragment) {
		Bytes error = icmp_error(address("192.0.2.1"), mapped.address_be, 11, 0, sent, 576, extension);
		error[6] = dont_fragment ? 0x40 : 0;
		fix_checksums(error);
		return nat.outside(error).verdict;
	};
	const auto out = [&](bool dont_fragment) {
		Bytes error = icmp_error(address("10.0.0.1"), address("198.51.100.7"), 11, 0, came, 576, extension);
		error[6] = dont_fragment ? 0x40 : 0;
		fix_checksums(error);
		return nat.inside(error).verdict;
	};
	EXPECT_EQ(in(true).reason, VX_DROP_too_big);
	EXPECT_EQ(in(false).fragment_mtu, 500u);
	EXPECT_EQ(out(true).reason, VX_DROP_too_big);
	EXPECT_EQ(out(false).fragment_mtu, 500u);
	EXPECT_TRUE(nat.answers().empty()) << "about errors there are none";
}

TEST(Icmp, AChangedMtuHoldsFromTheNextPacketOnBothWays)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, kR1);
	const Bytes out = udp(endpoint(kA), endpoint(kR1), 1472), in = udp(endpoint(kR1), mapped, 1472);
	EXPECT_TRUE(nat.inside(out).sent(Side::outside));
	EXPECT_TRUE(nat.outside(in).sent(Side::inside));
	nat.engine().set_mtu(Side::outside, 1400);
	EXPECT_EQ(nat.refusal(out), VX_DROP_too_big);
	EXPECT_TRUE(nat.outside(in).sent(Side::inside)) << "that is the other side";
	nat.engine().set_mtu(Side::inside, 1450);
	EXPECT_EQ(nat.outside(in).verdict.reason, VX_DROP_too_big);
	const auto answers = nat.answers();
	ASSERT_EQ(answers.size(), 2u);
	EXPECT_EQ(word(answers[0].packet, 26), 1400);
	EXPECT_EQ(word(answers[1].packet, 26), 1450);
	EXPECT_EQ(nat.inside(udp(endpoint(kA), endpoint(kR1), 1472, {.dont_fragment = false})).verdict.fragment_mtu, 1400u);
	nat.engine().set_mtu(Side::outside, 9000);
	EXPECT_TRUE(nat.inside(out).sent(Side::outside));
	// What no link has cannot be asked of whoever splits packets.
	nat.engine().set_mtu(Side::outside, 0);
	EXPECT_EQ(nat.inside(udp(endpoint(kA), endpoint(kR1), 1472, {.dont_fragment = false})).verdict.fragment_mtu, 68u);
}

// The tunnel back is known by the cookie only: there may be no subscriber, and so nothing learned.
TEST(Icmp, AnAnswerNamesThePacketThatProvokedItWithASessionOrWithout)
{
	Scene scene = addresses(1);
	scene.pools.workers = 4;
	scene.config.exclude = {{address("192.0.2.0"), 24}};
	scene.config.blocks_per_subscriber = 0;
	Nat nat(scene);
	const auto answered = [&](const Bytes &packet, uint32_t worker) {
		const Out out = nat.inside(packet, kVni, worker);
		EXPECT_EQ(out.verdict.action, Action::drop);
		const auto answers = nat.answers();
		ASSERT_EQ(answers.size(), 1u);
		EXPECT_EQ(answers[0].to, Side::inside);
		EXPECT_EQ(answers[0].realm, kVni);
		EXPECT_EQ(answers[0].cookie, nat.last_cookie());
	};
	for (uint32_t worker = 0; worker < 4; worker++) {  // three of them hand it over
		answered(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1}), worker);
		answered(udp(endpoint(kA), endpoint(kR1), 1473), worker);
		answered(udp(endpoint(kA), endpoint(kR1)), worker);                    // no port
		answered(udp(endpoint(kA), endpoint("192.0.2.9:53"), 1473), worker);  // excluded, too big
		for (uint32_t i = 0; i < 4; i++)
			EXPECT_EQ(nat.engine(i).subscribers().count(), 0u);
	}
}

TEST(Icmp, TooBigAndToBeFragmentedIsForwardedWithTheSizeOfItsPieces)
{
	Scene scene = one_address();
	scene.config.mtu_outside = 1000;
	Nat nat(scene);
	const Out out = nat.inside(udp(endpoint(kA), endpoint(kR1), 1200, {.dont_fragment = false}));
	ASSERT_TRUE(out.sent(Side::outside));
	EXPECT_EQ(out.verdict.fragment_mtu, 1000u);
	EXPECT_EQ(nat.inside(udp(endpoint(kA), endpoint(kR1), 100)).verdict.fragment_mtu, 0u);
}

TEST(Icmp, OurAnswersAreLimitedByTimeForOneSubscriberWithoutHarmToAnother)
{
	Nat nat(one_address());
	for (int i = 0; i < 500; i++)
		nat.inside(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1}));
	EXPECT_LE(nat.answers().size(), 256u);
	nat.open_udp(kA, kR1);
	nat.open_udp(kB, kR1);
	nat.advance(2);
	for (int i = 0; i < 200; i++)
		nat.inside(udp(endpoint(kA), endpoint(kR1), 20, {.ttl = 1}));
	EXPECT_EQ(nat.answers().size(), 50u);
	nat.inside(udp(endpoint(kB), endpoint(kR1), 20, {.ttl = 1}));
	EXPECT_EQ(nat.answers().size(), 1u);
}

// Each of them is new and has done nothing yet, so no limit of its own holds it back.
TEST(Icmp, AFloodFromMadeUpSourcesLeavesSubscribersTheirPathMtu)
{
	Scene scene = one_address();
	scene.config.mtu_outside = 1000;
	scene.pools.pools[0].last_port = 1024 + 128 - 1;  // one block
	Nat nat(scene);
	nat.open_udp(kA, kR1);
	for (const uint8_t ttl : {uint8_t{1}, uint8_t{64}}) {  // expires here; finds no block
		for (uint32_t i = 0; i < 3000; i++) {
			nat.inside(udp({htonl(0x0a010000 + i), 5000}, endpoint(kR1), 20, {.ttl = ttl}));
			nat.answers();
		}
		EXPECT_EQ(nat.refusal(udp(endpoint(kA), endpoint(kR1), 1200)), VX_DROP_too_big);
		EXPECT_EQ(nat.answers().size(), 1u);
		nat.advance(2);
	}
}

TEST(Icmp, NothingAnswersAnErrorALaterFragmentOrAnAddressThatIsNoHosts)
{
	Nat nat(one_address());
	const Bytes about = udp(endpoint(kR1), endpoint(kA));
	Bytes error = icmp_error(address("10.0.0.5"), remote(kR1), 3, 3, about);
	error[8] = 1;
	fix_checksums(error);
	nat.inside(error);
	nat.inside(udp(endpoint("255.255.255.255:5"), endpoint(kR1), 20, {.ttl = 1}));
	nat.inside(udp(endpoint("224.0.0.5:5"), endpoint(kR1), 20, {.ttl = 1}));
	// RFC 1812 section 4.3.2.7: many may have got it. Windows hosts ask 224.0.0.252 for names with a TTL of 1.
	for (const char *everybody : {"224.0.0.252:5355", "239.255.255.250:1900", "255.255.255.255:67"}) {
		nat.inside(udp(endpoint(kA), endpoint(everybody), 20, {.ttl = 1}));
		nat.inside(udp(endpoint(kA), endpoint(everybody), 1473));
	}
	auto pieces = in_pieces(udp(endpoint(kA), endpoint(kR1), 64, {.ttl = 1, .dont_fragment = false}), 32);
	nat.all_from_inside(pieces[1]);
	EXPECT_TRUE(nat.answers().empty());
}

}  // namespace
}  // namespace vx::nat::test
