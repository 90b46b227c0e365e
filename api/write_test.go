package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"tombolo/audit"
	"tombolo/fhir"
)

// Create, read, update, version, delete: each with its status, headers and history. FHIR R4 http.html
func TestTheLifeOfAResource(t *testing.T) {
	s := open(t)
	made := s.do("POST", "Patient", patientJSON("Taylor")).want(t, 201)
	id := made.text(t, "id")
	if made.Header.Get("Location") != s.url+"/Patient/"+id+"/_history/1" || made.Header.Get("ETag") != `W/"1"` || made.Header.Get("Last-Modified") == "" {
		t.Errorf("headers of a create: %v", made.Header)
	}
	if made.text(t, "meta.versionId") != "1" || made.text(t, "meta.lastUpdated") == "" {
		t.Errorf("what was created lacks its meta: %s", made.body)
	}
	body := strings.Replace(patientJSON("Tailor"), `{`, `{"id":"`+id+`",`, 1)
	updated := s.do("PUT", "Patient/"+id, body).want(t, 200)
	if updated.Header.Get("ETag") != `W/"2"` {
		t.Errorf("an update gives version %s", updated.Header.Get("ETag"))
	}
	if again := s.do("PUT", "Patient/"+id, body).want(t, 200); again.Header.Get("ETag") != `W/"2"` {
		t.Errorf("an update that says the same made version %s", again.Header.Get("ETag"))
	}
	if got := s.do("GET", "Patient/"+id, nil).want(t, 200); got.text(t, "name.family") != "Tailor" || got.Header.Get("ETag") != `W/"2"` {
		t.Errorf("read %s", got.body)
	}
	if old := s.do("GET", "Patient/"+id+"/_history/1", nil).want(t, 200); old.text(t, "name.family") != "Taylor" {
		t.Errorf("version 1 is %s", old.body)
	}
	s.do("DELETE", "Patient/"+id, nil).want(t, 204)
	s.do("DELETE", "Patient/"+id, nil).want(t, 204) // again: as it should be
	s.do("GET", "Patient/"+id, nil).want(t, 410)
	s.do("GET", "Patient/"+id+"/_history/3", nil).want(t, 410)
	history := s.do("GET", "Patient/"+id+"/_history", nil).want(t, 200).value(t)
	var methods []string
	for m := range history.All("entry.request.method") {
		methods = append(methods, m.Str())
	}
	if got := strings.Join(methods, " "); got != "DELETE PUT POST" {
		t.Errorf("the history is %s", got)
	}
	if again := s.do("PUT", "Patient/"+id, body).want(t, 201); again.Header.Get("ETag") != `W/"4"` {
		t.Errorf("brought back as version %s", again.Header.Get("ETag"))
	}
}

func TestUpdateAsCreateKeepsTheClientsId(t *testing.T) {
	s := open(t)
	s.do("PUT", "Organization/rx1", `{"resourceType":"Organization","id":"rx1","name":"Trust"}`).want(t, 201)
	s.do("GET", "Organization/rx1", nil).want(t, 200)
	s.do("PUT", "Organization/rx1", `{"resourceType":"Organization","id":"rx2","name":"Trust"}`).want(t, 400)
	s.do("PUT", "Organization/rx1", `{"resourceType":"Organization","name":"Trust"}`).want(t, 400)
	s.do("PUT", "Organization/rx1", `{"resourceType":"Location","id":"rx1"}`).want(t, 400)
}

