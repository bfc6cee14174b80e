# The one list of tasks. CI calls these, too: .ci/run.

GO ?= go
FUZZTIME ?= 30s
FUZZ_JOBS ?= 2
BENCHTIME ?= 1s

# Tools that are not in go.mod, each built once per version.
TOOLS ?= $(HOME)/.cache/fleetbridge-tools
STATICCHECK_VERSION := v0.8.2
NATSCLI_VERSION := v0.5.1
STATICCHECK := $(TOOLS)/staticcheck-$(STATICCHECK_VERSION)/staticcheck
NATSCLI := $(TOOLS)/natscli-$(NATSCLI_VERSION)/nats

.PHONY: build
build: ## bin/fleetbridge and bin/fleetsim
	$(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: ## all tests
	$(GO) test ./...

.PHONY: race
race: ## all tests with the race detector
	$(GO) test -race ./...

.PHONY: fmt
fmt: ## fails when a file is not formatted
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...
	$(GO) vet -tags realbroker ./...

.PHONY: staticcheck
staticcheck: $(STATICCHECK) ## staticcheck
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags realbroker ./bridge/...
	$(STATICCHECK) -tags soakroot ./test/...

.PHONY: docs
docs: ## the generated tables in docs/ and README.md
	$(GO) test -count=1 ./bridge/gateway -run '^(TestDocuments|TestREADME)$$' -update

.PHONY: docs-check
docs-check: ## fails when make docs would change something
	@before=$$(cat docs/*.md README.md | cksum); $(MAKE) --no-print-directory docs; \
	[ "$$before" = "$$(cat docs/*.md README.md | cksum)" ] || { echo "the generated tables were stale; make docs has written them"; exit 1; }

.PHONY: demo
demo: ## the tour of every flow, each step checked
	$(GO) run ./cmd/fleetbridge demo --once

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME, FUZZ_JOBS at a time
	GO=$(GO) .ci/fuzz $(FUZZTIME) $(FUZZ_JOBS)

.PHONY: real-broker
real-broker: ## the end-to-end tests against mosquitto
	$(GO) test -race -count=1 ./bridge/gateway -broker mosquitto
	$(GO) test -race -count=1 -tags realbroker ./bridge/cloud ./bridge/fleetstest

.PHONY: real-client
real-client: build $(NATSCLI) ## the built bridge between mosquitto, MQTT.js and the nats command line
	FLEETBRIDGE=$(CURDIR)/bin/fleetbridge NATS=$(NATSCLI) test/realclients/run

.PHONY: cross
cross: ## builds for the other platforms
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/fleetbridge
	CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7 $(GO) build -o /dev/null ./cmd/fleetbridge
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/fleetbridge
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/fleetbridge

SOAK ?= 30m

.PHONY: soak
soak: ## every fault again and again for SOAK (needs root, FUSE and mosquitto); the table goes into docs/reliability.md
	$(GO) test -tags soakroot -count=1 -timeout 24h ./test/soak -run '^TestSoak$$' -v -soak $(SOAK) -broker mosquitto -table docs/reliability.md

.PHONY: soak-short
soak-short: ## every fault once (needs root, FUSE and mosquitto)
	$(GO) test -tags soakroot -count=1 -timeout 10m ./test/soak -broker mosquitto

.PHONY: bench
bench: ## benchmarks
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: ci
ci: ## what CI does, all of it
	.ci/run

.PHONY: tools
tools: $(STATICCHECK) $(NATSCLI) ## staticcheck and the nats command line

$(STATICCHECK):
	GOBIN=$(dir $@) $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)

$(NATSCLI):
	GOBIN=$(dir $@) $(GO) install github.com/nats-io/natscli/nats@$(NATSCLI_VERSION)

.PHONY: clean
clean: ## removes what build made
	rm -rf bin

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'
