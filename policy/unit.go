package policy

import (
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
)

// OfUnit are the units of what one unit made, written as a code of dataset.SystemUnit.
func OfUnit(code string) *Units { return &Units{[][]string{way(code)}} }

// SystemStage is this program's own code system for meta.tag: what a tester sees before others do bears the stage of its release.
const SystemStage = "https://tombolo.dev/CodeSystem/release-stage"

// Units are those that made something, each with what it is part of, the nearest first. nil: nothing is said, so it is the system's organisation.
type Units struct{ chains [][]string }

// untold stands in a chain for a unit that is named, and of which it cannot be told which it is.
const untold = "?"

// Unknown are the units of something of which it cannot be told who made it: whoever sees it must be one to whom every unit's is released.
var Unknown = &Units{[][]string{{untold}}}

// maxUp is how many bodies, one part of the next, are followed.
const maxUp = 8

// UnitsOf tells which organisational units made each resource of what one source says of one person. Of these the first that says something counts:
//
//  1. a tag of dataset.SystemUnit;
//  2. the element of its type that says who made or keeps it (unitPaths);
//  3. a Provenance of the source's that it is a target of: who, and on whose behalf;
//  4. its encounter, by the same;
//  5. the report, panel or document that it is part of, by the same;
//  6. the system's organisation.
//
// People and devices are no units. elsewhere gives what is nobody's record: organisations, locations; nil if it is not there.
func UnitsOf(rs []*fhir.Resource, elsewhere func(fhir.Ref) *fhir.Resource) []*Units {
	u := &unitReader{byRef: make(map[fhir.Ref]*fhir.Resource, len(rs)), elsewhere: elsewhere, made: map[fhir.Ref]*found{}, kept: map[string]*Units{}, provenances: map[fhir.Ref][]*fhir.Resource{}, holders: map[fhir.Ref][]*fhir.Resource{}}
	refs := make([]fhir.Ref, len(rs))
	for i, r := range rs {
		refs[i] = r.Ref()
		u.byRef[refs[i]] = r
		for _, path := range holding[r.Type()] {
			for v := range r.Value().All(path) {
				u.holders[bare(v.Str())] = append(u.holders[bare(v.Str())], r)
			}
		}
		if r.Type() == "Provenance" && !ours(r) {
			for t := range r.Value().All("target.reference") {
				u.provenances[fhir.Ref(t.Str())] = append(u.provenances[fhir.Ref(t.Str())], r)
			}
		}
	}
	out := make([]*Units, len(rs))
	for i, r := range rs {
		out[i] = u.intern(u.of(refs[i], r, 0))
	}
	return out
}

// ours reports whether a Provenance is the one that intake wrote of a delivery: it tells of the system, and not of a unit.
func ours(r *fhir.Resource) bool {
	for e := range r.Value().All("entity.what.identifier") {
		if e.Text("system") == fhir.SystemSource {
			return true
		}
	}
	return false
}

type unitReader struct {
	byRef       map[fhir.Ref]*fhir.Resource
	elsewhere   func(fhir.Ref) *fhir.Resource
	provenances map[fhir.Ref][]*fhir.Resource // by target
	holders     map[fhir.Ref][]*fhir.Resource // by what they are made of
	made        map[fhir.Ref]*found           // by what has been looked at already
	kept        map[string]*Units
}

// found is what something says of units.
type found struct {
	chains   [][]string
	units    *Units // the same, once they are made one
	interned bool
}

func (f *found) silent() bool { return len(f.chains) == 0 }

func (f *found) add(chains ...[]string) {
	for _, chain := range chains {
		if len(chain) > 0 && !slices.ContainsFunc(f.chains, func(c []string) bool { return slices.Equal(c, chain) }) {
			f.chains = append(f.chains, chain)
		}
	}
}

// intern makes the same units the same pointer, so that what is decided of one is decided of all.
func (u *unitReader) intern(f *found) *Units {
	if f.silent() {
		return nil
	}
	if f.interned {
		return f.units
	}
	f.interned = true
	var b strings.Builder
	for _, c := range f.chains {
		b.WriteString("\x01" + strings.Join(c, "\x00"))
	}
	k, ok := u.kept[b.String()]
	if !ok {
		k = &Units{f.chains}
		u.kept[b.String()] = k
	}
	f.units = k
	return k
}

