package node

import (
	"path/filepath"
	"testing"
	"time"

	"tombolo/kv/pebble"
	"tombolo/store"
)

// Of several nodes one at a time has the task; it keeps it while it lives, and another takes it up when it falls silent.
func TestATaskIsOneNodesAtATime(t *testing.T) {
	e, err := pebble.Open(pebble.Options{Dir: filepath.Join(t.TempDir(), "store")})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	node := func(name string) *lease { return &lease{db: db, what: "watch", holder: name, now: now} }
	north, south, other := node("north"), node("south"), &lease{db: db, what: "feed", holder: "south", now: now}
	holds := func(l *lease) bool {
		t.Helper()
		ok, err := l.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for i := range 30 { // north goes on renewing it
		if !holds(north) || holds(south) || !holds(other) {
			t.Fatalf("after %d s: north %v, south %v", i, holds(north), holds(south))
		}
		at = at.Add(time.Second)
	}
	at = at.Add(leaseTime) // north has stopped
	if !holds(south) {
		t.Error("nobody takes it up")
	}
	if holds(north) {
		t.Error("north comes back, and both have it")
	}
	at = at.Add(-24 * time.Hour) // the clock was wrong all the time
	if !holds(north) && !holds(south) {
		t.Error("with the clock put right nobody has it for a day")
	}
	if holds(north) && holds(south) {
		t.Error("both have it")
	}
	alone := &lease{}
	if !holds(alone) {
		t.Error("a node alone waits for others")
	}
}
