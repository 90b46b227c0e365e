// Package connectortest holds every connector to the words of the contract: RunAsker puts an Asker that speaks HTTP in front of sources
// that know the person, do not, hang, drip, lie and shout, and says where it does not do as connector.Asker promises.
//
// A connector's own tests bring a Fixture; sources that misbehave at the level of HTTP are made here.
package connectortest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// A Fixture is one kind of Asker with sources for it to ask.
type Fixture struct {
	// New makes the Asker under test for a source at address, which takes at most maxBytes of an answer.
	New func(t testing.TB, address string, maxBytes int64) connector.Asker

	// Source speaks the protocol and knows the person of Known, of whom it has entries under every heading in Known.Headings, and
	// does not know the one of Unknown.
	Source         http.Handler
	Known, Unknown connector.Question

	// Other speaks the protocol and answers whatever it is asked with the record of a third person, whose demographics IsOther
	// recognises and IsKnown does not.
	Other            http.Handler
	IsKnown, IsOther func(patient *fhir.Resource) bool

	// ContentType of a good answer, so that garbage can wear it.
	ContentType string
}

// RunAsker runs the suite.
func RunAsker(t *testing.T, f Fixture) {
	t.Run("a known person is answered in full", f.known)
	t.Run("nothing is given beyond the headings asked", f.headings)
	t.Run("an unknown person is not found", f.unknown)
	t.Run("another person's demographics are passed on to be checked", f.other)
	t.Run("numbers of people stay out of URLs, headers and errors", f.secrets)
	t.Run("redirects are not followed", f.redirects)
	t.Run("many may ask at once", f.many)
	for _, m := range misbehaviours {
		t.Run(m.name, func(t *testing.T) { f.misbehaves(t, m) })
	}
	t.Run("nobody listening is a passing fault", f.nobody)
}

const enough = 8 << 20

