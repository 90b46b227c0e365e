package world

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/sim"
	"tombolo/sim/cast"
)

var marked = regexp.MustCompile(`belongs-to-([a-z0-9-]+?)-end`)

// markedWorld is a region in which every text says whose it is.
func markedWorld(t *testing.T) *checker {
	t.Helper()
	w, err := Start(nonTestContext, Options{Logger: slog.New(slog.DiscardHandler), Also: "limits: {opens: 0}\n", Mark: func(people []cast.Person) {
		for i := range people {
			p := &people[i]
			mark := func(text *string) { *text = strings.TrimSpace(*text + " belongs-to-" + p.Key + "-end") }
			for k := range p.Items {
				mark(&p.Items[k].Text)
			}
			for k := range p.Encounters {
				mark(&p.Encounters[k].Reason)
			}
			for k := range p.Reports {
				mark(&p.Reports[k].Text)
			}
			for k := range p.Documents {
				mark(&p.Documents[k].Text)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return &checker{w: w, ctx: t.Context(), out: io.Discard}
}

// whose are the people whose texts an answer holds.
func whose(body []byte) (out []string) {
	for _, m := range marked.FindAllSubmatch(body, -1) {
		if key := string(m[1]); !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// entries counts the entries of a kind, and alarm waits until the privacy officer's page says something.
func (c *checker) entries(t *testing.T, kind audit.Kind) (n int) {
	t.Helper()
	for e, err := range c.w.Node.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == kind {
			n++
		}
	}
	return n
}

func (c *checker) alarm(t *testing.T, words string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, _, page, err := c.http("GET", "/privacy", "privacy", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(page, []byte(words)) {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("a minute later the privacy officer was not told: %s", words)
		}
	}
}

// A source that answers with somebody else's record, again and again, shows nothing of it to anybody who asks over the API or on the page, and each time the alarm is raised.
func TestNothingOfAnotherPersonIsShownWhateverASourceAnswers(t *testing.T) {
	c := markedWorld(t)
	margaret := c.w.Person(cast.Main)
	_, b, err := c.gather("doctor", nhs(margaret))
	if err != nil || len(whose(b.raw)) != 1 || whose(b.raw)[0] != cast.Main {
		t.Fatalf("before anything is wrong the record holds texts of %q (%v)", whose(b.raw), err)
	}
	path := "/record/" + personOf(b) + "?all=1"
	for _, source := range []string{cast.GP1, cast.Mental} {
		c.w.Faults[source].Set(sim.FaultWrongPatient, 0)
		before := c.entries(t, audit.WrongPatient)
		for range 3 {
			status, b, err := c.gather("doctor", nhs(margaret))
			if err != nil || status != http.StatusOK {
				t.Fatal(status, err)
			}
			_, _, page, err := c.http("GET", path, "doctor", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			for where, body := range map[string][]byte{"the Bundle": b.raw, "the page": page} {
				if got := whose(body); len(got) != 1 || got[0] != cast.Main {
					t.Errorf("%s: %s holds texts of %q", source, where, got)
				}
			}
			if code, _ := b.outcomeOf(source); code == "" {
				t.Errorf("%s: that its part is missing is not told", source)
			}
		}
		if n := c.entries(t, audit.WrongPatient) - before; n == 0 {
			t.Errorf("%s: no alarm", source)
		}
		c.w.Faults[source].Set(sim.FaultNone, 0)
	}
	c.alarm(t, "A source answered about somebody else")
}

// A feed that says of two people that they are one (ADT^A40) joins nothing of theirs, whichever is said to be the other and by whatever number: not even what that source itself holds of the one is
// shown in the other's record, and a steward is asked to look.
func TestALyingMergeJoinsNobodysRecords(t *testing.T) {
	c := markedWorld(t)
	margaret, daniel := c.w.Person(cast.Main), c.w.Person("daniel")
	records := func() string {
		var out []string
		for _, p := range []cast.Person{margaret, daniel} {
			_, b, err := c.gather("doctor", nhs(p), fhir.M{"name": "purpose", "valueCode": "ETREAT"}, fhir.M{"name": "reason", "valueString": "unconscious"})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(p.Key, whose(b.raw), bytes.Count(b.raw, []byte("belongs-to-"+p.Key))))
		}
		return strings.Join(out, " ")
	}
	want := records()
	if !strings.Contains(want, "margaret[margaret]") || !strings.Contains(want, "daniel[daniel]") {
		t.Fatalf("before: %s", want)
	}
	address := regexp.MustCompile(`connector: hl7v2[^\n]*\n?[^\n]*listen: "?([0-9.:]+)`).FindSubmatch(c.w.Region)
	if address == nil {
		t.Fatal("no feed")
	}
	client := &hl7v2.Client{Addr: string(address[1]), Timeout: 30 * time.Second}
	defer client.Close()
	pid := func(local string, p cast.Person) string {
		return "PID|1||" + local + "^^^RX1^PI~" + p.NHS + "^^^NHS^NH||" + p.Family + "^" + p.Given[0] + "||" + strings.ReplaceAll(p.Born, "-", "") + "|F\r"
	}
	m, d := margaret.LocalID(cast.Acute), daniel.LocalID(cast.Acute)
	for i, lie := range []string{
		pid(m, margaret) + "MRG|" + d + "^^^RX1^PI\r",
		pid(d, daniel) + "MRG|" + m + "^^^RX1^PI\r",
		pid("somebody-new", margaret) + "MRG|" + d + "^^^RX1^PI\r",
		pid("somebody-new-too", margaret) + "MRG|" + daniel.NHS + "^^^NHS^NH~" + d + "^^^RX1^PI\r",
	} {
		msg := fmt.Sprintf("MSH|^~\\&|PAS|RX1|TOMBOLO|SEVERN|20261122090%d||ADT^A40^ADT_A39|lie-%d|P|2.4\rEVN||20261122090%d\r%s", i, i, i, lie)
		if ack, err := client.Send(t.Context(), []byte(msg)); err != nil || !ack.Accepted() { // it is kept as it came, and looked at
			t.Errorf("lie %d is answered %v (%v)", i, ack, err)
		}
		if got := records(); got != want {
			t.Errorf("after lie %d: %s, before: %s", i, got, want)
		}
	}
	reviews, err := c.w.Node.People.Reviews(t.Context())
	if err != nil || !slices.ContainsFunc(reviews, func(r mpi.Review) bool { return strings.Contains(r.Why, "the merge is not believed") }) {
		t.Errorf("nobody is asked to look at it: %v %v", reviews, err)
	}
}
