package api_test

import (
	"fmt"
	"strings"
	"testing"
)

func transaction(entries ...string) string {
	return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
}

func entry(method, url, fullURL, resource string, more ...string) string {
	e := fmt.Sprintf(`{"request":{"method":%q,"url":%q%s}`, method, url, strings.Join(more, ""))
	if fullURL != "" {
		e += fmt.Sprintf(`,"fullUrl":%q`, fullURL)
	}
	if resource != "" {
		e += `,"resource":` + resource
	}
	return e + `}`
}

const (
	uuidA = "urn:uuid:8a2b1f6e-6f7f-4a54-9f06-0b1a51d1f3a1"
	uuidB = "urn:uuid:8a2b1f6e-6f7f-4a54-9f06-0b1a51d1f3b2"
)

// Links inside a transaction, by urn:uuid, absolute and relative fullUrl, Type/id, and condition, become references to what they mean.
func TestATransactionsLinksAreResolved(t *testing.T) {
	s := open(t)
	s.made(`{"resourceType":"Practitioner","identifier":[{"system":"urn:gmc","value":"C1"}]}`)
	about := func(ref, more string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"` + ref + `"}` + more + `}`
	}
	a := s.do("POST", "", transaction(
		entry("POST", "Observation", uuidB, about(uuidA, `,"performer":[{"reference":"Practitioner?identifier=urn:gmc|C1"}],"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"`+uuidA+`\">her</a></div>"}`)),
		entry("POST", "Observation", "", about("Patient/bob", "")),
		entry("POST", "Observation", "http://x.example/fhir/Observation/9", about("Patient/7", "")),
		entry("POST", "Patient", "http://x.example/fhir/Patient/7", `{"resourceType":"Patient"}`),
		entry("POST", "Patient", "", `{"resourceType":"Patient","id":"bob"}`),
		entry("POST", "DocumentReference", "", `{"resourceType":"DocumentReference","status":"current","subject":{"reference":"`+uuidA+`"},"content":[{"attachment":{"url":"`+uuidB+`"}}]}`),
		entry("POST", "Patient", uuidA, `{"resourceType":"Patient","id":"zzz"}`),
	)).want(t, 200)
	v := a.value(t)
	var refs []string
	for l := range v.All("entry.response.location") {
		ref, _, _ := strings.Cut(l.Str(), "/_history")
		refs = append(refs, ref)
	}
	if v.Text("type") != "transaction-response" || len(refs) != 7 {
		t.Fatalf("answer: %s", a.body)
	}
	for i, want := range []string{refs[6], refs[4], refs[3]} {
		got := s.do("GET", refs[i], nil).want(t, 200)
		if got.text(t, "subject.reference") != want {
			t.Errorf("entry %d is about %s, want %s", i, got.text(t, "subject.reference"), want)
		}
		if i == 0 && (!strings.HasPrefix(got.text(t, "performer.reference"), "Practitioner/") || !strings.Contains(got.text(t, "text.div"), refs[6])) {
			t.Errorf("a conditional reference or the narrative was left: %s", got.body)
		}
	}
	if url := s.do("GET", refs[5], nil).want(t, 200).text(t, "content.attachment.url"); url != refs[0] {
		t.Errorf("the attachment's address is %s, want %s", url, refs[0])
	}
}

// A transaction that cannot be done whole is not done at all.
func TestATransactionIsAllOrNothing(t *testing.T) {
	s := open(t)
	good := entry("POST", "Patient", "", patientJSON("A"))
	for _, c := range []struct {
		name   string
		bad    string
		status int
		where  string
	}{
		{"a dangling urn:uuid", entry("POST", "Observation", "", `{"resourceType":"Observation","subject":{"reference":"`+uuidB+`"}}`), 404, "Bundle.entry[1]"},
		{"a patient who is not there", entry("POST", "Observation", "", `{"resourceType":"Observation","subject":{"reference":"Patient/nobody"}}`), 422, "Bundle.entry[1]"},
		{"a condition that nothing answers", entry("POST", "Observation", "", `{"resourceType":"Observation","performer":[{"reference":"Practitioner?identifier=x|y"}]}`), 404, "Bundle.entry[1]"},
		{"no method", `{"resource":{"resourceType":"Patient"}}`, 400, "Bundle.entry[1].request.method"},
		{"a method there is not", entry("SING", "Patient", "", `{"resourceType":"Patient"}`), 400, "Bundle.entry[1]"},
		{"no resource", entry("POST", "Patient", "", ""), 400, "Bundle.entry[1].resource"},
		{"null", `null`, 400, "Bundle.entry[1].request.method"},
		{"a version that is not", entry("PUT", "Patient/x", "", `{"resourceType":"Patient","id":"x"}`, `,"ifMatch":"W/\"3\""`), 412, "Bundle.entry[1]"},
		{"the same twice", entry("PUT", "Patient/x", "", `{"resourceType":"Patient","id":"x"}`) + "," + entry("DELETE", "Patient/x", "", ""), 422, "Bundle.entry[2].request.url"},
		{"a read of nothing", entry("GET", "Patient/nobody", "", ""), 404, "Bundle.entry[1].request.url"},
		{"a wrong address", entry("PUT", "Patient/a/b", "", `{"resourceType":"Patient","id":"x"}`), 400, "Bundle.entry[1].request.url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do("POST", "", transaction(good, c.bad))
			if a.StatusCode != c.status {
				t.Errorf("%d, want %d: %s", a.StatusCode, c.status, a.body)
			}
			if got := a.text(t, "issue.expression"); !strings.HasPrefix(got, c.where) {
				t.Errorf("it says where: %q, want %q", got, c.where)
			}
		})
	}
	if n := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); n != "0" {
		t.Errorf("%s were written", n)
	}
}

// DELETE, POST, PUT and PATCH, GET, whatever the order of the entries; the answers are in the order of the entries. FHIR R4 http.html#trules
func TestTheOrderOfATransaction(t *testing.T) {
	s := open(t)
	s.do("PUT", "Organization/a", `{"resourceType":"Organization","id":"a","name":"old"}`).want(t, 201)
	s.do("PUT", "Organization/b", `{"resourceType":"Organization","id":"b","name":"old","identifier":[{"system":"urn:x","value":"1"}]}`).want(t, 201)
	v := s.do("POST", "", transaction(
		entry("GET", "Organization/a", "", ""),
		entry("PUT", "Organization/a", "", `{"resourceType":"Organization","id":"a","name":"new"}`),
		entry("POST", "Organization", "", `{"resourceType":"Organization","identifier":[{"system":"urn:x","value":"1"}]}`, `,"ifNoneExist":"identifier=urn:x|1"`),
		entry("DELETE", "Organization/b", "", ""),
	)).want(t, 200).value(t)
	var got []string
	for r := range v.All("entry.response.status") {
		got = append(got, r.Str()[:3])
	}
	if name := v.Text("entry.resource.name"); name != "new" {
		t.Errorf("the read gave %q: it comes last", name)
	}
	// The conditional create finds b as it was before the transaction or after its deletion: FHIR says deletions come first.
	if fmt.Sprint(got) != "[200 200 201 204]" {
		t.Errorf("statuses %v", got)
	}
}

func TestABatchsEntriesStandByThemselves(t *testing.T) {
	s := open(t)
	s.do("PUT", "Organization/a", `{"resourceType":"Organization","id":"a"}`).want(t, 201)
	a := s.do("POST", "", strings.Replace(transaction(
		entry("GET", "Organization/nothing", "", ""),
		entry("POST", "Organization", "", `{"resourceType":"Organization","name":"B"}`),
		entry("POST", "Organization", "", `{"resourceType":"Location"}`),
		entry("PATCH", "Organization/a", "", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL25hbWUiLCJ2YWx1ZSI6IkEifV0="}`),
		entry("GET", "Organization?name=a", "", ""),
		`{"request":{"method":"POST","url":"Organization"}}`,
	), `"transaction"`, `"batch"`, 1)).want(t, 200)
	var got []string
	for r := range a.value(t).All("entry.response.status") {
		got = append(got, r.Str()[:3])
	}
	if fmt.Sprint(got) != "[404 201 400 200 200 400]" {
		t.Errorf("statuses %v: %s", got, a.body)
	}
	if a.text(t, "entry.response.outcome.resourceType") != "OperationOutcome" {
		t.Error("an entry that failed has no outcome")
	}
}

