package policy

import (
	"encoding/json"
	"slices"
	"strings"

	"tombolo/fhir"
)

// A code that makes an entry sensitive is not alone in telling: the appointment at the clinic, the letter, the medicine and the result tell
// as much. So what is found is followed through what one source says of one person, in three steps:
//
//  1. an entry with a sensitive code, or a label of its source, is marked with what it bears;
//  2. whatever refers to a marked entry or is referred to by it is marked too, however far, but not by way of an encounter: what else
//     happened there is not sensitive by that alone;
//  3. the encounter of a marked entry is marked, and of what happened there the documents, referrals, medicines, results and appointments,
//     with what hangs on those: their codes may be unknown here, and their text says anything.
//
// A product, specimen or device that itself bears a code or label marks what refers to it, by whatever way; being referred to marks none of them, but for a device that
// somebody was given for what is marked.
//
// What gathers many entries (a plan, a list, a summary) is marked for what it holds, encounters among it, and marks nothing in turn. Problems and vaccinations are
// never marked for having been written down at the same encounter, and an allergy only for its own code or label: hiding a nut allergy is
// a danger that hides nothing.

// withEncounter are the types that step 3 takes with their encounter.
var withEncounter = map[string]bool{"DocumentReference": true, "Composition": true, "ServiceRequest": true, "Task": true, "MedicationRequest": true,
	"MedicationStatement": true, "MedicationDispense": true, "MedicationAdministration": true, "DiagnosticReport": true, "Observation": true,
	"Appointment": true, "Procedure": true, "Communication": true, "QuestionnaireResponse": true, "ImagingStudy": true, "Binary": true}

// neverFollowed are the types that everything refers to, and that tell nothing by being referred to.
var neverFollowed = map[string]bool{"Patient": true, "Practitioner": true, "PractitionerRole": true, "Organization": true, "Location": true,
	"HealthcareService": true, "RelatedPerson": true, "Device": true, "Group": true, "Medication": true, "Substance": true, "Specimen": true}

// usable are those of them that bear codes which tell of whoever was given one: the prescription of a sensitive medicine is sensitive.
var usable = map[string]bool{"Medication": true, "Substance": true, "Specimen": true, "Device": true}

// giving are the types by which somebody is given a device that is theirs alone.
var giving = map[string]bool{"DeviceUseStatement": true, "DeviceRequest": true, "Procedure": true}

// gathers are the types that hold references to many entries, which have nothing in common but that.
var gathers = map[string]bool{"Composition": true, "List": true, "CarePlan": true, "EpisodeOfCare": true, "CareTeam": true, "Provenance": true, "Goal": true}

// inherited are the labels that pass from one entry to what belongs to it.
func inherited(l Labels) Labels {
	if l&(RestrictedLabel|VeryRestricted|LegallyWithheld) == 0 && l.sensitive() == 0 {
		return 0 // NOPAT and normal concern the one entry
	}
	return l &^ (Normal | NoPatient)
}

// Labels computes the labels of everything that one source says of one person, in the order given. They are at least what the source says.
func (s *Sensitivity) Labels(rs []*fhir.Resource) []Labels {
	return s.labels(rs, func(*fhir.Resource) Labels { return 0 })
}

// labels is Labels where something else says of an entry that it is sensitive.
func (s *Sensitivity) labels(rs []*fhir.Resource, besides func(*fhir.Resource) Labels) []Labels {
	out := make([]Labels, len(rs))
	var marked []int
	for i, r := range rs {
		out[i] = LabelsOf(r) | s.hit(r.Value()) | besides(r)
		if inherited(out[i]) != 0 {
			marked = append(marked, i)
		}
	}
	if len(marked) > 0 {
		newClosure(rs, out).run(marked)
	}
	return out
}

// hit is what the codes within a value make of it.
func (s *Sensitivity) hit(v fhir.Value) (l Labels) {
	for c := range v.Children() {
		if c.Key() == "code" && c.IsString() {
			if systems, ok := s.codes[c.Str()]; ok {
				l |= systems[v.Text("system")]
			}
			continue
		}
		if c.IsObject() || c.IsArray() {
			l |= s.hit(c)
		}
	}
	return l
}

type closure struct {
	rs         []*fhir.Resource
	labels     []Labels
	links      [][]int // both ways, encounters apart
	encounters [][]int // of each entry
	at         map[int][]int
	uses       map[int][]int // what refers to a product, a specimen or a device
	given      map[int][]int // the devices that somebody was given by an entry
	held       map[int][]int // the plans, lists and summaries that name an encounter
	strong     []Labels      // what each entry has passed on already
}

