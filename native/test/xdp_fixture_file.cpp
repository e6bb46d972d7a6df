// See xdp_fixture_file.h.
#include "xdp_fixture_file.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace vx::test {
namespace {

[[noreturn]] void broken(const std::string &file, int line, const std::string &what)
{
	fprintf(stderr, "%s:%d: %s\n", file.c_str(), line, what.c_str());
	abort();
}

Words split(const std::string &text)
{
	std::istringstream stream(text);
	Words words;
	for (std::string word; stream >> word;)
		words.push_back(word);
	return words;
}

class Reader {
public:
	explicit Reader(const std::filesystem::path &path) : path_(path.string()), group_(path.stem().string()) {}

	std::vector<Fixture> read()
	{
		std::ifstream stream(path_);
		for (std::string text; std::getline(stream, text);) {
			line_++;
			if (!text.empty() && text[0] != '#')
				take(text);
		}
		finish_case();
		return std::move(fixtures_);
	}

private:
	void take(const std::string &text)
	{
		const Words words = split(text);
		const std::string &first = words[0];
		if (first == "case") {
			finish_case();
			fixtures_.push_back({group_, text.substr(5), "", {}, line_});
			pending_ = common_;
		} else if (fixtures_.empty()) {
			common_.push_back(words);
		} else if (first == "knobs") {
			fixtures_.back().knobs = text.substr(6);
		} else if (first == "bare") {
			pending_.clear();
		} else if (first == "in") {
			fixtures_.back().steps.push_back({std::move(pending_), from_hex(words.at(1)), "", {}, {}, {}, {}, line_});
			pending_.clear();
		} else if (!take_outcome(words)) {
			pending_.push_back(words);
		}
	}

	bool take_outcome(const Words &words)
	{
		static const char *const kOutcomes[] = {"verdict", "out", "exception", "count", "after"};
		const std::string &first = words[0];
		if (std::find(std::begin(kOutcomes), std::end(kOutcomes), first) == std::end(kOutcomes))
			return false;
		if (fixtures_.back().steps.empty())
			broken(path_, line_, "an outcome without a frame");
		FixtureStep &step = fixtures_.back().steps.back();
		if (first == "verdict")
			step.verdict = words.at(1);
		else if (first == "out")
			step.out = words.at(1) == "same" ? step.in : from_hex(words.at(1));
		else if (first == "exception")
			step.exception = Words(words.begin() + 1, words.end());
		else if (first == "after")
			step.after.emplace_back(words.begin() + 1, words.end());
		else
			for (size_t i = 1; i < words.size(); i++) {
				const size_t equals = words[i].find('=');
				step.counts[words[i].substr(0, equals)] = std::stoull(words[i].substr(equals + 1));
			}
		return true;
	}

	void finish_case()
	{
		if (fixtures_.empty())
			return;
		if (fixtures_.back().steps.empty() || !pending_.empty())
			broken(path_, line_, "set-up that no frame follows");
		for (const FixtureStep &step : fixtures_.back().steps)
			if (step.verdict.empty() || step.counts.empty())
				broken(path_, step.line, "a frame without verdict or counters");
	}

	const std::string path_, group_;
	int line_ = 0;
	std::vector<Words> common_, pending_;
	std::vector<Fixture> fixtures_;
};

}  // namespace

std::vector<Fixture> read_fixtures(const std::string &directory)
{
	std::vector<Fixture> all;
	std::vector<std::filesystem::path> paths;
	for (const auto &entry : std::filesystem::directory_iterator(directory))
		if (entry.path().extension() == ".txt")
			paths.push_back(entry.path());
	std::sort(paths.begin(), paths.end());
	for (const auto &path : paths)
		for (Fixture &one : Reader(path).read())
			all.push_back(std::move(one));
	std::stable_sort(all.begin(), all.end(), [](const Fixture &a, const Fixture &b) { return a.knobs < b.knobs; });
	return all;
}

Bytes from_hex(const std::string &hex)
{
	Bytes bytes(hex.size() / 2);
	for (size_t i = 0; i < bytes.size(); i++)
		bytes[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
	return bytes;
}

std::string to_hex(const Bytes &bytes)
{
	std::string hex;
	char digits[3];
	for (const uint8_t byte : bytes) {
		snprintf(digits, sizeof digits, "%02x", byte);
		hex += digits;
	}
	return hex;
}

}  // namespace vx::test
