// RFC 5382 and RFC 7857: TCP states, timers, simultaneous open, resets. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kR1 = "198.51.100.7:80";
const char *const kR2 = "192.0.2.9:443";

constexpr uint8_t kSynAck = kSyn | kAck;
constexpr uint8_t kFinAck = kFin | kAck;
constexpr uint8_t kRstAck = kRst | kAck;

// One connection from A to R1, and whether it is still there.
class Connection {
public:
	explicit Connection(Scene scene = one_address()) : nat(std::move(scene)) {}

	bool out(uint8_t flags)
	{
		const Out sent = nat.inside(tcp(endpoint(kA), endpoint(kR1), flags));
		if (sent.sent(Side::outside))
			mapped = from_of(sent.packet);
		return sent.sent(Side::outside);
	}
	bool in(uint8_t flags) { return nat.outside(tcp(endpoint(kR1), mapped, flags)).sent(Side::inside); }
	void establish()
	{
		ASSERT_TRUE(out(kSyn));
		ASSERT_TRUE(in(kSynAck));
		ASSERT_TRUE(out(kAck));
	}
	bool lives() { return nat.sessions() == 1; }

	Nat nat;
	Endpoint mapped;
};

TEST(Tcp, OneInsideEndpointKeepsItsPublicOneTowardsEveryRemote)
{
	Nat nat(addresses(4));
	EXPECT_EQ(nat.open_tcp(kA, kR1), nat.open_tcp(kA, kR2));
}

TEST(Tcp, NoPortIsSharedByTwoInsideEndpoints)
{
	Nat nat(one_address());
	EXPECT_NE(nat.open_tcp(kA, kR1), nat.open_tcp("10.0.0.6:5000", kR2));
}

TEST(Tcp, CrossedSynsEstablishAConnection)
{
	Connection tcp;
	ASSERT_TRUE(tcp.out(kSyn));
	EXPECT_TRUE(tcp.in(kSyn));
	EXPECT_TRUE(tcp.out(kSynAck));
	EXPECT_TRUE(tcp.in(kAck));
	tcp.nat.advance(7000);
	EXPECT_TRUE(tcp.in(kAck));
}

TEST(Tcp, FilteringAdmitsStrangersSynsAsConfigured)
{
	for (const auto &[kind, same_address, other_address] :
	     {std::tuple{Filtering::endpoint_independent, true, true},
	      std::tuple{Filtering::address_dependent, true, false},
	      std::tuple{Filtering::address_and_port_dependent, false, false}}) {
		Scene scene = one_address();
		scene.config.filtering = kind;
		Nat nat(scene);
		const Endpoint mapped = nat.open_tcp(kA, kR1);
		EXPECT_EQ(nat.outside(tcp(endpoint("198.51.100.7:9"), mapped, kSyn)).sent(Side::inside), same_address);
		EXPECT_EQ(nat.outside(tcp(endpoint(kR2), mapped, kSyn)).sent(Side::inside), other_address);
	}
}

TEST(Tcp, AStrangersSegmentThatIsNoSynOpensNothing)
{
	Scene scene = one_address();
	scene.config.filtering = Filtering::endpoint_independent;
	Nat nat(scene);
	const Endpoint mapped = nat.open_tcp(kA, kR1);
	for (const uint8_t flags : {kAck, kSynAck, kRst, kFinAck, uint8_t{0}})
		EXPECT_EQ(nat.outside(tcp(endpoint(kR2), mapped, flags)).verdict.reason, VX_DROP_no_session);
	EXPECT_EQ(nat.sessions(), 1u);
}

TEST(Tcp, AnUnsolicitedSynIsAnsweredAfterSixSecondsAndNotBefore)
{
	Scene scene = one_address();
	scene.config.icmp_outside = true;
	Nat nat(scene);
	const Bytes syn = tcp(endpoint(kR1), endpoint("203.0.113.1:2000"), kSyn);
	EXPECT_EQ(nat.outside(syn).verdict.reason, VX_DROP_no_session);
	nat.advance(5.9);
	EXPECT_TRUE(nat.answers().empty());
	nat.advance(1);
	const auto answers = nat.answers();
	ASSERT_EQ(answers.size(), 1u);
	EXPECT_EQ(answers[0].to, Side::outside);
	EXPECT_EQ(answers[0].packet[20], 3);
	EXPECT_EQ(answers[0].packet[21], 3);
	EXPECT_EQ(text(source_of(answers[0].packet)), "203.0.113.1");
	EXPECT_EQ(text(destination_of(answers[0].packet)), "198.51.100.7");
	EXPECT_EQ(quoted_by(answers[0].packet), Bytes(syn.begin(), syn.begin() + 28));
}

