package conform

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tombolo/fhir"
)

// operations tries what R4 and the guides that everybody follows define beside the interactions, on the ward of the transactions.
func (c *run) operations() {
	op := func(what, cites, method, path, body string, is func(answer) error) {
		c.check(what, cites, func() error {
			a, err := c.do(method, path, body)
			if err == nil {
				err = c.offered(a)
			}
			if err == nil {
				err = is(a)
			}
			return err
		})
	}
	op("Patient/$everything gives the record, and what it names", "patient-operation-everything.html", "GET", "Patient/conform-ann/$everything", "", func(a answer) error {
		if got := c.ours(a); got != "ann o1 o2 org" {
			return fmt.Errorf("it gives %q, expected the patient, two observations and the organisation", got)
		}
		return nil
	})
	op("Patient/$summary is an International Patient Summary", "uv/ips OperationDefinition-summary.html", "GET", "Patient/conform-ann/$summary", "", func(a answer) error {
		if a.text("type") != "document" || a.text("entry.resource.type.coding.code") != "60591-5" {
			return fmt.Errorf("it answers %.200s", a.body)
		}
		sections := map[string]bool{}
		for code := range a.value().Get("entry.resource").All("section.code.coding.code") {
			sections[code.Str()] = true
		}
		for _, code := range []string{"11450-4", "48765-2", "10160-0"} {
			if !sections[code] {
				return fmt.Errorf("section %s, which must be there, is not", code)
			}
		}
		return nil
	})
	op("$validate finds what is right, right", "resource-operation-validate.html", "POST", "Patient/$validate", `{"resourceType":"Patient","active":true}`, func(a answer) error {
		return c.severity(a, false)
	})
	op("$validate finds what is wrong, and answers 200", "resource-operation-validate.html", "POST", "Patient/$validate", `{"resourceType":"Patient","gender":"green"}`, func(a answer) error {
		return c.severity(a, true)
	})
	op("$meta gives tags and labels", "resource-operation-meta.html", "GET", "Patient/conform-ann/$meta", "", isType("Parameters"))
	op("$meta-add adds a tag", "resource-operation-meta-add.html", "POST", "Patient/conform-ann/$meta-add",
		`{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:conform","code":"tag"}]}}]}`, func(a answer) error {
			if !strings.Contains(string(a.body), `"urn:conform"`) {
				return fmt.Errorf("it answers %.200s", a.body)
			}
			return nil
		})
	op("$lastn gives the newest of each code", "observation-operation-lastn.html", "GET", "Observation/$lastn?patient=conform-ann", "", func(a answer) error {
		if got := c.ours(a); got != "o1 o2" {
			return fmt.Errorf("it gives %q, expected o1 o2", got)
		}
		return nil
	})
	op("$convert gives a resource as it came", "resource-operation-convert.html", "POST", "$convert", patient, isType("Patient"))
	c.ownParameter()
	c.bulk()
}

// ownParameter defines a search parameter, waits until it can be searched by, and does.
func (c *run) ownParameter() {
	c.check("a SearchParameter that is posted can be searched by", "searchparameter.html", func() error {
		defer func() { _, _ = c.do("DELETE", "SearchParameter/conform-sp", "") }()
		a, err := c.do("PUT", "SearchParameter/conform-sp", `{"resourceType":"SearchParameter","id":"conform-sp","url":"urn:conform:sp","name":"conform","status":"active","description":"x","code":"conform-value","base":["Observation"],"type":"number","expression":"(Observation.value as Quantity).value"}`)
		if err == nil {
			err = a.is(200, 201)
		}
		if err != nil {
			return err
		}
		for until := time.Now().Add(bulkTime); ; time.Sleep(100 * time.Millisecond) {
			a, err = c.do("GET", "Observation?conform-value=gt60", "")
			if err != nil {
				return err
			}
			if a.status == http.StatusOK && c.ours(a) == "o1" {
				return nil
			}
			if a.status != http.StatusServiceUnavailable || time.Now().After(until) {
				return lacking("%d, and it finds %q", a.status, c.ours(a))
			}
		}
	})
}

// offered says that a server lacks an operation that it answers as an address or a word it does not know.
func (c *run) offered(a answer) error {
	switch a.status {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusForbidden, http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return lack{a.is(200)}
	}
	return a.is(200)
}

