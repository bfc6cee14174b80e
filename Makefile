# The one list of tasks. CI calls these, too: .ci/run.

GO ?= go
FUZZTIME ?= 30s
FUZZ_JOBS ?= 2
BENCHTIME ?= 1s

# Tools that are not in go.mod, each built once per version.
TOOLS ?= $(HOME)/.cache/fleetbridge-tools
STATICCHECK_VERSION := v0.8.2
NATSCLI_VERSION := v0.5.1
NFPM_VERSION := v2.43.4
SBOM_VERSION := v1.10.0
GOVULNCHECK_VERSION := v1.9.0
STATICCHECK := $(TOOLS)/staticcheck-$(STATICCHECK_VERSION)/staticcheck
NATSCLI := $(TOOLS)/natscli-$(NATSCLI_VERSION)/nats
NFPM := $(TOOLS)/nfpm-$(NFPM_VERSION)/nfpm
SBOM := $(TOOLS)/cyclonedx-gomod-$(SBOM_VERSION)/cyclonedx-gomod
GOVULNCHECK := $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck

.PHONY: build
build: ## bin/fleetbridge and bin/fleetsim
	$(GO) build -trimpath -ldflags '-X main.commit=$(shell git describe --always --dirty --exclude="*" --abbrev=12 2>/dev/null)' -o bin/ ./cmd/...

.PHONY: test
test: ## the tests that need only Go
	$(GO) test ./...

.PHONY: race
race: ## the same with the race detector
	GORACE=atexit_sleep_ms=0 $(GO) test -race ./... # or each package waits a second at its end

.PHONY: compute
compute: ## in full: the tests that make race shortens
	$(GO) test -count=1 ./schemas ./bridge/journal
	$(GO) test -count=1 ./bridge/cluster -args -seeds 2000
	$(GO) test -count=1 ./bridge/local ./bridge/gateway -run '^Test(AnyDamageStarts|DamagedSequence|TakeoverIsKilled|IsolationForgedReplies|SmuggledHeaders|DeadLettersHaveShares|Unreadable|ThousandUsersChange|CostlyFiles)'

.PHONY: fmt
fmt: ## fails when a file is not formatted
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...
	$(GO) vet -tags realbroker ./...
	$(GO) vet -tags manpages ./cmd/...
	$(GO) -C deploy/images vet ./...
	$(GO) -C test/kubernetes vet ./...

.PHONY: staticcheck
staticcheck: $(STATICCHECK) ## staticcheck
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags realbroker ./bridge/... ./test/brokers/...
	$(STATICCHECK) -tags soakroot ./test/...

.PHONY: docs
docs: ## the generated tables in docs/
	$(GO) test -count=1 ./bridge/gateway -run '^TestDocuments$$' -update
	$(GO) test -count=1 ./internal/asyncapi ./bridge/console -run '^TestDocument$$' -update

