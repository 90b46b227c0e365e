package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// Check runs the region's story once, over HTTP as an app would, and says what it saw. It goes on after a step that fails, and
// returns an error that names each.
func (w *World) Check(ctx context.Context, out io.Writer) error {
	c := &checker{w: w, ctx: ctx, out: out}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"Margaret's record is joined from every kind of source", c.joined},
		{"what three sources repeat is shown once, with all three", c.once},
		{"doses that differ stay apart and are flagged; issues stand under their repeat", c.doses},
		{"every heading says what is known of it", c.states},
		{"a source that is switched off is named, and the rest is there in time", c.switchedOff},
		{"a source that answers about somebody else is dropped, loudly", c.wrongPatient},
		{"somebody who objects is unknown to the receptionist, and open to a doctor only in an emergency", c.objection},
		{"a restricted person's whereabouts are shown to nobody", c.restricted},
		{"two numbers merged at the hospital are one person, twins are two", c.identity},
		{"documents open", c.documents},
		{"national services say who she is, and who else holds something", c.nationally},
		{"the page shows the record to somebody who signs in", c.page},
		{"the audit chain holds, and says who looked", c.audited},
	} {
		c.step(step.what, step.do)
	}
	if len(c.failed) > 0 {
		return fmt.Errorf("%d of the demo's steps failed: %w", len(c.failed), errors.Join(c.failed...))
	}
	return nil
}

type checker struct {
	w      *World
	ctx    context.Context
	out    io.Writer
	failed []error
	seen   string // what the step saw, for its line
	record *bundle
	watch  func(user string, asked, answered []byte) // sees every answer; nil: nobody does
}

func (c *checker) step(what string, do func() error) {
	c.seen = ""
	start := time.Now()
	err := do()
	took := time.Since(start).Round(time.Millisecond)
	mark := "ok  "
	if err != nil {
		mark = "FAIL"
		c.failed = append(c.failed, fmt.Errorf("%s: %w", what, err))
		c.seen = err.Error()
	}
	fmt.Fprintf(c.out, "%s %s (%s)\n", mark, what, took)
	if c.seen != "" {
		fmt.Fprintf(c.out, "       %s\n", c.seen)
	}
}

func (c *checker) saw(format string, args ...any) { c.seen = fmt.Sprintf(format, args...) }

// A bundle is an answer, taken apart.
type bundle struct {
	raw     []byte
	entries []fhir.Entry
	took    time.Duration
}

func (b *bundle) find(typ, code string) []*fhir.Resource {
	var out []*fhir.Resource
	for _, e := range b.entries {
		if e.Mode != "match" || e.Resource.Type() != typ {
			continue
		}
		about := dataset.About(e.Resource).Coding
		if code == "" || slices.ContainsFunc(about, func(c fhir.Coding) bool { return c.Code == code }) {
			out = append(out, e.Resource)
		}
	}
	return out
}

// sources are those to which the bundle's Provenances attribute something.
func (b *bundle) sources() []string {
	var out []string
	for _, e := range b.entries {
		if e.Resource.Type() == "Provenance" {
			out = append(out, e.Resource.Text("entity.what.identifier.value"))
		}
	}
	return out
}

// outcomeOf is what the bundle says went wrong with a source, "" if nothing.
func (b *bundle) outcomeOf(source string) (code, text string) {
	for _, e := range b.entries {
		if e.Resource.Type() != "OperationOutcome" {
			continue
		}
		for i := range e.Resource.Value().All("issue") {
			if i.Text("details.coding.code") == source {
				return i.Text("code"), i.Text("diagnostics")
			}
		}
	}
	return "", ""
}

// gather asks for a record as one of the demo's users.
func (c *checker) gather(user string, id fhir.Identifier, more ...fhir.M) (status int, b *bundle, err error) {
	params := append([]fhir.M{{"name": "identifier", "valueIdentifier": id}}, more...)
	body := fhir.New("Parameters", "", fhir.M{"parameter": params}).Raw()
	start := time.Now()
	status, _, data, err := c.http(http.MethodPost, "/fhir/$gather", user, "application/fhir+json", body)
	if err != nil {
		return status, nil, err
	}
	b, err = parseBundle(data)
	b.took = time.Since(start)
	return status, b, err
}

