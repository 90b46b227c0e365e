package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// A Lookout looks whether anything that was delivered into a node comes out where nobody's authority to read is asked: in its log, at whatever level, its
// metrics, the names of its files, and the addresses that it asks of others. The fixtures put one over each node that they start, so that it is always on:
// whatever a test is about, a leak fails it.
type Lookout struct {
	t      testing.TB
	known  string // what the region file says of itself is no secret, even if somebody is called like it
	folder string
	pds    []string          // where people are asked about by their numbers, names and birth dates: PDS's API says that they stand in the address
	secret map[string]string // what it is, by the words themselves in lower case

	mu    sync.Mutex
	log   bytes.Buffer
	asked []string        // URLs
	heard []*bytes.Buffer // what was answered, by those who keep their record themselves
	told  map[string]bool
}

// LookOut changes how a node is to be made so that it is watched. Whoever closes the node calls Look before.
func LookOut(t testing.TB, c *Config) *Lookout {
	t.Helper()
	known, err := json.Marshal(c.Region)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lookout{t: t, known: strings.ToLower(string(known)), folder: c.Data, secret: map[string]string{}, told: map[string]bool{}}
	for _, s := range c.Region.Systems {
		if s.Connector == "pds" {
			l.pds = append(l.pds, s.Address)
		}
	}
	also := slog.Handler(slog.DiscardHandler)
	if c.Logger != nil {
		also = c.Logger.Handler()
	}
	c.Logger = slog.New(slog.NewMultiHandler(slog.NewTextHandler((*logged)(l), &slog.HandlerOptions{Level: slog.LevelDebug}), also))
	c.outward = func(to http.RoundTripper) http.RoundTripper { return asks{l, to} }
	t.Cleanup(l.atLast)
	return l
}

// logged is a lookout as its node's log.
type logged Lookout

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(line)
}

// asks sees the addresses that a node asks.
type asks struct {
	l  *Lookout
	to http.RoundTripper
}

func (a asks) RoundTrip(r *http.Request) (*http.Response, error) {
	a.l.mu.Lock()
	a.l.asked = append(a.l.asked, r.URL.String())
	a.l.mu.Unlock()
	resp, err := a.to.RoundTrip(r)
	if err == nil && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		b := &answer{ReadCloser: resp.Body, l: a.l}
		resp.Body = b
		a.l.mu.Lock()
		a.l.heard = append(a.l.heard, &b.read)
		a.l.mu.Unlock()
	}
	return resp, err
}

// An answer is kept as it is read, as long as it is no larger than a record is.
type answer struct {
	io.ReadCloser
	l    *Lookout
	read bytes.Buffer
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	if a.read.Len() < 1<<20 {
		a.read.Write(p[:n])
	}
	return n, err
}

func (a asks) CloseIdleConnections() {
	if c, ok := a.to.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Look learns what a node was told, in each version, and looks through what is there to be seen while it is open.
func (l *Lookout) Look(n *Node) {
	ctx := context.Background()
	for e, err := range n.store.Since(ctx, 0) {
		if err != nil {
			l.t.Errorf("the lookout cannot read what was delivered: %v", err)
			return
		}
		if r, err := n.store.ReadVersion(ctx, e.Ref, e.Version); err == nil {
			l.learn(r.Raw())
		}
	}
	l.mu.Lock()
	for _, b := range l.heard {
		l.learn(b.Bytes())
	}
	l.mu.Unlock()
	if n.pages.server != nil {
		r, w := httptest.NewRequest("GET", "/metrics", nil), httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:1"
		n.pages.server.Handler.ServeHTTP(w, r)
		l.nothing("a metric", w.Body.String())
	}
	if l.folder == "" {
		return
	}
	_ = filepath.WalkDir(l.folder, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			l.nothing("a file's name", strings.TrimPrefix(path, l.folder))
		}
		return nil
	})
}

// atLast looks through what the node said and asked, to its end.
func (l *Lookout) atLast() {
	l.mu.Lock()
	log, asked := l.log.String(), l.asked
	l.mu.Unlock()
	if l.folder != "" {
		log = strings.ReplaceAll(log, l.folder, "") // it has the test's name in it
	}
	l.nothing("the log", log)
	slices.Sort(asked)
	for _, u := range slices.Compact(asked) {
		national := slices.ContainsFunc(l.pds, func(p string) bool { return strings.HasPrefix(u, strings.TrimSuffix(p, "/")+"/Patient") })
		if plain, err := url.QueryUnescape(u); err == nil {
			u = plain
		}
		l.nothing("an address that is asked", u, when(national, "an NHS number", "a family name", "a birth date")...)
	}
}

