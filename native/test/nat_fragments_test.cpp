// Fragments in any order, both ways, hairpinned and over several workers; floods of incomplete ones; identifications.
// Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";

Scene scene_with(uint32_t workers)
{
	Scene scene = one_address();
	scene.pools.workers = workers;
	scene.config.filtering = Filtering::endpoint_independent;
	return scene;
}

std::vector<Bytes> packets(const std::vector<Out> &outs, Side side)
{
	std::vector<Bytes> all;
	for (const Out &out : outs) {
		EXPECT_TRUE(out.sent(side)) << "reason " << int{out.verdict.reason};
		if (out.sent(side))
			all.push_back(out.packet);
	}
	return all;
}

// Sends the pieces in this order, each to another worker, and puts together what comes out.
Bytes through(Nat &nat, const std::vector<Bytes> &pieces, bool from_inside, Side to, uint32_t first_worker)
{
	std::vector<Bytes> arrived;
	for (uint32_t i = 0; i < pieces.size(); i++) {
		const uint32_t worker = (first_worker + i) % nat.workers();
		const auto outs = from_inside ? nat.all_from_inside(pieces[i], kVni, worker)
					      : nat.all_from_outside(pieces[i], worker);
		for (const Bytes &packet : packets(outs, to))
			arrived.push_back(packet);
	}
	EXPECT_EQ(arrived.size(), pieces.size());
	Bytes whole = put_together(arrived);
	if (!whole.empty()) {
		EXPECT_EQ(wrong_with(whole), "");
	}
	return whole;
}

TEST(Fragments, AnyOrderArrivesWholeBothWaysAndHairpinnedWhicheverWorkerSeesWhichPiece)
{
	for (const uint32_t workers : {1, 2, 4}) {
		Nat nat(scene_with(workers));
		const Endpoint b = nat.open_udp(kB, kR1);
		uint16_t id = 1;
		for (uint32_t first = 0; first < workers; first++) {
			std::vector<int> order{0, 1, 2, 3};
			do {
				const auto ordered = [&](const std::vector<Bytes> &pieces) {
					std::vector<Bytes> in_order;
					for (const int i : order)
						in_order.push_back(pieces[static_cast<size_t>(i)]);
					return in_order;
				};
				const Ip ip{.dont_fragment = false, .id = id++};
				const Bytes out = udp(endpoint(kA), endpoint(kR1), 100, ip);
				const Bytes sent =
					through(nat, ordered(in_pieces(out, 32)), true, Side::outside, first);
				ASSERT_FALSE(sent.empty());
				EXPECT_EQ(payload_of(sent), payload_of(out));
				const Bytes in = udp(endpoint(kR1), from_of(sent), 100, ip);
				const Bytes received =
					through(nat, ordered(in_pieces(in, 32)), false, Side::inside, first);
				ASSERT_FALSE(received.empty());
				EXPECT_EQ(text(to_of(received)), kA);
				EXPECT_EQ(payload_of(received), payload_of(in));
				const Bytes over = udp(endpoint(kA), b, 100, {.dont_fragment = false, .id = id++});
				const Bytes turned =
					through(nat, ordered(in_pieces(over, 32)), true, Side::inside, first);
				ASSERT_FALSE(turned.empty());
				EXPECT_EQ(text(to_of(turned)), kB);
				EXPECT_EQ(from_of(turned), from_of(sent));
			} while (std::next_permutation(order.begin(), order.end()));
		}
		EXPECT_EQ(nat.held(), 0u);
	}
}

TEST(Fragments, TcpAndEchoInPiecesArriveWhole)
{
	Nat nat(scene_with(1));
	const Ip ip{.dont_fragment = false};
	const Bytes segment = tcp(endpoint(kA), endpoint(kR1), kAck, 90, ip);
	EXPECT_EQ(payload_of(through(nat, in_pieces(segment, 40), true, Side::outside, 0)), payload_of(segment));
	const Bytes ping = echo_request(endpoint(kA), address("198.51.100.7"), 90, ip);
	EXPECT_EQ(payload_of(through(nat, in_pieces(ping, 40), true, Side::outside, 0)), payload_of(ping));
}