.PHONY: docs-check
docs-check: ## fails when make docs would change something, a link leads nowhere, or the README is long
	@before=$$(cat docs/*.md docs/asyncapi.yaml | cksum); $(MAKE) --no-print-directory docs; \
	[ "$$before" = "$$(cat docs/*.md docs/asyncapi.yaml | cksum)" ] || { echo "the generated tables were stale; make docs has written them"; exit 1; }
	$(GO) test -count=1 ./bridge/gateway -run '^(TestLinks|TestREADMEIsShort)$$'

.PHONY: asyncapi-check
asyncapi-check: build ## what fleetbridge asyncapi prints, by the AsyncAPI project's parser (needs node with npm)
	test/asyncapi/run bin/fleetbridge

.PHONY: demo
demo: ## the tour of every flow, each step checked
	$(GO) run ./cmd/fleetbridge demo --once

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME, FUZZ_JOBS at a time
	GO=$(GO) .ci/fuzz $(FUZZTIME) $(FUZZ_JOBS)

.PHONY: real-broker
real-broker: ## the end-to-end tests against mosquitto
	$(GO) run ./test/brokers/matrix -race -run . mosquitto
	$(GO) test -race -count=1 -tags realbroker ./bridge/cloud ./fleetsim

.PHONY: java-brokers
java-brokers: ## the end-to-end tests against Apache ActiveMQ Artemis and HiveMQ CE (needs java, and what brokers-prepare downloads)
	$(GO) run ./test/brokers/matrix artemis hivemq

.PHONY: brokers-prepare
brokers-prepare: ## downloads the brokers of java-brokers into ~/.cache (needs mvn)
	test/brokers/prepare

.PHONY: like-brokers
like-brokers: ## the end-to-end tests that a broker can make a difference to, against the simulator like each of four brokers
	$(GO) test -tags realbroker -c -o bin/gateway.test ./bridge/gateway
	cd bridge/gateway && for like in emqx-5.3 emqx-5.8 emqx-6 mosquitto; do echo "like $$like"; \
	  ../../bin/gateway.test -broker like:$$like -test.timeout 5m -test.run \
	  '^Test(Like|Reports|ShadowRoundTrip|StartProcedure|JobBy|ManyCallers|Command|T[0-9]|Backlog|LinkThat|Control|Refused|KindForbidden|Compact|WhatMust|EveryRoute|StopUnderLoad)' || exit 1; done

.PHONY: real-client
real-client: build $(NATSCLI) ## the built bridge between mosquitto, MQTT.js and the nats command line
	FLEETBRIDGE=$(CURDIR)/bin/fleetbridge NATS=$(NATSCLI) test/realclients/run

.PHONY: console-test
console-test: build ## the console's page in Chromium (needs chromium, and node with npm)
	GO=$(GO) test/console/run bin/fleetbridge

.PHONY: console-prepare
console-prepare: ## downloads what console-test needs
	GO=$(GO) test/console/run -prepare

.PHONY: console-shots
console-shots: build ## the pictures of the console in docs/console/, by hand
	GO=$(GO) test/console/run bin/fleetbridge -run '^TestShots$$' -shots $(CURDIR)/docs/console

LIT_HTML := 3.3.3
LIT_HTML_INTEGRITY := sha512-el8M6jK2o3RXBnrSHX3ZKrsN8zEV63pSExTO1wYJz7QndGYZ8353e2a5PPX+qHe2aGayfnchQmkAojaWAREOIA==

.PHONY: web-vendor
web-vendor: ## lit-html $(LIT_HTML) into the console's page, by hand (needs npm)
	bridge/console/fetch-vendor $(LIT_HTML) $(LIT_HTML_INTEGRITY)

.PHONY: examples
examples: build $(NATSCLI) ## fleetsim conform on every example program; EXAMPLES=-prepare: only downloads and builds them
	$(GO) run ./test/examples -bridge bin/fleetbridge -sim bin/fleetsim -nats $(NATSCLI) $(EXAMPLES)

.PHONY: conform
conform: build ## fleetsim conform on two programs that make every mistake, one at a time
	$(GO) test -count=1 ./test/conform/device -parallel 16 -bridge $(CURDIR)/bin/fleetbridge

SEEDS ?= 10000

.PHONY: simulate
simulate: ## SEEDS histories of the journal on a simulated disk
	$(GO) test -count=1 -timeout 24h ./bridge/journal -run '^TestSimulate$$' -seeds $(SEEDS)

.PHONY: model
model: ## SEEDS histories of five bridges on one NATS cluster
	$(GO) test -count=1 -timeout 24h ./bridge/cluster -run '^TestModel$$' -seeds $(SEEDS)

.PHONY: mutants
mutants: ## builds faults into the journal, one at a time, and sees that its tests find each
	$(GO) test -count=1 -timeout 1h ./bridge/journal -run '^TestMutants$$' -v -mutants

SOAK ?= 30m

.PHONY: soak
soak: ## every fault again and again for SOAK (needs root, FUSE and mosquitto); the table goes into docs/reliability.md
	$(GO) test -tags soakroot -count=1 -timeout 24h ./test/soak -run '^TestSoak$$' -v -soak $(SOAK) -broker mosquitto -table docs/reliability.md

.PHONY: soak-cluster
soak-cluster: ## every fault of a cluster of bridges and NATS servers, in processes, for SOAK (needs mosquitto)
	$(GO) test -count=1 -timeout 24h ./test/soak -run '^TestSoak$$' -v -soak $(SOAK) -only cluster

.PHONY: soak-short
soak-short: ## every fault once (needs root, FUSE and mosquitto)
	$(GO) test -tags soakroot -count=1 -timeout 10m ./test/soak -all -broker mosquitto

.PHONY: bench
bench: ## benchmarks
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

RUNS ?= 5
RUNTIME ?= 5s
BENCHFLAGS ?=

.PHONY: bench-compare
bench-compare: ## the bridge, a pass-through and mosquitto's bridge side by side, RUNS times RUNTIME (needs mosquitto); tables for docs/performance.md
	@mkdir -p bin && $(GO) build -o bin/bench ./test/bench
	@bin/bench -runs $(RUNS) -duration $(RUNTIME) $(BENCHFLAGS) compare
	@echo
	@bin/bench -runs $(RUNS) -duration $(RUNTIME) $(BENCHFLAGS) latency

.PHONY: bench-growth
bench-growth: ## how cost grows from 1 to 1,000 Things and from 100 B to 64 KiB
	@mkdir -p bin && $(GO) build -o bin/bench ./test/bench
	@bin/bench -runs $(RUNS) -duration $(RUNTIME) $(BENCHFLAGS) growth

.PHONY: bench-profile
bench-profile: ## where the bridge spends its time, the top ten of a CPU profile each way
	@mkdir -p bin && $(GO) build -o bin/bench ./test/bench
	@bin/bench -duration $(RUNTIME) $(BENCHFLAGS) profile

.PHONY: idle
idle: ## how often the bridge wakes up while nothing goes on, beside a NATS server and a timer alone; takes two minutes
	@mkdir -p bin && $(GO) build -o bin/bench ./test/bench
	@bin/bench -runs 3 -duration 30s $(BENCHFLAGS) idle

.PHONY: bench-docs
bench-docs: ## all of these, into docs/performance.md; takes half an hour and wants a quiet machine
	@mkdir -p bin && $(GO) build -o bin/bench ./test/bench
	@for what in compare latency growth profile; do \
	  bin/bench -runs $(RUNS) -duration $(RUNTIME) -into docs/performance.md $(BENCHFLAGS) $$what || exit 1; done

.PHONY: ci
ci: ## what CI does, all of it
	.ci/run

.PHONY: tools
tools: $(STATICCHECK) $(NATSCLI) $(NFPM) $(SBOM) $(GOVULNCHECK) ## staticcheck, the nats command line, nfpm, cyclonedx-gomod, govulncheck

$(STATICCHECK):
	GOBIN=$(dir $@) $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)

$(NATSCLI):
	GOBIN=$(dir $@) $(GO) install github.com/nats-io/natscli/nats@$(NATSCLI_VERSION)

# Containers and packages.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null | grep '^v[0-9]' || echo v0.0.0)
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
DIST := $(CURDIR)/dist

.PHONY: images
images: man ## the container images for amd64, arm64 and armv7, as OCI archives in dist/; no engine and no registry is needed
	GO=$(GO) VERSION=$(VERSION) COMMIT=$(COMMIT) DIST=$(DIST) TARGETS='linux/amd64 linux/arm64 linux/arm' FORMATS=image deploy/release/make

.PHONY: compose-test
compose-test: ## docker-compose.yml with a real Docker engine, while things break (needs root and docker.io)
	test/compose/run

.PHONY: kubernetes-check
kubernetes-check: build ## the manifests in deploy/kubernetes, without a cluster
	$(GO) -C test/kubernetes test -count=1 . -fleetbridge $(CURDIR)/bin/fleetbridge

.PHONY: man
man: ## manual pages and shell completions in dist/
	rm -rf $(DIST)/man $(DIST)/completions
	mkdir -p $(DIST)/man $(DIST)/completions/bash $(DIST)/completions/zsh $(DIST)/completions/fish
	for name in fleetbridge fleetsim; do \
	  $(GO) build -tags manpages -o $(DIST)/man-$$name ./cmd/$$name && $(DIST)/man-$$name man $(DIST)/man && \
	  $(DIST)/man-$$name completion bash >$(DIST)/completions/bash/$$name && \
	  $(DIST)/man-$$name completion zsh >$(DIST)/completions/zsh/_$$name && \
	  $(DIST)/man-$$name completion fish >$(DIST)/completions/fish/$$name.fish && rm $(DIST)/man-$$name || exit 1; \
	done
	gzip -9n $(DIST)/man/*.1

.PHONY: release
release: man $(NFPM) $(SBOM) ## all that a release page holds, in dist/: make release VERSION=v1.2.3
	GO=$(GO) NFPM=$(NFPM) SBOM=$(SBOM) VERSION=$(VERSION) COMMIT=$(COMMIT) DIST=$(DIST) deploy/release/make

.PHONY: packages
packages: man $(NFPM) ## dist/fleetbridge_…_{amd64,arm64}.deb
	GO=$(GO) NFPM=$(NFPM) VERSION=$(VERSION) COMMIT=$(COMMIT) DIST=$(DIST) TARGETS='linux/amd64 linux/arm64' FORMATS=deb deploy/release/make

.PHONY: release-test
release-test: $(NATSCLI) ## makes a release twice and compares, looks at the packages, runs package-test, and upgrades with messages that wait (needs root, lintian, rpm, mosquitto)
	NATS=$(NATSCLI) test/packages/release

.PHONY: vuln
vuln: $(GOVULNCHECK) ## known vulnerabilities that the code reaches (needs https://vuln.go.dev)
	$(GOVULNCHECK) ./...

.PHONY: package-test
package-test: ## installs the package that packages or release has made, runs its unit's command under a supervisor, removes it (needs root)
	test/packages/run $(DIST)/fleetbridge_*_$$(dpkg --print-architecture).deb

$(SBOM):
	GOBIN=$(dir $@) $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(SBOM_VERSION)

$(GOVULNCHECK):
	GOBIN=$(dir $@) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

$(NFPM):
	GOBIN=$(dir $@) $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)

.PHONY: dashboard-check
dashboard-check: ## the Prometheus rules by promtool, and the dashboard's queries
	deploy/check

.PHONY: clean
clean: ## removes what build made
	rm -rf bin dist

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'
