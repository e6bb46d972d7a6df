// The block format (draft-ietf-opsawg-pcapng): sections, each in its own byte order, with interfaces, each with its own
// resolution of time. Packets are in enhanced, simple or (obsolete) packet blocks; other blocks are skipped. See capture.h.
#include <algorithm>
#include <optional>

#include "capture.h"

namespace vx {
namespace {

constexpr uint32_t kSectionHeader = 0x0a0d0d0a, kByteOrder = 0x1a2b3c4d;
constexpr uint32_t kInterface = 1, kPacket = 2, kSimplePacket = 3, kEnhancedPacket = 6;
constexpr uint32_t kBlockBytesMin = 12;                 // type, length, length again
constexpr uint32_t kInterfaceBytesMax = 65536;
constexpr size_t kInterfacesMax = 65536;
constexpr uint16_t kOptionEnd = 0, kOptionResolution = 9, kOptionOffset = 14;
constexpr uint16_t kEthernet = 1;
constexpr uint64_t kSecondsMax = UINT32_MAX;

struct Interface {
	uint16_t link_type;
	uint32_t snap_length;           // 0: none
	uint64_t units = 1000000;       // a second
	int64_t offset_seconds = 0;
};

struct Block {
	uint64_t offset;
	uint32_t type;
	uint32_t length;  // all of it
};

class Pcapng : public CaptureFormat {
public:
	using CaptureFormat::CaptureFormat;

	// The rest of a section header whose type was read.
	Result<bool> open_section(uint64_t offset);
	Result<bool> next(CapturedPacket &packet) override;

private:
	std::vector<Interface> interfaces_;
	uint64_t time_ns_ = 0;  // of the packet before: a simple packet has none of its own

