package gathered_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tombolo/access"
	face "tombolo/api/gpconnect"
	"tombolo/api/gpconnect/gathered"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim/cast"
	"tombolo/sim/lookout"
	"tombolo/sim/practice"
)

// The acceptance tests by which NHS Digital held practices' systems to GP Connect 1.2.7, run as they are written against both providers: the
// gathered record, and a simulated practice. They are nobody's here, so that what the two share and both had wrong would show.
func TestTheAcceptanceTestsOfTheSpecification(t *testing.T) {
	dir := sharedData(t, "03-gpconnect", "gpconnect-provider-testing-data", "GPConnect.Provider.AcceptanceTests")
	o := practice.Options{Source: cast.GP2, People: cast.Dozen(now), Now: clock, ASID: "200000000116", Sensitive: []string{"secret"}, Transit: map[string]string{"sam": "2026-03-12"}}
	secret := person("george")
	secret.Key, secret.NHS = "secret", number("secret")
	for i, p := range o.People {
		if p.Key == "sam" {
			o.People[i].Items = append(p.Items, cast.Item{Heading: dataset.Allergies, Code: "91936005", Display: "Allergy to penicillin", Date: "2020-01-01", Label: cast.Withheld, Held: []string{cast.GP2}})
		}
	}
	o.People = append(o.People, secret)
	srv := httptest.NewServer(practice.New(o))
	defer srv.Close()
	l := lookout.Over(t, lookout.Options{})
	held, err := face.New(face.Options{Now: clock, Release: "1.2.7", ASID: o.ASID, Admit: gathered.Admit(&store{practice: watched(t, l, srv.URL)},
		func(_ *http.Request, who face.Caller) (*access.Session, error) {
			return &access.Session{User: who.UserID}, nil
		}, clock)})
	if err != nil {
		t.Fatal(err)
	}
	o.Minor = 2
	// What several sources warn of comes as notes that name them, since a code would say it of all.
	noted := map[string]string{"the following warning": "a source's warning is told in words", "has associated note": "a source's warning is told in words"}
	for name, p := range map[string]struct {
		h   http.Handler
		but map[string]string
	}{"the gathered record": {l.Answers(held), noted}, "a simulated practice": {practice.New(o), nil}} {
		t.Run(name, func(t *testing.T) {
			passed, without := 0, map[string]int{}
			for _, file := range []string{"JWT", "Http", "FHIR", "StructuredMultipleRequests", "AccessStructuredRecordMedications", "AccessStructuredRecordAllergies"} {
				raw, err := os.ReadFile(filepath.Join(dir, file+".feature"))
				if err != nil {
					t.Fatal(err)
				}
				for _, sc := range scenarios(string(raw)) {
					c := newConsumer(p.h)
					why, err := c.run(sc, p.but)
					switch {
					case err != nil:
						t.Errorf("%s: %s: %v", file, sc.name, err)
					case why != "":
						without[why]++
					default:
						passed++
					}
				}
			}
			t.Logf("%d scenarios hold", passed)
			for _, why := range slices.Sorted(maps.Keys(without)) {
				t.Logf("%d are not run: %s", without[why], why)
			}
			if passed < 130 {
				t.Errorf("only %d scenarios were run", passed)
			}
		})
	}
}

func sharedData(t *testing.T, path ...string) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	for wd, _ := os.Getwd(); dir == "" && wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
		if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
			dir = filepath.Join(wd, "shared", "data")
		}
	}
	dir = filepath.Join(append([]string{dir}, path...)...)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s is not here: skipped", filepath.Join(path...))
	}
	return dir
}

type scenario struct {
	name  string
	steps []string
}

