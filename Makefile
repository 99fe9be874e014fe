# Every check of this repository is a target here; .ci/run makes them one after the other.

MODULES := $(dir $(shell find . -name go.mod))
# .ci/tools holds versions and no packages.
NESTED  := $(filter-out ./ ./.ci/%,$(MODULES))

COUNT     ?= 1
BENCH     ?= .
BENCHTIME ?= 1s
STRESS    ?= 30s
# Executions, some 5 s of them: a duration ends in a spurious "context deadline exceeded" now and then before Go 1.27
# (golang/go#75804).
FUZZTIME  ?= 30000x

# The tools have a module of their own: what they depend on must not show up in the programs that use the library.
STATICCHECK := tool -modfile=$(CURDIR)/.ci/tools/go.mod staticcheck

# What the Makefile calls is told by the recipes; make's own chatter about directories is not needed.
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test race oldest cover fuzz
test: ## run the tests
	go test ./...

race: ## run the tests under the race detector, COUNT times (1)
	go test -race -timeout 15m -count=$(COUNT) ./...

oldest: ## run the tests with the oldest Go that go.mod promises
	GOTOOLCHAIN=go$$(go list -m -f '{{.GoVersion}}') go test ./...

cover: ## tell how much the tests cover; the lines go to coverage.out
	go test -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -n 1

fuzz: ## fuzz each target for FUZZTIME (30000x: executions)
	bash .ci/fuzz $(FUZZTIME)

.PHONY: stress
stress: ## real processes, killed and cut off at random, for STRESS (30s) in each mode; the accounts must add up
	go build -o bin/ ./examples/devserver ./internal/stress
	bin/stress -devserver bin/devserver -for $(STRESS)
	bin/stress -devserver bin/devserver -for $(STRESS) -compat aug2024

.PHONY: lint gofmt tidy vet staticcheck paths
lint: gofmt tidy vet staticcheck paths ## gofmt, tidy, vet, staticcheck and paths

gofmt: ## list the files that gofmt would change
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "run gofmt -w on:" $$files; exit 1; }

tidy: ## check that go.mod and go.sum are what go mod tidy makes
	@set -e; for dir in $(MODULES); do echo "go -C $$dir mod tidy -diff"; go -C $$dir mod tidy -diff; done

vet: ## go vet
	go vet ./...

staticcheck: ## staticcheck with all its checks, see staticcheck.conf
	go $(STATICCHECK) ./...

# git grep answers 1 when it found nothing; 0 is a find and anything else its own failure.
paths: ## look for somebody's home directory in what is published
	@git grep -nIE '/(home|root|Users)/[[:alnum:]_]'; test $$? -eq 1

.PHONY: examples portable nested quickstart
examples: ## build the examples into bin/
	go build -o bin/ ./examples/...

portable: ## build for a 32-bit machine and for Windows
	GOARCH=386 go build ./...
	GOOS=windows go build ./...

nested: ## build, vet, check and test the nested modules
	@set -e; for dir in $(NESTED); do \
		echo "nested module $$dir"; \
		go -C $$dir build ./...; go -C $$dir vet ./...; go -C $$dir $(STATICCHECK) ./...; go -C $$dir test ./...; \
	done

quickstart: ## see it work: a real data set through the whole library
	go run ./examples/quickstart

.PHONY: bench bench-smoke
bench: ## run the benchmarks that match BENCH (all) for BENCHTIME (1s)
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

# A backlog of a million messages takes longer to lay in than a check of whether the benchmarks run is worth. go test
# matches the elements of a sub-benchmark's name one by one: the size may be the first or the second of them.
MILLION := (^|=)(1e6|1000000)$$
bench-smoke: ## run each benchmark once, those over a backlog of 10^6 excepted
	go test -run '^$$' -bench . -benchtime 1x -skip '/$(MILLION)|//$(MILLION)' ./...

.PHONY: ci
ci: ## everything that a change must pass
	bash .ci/run
