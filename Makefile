# Two commands do everything: make run, make test. `make help` names the rest.
GO ?= go
# One compilation for build, lint and every test that is not watched: the programs are built so by tests too.
export GOFLAGS := -trimpath
export CGO_ENABLED := 0
LINT := .cache/golangci-lint
NFPM := .cache/nfpm
# -race needs a C compiler; without one the tests run without it and say so. Watched, garbage is dear: it is collected seldom.
# SQLite was translated from C and shares no memory of ours; watched, cloud/store takes three times as long. The OPC UA
# library's server and channel, with its sockets and keys, are peers of tests and of the simulator: they race with
# themselves when a server closes.
# No more may be left out: without the NATS server and the codecs it told of races within encoding/json that are none.
RACE := $(if $(shell command -v gcc 2>/dev/null),-race $(foreach p,modernc.org/... github.com/gopcua/opcua/server/... github.com/gopcua/opcua/uasc/... github.com/gopcua/opcua/uacp/... github.com/gopcua/opcua/uapolicy/...,"-gcflags=$(p)=-race=false"))
# What starts no goroutine, being pure, or drives our programs as processes gains nothing from it. The rooms that
# meet in deploy/e2e and hop are watched each by itself.
PURE := ./cloud/audit ./deploy/attack ./cloud/console ./cloud/port/parquet ./cloud/product ./cloud/registry/plant ./deploy/bench ./deploy/e2e ./deploy/e2e/browser ./deploy/e2e/check ./deploy/e2e/cli ./deploy/e2e/evil ./deploy/e2e/hop ./deploy/e2e/mqtt ./deploy/e2e/opcua ./deploy/e2e/sme ./deploy/e2e/sparkplug ./deploy/e2e/walk ./deploy/house ./deploy/release ./deploy/torture ./deploy/torture/sim ./edge/host ./edge/quality ./edge/source/mqtt/mapping ./edge/source/opcua/datatype ./edge/source/opcua/measure ./edge/source/opcua/publish ./edge/source/opcua/trust ./edge/source/sparkplug/payload ./firmware-sim/fault ./firmware-sim/mqtt/sparkplug/payload ./firmware-sim/plant ./firmware-sim/plant/truth ./firmware-sim/replay ./proto/answer ./proto/mesh ./proto/meshtest ./proto/strict ./proto/subject ./proto/wire ./proto/wire/internal/pb
# Where tests take more without -short: the race detector sees their short form, and they run whole without it.
# Those that take longest begin first: packages are taken in this order, and nothing waits for one at the end.
WHOLE := ./cloud/audit ./deploy/e2e/opcua ./deploy/e2e/walk ./deploy/e2e/evil ./cloud/port/parquet ./cloud/product ./cloud/product/runner ./cloud/store ./deploy/bench ./deploy/torture/sim ./edge/buffer ./edge/source ./edge/source/opcua/datatype ./edge/source/opcua/measure ./proto/mesh ./proto/wire
LONG := ./cloud/hub ./edge/source/opcua ./edge/buffer ./cloud/store ./cloud/product/runner

.PHONY: help build run test seeds simulate bench demo-bars matrix torture-quick torture attack release release-test lint console clean
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

build: ## three static binaries in bin/
	@mkdir -p bin
	$(GO) build -ldflags "-s -w" -o bin/ ./edge/cmd/plantmesh-edge ./cloud/cmd/plantmesh ./firmware-sim/cmd/firmware-sim

run: build ## the whole chain as real processes; prints the page's address and the first OEE (ARGS="--speed 60 --for 2h --assert" ...)
	./bin/plantmesh demo $(ARGS)

test: build ## everything this machine can run; what it skips, it names (go vet is part of make lint)
ifneq ($(RACE),)
	GOGC=300 CGO_ENABLED=1 PLANTMESH_BIN=$(CURDIR)/bin $(GO) test $(RACE) -ldflags "-s -w" -vet=off -short -p 5 -shuffle=on -timeout 15m $(LONG) $(filter-out $(patsubst ./%,plantmesh/%,$(PURE)),$(shell $(GO) list ./...))
	PLANTMESH_BIN=$(CURDIR)/bin $(GO) test -ldflags "-s -w" -vet=off -shuffle=on -p 3 -timeout 15m ./deploy/e2e/cli ./deploy/e2e/opcua ./deploy/e2e/sparkplug ./deploy/e2e/mqtt $(WHOLE) $(PURE)
