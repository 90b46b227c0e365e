package api_test

import (
	"strings"
	"testing"
)

// What integrators get wrong is told them so that they can mend it: which status, where, and in which words.
func TestMistakesAreToldSoThatTheyCanBeMended(t *testing.T) {
	s := open(t)
	s.smallWard()
	patch := []string{"Content-Type: application/json-patch+json"}
	form := []string{"Content-Type: application/x-www-form-urlencoded"}
	for _, m := range []struct {
		method, path, body string
		headers            []string
		status             int
		where, words       string
	}{
		{"POST", "Patient", `{"resourceType":"Patient","name":[{"family":"A","family":"B"}]}`, nil, 400, "", "stands twice in one object at byte 48 (line 1)"},
		{"POST", "Patient", `{"resourceType":"Patient","name":{"family":"A"}}`, nil, 400, "Patient.name", "this is a list: write [ … ]"},
		{"POST", "Patient", `{"resourceType":"Patient","nme":[{}]}`, nil, 400, "Patient", `Did you mean name?`},
		{"POST", "Patient", `{"resourceType":"Patient","birthDate":"1948-02-30"}`, nil, 400, "Patient.birthDate", "this is no date"},
		{"POST", "Patient", "{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"\xff\"}]}", nil, 400, "", "not UTF-8 at byte 45"},
		{"POST", "Patient", `{"resourceType":"Patient","name":[{"family":"a\u0000b"}]}`, nil, 400, "Patient.name[0].family", "NUL"},
		{"POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1e99999}}`, nil, 400, "Observation.value.ofType(Quantity).value", "at most 100 digits"},
		{"POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/nobody"}}`, nil, 422, "Observation", "create the Patient first"},
		{"POST", "Patient", `{"resourceType":"Patient"}`, []string{"Content-Type: application/fhir+json; charset=iso-8859-1"}, 415, "Content-Type", "UTF-8"},
		{"POST", "Patient/ann", `{"resourceType":"Patient","id":"ann"}`, nil, 405, "", "created by POST to its type, and changed by PUT"},
		{"PUT", "", `{}`, nil, 405, "", "takes GET, HEAD, POST"},
		{"PUT", "Patient/ann", `{"resourceType":"Patient","id":"ann"}`, []string{"If-Match: 1a"}, 412, "If-Match", `W/"1"`},
		{"GET", "Patient/ann/$frobnicate", "", nil, 404, "", "there is no operation \"$frobnicate\" at Patient/[id]/$frobnicate"},
		{"POST", "$frobnicate", `{}`, nil, 404, "", "there is no operation"},
		{"POST", "Patient/ann/$frobnicate", `{}`, nil, 404, "", "there is no operation"},
		{"GET", "Patient/$everything", "", nil, 404, "", "there is no operation \"$everything\" at [type]/$everything"},
		{"PATCH", "Patient/ann", `[{"op":"test","path":"/id","value":"ann"},{"op":"replace","path":"/name/4/family","value":"x"}]`, patch, 422, "[1]", `replace "/name/4/family" does not fit`},
		{"PATCH", "Patient/ann", `[{"op":"add","path":"/active","value":true},{"op":"test","path":"/gender","value":"SECRET"},{"op":"remove","path":"/active"}]`, patch, 422, "[1]", `the test of "/gender" does not hold`},
		{"PATCH", "Patient/ann", `[{"op":"frob","path":"/x"}]`, patch, 400, "[0].op", "add, remove, replace"},
		{"PATCH", "Patient/ann", `[{"op":"remove"}]`, patch, 400, "[0].path", "has a path"},
		{"GET", "Patient?famly=x", "", nil, 400, "famly", "Did you mean family?"},
		{"GET", "Patient?_elements=shoe", "", nil, 400, "_elements", `Patient has no element "shoe"`},
		{"GET", "Patient/ann?_elements=shoe", "", nil, 400, "_elements", `Patient has no element "shoe"`},
		{"GET", "Patient?_type=Patient", "", nil, 400, "_type", "[base]?_type="},
		{"GET", "?name=x", "", nil, 400, "name", "say which types with _type="},
		{"POST", "Patient/_search", `{"family":"x"}`, nil, 415, "Content-Type", "application/x-www-form-urlencoded"},
		{"POST", "_search", `{"family":"x"}`, nil, 415, "Content-Type", "application/x-www-form-urlencoded"},
		{"POST", "Patient/_search", "famly=x", form, 400, "famly", "Did you mean family?"},
		{"POST", "", `{"resourceType":"Bundle","type":"transaction","entries":[{}]}`, nil, 400, "Bundle", `no element "entries"`},
		{"POST", "", transaction(`{"requests":1,"request":{"method":"POST","url":"Basic"},"resource":{"resourceType":"Basic","code":{"text":"x"}}}`), nil, 400, "Bundle.entry[0]", `no element "requests"`},
		{"POST", "", transaction(entry("FETCH", "Patient", "", "")), nil, 400, "Bundle.entry[0].request.method", "GET, POST, PUT, PATCH or DELETE"},
		{"POST", "", transaction(entry("PUT", "Patient/x1", "", `{"resourceType":"Patient","id":"x1","frob":1}`)), nil, 400, "Bundle.entry[0].resource", `no element "frob"`},
		{"POST", "", transaction(entry("POST", "Basic", uuidA, `{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"`+uuidB+`"}}`)), nil, 404, "Bundle.entry[0].resource", "no entry of this transaction has that fullUrl"},
		{"GET", "_history?_since=yesterday", "", nil, 400, "_since", "an instant such as"},
	} {
		var body any
		if m.body != "" {
			body = m.body
		}
		a := s.do(m.method, m.path, body, m.headers...)
		where, words := a.text(t, "issue.expression"), a.text(t, "issue.diagnostics")
		if a.StatusCode != m.status || where != m.where || !strings.Contains(words, m.words) || a.text(t, "resourceType") != "OperationOutcome" {
			t.Errorf("%s %s %s: answered %d at %q: %s\nwant %d at %q: … %s", m.method, m.path, m.body, a.StatusCode, where, words, m.status, m.where, m.words)
		}
		if strings.Contains(string(a.body), "SECRET") {
			t.Errorf("a value is repeated: %s", a.body)
		}
	}
	if left := s.do("GET", "Basic", nil).want(t, 200).text(t, "total"); left != "0" {
		t.Errorf("%s of what was refused is there", left)
	}
	// An entry of a batch that is misshapen fails by itself.
	a := s.do("POST", "", strings.Replace(transaction(`{"requests":1,"request":{"method":"GET","url":"Patient/ann"}}`, entry("GET", "Patient/ann", "", "")), "transaction", "batch", 1)).want(t, 200)
	var statuses []string
	for e := range a.value(t).All("entry.response.status") {
		statuses = append(statuses, e.Str())
	}
	if got := strings.Join(statuses, ", "); got != "400 Bad Request, 200 OK" {
		t.Errorf("its entries were answered %s", got)
	}
}

// Operations that change nothing are asked for by GET, and by POST with their parameters in the body, as several public clients always do.
func TestOperationsAreAskedForByPOSTToo(t *testing.T) {
	s := open(t)
	s.smallWard()
	for get, body := range map[string]string{
		"Patient/ann/$everything?_type=Observation":           `{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Observation"}]}`,
		"Patient/ann/$everything?_count=1":                    `{"resourceType":"Parameters","parameter":[{"name":"_count","valueInteger":1}]}`,
		"Observation/$lastn?patient=Patient/ann":              `{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Patient/ann"}}]}`,
		"Patient/ann/$meta":                                   `{"resourceType":"Parameters"}`,
		"Patient/ann/$everything?_since=2999-01-01T00:00:00Z": `{"resourceType":"Parameters","parameter":[{"name":"_since","valueInstant":"2999-01-01T00:00:00Z"}]}`,
	} {
		path, _, _ := strings.Cut(get, "?")
		one, other := s.do("GET", get, nil).want(t, 200), s.do("POST", path, body).want(t, 200)
		if string(one.body) != string(other.body) {
			t.Errorf("%s: by GET %.400s\nby POST %.400s", get, one.body, other.body)
		}
	}
	s.do("POST", "Patient/ann/$everything", nil).want(t, 200)
	s.do("POST", "Patient/ann/$summary", nil).want(t, 200)
	s.do("POST", "Patient/ann/$everything", `{"resourceType":"Parameters","parameter":[{"name":"_types","valueCode":"x"}]}`).want(t, 400)
	s.do("POST", "Patient/ann/$everything", `{"resourceType":"Patient"}`).want(t, 400)
}
