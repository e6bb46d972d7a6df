// See worker_bed.h.
#include "worker_bed.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "../core/checksum.h"

namespace vx::test {
namespace {

int open_here()
{
	return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

void put16(Bytes &bytes, size_t at, size_t value)
{
	bytes[at] = static_cast<uint8_t>(value >> 8);
	bytes[at + 1] = static_cast<uint8_t>(value);
}

Fd packet_socket(const char *interface)
{
	Fd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
	sockaddr_ll address{};
	address.sll_family = AF_PACKET;
	address.sll_protocol = htons(ETH_P_ALL);
	address.sll_ifindex = static_cast<int>(if_nametoindex(interface));
	EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
	const int bytes = 32 << 20;
	setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	return fd;
}

// The kernels in between have things to say too: ARP, neighbour discovery, multicast reports.
bool is_test_packet(const Bytes &frame)
{
	static const uint8_t source4[4] = {10, 1, 0, 1};
	static const uint8_t source6[6] = {0x20, 0x01, 0x0d, 0xb8, 0x00, 0x01};
	if (frame.size() < 14 + 20)
		return false;
	return frame[14] >> 4 == 4 ? !memcmp(&frame[14 + 12], source4, sizeof source4)
				   : frame.size() >= 14 + 40 && !memcmp(&frame[14 + 8], source6, sizeof source6);
}

// What an interface has received.
std::vector<Bytes> read_all(int packet_socket)
{
	std::vector<Bytes> frames;
	uint8_t buffer[65536];
	sockaddr_ll from{};
	socklen_t from_length = sizeof from;
	ssize_t length;
	while ((length = recvfrom(packet_socket, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr *>(&from), &from_length)) > 0) {
		const Bytes frame(buffer, buffer + length);
		if (from.sll_pkttype != PACKET_OUTGOING && is_test_packet(frame))
			frames.push_back(frame);
	}
	return frames;
}

}  // namespace

Namespace::Namespace()
{
	const Fd before(open_here());
	EXPECT_EQ(unshare(CLONE_NEWNET), 0) << strerror(errno);
	fd_ = Fd(open_here());
	setns(before.get(), CLONE_NEWNET);
}

void Namespace::enter() const
{
	EXPECT_EQ(setns(fd_.get(), CLONE_NEWNET), 0);
}

void Namespace::in(const std::function<void()> &work) const
{
	const Fd before(open_here());
	enter();
	work();
	setns(before.get(), CLONE_NEWNET);
}

std::string Namespace::path() const
{
	return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_.get());
}

void shell(const std::string &command)
{
	EXPECT_EQ(system(command.c_str()), 0) << command;
}

bool eventually(const std::function<bool()> &condition, double seconds)
{
	const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
	while (!condition()) {
		if (std::chrono::steady_clock::now() > end)
			return false;
		std::this_thread::sleep_for(std::chrono::milliseconds(5));
	}
	return true;
}

vx_addr address_of(const char *text)
{
	uint8_t ipv4[4];
	vx_addr address{};
	if (inet_pton(AF_INET, text, ipv4) == 1)
		return mapped(ipv4);
	EXPECT_EQ(inet_pton(AF_INET6, text, address.bytes), 1);
	return address;
}

uint32_t ipv4_be(const char *text)
{
	return inet_addr(text);
}

Bytes make_ipv4(const Ipv4Packet &packet)
{
	const size_t header = 20 + packet.options.size();
	Bytes bytes(header + packet.payload);
	bytes[0] = static_cast<uint8_t>(0x40 | header / 4);
	put16(bytes, 2, bytes.size());
	put16(bytes, 4, packet.id);
	put16(bytes, 6, packet.flags_and_offset);
	bytes[8] = 64;
	bytes[9] = packet.protocol;
	const uint32_t source = ipv4_be("10.1.0.1"), destination = ipv4_be(packet.destination);
	memcpy(&bytes[12], &source, 4);
	memcpy(&bytes[16], &destination, 4);
	if (!packet.options.empty())
		memcpy(&bytes[20], packet.options.data(), packet.options.size());
	for (size_t i = 0; i < packet.payload; i++)
		bytes[header + i] = static_cast<uint8_t>(i * 7 + i / 256 + (packet.flags_and_offset & 0x1fff));
	if ((packet.flags_and_offset & 0x1fff) == 0 && packet.payload >= 12) {
		put16(bytes, header, 9001);
		put16(bytes, header + 2, 9000);
		put16(bytes, header + 4, packet.payload);
		put16(bytes, header + 6, 0);
		memcpy(&bytes[header + 8], &packet.number, 4);
	}
	const uint16_t checksum = internet_checksum(bytes.data(), header);
	memcpy(&bytes[10], &checksum, 2);
	return bytes;
}

Bytes make_ipv6(const char *destination, uint32_t number)
{
	Bytes bytes(40 + 12);
	bytes[0] = 0x60;
	put16(bytes, 4, 12);
	bytes[6] = 17;
	bytes[7] = 64;
	inet_pton(AF_INET6, "2001:db8:1::1", &bytes[8]);
	inet_pton(AF_INET6, destination, &bytes[24]);
	put16(bytes, 40, 9001);
	put16(bytes, 42, 9000);
	put16(bytes, 44, 12);
	memcpy(&bytes[48], &number, 4);
	return bytes;
}

void WorkerBed::SetUp()
{
	gateway_.enter();
	shell("ip link set lo up");
	shell("ip link add in0 type veth peer name gen0");
	shell("ip link add out0 type veth peer name far0");
	shell("ip link set gen0 netns " + generator_.path() + " && ip link set far0 netns " + far_.path());
	shell("ip link set in0 mtu 3400 up && ip link set out0 up");
	shell("ip address add 192.0.2.1/24 dev out0 && ip address add 2001:db8::1/64 dev out0 nodad");
	generator_.in([this] {
		shell("ip link set gen0 mtu 3400 up");
		generator_socket_ = packet_socket("gen0");
	});
	far_.in([this] {
		shell("ip link set far0 up && ip address add 192.0.2.2/24 dev far0 && "
		      "ip address add 2001:db8::2/64 dev far0 nodad");
		shell("ip route add 10.0.0.0/8 via 192.0.2.1");
		far_socket_ = packet_socket("far0");
	});
	feeder_ = worker_feed__open_and_load();
	ASSERT_NE(feeder_, nullptr);
	feeder_->links.feed =
		bpf_program__attach_xdp(feeder_->progs.feed, static_cast<int>(if_nametoindex("in0")));
	ASSERT_NE(feeder_->links.feed, nullptr);
}

void WorkerBed::TearDown()
{
	worker_.reset();
	worker_feed__destroy(feeder_);
	home_.enter();
}

Fd make_umem(uint32_t chunks)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	return Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "umem", sizeof(uint32_t), sizeof(vx_chunk), chunks, &options));
}

