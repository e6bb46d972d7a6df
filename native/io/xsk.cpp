// AF_XDP sockets. xsk.h says what is relied on.
#include "xsk.h"

#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace vx {
namespace {

constexpr uint32_t kTxRing = 1024;
constexpr uint32_t kCompletionRing = 2048;
constexpr int kBindTries = 100;
constexpr useconds_t kBindPause_us = 10000;
constexpr int kMaxTxSkbBudget = 9;      // XDP_MAX_TX_SKB_BUDGET, newer than Debian 12's headers
constexpr uint64_t kNoAddress = ~uint64_t{0};

uint32_t power_of_two_above(uint32_t n)
{
	uint32_t power = 2;
	while (power <= n)
		power *= 2;
	return power;
}

int set_ring(int fd, int option, uint32_t entries)
{
	return setsockopt(fd, SOL_XDP, option, &entries, sizeof entries);
}

int register_umem(int fd, Umem &umem)
{
	xdp_umem_reg reg{};
	reg.addr = reinterpret_cast<uint64_t>(umem.at(0));
	reg.len = umem.bytes();
	reg.chunk_size = VX_FRAME_BYTES;
	return setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg);
}

// Teardown of a socket that had the queue before is asynchronous: EBUSY passes.
int bind_queue(int fd, uint32_t ifindex, uint32_t queue, int shared_fd)
{
	sockaddr_xdp address{};
	address.sxdp_family = AF_XDP;
	address.sxdp_ifindex = ifindex;
	address.sxdp_queue_id = queue;
	if (shared_fd >= 0) {
		address.sxdp_flags = XDP_SHARED_UMEM;
		address.sxdp_shared_umem_fd = static_cast<uint32_t>(shared_fd);
	} else {
		address.sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP;
	}
	for (int i = 0;; i++) {
		if (!bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address))
			return 0;
		if (errno != EBUSY || i == kBindTries)
			return -1;
		usleep(kBindPause_us);
	}
}

Error not_locked(const Umem &umem)
{
	return Error{"CAPABILITY_MISSING", "lock the memory of packets", 0,
		     std::to_string(umem.bytes() >> 10) + " KiB, which takes CAP_IPC_LOCK or a higher limit (ulimit -l)"};
}

}  // namespace

template <typename Entry>
XskRing<Entry> &XskRing<Entry>::operator=(XskRing &&other) noexcept
{
	std::swap(mapping_, other.mapping_);
	std::swap(mapping_bytes_, other.mapping_bytes_);
	std::swap(producer_, other.producer_);
	std::swap(consumer_, other.consumer_);
	std::swap(entries_, other.entries_);
	std::swap(size_, other.size_);
	return *this;
}

template <typename Entry>
XskRing<Entry>::~XskRing()
{
	if (mapping_)
		munmap(mapping_, mapping_bytes_);
}

template <typename Entry>
Result<void> XskRing<Entry>::map(int fd, uint64_t page_offset, const xdp_ring_offset &offset, uint32_t size)
{
	mapping_bytes_ = offset.desc + size * sizeof(Entry);
	void *mapping = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
			     static_cast<off_t>(page_offset));
	if (mapping == MAP_FAILED)
		return Error{"WORKER_FAILED", "mmap(AF_XDP ring)", errno, ""};
	mapping_ = mapping;
	uint8_t *base = static_cast<uint8_t *>(mapping);
	producer_ = reinterpret_cast<uint32_t *>(base + offset.producer);
	consumer_ = reinterpret_cast<uint32_t *>(base + offset.consumer);
	entries_ = reinterpret_cast<Entry *>(base + offset.desc);
	size_ = size;
	return {};
}

template class XskRing<uint64_t>;
template class XskRing<xdp_desc>;

std::string QueueRings::where() const
{
	char name[IF_NAMESIZE];

	return "queue " + std::to_string(queue_) + " of " +
	       (if_indextoname(ifindex_, name) ? name : "interface " + std::to_string(ifindex_));
}

Error QueueRings::failed(const char *op) const
{
	return Error{"WORKER_FAILED", op, errno, where()};
}

Error QueueRings::not_bound() const
{
	constexpr const char *op = "bind(AF_XDP)";

	if (errno == EBUSY)
		return Error{"QUEUE_BUSY", op, errno, "another program's AF_XDP socket is bound to " + where()};
	return failed(op);
}

