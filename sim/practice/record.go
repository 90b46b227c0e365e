package practice

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/api/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

func sct(code, display string) fhir.M {
	return fhir.M{"coding": []fhir.M{{"system": fhir.SystemSNOMED, "code": code, "display": display}}}
}

const (
	gpc = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-"
	cc  = "https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-"
)

// A builder puts one person's record together as one answer.
type builder struct {
	p       *Practice
	person  cast.Person
	ask     *gpconnect.Question
	entries []fhir.M
	made    map[string]bool // "Practitioner/…" that are already in
	lists   []*list
	byName  map[string]*list
	topics  map[string]*topic // day -> the consultation of that day
	surgery cast.Surgery
}

// A list answers one query.
type list struct {
	gpconnect.Query
	refs      []string
	warnings  []string
	contained []any
}

// ended is the name by which the list of ended allergies is found.
const ended = "ended"

// record is the whole answer.
func (p *Practice) record(person cast.Person, ask *gpconnect.Question) []fhir.M {
	b := &builder{p: p, person: person, ask: ask, made: map[string]bool{}, byName: map[string]*list{}, topics: map[string]*topic{}, surgery: p.surgery(person)}
	b.patient()
	for _, k := range gpconnect.Queries {
		if ask.Asked[k.Name] {
			b.list(k.Name, k)
		}
		if k.Name == gpconnect.EndedAllergies.Name && ask.Asked[k.Name] && ask.EndedAllergies {
			b.list(ended, gpconnect.EndedAllergies)
		}
	}
	b.consultations()
	b.items()
	if ask.Asked["includeMedication"] {
		for i, m := range append(person.MedicationsAt(p.o.Source), b.surgery.Medications...) {
			b.medication(i, m)
		}
	}
	if ask.Asked["includeInvestigations"] {
		var reports []cast.Panel
		for _, r := range person.ReportsAt(p.o.Source) {
			reports = append(reports, cast.Panel{Report: r, Groups: []cast.Group{{Code: r.Code, Display: r.Display, Results: r.Results}}})
		}
		for _, r := range append(reports, b.surgery.Panels...) {
			if ask.Within("includeInvestigations", day(r.Date)) {
				b.report(r)
			}
		}
	}
	b.writeTopics()
	b.detailed()
	for _, l := range b.lists {
		b.writeList(l)
	}
	return b.entries
}

func (b *builder) list(name string, k gpconnect.Query) {
	l := &list{Query: k}
	b.lists = append(b.lists, l)
	b.byName[name] = l
}

// surgery is what the practice holds of somebody beyond the cast's plain facts.
func (p *Practice) surgery(c cast.Person) cast.Surgery {
	if c.Practice != p.o.ODS {
		return cast.Surgery{}
	}
	return cast.SurgeryOf(c.Key, p.o.Now())
}

// arriving is the day on which somebody registered whose old record is still on its way, "" if it has arrived.
func (p *Practice) arriving(c cast.Person) string {
	return cmp.Or(p.o.Transit[c.Key], p.surgery(c).Arriving)
}

func (b *builder) add(r fhir.M) { b.entries = append(b.entries, fhir.M{"resource": r}) }

