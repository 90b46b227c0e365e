package practice

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

func profile(name string) fhir.M {
	return fhir.M{"profile": []string{"https://fhir.nhs.uk/STU3/StructureDefinition/" + name}}
}

func sct(code, display string) fhir.M {
	return fhir.M{"coding": []fhir.M{{"system": fhir.SystemSNOMED, "code": code, "display": display}}}
}

const (
	gpc  = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-"
	cc   = "https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-"
	when = "2006-01-02T15:04:05-07:00"
)

// A builder puts one person's record together as one answer.
type builder struct {
	p       *Practice
	person  cast.Person
	ask     *question
	entries []fhir.M
	made    map[string]bool // "Practitioner/…" that are already in
	lists   []*list
	byName  map[string]*list
	topics  map[string]*topic // day -> the consultation of that day
	surgery cast.Surgery
}

// A list answers one query.
type list struct {
	query, code, title string
	refs               []string
	warnings           []string
	contained          []fhir.M
}

// The lists by the query that they answer. GP Connect 1.6 accessrecord_structured_development_list.html
var listOf = []list{
	{query: "includeAllergies", code: "886921000000105", title: "Allergies and adverse reactions"},
	{query: "ended", code: "1103671000000101", title: "Ended allergies"},
	{query: "includeMedication", code: "933361000000108", title: "Medications and medical devices"},
	{query: "includeProblems", code: "717711000000103", title: "Problems"},
	{query: "includeImmunisations", code: "1102181000000102", title: "Immunisations"},
	{query: "includeUncategorisedData", code: "826501000000100", title: "Miscellaneous record"},
	{query: "includeInvestigations", code: "887191000000108", title: "Investigations and results"},
	{query: "includeReferrals", code: "792931000000107", title: "Outbound referral"},
	{query: "includeDiaryEntries", code: "714311000000108", title: "Patient recall administration"},
	{query: "includeConsultations", code: "1149501000000101", title: "List of consultations"},
}

