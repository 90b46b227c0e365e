package world

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// A request is one way of asking for somebody's record.
type request struct {
	what, method, path, contentType string
	body                            []byte
}

// ways are all of them, over the API and the pages.
func ways(id string, p fhir.Identifier) []request {
	form := []byte(url.Values{"identifier": {p.System + "|" + p.Value}}.Encode())
	find := []byte(url.Values{"system": {p.System}, "value": {p.Value}}.Encode())
	gather := fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "identifier", "valueIdentifier": p}}}).Raw()
	const urlencoded = "application/x-www-form-urlencoded"
	return []request{
		{"gather", "POST", "/fhir/$gather", "application/fhir+json", gather},
		{"find", "POST", "/fhir/Patient/_search", urlencoded, form},
		{"patient", "GET", "/fhir/Patient/" + id, "", nil},
		{"everything", "GET", "/fhir/Patient/" + id + "/$everything", "", nil},
		{"search in the record", "GET", "/fhir/Patient/" + id + "/$everything?_type=Patient", "", nil},
		{"page", "GET", "/record/" + id + "?all=1", "", nil},
		{"timeline", "GET", "/record/" + id + "/timeline", "", nil},
		{"find page", "POST", "/record", urlencoded, find},
		{"my page", "GET", "/me", "", nil},
	}
}

// one makes a request and follows no redirect.
func (c *checker) one(t *testing.T, r request, user string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(c.ctx, r.method, c.w.URL()+r.path, bytes.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+sim.TokenPrefix+user)
	req.Header.Set("Content-Type", r.contentType)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	canaries.see(user, r.body, body)
	return resp.StatusCode, body
}

// looksAfter are the openings and the refusals in the log after an entry, by user.
func (c *checker) looksAfter(t *testing.T, after audit.Seq, user string, told map[string]bool) (shown map[string][]string, refused int, last audit.Seq) {
	t.Helper()
	shown, last = map[string][]string{}, after
	for e, err := range c.w.Node.Audit.All(c.ctx, after, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		last = e.Seq
		switch {
		case s.User != user: // the watching's own, and other nodes'
		case s.Shows():
			if !told[s.Trace] && !slices.Contains(shown[s.PersonID], s.Trace) {
				shown[s.PersonID] = append(shown[s.PersonID], s.Trace)
			}
		case s.Kind == audit.Denied || s.Kind == audit.Search:
			refused++
		}
	}
	return shown, refused, last
}

