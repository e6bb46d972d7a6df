// The classic format: a file header of 24 bytes, then for each packet 16 bytes and what was captured of it
// (draft-ietf-opsawg-pcap). See capture.h.
#include <cstring>

#include "capture.h"

namespace vx {
namespace {

constexpr uint32_t kMicroseconds = 0xa1b2c3d4, kNanoseconds = 0xa1b23c4d;
constexpr uint32_t kLinkTypeMask = 0xffff;  // above it: whether and how long a checksum follows each frame
constexpr uint32_t kEthernet = 1;

class Pcap : public CaptureFormat {
public:
	Pcap(CaptureBytes &bytes, bool nanoseconds) : CaptureFormat(bytes), unit_ns_(nanoseconds ? 1 : 1000)
	{
		fine_time_ = nanoseconds;
	}

	Result<bool> next(CapturedPacket &packet) override
	{
		const uint64_t offset = bytes_.offset();
		uint8_t header[16];
		size_t got;
		packets_++;
		if (!bytes_.read(header, sizeof header, &got)) {
			if (!got && !bytes_.error())
				return false;
			return cut_short(offset, "the header of packet " + std::to_string(packets_));
		}
		const uint32_t captured = bytes_.load32(header + 8);
		if (captured > kCaptureBytesMax)
			return packet_broken(offset, "claims " + std::to_string(captured) + " bytes, more than " +
							     std::to_string(kCaptureBytesMax));
		const uint32_t fraction = bytes_.load32(header + 4);
		if (uint64_t{fraction} * unit_ns_ >= 1000000000)
			return packet_broken(offset, "the fraction of its time, " + std::to_string(fraction) +
							     ", is a second or more");
		if (auto read = read_data(captured, offset); !read)
			return read;
		packet = {uint64_t{bytes_.load32(header)} * 1000000000 + uint64_t{fraction} * unit_ns_, data_};
		return true;
	}

private:
	const uint32_t unit_ns_;
};

}  // namespace

Result<std::unique_ptr<CaptureFormat>> open_pcap(CaptureBytes &bytes, const uint8_t magic[4])
{
	uint32_t word;
	memcpy(&word, magic, sizeof word);
	const uint32_t turned = __builtin_bswap32(word);
	bytes.swapped = turned == kMicroseconds || turned == kNanoseconds;
	if (bytes.swapped)
		word = turned;
	if (word != kMicroseconds && word != kNanoseconds)
		return std::unique_ptr<CaptureFormat>();
	uint8_t rest[20];
	if (!bytes.read(rest, sizeof rest))
		return Error{"CAPTURE_INVALID", "read", 0,
			     "the file header is cut short: the file ends at byte " + std::to_string(bytes.offset())};
	if (const uint32_t version = bytes.load16(rest); version != 2)
		return Error{"CAPTURE_INVALID", "read", 0, "at byte 4: version " + std::to_string(version) + " is not 2"};
	if (const uint32_t link = bytes.load32(rest + 16) & kLinkTypeMask; link != kEthernet)
		return Error{"CAPTURE_INVALID", "read", 0,
			     "at byte 20: link type " + std::to_string(link) + " is not Ethernet (1)"};
	return std::unique_ptr<CaptureFormat>(new Pcap(bytes, word == kNanoseconds));
}

}  // namespace vx
