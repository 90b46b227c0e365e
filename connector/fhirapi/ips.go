package fhirapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Summaries asks another nation's or region's record for a person's International Patient Summary, by Patient/$summary. The person is named in the
// body, never in the URL.
//
// HL7 IPS 1.1 and 2.0, OperationDefinition summary; FHIR R4 documents.html
type Summaries struct{ *Client }

var _ connector.Asker = (*Summaries)(nil)

// NewSummaries makes a Summaries. It opens no connection.
func NewSummaries(o Options) (*Summaries, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Summaries{c}, nil
}

// sections are the headings that each section of an IPS speaks of, by its LOINC code.
var sections = map[string][]dataset.Heading{
	"11450-4": {dataset.Problems}, "11348-0": {dataset.Problems}, "48765-2": {dataset.Allergies}, "10160-0": {dataset.Medications},
	"11369-6": {dataset.Immunisations}, "47519-4": {dataset.Procedures}, "46264-8": {dataset.Devices}, "30954-2": {dataset.Results},
	"8716-3": {dataset.Observations}, "42348-3": {dataset.EndOfLife}, "18776-5": {dataset.CarePlans}, "29762-2": {dataset.SocialContext},
	"10162-6": {dataset.Maternity}, "104605-1": {dataset.Alerts},
}

// Ask has the person summarised and takes the summary apart.
func (s *Summaries) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	a := &asking{Client: s.Client, q: q, budget: newBudget(s.o.MaxBytes), seen: map[fhir.Ref]bool{}}
	var last error = fhir.Errorf(fhir.NotFound, "the person has no identifier by which this source could be asked")
	for _, id := range q.Identifiers {
		if id = id.Canonical(); id.Check() != nil {
			continue
		}
		answer, err := a.summary(ctx, id)
		if err == nil {
			answer.Bytes = a.budget.used()
			return answer, nil
		}
		if last = err; !fhir.Is(err, fhir.NotFound) {
			break
		}
	}
	return nil, asIssue(last).From(s.o.Source)
}

func (a *asking) summary(ctx context.Context, id fhir.Identifier) (*connector.Answer, error) {
	question := fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "identifier", "valueIdentifier": id}}})
	data, _, err := a.do(ctx, request{method: http.MethodPost, at: a.base.JoinPath("Patient", "$summary"), body: question.Raw(),
		form: "application/fhir+json", by: a.q.Requester}, a.budget)
	if fhir.Is(err, fhir.NotFound) {
		return nil, fhir.Errorf(fhir.NotFound, "the source has no summary of this person")
	}
	if err != nil {
		return nil, err
	}
	if err := fhir.CheckCost(data); err != nil {
		return nil, err
	}
	root, err := fhir.ParseValue(data)
	if err != nil {
		return nil, err
	}
	if root.Text("resourceType") != "Bundle" || root.Text("type") != "document" {
		return nil, fhir.Errorf(fhir.Structure, "the source's summary is not a document Bundle")
	}
	return a.takeApart(root)
}

// A document is an IPS taken apart: its Composition, its Patient, and the rest by reference.
type document struct {
	composition, patient *fhir.Resource
	entries              map[fhir.Ref]*fhir.Resource
	order                []fhir.Ref
}

func (a *asking) takeApart(bundle fhir.Value) (*connector.Answer, error) {
	d, err := a.open(bundle)
	if err != nil {
		return nil, err
	}
	answer := &connector.Answer{Patient: d.patient, States: map[dataset.Heading]dataset.State{}, Map: "ips/1"}
	said := d.said()
	a.patient = d.patient.Ref()
	for _, ref := range d.order {
		r := d.entries[ref]
		h := dataset.HeadingOf(r)
		if unsaid(r) || d.made(ref) || h != "" && !slices.Contains(a.q.Headings, h) {
			continue
		}
		if issue := a.belongs(r); issue != nil {
			answer.Issues = append(answer.Issues, issue)
			continue
		}
		if h != "" {
			answer.States[h] = dataset.Present
		}
		answer.Content = append(answer.Content, r)
	}
	for h, st := range said {
		if st == dataset.NotKnown && slices.Contains(a.q.Headings, h) { // what there is stays, and does not count as all of it
			answer.States[h] = st
			answer.Issues = append(answer.Issues, &fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Warning, Text: "the source says that its summary of " + h.Title() + " may be incomplete"})
			continue
		}
		switch _, present := answer.States[h]; {
		case !slices.Contains(a.q.Headings, h):
		case !present:
			answer.States[h] = st
		case st == dataset.NotShared:
			answer.Issues = append(answer.Issues, &fhir.Issue{Type: fhir.Suppressed, Severity: fhir.Warning, Text: "the source withholds part of " + h.Title()})
		}
	}
	return answer, nil
}

// made reports whether an entry is who or what made the summary, and no part of it: the program that wrote it is none of the person's devices.
func (d *document) made(ref fhir.Ref) bool {
	for _, at := range []string{"author.reference", "attester.party.reference", "custodian.reference"} {
		for v := range d.composition.Value().All(at) {
			if fhir.Ref(v.Str()) == ref && ref.Type() == "Device" {
				return true
			}
		}
	}
	return false
}