void WorkerBed::start_worker(const std::function<void(WorkersConfig &)> &adjust)
{
	WorkersConfig config{};
	config.inside_ifindex = static_cast<int>(if_nametoindex("in0"));
	config.outside_ifindex = static_cast<int>(if_nametoindex("out0"));
	config.inside_queues = 1;
	config.batch = 64;
	config.follow_routes = true;
	memcpy(config.fixed_mac, "\x02\x00\x00\x00\x00\x55", 6);
	config.xsks_fd = bpf_map__fd(feeder_->maps.sockets);
	config.routes4_fd = bpf_map__fd(feeder_->maps.routes4);
	config.routes6_fd = bpf_map__fd(feeder_->maps.routes6);
	config.neighbours_fd = bpf_map__fd(feeder_->maps.neighbours);
	config.interface_fd = bpf_map__fd(feeder_->maps.interfaces);
	config.fragments_fd = bpf_map__fd(feeder_->maps.fragments);
	config.exception_rings = {bpf_map__fd(feeder_->maps.ring0), bpf_map__fd(feeder_->maps.ring1)};
	config.control = &feeder_->bss->control;
	config.slots = &slot_;
	config.inject_fd = -1;
	if (adjust)
		adjust(config);
	umem_map_ = make_umem(config.memory().frames());
	config.umem_fd = umem_map_.get();
	auto started = Workers::start(config);
	ASSERT_TRUE(started) << started.error().op << ": " << strerror(started.error().err);
	worker_ = std::move(*started);
}

void WorkerBed::feed(const Bytes &ip, vx_exception exception, uint16_t way)
{
	Bytes frame(14 + sizeof exception + 14 + ip.size(), 0);
	exception.magic = exception.magic ? exception.magic : VX_EXCEPTION_MAGIC;
	exception.length = static_cast<uint16_t>(14 + ip.size());
	put16(frame, 12, way);
	memcpy(&frame[14], &exception, sizeof exception);
	memcpy(&frame[14 + sizeof exception + 14], ip.data(), ip.size());
	EXPECT_EQ(send(generator_socket_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()))
		<< strerror(errno);
}

std::vector<Bytes> WorkerBed::arrived()
{
	return read_all(far_socket_.get());
}

std::vector<Bytes> WorkerBed::returned()
{
	return read_all(generator_socket_.get());
}

std::vector<Bytes> WorkerBed::arrived(size_t count, double seconds)
{
	std::vector<Bytes> all;
	eventually([&] {
		for (Bytes &one : arrived())
			all.push_back(std::move(one));
		return all.size() >= count;
	}, seconds);
	return all;
}

uint64_t WorkerBed::fates()
{
	uint64_t sum = counters().forwarded;
	for (const uint64_t one : counters().dropped)
		sum += one;
	return sum;
}

vx_neighbour WorkerBed::neighbour(const char *address)
{
	const vx_addr key = address_of(address);
	vx_neighbour value{};
	if (bpf_map_lookup_elem(bpf_map__fd(feeder_->maps.neighbours), &key, &value))
		value.state = kNotInMap;
	return value;
}

vx_route WorkerBed::route(const char *address)
{
	const vx_addr destination = address_of(address);
	vx_route value{};
	if (is_mapped(destination)) {
		vx_prefix4 key{32, 0};
		memcpy(&key.address_be, destination.bytes + 12, 4);
		bpf_map_lookup_elem(bpf_map__fd(feeder_->maps.routes4), &key, &value);
	} else {
		const vx_prefix6 key{128, destination};
		bpf_map_lookup_elem(bpf_map__fd(feeder_->maps.routes6), &key, &value);
	}
	return value;
}

}  // namespace vx::test
