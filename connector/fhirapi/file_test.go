package fhirapi

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// read collects what a file gives.
func read(t testing.TB, r io.Reader, name string) (taken, rejected []connector.Delivery, err error) {
	t.Helper()
	for d, e := range Deliveries("a-source", r, name) {
		switch {
		case e != nil:
			err = e
		case d.Rejected != nil:
			rejected = append(rejected, d)
		default:
			taken = append(taken, d)
		}
	}
	return taken, rejected, err
}

// summary is a delivery in a line: whose it is, what it holds, what its references say.
func summary(d connector.Delivery) string {
	var s []string
	for _, r := range d.Content {
		line := string(r.Ref())
		_, _ = fhir.MapReferences(r, func(o fhir.Value, ref string) ([]byte, bool) {
			line += ">" + ref
			return nil, false
		})
		s = append(s, line)
	}
	return d.Patient + ": " + strings.Join(s, " ")
}

const transaction = `{"resourceType":"Bundle","type":"transaction","entry":[
 {"fullUrl":"urn:uuid:p1","resource":{"resourceType":"Patient","id":"p1","identifier":[{"system":"http://x/mrn","value":"7"}]},"request":{"method":"POST","url":"Patient"}},
 {"fullUrl":"urn:uuid:o1","resource":{"resourceType":"Observation","id":"o1","subject":{"reference":"urn:uuid:p1"},
   "performer":[{"reference":"Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|99","display":"Dr Who"}]}},
 {"fullUrl":"urn:uuid:p2","resource":{"resourceType":"Patient"}},
 {"resource":{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient?identifier=http://x/mrn|7"},"encounter":{"reference":"urn:uuid:gone"}}},
 {"fullUrl":"urn:uuid:d1","resource":{"resourceType":"DocumentReference","id":"d1","subject":{"reference":"urn:uuid:p2"},"content":[{"attachment":{"url":"urn:uuid:b1"}}]}},
 {"fullUrl":"urn:uuid:b1","resource":{"resourceType":"Binary","id":"b1","contentType":"text/plain","data":"eA=="}},
 {"fullUrl":"urn:uuid:v1","resource":{"resourceType":"Provenance","id":"v1","target":[{"reference":"urn:uuid:o1"}]}},
 {"fullUrl":"urn:uuid:g1","resource":{"resourceType":"Organization","id":"g1"}},
 {"resource":{"resourceType":"Observation","id":"nobody"}},
 {"resource":{"resourceType":"Observation","id":"stray","subject":{"reference":"urn:uuid:elsewhere"}}},
 {"resource":{"resourceType":"Observatoin","id":"typo"}},
 {"resource":{"resourceType":"Flag","id":"f1","id":"f2","subject":{"reference":"Patient/p1"}}},
 {"resource":{"resourceType":"Flag","id":"f3","subject":{"reference":"Patient/p1"},"bad":01}},
 {"request":{"method":"DELETE","url":"Flag/f9"}},
 {"resource":{"resourceType":"Flag","id":"f4","subject":{"reference":"Patient/p1"}}}
]}`

func TestATransactionIsSharedOutByPatient(t *testing.T) {
	taken, rejected, err := read(t, strings.NewReader(transaction), "x.json")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range taken {
		got = append(got, summary(d))
		if len(d.Content) > 0 && !strings.Contains(string(d.Raw), `"type":"transaction"`) {
			t.Errorf("the raw part is not a Bundle: %.60s", d.Raw)
		}
	}
	want := []string{
		": Organization/g1",
		"p1: Patient/p1 Observation/o1>Patient/p1 Condition/c1>Patient/p1>urn:uuid:gone Provenance/v1>Observation/o1 Flag/f4>Patient/p1",
		"p2: Patient/p2 DocumentReference/d1>Patient/p2 Binary/b1",
		": ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(taken[1].Issues); n != 1 || taken[1].Issues[0].Expression != "Bundle.entry[3]" {
		t.Errorf("the reference that leads nowhere: %v", taken[1].Issues)
	}
	if o := taken[1].Content[1]; o.Text("performer.identifier.value") != "99" || o.Text("performer.display") != "Dr Who" {
		t.Errorf("the conditional reference: %s", o.Raw())
	}
	if u := taken[2].Content[1].Text("content.attachment.url"); u != "Binary/b1" {
		t.Errorf("the attachment's url is %q", u)
	}
	if d := taken[3]; len(d.Delete) != 1 || d.Delete[0] != "Flag/f9" {
		t.Errorf("deletion: %v", d.Delete)
	}
	var places []string
	for _, d := range rejected {
		places = append(places, fmt.Sprint(d.Rejected.Expression, " ", d.Rejected.Type))
		if len(d.Raw) == 0 {
			t.Errorf("%s: the bytes were not kept", d.Rejected.Expression)
		}
	}
	wantPlaces := "Bundle.entry[8], Observation.subject required|Bundle.entry[10], resourceType not-supported|Bundle.entry[11] structure|" +
		"Bundle.entry[12] structure|Bundle.entry[9], Observation.subject business-rule"
	if strings.Join(places, "|") != wantPlaces {
		t.Errorf("rejected:\n%s\nwant\n%s", strings.Join(places, "|"), wantPlaces)
	}
}

