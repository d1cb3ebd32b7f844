# The front door: every target first installs what it needs (packages.txt), so that a fresh Debian 12 with git and make
# is enough. The build itself is CMake and Ninja; this file only says what to call, in which order.

SHELL := /bin/bash
BUILD := build
# Warnings are errors where nobody would read them: in CI.
WERROR := $(if $(CI),ON,OFF)
# make JOBS=1 for a machine that has other things to do.
NINJA := ninja -C $(BUILD) $(if $(JOBS),-j$(JOBS))
FUZZ_SECONDS ?= 600
PREFIX ?= /usr/local
PEERS ?= $(HOME)/.cache/quench-peers

# $(call configure,options): under half a second when nothing changed; its chatter is shown only when it fails.
configure = @log=$$(cmake --preset release -DQUENCH_WERROR=$(WERROR) $(1) 2>&1) || { echo "$$log" >&2; exit 1; }

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: help build demo test check lint format asan tsan fuzz bench-peers bench-compare dist install clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The program alone needs no test library: somebody who only wants to run it does not wait for one.
build:  ## build the program: build/quench (the first time also installs the packages it needs)
	@tools/setup.sh build
	$(call configure,-DQUENCH_TESTS=$$(tools/setup.sh --check test && echo ON || echo OFF))
	@$(NINJA) quench

demo: build  ## build, then compress, measure and compare the model in this repository by three profiles
	@$(BUILD)/quench shootout

test:  ## build everything, check the sources, run every test
	@tools/setup.sh build test
	$(call configure,-DQUENCH_TESTS=ON)
	@$(NINJA)
	@$(MAKE) --no-print-directory check
	@tools/run_tests.sh $(BUILD)

# Each check first proves on small bad files that it can fail: one that cannot is worth nothing.
check:  ## check the sources: format, include layers, sizes, weak symbols
	@tools/check_format.sh --self-test && tools/check_format.sh
	@tools/check_includes.py --self-test && tools/check_includes.py
	@tools/check_names.py
	@tools/check_sizes.sh --self-test && tools/check_sizes.sh
	@tools/check_weak_symbols.sh --self-test && tools/check_weak_symbols.sh $(BUILD)

lint:  ## clang-tidy over the whole tree (slow)
	@tools/setup.sh build test lint
	@cmake --preset lint >/dev/null
	@tools/lint.sh

format:  ## bring every source into the project's format
	@tools/setup.sh test
	@tools/check_format.sh --fix

asan:  ## every test under the address and undefined-behaviour sanitizers
	@tools/setup.sh build test
	@tools/run_sanitizers.sh asan

tsan:  ## every test under the thread sanitizer
	@tools/setup.sh build test
	@tools/run_sanitizers.sh tsan

fuzz:  ## every fuzz target for FUZZ_SECONDS (default 600) each
	@tools/setup.sh build fuzz
	@tools/run_fuzz.sh $(FUZZ_SECONDS)

# make bench-peers ARGS='--models Qwen2.5-7B:4 --json FILE': what tools/peers/bench_peers.py takes.
bench-peers: build  ## time quench beside llama.cpp, which is downloaded and compiled into PEERS the first time
	@tools/peers/setup.sh $(PEERS)
	@python3 tools/peers/bench_peers.py --quench $(BUILD)/quench --dir $(PEERS) $(ARGS)

bench-compare: build  ## time this tree beside an earlier revision, BASE=rev (default HEAD~1): a loss over 3 % fails
	@python3 tools/bench_compare.py $(or $(BASE),HEAD~1) $(ARGS)

dist: build  ## one archive under dist/ that runs on other x86-64 machines with nothing installed
	@tools/setup.sh dist
	@tools/make_dist.sh
	@tools/test_dist.sh

install: build  ## install below PREFIX (default /usr/local)
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:  ## remove everything that was built
	@rm -rf build build-base build-asan build-tsan build-clang build-fuzz build-lint dist
