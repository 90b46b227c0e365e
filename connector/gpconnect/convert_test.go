package gpconnect

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"tombolo/dataset"
	"tombolo/fhir"
)

var update = flag.Bool("update", false, "write the golden files anew")

func fixture(t testing.TB, name string) fhir.Value {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := fhir.ParseValue(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func convert(t testing.TB, v fhir.Value) *Converted {
	t.Helper()
	done, err := Convert(v)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// show writes a conversion for people to read: the golden files are what a reviewer checks.
func show(done *Converted) []byte {
	var b bytes.Buffer
	indent := func(v any) {
		raw := fhir.JSON(v)
		_ = json.Indent(&b, raw, "", " ")
		b.WriteByte('\n')
	}
	for _, r := range append([]*fhir.Resource{done.Patient}, done.Content...) {
		b.WriteString("--- " + r.String() + " heading=" + string(dataset.HeadingOf(r)) + "\n")
		indent(json.RawMessage(r.Raw()))
	}
	for _, s := range done.Sections {
		list := s.List
		s.List = nil
		b.WriteString("--- section\n")
		indent(s)
		indent(json.RawMessage(list.Raw()))
	}
	b.WriteString("--- report\n")
	for _, is := range done.Issues {
		b.WriteString(string(is.Severity) + " " + string(is.Type) + " " + is.Error() + "\n")
	}
	return b.Bytes()
}

var fixtures = []string{"allergies", "allergies-none", "allergies-none-known", "medication", "problems", "immunisations", "uncategorised",
	"consultations", "investigations", "referrals", "documents", "appointments", "procedures"}

// Each type that the specification names has a golden pair.
func TestEachTypeHasAGoldenPair(t *testing.T) {
	pairs := map[string]int{}
	for _, name := range fixtures {
		for r := range fixture(t, name).All("entry.resource") {
			pairs[r.Text("resourceType")]++
		}
	}
	for typ := range shapes {
		if pairs[typ] == 0 {
			t.Errorf("there is no golden pair with a %s", typ)
		}
	}
}

func TestGolden(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			v := fixture(t, name)
			done := convert(t, v)
			accountFor(t, name, v, done)
			got, file := show(done), filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (run with -update to see how)", file)
			}
		})
	}
}

// get finds the resource with the reference.
func get(t testing.TB, done *Converted, ref fhir.Ref) *fhir.Resource {
	t.Helper()
	for _, r := range done.Content {
		if r.Ref() == ref {
			return r
		}
	}
	t.Fatalf("no %s", ref)
	return nil
}

