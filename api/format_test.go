package api_test

import (
	"compress/gzip"
	"strings"
	"testing"
)

// Resources are taken and given in XML as in JSON, errors too. (failure 19)
func TestXMLBothWays(t *testing.T) {
	s := open(t)
	doc := `<?xml version="1.0"?><Patient xmlns="http://hl7.org/fhir"><text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">Ann &amp; <b>co</b></div></text><name><family value="Taylor"/><given value="Ann"><extension url="urn:x"><valueDecimal value="1.00"/></extension></given></name></Patient>`
	made := s.do("POST", "Patient", doc, "Content-Type: application/fhir+xml", "Accept: application/fhir+xml").want(t, 201)
	if !strings.HasPrefix(made.Header.Get("Content-Type"), "application/fhir+xml") || !strings.Contains(string(made.body), `<family value="Taylor"/>`) {
		t.Errorf("made: %s", made.body)
	}
	id := strings.TrimSuffix(strings.TrimPrefix(made.Header.Get("Location"), s.url+"/"), "/_history/1")
	if a := s.do("GET", id, nil).want(t, 200); a.text(t, "name.family") != "Taylor" || !strings.Contains(string(a.body), `"valueDecimal":1.00`) {
		t.Errorf("as JSON: %s", a.body)
	}
	for _, ask := range []struct{ path, accept string }{{id + "?_format=xml", "application/fhir+json"}, {id + "?_format=application/fhir%2Bxml", ""}, {id, "text/xml"},
		{id, "application/fhir+json;q=0.5, application/fhir+xml"}, {"Patient?name=taylor", "application/xml"}, {id + "/_history", "application/xml"}, {"metadata", "application/fhir+xml"}} {
		a := s.do("GET", ask.path, nil, "Accept: "+ask.accept).want(t, 200)
		if !strings.HasPrefix(string(a.body), "<?xml") {
			t.Errorf("%v: %.80s", ask, a.body)
		}
	}
	if a := s.do("GET", "Patient/nobody", nil, "Accept: application/fhir+xml"); a.StatusCode != 404 || !strings.Contains(string(a.body), "<OperationOutcome") {
		t.Errorf("an error in XML: %d %s", a.StatusCode, a.body)
	}
	s.do("POST", "Patient", `<Patient xmlns="http://hl7.org/fhir"><shoe value="1"/></Patient>`, "Content-Type: application/fhir+xml").want(t, 400)
	s.do("GET", id, nil, "Accept: text/csv").want(t, 406)
	s.do("GET", id, nil, "Accept: application/fhir+json; fhirVersion=3.0").want(t, 406)
	for _, accept := range []string{"application/fhir+json; fhirVersion=4.0; charset=utf-8", "text/json", "*/*", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"} {
		s.do("GET", id, nil, "Accept: "+accept).want(t, 200)
	}
}

func TestHEADPrettyAndGzip(t *testing.T) {
	s := open(t)
	id := s.made(patientJSON("Taylor"))
	for _, path := range []string{id, "Patient?name=taylor", id + "/_history", "metadata"} { // (failure 18)
		a := s.do("HEAD", path, nil).want(t, 200)
		if len(a.body) > 0 || a.Header.Get("Content-Type") == "" {
			t.Errorf("HEAD %s: %v", path, a.Header)
		}
	}
	if a := s.do("GET", id+"?_pretty=true", nil).want(t, 200); strings.Count(string(a.body), "\n") < 5 {
		t.Errorf("pretty: %s", a.body)
	}
	a := s.do("GET", "metadata", nil, "Accept-Encoding: gzip").want(t, 200)
	z, err := gzip.NewReader(strings.NewReader(string(a.body)))
	if err != nil || a.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not packed: %v", err)
	}
	_ = z.Close()
	var packed strings.Builder
	zw := gzip.NewWriter(&packed)
	_, _ = zw.Write([]byte(patientJSON("Packed")))
	_ = zw.Close()
	s.do("POST", "Patient", packed.String(), "Content-Encoding: gzip").want(t, 201)
}

func TestASummaryHoldsWhatR4Says(t *testing.T) {
	s := open(t)
	id := s.made(`{"resourceType":"Observation","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"status":"final","code":{"text":"x"},"note":[{"text":"n"}],"valueString":"v"}`)
	for query, want := range map[string]string{"true": "code status valueString", "text": "code status text", "data": "code note status valueString"} {
		v := s.do("GET", id+"?_summary="+query, nil).want(t, 200).value(t)
		var got []string
		for _, name := range []string{"code", "note", "status", "text", "valueString"} {
			if v.Get(name).Exists() {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want || v.Text("meta.tag.code") != "SUBSETTED" {
			t.Errorf("_summary=%s holds %v, want %s", query, got, want)
		}
	}
}

func TestValidateTellsOfEverything(t *testing.T) {
	s := open(t)
	a := s.do("POST", "Patient/$validate", `{"resourceType":"Patient","gender":"f","shoeSize":1,"contact":[{"name":{"family":2}}]}`).want(t, 200)
	var where []string
	for e := range a.value(t).All("issue.expression") {
		where = append(where, e.Str())
	}
	if got := strings.Join(where, " "); got != "Patient.gender Patient Patient.contact[0].name.family Patient" {
		t.Errorf("it tells of %s", got)
	}
	ok := s.do("POST", "Patient/$validate", `{"resourceType":"Parameters","parameter":[{"name":"resource","resource":{"resourceType":"Patient","active":true}}]}`).want(t, 200)
	if ok.text(t, "issue.severity") != "information" {
		t.Errorf("nothing is wrong: %s", ok.body)
	}
	broken := s.do("POST", "Appointment/$validate?mode=create", `{"resourceType":"Appointment","status":"booked","participant":[{"status":"accepted"}]}`).want(t, 200)
	for _, rule := range []string{"app-1: ", "app-3: "} {
		if !strings.Contains(string(broken.body), rule) {
			t.Errorf("%s is broken: %s", rule, broken.body)
		}
	}
	if n := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); n != "0" {
		t.Error("validating kept something")
	}
	id := s.made(`{"resourceType":"Patient","active":true}`)
	if a := s.do("GET", id+"/$validate?mode=profile&profile=http://hl7.org/fhir/StructureDefinition/Patient", nil).want(t, 200); a.text(t, "issue.severity") != "information" {
		t.Errorf("what is stored is right: %s", a.body)
	}
	if a := s.do("GET", id+"/$validate?profile=http://example.org/none", nil).want(t, 200); !strings.Contains(string(a.body), "not known here") {
		t.Errorf("a profile that is not known: %s", a.body)
	}
	s.do("POST", "Patient/$validate?mode=delete", `{"resourceType":"Patient"}`).want(t, 400)
}
