package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

var ctx = context.Background()

func engine(t testing.TB) kv.Engine {
	t.Helper()
	e := enginetest.Open(t, filepath.Join(t.TempDir(), "store"))
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// All that is said of the log here holds on PostgreSQL too.
func TestOnPostgreSQL(t *testing.T) { enginetest.OnPostgreSQL(t) }

func openLog(t testing.TB, e kv.Engine, node string) *Log {
	t.Helper()
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	l, err := Open(ctx, e, Options{Node: node, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Second)
		return at
	}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func number(t testing.TB) fhir.NHSNumber {
	n, err := fhir.ParseNHSNumber("999 000 0018")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func view(t testing.TB, person string) Event {
	return Event{Kind: Read, Agent: Agent{User: "dr-patel", Name: "Dr Asha Patel", Role: "General practitioner", Organisation: "M85001", OrgName: "Hilltop Surgery"},
		Purpose: "TREAT", PersonID: person, NHSNumber: number(t), Query: "GET /record", Trace: "0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
		What: []string{"policy: 2026-11-22", "source rx1-pas: answered, 3 entries", "allergies: AllergyIntolerance/a1/_history/1"}}
}

func appendN(t testing.TB, l *Log, n int) {
	t.Helper()
	events := make([]Event, 0, n)
	for i := range n {
		e := view(t, []string{"margaret", "harold", ""}[i%3])
		if e.PersonID == "" {
			e = Event{Kind: SignIn, Agent: e.Agent}
		}
		events = append(events, e)
	}
	for len(events) > 0 {
		k := min(len(events), 700)
		if _, err := l.AppendAll(ctx, events[:k]); err != nil {
			t.Fatal(err)
		}
		events = events[k:]
	}
}

func verify(t testing.TB, l *Log, expected ...Head) Report {
	t.Helper()
	r, err := l.Verify(ctx, expected...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What an entry looks like, for anyone who must read the log elsewhere.
func TestEventsAreRenderedAsAuditEvents(t *testing.T) {
	denied := view(t, "harold")
	denied.Kind, denied.What, denied.Query = Denied, []string{"refused: objection"}, ""
	glass := view(t, "harold")
	glass.Kind, glass.What = BreakGlass, []string{"emergency: unconscious in resus"}
	search := Event{Kind: Search, Agent: Agent{User: "555", SDSUserID: "555021935107", SDSRoleID: "555254240100", Name: "Sr Joan Price", Role: "Nurse", Organisation: "RX1",
		Device: "Ward tablet", Address: "10.1.2.3"}, Purpose: "TREAT", PersonID: "margaret", NHSNumber: number(t), Query: "POST /fhir/Patient/_search"}
	nobody := Event{Kind: "something-new", What: []string{"no colon", ": ", ""}}
	told := notification(t, "margaret")
	for name, e := range map[string]Event{"notify": told, "read": view(t, "margaret"), "denied": denied, "break-glass": glass, "search": search, "unheard-of": nobody} {
		t.Run(name, func(t *testing.T) {
			r, err := fhir.Parse(withID(e.render("severn", time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)), "audit-1"))
			if err != nil {
				t.Fatal(err)
			}
			if KindOf(r) != e.Kind {
				t.Errorf("kind %q is read back as %q", e.Kind, KindOf(r))
			}
			got := indent(t, r.Raw())
			file := "testdata/" + name + ".json"
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s differs (%v). If the change is meant, run go test ./audit -update\ngot:\n%s", file, err, got)
			}
		})
	}
}

// notification is a subscriber's being told of something about a person, as whoever delivers it is to record it: the subscriber is the agent,
// and which subscription, which event of the log and which version it was stand in What.
func notification(t testing.TB, person string) Event {
	return Event{Kind: Notified, Agent: Agent{User: "subscriber/m85001-epr", Name: "Hilltop Surgery's system", Organisation: "M85001", OrgName: "Hilltop Surgery", Device: "m85001-epr", Address: "10.4.0.2"},
		Purpose: "TREAT", PersonID: person, NHSNumber: number(t), Query: "Subscription/s1", Trace: "5b0c1a52-6f3c-4e5c-9a6e-0d7b8a9c1e2f",
		What: []string{"subscription: s1", "event: 4711", "policy: 2026-11-22", "encounters: Encounter/e1/_history/2"}}
}

// A notification about several people is an event for each, committed together, and each of them is shown it and nothing of the others.
func TestANotificationIsAnEventForEachPersonInIt(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	told, err := l.AppendAll(ctx, []Event{notification(t, "margaret"), notification(t, "harold")})
	if err != nil || len(told) != 2 {
		t.Fatal(told, err)
	}
	for i, person := range []string{"margaret", "harold"} {
		n := 0
		for e, err := range l.Show(ctx, person, 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.Summary()
			if err != nil || e.Seq != told[i].Seq || s.Kind != Notified || !s.Shows() || s.ODS != "M85001" || fmt.Sprint(s.Said("subscription")) != "[s1]" || s.Device != "m85001-epr" {
				t.Errorf("%s is shown %+v (%v)", person, s, err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%s is shown %d events", person, n)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendAll(ctx, []Event{notification(t, "margaret")}); !fhir.Is(err, fhir.NoStore) {
		t.Errorf("with the log closed nothing may be sent: %v", err)
	}
}

func TestEntriesSayWhoWhyWhoseAndWhat(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	e, err := l.Append(ctx, view(t, "margaret"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Resource()
	if err != nil {
		t.Fatal(err)
	}
	query, _ := base64.StdEncoding.DecodeString(r.Text("entity.query"))
	for what, got := range map[string][2]string{
		"id":           {r.ID(), "audit-1"},
		"who":          {r.Text("agent.who.display"), "Dr Asha Patel"},
		"for whom":     {r.Value().Get("agent").Text("role.text"), "General practitioner"},
		"why":          {r.Text("purposeOfEvent.coding.code"), "TREAT"},
		"whose":        {r.Text("entity.what.reference"), "Patient/margaret"},
		"NHS number":   {r.Text("entity.what.identifier.value"), "9990000018"},
		"request":      {string(query), "GET /record"},
		"what":         {r.Text("entity.detail.type"), "policy"},
		"recorded":     {r.Text("recorded"), "2026-11-22T09:00:01.000Z"},
		"organisation": {fmt.Sprint(strings.Contains(string(r.Raw()), `"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"M85001"`)), "true"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %q, want %q", what, got[0], got[1])
		}
	}
}

func TestAPersonIsShownWhoLooked(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	appendN(t, l, 300) // 100 each for margaret, harold, and nobody
	if _, err := l.Append(ctx, view(t, "margaret/2")); err != nil {
		t.Fatal(err)
	}
	places := func(person string, after Seq, limit int) (out []Seq) {
		for e, err := range l.Show(ctx, person, after, limit) {
			if err != nil {
				t.Fatal(err)
			}
			if e.PersonID != person {
				t.Errorf("shown to %s: an entry about %s", person, e.PersonID)
			}
			out = append(out, e.Seq)
		}
		return out
	}
	if got := places("margaret", 0, 0); len(got) != 100 || got[0] != 1 || got[99] != 298 {
		t.Errorf("margaret is shown %v", got)
	}
	if got := fmt.Sprint(places("harold", 5, 3)); got != "[8 11 14]" {
		t.Errorf("harold's next three after 5: %s", got)
	}
	if got := fmt.Sprint(places("margaret/2", 0, 0)); got != "[301]" {
		t.Errorf("a person whose id has a slash: %s", got)
	}
	if got := places("nobody", 0, 0); got != nil {
		t.Errorf("nobody is shown %v", got)
	}
	n, last := 0, Seq(0)
	for e, err := range l.All(ctx, 290, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n, last = n+1, e.Seq
	}
	if n != 11 || last != 301 {
		t.Errorf("after 290 there are %d, the last %d", n, last)
	}
}

func get(t *testing.T, e kv.Engine, k kv.Key) []byte {
	t.Helper()
	v, ok, err := e.Get(ctx, k)
	if err != nil || !ok {
		t.Fatal(k, ok, err)
	}
	return v
}

// Nothing is chained to a log whose end was tampered with, and an altered entry is not shown.
func TestADamagedLogTakesAndShowsNothing(t *testing.T) {
	e := engine(t)
	appendN(t, openLog(t, e, "severn"), 4)
	v := get(t, e, entryKey(4))
	v[len(v)-3] ^= 1
	if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: entryKey(4), Value: v}}}); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, e, "severn")
	if _, err := l.Append(ctx, view(t, "margaret")); !fhir.Is(err, fhir.NoStore) || !strings.Contains(err.Error(), "audit verify") {
		t.Errorf("append to a damaged end: %v", err)
	}
	var last error
	for _, err := range l.Show(ctx, "margaret", 0, 0) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "entry 4") {
		t.Errorf("showing an altered entry: %v", last)
	}
}

// Two nodes append to one engine from many goroutines; nothing is lost, doubled or out of order.
func TestSeveralNodesAppendToOneLog(t *testing.T) {
	e := engine(t)
	nodes := []*Log{openLog(t, e, "north"), openLog(t, e, "south")}
	const each = 20
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range each {
				entry, err := nodes[i%2].Append(ctx, view(t, "margaret"))
				if err != nil || entry.Seq == 0 {
					t.Error(entry.Seq, err)
				}
			}
		})
	}
	wg.Wait()
	if r := verify(t, nodes[0]); !r.OK() || r.Entries != 8*each {
		t.Errorf("%+v", r)
	}
}