func parseBundle(data []byte) (*bundle, error) {
	b := &bundle{raw: data}
	root, err := fhir.ParseValue(data)
	if err != nil {
		return b, err
	}
	for e, err := range fhir.Entries(root) {
		if err != nil {
			return b, err
		}
		b.entries = append(b.entries, e)
	}
	return b, nil
}

func (c *checker) http(method, path, user, contentType string, body []byte) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(c.ctx, method, c.w.URL()+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+sim.TokenPrefix+user)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if c.watch != nil {
		c.watch(user, body, data)
	}
	return resp.StatusCode, resp.Header, data, err
}

func nhs(p cast.Person) fhir.Identifier {
	return fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHS}
}

func (c *checker) joined() error {
	status, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("status %d: %v", status, err)
	}
	c.record = b
	want := []string{cast.GP1, cast.Acute, cast.Mental, cast.Community, cast.Council, cast.Ambulance}
	if c.w.Neighbour != nil {
		want = append(want, "wye")
	}
	got := b.sources()
	for _, s := range want {
		if !slices.Contains(got, s) {
			code, text := b.outcomeOf(s)
			return fmt.Errorf("nothing came from %s (%s %s); only from %v", s, code, text, got)
		}
	}
	n := 0
	for _, e := range b.entries {
		if e.Mode == "match" {
			n++
		}
	}
	c.saw("%d entries from %d sources in %s", n, len(got), b.took.Round(time.Millisecond))
	return nil
}

func (c *checker) once() error {
	if c.record == nil {
		return errors.New("no record")
	}
	found := c.record.find("AllergyIntolerance", "91936005")
	if len(found) != 1 {
		return fmt.Errorf("the penicillin allergy is shown %d times", len(found))
	}
	by := map[string]bool{}
	for x := range found[0].Value().All("extension") {
		if strings.HasSuffix(x.Text("url"), "/said-by") {
			for part := range x.All("extension") {
				if part.Text("url") == "source" {
					by[part.Text("valueCode")] = true
				}
			}
		}
	}
	for _, s := range []string{cast.GP1, cast.Acute, cast.Mental} {
		if !by[s] {
			return fmt.Errorf("%s is not named among the allergy's sources %v", s, by)
		}
	}
	c.saw("Allergy to penicillin: one entry, said by %d sources", len(by))
	return nil
}

func (c *checker) doses() error {
	if c.record == nil {
		return errors.New("no record")
	}
	flagged := 0
	ramipril := c.record.find("MedicationRequest", "318857002")
	for _, r := range ramipril {
		for x := range r.Value().All("extension") {
			if strings.HasSuffix(x.Text("url"), "/conflict") {
				flagged++
			}
		}
	}
	if len(ramipril) < 2 || flagged < 2 {
		return fmt.Errorf("ramipril: %d entries, %d flagged; want the two doses apart and both flagged", len(ramipril), flagged)
	}
	repeats, issues := 0, 0
	for _, r := range c.record.find("MedicationRequest", "319775004") {
		if r.Text("basedOn.reference") != "" {
			issues++
		} else {
			repeats++
		}
	}
	if repeats != 1 || issues != 3 {
		return fmt.Errorf("aspirin: %d repeats and %d issues, want 1 and 3", repeats, issues)
	}
	c.saw("Ramipril 5 mg one a day (practice) and two a day (mental health) both shown and flagged; aspirin is one repeat with 3 issues")
	return nil
}

