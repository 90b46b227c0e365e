package api_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/kv/enginetest"
)

// A pair of entries of a batch, of which one is permitted and one is not, does what the two do by themselves: each is answered the same, and what is refused takes nothing with it and lets nothing through; in either
// order. A transaction of the two does nothing.
func TestEachEntryOfABatchIsDecidedByItself(t *testing.T) {
	lab := func(id, code string) string {
		return strings.Replace(observationJSON(id, "laboratory", code, "p1", ""), `"id":"",`, "", 1)
	}
	type ask struct {
		method, url, body, more string // more is of the entry's request
		headers                 []string
	}
	permitted := []ask{
		{"GET", "Observation/o1", "", "", nil}, {"GET", "Observation?category=laboratory&_sort=_id", "", "", nil}, {"PUT", "Observation/o1", lab("o1", "changed"), "", nil}, {"PUT", "Observation/new", lab("new", "a"), "", nil},
		{"DELETE", "Observation/o3", "", "", nil}, {"POST", "Observation", lab("", "nobody-has-it"), `,"ifNoneExist":"code=nobody-has-it"`, []string{"If-None-Exist: code=nobody-has-it"}},
		{"PATCH", "Observation?code=a&category=laboratory&patient=p1&_id=o1", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W3sib3AiOiJyZXBsYWNlIiwicGF0aCI6Ii9zdGF0dXMiLCJ2YWx1ZSI6ImFtZW5kZWQifV0="}`, "", nil},
	}
	refused := []ask{
		{"GET", "Observation/o2", "", "", nil}, {"GET", "Condition/c1", "", "", nil}, {"GET", "Condition?clinical-status=resolved", "", "", nil}, {"PUT", "Observation/o2", lab("o2", "a"), "", nil},
		{"PUT", "Observation/out", strings.Replace(lab("out", "a"), "laboratory", "vital-signs", 1), "", nil}, {"POST", "Condition", `{"resourceType":"Condition","subject":{"reference":"Patient/p1"}}`, `,"ifNoneExist":"clinical-status=resolved"`, []string{"If-None-Exist: clinical-status=resolved"}},
		{"DELETE", "Condition/c1", "", "", nil}, {"PATCH", "Observation/o2", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W10="}`, "", nil},
	}
	seeded := func(t *testing.T) *site { // closed when that test ends: a database server has so many connections
		t.Helper()
		s := open(t)
		for _, body := range heldHere() {
			r, err := fhir.Parse([]byte(body))
			must(t, err)
			s.do("PUT", string(r.Ref()), body).want(t, 201)
		}
		return s
	}
	given := func(s *site) string { return s.given("system/Observation.cruds?category=laboratory", "") }
	state := func(s *site) string {
		var held []string
		for _, of := range []string{"Observation", "Condition"} {
			for e := range s.as("epr", "GET", of+"?_count=100", nil).want(t, 200).value(t).All("entry.resource") {
				held = append(held, differs.ReplaceAllString(string(e.Raw()), "·"))
			}
		}
		slices.Sort(held) // ids that were made up are in no order
		return strings.Join(held, "\n")
	}
	alone := func(s *site, a ask) answer {
		body, headers := any(a.body), a.headers
		if a.body == "" {
			body = nil
		}
		if a.method == "PATCH" {
			body, headers = map[bool]string{true: `[]`, false: `[{"op":"replace","path":"/status","value":"amended"}]`}[strings.Contains(a.url, "o2")], append(headers, "Content-Type: application/json-patch+json")
		}
		return s.as(given(s), a.method, a.url, body, headers...)
	}
	in := func(a ask) string { return entry(a.method, a.url, "", a.body, a.more) }
	// told is what an entry, or an answer by itself, comes to: its status, what is wrong, or what was found.
	told := func(status string, outcome, resource fhir.Value) string {
		code, _, _ := strings.Cut(status, " ")
		found := ""
		for e := range resource.All("entry") {
			found += e.Text("resource.id") + " "
		}
		return code + " " + outcome.Text("issue.diagnostics") + " " + resource.Text("id") + found
	}
	byItself, after, was := map[string]string{}, map[string]string{}, ""
	for i, a := range append(append([]ask{}, permitted...), refused...) {
		t.Run(a.method+" "+a.url+" by itself", func(t *testing.T) {
			s := seeded(t)
			before := state(s)
			got := alone(s, a)
			var v fhir.Value
			if len(got.body) > 0 {
				v = got.value(t)
			}
			if got.StatusCode >= 400 {
				byItself[in(a)] = told(strconv.Itoa(got.StatusCode), v, fhir.Value{})
			} else {
				byItself[in(a)] = told(strconv.Itoa(got.StatusCode), fhir.Value{}, v)
			}
			after[in(a)], was = state(s), before
			if ok := got.StatusCode < 400; ok != (i < len(permitted)) {
				t.Fatalf("%s %s by itself: %d %s", a.method, a.url, got.StatusCode, got.body)
			}
			if i >= len(permitted) && after[in(a)] != before {
				t.Fatalf("%s %s is refused and does something", a.method, a.url)
			}
		})
	}
	pairs := 0
	for i, p := range permitted {
		for j, r := range refused {
			if enginetest.PostgreSQL() && (i+j)%4 > 0 {
				continue // each takes a record of its own
			}
			order := []ask{p, r}
			if (i+j)%2 == 1 {
				order = []ask{r, p}
			}
			t.Run(p.method+" "+p.url+" beside "+r.method+" "+r.url, func(t *testing.T) {
				s := seeded(t)
				if p.method != "GET" && r.method != "GET" {
					s.as(given(s), "POST", "", transaction(in(order[0]), in(order[1])))
					if got := state(s); got != was {
						t.Fatalf("%s %s and %s %s in one transaction, of which one is refused, do something:\n%s", order[0].method, order[0].url, order[1].method, order[1].url, got)
					}
				}
				got := s.as(given(s), "POST", "", strings.Replace(transaction(in(order[0]), in(order[1])), `"transaction"`, `"batch"`, 1)).want(t, 200)
				n := 0
				for e := range got.value(t).All("entry") {
					resource := fhir.Value{}
					if order[n].method == "GET" || order[n].method == "POST" || order[n].method == "PUT" || order[n].method == "PATCH" {
						resource = e.Get("resource")
					}
					if have, want := told(e.Text("response.status"), e.Get("response.outcome"), resource), byItself[in(order[n])]; differs.ReplaceAllString(have, "·") != differs.ReplaceAllString(want, "·") {
						t.Errorf("%s %s in a batch beside %s %s: %q, and %q by itself", order[n].method, order[n].url, order[1-n].method, order[1-n].url, have, want)
					}
					n++
				}
				if n != 2 {
					t.Fatalf("%d answers: %s", n, got.body)
				}
				if now := state(s); now != after[in(p)] {
					t.Errorf("%s %s beside %s %s leaves\n%s\nand by itself\n%s", p.method, p.url, r.method, r.url, now, after[in(p)])
				}
			})
			pairs++
		}
	}
	if pairs < 10 {
		t.Error(fmt.Sprint("only ", pairs, " pairs"))
	}
}