// Who appends may give up; the others' entries are written all the same, and the log stays whole.
func TestGivingUpHarmsNobody(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Append(gone, view(t, "margaret")); !fhir.Is(err, fhir.NoStore) || !errors.Is(err, context.Canceled) {
		t.Errorf("append after giving up: %v", err)
	}
	l.turn <- struct{}{} // somebody is writing
	waiting, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := l.Append(waiting, view(t, "margaret")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append while another writes for long: %v", err)
	}
	<-l.turn
	appendN(t, l, 2)
	if r := verify(t, l); !r.OK() || r.Entries != 2 {
		t.Errorf("%+v", r)
	}
}

func TestAClosedEngineRecordsNothing(t *testing.T) {
	e := engine(t)
	l := openLog(t, e, "severn")
	appendN(t, l, 1)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, view(t, "margaret")); !fhir.Is(err, fhir.NoStore) || !errors.Is(err, kv.ErrClosed) {
		t.Errorf("append to a closed store: %v", err)
	}
	if _, err := l.Verify(ctx); !fhir.Is(err, fhir.NoStore) {
		t.Errorf("verify a closed store: %v", err)
	}
}

func TestHeadsCanBePublished(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	if h, err := l.Head(ctx); err != nil || h != (Head{}) {
		t.Errorf("the head of an empty log: %v, %v", h, err)
	}
	if r := verify(t, l, Head{}); !r.OK() || r.Entries != 0 {
		t.Errorf("an empty log: %+v", r)
	}
	e, err := l.Append(ctx, view(t, "margaret"))
	if err != nil {
		t.Fatal(err)
	}
	h, _ := l.Head(ctx)
	if h != (Head{1, e.Hash}) { // the root of a tree of one leaf is the leaf. RFC 6962 §2.1
		t.Errorf("head %v, want the hash of the one entry, %v", h, e.Hash)
	}
	if back, err := ParseHead(" " + h.String() + "\n"); err != nil || back != h {
		t.Errorf("read back %v, %v", back, err)
	}
	for _, s := range []string{"", "1", "1:", "x:" + h.Hash.String(), "1:" + h.Hash.String()[4:], "-1:" + h.Hash.String()} {
		if _, err := ParseHead(s); !fhir.Is(err, fhir.ValueError) {
			t.Errorf("ParseHead(%q): %v", s, err)
		}
	}
}

