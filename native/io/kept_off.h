// Keeps the control plane off the CPUs of workers that send everything. Used by the gateway on Node's main thread.
//
// Such a worker never sleeps while packets come, so whoever else the scheduler puts on its CPU takes turns with it: the few
// dozen times a second that Node wakes up were 1 % of all packets waiting for 50 us and more, and some for milliseconds.
#pragma once

#include <sched.h>

#include <span>

namespace vx {

class KeptOff {
public:
	// Moves every thread of this process that runs where its main thread may, and with them those they start from now on.
	// Without any other CPU all stay.
	explicit KeptOff(std::span<const int> cpus);
	KeptOff(const KeptOff &) = delete;
	KeptOff &operator=(const KeptOff &) = delete;
	~KeptOff();

private:
	cpu_set_t before_{}, since_{};
};

}  // namespace vx