// record is the whole answer: a Bundle of type collection.
func (p *Practice) record(person cast.Person, ask *question) fhir.M {
	b := &builder{p: p, person: person, ask: ask, made: map[string]bool{}, byName: map[string]*list{}, topics: map[string]*topic{}, surgery: p.surgery(person)}
	b.patient()
	for _, l := range listOf {
		if ask.asked[l.query] || l.query == "ended" && ask.asked["includeAllergies"] && ask.resolved {
			c := l
			b.lists = append(b.lists, &c)
			b.byName[l.query] = &c
		}
	}
	b.consultations()
	b.items()
	if ask.asked["includeMedication"] {
		for i, m := range append(person.MedicationsAt(p.o.Source), b.surgery.Medications...) {
			b.medication(i, m)
		}
	}
	if ask.asked["includeInvestigations"] {
		for _, r := range person.ReportsAt(p.o.Source) {
			b.report(cast.Panel{Report: r, Groups: []cast.Group{{Code: r.Code, Display: r.Display, Results: r.Results}}})
		}
		for _, r := range b.surgery.Panels {
			b.report(r)
		}
	}
	b.writeTopics()
	b.detailed()
	for _, l := range b.lists {
		b.writeList(l)
	}
	b.notOffered()
	return fhir.M{"resourceType": "Bundle", "meta": profile("GPConnect-StructuredRecord-Bundle-1"), "type": "collection", "entry": b.entries}
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
	meta := profile(prof)
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
		"resourceType": "Patient", "id": b.mine("patient"), "meta": profile("CareConnect-GPC-Patient-1"),
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
		r := fhir.M{"resourceType": "Organization", "id": id, "meta": profile("CareConnect-GPC-Organization-1"), "name": name}
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
	b.add(fhir.M{"resourceType": "Practitioner", "id": id, "meta": profile("CareConnect-GPC-Practitioner-1"),
		"identifier": []fhir.M{{"system": fhir.SystemSDSUser, "value": "G" + strings.ToUpper(id[:8])}},
		"name": []fhir.M{{"use": "usual", "family": words[len(words)-1], "given": words[:len(words)-1],
			"prefix": []string{strings.TrimSpace(clinicalTitles[i])}}}})
	if role == "" {
		role = "General Medical Practitioner"
	}
	b.add(fhir.M{"resourceType": "PractitionerRole", "id": b.uuid("role", name), "meta": profile("CareConnect-GPC-PractitionerRole-1"),
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

// The words that belong to each warning. GP Connect 1.6 accessrecord_structured_development_list.html#warning-codes
var warningText = map[string]string{
	"confidential-items": "Items excluded due to confidentiality and/or patient preferences.",
	"data-in-transit":    "Patient record transfer from previous GP practice not yet complete; information recorded before %s may be missing.",
}

func (b *builder) writeList(l *list) {
	r := fhir.M{
		"resourceType": "List", "meta": profile("CareConnect-GPC-List-1"), "status": "current", "mode": "snapshot", "title": l.title,
		"code": sct(l.code, l.title), "subject": b.subject(), "date": b.p.o.Now().In(fhir.London).Format(when),
		"orderedBy": fhir.M{"coding": []fhir.M{{"system": "http://hl7.org/fhir/list-order", "code": "event-date"}}},
	}
	var notes []fhir.M
	ext := []fhir.M{{"url": gpc + "ClinicalSetting-1", "valueCodeableConcept": sct("1060971000000108", "General practice service")}}
	if d := b.p.arriving(b.person); d != "" {
		l.warnings = append(l.warnings, "data-in-transit")
		t, _ := time.Parse(time.DateOnly, d)
		notes = append(notes, fhir.M{"text": fmt.Sprintf(warningText["data-in-transit"], t.Format("02-Jan-2006"))})
	}
	for _, w := range l.warnings {
		ext = append(ext, fhir.M{"url": gpc + "ListWarningCode-1", "valueCode": w})
		if w == "confidential-items" {
			notes = append(notes, fhir.M{"text": warningText[w]})
		}
	}
	r["extension"] = ext
	if len(l.contained) > 0 {
		r["contained"] = l.contained
	}
	if len(l.refs) == 0 {
		r["emptyReason"] = fhir.M{"coding": []fhir.M{{"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1", "code": "no-content-recorded", "display": "No Content Recorded"}}}
		notes = append(notes, fhir.M{"text": "Information not available"})
	} else {
		var es []fhir.M
		for _, ref := range l.refs {
			es = append(es, fhir.M{"item": fhir.M{"reference": ref}})
		}
		r["entry"] = es
	}
	if len(notes) > 0 {
		r["note"] = notes
	}
	b.add(r)
}

// notOffered tells of parameters that are not known here. GP Connect 1.6 accessrecord_structured_development_version_compatibility.html
func (b *builder) notOffered() {
	var issues []fhir.M
	for _, n := range b.ask.unknown {
		issues = append(issues, fhir.M{"severity": "warning", "code": "not-supported", "diagnostics": n, "details": fhir.M{
			"coding": []fhir.M{{"system": "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1", "code": "NOT_IMPLEMENTED", "display": "Not implemented"}},
			"text":   n + " is an unrecognised parameter"}})
	}
	if len(issues) > 0 {
		b.add(fhir.M{"resourceType": "OperationOutcome", "id": b.mine("outcome"), "meta": profile("GPConnect-OperationOutcome-1"), "issue": issues})
	}
}

// items files every simple fact that the practice holds. What has no query of its own is uncategorised data, as in practices' systems.
func (b *builder) items() {
	for n, i := range append(b.person.ItemsAt(b.p.o.Source), b.surgery.Items...) {
		switch i.Heading {
		case dataset.Allergies:
			b.allergy(n, i)
		case dataset.Problems:
			b.file("includeProblems", i.Label, b.problem(n, i))
		case dataset.Immunisations:
			b.immunisation(n, i)
		case dataset.Referrals:
			b.referral(n, i)
		default:
			b.observation(n, i)
		}
	}
}
