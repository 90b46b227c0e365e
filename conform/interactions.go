package conform

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"tombolo/search"
)

// capability looks at what the server says of itself.
func (c *run) capability() {
	const cites = "http.html#capabilities"
	c.check("it has a CapabilityStatement", cites, func() error {
		a, err := c.want(200, "GET", "metadata", "")
		if err != nil {
			return err
		}
		c.cs = a.value()
		c.report.Server = strings.TrimSpace(c.cs.Text("software.name") + " " + c.cs.Text("software.version"))
		if c.cs.Text("resourceType") != "CapabilityStatement" {
			return fmt.Errorf("it is a %q", c.cs.Text("resourceType"))
		}
		return nil
	})
	c.check("of R4, in JSON, as a server", cites, func() error {
		if v := c.cs.Text("fhirVersion"); !strings.HasPrefix(v, "4.0") {
			return fmt.Errorf("fhirVersion is %q", v)
		}
		if c.cs.Text("rest.mode") != "server" {
			return fmt.Errorf("rest.mode is %q", c.cs.Text("rest.mode"))
		}
		return nil
	})
	c.check("XML is among its formats", "http.html#mime-type", func() error {
		for f := range c.cs.All("format") {
			if strings.Contains(f.Str(), "xml") {
				return nil
			}
		}
		return lacking("JSON only")
	})
	for _, code := range []string{"read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"} {
		c.check("interaction "+code+", as it says of Patient", "valueset-type-restful-interaction.html", func() error {
			for res := range c.cs.All("rest.resource") {
				if res.Text("type") != "Patient" {
					continue
				}
				for i := range res.All("interaction.code") {
					if i.Str() == code {
						return nil
					}
				}
			}
			return lacking("it does not say so")
		})
	}
	c.check("every search parameter of R4 is told of", "searchparameter-registry.html", c.parameters)
}

// parameters compares what the server says that it can search by with what R4 defines.
func (c *run) parameters() error {
	has := map[string][]string{}
	for res := range c.cs.All("rest.resource") {
		for p := range res.All("searchParam.name") {
			has[res.Text("type")] = append(has[res.Text("type")], p.Str())
		}
	}
	missing, all := map[string][]string{}, 0
	for typ := range has {
		for _, d := range search.Defs(typ) {
			if all++; !strings.HasPrefix(d.Name, "_") && !slices.Contains(has[typ], d.Name) {
				missing[typ] = append(missing[typ], d.Name)
			}
		}
	}
	if len(has) == 0 {
		return lacking("it tells of none")
	}
	if len(missing) == 0 {
		return nil
	}
	var words []string
	for typ, names := range missing {
		words = append(words, typ+": "+strings.Join(names, " "))
	}
	slices.Sort(words)
	text := strings.Join(words, "; ")
	if len(text) > 600 {
		text = text[:600] + " …"
	}
	return lacking("%s", text)
}

const patient = `{"resourceType":"Patient","id":"conform-1","identifier":[{"system":"urn:conform","value":"1"}],"name":[{"family":"Conform","given":["Ann"]}],"gender":"female","birthDate":"1970-01-31"}`

