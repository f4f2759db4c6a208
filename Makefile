# `make help` lists what there is. Cargo decides what has to be rebuilt; this
# file only says what to build for what.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
STATIC := $(TARGET)/$(HOST)/release
# The folder that `make beside` completes.
BESIDE ?= $(RELEASE)
NAME ?= local
# Words for the program, such as ARGS="--nodes 5".
ARGS ?=

.PHONY: help up down build beside deps test bench fmt clean

help: ## this list
	@echo "Ripstop: the network of a Kubernetes cluster, in one program."
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'A name and options: make up NAME=two ARGS="--nodes 5"'

up: deps build ## installs what is missing, builds, starts a cluster of three nodes
	@scripts/as-root.sh "$(RELEASE)/ripstop" up --name "$(NAME)" $(ARGS)
	@printf '\n(ripstop is %s; `make down` takes the cluster out again)\n' "$(RELEASE)/ripstop"

down: ## takes the cluster out again, all of it
	@if [ ! -x "$(RELEASE)/ripstop" ]; then echo "nothing was built here: run 'make build' first" >&2; exit 1; fi
	@scripts/as-root.sh "$(RELEASE)/ripstop" down --name "$(NAME)" $(ARGS)

build: ## target/release/ripstop, ripstop-cni and toolbox.tar
	@cargo build --release --locked -p cli -p xtask
	@$(MAKE) beside

# What lies beside ripstop, wherever that was built: both are static, and small whatever the profile.
beside:
	@RUSTFLAGS="$${RUSTFLAGS:-} -C target-feature=+crt-static" \
	    cargo build --release --locked --target $(HOST) -p cni -p toolbox
	@cmp -s "$(STATIC)/ripstop-cni" "$(BESIDE)/ripstop-cni" || install -m 755 "$(STATIC)/ripstop-cni" "$(BESIDE)/ripstop-cni"
	@"$(BESIDE)/xtask" plugin-check "$(BESIDE)/ripstop-cni"
	@"$(BESIDE)/xtask" image --out "$(BESIDE)/toolbox.tar" \
	    --toolbox "$(STATIC)/toolbox" --pause "$(STATIC)/pause" --busybox "$$(scripts/busybox.sh)"

deps: ## installs through apt what is missing (containerd, runc, kubectl ...)
	@scripts/deps.sh $(DEPS)

test: ## everything: format, lints, licences, documents, and every test
	@scripts/test.sh

bench: DEPS := --bench
bench: deps build ## the figures, beside the bars they are held to (docs/bench.md)
	@cargo build --release --locked -p bench
	@scripts/as-root.sh "$(RELEASE)/ripstop-bench" $(ARGS)

fmt: ## formats the code
	@for workspace in . bpf fuzz; do (cd $$workspace && cargo fmt); done

clean: ## removes what was built
	@cargo clean
