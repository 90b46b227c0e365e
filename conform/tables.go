package conform

import (
	"fmt"
	"slices"
	"strings"
)

const ward = `{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:5b0b2c0e-30a5-4e1f-9d1d-6f1f6a0c0001","request":{"method":"PUT","url":"Organization/conform-org"},"resource":{"resourceType":"Organization","id":"conform-org","name":"Conform Trust"}},
{"fullUrl":"urn:uuid:5b0b2c0e-30a5-4e1f-9d1d-6f1f6a0c0002","request":{"method":"PUT","url":"Patient/conform-ann"},"resource":{"resourceType":"Patient","id":"conform-ann","active":true,"name":[{"family":"Müller-Conform"}],"gender":"female","birthDate":"1948-03-12","telecom":[{"system":"phone","value":"01452"}],"managingOrganization":{"reference":"urn:uuid:5b0b2c0e-30a5-4e1f-9d1d-6f1f6a0c0001"}}},
{"request":{"method":"PUT","url":"Patient/conform-bob"},"resource":{"resourceType":"Patient","id":"conform-bob","active":false,"name":[{"family":"Brown-Conform"}],"gender":"male"}},
{"request":{"method":"PUT","url":"Observation/conform-o1"},"resource":{"resourceType":"Observation","id":"conform-o1","status":"final","code":{"coding":[{"system":"urn:conform:code","code":"pulse"}]},"subject":{"reference":"urn:uuid:5b0b2c0e-30a5-4e1f-9d1d-6f1f6a0c0002"},"effectiveDateTime":"2026-01-02T10:00:00Z","valueQuantity":{"value":70,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}},
{"request":{"method":"PUT","url":"Observation/conform-o2"},"resource":{"resourceType":"Observation","id":"conform-o2","status":"final","code":{"coding":[{"system":"urn:conform:code","code":"pressure"}]},"subject":{"reference":"Patient/conform-ann"},"effectiveDateTime":"2026-01-03T10:00:00Z"}},
{"request":{"method":"PUT","url":"Observation/conform-o3"},"resource":{"resourceType":"Observation","id":"conform-o3","status":"amended","code":{"coding":[{"system":"urn:conform:code","code":"pulse"}]},"subject":{"reference":"Patient/conform-bob"},"effectiveDateTime":"2025-12-31"}}]}`

// bundles tries transactions and batches; what its transaction makes the searches look for.
func (c *run) bundles() {
	c.check("a transaction links its entries by urn:uuid", "http.html#transaction", func() error {
		a, err := c.want(200, "POST", "", ward)
		if err != nil {
			return err
		}
		if a.text("type") != "transaction-response" || a.text("entry.response.status") == "" {
			return fmt.Errorf("it answers %.200s", a.body)
		}
		a, err = c.want(200, "GET", "Observation/conform-o1", "")
		if ref := a.text("subject.reference"); err == nil && !strings.HasSuffix(ref, "Patient/conform-ann") {
			err = fmt.Errorf("the observation is about %q", ref)
		}
		return err
	})
	c.check("a transaction with one bad entry writes nothing", "http.html#transaction", func() error {
		a, err := c.do("POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[
{"request":{"method":"PUT","url":"Patient/conform-never"},"resource":{"resourceType":"Patient","id":"conform-never"}},
{"request":{"method":"PUT","url":"Observation/conform-bad"},"resource":{"resourceType":"Observation","id":"conform-bad","subject":{"reference":"Patient?identifier=urn:conform|nobody"}}}]}`)
		if err != nil {
			return err
		}
		if a.status < 400 || a.status >= 500 {
			return fmt.Errorf("%d, expected 4xx", a.status)
		}
		if a, err = c.do("GET", "Patient/conform-never", ""); err == nil {
			err = a.is(404, 410)
		}
		return err
	})
	c.check("a batch does what it can of its entries", "http.html#transaction", func() error {
		a, err := c.want(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/conform-nobody"}},{"request":{"method":"GET","url":"Patient/conform-ann"}}]}`)
		if err != nil {
			return err
		}
		var got []string
		for s := range a.value().All("entry.response.status") {
			got = append(got, s.Str()[:min(3, len(s.Str()))])
		}
		if fmt.Sprint(got) != "[404 200]" {
			return fmt.Errorf("its entries' statuses are %v, expected 404 and 200", got)
		}
		return nil
	})
}

// A row of the table of searches: what is asked, and which of the ward's resources answer.
type row struct{ query, want, cites string }

