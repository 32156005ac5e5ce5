# `make` lists what can be done.

SHELL := /bin/sh
CARGO ?= cargo
# Absolute, since brokers run in folders of their own.
target := $(abspath $(or $(CARGO_TARGET_DIR),target))
plugin := libmosquitto_http_auth.so

# Where `make install` puts the plugin. DESTDIR goes in front, for packagers.
PREFIX ?= /usr/local
plugindir ?= $(PREFIX)/lib/mosquitto

# More words for `cargo test` or the demo, such as a test's name or a broker.
ARGS ?=

# Each step needs the one before it, and cargo uses every core by itself.
.NOTPARALLEL:

.PHONY: help
help: ## list the targets (this is the default)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: ## install what building needs on Debian (needs root only if something is missing)
	@scripts/setup.sh

.PHONY: brokers
brokers: ## unpack Mosquitto 2.0.11, 2.0.21 and 2.1 into .brokers/, or what can be had of them (installs nothing)
	@scripts/brokers.sh all

.PHONY: build
build: setup ## build the plugin: target/release/libmosquitto_http_auth.so
	$(CARGO) rustc -p mosquitto-http-auth --release --lib --crate-type cdylib
	@ls -l "$(target)/release/$(plugin)"

.PHONY: program
program: ## build the program beside it, without libclang and headers: target/release/mosquitto-http-auth
	$(CARGO) build -p mosquitto-http-auth-cli --release

# Where Rust's library for musl is added, and the C compiler that links against it.
musl := $(shell uname -m)-unknown-linux-musl
musl_name := $(shell echo $(musl) | tr a-z- A-Z_)
musl_compiler := CC_$(subst -,_,$(musl))=musl-gcc CARGO_TARGET_$(musl_name)_LINKER=musl-gcc
# Rust links whole programs for musl unless told otherwise, which a plugin is not.
musl_environment := RUSTFLAGS='-C target-feature=-crt-static $(RUSTFLAGS)' $(musl_compiler)

.PHONY: musl
musl: ## build the plugin for Alpine Linux and its containers: target/*-musl/release/libmosquitto_http_auth.so
	@scripts/setup.sh musl
	$(musl_environment) $(CARGO) rustc -p mosquitto-http-auth --release --lib --crate-type cdylib --target $(musl)
	@ls -l "$(target)/$(musl)/release/$(plugin)"

.PHONY: test-musl
test-musl: ## run the main tests with brokers 2.0.11 and 2.1 for musl (ARGS='--test delayed': those)
	@scripts/setup.sh tests
	@scripts/setup.sh musl
	@scripts/musl-brokers.sh
	$(musl_environment) $(CARGO) rustc -p mosquitto-http-auth --lib --crate-type cdylib --target $(musl)
	@# A panic is caught there, too: the boundary to the broker, built for musl.
	$(musl_environment) $(CARGO) test -p mosquitto-http-auth --target $(musl) --lib --test panics -- ffi:: panic
	@MHA_BROKERS=.brokers/musl MHA_PLUGIN="$(target)/$(musl)/debug/$(plugin)" scripts/test.sh \
		$(or $(ARGS),$(addprefix --test=,$(musl_tests))) -- $(addprefix --skip=,$(musl_skipped))

# Logins, topics, clients that wait, SIGHUP, TLS towards the API, looking ahead, the end.
musl_tests := authenticates authorises delayed looks_ahead rechecks shuts_down tls
# Their brokers would have TLS or websockets themselves, or are 2.0.21.
musl_skipped := tls_and_websockets over_tls_it_works cannot_be_read_are_left_alone that_cannot_let_clients_wait passes_for_a_restored

.PHONY: packages
packages: setup ## make a .deb and a .rpm of plugin and program: target/packages (ARGS=twice: build twice, and compare)
	@scripts/packages.sh $(ARGS)

.PHONY: test-packages
test-packages: override tested := $(ARGS)
test-packages: override ARGS :=
test-packages: packages ## make both, install each in fresh roots of Debian 12 and 13, log in, remove it (root; ARGS=trixie: in that one)
	@scripts/setup.sh roots
	$(CARGO) build -p mock-api
	@scripts/test-packages.sh $(tested)

.PHONY: demo
demo: build ## show the plugin at work, in every broker (ARGS=2.0.11: in that one)
	@scripts/brokers.sh $(or $(ARGS),all)
	$(CARGO) build -p mock-api
	@MHA_PLUGIN="$(target)/release/$(plugin)" MOCK_API="$(target)/debug/mock-api" scripts/demo.sh $(ARGS)

.PHONY: record-demo
record-demo: build ## record what `make demo` shows as docs/demo.svg and docs/demo.txt
	@scripts/brokers.sh 2.1
	$(CARGO) build -p mock-api
	@MHA_PLUGIN="$(target)/release/$(plugin)" MOCK_API="$(target)/debug/mock-api" scripts/record-demo.py

