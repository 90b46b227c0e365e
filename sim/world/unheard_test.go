package world

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/sim/cast"
	"tombolo/store"
)

// A cutLine gives its client nothing: it breaks when the answer comes.
type cutLine struct{ net.Conn }

func (c cutLine) Read(b []byte) (int, error) {
	if n, err := c.Conn.Read(b); err != nil {
		return n, err
	}
	return 0, errors.Join(io.ErrUnexpectedEOF, c.Close())
}

// unheard sends a form whose answer does not arrive.
func (b *browser) unheard(path string, form url.Values) {
	b.t.Helper()
	c := http.Client{Jar: b.Jar, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, at string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, at)
		return cutLine{conn}, err
	}}}
	req, err := http.NewRequest("POST", b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Site": {"same-origin"}}
	if resp, err := c.Do(req); err == nil {
		b.t.Fatalf("the line was cut, and POST %s was answered: %s", path, resp.Status)
	}
}

var (
	pairForm    = regexp.MustCompile(`name="a" value="([^"]+)"><input type="hidden" name="b" value="([^"]+)"`)
	entryValue  = regexp.MustCompile(`name="entry" value="([^"]+)"`)
	privacyItem = regexp.MustCompile(`action="/privacy/([^/"]+)" method="post"`)
)

// An error never means "not done", in a browser neither: whoever hears no answer sends the same form again, even later, and it is done once and answered as it would have
// been at first; and what somebody has done since is not undone by it.
func TestAFormWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	var later atomic.Int64 // seconds
	dir := t.TempDir()
	w, err := Start(nonTestContext, Options{Dir: dir, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load()) * time.Second) }})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = w.Close()
		}
	})
	doctor, citizen, steward, officer := signedIn(t, w, "doctor"), signedIn(t, w, "citizen"), signedIn(t, w, "steward"), signedIn(t, w, "privacy")
	// twice has a form's answer lost, sends it again two seconds later, and gives the page that follows.
	twice := func(b *browser, path string, form url.Values) string {
		t.Helper()
		b.unheard(path, form)
		later.Add(2)
		resp, page := b.do("POST", path, form)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s again: %d", path, resp.StatusCode)
		}
		return page
	}

	// A choice, taken back, and its first form sent once more.
	choice := url.Values{"heading": {"allergies"}, "recipient": {"RX1"}}
	_, page := citizen.do("POST", "/me/choices", choice)
	choice.Set("step", "record")
	choice.Set("id", choiceID.FindStringSubmatch(page)[1])
	if page = twice(citizen, "/me/choices", choice); !strings.Contains(page, "in force now") || strings.Count(page, ">Take this back<") != 1 {
		t.Errorf("a choice that was sent twice: %d hold", strings.Count(page, ">Take this back<"))
	}
	back := url.Values{"id": {choiceID.FindStringSubmatch(page)[1]}}
	if page = twice(citizen, "/me/choices/back", back); !strings.Contains(page, "no longer in force") || strings.Contains(page, ">Take this back<") {
		t.Error("a choice that was taken back twice still holds")
	}
	later.Add(2)
	if _, page = citizen.do("POST", "/me/choices", choice); strings.Contains(page, ">Take this back<") {
		t.Error("the form of a choice, sent again after it was taken back, brings it back into force")
	}

	// A steward's word, and its withdrawal.
	_, page = steward.do("GET", "/desk/identity", nil)
	pair := pairForm.FindStringSubmatch(page)
	if pair == nil {
		t.Fatal("there is no pair to settle")
	}
	said := strings.Count(page, `value="withdrawn"`)
	word := url.Values{"a": {pair[1]}, "b": {pair[2]}, "word": {"not-the-same"}, "reason": {"They are twins"}}
	if page = twice(steward, "/desk/identity", word); strings.Count(page, `value="withdrawn"`) != said+1 {
		t.Errorf("a word that was said twice: %d more are said", strings.Count(page, `value="withdrawn"`)-said)
	}
	word.Set("word", "withdrawn")
	if page = twice(steward, "/desk/identity", word); strings.Count(page, `value="withdrawn"`) != said {
		t.Error("a word that was withdrawn twice is said")
	}

	// A question about who looked, and what the privacy officer finds.
	doctor.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {w.Person(cast.Main).NHS}})
	_, page = citizen.do("GET", "/me", nil)
	twice(citizen, "/me/looked", url.Values{"entry": {entryValue.FindStringSubmatch(page)[1]}, "words": {"I have never met a Dr Ade."}})
	_, page = officer.do("GET", "/privacy", nil)
	if n := strings.Count(page, "I have never met a Dr Ade."); n != 1 {
		t.Errorf("asked twice, it waits %d times", n)
	}
	_, after, _ := strings.Cut(page, "I have never met a Dr Ade.")
	item := privacyItem.FindStringSubmatch(after)[1]
	twice(officer, "/privacy/"+item, url.Values{"state": {"looking"}, "note": {"I have rung him."}})
	if _, page = officer.do("GET", "/privacy", nil); strings.Count(page, "I have rung him.") != 1 {
		t.Errorf("a step that was taken twice is told %d times", strings.Count(page, "I have rung him."))
	}

	if closed = true; w.Close() != nil {
		t.Fatal("the node does not close")
	}
	writtenOnce(t, filepath.Join(dir, "severn", "store"), map[string]int{"Consent": 2, "Linkage": 2}) // made, and taken back
}

// writtenOnce fails unless the newest version of this node's own resource of each type is the one that is wanted.
func writtenOnce(t *testing.T, dir string, want map[string]int) {
	t.Helper()
	engine, err := pebble.Open(pebble.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	got := map[string]map[fhir.Ref]int{}
	for e, err := range db.Since(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if _, asked := want[e.Ref.Type()]; asked && e.Source == "tombolo" {
			if got[e.Ref.Type()] == nil {
				got[e.Ref.Type()] = map[fhir.Ref]int{}
			}
			got[e.Ref.Type()][e.Ref] = e.Version
		}
	}
	for typ, version := range want {
		if len(got[typ]) != 1 {
			t.Errorf("%d of %s were made, want one", len(got[typ]), typ)
		}
		for ref, v := range got[typ] {
			if v != version {
				t.Errorf("%s is at version %d, want %d", ref, v, version)
			}
		}
	}
}