var table = []row{
	{"Patient?family=muller-conform", "ann", "search.html#string"},
	{"Patient?family:exact=Müller-Conform", "ann", "search.html#string"},
	{"Patient?family:contains=conform", "ann bob", "search.html#string"},
	{"Patient?gender=female", "ann", "search.html#token"},
	{"Patient?gender:not=male", "ann", "search.html#token"},
	{"Patient?active=false", "bob", "search.html#token"},
	{"Patient?birthdate=1948-03", "ann", "search.html#date"},
	{"Patient?birthdate=ge1948-03-12&birthdate=lt1948-03-13", "ann", "search.html#date"},
	{"Patient?birthdate:missing=true", "bob", "search.html#modifiers"},
	{"Patient?phone=01452", "ann", "search.html#token"},
	{"Patient?_id=conform-ann,conform-bob", "ann bob", "search.html#id"},
	{"Observation?code=urn:conform:code|pulse", "o1 o3", "search.html#token"},
	{"Observation?code=pulse,pressure", "o1 o2 o3", "search.html#combining"},
	{"Observation?code=pulse&status=final", "o1", "search.html#combining"},
	{"Observation?subject=Patient/conform-ann", "o1 o2", "search.html#reference"},
	{"Observation?patient=conform-ann", "o1 o2", "search.html#reference"},
	{"Observation?date=2026-01-02", "o1", "search.html#date"},
	{"Observation?date=sa2026-01-02", "o2", "search.html#prefix"},
	{"Observation?date=eb2026-01-01", "o3", "search.html#prefix"},
	{"Observation?value-quantity=gt60|http://unitsofmeasure.org|/min", "o1", "search.html#quantity"},
	{"Observation?value-quantity=70", "o1", "search.html#quantity"},
	{"Observation?value-quantity=gt1|http://unitsofmeasure.org|/s", "o1", "search.html#quantity"},
	{"Observation?code-value-quantity=pulse$gt60", "o1", "search.html#composite"},
	{"Patient?_content=müller-conform", "ann", "search.html#content"},
	{"?_type=Patient,Observation&_id=conform-ann,conform-o1", "ann o1", "http.html#search"},
	{"Observation?patient.family=muller-conform", "o1 o2", "search.html#chaining"},
	{"Observation?subject:Patient.gender=male", "o3", "search.html#chaining"},
	{"Observation?patient.organization.name=conform", "o1 o2", "search.html#chaining"},
	{"Patient?_has:Observation:patient:code=pressure", "ann", "search.html#has"},
	{"Observation?code=pressure&_include=Observation:patient", "ann o2", "search.html#include"},
	{"Observation?code=pressure&_include=Observation:patient&_include:iterate=Patient:organization", "ann o2 org", "search.html#include"},
	{"Patient?gender=female&_revinclude=Observation:patient", "ann o1 o2", "search.html#revinclude"},
}

func (c *run) searches() {
	for _, r := range table {
		query := strings.ReplaceAll(strings.ReplaceAll(r.query, "|", "%7C"), "ü", "%C3%BC")
		c.check(r.query, r.cites, func() error {
			a, err := c.do("GET", query, "")
			if err == nil && (a.status == 400 || a.status == 501) {
				return lack{a.is(200)}
			}
			if err == nil {
				err = a.is(200)
			}
			if err == nil && c.ours(a) != r.want {
				err = fmt.Errorf("it finds %q, expected %q", c.ours(a), r.want)
			}
			return err
		})
	}
	c.check("the same with POST _search", "http.html#search", func() error {
		a, err := c.want(200, "POST", "Patient/_search", "family=muller-conform", "Content-Type: application/x-www-form-urlencoded")
		if err == nil && c.ours(a) != "ann" {
			err = fmt.Errorf("it finds %q", c.ours(a))
		}
		return err
	})
	c.check("_sort, both ways", "search.html#sort", func() error {
		for query, want := range map[string]string{"Observation?code=pulse,pressure&_sort=date": "o3 o1 o2", "Observation?code=pulse,pressure&_sort=-date": "o2 o1 o3"} {
			a, err := c.want(200, "GET", query, "")
			if err != nil {
				return err
			}
			if got := strings.Join(c.ids(a), " "); got != want {
				return fmt.Errorf("%s: %s, expected %s", query, got, want)
			}
		}
		return nil
	})
	c.check("pages hold everything, once", "http.html#paging", c.pages)
	c.check("_summary=count counts, and gives nothing", "search.html#summary", func() error {
		a, err := c.want(200, "GET", "Observation?code=urn:conform:code%7Cpulse&_summary=count", "")
		if err == nil && (a.text("total") != "2" || a.value().Get("entry").Exists()) {
			err = fmt.Errorf("total %q", a.text("total"))
		}
		return err
	})
	c.check("the self link says what was used", "search.html#conformance", func() error {
		a, err := c.want(200, "GET", "Patient?family=muller-conform", "")
		for l := range a.value().All("link") {
			if l.Text("relation") == "self" && strings.Contains(l.Text("url"), "family") {
				return err
			}
		}
		return fmt.Errorf("there is none that names the parameter")
	})
}

