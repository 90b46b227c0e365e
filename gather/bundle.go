package gather

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// URLs of this program's own extensions. docs/conformance.md describes them.
const (
	ExtensionSaidBy   = "https://tombolo.dev/StructureDefinition/said-by"
	ExtensionConflict = "https://tombolo.dev/StructureDefinition/conflict"
	ExtensionState    = "https://tombolo.dev/StructureDefinition/heading-state"
)

// Bundle writes the record as a FHIR searchset: the person, each entry once, a Provenance per source, and one OperationOutcome
// per source that did not answer in full. base is the service's base URL, self the request's.
//
// An entry that several sources make carries their versions as contained resources and an extension said-by for each, so that
// nothing any of them said is lost and nothing is counted twice. Entries of one source are spliced as they are.
func (r *Record) Bundle(base, self string) []byte {
	return r.Searchset(base, self, func(*fhir.Resource) bool { return true })
}

// A Joined is an entry of the record, or something that entries refer to, as it can be searched for and given.
type Joined struct {
	Found   *fhir.Resource // the version shown: what it is found by
	Given   *fhir.Resource // with what every source says of it
	Sources []string
	Beside  bool // nobody's record: entries refer to it
}

// Joined are the person, unless the session may not have who it is; each entry once, in the record's order; and what they refer to.
func (r *Record) Joined() []Joined {
	var out []Joined
	if person := r.patient(); !r.Person.Withheld {
		out = append(out, Joined{Found: person, Given: person})
	}
	add := func(e Entry) {
		j := Joined{Found: e.Lead, Given: e.resource()}
		for _, m := range e.Members {
			j.Sources = append(j.Sources, m.Source)
		}
		out = append(out, j)
	}
	for _, s := range r.Sections {
		for _, e := range s.Entries {
			if s.Heading == dataset.Demographics && e.Lead.Type() == "Patient" {
				continue // the person's own Patient stands for them
			}
			add(e)
			for _, rel := range e.Related {
				add(rel)
			}
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(r.Supporting)) {
		out = append(out, Joined{Found: r.Supporting[ref], Given: r.Supporting[ref], Beside: true})
	}
	return out
}

// A Selection says what of a record to give.
type Selection struct {
	Links             []fhir.Link
	Matches, Included []Joined
	Total             int
	View              func(*fhir.Resource) *fhir.Resource // the part of each that is wanted; nil: all of it
	Issues            []*fhir.Issue                       // to be told besides, such as parameters that were passed over
}

// Searchset is Bundle for only those entries whose shown version is wanted: the answer to a search inside the record.
func (r *Record) Searchset(base, self string, want func(*fhir.Resource) bool, also ...*fhir.Issue) []byte {
	sel := Selection{Links: []fhir.Link{{Relation: "self", URL: self}}, Issues: also}
	for _, j := range r.Joined() {
		switch {
		case !want(j.Found):
		case j.Beside:
			sel.Included = append(sel.Included, j)
		default:
			sel.Matches = append(sel.Matches, j)
		}
	}
	sel.Total = len(sel.Matches)
	return r.Select(base, sel)
}

// Select writes some of the record as a searchset, with where each of it came from and what the sources did not answer.
func (r *Record) Select(base string, sel Selection) []byte {
	size := 4096
	targets := map[string][]string{}
	for _, j := range slices.Concat(sel.Matches, sel.Included) {
		size += len(j.Given.Raw()) + 160
		for _, source := range j.Sources {
			targets[source] = append(targets[source], string(j.Found.Ref()))
		}
	}
	part := sel.View
	if part == nil {
		part = func(r *fhir.Resource) *fhir.Resource { return r }
	}
	w := fhir.NewBundle("searchset", base, sel.Total, size, sel.Links...)
	for _, j := range sel.Matches {
		w.Add(part(j.Given), "match")
	}
	for _, j := range sel.Included {
		w.Add(part(j.Given), "include")
	}
	for _, l := range r.Lanes {
		if p := l.provenance(targets[l.Source], r); p != nil {
			w.Add(p, "include")
		}
	}
	for _, l := range r.Lanes {
		if o := l.outcome(); o != nil {
			w.Add(o, "outcome")
		}
	}
	if p := r.plan(); p != nil {
		w.Add(p, "outcome")
	}
	also := append(slices.Clip(sel.Issues), &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: r.Notice})
	w.Add(fhir.Outcome(also...).With("extension", r.states()), "outcome")
	return w.Bytes()
}

