// Captures, packet by packet: pcap and pcap-ng, in either byte order, with any resolution of time. Used by Replay's
// callers and the fuzzer. A damaged file ends with an error that says what is wrong and at which byte; nothing of it is
// trusted before it is checked.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../io/result.h"

namespace vx {

inline constexpr uint32_t kCaptureBytesMax = 262144;  // libpcap's limit for a packet

struct CapturedPacket {
	uint64_t time_ns;  // since 1970; below 2^32 seconds, as pcap can say
	std::span<const uint8_t> bytes;
};

// Where a capture's bytes come from.
class ByteSource {
public:
	virtual ~ByteSource() = default;
	// As many as there are, up to `size`; fewer only at the end.
	virtual size_t read(uint8_t *into, size_t size) = 0;
	// errno of what ended it, 0: the end itself.
	virtual int error() const { return 0; }
};

// A source with its place, in the byte order the file turned out to have.
class CaptureBytes {
public:
	explicit CaptureBytes(ByteSource &source) : source_(source) {}

	// False: they are not all there, and `got` of them are in `into`.
	bool read(uint8_t *into, size_t size, size_t *got = nullptr);
	bool skip(uint64_t size);
	uint64_t offset() const { return offset_; }
	int error() const { return source_.error(); }
	bool swapped = false;  // against this host
	bool big_endian() const { return swapped != (std::endian::native == std::endian::big); }

	uint16_t load16(const uint8_t *at) const;
	uint32_t load32(const uint8_t *at) const;

private:
	ByteSource &source_;
	uint64_t offset_ = 0;
};

class CaptureFormat {
public:
	explicit CaptureFormat(CaptureBytes &bytes) : bytes_(bytes) {}
	virtual ~CaptureFormat() = default;
	// False: the end. The packet's bytes stay until the next call.
	virtual Result<bool> next(CapturedPacket &packet) = 0;
	// Times so far have been finer than microseconds.
	bool fine_time() const { return fine_time_; }

protected:
	CaptureBytes &bytes_;
	std::vector<uint8_t> data_;
	uint64_t packets_ = 0;  // begun
	bool fine_time_ = false;

	Error broken(uint64_t offset, const std::string &what) const;
	Error packet_broken(uint64_t offset, const std::string &what) const;
	Error cut_short(uint64_t offset, const std::string &what) const;
	// Reads `size` bytes of a packet that began at `offset`.
	Result<bool> read_data(uint32_t size, uint64_t offset);
};

// After the first four bytes, which said what it is.
Result<std::unique_ptr<CaptureFormat>> open_pcap(CaptureBytes &bytes, const uint8_t magic[4]);
Result<std::unique_ptr<CaptureFormat>> open_pcapng(CaptureBytes &bytes);

class CaptureReader {
public:
	// The source outlives the reader.
	static Result<std::unique_ptr<CaptureReader>> open(ByteSource &source);
	Result<bool> next(CapturedPacket &packet) { return format_->next(packet); }
	bool fine_time() const { return format_->fine_time(); }

private:
	explicit CaptureReader(ByteSource &source) : bytes_(source) {}
	CaptureBytes bytes_;
	std::unique_ptr<CaptureFormat> format_;
};

}  // namespace vx
