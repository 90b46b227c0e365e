package hl7v2

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/fhir"
)

// bundle is a delivery's content as whoever sends it on has it: stored, and so with a version.
func bundle(content []*fhir.Resource, version string) *fhir.Resource {
	var entries []fhir.M
	for _, r := range content {
		meta := map[string]any{}
		_ = r.Get("meta").Decode(&meta)
		meta["versionId"], meta["lastUpdated"] = version, "2026-03-02T12:00:00Z"
		entries = append(entries, fhir.M{"resource": json.RawMessage(r.With("meta", meta).Raw())})
	}
	return fhir.New("Bundle", "b1", fhir.M{"type": "collection", "entry": entries})
}

// written maps a golden message, writes what it made, and maps that.
func written(t *testing.T, file string, n int, o Options) (was, now connector.Delivery, wire string) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file + ".hl7")
	if err != nil {
		t.Fatal(err)
	}
	made := deliveries(data, o)
	if n >= len(made) || made[n].Rejected != nil {
		t.Fatalf("%s: message %d cannot be read", file, n+1)
	}
	msgs, err := Write(bundle(made[n].Content, "1"), o, Letterhead{Version: "2.5.1"})
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, msg := range msgs {
		wire += strings.ReplaceAll(string(msg), "\r", "\n")
		for _, d := range deliveries(msg, o) {
			if d.Rejected != nil {
				t.Fatalf("%s: what was written is not taken: %v\n%s", file, d.Rejected, wire)
			}
			now.Patient, now.Content = d.Patient, append(now.Content, d.Content...)
		}
	}
	return made[n], now, wire
}

// What was read and is written again is read as the same: patients, visits, bookings, documents and reports keep every element that a receiver
// is to know. without names what a message of ours does not carry, or says otherwise, and why is said beside it.
func TestWhatIsWrittenReadsAsWhatItWas(t *testing.T) {
	for _, c := range []struct {
		file    string
		n       int
		without string
	}{
		{"a28", 0, "Patient.contact Patient.extension RelatedPerson AllergyIntolerance Condition"}, // what is told besides who somebody is, and extensions other than the ethnic category
		{"a31", 0, "Patient.contact Patient.extension RelatedPerson AllergyIntolerance Condition"},
		{"a01", 0, "Patient.extension Patient.contact Encounter.hospitalization Encounter.reasonCode Encounter.diagnosis Encounter.location Encounter.priority Encounter.length Encounter.type Encounter.account Encounter.serviceProvider Condition Procedure AllergyIntolerance RelatedPerson Account Encounter.participant"},
		{"siu-s12", 0, "Patient.extension Encounter Appointment.comment Appointment.participant"},
		{"siu-s26", 0, "Patient.extension Encounter Appointment.comment Appointment.participant"},
		{"oru-laboratory", 0, "Patient.extension Specimen DiagnosticReport.specimen Observation.specimen DiagnosticReport.performer DiagnosticReport.resultsInterpreter Observation.performer Observation.method Observation.identifier Encounter DiagnosticReport.encounter Observation.encounter"},
		{"oru-pdf-report", 0, "Patient.extension Specimen DiagnosticReport.specimen Observation.specimen DiagnosticReport.performer DiagnosticReport.resultsInterpreter Observation.performer Encounter DiagnosticReport.encounter Observation.encounter"},
		{"microbiology", 0, "Patient.extension Specimen DiagnosticReport.specimen Observation.specimen DiagnosticReport.performer DiagnosticReport.resultsInterpreter Observation.performer Encounter DiagnosticReport.encounter Observation.encounter"},
		{"mdm-text", 0, "Patient.extension Encounter DocumentReference.context"},
	} {
		was, now, wire := written(t, c.file, c.n, trust)
		if was.Patient != now.Patient {
			t.Errorf("%s: is of %q, was of %q", c.file, now.Patient, was.Patient)
		}
		skip := strings.Fields(c.without)
		got := map[fhir.Ref]map[string]any{}
		for _, r := range now.Content {
			got[kindOf(r)] = elementsOf(r)
		}
		for _, r := range was.Content {
			if slices.Contains(skip, r.Type()) {
				continue
			}
			is := got[kindOf(r)]
			if is == nil {
				t.Errorf("%s: no %s is told of in\n%s", c.file, r.Type(), wire)
				continue
			}
			for name, v := range elementsOf(r) {
				if name == "meta" || slices.Contains(skip, r.Type()+"."+name) {
					continue
				}
				if !reflect.DeepEqual(is[name], v) {
					a, _ := json.Marshal(v)
					b, _ := json.Marshal(is[name])
					t.Errorf("%s: %s.%s was %s and reads as %s in\n%s", c.file, r.Type(), name, a, b, wire)
				}
			}
		}
	}
}

