package gathered

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/api/gpconnect"
	stu3 "tombolo/connector/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A writer puts one answer together: the resources in R4 with the lists that they stand in, and at the end all of it as STU3 at once.
type writer struct {
	rec     *gather.Record
	q       *gpconnect.Question
	now     time.Time
	patient fhir.Ref
	held    []*fhir.Resource
	have    map[fhir.Ref]bool
	lists   []*list
	entries []fhir.M
}

// A list answers one query.
type list struct {
	gpconnect.Query
	refs   []fhir.Ref // R4
	ended  []*fhir.Resource
	untold int // entries that GP Connect cannot tell
}

// tell is the whole answer.
//
// GP Connect 1.6 accessrecord_structured_development_bundle.html
func tell(rec *gather.Record, q *gpconnect.Question, now time.Time) []fhir.M {
	w := &writer{rec: rec, q: q, now: now, have: map[fhir.Ref]bool{}, patient: fhir.MakeRef("Patient", rec.Person.ID)}
	w.person()
	for _, k := range gpconnect.Queries {
		if q.Asked[k.Name] {
			w.query(k)
		}
	}
	w.supporting()
	w.write()
	return w.entries
}

// person is who the record is about, with the practice where they are registered.
func (w *writer) person() {
	p := w.rec.Person.Resource()
	if ods := w.rec.Person.Practice; ods != "" {
		org := fhir.New("Organization", "practice-"+ods, fhir.M{"name": cmp.Or(w.rec.Person.PracticeName, ods),
			"identifier": []fhir.Identifier{{System: fhir.SystemODS, Value: ods}}})
		ref := fhir.Reference{Reference: string(org.Ref())}
		p = p.With("generalPractitioner", []fhir.Reference{ref}).With("managingOrganization", ref)
		w.hold(org)
	}
	w.hold(p)
}

// hold takes a resource into the answer, once. Whatever patient its source calls the person, here there is one.
func (w *writer) hold(r *fhir.Resource) *fhir.Resource {
	if r.Type() != "Patient" {
		raw := r.Value().Rewrite(func(v fhir.Value) ([]byte, bool) {
			if v.Key() != "reference" || !strings.HasPrefix(v.Str(), "Patient/") {
				return nil, false
			}
			return fhir.JSON(string(w.patient)), true
		})
		if out, err := fhir.Parse(raw); err == nil {
			r = out
		}
	}
	if !w.have[r.Ref()] {
		w.have[r.Ref()] = true
		w.held = append(w.held, r)
	}
	return r
}

func (w *writer) section(h dataset.Heading) gather.Section {
	for _, s := range w.rec.Sections {
		if s.Heading == h {
			return s
		}
	}
	return gather.Section{Heading: h, State: dataset.NotKnown}
}

func (w *writer) query(k gpconnect.Query) {
	l := &list{Query: k}
	w.lists = append(w.lists, l)
	var entries []gather.Entry
	for _, h := range headingsOf[k.Name] {
		entries = append(entries, w.section(h).Entries...)
	}
	if k.Name == "includeConsultations" && w.q.MostRecent > 0 {
		slices.SortStableFunc(entries, func(a, b gather.Entry) int { return cmp.Compare(day(b.Lead), day(a.Lead)) })
		entries = entries[:min(w.q.MostRecent, len(entries))]
	}
	var ended *list
	if k.Name == "includeAllergies" && w.q.EndedAllergies {
		ended = &list{Query: gpconnect.EndedAllergies}
		w.lists = append(w.lists, ended)
	}
	for _, e := range entries {
		if !w.wanted(k.Name, e.Lead) {
			continue
		}
		if k.Name == "includeAllergies" && over(e.Lead) {
			if ended != nil {
				ended.ended = append(ended.ended, said(e))
			}
			continue
		}
		w.entry(l, e)
	}
}

// over reports whether an allergy has ended: GP Connect keeps those apart, so that they cannot be taken for current ones.
func over(r *fhir.Resource) bool {
	s := r.Text("clinicalStatus.coding.code")
	return s == "resolved" || s == "inactive"
}

func day(r *fhir.Resource) string {
	s, err := fhir.ParseDate(dataset.When(r))
	if err != nil {
		return ""
	}
	return s.Start.In(fhir.London).Format(time.DateOnly)
}

// wanted applies what narrows a query.
func (w *writer) wanted(name string, r *fhir.Resource) bool {
	switch name {
	case "includeMedication":
		start := cmp.Or(r.Text("dispenseRequest.validityPeriod.start"), r.Text("effectivePeriod.start"), r.Text("authoredOn"))
		end := cmp.Or(r.Text("dispenseRequest.validityPeriod.end"), r.Text("effectivePeriod.end"))
		return w.q.Active(start, end, r.Text("courseOfTherapyType.coding.code") == "acute")
	case "includeProblems":
		if sig := significance(r); w.q.Significance != "" && sig != "" && sig != w.q.Significance {
			return false
		}
		return w.q.ProblemsOnly == "" || (w.q.ProblemsOnly == "active") != over(r)
	case "includeImmunisations":
		return w.q.NotGiven || r.Text("status") != "not-done"
	}
	return w.q.Within(name, day(r))
}