TEST(Fragments, AFirstPieceTooShortForItsHeaderIsDroppedAndSoIsTheRest)
{
	Nat nat(scene_with(1));
	const auto pieces = in_pieces(tcp(endpoint(kA), endpoint(kR1), kSyn, 40, {.dont_fragment = false}), 16);
	EXPECT_EQ(nat.inside(pieces[0]).verdict.reason, VX_DROP_malformed_inner);
	EXPECT_EQ(nat.sessions(), 0u);
	EXPECT_EQ(nat.inside(pieces[1]).verdict.reason, VX_DROP_malformed_inner) << "it is the rest of the header";
	EXPECT_TRUE(nat.all_from_inside(pieces[2]).empty());
	nat.advance(30);
	EXPECT_EQ(nat.held(), 0u) << "nobody vouched for it";
}

TEST(Fragments, APieceThatLiesOverTheHeaderTheFirstWasJudgedByIsMalformed)
{
	Nat nat(scene_with(1));
	const auto pieces = in_pieces(tcp(endpoint(kA), endpoint(kR1), kSyn, 64, {.dont_fragment = false}), 24);
	ASSERT_TRUE(nat.inside(pieces[0]).sent(Side::outside));
	for (const uint8_t offset : {uint8_t{1}, uint8_t{2}}) {
		Bytes over = pieces[1];
		over[7] = offset;
		fix_checksums(over);
		EXPECT_EQ(nat.inside(over).verdict.reason, VX_DROP_malformed_inner);
	}
	EXPECT_TRUE(nat.inside(pieces[1]).sent(Side::outside));
}

// What is remembered of a datagram outlives who it was for when timeouts are short, and his record may be another's.
TEST(Fragments, ALatePieceForAHostThatIsGoneReachesNobodyElse)
{
	Scene scene = scene_with(1);
	scene.config.timeouts.udp = scene.config.timeouts.port_hold = 1;
	Nat nat(scene);
	const Ip cut{.dont_fragment = false, .id = 77};
	const Endpoint mapped = nat.open_udp(kA, kR1);
	const auto in = in_pieces(udp(endpoint(kR1), mapped, 100, cut), 64);
	const auto out = in_pieces(udp(endpoint(kA), endpoint(kR1), 100, cut), 64);
	ASSERT_TRUE(nat.outside(in[0]).sent(Side::inside));
	ASSERT_TRUE(nat.inside(out[0]).sent(Side::outside));
	nat.advance(5);
	ASSERT_EQ(nat.sessions(), 0u);
	EXPECT_EQ(nat.outside(in[1]).verdict.reason, VX_DROP_no_session) << "nobody has the record";
	nat.open_udp("10.9.9.9:5000", kR1, 200);
	EXPECT_EQ(nat.engine().subscribers().find(200, address("10.9.9.9")), 0u) << "he has it";
	EXPECT_EQ(nat.outside(in[1]).verdict.reason, VX_DROP_no_session);
	const Out late = nat.inside(out[1]);
	EXPECT_EQ(late.verdict.reason, VX_DROP_no_session);
	EXPECT_EQ(late.sender_be, 0u) << "his tunnel is not where this came from";
}

// Within one batch nothing is taken back yet.
TEST(Fragments, AFullTableCostsTheOldestDatagramAndNotEveryone)
{
	Scene scene = scene_with(1);
	scene.config.fragments_waiting = 20;
	Nat nat(scene);
	const auto later = [](uint32_t host, uint16_t id = 1) {
		return in_pieces(udp({htonl(0x0a800000 + host), 1}, endpoint(kR1), 100,
				     {.dont_fragment = false, .id = id}),
				 32);
	};
	Engine &engine = nat.engine();
	std::vector<std::vector<Bytes>> kept;
	uint64_t cookie = 0;
	const auto send = [&](Bytes bytes) {
		Packet packet{.ip = bytes.data(),
			      .length = static_cast<uint32_t>(bytes.size()),
			      .realm = kVni,
			      .from = Side::inside,
			      .cookie = ++cookie};
		return engine.process(packet, nat.now_ns()).action;
	};
	for (uint32_t host = 0; host < 10; host++)
		for (const uint32_t piece : {1, 2})
			ASSERT_EQ(send(later(host)[piece]), Action::hold);
	for (uint16_t id = 0; id < 20; id++)  // a batch of them
		EXPECT_EQ(send(later(10, id)[1]), Action::drop);
	uint32_t lost = 0;
	for (KeptFragment fragment; engine.take_fragment(fragment); lost++)
		EXPECT_FALSE(fragment.again);
	EXPECT_EQ(lost, 2u) << "the oldest's";
	EXPECT_EQ(send(later(40)[1]), Action::hold) << "there is room again";
	ASSERT_EQ(send(later(9)[0]), Action::forward);
	uint32_t again = 0;
	for (KeptFragment fragment; engine.take_fragment(fragment); again++)
		EXPECT_TRUE(fragment.again);
	EXPECT_EQ(again, 2u);
	EXPECT_EQ(send(later(10)[1]), Action::hold) << "one that was refused leaves nothing behind";
	while (!engine.tick(nat.now_ns() + 60000000000, 1000)) {
	}
	for (KeptFragment fragment; engine.take_fragment(fragment);) {
	}
	EXPECT_EQ(engine.fragments().kept(), 0u);
}