func (f Fixture) ask(t testing.TB, h http.Handler, q connector.Question, within time.Duration, maxBytes int64) (*connector.Answer, time.Duration, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer func() {
		srv.CloseClientConnections()
		srv.Close()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	start := time.Now()
	a, err := f.New(t, srv.URL, maxBytes).Ask(ctx, q)
	return a, time.Since(start), err
}

const patient = 20 * time.Second // no test waits so long unless something is wrong

func (f Fixture) known(t *testing.T) {
	a, _, err := f.ask(t, f.Source, f.Known, patient, enough)
	if err != nil {
		t.Fatalf("asking about somebody the source knows: %v", err)
	}
	if a.Patient == nil || !f.IsKnown(a.Patient) {
		t.Error("the answer does not bring the demographics that the source holds, so nobody can check whose record it is")
	}
	if a.Map == "" {
		t.Error("the answer does not name its mapping")
	}
	if a.Bytes <= 0 {
		t.Error("the answer does not say how large it was on the wire")
	}
	for _, h := range f.Known.Headings {
		if a.States[h] != dataset.Present {
			t.Errorf("the source has entries under %s, the answer says %q", h, a.States[h])
		}
		if h != dataset.Demographics && h != dataset.GPPractice &&
			!slices.ContainsFunc(a.Content, func(r *fhir.Resource) bool { return dataset.HeadingOf(r) == h }) {
			t.Errorf("%s is present and nothing stands under it", h)
		}
	}
	seen := map[fhir.Ref]bool{}
	for _, r := range a.Content {
		if r.Type() == "Patient" {
			t.Error("a Patient stands among the content")
		}
		if r.ID() == "" {
			t.Errorf("a %s has no id, so it cannot be stamped", r.Type())
		}
		if seen[r.Ref()] {
			t.Errorf("%s comes twice", r)
		}
		seen[r.Ref()] = true
		if _, err := (connector.Stamper{Key: []byte("k")}).Stamp("s", r); err != nil {
			t.Errorf("%s cannot be stamped: %v", r, err)
		}
	}
}

func (f Fixture) headings(t *testing.T) {
	for _, h := range f.Known.Headings {
		q := f.Known
		q.Headings = []dataset.Heading{h}
		a, _, err := f.ask(t, f.Source, q, patient, enough)
		if err != nil {
			t.Errorf("asking for %s alone: %v", h, err)
			continue
		}
		for _, r := range a.Content {
			if got := dataset.HeadingOf(r); got != "" && got != h {
				t.Errorf("asked for %s alone, and was given %s of %s", h, r, got)
			}
		}
		for got := range a.States {
			if got != h {
				t.Errorf("asked for %s alone, and was told of %s", h, got)
			}
		}
	}
}

func (f Fixture) unknown(t *testing.T) {
	a, _, err := f.ask(t, f.Source, f.Unknown, patient, enough)
	if !fhir.Is(err, fhir.NotFound) {
		t.Errorf("got %v, want an error of type not-found", err)
	}
	if a != nil && len(a.Content) > 0 {
		t.Error("content about somebody the source does not know")
	}
}

func (f Fixture) other(t *testing.T) {
	a, _, err := f.ask(t, f.Other, f.Known, patient, enough)
	if err != nil {
		if !fhir.Is(err, fhir.BusinessRule) {
			t.Errorf("another person's record: got %v, want an answer to be checked or an error of type business-rule", err)
		}
		if a != nil && len(a.Content) > 0 {
			t.Error("the error brings the other person's content with it")
		}
		return
	}
	if a.Patient == nil || !f.IsOther(a.Patient) {
		t.Error("the source sent somebody else's record, and the answer hides whose")
	}
}

// A request as seen by a source.
type seen struct{ url, header string }

func (f Fixture) secrets(t *testing.T) {
	var mu sync.Mutex
	var all []seen
	spy := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var b strings.Builder
			_ = r.Header.Write(&b)
			mu.Lock()
			all = append(all, seen{r.URL.String(), b.String()})
			mu.Unlock()
			next.ServeHTTP(w, r)
		})
	}
	var errs []error
	for _, q := range []connector.Question{f.Known, f.Unknown} {
		_, _, err := f.ask(t, spy(f.Source), q, patient, enough)
		errs = append(errs, err)
		_, _, err = f.ask(t, spy(http.NotFoundHandler()), q, patient, enough)
		errs = append(errs, err)
	}
	for _, q := range []connector.Question{f.Known, f.Unknown} {
		for _, id := range q.Identifiers {
			for _, s := range all {
				if strings.Contains(s.url, id.Value) || strings.Contains(s.header, id.Value) {
					t.Error("a person's number stood in a URL or header")
				}
			}
			for _, err := range errs {
				if err != nil && strings.Contains(err.Error(), id.Value) {
					t.Error("a person's number stood in an error")
				}
			}
		}
	}
}

func (f Fixture) redirects(t *testing.T) {
	var mu sync.Mutex
	strays := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		strays++
		mu.Unlock()
		f.Source.ServeHTTP(w, r)
	}))
	defer elsewhere.Close()
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL+r.URL.Path, code) })
		if _, _, err := f.ask(t, h, f.Known, patient, enough); err == nil {
			t.Errorf("HTTP %d: an answer came from where the source pointed", code)
		}
	}
	if strays > 0 {
		t.Errorf("the question, with whose record it is about, was sent to another server %d times", strays)
	}
}

func (f Fixture) many(t *testing.T) {
	srv := httptest.NewServer(f.Source)
	defer srv.Close()
	asker := f.New(t, srv.URL, enough)
	var wg sync.WaitGroup
	for i := range 8 {
		q, known := f.Known, i%2 == 0
		if !known {
			q = f.Unknown
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patient)
			defer cancel()
			a, err := asker.Ask(ctx, q)
			if known && (err != nil || !f.IsKnown(a.Patient)) {
				t.Errorf("asked beside others: %v", err)
			}
			if !known && !fhir.Is(err, fhir.NotFound) {
				t.Errorf("asked beside others about somebody unknown: %v", err)
			}
		})
	}
	wg.Wait()
}

func (f Fixture) nobody(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	address := srv.URL
	srv.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if _, err := f.New(t, address, enough).Ask(ctx, f.Known); !fhir.Is(err, fhir.Transient) {
		t.Errorf("got %v, want an error of type transient", err)
	}
}

