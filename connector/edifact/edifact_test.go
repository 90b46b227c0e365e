package edifact

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func all(t testing.TB, data []byte) []connector.Delivery {
	t.Helper()
	var out []connector.Delivery
	for d := range Deliveries(bytes.NewReader(data), Options{Source: "lab", Now: func() time.Time { return time.Unix(0, 0) }}) {
		out = append(out, d)
	}
	return out
}

func render(t testing.TB, made []connector.Delivery) []byte {
	t.Helper()
	type golden struct {
		ID, Patient, Order, Rejected string
		Issues                       []string
		Content                      []json.RawMessage
	}
	var out []golden
	for _, d := range made {
		g := golden{ID: d.ID, Patient: d.Patient, Order: d.Order}
		if d.Rejected != nil {
			g.Rejected = d.Rejected.Error()
		}
		for _, i := range d.Issues {
			g.Issues = append(g.Issues, i.Error())
		}
		for _, r := range d.Content {
			g.Content = append(g.Content, r.Raw())
		}
		out = append(out, g)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Each testdata/x.edi gives what testdata/x.json says. Rewrite with -update, and read the difference.
func TestReportsGiveWhatTheirGoldenFilesSay(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.edi")
	if len(files) == 0 {
		t.Fatal("no fixtures")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := render(t, all(t, data))
		pair := strings.TrimSuffix(file, ".edi") + ".json"
		if *update {
			if err := os.WriteFile(pair, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(pair)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from %s:\n%s", file, pair, got)
		}
	}
}

func TestServiceCharactersMayBeOthers(t *testing.T) {
	made := all(t, []byte("UNA|*,# ~UNB*UNOC|3*A*B*260302|1215*5~UNH*1*MEDRPT|0|1|RT|NHS003~RFF*SRI|X##1*~PNA*PAT****SU|O#~BRIEN~UNT*4*1~UNZ*1*5~"))
	if len(made) != 1 || made[0].Rejected != nil {
		t.Fatalf("%+v", made)
	}
	if got := made[0].Content[0].Text("name.family"); got != "O~BRIEN" {
		t.Errorf("the name is read as %q", got)
	}
	for _, una := range []string{"UNA:: ? '", "UNAa+.? '", "UNA+++++++"} {
		if _, err := Parse([]byte(una + "UNB+x'")); !fhir.Is(err, fhir.Structure) {
			t.Errorf("%q is taken: %v", una, err)
		}
	}
}

func TestWhatIsNotEDIFACTIsRefused(t *testing.T) {
	for _, in := range []string{"", "MSH|^~\\&|", "{}", "UNB+", "UNA:+.? '"} {
		if _, err := Parse([]byte(in)); err == nil && !strings.HasPrefix(in, "UNB") {
			t.Errorf("%q is taken", in)
		}
	}
}

func TestOneBadMessageHarmsNoOther(t *testing.T) {
	data, err := os.ReadFile("testdata/screening-and-faults.edi")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range all(t, data) {
		if d.Rejected == nil {
			kinds = append(kinds, "taken")
		} else {
			kinds = append(kinds, string(d.Rejected.Type)+" "+d.Rejected.Expression)
		}
		if len(d.Raw) == 0 || !bytes.Contains(d.Raw, []byte("UNH+")) {
			t.Error("the raw message is not kept")
		}
	}
	want := []string{"taken", "required RFF", "structure UNT", "not-supported UNH", "structure UNT"}
	if !slices.Equal(kinds, want) {
		t.Errorf("the five messages are %v, want %v", kinds, want)
	}
}

// sharedData finds the folder of public samples beside the repository.
func sharedData(t testing.TB) string {
	t.Helper()
	root := os.Getenv("TOMBOLO_DATA")
	if root == "" {
		dir, _ := os.Getwd()
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				root = filepath.Join(filepath.Dir(dir), "shared", "data")
			}
		}
	}
	path := filepath.Join(root, "05-hl7v2", "edifact-pathology")
	if _, err := os.Stat(path); err != nil {
		t.Skip("SKIPPED: no folder 05-hl7v2/edifact-pathology; set TOMBOLO_DATA to where the shared sample data lies")
	}
	return path
}

func TestPublicSamplesAreReadOrRefusedForAReason(t *testing.T) {
	counts := map[string]int{}
	err := filepath.WalkDir(sharedData(t), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".edifact.dat") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, d := range all(t, data) {
			if d.Rejected != nil {
				if d.Rejected.Text == "" || d.Rejected.Expression == "" {
					t.Errorf("%s: refused without reason or place", filepath.Base(path))
				}
				counts["refused: "+d.Rejected.Error()]++
				continue
			}
			for _, r := range d.Content {
				counts[r.Type()]++
			}
			for _, i := range d.Issues {
				counts["told: "+i.Text]++
			}
			counts["messages"]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if counts["messages"] < 30 {
		t.Errorf("only %d messages were taken", counts["messages"])
	}
	for k, n := range counts {
		t.Logf("%4d %s", n, k)
	}
}

// The public samples have FHIR STU3 bundles beside them that another program made. Values, ranges, codes, comments and members must agree.
func TestPublicSamplesAgreeWithTheBundlesBesideThem(t *testing.T) {
	root := filepath.Join(sharedData(t), "src", "intTest", "resources")
	for edi, bundles := range map[string][]string{
		"pathology_2": {"pathology_2"}, "pathology_3": {"pathology_3"}, "screening": {"screening"},
		"multi_pathology": {"multi_pathology_msg1", "multi_pathology_msg2", "multi_pathology_msg3"},
	} {
		data, err := os.ReadFile(filepath.Join(root, "edifact", edi+".edifact.dat"))
		if err != nil {
			t.Fatal(err)
		}
		made := all(t, data)
		for i, name := range bundles {
			theirs, err := os.ReadFile(filepath.Join(root, "fhir", name+".fhir.json"))
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(made) || made[i].Rejected != nil {
				t.Errorf("%s: message %d is not taken", edi, i)
				continue
			}
			want, got := facts(bundle(t, theirs)), facts(values(made[i].Content))
			for _, f := range want {
				if !slices.Contains(got, f) {
					t.Errorf("%s: %q is not in what was made:\n%s", name, f, strings.Join(got, "\n"))
				}
			}
			t.Logf("%s: %d facts agree", name, len(want))
		}
	}
}

func bundle(t *testing.T, data []byte) []fhir.Value {
	v, err := fhir.ParseValue(data)
	if err != nil {
		t.Fatal(err)
	}
	var out []fhir.Value
	for r := range v.All("entry.resource") {
		out = append(out, r)
	}
	return out
}

func values(rs []*fhir.Resource) []fhir.Value {
	var out []fhir.Value
	for _, r := range rs {
		out = append(out, r.Value())
	}
	return out
}

// facts are what a clinician would compare, the same in STU3 and R4.
func facts(rs []fhir.Value) []string {
	var out []string
	for _, r := range rs {
		switch r.Text("resourceType") {
		case "Patient":
			out = append(out, "patient "+r.Text("name.family")+" "+r.Text("birthDate")+" "+r.Text("gender")+" "+r.Text("address.postalCode"))
			for n := range r.All("identifier.value") {
				out = append(out, "number "+n.Str())
			}
		case "Specimen":
			kind := r.Text("type.coding.display")
			if kind == "" {
				kind = r.Text("type.text")
			}
			out = append(out, "specimen "+r.Text("accessionIdentifier.value")+" "+kind)
		case "DiagnosticReport":
			out = append(out, "report "+r.Text("identifier.value")+" "+r.Text("status"))
		case "Observation":
			name := r.Text("code.coding.display")
			if name == "" {
				name = r.Text("code.text")
			}
			out = append(out, "test "+name+" "+r.Text("code.coding.code")+" "+r.Text("status")+" = "+string(r.Get("valueQuantity.value").Raw())+" "+r.Text("valueQuantity.comparator")+" "+r.Text("valueQuantity.unit"))
			for _, end := range []string{"low", "high"} {
				for q := range r.All("referenceRange." + end + ".value") {
					out = append(out, name+" "+end+" "+string(q.Raw()))
				}
			}
			members := 0
			for range r.All("hasMember") {
				members++
			}
			for rel := range r.All("related") {
				if rel.Text("type") == "has-member" {
					members++
				}
			}
			if members > 0 {
				out = append(out, name+" has members")
			}
		}
	}
	return out
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.edi")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		f.Add(data)
	}
	f.Add([]byte("UNA:+.? 'UNB+'UNH+1'UNT"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for d, err := range Deliveries(bytes.NewReader(data), Options{Source: "lab"}) {
			if err == nil && d.Rejected == nil && d.Patient == "" {
				t.Error("a delivery is nobody's")
			}
			for _, r := range d.Content {
				if !fhir.ValidID(r.ID()) {
					t.Errorf("%s has no valid id", r.Type())
				}
			}
		}
	})
}

func BenchmarkMap(b *testing.B) {
	data, err := os.ReadFile("testdata/pathology.edi")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for d := range Deliveries(io.Reader(bytes.NewReader(data)), Options{Source: "lab"}) {
			if d.Rejected != nil {
				b.Fatal(d.Rejected)
			}
		}
	}
}
