# Coracle. `make help` lists the targets.

SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
KUBERNETES := $(shell sed -n 's/^const Kubernetes = "\(.*\)"/\1/p' internal/version/version.go)
LDFLAGS := -s -w -X coracle/internal/version.Version=$(VERSION) -X coracle/internal/version.Commit=$(COMMIT)
KUBECTL_LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES) -X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBERNETES))) -X k8s.io/component-base/version.gitTreeState=clean
export CGO_ENABLED := 0
# For binaries and tests alike: with other flags every library would be compiled once more for the tests. The version is
# stamped by LDFLAGS, so a checkout whose owner git distrusts builds too.
BUILD_FLAGS := -trimpath -buildvcs=false
export GOFLAGS := $(strip $(filter-out $(BUILD_FLAGS),$(GOFLAGS)) $(BUILD_FLAGS))
UNIT := $(GO) list ./... | grep -v /integration
# What the integration tests run; `make integration RUN=TestPodLife` runs one.
RUN ?= .
FUZZTIME ?= 10s
CHAOS ?= 10m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: bin/coracle-agent bin/coracle-controlplane bin/kubectl ## build the three binaries into bin/, static and stripped

# The go command decides what is stale; it is asked each time and is quick when nothing changed.
.PHONY: FORCE
FORCE:
bin/coracle-agent: FORCE
	@$(GO) build -ldflags "$(LDFLAGS)" -o $@ ./agent
bin/coracle-controlplane: FORCE
	@$(GO) build -ldflags "$(LDFLAGS)" -o $@ ./controlplane
bin/kubectl: FORCE
	@$(GO) build -ldflags "$(KUBECTL_LDFLAGS)" -o $@ ./scripts/kubectl
bin/coracle-demo: FORCE
	@$(GO) build -ldflags "-s -w" -o $@ ./scripts/demo
bin/coracle-image: FORCE
	@$(GO) build -ldflags "-s -w" -o $@ ./scripts/image

.PHONY: packages
packages: ## install the operating system packages that are missing (root)
	@scripts/packages.sh

.PHONY: up
up: packages build bin/coracle-demo bin/coracle-image ## bring up a whole cluster on this machine, with a demo (root)
	@scripts/up.sh

.PHONY: down
down: ## stop it and remove everything that `make up` made (root)
	@scripts/down.sh

.PHONY: test
test: ## run all tests: unit, and integration as root
	@scripts/test.sh

.PHONY: unit
unit: ## run the unit tests alone
	$(GO) test -timeout 15m $$($(UNIT))

.PHONY: race
race: ## run the unit tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race $$($(UNIT))

.PHONY: integration
integration: packages build bin/coracle-demo ## run the integration tests alone (root); RUN= chooses
	$(GO) test -count=1 -timeout 40m -run '$(RUN)' ./integration

.PHONY: budget
budget: packages build bin/coracle-demo ## run the tests that hold the budgets of docs/architecture.md (root)
	$(GO) test -count=1 -timeout 30m -run 'TestBudget' -v ./integration

.PHONY: chaos
chaos: packages build bin/coracle-demo ## kill everything at random for CHAOS (10m) while pods come and go (root); CORACLE_CHAOS_SEED repeats
	CORACLE_CHAOS=$(CHAOS) $(GO) test -count=1 -timeout 60m -run '^TestChaos$$' -v ./integration

.PHONY: bench
bench: packages build bin/coracle-demo ## measure against `ctr run` on this machine, as ratios in one run (root)
	$(GO) test -count=1 -timeout 30m -run '^$$' -bench . -benchtime 1x ./integration

.PHONY: systemd-test
systemd-test: packages build bin/coracle-demo bin/coracle-image ## test up, down and the units in a machine that systemd boots (root)
	@scripts/systemd-test.sh

.PHONY: cgroup2-test
cgroup2-test: packages build bin/coracle-demo ## test cgroup v2 with both drivers on a user-mode-linux machine (root)
	@scripts/cgroup2-test.sh

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME each
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: golden
golden: ## rewrite the golden files from what the code does now; read the diff
	@for p in $$(grep -rl --include='*_test.go' '"update"' agent controlplane internal | xargs -n1 dirname | sort -u); do \
		$(GO) test ./$$p -update || exit 1; done

.PHONY: check
check: lint ## formatting, vet, lint with the import rules, generated code up to date
	@scripts/check.sh

.PHONY: lint
lint: ## golangci-lint, at the version pinned in .ci/golangci-lint/go.mod
	$(GO) tool -modfile=.ci/golangci-lint/go.mod golangci-lint run ./...

.PHONY: proto
proto: packages ## generate the code of proto/node/v1
	@scripts/proto.sh

.PHONY: generate
generate: proto ## generate all code that is generated
	$(GO) generate ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
