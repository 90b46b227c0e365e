package gpconnect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"tombolo/fhir"
)

// inPieces gives what it reads in pieces of any size, as a network does.
type inPieces struct {
	r io.Reader
	n *rand.Rand
}

func (p *inPieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 1+p.n.IntN(700))]) }

// What is read as it arrives is what is read at once, however it is cut up, for every fixture and every public sample.
func TestReadingAsItArrivesGivesTheSame(t *testing.T) {
	all := map[string][]byte{}
	for _, name := range fixtures {
		all[name] = fixture(t, name).Raw()
	}
	t.Run("public samples", func(t *testing.T) { maps.Copy(all, samples(t)) })
	n := rand.New(rand.NewPCG(7, 9))
	same := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v, err := fhir.ParseValue(all[name])
		var at *Converted
		if err == nil {
			at, err = Convert(v)
		}
		arrived, rerr := Read(&inPieces{bytes.NewReader(all[name]), n}, 64<<20)
		switch {
		case (err == nil) != (rerr == nil):
			t.Errorf("%s: at once %v, as it arrives %v", name, err, rerr)
		case err != nil:
			if fhir.IssueOf(err).Type != fhir.IssueOf(rerr).Type {
				t.Errorf("%s: at once %v, as it arrives %v", name, err, rerr)
			}
		default:
			same++
			if got, want := show(arrived), show(at); !bytes.Equal(got, want) {
				t.Errorf("%s differs when it is read as it arrives", name)
			}
			if arrived.Bytes != int64(len(all[name])) {
				t.Errorf("%s: %d bytes were read of %d", name, arrived.Bytes, len(all[name]))
			}
		}
	}
	if same < len(fixtures) {
		t.Errorf("only %d were compared", same)
	}
}

// A bundle that is cut off anywhere, or that the network breaks off, is refused as a whole and says so.
func TestABundleThatBreaksOffIsRefused(t *testing.T) {
	whole := bytes.TrimSpace(fixture(t, "immunisations").Raw())
	for n := range len(whole) {
		if _, err := Read(bytes.NewReader(whole[:n]), 1<<20); !fhir.Is(err, fhir.Structure) {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
	}
	if _, err := Read(iotest.OneByteReader(bytes.NewReader(whole)), 1<<20); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken off")
	if _, err := Read(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(broken)), 1<<20); !errors.Is(err, broken) {
		t.Errorf("the network's error came as %v", err)
	}
}