// significance is what a practice calls a problem: major or minor. Others do not say, and are never narrowed away.
func significance(r *fhir.Resource) string {
	for x := range r.Value().All("extension") {
		if strings.HasSuffix(x.Text("url"), "-ProblemSignificance") {
			return x.Text("valueCode")
		}
	}
	return ""
}

// leads are the types that a list names; what hangs on them comes beside.
var leads = map[string]bool{"AllergyIntolerance": true, "MedicationStatement": true, "Condition": true, "Immunization": true, "Observation": true,
	"FamilyMemberHistory": true, "DiagnosticReport": true, "ServiceRequest": true, "Encounter": true}

// entry puts an entry into the answer: as its leading source says it, with a note of who else says so. Which of two versions is right is
// not for this face to say.
func (w *writer) entry(l *list, e gather.Entry) {
	if l.Name == "includeMedication" {
		w.medicine(l, e)
		return
	}
	r := w.hold(said(e))
	if leads[r.Type()] {
		l.refs = append(l.refs, r.Ref())
	}
	for _, rel := range e.Related {
		w.hold(rel.Lead)
	}
}

// noted are the types that have notes in STU3.
var noted = map[string]bool{"AllergyIntolerance": true, "Condition": true, "Immunization": true, "MedicationStatement": true, "MedicationRequest": true}

// said is an entry's leading version, with a note of who else says so and of what they disagree about.
func said(e gather.Entry) *fhir.Resource {
	var others []string
	for _, m := range e.Members {
		if m.Name != e.Members[0].Name && !slices.Contains(others, m.Name) {
			others = append(others, m.Name)
		}
	}
	if !noted[e.Lead.Type()] || len(others) == 0 && e.Conflict == "" {
		return e.Lead
	}
	var notes []any
	for n := range e.Lead.Value().All("note") {
		notes = append(notes, json.RawMessage(n.Raw()))
	}
	text := "As recorded by " + e.Members[0].Name + "."
	if len(others) > 0 {
		text += " Also recorded by " + strings.Join(others, ", ") + "."
	}
	if e.Conflict != "" {
		text += " " + strings.TrimSuffix(e.Conflict, ".") + "."
	}
	return e.Lead.With("note", append(notes, fhir.M{"text": text}))
}

// medicine is told in three: the statement, the authorisation that it is based on, and the issues. A source that speaks of one of the
// first two alone gets the other made of it, since a reader of GP Connect looks for both; nothing is added to what was said.
//
// GP Connect 1.6 accessrecord_structured_development_medication_resource_relationships.html
func (w *writer) medicine(l *list, e gather.Entry) {
	var statement *fhir.Resource
	for _, m := range e.Members {
		if m.Source != e.Members[0].Source {
			continue
		}
		r := m.Resource
		if r == e.Lead {
			r = said(e)
		}
		if r = w.hold(w.product(r)); r.Type() == "MedicationStatement" {
			statement = r
		}
	}
	if statement == nil && e.Lead.Type() == "MedicationRequest" {
		if statement = statementOf(w.product(e.Lead)); statement != nil {
			statement = w.hold(statement)
		}
	}
	if statement == nil {
		l.untold++
		return
	}
	l.refs = append(l.refs, statement.Ref())
	if w.q.WithoutIssues {
		return
	}
	for _, rel := range e.Related {
		w.hold(w.product(rel.Lead))
	}
}

// product puts a medicine's name into a Medication of its own, where GP Connect has it.
func (w *writer) product(r *fhir.Resource) *fhir.Resource {
	c := r.Get("medicationCodeableConcept")
	if !c.Exists() {
		return r
	}
	sum := sha256.Sum256(c.Raw())
	med := w.hold(fhir.New("Medication", "m-"+hex.EncodeToString(sum[:12]), fhir.M{"code": json.RawMessage(c.Raw())}))
	return r.Without("medicationCodeableConcept").With("medicationReference", fhir.Reference{Reference: string(med.Ref())})
}

// statementOf is the summary of an authorisation, in its own words; nil where STU3 has no word for its status.
func statementOf(plan *fhir.Resource) *fhir.Resource {
	status := plan.Text("status")
	switch status {
	case "draft", "cancelled", "unknown", "":
		return nil // STU3 has no such statement
	}
	f := fhir.M{"status": status, "basedOn": []fhir.Reference{{Reference: string(plan.Ref())}}}
	for _, k := range []string{"subject", "medicationReference"} {
		if v := plan.Get(k); v.Exists() {
			f[k] = json.RawMessage(v.Raw())
		}
	}
	if v := plan.Value().Member("dosageInstruction"); v.Exists() {
		f["dosage"] = json.RawMessage(v.Raw())
	}
	if d := plan.Text("authoredOn"); d != "" {
		f["dateAsserted"] = d
		f["effectivePeriod"] = fhir.M{"start": d}
	}
	if m := plan.Get("meta"); m.Exists() {
		f["meta"] = json.RawMessage(m.Raw())
	}
	return fhir.New("MedicationStatement", "s-"+plan.ID()[:min(62, len(plan.ID()))], f)
}