// kindOf is what a resource is known by on both sides: results by what they measure, all else by its id.
func kindOf(r *fhir.Resource) fhir.Ref {
	if r.Type() == "Observation" {
		return fhir.MakeRef(r.Type(), r.Concept("code").Words()+r.Text("valueString")+r.Concept("valueCodeableConcept").Words())
	}
	return r.Ref()
}

func elementsOf(r *fhir.Resource) map[string]any {
	out := map[string]any{}
	if err := json.Unmarshal(r.Raw(), &out); err != nil {
		panic(err)
	}
	delete(out, "id")
	delete(out, "result") // sub-ids, and with them the ids of results, are this side's own
	delete(out, "hasMember")
	return out
}

// No text, whatever it holds, changes the shape of a message: the same segments and fields, and the text read back as it was.
func TestNoTextChangesTheShapeOfAMessageWritten(t *testing.T) {
	shape := func(family, note string) (string, []string, string) {
		patient := fhir.New("Patient", "p1", fhir.M{"identifier": []fhir.Identifier{{System: "urn:id:RX1", Value: "T1"}}, "name": []fhir.HumanName{{Family: family, Use: "official"}},
			"meta": fhir.M{"versionId": "1", "lastUpdated": "2026-03-02T12:00:00Z"}})
		result := fhir.New("Observation", "o1", fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "Comment"}, "valueString": note})
		report := fhir.New("DiagnosticReport", "r1", fhir.M{"status": "final", "identifier": []fhir.Identifier{{System: "urn:id:RX1", Value: "F1"}}, "code": fhir.CodeableConcept{Text: note},
			"conclusion": note, "result": []fhir.Reference{{Reference: "Observation/o1"}}, "meta": fhir.M{"versionId": "1", "lastUpdated": "2026-03-02T12:00:00Z"}})
		msgs, err := Write(bundle([]*fhir.Resource{patient, report, result}, "1"), trust, Letterhead{})
		if err != nil {
			panic(err)
		}
		m, err := Parse(msgs[0], ParseOptions{})
		if err != nil {
			panic(err)
		}
		var s []string
		for _, seg := range m.Segments() {
			s = append(s, seg.Name())
		}
		return strings.Join(s, " "), []string{m.First("PID").Field(5).Comp(1).Text(), m.First("OBR").Field(4).Comp(2).Text()}, string(msgs[0])
	}
	plainly, _, _ := shape("Hart", "well")
	rapid.Check(t, func(t *rapid.T) {
		family := rapid.StringOf(rapid.RuneFrom([]rune("aÅ|^~\\&\r\n\v\x1c\"é .X0D"))).Filter(func(s string) bool { return strings.TrimSpace(s) != "" }).Draw(t, "family")
		note := rapid.StringOf(rapid.RuneFrom([]rune("aÅ|^~\\&\r\n\v\x1c\"é .X0D"))).Filter(func(s string) bool { return strings.TrimSpace(s) != "" }).Draw(t, "note")
		got, values, wire := shape(family, note)
		if got != plainly {
			t.Fatalf("with %q and %q the message is %s, and is to be %s", family, note, got, plainly)
		}
		if values[0] != family || values[1] != note {
			t.Fatalf("%q and %q came back as %q", family, note, values)
		}
		if strings.ContainsAny(wire, "\v\x1c\n") {
			t.Fatalf("the message holds a framing sign: %q", wire)
		}
	})
}

// The same version written twice is the same message; another version is another.
func TestTheSameVersionIsTheSameMessage(t *testing.T) {
	p := fhir.New("Patient", "p1", fhir.M{"identifier": []fhir.Identifier{{System: "urn:id:RX1", Value: "T1"}}, "name": []fhir.HumanName{{Family: "Hart"}}})
	clock := trust.Now()
	o := trust
	o.Now = func() time.Time { clock = clock.Add(time.Second); return clock }
	write := func(r *fhir.Resource) []byte {
		msgs, err := Write(r, o, Letterhead{})
		if err != nil || len(msgs) != 1 {
			t.Fatal(err, len(msgs))
		}
		return msgs[0]
	}
	first, again, next := write(bundle([]*fhir.Resource{p}, "1")), write(bundle([]*fhir.Resource{p}, "1")), write(bundle([]*fhir.Resource{p}, "2"))
	if !bytes.Equal(first, again) {
		t.Errorf("one version was written as\n%s\nand as\n%s", first, again)
	}
	control := func(b []byte) string {
		m, _ := Parse(b, ParseOptions{})
		_, event, id := m.Type()
		return event + " " + id
	}
	if control(first) == control(next) || !strings.HasPrefix(control(first), "A28 ") || !strings.HasPrefix(control(next), "A31 ") {
		t.Errorf("two versions are told of as %s and %s", control(first), control(next))
	}
}