// states are the four states of each heading in machine form, over all sources and for each: an extension per state, with heading,
// state, and source where it is one source's.
func (r *Record) states() []fhir.M {
	var out []fhir.M
	say := func(h dataset.Heading, source string, st dataset.State, back string) {
		parts := []fhir.M{{"url": "heading", "valueCode": h}, {"url": "state", "valueCode": st}}
		if source != "" {
			parts = append(parts, fhir.M{"url": "source", "valueCode": source})
		}
		if back != "" {
			parts = append(parts, fhir.M{"url": "reaches-back-to", "valueDate": back})
		}
		out = append(out, fhir.M{"url": ExtensionState, "extension": parts})
	}
	for _, s := range r.Sections {
		say(s.Heading, "", s.State, "")
		given := false
		for _, l := range r.Lanes {
			_, gives := l.Headings[s.Heading]
			given = given || gives
		}
		if !given { // no system of the region gives it, so nobody was asked
			out[len(out)-1]["extension"] = append(out[len(out)-1]["extension"].([]fhir.M), fhir.M{"url": "given", "valueBoolean": false})
		}
		for _, l := range r.Lanes {
			if st, ok := l.Headings[s.Heading]; ok && !l.Silent() {
				say(s.Heading, l.Source, st, l.Reaches[s.Heading])
			}
		}
	}
	return out
}

// resource is the entry as one FHIR resource.
func (e Entry) resource() *fhir.Resource {
	if len(e.Members) == 1 && e.Conflict == "" {
		return e.Lead
	}
	var ext []any
	for v := range e.Lead.Value().Member("extension").Children() {
		ext = append(ext, json.RawMessage(v.Raw()))
	}
	var contained []any
	for v := range e.Lead.Value().Member("contained").Children() {
		contained = append(contained, json.RawMessage(v.Raw()))
	}
	n := 0
	for _, m := range e.Members {
		parts := []fhir.M{
			{"url": "source", "valueCode": m.Source},
			{"url": "name", "valueString": m.Name},
		}
		if m.Resource != e.Lead {
			n++
			id := "said-" + strconv.Itoa(n)
			// A contained resource may itself contain nothing. FHIR R4 references.html#contained
			contained = append(contained, containable(m.Resource, id))
			parts = append(parts, fhir.M{"url": "version", "valueReference": fhir.M{"reference": "#" + id}})
		}
		ext = append(ext, fhir.M{"url": ExtensionSaidBy, "extension": parts})
	}
	if e.Conflict != "" {
		ext = append(ext, fhir.M{"url": ExtensionConflict, "valueString": e.Conflict})
	}
	out := e.Lead.With("extension", ext)
	if len(contained) > 0 {
		out = out.With("contained", contained)
	}
	return out
}

// containable gives a resource the id it has inside another, and takes off what a contained resource may not carry.
func containable(r *fhir.Resource, id string) json.RawMessage {
	m := fhir.M{"id": id}
	for v := range r.Value().Children() {
		switch v.Key() {
		case "id", "meta", "contained", "text":
		default:
			m[v.Key()] = json.RawMessage(v.Raw())
		}
	}
	return fhir.JSON(m)
}

// patient is the person as one Patient, made of what the identity index knows.
func (r *Record) patient() *fhir.Resource { return r.Person.Resource() }

// Resource is the person as a FHIR Patient under this server's id.
func (p Person) Resource() *fhir.Resource {
	var ids []any
	if !p.NHSNumber.IsZero() {
		ids = append(ids, fhir.Identifier{Use: "official", System: fhir.SystemNHSNumber, Value: p.NHSNumber.Digits()})
	}
	for _, i := range p.Identifiers {
		if i.System != fhir.SystemNHSNumber {
			ids = append(ids, i)
		}
	}
	for _, old := range p.Merged {
		ids = append(ids, fhir.Identifier{Use: "old", System: fhir.SystemNHSNumber, Value: old})
	}
	f := fhir.M{"active": true, "name": []fhir.HumanName{p.Name}}
	if len(ids) > 0 {
		f["identifier"] = ids
	}
	if p.BirthDate != "" {
		f["birthDate"] = p.BirthDate
	}
	if p.Gender != "" {
		f["gender"] = p.Gender
	}
	switch p.Deceased {
	case "":
	case "true":
		f["deceasedBoolean"] = true
	default:
		f["deceasedDateTime"] = p.Deceased
	}
	if p.Address != nil {
		f["address"] = []fhir.Address{*p.Address}
	}
	if p.Phone != "" {
		f["telecom"] = []fhir.ContactPoint{{System: "phone", Value: p.Phone}}
	}
	if p.Practice != "" {
		f["generalPractitioner"] = []fhir.Reference{{Type: "Organization", Display: p.PracticeName,
			Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: p.Practice}}}
	}
	if p.Restricted {
		f["meta"] = fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "R", Display: "restricted"}}}
	}
	return fhir.New("Patient", p.ID, f)
}