func (c *checker) states() error {
	if c.record == nil {
		return errors.New("no record")
	}
	said := map[string]string{}
	for _, e := range c.record.entries {
		for x := range e.Resource.Value().All("extension") {
			if !strings.HasSuffix(x.Text("url"), "/heading-state") {
				continue
			}
			var heading, state, source string
			for p := range x.All("extension") {
				switch p.Text("url") {
				case "heading":
					heading = p.Text("valueCode")
				case "state":
					state = p.Text("valueCode")
				case "source":
					source = p.Text("valueCode")
				}
			}
			if source == "" {
				said[heading] = state
			}
		}
	}
	count := map[string]int{}
	for _, h := range dataset.AllHeadings() {
		if said[string(h)] == "" {
			return fmt.Errorf("nothing is said of %s", h)
		}
		count[said[string(h)]]++
	}
	c.saw("%d headings: %d present, %d none recorded, %d not known, %d not shared", len(said), count["present"], count["none-recorded"], count["not-known"], count["not-shared"])
	if count["present"] < 20 {
		return fmt.Errorf("only %d headings of the main person's record have entries", count["present"])
	}
	return nil
}

// Margin is how much longer than the slowest permitted deadline a record may take.
const margin = 50 * time.Millisecond

func (c *checker) switchedOff() error {
	f := c.w.Faults[cast.Mental]
	f.Set(sim.FaultSlow, time.Minute)
	defer f.Set(sim.FaultNone, 0)
	_, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil {
		return err
	}
	code, text := b.outcomeOf(cast.Mental)
	if code != "timeout" {
		return fmt.Errorf("the mental health trust is switched off, and the answer says %q %q", code, text)
	}
	if !slices.Contains(b.sources(), cast.GP1) {
		return errors.New("the practice's part is missing too")
	}
	if limit := 2*time.Second + 20*margin; b.took > limit { // generous here: a busy machine is no fault
		return fmt.Errorf("it took %s, longer than %s", b.took, limit)
	}
	c.saw("“%s” — answered in %s all the same", text, b.took.Round(time.Millisecond))
	return nil
}

func (c *checker) wrongPatient() error {
	f := c.w.Faults[cast.GP1]
	f.Set(sim.FaultWrongPatient, 0)
	defer f.Set(sim.FaultNone, 0)
	_, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil {
		return err
	}
	_, text := b.outcomeOf(cast.GP1)
	if text == "" || slices.Contains(b.sources(), cast.GP1) {
		return fmt.Errorf("somebody else's record was let in (%q)", text)
	}
	c.saw("“%s”", text)
	return nil
}

func (c *checker) objection() error {
	daniel := nhs(c.w.Person("daniel"))
	nobody := fhir.Identifier{System: fhir.SystemNHSNumber, Value: cast.NHSNumber("999999901")}
	refusedStatus, refused, err := c.gather("receptionist", daniel)
	if err != nil {
		return err
	}
	unknownStatus, unknown, err := c.gather("receptionist", nobody)
	if err != nil {
		return err
	}
	if refusedStatus != http.StatusNotFound || refusedStatus != unknownStatus || !bytes.Equal(refused.raw, unknown.raw) {
		return fmt.Errorf("the refusal (%d) can be told from an unknown person (%d)", refusedStatus, unknownStatus)
	}
	if status, _, err := c.gather("doctor", daniel); err != nil || status != http.StatusNotFound {
		return fmt.Errorf("the doctor got %d without an emergency (%v)", status, err)
	}
	status, b, err := c.gather("doctor", daniel, fhir.M{"name": "purpose", "valueCode": "ETREAT"}, fhir.M{"name": "reason", "valueString": "Unconscious in resus, ?status epilepticus"})
	if err != nil || status != http.StatusOK || len(b.find("Condition", "84757009")) != 1 {
		return fmt.Errorf("in an emergency the doctor got %d (%v)", status, err)
	}
	c.saw("the refusal is byte for byte the answer for somebody unknown; the emergency opening is audited")
	return nil
}

func (c *checker) restricted() error {
	chloe := c.w.Person("chloe")
	status, b, err := c.gather("doctor", nhs(chloe))
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("status %d: %v", status, err)
	}
	for _, secret := range append([]string{chloe.Postcode, chloe.Phone, "Riverside", "M85002", "m85002"}, chloe.Address...) {
		if bytes.Contains(b.raw, []byte(secret)) {
			return fmt.Errorf("the answer tells %q", secret)
		}
	}
	c.saw("%d entries, and no address, telephone or practice in any of them", len(b.entries))
	return nil
}

