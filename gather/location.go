package gather

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/region"
)

// A restricted person's whereabouts are withheld from everybody, in every form in which they may come: elements that hold places, the letterheads of
// documents, and what people have written into free text. Trusts and councils keep their names: without them nobody could act on the record
// (docs/safety.md, C2).
type whereabouts struct {
	known *regexp.Regexp // addresses, telephone numbers and practices that are known of the person; nil if none are
}

// withheld is what stands where something was.
const withheld = "[location withheld]"

// extAbsent says of an element why it has no value. FHIR R4 extension-data-absent-reason.html
const extAbsent = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

// postcode is what British postcodes look like, in capitals. The last two letters are none of CIKMOV, so that no dose in MG is one.
var postcode = regexp.MustCompile(`\b(?:GIR ?0AA|[A-PR-UWYZ][A-HK-Y]?[0-9][0-9A-HJKPS-UW]? ?[0-9][ABD-HJLNP-UW-Z]{2})\b`)

// whereabouts are made of what every source says of where the person is, the first time that they are asked for.
func (op *opening) whereabouts() whereabouts {
	if op.places != nil {
		return *op.places
	}
	var words []string
	add := func(s string) {
		if s = strings.TrimSpace(s); len(s) >= 5 { // "1" is the number of many things
			words = append(words, s)
		}
	}
	for _, p := range op.person.Patients {
		if p.Address != nil {
			for _, line := range p.Address.Line {
				add(line)
			}
			add(p.Address.City)
			add(p.Address.PostalCode)
		}
		add(p.Phone)
		if p.Practice != "" {
			add(p.Practice)
			add(op.g.organisation(p.Practice).Name)
		}
	}
	for _, sys := range op.g.o.Region.Systems { // any practice's name: the person is seen at one of them
		if org := op.g.organisation(sys.Organisation); org.Kind == region.KindGP {
			add(org.ODS)
			add(org.Name)
		}
	}
	op.places = &whereabouts{}
	var parts []string
	for _, w := range words { // blanks and signs between their parts may be any
		fields := strings.FieldsFunc(w, func(r rune) bool { return strings.ContainsRune(" ,.-/()", r) })
		if len(fields) == 0 {
			continue
		}
		for i := range fields {
			fields[i] = regexp.QuoteMeta(fields[i])
		}
		if digits := strings.Join(fields, ""); len(digits) >= 9 && strings.Trim(digits, "+0123456789\\") == "" {
			fields = strings.Split(strings.ReplaceAll(digits, "\\+", ""), "")
		}
		parts = append(parts, strings.Join(fields, `[\s,.\-/()]*`))
	}
	if len(parts) > 0 {
		slices.SortFunc(parts, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the longest that is there is taken
		op.places.known = regexp.MustCompile(`(?i)` + strings.Join(parts, "|"))
	}
	return *op.places
}

// mask is a text without what would tell where the person is.
func (w whereabouts) mask(s string) string {
	if w.known != nil {
		s = w.known.ReplaceAllString(s, withheld)
	}
	return postcode.ReplaceAllString(s, withheld)
}

// notText are members whose strings are no text that anybody wrote.
var notText = map[string]bool{"resourceType": true, "id": true, "reference": true, "system": true, "code": true, "url": true, "versionId": true, "lastUpdated": true,
	"source": true, "profile": true, "status": true, "use": true, "unit": true, "contentType": true, "language": true}

// addresses are members whose strings are addresses: of systems, of definitions.
var addresses = map[string]bool{"system": true, "url": true}

// withhold is a resource without location, as the lane's source is called here.
func (w whereabouts) withhold(r *fhir.Resource, l *lane) *fhir.Resource {
	r = withoutPlaces(r, l.Source, l.Kind == string(region.KindGP))
	for _, name := range []string{"text", "contained"} { // a source's narrative says all of it again; what is contained was referred to
		if r.Get(name).Exists() {
			r = r.Without(name)
		}
	}
	if r.Type() == "Binary" {
		r = r.Without("data")
	}
	name := fhir.Value{}
	if r.Type() == "Patient" {
		name = r.Get("name")
	}
	raw := r.Value().Rewrite(func(v fhir.Value) ([]byte, bool) {
		switch {
		case v == name && name.Exists():
			return v.Raw(), true // somebody may be called as a town is
		case v.IsObject() && v != r.Value() && v.Member("contentType").Exists() && (v.Member("data").Exists() || v.Member("url").Exists()):
			return maskedAttachment(v), true // its letterhead tells where, whatever else it says
		case v.IsString() && addresses[v.Key()]: // somebody names their systems after a practice
			if w.known != nil && w.known.MatchString(v.Str()) {
				return fhir.JSON("urn:withheld"), true
			}
		case v.IsString() && !notText[v.Key()]:
			if was := v.Str(); was != "" {
				if is := w.mask(was); is != was {
					return fhir.JSON(is), true
				}
			}
		}
		return nil, false
	})
	out, err := fhir.Parse(raw)
	if err != nil { // nothing is given out that could not be gone through
		return fhir.New(r.Type(), r.ID(), fhir.M{"meta": fhir.M{"source": connector.SourceURI(l.Source)}})
	}
	return out
}

func maskedAttachment(v fhir.Value) []byte {
	keep := fhir.M{"extension": []fhir.M{{"url": extAbsent, "valueCode": "masked"}}}
	for _, name := range []string{"contentType", "language", "creation"} {
		if m := v.Member(name); m.Exists() {
			keep[name] = json.RawMessage(m.Raw())
		}
	}
	return fhir.JSON(keep)
}

// masked reports whether a document's content was withheld with its location.
func masked(doc *fhir.Resource) bool {
	return doc.Text("content.attachment.extension.url") == extAbsent
}

// withoutPlaces takes off the elements that hold where a person lives or is seen: addresses, practices and sites, and in what a practice says
// everybody who works there. source is what the source is called here.
func withoutPlaces(r *fhir.Resource, source string, practice bool) *fhir.Resource {
	tells := []string{"Organization/", "Location/", "HealthcareService/"}
	if practice {
		tells = append(tells, "Practitioner/", "PractitionerRole/")
	}
	if out, err := fhir.MapReferences(r, func(_ fhir.Value, ref string) ([]byte, bool) {
		told := slices.ContainsFunc(tells, func(t string) bool { return strings.HasPrefix(ref, t) })
		return []byte(`{"display":"withheld"}`), told || strings.HasPrefix(ref, "#")
	}); err == nil {
		r = out
	}
	meta := fhir.M{"source": connector.SourceURI(source)}
	for m := range r.Value().Member("meta").Children() {
		if m.Key() != "source" && m.Key() != "profile" {
			meta[m.Key()] = json.RawMessage(m.Raw())
		}
	}
	r = r.With("meta", meta)
	if practice && r.Get("identifier").Exists() { // a practice's own numbers tell which practice it is: their systems are named after it
		var ids []any
		for id := range r.Value().All("identifier") {
			if national(fhir.CanonicalSystem(id.Text("system"))) {
				ids = append(ids, json.RawMessage(id.Raw()))
			}
		}
		if r = r.Without("identifier"); len(ids) > 0 {
			r = r.With("identifier", ids)
		}
	}

	hide := map[string][]string{
		"Patient":   {"address", "telecom", "contact", "generalPractitioner", "managingOrganization"},
		"Encounter": {"location", "serviceProvider", "hospitalization"}, "Appointment": {"participant", "description", "comment"},
		"RelatedPerson": {"address", "telecom"}, "DocumentReference": {"custodian", "author"},
		"Condition": {"recorder", "asserter"}, "AllergyIntolerance": {"recorder", "asserter"}, "Observation": {"performer"}, "Immunization": {"performer", "location"},
		"Procedure": {"performer", "location"}, "MedicationRequest": {"requester", "performer", "recorder"}, "DiagnosticReport": {"performer"}, "ServiceRequest": {"requester", "performer", "locationReference"},
	}
	for _, name := range hide[r.Type()] {
		if r.Get(name).Exists() {
			r = r.Without(name)
		}
	}
	return r
}