TEST(Tcp, AnUnsolicitedSynIsNeverAnsweredWhenTheInsideHostCallsMeanwhile)
{
	Scene scene = one_address();
	scene.config.icmp_outside = true;
	Nat nat(scene);
	const Endpoint mapped = nat.open_tcp(kA, kR2);
	EXPECT_EQ(nat.outside(tcp(endpoint(kR1), mapped, kSyn)).verdict.reason, VX_DROP_filtered);
	nat.advance(3);
	EXPECT_EQ(nat.open_tcp(kA, kR1), mapped);
	nat.advance(10);
	EXPECT_TRUE(nat.answers().empty());
}

TEST(Tcp, AnUnsolicitedSynIsNeverAnsweredByDefault)
{
	Nat nat(one_address());
	nat.outside(tcp(endpoint(kR1), endpoint("203.0.113.1:2000"), kSyn));
	nat.advance(10);
	EXPECT_TRUE(nat.answers().empty());
}

TEST(Tcp, AnEstablishedConnectionLivesAt7439SecondsAndEndsAfterItsTimeout)
{
	Connection tcp;
	tcp.establish();
	tcp.nat.advance(7439);
	EXPECT_TRUE(tcp.in(kAck));
	tcp.nat.advance(3);
	EXPECT_FALSE(tcp.lives());
	EXPECT_FALSE(tcp.in(kAck));
}

TEST(Tcp, AHalfOpenConnectionLivesAt239SecondsAndEndsAfterItsTimeout)
{
	Connection tcp;
	ASSERT_TRUE(tcp.out(kSyn));
	tcp.nat.advance(239);
	EXPECT_TRUE(tcp.lives());
	tcp.nat.advance(3);
	EXPECT_FALSE(tcp.lives());
}

TEST(Tcp, OpeningAndClosingHaveTimersOfTheirOwn)
{
	Scene scene = one_address();
	scene.config.timeouts.tcp_opening = 30;
	scene.config.timeouts.tcp_closing = 60;
	Connection opening(scene), closing(scene);
	opening.out(kSyn);
	closing.establish();
	closing.out(kFinAck);
	closing.in(kFinAck);
	opening.nat.advance(32);
	closing.nat.advance(59);
	EXPECT_FALSE(opening.lives());
	EXPECT_TRUE(closing.lives());
	closing.nat.advance(3);
	EXPECT_FALSE(closing.lives());
}

TEST(Tcp, AHairpinnedConnectionEstablishes)
{
	Scene scene = one_address();
	scene.config.filtering = Filtering::endpoint_independent;
	Nat nat(scene);
	const Endpoint b = nat.open_tcp("10.0.0.6:6000", kR1);
	const Out syn = nat.inside(tcp(endpoint(kA), b, kSyn));
	ASSERT_TRUE(syn.sent(Side::inside));
	EXPECT_EQ(text(to_of(syn.packet)), "10.0.0.6:6000");
	const Endpoint a = from_of(syn.packet);
	const Out answer = nat.inside(tcp(endpoint("10.0.0.6:6000"), a, kSynAck));
	ASSERT_TRUE(answer.sent(Side::inside));
	EXPECT_EQ(from_of(answer.packet), b);
	EXPECT_EQ(text(to_of(answer.packet)), kA);
	EXPECT_TRUE(nat.inside(tcp(endpoint(kA), b, kAck)).sent(Side::inside));
}

TEST(Tcp, AnIcmpErrorDoesNotEndAConnection)
{
	Connection tcp;
	tcp.establish();
	const Bytes sent = nat::test::tcp(tcp.mapped, endpoint(kR1), kAck, 10);
	for (const uint8_t code : std::initializer_list<uint8_t>{0, 1, 2, 3})
		EXPECT_TRUE(tcp.nat.outside(icmp_error(address("192.0.2.1"), tcp.mapped.address_be, 3, code, sent, 28))
				    .sent(Side::inside));
	tcp.nat.advance(7000);
	EXPECT_TRUE(tcp.in(kAck));
}

TEST(Tcp, AResetIsTranslatedAndItsStateKeptFourMinutes)
{
	for (const bool from_inside : {true, false}) {
		Connection tcp;
		tcp.establish();
		tcp.nat.advance(1000);
		EXPECT_TRUE(from_inside ? tcp.out(kRstAck) : tcp.in(kRstAck));
		tcp.nat.advance(238);
		EXPECT_TRUE(tcp.lives());
		tcp.nat.advance(4);
		EXPECT_FALSE(tcp.lives());
	}
}