func newClosure(rs []*fhir.Resource, labels []Labels) *closure {
	c := &closure{rs: rs, labels: labels, links: make([][]int, len(rs)), encounters: make([][]int, len(rs)), at: map[int][]int{}, uses: map[int][]int{}, given: map[int][]int{}, held: map[int][]int{}, strong: make([]Labels, len(rs))}
	byRef := make(map[string]int, len(rs))
	for i, r := range rs {
		byRef[string(r.Ref())] = i
	}
	for i, r := range rs {
		eachReference(r.Value(), func(ref string) {
			j, ok := byRef[ref]
			if ok && i != j && usable[rs[j].Type()] && (!neverFollowed[r.Type()] || usable[r.Type()]) {
				if c.uses[j] = append(c.uses[j], i); rs[j].Type() == "Device" && giving[r.Type()] {
					c.given[i] = append(c.given[i], j)
				}
			}
			if !ok || i == j || neverFollowed[fhir.Ref(ref).Type()] || neverFollowed[r.Type()] {
				return
			}
			switch {
			case rs[j].Type() == "Encounter" && gathers[r.Type()]:
				c.held[j] = append(c.held[j], i)
			case rs[j].Type() == "Encounter" && r.Type() != "Encounter":
				c.encounters[i] = append(c.encounters[i], j)
				c.at[j] = append(c.at[j], i)
			case r.Type() == "Encounter" && rs[j].Type() != "Encounter": // its diagnosis, its appointment, what it was based on
				c.at[i] = append(c.at[i], j)
				c.encounters[j] = append(c.encounters[j], i)
			case r.Type() != "Encounter":
				c.links[i] = append(c.links[i], j)
				c.links[j] = append(c.links[j], i)
			}
		})
	}
	return c
}

func (c *closure) run(marked []int) {
	var visited []int
	c.spread(marked, &visited)
	var more []int
	for _, i := range visited { // grows no more: what step 3 marks leads to no further encounter
		l := inherited(c.labels[i])
		for _, e := range c.whereabouts(i) {
			c.labels[e] |= l
			for _, j := range c.held[e] {
				c.labels[j] |= l
			}
			for _, j := range c.at[e] {
				if withEncounter[c.rs[j].Type()] && l&^c.labels[j] != 0 {
					c.labels[j] |= l
					more = append(more, j)
				}
			}
		}
	}
	var ignored []int
	c.spread(more, &ignored)
	for i, devices := range c.given { // last, since it leads no further
		for _, j := range devices {
			c.labels[j] |= inherited(c.labels[i])
		}
	}
}

// whereabouts are the encounters of an entry; of an encounter, itself.
func (c *closure) whereabouts(i int) []int {
	if c.rs[i].Type() == "Encounter" {
		return []int{i}
	}
	return c.encounters[i]
}

// spread passes labels along the links until nothing changes.
func (c *closure) spread(from []int, visited *[]int) {
	for queue := from; len(queue) > 0; {
		i := queue[0]
		queue = queue[1:]
		l := inherited(c.labels[i])
		if l&^c.strong[i] == 0 {
			continue
		}
		c.strong[i] |= l
		*visited = append(*visited, i)
		if gathers[c.rs[i].Type()] {
			continue
		}
		for _, j := range slices.Concat(c.links[i], c.uses[i]) {
			if l&^c.labels[j] != 0 && c.rs[j].Type() != "AllergyIntolerance" {
				c.labels[j] |= l
				queue = append(queue, j)
			}
		}
	}
}

// Labelled is the resource with the labels in its meta.security. What its source wrote stays; only what is missing is added.
func Labelled(r *fhir.Resource, labels Labels) *fhir.Resource {
	have := inMeta(r)
	if labels&^have == 0 {
		return r
	}
	meta := fhir.M{}
	var security []any
	for m := range r.Value().Member("meta").Children() {
		if m.Key() != "security" {
			meta[m.Key()] = json.RawMessage(m.Raw())
		}
	}
	for v := range r.Value().Member("meta").All("security") {
		if strings.HasSuffix(v.Text("system"), "Confidentiality") && Label(v.Text("system"), v.Text("code")) != labels.Confidentiality() {
			continue // the more restrictive stands instead
		}
		security = append(security, json.RawMessage(v.Raw()))
	}
	for _, c := range labels.Codings() {
		if have&Label(c.System, c.Code) == 0 {
			security = append(security, c)
		}
	}
	meta["security"] = security
	return r.With("meta", meta)
}
