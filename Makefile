# malla: what people and machines run.
#   make            build bin/malla and bin/malla-proxy
#   make test       everything that must hold (installs what the tests need and the machine lacks)
#   make bench      side by side with the peers; prints ratios
#   make profile    what the compiler is told about malla-proxy: which code is hot, from six minutes of work
#   make fuzz       every fuzz test for FUZZ=10s beyond its seeds, which make test plays
#   make soak       half an hour of traffic and of change; what a proxy holds must not grow
#   make conformance  Gateway API's own suite in a mesh; writes docs/conformance.md, in ten minutes
#   make check      gofmt, vet and staticcheck only

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null | sed 's/^v//')
NUMBER  := $(if $(findstring .,$(VERSION)),$(VERSION),0.1.0-g$(VERSION))
LDFLAGS := -s -w -X github.com/mallamesh/malla/base/version.Number=$(NUMBER)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: all build test check bench profile fuzz soak conformance tools clean
all: build

build:
	go build -ldflags "$(LDFLAGS)" -o bin/malla ./cmd/malla
	go build -ldflags "$(LDFLAGS)" -o bin/malla-proxy ./cmd/malla-proxy

tools:
	@scripts/tools

check:
	@files=$$(git ls-files '*.go' | xargs gofmt -l); test -z "$$files" || { echo "gofmt -w is due for: $$files"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

test: tools build check
	GOOS=darwin go build -o /dev/null ./cmd/malla
	GOOS=windows go build -o /dev/null ./cmd/malla
	MALLA_BIN=$(CURDIR)/bin/malla go test -timeout 15m ./...
	go test -race -timeout 10m $(RACE)

# The packages where goroutines share memory.
RACE := ./proxy/... ./control/... ./local/api/... ./node/... ./local/broker/...

bench: tools build
	MALLA_BIN=$(CURDIR)/bin/malla go run ./test/bench

profile: tools
	go run ./test/bench -only h1,h2,grpc,bodies,bridge,mtls,tcp,handshake -profile cmd/malla-proxy/default.pgo

# FUZZ is for how long each.
FUZZ := 10s
fuzz:
	@go list ./... | while read p; do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ) $$p || exit 1; done; done

# SOAK is for how long.
SOAK := 30m
soak: build
	MALLA_BIN=$(CURDIR)/bin/malla go test -timeout 0 -count 1 -v ./test/faults -run "TestSoak|TestServersThatCloseIdleConnections" -soak $(SOAK)

conformance: build
	cd test/conformance && MALLA_CONFORMANCE=1 MALLA_BIN=$(CURDIR)/bin/malla go test -timeout 45m -count 1 -run TestMesh . -update

clean:
	rm -rf bin .cache