// uuid makes an id that is always the same for the same thing at the same practice.
func (b *builder) uuid(parts ...any) string {
	h := sha256.Sum256([]byte(b.p.o.Source + fmt.Sprint(parts...)))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

func (b *builder) mine(parts ...any) string {
	return b.uuid(append([]any{b.person.Key, "/"}, parts...)...)
}

func ref(typ, id string) fhir.M { return fhir.M{"reference": typ + "/" + id} }

func (b *builder) subject() fhir.M { return ref("Patient", b.mine("patient")) }

// base is a clinical resource with its profile, identifier and labels.
func (b *builder) base(typ, prof, id, label string) fhir.M {
	meta := gpconnect.Profile(prof)
	switch label {
	case "NOPAT": // not to be told to the patient
		meta["security"] = []fhir.M{{"system": "http://hl7.org/fhir/v3/ActCode", "code": "NOPAT", "display": "no disclosure to patient, family or caregivers without attending provider's authorization"}}
	case "R":
		meta["security"] = []fhir.M{{"system": "http://hl7.org/fhir/v3/Confidentiality", "code": "R", "display": "restricted"}}
	}
	return fhir.M{"resourceType": typ, "id": id, "meta": meta,
		"identifier": []fhir.M{{"system": "https://fhir.nhs.uk/Id/cross-care-setting-identifier", "value": strings.ToUpper(id)}}}
}

func (b *builder) patient() {
	p, org := b.person, b.organisation(b.p.o.Name, b.p.o.ODS)
	name := fhir.M{"use": "official", "text": p.FullName(), "family": p.Family, "given": p.Given}
	if p.Prefix != "" {
		name["prefix"] = []string{p.Prefix}
	}
	r := fhir.M{
		"resourceType": "Patient", "id": b.mine("patient"), "meta": gpconnect.Profile("CareConnect-GPC-Patient-1"),
		"extension": []fhir.M{{"url": gpc + "RegistrationDetails-1", "extension": []fhir.M{{"url": "registrationPeriod", "valuePeriod": fhir.M{"start": p.Born}}}}},
		"identifier": []fhir.M{{"system": fhir.SystemNHSNumber, "value": p.NHS, "extension": []fhir.M{{"url": gpc + "NHSNumberVerificationStatus-1",
			"valueCodeableConcept": fhir.M{"coding": []fhir.M{{"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1", "code": "01", "display": "Number present and verified"}}}}}}},
		"active": true, "name": []fhir.M{name}, "gender": p.Sex, "birthDate": p.Born,
		"generalPractitioner": []fhir.M{org}, "managingOrganization": org,
	}
	if len(p.Address) > 0 {
		r["address"] = []fhir.M{{"use": "home", "type": "physical", "line": p.Address, "city": p.City, "postalCode": p.Postcode}}
	}
	if p.Phone != "" {
		r["telecom"] = []fhir.M{{"system": "phone", "value": p.Phone, "use": "home"}}
	}
	b.add(r)
}

func (b *builder) organisation(name, ods string) fhir.M {
	id := b.uuid("org", name)
	if !b.made[id] {
		b.made[id] = true
		r := fhir.M{"resourceType": "Organization", "id": id, "meta": gpconnect.Profile("CareConnect-GPC-Organization-1"), "name": name}
		if ods != "" {
			r["identifier"] = []fhir.M{{"system": fhir.SystemODS, "value": ods}}
		}
		b.add(r)
	}
	return ref("Organization", id)
}

var clinicalTitles = []string{"Dr ", "Mr ", "Mrs ", "Ms ", "Miss ", "Sr ", "Prof ", "Midwife ", "Nurse "}

// by is who recorded something: a person with a role at the practice, or an organisation.
func (b *builder) by(name, role string) fhir.M {
	if name == "" {
		return b.organisation(b.p.o.Name, b.p.o.ODS)
	}
	i := slices.IndexFunc(clinicalTitles, func(t string) bool { return strings.HasPrefix(name, t) })
	if i < 0 {
		return b.organisation(name, "")
	}
	id := b.uuid("practitioner", name)
	if b.made[id] {
		return ref("Practitioner", id)
	}
	b.made[id] = true
	words := strings.Fields(name[len(clinicalTitles[i]):])
	b.add(fhir.M{"resourceType": "Practitioner", "id": id, "meta": gpconnect.Profile("CareConnect-GPC-Practitioner-1"),
		"identifier": []fhir.M{{"system": fhir.SystemSDSUser, "value": "G" + strings.ToUpper(id[:8])}},
		"name": []fhir.M{{"use": "usual", "family": words[len(words)-1], "given": words[:len(words)-1],
			"prefix": []string{strings.TrimSpace(clinicalTitles[i])}}}})
	if role == "" {
		role = "General Medical Practitioner"
	}
	b.add(fhir.M{"resourceType": "PractitionerRole", "id": b.uuid("role", name), "meta": gpconnect.Profile("CareConnect-GPC-PractitionerRole-1"),
		"practitioner": ref("Practitioner", id), "organization": b.organisation(b.p.o.Name, b.p.o.ODS),
		"code": []fhir.M{{"text": role}}})
	return ref("Practitioner", id)
}

// file puts a resource into the answer and under its list, if that was asked for; restricted items may be kept back instead.
func (b *builder) file(query, label string, r fhir.M) bool {
	l := b.byName[query]
	if l == nil {
		return false
	}
	if b.p.o.Exclude && label == "R" || label == cast.Withheld {
		if !slices.Contains(l.warnings, "confidential-items") {
			l.warnings = append(l.warnings, "confidential-items")
		}
		return false
	}
	b.add(r)
	l.refs = append(l.refs, r["resourceType"].(string)+"/"+r["id"].(string))
	return true
}

func (b *builder) writeList(l *list) {
	out := gpconnect.List{Query: l.Query, Patient: "Patient/" + b.mine("patient"), At: b.p.o.Now(), Entries: l.refs, Contained: l.contained, Warnings: l.warnings}
	if len(l.warnings) > 0 {
		out.Notes = append(out.Notes, gpconnect.ConfidentialItems)
	}
	if d := b.p.arriving(b.person); d != "" {
		t, _ := time.Parse(time.DateOnly, d)
		out.Warnings = append(out.Warnings, "data-in-transit")
		out.Notes = append(out.Notes, "Patient record transfer from previous GP practice not yet complete; information recorded before "+t.Format("02-Jan-2006")+" may be missing.")
	}
	b.add(out.Resource())
}

// items files every simple fact that the practice holds. What has no query of its own is uncategorised data, as in practices' systems.
func (b *builder) items() {
	for n, i := range append(b.person.ItemsAt(b.p.o.Source), b.surgery.Items...) {
		switch i.Heading {
		case dataset.Allergies:
			b.allergy(n, i)
		case dataset.Problems:
			if state := "active"; b.ask.Significance != "minor" && (b.ask.ProblemsOnly == "" || (i.Status == state) == (b.ask.ProblemsOnly == state)) {
				b.file("includeProblems", i.Label, b.problem(n, i))
			}
		case dataset.Immunisations:
			b.immunisation(n, i)
		case dataset.Referrals:
			if b.ask.Within("includeReferrals", day(i.Date)) {
				b.referral(n, i)
			}
		default:
			if b.ask.Within("includeUncategorisedData", day(i.Date)) {
				b.observation(n, i)
			}
		}
	}
}

// day is the day of a date or time.
func day(date string) string { return date[:min(len(time.DateOnly), len(date))] }
