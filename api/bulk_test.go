package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/bulk"
	"tombolo/fhir"
)

const async = "Prefer: respond-async"

// bulkRuns starts what does bulk work, as a node does; bulkStops stops it.
func (s *site) bulkRuns() *bulk.Service {
	b := bulk.New(bulk.Options{Store: s.db, Gather: s.gather, Intake: s.in, Node: access.NewTrace()})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = b.Run(ctx); close(done) }()
	s.bulkStops = func() { stop(); <-done }
	return b
}

// manifest begins a job with a request that answers 202, and waits for its end.
func (s *site) manifest(begun answer) fhir.Value {
	s.t.Helper()
	at := begun.want(s.t, 202).Header.Get("Content-Location")
	deadline := time.Now().Add(time.Minute)
	for {
		a := s.do("GET", at, nil)
		if a.StatusCode == 202 {
			if a.Header.Get("X-Progress") == "" || a.Header.Get("Retry-After") == "" {
				s.t.Fatalf("a job under way says nothing of how far it is: %v", a.Header)
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("the job does not end: %s", a.Header.Get("X-Progress"))
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		a.want(s.t, 200)
		if a.Header.Get("Expires") == "" || a.Header.Get("Content-Type") != "application/json" {
			s.t.Errorf("the manifest's headers: %v", a.Header)
		}
		return a.value(s.t)
	}
}

// lines are what a list of a manifest's files holds, as "Type/id" in order.
func (s *site) lines(m fhir.Value, list string) []string {
	s.t.Helper()
	var out []string
	for f := range m.All(list) {
		a := s.do("GET", f.Text("url"), nil, "Accept: application/fhir+ndjson").want(s.t, 200)
		n := 0
		for l := range bytes.Lines(a.body) {
			r, err := fhir.Parse(bytes.TrimSpace(l))
			must(s.t, err)
			if r.Type() != f.Text("type") {
				s.t.Errorf("a %s among the file of %s", r.Type(), f.Text("type"))
			}
			switch r.Type() {
			case "Provenance":
			case "Bundle":
				out = append(out, r.Text("entry.request.method")+" "+r.Text("entry.request.url"))
			case "OperationOutcome":
				out = append(out, r.Text("issue.expression")+" "+r.Text("issue.code"))
			default:
				out = append(out, string(r.Ref()))
			}
			n++
		}
		if strconv.Itoa(n) != f.Get("count").Str() {
			s.t.Errorf("%d lines in a file that is said to have %s", n, f.Get("count").Str())
		}
	}
	slices.Sort(out)
	return out
}

func (s *site) exported(path string) []string {
	s.t.Helper()
	return s.lines(s.manifest(s.do("GET", path, nil, async)), "output")
}

// smallWard makes two patients with what is about them, an organisation that one names, one that nobody does, and a group of one.
func (s *site) smallWard() {
	for _, r := range []string{
		`{"resourceType":"Organization","id":"trust","name":"Trust","partOf":{"reference":"Organization/board"}}`,
		`{"resourceType":"Organization","id":"board","name":"Board"}`,
		`{"resourceType":"Organization","id":"other","name":"Other"}`,
		`{"resourceType":"Patient","id":"ann","managingOrganization":{"reference":"Organization/trust"}}`,
		`{"resourceType":"Patient","id":"bob"}`,
		`{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ann"}}`,
		`{"resourceType":"Observation","id":"o2","status":"amended","code":{"text":"x"},"subject":{"reference":"Patient/ann"}}`,
		`{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/bob"}}`,
		`{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/bob"}},{"entity":{"reference":"Patient/ann"},"inactive":true}]}`,
	} {
		res, err := fhir.Parse([]byte(r))
		must(s.t, err)
		s.do("PUT", string(res.Ref()), r).want(s.t, 201)
	}
	s.as("other", "PUT", "Patient/theirs", `{"resourceType":"Patient","id":"theirs"}`).want(s.t, 201)
}

// HL7 Bulk Data Access 2.0.0: the three levels, and what narrows them.
func TestAnExportGivesWhatIsAskedFor(t *testing.T) {
	s := open(t)
	s.smallWard()
	for path, want := range map[string]string{
		"$export":                         "Condition/c1 Group/g Observation/o1 Observation/o2 Organization/board Organization/other Organization/trust Patient/ann Patient/bob",
		"Patient/$export":                 "Condition/c1 Group/g Observation/o1 Observation/o2 Organization/board Organization/trust Patient/ann Patient/bob",
		"Group/g/$export":                 "Condition/c1 Group/g Patient/bob",
		"$export?_type=Observation,Group": "Group/g Observation/o1 Observation/o2",
		"$export?_type=Observation&_type=Condition":                                                                       "Condition/c1 Observation/o1 Observation/o2",
		"Patient/$export?_outputFormat=ndjson&_type=Patient":                                                              "Patient/ann Patient/bob",
		"Patient/$export?_type=Observation,Patient&_typeFilter=" + url.QueryEscape("Observation?status=amended"):          "Observation/o2 Patient/ann Patient/bob",
		"$export?_type=Observation&_typeFilter=" + url.QueryEscape("Observation?status=amended,Observation?status=final"): "Observation/o1 Observation/o2",
		"$export?_type=Observation&_typeFilter=" + url.QueryEscape("Observation?status=amended,registered"):               "Observation/o2",
	} {
		if got := strings.Join(s.exported(path), " "); got != want {
			t.Errorf("%s gives %s\nwant %s", path, got, want)
		}
	}
	m := s.manifest(s.do("POST", "Patient/$export", `{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Patient/bob"}},{"name":"_type","valueString":"Patient"}]}`, async))
	if got := s.lines(m, "output"); fmt.Sprint(got) != "[Patient/bob]" {
		t.Errorf("asked for one patient, %v", got)
	}
	if m.Text("transactionTime") == "" || m.Text("request") != s.url+"/Patient/$export" || m.Get("requiresAccessToken").Str() != "true" {
		t.Errorf("the manifest: %s", m.Raw())
	}
}

// What is given has been recorded for each person before, and so has each fetching of a file.
func TestAnExportOfASystemIsAuditedForEachPerson(t *testing.T) {
	s := open(t)
	s.smallWard()
	head, err := s.audit.Head(t.Context())
	must(t, err)
	m := s.manifest(s.do("GET", "Patient/$export?_type=Patient,Observation", nil, async))
	persons, fetched := map[string]string{}, 0
	s.lines(m, "output")
	for e, err := range s.audit.All(t.Context(), head.Seq, 0) {
		must(t, err)
		entry, err := e.Summary()
		must(t, err)
		if entry.Kind != audit.Export {
			continue
		}
		if e.PersonID != "" {
			persons[e.PersonID] += string(e.Body)
		} else if strings.Contains(entry.Query, "/file/") {
			fetched++
		}
	}
	if len(persons) != 2 || fetched != 2 {
		t.Errorf("%d persons and %d files are in the audit log, want 2 and 2", len(persons), fetched)
	}
	for _, what := range persons {
		if !strings.Contains(what, "Patient/ann/_history/1") && !strings.Contains(what, "Patient/bob/_history/1") {
			t.Errorf("the entry does not say what was given: %s", what)
		}
	}
}

// A client that asks for what changed since the last export's transactionTime gets all of it, and what was deleted.
func TestWhatChangedSinceTheExportBefore(t *testing.T) {
	s := open(t)
	s.smallWard()
	since := url.QueryEscape(s.manifest(s.do("GET", "$export", nil, async)).Text("transactionTime"))
	time.Sleep(2 * time.Millisecond)
	if got := s.exported("$export?_since=" + since); len(got) > 0 {
		t.Errorf("nothing has changed, and %v is given", got)
	}
	s.do("PUT", "Observation/o1", `{"resourceType":"Observation","id":"o1","status":"corrected","code":{"text":"x"},"subject":{"reference":"Patient/ann"}}`).want(t, 200)
	s.do("DELETE", "Observation/o2", nil).want(t, 204)
	s.do("DELETE", "Organization/other", nil).want(t, 204)
	m := s.manifest(s.do("GET", "$export?_since="+since, nil, async))
	if got := fmt.Sprint(s.lines(m, "output"), s.lines(m, "deleted")); got != "[Observation/o1] [DELETE Observation/o2 DELETE Organization/other]" {
		t.Errorf("changed and deleted: %s", got)
	}
	m = s.manifest(s.do("GET", "Group/g/$export?_since="+since, nil, async))
	if got := fmt.Sprint(s.lines(m, "output"), s.lines(m, "deleted")); got != "[] []" {
		t.Errorf("of the group, of which nothing has changed: %s", got)
	}
}

// A job belongs to who began it, and ends when they say so.
func TestAJobIsItsSystemsOwn(t *testing.T) {
	s := open(t)
	s.smallWard()
	begun := s.do("GET", "$export", nil, async)
	m := s.manifest(begun)
	at, file := begun.Header.Get("Content-Location"), m.Text("output.url")
	for _, method := range []string{"GET", "DELETE"} {
		s.as("other", method, at, nil).want(t, 404)
	}
	s.as("other", "GET", file, nil).want(t, 404)
	s.do("GET", strings.Replace(file, "/file/0", "/file/99", 1), nil).want(t, 404)
	z, err := gzip.NewReader(bytes.NewReader(s.do("GET", file, nil, "Accept-Encoding: gzip").want(t, 200).body))
	must(t, err)
	if plain, err := io.ReadAll(z); err != nil || !bytes.HasPrefix(plain, []byte(`{"resourceType"`)) {
		t.Errorf("packed, the file is %.40q, %v", plain, err)
	}
	s.do("DELETE", at, nil).want(t, 202)
	s.do("GET", at, nil).want(t, 404)
	s.do("GET", file, nil).want(t, 404)
	for item, err := range s.db.View("bulk/"+strings.Split(at, "/")[5]).Scan(t.Context(), "") {
		must(t, err)
		t.Errorf("%s is left behind", item.Key)
	}
}

func TestABadExportIsRefused(t *testing.T) {
	s := open(t)
	s.smallWard()
	for path, status := range map[string]int{
		"$export?_type=Nothing": 400, "$export?_since=2026": 400, "$export?_outputFormat=csv": 400, "$export?_elements=id": 400, "$export?_typeFilter=Patient": 400,
		"$export?_typeFilter=" + url.QueryEscape("Patient?nothing=1"): 400, "$export?patient=Patient/ann": 400, "Group/none/$export": 404,
		"Patient/$export?patient=Patient/theirs": 404, "Patient/$export?patient=Patient/nobody": 404, "Group/g/$export?patient=Patient/ann": 404,
	} {
		s.do("GET", path, nil, async).want(t, status)
	}
	s.do("GET", "$export", nil).want(t, 400)
	s.as("doctor", "GET", "$export", nil, async).want(t, 403)
	s.exportedLenient("$export?_type=Group&_elements=id", "Group/g")
}

func (s *site) exportedLenient(path, want string) {
	s.t.Helper()
	if got := strings.Join(s.lines(s.manifest(s.do("GET", path, nil, async+", handling=lenient")), "output"), " "); got != want {
		s.t.Errorf("%s gives %s, want %s", path, got, want)
	}
}

// An import writes each line under its own id, whatever the order; a line that cannot be taken is told of, and hinders no other. Done again, it changes nothing.
func TestAnImportTakesWhatItCanAndTellsTheRest(t *testing.T) {
	s := open(t)
	s.as("other", "PUT", "Patient/theirs", `{"resourceType":"Patient","id":"theirs"}`).want(t, 201)
	lines := strings.Join([]string{
		`{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ann"}}`,
		`{"resourceType":"Patient","id":"ann","active":true}`,
		`not json`,
		`{"resourceType":"Patient","active":true}`,
		``,
		`{"resourceType":"Patient","id":"bob","activ":true}`,
		`{"resourceType":"Observation","id":"o2","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/theirs"}}`,
		`{"resourceType":"Patient","id":"theirs"}`,
		`{"resourceType":"Observation","id":"o1","status":"amended","code":{"text":"x"},"subject":{"reference":"Patient/ann"}}`,
		`{"resourceType":"Organization","id":"trust","name":"Trust"}`}, "\n")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, lines)
	must(t, z.Close())
	for round := range 2 {
		m := s.manifest(s.do("POST", "$import", packed.Bytes(), async, "Content-Type: application/fhir+ndjson", "Content-Encoding: gzip"))
		if got := strings.Join(s.lines(m, "error"), "; "); got != "line 3 structure; line 4: Patient.id required; line 6: Patient structure; line 7: Observation business-rule; line 8: Patient.id conflict" {
			t.Errorf("told of: %s", got)
		}
		if m.Text("extension.taken") != "4" || m.Text("extension.lines") != "10" {
			t.Errorf("the manifest says %s", m.Get("extension").Raw())
		}
		if a := s.do("GET", "Observation/o1", nil).want(t, 200); a.text(t, "status") != "amended" || round > 0 && a.text(t, "meta.versionId") > "3" {
			t.Errorf("Observation/o1 is %s", a.body)
		}
		s.do("GET", "Organization/trust", nil).want(t, 200)
		if got := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); got != "1" {
			t.Errorf("%s patients", got)
		}
	}
	s.do("POST", "$import", lines, "Content-Type: application/fhir+ndjson").want(t, 400)
	s.do("POST", "$import", lines, async).want(t, 415)
	s.do("POST", "$import", "not gzip", async, "Content-Type: application/fhir+ndjson", "Content-Encoding: gzip").want(t, 400)
}

// A job that a node was at when it stopped is gone on with by another, and nothing is given twice or lost.
func TestABulkJobSurvivesItsNode(t *testing.T) {
	s := open(t)
	const n = 400
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"p%03d","name":[{"family":%q}]}`+"\n", i, strings.Repeat("x", 6000))
		fmt.Fprintf(&lines, `{"resourceType":"Observation","id":"o%03d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p%03d"}}`+"\n", i, i)
	}
	begun := s.do("POST", "$import", lines.String(), async, "Content-Type: application/fhir+ndjson").want(t, 202)
	for range 4 { // stopped wherever it is
		time.Sleep(30 * time.Millisecond)
		s.bulkStops()
		s.bulkRuns()
	}
	s.manifest(begun)
	begun = s.do("GET", "Patient/$export?_type=Patient,Observation", nil, async).want(t, 202)
	for range 4 {
		time.Sleep(20 * time.Millisecond)
		s.bulkStops()
		s.bulkRuns()
	}
	got := s.lines(s.manifest(begun), "output")
	if len(got) != 2*n || len(slices.Compact(got)) != 2*n {
		t.Errorf("%d lines, %d different, want %d", len(got), len(slices.Compact(got)), 2*n)
	}
}