const ndjson = "\ufeff" + `{"resourceType":"Patient","id":"1"}
{"resourceType":"Observation","id":"a","subject":{"reference":"Patient/1"}}

{"resourceType":"Observation","id":"b","subject":
{"resourceType":"Observation","id":"c","subject":{"reference":"Patient/2"}}
{"resourceType":"Observation","id":"a","subject":{"reference":"Patient/1"}}` + "\r\n"

func TestNDJSONIsSharedOutByPatientAndABrokenLineIsNamed(t *testing.T) {
	for _, zipped := range []bool{false, true} {
		var in bytes.Buffer
		if zipped {
			z := gzip.NewWriter(&in)
			_, _ = z.Write([]byte(ndjson))
			_ = z.Close()
		} else {
			in.WriteString(ndjson)
		}
		taken, rejected, err := read(t, &in, "Observation.ndjson.gz")
		if err != nil {
			t.Fatal(err)
		}
		if len(taken) != 2 || summary(taken[0]) != "1: Patient/1 Observation/a>Patient/1" || summary(taken[1]) != "2: Observation/c>Patient/2" {
			t.Errorf("taken: %v", taken)
		}
		if len(rejected) != 2 || rejected[0].Rejected.Expression != "line 4" || rejected[1].Rejected.Expression != "line 6" || rejected[1].Rejected.Type != fhir.Duplicate {
			t.Errorf("rejected: %v", rejected)
		}
	}
}

func TestAFileThatIsCutOffGivesWhatCameBefore(t *testing.T) {
	cut := transaction[:strings.Index(transaction, `"id":"c1"`)]
	taken, rejected, err := read(t, strings.NewReader(cut), "x.json")
	if !fhir.Is(err, fhir.Structure) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("error: %v", err)
	}
	if len(taken) != 2 || len(rejected) != 1 || rejected[0].Rejected.Expression != "Bundle.entry[3]" {
		t.Errorf("taken %d, rejected %v", len(taken), rejected)
	}
	var in bytes.Buffer
	z := gzip.NewWriter(&in)
	_, _ = z.Write([]byte(ndjson))
	_ = z.Close()
	if _, _, err := read(t, bytes.NewReader(in.Bytes()[:in.Len()-12]), "x.ndjson.gz"); !fhir.Is(err, fhir.Structure) {
		t.Errorf("a damaged gzip: %v", err)
	}
}

func TestWhatIsNoFHIRFileIsRefused(t *testing.T) {
	for in, want := range map[string]fhir.IssueType{
		"": fhir.Structure, "MSH|^~\\&|": fhir.Structure, "[1,2]": fhir.Structure, `{"resourceType":"Bundle","type":"history","entry":[]}`: fhir.NotSupported,
		`{"resourceType":"Patient","id":"1"}{"resourceType":"Patient","id":"2"}`: fhir.Structure, `{"a"}`: fhir.Structure, `{,,"entry":[,]`: fhir.Structure,
	} {
		if taken, _, err := read(t, strings.NewReader(in), "x.json"); !fhir.Is(err, want) || len(taken) > 0 {
			t.Errorf("%q: %v", in, err)
		}
	}
	taken, _, err := read(t, strings.NewReader(` {"resourceType":"Patient","id":"1"} `), "one.json")
	if err != nil || len(taken) != 1 || taken[0].Patient != "1" {
		t.Errorf("a single resource: %v %v", taken, err)
	}
}

func TestAReaderMayStopEarly(t *testing.T) {
	for range Deliveries("s", strings.NewReader(transaction), "x.json") {
		break
	}
}