void QueueRings::want_fill(uint32_t entries)
{
	if (first_fd_ >= 0)
		abort();
	fill_entries_ = entries;
}

void QueueRings::want_completion(uint32_t entries)
{
	if (first_fd_ >= 0)
		abort();
	completion_entries_ = entries;
}

Result<void> QueueRings::bind(int fd, const xdp_mmap_offsets &offsets, Umem &umem, int umem_fd)
{
	if (umem_fd < 0 && register_umem(fd, umem))
		return errno == ENOBUFS ? not_locked(umem) : failed("XDP_UMEM_REG");
	const bool first = first_fd_ < 0;
	if (first) {
		if (set_ring(fd, XDP_UMEM_FILL_RING, fill_entries_) ||
		    set_ring(fd, XDP_UMEM_COMPLETION_RING, completion_entries_))
			return failed("AF_XDP ring set-up");
		if (auto mapped = fill_.map(fd, XDP_UMEM_PGOFF_FILL_RING, offsets.fr, fill_entries_); !mapped)
			return mapped.error();
		if (auto mapped = completion_.map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, completion_entries_); !mapped)
			return mapped.error();
	}
	if (bind_queue(fd, ifindex_, queue_, first ? umem_fd : first_fd_))
		return not_bound();
	if (first)
		first_fd_ = fd;
	return {};
}

RxQueue::RxQueue(QueueRings &rings, uint32_t share) : rings_(rings), share_(share)
{
	rings.want_fill(power_of_two_above(share));
}

TxQueue::TxQueue(QueueRings &rings, uint32_t sockets) : rings_(rings)
{
	rings.want_completion(std::bit_ceil(kCompletionRing * sockets));
}

Result<XskReceiver> XskReceiver::open(Umem &umem, RxQueue &queue, uint32_t entries, int umem_fd)
{
	XskReceiver self;
	self.queue_ = &queue;
	self.fd_ = Fd(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
	const int fd = self.fd();
	if (fd < 0)
		return queue.rings_.failed("socket(AF_XDP)");
	xdp_mmap_offsets offsets{};
	socklen_t length = sizeof offsets;
	if (set_ring(fd, XDP_RX_RING, entries) || getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length))
		return queue.rings_.failed("AF_XDP ring set-up");
	if (auto mapped = self.rx_.map(fd, XDP_PGOFF_RX_RING, offsets.rx, entries); !mapped)
		return mapped.error();
	if (auto bound = queue.rings_.bind(fd, offsets, umem, umem_fd); !bound)
		return bound.error();
	return self;
}

void RxQueue::refill(Frames &frames)
{
	if (lent() >= share_ || visited_.test_and_set(std::memory_order_acquire))
		return;
	XskRing<uint64_t> &fill = rings_.fill_;
	const uint32_t before = fill.producer();
	uint32_t producer = before;
	for (uint32_t room = share_ - lent(); room && frames.has(); room--)
		fill[producer++] = frames.take();
	if (producer != before) {
		lent_.fetch_add(producer - before, std::memory_order_release);
		fill.set_producer(producer);
	}
	visited_.clear(std::memory_order_release);
}

uint32_t XskReceiver::receive(Frame *out, uint32_t most)
{
	const uint32_t consumer = rx_.consumer();
	const uint32_t count = std::min(rx_.producer() - consumer, most);
	for (uint32_t i = 0; i < count; i++) {
		const xdp_desc &desc = rx_[consumer + i];
		out[i] = {desc.addr, desc.len};
	}
	if (count) {
		rx_.set_consumer(consumer + count);
		queue_->lent_.fetch_sub(count, std::memory_order_acquire);
	}
	return count;
}

XskReceiver::Refused XskReceiver::refused()
{
	xdp_statistics now{};
	socklen_t length = sizeof now;
	if (getsockopt(fd_.get(), SOL_XDP, XDP_STATISTICS, &now, &length))
		return {};
	const Refused before = std::exchange(seen_, {now.rx_ring_full, now.rx_dropped});
	return {seen_.ring_full - before.ring_full, seen_.fill_empty - before.fill_empty};
}