func isType(typ string) func(answer) error {
	return func(a answer) error {
		if a.text("resourceType") != typ {
			return fmt.Errorf("it is a %q, expected %s", a.text("resourceType"), typ)
		}
		return nil
	}
}

func (c *run) severity(a answer, wrong bool) error {
	found := false
	for i := range a.value().All("issue.severity") {
		found = found || i.Str() == "error" || i.Str() == "fatal"
	}
	if a.text("resourceType") != "OperationOutcome" || found != wrong {
		return fmt.Errorf("it answers %.200s", a.body)
	}
	return nil
}

// bulkTime is how long a bulk job of a few resources may take.
const bulkTime = time.Minute

// bulk tries $export and $import. HL7 Bulk Data Access 2.0.0 export.html
func (c *run) bulk() {
	const cites = "uv/bulkdata export.html"
	var manifest fhir.Value
	var at string
	if c.check("$import takes NDJSON, and ends", "async.html", func() error {
		lines := `{"resourceType":"Patient","id":"conform-cy","active":true}` + "\n" + `{"resourceType":"Observation","id":"conform-o4","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/conform-cy"}}` + "\n"
		_, _, err := c.job("POST", "$import", lines, "Content-Type: application/fhir+ndjson")
		if err == nil {
			_, err = c.want(200, "GET", "Observation/conform-o4", "")
		}
		return err
	}) {
		defer func() {
			_, _ = c.do("DELETE", "Observation/conform-o4", "")
			_, _ = c.do("DELETE", "Patient/conform-cy", "")
		}()
	}
	if !c.check("Patient/$export is begun, and ends with a manifest", cites, func() (err error) {
		manifest, at, err = c.job("GET", "Patient/$export?_type=Patient,Observation", "")
		if err == nil && (manifest.Text("transactionTime") == "" || !manifest.Get("output").Exists()) {
			err = fmt.Errorf("the manifest is %.200s", manifest.Raw())
		}
		return err
	}) {
		return
	}
	c.check("its files hold a resource of their type a line", cites, func() error {
		found := map[string]bool{}
		for f := range manifest.All("output") {
			a, err := c.want(200, "GET", f.Text("url"), "", "Accept: application/fhir+ndjson")
			if err != nil {
				return err
			}
			for l := range bytes.Lines(a.body) {
				r, err := fhir.Parse(bytes.TrimSpace(l))
				if err != nil || r.Type() != f.Text("type") {
					return fmt.Errorf("a line in the file of %s is none: %.100s", f.Text("type"), l)
				}
				found[string(r.Ref())] = true
			}
		}
		for _, ref := range []string{"Patient/conform-ann", "Patient/conform-bob", "Observation/conform-o1", "Observation/conform-o3"} {
			if !found[ref] {
				return fmt.Errorf("%s is not among %d lines", ref, len(found))
			}
		}
		return nil
	})
	c.check("a job that is deleted is gone", cites, func() error {
		if _, err := c.want(202, "DELETE", at, ""); err != nil {
			return err
		}
		_, err := c.want(404, "GET", at, "")
		return err
	})
	c.check("without Prefer: respond-async it is refused", cites, func() error {
		_, err := c.want(400, "GET", "Patient/$export", "")
		return err
	})
}

// job begins one and waits for its end: its manifest, and the address at which it is asked after.
func (c *run) job(method, path, body string, headers ...string) (fhir.Value, string, error) {
	a, err := c.do(method, path, body, append(headers, "Prefer: respond-async")...)
	if err == nil && a.status != http.StatusAccepted {
		if err = c.offered(a); err == nil {
			err = a.is(http.StatusAccepted)
		}
	}
	at := a.head.Get("Content-Location")
	if err == nil && at == "" {
		err = fmt.Errorf("%s: no Content-Location", a.asked)
	}
	for until := time.Now().Add(bulkTime); err == nil; time.Sleep(100 * time.Millisecond) {
		if a, err = c.do("GET", at, ""); err != nil || a.status != http.StatusAccepted {
			break
		}
		if time.Now().After(until) {
			return fhir.Value{}, at, fmt.Errorf("it has not ended after %v: %s", bulkTime, a.head.Get("X-Progress"))
		}
	}
	if err == nil {
		err = a.is(200)
	}
	return a.value(), at, err
}
