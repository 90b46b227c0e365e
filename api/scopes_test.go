package api_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/fhir"
	"tombolo/kv/enginetest"
	"tombolo/search/scope"
)

// given is an access token of the application that acts for the system epr, with scopes; locked, it was launched for one person.
func (s *site) given(scopes, locked string) string {
	s.t.Helper()
	secret := access.Secret()
	g := access.Grant{Principal: access.Principal{User: "app", Service: true}, Client: "app", Scopes: scopes, Patient: locked, Family: access.Secret()}
	must(s.t, s.users.State().Put(s.t.Context(), state.Access, secret, g, time.Now().Add(time.Hour)))
	return secret
}

func observationJSON(id, category, code, patient, more string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":%q}]}],`+
		`"code":{"coding":[{"system":"http://loinc.org","code":%q}]},"subject":{"reference":"Patient/%s"},"performer":[{"reference":"Practitioner/d1"}],"effectiveDateTime":"2026-01-0%d"%s}`, id, category, code, patient, 1+len(id)%9, more)
}

// heldHere is what the tests of scopes begin with, in the order in which it is written.
func heldHere() []string {
	out := []string{`{"resourceType":"Patient","id":"p1","name":[{"family":"Bell"}],"birthDate":"1980-01-31","managingOrganization":{"reference":"Organization/g1"}}`, `{"resourceType":"Patient","id":"p2","name":[{"family":"Cole"}],"birthDate":"1970-01-31"}`,
		`{"resourceType":"Organization","id":"g1","name":"A ward"}`,
		`{"resourceType":"Practitioner","id":"d1","name":[{"family":"Ade"}]}`, `{"resourceType":"Practitioner","id":"d2","name":[{"family":"Bo"}]}`}
	for i, category := range []string{"laboratory", "vital-signs", "laboratory", "survey", "vital-signs", "laboratory"} {
		out = append(out, observationJSON(fmt.Sprintf("o%d", i+1), category, []string{"a", "b"}[i%2], []string{"p1", "p1", "p2"}[i%3], ""))
	}
	for i, status := range []string{"active", "resolved", "active"} {
		out = append(out, fmt.Sprintf(`{"resourceType":"Condition","id":"c%d","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":%q}]},"code":{"text":"words"},"subject":{"reference":"Patient/p%d"}}`, i+1, status, 1+i%2))
	}
	return append(out, `{"resourceType":"List","id":"l1","status":"current","mode":"working","entry":[{"item":{"reference":"Observation/o1"}},{"item":{"reference":"Observation/o2"}},{"item":{"reference":"Condition/c1"}}]}`,
		`{"resourceType":"Group","id":"m1","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p1"}}]}`)
}

