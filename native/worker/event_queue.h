// What the workers have to say to people: a bounded queue between their threads and Node's main thread. Slow path only, so
// a mutex is fine.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workers.h"

namespace vx {

class EventQueue {
public:
	// Any worker's thread. The oldest event makes room; within one second at most kPerSecond of a kind get in, so that
	// a flapping table does not push out everything else. What does not stay is counted. `event` is a literal.
	void push(const char *event, uint64_t now_ns, std::string detail)
	{
		const std::lock_guard lock(mutex_);
		if (now_ns >= second_ns_ + 1000000000) {
			second_ns_ = now_ns;
			this_second_.clear();
		}
		if (this_second_[event]++ >= kPerSecond) {
			suppressed_[event]++;
			return;
		}
		if (queue_.size() == kMost) {
			suppressed_[queue_.front().event]++;
			queue_.pop_front();
		}
		queue_.push_back({event, now_ns, std::move(detail)});
	}
	// More than anybody reads are left out.
	void push_sample(const vx_sample &sample)
	{
		const std::lock_guard lock(mutex_);
		if (samples_.size() < kSamplesMost)
			samples_.push_back(sample);
	}

	// Any thread.
	std::vector<WorkerEvent> drain()
	{
		const std::lock_guard lock(mutex_);
		std::vector<WorkerEvent> all(std::make_move_iterator(queue_.begin()),
					     std::make_move_iterator(queue_.end()));
		queue_.clear();
		for (const auto &[event, count] : suppressed_)
			all.push_back({event, 0, "", count});
		suppressed_.clear();
		return all;
	}
	std::vector<vx_sample> drain_samples()
	{
		const std::lock_guard lock(mutex_);
		return std::exchange(samples_, {});
	}

private:
	static constexpr size_t kMost = 1024;
	static constexpr size_t kSamplesMost = kMost / 2;
	static constexpr uint32_t kPerSecond = 64;

	std::mutex mutex_;
	std::deque<WorkerEvent> queue_;
	std::vector<vx_sample> samples_;
	uint64_t second_ns_ = 0;
	std::map<std::string_view, uint32_t> this_second_;
	std::map<std::string, uint32_t> suppressed_;
};

}  // namespace vx
