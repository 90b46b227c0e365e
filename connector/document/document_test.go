package document

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/sim"
)

var update = flag.Bool("update", false, "write what the mapping makes of the examples to testdata, to be read before it is kept")

var received = time.Date(2026, 3, 1, 15, 0, 0, 0, time.UTC)

func example(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// shown is a delivery as text: each resource on a line, the pages as they read.
func shown(d connector.Delivery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ID %s\nPatient %s\nMap %s\n", d.ID, d.Patient, d.Map)
	for _, r := range d.Content {
		if r.Type() == "Binary" {
			data, _ := base64.StdEncoding.DecodeString(r.Text("data"))
			fmt.Fprintf(&b, "%s %s %s\n%s\n", r.Ref(), r.Text("contentType"), r.Text("securityContext.reference"), data)
			continue
		}
		fmt.Fprintf(&b, "%s\n", r.Raw())
	}
	for _, i := range d.Issues {
		fmt.Fprintf(&b, "! %s %s %s\n", i.Severity, i.Type, i)
	}
	return b.String()
}

func TestExamplesBecomeWhatIsExpected(t *testing.T) {
	for name, kind := range map[string]string{"call.xml": "text/xml", "incident.json": "application/fhir+json"} {
		data := example(t, name)
		d := Read("rya-999", data, kind, received)
		if d.Rejected != nil {
			t.Fatalf("%s: %v", name, d.Rejected)
		}
		if !bytes.Equal(d.Raw, data) || d.ContentType != kind || !d.Received.Equal(received) {
			t.Errorf("%s: the original is not kept as it came", name)
		}
		golden := filepath.Join("testdata", name+".golden")
		got := shown(d)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := string(example(t, name+".golden")); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		if again := Read("rya-999", data, kind, received.Add(time.Hour)); shown(again) != got {
			t.Errorf("%s: the same document read twice gives two things", name)
		}
	}
}

func TestBothKindsMeetAtTheSamePatient(t *testing.T) {
	a, b := Read("s", example(t, "call.xml"), "text/xml", received), Read("s", example(t, "incident.json"), "", received)
	if a.Patient == "" || a.Patient != b.Patient {
		t.Errorf("one local number of one organisation, two patients: %s and %s", a.Patient, b.Patient)
	}
	other := bytes.ReplaceAll(example(t, "call.xml"), []byte(`assigningAuthorityName="RYA:`), []byte(`assigningAuthorityName="RX7:`))
	if c := Read("s", other, "text/xml", received); c.Patient == a.Patient {
		t.Error("the same number given by another organisation is taken for the same patient")
	}
}

// dangerous is what must not stand in any page, whatever a document holds.
var dangerous = regexp.MustCompile(`(?i)<\s*(script|img|iframe|object|embed|link|style|form|input|a|svg|base|meta http)\b|\son\w+\s*=|javascript:|evil\.test|url\(`)

func pages(t testing.TB, d connector.Delivery) []string {
	t.Helper()
	var out []string
	for _, r := range d.Content {
		if r.Type() != "Binary" || r.Text("contentType") != "text/html" {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(r.Text("data"))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	return out
}

func TestNothingInAPageRunsOrCallsOut(t *testing.T) {
	evil := []string{`<script>alert(1)</script>`, `<img src="http://evil.test/x"/>`, `<content onmouseover="alert(1)">x</content>`, `<linkHtml href="javascript:alert(1)">x</linkHtml>`,
		`<table background="javascript:alert(1)"><tr><td>x</td></tr></table>`, `&lt;script&gt;alert(1)&lt;/script&gt;`, `<![CDATA[<img src=x onerror=alert(1)>]]>`,
		`<content styleCode="background:url(http://evil.test)">x</content>`, `<svg xmlns="http://www.w3.org/2000/svg"><a xlink:href="javascript:alert(1)" xmlns:xlink="x">x</a></svg>`,
		`<td colspan='2" onload="alert(1)'>x</td>`, `<x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>`}
	whole := string(example(t, "call.xml"))
	for _, e := range evil {
		d := Read("s", []byte(strings.Replace(whole, "Cough &amp; breathless", e, 1)), "text/xml", received)
		if d.Rejected != nil {
			t.Errorf("%s: %v", e, d.Rejected)
			continue
		}
		for _, p := range pages(t, d) {
			unescaped := p // escaped text such as &lt;script&gt; is only text
			if m := dangerous.FindString(unescaped); m != "" && !strings.HasPrefix(e, "&lt;") && !strings.HasPrefix(e, "<![CDATA") {
				t.Errorf("%s: the page holds %q", e, m)
			}
			if strings.Contains(p, "<script") || strings.Contains(p, "<img") {
				t.Errorf("%s: came through as markup", e)
			}
		}
	}
	for _, p := range pages(t, Read("s", example(t, "incident.json"), "", received)) {
		if m := dangerous.FindString(p); m != "" {
			t.Errorf("a FHIR narrative brought %q into the page", m)
		}
	}
}

// cdaDoc is a small document around whatever is given.
func cdaDoc(inner string) string {
	return `<ClinicalDocument xmlns="urn:hl7-org:v3">` + inner + `</ClinicalDocument>`
}

const whom = `<recordTarget><patientRole><patient/></patientRole></recordTarget>`

func TestWhatCannotBeTakenIsRefusedWithPlaceAndRemedy(t *testing.T) {
	valid := string(example(t, "incident.json"))
	two := strings.Replace(string(example(t, "call.xml")), "<itk:payload id", cdaDoc(`<id root="1.2"/>`)+"<itk:payload id", 1)
	for name, c := range map[string]struct {
		in   string
		want fhir.IssueType
		at   string
	}{
		"nothing":               {"", fhir.Required, ""},
		"white space":           {" \n", fhir.Required, ""},
		"HL7 v2":                {"MSH|^~\\&|A|B", fhir.Structure, ""},
		"cut off XML":           {string(example(t, "call.xml")[:900]), fhir.Structure, ""},
		"cut off JSON":          {valid[:900], fhir.Structure, ""},
		"a page":                {"<html><body/></html>", fhir.NotSupported, ""},
		"other namespace":       {`<ClinicalDocument xmlns="urn:other"/>`, fhir.NotSupported, ""},
		"two documents":         {two, fhir.NotSupported, ""},
		"no id":                 {cdaDoc(whom), fhir.Required, "ClinicalDocument.id"},
		"a null id":             {cdaDoc(`<id nullFlavor="UNK"/>` + whom), fhir.Required, "ClinicalDocument.id"},
		"nobody":                {cdaDoc(`<id root="1.2.3"/>`), fhir.Required, "ClinicalDocument.recordTarget"},
		"two people":            {cdaDoc(`<id root="1.2.3"/>` + whom + whom), fhir.Required, "ClinicalDocument.recordTarget"},
		"UTF-16":                {"\xff\xfe<\x00", fhir.NotSupported, ""},
		"unknown encoding":      {`<?xml version="1.0" encoding="EBCDIC"?><a/>`, fhir.NotSupported, ""},
		"an unknown entity":     {cdaDoc("&nbsp;"), fhir.Structure, ""},
		"encrypted":             {`<x><EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#"/></x>`, fhir.NotSupported, ""},
		"a collection":          {`{"resourceType":"Bundle","type":"collection"}`, fhir.NotSupported, "Bundle.type"},
		"a Patient":             {`{"resourceType":"Patient"}`, fhir.NotSupported, "Bundle.type"},
		"no Bundle.identifier":  {strings.Replace(valid, `"value":"D-1"`, `"value":""`, 1), fhir.Required, "Bundle.identifier"},
		"no Composition":        {strings.Replace(valid, `"resourceType":"Composition"`, `"resourceType":"List"`, 1), fhir.Required, "Bundle.entry[0]"},
		"the subject not there": {strings.Replace(valid, `"subject":{"reference":"urn:uuid:0b000000-0000-4000-8000-000000000002"},"date"`, `"subject":{"reference":"Patient/9"},"date"`, 1), fhir.Required, "Composition.subject"},
	} {
		d := Read("s", []byte(c.in), "", received)
		if d.Rejected == nil || d.Rejected.Type != c.want || d.Rejected.Expression != c.at || d.Rejected.Source != "s" {
			t.Errorf("%s: got %v at %q, want %s at %q", name, d.Rejected, expression(d.Rejected), c.want, c.at)
		}
		if d.ID != "" || len(d.Content) > 0 || string(d.Raw) != c.in {
			t.Errorf("%s: a rejected document keeps its bytes and nothing else", name)
		}
	}
}

func expression(i *fhir.Issue) string {
	if i == nil {
		return ""
	}
	return i.Expression
}

// TestHostileXMLIsRefusedWithinBoundedMemory feeds documents built to cost far more than their size.
func TestHostileXMLIsRefusedWithinBoundedMemory(t *testing.T) {
	laughs := `<!DOCTYPE l [<!ENTITY a "ha">`
	for i := 'b'; i < 'l'; i++ {
		laughs += fmt.Sprintf(`<!ENTITY %c "%s">`, i, strings.Repeat("&"+string(i-1)+";", 10))
	}
	const size = MaxBytes - 1000
	for name, in := range map[string]string{
		"billion laughs":     laughs + `]><l>&k;</l>`,
		"external entity":    `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + cdaDoc("&e;"),
		"parameter entity":   `<!DOCTYPE x [<!ENTITY % e SYSTEM "http://evil.test/"> %e;]>` + cdaDoc(""),
		"a DOCTYPE alone":    `<!DOCTYPE ClinicalDocument SYSTEM "http://evil.test/x.dtd">` + cdaDoc(`<id root="1.2.3"/>`+whom),
		"nesting":            strings.Repeat("<a>", size/3),
		"closed nesting":     strings.Repeat("<a>", 100_000) + strings.Repeat("</a>", 100_000),
		"many elements":      cdaDoc(strings.Repeat("<a/>", size/4)),
		"attributes":         "<a " + strings.Repeat(`a="" `, size/5) + "/>",
		"attributes, spread": cdaDoc(strings.Repeat("<a "+strings.Repeat(`a="" `, 10_000)+"/>", size/50_010)),
		"a long name":        "<" + strings.Repeat("a", size) + "/>",
		"a long text":        cdaDoc("<text>" + strings.Repeat("a", size)),
		"open comment":       "<!--" + strings.Repeat("-", size),
		"JSON brackets":      `{"resourceType":"Bundle","entry":[` + strings.Repeat("[],", size/3) + "0]}",
		"JSON nesting":       strings.Repeat(`{"a":`, size/5),
		"too large":          strings.Repeat("<", MaxBytes+1),
	} {
		data := []byte(in)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begun := sim.ProcessorTime() // not the clock: a machine may be busy with something else
		d := Read("s", data, "", received)
		took := sim.ProcessorTime() - begun
		runtime.ReadMemStats(&after)
		if d.Rejected == nil {
			t.Errorf("%s: was taken", name)
		}
		if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 200 {
			t.Errorf("%s: took %d MiB", name, grown)
		}
		if took > 20*time.Second { // under the race detector, beside other work; what grows as the square takes hours
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestOldEncodingsAreRead(t *testing.T) {
	in := `<?xml version="1.0" encoding="ISO-8859-1"?>` + cdaDoc(`<id root="1.2.3"/><recordTarget><patientRole><patient><name><family>Zo`+"\xeb"+`</family></name></patient></patientRole></recordTarget>`)
	d := Read("s", []byte(in), "", received)
	if d.Rejected != nil || d.Content[0].Text("name.family") != "Zoë" {
		t.Errorf("%v %v", d.Rejected, d.Content)
	}
}

func TestAPayloadInBase64IsRead(t *testing.T) {
	inner := base64.StdEncoding.EncodeToString([]byte(cdaDoc(`<id root="1.2.3"/>` + whom)))
	in := `<itk:DistributionEnvelope xmlns:itk="urn:nhs-itk:ns:201005"><itk:payloads><itk:payload>` + inner[:20] + "\n" + inner[20:] + `</itk:payload></itk:payloads></itk:DistributionEnvelope>`
	if d := Read("s", []byte(in), "", received); d.Rejected != nil || d.ID != "urn:ietf:rfc:3986|urn:oid:1.2.3" {
		t.Errorf("%q %v", d.ID, d.Rejected)
	}
}

func TestABodyThatIsAFileIsKept(t *testing.T) {
	body := func(text string) string {
		return cdaDoc(`<id root="1.2.3"/><title>Letter</title>` + whom + `<component><nonXMLBody>` + text + `</nonXMLBody></component>`)
	}
	d := Read("s", []byte(body(`<text mediaType="application/pdf" representation="B64">JVBERi0x</text>`)), "", received)
	found := ""
	for _, r := range d.Content {
		if r.Type() == "Binary" && r.Text("contentType") == "application/pdf" {
			found = r.Text("data")
		}
	}
	if found != "JVBERi0x" {
		t.Errorf("the PDF is not there: %v", d.Content)
	}
	for _, bad := range []string{`<text mediaType="application/pdf"><reference value="http://evil.test/x.pdf"/></text>`, `<text mediaType="image/svg+xml" representation="B64">PHN2Zz4=</text>`, `<text mediaType="application/pdf" representation="B64">!</text>`} {
		d := Read("s", []byte(body(bad)), "", received)
		if d.Rejected != nil || len(d.Issues) != 2 || len(pages(t, d)) != 1 {
			t.Errorf("%s: %v %v", bad, d.Rejected, d.Issues) // the second issue is that the patient has no identifier
		}
	}
}

func TestTimes(t *testing.T) {
	for in, want := range map[string]string{
		"2026": "2026", "202603": "2026-03", "20260301": "2026-03-01", "2026030114": "2026-03-01", "202603011422+0000": "2026-03-01T14:22:00+00:00",
		"20260301142233+0100": "2026-03-01T14:22:33+01:00", "20260301142233.123Z": "2026-03-01T14:22:33Z", "20260701142233": "2026-07-01T14:22:33+01:00",
		"": "", "2": "", "20261301": "", "abcdefgh": "", "20260301142233+1": "", "202603011": "",
	} {
		n := &node{attr: []xml.Attr{{Name: xml.Name{Local: "value"}, Value: in}}}
		if got := moment(n); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
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

func TestReal111DocumentsAreTaken(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(shared(t, "06-cda-and-documents", "itk-111-cda", "xml"), "*.xml"))
	if len(files) == 0 {
		t.Skip("the sample data has no 111 documents")
	}
	for _, f := range files {
		data, _ := os.ReadFile(f)
		d := Read("s", data, "text/xml", received)
		has := map[string]int{}
		for _, r := range d.Content {
			has[r.Type()]++
			if r.Type() == "Encounter" && (r.Text("class.code") != "VR" || r.Text("period.start") == "" || r.Text("hospitalization.dischargeDisposition.text") == "") {
				t.Errorf("%s: the encounter lacks something: %s", filepath.Base(f), r.Raw())
			}
		}
		if d.Rejected != nil || has["Patient"] != 1 || has["Encounter"] != 1 || has["DocumentReference"] != 1 || has["Binary"] == 0 {
			t.Errorf("%s: %v %v", filepath.Base(f), d.Rejected, has)
		}
		for _, p := range pages(t, d) {
			if m := dangerous.FindString(p); m != "" {
				t.Errorf("%s: the page holds %q", filepath.Base(f), m)
			}
			if !strings.Contains(p, "<h1>NHS 111 Report") {
				t.Errorf("%s: the page has no heading", filepath.Base(f))
			}
		}
	}
}

func TestRealHostileFilesAreRefused(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(shared(t, "10-bad-input", "defusedxml-testdata"), "*"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if d := Read("s", data, "text/xml", received); d.Rejected == nil || d.Rejected.Text == "" {
			t.Errorf("%s was taken", filepath.Base(f))
		}
	}
}

func TestRealPatientSummariesAreTaken(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(shared(t, "06-cda-and-documents", "ips-compiled"), "Bundle-*.json"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if d := Read("s", data, "application/fhir+json", received); d.Rejected != nil || d.Patient == "" {
			t.Errorf("%s: %v", filepath.Base(f), d.Rejected)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(example(f, "call.xml"))
	f.Add(example(f, "incident.json"))
	f.Add([]byte(cdaDoc(`<id root="1.2.3"/>` + whom)))
	f.Add([]byte("<!DOCTYPE a>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := Read("s", data, "", received)
		if (d.Rejected == nil) == (len(d.Content) == 0) {
			t.Fatalf("neither taken nor refused: %v", d.Rejected)
		}
		for _, r := range d.Content {
			for _, s := range fhir.Subjects(r) {
				if r.Type() != "Binary" && s.Reference != "Patient/"+d.Patient {
					t.Errorf("a %s of somebody else", r.Type())
				}
			}
		}
		for _, p := range pages(t, d) {
			if strings.Contains(p, "<script") || strings.Contains(p, "<img") || strings.Contains(p, "<a ") {
				t.Error("markup came through")
			}
		}
	})
}

func BenchmarkRead111Call(b *testing.B) {
	data := example(b, "call.xml")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if d := Read("s", data, "text/xml", received); d.Rejected != nil {
			b.Fatal(d.Rejected)
		}
	}
}
