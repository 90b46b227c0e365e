package api_test

import (
	"fmt"
	"strings"
	"testing"
)

// The key is the request's: what is asked of another address, or under another condition, is not taken for what was done, though the bytes are the same.
func TestAKeyIsOfOneRequestOnly(t *testing.T) {
	s := open(t)
	const result = `{"resourceType":"Observation","id":"%s","status":"final","code":{"text":"hb"}}`
	for _, id := range []string{"a", "b"} {
		s.do("PUT", "Observation/"+id, fmt.Sprintf(result, id)).want(t, 201)
	}
	const patch = `[{"op":"replace","path":"/status","value":"amended"}]`
	json := "Content-Type: application/json-patch+json"
	for range 2 {
		s.do("PATCH", "Observation/a", patch, json, "Idempotency-Key: p").want(t, 200)
	}
	s.do("PATCH", "Observation/b", patch, json, "Idempotency-Key: p").want(t, 422)
	if got := s.do("GET", "Observation/a", nil).want(t, 200).text(t, "meta.versionId"); got != "2" {
		t.Errorf("patched twice under one key it is at version %s, want 2", got)
	}
	if got := s.do("GET", "Observation/b", nil).want(t, 200).text(t, "status"); got != "final" {
		t.Errorf("what was refused was done: %s", got)
	}
	s.do("DELETE", "Observation?_id=a", nil, "Idempotency-Key: d").want(t, 204)
	s.do("DELETE", "Observation?_id=a", nil, "Idempotency-Key: d").want(t, 204)
	s.do("DELETE", "Observation?_id=b", nil, "Idempotency-Key: d").want(t, 422)
	s.do("GET", "Observation/b", nil).want(t, 200)

	tag := `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:ward","code":"x"}]}}]}`
	s.do("POST", "Observation/b/$meta-add", tag, "Idempotency-Key: m").want(t, 200)
	s.do("POST", "Observation/b/$meta-delete", tag).want(t, 200)
	s.do("POST", "Observation/b/$meta-add", tag, "Idempotency-Key: m").want(t, 200) // done before: not again
	if now := s.do("GET", "Observation/b", nil).want(t, 200); strings.Contains(string(now.body), "urn:ward") {
		t.Errorf("a tag that was taken away since came back: %s", now.body)
	}
	s.do("POST", "Observation/b/$meta-delete", tag, "Idempotency-Key: m").want(t, 422)
}

// A batch that is sent again under its key does what failed, and nothing twice.
func TestABatchIsDoneOnceUnderItsKey(t *testing.T) {
	s := open(t)
	batch := strings.Replace(transaction(
		entry("POST", "Patient", "", patientJSON("A")),
		entry("POST", "Observation", "", `{"resourceType":"Observation","status":"final","code":{"text":"hb"}}`),
		entry("GET", "Patient", "", ""),
	), "transaction", "batch", 1)
	var first string
	for range 3 {
		a := s.do("POST", "", batch, "Idempotency-Key: k").want(t, 200)
		at := a.text(t, "entry.response.location")
		if first == "" {
			first = at
		}
		if at != first || at == "" {
			t.Errorf("it was made at %q, and at %q when it came again", first, at)
		}
	}
	for _, typ := range []string{"Patient", "Observation"} {
		if n := s.do("GET", typ, nil).want(t, 200).text(t, "total"); n != "1" {
			t.Errorf("%s of %s were made, want 1", n, typ)
		}
	}
	s.do("POST", "", batch).want(t, 200) // without a key each stands for itself
	if n := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); n != "2" {
		t.Errorf("%s were made, want 2", n)
	}
}

// A count is of a system's own record, as every other search of it is: it tells nothing of how much others hold.
func TestACountIsOfOnesOwnRecord(t *testing.T) {
	s := open(t)
	result := func(id string) string {
		return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"urn:c","code":"hb"}]}}`, id)
	}
	s.do("PUT", "Observation/ours", result("ours")).want(t, 201)
	for _, id := range []string{"theirs-1", "theirs-2"} {
		s.as("other", "PUT", "Observation/"+id, result(id)).want(t, 201)
	}
	for token, want := range map[string]string{"epr": "1", "other": "2"} {
		for _, query := range []string{"code=urn:c|hb&_summary=count", "code=urn:c|hb&_total=accurate&_count=1", "code=urn:c|hb,urn:c|wbc&_summary=count", "status=final&_summary=count"} {
			if got := s.as(token, "GET", "Observation?"+query, nil).want(t, 200).text(t, "total"); got != want {
				t.Errorf("%s counts %s by %s, want %s", token, got, query, want)
			}
		}
	}
}