// bigBundle writes a Bundle of n observations of people in turn, about 1 KiB each.
func bigBundle(w io.Writer, n, people int) {
	_, _ = io.WriteString(w, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Organization","id":"o"}}`)
	pad := strings.Repeat("x", 850)
	for i := range n {
		_, _ = fmt.Fprintf(w, `,{"fullUrl":"urn:uuid:%d","resource":{"resourceType":"Observation","id":"%d","subject":{"reference":"Patient/%d"},"note":[{"text":"%s"}]}}`, i, i, i%people, pad)
	}
	_, _ = io.WriteString(w, `]}`)
}

func TestALargeFileDoesNotStandInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a file of 25 MB")
	}
	const n = 25_000
	r, w := io.Pipe()
	go func() { bigBundle(w, n, 40); _ = w.Close() }()
	got, peak := 0, uint64(0)
	var m runtime.MemStats
	for d, err := range Deliveries("s", r, "big.json") {
		if err != nil {
			t.Fatal(err)
		}
		got += len(d.Content)
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
	}
	if got != n+1 {
		t.Errorf("%d resources, want %d", got, n+1)
	}
	if peak > 120<<20 {
		t.Errorf("heap reached %d MiB", peak>>20)
	}
	t.Logf("heap peak %d MiB", peak>>20)
}

// shared finds the folder of sample data beside the repository.
func shared(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("TOMBOLO_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "data")
	}
	p := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("no sample data at %s: set TOMBOLO_DATA to the folder that has it", p)
	}
	return p
}

func TestSyntheaBundlesAreTakenWhole(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(shared(t, "01-fhir-r4-bundles", "bulk-data-server-synthea-2020"), "*.json"))
	for _, name := range files[:min(3, len(files))] {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(name)
		root, err := fhir.ParseValue(data)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for range root.All("entry") {
			want++
		}
		taken, rejected, err := read(t, f, filepath.Base(name))
		_ = f.Close()
		got := 0
		for _, d := range taken {
			got += len(d.Content)
			if len(d.Issues) > 0 {
				t.Errorf("%s: %v", filepath.Base(name), d.Issues[0])
			}
			for _, r := range d.Content {
				if strings.Contains(string(r.Raw()), `"reference":"urn:uuid`) || strings.Contains(string(r.Raw()), `"reference": "urn:uuid`) {
					t.Errorf("%s keeps a reference by urn:uuid", r.Ref())
					break
				}
			}
		}
		if err != nil || len(rejected) > 0 || got != want {
			t.Errorf("%s: %d of %d resources, %d rejected, %v", filepath.Base(name), got, want, len(rejected), err)
		}
	}
	files, _ = filepath.Glob(filepath.Join(shared(t, "01-fhir-r4-bundles", "derived-ndjson-bulk-data-server"), "*.ndjson.gz"))
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		taken, rejected, err := read(t, f, filepath.Base(name))
		_ = f.Close()
		if err != nil || len(rejected) > 0 || len(taken) == 0 {
			t.Errorf("%s: %d deliveries, %d rejected, %v", filepath.Base(name), len(taken), len(rejected), err)
		}
	}
}

func FuzzDeliveries(f *testing.F) {
	f.Add([]byte(transaction), "x.json")
	f.Add([]byte(ndjson), "x.ndjson")
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Binary"}},"\"]"`), "")
	f.Fuzz(func(t *testing.T, in []byte, name string) {
		if bytes.HasPrefix(in, []byte{0x1f, 0x8b}) {
			return // decompression is the standard library's
		}
		for d, err := range Deliveries("s", bytes.NewReader(in), name) {
			if err != nil && fhir.IssueOf(err) == nil {
				t.Errorf("an error without a type: %v", err)
			}
			if d.Rejected != nil && len(d.Content) > 0 {
				t.Error("rejected, and has content")
			}
			for _, r := range d.Content {
				if fhir.NeedsPatient(r.Type()) && d.Patient == "" {
					t.Errorf("a %s of nobody", r.Type())
				}
			}
		}
	})
}

func BenchmarkDeliveries(b *testing.B) {
	var buf bytes.Buffer
	bigBundle(&buf, 5000, 10)
	b.SetBytes(int64(buf.Len()))
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range Deliveries("s", bytes.NewReader(buf.Bytes()), "x.json") {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
