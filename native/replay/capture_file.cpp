// See capture_file.h.
#include "capture_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace vx {
namespace {

Error system_error(const char *code, const char *op)
{
	return {code, op, errno, {}};
}

// In this host's byte order, which the magic number tells.
struct FileHeader {
	uint32_t magic;
	uint16_t major = 2, minor = 4;
	uint32_t zone = 0, accuracy = 0;
	uint32_t snap_length = kCaptureBytesMax;
	uint32_t link_type = 1;
};

struct PacketHeader {
	uint32_t seconds, fraction, captured, length;
};

}  // namespace

Result<std::unique_ptr<FileSource>> FileSource::open(const std::string &path)
{
	auto source = std::make_unique<FileSource>();
	source->file_.reset(fopen(path.c_str(), "rbe"));
	struct stat about;
	if (!source->file_)
		return system_error("CAPTURE_UNREADABLE", "open");
	if (!fstat(fileno(source->file_.get()), &about) && S_ISDIR(about.st_mode)) {
		errno = EISDIR;
		return system_error("CAPTURE_UNREADABLE", "open");
	}
	return source;
}

size_t FileSource::read(uint8_t *into, size_t size)
{
	const size_t got = fread(into, 1, size, file_.get());
	if (got < size && ferror(file_.get()))
		error_ = errno;
	return got;
}

Result<std::unique_ptr<CaptureWriter>> CaptureWriter::create(const std::string &path, const std::string &temporary)
{
	std::unique_ptr<CaptureWriter> writer(new CaptureWriter(path));
	struct stat about;
	const bool exists = !stat(path.c_str(), &about);
	if (exists && !S_ISREG(about.st_mode)) {
		writer->file_.reset(fopen(path.c_str(), "wbe"));
	} else {
		writer->temporary_ = temporary;
		writer->file_.reset(fopen(writer->temporary_.c_str(), "wbxe"));
		if (writer->file_ && exists)  // with the modes of what was there
			fchmod(fileno(writer->file_.get()), about.st_mode & 07777);
	}
	if (writer->file_)
		return writer;
	const Error error = system_error("OUTPUT_UNWRITABLE", "create");
	writer->temporary_.clear();  // whoever's it is
	return error;
}

CaptureWriter::~CaptureWriter()
{
	if (!temporary_.empty())
		unlink(temporary_.c_str());
}

void CaptureWriter::begin(bool fine_time)
{
	FileHeader header{.magic = fine_time ? 0xa1b23c4d : 0xa1b2c3d4};
	fwrite(&header, sizeof header, 1, file_.get());
	begun_ = true;
	fine_ = fine_time;
}

// Errors stay with the file and are told by finish().
void CaptureWriter::write(uint64_t time_ns, std::span<const uint8_t> frame, bool fine_time)
{
	if (!begun_)
		begin(fine_time);
	const auto length = static_cast<uint32_t>(frame.size());
	const uint64_t fraction_ns = time_ns % 1000000000;
	const PacketHeader header{static_cast<uint32_t>(time_ns / 1000000000),
				  static_cast<uint32_t>(fine_ ? fraction_ns : fraction_ns / 1000), length, length};
	fwrite(&header, sizeof header, 1, file_.get());
	fwrite(frame.data(), 1, frame.size(), file_.get());
}

Result<void> CaptureWriter::finish()
{
	if (!begun_)
		begin(false);
	errno = 0;
	const bool failed = ferror(file_.get());
	if (fflush(file_.get()) || failed) {
		if (!errno)
			errno = EIO;
		return system_error("OUTPUT_UNWRITABLE", "write");
	}
	if (!temporary_.empty() && rename(temporary_.c_str(), path_.c_str()))
		return system_error("OUTPUT_UNWRITABLE", "rename");
	temporary_.clear();
	return {};
}

}  // namespace vx
