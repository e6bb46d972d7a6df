// Work that waits, done on libuv's pool; a promise of its result. Started on Node's main thread.
#pragma once

#include <napi.h>

#include <functional>
#include <utility>

#include "marshal.h"

namespace vx {

// Makes the promise's value, on Node's main thread.
using Answer = std::function<Napi::Value(Napi::Env)>;

class Job : public Napi::AsyncWorker {
public:
	using Work = std::function<Result<Answer>()>;

	// `work` keeps alive what it needs.
	static Napi::Promise start(Napi::Env env, Work work)
	{
		auto *job = new Job(env, std::move(work));  // deletes itself
		Napi::Promise promise = job->deferred_.Promise();
		job->Queue();
		return promise;
	}

protected:
	void Execute() override { result_ = work_(); }
	void OnOK() override
	{
		if (result_)
			deferred_.Resolve((*result_)(Env()));
		else
			deferred_.Reject(to_js_error(Env(), result_.error()).Value());
	}

private:
	Job(Napi::Env env, Work work)
		: Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work))
	{
	}
	Napi::Promise::Deferred deferred_;
	const Work work_;
	Result<Answer> result_ = Answer();
};

// Whose promise is of nothing.
inline Napi::Promise start_job(Napi::Env env, std::function<Result<void>()> work)
{
	return Job::start(env, [work = std::move(work)]() -> Result<Answer> {
		if (auto done = work(); !done)
			return done.error();
		return Answer([](Napi::Env env) { return env.Undefined(); });
	});
}

}  // namespace vx