// scenarios reads a feature file: its scenarios, and its outlines once for each example.
func scenarios(feature string) []scenario {
	var out []scenario
	var now scenario
	var head []string
	var rows [][]string
	flush := func() {
		if rows == nil && now.name != "" {
			out = append(out, now)
		}
		for _, row := range rows {
			sc := scenario{name: now.name + " " + strings.Join(row, " ")}
			for _, s := range now.steps {
				for i, h := range head {
					s = strings.ReplaceAll(s, "<"+h+">", row[i])
				}
				sc.steps = append(sc.steps, s)
			}
			out = append(out, sc)
		}
		now, head, rows = scenario{}, nil, nil
	}
	for line := range strings.Lines(feature) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "Scenario"):
			flush()
			_, name, _ := strings.Cut(line, ":")
			now.name = strings.TrimSpace(name)
		case word == "Given", word == "When", word == "Then", word == "And":
			now.steps = append(now.steps, strings.TrimSpace(rest))
		case strings.HasPrefix(line, "|"):
			var cells []string
			for c := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(c))
			}
			if head == nil {
				head = cells
			} else {
				rows = append(rows, cells)
			}
		}
	}
	flush()
	return out
}

// A consumer is what the scenarios are about: a request in the making, and its answer.
type consumer struct {
	provider   http.Handler
	structured bool
	method     string
	path       string
	header     map[string]string
	claims     fhir.M
	bearer     string
	params     []fhir.M
	code       int
	answer     *httptest.ResponseRecorder
	body       fhir.Value
}

func newConsumer(h http.Handler) *consumer {
	return &consumer{provider: h, method: http.MethodGet, path: "/metadata", header: map[string]string{"Accept": "application/fhir+json", "Ssp-TraceID": doctor.TraceID,
		"Ssp-From": "200000000115", "Ssp-To": "200000000116", "Ssp-InteractionID": "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1"},
		claims: fhir.M{
			"iss": "https://consumer.example", "sub": "1", "aud": "https://provider.example", "iat": now.Unix(), "exp": now.Unix() + 300,
			"reason_for_request": "directcare", "requested_scope": "organization/*.read",
			"requesting_device":       fhir.M{"resourceType": "Device", "identifier": []fhir.M{{"system": "GPConnectTestSystem", "value": "Client"}}, "model": "v1", "version": "1.1"},
			"requesting_organization": fhir.M{"resourceType": "Organization", "identifier": []fhir.M{{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "GPCA0001"}}, "name": "Consumer"},
			"requesting_practitioner": fhir.M{"resourceType": "Practitioner", "id": "1", "name": []fhir.M{{"family": "Jones", "given": []string{"Claire"}, "prefix": []string{"Dr"}}},
				"identifier": identifiers("111222333444", "444555666777", "98ed4f78")},
		}}
}

// identifiers of a user: SDS user id, SDS role profile id, local.
func identifiers(values ...string) (out []fhir.M) {
	for i, v := range values {
		out = append(out, fhir.M{"system": []string{"https://fhir.nhs.uk/Id/sds-user-id", "https://fhir.nhs.uk/Id/sds-role-profile-id", "https://consumer.example/Id/user-guid"}[i], "value": v})
	}
	return out
}

func (c *consumer) claim(name string) fhir.M { return c.claims[name].(fhir.M) }

// The people whom the scenarios call by number, by what the test suite says of them.
var patients = map[string]string{"patient1": "chloe", "patient2": "priya", "patient3": "priya", "patient4": "chloe", "patient5": "george", "patient6": "priya", "patient7": "priya", "patient8": "priya", "patient13": "priya", "patient17": "sam", "patient9": "secret",
	"patient12": "priya", "patient16": "sam", "patientNotInSystem": "nobody", "patient18": "harold", "patient21": "margaret"}

// stepDef is what a step of the scenarios does. A step that is not here is a scenario that is not run, and is said.
type stepDef struct {
	re *regexp.Regexp
	do func(c *consumer, arg string) error
}

func step(pattern string, do func(c *consumer, arg string) error) stepDef {
	return stepDef{regexp.MustCompile("^" + pattern + "$"), do}
}

