package api_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
)

// found are the ids of a searchset's entries, sorted, with "+" before what was included.
func found(t testing.TB, a answer) string {
	t.Helper()
	var ids []string
	for e := range a.value(t).All("entry") {
		switch e.Text("search.mode") {
		case "match":
			ids = append(ids, e.Text("resource.id"))
		case "include":
			ids = append(ids, "+"+e.Text("resource.id"))
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func (s *site) ward(t testing.TB) {
	t.Helper()
	s.do("POST", "", transaction(
		entry("PUT", "Organization/trust", "", `{"resourceType":"Organization","id":"trust","name":"Severn Trust"}`),
		entry("PUT", "Organization/ward", "", `{"resourceType":"Organization","id":"ward","name":"Ward 7","partOf":{"reference":"Organization/trust"}}`),
		entry("PUT", "Practitioner/doc", "", `{"resourceType":"Practitioner","id":"doc","name":[{"family":"Ade"}]}`),
		entry("PUT", "Patient/ann", "", `{"resourceType":"Patient","id":"ann","name":[{"family":"Müller"}],"gender":"female","managingOrganization":{"reference":"Organization/ward"},"generalPractitioner":[{"reference":"Practitioner/doc"}]}`),
		entry("PUT", "Patient/bob", "", `{"resourceType":"Patient","id":"bob","name":[{"family":"Brown"}],"gender":"male"}`),
		entry("PUT", "Observation/o1", "", `{"resourceType":"Observation","id":"o1","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/ann"},"performer":[{"reference":"Practitioner/doc"}],"valueQuantity":{"value":70,"system":"http://unitsofmeasure.org","code":"/min"},"effectiveDateTime":"2026-01-02T10:00:00Z"}`),
		entry("PUT", "Observation/o2", "", `{"resourceType":"Observation","id":"o2","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"subject":{"reference":"Patient/ann"},"effectiveDateTime":"2026-01-03T10:00:00Z"}`),
		entry("PUT", "Observation/o3", "", `{"resourceType":"Observation","id":"o3","status":"amended","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/bob"},"effectiveDateTime":"2025-12-31"}`),
		entry("PUT", "Provenance/p1", "", `{"resourceType":"Provenance","id":"p1","target":[{"reference":"Observation/o1"}],"recorded":"2026-01-02T10:00:00Z","agent":[{"who":{"reference":"Practitioner/doc"}}]}`),
	)).want(t, 200)
}

func TestSearchesAcrossPatientsWithLinks(t *testing.T) {
	s := open(t)
	s.ward(t)
	for _, c := range []struct{ query, want string }{
		{"Patient?name=muller", "ann"},
		{"Patient?name:exact=Müller", "ann"},
		{"Observation?code=8867-4", "o1 o3"},
		{"Observation?code=http://loinc.org|8867-4&status:not=amended", "o1"},
		{"Observation?subject=Patient/ann", "o1 o2"},
		{"Observation?subject=ann", "o1 o2"},
		{"Observation?subject:Patient=ann", "o1 o2"},
		{"Observation?patient=" + s.url + "/Patient/ann", "o1 o2"},
		{"Observation?patient=http://elsewhere.example/fhir/Patient/ann", ""},
		{"Observation?date=ge2026-01-01&date=lt2026-01-03", "o1"},
		{"Observation?value-quantity=70|http://unitsofmeasure.org|/min", "o1"},
		{"Observation?code-value-quantity=8867-4$gt60", "o1"},
		{"Observation?value-quantity:missing=true", "o2 o3"},
		// Chained, over one link and several, with and without a type. FHIR R4 search.html#chaining
		{"Observation?patient.name=muller", "o1 o2"},
		{"Observation?subject:Patient.name=muller", "o1 o2"},
		{"Observation?subject:Patient.gender=male", "o3"},
		{"Observation?patient.organization.name=ward", "o1 o2"},
		{"Observation?patient.organization.partof.name=severn", "o1 o2"},
		{"Observation?performer.name=ade", "o1"},
		{"Observation?patient.name=nobody", ""},
		{"Observation?patient.name=muller&code=8867-4", "o1"},
		// Reverse chained. FHIR R4 search.html#has
		{"Patient?_has:Observation:patient:code=8867-4", "ann bob"},
		{"Patient?_has:Observation:patient:code=8480-6", "ann"},
		{"Patient?_has:Observation:patient:code=8480-6&_has:Observation:patient:status=amended", ""},
		{"Patient?_has:Observation:patient:_has:Provenance:target:agent=Practitioner/doc", "ann"},
		{"Patient?_has:Observation:patient:code=8867-4&_id=bob", "bob"},
		{"Practitioner?_has:Patient:general-practitioner:name=muller", "doc"},
		{"Patient?general-practitioner.name=ade", "ann"},
		// Included. FHIR R4 search.html#include
		{"Observation?_id=o1&_include=Observation:subject", "+ann o1"},
		{"Observation?_id=o1&_include=Observation:performer:Practitioner&_include=Observation:subject", "+ann +doc o1"},
		{"Observation?_id=o1&_include=Observation:subject:Group", "o1"},
		{"Observation?_id=o1&_include=*", "+ann +doc o1"},
		{"Observation?code=8867-4&_include=Observation:patient&_include:iterate=Patient:organization&_include:iterate=Organization:partof", "+ann +bob +trust +ward o1 o3"},
		{"Observation?code=8867-4&_include=Observation:patient&_include=Patient:organization", "+ann +bob o1 o3"},
		{"Patient?_id=ann&_revinclude=Observation:patient", "+o1 +o2 ann"},
		{"Patient?_id=ann&_revinclude=Observation:patient&_revinclude:iterate=Provenance:target&_elements=id", "+o1 +o2 +p1 ann"},
	} {
		a := s.do("GET", strings.ReplaceAll(c.query, " ", "%20"), nil).want(t, 200)
		got := found(t, a)
		// Each transaction makes a Provenance of its own too, with an id that nobody knows.
		got = strings.Join(slices.DeleteFunc(strings.Fields(got), func(id string) bool { return len(id) > 12 }), " ")
		if got != c.want {
			t.Errorf("%s finds %q, want %q", c.query, got, c.want)
		}
	}
}

// A parameter or modifier that is not understood is never passed over in silence. (failure 1)
func TestWhatASearchDoesNotUnderstand(t *testing.T) {
	s := open(t)
	s.ward(t)
	for _, q := range []string{"Patient?nmae=x", "Patient?name:exakt=x", "Observation?code:in=http://x", "Observation?date=yesterday", "Observation?patient.nothing=1",
		"Observation?subject:Device.nothing=1", "Patient?_has:Observation:code:code=1", "Patient?_has:Nothing:a:b=1", "Patient?_include=Patient:name", "Patient?_include:once=Patient:organization",
		"Patient?_sort=nothing", "Patient?_count=-1", "Patient?_cursor=x", "Patient?_cursor=1.x", "Patient?a.b.c.d.e.f.g=1", "Patient?_filter=x"} {
		if a := s.do("GET", q, nil).want(t, 400); len(a.text(t, "issue.expression")) == 0 {
			t.Errorf("%s: it does not say where: %s", q, a.body)
		}
	}
	a := s.do("GET", "Patient?nmae=x&gender=male", nil, "Prefer: handling=lenient").want(t, 200)
	if self := a.text(t, "link.url"); strings.Contains(self, "nmae") || !strings.Contains(self, "gender=male") {
		t.Errorf("the self link says %s", self)
	}
	if found(t, a) != "bob" || !strings.Contains(string(a.body), "ignored") {
		t.Errorf("lenient: %s", a.body)
	}
}

// Pages of a search are of the moment of its first, whatever is written meanwhile: nothing twice, nothing left out, nothing new. (failures 4 and 5)
func TestPagesAreOfOneMoment(t *testing.T) {
	for _, sort := range []string{"", "&_sort=-name"} {
		t.Run("sort"+sort, func(t *testing.T) {
			s := open(t)
			var put []string
			for i := range 20 {
				put = append(put, entry("PUT", fmt.Sprintf("Patient/p%02d", i), "", fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","active":true,"name":[{"family":"F%02d"}]}`, i, i)))
			}
			s.do("POST", "", transaction(put...)).want(t, 200)
			var got []string
			a := s.do("GET", "Patient?active=true&_count=6&_total=accurate"+sort, nil).want(t, 200)
			for page := 0; ; page++ {
				v := a.value(t)
				if v.Text("total") != "20" {
					t.Errorf("page %d counts %s", page, v.Text("total"))
				}
				for e := range v.All("entry.resource") {
					got = append(got, e.Text("id"))
					if e.Text("meta.versionId") != "1" {
						t.Errorf("%s is version %s", e.Text("id"), e.Text("meta.versionId"))
					}
				}
				next := ""
				for l := range v.All("link") {
					if l.Text("relation") == "next" {
						next = l.Text("url")
					}
				}
				if next == "" {
					break
				}
				// Meanwhile: one goes, one no longer matches, one changes its name, one comes.
				n := 19 - 3*page
				s.do("DELETE", fmt.Sprintf("Patient/p%02d", n), nil).want(t, 204)
				s.do("PUT", fmt.Sprintf("Patient/p%02d", n-1), fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","active":false}`, n-1)).want(t, 200)
				s.do("PUT", fmt.Sprintf("Patient/p%02d", n-2), fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","active":true,"name":[{"family":"A"}]}`, n-2)).want(t, 200)
				s.do("PUT", fmt.Sprintf("Patient/new%d", page), fmt.Sprintf(`{"resourceType":"Patient","id":"new%d","active":true,"name":[{"family":"F99"}]}`, page)).want(t, 201)
				a = s.do("GET", next, nil).want(t, 200)
			}
			slices.Sort(got)
			if len(got) != 20 || len(slices.Compact(got)) != 20 || strings.Contains(strings.Join(got, " "), "new") {
				t.Errorf("the pages together hold %v", got)
			}
		})
	}
}

func TestCountsAndSummaries(t *testing.T) {
	s := open(t)
	s.ward(t)
	for _, q := range []string{"Observation?_summary=count", "Observation?_count=0"} {
		if a := s.do("GET", q, nil).want(t, 200); a.text(t, "total") != "3" || found(t, a) != "" {
			t.Errorf("%s: %s", q, a.body)
		}
	}
	a := s.do("GET", "Patient/ann?_elements=gender", nil).want(t, 200)
	if a.text(t, "name.family") != "" || a.text(t, "gender") != "female" || a.text(t, "meta.tag.code") != "SUBSETTED" {
		t.Errorf("_elements: %s", a.body)
	}
	if a := s.do("GET", "Observation?_include=Observation:patient&_total=accurate", nil).want(t, 200); a.text(t, "total") != "3" {
		t.Errorf("what is included is counted: %s", a.text(t, "total"))
	}
}

// Searches across types go through the types in turn, a page at a time, each resource once. FHIR R4 http.html#search
func TestASearchAcrossTypes(t *testing.T) {
	s := open(t)
	s.smallWard()
	all := func(path string) string {
		var ids []string
		for path != "" {
			a := s.do("GET", path, nil).want(t, 200)
			for e := range a.value(t).All("entry.resource") {
				if e.Text("resourceType") != "OperationOutcome" && e.Text("resourceType") != "Provenance" {
					ids = append(ids, e.Text("resourceType")+"/"+e.Text("id"))
				}
			}
			path = ""
			for l := range a.value(t).All("link") {
				if l.Text("relation") == "next" {
					path = l.Text("url")
				}
			}
		}
		return strings.Join(ids, " ")
	}
	for path, want := range map[string]string{
		"?_type=Patient,Condition":                      "Condition/c1 Patient/ann Patient/bob",
		"?_type=Patient,Condition,Observation&_count=1": "Condition/c1 Observation/o1 Observation/o2 Patient/ann Patient/bob",
		"?_type=Patient,Condition,Observation&_count=2": "Condition/c1 Observation/o1 Observation/o2 Patient/ann Patient/bob",
		"?_id=ann,o1":                              "Observation/o1 Patient/ann",
		"?_type=Observation&status=amended":        "Observation/o2",
		"Patient/ann/*":                            "Observation/o1 Observation/o2 Patient/ann",
		"Patient/ann/*?_type=Observation&_count=1": "Observation/o1 Observation/o2",
		"Patient/?_id=bob":                         "Patient/bob",
		"?_type=Condition&_include=*:*":            "Condition/c1 Patient/bob",
		"?_type=Condition,Patient&_tag=urn:x|none": "",
	} {
		if got := all(path); got != want {
			t.Errorf("%s finds %s\nwant %s", path, got, want)
		}
	}
	if got := s.do("GET", "?_type=Patient,Condition&_summary=count", nil).want(t, 200).text(t, "total"); got != "3" {
		t.Errorf("it counts %s", got)
	}
	s.do("POST", "_search", "_type=Patient&_id=bob", "Content-Type: application/x-www-form-urlencoded").want(t, 200)
	for path, status := range map[string]int{"": 400, "?_count=5": 400, "?_type=Nothing": 400, "?_type=Patient,Condition&_sort=_id": 400, "?_type=Patient,Condition&gender=male": 400, "?_type=Patient&_cursor=1.Nothing.": 400} {
		s.do("GET", path, nil).want(t, status)
	}
}

// What needs other resources than the one that is matched: value sets, hierarchies, lists; and what is read rather than looked up: words, places, other units.
func TestSearchesThatNeedMoreThanTheIndex(t *testing.T) {
	s := open(t)
	code := func(id, c, more string) string {
		return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"urn:cs","code":%q}]}%s}`, id, c, more)
	}
	for _, r := range []string{
		`{"resourceType":"CodeSystem","id":"cs","url":"urn:cs","status":"active","content":"complete","concept":[{"code":"animal","concept":[{"code":"dog","concept":[{"code":"poodle"}]},{"code":"cat"}]},{"code":"plant"}]}`,
		`{"resourceType":"ValueSet","id":"dogs","url":"urn:dogs","status":"active","compose":{"include":[{"system":"urn:cs","filter":[{"property":"concept","op":"is-a","value":"dog"}]}]}}`,
		`{"resourceType":"ValueSet","id":"pets","url":"urn:pets","version":"2","status":"active","compose":{"include":[{"valueSet":["urn:dogs"]},{"system":"urn:cs","concept":[{"code":"cat"}]}],"exclude":[{"system":"urn:cs","concept":[{"code":"poodle"}]}]}}`,
		`{"resourceType":"ValueSet","id":"expanded","url":"urn:expanded","status":"active","expansion":{"timestamp":"2026-01-01","contains":[{"system":"urn:cs","code":"plant","contains":[{"system":"urn:cs","code":"cat"}]}]}}`,
		`{"resourceType":"ValueSet","id":"loop","url":"urn:loop","status":"active","compose":{"include":[{"valueSet":["urn:loop"]}]}}`,
		code("a", "animal", `,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>A <b>brown</b> horse &amp; cart</p></div>"}`),
		code("d", "dog", `,"note":[{"text":"Bit the postman's Léft leg"}]`), code("p", "poodle", ""), code("c", "cat", ""), code("l", "plant", ""),
		`{"resourceType":"Observation","id":"g","status":"final","code":{"text":"x"},"valueQuantity":{"value":5.4,"system":"http://unitsofmeasure.org","code":"g"}}`,
		`{"resourceType":"Observation","id":"mg","status":"final","code":{"text":"x"},"valueQuantity":{"value":5400,"system":"http://unitsofmeasure.org","code":"mg"}}`,
		`{"resourceType":"Observation","id":"mm","status":"final","code":{"text":"x"},"valueQuantity":{"value":5400,"system":"http://unitsofmeasure.org","code":"mm"}}`,
		`{"resourceType":"List","id":"some","status":"current","mode":"working","entry":[{"item":{"reference":"Observation/d"}},{"item":{"reference":"Observation/c"},"deleted":true},{"item":{"reference":"Location/gl"}}]}`,
		`{"resourceType":"Location","id":"gl","position":{"latitude":51.8642,"longitude":-2.2382}}`,
		`{"resourceType":"Location","id":"ch","position":{"latitude":51.8994,"longitude":-2.0783}}`,
		`{"resourceType":"Location","id":"no"}`,
	} {
		res, err := fhir.Parse([]byte(r))
		must(t, err)
		s.do("PUT", string(res.Ref()), r).want(t, 201)
	}
	for query, want := range map[string]string{
		"Observation?code:below=urn:cs%7Cdog":                                "d p",
		"Observation?code:above=urn:cs%7Cpoodle":                             "a d p",
		"Observation?code:in=urn:dogs":                                       "d p",
		"Observation?code:in=ValueSet/dogs":                                  "d p",
		"Observation?code:in=urn:pets%7C2":                                   "c d",
		"Observation?code:in=urn:expanded":                                   "c l",
		"Observation?code:in=urn:dogs,urn:expanded":                          "c d l p",
		"Observation?code:not-in=urn:dogs&_count=50":                         "a c g l mg mm",
		"Observation?code:in=urn:pets&code:not-in=urn:dogs":                  "c",
		"Observation?_list=some":                                             "d",
		"Location?_list=some":                                                "gl",
		"Location?near=51.86%7C-2.24":                                        "gl",
		"Location?near=51.86%7C-2.24%7C20":                                   "ch gl",
		"Location?near=51.86%7C-2.24%7C5000%7Cm":                             "gl",
		"Location?near:missing=true":                                         "no",
		"Observation?_text=brown cart":                                       "a",
		"Observation?_text=row":                                              "",
		"Observation?_content=postmans LEFT":                                 "d",
		"Observation?_content=generated":                                     "a",
		"Observation?value-quantity=5.4%7Chttp://unitsofmeasure.org%7Cg":     "g mg",
		"Observation?value-quantity=gt5000%7Chttp://unitsofmeasure.org%7Cmg": "g mg",
		"Observation?value-quantity=5.4%7C%7Cg":                              "g",
		"Patient?_has:Observation:patient:code:below=urn:cs%7Cdog":           "",
	} {
		a := s.do("GET", strings.ReplaceAll(query, " ", "%20"), nil).want(t, 200)
		ids := strings.Fields(found(t, a))
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
	}
	for query, status := range map[string]int{"Observation?code:in=urn:none": 400, "Observation?code:below=dog": 400, "Observation?code:below=urn:none%7Cx": 400, "Observation?code:in=urn:loop": 400,
		"Observation?_list=none": 404, "Observation?_list=$current-allergies": 400, "Location?near=here": 400, "Location?near=91%7C0": 400, "Location?near=1%7C1%7C1%7Ckg": 400, "Observation?_text:exact=x": 400, "Observation?_sort=_text": 400} {
		s.do("GET", query, nil).want(t, status)
	}
}

// Of a resource's history, the versions that were current at some moment of a time. FHIR R4 http.html#history
func TestTheHistoryAtAMoment(t *testing.T) {
	s := open(t)
	id := s.made(patientJSON("One"))
	var at []string
	for i := range 3 {
		a := s.do("GET", id, nil).want(t, 200)
		at = append(at, a.text(t, "meta.lastUpdated"))
		time.Sleep(3 * time.Millisecond)
		s.do("PUT", id, strings.Replace(patientJSON(fmt.Sprint("V", i)), `"name"`, `"id":"`+strings.TrimPrefix(id, "Patient/")+`","name"`, 1)).want(t, 200)
	}
	for moment, want := range map[string]string{at[0]: "1", at[1]: "2", at[2]: "3", "2000-01-01": "", "2999": "4"} {
		var got []string
		for e := range s.do("GET", id+"/_history?_at="+moment, nil).want(t, 200).value(t).All("entry.resource.meta.versionId") {
			got = append(got, e.Str())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("at %s version %v was current, want %s", moment, got, want)
		}
	}
	// Of a type and of everything, each resource is there as it was then, and what was deleted before is not.
	other := s.made(patientJSON("Other"))
	s.do("DELETE", other, nil).want(t, 204)
	for _, path := range []string{"Patient/_history", "_history"} {
		for moment, want := range map[string]string{at[0]: id + "/1", at[1]: id + "/2", at[2]: id + "/3", "2000-01-01": "", "2999": id + "/4"} {
			var got []string
			next := path + "?_count=1&_at=" + url.QueryEscape(moment)
			for next != "" { // a page at a time
				a := s.do("GET", next, nil).want(t, 200)
				next = ""
				for e := range a.value(t).All("entry.resource") {
					got = append(got, e.Text("resourceType")+"/"+e.Text("id")+"/"+e.Text("meta.versionId"))
				}
				for l := range a.value(t).All("link") {
					if l.Text("relation") == "next" {
						next = strings.TrimPrefix(l.Text("url"), s.url+"/")
					}
				}
			}
			got = slices.DeleteFunc(got, func(x string) bool { return !strings.HasPrefix(x, "Patient/") })
			if strings.Join(got, " ") != want {
				t.Errorf("at %s %s has %v, want %s", moment, path, got, want)
			}
		}
	}
	if n := len(slices.Collect(s.do("GET", "Patient/_history?_at=2000/2999", nil).value(t).All("entry"))); n != 0 {
		t.Errorf("%d versions at no date", n)
	}
	s.do("GET", id+"/_history?_at=now", nil).want(t, 400)
}

// A cursor is a place in the store, maybe of somebody whom the asker may not see: it tells nothing, and serves nobody but whom it was made for.
func TestACursorTellsNothing(t *testing.T) {
	s := open(t)
	for _, id := range []string{"ann", "bob", "cy"} {
		s.do("PUT", "Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`).want(t, 201)
	}
	for _, path := range []string{"Patient?_count=1", "?_type=Patient,Condition&_count=1&_tag:missing=true"} {
		next := ""
		for link := range s.do("GET", path, nil).want(t, 200).value(t).All("link") {
			if link.Text("relation") == "next" {
				next = link.Text("url")
			}
		}
		u, err := url.Parse(next)
		must(t, err)
		_, sealed, ok := strings.Cut(u.Query().Get("_cursor"), ".")
		plain, err := base64.RawURLEncoding.DecodeString(sealed)
		if !ok || err != nil || strings.Contains(string(plain), "ann") || strings.Contains(string(plain), "p/") || strings.Contains(string(plain), "Patient") {
			t.Errorf("the cursor of %s is %q (%v)", path, plain, err)
		}
		own := strings.TrimPrefix(next, s.url+"/")
		s.do("GET", own, nil).want(t, 200)
		s.as("other", "GET", own, nil).want(t, 400)
		s.do("GET", strings.Replace(own, "_cursor=", "_cursor=1", 1), nil) // another moment is its own to ask
		s.do("GET", own[:len(own)-1]+"!", nil).want(t, 400)
	}
}