// Careless printing of an event or entry must not show the NHS number as text outside the log itself.
func TestEventsPrintWithoutTheNumber(t *testing.T) {
	if s := fmt.Sprintf("%v", view(t, "margaret")); strings.Contains(s, "9990000018") {
		t.Error(s)
	}
}

func indent(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func FuzzDecode(f *testing.F) {
	r := record(0, time.Time{}, "margaret", "dr-patel", []byte(`{"resourceType":"AuditEvent"}`))
	f.Add(uint64(1), value(tlog.RecordHash(r), r))
	f.Add(uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, seq uint64, v []byte) {
		if len(v) >= hashSize { // let the fuzzer past the hash
			leaf := tlog.RecordHash(v[hashSize:])
			copy(v, leaf[:])
		}
		if e, ok := decode(Seq(seq), v); ok && !bytes.Equal(value(e.Hash, e.record), v) {
			t.Fatalf("read, but written differently: %x", v)
		}
		if tr, ok := decodeTree(v); ok && !bytes.Equal(tr.encode(), v) {
			t.Fatalf("a head is read, but written differently: %x", v)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			l := openLog(b, engine(b), "severn")
			ev := view(b, "margaret")
			b.ReportAllocs()
			b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.Append(ctx, ev); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("batches=512", func(b *testing.B) {
		l := openLog(b, engine(b), "severn")
		events := make([]Event, 512)
		for i := range events {
			events[i] = view(b, fmt.Sprintf("person-%d", i))
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := l.AppendAll(ctx, events); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)*512/b.Elapsed().Seconds(), "events/s")
	})
}

// Entries of a search that found nobody are short; that of a whole record names some forty versions.
func BenchmarkVerify(b *testing.B) {
	const n = 100_000
	for name, versions := range map[string]int{"short": 0, "long": 40} {
		b.Run(name, func(b *testing.B) {
			l := openLog(b, engine(b), "severn")
			for range n / 500 {
				events := make([]Event, 500)
				for i := range events {
					events[i] = view(b, "margaret")
					for range versions {
						events[i].What = append(events[i].What, "results: Observation/"+strings.ToLower(rand.Text())+"/_history/1")
					}
				}
				if _, err := l.AppendAll(ctx, events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if r := verify(b, l); !r.OK() {
					b.Fatal(r.Bad)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkRender(b *testing.B) {
	ev := view(b, "margaret")
	b.ReportAllocs()
	for b.Loop() {
		ev.render("severn", time.Time{})
	}
}