else
	@echo "make test: no C compiler here, so the tests run without -race"
	PLANTMESH_BIN=$(CURDIR)/bin $(GO) test -vet=off -shuffle=on -timeout 15m ./...
endif

seeds: build ## 50 seeds of the whole walk in one process, 26 plant hours each, against the truth
	PLANTMESH_SEEDS=50 $(GO) test -run 'TestWalk$$' -count=1 -v -timeout 60m ./deploy/e2e/walk

simulate: ## a million schedules of the hops over models of disk, store and stream, on all cores (FROM=1)
	PLANTMESH_SIM=1000000 PLANTMESH_SIM_FROM=$(or $(FROM),1) $(GO) test -run 'TestSimulate$$' -count=1 -v -timeout 0 ./deploy/torture/sim

bench: ## what a value costs in bytes, time and memory: name, value, unit, bar, ratio
	PLANTMESH_BENCH=1 $(GO) test -run TestBench -count=1 -v -timeout 30m ./deploy/bench

demo-bars: ## the demo as real processes, each fault and seed, against the truth and a calm run; more than an hour
	PLANTMESH_DEMO=full $(GO) test -run "TestDemo_Bars|TestDemo_FinalRows" -count=1 -v -timeout 3h ./deploy/e2e/cli

matrix: ## OPC UA against other people's servers, one case after the other: 1,000 items at 10 Hz, 5,000 at 1 Hz, 1,000 cycles; wants node
	PLANTMESH_MATRIX=full PLANTMESH_REQUIRE=interop $(GO) test -count=1 -v -timeout 60m ./deploy/e2e/opcua

torture-quick: build ## every fault once, against real processes: lost, duplicated, phantom, reordered, unmarked; under four minutes, wants root
	PLANTMESH_TORTURE=quick PLANTMESH_BIN=$(CURDIR)/bin $(GO) test -run TestTorture -count=1 -v -parallel 6 -timeout 15m ./deploy/torture

torture: build ## the same with many rounds and seeds; hours (PLANTMESH_SEEDS=3)
	PLANTMESH_SEEDS=$${PLANTMESH_SEEDS:-3} PLANTMESH_TORTURE=full PLANTMESH_BIN=$(CURDIR)/bin $(GO) test -run TestTorture -count=1 -v -parallel 2 -timeout 24h ./deploy/torture

attack: build ## what strangers, agents and people must not, tried at a hub: a row each
	PLANTMESH_ATTACK=full PLANTMESH_BIN=$(CURDIR)/bin $(GO) test -run TestAttack -count=1 -v -timeout 15m ./deploy/attack

release: $(NFPM) ## deb and tar.gz of agent and hub for amd64, arm64 and armv7 in dist/, with bills of materials and checksums; wants a git clone
	$(GO) run ./deploy/release/cmd/release -nfpm $(NFPM) -out dist

release-test: $(NFPM) ## the packages of this commit: twice the same bytes, installed, upgraded and purged in a clean Debian, the buffer on arm; wants root
	PLANTMESH_RELEASE=full $(GO) test -run TestRelease -count=1 -v -timeout 60m ./deploy/release

lint: $(LINT) ## golangci-lint, pinned in deploy/tools
	GOGC=400 $(LINT) run ./...

$(LINT): deploy/tools/go.mod deploy/tools/go.sum
	@mkdir -p .cache
	cd deploy/tools && GOGC=400 $(GO) build -o ../../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(NFPM): deploy/tools/nfpm/go.mod deploy/tools/nfpm/go.sum
	@mkdir -p .cache
	cd deploy/tools/nfpm && $(GO) build -o ../../../$(NFPM) github.com/goreleaser/nfpm/v2/cmd/nfpm

console: ## rebuild the page's assets from cloud/console/web (needs Node.js)
	cd cloud/console/web && npm ci --no-audit --no-fund && npx vite build

clean: ## remove what make made
	rm -rf bin .cache dist
