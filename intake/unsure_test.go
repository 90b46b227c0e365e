package intake_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/mpi"
	"tombolo/store"
)

// An unsure engine loses the answer of every second commit: of these, one was written and the next was not, and nobody can tell which.
type unsure struct {
	kv.Engine
	mu sync.Mutex
	n  int
}

var errLost = errors.New("the answer was lost")

func (u *unsure) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	u.mu.Lock()
	u.n++
	n := u.n
	u.mu.Unlock()
	if n%4 == 2 {
		return 0, errLost
	}
	at, err := u.Engine.Commit(ctx, b)
	if n%4 == 0 && err == nil {
		return 0, errLost
	}
	return at, err
}

// An error never means "not stored": whoever gets one does the same again, and in the end everything is there once, for what came through either way in
// and for what follows the log.
func TestAnErrorLeavesOpenWhetherItWasStored(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := store.Open(store.Options{Engine: &unsure{Engine: enginetest.Open(t, t.TempDir())}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	stamper := connector.Stamper{Key: []byte("test")}
	follower := db.Follower("mpi", mpi.New(db, stamper).Handle)
	follower.MinPause, follower.Logger = time.Millisecond, slog.New(slog.DiscardHandler)
	following, stop := context.WithCancel(ctx)
	var followed sync.WaitGroup
	followed.Go(func() { _ = follower.Run(following) })
	defer followed.Wait()
	defer stop()
	in := intake.New(intake.Options{Store: db, Region: twoTrusts, Stamper: stamper, Await: follower.Await})
	again := func(what string, do func() error) {
		t.Helper()
		for tries := 1; ; tries++ {
			err := do()
			if err == nil {
				return
			}
			if !fhir.Is(err, fhir.NoStore) || tries > 20 {
				t.Fatalf("%s, %d times: %v", what, tries, err)
			}
		}
	}
	const n = 12
	for i := range n {
		id := fmt.Sprint("p", i)
		again("a delivery", func() error {
			_, err := in.Accept(ctx, delivery("d"+id, id, patient(id, "", "Ferry", "1948-03-12", nil), result("r"+id, id, "final", "5.4")))
			return err
		})
		again("a request", func() error {
			_, err := in.Submit(ctx, intake.Submission{Source: "gp", Key: "k" + id, Raw: []byte(id)}, func(w *intake.Writing) ([]byte, error) {
				_, err := w.Put(ctx, fhir.New("Patient", "own-"+id, fhir.M{"birthDate": "1948-03-12"}))
				return []byte("ok"), err
			})
			return err
		})
	}
	seen := map[fhir.Ref]int{}
	last := events.Seq(0)
	for e, err := range db.Since(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[e.Ref]++; seen[e.Ref] > 1 || e.Version != 1 || e.Seq != last+1 {
			t.Errorf("%s was written %d times, version %d, at %d", e.Ref, seen[e.Ref], e.Version, e.Seq)
		}
		last = e.Seq
	}
	patients := 0
	for ref := range seen {
		if ref.Type() == "Patient" {
			patients++
		}
	}
	if patients != 2*n {
		t.Errorf("%d patients are there, want %d", patients, 2*n)
	}
}
