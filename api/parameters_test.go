package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
)

func parameter(id, code, typ, base, expression string) string {
	return string(fhir.New("SearchParameter", id, fhir.M{"url": "urn:x:" + id, "name": code, "status": "active", "description": "x", "code": code, "base": []string{base}, "type": typ, "expression": expression}).Raw())
}

// usable waits until a search parameter's index is made.
func (s *site) usable(id string) {
	s.t.Helper()
	for range 400 {
		a := s.do("GET", "SearchParameter/"+id+"/$status", nil).want(s.t, 200)
		switch a.text(s.t, "parameter.valueCode") {
		case "active":
			return
		case "refused":
			s.t.Fatalf("%s is refused: %s", id, a.body)
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("%s is never indexed", id)
}

// A system defines a search parameter; what is there already is indexed behind its back, what comes and changes as it comes, and the answers are those of looking at everything.
func TestASystemDefinesItsOwnSearchParameters(t *testing.T) {
	s := open(t)
	eye := func(id, colour, day string, n int) string {
		return fmt.Sprintf(`{"resourceType":"Patient","id":%q,"name":[{"family":"A"},{"use":"old","family":%q}],"extension":[{"url":"urn:eye","valueCodeableConcept":{"coding":[{"system":"urn:c","code":%q}]}},{"url":"urn:day","valueDate":%q},{"url":"urn:n","valueInteger":%d}]}`, id, "Old"+id, colour, day, n)
	}
	for i := range 250 { // more than a page of the index's making
		colour := "brown"
		if i%50 == 0 {
			colour = "green"
		}
		s.do("PUT", fmt.Sprintf("Patient/p%03d", i), eye(fmt.Sprintf("p%03d", i), colour, "2020-01-01", i)).want(t, 201)
	}
	s.do("GET", "Patient?eye=green", nil).want(t, 400)
	for id, body := range map[string]string{
		"eye":  parameter("eye", "eye", "token", "Patient", "Patient.extension('urn:eye').value"),
		"day":  parameter("day", "first-day", "date", "Patient", "extension.where(url = 'urn:day').value.ofType(date)"),
		"old":  parameter("old", "old-name", "string", "Patient", "Patient.name.where(use = 'old').family"),
		"n":    parameter("n", "n", "number", "Patient", "Patient.extension('urn:n').value.ofType(integer)"),
		"many": parameter("many", "many-names", "token", "Patient", "Patient.name.count() > 1"),
	} {
		s.do("PUT", "SearchParameter/"+id, body).want(t, 201)
	}
	for _, id := range []string{"eye", "day", "old", "n", "many"} {
		s.usable(id)
	}
	expect := func(query, want string) {
		t.Helper()
		var ids []string
		for path := "Patient?" + query; path != ""; {
			a := s.do("GET", path, nil).want(t, 200)
			path = ""
			for e := range a.value(t).All("entry.resource.id") {
				ids = append(ids, e.Str())
			}
			for l := range a.value(t).All("link") {
				if l.Text("relation") == "next" {
					path = l.Text("url")
				}
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s finds %s, want %s", query, got, want)
		}
	}
	expect("eye=green", "p000 p050 p100 p150 p200")
	expect("eye=urn:c%7Cgreen&_count=2", "p000 p050 p100 p150 p200")
	expect("eye=green&n=gt100", "p150 p200")
	expect("n=7", "p007")
	expect("old-name=oldp24", "p240 p241 p242 p243 p244 p245 p246 p247 p248 p249")
	expect("old-name:exact=Oldp241", "p241")
	expect("eye=green&_sort=-n&_count=2", "p200 p150 p100 p050 p000")
	expect("many-names=false", "")
	expect("eye:missing=true", "")
	s.do("PUT", "Patient/p000", eye("p000", "brown", "2024-05-01", 0)).want(t, 200)
	s.do("PUT", "Patient/new", eye("new", "green", "2024-05-02", 1000)).want(t, 201)
	s.do("DELETE", "Patient/p050", nil).want(t, 204)
	expect("eye=green", "new p100 p150 p200")
	expect("first-day=2024", "new p000")
	expect("first-day=ge2024-05-02", "new")
	first := s.do("GET", "Patient?eye=green&_count=2", nil).want(t, 200).value(t)
	s.do("PUT", "Patient/p150", eye("p150", "brown", "2020-01-01", 150)).want(t, 200) // pages are of one moment
	for l := range first.All("link") {
		if l.Text("relation") == "next" {
			if got := s.do("GET", l.Text("url"), nil).want(t, 200).text(t, "entry.resource.id"); got != "p150" {
				t.Errorf("the second page begins with %s, want what was there when the search began", got)
			}
		}
	}
	s.as("other", "GET", "Patient?eye=green", nil).want(t, 400)
	s.do("DELETE", "SearchParameter/eye", nil).want(t, 204)
	s.do("GET", "Patient?eye=green", nil).want(t, 400)
}

// One that cannot be searched by is refused with the reason; one of R4's own, or that is not active, is kept as any resource is.
func TestASearchParameterThatCannotBeIndexedIsRefused(t *testing.T) {
	s := open(t)
	for body, where := range map[string]string{
		parameter("a", "eye", "token", "Patient", "Patient.eyes"):                                         "SearchParameter.expression",
		parameter("a", "eye", "token", "Patient", "Patient.name.where("):                                  "SearchParameter.expression",
		parameter("a", "eye", "token", "Nobody", "Patient.name"):                                          "SearchParameter.base",
		parameter("a", "eye", "composite", "Patient", "Patient.name"):                                     "SearchParameter.type",
		parameter("a", "gender", "token", "Patient", "Patient.gender"):                                    "SearchParameter.code",
		parameter("a", "_count", "token", "Patient", "Patient.gender"):                                    "SearchParameter.code",
		parameter("a", "two words", "token", "Patient", "Patient.gender"):                                 "SearchParameter.code",
		strings.Replace(parameter("a", "eye", "token", "Patient", "EXPR"), `"expression":"EXPR",`, "", 1): "SearchParameter.expression",
	} {
		a := s.do("POST", "SearchParameter", body).want(t, 422)
		if got := a.text(t, "issue.expression"); got != where {
			t.Errorf("refused at %s, want %s: %s", got, where, a.body)
		}
	}
	s.do("POST", "SearchParameter", strings.Replace(parameter("a", "gender", "token", "Patient", "Patient.gender"), "urn:x:a", "http://hl7.org/fhir/SearchParameter/individual-gender", 1)).want(t, 201)
	s.do("PUT", "SearchParameter/one", parameter("one", "eye", "token", "Patient", "Patient.gender")).want(t, 201)
	s.usable("one")
	s.do("PUT", "SearchParameter/two", parameter("two", "eye", "token", "Patient", "Patient.language")).want(t, 201)
	if a := s.do("GET", "SearchParameter/two/$status", nil).want(t, 200); a.text(t, "parameter.valueCode") != "refused" || !strings.Contains(string(a.body), "already") {
		t.Errorf("a second parameter of a code: %s", a.body)
	}
}