// What is no bundle is refused with its place and without its words.
func TestWhatArrivesAndIsNoBundle(t *testing.T) {
	patient := `{"resource":{"resourceType":"Patient","id":"1"}}`
	for _, c := range []struct {
		in, says string
		want     fhir.IssueType
	}{
		{``, "ends too early", fhir.Structure},
		{`[]`, "not a FHIR Bundle", fhir.Structure},
		{`7`, "not a FHIR Bundle", fhir.Structure},
		{`{}`, "not a FHIR Bundle", fhir.Structure},
		{`<html>Margaret</html>`, "syntax error at byte 0", fhir.Structure},
		{`{"entry":[` + patient + `],"resourceType":"Parameters"}`, "not a FHIR Bundle", fhir.Structure},
		{`{"resourceType":"Bundle","entry":[` + patient + `],"entry":[]}`, "stands twice", fhir.Structure},
		{`{"resourceType":"Bundle","entry":[` + patient + `]} Margaret`, "byte 85", fhir.Structure},
		{`{"resourceType":"Bundle","entry":[` + patient + `,{"resource":{"a":1,"a":2}}]}`, "Bundle.entry[1]", fhir.Structure},
		{`{"resourceType":"Bundle","entry":[` + patient + `,{"resource":Margaret}]}`, "Bundle.entry[1]: not valid JSON: syntax error at byte 95", fhir.Structure},
		{`{"resourceType":"Bundle","entry":[` + patient + `,` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `]}`, "Bundle.entry[1]", fhir.TooCostly},
		{`{"resourceType":"Bundle","entry":[` + patient + `,{"x":"` + "\xff" + `"}]}`, "not UTF-8", fhir.Structure},
	} {
		_, err := Read(strings.NewReader(c.in), 1<<20)
		if !fhir.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "Margaret") {
			t.Errorf("%.60s: %v, want %q", c.in, err, c.says)
		}
	}
	// The members of a bundle stand in any order, and one entry may stand where a list should.
	for _, in := range []string{`{"type":"collection","entry":[` + patient + `],"resourceType":"Bundle"}`, `{"resourceType":"Bundle","entry":` + patient + `}`} {
		if done, err := Read(strings.NewReader(in), 1<<20); err != nil || done.Patient.ID() != "1" {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// A record that is made while it is read: a patient at its end, and before that results and reports that point to them, each with its words.
type endless struct {
	size   int64
	buf    bytes.Buffer
	n      int
	given  int64
	onRead func(given int64)
}

func (e *endless) Read(p []byte) (int, error) {
	if e.onRead != nil {
		e.onRead(e.given)
	}
	for e.buf.Len() < len(p) && e.n >= 0 {
		switch {
		case e.n == 0:
			e.buf.WriteString(`{"resourceType":"Bundle","type":"collection","entry":[`)
		case e.given+int64(e.buf.Len()) >= e.size:
			e.buf.WriteString(`{"resource":{"resourceType":"Patient","id":"p"}}]}`)
			e.n = -2
		default:
			fmt.Fprintf(&e.buf, `{"resource":{"resourceType":"DiagnosticReport","id":"r%d","status":"final","code":{"text":"report"},"subject":{"reference":"Patient/p"},"result":[{"reference":"Observation/o%d"}]}},`+
				`{"resource":{"resourceType":"Observation","id":"o%d","status":"final","subject":{"reference":"Patient/p"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"1022431000000105","display":"Haemoglobin estimation"}]},`+
				`"effectiveDateTime":"2024-05-01","valueQuantity":{"value":%d.5,"unit":"g/L","system":"http://unitsofmeasure.org","code":"g/L"},"comment":%q}},`,
				e.n, e.n, e.n, e.n, strings.Repeat("seen and filed ", 20))
		}
		e.n++
	}
	if e.buf.Len() == 0 {
		return 0, io.EOF
	}
	n, _ := e.buf.Read(p)
	e.given += int64(n)
	return n, nil
}

// alive is how much memory is.
func alive() int64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// held samples how much memory is alive while fn runs, beyond what was before.
func held(t *testing.T, fn func()) int64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	live := func() int64 {
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	debug.FreeOSMemory()
	before := live()
	var most atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			most.Store(max(most.Load(), live()-before))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	fn()
	close(stop)
	<-done
	return most.Load()
}

// A large record is converted while it arrives: what it was is let go as it is read, so that at no time is more held than the R4 with its
// tree and a few words about each entry. The bundle itself, of which nobody holds a copy here, is not part of it.
func TestALargeRecordIsConvertedWhileItArrives(t *testing.T) {
	size := int64(12 << 20)
	if testing.Short() {
		size = 3 << 20
	}
	c := newConverter(false)
	var done *Converted
	var err error
	taken, half, before := 0, 0, alive()
	most := held(t, func() {
		in := &endless{size: size, onRead: func(given int64) {
			if taken = c.n; given < size/2 {
				half = c.n
			}
		}}
		done, err = c.read(in, 64<<20)
	})
	if err != nil {
		t.Fatal(err)
	}
	result := alive() - before
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	t.Logf("%.1f MiB read, %d entries became %.1f MiB; at the most %.1f MiB were held, %.2f times what was read", mib(done.Bytes), len(done.Content), mib(result), mib(most), mib(most)/mib(done.Bytes))
	if half < taken/3 {
		t.Errorf("when half had arrived, %d of %d entries had been converted", half, taken)
	}
	if beyond := most - result; beyond > done.Bytes/2+1<<20 {
		t.Errorf("%.1f MiB were held beyond what came out of %.1f MiB: what was read is not let go", mib(beyond), mib(done.Bytes))
	}
	if most > 5*done.Bytes {
		t.Errorf("%.1f MiB were held for a record of %.1f MiB, want five times its size at the most", mib(most), mib(done.Bytes))
	}
	if o := done.Content[len(done.Content)-1]; o.Type() != "Observation" || o.Text("meta.tag.code") != "results" {
		t.Errorf("the last: %s", o.Raw())
	}
}

// A bundle of a hundred megabytes is refused when as many have arrived as are taken, and not after; whatever has arrived until then costs a
// bounded multiple.
func TestNoMoreIsReadThanIsTaken(t *testing.T) {
	const limit = 4 << 20
	for name, in := range map[string]io.Reader{
		"a record":        &endless{size: 100 << 20},
		"one long string": io.MultiReader(strings.NewReader(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"`), &forever{of: "a"}),
		"white space":     io.MultiReader(strings.NewReader(`{"resourceType":"Bundle",`), &forever{of: " "}),
		"a long number":   io.MultiReader(strings.NewReader(`{"resourceType":"Bundle","total":1`), &forever{of: "1"}),
		"a long name":     io.MultiReader(strings.NewReader(`{"`), &forever{of: "n"}),
		"zeros":           io.MultiReader(strings.NewReader(`{"resourceType":"Bundle","entry":[0`), &forever{of: ",0"}),
		"empty entries":   io.MultiReader(strings.NewReader(`{"resourceType":"Bundle","entry":[{}`), &forever{of: ",         {}"}),
		"deep":            io.MultiReader(strings.NewReader(`{"resourceType":"Bundle","entry":`), &forever{of: "[                  "}),
		"deep at the top": io.MultiReader(strings.NewReader(`{"resourceType":"Bundle","meta":`), &forever{of: "[                  "}),
	} {
		counted := &count{r: in}
		var err error
		most := held(t, func() { _, err = Read(counted, limit) })
		if !fhir.Is(err, fhir.TooLong) && !fhir.Is(err, fhir.TooCostly) && !fhir.Is(err, fhir.Structure) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "a record" && !fhir.Is(err, fhir.TooLong) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%-16s %5d KiB read, %5d KiB held: %v", name, counted.n>>10, most>>10, err)
		if counted.n > limit+1 {
			t.Errorf("%s: %d bytes were read, and %d may be", name, counted.n, limit)
		}
		if most > 6*limit {
			t.Errorf("%s: %d MiB were held", name, most>>20)
		}
	}
}

type forever struct {
	of string
	at int
}

func (f *forever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = f.of[f.at]
		f.at = (f.at + 1) % len(f.of)
	}
	return len(p), nil
}

type count struct {
	r io.Reader
	n int64
}

func (c *count) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// A reference may point forwards, by an address, to a version, or to an allergy inside a list: it means the same wherever that stands.
func TestReferencesPointForwards(t *testing.T) {
	entries := []string{
		`{"fullUrl":"urn:uuid:0a","resource":{"resourceType":"Patient","id":"1"}}`,
		`{"fullUrl":"https://gp.example/STU3/1/Medication/m","resource":{"resourceType":"Medication","id":"m","code":{"coding":[{"system":"http://snomed.info/sct","code":"196421000000109"}],"text":"Coal tar"}}}`,
		`{"resource":{"resourceType":"MedicationRequest","id":"r","intent":"plan","subject":{"reference":"urn:uuid:0a"},"medicationReference":{"reference":"https://gp.example/STU3/1/Medication/m"},"context":{"reference":"urn:uuid:0e"}}}`,
		`{"fullUrl":"urn:uuid:0e","resource":{"resourceType":"Encounter","id":"e","subject":{"reference":"Patient/1/_history/4"}}}`,
		`{"resource":{"resourceType":"List","id":"l","code":{"coding":[{"code":"1103671000000101"}]},"contained":[{"resourceType":"AllergyIntolerance","id":"28","patient":{"reference":"Patient/1"}}],"entry":[{"item":{"reference":"#28"}}]}}`,
		`{"resource":{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/1"},"evidence":[{"detail":[{"reference":"AllergyIntolerance/28"},{"reference":"urn:uuid:nobody"}]}]}}`,
		`{"resource":{"resourceType":"DiagnosticReport","id":"d","subject":{"reference":"Patient/1"},"result":[{"reference":"urn:uuid:0g"}]}}`,
		`{"fullUrl":"urn:uuid:0g","resource":{"resourceType":"Observation","id":"group","subject":{"reference":"Patient/1"},"related":[{"type":"has-member","target":{"reference":"Observation/member"}}]}}`,
		`{"resource":{"resourceType":"Observation","id":"member","subject":{"reference":"urn:uuid:0a"},"meta":{"tag":[{"system":"https://x/y","code":"z"}]},"related":[{"type":"derived-from","target":{"reference":"ProcedureRequest/9"}}]}}`,
	}
	n := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		n.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		done, err := Read(strings.NewReader(`{"resourceType":"Bundle","entry":[`+strings.Join(entries, ",")+`]}`), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		r := get(t, done, "MedicationRequest/r")
		if r.Text("subject.reference") != "Patient/1" || r.Text("medicationReference.reference") != "Medication/m" || r.Text("encounter.reference") != "Encounter/e" || r.Text("meta.tag.code") != "transfer-degraded" {
			t.Fatalf("%s", r.Raw())
		}
		if e := get(t, done, "Encounter/e"); e.Text("subject.reference") != "Patient/1" {
			t.Fatalf("%s", e.Raw())
		}
		if c := get(t, done, "Condition/c"); !strings.Contains(string(c.Raw()), `[{"reference":"AllergyIntolerance/ended-28"},{"reference":"urn:uuid:nobody"}]`) {
			t.Fatalf("%s", c.Raw())
		}
		if s := done.Sections[0]; len(s.Entries) != 1 || s.Entries[0] != "AllergyIntolerance/ended-28" {
			t.Fatalf("%v", s.Entries)
		}
		if d := get(t, done, "DiagnosticReport/d"); d.Text("result.reference") != "Observation/group" {
			t.Fatalf("%s", d.Raw())
		}
		m := get(t, done, "Observation/member")
		if !strings.Contains(string(m.Raw()), `"tag":[{"system":"https://x/y","code":"z"},{"system":"`+fhir.SystemHeading+`","code":"results"}]`) || m.Text("derivedFrom.reference") != "ServiceRequest/pr-9" {
			t.Fatalf("%s", m.Raw())
		}
	}
}
