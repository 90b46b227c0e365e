package audit

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"tombolo/fhir"
)

// An audit repository gets every entry in order, at least once, whatever it answers in between.
func TestTheFeedSendsEveryEntryAtLeastOnceAndInOrder(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	appendN(t, l, 300)
	var mu sync.Mutex // a request cut off half way is followed by the next on another connection, with nothing between them
	var got []string
	requests := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		if r.URL.Path != "/fhir/AuditEvent" || r.Header.Get("Content-Type") != "application/fhir+json" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("posted to %s as %s", r.URL.Path, r.Header.Get("Content-Type"))
		}
		switch requests % 50 {
		case 7:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case 9:
			http.Redirect(w, r, "http://elsewhere.example/", http.StatusTemporaryRedirect)
			return
		case 11:
			panic(http.ErrAbortHandler)
		}
		b, _ := io.ReadAll(r.Body)
		res, err := fhir.Parse(b)
		if err != nil || res.Type() != "AuditEvent" {
			t.Error(err)
		}
		got = append(got, res.ID())
		w.WriteHeader(http.StatusCreated)
	}))
	defer srv.Close()
	cursor, crashes := Seq(0), 0
	f := &Feed{Log: l, To: FHIR{URL: srv.URL + "/fhir", Token: "secret"}, Load: func(context.Context) (Seq, error) { return cursor, nil },
		Save: func(_ context.Context, s Seq) error {
			if crashes++; crashes%4 == 3 {
				return context.Canceled // the cursor was not kept: what was sent is sent again
			}
			cursor = s
			return nil
		}}
	for range 200 {
		if n, err := f.Step(ctx); n == 0 && err == nil {
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	next := Seq(1)
	for _, id := range got {
		switch {
		case id == idOf(next):
			next++
		case next > 1 && len(id) > 0: // again
		default:
			t.Fatalf("%s came before %s", id, idOf(next))
		}
	}
	if next != 301 || cursor != 300 {
		t.Errorf("the repository has the first %d, the cursor is %d", next-1, cursor)
	}
}

// An entry that the repository will never take does not hold up the others; that is in the log. One that takes nothing is waited for.
func TestARefusedEntryDoesNotHoldUpTheFeed(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	appendN(t, l, 12)
	refuse := func(string) bool { return true }
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		res, err := fhir.Parse(b)
		if err != nil {
			t.Error(err)
			return
		}
		if refuse(res.ID()) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		got = append(got, res.ID())
		w.WriteHeader(http.StatusCreated)
	}))
	defer srv.Close()
	cursor := Seq(0)
	f := &Feed{Log: l, To: FHIR{URL: srv.URL}, Load: func(context.Context) (Seq, error) { return cursor, nil }, Save: func(_ context.Context, s Seq) error { cursor = s; return nil }}
	for range 5 {
		if n, err := f.Step(ctx); n != 0 || err == nil {
			t.Fatalf("nothing is taken, and the feed goes on by %d (%v)", n, err)
		}
	}
	refuse = func(id string) bool { return id == "audit-5" || id == "audit-9" }
	for range 10 {
		if n, err := f.Step(ctx); n == 0 && err == nil {
			break
		}
	}
	refused := 0
	for e, err := range l.All(ctx, 12, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := e.Summary(); s.Kind == Alert && (s.Said("entry")[0] == "AuditEvent/audit-5" || s.Said("entry")[0] == "AuditEvent/audit-9") {
			refused++
		}
	}
	if left, err := f.Behind(ctx); len(got) != 12 || refused != 2 || left != 0 || err != nil { // 10 of the 12, and the two alerts
		t.Errorf("taken %v, %d told of, %d left (%v)", got, refused, left, err)
	}
}
