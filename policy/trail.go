package policy

import (
	"net/url"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/region"
)

// A Trail leads from what is sensitive to what points to it. A pointer is a record of its own, kept by a locator, with a heading, a type and a custodian that tell as
// much as the document: so it bears the labels of what it leads to, by whatever ties the two together:
//
//   - an identifier that both bear (the document's own, or that of its encounter, its referral or the document it belongs to);
//   - an address: the same one, whichever protocol it is reached by, or one that ends in the type and id of what is sensitive, by this server's id or, at the same
//     custodian, by the source's own;
//   - a reference, in the same way.
//
// What names no entry (a person's number, an organisation, a system's ASID) ties nothing together. The zero Trail is empty; use it from one goroutine.
type Trail struct{ marked map[string]Labels }

// Mark notes those of what one holder says of one person that bear labels which pass on, as Sensitivity.Labels computed them.
func (t *Trail) Mark(rs []*fhir.Resource, labels []Labels, holder string) {
	for i, r := range rs {
		l := inherited(labels[i])
		if l == 0 || neverFollowed[r.Type()] {
			continue
		}
		for _, tie := range entryTies(r, holder) {
			if t.marked == nil {
				t.marked = map[string]Labels{}
			}
			t.marked[tie] |= l
		}
	}
}

// entryTies are what ties an entry that somebody holds to pointers.
func entryTies(r *fhir.Resource, holder string) []string {
	ties := pointerTies(r, holder)
	if r.ID() != "" {
		ties = append(ties, "r|"+string(r.Ref()))
		if _, original, ok := strings.Cut(r.Text("meta.source"), "#"); ok && original != "" {
			ties = append(ties, "o|"+holder+"|"+r.Type()+"/"+original)
		}
	}
	return ties
}

// Lead is the trail the other way: from pointers that are sensitive by themselves, by their own labels and codes and those of pointers to the same thing, to what they
// lead to. What is sensitive in one place is in the other.
func (s *Sensitivity) Lead(ps []*fhir.Resource) *Trail {
	out := new(Trail)
	if len(ps) == 0 {
		return out
	}
	for i, l := range s.Pointers(ps, nil, nil) {
		out.Mark(ps[i:i+1], []Labels{l}, ps[i].Text("custodian.identifier.value"))
	}
	return out
}

// LabelsLed computes the labels of everything that one holder says of one person, as Labels does, where pointers lead to some of it.
func (s *Sensitivity) LabelsLed(rs []*fhir.Resource, lead *Trail, holder string) []Labels {
	if lead == nil || lead.Empty() {
		return s.Labels(rs)
	}
	return s.labels(rs, func(r *fhir.Resource) (l Labels) {
		if !neverFollowed[r.Type()] {
			for _, tie := range entryTies(r, holder) {
				l |= lead.marked[tie]
			}
		}
		return l
	})
}

// Empty reports whether nothing sensitive was noted.
func (t *Trail) Empty() bool { return len(t.marked) == 0 }

// Add notes what another trail knows.
func (t *Trail) Add(u *Trail) {
	for tie, l := range u.marked {
		if t.marked == nil {
			t.marked = map[string]Labels{}
		}
		t.marked[tie] |= l
	}
}

// Pointers computes the labels of the pointers that one locator holds about one person, in the order given: their own (Sensitivity.Labels), those of what
// they lead to by the trail, and what everything from their custodian bears. Pointers that speak of the same thing are marked together. custodian may be nil.
func (s *Sensitivity) Pointers(ps []*fhir.Resource, trail *Trail, custodian func(ods string) Labels) []Labels {
	out := s.Labels(ps)
	ties, known := make([][]string, len(ps)), map[string]Labels{}
	if trail != nil {
		for tie, l := range trail.marked {
			known[tie] = l
		}
	}
	for i, p := range ps {
		holder := p.Text("custodian.identifier.value")
		ties[i] = pointerTies(p, holder)
		if p.ID() != "" { // other pointers relate to it by its id
			ties[i] = append(ties[i], "r|"+string(p.Ref()), "i|"+holder+"||"+p.ID())
		}
		if custodian != nil {
			out[i] |= custodian(holder)
		}
	}
	for changed := true; changed; { // labels only ever grow
		changed = false
		for i := range ps {
			for _, tie := range ties[i] {
				l := inherited(out[i]) | known[tie]
				if changed = changed || l != known[tie] || l&^out[i] != 0; l != 0 {
					known[tie] = l
					out[i] |= l
				}
			}
		}
	}
	return out
}