TEST(Fragments, TheRestOfARefusedDatagramHasItsReason)
{
	Scene scene = scene_with(1);
	scene.config.sessions_per_subscriber = 1;
	Nat nat(scene);
	nat.open_udp(kA, kR1);
	const auto pieces = in_pieces(udp(endpoint(kA), endpoint("192.0.2.9:9"), 100, {.dont_fragment = false}), 32);
	EXPECT_TRUE(nat.all_from_inside(pieces[1]).empty()) << "held";
	auto outs = nat.all_from_inside(pieces[0]);
	ASSERT_EQ(outs.size(), 2u);
	for (const Out &out : outs)
		EXPECT_EQ(out.verdict.reason, VX_DROP_subscriber_limit);
	EXPECT_EQ(nat.inside(pieces[2]).verdict.reason, VX_DROP_subscriber_limit);
}

TEST(Fragments, LaterPiecesOfAStrangersDatagramAreDroppedLikeTheFirst)
{
	Nat nat(one_address());
	nat.open_udp(kA, kR1);
	const Bytes whole = udp(endpoint("192.0.2.9:9"), endpoint("203.0.113.1:1024"), 100, {.dont_fragment = false});
	const auto pieces = in_pieces(whole, 32);
	const auto reason = nat.outside(pieces[0]).verdict.reason;
	EXPECT_TRUE(reason == VX_DROP_no_session || reason == VX_DROP_filtered);
	EXPECT_EQ(nat.outside(pieces[1]).verdict.reason, reason);
}

TEST(Fragments, OneThatWaitsInVainIsDroppedAfterItsTime)
{
	Nat nat(scene_with(1));
	const auto pieces = in_pieces(udp(endpoint(kA), endpoint(kR1), 100, {.dont_fragment = false}), 32);
	EXPECT_TRUE(nat.all_from_inside(pieces[1]).empty());
	EXPECT_EQ(nat.held(), 1u);
	nat.advance(27);
	EXPECT_EQ(nat.held(), 1u);
	nat.advance(2);
	EXPECT_EQ(nat.held(), 0u);
}

TEST(Fragments, AMillionIncompleteDatagramsCostOthersNothing)
{
	for (const bool inside : {true, false}) {
		Nat nat(scene_with(1));
		const Endpoint mapped = nat.open_udp(kA, kR1);
		const auto one = [&](const Endpoint &from, const Endpoint &to, uint16_t id) {
			return in_pieces(udp(from, to, 100, {.dont_fragment = false, .id = id}), 32);
		};
		const Endpoint evil = inside ? endpoint("10.0.0.66:1") : endpoint("192.0.2.66:1");
		const auto mine = inside ? one(endpoint(kA), endpoint(kR1), 7) : one(endpoint(kR1), mapped, 7);
		const auto send = [&](const Bytes &piece) {
			return inside ? nat.all_from_inside(piece) : nat.all_from_outside(piece);
		};
		EXPECT_TRUE(send(mine[2]).empty());  // waits throughout
		std::vector<Bytes> pieces;
		for (uint32_t id = 0; id < 65536; id++)
			pieces.push_back(one(evil, inside ? endpoint(kR1) : mapped, static_cast<uint16_t>(id))[1]);
		for (uint32_t i = 0; i < 1000000; i++)
			send(pieces[i % pieces.size()]);
		EXPECT_LE(nat.held(), 8 * 16 + 1u)
			<< "eight datagrams of his, of which the identifications came sixteen times, and mine";
		EXPECT_EQ(send(mine[0]).size(), 2u) << "what waited is delivered with the first";
		EXPECT_EQ(send(mine[1]).size(), 1u);
		EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	}
}

