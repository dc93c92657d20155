# Every target is one line of help; the work is in scripts/ and in the go command.
.DEFAULT_GOAL := help
SHELL := bash
GO ?= go
FUZZTIME ?= 10s
PACKAGES ?= ./...
BENCH ?=
DURATION ?=
SEED ?=
ROUNDS ?= 20

.PHONY: help check test race fuzz cluster demo bench-locks bench-shutdown bench-outbox bench-reconcile chaos-locks chaos-sync failovers rolling

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

check: ## format, vet and build, without running a test
	@test -z "$$($(GO) list -f '{{.Dir}}' ./... | xargs gofmt -l)" || { echo "run gofmt -w on: $$($(GO) list -f '{{.Dir}}' ./... | xargs gofmt -l | tr '\n' ' ')" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) build ./...

test: ## the tests of PACKAGES (default: all), on servers that are started when needed and shared
	$(GO) test -shuffle=on $(PACKAGES)

race: ## the whole check, as it is done before a merge: scripts/test.sh
	scripts/test.sh

fuzz: ## every fuzz test for FUZZTIME (default 10s)
	@set -euo pipefail; \
	grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u | while read -r package; do \
		sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$package"/*_test.go | sort -u | while read -r name; do \
			echo "== $$package $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
		done; \
	done

cluster: ## three nodes and their servers on this machine; end them with scripts/cluster.sh down
	scripts/cluster.sh up

demo: ## the main job from end to end, in about a minute
	scripts/cluster.sh demo

bench-locks: ## locks beside etcd and Redis, in about five minutes; BENCH='-only sdk -seconds 1' for a part, see bench/README.md
	@cd bench && $(GO) build -o ../bin/bench . && exec ../bin/bench $(BENCH)

bench-shutdown: ## gaps when leaders go, grants, keepalives, bulk removal, in about thirteen minutes; BENCH='-only planned -runs 3' for a part
	@cd bench && $(GO) build -o ../bin/bench-shutdown ./shutdown && exec ../bin/bench-shutdown -calm 5m $(BENCH)

bench-outbox: ## events accepted and delivered beside the bare parts, lag, a million pending, in about seven minutes; BENCH=-short for half a minute
	@cd bench && $(GO) build -o ../bin/bench-outbox ./outbox && exec ../bin/bench-outbox $(BENCH)

bench-reconcile: ## passes beside a loop that only reads, planted differences, memory up to ten million rows, in about fifteen minutes; BENCH=-short for a minute
	@cd bench && $(GO) build -o ../bin/bench-reconcile ./reconcile && exec ../bin/bench-reconcile $(BENCH)

chaos-locks: ## locks while nodes die, stop and cannot hear each other, judged for DURATION (default 5m) by SEED (default: any)
	@$(GO) test -c -o bin/chaos ./cluster_test/chaos && QUIESCE_CHAOS_DURATION=$(or $(DURATION),5m) QUIESCE_CHAOS_SEED=$(SEED) exec bin/chaos -test.v -test.timeout=0 -test.run=LongRun

chaos-sync: ## caches while nodes, applications, MySQL and Redis are killed and stopped, judged for DURATION (default 10m) by SEED (default: any)
	@$(GO) test -c -o bin/syncchaos ./cluster_test/syncchaos && QUIESCE_SYNCCHAOS_DURATION=$(or $(DURATION),10m) \
		QUIESCE_SYNCCHAOS_SEED=$(SEED) exec bin/syncchaos -test.v -test.timeout=0 -test.run=LongRun

failovers: ## FAILOVERS (default 50) leaders in a row: no token twice, the live keep their locks, the dead lose them
	QUIESCE_FAILOVERS=$(or $(FAILOVERS),50) $(GO) test -count=1 -timeout 30m -run TestFailovers_ -v ./cluster_test

rolling: ## ROUNDS (default 20) restarts of every instance and node under load, and what clients noticed of them: nothing, as its last line says
	@$(GO) test -c -o bin/rolling ./cluster_test/rolling && QUIESCE_ROLLING_ROUNDS=$(ROUNDS) exec bin/rolling -test.v -test.timeout=0 -test.run=LongRun