// set makes a step that only changes the request.
func set(pattern string, do func(c *consumer, arg string)) stepDef {
	return step(pattern, func(c *consumer, arg string) error { do(c, arg); return nil })
}

func number(key string) string {
	for _, p := range cast.Dozen(now) {
		if p.Key == key {
			return p.NHS
		}
	}
	return map[string]string{"secret": cast.NHSNumber("999000168")}[key] + map[bool]string{true: cast.NHSNumber("999000167")}[key != "secret"]
}

func (c *consumer) param(name string, part ...fhir.M) {
	p := fhir.M{"name": name}
	if part != nil {
		p["part"] = part
	}
	c.params = append(c.params, p)
}

func (c *consumer) patient(system, value string) {
	c.params = append(c.params, fhir.M{"name": "patientNHSNumber", "valueIdentifier": fhir.M{"system": system, "value": value}})
}

const nhsSystem = "https://fhir.nhs.uk/Id/nhs-number"

func period(start, end string) fhir.M {
	p := fhir.M{}
	if start != "" {
		p["start"] = start
	}
	if end != "" {
		p["end"] = end
	}
	return fhir.M{"name": "timePeriod", "valuePeriod": p}
}

func resolved(v any) fhir.M { return fhir.M{"name": "includeResolvedAllergies", "valueBoolean": v} }