// What one system holds is not there for another: not to be read, found, changed or deleted, and nobody's record is written into by somebody else.
func TestASystemHasItsOwnRecordAndNobodyElses(t *testing.T) {
	s := open(t)
	s.do("PUT", "Patient/ann", `{"resourceType":"Patient","id":"ann","name":[{"family":"Taylor"}]}`).want(t, 201)
	strange := s.as("other", "GET", "Patient/nobody", nil).want(t, 404)
	for _, c := range []struct{ method, path string }{{"GET", "Patient/ann"}, {"GET", "Patient/ann/_history"}, {"GET", "Patient/ann/_history/1"}} {
		got := s.as("other", c.method, c.path, nil).want(t, 404)
		if c.path == "Patient/ann" && strings.ReplaceAll(string(got.body), "ann", "nobody") != string(strange.body) {
			t.Errorf("somebody else's is told of otherwise than nobody's:\n%s\n%s", got.body, strange.body)
		}
	}
	if n := s.as("other", "GET", "Patient?name=taylor", nil).want(t, 200).text(t, "total"); n != "0" {
		t.Errorf("another system finds %s", n)
	}
	if b := s.as("other", "GET", "_history", nil).want(t, 200); strings.Contains(string(b.body), "ann") {
		t.Error("another system's history tells of her")
	}
	observation := `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`
	theirs := s.as("other", "POST", "Observation", fmt.Sprintf(observation, "ann")).want(t, 422)
	nobodys := s.as("other", "POST", "Observation", fmt.Sprintf(observation, "nobody")).want(t, 422)
	if string(theirs.body) != string(nobodys.body) {
		t.Errorf("writing about somebody else's patient is refused otherwise than about nobody:\n%s\n%s", theirs.body, nobodys.body)
	}
	s.as("other", "PUT", "Patient/ann", `{"resourceType":"Patient","id":"ann","active":false}`).want(t, 409)
	s.as("other", "DELETE", "Patient/ann", nil).want(t, 204)
	s.do("GET", "Patient/ann", nil).want(t, 200)
	s.as("doctor", "PUT", "Patient/ann", `{"resourceType":"Patient","id":"ann"}`).want(t, 405)
	s.as("doctor", "GET", "Patient/ann/_history", nil).want(t, 403)
	s.as("nobody", "GET", "Patient/ann", nil).want(t, 401)
}

func TestEveryReadingAndWritingIsAudited(t *testing.T) {
	s := open(t)
	id := s.made(patientJSON("Taylor"))
	s.do("GET", id, nil).want(t, 200)
	s.do("GET", "Patient?name=taylor", nil).want(t, 200)
	kinds := map[string]int{}
	for e, err := range s.audit.All(t.Context(), 0, 0) {
		must(t, err)
		r, err := fhir.Parse(e.Body)
		must(t, err)
		if e.PersonID == "" {
			t.Errorf("an entry names nobody: %s", e.Body)
		}
		for c := range r.Value().All("subtype.code") {
			kinds[c.Str()]++
		}
	}
	for _, k := range []string{"create", "read", "search"} {
		if kinds[k] == 0 {
			t.Errorf("no %s was audited: %v", k, kinds)
		}
	}
}

// That there was something, and is no more, is told to whose it was and stands in the person's log, like all that is told of a record.
func TestThatSomethingWasDeletedIsAuditedToo(t *testing.T) {
	s := open(t)
	s.do("PUT", "Patient/ann", `{"resourceType":"Patient","id":"ann","birthDate":"1950-01-01"}`).want(t, 201)
	s.do("PUT", "Observation/gone", `{"resourceType":"Observation","id":"gone","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ann"}}`).want(t, 201)
	s.do("DELETE", "Observation/gone", nil).want(t, 204)
	entries := func() (n int, last audit.Entry) {
		for e, err := range s.audit.All(t.Context(), 0, 0) {
			must(t, err)
			n, last = n+1, e
		}
		return n, last
	}
	before, _ := entries()
	s.do("GET", "Observation/gone", nil).want(t, 410)
	after, last := entries()
	if after != before+1 || last.PersonID == "" || !strings.Contains(string(last.Body), "Observation/gone/_history/2") {
		t.Errorf("%d entries were written, the last of %q: %s", after-before, last.PersonID, last.Body)
	}
	s.as("other", "GET", "Observation/gone", nil).want(t, 404)
	if again, _ := entries(); again != after {
		t.Errorf("that there was something is told to somebody else, or recorded so: %d entries", again-after)
	}
}