TEST(Tcp, AResetThatWasNotBelievedGivesTheLongTimerBack)
{
	Connection tcp;
	tcp.establish();
	EXPECT_TRUE(tcp.in(kRst));
	tcp.nat.advance(100);
	EXPECT_TRUE(tcp.out(kAck));
	tcp.nat.advance(7000);
	EXPECT_TRUE(tcp.in(kAck));
}

TEST(Tcp, AResetFromInsideThatAnswersAStrangerRefreshesNothing)
{
	Connection tcp;
	tcp.establish();
	tcp.nat.advance(7300);  // 140 s are left
	EXPECT_TRUE(tcp.in(kAck));
	EXPECT_TRUE(tcp.out(kRst));
	tcp.nat.advance(138);
	EXPECT_TRUE(tcp.lives());
	tcp.nat.advance(5);
	EXPECT_FALSE(tcp.lives());
}

TEST(Tcp, ClosedFromEitherSideOrAtOnceItEndsAfterTheShortTimer)
{
	for (int order = 0; order < 3; order++) {
		Connection tcp;
		tcp.establish();
		if (order == 0) {
			tcp.out(kFinAck), tcp.in(kAck), tcp.in(kFinAck), tcp.out(kAck);
		} else if (order == 1) {
			tcp.in(kFinAck), tcp.out(kAck), tcp.out(kFinAck), tcp.in(kAck);
		} else {
			tcp.out(kFinAck), tcp.in(kFinAck), tcp.out(kAck), tcp.in(kAck);
		}
		tcp.nat.advance(238);
		EXPECT_TRUE(tcp.lives()) << order;
		tcp.nat.advance(4);
		EXPECT_FALSE(tcp.lives()) << order;
	}
}

TEST(Tcp, AHalfClosedConnectionKeepsTheLongTimer)
{
	Connection tcp;
	tcp.establish();
	tcp.out(kFinAck);
	tcp.nat.advance(7000);
	EXPECT_TRUE(tcp.in(kAck));
}

TEST(Tcp, AClosedConnectionReopensOnTheSamePortWithANewHandshake)
{
	Connection tcp;
	tcp.establish();
	const Endpoint first = tcp.mapped;
	tcp.out(kFinAck), tcp.in(kFinAck), tcp.out(kAck);
	tcp.nat.advance(100);
	EXPECT_TRUE(tcp.out(kSyn));
	EXPECT_EQ(tcp.mapped, first);
	tcp.nat.advance(200);
	EXPECT_TRUE(tcp.lives()) << "half reopened, it has the opening timer";
	EXPECT_TRUE(tcp.in(kSynAck));
	EXPECT_TRUE(tcp.out(kAck));
	tcp.nat.advance(7000);
	EXPECT_TRUE(tcp.in(kAck));
}

TEST(Tcp, AHalfReopenedConnectionEndsAfterTheOpeningTimer)
{
	Connection tcp;
	tcp.establish();
	tcp.out(kFinAck), tcp.in(kFinAck);
	tcp.out(kSyn);
	tcp.nat.advance(243);
	EXPECT_FALSE(tcp.lives());
}

TEST(Tcp, ARepeatedSynChangesNothing)
{
	Connection tcp;
	ASSERT_TRUE(tcp.out(kSyn));
	const Endpoint first = tcp.mapped;
	ASSERT_TRUE(tcp.out(kSyn));
	EXPECT_EQ(tcp.mapped, first);
	EXPECT_EQ(tcp.nat.sessions(), 1u);
	ASSERT_TRUE(tcp.in(kSynAck));
	ASSERT_TRUE(tcp.out(kAck));
	ASSERT_TRUE(tcp.out(kSyn));
	tcp.nat.advance(7000);
	EXPECT_TRUE(tcp.in(kAck)) << "an established connection must not fall back to opening";
}

TEST(Tcp, TheMiddleOfAConnectionOpensATransitorySessionThatAnAnswerMakesLasting)
{
	Connection silent, answered;
	EXPECT_TRUE(silent.out(kAck));
	EXPECT_TRUE(answered.out(kAck));
	EXPECT_TRUE(answered.in(kAck));
	silent.nat.advance(242);
	answered.nat.advance(7000);
	EXPECT_FALSE(silent.lives());
	EXPECT_TRUE(answered.in(kAck));
}