func when(so bool, what ...string) []string {
	if so {
		return what
	}
	return nil
}

// Whose words are not about patients.
var impersonal = map[string]bool{"Organization": true, "Location": true, "Provenance": true, "Practitioner": true, "PractitionerRole": true, "HealthcareService": true, "Endpoint": true,
	"OperationOutcome": true, "SearchParameter": true, "Subscription": true, "StructureDefinition": true, "CapabilityStatement": true, "ValueSet": true, "CodeSystem": true, "Schedule": true, "Slot": true, "Device": true}

// The elements in which people write what they like.
var free = map[string]bool{"text": true, "valueString": true, "description": true, "title": true, "comment": true, "div": true, "conclusion": true, "line": true, "data": true}

// learn takes from resources the words that can be nothing else: numbers with their check digit, patients' family names and birth dates, addresses, and text of
// more than a few words or in the form of a canary.
func (l *Lookout) learn(raw []byte) {
	var all map[string]any
	if json.Unmarshal(raw, &all) == nil && all["resourceType"] != nil {
		l.walk(false, "", all)
	}
}

var canaryWord = regexp.MustCompile(`^[A-Z]{5,}[0-9]{2,}$`)

func (l *Lookout) walk(person bool, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if typ, ok := v["resourceType"].(string); ok {
			if impersonal[typ] {
				return
			}
			person = typ == "Patient" || typ == "RelatedPerson"
		}
		for k, x := range v {
			l.walk(person, k, x)
		}
	case []any:
		for _, x := range v {
			l.walk(person, name, x)
		}
	case string:
		v = strings.TrimSpace(v)
		switch {
		case name == "value" && isNumber(v):
			l.hide("an NHS number", v)
			l.hide("an NHS number", v[:3]+" "+v[3:6]+" "+v[6:])
		case person && name == "family" && len(v) >= 6:
			l.hide("a family name", v)
		case person && name == "birthDate" && len(v) == len("1948-03-12") && v < "2020":
			l.hide("a birth date", v)
		case free[name] && canaryWord.MatchString(v):
			l.hide("a canary", v)
		case free[name] && len(v) >= 20 && strings.Contains(v, " ") || name == "data" && len(v) >= 20:
			l.hide("free text", v[:20]) // what is cut off leaks as well
		}
	}
}

func isNumber(s string) bool {
	number, err := fhir.ParseNHSNumber(s)
	return err == nil && number.Digits() == s
}

func (l *Lookout) hide(what, words string) {
	words = strings.ToLower(words)
	if !strings.Contains(l.known, words) && !strings.Contains(strings.ToLower(l.t.Name()), words) {
		l.secret[words] = what
	}
}

// nothing says so, once for each, if there are secrets in a text but those that belong there.
func (l *Lookout) nothing(where, text string, but ...string) {
	lower := strings.ToLower(text)
	for words, what := range l.secret {
		at := whole(lower, words)
		if at < 0 || l.told[where+what] || slices.Contains(but, what) {
			continue
		}
		l.told[where+what] = true
		l.t.Errorf("%s holds %s that was delivered in confidence (%q): …%s…", where, what, words, lower[max(0, at-200):min(len(lower), at+len(words)+80)])
	}
}

// whole finds words that are no part of longer ones.
func whole(text, words string) int {
	for from := 0; ; {
		at := strings.Index(text[from:], words)
		if at < 0 {
			return -1
		}
		at += from
		end := at + len(words)
		if (at == 0 || !alphanumeric(text[at-1])) && (end == len(text) || len(words) >= 20 || !alphanumeric(text[end])) {
			return at
		}
		from = end
	}
}

