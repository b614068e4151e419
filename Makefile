# `make` lists what there is to do. Each target sees to what it needs first (scripts/need).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# A fresh rustup is not yet on the path of the shell that installed it.
CARGO_BIN := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin
ifneq ($(wildcard $(CARGO_BIN)/cargo),)
export PATH := $(CARGO_BIN):$(PATH)
endif

# Where cargo builds, as cargo itself reads it from the environment.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Flags for the server: make run ARGS="--record off", or for the load: make compare ARGS="--viewers 200"
ARGS ?=
# What to compare with: a binary for `make compare`, the name of a saved run for `make instructions`.
BASE ?=
# Name under which `make instructions` saves its run.
SAVE ?=
# Where the runs of `make instructions` are kept.
COUNTS := $(abspath $(TARGET))/instructions/counts
# How long each fuzz target runs.
FUZZ_SECONDS ?= 60
# Which browser tests run.
BROWSER_TESTS ?= $(wildcard tests/browser/*.test.mjs)

# Which tests with a real Prometheus run.
OPERATE_TESTS ?= $(wildcard tests/operate/*.test.mjs)

# Which client tests run.
CLIENT_TESTS ?= $(wildcard tests/clients/*.test.mjs)

BROWSER_MODULES := tests/browser/node_modules/.package-lock.json
CLIENT_MODULES := tests/clients/node_modules/.package-lock.json
CLIENT_VENV := tests/clients/venv/pyvenv.cfg
PION := tests/clients/pion/bin/pion
GSTREAMER_TARGET := $(or $(CARGO_TARGET_DIR),tests/clients/gstreamer/target)

.PHONY: help run test test-rust test-browser test-clients test-gstreamer test-operate minute impaired joins check audit bench compare instructions fuzz clean

help: ## list what there is to do
	@echo 'onair: a WebRTC broadcast server'
	@echo
	@awk -F '(:.*)?## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: ## build and start the server; flags with ARGS="--record off"
	@scripts/need run
	cargo build --release --locked
	@echo
	@echo 'Open http://localhost:8080 in a browser, if you gave no other address. Ctrl-C ends the server.'
	@exec $(TARGET)/release/onair $(ARGS)

test: ## run all tests: Rust, fuzzing corpus, browsers, other makers' clients, Prometheus
	@scripts/need test
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-clients
	@$(MAKE) --no-print-directory test-operate

# Many of them wait, for ffmpeg, for a disk or for a deadline: twice as many at a time as there are cores.
test-rust: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test-rust: ## run the Rust tests and replay the fuzzing corpus
	cargo test --locked

# Built as for the Rust tests: `cargo build` alone would build the dependencies anew, with other features.
test-browser: $(BROWSER_MODULES) ## run the browser tests alone; some with BROWSER_TESTS=FILE
	@test -n '$(BROWSER_TESTS)' || { echo 'tests/browser holds no tests' >&2; exit 1; }
	cargo test --locked --no-run
	ONAIR_BIN=$(abspath $(TARGET)/debug/onair) ONAIR_VIEWERS=$(abspath $(TARGET)/debug/examples/viewers) \
		node --test --test-concurrency=1 --test-reporter=spec $(BROWSER_TESTS)

test-clients: $(BROWSER_MODULES) $(CLIENT_MODULES) $(CLIENT_VENV) $(PION) ## run the tests with WHIP and WHEP clients alone
	@test -n '$(CLIENT_TESTS)' || { echo 'tests/clients holds no tests' >&2; exit 1; }
	cargo test --locked --no-run
	ONAIR_BIN=$(abspath $(TARGET)/debug/onair) ONAIR_PION=$(abspath $(PION)) \
		node --test --test-concurrency=1 --test-reporter=spec $(CLIENT_TESTS)

# With OPERATE_REPORT=FILE each query and what it found is written there.
test-operate: $(BROWSER_MODULES) ## run the tests with a real Prometheus, its rules and the dashboard alone
	cargo test --locked --no-run
	ONAIR_BIN=$(abspath $(TARGET)/debug/onair) \
		node --test --test-concurrency=1 --test-reporter=spec $(OPERATE_TESTS)

# Not part of `make test`: its elements are some 350 crates, which build for two minutes and more.
test-gstreamer: $(BROWSER_MODULES) $(CLIENT_MODULES) $(CLIENT_VENV) ## build GStreamer's WHIP and WHEP elements, and test with them
	@scripts/need test
	@scripts/need gstreamer
	cargo build --locked --manifest-path tests/clients/gstreamer/Cargo.toml --target-dir $(GSTREAMER_TARGET)
	cargo test --locked --no-run
	ONAIR_BIN=$(abspath $(TARGET)/debug/onair) ONAIR_GSTREAMER=$(abspath $(GSTREAMER_TARGET)/debug/onair-gstreamer) \
		node --test --test-reporter=spec tests/clients/gstreamer.mjs

# The viewers are built as for the tests, with the server's release build left as it is.
minute: $(BROWSER_MODULES) ## let ten viewers watch 720p for a minute, and look at its recording
	@scripts/need test
	cargo build --release --locked
	cargo build --locked --example viewers
	ONAIR_BIN=$(abspath $(TARGET)/release/onair) ONAIR_VIEWERS=$(abspath $(TARGET)/debug/examples/viewers) \
		node --test --test-reporter=spec tests/browser/minute.mjs

impaired: $(BROWSER_MODULES) ## watch for five minutes over a path with loss and jitter; for less with SPAN_S=60
	@scripts/need test
	cargo build --release --locked
	ONAIR_BIN=$(abspath $(TARGET)/release/onair) node --test --test-reporter=spec tests/browser/impaired.mjs

joins: $(BROWSER_MODULES) ## measure how long a late viewer waits for its first frame
	@scripts/need test
	cargo build --release --locked
	ONAIR_BIN=$(abspath $(TARGET)/release/onair) node tests/browser/joins.mjs

# puppeteer-core drives the browsers of the system: it downloads none.
$(BROWSER_MODULES): tests/browser/package.json tests/browser/package-lock.json
	@scripts/need test
	npm ci --prefix tests/browser --no-audit --no-fund --loglevel error
	@touch $@

$(CLIENT_MODULES): tests/clients/package.json tests/clients/package-lock.json
	@scripts/need test
	npm ci --prefix tests/clients --no-audit --no-fund --loglevel error
	@touch $@

$(CLIENT_VENV): tests/clients/requirements.txt
	@scripts/need test
	python3 -m venv --clear tests/clients/venv
	tests/clients/venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r $<
	@touch $@

# Pion as Debian packages it: its Go packages lie in a GOPATH, and nothing is downloaded.
$(PION): tests/clients/pion/src/pion/main.go tests/clients/pion/src/pion/go.mod
	@scripts/need test
	GO111MODULE=off GOFLAGS= GOPATH=$(abspath tests/clients/pion):/usr/share/gocode go build -o $@ pion

check: ## check form, lints, documentation, dependencies and house rules
	@scripts/need check
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo fmt --check --manifest-path benches/instructions/Cargo.toml
	cargo fmt --check --manifest-path tests/clients/gstreamer/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	cargo deny --locked --log-level error check bans licenses sources
	cargo test --locked --test tidy --quiet

audit: ## look the dependencies up among known vulnerabilities (needs the network)
	@scripts/need check
	cargo deny --locked check advisories

bench: ## measure forwarding, sending, demultiplexing and parsing
	@scripts/need bench
	cargo bench --locked

compare: ## fail unless this build forwards as cheaply as another: BASE=path-to-binary
	@[ -f '$(BASE)' ] || { echo "make compare: BASE must name the binary of another build, as in: make compare BASE=../before/target/release/onair" >&2; exit 2; }
	@scripts/need bench
	cargo bench --locked --bench load -- --compare '$(BASE)' $(ARGS)

# Without a saved run of that name, gungraun would save one and compare nothing.
instructions: ## count the instructions of a packet with valgrind; save a run with SAVE=NAME, compare with BASE=NAME
	@[ -z '$(BASE)' ] || [ -n "$$(find $(COUNTS) -name '*.base@$(BASE)' -print -quit 2>/dev/null)" ] || \
		{ echo "make instructions: no run was saved as $(BASE): run 'make instructions SAVE=$(BASE)' on the other commit first" >&2; exit 2; }
	@scripts/need instructions
	GUNGRAUN_HOME=$(COUNTS) \
		cargo bench --locked --manifest-path benches/instructions/Cargo.toml --target-dir $(TARGET)/instructions -- \
		$(if $(SAVE),--save-baseline='$(SAVE)') $(if $(BASE),--baseline='$(BASE)' --callgrind-limits='ir=2%')

# What fuzzing finds by itself goes to fuzz/found; what is worth keeping moves from there to fuzz/corpus by hand.
# Leaks are what tests/churn.rs looks for: to look after each input, with a hub that stays, takes half of the time.
fuzz: ## run each fuzz target for FUZZ_SECONDS (60); some with FUZZ_TARGETS="sdp rtp"
	@scripts/need fuzz
	@for target in $(or $(FUZZ_TARGETS),$$(cargo fuzz list)); do \
		echo "fuzz $$target for $(FUZZ_SECONDS) s"; \
		mkdir -p "fuzz/found/$$target"; \
		tokens=(); \
		case "$$target" in message | signaling | sdp | sdpfrag) tokens=(-dict=$(CURDIR)/fuzz/sdp.dict) ;; esac; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run "$$target" "fuzz/found/$$target" "fuzz/corpus/$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -max_len=16384 -detect_leaks=0 "$${tokens[@]}"; \
	done

clean: ## remove what was built, never recordings
	cargo clean
	rm -rf fuzz/target fuzz/found tests/browser/node_modules tests/clients/node_modules tests/clients/venv tests/clients/pion/bin tests/clients/gstreamer/target