// supporting brings what the entries refer to, and what that refers to.
func (w *writer) supporting() {
	for i := 0; i < len(w.held); i++ {
		var walk func(v fhir.Value)
		walk = func(v fhir.Value) {
			for c := range v.Children() {
				if c.Key() == "reference" && c.IsString() {
					if s, ok := w.rec.Supporting[fhir.Ref(c.Str())]; ok && !w.have[s.Ref()] {
						w.hold(s)
					}
				}
				walk(c)
			}
		}
		walk(w.held[i].Value())
	}
	for _, ref := range slices.Sorted(maps.Keys(w.rec.Supporting)) { // what somebody is, is told by a role that refers to them
		r := w.rec.Supporting[ref]
		if r.Type() == "PractitionerRole" && w.have[fhir.Ref(r.Text("practitioner.reference"))] {
			w.hold(r)
			if org, ok := w.rec.Supporting[fhir.Ref(r.Text("organization.reference"))]; ok {
				w.hold(org)
			}
		}
	}
}

// write turns everything into STU3 and writes the lists over it.
func (w *writer) write() {
	all := slices.Clone(w.held)
	for _, l := range w.lists {
		all = append(all, l.ended...)
	}
	told := map[fhir.Ref]stu3.Returned{}
	for i, r := range stu3.Return(all) {
		told[r.From.Ref()] = r
		if r.Raw != nil && i < len(w.held) {
			w.entries = append(w.entries, fhir.M{"resource": r.Raw})
		}
	}
	for _, l := range w.lists {
		w.list(l, told)
	}
}

// list writes one list. "None" is said only where every source said so; otherwise an empty list says that it is not known, or not shared.
func (w *writer) list(l *list, told map[fhir.Ref]stu3.Returned) {
	state, notes, withheld := w.state(l)
	out := gpconnect.List{Query: l.Query, Patient: string(w.patient), At: w.now, Empty: gpconnect.Unavailable}
	for _, ref := range l.refs {
		if r := told[ref]; r.Raw != nil {
			out.Entries = append(out.Entries, string(r.Ref()))
		} else {
			l.untold++
		}
	}
	for _, e := range l.ended {
		if r := told[e.Ref()]; r.Raw != nil {
			out.Contained = append(out.Contained, r.Raw)
			out.Entries = append(out.Entries, "#"+r.ID)
		} else {
			l.untold++
		}
	}
	if withheld {
		out.Warnings = []string{"confidential-items"}
		notes = append(notes, gpconnect.ConfidentialItems)
	}
	switch {
	case l.untold > 0:
		notes = append(notes, strconv.Itoa(l.untold)+" entries cannot be told through GP Connect; open the whole record to read them.")
	case state == dataset.NoneRecorded, state == dataset.Present: // the list of ended allergies may be empty where the other is not
		out.Empty = gpconnect.NoContent
	case state == dataset.NotShared:
		out.Empty = gpconnect.Withheld
	}
	notes = append(notes, w.warnings(l)...)
	if w.rec.Notice != "" {
		notes = append(notes, w.rec.Notice)
	}
	out.Notes = notes
	w.entries = append(w.entries, fhir.M{"resource": out.Resource()})
}

// warnings are what the sources say of their own part under a list's headings, or of all of it: data in transit, what could not be read.
func (w *writer) warnings(l *list) (notes []string) {
	for _, lane := range w.rec.Lanes {
		for _, is := range lane.Warnings {
			note := lane.Name + ": " + is.Text
			if (is.Expression == "" || slices.Contains(headingsOf[l.Name], dataset.Heading(is.Expression))) && !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	return notes
}

// state joins the headings of a list: none only if each is none. notes name who did not tell.
func (w *writer) state(l *list) (st dataset.State, notes []string, withheld bool) {
	none, present := 0, false
	var unknown []string
	for _, h := range headingsOf[l.Name] {
		s := w.section(h)
		switch s.State {
		case dataset.NoneRecorded:
			none++
		case dataset.Present:
			present = true
		}
		withheld = withheld || s.State == dataset.NotShared || len(s.NotShared) > 0
		for _, n := range s.Unknown {
			if !slices.Contains(unknown, n) {
				unknown = append(unknown, n)
			}
		}
	}
	if len(unknown) > 0 {
		notes = append(notes, fmt.Sprintf("Not known from: %s. There may be more than is shown here.", strings.Join(unknown, ", ")))
	}
	switch {
	case present && len(unknown) == 0 && !withheld:
		return dataset.Present, notes, withheld
	case none == len(headingsOf[l.Name]) && len(unknown) == 0:
		return dataset.NoneRecorded, notes, withheld
	case withheld:
		return dataset.NotShared, notes, withheld
	}
	return dataset.NotKnown, notes, withheld
}
