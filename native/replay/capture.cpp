// What both capture formats need, and which of them a file is. See capture.h.
#include "capture.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace vx {
namespace {

constexpr size_t kReadAtOnce = 65536;

std::string hex(const uint8_t *bytes, size_t count)
{
	std::string text;
	char one[4];
	for (size_t i = 0; i < count; i++) {
		snprintf(one, sizeof one, i ? " %02x" : "%02x", bytes[i]);
		text += one;
	}
	return text;
}

Error not_a_capture(const std::string &what, int err = 0)
{
	return {err ? "CAPTURE_UNREADABLE" : "CAPTURE_INVALID", "read", err, err ? strerror(err) : what};
}

}  // namespace

bool CaptureBytes::read(uint8_t *into, size_t size, size_t *got)
{
	const size_t there = source_.read(into, size);
	offset_ += there;
	if (got)
		*got = there;
	return there == size;
}

bool CaptureBytes::skip(uint64_t size)
{
	uint8_t unwanted[4096];
	for (; size; size -= std::min<uint64_t>(size, sizeof unwanted))
		if (!read(unwanted, std::min<uint64_t>(size, sizeof unwanted)))
			return false;
	return true;
}

uint16_t CaptureBytes::load16(const uint8_t *at) const
{
	uint16_t value;
	memcpy(&value, at, sizeof value);
	return swapped ? __builtin_bswap16(value) : value;
}

uint32_t CaptureBytes::load32(const uint8_t *at) const
{
	uint32_t value;
	memcpy(&value, at, sizeof value);
	return swapped ? __builtin_bswap32(value) : value;
}

Error CaptureFormat::broken(uint64_t offset, const std::string &what) const
{
	return {"CAPTURE_INVALID", "read", 0, "at byte " + std::to_string(offset) + ": " + what};
}

Error CaptureFormat::packet_broken(uint64_t offset, const std::string &what) const
{
	return {"CAPTURE_INVALID", "read", 0,
		"packet " + std::to_string(packets_) + ", at byte " + std::to_string(offset) + ": " + what};
}

Error CaptureFormat::cut_short(uint64_t offset, const std::string &what) const
{
	if (const int err = bytes_.error())
		return not_a_capture({}, err);
	return broken(offset, what + " that starts here is cut short: the file ends at byte " +
				      std::to_string(bytes_.offset()));
}

// In steps, so that a length that promises more than the file has costs no more memory than that.
Result<bool> CaptureFormat::read_data(uint32_t size, uint64_t offset)
{
	data_.clear();
	while (data_.size() < size) {
		const size_t before = data_.size(), more = std::min<size_t>(size - before, kReadAtOnce);
		data_.resize(before + more);
		if (!bytes_.read(data_.data() + before, more))
			return cut_short(offset, "packet " + std::to_string(packets_));
	}
	return true;
}

Result<std::unique_ptr<CaptureReader>> CaptureReader::open(ByteSource &source)
{
	static constexpr uint8_t kSectionHeader[4] = {0x0a, 0x0d, 0x0d, 0x0a};
	std::unique_ptr<CaptureReader> reader(new CaptureReader(source));
	uint8_t magic[4];
	size_t got = 0;
	if (!reader->bytes_.read(magic, sizeof magic, &got)) {
		if (const int err = source.error())
			return not_a_capture({}, err);
		return not_a_capture(got ? "is too short for a capture" : "is empty");
	}
	if (magic[0] == 0x1f && magic[1] == 0x8b)
		return not_a_capture("is compressed with gzip: unpack it first");
	auto format = !memcmp(magic, kSectionHeader, sizeof magic) ? open_pcapng(reader->bytes_)
								    : open_pcap(reader->bytes_, magic);
	if (!format)
		return format.error();
	if (!*format)
		return not_a_capture("is neither pcap nor pcap-ng: it starts with " + hex(magic, sizeof magic));
	reader->format_ = std::move(*format);
	return reader;
}

}  // namespace vx
