# vxpipe: everything from a fresh clone. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: help build abi test test-native test-unit test-netns soak sim lint format demo bench clean

NATIVE := build/native
CLANG := -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
STAMP := build/.setup

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): apt-packages.txt package-lock.json scripts/setup
	scripts/setup
	@mkdir -p build && touch $@

$(NATIVE)/build.ninja: $(STAMP) native/CMakeLists.txt
	cmake -S native -B $(NATIVE) -G Ninja $(CLANG) --log-level=WARNING

build: $(NATIVE)/build.ninja ## eBPF programs, addon, TypeScript
	ninja -C $(NATIVE) --quiet
	npx tsc -p .

abi: $(STAMP) ## regenerate what is generated from bpf/abi
	node bpf/abi/generate.mjs

test: lint test-native test-unit test-netns ## everything; as root nothing is skipped
	@echo "all tests passed"

test-native: build ## C++ and eBPF tests, sanitizers, fuzzers over their corpora
	scripts/test-native

test-unit: build ## TypeScript
	node --test --test-concurrency=2 dist/test/unit/*.test.js dist/test/demo/*.test.js

test-netns: build ## real packets through network namespaces (root)
	scripts/test-netns

soak: build ## full load amid reloads, edits and flapping links, SOAK_SECONDS of it (ten minutes; root); VX_SEED repeats
	SOAK_SECONDS=$${SOAK_SECONDS:-600} node --test dist/test/netns/soak.test.js

lint: build ## linters, formatting, generated files up to date
	npx oxlint --quiet
	npx prettier --check --log-level warn .
	node bpf/abi/generate.mjs --check

format: $(STAMP) ## prettier
	npx prettier --write --log-level warn .

sim: build ## the NAT engine's simulation with new seeds, SIM_SECONDS of it (an hour)
	VX_SIM_SECONDS=$${SIM_SECONDS:-3600} VX_SIM_FIRST=$$(date +%s) $(NATIVE)/test/nat_sim_test

demo: build ## ten seconds of traffic with proof (root)
	@node dist/test/demo/main.js

bench: build ## kernel peers and ourselves, interleaved (root, up to 10 minutes)
	node dist/bench/run.js
	npx prettier --write --log-level warn docs/PERFORMANCE.md

clean: ## remove what was built
	rm -rf build dist
