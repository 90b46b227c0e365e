package hl7v2

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// sharedData finds the folder of real messages beside the repository.
func sharedData(t testing.TB, name string) string {
	t.Helper()
	root := os.Getenv("TOMBOLO_DATA")
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; root == ""; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				root = filepath.Join(filepath.Dir(dir), "shared", "data")
			} else if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	path := filepath.Join(root, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: no folder %s; set TOMBOLO_DATA to where the shared sample data lies", name)
	}
	return path
}

func sampleFiles(t testing.TB) []string {
	root := sharedData(t, "05-hl7v2")
	var files []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".hl7") || strings.HasSuffix(path, ".txt") && !strings.Contains(path, "config")) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Messages that hospitals and other projects wrote: each is mapped, or kept and refused for a stated reason with a place.
func TestRealMessagesAreMappedOrRefusedForAReason(t *testing.T) {
	mapped, issues := map[string]int{}, map[string]int{}
	for _, path := range sampleFiles(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Base(filepath.Dir(path))
		n := 0
		for d := range Deliveries(data, Options{Source: "sample", Processing: "PTD"}) {
			n++
			if r := d.Rejected; r != nil {
				if r.Type == fhir.Exception || r.Text == "" || r.Expression == "" {
					t.Errorf("%s: refused without a stated reason and place: %v", filepath.Base(path), r)
				}
				mapped[folder+" refused: "+string(r.Type)+" "+r.Expression]++
				continue
			}
			checkDelivery(t, filepath.Base(path), d)
			mapped[folder+" mapped by "+d.Map]++
			for _, i := range d.Issues {
				issues[string(i.Type)+" "+strings.SplitN(i.Expression, "[", 2)[0]]++
			}
		}
		if n == 0 {
			t.Errorf("%s: nothing was yielded: a message was passed over", filepath.Base(path))
		}
	}
	for _, m := range []map[string]int{mapped, issues} {
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			t.Logf("%5d %s", m[k], k)
		}
	}
}

// checkDelivery holds a delivery to the contract of connector.Delivery.
func checkDelivery(t *testing.T, name string, d connector.Delivery) {
	t.Helper()
	if d.Patient == "" && len(d.Content) > 0 {
		t.Errorf("%s: is nobody's", name)
	}
	refs := map[fhir.Ref]bool{}
	living := 0
	for _, r := range d.Content {
		if !fhir.ValidID(r.ID()) {
			t.Errorf("%s: %s has no valid id", name, r.Type())
		}
		if refs[r.Ref()] {
			t.Errorf("%s: two resources are %s", name, r.Type())
		}
		refs[r.Ref()] = true
		if r.Type() == "Patient" && r.Text("link.type") != "replaced-by" {
			living++
			if r.ID() != d.Patient {
				t.Errorf("%s: the Patient is not the delivery's patient", name)
			}
		}
		if fhir.NeedsPatient(r.Type()) {
			for _, s := range fhir.Subjects(r) {
				if s.Reference != "Patient/"+d.Patient {
					t.Errorf("%s: %s is of somebody else", name, r.Type())
				}
			}
			if len(fhir.Subjects(r)) == 0 {
				t.Errorf("%s: %s is nobody's", name, r.Type())
			}
		}
	}
	if living != 1 && d.Patient != "" {
		t.Errorf("%s: %d living Patients in one delivery", name, living)
	}
}

// Every real message that can be read is written anew with the same fields.
func TestRealMessagesReencodeToTheSameFields(t *testing.T) {
	n := 0
	for _, path := range sampleFiles(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for raw := range Split(data) {
			m, err := Parse(raw, ParseOptions{})
			if err != nil {
				continue
			}
			again, err := Parse(Encode(m), ParseOptions{})
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(path), err)
				continue
			}
			if !slices.Equal(leaves(m), leaves(again)) {
				t.Errorf("%s: changed when encoded and parsed again", filepath.Base(path))
			}
			n++
		}
	}
	t.Logf("%d messages", n)
}

// leaves are a message's values with their places, empty ones and MSH-18 left out.
func leaves(m *Message) []string {
	var out []string
	for _, s := range m.Segments() {
		out = append(out, s.Name())
		from := 1
		if s.isHeader() {
			from = 3
		}
		for n := from; n <= s.Fields(); n++ {
			if n == 18 && s.Name() == "MSH" {
				continue // Encode says UTF-8 there
			}
			walk(s.Field(n), field, s.Place(n), &out)
		}
	}
	return out
}

func walk(v Value, l level, place string, out *[]string) {
	if v.Null() {
		*out = append(*out, place+"=null")
		return
	}
	if l == subcomponent {
		if t := v.Words(); t != "" {
			*out = append(*out, place+"="+t)
		}
		return
	}
	i := 0
	for p := range v.parts(l) {
		i++
		walk(p, l+1, place+"."+string(rune('0'+i)), out)
	}
}