// interactions tries one resource's life.
func (c *run) interactions() {
	var first, second answer
	if !c.check("update creates, under the client's id", "http.html#upsert", func() (err error) {
		_, _ = c.do("DELETE", "Patient/conform-1", "")
		first, err = c.do("PUT", "Patient/conform-1", patient)
		if err != nil {
			return err
		}
		return first.is(201, 200)
	}) {
		return
	}
	c.check("an ETag, Last-Modified and Location come with it", "http.html#create", func() error {
		for _, h := range []string{"ETag", "Last-Modified", "Location"} {
			if first.head.Get(h) == "" {
				return fmt.Errorf("no %s", h)
			}
		}
		return nil
	})
	c.check("read gives what was written", "http.html#read", func() error {
		a, err := c.want(200, "GET", "Patient/conform-1", "")
		if err == nil && (a.text("name.family") != "Conform" || a.text("meta.versionId") == "") {
			err = fmt.Errorf("it gives %.200s", a.body)
		}
		return err
	})
	c.check("HEAD is read without a body", "http.html#head", func() error {
		a, err := c.want(200, "HEAD", "Patient/conform-1", "")
		if err == nil && len(a.body) > 0 {
			err = fmt.Errorf("a body of %d bytes", len(a.body))
		}
		return err
	})
	c.check("a client that has it already is told so (304)", "http.html#cread", func() error {
		_, err := c.want(304, "GET", "Patient/conform-1", "", "If-None-Match: "+first.head.Get("ETag"))
		return err
	})
	c.check("update makes a version", "http.html#update", func() (err error) {
		second, err = c.want(200, "PUT", "Patient/conform-1", strings.Replace(patient, `"Ann"`, `"Anne"`, 1), "If-Match: "+first.head.Get("ETag"))
		if err == nil && second.head.Get("ETag") == first.head.Get("ETag") {
			err = fmt.Errorf("the ETag is still %s", first.head.Get("ETag"))
		}
		return err
	})
	c.check("an update of an old version is refused (412)", "http.html#concurrency", func() error {
		_, err := c.want(412, "PUT", "Patient/conform-1", patient, "If-Match: "+first.head.Get("ETag"))
		return err
	})
	c.check("an old version can be read", "http.html#vread", func() error {
		a, err := c.want(200, "GET", "Patient/conform-1/_history/"+first.text("meta.versionId"), "")
		if err == nil && a.text("name.given") != "Ann" {
			err = fmt.Errorf("it is another")
		}
		return err
	})
	c.histories()
	c.patches()
	c.conditions()
	c.shapes()
	c.check("delete, and what was deleted is gone (410)", "http.html#delete", func() error {
		a, err := c.do("DELETE", "Patient/conform-1", "")
		if err == nil {
			err = a.is(200, 202, 204)
		}
		if err == nil {
			_, err = c.want(410, "GET", "Patient/conform-1", "")
		}
		return err
	})
	c.check("what is gone can be deleted again", "http.html#delete", func() error {
		a, err := c.do("DELETE", "Patient/conform-1", "")
		if err == nil {
			err = a.is(200, 202, 204)
		}
		return err
	})
}

func (c *run) histories() {
	for _, path := range []string{"Patient/conform-1/_history", "Patient/_history?_count=5", "_history?_count=5"} {
		c.check("GET "+path, "http.html#history", func() error {
			a, err := c.do("GET", path, "")
			if err == nil {
				err = a.is(200)
			}
			if a.status == http.StatusNotFound || a.status == http.StatusBadRequest {
				return lack{err}
			}
			if err == nil && (a.text("type") != "history" || a.text("entry.request.method") == "") {
				err = fmt.Errorf("it is no history: %.200s", a.body)
			}
			return err
		})
	}
}

func (c *run) patches() {
	patch := func(body, mediaType string) error {
		a, err := c.do("PATCH", "Patient/conform-1", body, "Content-Type: "+mediaType)
		if err != nil {
			return err
		}
		if a.status == http.StatusUnsupportedMediaType {
			return lack{a.is(200)}
		}
		return a.is(200)
	}
	c.check("JSON Patch", "http.html#patch", func() error {
		return patch(`[{"op":"test","path":"/gender","value":"female"},{"op":"replace","path":"/gender","value":"other"}]`, "application/json-patch+json")
	})
	c.check("a JSON Patch whose test fails changes nothing", "http.html#patch", func() error {
		a, err := c.do("PATCH", "Patient/conform-1", `[{"op":"test","path":"/gender","value":"male"},{"op":"remove","path":"/gender"}]`, "Content-Type: application/json-patch+json")
		switch {
		case err != nil:
			return err
		case a.status == http.StatusUnsupportedMediaType:
			return lack{a.is(422)}
		}
		return a.is(400, 409, 412, 422)
	})
	c.check("FHIRPath Patch", "fhirpatch.html", func() error {
		return patch(`{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},{"name":"path","valueString":"Patient.gender"},{"name":"value","valueCode":"female"}]}]}`, "application/fhir+json")
	})
}