// A request that is sent again under its key is done once, and answered alike. (WSO2, LFH #1281: outcomes that the client never heard of)
func TestARequestIsDoneOnceUnderItsKey(t *testing.T) {
	s := open(t)
	for range 2 {
		s.do("POST", "Patient", patientJSON("A"), "Idempotency-Key: k1").want(t, 201)
	}
	s.do("POST", "Patient", patientJSON("B"), "Idempotency-Key: k1").want(t, 422)
	bundle := strings.Replace(transaction(entry("POST", "Patient", "", patientJSON("C"))), `{`, `{"identifier":{"system":"urn:b","value":"1"},`, 1)
	first, second := s.do("POST", "", bundle).want(t, 200), s.do("POST", "", bundle).want(t, 200)
	if string(first.body) != string(second.body) {
		t.Errorf("answers differ:\n%s\n%s", first.body, second.body)
	}
	if n := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); n != "2" {
		t.Errorf("%s were made, want 2", n)
	}
}

// A condition may name another entry by its fullUrl, wherever that stands: it means what the entry turns out to be about, whether that was there or is made now. Conditions
// that wait for each other are refused whole; resources that refer to each other are not conditions, and are linked.
func TestAConditionMayNameAnotherEntry(t *testing.T) {
	s := open(t)
	patient := entry("POST", "Patient", uuidA, `{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"7"}]}`, `,"ifNoneExist":"identifier=urn:mrn|7"`)
	result := entry("POST", "Observation", uuidB, `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"urn:c","code":"hb"}]},"subject":{"reference":"`+uuidA+`"}}`,
		`,"ifNoneExist":"subject=`+uuidA+`&code=urn:c%7Chb"`)
	for again := range 2 { // the second time both are there
		s.do("POST", "", transaction(result, patient)).want(t, 200)
		for _, typ := range []string{"Patient", "Observation"} {
			if total := s.do("GET", typ+"?_summary=count", nil).want(t, 200).text(t, "total"); total != "1" {
				t.Errorf("sent %d times: there are %s of %s, want 1", again+1, total, typ)
			}
		}
	}

	waiting := func(at, of string) string {
		return entry("POST", "Basic", at, `{"resourceType":"Basic","code":{"text":"x"}}`, `,"ifNoneExist":"subject=`+of+`"`)
	}
	for name, entries := range map[string][]string{"each other": {waiting(uuidA, uuidB), waiting(uuidB, uuidA)}, "itself": {waiting(uuidA, uuidA)}} {
		a := s.do("POST", "", transaction(append(entries, entry("POST", "Location", "", `{"resourceType":"Location"}`))...)).want(t, 422)
		if at := a.text(t, "issue.expression"); !strings.HasPrefix(at, "Bundle.entry[") {
			t.Errorf("a condition that waits for %s: told at %q: %s", name, at, a.body)
		}
		if total := s.do("GET", "Location?_summary=count", nil).want(t, 200).text(t, "total"); total != "0" {
			t.Errorf("a condition that waits for %s: the rest was written all the same", name)
		}
	}

	a := s.do("POST", "", transaction(
		entry("POST", "Encounter", uuidA, `{"resourceType":"Encounter","status":"finished","class":{"code":"IMP"},"diagnosis":[{"condition":{"reference":"`+uuidB+`"}}]}`),
		entry("POST", "Condition", uuidB, `{"resourceType":"Condition","subject":{"display":"x"},"encounter":{"reference":"`+uuidA+`"}}`))).want(t, 200)
	encounter, _, _ := strings.Cut(a.text(t, "entry.response.location"), "/_history")
	condition := s.do("GET", encounter, nil).want(t, 200).text(t, "diagnosis.condition.reference")
	if got := s.do("GET", condition, nil).want(t, 200).text(t, "encounter.reference"); got != encounter {
		t.Errorf("resources that refer to each other: %s says that it is of %s, want %s", condition, got, encounter)
	}
}
