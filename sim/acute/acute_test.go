package acute

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

var today = time.Date(2026, 10, 14, 9, 30, 0, 0, fhir.London)

// A ledger is a door that remembers: what it has seen under an id it answers as before.
type ledger struct {
	mu       sync.Mutex
	taken    map[string]connector.Delivery
	order    []string
	repeats  int
	rejected []connector.Delivery
	fail     func(n int) error // by number of call, from 1
	calls    int
}

func (l *ledger) Accept(_ context.Context, d connector.Delivery) (connector.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.fail != nil {
		if err := l.fail(l.calls); err != nil {
			return connector.Receipt{}, err
		}
	}
	if d.Rejected != nil {
		l.rejected = append(l.rejected, d)
		return connector.Receipt{}, nil
	}
	if before, ok := l.taken[d.ID]; ok && bytes.Equal(before.Raw, d.Raw) {
		l.repeats++
		return connector.Receipt{Duplicate: true, Reply: before.Reply}, nil
	}
	if l.taken == nil {
		l.taken = map[string]connector.Delivery{}
	}
	l.taken[d.ID] = d
	l.order = append(l.order, d.ID)
	return connector.Receipt{}, nil
}

// state is the newest of each resource, as a store would have it.
func (l *ledger) state() map[fhir.Ref]*fhir.Resource {
	out := map[fhir.Ref]*fhir.Resource{}
	for _, id := range l.order {
		for _, r := range l.taken[id].Content {
			out[r.Ref()] = r
		}
	}
	return out
}

// pipes are a network inside the process, so that time can be synthetic.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { defer func() { _ = recover() }(); close(p.conns); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// region runs a feed with a ledger behind it, and a trust that sends to it, in synthetic time.
func region(t *testing.T, people []cast.Person, l *ledger, f *sim.Faults, test func(ctx context.Context, trust *Trust, feed *hl7v2.Feed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn)}
		feed, err := hl7v2.New(hl7v2.Options{Source: cast.Acute, Organisation: "RX1", Listener: p, FrameTimeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- feed.Run(ctx, l) }()
		trust := New(Options{People: people, Faults: f, Now: func() time.Time { return today }, Dial: p.dial, Timeout: 5 * time.Second})
		test(ctx, trust, feed)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the feed ended with %v", err)
		}
	})
}

func TestEverythingTheTrustHoldsArrives(t *testing.T) {
	people := append(cast.Dozen(today), cast.Generate(7, 20, today)...)
	l := &ledger{}
	region(t, people, l, nil, func(ctx context.Context, trust *Trust, _ *hl7v2.Feed) {
		r, err := trust.Send(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Refused) > 0 || r.Sent != len(trust.Messages()) || r.Accepted != r.Sent || r.Retries != 0 {
			t.Errorf("report is %+v of %d messages", r, len(trust.Messages()))
		}
	})
	if len(l.rejected) > 0 {
		t.Errorf("refused: %v", l.rejected[0].Rejected)
	}
	have := l.state()
	for _, p := range people {
		if !p.At(cast.Acute) {
			continue
		}
		mrn := p.LocalID(cast.Acute)
		pat := have[fhir.MakeRef("Patient", mrn)]
		if pat == nil {
			t.Errorf("%s did not arrive", p.Key)
			continue
		}
		if p.NHS != "" && !slices.ContainsFunc(pat.Identifiers(), func(i fhir.Identifier) bool { return i.System == fhir.SystemNHSNumber && i.Value == p.NHS }) {
			t.Errorf("%s arrived without the NHS number", p.Key)
		}
		if got := pat.Text("address.postalCode"); got != p.Postcode {
			t.Errorf("%s lives at %q, want %q", p.Key, got, p.Postcode)
		}
		if p.Practice != "" && pat.Text("generalPractitioner.identifier.value") != p.Practice {
			t.Errorf("%s is not registered at %s", p.Key, p.Practice)
		}
		for _, e := range p.EncountersAt(cast.Acute) {
			got := have[fhir.MakeRef("Encounter", e.ID)]
			if got == nil {
				t.Errorf("%s: encounter %s did not arrive", p.Key, e.ID)
				continue
			}
			want := map[bool]string{true: "in-progress", false: "finished"}[e.End == ""]
			if got.Text("status") != want || got.Text("class.code") != e.Class || !same(got.Text("period.start"), e.Start) || !same(got.Text("period.end"), e.End) ||
				got.Text("type.text") != e.Type || got.Text("reasonCode.text") != e.Reason || got.Text("subject.reference") != "Patient/"+mrn {
				t.Errorf("%s: encounter is %s, want %+v", p.Key, got.Raw(), e)
			}
		}
		for _, r := range p.ReportsAt(cast.Acute) {
			checkReport(t, have, r)
		}
		for _, d := range p.DocumentsAt(cast.Acute) {
			got := have[fhir.MakeRef("DocumentReference", d.ID)]
			if got == nil || got.Text("description") != d.Title || have[fhir.Ref(got.Text("content.attachment.url"))] == nil {
				t.Errorf("%s: document %s did not arrive whole", p.Key, d.ID)
			}
		}
		for _, a := range p.AppointmentsAt(cast.Acute) {
			got := have[fhir.MakeRef("Appointment", a.ID)]
			if got == nil || got.Text("status") != a.Status || !same(got.Text("start"), a.Start) || !same(got.Text("end"), a.End) {
				t.Errorf("%s: appointment %s did not arrive as it is", p.Key, a.ID)
			}
		}
		for _, i := range p.Items {
			if slices.Contains(i.Held, cast.Acute) && !holds(have, mrn, i.Code) {
				t.Errorf("%s: %s did not arrive", p.Key, i.Display)
			}
		}
	}
	george := whois(people, "george")
	if old := have[fhir.MakeRef("Patient", george.OldMRN)]; old == nil || old.Text("link.type") != "replaced-by" ||
		old.Text("link.other.reference") != "Patient/"+george.LocalID(cast.Acute) || old.Text("active") != "false" {
		t.Errorf("george's old number is %v, want it replaced by the new", old)
	}
	if got := have[fhir.MakeRef("Patient", whois(people, "chloe").LocalID(cast.Acute))].Text("meta.security.code"); got != "R" {
		t.Errorf("chloe's whereabouts are marked %q, want restricted", got)
	}
	if got := have[fhir.MakeRef("Patient", whois(people, "harold").LocalID(cast.Acute))].Text("deceasedDateTime"); got != whois(people, "harold").Died {
		t.Errorf("harold died %q", got)
	}
}