// asking are the steps that make a request.
var asking = []stepDef{
	set(`I configure the default "(Metadata|StructuredMetaData|MetaData)Read" request`, func(*consumer, string) {}),
	set(`I configure the default "GpcGetStructuredRecord" request`, func(c *consumer, _ string) {
		c.structured, c.method, c.path, c.claims["requested_scope"] = true, http.MethodPost, "/Patient/$gpc.getstructuredrecord", "patient/*.read"
		c.header["Ssp-InteractionID"] = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
		c.header["Content-Type"] = "application/fhir+json"
	}),
	set(`I set the JWT with missing (.*)`, func(c *consumer, what string) {
		delete(c.claims, map[string]string{"Requesting System URL": "iss", "Expiry Time": "exp", "Creation Time": "iat", "Reason For Request": "reason_for_request",
			"Authorization Server Token URL": "aud", "Requesting Device": "requesting_device", "Requesting Identity": "requesting_practitioner", "Requested Scope": "requested_scope"}[what])
	}),
	set(`I set the JWT Expiry Time to "(.*)" seconds after Creation Time`, func(c *consumer, s string) {
		n, _ := strconv.Atoi(s)
		c.claims["exp"] = c.claims["iat"].(int64) + int64(n)
	}),
	set(`I set the JWT Creation Time to "(.*)" seconds in the (?:future|past)`, func(c *consumer, s string) {
		n, _ := strconv.Atoi(s)
		c.claims["iat"] = now.Unix() + int64(n)
		c.claims["exp"] = now.Unix() + int64(n) + 300
	}),
	set(`I set the JWT Requesting Device as an invalid Device`, func(c *consumer, _ string) {
		c.claims["requesting_device"] = fhir.M{"resourceType": "Device", "invalidField": "x"}
	}),
	set(`I set the JWT Requesting Device Resource Type as an invalid Resource Type`, func(c *consumer, _ string) {
		c.claim("requesting_device")["resourceType"] = "InvalidResourceType"
	}),
	set(`I set the JWT Requesting Identity Resource Type as an invalid Resource Type`, func(c *consumer, _ string) {
		c.claim("requesting_practitioner")["resourceType"] = "InvalidResourceType"
	}),
	set(`I set the JWT Requesting Identity as UNK Practitioner`, func(c *consumer, _ string) {
		c.claim("requesting_practitioner")["identifier"] = identifiers("UNK", "UNK", "98ed4f78")
	}),
	set(`I set the JWT missing sdsRoleProfile and guid`, func(c *consumer, _ string) {
		c.claim("requesting_practitioner")["identifier"] = identifiers("111222333444")
	}),
	set(`I set the JWT Requested Scope to be incorrect`, func(c *consumer, _ string) { c.claims["requested_scope"] = "organization/*.wrong" }),
	set(`I set the JWT Requesting Organization Identifier system to match the rc5 specification`, func(c *consumer, _ string) {
		c.claim("requesting_organization")["identifier"] = []fhir.M{{"system": "http://fhir.nhs.net/Id/ods-organization-code", "value": "GPCA0001"}}
	}),
	set(`I set the request URL to "(.*)"`, func(c *consumer, s string) { c.path = "/" + s }),
	set(`I set the request Http Method to "(.*)"`, func(c *consumer, s string) { c.method = s }),
	set(`I set the request content type to "(.*)"`, func(c *consumer, s string) { c.header["Content-Type"] = s }),
	set(`I set the Accept header to "(.*)"`, func(c *consumer, s string) { c.header["Accept"] = s }),
	set(`I set the Accept-Encoding header to gzip`, func(c *consumer, _ string) { c.header["Accept-Encoding"] = "gzip" }),
	set(`I do not send header "(.*)"`, func(c *consumer, s string) { delete(c.header, s) }),
	set(`I add a Format parameter with the Value "(.*)"`, func(c *consumer, s string) { c.path += "?_format=" + s }),
	set(`I add an NHS Number parameter for "(patient\w+)"`, func(c *consumer, s string) { c.patient(nhsSystem, number(patients[s])) }),
	set(`I add an NHS Number parameter for an invalid NHS Number`, func(c *consumer, _ string) { c.patient(nhsSystem, "1234567891") }),
	set(`I add an NHS Number parameter with an empty NHS Number`, func(c *consumer, _ string) { c.patient(nhsSystem, "") }),
	set(`I add an NHS Number parameter for "patient1" with an invalid Identifier System`, func(c *consumer, _ string) { c.patient("https://wrong.example", number("chloe")) }),
	set(`I add an NHS Number parameter for "patient1" with an empty Identifier System`, func(c *consumer, _ string) { c.patient("", number("chloe")) }),
	set(`I add an NHS Number parameter for "patient1" using an invalid parameter type`, func(c *consumer, _ string) {
		c.params = append(c.params, fhir.M{"name": "patientNHSNumber", "valueString": number("chloe")})
	}),
	set(`I add the medications? parameter`, func(c *consumer, _ string) { c.param("includeMedication") }),
	set(`I add the medication parameter with includePrescriptionIssues set to "(.*)"`, func(c *consumer, s string) {
		c.param("includeMedication", fhir.M{"name": "includePrescriptionIssues", "valueBoolean": s == "true"})
	}),
	set(`I add the medication parameter with mandatory parameter plus unknown part parameter`, func(c *consumer, _ string) {
		c.param("includeMedication", fhir.M{"name": "includePrescriptionIssues", "valueBoolean": true}, fhir.M{"name": "madeUpProblems", "valueCode": "active"})
	}),
	set(`I add an invalid medications parameter`, func(c *consumer, _ string) { c.param("includeInvalidMedications") }),
	set(`I set a medications period parameter start date to "(.*)"`, func(c *consumer, s string) {
		c.param("includeMedication", fhir.M{"name": "includePrescriptionIssues", "valueBoolean": true}, fhir.M{"name": "medicationSearchFromDate", "valueDate": s})
	}),
	set(`I add the immunisations parameter`, func(c *consumer, _ string) {
		c.param("includeImmunisations", fhir.M{"name": "includeNotGiven", "valueBoolean": true})
	}),
	set(`I add the allergies parameter`, func(c *consumer, _ string) { c.param("includeAllergies") }),
	set(`I add the allergies parameter with resolvedAllergies set to "(.*)"`, func(c *consumer, s string) { c.param("includeAllergies", resolved(s == "true")) }),
	set(`I add allergies parameter with invalid "(.*)"`, func(c *consumer, s string) { c.param("includeAllergies", fhir.M{"name": s, "valueBoolean": false}) }),
	set(`I add allergies parameter with invalid part parameter boolean`, func(c *consumer, _ string) { c.param("includeAllergies", resolved("rubbish")) }),
	set(`I add the allergies parameter with includePrescriptionIssues`, func(c *consumer, _ string) {
		c.param("includeAllergies", resolved(true), fhir.M{"name": "includePrescriptionIssues", "valueBoolean": true})
	}),
	set(`I add an unknown allergies parameter`, func(c *consumer, _ string) { c.param("inlcudeUnknownAllergies") }),
	set(`I add the allergies parameter with an? (timePeriod|start date|end date)`, func(c *consumer, s string) {
		start, end := "2019-01-01", "2020-01-01"
		if s == "start date" {
			end = ""
		} else if s == "end date" {
			start = ""
		}
		p := period(start, end)
		p["name"] = "TimePeriod"
		c.param("includeAllergies", resolved(true), p)
	}),
	set(`I send an invalid Consultations parameter containing valid part parameters`, func(c *consumer, _ string) {
		c.param("includeInvalidConsultations", resolved(true))
	}),
	set(`I send a request that contains all forward compatable structured parameters with optional parameters`, func(c *consumer, _ string) {
		c.param("includeAllergies", resolved(true))
		c.param("includeMedication", fhir.M{"name": "includePrescriptionIssues", "valueBoolean": true})
		for _, n := range []string{"includeProblems", "includeConsultations", "includeImmunisations", "includeUncategorisedData"} {
			c.param(n)
		}
	}),
	step(`I make the "\w+" request`, func(c *consumer, _ string) error { return c.send() }),
	step(`I make the "\w+" request with an unencoded JWT Bearer Token`, func(c *consumer, _ string) error {
		c.bearer = "Bearer " + `{"alg":"none","typ":"JWT"}.` + string(fhir.JSON(c.claims)) + "."
		return c.send()
	}),
}

