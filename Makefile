# Every check of this repository is a target here. .ci/run makes them one after the other.

MODULES := $(dir $(shell find . -name go.mod))
# .ci/tools pins versions and has no packages.
NESTED  := $(filter-out ./ ./.ci/%,$(MODULES))

COUNT     ?= 1
BENCH     ?= .
BENCHTIME ?= 1s
STRESS    ?= 30s
KILLS     ?= 50
OUTAGES   ?= 10m
SEEDS     ?= 60
# Whether torture mounts a small volume and fills it, which only the superuser of Linux can.
MOUNT     ?= $(if $(filter Linux-0,$(shell uname -s)-$(shell id -u)),1)
# A number of executions, which take about 5 s. A duration instead can end in a spurious "context deadline exceeded"
# before Go 1.27 (golang/go#75804).
FUZZTIME  ?= 30000x

# The tools have a module of their own, so that programs that use the library do not depend on them.
STATICCHECK := tool -modfile=$(CURDIR)/.ci/tools/go.mod staticcheck

# The recipes print what they run; make need not print the directories it enters.
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test race oldest test-both cover fuzz
test: ## run the tests
	go test ./...

RACE := go test -race -timeout 15m -count=$(COUNT)

race: ## run the tests under the race detector, COUNT times (1)
	@$(MAKE) -j2 --output-sync=target race/root-a race/root-others race/packages

# The tests of the root package run one after the other and take twice as long as those of all other packages together.
race/root-a:
	$(RACE) -run '^TestA' .

race/root-others:
	$(RACE) -skip '^TestA' .

race/packages:
	$(RACE) $$(go list ./... | tail -n +2)

# Most of the time only the tests of the root package run, one after the other, so that the two hardly take longer than one.
test-both: ## run the tests with this Go and with the oldest one, at once
	@$(MAKE) -j2 --output-sync=target test oldest

oldest: ## run the tests with the oldest Go that go.mod promises
	GOTOOLCHAIN=go$$(go list -m -f '{{.GoVersion}}') go test ./...

cover: ## print the test coverage; the details go to coverage.out
	go test -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -n 1

fuzz: ## fuzz each target for FUZZTIME (30000x: executions)
	bash .ci/fuzz $(FUZZTIME)

.PHONY: stress
stress: ## kill and disconnect real processes at random for STRESS (30s) in each mode, and check that no message is lost
	go build -o bin/ ./examples/devserver ./internal/stress
	bin/stress -devserver bin/devserver -for $(STRESS)
	bin/stress -devserver bin/devserver -for $(STRESS) -compat aug2024

.PHONY: outages
outages: ## kill servers, connections and the Postgres that they share for OUTAGES (10m), without PgBouncer and with it, and check their promises
	go -C cmd/sequin test -timeout 2h -count=1 -v -run ServersOnPostgres ./internal/pgcheck -pgcheck.for $(OUTAGES)
	go -C cmd/sequin test -timeout 2h -count=1 -v -run ServersOnPostgres ./internal/pgcheck -pgcheck.for $(OUTAGES) -pgcheck.pooler

.PHONY: torture
torture: ## kill, cut off and damage the durable store for longer than its tests do, KILLS times (50) and from SEEDS seeds (60)
	TORTURE_KILLS=$(KILLS) TORTURE_SEEDS=$(SEEDS) TORTURE_MOUNT=$(MOUNT) TORTURE_FAILURES=500 TORTURE_PLACES=1000 \
		go -C server/durable test -timeout 2h -count=1 -run 'Power|Killed|Failure|Damage|Disk' -v .
	TORTURE_SIM=500 go -C server/durable test -timeout 2h -count=1 ./internal/simtest

.PHONY: lint gofmt tidy vet staticcheck paths tracked
lint: gofmt tidy vet staticcheck paths tracked ## gofmt, tidy, vet, staticcheck, paths and tracked

gofmt: ## list the files that gofmt would change
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "run gofmt -w on:" $$files; exit 1; }

tidy: ## check that go mod tidy would change nothing
	@set -e; for dir in $(MODULES); do echo "go -C $$dir mod tidy -diff"; go -C $$dir mod tidy -diff; done

vet: ## go vet
	go vet ./...

staticcheck: ## staticcheck with the checks of staticcheck.conf
	go $(STATICCHECK) ./...

# git grep exits with 1 when it found nothing, with 0 when it found something, and with more when it failed.
paths: ## check that no tracked file names somebody's home directory
	@git grep -nIE '/(home|root|Users)/[[:alnum:]_]'; test $$? -eq 1

tracked: ## check that no large file is tracked, and that git ignores what go build leaves
	bash .ci/tracked

.PHONY: examples portable nested quickstart
examples: ## build the examples into bin/
	go build -o bin/ ./examples/...

# One machine of 32 bits, and the systems that lack most of Unix.
PORTS := linux/386 windows/amd64 plan9/amd64 js/wasm
# The program is vetted with both stores. VFS alone, which is below the durable store, has files for single systems that are like Unix.
PROGRAM_PORTS := linux/386 windows/amd64
VFS_PORTS     := darwin/arm64 freebsd/amd64

go_for = @set -e; for port in $(1); do \
		echo "GOOS=$${port%/*} GOARCH=$${port\#*/} go $(2)"; \
		CGO_ENABLED=0 GOOS=$${port%/*} GOARCH=$${port\#*/} go $(2); \
	done

portable: ## vet for other systems: go vet also compiles the tests
	$(call go_for,$(PORTS),vet ./...)
	$(call go_for,windows/amd64,-C server/durable vet ./...)
	$(call go_for,$(PROGRAM_PORTS),-C cmd/sequin vet ./...)
	$(call go_for,$(VFS_PORTS),-C server/durable build ./internal/vfs)

nested: ## build, vet, check and test the nested modules, two at a time: the tests of some wait for the disk and for processes
	@$(MAKE) -j2 --output-sync=target $(NESTED:./%/=nested/%)

nested/%:
	@echo "nested module $*"
	go -C $* build ./...
	go -C $* vet ./...
	go -C $* $(STATICCHECK) ./...
	go -C $* test ./...

quickstart: ## run the quickstart example: a real data set through the whole library
	go run ./examples/quickstart

.PHONY: install
install: ## install the program as go install of the next release would, through a module proxy of files
	bash .ci/release check

.PHONY: bench bench-smoke
bench: ## run the benchmarks that match BENCH (all) for BENCHTIME (1s)
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

# Filling a backlog of a million messages takes too long for a check of whether the benchmarks run. go test matches the
# elements of a sub-benchmark's name one by one; the size may be the first or the second of them.
MILLION := (^|=)(1e6|1000000)$$
bench-smoke: ## run each benchmark once, except those with a backlog of 10^6
	go test -run '^$$' -bench . -benchtime 1x -skip '/$(MILLION)|//$(MILLION)' ./...

.PHONY: ci
ci: ## everything that a change must pass
	bash .ci/run
