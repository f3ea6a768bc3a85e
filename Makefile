# Everything a change needs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
BIN := bin/inference-scaler
LDFLAGS ?=
FUZZTIME ?= 30s
CHAOS_SEEDS ?= 4000
CHAOS_FIRST ?= $(shell echo $$RANDOM$$RANDOM)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/inference-scaler
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN) ./cmd/inference-scaler

.PHONY: run
run: build ## Show it at work: the demo, without a cluster, in under a minute
	$(BIN) demo

.PHONY: test
test: ## Run all tests of the product, with the race detector
	$(GO) test -race -timeout 10m ./...

# The flags are the build's, so that what both need is compiled once; vet would
# look through all of KEDA's dependencies.
.PHONY: test-keda
test-keda: build ## Drive the real binary with KEDA's own code (compiles KEDA: minutes, the first time)
	CGO_ENABLED=0 INFERENCE_SCALER=$(CURDIR)/$(BIN) $(GO) -C test/keda test -trimpath -vet=off -count=1 -timeout 15m ./...

.PHONY: test-chart
test-chart: ## Render and lint the Helm chart with Helm's own code (compiles Helm: minutes, the first time)
	CGO_ENABLED=0 $(GO) -C test/chart test -trimpath -vet=off -count=1 -timeout 15m ./...

.PHONY: test-scheduler
test-scheduler: ## Check the capacity that the scaler counts against kube-scheduler's own code (compiles parts of Kubernetes: minutes, the first time)
	CGO_ENABLED=0 $(GO) -C test/scheduler test -trimpath -vet=off -count=1 -timeout 15m -v ./...

.PHONY: test-hpa
test-hpa: ## Check the model of the HPA against the controller's own code; HPA_FIRST=N HPA_SEQUENCES=1 repeats a sequence (compiles parts of Kubernetes: minutes, the first time)
	CGO_ENABLED=0 $(GO) -C test/hpa test -trimpath -vet=off -count=1 -timeout 15m -v ./...

.PHONY: image
image: ## Build the image without a container engine: an OCI layout in bin/image, for amd64 and arm64, with bills of materials
	CGO_ENABLED=0 $(GO) -C test/image run -trimpath .

.PHONY: test-image
test-image: ## Build the image by the Dockerfile's own steps, and look into it
	CGO_ENABLED=0 $(GO) -C test/image test -trimpath -vet=off -count=1 -timeout 30m -v ./...

# The scenarios that break what all share run one after the other, the others side
# by side: they wait, most of the time.
E2E := CGO_ENABLED=0 INFERENCE_SCALER=$(CURDIR)/$(BIN) $(GO) -C test/e2e test -trimpath -vet=off -count=1 -parallel 10 -timeout 80m -v .
RUN ?= .

.PHONY: e2e
e2e: build ## Run all scenarios on a real Kubernetes with a real KEDA; RUN=TestSpike runs one (compiles both: 15 minutes, the first time)
	$(E2E) -run '$(RUN)'

.PHONY: e2e-smoke
e2e-smoke: build ## Run those scenarios that every change has to pass
	$(E2E) -run '^(TestSpike|TestDecline|TestScalerRestart|TestPodsUnreachable)$$'

.PHONY: chaos
chaos: ## Let anything happen to a fleet, in CHAOS_SEEDS (4000) sequences of events; CHAOS_FIRST=N CHAOS_SEEDS=1 repeats one
	CHAOS_FIRST=$(CHAOS_FIRST) CHAOS_SEEDS=$(CHAOS_SEEDS) $(GO) test -count=1 -timeout 30m -run '^TestChaos$$' ./scaler

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (30s)
	bash test/fuzz.sh $(FUZZTIME)

PART ?=
STEADY ?= 10m

.PHONY: bench
bench: build ## Measure every budget beside its limit and its peers, and fail where one is missed; PART=targets runs one part, STEADY=1m a shorter last one (half an hour)
	$(GO) -C test/bench run . -binary $(CURDIR)/$(BIN) -steady $(STEADY) $(PART)

.PHONY: lint
lint: ## Run all linters, at the versions that test/tools and test/vale pin
	bash test/lint.sh

.PHONY: generate
generate: ## Write all that is generated again: the Go of proto, the README's tables and the goldens
	$(GO) -C test/tools build -buildvcs=false -o ../../bin/ tool
	bin/buf generate
	UPDATE=1 $(GO) test ./scaler ./test/readme
	UPDATE=1 $(GO) -C test/chart test ./...

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