// What a clinician would be harmed by, spelt out beside the golden files.
func TestWhatMustNotBeLostOrTurnedRound(t *testing.T) {
	imm := convert(t, fixture(t, "immunisations"))
	if got := get(t, imm, "Immunization/i2").Text("status"); got != "not-done" {
		t.Errorf("a vaccination that was not given reads as %q", got)
	}
	if got := get(t, imm, "Immunization/i3"); got.Text("status") != "entered-in-error" || got.Text("modifierExtension.valueBoolean") != "true" {
		t.Errorf("an entry in error that was not given: %s", got.Raw())
	}
	if got := get(t, imm, "Immunization/i1").Text("vaccineCode.text"); got != "Seasonal influenza vaccination" {
		t.Errorf("the vaccine is called %q", got)
	}
	med := convert(t, fixture(t, "medication"))
	for _, issue := range []fhir.Ref{"MedicationRequest/issue1", "MedicationRequest/issue2"} {
		r := get(t, med, issue)
		if r.Text("intent") != "order" || r.Text("basedOn.reference") != "MedicationRequest/plan1" {
			t.Errorf("%s is not an issue of its plan", issue)
		}
		if r.Text("dosageInstruction.text") != "ONE to be taken twice a day" {
			t.Errorf("%s: the dose's words changed", issue)
		}
	}
	plan := get(t, med, "MedicationRequest/plan1")
	if plan.Text("courseOfTherapyType.coding.code") != "continuous" || plan.Text("dosageInstruction.doseAndRate.doseQuantity.value") != "1.0" {
		t.Errorf("plan: %s", plan.Raw())
	}
	if get(t, med, "MedicationStatement/s2").Text("status") != "not-taken" {
		t.Error("a medicine that is not taken reads as if it were")
	}
	if !get(t, med, "MedicationRequest/plan3").Get("modifierExtension").Exists() {
		t.Error("an unknown modifier was dropped")
	}
	if !slices.ContainsFunc(med.Issues, func(i *fhir.Issue) bool { return i.Text == modified && i.Severity == fhir.Warning }) {
		t.Error("nobody is told of the unknown modifier")
	}
	ref := convert(t, fixture(t, "referrals"))
	if get(t, ref, "ServiceRequest/1").Text("intent") != "order" || get(t, ref, "ServiceRequest/pr-1").Text("intent") != "plan" {
		t.Error("a referral and a diary entry of one id were taken for one")
	}
	all := convert(t, fixture(t, "allergies"))
	if got := get(t, all, "AllergyIntolerance/ended-e1"); got.Text("clinicalStatus.coding.code") != "resolved" {
		t.Errorf("an ended allergy: %s", got.Raw())
	}
	if got := get(t, all, "AllergyIntolerance/a2").Text("meta.security.system"); got != fhir.SystemActCode {
		t.Errorf("the label's system is %q", got)
	}
	unc := convert(t, fixture(t, "uncategorised"))
	for _, r := range unc.Content {
		if r.ID() == "u7" {
			t.Error("an entry about another patient came through")
		}
	}
	want := map[fhir.Ref]dataset.Heading{"Observation/u1": dataset.Observations, "Observation/u2": dataset.SocialContext,
		"Observation/u3": dataset.FamilyHistory, "Observation/u4": dataset.FamilyHistory}
	for ref, h := range want {
		if got := dataset.HeadingOf(get(t, unc, ref)); got != h {
			t.Errorf("%s stands under %s, want %s", ref, got, h)
		}
	}
	inv := convert(t, fixture(t, "investigations"))
	for _, r := range inv.Content {
		if h := dataset.HeadingOf(r); h != "" && h != dataset.Results {
			t.Errorf("%s of a laboratory report stands under %s", r, h)
		}
	}
	pro := convert(t, fixture(t, "procedures"))
	if got := get(t, pro, "Procedure/pr2").Text("status"); got != "not-done" {
		t.Errorf("a procedure that was not done reads as %q", got)
	}
	if got := get(t, pro, "Procedure/pr3"); got.Text("status") != "entered-in-error" || got.Text("meta.tag.code") != dataset.SeeSource {
		t.Errorf("an entry in error that was not done: %s", got.Raw())
	}
	if got := get(t, convert(t, fixture(t, "appointments")), "Appointment/ap2"); got.Text("status") != "cancelled" || got.Text("cancelationReason.text") != "Better now" {
		t.Errorf("a cancelled appointment: %s", got.Raw())
	}
	doc := get(t, convert(t, fixture(t, "documents")), "DocumentReference/doc1")
	if !strings.Contains(string(doc.Raw()), `"reference":"ServiceRequest/1"`) {
		t.Error("a reference to a referral was not rewired")
	}
}

// The specification forbids to rely on the order of entries; so the same entries in any order must give the same bytes.
func TestOrderOfEntriesDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range fixtures {
		v := fixture(t, name)
		first := convert(t, v)
		var entries []json.RawMessage
		for e := range v.All("entry") {
			entries = append(entries, e.Raw())
		}
		for range 20 {
			r.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			raw := fhir.JSON(fhir.M{"resourceType": "Bundle", "type": "collection", "entry": entries})
			shuffled, err := fhir.ParseValue(raw)
			if err != nil {
				t.Fatal(err)
			}
			again := convert(t, shuffled)
			if len(again.Content) != len(first.Content) {
				t.Fatalf("%s: %d resources, then %d", name, len(first.Content), len(again.Content))
			}
			for i := range first.Content {
				var a, b bytes.Buffer
				_ = json.Compact(&a, first.Content[i].Raw())
				_ = json.Compact(&b, again.Content[i].Raw())
				if !bytes.Equal(a.Bytes(), b.Bytes()) {
					t.Fatalf("%s: %v differs in another order", name, first.Content[i])
				}
			}
		}
	}
}

func TestBundlesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     fhir.IssueType
	}{
		{"no bundle", `{"resourceType":"Patient"}`, fhir.Structure},
		{"a list", `[]`, fhir.Structure},
		{"nobody", `{"resourceType":"Bundle","entry":[]}`, fhir.Required},
		{"two people", `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}},{"resource":{"resourceType":"Patient","id":"2"}}]}`, fhir.BusinessRule},
	} {
		v, err := fhir.ParseValue([]byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Convert(v); !fhir.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestTheSameIdTwice(t *testing.T) {
	v, err := fhir.ParseValue([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}},
		{"resource":{"resourceType":"Location","id":"a","name":"North"}},{"resource":{"resourceType":"Location","id":"a","name":"South"}},
		{"resource":{"resourceType":"Location","id":"a","name":"North"}},{"resource":{"resourceType":"Location","name":"No id"}},null,{"resource":7}]}`))
	if err != nil {
		t.Fatal(err)
	}
	done := convert(t, v)
	var names []string
	for _, r := range done.Content {
		names = append(names, r.Text("name"))
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"No id", "North", "South"}) {
		t.Errorf("got %v: the same twice is one, two different are two", names)
	}
}

// large makes a record of about a megabyte out of the fixtures.
func large(t testing.TB, size int) []byte {
	var entries []json.RawMessage
	total, seen := 0, map[string]bool{}
	for n := 0; total < size; n++ {
		for _, name := range fixtures {
			for e := range fixture(t, name).All("entry") {
				if typ := e.Text("resource.resourceType"); typ == "Patient" && total > 0 || typ == "Questionnaire" {
					continue
				}
				raw := bytes.ReplaceAll(e.Raw(), []byte(`"id": "`), []byte(`"id": "`+string(rune('a'+n%26))+strings.Repeat("x", n/26)))
				if e.Text("resource.resourceType") == "Patient" {
					raw = e.Raw()
				}
				var small bytes.Buffer
				_ = json.Compact(&small, raw)
				if seen[small.String()] { // the fixtures share their practice
					continue
				}
				seen[small.String()] = true
				entries = append(entries, small.Bytes())
				total += small.Len()
			}
		}
	}
	return fhir.JSON(fhir.M{"resourceType": "Bundle", "type": "collection", "entry": entries})
}

func BenchmarkConvert(b *testing.B) {
	data := large(b, 1<<20)
	b.Run("parse only", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := fhir.ParseValue(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse and convert", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			v, err := fhir.ParseValue(data)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Convert(v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data := large(b, 1<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(bytes.NewReader(data), 32<<20); err != nil {
			b.Fatal(err)
		}
	}
}

func TestALargeRecordStaysWithinBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("a large record is not made in short runs")
	}
	data := large(t, 8<<20)
	v, err := fhir.ParseValue(data)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := convert(t, v)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(data))*10 {
		t.Errorf("%d MiB allocated for a record of %d MiB, want ten times at the most", used>>20, len(data)>>20)
	}
	if len(done.Issues) > 310 {
		t.Errorf("the report has %d lines", len(done.Issues))
	}
}

// Whatever shape a bundle of some megabytes has, reading it costs a bounded multiple of its size, or it is refused.
func TestHostileBundlesCostABoundedMultiple(t *testing.T) {
	const size = 4 << 20
	patient := `{"resource":{"resourceType":"Patient","id":"1"}}`
	fill := func(one string) string { return strings.Repeat(","+one, size/(len(one)+1)) }
	bundle := func(rest string) string { return `{"resourceType":"Bundle","entry":[` + patient + rest + `]}` }
	inside := func(typ, member, list string) string {
		return bundle(`,{"resource":{"resourceType":"` + typ + `","id":"x","` + member + `":[` + list + `]}}`)
	}
	for what, data := range map[string]string{
		"empty entries":           bundle(strings.Repeat(",{}", 90_000)),
		"empty resources":         bundle(fill(`{"resource":{"resourceType":"Location"}}`)),
		"one resource many times": bundle(fill(`{"resource":{"resourceType":"Location","id":"a","name":"x"}}`)),
		"one id, many versions":   bundle(versions(20_000)),
		"zeros":                   inside("Observation", "category", "0"+fill("0")),
		"unknown members":         bundle(`,{"resource":{"resourceType":"Observation","id":"x"` + unknownMembers(60_000) + `}}`),
		"unknown types":           bundle(strings.Repeat(`,{"resource":{"resourceType":"Zzz","id":"1"}}`, 90_000)),
		"extensions":              inside("Observation", "extension", `{"url":"x"}`+fill(`{"url":"x"}`)),
		"modifiers":               inside("Observation", "modifierExtension", `{"url":"x"}`+fill(`{"url":"x"}`)),
		"contained":               inside("List", "contained", `{"resourceType":"AllergyIntolerance"}`+fill(`{"resourceType":"AllergyIntolerance","id":"y"}`)),
		"contained in contained":  inside("List", "contained", strings.Repeat(`{"resourceType":"List","contained":[`, 20)+`7`+strings.Repeat(`]}`, 20)),
		"references":              inside("List", "entry", `{"item":{"reference":"a/b"}}`+fill(`{"item":{"reference":"Observation/b"}}`)),
		"codings":                 bundle(`,{"resource":{"resourceType":"Condition","id":"x","code":{"coding":[7` + fill(`{"system":"http://snomed.info/sct"}`) + `]}}}`),
		"a long id":               bundle(`,{"resource":{"resourceType":"Condition","id":"` + strings.Repeat("ä", size/2) + `"}}`),
		"a long name":             bundle(`,{"resource":{"resourceType":"Condition","id":"1","` + strings.Repeat("a", size) + `":1}}`),
		"a long text":             bundle(`,{"resource":{"resourceType":"Condition","id":"1","note":[{"text":"` + strings.Repeat(`\u0001`, size/6) + `"}]}}`),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		done, err := Read(strings.NewReader(data), 32<<20)
		runtime.ReadMemStats(&after)
		if fhir.Is(err, fhir.Exception) {
			t.Errorf("%s: %v", what, err)
		}
		used := int(after.TotalAlloc - before.TotalAlloc)
		t.Logf("%-24s %4d MiB for %4d KiB (%v)", what, used>>20, len(data)>>10, err)
		if used > 40<<20+25*len(data) {
			t.Errorf("%s: %d MiB were allocated for %d KiB", what, used>>20, len(data)>>10)
		}
		if done != nil && len(done.Issues)+len(done.Lacks) > 620 {
			t.Errorf("%s: a report of %d lines", what, len(done.Issues)+len(done.Lacks))
		}
	}
}

func versions(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"resource":{"resourceType":"Location","id":"a","name":"%d"}}`, i)
	}
	return b.String()
}

func unknownMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":1`, i)
	}
	return b.String()
}

// No real record is taken for a hostile one.
func TestRealRecordsAreNotTooDense(t *testing.T) {
	all := samples(t)
	all["large"] = large(t, 1<<20)
	for name, raw := range all {
		var small bytes.Buffer
		if json.Compact(&small, raw) != nil {
			continue
		}
		in := &bounded{r: &small, left: 1 << 30, most: 1 << 30}
		if _, err := io.Copy(io.Discard, in); err != nil {
			t.Errorf("%s would be refused: %v", name, err)
		}
	}
}

// A record that was read is marked where it must be read with care, and nothing of its codes is lost.
func TestMarks(t *testing.T) {
	v, err := fhir.ParseValue([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}},
		{"resource":{"resourceType":"Condition","id":"read","code":{"coding":[{"system":"http://read.info/readv2","code":"G20..","display":"Essential hypertension"}]}}},
		{"resource":{"resourceType":"Condition","id":"both","code":{"coding":[{"system":"http://read.info/ctv3","code":"XE0Ub","display":"Raised BP"},{"system":"http://snomed.info/sct","code":"38341003","display":"Hypertensive disorder"}]}}},
		{"resource":{"resourceType":"AllergyIntolerance","id":"lost","code":{"coding":[{"system":"http://snomed.info/sct","code":"196461000000101","display":"Transfer-degraded drug allergy"}],"text":"SEPTRIN - rash"}}},
		{"resource":{"resourceType":"Medication","id":"m","code":{"coding":[{"system":"http://snomed.info/sct","code":"196421000000109","display":"Transfer-degraded medication entry"}],"text":"Coal tar 5% in WSP"}}},
		{"resource":{"resourceType":"MedicationRequest","id":"of-lost","status":"active","intent":"plan","medicationReference":{"reference":"Medication/m"}}},
		{"resource":{"resourceType":"Condition","id":"words","code":{"text":"Bad back"}}},
		{"resource":{"resourceType":"Observation","id":"deep","status":"final","code":{"text":"x"},"component":[{"code":{"text":"y"},"modifierExtension":[{"url":"https://x/not","valueBoolean":true}]}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	done := convert(t, v)
	for ref, want := range map[fhir.Ref]string{"Condition/read": dataset.LegacyCode, "Condition/both": "", "AllergyIntolerance/lost": dataset.TransferDegraded, "Medication/m": dataset.TransferDegraded,
		"MedicationRequest/of-lost": dataset.TransferDegraded, "Condition/words": "", "Observation/deep": dataset.SeeSource} {
		if got := get(t, done, ref).Text("meta.tag.code"); got != want {
			t.Errorf("%s is marked %q, want %q", ref, got, want)
		}
	}
	both := get(t, done, "Condition/both")
	if both.Concept("code").Words() != "Hypertensive disorder" || !both.Concept("code").Has("http://read.info/ctv3", "XE0Ub") {
		t.Errorf("SNOMED comes first and CTV3 stays: %s", both.Raw())
	}
	if c := get(t, done, "AllergyIntolerance/lost").Concept("code"); c.Words() != "SEPTRIN - rash" || len(c.Coding) != 1 {
		t.Errorf("the words of what was lost: %+v", c)
	}
}

func TestABundleWithoutEndIsRefused(t *testing.T) {
	raw := `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}}` + strings.Repeat(`,{}`, maxEntries) + `]}`
	v, err := fhir.ParseValue([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Convert(v); !fhir.Is(err, fhir.TooCostly) {
		t.Errorf("got %v", err)
	}
}

func FuzzConvert(f *testing.F) {
	for _, name := range fixtures {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1","name":null,"_name":[null,{"extension":[7]}],"extension":"x","contained":[{"resourceType":"List"}]}}]}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":{"resource":{"resourceType":"Patient","\u0000\"\\é":1,"contact":{"reference":"a b"},"meta":7}}}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}},{"resource":{"resourceType":"Observation","id":"o","related":[{"type":"has-member"},7]}},
		{"resource":{"resourceType":"MedicationRequest","id":"m","extension":[{"url":"x/Extension-CareConnect-GPC-MedicationRepeatInformation-1","extension":[{"url":"numberOfRepeatPrescriptionsIssued"}]}]}},
		{"resource":{"resourceType":"List","id":"l","extension":[{"url":"https://x/Extension-CareConnect-GPC-ListWarningCode-1"}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		arrived, rerr := Read(bytes.NewReader(data), 1<<20)
		if rerr != nil && (fhir.IssueOf(rerr) == nil || fhir.Is(rerr, fhir.Exception)) {
			t.Fatalf("%v", rerr)
		}
		v, err := fhir.ParseValue(data)
		if err != nil {
			return
		}
		done, err := Convert(v)
		if err != nil {
			if fhir.IssueOf(err) == nil || fhir.Is(err, fhir.Exception) {
				t.Fatalf("%v", err)
			}
			return
		}
		if rerr != nil && !fhir.Is(rerr, fhir.TooCostly) {
			t.Fatalf("what is taken at once is refused as it arrives: %v", rerr)
		}
		if rerr == nil && !bytes.Equal(show(arrived), show(convert(t, v))) {
			t.Fatal("what arrives is something else than what is taken at once")
		}
		seen := map[fhir.Ref]bool{}
		for _, r := range done.Content {
			if r.ID() == "" || seen[r.Ref()] {
				t.Fatalf("%v has no id of its own", r)
			}
			seen[r.Ref()] = true
			if _, err := fhir.Parse(r.Raw()); err != nil {
				t.Fatalf("%v: %v", r, err)
			}
		}
	})
}

// A list that names what did not come with it is not the practice's list: its heading says so, whatever did come; and so does what is part of
// anything else, such as the Medication that says what a medicine is.
func TestWhatIsNamedAndDidNotComeIsSaid(t *testing.T) {
	list := func(refs string) string {
		return `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}},{"resource":{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/1"}}},
			{"resource":{"resourceType":"AllergyIntolerance","id":"of-another","patient":{"reference":"Patient/2"}}},
			{"resource":{"resourceType":"MedicationStatement","id":"m","subject":{"reference":"Patient/1"},"medicationReference":{"reference":"Medication/gone"}}},
			{"resource":{"resourceType":"List","code":{"coding":[{"code":"886921000000105"}]},"entry":[` + refs + `]}}]}`
	}
	item := func(ref string) string { return `{"item":{"reference":"` + ref + `"}}` }
	for refs, want := range map[string]string{
		item("AllergyIntolerance/a"):                                      "",
		item("AllergyIntolerance/a") + "," + item("AllergyIntolerance/b"): "names an entry that it did not send",
		item("AllergyIntolerance/of-another") + "," + item("AllergyIntolerance/a") + "," + item("AllergyIntolerance/c"): "names 2 entries that it did not send",
		item("Allergies cannot be sent") + "," + item("AllergyIntolerance/a"):                                           "",
	} {
		done, err := Read(strings.NewReader(list(refs)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, is := range answer(done, []dataset.Heading{dataset.Allergies}).Issues {
			if is.Type == fhir.Incomplete && is.Expression == string(dataset.Allergies) {
				said += is.Text
			}
		}
		if want == "" && said != "" || !strings.Contains(said, want) {
			t.Errorf("%s: allergies say %q, want %q", refs, said, want)
		}
		if !slices.ContainsFunc(done.Issues, func(is *fhir.Issue) bool {
			return strings.HasPrefix(is.Expression, "MedicationStatement.medicationReference ") && is.Type == fhir.Incomplete
		}) {
			t.Error("nobody is told that a medicine came without its Medication")
		}
	}
}

// A number in quotes is that number; what is none stays as it came, and is named.
func TestNumbersInQuotes(t *testing.T) {
	for in, want := range map[string]string{`"28"`: "28", `"0.50"`: "0.50", `28`: "28", `"1 or 2"`: `"1 or 2"`, `"028"`: `"028"`} {
		v, err := fhir.ParseValue([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1","identifier":[{"value":"7"}]}},
			{"resource":{"resourceType":"Observation","id":"o","valueQuantity":{"value":` + in + `,"unit":"tablet"},"referenceRange":[{"low":{"value":` + in + `}}]}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		done := convert(t, v)
		o := get(t, done, "Observation/o")
		if got := string(o.Get("valueQuantity.value").Raw()); got != want || string(o.Get("referenceRange.low.value").Raw()) != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
		if string(done.Patient.Get("identifier.value").Raw()) != `"7"` {
			t.Error("an identifier became a number")
		}
		if said := len(done.Issues) > 0; said != (in != want) {
			t.Errorf("%s: the report says %v", in, done.Issues)
		}
		if lacks := slices.ContainsFunc(done.Lacks, func(is *fhir.Issue) bool { return strings.Contains(is.Text, "is no number") }); lacks != strings.HasPrefix(want, `"`) {
			t.Errorf("%s: the lacks are %v", in, done.Lacks)
		}
	}
}