// unitPaths are, by type, the elements that say who made or keeps something, the first that says anything first.
var unitPaths = map[string][]string{
	"Observation": {"performer"}, "DiagnosticReport": {"performer"}, "Immunization": {"performer.actor", "location"},
	"Procedure": {"performer.onBehalfOf", "performer.actor", "location"}, "MedicationRequest": {"requester"}, "MedicationStatement": {"informationSource"},
	"MedicationDispense": {"performer.actor", "location"}, "MedicationAdministration": {"performer.actor"}, "DocumentReference": {"custodian", "author"},
	"Composition": {"custodian", "author"}, "Appointment": {"participant.actor"}, "ServiceRequest": {"requester"}, "CarePlan": {"author", "contributor"},
	"CareTeam": {"managingOrganization"}, "EpisodeOfCare": {"managingOrganization"}, "Condition": {"recorder", "asserter"}, "AllergyIntolerance": {"recorder", "asserter"},
	"Flag": {"author"}, "List": {"source"}, "QuestionnaireResponse": {"author", "source"}, "Task": {"requester", "owner"}, "Communication": {"sender"}, "Consent": {"organization", "performer"},
	"ImagingStudy": {"location"}, "RiskAssessment": {"performer"}, "ClinicalImpression": {"assessor"}, "Goal": {"expressedBy"}, "DeviceUseStatement": {"source"},
	"ImmunizationRecommendation": {"authority"}, "CommunicationRequest": {"requester", "sender"}, "NutritionOrder": {"orderer"}, "SupplyDelivery": {"supplier"}, "Media": {"operator"},
	"Account": {"owner"}, "PractitionerRole": {"organization", "location"}, "Schedule": {"actor"}, "Specimen": {"collection.collector"},
}

func (u *unitReader) of(ref fhir.Ref, r *fhir.Resource, depth int) *found {
	if was, ok := u.made[ref]; ok {
		return was
	}
	out := &found{}
	u.made[ref] = out // whatever refers to itself, by whatever way, ends here
	if depth > maxUp {
		out.add(Unknown.chains...)
		return out
	}
	for t := range r.Value().Member("meta").All("tag") {
		if t.Text("system") == dataset.SystemUnit {
			out.add(way(t.Text("code")))
		}
	}
	if out.silent() {
		u.said(r, out)
	}
	for _, p := range u.provenances[ref] {
		if !out.silent() {
			break
		}
		for _, path := range []string{"agent.onBehalfOf", "agent.who"} {
			if out.silent() {
				u.references(p, path, out)
			}
		}
	}
	if out.silent() {
		u.visited(r, out, depth)
	}
	if out.silent() {
		for _, h := range u.holders[ref] {
			out.add(u.of(h.Ref(), h, depth+1).chains...)
		}
	}
	return out
}

// visited adds the units of the encounters that a resource names: by its encounter, its context, or what the context names.
func (u *unitReader) visited(r *fhir.Resource, out *found, depth int) {
	for m := range r.Value().Children() {
		switch m.Key() {
		case "encounter", "partOf":
			u.encounter(m, out, depth)
		case "context":
			u.encounter(m, out, depth)
			for e := range m.All("encounter") {
				u.encounter(e, out, depth)
			}
		}
	}
}

// holding are the elements that name what a resource is made of.
var holding = map[string][]string{"DiagnosticReport": {"result.reference", "media.link.reference", "presentedForm.url"}, "Observation": {"hasMember.reference"},
	"DocumentReference": {"content.attachment.url"}, "Media": {"content.url"}}

// way reads a code of dataset.SystemUnit: the way itself, the unit, then what it is part of in the same manner.
func way(code string) []string {
	var out []string
	for full := region.Unit(code); full != ""; {
		out = append(out, full)
		i := strings.LastIndexByte(full, '/')
		if i < 0 {
			break
		}
		if last := full[i+1:]; last != "" {
			out = append(out, last)
		}
		full = full[:i]
	}
	return out
}

