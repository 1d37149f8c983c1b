# `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ADDR  ?= 127.0.0.1:8001
PKG   ?= ./...
BENCH ?= .
TIME  ?= 30
COUNT ?= 6
OLD   ?= HEAD~1
NEW   ?= HEAD

.PHONY: help
help: ## Show this help.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Start the echo server at ADDR.
	go run ./cmd/echo --addr $(ADDR)

.PHONY: test
test: ## Run all tests; PKG=./engine/... selects packages.
	go test -shuffle=on $(PKG)

.PHONY: race
race: ## Run all tests under the race detector, as CI does.
	go test -race -shuffle=on -count=1 -timeout 8m $(PKG)

.PHONY: lint
lint: ## Check format and lint with the pinned golangci-lint.
	.ci/run format lint

.PHONY: fuzz
fuzz: ## Run each fuzz target for TIME seconds (30).
	FUZZ_SECONDS=$(TIME) .ci/run fuzz

.PHONY: mutate
mutate: ## Remove each guard of internal/mutate in turn; its test must fail.
	go run ./internal/mutate -all

.PHONY: bench
bench: ## Run the micro-benchmarks; BENCH=Packet PKG=./framing selects some.
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

.PHONY: bench-load
bench-load: ## Measure the echo server, the floor and the rivals in turn, and write bench/RESULTS.md.
	go run ./bench/compare --write bench/RESULTS.md

.PHONY: compare
compare: ## Compare the benchmarks of two revisions: OLD=HEAD~1 NEW=HEAD BENCH=Packet PKG=./framing COUNT=6.
	bench/revisions.sh '$(OLD)' '$(NEW)' '$(PKG)' '$(BENCH)' '$(COUNT)'

.PHONY: revisions
revisions: ## Compare the echo servers of two revisions under load: OLD=HEAD~1 NEW=HEAD, or NEW=worktree.
	go run ./bench/compare --revisions '$(OLD),$(NEW)'

.PHONY: ci
ci: ## Run all checks of CI.
	.ci/run