.PHONY: test
test: ## run all tests, against every broker that can be had (ARGS='--test NAME': some of them)
	@scripts/setup.sh tests
	@scripts/brokers.sh all
	@scripts/stores.sh || echo 'Tests of the shared cache will fail: there is no Valkey or no Redis.' >&2
	$(CARGO) build --lib
	@scripts/test.sh $(ARGS)

.PHONY: memcheck-host
memcheck-host: ## run the host tests under valgrind: no error, and nothing that is lost
	@scripts/setup.sh memcheck
	@scripts/brokers.sh 2.0.11
	$(CARGO) build --lib
	@# The C library's own tidying up would forget what belongs to a library that is still open, and valgrind call it lost.
	MHA_LAUNCHER='valgrind -q --suppressions=$(CURDIR)/scripts/memcheck.supp --run-libc-freeres=no --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite' \
		$(CARGO) test --test host $(ARGS)

.PHONY: soak
soak: build brokers ## a flood of logins, a moody API, a store that comes and goes and an attack, for ten minutes each (MINUTES=60: longer)
	@scripts/setup.sh tests
	@scripts/stores.sh
	MHA_PLUGIN="$(target)/release/$(plugin)" MHA_SOAK_MINUTES=$(or $(MINUTES),10) MHA_ATTACK_MINUTES=$(or $(MINUTES),10) \
		$(CARGO) test --test endures --test soak --test attack_run --test shared_cache $(ARGS) -- --nocapture

.PHONY: attack
attack: build brokers ## hostile clients against each broker, and what honest ones feel of it, for 6 minutes (MINUTES=1)
	@scripts/setup.sh tests
	MHA_PLUGIN="$(target)/release/$(plugin)" MHA_ATTACK_MINUTES=$(or $(MINUTES),6) \
		$(CARGO) test --test attack_run $(ARGS) -- --nocapture

.PHONY: fuzz
fuzz: ## fuzz what reads other people's bytes, 20 s each (SECONDS=600 TARGETS='topics peek')
	@scripts/fuzz.sh $(or $(SECONDS),20) $(TARGETS)

.PHONY: memcheck
memcheck: ## run the main tests with the brokers under valgrind (ARGS='delayed rechecks': these)
	@scripts/sanitize.sh memcheck $(ARGS)

.PHONY: asan
asan: ## the same under AddressSanitizer and LeakSanitizer
	@scripts/sanitize.sh asan $(ARGS)

.PHONY: tsan
tsan: ## fuzz the boundary for 5 minutes under ThreadSanitizer (needs a nightly toolchain with rust-src)
	@MHA_SANITIZER=thread scripts/fuzz.sh $(or $(SECONDS),300) broker_2_1

.PHONY: miri
miri: ## run the boundary to the broker in Miri (needs a nightly toolchain with miri and rust-src)
	MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test --target-dir "$(target)/miri" --lib -- ffi::entry

.PHONY: loom
loom: ## run what threads leave for each other in every order in which threads can run
	cd loom && $(CARGO) test --locked --release --target-dir "$(target)/loom"

.PHONY: check
check: ## check formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path loom/Cargo.toml
	$(CARGO) clippy --all-targets -- -D warnings

.PHONY: deny
deny: ## check licences, sources and known holes of the dependencies (builds cargo-deny on first use)
	@scripts/deny.sh

.PHONY: release
release: ## check everything, then make what a release consists of, in target/dist (ARGS=rehearse: unchecked)
	@scripts/release.sh $(ARGS)

.PHONY: install
install: ## install the built plugin, and the program if it is built, below PREFIX (/usr/local)
	@test -e "$(target)/release/$(plugin)" || { echo "There is nothing to install yet: run 'make build' first." >&2; exit 1; }
	install -D -m 644 "$(target)/release/$(plugin)" "$(DESTDIR)$(plugindir)/$(plugin)"
	@test ! -e "$(target)/release/mosquitto-http-auth" || \
		install -D -m 755 "$(target)/release/mosquitto-http-auth" "$(DESTDIR)$(PREFIX)/bin/mosquitto-http-auth"
	@echo "Now tell the broker, in mosquitto.conf:    plugin $(plugindir)/$(plugin)"

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean

.PHONY: distclean
distclean: clean ## remove the unpacked brokers, too
	rm -rf .brokers

.PHONY: bench
bench: build brokers ## measure it in real brokers, most of an hour, for docs/benchmark.md (ARGS='storm --rounds 3': a part)
	@scripts/stores.sh
	@MHA_PLUGIN="$(target)/release/$(plugin)" $(CARGO) bench --target-dir "$(target)/bench" --bench broker -- $(ARGS)

.PHONY: bench-quick
bench-quick: override ARGS += --quick
bench-quick: bench ## the same in some minutes: one round, less of everything

.PHONY: bench-pieces
bench-pieces: setup ## measure its pieces by themselves (ARGS=cache: those with that in their name)
	$(CARGO) bench --target-dir "$(target)/bench" --bench pieces -- $(ARGS)