func alphanumeric(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' }

// caught is a test that takes down what it is told instead of failing, and ends when it is told to.
type caught struct {
	testing.TB
	told []string
	ends []func()
}

func (c *caught) Errorf(format string, a ...any) { c.told = append(c.told, fmt.Sprintf(format, a...)) }
func (c *caught) Cleanup(f func())               { c.ends = append(c.ends, f) }
func (c *caught) end() {
	for _, f := range slices.Backward(c.ends) {
		f()
	}
}

// A lookout that sees nothing is worth nothing: whatever is planted anywhere it finds, in the fixture as every test has it; and of what may be said it says nothing.
func TestALookoutSeesWhatLeaksOutOfANode(t *testing.T) {
	number := someNumber(7)
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = w.Write(fhir.New("Condition", "c", fhir.M{"code": fhir.CodeableConcept{Text: "LINNET42"}}).Raw())
	}))
	t.Cleanup(live.Close)
	leaks := map[string]struct {
		plant func(n *Node, data string)
		want  []string
	}{
		"nothing": {func(n *Node, _ string) {
			n.c.Logger.Info("taken", "source", "pas", "person", "3f9aa0c2", "name", "Oseikuto")
		}, nil},
		"a number logged":   {func(n *Node, _ string) { n.c.Logger.Debug("taken", "patient", number) }, []string{"the log holds an NHS number"}},
		"a number, spaced":  {func(n *Node, _ string) { n.c.Logger.Info("of " + number[:3] + " " + number[3:6] + " " + number[6:]) }, []string{"the log holds an NHS number"}},
		"a name in a group": {func(n *Node, _ string) { n.c.Logger.WithGroup("p").Warn("x", "name", "OSEIKU^ANN") }, []string{"the log holds a family name"}},
		"a birth date":      {func(n *Node, _ string) { n.c.Logger.Warn("born 1979-12-01") }, []string{"the log holds a birth date"}},
		"text, cut off": {func(n *Node, _ string) {
			n.c.Logger.Error("bad", "error", fmt.Errorf("at %.24q", "Found asleep in the garden shed"))
		}, []string{"the log holds free text"}},
		"what was there before": {func(n *Node, _ string) { n.c.Logger.Error("HERON77") }, []string{"the log holds a canary"}},
		"what another answered": {func(n *Node, _ string) {
			resp, err := n.client().Get(live.URL)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			n.c.Logger.Debug("heard", "raw", body)
		}, []string{"the log holds a canary"}},
		"a file's name": {func(_ *Node, data string) {
			if err := os.WriteFile(filepath.Join(data, "export-"+number+".ndjson"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"a file's name holds an NHS number"}},
		"an address": {func(n *Node, _ string) {
			if resp, err := n.client().Get("http://127.0.0.1:1/Patient?family=O%73eiku&identifier=x%7C" + number); err == nil {
				_ = resp.Body.Close()
			}
		}, []string{"an address that is asked holds a family name", "an address that is asked holds an NHS number"}},
	}
	for what, leak := range leaks {
		t.Run(what, func(t *testing.T) {
			hears := &caught{TB: t}
			c := &clock{}
			c.at.Store(1780000000e9)
			n := holding(hears, c, 1)
			for i, text := range []string{"HERON77", "Found asleep in the garden shed"} {
				of := fhir.Reference{Reference: "Patient/p"}
				if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: fmt.Sprint(i), Raw: []byte{'x', byte(i)}, Patient: "p", Content: []*fhir.Resource{
					fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}}, "name": []fhir.HumanName{{Family: "Oseiku"}}, "birthDate": "1979-12-01"}),
					fhir.New("Condition", "c", fhir.M{"subject": of, "code": fhir.CodeableConcept{Text: text}})}}); err != nil {
					t.Fatal(err)
				}
			}
			leak.plant(n, n.c.Data)
			hears.end()
			slices.Sort(hears.told)
			if len(hears.told) != len(leak.want) {
				t.Fatalf("said: %q, want %q", hears.told, leak.want)
			}
			for i, want := range leak.want {
				if !strings.HasPrefix(hears.told[i], want) {
					t.Errorf("said %q, want %q", hears.told[i], want)
				}
			}
		})
	}
	l := &Lookout{t: &caught{TB: t}, secret: map[string]string{}, told: map[string]bool{}}
	l.hide("an NHS number", number)
	l.nothing("a metric", `tombolo_deliveries_total{outcome="accepted",source="`+number+`"} 1`)
	if told := l.t.(*caught).told; len(told) != 1 || !strings.HasPrefix(told[0], "a metric holds an NHS number") {
		t.Errorf("said of a metric: %q", told)
	}
	if l.nothing("PDS's address", "/Patient/"+number, "an NHS number"); len(l.t.(*caught).told) != 1 {
		t.Errorf("said of what is asked of PDS: %q", l.t.(*caught).told)
	}
}