// open reads the entries, each under an id of its own, with references that lead to them.
func (a *asking) open(bundle fhir.Value) (*document, error) {
	d := &document{entries: map[fhir.Ref]*fhir.Resource{}}
	full := map[string]fhir.Ref{}
	for e := range fhir.Entries(bundle) {
		if e.Resource == nil {
			continue
		}
		if e.Resource.ID() == "" {
			e.Resource = e.Resource.With("id", strings.TrimPrefix(e.FullURL, "urn:uuid:"))
		}
		if e.FullURL != "" && fhir.ValidID(e.Resource.ID()) {
			full[e.FullURL] = e.Resource.Ref()
		}
	}
	for e, err := range fhir.Entries(bundle) {
		if err != nil {
			return nil, err // a document is whole or nothing
		}
		if e.Resource == nil {
			continue
		}
		if ref, ok := full[e.FullURL]; ok && e.Resource.ID() == "" {
			e.Resource = e.Resource.With("id", ref.ID())
		}
		r, err := a.localise(e, full)
		if err != nil {
			return nil, err
		}
		switch {
		case d.composition == nil: // the first entry. FHIR R4 documents.html#bundle
			if r.Type() != "Composition" {
				return nil, fhir.Errorf(fhir.Structure, "the source's summary does not begin with a Composition").At("Bundle.entry[0]")
			}
			d.composition = r
		case r.Type() == "Patient" && string(r.Ref()) == d.composition.Text("subject.reference"):
			d.patient = r
		case r.Type() != "Patient":
			d.entries[r.Ref()] = r
			d.order = append(d.order, r.Ref())
		}
	}
	if d.composition == nil || d.patient == nil {
		return nil, fhir.Errorf(fhir.Structure, "the source's summary does not say whose it is").At("Composition.subject")
	}
	return d, nil
}

// said is what the sections say of the headings they stand for, beyond their entries: that there is nothing, or that it is withheld. Where several sections stand for
// one heading (problems, and past illnesses), there is nothing under it only if each says so: one that says that nobody knows leaves it open.
//
// FHIR R4 valueset-list-empty-reason.html; HL7 IPS absent-unknown-uv-ips
func (d *document) said() map[dataset.Heading]dataset.State {
	all := map[dataset.Heading][]dataset.State{}
	for s := range d.composition.Value().All("section") {
		st := d.section(s)
		for c := range s.All("code.coding") {
			if c.Text("system") != fhir.SystemLOINC {
				continue
			}
			for _, h := range sections[c.Text("code")] {
				all[h] = append(all[h], st)
			}
		}
	}
	out := map[dataset.Heading]dataset.State{}
	for h, states := range all {
		switch {
		case slices.Contains(states, dataset.NotKnown):
			out[h] = dataset.NotKnown
		case slices.Contains(states, dataset.NotShared):
			out[h] = dataset.NotShared
		case !slices.ContainsFunc(states, func(st dataset.State) bool { return st != dataset.NoneRecorded }):
			out[h] = dataset.NoneRecorded
		}
	}
	return out
}

// extensionState is how a Tombolo says of a section of its summaries what its narrative says: what there is of which it does not know.
const extensionState = "https://tombolo.dev/StructureDefinition/heading-state"

// section is what one section says, "" if it has entries or nobody knows; not known if it says that there may be more than it has.
func (d *document) section(s fhir.Value) dataset.State {
	for x := range s.All("extension") {
		for p := range x.All("extension") {
			if x.Text("url") == extensionState && p.Text("url") == "incomplete" && p.Get("valueBoolean").Bool() {
				return dataset.NotKnown
			}
		}
	}
	switch s.Text("emptyReason.coding.code") {
	case "nilknown":
		return dataset.NoneRecorded
	case "withheld":
		return dataset.NotShared
	}
	entries, none := 0, 0
	for e := range s.All("entry.reference") {
		entries++
		if r := d.entries[fhir.Ref(e.Str())]; r != nil && knownAbsent(r) {
			none++
		}
	}
	if entries > 0 && entries == none {
		return dataset.NoneRecorded
	}
	return ""
}

const systemAbsentUnknown = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"

// absent is the code by which an entry of an IPS says that there is nothing of its kind, or that nothing is known, "" for a real entry.
func absent(r *fhir.Resource) string {
	for _, at := range []string{"code", "medicationCodeableConcept", "vaccineCode"} {
		for c := range r.Value().All(at + ".coding") {
			if c.Text("system") == systemAbsentUnknown {
				return c.Text("code")
			}
		}
	}
	return ""
}

func knownAbsent(r *fhir.Resource) bool { return strings.HasPrefix(absent(r), "no-known-") }

// unsaid reports whether an entry stands for the absence of entries. That no allergy is known is itself an entry; the others are states.
func unsaid(r *fhir.Resource) bool {
	code := absent(r)
	return code != "" && !slices.Contains([]string{"no-known-allergies", "no-known-medication-allergies", "no-known-environmental-allergies", "no-known-food-allergies"}, code)
}