// What cannot be told whole is not told, and why is said.
func TestWhatCannotBeToldWholeIsNotTold(t *testing.T) {
	id := []fhir.Identifier{{System: "urn:id:RX1", Value: "N1"}}
	p := fhir.New("Patient", "p1", fhir.M{"identifier": id})
	old := fhir.New("Patient", "p2", fhir.M{"identifier": id, "link": []fhir.M{{"type": "replaced-by", "other": fhir.Reference{Reference: "Patient/p1"}}}})
	report := func(result *fhir.Resource) []*fhir.Resource {
		return []*fhir.Resource{p, fhir.New("DiagnosticReport", "r1", fhir.M{"status": "final", "identifier": id, "code": fhir.CodeableConcept{Text: "FBC"}, "result": []fhir.Reference{{Reference: "Observation/o1"}}}), result}
	}
	for _, c := range []struct {
		content []*fhir.Resource
		want    string
	}{
		{[]*fhir.Resource{old}, "Patient.link"},
		{[]*fhir.Resource{fhir.New("Appointment", "a1", fhir.M{"identifier": id})}, "Patient"},
		{[]*fhir.Resource{fhir.New("Patient", "p1", fhir.M{})}, "Patient.identifier"},
		{[]*fhir.Resource{p, fhir.New("Patient", "p3", fhir.M{"identifier": id})}, "Patient"},
		{[]*fhir.Resource{p, fhir.New("Appointment", "a1", fhir.M{"status": "booked"})}, "Appointment.identifier"},
		{[]*fhir.Resource{p, fhir.New("DocumentReference", "d1", fhir.M{"status": "current", "identifier": id, "content": []fhir.M{{"attachment": fhir.M{"contentType": "application/pdf", "url": "Binary/b"}}}})}, "attachment.url"},
		{report(fhir.New("Observation", "o2", fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "x"}})), "DiagnosticReport.result"},
		{report(fhir.New("Observation", "o1", fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "x"}, "valueSampledData": fhir.M{"dimensions": 1}})), "Observation.valueSampledData"},
	} {
		msgs, err := Write(bundle(c.content, "1"), trust, Letterhead{})
		issue := fhir.IssueOf(err)
		if issue == nil || issue.Expression != c.want {
			t.Errorf("want an error at %s, got %v and %d messages", c.want, err, len(msgs))
		}
	}
	if msgs, err := Write(bundle([]*fhir.Resource{p, old}, "1"), trust, Letterhead{}); err != nil || len(msgs) != 1 || !bytes.Contains(msgs[0], []byte("|ADT^A40^ADT_A39|")) {
		t.Errorf("a merge is told of as %q (%v)", msgs, err)
	}
}

// A resource of any content gives messages that can be read, or an error.
func FuzzWrite(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"Patient","id":"p","identifier":[{"system":"urn:id:RX1","value":"1"}],"name":[{"family":"Hart"}]}`,
		`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p","identifier":[{"value":"1"}]}},{"resource":{"resourceType":"DiagnosticReport","id":"r","identifier":[{"value":"2"}],"status":"final","result":[{"reference":"Observation/o"}]}},{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Observation","id":"o","valueQuantity":{"value":1,"comparator":"<"},"hasMember":[{"reference":"Observation/o"}]}}]}`,
		`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p","identifier":[{"value":"1"}]}},{"resource":{"resourceType":"Appointment","id":"r","identifier":[{"value":"2"}],"status":"booked","start":"2026-03-02T10:00:00Z"}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := fhir.Parse(data)
		if err != nil {
			return
		}
		msgs, err := Write(r, trust, Letterhead{})
		if err != nil && fhir.IssueOf(err) == nil {
			t.Errorf("an error that is no issue: %v", err)
		}
		for _, m := range msgs {
			if _, err := Parse(m, ParseOptions{}); err != nil {
				t.Errorf("%q cannot be read: %v", m, err)
			}
		}
	})
}
