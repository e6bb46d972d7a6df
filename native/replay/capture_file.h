// Captures as files: read from one, written to one. Used by the addon's replay function on its thread.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "capture.h"

namespace vx {

struct CloseFile {
	void operator()(FILE *file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

class FileSource : public ByteSource {
public:
	static Result<std::unique_ptr<FileSource>> open(const std::string &path);
	size_t read(uint8_t *into, size_t size) override;
	int error() const override { return error_; }

private:
	File file_;
	int error_ = 0;
};

// Writes pcap. A regular file appears under its name when it is complete, and grows under the name `temporary` until then:
// one that was there before, the input perhaps, stays, and a run that fails leaves it alone. Into a pipe or a device it
// writes straight away.
class CaptureWriter {
public:
	static Result<std::unique_ptr<CaptureWriter>> create(const std::string &path, const std::string &temporary);
	~CaptureWriter();

	// The first packet decides the resolution: nanoseconds where `fine_time`, else the microseconds everybody reads.
	void write(uint64_t time_ns, std::span<const uint8_t> frame, bool fine_time);
	Result<void> finish();

private:
	explicit CaptureWriter(std::string path) : path_(std::move(path)) {}
	std::string path_, temporary_;
	File file_;
	bool begun_ = false, fine_ = false;

	void begin(bool fine_time);
};

}  // namespace vx
