// The rings of AF_XDP sockets with a thread as the kernel (net/xdp/xsk_queue.h): frames go round, fill -> rx -> fill and
// tx -> completion -> tx, and each side finds in a frame what the other wrote. Under ThreadSanitizer also: a frame's
// and a descriptor's bytes are published before they are read, and read before they are written again. Bounded by counts.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "../io/xsk.h"

namespace vx::test {
namespace {

constexpr uint32_t kEntries = 16;  // wraps and fills up all the time
constexpr uint32_t kFrames = 24;
constexpr uint32_t kWords = 8;     // of a frame, each with its packet's number
constexpr uint32_t kPackets = 200000;

// A ring where a socket's would be. Both threads use the one object: an address is what ThreadSanitizer goes by.
template <typename Entry>
XskRing<Entry> make_ring()
{
	const Fd file(memfd_create("ring", MFD_CLOEXEC));
	const xdp_ring_offset offset{.producer = 0, .consumer = 64, .desc = 192, .flags = 128};
	XskRing<Entry> ring;
	EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(offset.desc + kEntries * sizeof(Entry))), 0);
	const auto mapped = ring.map(file.get(), 0, offset, kEntries);
	EXPECT_TRUE(mapped);
	return ring;
}

class XskRings : public testing::Test {
protected:
	XskRing<uint64_t> addresses_ = make_ring<uint64_t>();        // fill, or completion
	XskRing<xdp_desc> descriptors_ = make_ring<xdp_desc>();      // rx, or tx
	uint64_t frames_[kFrames][kWords] = {};

	void write_frame(uint64_t address, uint64_t number)
	{
		for (uint64_t &word : frames_[address])
			word = number;
	}
	uint64_t wrong_words(const xdp_desc &descriptor, uint64_t number)
	{
		uint64_t wrong = descriptor.len != static_cast<uint32_t>(number);
		for (const uint64_t word : frames_[descriptor.addr])
			wrong += word != number;
		return wrong;
	}
	// As many as go in of `from`, which lose them.
	static void put_all(XskRing<uint64_t> &ring, std::vector<uint64_t> &from)
	{
		uint32_t producer = ring.producer();
		for (; !from.empty() && producer - ring.consumer() < ring.size(); from.pop_back())
			ring[producer++] = from.back();
		ring.set_producer(producer);
	}
	static void take_all(XskRing<uint64_t> &ring, std::vector<uint64_t> &to)
	{
		uint32_t consumer = ring.consumer();
		for (const uint32_t end = ring.producer(); consumer != end; consumer++)
			to.push_back(ring[consumer]);
		ring.set_consumer(consumer);
	}
	// Writes packets into free frames and hands those over, `next` being the first one's number.
	void produce(std::vector<uint64_t> &free, uint64_t &next)
	{
		uint32_t producer = descriptors_.producer();
		for (; !free.empty() && next < kPackets && producer - descriptors_.consumer() < kEntries; free.pop_back()) {
			write_frame(free.back(), next);
			descriptors_[producer++] = {free.back(), static_cast<uint32_t>(next++), 0};
		}
		descriptors_.set_producer(producer);
	}
	// Looks at what was handed over; how many words were not what they had to be.
	uint64_t consume(std::vector<uint64_t> &taken, uint64_t &next)
	{
		uint64_t wrong = 0;
		uint32_t consumer = descriptors_.consumer();
		for (const uint32_t end = descriptors_.producer(); consumer != end; consumer++) {
			wrong += wrong_words(descriptors_[consumer], next++);
			taken.push_back(descriptors_[consumer].addr);
		}
		descriptors_.set_consumer(consumer);
		return wrong;
	}
	static std::vector<uint64_t> all_frames()
	{
		std::vector<uint64_t> frames;
		for (uint64_t frame = 0; frame < kFrames; frame++)
			frames.push_back(frame);
		return frames;
	}
};

TEST_F(XskRings, WhatTheKernelReceivesIsReadOnceInOrderAndItsFramesComeBack)
{
	std::thread kernel([this] {
		std::vector<uint64_t> lent;
		for (uint64_t next = 0; next < kPackets; std::this_thread::yield()) {
			take_all(addresses_, lent);
			produce(lent, next);
		}
	});
	std::vector<uint64_t> free = all_frames();
	uint64_t wrong = 0;
	for (uint64_t next = 0; next < kPackets; std::this_thread::yield()) {
		put_all(addresses_, free);
		wrong += consume(free, next);
	}
	kernel.join();
	EXPECT_EQ(wrong, 0u);
}

TEST_F(XskRings, WhatIsTransmittedIsSeenOnceInOrderAndCompletes)
{
	uint64_t wrong = 0;
	std::thread kernel([this, &wrong] {
		std::vector<uint64_t> done;
		for (uint64_t next = 0; next < kPackets; std::this_thread::yield()) {
			put_all(addresses_, done);
			wrong += consume(done, next);
		}
	});
	std::vector<uint64_t> free = all_frames();
	for (uint64_t next = 0; next < kPackets; std::this_thread::yield()) {
		take_all(addresses_, free);
		produce(free, next);
	}
	kernel.join();
	EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace vx::test
