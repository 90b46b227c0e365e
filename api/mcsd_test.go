package api_test

import (
	"strings"
	"testing"

	"tombolo/region"
)

func (s *site) services(path string) string {
	return strings.TrimSuffix(s.url, "/fhir") + "/directory/" + path
}

// The directory is found in as mCSD wants: by identifier, name, what changed since, with what hangs together (ITI-90).
func TestCareServicesAreFoundAsMCSDWants(t *testing.T) {
	s := openWith(t, func(r *region.Region) {
		r.Organisations[1].PartOf = "RX1"
		r.Neighbours = []region.Neighbour{{ID: "wye", Name: "Wye", Kind: "tombolo", Address: "https://wye.example/fhir", Organisation: "RX2", OnlyAsks: true}}
	})
	for q, want := range map[string]string{
		"Organization": "2", "Organization?identifier=https://fhir.nhs.uk/Id/ods-organization-code|RX1": "1", "Organization?name=the": "1", "Organization?name:contains=trust": "1",
		"Organization?name:exact=the trust": "0", "Organization?partof=Organization/RX1": "1", "Organization?active=true": "2", "Organization?_lastUpdated=gt2020-01-01": "2",
		"Organization?_lastUpdated=lt2020-01-01": "0", "Organization?_id=RX2": "1", "HealthcareService?organization=Organization/RX1": "1", "HealthcareService?active=true": "2",
		"HealthcareService?organization.name=another": "1", "Endpoint": "1", "Endpoint?organization=Organization/RX2": "1", "Endpoint?status=active": "1", "Organization?_summary=count": "2",
	} {
		if a := s.as("doctor", "GET", s.services(strings.ReplaceAll(q, " ", "%20")), nil); a.StatusCode != 200 || a.text(t, "total") != want {
			t.Errorf("%s: %d %.200s, want %s", q, a.StatusCode, a.body, want)
		}
	}
	both := s.do("GET", s.services("Organization?_id=RX2&_include=Organization:endpoint&_include=Organization:partof&_revinclude=HealthcareService:organization"), nil).want(t, 200)
	var got []string
	for e := range both.value(t).All("entry") {
		got = append(got, e.Text("resource.resourceType")+":"+e.Text("search.mode"))
	}
	if all := strings.Join(got, " "); len(got) != 4 || !strings.HasPrefix(all, "Organization:match") || !strings.Contains(all, "Endpoint:include") || !strings.Contains(all, "HealthcareService:include") || !strings.Contains(all, "Organization:include") {
		t.Errorf("what hangs together is %v", got)
	}
	if got := s.do("POST", s.services("Organization/_search"), "name=the", form).want(t, 200).text(t, "total"); got != "1" {
		t.Errorf("by POST: %s", got)
	}
	page := s.do("GET", s.services("Organization?_count=1"), nil).want(t, 200)
	next := ""
	for l := range page.value(t).All("link") {
		if l.Text("relation") == "next" {
			next = l.Text("url")
		}
	}
	if first, second := page.text(t, "entry.resource.id"), s.do("GET", next, nil).want(t, 200).text(t, "entry.resource.id"); first != "RX1" || second != "RX2" {
		t.Errorf("by pages: %s, %s", first, second)
	}
	if a := s.do("GET", s.services("Organization/RX1"), nil).want(t, 200); a.Header.Get("ETag") != `W/"1"` {
		t.Errorf("ETag %q", a.Header.Get("ETag"))
	}
	s.do("GET", s.services("Organization/NONE"), nil).want(t, 404)
	s.do("GET", s.services("Patient"), nil).want(t, 404)
	s.do("GET", s.services("Organization?colour=red"), nil).want(t, 400)
	s.as("nobody", "GET", s.services("Organization"), nil).want(t, 401)
	s.do("GET", s.services("metadata"), nil).want(t, 200)
}