// tiesNothing are the systems of identifiers that many things bear which have nothing in common.
var tiesNothing = []string{fhir.SystemNHSNumber, fhir.SystemCHI, fhir.SystemHCN, fhir.SystemODS, fhir.SystemASID}

// identifying are the elements of a document, a pointer or any other entry that hold identifiers of it and of what it belongs to.
var identifying = []string{"identifier", "masterIdentifier", "relatesTo.target.identifier", "context.encounter.identifier", "context.related.identifier", "encounter.identifier"}

// referring are those that hold references, and addressing those that hold addresses.
var (
	referring  = []string{"relatesTo.target.reference", "context.encounter.reference", "context.related.reference"}
	addressing = []string{"content.attachment.url", "presentedForm.url", "content.url"}
)

// pointerTies are what ties a document or a pointer to others.
func pointerTies(r *fhir.Resource, holder string) []string {
	var out []string
	for _, path := range identifying {
		for v := range r.Value().All(path) {
			system, value := v.Text("system"), v.Text("value")
			switch {
			case value == "" || slices.Contains(tiesNothing, system):
			case strings.HasPrefix(value, "urn:"): // tells the system itself, whatever stands beside it
				out = append(out, "i||"+value)
			case system == "": // means something at whoever holds it only
				out = append(out, "i|"+holder+"||"+value)
			default:
				out = append(out, "i|"+system+"|"+value)
			}
		}
	}
	for _, path := range referring {
		for v := range r.Value().All(path) {
			out = addressTies(out, v.Str(), holder)
		}
	}
	for _, path := range addressing {
		for v := range r.Value().All(path) {
			out = addressTies(out, v.Str(), holder)
		}
	}
	return out
}

// addressTies adds what an address or reference leads to: itself, and the type and id at its end.
func addressTies(out []string, address, holder string) []string {
	address, _, _ = strings.Cut(address, "/_history/")
	u, err := url.Parse(address)
	if err != nil || address == "" || strings.HasPrefix(address, "#") {
		return out
	}
	if u.Host != "" {
		at := strings.TrimSuffix(u.EscapedPath(), "/")
		if u.RawQuery != "" {
			at += "?" + u.RawQuery
		}
		if at != "" { // everything of a system lies below its own address
			out = append(out, "u|"+strings.ToLower(u.Hostname())+at)
		}
	} else if u.Opaque != "" { // urn:uuid:…
		return append(out, "i||"+address)
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if n := len(parts); n >= 2 && fhir.IsType(parts[n-2]) && fhir.ValidID(parts[n-1]) && !neverFollowed[parts[n-2]] {
		ref := parts[n-2] + "/" + parts[n-1]
		out = append(out, "r|"+ref, "o|"+holder+"|"+ref)
	}
	return out
}

// LabelsOfHolder are the labels that everything bears which an organisation shares: those that each of its systems bears. A trust is not sensitive for having one
// sensitive clinic among its systems; a clinic that is nothing else is.
func LabelsOfHolder(agreed *region.Region, ods string) Labels {
	var out Labels
	found := false
	for _, sys := range agreed.Systems {
		if len(sys.Gives) == 0 || agreed.Current(sys.Organisation) != agreed.Current(ods) {
			continue
		}
		if l := LabelsOfSystem(sys); found {
			out &= l
		} else {
			out, found = l, true
		}
	}
	return out
}

// LabelsOfSystem are what the region file says that everything from a system bears.
func LabelsOfSystem(sys region.System) (l Labels) {
	for _, label := range sys.Labels {
		l |= Label("", label)
	}
	return l
}
