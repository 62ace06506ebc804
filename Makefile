# What a newcomer types. Every target prepares what it needs.
# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
.PHONY: help setup demo bench sizes bench-hooks test slow kernels lint format wheel clean
JOBS ?= 2

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## system packages, virtual environment, host twin; quick when done
	@scripts/setup.sh

demo: setup ## one turn of the loop on the emulated board; report in build/demo
	.venv/bin/dhn-kit demo --output build/demo

bench: setup ## instructions, memory and flash of the benchmark networks on every emulated board; build/bench/kernels.json
	.venv/bin/python scripts/bench.py

sizes: setup ## flash and RAM of the whole application per core, packs per real board
	.venv/bin/python scripts/sizes.py

bench-hooks: setup ## what hooks save on every workload (or WORKLOAD=name); build/bench/hooks.json
	.venv/bin/python scripts/bench_hooks.py $(WORKLOAD)

test: setup lint ## lint, then all tests that take less than a minute
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not exhaustive and not zoo"

slow: setup ## the tests that take longer: the demo, the loop, whole networks
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m "slow and not exhaustive and not zoo"

kernels: setup ## every kernel on every emulated core over every layer: three minutes
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m exhaustive tests/test_kernels.py

lint: setup ## style, types, static checks
	@scripts/lint.sh

format: setup ## lay out all code as lint wants it
	.venv/bin/ruff format -q .
	find firmware mcu_kernels host/twin -name '*.[ch]' -o -name '*.cpp' | xargs .venv/bin/clang-format -i

wheel: setup ## a wheel in dist/ that works outside the checkout
	.venv/bin/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean: ## remove what was built, keep the virtual environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find host tests zoo -name __pycache__ -prune -exec rm -rf {} +
