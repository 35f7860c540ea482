# nanoos: what people and machines do with this repository.
# A bare `make` prints this help.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
BIN := bin/nanoos

# $(call build,OUT,PLATFORM) builds nanoos with the small supervisor of its platform
# inside, see docs/adr/0009. The bytes of the supervisor depend on its source alone. A
# plain `go build ./cmd/nanoos` works too: its runs start more slowly.
define build
	$(2) go build -tags '' -trimpath -buildvcs=false -ldflags '-s -w' \
		-o internal/executor/carried/$$($(2) go env GOOS)_$$($(2) go env GOARCH) ./cmd/nanoos-supervise
	$(2) go build -tags carried -ldflags '$(LDFLAGS)' -o $(1) ./cmd/nanoos
endef

.PHONY: help
help: ## print this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/nanoos
	$(call build,$(BIN))

.PHONY: demo
demo: build ## run silicon (Quantum ESPRESSO) and aluminium (LAMMPS) through one node
	@scripts/engines.sh || true
	@scripts/demo.sh

.PHONY: test
test: export GOFLAGS = -tags=carried
test: build ## everything: engines, services and Python clients installed, unit tests, real codes, databases, crashes, chaos
	@scripts/engines.sh $(if $(CI),--required)
	@scripts/services.sh $(if $(CI),--required)
	@scripts/python.sh $(if $(CI),--required)
	@scripts/test.sh

.PHONY: check
check: ## format, vet, import rules and unit tests: seconds, nothing to install
	@scripts/format.sh
	go vet ./...
	go test -short ./...

.PHONY: race
race: ## unit tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -short -race ./...

.PHONY: chaos
chaos: ## 1 000 random kills (CHAOS_KILLS, CHAOS_SEED) of a cluster on real PostgreSQL, and nothing lost
	@scripts/chaos.sh

.PHONY: fuzz
fuzz: ## fuzz every parser for FUZZTIME (30s) each
	@scripts/fuzz.sh

.PHONY: bench
bench: build ## submit, drain, pickup, memory beside the limit of this machine (BENCH: more flags, such as --quick)
	@scripts/bench.sh

.PHONY: cross
cross: ## build for the other platforms
	$(call build,/dev/null,GOOS=darwin GOARCH=arm64)
	$(call build,/dev/null,GOOS=linux GOARCH=arm64)

.PHONY: golden
golden: ## rewrite the golden files after a reviewed change
	go test . ./internal/... ./cmd/... -update

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build