// asks are questions and writes of every kind, "METHOD address" and, for some, a body and headers.
var asks = [][]string{
	{"GET Observation"}, {"GET Observation?category=laboratory"}, {"GET Observation?code=a&_total=accurate"}, {"GET Observation?_summary=count"}, {"GET Observation?code=http://loinc.org|a&_summary=count"},
	{"GET Observation?_count=1"}, {"GET Observation?_count=2&_sort=-date"}, {"GET Observation?subject:Patient.family=Bell"}, {"GET Observation?performer:Practitioner.family=Ade"},
	{"GET Observation?_include=Observation:subject&_include=Observation:performer"}, {"GET Observation?category:not=laboratory"}, {"GET Observation?_list=l1"}, {"GET Observation?_id=o1,o2,o3"},
	{"GET Observation?patient=p1&_elements=code"}, {"GET Observation?_lastUpdated=gt2000"}, {"GET Observation?_content=Bell"},
	{"GET Patient?_has:Observation:patient:code=b"}, {"GET Patient?_revinclude=Observation:patient&_revinclude=Condition:subject"}, {"GET Patient?_include:iterate=Patient:organization"},
	{"GET Condition"}, {"GET Condition?clinical-status=active"}, {"GET Condition?_has:List:item:status=current"}, {"GET Practitioner?_has:Observation:performer:category=survey"},
	{"GET ?_type=Observation,Patient&_count=3"}, {"GET ?_id=o1,o2,c1,c2"}, {"GET Patient/p1/Observation"}, {"GET Patient/p1/*?_type=Observation,Condition"}, {"GET Patient/p1/$everything"}, {"GET Patient/p2/$everything?_type=Observation,Patient&_count=1"},
	{"GET Observation/$lastn?patient=p1"}, {"GET Observation/_history"}, {"GET Observation/_history?_count=1"}, {"GET Patient/_history"},
	{"GET Observation/o1"}, {"GET Observation/o2"}, {"GET Observation/o4"}, {"GET Observation/none"}, {"GET Condition/c1"}, {"GET Condition/c2"}, {"GET Practitioner/d1"}, {"GET Patient/p2"}, {"GET List/l1"},
	{"GET Observation/o2/_history"}, {"GET Observation/o2/_history/1"}, {"GET Observation/none/_history/1"}, {"GET Condition/c2/$meta"}, {"GET Observation/o2/$validate"},
	{"POST Observation", observationJSON("", "laboratory", "new", "p1", ""), "If-None-Exist: code=b"}, {"POST Observation", observationJSON("", "laboratory", "newer", "p1", "")},
	{"POST Condition", `{"resourceType":"Condition","subject":{"reference":"Patient/p1"}}`, "If-None-Exist: clinical-status=resolved"},
	{"PUT Observation?code=b", observationJSON("", "laboratory", "b", "p1", "")}, {"PATCH Observation/o2", `[{"op":"replace","path":"/status","value":"amended"}]`, "Content-Type: application/json-patch+json"},
	{"PATCH Observation?code=b&category=vital-signs", `[{"op":"replace","path":"/status","value":"amended"}]`, "Content-Type: application/json-patch+json"},
	{"DELETE Observation/o5"}, {"DELETE Observation?code=b&patient=p2"}, {"DELETE Condition/c2"}, {"DELETE Condition/c2", "", "If-Match: W/\"9\""}, {"PATCH Condition/c2", `[{"op":"test","path":"/code/text","value":"words"}]`, "Content-Type: application/json-patch+json"},
	{"POST ", transaction(entry("POST", "Observation", "urn:uuid:1", strings.Replace(observationJSON("", "laboratory", "t", "p1", ""), "Practitioner/d1", "Practitioner?family=Bo", 1)), entry("GET", "Observation/o4", "", ""))},
	{"POST ", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Observation/o2"}},{"request":{"method":"GET","url":"Condition?clinical-status=resolved"}},{"request":{"method":"DELETE","url":"Observation/o4"}}]}`},
	{"GET Observation?_sort=code"}, {"GET Condition?_sort=_id"}, {"GET Observation/o5"},
}

// differs are what is not the same in two stores that hold the same: addresses, times, ids that were made up, places in the log, and how long texts are that hold them.
var differs = regexp.MustCompile(`http://127[^/"]*|"(lastUpdated|lastModified|timestamp)":"[^"]*"|"id":"[0-9a-f-]{36}"|[0-9a-hj-km-np-tv-z]{26}|_cursor=[^"&]*|"versionId":"\d+"`)

func said(a answer) string {
	// A Patient's and a Provenance's versions are not compared: each write brings a Provenance of its own.
	return a.Status + "\n" + differs.ReplaceAllString(string(a.body), "·")
}

func (s *site) asked(token string, ask []string) answer {
	s.t.Helper()
	method, at, _ := strings.Cut(ask[0], " ")
	var body any
	if len(ask) > 1 && ask[1] != "" {
		body = strings.Replace(ask[1], `"id":"",`, "", 1)
	}
	return s.as(token, method, at, body, ask[min(2, len(ask)):]...)
}

var someScope = rapid.Custom(func(t *rapid.T) string {
	typ := rapid.SampledFrom([]string{"Observation", "Observation", "Observation", "Condition", "Practitioner", "Organization", "List", "Patient"}).Draw(t, "type")
	out := "system/" + typ + "." + rapid.SampledFrom([]string{"rs", "rs", "rs", "cruds", "cruds", "s", "r", "cuds"}).Draw(t, "can")
	switch {
	case typ == "Observation" && rapid.IntRange(0, 3).Draw(t, "filtered") > 0:
		out += "?" + rapid.SampledFrom([]string{"category=laboratory", "category=vital-signs,survey", "patient=p1", "code=b&category=laboratory", "_id=o1,o2,o4"}).Draw(t, "filter")
	case typ == "Condition" && rapid.Bool().Draw(t, "filtered"):
		out += "?clinical-status=active"
	}
	return out
})

// What lies beyond an application's scopes makes no difference to what it is answered: a record that holds the rest answers as one that holds none of it, byte for byte,
// and so does a record without scopes that holds only what they let through.
func TestAnswersWithinScopesAreThoseOfARecordThatHoldsNothingElse(t *testing.T) {
	n, most := 0, 12
	if enginetest.PostgreSQL() {
		most = 3
	}
	rapid.Check(t, func(rt *rapid.T) {
		if n++; n > most {
			return // each takes two records of its own
		}
		text := strings.Join(rapid.SliceOfNDistinct(someScope, 1, 4, rapid.ID[string]).Draw(rt, "scopes"), " ")
		if rapid.Bool().Draw(rt, "patients") {
			text += " system/Patient.rs"
		}
		if !t.Run(text, func(t *testing.T) { alike(t, text) }) {
			rt.Fatalf("not alike with %s", text)
		}
	})
}

// alike asks the same of a record that holds what scopes let through and more, and of one that holds no more.
func alike(t *testing.T, text string) {
	t.Helper()
	set, unknown := scope.Parse(text)
	if len(unknown) > 0 {
		t.Fatalf("unknown %q", unknown)
	}
	full, part := open(t), open(t)
	for _, body := range heldHere() {
		r, err := fhir.Parse([]byte(body))
		must(t, err)
		full.do("PUT", string(r.Ref()), body).want(t, 201)
		if set.Permits(scope.Any, r) || r.Type() == "Patient" { // which everything else is about
			part.do("PUT", string(r.Ref()), body).want(t, 201)
		}
	}
	same := 0
	a, b := full.given(text, ""), part.given(text, "")
	for _, ask := range asks {
		got, want := full.asked(a, ask), part.asked(b, ask)
		if said(got) != said(want) {
			t.Fatalf("with %s, %q is answered\n%s\nby a record that holds more, and\n%s\nby one that does not", text, ask, said(got), said(want))
		}
		if got.StatusCode != 403 {
			same++
		}
		for range 5 { // and so are the pages that follow
			next := func(a answer) (string, bool) {
				for l := range a.value(t).All("link") {
					if l.Text("relation") == "next" {
						return l.Text("url"), true
					}
				}
				return "", false
			}
			at, more := next2(got, next)
			there, moreThere := next2(want, next)
			if !more || !moreThere {
				break
			}
			got, want = full.as(a, "GET", at, nil), part.as(b, "GET", there, nil)
			if said(got) != said(want) {
				t.Fatalf("with %s, a page of %q is\n%s\nof a record that holds more, and\n%s\nof one that does not", text, ask, said(got), said(want))
			}
		}
	}
	if same == 0 && set.At(scope.System) && strings.Contains(text, "s") {
		t.Fatalf("with %s everything was refused", text)
	}
}

func next2(a answer, next func(answer) (string, bool)) (string, bool) {
	if len(a.body) == 0 || a.StatusCode != 200 {
		return "", false
	}
	return next(a)
}

// A record without scopes that holds what they let through answers as one with them does.
func TestScopesShowARecordAsIfTheRestWereNotThere(t *testing.T) {
	for _, text := range []string{"system/Observation.rs?category=laboratory system/Patient.rs", "system/Condition.rs?clinical-status=active system/Patient.rs system/Observation.rs?patient=p2 system/Practitioner.rs system/Organization.rs system/List.rs"} {
		t.Run(text, func(t *testing.T) { asIf(t, text) })
	}
}

func asIf(t *testing.T, text string) {
	t.Helper()
	set, _ := scope.Parse(text)
	full, part := open(t), open(t)
	for _, body := range heldHere() {
		r, err := fhir.Parse([]byte(body))
		must(t, err)
		full.do("PUT", string(r.Ref()), body).want(t, 201)
		if set.Permits(scope.Any, r) {
			part.do("PUT", string(r.Ref()), body).want(t, 201)
		}
	}
	token, same := full.given(text, ""), 0
	for _, ask := range asks {
		if !strings.HasPrefix(ask[0], "GET") || strings.Contains(ask[0], "GET ?_id") || strings.Contains(ask[0], "$lastn") || strings.HasSuffix(ask[0], "$everything") { // in which the one without scopes finds its Provenance
			continue
		}
		got := full.asked(token, ask)
		if got.StatusCode == 403 {
			if !strings.Contains(got.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
				t.Errorf("%q is refused, and the application is not told for which scope", ask)
			}
			continue
		}
		if want := part.asked("epr", ask); said(got) != said(want) {
			t.Fatalf("with %s, %q is answered\n%s\nand by a record that holds no more\n%s", text, ask, said(got), said(want))
		}
		same++
	}
	if same < 20 {
		t.Errorf("with %s only %d answers could be compared", text, same)
	}
}

func TestWritesAreHeldToScopesBeforeAnythingIsWritten(t *testing.T) {
	s := open(t)
	for _, body := range heldHere() {
		r, err := fhir.Parse([]byte(body))
		must(t, err)
		s.do("PUT", string(r.Ref()), body).want(t, 201)
	}
	s.as("other", "PUT", "Practitioner/theirs", `{"resourceType":"Practitioner","id":"theirs"}`).want(t, 201)
	s.do("PUT", "Observation/gone", observationJSON("gone", "vital-signs", "x", "p1", "")).want(t, 201)
	s.do("DELETE", "Observation/gone", nil).want(t, 204)
	lab := s.given("system/Observation.cruds?category=laboratory", "")
	reads := s.given("system/Observation.rs system/Observation.c?category=laboratory", "")
	blind := s.given("system/Observation.cu", "")
	jsonPatch := "Content-Type: application/json-patch+json"
	for _, c := range []struct {
		why    string
		token  string
		ask    []string
		status int
	}{
		{"a create within", lab, []string{"POST Observation", observationJSON("", "laboratory", "n", "p1", "")}, 201},
		{"a create beyond", lab, []string{"POST Observation", observationJSON("", "vital-signs", "n", "p1", "")}, 403},
		{"of another type", lab, []string{"POST Condition", `{"resourceType":"Condition","subject":{"reference":"Patient/p1"}}`}, 403},
		{"an update within", lab, []string{"PUT Observation/o1", observationJSON("o1", "laboratory", "a2", "p1", "")}, 200},
		{"an update that leads out", lab, []string{"PUT Observation/o1", observationJSON("o1", "vital-signs", "a", "p1", "")}, 403},
		{"an update of what is hidden: as of another's", lab, []string{"PUT Observation/o2", observationJSON("o2", "laboratory", "a", "p1", "")}, 409},
		{"where something hidden was", lab, []string{"PUT Observation/gone", observationJSON("gone", "laboratory", "a", "p1", "")}, 409},
		{"an update that creates", lab, []string{"PUT Observation/o77", observationJSON("o77", "laboratory", "a", "p1", "")}, 201},
		{"a patch within", lab, []string{"PATCH Observation/o1", `[{"op":"replace","path":"/status","value":"amended"}]`, jsonPatch}, 200},
		{"a patch that leads out", lab, []string{"PATCH Observation/o1", `[{"op":"replace","path":"/category/0/coding/0/code","value":"survey"}]`, jsonPatch}, 403},
		{"a patch of what is hidden", lab, []string{"PATCH Observation/o2", `[]`, jsonPatch}, 404},
		{"a delete of what is hidden does nothing", lab, []string{"DELETE Observation/o2"}, 204},
		{"a delete within", lab, []string{"DELETE Observation/o77"}, 204},
		{"labels that are added", lab, []string{"POST Observation/o1/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"x"}]}}]}`}, 200},
		{"labels of what is hidden", lab, []string{"POST Observation/o2/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"x"}]}}]}`}, 404},
		{"a patient", lab, []string{"DELETE Patient/p2"}, 403},
		{"a subscription that would tell more", s.given("system/Subscription.cruds system/Observation.rs?category=laboratory", ""), []string{"PUT Subscription/sub", `{"resourceType":"Subscription","id":"sub","status":"off","reason":"x","criteria":"Observation?status=final","channel":{"type":"rest-hook","endpoint":"https://x.example/"}}`}, 403},
		{"a subscription within", s.given("system/Subscription.cruds system/Observation.rs", ""), []string{"PUT Subscription/sub", `{"resourceType":"Subscription","id":"sub","status":"off","reason":"x","criteria":"Observation?status=final","channel":{"type":"rest-hook","endpoint":"https://x.example/"}}`}, 201},
		{"an import", s.given("system/Observation.rs", ""), []string{"POST $import", "{}", "Prefer: respond-async", "Content-Type: application/fhir+ndjson"}, 403},
		{"a create where only a create is given", reads, []string{"POST Observation", observationJSON("", "laboratory", "m", "p1", "")}, 201},
		{"an update where none is given", reads, []string{"PUT Observation/o1", observationJSON("o1", "laboratory", "a", "p1", "")}, 403},
		{"a delete where none is given", reads, []string{"DELETE Observation/o1"}, 403},
		{"a search where none is given", blind, []string{"GET Observation"}, 403},
		{"a read where none is given", blind, []string{"GET Observation/o1"}, 403},
		{"a patch, which tells, where nothing may be read", blind, []string{"PATCH Observation/o1", `[{"op":"test","path":"/status","value":"amended"}]`, jsonPatch}, 403},
		{"a condition where nothing may be searched", blind, []string{"POST Observation", observationJSON("", "laboratory", "m", "p1", ""), "If-None-Exist: code=a"}, 403},
		{"$meta where nothing may be read", blind, []string{"GET Observation/o1/$meta"}, 403},
		{"without scopes that fit", s.given("system/Practitioner.rs", ""), []string{"GET Observation/o1"}, 403},
		{"scopes of a patient without one", s.given("patient/*.cruds", ""), []string{"GET Observation/o1"}, 403},
	} {
		t.Run(c.why, func(t *testing.T) {
			before := s.as("epr", "GET", "Observation?_summary=count", nil).text(t, "total")
			a := s.asked(c.token, c.ask).want(t, c.status)
			if a.StatusCode == 403 && !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="insufficient_scope", scope="`) {
				t.Errorf("the application is not told which scope it lacks: %q", a.Header.Get("WWW-Authenticate"))
			}
			if a.StatusCode >= 400 && s.as("epr", "GET", "Observation?_summary=count", nil).text(t, "total") != before {
				t.Error("refused, and something was written")
			}
		})
	}
	theirs := s.asked(lab, []string{"PUT Observation/o2", observationJSON("o2", "laboratory", "a", "p1", "")})
	another := s.do("PUT", "Practitioner/theirs", `{"resourceType":"Practitioner","id":"theirs"}`)
	if strings.ReplaceAll(string(another.body), "Practitioner", "Observation") != string(theirs.body) {
		t.Errorf("an id of what is hidden is refused as\n%s\nand of another system's as\n%s", theirs.body, another.body)
	}
	if a := s.asked(blind, []string{"PUT Observation/o1", observationJSON("o1", "laboratory", "a", "p1", "")}).want(t, 200); len(a.body) != 0 {
		t.Errorf("whoever may not read is given what was written: %s", a.body)
	}
	// A transaction in which one entry lies beyond does nothing at all.
	count := s.as("epr", "GET", "Observation?_summary=count", nil).text(t, "total")
	s.asked(lab, []string{"POST ", transaction(entry("POST", "Observation", "", strings.Replace(observationJSON("", "laboratory", "z", "p1", ""), `"id":"",`, "", 1)), entry("DELETE", "Condition/c1", "", ""))}).want(t, 403)
	s.asked(lab, []string{"POST ", transaction(entry("POST", "Observation", "", strings.Replace(observationJSON("", "laboratory", "z", "p1", ""), `"id":"",`, "", 1)),
		entry("POST", "Observation", "", strings.Replace(observationJSON("", "survey", "z", "p1", ""), `"id":"",`, "", 1)))}).want(t, 403)
	if now := s.as("epr", "GET", "Observation?_summary=count", nil).text(t, "total"); now != count {
		t.Errorf("%s entries before a transaction that was refused, %s after it", count, now)
	}
	s.as("epr", "GET", "Observation/o2", nil).want(t, 200)
	refused := 0
	for e, err := range s.audit.All(t.Context(), 0, 10_000) {
		must(t, err)
		if sum, err := e.Summary(); err == nil && sum.Kind == "denied" && strings.Contains(strings.Join(sum.What, " "), "such as") {
			refused++
		}
	}
	if refused < 15 {
		t.Errorf("%d refusals are in the audit log", refused)
	}
}

func TestAnApplicationLaunchedForOnePatientReachesNobodyElse(t *testing.T) {
	s := open(t)
	for _, body := range heldHere() {
		r, err := fhir.Parse([]byte(body))
		must(t, err)
		s.do("PUT", string(r.Ref()), body).want(t, 201)
	}
	person, err := s.people.PersonOf(t.Context(), "p1")
	must(t, err)
	app := s.given("patient/*.cruds", person)
	if got := found(t, s.as(app, "GET", "Patient", nil)); got != "p1" {
		t.Errorf("patients: %s", got)
	}
	for _, id := range strings.Fields(found(t, s.as(app, "GET", "Observation", nil))) {
		if !slices.Contains([]string{"o1", "o2", "o4", "o5"}, id) {
			t.Errorf("%s is somebody else's", id)
		}
	}
	s.as(app, "GET", "Practitioner/d1", nil).want(t, 200)
	for _, ask := range [][]string{{"GET Observation/o3"}, {"GET Patient/p2"}, {"GET Patient/p2/$everything"}, {"GET Observation/o3/_history"}} {
		s.asked(app, ask).want(t, 404)
	}
	for _, ask := range [][]string{{"POST Observation", observationJSON("", "laboratory", "n", "p2", "")}, {"POST Observation", observationJSON("", "laboratory", "n", "nobody", "")},
		{"POST Patient", patientJSON("New")}, {"PUT Practitioner/d1", `{"resourceType":"Practitioner","id":"d1"}`}, {"PUT Observation/o1", observationJSON("o1", "laboratory", "n", "p2", "")}} {
		s.asked(app, ask).want(t, 403)
	}
	s.asked(app, []string{"POST Observation", observationJSON("", "laboratory", "n", "p1", "")}).want(t, 201)
	if a := s.as(s.given("patient/*.cruds", "nobody"), "GET", "Patient", nil).want(t, 200); a.text(t, "total") != "0" {
		t.Errorf("launched for nobody: %s", a.body)
	}
}

func TestBulkJobsAreHeldToTheScopesTheyWereBegunWith(t *testing.T) {
	s := open(t)
	for _, body := range heldHere() {
		r, err := fhir.Parse([]byte(body))
		must(t, err)
		s.do("PUT", string(r.Ref()), body).want(t, 201)
	}
	lab := s.given("system/Observation.rs?category=laboratory", "")
	s.as(lab, "GET", "$export?_type=Condition", nil, "Prefer: respond-async").want(t, 403)
	begun := s.as(lab, "GET", "$export", nil, "Prefer: respond-async").want(t, 202)
	status := begun.Header.Get("Content-Location")
	for _, token := range []string{s.given("system/Observation.rs?category=vital-signs", ""), s.given("system/Condition.rs", ""), s.given("system/Observation.cuds", "")} {
		s.as(token, "GET", status, nil).want(t, 404)
		s.as(token, "DELETE", status, nil).want(t, 404)
	}
	var a answer
	for range 600 {
		if a = s.as(lab, "GET", status, nil); a.StatusCode != 202 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	lines := s.lines(a.want(t, 200).value(t), "output")
	if strings.Join(lines, " ") != "Observation/o1 Observation/o3 Observation/o6" {
		t.Errorf("given: %q", lines)
	}
	for _, token := range []string{"epr", s.given("system/*.rs", ""), s.given("system/Observation.cruds", "")} {
		s.as(token, "GET", status, nil).want(t, 200)
	}
	// What is brought in beyond the scopes is told of by its line, and not taken.
	in := s.as(s.given("system/Observation.cruds?category=laboratory", ""), "POST", "$import", observationJSON("i1", "laboratory", "i", "p1", "")+"\n"+observationJSON("i2", "survey", "i", "p1", "")+"\n",
		"Prefer: respond-async", "Content-Type: application/fhir+ndjson").want(t, 202)
	s.manifest(in)
	s.do("GET", "Observation/i1", nil).want(t, 200)
	s.do("GET", "Observation/i2", nil).want(t, 404)
	// And a name for a request is the application's own.
	body := strings.Replace(observationJSON("", "laboratory", "key", "p1", ""), `"id":"",`, "", 1)
	first := s.do("POST", "Observation", body, "Idempotency-Key: k").want(t, 201)
	second := s.as(s.given("system/Observation.c", ""), "POST", "Observation", body, "Idempotency-Key: k").want(t, 201)
	if first.Header.Get("Location") == second.Header.Get("Location") {
		t.Error("an application was told what another had done under the same key")
	}
}
