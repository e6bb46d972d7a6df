// The simulation of the NAT engine. See the header.
#include "nat_sim.h"

#include <algorithm>

namespace vx::nat::test {
namespace {

constexpr uint32_t kHosts = 12, kRemotes = 6;
constexpr uint64_t kSecond = 1000000000;
const uint32_t kRealms[] = {100, 200, kPlainRealm};

template <typename T>
T one_of(std::mt19937_64 &random, std::initializer_list<T> choices)
{
	return choices.begin()[random() % choices.size()];
}

}  // namespace

Simulation::Simulation(uint64_t seed, uint32_t workers) : random_(seed), scene_(make_scene(workers))
{
	nat_ = std::make_unique<Nat>(scene_);
}

// Everything small, so that every limit is met.
Scene Simulation::make_scene(uint32_t workers)
{
	Scene scene = addresses(1 + below(3));
	Config &config = scene.config;
	scene.pools.workers = workers;
	scene.pools.block_size = one_of<uint32_t>(random_, {64, 128});
	scene.pools.pools[0].first_port = one_of<uint16_t>(random_, {512, 1024, 30000});
	scene.pools.pools[0].last_port =
		static_cast<uint16_t>(scene.pools.pools[0].first_port + scene.pools.block_size * (4 + below(30)));
	config.mapping = one_of(random_, {Mapping::endpoint_independent, Mapping::address_and_port_dependent});
	config.filtering = one_of(random_, {Filtering::endpoint_independent, Filtering::address_dependent,
					    Filtering::address_and_port_dependent});
	config.pair_strictly = chance(70);
	config.hairpin = chance(80);
	config.icmp_outside = chance(50);
	config.key = {{random_(), random_()}};
	config.blocks_per_subscriber = 1 + below(3);
	config.sessions_per_subscriber = one_of<uint32_t>(random_, {20, 200});
	config.new_sessions_per_second = one_of<uint32_t>(random_, {20, 100000});
	config.sessions_max = one_of<uint32_t>(random_, {40, 150, 600});
	config.record_sessions = chance(30);
	config.records = config.record_sessions ? one_of<uint32_t>(random_, {200, 1000})
						: one_of<uint32_t>(random_, {2, 64});
	config.timeouts = {.tcp_established = 60, .tcp_opening = 20, .tcp_closing = 15, .udp = 30, .icmp = 10,
			   .port_hold = one_of<uint32_t>(random_, {1, 20}), .fragments = 5, .unsolicited_syn = 6};
	if (chance(50))
		scene.pools.forwards = {{address("203.0.113.1"), 8080, IPPROTO_TCP, 100, address("10.0.0.1"), 80},
					{address("203.0.113.1"), 8080, IPPROTO_UDP, 200, address("10.0.0.2"), 81}};
	return scene;
}

uint64_t Simulation::timeout_ns(uint8_t protocol) const
{
	const Timeouts &timeouts = scene_.config.timeouts;
	return kSecond * (protocol == IPPROTO_UDP    ? timeouts.udp
			  : protocol == IPPROTO_ICMP ? timeouts.icmp
						     : timeouts.tcp_opening);
}

Bytes Simulation::packet(uint8_t protocol, const Endpoint &from, const Endpoint &to, bool from_inside)
{
	const Ip ip{.dont_fragment = chance(50), .id = next_id_++};
	const size_t payload = below(100);
	if (protocol == IPPROTO_ICMP)
		return from_inside ? echo_request(from, to.address_be, payload, ip)
				   : echo_reply(from.address_be, to, payload, ip);
	if (protocol == IPPROTO_UDP)
		return chance(10) ? udp_without_checksum(from, to, payload, ip) : udp(from, to, payload, ip);
	const uint8_t flags = one_of<uint8_t>(random_, {kSyn, kSyn, kSyn | kAck, kAck, kAck, kAck, kFin | kAck, kRst});
	return tcp(from, to, flags, payload, ip);
}

// Whole, or in pieces in any order; what comes out is put together again where all of it did.
std::vector<Out> Simulation::send_inside(const Bytes &packet, uint32_t realm)
{
	if (packet.size() < 60 || (packet[6] & 0x40) || chance(70))
		return nat_->all_from_inside(packet, realm, any_worker());
	auto pieces = in_pieces(packet, 24 + 8 * below(4));
	std::shuffle(pieces.begin(), pieces.end(), random_);
	std::vector<Out> outs;
	std::vector<Bytes> arrived;
	for (const Bytes &piece : pieces)
		for (const Out &out : nat_->all_from_inside(piece, realm, any_worker())) {
			outs.push_back(out);
			if (out.verdict.action == Action::forward)
				arrived.push_back(out.packet);
		}
	EXPECT_TRUE(arrived.empty() || arrived.size() == pieces.size()) << "half a datagram left";
	if (arrived.size() != pieces.size())
		return {};
	outs.resize(1);
	outs[0].packet = put_together(arrived);
	EXPECT_FALSE(outs[0].packet.empty()) << "pieces of different datagrams";
	return outs[0].packet.empty() ? std::vector<Out>{} : outs;
}

std::vector<Out> Simulation::send_outside(const Bytes &packet)
{
	return nat_->all_from_outside(packet, any_worker());
}

void Simulation::host_sends()
{
	const uint32_t realm = kRealms[below(3)];
	const uint8_t protocol = one_of<uint8_t>(random_, {IPPROTO_UDP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP});
	const Endpoint from{htonl(0x0a000001 + below(kHosts)),
			    one_of<uint16_t>(random_, {80, 81, 1000, 5000, 5001, 5002, 6000,
						       static_cast<uint16_t>(1024 + below(60000))})};
	Endpoint to{htonl(0xc6336401 + below(kRemotes)), one_of<uint16_t>(random_, {53, 443, 4000})};
	bool hairpin = false;
	if (!known_.empty() && chance(15)) {
		to = any_known()->first.endpoint;
		hairpin = true;
	}
	if (protocol == IPPROTO_ICMP)
		to.port = 0;
	const Bytes sent = packet(protocol, from, to, true);
	for (const Out &out : send_inside(sent, realm)) {
		if (out.verdict.action != Action::forward)
			continue;
		forwarded_++;
		EXPECT_EQ(out.sent(Side::inside), hairpin);
		if (hairpin) {
			judge_inbound({}, out);
			continue;
		}
		EXPECT_EQ(payload_of(out.packet), payload_of(sent));
		EXPECT_EQ(out.packet[8], sent[8] - 1);
		EXPECT_EQ(out.subscriber_be, from.address_be);
		const bool dependent = scene_.config.mapping == Mapping::address_and_port_dependent;
		learn({realm, from, protocol, dependent ? to : Endpoint{}}, out, to,
		      protocol == IPPROTO_TCP ? sent[33] : 0);
	}
}

// A flow left by a public endpoint: nobody else may have had it, and it may not have changed.
void Simulation::learn(const InsideTuple &inside, const Out &out, const Endpoint &remote, uint8_t flags)
{
	sent_out_.push_back(out.packet);
	if (sent_out_.size() > 64)
		sent_out_.erase(sent_out_.begin());
	const PublicTuple seen{from_of(out.packet), inside.protocol};
	for (const Forward &forward : scene_.pools.forwards)
		if (seen.endpoint.address_be == forward.public_be && seen.endpoint.port == forward.public_port &&
		    seen.protocol == forward.protocol) {
			EXPECT_EQ(inside.inside.port, forward.inside_port) << "a forward's port for somebody else";
			return;
		}
	const uint64_t now = nat_->now_ns();
	const auto holder = known_.find(seen);
	// Who was let in is answered from where he came in, also where each remote has a mapping of its own.
	if (holder != known_.end() && holder->second.inside.host() == inside.host() &&
	    holder->second.visitors.contains({remote.address_be, remote.port})) {
		holder->second.closing |= (flags & (kFin | kRst)) != 0;
		holder->second.last_out_ns = now;
		holder->second.remotes[{remote.address_be, remote.port}] = now;
		return;
	}
	const auto before = public_of_.find(inside);
	if (before != public_of_.end() && !(before->second.endpoint == seen.endpoint)) {
		const Known &old = known_.at(before->second);
		EXPECT_TRUE(old.closing || now - old.last_out_ns >= timeout_ns(inside.protocol))
			<< "a live mapping changed from " << text(before->second.endpoint) << " to "
			<< text(seen.endpoint);
	}
	if (holder != known_.end() && holder->second.inside.key() != inside.key()) {
		const uint64_t rest = scene_.config.timeouts.port_hold * kSecond +
				      (holder->second.closing ? 0 : timeout_ns(inside.protocol));
		EXPECT_GE(now - holder->second.last_out_ns, rest) << text(seen.endpoint) << " changed hands too early";
		public_of_.erase(holder->second.inside);
		known_.erase(holder);
	}
	Known &known = known_.try_emplace(seen, Known{inside, now, {}, {}}).first->second;
	known.closing |= (flags & (kFin | kRst)) != 0;
	known.last_out_ns = now;
	known.remotes[{remote.address_be, remote.port}] = now;
	public_of_[inside] = seen;
}

const std::pair<const PublicTuple, Simulation::Known> *Simulation::any_known()
{
	return &*std::next(known_.begin(), below(static_cast<uint32_t>(known_.size())));
}

// What was sent to a public endpoint and passed must go to the host the endpoint stands for, from a remote it may hear.
void Simulation::judge_inbound(const Bytes &sent, const Out &out)
{
	forwarded_++;
	if (sent.empty())
		return;  // hairpinned: the bed has checked its bytes
	EXPECT_EQ(source_of(out.packet), source_of(sent));
	EXPECT_EQ(payload_of(out.packet), payload_of(sent));
	const Endpoint to = to_of(sent);
	for (const Forward &forward : scene_.pools.forwards)
		if (to.address_be == forward.public_be && to.port == forward.public_port &&
		    protocol_of(sent) == forward.protocol) {
			EXPECT_EQ(to_of(out.packet), (Endpoint{forward.inside_be, forward.inside_port}));
			EXPECT_EQ(out.realm, forward.realm);
			return;
		}
	const auto known = known_.find({to, protocol_of(sent)});
	if (known == known_.end())
		return;
	const bool held = to_of(out.packet) == known->second.inside.inside && out.realm == known->second.inside.realm;
	if (held)
		known->second.visitors.insert(
			{source_of(sent), protocol_of(sent) == IPPROTO_ICMP ? uint16_t{0} : from_of(sent).port});
	// A mapping that may have ended may be somebody else's, whose packets were all hairpinned or garbage.
	if (known->second.closing || nat_->now_ns() - known->second.last_out_ns >= timeout_ns(protocol_of(sent)))
		return;
	EXPECT_TRUE(held) << "what came for " << text(to) << " went to " << text(to_of(out.packet));
	if (scene_.config.filtering == Filtering::endpoint_independent)
		return;
	const bool by_port = scene_.config.filtering == Filtering::address_and_port_dependent;
	bool spoken = false;
	for (const auto &[remote, when] : known->second.remotes)
		spoken |= remote.first == source_of(sent) &&
			  (!by_port || protocol_of(sent) == IPPROTO_ICMP || remote.second == from_of(sent).port);
	EXPECT_TRUE(spoken) << "a stranger was let in to " << text(to);
}

void Simulation::remote_answers()
{
	if (known_.empty())
		return;
	const auto &[endpoint, known] = *any_known();
	const auto &[remote, when] =
		*std::next(known.remotes.begin(), below(static_cast<uint32_t>(known.remotes.size())));
	const Bytes sent = packet(endpoint.protocol, {remote.first, remote.second}, endpoint.endpoint, false);
	const uint64_t now = nat_->now_ns();
	const bool must = !known.closing && now - when < timeout_ns(endpoint.protocol);
	bool ends = endpoint.protocol == IPPROTO_TCP && (sent[33] & (kFin | kRst));
	for (const Out &out : send_outside(sent)) {
		if (must) {
			EXPECT_TRUE(out.sent(Side::inside)) << "a reply to " << text(endpoint.endpoint)
							    << " was refused as " << int{out.verdict.reason};
		}
		if (out.verdict.action == Action::forward)
			judge_inbound(sent, out);
	}
	if (ends)
		known_.at(endpoint).closing = true;
}

void Simulation::stranger_sends()
{
	const uint8_t protocol = one_of<uint8_t>(random_, {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP});
	Endpoint to{htonl(0xcb007101 + below(4)), static_cast<uint16_t>(below(65536))};
	if (!known_.empty() && chance(50))
		to = any_known()->first.endpoint;
	if (chance(10))
		to = endpoint("203.0.113.1:8080");
	const Endpoint from{htonl(0xc6336401 + below(kRemotes + 4)), static_cast<uint16_t>(below(65536))};
	const Bytes sent = packet(protocol, from, to, chance(20));
	for (const Out &out : send_outside(sent))
		if (out.verdict.action == Action::forward) {
			judge_inbound(sent, out);
			const auto known = known_.find({to, protocol});
			if (known != known_.end() && protocol == IPPROTO_TCP)
				known->second.closing |= (sent[33] & (kFin | kRst)) != 0;
		}
}

void Simulation::error_from_outside()
{
	if (sent_out_.empty())
		return;
	const Bytes &about = sent_out_[below(static_cast<uint32_t>(sent_out_.size()))];
	Bytes error = icmp_error(htonl(0xc0000201), source_of(about), one_of<uint8_t>(random_, {3, 4, 11, 12}),
				 static_cast<uint8_t>(below(4)), about, 28 + below(100));
	if (chance(20))
		error[20 + below(static_cast<uint32_t>(error.size() - 20))] ^= static_cast<uint8_t>(1 + below(255));
	for (const Out &out : send_outside(error))
		if (out.verdict.action == Action::forward) {
			forwarded_++;
			EXPECT_EQ(out.packet[20], error[20]);
			EXPECT_EQ(destination_of(out.packet), source_of(quoted_by(out.packet)));
		}
}

// Bytes of a valid packet overwritten and cut: whatever comes out, it must not be more than came in.
void Simulation::garbage()
{
	const Endpoint inside{htonl(0x0a000001 + below(kHosts)), 5000}, remote{htonl(0xc6336401 + below(kRemotes)), 53};
	const bool from_inside = chance(50);
	Bytes bytes =
		from_inside ? udp(inside, remote, below(60)) : udp(remote, endpoint("203.0.113.1:2000"), below(60));
	for (uint32_t i = below(4); i > 0; i--)
		bytes[below(static_cast<uint32_t>(std::min<size_t>(bytes.size(), 32)))] =
			static_cast<uint8_t>(below(256));
	bytes[6] = bytes[7] = 0;  // fragments are another matter: they would be held
	bytes.resize(1 + below(static_cast<uint32_t>(bytes.size() - 1)));
	// Straight to an engine: what is wrong with such a packet may stay wrong.
	auto exact = std::make_unique<uint8_t[]>(bytes.size());
	std::copy(bytes.begin(), bytes.end(), exact.get());
	nat_->answers();
	Engine &engine = nat_->engine(any_worker());
	Packet one{.ip = exact.get(),
		   .length = static_cast<uint32_t>(bytes.size()),
		   .realm = 100,
		   .from = from_inside ? Side::inside : Side::outside,
		   .stage = Stage::arrived,
		   .cookie = 0};
	EXPECT_NE(engine.process(one, nat_->now_ns()).action, Action::hold);
	for (; engine.replies().peek(); engine.replies().done())
		;  // quotes what may be wrong
}

void Simulation::time_passes()
{
	const double seconds = one_of<double>(random_, {0.001, 0.01, 0.1, 1, 1, 5, 20, 100});
	if (chance(90))
		nat_->advance(seconds);
	else
		nat_->stall(seconds * 3);
	nat_->answers();
	if (chance(70))
		nat_->records();
}

void Simulation::step()
{
	const uint32_t dice = below(1000);
	if (dice < 480)
		host_sends();
	else if (dice < 800)
		remote_answers();
	else if (dice < 900)
		stranger_sends();
	else if (dice < 960)
		error_from_outside();
	else if (dice < 985)
		garbage();
	else
		time_passes();
}

}  // namespace vx::nat::test