// Whatever shows a person, and only that, is in the log, once, for that person and nobody else; and so is whatever is refused or empty.
func TestDisclosuresAndEventsAreTheSame(t *testing.T) {
	c := severn(t)
	nobody := cast.Person{Key: "nobody", NHS: cast.NHSNumber("999999901"), Family: "Nobody"}
	people := []cast.Person{c.w.Person(cast.Main), c.w.Person("daniel"), nobody}
	ids := map[string]string{"nobody": "nobody"}
	for _, p := range people[:2] {
		_, b, err := c.gather("doctor", nhs(p), fhir.M{"name": "purpose", "valueCode": "ETREAT"}, fhir.M{"name": "reason", "valueString": "unconscious"})
		if err != nil || personOf(b) == "" {
			t.Fatalf("%s: %v", p.Key, err)
		}
		ids[p.Key] = personOf(b)
	}
	disclosed, events := 0, 0
	told := map[string]bool{} // traces: the end of an opening may come later than its beginning
	head, err := c.w.Node.Audit.Head(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := head.Seq
	for _, user := range []string{"doctor", "receptionist", "citizen", "operator", "privacy"} {
		for _, p := range people {
			for _, r := range ways(ids[p.Key], nhs(p)) {
				status, body := c.one(t, r, user)
				// The canary is the person's number, which stands on everything that is about them.
				spaced := p.NHS[:3] + " " + p.NHS[3:6] + " " + p.NHS[6:]
				number := bytes.Contains(body, []byte(p.NHS)) || bytes.Contains(body, []byte(spaced))
				saw := number && status == http.StatusOK && (bytes.Contains(body, []byte(p.Family)) || bytes.Contains(body, []byte(strings.ToUpper(p.Family))))
				if r.path == "/me" { // whoever's page it is
					p = c.w.Person(cast.Main)
					saw = status == http.StatusOK && bytes.Contains(body, []byte(p.Family))
				}
				var shown map[string][]string
				var refused int
				shown, refused, at = c.looksAfter(t, at, user, told)
				// One's own page tells who looked, which is a second reading of one's own identity.
				opened := len(shown[ids[p.Key]])
				for _, traces := range shown {
					for _, trace := range traces {
						told[trace] = true
					}
				}
				delete(shown, ids[p.Key])
				where := fmt.Sprintf("%s of %s as %s (%d)", r.what, p.Key, user, status)
				switch {
				case len(shown) > 0:
					t.Errorf("%s: the log says that others were shown: %v", where, shown)
				case saw && opened != 1 && !(r.path == "/me" && opened > 0):
					t.Errorf("%s: shown, and the log has it %d times", where, opened)
				case !saw && opened > 0:
					t.Errorf("%s: not shown, and the log has it %d times", where, opened)
				case !saw && status == http.StatusNotFound && strings.HasPrefix(r.path, "/fhir") && user != "operator" && user != "privacy" && refused == 0:
					t.Errorf("%s: refused or empty, and the log has nothing of it", where)
				}
				if saw {
					disclosed++
				}
				events += opened
			}
		}
	}
	if disclosed < 15 {
		t.Errorf("only %d disclosures: the test looks at nothing", disclosed)
	}
	t.Logf("%d disclosures, %d in the log", disclosed, events)
	if rep, err := c.w.Node.Audit.Verify(c.ctx); err != nil || !rep.OK() {
		t.Errorf("%v %v", rep, err)
	}
}

// What a neighbour is asked is a disclosure there too: in its own log, once, for the person, by whom it was asked on behalf of; and so is that it
// knows nobody.
func TestANeighboursQuestionIsInItsOwnLog(t *testing.T) {
	c := severn(t)
	wye := c.w.Neighbour.Audit
	after := func(from audit.Seq) (shown, empty []audit.Summary, last audit.Seq) {
		last = from
		for e, err := range wye.All(c.ctx, from, 0) {
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.Summary()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case s.Shows():
				shown = append(shown, s)
			case s.Kind == audit.Search || s.Kind == audit.Denied:
				empty = append(empty, s)
			}
			last = e.Seq
		}
		return shown, empty, last
	}
	_, _, at := after(0)
	known, unknown := 0, 0
	for _, key := range []string{cast.Main, "george", "chloe", "laura"} {
		p := c.w.Person(key)
		_, b, err := c.gather("doctor", nhs(p))
		if err != nil {
			t.Fatal(err)
		}
		var shown, empty []audit.Summary
		shown, empty, at = after(at)
		for _, s := range shown {
			if s.NHSNumber.Digits() != p.NHS || !strings.Contains(s.User, "doctor") || s.PersonID == "" || s.Trace == "" {
				t.Errorf("%s: Wye's log has %+v", key, s)
			}
		}
		gave := bytes.Contains(b.raw, []byte(`"urn:tombolo:source:wye`)) || bytes.Contains(b.raw, []byte("source-wye"))
		switch {
		case gave && len(shown) != 1:
			t.Errorf("%s: Wye gave something, and its log has it %d times", key, len(shown))
		case !gave && len(shown)+len(empty) == 0:
			t.Errorf("%s: Wye was asked, and its log has nothing of it", key)
		}
		if len(shown) > 0 {
			known++
		} else {
			unknown++
		}
	}
	if known == 0 || unknown == 0 {
		t.Errorf("Wye knew %d and did not know %d: the test looks at nothing", known, unknown)
	}
}

