# Targets for people who work on Tombolo. `make` builds; `make test` installs or starts what the tests need and runs them all.
GO ?= go
SHELL := /bin/bash
# Longest a test package may take; the whole suite stays far under 15 minutes on 2 cores.
TIMEOUT ?= 20m
# Packages whose tests run at a time: twice as many as processors, since many a test waits, for a deadline, a disk, a database or the race detector's end.
PACKAGES ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: build test tools check vet staticcheck fmt map vuln reproducible demo fuzz bench soak vendor-nhsuk docs

build:
	$(GO) build -trimpath -o tombolo ./cmd/tombolo

# The one test command: CI runs the same.
test: tools
	$(GO) test -race -p $(PACKAGES) -timeout $(TIMEOUT) ./...

# What the tests use that is not a Go module: Chromium, to open the pages as a person would. Installed where this user may; where
# not, the tests that need it say that they are skipped (and in CI that is a failure).
tools:
	@bash .ci/tools

check: fmt vet staticcheck map

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt: these files are not formatted:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) tool staticcheck ./...

map:
	$(GO) test -run TestMap .

vuln:
	@bash .ci/vuln

# Two builds, each compiled by itself, are the same bytes. CI links twice what was compiled once.
reproducible:
	@bash .ci/reproducible --anew

demo:
	$(GO) run ./cmd/tombolo demo

# A minute on each parser of bytes from outside.
fuzz:
	@for p in $$($(GO) list ./...); do for f in $$(grep -ho 'func Fuzz[A-Za-z0-9_]*' $$($(GO) list -f '{{.Dir}}' $$p)/*_test.go 2>/dev/null | sed 's/func //'); do \
		echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 60s $$p || exit 1; done; done

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Hours, not minutes: the race detector over the whole suite, again and again; then a node that is killed five thousand times on each engine, by
# itself and with its database, at every sync of a run, in power cuts, on failing, slow and full disks, and under ten million messages.
soak:
	TOMBOLO_SOAK=1 $(GO) test -race -count 20 -timeout 6h $$($(GO) list ./... | grep -v /sim/harness)
	TOMBOLO_SOAK=1 $(GO) test -v -timeout 12h ./sim/harness

# The NHS.UK design system, from its npm package, without the fonts and the logo that are not ours to give.
vendor-nhsuk:
	$(GO) run ./web/vendor.go