func checkReport(t *testing.T, have map[fhir.Ref]*fhir.Resource, r cast.Report) {
	t.Helper()
	var got *fhir.Resource
	for _, x := range have {
		if x.Type() == "DiagnosticReport" && x.Text("identifier.value") == r.ID {
			got = x
		}
	}
	if got == nil || got.Text("status") != r.Status || got.Text("code.coding.code") != r.Code || !same(got.Text("effectiveDateTime"), r.Date) || got.Text("conclusion") != r.Text {
		t.Errorf("report %s did not arrive as it is", r.ID)
		return
	}
	i := 0
	for ref := range got.Value().All("result.reference") {
		o, want := have[fhir.Ref(ref.Str())], r.Results[i]
		if o == nil || o.Text("valueQuantity.value") != want.Value || o.Text("valueQuantity.code") != want.Unit || o.Text("code.coding.code") != want.Code ||
			o.Text("referenceRange.high.value") != want.High || o.Text("interpretation.coding.code") != want.Flag {
			t.Errorf("report %s: result %s did not arrive as it is", r.ID, want.Display)
		}
		i++
	}
	if i != len(r.Results) {
		t.Errorf("report %s has %d results, want %d", r.ID, i, len(r.Results))
	}
}

func whois(people []cast.Person, key string) cast.Person {
	return people[slices.IndexFunc(people, func(p cast.Person) bool { return p.Key == key })]
}

func same(a, b string) bool {
	x, _ := fhir.ParseDate(a)
	y, _ := fhir.ParseDate(b)
	return x.Start.Equal(y.Start)
}

func holds(have map[fhir.Ref]*fhir.Resource, mrn, code string) bool {
	for _, r := range have {
		if r.Text("code.coding.code") == code && (r.Text("subject.reference") == "Patient/"+mrn || r.Text("patient.reference") == "Patient/"+mrn) {
			return true
		}
	}
	return false
}