// An export is a disclosure of each person in it: recorded once for each before anything of them is given, and of nobody else.
func TestAnExportIsRecordedOnceForEachPerson(t *testing.T) {
	c := severn(t)
	n := c.w.Node
	if _, _, err := c.gather("doctor", nhs(c.w.Person(cast.Main))); err != nil {
		t.Fatal(err)
	}
	head, err := n.Audit.Head(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	at, recorded := head.Seq, map[string]int{}
	read := func() {
		for e, err := range n.Audit.All(c.ctx, at, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if s, _ := e.Summary(); s.Kind == audit.Export {
				recorded[s.PersonID]++
			}
			at = e.Seq
		}
	}
	numbers := map[string]string{} // of everybody, by person
	for id, err := range n.People.All(c.ctx) {
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.People.Person(c.ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		numbers[id] = p.NHSNumber
	}
	given, looks := map[string]bool{}, 0
	x := node.Export{By: audit.Agent{User: "command-line/test"}, Raw: true, Write: func(r *fhir.Resource) error {
		if r.Type() == "AuditEvent" {
			looks++
			return nil
		}
		read()
		for id, number := range numbers {
			if number != "" && bytes.Contains(r.Raw(), []byte(number)) {
				if given[id] = true; recorded[id] == 0 && r.Type() == "Patient" {
					t.Errorf("%s of somebody is given, and the log has not said so", r.Ref())
				}
			}
		}
		return nil
	}}
	out, err := n.ExportAll(c.ctx, x)
	if err != nil || len(out.Damaged) > 0 {
		t.Fatal(err, out.Damaged)
	}
	read()
	for id := range numbers {
		if recorded[id] != 1 {
			t.Errorf("a person's export is recorded %d times", recorded[id])
		}
	}
	for id, times := range recorded {
		if _, known := numbers[id]; id != "" && (!known || times > 1) {
			t.Errorf("recorded %d times: an export of somebody (%v) who was not given", times, known)
		}
	}
	if len(given) < 12 || looks == 0 || out.Resources < 500 {
		t.Errorf("%d people, %d looks, %d resources: the test looks at nothing", len(given), looks, out.Resources)
	}
	// One person alone: one event more, and nothing of anybody else.
	var main string
	for id, number := range numbers {
		if number == c.w.Person(cast.Main).NHS {
			main = id
		}
	}
	x.Write = func(r *fhir.Resource) error {
		for id, number := range numbers {
			if id != main && number != "" && bytes.Contains(r.Raw(), []byte(number)) && r.Type() == "Patient" {
				t.Errorf("%s of somebody else is given", r.Ref())
			}
		}
		return nil
	}
	if _, err := n.ExportPerson(c.ctx, x, main); err != nil {
		t.Fatal(err)
	}
	if read(); recorded[main] != 2 {
		t.Errorf("exported twice, recorded %d times", recorded[main])
	}
}

// What the API gave is given again, byte for byte, from what was kept, when every source is gone.
func TestWhatTheAPIGaveIsRebuilt(t *testing.T) {
	c := severn(t)
	_, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil {
		t.Fatal(err)
	}
	var last audit.Entry
	for e, err := range c.w.Node.Audit.Show(c.ctx, personOf(b), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, _ := e.Root(); ok {
			last = e
		}
	}
	rec, err := c.w.Node.Shown(c.ctx, audit.Agent{User: "test"}, last.Seq)
	if err != nil {
		t.Fatal(err)
	}
	base := c.w.URL() + "/fhir"
	if got := rec.Bundle(base, base+"/$gather"); !bytes.Equal(got, b.raw) {
		t.Errorf("rebuilt %d bytes, given were %d", len(got), len(b.raw))
	}
}

// With the audit log down nothing of anybody leaves, on any way.
func TestWithTheAuditLogDownNothingLeaves(t *testing.T) {
	w, err := Start(nonTestContext, Options{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	c := &checker{w: w, ctx: t.Context()}
	margaret := w.Person(cast.Main)
	_, b, err := c.gather("doctor", nhs(margaret))
	if err != nil || personOf(b) == "" {
		t.Fatal(err)
	}
	document := ""
	for _, d := range b.find("DocumentReference", "") {
		if u := d.Text("content.attachment.url"); strings.HasPrefix(u, "Binary/") {
			document = u
		}
	}
	id := personOf(b)
	_ = w.Node.Audit.Close()
	never := func(r *fhir.Resource) error { t.Errorf("an export gives %s", r.Ref()); return nil }
	if _, err := w.Node.ExportAll(c.ctx, node.Export{Raw: true, Write: never}); !fhir.Is(err, fhir.NoStore) {
		t.Errorf("an export of everybody: %v", err)
	}
	if _, err := w.Node.ExportPerson(c.ctx, node.Export{Write: never}, id); !fhir.Is(err, fhir.NoStore) {
		t.Errorf("an export of one: %v", err)
	}
	all := append(ways(id, nhs(margaret)), request{"document", "GET", "/fhir/" + document, "", nil}, request{"a page as it grows", "GET", "/record/" + id, "", nil},
		request{"nobody", "GET", "/fhir/Patient/nobody", "", nil}, request{"the queue", "GET", "/privacy", "", nil})
	for _, user := range []string{"doctor", "receptionist", "citizen", "privacy"} {
		for _, r := range all {
			status, _, body, err := c.http(r.method, r.path, user, r.contentType, r.body)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{margaret.NHS, "999 000 01", margaret.Family, strings.ToUpper(margaret.Family), "penicillin", margaret.Postcode} {
				if user == "citizen" && strings.EqualFold(secret, margaret.Family) { // her own name is in the corner of the page
					continue
				}
				if bytes.Contains(body, []byte(secret)) {
					t.Errorf("%s as %s (%d): the answer holds %q", r.what, user, status, secret)
				}
			}
			if user == "doctor" && strings.HasPrefix(r.path, "/fhir") && status != http.StatusServiceUnavailable {
				t.Errorf("%s as %s: status %d, want 503", r.what, user, status)
			}
		}
	}
}

// Each node keeps the heads of the other's audit log as they grow, and the owner can be held to them.
func TestNeighboursKeepEachOthersHeads(t *testing.T) {
	c := severn(t)
	if c.w.Neighbour == nil {
		t.Fatal("there is no neighbour")
	}
	file := filepath.Join(c.w.Dir(), "severn", "witness", "wye")
	var heads []audit.Head
	for deadline := time.Now().Add(20 * time.Second); len(heads) == 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		key, err := os.ReadFile(file + ".key")
		if err != nil {
			continue
		}
		f, err := os.Open(file + ".heads")
		if err != nil {
			continue
		}
		heads, err = audit.ReadHeads(f, string(key))
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(heads) == 0 {
		t.Fatal("Severn has kept no head of Wye's log")
	}
	if rep, err := c.w.Neighbour.Audit.Verify(c.ctx, heads...); err != nil || !rep.OK() {
		t.Errorf("Wye's log, held to what Severn kept: %v %v", rep, err)
	}
	for _, path := range []string{"/audit/head", "/audit/key", "/audit/proof?from=1&to=1"} {
		status, _, body, err := c.http("GET", path, "nobody", "", nil)
		if err != nil || status == http.StatusUnauthorized || bytes.Contains(body, []byte("AuditEvent")) {
			t.Errorf("%s: %d %v", path, status, err)
		}
	}
}

// The alert of an emergency opening is in the privacy officer's queue within seconds, and what Margaret does not recognise beside it.
func TestAlertsAndConcernsReachThePrivacyOfficer(t *testing.T) {
	c := severn(t)
	if _, _, err := c.gather("doctor", nhs(c.w.Person("daniel")), fhir.M{"name": "purpose", "valueCode": "ETREAT"}, fhir.M{"name": "reason", "valueString": "unconscious in resus"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.gather("doctor", nhs(c.w.Person(cast.Main))); err != nil {
		t.Fatal(err)
	}
	_, _, page, err := c.http("GET", "/me", "citizen", "", nil)
	if err != nil || !bytes.Contains(page, []byte("Dr Femi Ade, hospital doctor at Severn Acute Trust, looked at your record to care for you")) {
		t.Fatalf("her page does not say who looked (%v)", err)
	}
	_, after, _ := bytes.Cut(page, []byte(`name="entry" value="`))
	entry, _, _ := bytes.Cut(after, []byte(`"`))
	form := []byte(url.Values{"entry": {string(entry)}, "words": {"I have never met a Dr Ade."}}.Encode())
	if status, _ := c.one(t, request{"ask", "POST", "/me/looked", "application/x-www-form-urlencoded", form}, "citizen"); status != http.StatusSeeOther {
		t.Fatalf("asking: %d", status)
	}
	start := time.Now()
	for {
		status, _, page, err := c.http("GET", "/privacy", "privacy", "", nil)
		if err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		if bytes.Contains(page, []byte("Emergency access")) && bytes.Contains(page, []byte("unconscious in resus")) && bytes.Contains(page, []byte("I have never met a Dr Ade.")) {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("a minute later the queue still does not hold both")
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("in the queue after %s", time.Since(start).Round(10*time.Millisecond))
	// The same queue as FHIR, for the system in which privacy officers keep their work; and to nobody else.
	status, _, tasks, err := c.http("GET", "/fhir/Task?status=requested&patient="+personOfConcern(t, c), "privacy", "", nil)
	if err != nil || status != http.StatusOK || !bytes.Contains(tasks, []byte("I have never met a Dr Ade.")) || bytes.Contains(tasks, []byte("unconscious in resus")) {
		t.Errorf("her question as a Task: %d %v %s", status, err, tasks)
	}
	for _, user := range []string{"doctor", "citizen", "operator"} {
		if status, _, body, _ := c.http("GET", "/fhir/Task?status=requested", user, "", nil); status == http.StatusOK || bytes.Contains(body, []byte("Dr Ade")) {
			t.Errorf("%s sees the privacy officer's tasks: %d", user, status)
		}
	}
	if _, _, page, _ := c.http("GET", "/me", "citizen", "", nil); !bytes.Contains(page, []byte("The privacy officer is looking into it.")) {
		t.Error("her page does not say what became of her question")
	}
	status, head, csv, err := c.http("POST", "/privacy/export", "privacy", "application/x-www-form-urlencoded", []byte(url.Values{"system": {fhir.SystemNHSNumber}, "value": {c.w.Person(cast.Main).NHS}}.Encode()))
	if err != nil || status != http.StatusOK || !strings.HasPrefix(head.Get("Content-Type"), "text/csv") || !bytes.Contains(csv, []byte("Dr Femi Ade")) {
		t.Errorf("the export: %d %v", status, err)
	}
	used := 0
	for e := range c.w.Node.Audit.By(c.ctx, "privacy", 0, 0) {
		if s, _ := e.Summary(); s.Kind == audit.Verified {
			used++
		}
	}
	if used < 2 {
		t.Errorf("the privacy officer's own reading is in the log %d times", used)
	}
}

// personOfConcern is Margaret's id.
func personOfConcern(t *testing.T, c *checker) string {
	t.Helper()
	id, err := c.w.Node.People.Resolve(c.ctx, nhs(c.w.Person(cast.Main)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
