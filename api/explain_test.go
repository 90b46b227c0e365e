package api_test

import (
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// The plan of a gathering is explained to those to whom the region file gives it. To anybody else there is no such parameter: the answer is the one that any word
// gets that means nothing.
func TestAGatheringIsExplainedToThoseWhoMayKnow(t *testing.T) {
	asked := func(s *site, name string) (everything, gathered answer) {
		s.do("PUT", "Patient/ann", fhir.M{"resourceType": "Patient", "id": "ann", "identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}},
			"name": []fhir.HumanName{{Family: "Taylor"}}, "birthDate": "1948-03-12"})
		number := fhir.M{"name": "identifier", "valueString": "9990000107"}
		id := ""
		plain := s.as("doctor", "POST", "$gather", fhir.M{"resourceType": "Parameters", "parameter": []fhir.M{number}}).want(t, 200)
		for e := range fhir.Entries(plain.value(t)) {
			if e.Resource != nil && e.Resource.Type() == "Patient" {
				id = e.Resource.ID()
			}
		}
		return s.as("doctor", "GET", "Patient/"+id+"/$everything?"+name+"=true", nil),
			s.as("doctor", "POST", "$gather", fhir.M{"resourceType": "Parameters", "parameter": []fhir.M{number, {"name": name, "valueBoolean": true}}})
	}

	s := open(t)
	e, g := asked(s, "explain")
	nonE, nonG := asked(s, "exclaim")
	for _, x := range []struct{ got, nonsense answer }{{e, nonE}, {g, nonG}} {
		if x.got.StatusCode != x.nonsense.StatusCode || strings.ReplaceAll(string(x.got.body), "explain", "exclaim") != string(x.nonsense.body) || x.got.StatusCode == 200 {
			t.Errorf("explain, to whom it is not given:\n%s %s\na word that means nothing:\n%s %s", x.got.Status, x.got.body, x.nonsense.Status, x.nonsense.body)
		}
	}

	s = openWith(t, func(r *region.Region) { r.Policy.Explain = []string{"hospital-doctor"} })
	e, g = asked(s, "explain")
	for _, a := range []answer{e, g} {
		if a.want(t, 200); !strings.Contains(string(a.body), gather.ExtensionPlan) || !strings.Contains(string(a.body), `{"url":"why","valueCode":"sent"}`) {
			t.Errorf("explained: %s", a.body)
		}
	}
	if again := s.as("doctor", "POST", "$gather", fhir.M{"resourceType": "Parameters", "parameter": []fhir.M{{"name": "identifier", "valueString": "9990000107"}}}).want(t, 200); strings.Contains(string(again.body), gather.ExtensionPlan) {
		t.Error("it is explained to who did not ask")
	}
}