// A misbehaviour of a source, and what an Asker may say of it.
type misbehaviour struct {
	name     string
	handler  func(f Fixture) http.HandlerFunc
	within   time.Duration // how long the asker is given
	maxBytes int64
	want     []fhir.IssueType
	after    time.Duration // when the source says that it may be asked again
}

const hurry = 150 * time.Millisecond

func answering(body string) func(Fixture) http.HandlerFunc {
	return func(f Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.ContentType)
			_, _ = io.WriteString(w, body)
		}
	}
}

func failing(status int, header ...string) func(Fixture) http.HandlerFunc {
	return func(Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			http.Error(w, "<h1>no</h1>", status)
		}
	}
}

var misbehaviours = []misbehaviour{
	{"a source that never answers costs its deadline and no more", func(Fixture) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}
	}, hurry, enough, []fhir.IssueType{fhir.Timeout}, 0},
	{"a source that drips costs its deadline and no more", func(f Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", f.ContentType)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		}
	}, hurry, enough, []fhir.IssueType{fhir.Timeout}, 0},
	{"garbage is refused", answering("{\"resourceType\":\"Bundle\",\x00\xff"), patient, enough, []fhir.IssueType{fhir.Structure}, 0},
	{"JSON that is no answer is refused", answering(`{"hello":["world"]}`), patient, enough, []fhir.IssueType{fhir.Structure, fhir.Required}, 0},
	{"an empty answer is refused", answering(""), patient, enough, []fhir.IssueType{fhir.Structure}, 0},
	{"nesting without end is refused", answering(strings.Repeat(`{"a":[`, 100_000)), patient, enough, []fhir.IssueType{fhir.Structure, fhir.TooCostly}, 0},
	{"a web page is refused", func(Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>Please sign in</html>")
		}
	}, patient, enough, []fhir.IssueType{fhir.Structure}, 0},
	{"an answer cut off is told as such", func(f Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.ContentType)
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, `{"resourceType":"Bundle","type":"coll`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}, patient, enough, []fhir.IssueType{fhir.Transient, fhir.Incomplete, fhir.Structure}, 0},
	{"an answer that is too large is refused", func(f Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", f.ContentType)
			block := []byte(strings.Repeat(" ", 64<<10))
			for r.Context().Err() == nil {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	}, patient, 1 << 20, []fhir.IssueType{fhir.TooLong}, 0},
	{"an answer that says it is too large is not read", func(f Fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", f.ContentType)
			w.Header().Set("Content-Length", "1099511627776")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}, patient, 1 << 20, []fhir.IssueType{fhir.TooLong}, 0},
	{"being asked too often is told as such", failing(http.StatusTooManyRequests, "Retry-After", "30"), patient, enough, []fhir.IssueType{fhir.Throttled}, 30 * time.Second},
	{"an internal error is a passing fault", failing(http.StatusInternalServerError), patient, enough, []fhir.IssueType{fhir.Transient}, 0},
	{"being unavailable is a passing fault", failing(http.StatusServiceUnavailable), patient, enough, []fhir.IssueType{fhir.Transient}, 0},
	{"being refused is told as such", failing(http.StatusForbidden), patient, enough, []fhir.IssueType{fhir.Forbidden, fhir.Suppressed}, 0},
	{"nothing at the address is not an unknown person", failing(http.StatusNotFound), patient, enough, []fhir.IssueType{fhir.Processing, fhir.Structure, fhir.NotSupported, fhir.Transient}, 0},
}

func (f Fixture) misbehaves(t *testing.T, m misbehaviour) {
	a, took, err := f.ask(t, m.handler(f), f.Known, m.within, m.maxBytes)
	is := fhir.IssueOf(err)
	switch {
	case err == nil:
		t.Fatal("no error")
	case is == nil:
		t.Fatalf("%v is an error without an issue type", err)
	case !slices.Contains(m.want, is.Type):
		t.Errorf("got %s (%v), want one of %v", is.Type, err, m.want)
	case is.After != m.after:
		t.Errorf("%v: it may be asked again after %s, want %s", err, is.After, m.after)
	case is.Source == "":
		t.Errorf("%v does not name the source", err)
	}
	if a != nil && len(a.Content) > 0 {
		t.Error("content came of it")
	}
	if took > m.within+2*time.Second {
		t.Errorf("it took %v of a deadline of %v", took, m.within)
	}
}
