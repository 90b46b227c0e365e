package intake_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/extract"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/mpi"
	"tombolo/store"
)

// unsure is an engine that loses the answer of every third commit or so: of these, half were written, and nobody can tell which.
func unsure(e kv.Engine) kv.Engine {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return enginetest.Unsure{Engine: e, Fate: func() enginetest.Fate {
		mu.Lock()
		defer mu.Unlock()
		return map[int]enginetest.Fate{0: enginetest.LostBefore, 1: enginetest.LostAfter}[r.IntN(6)]
	}}
}

// An upload is a drop folder's file with two visits of a patient.
const clinic = `mapping: clinic/1
patient: {id: patient, family: surname}
files:
  - name: visits*.csv
    key: visit
    make:
      - type: Encounter
        heading: encounters
        set: {status: finished, class.code: AMB}
        fields: {period.start: needed(datetime(start))}
`

// An error never means "not stored": whoever gets one does the same again, and in the end everything is there once, for what came through each way in
// (messages and documents, requests, imports, uploads, a steward's word) and for what follows the log.
func TestAnErrorLeavesOpenWhetherItWasStored(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := store.Open(store.Options{Engine: unsure(enginetest.Open(t, t.TempDir()))})
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
		again("an import", func() error {
			_, err := in.Bulk().Accept(ctx, delivery("i"+id, "i"+id, patient("i"+id, "", "Ferry", "1948-03-12", nil)))
			return err
		})
		again("a steward's word", func() error {
			word := mpi.Saying{A: "a" + id, B: "b" + id, Same: true, By: "ann"}.Resource(false)
			_, err := in.Accept(ctx, connector.Delivery{Source: connector.Own, ID: "who-is-who/" + id, Raw: word.Raw(), ContentType: "application/json", Content: []*fhir.Resource{word}})
			return err
		})
	}
	uploads(t, ctx, in, n)
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
	types := map[string]int{}
	for ref := range seen {
		types[ref.Type()]++
	}
	for typ, want := range map[string]int{"Patient": 3*n + n, "Observation": n, "Linkage": n, "Encounter": 2 * n} {
		if types[typ] != want {
			t.Errorf("%d of %s are there, want %d", types[typ], typ, want)
		}
	}
}

// uploads sends files to a drop folder's listener, and waits until they are taken in.
func uploads(t *testing.T, ctx context.Context, in *intake.Intake, n int) {
	t.Helper()
	m, err := extract.Parse([]byte(clinic))
	if err != nil {
		t.Fatal(err)
	}
	drop := t.TempDir()
	r, err := extract.New(extract.Options{Source: "trust", Mapping: m, Drop: drop, Poll: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	running, stop := context.WithCancel(ctx)
	var ran sync.WaitGroup
	ran.Go(func() { _ = r.Run(running, in) })
	defer ran.Wait()
	defer stop()
	<-r.Ready()
	for i := range n {
		file := fmt.Sprintf("visit,patient,surname,start\nV%d,up%d,Ferry,2026-07-02\nW%d,up%d,Ferry,2026-07-03\n", i, i, i, i)
		for tries := 1; ; tries++ {
			got := httptest.NewRecorder()
			r.Handler().ServeHTTP(got, httptest.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("/visits%d.csv", i), strings.NewReader(file)))
			if got.Code == http.StatusCreated || got.Code == http.StatusAccepted { // durable, or kept until it is
				break
			}
			if got.Code != http.StatusServiceUnavailable || tries > 20 {
				t.Fatalf("an upload, %d times: %d %s", tries, got.Code, got.Body)
			}
		}
	}
	for left := n; left > 0 && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		done, err := filepath.Glob(filepath.Join(drop, "done", "*.csv"))
		if err != nil {
			t.Fatal(err)
		}
		left = n - len(done)
	}
}