TEST(Fragments, IncompleteDatagramsOfManySourcesStayWithinTheirBounds)
{
	Nat nat(scene_with(1));
	for (uint32_t i = 0; i < 20000; i++)
		nat.all_from_inside(in_pieces(
			udp({htonl(0x0a800000 + i), 1}, endpoint(kR1), 100, {.dont_fragment = false}), 32)[1]);
	EXPECT_LE(nat.held(), 64u);
	nat.advance(30);
	EXPECT_EQ(nat.held(), 0u);
}

TEST(Fragments, PiecesWithoutEndOfOneDatagramStayWithinItsBound)
{
	Nat nat(scene_with(1));
	Bytes piece = in_pieces(udp(endpoint(kA), endpoint(kR1), 100, {.dont_fragment = false}), 32)[1];
	for (int i = 0; i < 1000; i++)
		nat.all_from_inside(piece);
	EXPECT_LE(nat.held(), 64u);
}

TEST(Fragments, EqualIdentificationsOfTwoHostsLeaveAsTwo)
{
	for (const uint32_t workers : {1, 2, 8}) {
		Nat nat(scene_with(workers));
		std::set<uint16_t> ids;
		for (uint32_t host = 1; host <= 200; host++) {
			const Bytes packet = udp({htonl(0x0a000000 + host), 5000}, endpoint(kR1), 20,
						 {.dont_fragment = false, .id = 7});
			ids.insert(word(nat.inside(packet).packet, 4));
		}
		EXPECT_EQ(ids.size(), 200u) << workers << " workers";
	}
}

TEST(Fragments, IdentificationsBeginWhereNobodyCanGuessAndRepeatOnlyAfterAllWereUsed)
{
	const auto first_to = [](uint64_t key, const char *remote) {
		Scene scene = scene_with(1);
		scene.config.key.words[1] = key;
		Nat nat(scene);
		return word(nat.inside(udp(endpoint(kA), endpoint(remote), 20, {.dont_fragment = false})).packet, 4);
	};
	std::set<uint16_t> begins;
	for (uint64_t key = 1; key <= 20; key++)
		begins.insert(first_to(key, kR1));
	for (const char *remote : {"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53", "192.0.2.4:53"})
		begins.insert(first_to(1, remote));
	EXPECT_GT(begins.size(), 20u);

	for (const uint32_t workers : {1, 3, 254}) {
		Region memory(8192);
		Arena arena(memory.bytes());
		DatagramIds ids(arena, workers - 1, workers, Key{{1, 2}});
		std::set<uint16_t> used;
		for (uint32_t i = 0; i < 65536 / workers; i++) {
			const uint16_t id = ids.next(1, 2, IPPROTO_UDP);
			EXPECT_EQ(id % workers, workers - 1);
			EXPECT_TRUE(used.insert(id).second);
		}
	}
}

TEST(Fragments, AnAtomicDatagramKeepsItsIdentification)
{
	Nat nat(scene_with(1));
	EXPECT_EQ(word(nat.inside(udp(endpoint(kA), endpoint(kR1), 20, {.id = 0x4711})).packet, 4), 0x4711);
}

TEST(Fragments, OneThatReachesBeyond65535IsMalformed)
{
	Nat nat(scene_with(1));
	Bytes piece = in_pieces(udp(endpoint(kA), endpoint(kR1), 100, {.dont_fragment = false}), 32)[1];
	piece[6] = 0x1f, piece[7] = 0xff;
	EXPECT_EQ(nat.inside(piece).verdict.reason, VX_DROP_malformed_inner);
}

TEST(Fragments, ALaterPieceIsMeasuredAgainstTheMtuByItself)
{
	Scene scene = scene_with(1);
	scene.config.mtu_outside = 200;
	Nat nat(scene);
	const auto pieces = in_pieces(udp(endpoint(kA), endpoint(kR1), 600, {.dont_fragment = false}), 160);
	EXPECT_EQ(nat.inside(pieces[0]).verdict.fragment_mtu, 0u);
	EXPECT_EQ(nat.inside(in_pieces(udp(endpoint(kA), endpoint(kR1), 600, {.dont_fragment = false}), 304)[1])
			  .verdict.fragment_mtu,
		  200u);
}

}  // namespace
}  // namespace vx::nat::test