func (c *checker) identity() error {
	george := c.w.Person("george")
	_, b, err := c.gather("doctor", nhs(george))
	if err != nil {
		return err
	}
	if len(b.find("Patient", "")) > 1 {
		return errors.New("more than one patient stands for the person")
	}
	for _, old := range george.OldNHS {
		status, ob, err := c.gather("doctor", fhir.Identifier{System: fhir.SystemNHSNumber, Value: old})
		if err != nil || status != http.StatusOK || personOf(ob) != personOf(b) {
			return fmt.Errorf("his superseded number leads elsewhere (%d, %v)", status, err)
		}
	}
	_, aisha, err := c.gather("doctor", nhs(c.w.Person("aisha")))
	if err != nil {
		return err
	}
	_, anisa, err := c.gather("doctor", nhs(c.w.Person("anisa")))
	if err != nil {
		return err
	}
	if personOf(aisha) == personOf(anisa) || len(anisa.find("AllergyIntolerance", "91935009")) > 0 {
		return errors.New("the twins' records are mixed")
	}
	c.saw("George's old and new numbers lead to one person; Aisha's peanut allergy is not in Anisa's record")
	return nil
}

func personOf(b *bundle) string {
	for _, e := range b.entries {
		if e.Resource.Type() == "Patient" && e.Mode == "match" {
			return e.Resource.ID()
		}
	}
	return ""
}

func (c *checker) documents() error {
	if c.record == nil {
		return errors.New("no record")
	}
	kinds := map[string]int{}
	for _, d := range c.record.find("DocumentReference", "") {
		ref := d.Text("content.attachment.url")
		if !strings.HasPrefix(ref, "Binary/") {
			continue
		}
		status, _, data, err := c.http(http.MethodGet, "/fhir/"+ref, "doctor", "", nil)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("%s: status %d, %v", ref, status, err)
		}
		r, err := fhir.Parse(data)
		if err != nil || r.Text("data") == "" {
			return fmt.Errorf("%s has no content: %v", ref, err)
		}
		kind, _, _ := strings.Cut(r.Text("contentType"), ";")
		kinds[kind]++
	}
	if kinds["application/pdf"] == 0 || kinds["text/plain"] == 0 {
		return fmt.Errorf("opened %v, want a PDF and a text among them", kinds)
	}
	c.saw("opened %v", kinds)
	return nil
}

func (c *checker) page() error {
	if c.record == nil {
		return errors.New("no record")
	}
	status, head, data, err := c.http(http.MethodGet, "/record/"+personOf(c.record)+"?all=1", "doctor", "", nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("status %d: %v", status, err)
	}
	for _, want := range []string{"TAYLOR", "Allergy to penicillin", "Hilltop Surgery"} {
		if !bytes.Contains(data, []byte(want)) {
			return fmt.Errorf("the page does not say %q", want)
		}
	}
	if head.Get("Content-Security-Policy") == "" {
		return errors.New("the page has no content security policy")
	}
	return nil
}

func (c *checker) audited() error {
	rep, err := c.w.Node.Audit.Verify(c.ctx)
	if err != nil {
		return err
	}
	if !rep.OK() {
		return errors.New(rep.String())
	}
	looks, glass := 0, 0
	for e, err := range c.w.Node.Audit.Show(c.ctx, personOf(c.record), 0, 0) {
		if err != nil {
			return err
		}
		if s, err := e.Summary(); err == nil && s.Kind == "read" {
			looks++
		}
	}
	for e, err := range c.w.Node.Audit.All(c.ctx, 0, 0) {
		if err != nil {
			return err
		}
		if s, err := e.Summary(); err == nil && s.Kind == "break-glass" {
			glass++
		}
	}
	if looks == 0 || glass == 0 {
		return fmt.Errorf("%d openings of Margaret's record and %d emergencies are remembered, want both", looks, glass)
	}
	c.saw("%s; %d openings of Margaret's record, %d emergency", rep, looks, glass)
	return nil
}