TEST(Tcp, TheMiddleOfAConnectionIsDroppedWhereConfigured)
{
	Scene scene = one_address();
	scene.config.midstream = Midstream::drop;
	Nat nat(scene);
	EXPECT_EQ(nat.refusal(tcp(endpoint(kA), endpoint(kR1), kAck)), VX_DROP_no_session);
	EXPECT_EQ(nat.refusal(tcp(endpoint(kA), endpoint(kR1), kSyn)), -1);
	EXPECT_EQ(nat.refusal(tcp(endpoint(kA), endpoint(kR1), kAck)), -1);
}

TEST(Tcp, AWorkerThatStoodStillEndsWhatIsDueAndNothingElse)
{
	// Around one turn of the timer wheel, where what is armed anew could fall behind its hand.
	for (int tenths = 2400; tenths < 2900; tenths++) {
		Connection lasting, opening;
		lasting.establish();
		opening.out(kSyn);
		lasting.nat.stall(tenths / 10.0);
		opening.nat.stall(tenths / 10.0);
		EXPECT_TRUE(lasting.lives());
		EXPECT_EQ(opening.lives(), tenths <= 2402) << tenths;
		lasting.nat.advance(1);
	}
}

TEST(Tcp, PayloadOfAControlConnectionIsUntouched)
{
	Connection tcp;
	tcp.establish();
	const Bytes packet = nat::test::tcp(endpoint(kA), endpoint("198.51.100.7:21"), kAck, 200);
	EXPECT_EQ(payload_of(tcp.nat.inside(packet).packet), payload_of(packet)) << "there are no ALGs";
}

Bytes mss(uint16_t value, size_t padding = 0)
{
	Bytes options(padding, 1);
	options.insert(options.end(), {2, 4, static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)});
	options.resize((options.size() + 3) / 4 * 4, 0);
	return options;
}

TEST(Tcp, TheMssOfASynIsLoweredBothWaysAndNeverRaised)
{
	Scene scene = one_address();
	scene.config.mss_clamp = 1310;
	Nat nat(scene);
	const auto mss_at = [](const Bytes &packet, size_t padding) { return word(packet, 42 + padding); };
	for (const size_t padding : {0, 1, 2, 3}) {
		Out out = nat.inside(tcp(endpoint(kA), endpoint(kR1), kSyn, 0, {}, mss(1460, padding)));
		EXPECT_EQ(mss_at(out.packet, padding), 1310) << padding;
		out = nat.outside(tcp(endpoint(kR1), from_of(out.packet), kSynAck, 0, {}, mss(1460, padding)));
		EXPECT_EQ(mss_at(out.packet, padding), 1310) << padding;
		out = nat.inside(tcp(endpoint(kA), endpoint(kR1), kSyn, 0, {}, mss(536, padding)));
		EXPECT_EQ(mss_at(out.packet, padding), 536);
		out = nat.inside(tcp(endpoint(kA), endpoint(kR1), kAck, 0, {}, mss(1460, padding)));
		EXPECT_EQ(mss_at(out.packet, padding), 1460) << "not a SYN";
	}
}

TEST(Tcp, TheMssThatFitsIsThatOfTheInsideMtuAsItIsByNow)
{
	Scene scene = one_address();
	scene.config.mtu_inside = 1450;
	scene.config.mss_clamp = kMssThatFits;
	Nat nat(scene);
	const auto sent = [&] {
		return word(nat.inside(tcp(endpoint(kA), endpoint(kR1), kSyn, 0, {}, mss(1460, 0))).packet, 42);
	};
	EXPECT_EQ(sent(), 1410);
	nat.engine().set_mtu(Side::inside, 1300);
	EXPECT_EQ(sent(), 1260);
	nat.engine().set_mtu(Side::inside, 68);
	EXPECT_EQ(sent(), 88);
}

TEST(Tcp, OptionsThatContradictThemselvesAreLeftAlone)
{
	Scene scene = one_address();
	scene.config.mss_clamp = 1310;
	Nat nat(scene);
	for (const Bytes &options : {Bytes{2, 0, 5, 180}, Bytes{2, 1, 5, 180}, Bytes{2, 40, 5, 180}, Bytes{1, 1, 1, 2},
				     Bytes{0, 0, 0, 0}, Bytes{2, 3, 5, 180}, Bytes{8, 255, 2, 4}})
		EXPECT_EQ(nat.refusal(tcp(endpoint(kA), endpoint(kR1), kSyn, 0, {}, options)), -1);
}

}  // namespace
}  // namespace vx::nat::test