	Result<bool> open_interface(const Block &block);
	Result<bool> read_options(const Block &block, std::span<const uint8_t> options, Interface &interface);
	Result<bool> set_resolution(const Block &block, uint8_t value, Interface &interface);
	Result<bool> read_packet(const Block &block, CapturedPacket &packet);
	Result<bool> read_simple(const Block &block, CapturedPacket &packet);
	Result<bool> take_data(const Block &block, uint32_t header, uint32_t captured);
	Result<bool> close_block(const Block &block, uint32_t read);
	std::optional<uint64_t> time_of(const Interface &interface, uint64_t units) const;
};

Result<bool> Pcapng::open_section(uint64_t offset)
{
	uint8_t header[20];
	if (!bytes_.read(header, sizeof header))
		return cut_short(offset, "the section header");
	bytes_.swapped = false;
	if (bytes_.load32(header + 4) != kByteOrder) {
		bytes_.swapped = true;
		if (bytes_.load32(header + 4) != kByteOrder)
			return broken(offset + 8, "the section's byte-order mark is neither 1a2b3c4d nor 4d3c2b1a");
	}
	if (const uint16_t major = bytes_.load16(header + 8); major != 1)
		return broken(offset + 12, "version " + std::to_string(major) + " is not 1");
	const Block block{offset, kSectionHeader, bytes_.load32(header)};
	if (block.length < 28 || block.length % 4)
		return broken(offset + 4, "a section header of " + std::to_string(block.length) + " bytes");
	interfaces_.clear();
	return close_block(block, 24);
}

// Skips what is left and compares the length at the end with the one at the start; `read` bytes of the block are read.
Result<bool> Pcapng::close_block(const Block &block, uint32_t read)
{
	uint8_t trailer[4];
	if (!bytes_.skip(block.length - read - sizeof trailer) || !bytes_.read(trailer, sizeof trailer))
		return cut_short(block.offset, "the block");
	if (const uint32_t again = bytes_.load32(trailer); again != block.length)
		return broken(block.offset, "the block's length is " + std::to_string(block.length) +
						    " at its start and " + std::to_string(again) + " at its end");
	return true;
}

Result<bool> Pcapng::set_resolution(const Block &block, uint8_t value, Interface &interface)
{
	const uint32_t exponent = value & 0x7f;
	if (exponent > (value & 0x80 ? 63 : 19))
		return broken(block.offset, "an interface counts time in units too small for 64 bits");
	interface.units = 1;
	for (uint32_t i = 0; i < exponent; i++)
		interface.units *= value & 0x80 ? 2 : 10;
	return true;
}

Result<bool> Pcapng::read_options(const Block &block, std::span<const uint8_t> options, Interface &interface)
{
	while (options.size() >= 4) {
		const uint16_t code = bytes_.load16(&options[0]), length = bytes_.load16(&options[2]);
		options = options.subspan(4);
		if (code == kOptionEnd)
			return true;
		if (length > options.size())
			return broken(block.offset, "an interface's option is longer than its block");
		if (code == kOptionResolution && length == 1)
			if (auto set = set_resolution(block, options[0], interface); !set)
				return set;
		if (code == kOptionOffset && length == 8) {
			const uint64_t low = bytes_.load32(&options[bytes_.big_endian() ? 4 : 0]);
			const uint64_t high = bytes_.load32(&options[bytes_.big_endian() ? 0 : 4]);
			interface.offset_seconds = static_cast<int64_t>(high << 32 | low);
		}
		options = options.subspan(std::min<size_t>(options.size(), (length + 3u) & ~3u));
	}
	return true;
}

Result<bool> Pcapng::open_interface(const Block &block)
{
	if (block.length < kBlockBytesMin + 8 || block.length > kInterfaceBytesMax ||
	    interfaces_.size() == kInterfacesMax)
		return broken(block.offset, "an interface block of " + std::to_string(block.length) + " bytes, after " +
						    std::to_string(interfaces_.size()) + " others");
	std::vector<uint8_t> body(block.length - kBlockBytesMin);
	if (!bytes_.read(body.data(), body.size()))
		return cut_short(block.offset, "the interface block");
	Interface interface{bytes_.load16(&body[0]), bytes_.load32(&body[4])};
	if (auto read = read_options(block, std::span(body).subspan(8), interface); !read)
		return read;
	interfaces_.push_back(interface);
	return close_block(block, block.length - 4);
}

std::optional<uint64_t> Pcapng::time_of(const Interface &interface, uint64_t units) const
{
	const auto seconds = static_cast<__int128>(units / interface.units) + interface.offset_seconds;
	if (seconds < 0 || seconds > kSecondsMax)
		return std::nullopt;
	const auto rest = static_cast<unsigned __int128>(units % interface.units) * 1000000000 / interface.units;
	return static_cast<uint64_t>(seconds) * 1000000000 + static_cast<uint64_t>(rest);
}

// Reads what was captured, behind `header` bytes of the block, and the rest of the block.
Result<bool> Pcapng::take_data(const Block &block, uint32_t header, uint32_t captured)
{
	if (captured > kCaptureBytesMax)
		return packet_broken(block.offset, "claims " + std::to_string(captured) + " bytes, more than " +
							   std::to_string(kCaptureBytesMax));
	if (captured > block.length - header - 4)
		return packet_broken(block.offset, "claims " + std::to_string(captured) + " bytes in a block of " +
							   std::to_string(block.length));
	if (auto read = read_data(captured, block.offset); !read)
		return read;
	return close_block(block, header + captured);
}

Result<bool> Pcapng::read_packet(const Block &block, CapturedPacket &packet)
{
	uint8_t header[20];
	packets_++;
	if (block.length < kBlockBytesMin + sizeof header)
		return packet_broken(block.offset, "a packet block of " + std::to_string(block.length) + " bytes");
	if (!bytes_.read(header, sizeof header))
		return cut_short(block.offset, "packet " + std::to_string(packets_));
	const uint32_t index = block.type == kPacket ? bytes_.load16(header) : bytes_.load32(header);
	if (index >= interfaces_.size())
		return packet_broken(block.offset, "interface " + std::to_string(index) + " was not described");
	const Interface &interface = interfaces_[index];
	if (interface.link_type != kEthernet)
		return packet_broken(block.offset, "link type " + std::to_string(interface.link_type) +
							   " of its interface is not Ethernet (1)");
	const auto time = time_of(interface, uint64_t{bytes_.load32(header + 4)} << 32 | bytes_.load32(header + 8));
	if (!time)
		return packet_broken(block.offset, "its time is not between 1970 and 2106");
	time_ns_ = *time;
	fine_time_ |= interface.units > 1000000;
	if (auto taken = take_data(block, 8 + sizeof header, bytes_.load32(header + 12)); !taken)
		return taken;
	packet = {time_ns_, data_};
	return true;
}

Result<bool> Pcapng::read_simple(const Block &block, CapturedPacket &packet)
{
	uint8_t header[4];
	packets_++;
	if (interfaces_.empty() || interfaces_[0].link_type != kEthernet)
		return packet_broken(block.offset, "it has no Ethernet interface");
	if (block.length < kBlockBytesMin + sizeof header)
		return packet_broken(block.offset, "a packet block of " + std::to_string(block.length) + " bytes");
	if (!bytes_.read(header, sizeof header))
		return cut_short(block.offset, "packet " + std::to_string(packets_));
	const uint32_t snap = interfaces_[0].snap_length ? interfaces_[0].snap_length : UINT32_MAX;
	const uint32_t captured = std::min(bytes_.load32(header), snap);
	if (auto taken = take_data(block, 8 + sizeof header, captured); !taken)
		return taken;
	packet = {time_ns_, data_};
	return true;
}

Result<bool> Pcapng::next(CapturedPacket &packet)
{
	while (true) {
		const uint64_t offset = bytes_.offset();
		uint8_t header[8];
		size_t got;
		if (!bytes_.read(header, 4, &got)) {
			if (!got && !bytes_.error())
				return false;
			return cut_short(offset, "the block");
		}
		// The one type that is the same in both byte orders.
		if (bytes_.load32(header) == kSectionHeader) {
			if (auto opened = open_section(offset); !opened)
				return opened;
			continue;
		}
		if (!bytes_.read(header + 4, 4))
			return cut_short(offset, "the block");
		const Block block{offset, bytes_.load32(header), bytes_.load32(header + 4)};
		if (block.length < kBlockBytesMin || block.length % 4)
			return broken(offset, "a block of " + std::to_string(block.length) + " bytes");
		if (block.type == kEnhancedPacket || block.type == kPacket)
			return read_packet(block, packet);
		if (block.type == kSimplePacket)
			return read_simple(block, packet);
		auto passed = block.type == kInterface ? open_interface(block) : close_block(block, 8);
		if (!passed)
			return passed;
	}
}

}  // namespace

Result<std::unique_ptr<CaptureFormat>> open_pcapng(CaptureBytes &bytes)
{
	auto format = std::make_unique<Pcapng>(bytes);
	if (auto opened = format->open_section(0); !opened)
		return opened.error();
	return std::unique_ptr<CaptureFormat>(std::move(format));
}

}  // namespace vx