func TestSendingAgainChangesNothing(t *testing.T) {
	people := cast.Dozen(today)
	l := &ledger{}
	region(t, people, l, nil, func(ctx context.Context, trust *Trust, _ *hl7v2.Feed) {
		for range 2 {
			if r, err := trust.Send(ctx); err != nil || r.Accepted != r.Sent {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if want := len(trust.Messages()); l.repeats != want || len(l.taken) != want {
			t.Errorf("%d repeats and %d messages, want %d of each", l.repeats, len(l.taken), want)
		}
	})
}

func TestNothingIsLostWhenTheNodeFailsNowAndThen(t *testing.T) {
	l := &ledger{fail: func(n int) error {
		if n%3 == 0 {
			return fhir.Errorf(fhir.NoStore, "the disk is full")
		}
		return nil
	}}
	region(t, cast.Dozen(today), l, nil, func(ctx context.Context, trust *Trust, feed *hl7v2.Feed) {
		r, err := trust.Send(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if r.Retries == 0 || r.Accepted != len(trust.Messages()) || len(l.taken) != r.Accepted {
			t.Errorf("report is %+v with %d taken, want all of %d after some retries", r, len(l.taken), len(trust.Messages()))
		}
		if s := feed.Stats(); s.Faulty != 0 || s.Unanswered == 0 {
			t.Errorf("stats are %+v: a fault of ours is not answered AE", s)
		}
	})
}

func TestFaultsOfTheSenderCostNothingButThemselves(t *testing.T) {
	people := cast.Dozen(today)[:1]
	for _, fault := range []sim.Fault{sim.FaultGarbage, sim.FaultTruncated, sim.FaultSlow} {
		t.Run(string(fault), func(t *testing.T) {
			l, f := &ledger{}, &sim.Faults{}
			f.Set(fault, time.Second)
			region(t, people, l, f, func(ctx context.Context, trust *Trust, feed *hl7v2.Feed) {
				r, err := trust.Send(ctx)
				if err != nil || r.Accepted != len(trust.Messages()) {
					t.Errorf("report is %+v, %v; want all %d accepted", r, err, len(trust.Messages()))
				}
				synctest.Wait()
				if fault != sim.FaultSlow && len(l.rejected) < r.Sent {
					t.Errorf("%d broken frames were kept, want at least %d", len(l.rejected), r.Sent)
				}
			})
		})
	}
}

func TestDripEndsWithTheFaultAndBlocksNobody(t *testing.T) {
	people := cast.Dozen(today)
	l, f := &ledger{}, &sim.Faults{}
	f.Set(sim.FaultDrip, 0)
	region(t, people, l, f, func(ctx context.Context, trust *Trust, feed *hl7v2.Feed) {
		done := make(chan error, 1)
		go func() { _, err := trust.Send(ctx); done <- err }()
		time.Sleep(5 * time.Second)
		other := New(Options{People: people[:1], Now: func() time.Time { return today }, Dial: trust.o.Dial})
		if r, err := other.Send(ctx); err != nil || r.Accepted != r.Sent || r.Sent == 0 {
			t.Errorf("another sender's report is %+v, %v while one drips", r, err)
		}
		f.Set(sim.FaultNone, 0)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestASenderThatIsDownSaysSo(t *testing.T) {
	f := &sim.Faults{}
	f.Set(sim.FaultDown, 0)
	region(t, cast.Dozen(today)[:1], &ledger{}, f, func(ctx context.Context, trust *Trust, _ *hl7v2.Feed) {
		if _, err := trust.Send(ctx); !fhir.Is(err, fhir.Transient) {
			t.Errorf("err is %v, want transient", err)
		}
	})
}

func TestMixedUpIdentitiesAreSentWhenAskedFor(t *testing.T) {
	people := cast.Dozen(today)[:2]
	f := &sim.Faults{}
	f.Set(sim.FaultWrongPatient, 0)
	trust := New(Options{People: people, Faults: f, Now: func() time.Time { return today }})
	m := string(trust.Messages()[0].Bytes)
	if !strings.Contains(m, people[0].LocalID(cast.Acute)) || !strings.Contains(m, people[1].NHS) || strings.Contains(m, people[0].NHS) {
		t.Error("the first message does not carry one person's local number with another's NHS number")
	}
}

func TestMessagesAreOfTheToolkit(t *testing.T) {
	trust := New(Options{People: cast.Dozen(today), Now: func() time.Time { return today }})
	seen := map[string]bool{}
	for _, m := range trust.Messages() {
		p, err := hl7v2.Parse(m.Bytes, hl7v2.ParseOptions{})
		if err != nil {
			t.Fatalf("%s: %v", m.Type, err)
		}
		h := p.Header()
		if h.Field(12).Text() != "2.4" || h.Field(21).Text() != "iTKv1.0" || h.Field(11).Text() != "P" || len(m.Control) > 20 {
			t.Errorf("%s has header %s", m.Type, m.Bytes[:bytes.IndexByte(m.Bytes, '\r')])
		}
		if seen[m.Control] {
			t.Errorf("%s: control id %s twice", m.Type, m.Control)
		}
		seen[m.Control] = true
	}
	for _, want := range []string{"ADT^A01", "ADT^A03", "ADT^A04", "ADT^A28", "ADT^A31", "ADT^A40", "ORU^R01", "MDM^T02", "SIU^S12"} {
		if !slices.ContainsFunc(trust.Messages(), func(m Message) bool { return m.Type == want }) {
			t.Errorf("no %s is sent", want)
		}
	}
}

func TestPDFIsOnePageThatOpens(t *testing.T) {
	got := string(pdf("Letter (draft)", strings.Repeat("word ", 60)))
	if !strings.HasPrefix(got, "%PDF-1.4\n") || !strings.HasSuffix(got, "%%EOF\n") || !strings.Contains(got, `(Letter \(draft\))`) {
		t.Errorf("not a PDF: %.80q", got)
	}
	var at int
	for _, l := range strings.Split(got, "\n") {
		if strings.HasSuffix(l, " 00000 n ") && len(l) == 19 {
			at++
			off := strings.TrimLeft(l[:10], "0")
			n := 0
			for _, c := range off {
				n = n*10 + int(c-'0')
			}
			if !strings.HasPrefix(got[n:], string(rune('0'+at))+" 0 obj") {
				t.Errorf("object %d is not where the table says", at)
			}
		}
	}
	if at != 5 {
		t.Errorf("%d objects, want 5", at)
	}
}