func TestConditionsOfAWrite(t *testing.T) {
	s := open(t)
	ann := `{"resourceType":"Patient","identifier":[{"system":"urn:x","value":"1"}]}`
	first := s.do("POST", "Patient", ann, "If-None-Exist: identifier=urn:x|1").want(t, 201)
	again := s.do("POST", "Patient", ann, "If-None-Exist: identifier=urn:x|1").want(t, 200)
	if first.text(t, "id") != again.text(t, "id") {
		t.Error("a conditional create made a second one")
	}
	id := first.text(t, "id")
	s.do("PUT", "Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`, `If-Match: W/"9"`).want(t, 412)
	s.do("PUT", "Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`, "If-None-Match: *").want(t, 412)
	s.do("PATCH", "Patient/"+id, `[{"op":"add","path":"/active","value":true}]`, "Content-Type: application/json-patch+json", `If-Match: W/"9"`).want(t, 412)
	s.do("DELETE", "Patient/"+id, nil, `If-Match: W/"9"`).want(t, 412)
	s.do("PUT", "Patient?identifier=urn:x|1", ann, `If-Match: W/"1"`).want(t, 200)
	if got := s.do("PUT", "Patient?identifier=urn:x|2", strings.Replace(ann, `"1"`, `"2"`, 1)).want(t, 201); got.text(t, "id") == id {
		t.Error("a conditional update wrote over another")
	}
	s.do("POST", "Patient", strings.Replace(ann, `"1"`, `"2"`, 1)).want(t, 201)
	for _, method := range []string{"PUT", "DELETE"} {
		s.do(method, "Patient?identifier=urn:x|2", ann).want(t, 412)
	}
	s.do("POST", "Patient", ann, "If-None-Exist: identifier=urn:x|2").want(t, 412)
	s.do("POST", "Patient", ann, "If-None-Exist: identifer=urn:x|2").want(t, 400)
	s.do("DELETE", "Patient", nil).want(t, 400)
	s.do("DELETE", "Patient?identifier=urn:x|1", nil).want(t, 204)
	s.do("GET", "Patient/"+id, nil).want(t, 410)
	s.do("DELETE", "Patient?identifier=urn:x|1", nil).want(t, 204)
}

func TestConditionalReads(t *testing.T) {
	s := open(t)
	id := s.made(patientJSON("Taylor"))
	got := s.do("GET", id, nil).want(t, 200)
	for _, h := range []string{"If-None-Match: " + got.Header.Get("ETag"), "If-Modified-Since: " + got.Header.Get("Last-Modified"), `If-None-Match: "1"`, `If-None-Match: W/"7", W/"1"`} {
		if a := s.do("GET", id, nil, h).want(t, 304); len(a.body) > 0 {
			t.Errorf("%s: a body", h)
		}
	}
	s.do("GET", id, nil, `If-None-Match: W/"2"`, "If-Modified-Since: "+got.Header.Get("Last-Modified")).want(t, 200)
}

// Of many who create on the same condition at the same moment, one does. (HAPI #3141, MS #1382, LFH #2051)
func TestConditionalCreatesDoNotRace(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 8 {
		wg.Go(func() {
			req, _ := http.NewRequest("POST", s.url+"/Patient", strings.NewReader(`{"resourceType":"Patient","identifier":[{"system":"urn:x","value":"7"}]}`))
			req.Header.Set("Authorization", "Bearer epr")
			req.Header.Set("If-None-Exist", "identifier=urn:x|7")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			mu.Lock()
			statuses[res.StatusCode]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if statuses[201] != 1 || statuses[200] != 7 {
		t.Errorf("answers: %v, want one 201 and seven 200", statuses)
	}
	if n := s.do("GET", "Patient?identifier=urn:x|7", nil).want(t, 200).text(t, "total"); n != "1" {
		t.Errorf("%s were made", n)
	}
}

func TestPreferSaysWhatComesBack(t *testing.T) {
	s := open(t)
	if a := s.do("POST", "Patient", patientJSON("A"), "Prefer: return=minimal").want(t, 201); len(a.body) > 0 || a.Header.Get("Location") == "" {
		t.Errorf("minimal: %q", a.body)
	}
	if a := s.do("POST", "Patient", patientJSON("A"), "Prefer: return=representation; handling=strict").want(t, 201); a.text(t, "resourceType") != "Patient" {
		t.Errorf("representation: %s", a.body)
	}
	if a := s.do("POST", "Patient", patientJSON("A"), "Prefer: handling=lenient, return=OperationOutcome").want(t, 201); a.text(t, "resourceType") != "OperationOutcome" {
		t.Errorf("OperationOutcome: %s", a.body)
	}
}

func TestAJSONPatchChangesWhatItSaysAndNothingElse(t *testing.T) {
	s := open(t)
	id := s.made(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.00,"unit":"<&>"}}`)
	patch := func(body string) answer { return s.do("PATCH", id, body, "Content-Type: application/json-patch+json") }
	a := patch(`[{"op":"test","path":"/status","value":"final"},{"op":"replace","path":"/status","value":"amended"}]`).want(t, 200)
	if b := string(a.body); !strings.Contains(b, `"value":1.00`) || !strings.Contains(b, `<&>`) || a.text(t, "status") != "amended" || a.text(t, "meta.versionId") != "2" {
		t.Errorf("patched: %s", b)
	}
	patch(`[{"op":"test","path":"/status","value":"final"}]`).want(t, 422)
	patch(`[{"op":"remove","path":"/nothing"}]`).want(t, 422)
	patch(`[{"op":"replace","path":"/id","value":"other"}]`).want(t, 422)
	patch(`[{"op":"replace","path":"/resourceType","value":"Nothing"}]`).want(t, 400)
	patch(`{"op":"remove"}`).want(t, 400)
	s.do("PATCH", id, `<x/>`, "Content-Type: application/xml-patch+xml").want(t, 415)
	if v := s.do("GET", id, nil).want(t, 200).text(t, "meta.versionId"); v != "2" {
		t.Errorf("patches that were refused left version %s", v)
	}
}

// What cannot be is refused whole, in words, and nothing of it is written.
func TestWhatIsRefused(t *testing.T) {
	s := open(t)
	deep := strings.Repeat(`{"extension":[`, 60) + strings.Repeat(`]}`, 60)
	for _, c := range []struct {
		name, body string
		status     int
	}{
		{"nothing", "", 400},
		{"no JSON", "{", 400},
		{"a name twice", `{"resourceType":"Patient","active":true,"active":false}`, 400},
		{"no UTF-8", "{\"resourceType\":\"Patient\",\"language\":\"\xff\"}", 400},
		{"no resource", `[]`, 400},
		{"no type", `{"active":true}`, 400},
		{"an unknown type", `{"resourceType":"Nobody"}`, 400},
		{"another type", `{"resourceType":"Organization"}`, 400},
		{"an id that cannot be", `{"resourceType":"Patient","id":"a b"}`, 400},
		{"too deep", `{"resourceType":"Patient","extension":[` + deep + `]}`, 400},
	} {
		t.Run(c.name, func(t *testing.T) { s.do("POST", "Patient", c.body).want(t, c.status) })
	}
	s.do("POST", "Patient", patientJSON("A"), "Content-Type: text/plain").want(t, 415)
	s.do("POST", "Nobody", patientJSON("A")).want(t, 404)
	s.do("PUT", "Patient/9990000107", `{"resourceType":"Patient","id":"9990000107"}`).want(t, 422)
	s.do("GET", "Patient?identifier=9990000107", nil).want(t, 422)
	s.do("GET", "Patient?identifier=https://fhir.nhs.uk/Id/nhs-number%7C9990000107", nil).want(t, 422)
	if n := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); n != "0" {
		t.Errorf("%s were written", n)
	}
}
