# Building, testing, showing and installing pinlet. `make help` lists what there is.
#
# Works as root, as a user (what needs root says so), and under sudo: then the calling user's Rust toolchain compiles,
# as that user, and only what needs root runs as root.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr
DESTDIR ?=
# Where systemd looks for packaged units, whatever PREFIX is.
UNITDIR ?= /lib/systemd/system

TARGET := $(shell uname -m)-unknown-linux-musl
STATIC := target/$(TARGET)/release/pinlet
CARGO := packaging/as-caller.sh cargo

# Under sudo, whatever root made in the caller's tree is handed back, also after a failure.
ifneq ($(SUDO_USER),)
give_back = trap 'find target .cache -user root -exec chown -h "$$SUDO_USER:" {} + 2>/dev/null || true' EXIT;
endif

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: build
build: ## The ordinary release build: target/release/pinlet
	$(CARGO) build --release --locked --bin pinlet

.PHONY: static
static: ## The static musl binary; fails if it is not static
	packaging/deps.sh build
	packaging/as-caller.sh packaging/static-build.sh

.PHONY: demo
demo: static images ## The walkthroughs, narrated: two pods, a crash, an edit, a dead agent (root)
	packaging/deps.sh demo
	$(give_back) tests/demo.sh $(STATIC)

.PHONY: check
check: ## Formatting, lints, and the rules of the tree
	packaging/deps.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --quiet --test tidy

.PHONY: images
images: ## The images of the demo and the tests, built offline from Debian's packages
	packaging/deps.sh images
	$(give_back) tests/support/images.sh

# What is run against the ordinary build too, by the names of tests in tests/node.rs.
SMOKE = a_manifest_becomes_a_pod a_host_network_pod_answers a_killed_container_is_back a_removed_pod_leaves_nothing

.PHONY: test
test: deps check static images ## All set-up, then every test (root; about half an hour on two cores)
	$(give_back) PINLET_BIN=$(CURDIR)/$(STATIC) tests/run.sh --except tidy
	$(give_back) tests/run.sh --only node -- $(SMOKE)
	$(MAKE) vm-test

.PHONY: deps
deps: ## Install the Debian packages that building and testing need (root)
	$(give_back) packaging/deps.sh build images test

.PHONY: vm-test
vm-test: deps package images ## Units, shutdown, power cuts and boots on an emulated Debian 12 (root, at most 15 minutes)
	$(give_back) tests/vm/image.sh
	$(CARGO) test --locked --no-run --test vm
	$(give_back) timeout --kill-after=30 900 tests/run.sh --only vm -- --test-threads=2 --nocapture

.PHONY: bench
bench: static ## The figures of the README, beside crun and podman (root; PINLET_BENCH_IDLE_SECONDS=600 for a long idle run)
	packaging/deps.sh images bench
	$(CARGO) test --locked --no-run --test bench
	$(give_back) PINLET_BIN=$(CURDIR)/$(STATIC) tests/run.sh --only bench

.PHONY: install
install: ## Install the static binary, units, init script and man page (PREFIX, DESTDIR)
	@test -x $(STATIC) || { echo "install: no $(STATIC); make static builds it" >&2; exit 1; }
	install -D -m 755 $(STATIC) $(DESTDIR)$(PREFIX)/bin/pinlet
	install -D -m 644 packaging/pinlet.8 $(DESTDIR)$(PREFIX)/share/man/man8/pinlet.8
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)/etc/init.d
	for unit in pinlet.service pinlet-pods.service; do \
		sed 's|/usr/bin/pinlet|$(PREFIX)/bin/pinlet|' packaging/$$unit > $(DESTDIR)$(UNITDIR)/$$unit; \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	if [ -x /sbin/openrc-run ]; then script=pinlet.openrc; else script=pinlet.init; fi; \
		sed 's|/usr/bin/pinlet|$(PREFIX)/bin/pinlet|' packaging/$$script > $(DESTDIR)/etc/init.d/pinlet
	chmod 755 $(DESTDIR)/etc/init.d/pinlet
	test -e $(DESTDIR)/etc/default/pinlet || install -D -m 644 packaging/default $(DESTDIR)/etc/default/pinlet

.PHONY: package
package: static ## A Debian package of the static binary: target/pinlet_<version>_<arch>.deb
	packaging/as-caller.sh packaging/deb.sh

.PHONY: clean
clean: ## Remove what was built and cached
	rm -rf target .cache