// provenance says where a lane's entries came from. FHIR R4 provenance.html
func (l Lane) provenance(targets []string, r *Record) *fhir.Resource {
	if len(targets) == 0 {
		return nil
	}
	refs := make([]fhir.Reference, len(targets))
	for i, t := range targets {
		refs[i].Reference = t
	}
	recorded := r.At
	if !l.AsOf.IsZero() {
		recorded = l.AsOf
	}
	who := fhir.Reference{Type: "Organization", Display: l.Name}
	if l.Organisation != "" {
		who.Identifier = &fhir.Identifier{System: fhir.SystemODS, Value: l.Organisation}
	}
	way := l.Way
	if l.State == Earlier {
		way = string(Earlier)
	}
	return fhir.New("Provenance", "source-"+l.Source, fhir.M{
		"target": refs, "recorded": fhir.Instant(recorded),
		"activity": fhir.CodeableConcept{Text: strings.TrimSuffix(map[string]string{"live": "asked live", "stored": "sent and kept", "neighbour": "asked of a neighbouring region", "locator": "told by a record locator", "earlier": "an earlier answer, kept: the source did not answer now"}[way]+", made FHIR by "+l.Map, ", made FHIR by ")},
		"agent": []fhir.M{{
			"type": fhir.Code("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author"), "who": who}},
		"entity": []fhir.M{{"role": "source", "what": fhir.Reference{Display: l.Name,
			Identifier: &fhir.Identifier{System: fhir.SystemSource, Value: l.Source}}}},
	})
}

// outcomeTypes are the issue types of the contract; any other becomes the nearest of them.
func outcomeType(t fhir.IssueType) fhir.IssueType {
	switch t {
	case fhir.Timeout, fhir.Transient, fhir.Incomplete, fhir.Suppressed, fhir.NotSupported:
		return t
	case fhir.Forbidden:
		return fhir.Suppressed
	case fhir.Throttled, fhir.NoStore, fhir.Exception:
		return fhir.Transient
	}
	return fhir.Incomplete
}

// outcome tells of a lane that did not answer in full, or that has warnings; nil if there is nothing to tell.
func (l Lane) outcome() *fhir.Resource {
	var issues []*fhir.Issue
	switch l.State {
	case Answered, NotHere, NotAsked:
	default:
		i := &fhir.Issue{Type: fhir.Incomplete, Text: l.Name + " did not answer in full."}
		if l.Issue != nil {
			c := *l.Issue
			i = &c
		}
		i.Type, i.Severity, i.Source = outcomeType(i.Type), fhir.Warning, l.Source
		issues = append(issues, i)
	}
	for _, w := range l.Warnings {
		c := *w
		c.Type, c.Severity, c.Source = outcomeType(c.Type), fhir.Warning, l.Source
		issues = append(issues, &c)
	}
	if len(issues) == 0 {
		return nil
	}
	return fhir.Outcome(issues...)
}

// Summary is one sentence on completeness: "5 of 6 sources answered. Hilltop Surgery did not answer within 2 s."
func (r *Record) Summary() string {
	asked, answered := 0, 0
	var missing []string
	for _, l := range r.Lanes {
		switch l.State {
		case NotHere, NotAsked, Refused:
			continue
		case Answered:
			answered++
		case Asking:
		default:
			if l.Issue != nil {
				missing = append(missing, strings.TrimSuffix(l.Issue.Text, ".")+".")
			}
		}
		asked++
	}
	s := strconv.Itoa(answered) + " of " + strconv.Itoa(asked) + " sources answered."
	return strings.Join(append([]string{s}, missing...), " ")
}