Result<XskTransmitter> XskTransmitter::open(Umem &umem, TxQueue &queue, int umem_fd)
{
	XskTransmitter self;
	self.queue_ = &queue;
	self.fd_ = Fd(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
	const int fd = self.fd();
	if (fd < 0)
		return queue.rings_.failed("socket(AF_XDP)");
	xdp_mmap_offsets offsets{};
	socklen_t length = sizeof offsets;
	if (set_ring(fd, XDP_TX_RING, kTxRing) || getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length))
		return queue.rings_.failed("AF_XDP ring set-up");
	if (auto mapped = self.tx_.map(fd, XDP_PGOFF_TX_RING, offsets.tx, kTxRing); !mapped)
		return mapped.error();
	if (auto bound = queue.rings_.bind(fd, offsets, umem, umem_fd); !bound)
		return bound.error();
	// 32 descriptors a kick otherwise; kernels without it say ENOPROTOOPT and kicks are repeated.
	const uint32_t budget = kTxRing;
	setsockopt(fd, SOL_XDP, kMaxTxSkbBudget, &budget, sizeof budget);
	self.slots_.resize(kTxRing);
	return self;
}

void XskTransmitter::queue(Frame frame, uint32_t tag)
{
	if (produced_ - tx_.consumer() >= tx_.size())
		abort();
	tx_[produced_] = {frame.address, frame.length, 0};
	slots_[produced_ & (kTxRing - 1)] = {frame.length, tag, false};
	produced_++;
	queued_++;
	queue_->in_kernel_.fetch_add(1, std::memory_order_release);
}

void XskTransmitter::settle_until(uint32_t index, const Tell &tell)
{
	for (; consumed_ != index; consumed_++) {
		const Slot &slot = slots_[consumed_ & (kTxRing - 1)];
		if (slot.taken_back)
			continue;
		queued_--;
		tell(TxFate::sent, slot.length, slot.tag);
	}
}

void XskTransmitter::skip_taken_back()
{
	while (consumed_ != produced_ && slots_[consumed_ & (kTxRing - 1)].taken_back)
		consumed_++;
}

int XskTransmitter::kick(const Tell &tell)
{
	tx_.set_producer(produced_);
	if (queue_->sending_.test_and_set(std::memory_order_acquire))
		return EAGAIN;
	const int err = sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 ? errno : 0;
	queue_->sending_.clear(std::memory_order_release);
	if (err == ENETDOWN || err == ENXIO)
		return err;
	skip_taken_back();
	const uint32_t published = tx_.consumer();
	const bool some_sent = static_cast<int32_t>(published - consumed_) > 0;
	if (err == EBUSY) {
		// With frames sent the published index is exact and the lost one is the last before it; otherwise the
		// lost one was the first that was looked at.
		if (some_sent)
			settle_until(published - 1, tell);
		const Slot &lost = slots_[consumed_ & (kTxRing - 1)];
		consumed_++;
		queued_--;
		tell(TxFate::refused, lost.length, lost.tag);
	} else if (some_sent) {
		settle_until(published, tell);
	}
	return err;
}

void TxQueue::reap(Frames &frames)
{
	XskRing<uint64_t> &completion = rings_.completion_;
	if (completion.consumer() == completion.producer() || visited_.test_and_set(std::memory_order_acquire))
		return;
	uint32_t consumer = completion.consumer(), reaped = 0;
	for (const uint32_t producer = completion.producer(); consumer != producer; consumer++) {
		if (completion[consumer] == kNoAddress)
			continue;  // taken back earlier
		frames.put(completion[consumer]);
		reaped++;
	}
	completion.set_consumer(consumer);
	in_kernel_.fetch_sub(reaped, std::memory_order_acquire);
	visited_.clear(std::memory_order_release);
}

void XskTransmitter::take_back(Frames &frames, const Tell &tell)
{
	for (uint32_t i = consumed_; i != produced_; i++) {
		Slot &slot = slots_[i & (kTxRing - 1)];
		if (slot.taken_back)
			continue;
		slot.taken_back = true;
		frames.put(tx_[i].addr);
		tx_[i].addr = kNoAddress;
		queued_--;
		queue_->in_kernel_.fetch_sub(1, std::memory_order_relaxed);
		tell(TxFate::taken_back, slot.length, slot.tag);
	}
}

}  // namespace vx