func (c *consumer) token() string {
	enc := base64.RawURLEncoding
	return "Bearer " + enc.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + enc.EncodeToString(fhir.JSON(c.claims)) + "."
}

func (c *consumer) send() error {
	var body io.Reader
	if c.structured {
		body = bytes.NewReader(fhir.JSON(fhir.M{"resourceType": "Parameters", "parameter": c.params}))
	}
	r := httptest.NewRequest(c.method, c.path, body)
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	if c.bearer == "" {
		c.bearer = c.token()
	}
	r.Header.Set("Authorization", c.bearer)
	c.answer = httptest.NewRecorder()
	c.provider.ServeHTTP(c.answer, r)
	c.code = c.answer.Code
	var in io.Reader = c.answer.Body
	if c.answer.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = z
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	c.body, err = fhir.ParseValue(raw)
	return err
}

// run runs a scenario. why is why it was not run.
func (c *consumer) run(sc scenario, but map[string]string) (why string, err error) {
	for _, s := range sc.steps {
		if strings.Contains(s, "fhir+xml") || strings.Contains(s, "XML") {
			return "XML is not offered", nil
		}
		for _, not := range []map[string]string{notHere, but} {
			for pattern, what := range not {
				if strings.Contains(s, pattern) {
					return what, nil
				}
			}
		}
		done := false
		for _, d := range append(asking, seen...) {
			if m := d.re.FindStringSubmatch(s); m != nil {
				arg := ""
				if len(m) > 1 {
					arg = m[1]
				}
				if err := d.do(c, arg); err != nil {
					return "", fmt.Errorf("%s: %w", s, err)
				}
				done = true
				break
			}
		}
		if !done {
			return "no step for: " + s, nil
		}
	}
	return "", nil
}