func (c *run) pages() error {
	var all []string
	a, err := c.want(200, "GET", "Observation?code=pulse,pressure&_count=1", "")
	for range 10 {
		if err != nil {
			return err
		}
		all = append(all, c.ids(a)...)
		next := ""
		for l := range a.value().All("link") {
			if l.Text("relation") == "next" {
				next = l.Text("url")
			}
		}
		if next == "" {
			break
		}
		a, err = c.want(200, "GET", next, "")
	}
	slices.Sort(all)
	if got := strings.Join(all, " "); got != "o1 o2 o3" {
		return fmt.Errorf("together they hold %q", got)
	}
	return err
}

// ids are those of the ward's resources in a Bundle, in its order.
func (c *run) ids(a answer) []string {
	var out []string
	for e := range a.value().All("entry.resource.id") {
		if id, ok := strings.CutPrefix(e.Str(), "conform-"); ok && id != "1" {
			out = append(out, id)
		}
	}
	return out
}

func (c *run) ours(a answer) string {
	ids := c.ids(a)
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// errors tries what a server must refuse, and whether it says why.
func (c *run) errors() {
	for _, e := range []struct {
		what, method, path, body string
		headers                  []string
		status                   []int
		cites                    string
	}{
		{"a resource that never was", "GET", "Patient/conform-nobody", "", nil, []int{404}, "http.html#read"},
		{"a type there is not", "GET", "Nobody/1", "", nil, []int{404, 400}, "http.html#Status-Codes"},
		{"a version that never was", "GET", "Patient/conform-ann/_history/999", "", nil, []int{404}, "http.html#vread"},
		{"an unknown parameter, strictly", "GET", "Patient?conform-nothing=1", "", []string{"Prefer: handling=strict"}, []int{400}, "search.html#errors"},
		{"a modifier there is not", "GET", "Patient?family:conform=1", "", nil, []int{400}, "search.html#modifiers"},
		{"a date that is none", "GET", "Patient?birthdate=yesterday", "", nil, []int{400}, "search.html#date"},
		{"a body that is not JSON", "POST", "Patient", `{"resourceType":`, nil, []int{400}, "http.html#create"},
		{"a body of another type", "POST", "Patient", `{"resourceType":"Organization"}`, nil, []int{400, 422}, "http.html#create"},
		{"a body in another language", "POST", "Patient", "family,given", []string{"Content-Type: text/csv"}, []int{415}, "http.html#mime-type"},
		{"an answer in another language", "GET", "Patient/conform-ann", "", []string{"Accept: text/csv"}, []int{406}, "http.html#mime-type"},
		{"an element there is not", "POST", "Patient", `{"resourceType":"Patient","shoeSize":43}`, nil, []int{400, 422}, "json.html"},
		{"a value of the wrong type", "POST", "Patient", `{"resourceType":"Patient","active":"yes"}`, nil, []int{400, 422}, "json.html#primitive"},
		{"a date that cannot be", "POST", "Patient", `{"resourceType":"Patient","birthDate":"31.1.1970"}`, nil, []int{400, 422}, "datatypes.html#date"},
		{"an id that differs from the address", "PUT", "Patient/conform-x", `{"resourceType":"Patient","id":"conform-y"}`, nil, []int{400}, "http.html#update"},
		{"an update without an id", "PUT", "Patient/conform-x", `{"resourceType":"Patient"}`, nil, []int{400}, "http.html#update"},
		{"a Bundle that says not what it is", "POST", "", `{"resourceType":"Bundle","entry":[]}`, nil, []int{400, 422}, "http.html#transaction"},
	} {
		c.check(e.what, e.cites, func() error {
			a, err := c.do(e.method, e.path, e.body, e.headers...)
			if err == nil {
				err = a.is(e.status...)
			}
			if err != nil {
				return err
			}
			v := a.value()
			if v.Text("resourceType") != "OperationOutcome" || v.Text("issue.code") == "" || v.Text("issue.diagnostics")+v.Text("issue.details.text") == "" {
				return fmt.Errorf("the %d comes without an OperationOutcome that says why", a.status)
			}
			return nil
		})
	}
}

// clean takes away what the run has made, what refers to others first.
func (c *run) clean() {
	for _, ref := range []string{"Observation/conform-o1", "Observation/conform-o2", "Observation/conform-o3", "Patient/conform-ann", "Patient/conform-bob", "Patient/conform-1", "Organization/conform-org"} {
		_, _ = c.do("DELETE", ref, "")
	}
}