// encounter adds the units of the encounter that a reference names.
func (u *unitReader) encounter(v fhir.Value, out *found, depth int) {
	ref := bare(v.Text("reference"))
	if ref.Type() != "Encounter" && ref.Type() != "EpisodeOfCare" {
		return
	}
	if e := u.find(ref); e != nil {
		out.add(u.of(ref, e, depth+1).chains...)
		return
	}
	out.add(Unknown.chains...)
}

// bare is a reference without its version.
func bare(ref string) fhir.Ref {
	s, _, _ := strings.Cut(ref, "/_history/")
	return fhir.Ref(s)
}

// said adds what the elements of a resource say of who made it.
func (u *unitReader) said(r *fhir.Resource, out *found) {
	switch r.Type() {
	case "Organization", "Location", "HealthcareService":
		out.add(u.body(r.Value(), r, 0))
		return
	case "Encounter":
		u.visit(r, out)
		return
	}
	for _, path := range unitPaths[r.Type()] {
		if u.references(r, path, out); !out.silent() {
			return
		}
	}
}

// visit adds where an encounter is or was, as part of the organisation that answers for it.
func (u *unitReader) visit(r *fhir.Resource, out *found) {
	by := &found{}
	u.references(r, "serviceProvider", by)
	u.references(r, "location.location", out)
	if out.silent() {
		out.add(by.chains...)
		return
	}
	for i := range out.chains {
		for _, c := range by.chains {
			out.chains[i] = append(out.chains[i], c...)
		}
	}
}

// references adds the units that the references at a path name.
func (u *unitReader) references(r *fhir.Resource, path string, out *found) {
	for v := range r.Value().All(path) {
		out.add(u.reference(v, r, 0))
	}
}

// reference is the unit that a reference names, with what it is part of. One that leads nowhere here, and is not known to be about a person or a
// device, may name any unit.
func (u *unitReader) reference(v fhir.Value, in *fhir.Resource, depth int) []string {
	ref, typ := v.Text("reference"), v.Text("type")
	if id, ok := strings.CutPrefix(ref, "#"); ok {
		for c := range in.Value().All("contained") {
			if c.Text("id") == id {
				return u.body(c, in, depth+1)
			}
		}
		return []string{untold}
	}
	if t := bare(ref).Type(); fhir.IsType(t) {
		typ = t
	}
	if typ != "" && partOf[typ] == nil {
		return nil
	}
	var chain []string
	if code := region.Unit(v.Text("identifier.value")); code != "" && typ != "PractitionerRole" {
		chain = append(chain, code)
	}
	if ref == "" { // a name alone is no unit
		return chain
	}
	if r := u.find(bare(ref)); r != nil {
		return append(chain, u.body(r.Value(), r, depth+1)...)
	}
	return append(chain, untold)
}

// body is an organisation, a place or a role at one, with what it is part of.
func (u *unitReader) body(v fhir.Value, in *fhir.Resource, depth int) []string {
	if depth > maxUp {
		return []string{untold}
	}
	typ := v.Text("resourceType")
	up, ok := partOf[typ]
	if !ok {
		return nil // a person or a device
	}
	var chain []string
	if typ != "PractitionerRole" { // whose identifiers are a person's
		for id := range v.All("identifier") {
			if c := region.Unit(id.Text("value")); c != "" {
				chain = append(chain, c)
			}
		}
	}
	for _, path := range up {
		for p := range v.All(path) {
			chain = append(chain, u.reference(p, in, depth+1)...)
		}
	}
	return chain
}

// partOf are the elements of a body that say what it is part of, the nearer first.
var partOf = map[string][]string{"Organization": {"partOf"}, "Location": {"partOf", "managingOrganization"}, "HealthcareService": {"location", "providedBy"},
	"PractitionerRole": {"location", "organization"}}

func (u *unitReader) find(ref fhir.Ref) *fhir.Resource {
	if r, ok := u.byRef[ref]; ok {
		return r
	}
	if u.elsewhere == nil || !fhir.IsType(ref.Type()) || !fhir.ValidID(ref.ID()) {
		return nil
	}
	r := u.elsewhere(ref)
	u.byRef[ref] = r
	return r
}