func (c *run) conditions() {
	other := strings.NewReplacer(`"id":"conform-1",`, "", `"value":"1"`, `"value":"2"`).Replace(patient)
	c.check("conditional create makes one, once", "http.html#ccreate", func() error {
		for _, status := range []int{201, 200} {
			if _, err := c.want(status, "POST", "Patient", other, "If-None-Exist: identifier=urn:conform|2"); err != nil {
				return err
			}
		}
		return nil
	})
	c.check("conditional update changes the one that answers", "http.html#cond-update", func() error {
		_, err := c.want(200, "PUT", "Patient?identifier=urn:conform|2", strings.Replace(other, "Ann", "Anna", 1))
		return err
	})
	c.check("conditional delete takes it away", "http.html#3.1.0.7.1", func() error {
		a, err := c.do("DELETE", "Patient?identifier=urn:conform|2", "")
		if err == nil {
			err = a.is(200, 204)
		}
		return err
	})
}

// shapes tries in which forms an answer can be had.
func (c *run) shapes() {
	read := func(query string, headers ...string) (answer, error) {
		return c.want(200, "GET", "Patient/conform-1"+query, "", headers...)
	}
	c.check("_elements gives those, marked as a part", "search.html#elements", func() error {
		a, err := read("?_elements=gender")
		if err == nil && (a.text("name.family") != "" || !strings.Contains(string(a.body), "SUBSETTED")) {
			err = fmt.Errorf("it gives %.200s", a.body)
		}
		return err
	})
	c.check("_summary=true gives the summary", "search.html#summary", func() error {
		a, err := c.do("GET", "Patient/conform-1?_summary=true", "")
		if err == nil && a.status == http.StatusBadRequest {
			return lack{a.is(200)}
		}
		if err == nil {
			err = a.is(200)
		}
		if err == nil && !strings.Contains(string(a.body), "SUBSETTED") {
			err = fmt.Errorf("it is not marked as a part")
		}
		return err
	})
	c.check("_pretty=true has lines", "http.html#pretty", func() error {
		a, err := read("?_pretty=true")
		if err == nil && strings.Count(string(a.body), "\n") < 3 {
			err = lacking("it is one line")
		}
		return err
	})
	c.check("_format is stronger than Accept", "http.html#format", func() error {
		_, err := read("?_format=json", "Accept: application/pdf")
		return err
	})
	c.check("XML, if it is asked for", "http.html#mime-type", func() error {
		a, err := c.do("GET", "Patient/conform-1", "", "Accept: application/fhir+xml")
		if err == nil && a.status == http.StatusNotAcceptable {
			return lack{a.is(200)}
		}
		if err == nil {
			err = a.is(200)
		}
		if err == nil && !strings.Contains(string(a.body), "<Patient") {
			err = fmt.Errorf("it is not XML")
		}
		return err
	})
	c.check("Prefer: return=minimal", "http.html#ops", func() error {
		a, err := c.do("PUT", "Patient/conform-1", patient, "Prefer: return=minimal")
		if err == nil {
			err = a.is(200)
		}
		if err == nil && len(a.body) > 0 {
			err = lacking("a body of %d bytes", len(a.body))
		}
		return err
	})
	c.check("Prefer: return=OperationOutcome", "http.html#ops", func() error {
		a, err := c.do("PUT", "Patient/conform-1", patient, "Prefer: return=OperationOutcome")
		if err == nil {
			err = a.is(200)
		}
		if err == nil && a.text("resourceType") != "OperationOutcome" {
			err = lacking("it is a %s", a.text("resourceType"))
		}
		return err
	})
}
