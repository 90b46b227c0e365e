package policy

import (
	"slices"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// An Objection is a choice as a person makes it here: what shall not be shared, with whom, until when. Everything that it names must fit for it to
// refuse; what it leaves open is everything. As a Consent it is read by the same code as every other system's (IHE PCF 3:5.8).
type Objection struct {
	ID          string          // the source's own id of the Consent
	Recipient   string          // ODS code of those who shall not see it; "": anybody
	Holder      string          // ODS code of those who hold it; "": whoever does
	Heading     dataset.Heading // "": all headings
	Sensitivity string          // id of a SensitivityGroup; "": whatever it is marked as
	LastDay     string          // YYYY-MM-DD, the last on which it holds; "": until it is taken back
	Made        Deed
	TakenBack   *Deed // nil while it holds
}

// A Deed is who did something at this node, and when. Words says how somebody else knows that the person wants it; "" if it was the person.
type Deed struct {
	By, Name, Words string
	At              time.Time
}

// A SensitivityGroup is a kind of sensitive information as people speak of it, and the labels that mark it.
type SensitivityGroup struct {
	ID, Plain string
	codes     []string
}

// SensitivityGroups are those that a person may object to being shared.
var SensitivityGroups = []SensitivityGroup{
	{"mental-health", "Mental health", []string{"PSY", "MH", "BH", "PSYTHPN"}},
	{"sexual-health", "Sexual health", []string{"SEX", "STD", "HIV", "sexually-transmitted"}},
	{"substances", "Alcohol and drugs", []string{"ETH", "ETHUD", "OPIOIDUD", "SUD"}},
	{"violence", "Violence or abuse", []string{"SDV", "DV", "VIO"}},
	{"fertility", "Fertility treatment and ending a pregnancy", []string{"assisted-fertilisation", "termination"}},
	{"gender", "Gender identity", []string{"gender"}},
}

const (
	systemOwnChoice = "https://tombolo.dev/Id/choice"
	extMade         = "https://tombolo.dev/StructureDefinition/choice-made"
	extTakenBack    = "https://tombolo.dev/StructureDefinition/choice-taken-back"
	systemRoleCode  = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
)

// Check says what is wrong with an objection that somebody wants to make, nil if nothing is.
func (o *Objection) Check(at time.Time) error {
	switch {
	case o.Heading != "" && !o.Heading.Valid():
		return fhir.Errorf(fhir.CodeInvalid, "choose a part of your record from the list").At("heading")
	case o.Sensitivity != "" && o.group() == nil:
		return fhir.Errorf(fhir.CodeInvalid, "choose a kind of information from the list").At("sensitivity")
	case o.LastDay == "":
		return nil
	}
	day, err := time.ParseInLocation(time.DateOnly, o.LastDay, fhir.London)
	if err != nil || day.Before(at.Add(-24*time.Hour)) || day.Year() > at.Year()+120 {
		return fhir.Errorf(fhir.ValueError, "the last day must be today or later").At("until")
	}
	return nil
}

func (o *Objection) group() *SensitivityGroup {
	if i := slices.IndexFunc(SensitivityGroups, func(g SensitivityGroup) bool { return g.ID == o.Sensitivity }); i >= 0 {
		return &SensitivityGroups[i]
	}
	return nil
}

// In reports whether it holds at a time.
func (o *Objection) In(at time.Time) bool {
	if o.TakenBack != nil {
		return false
	}
	day, err := time.ParseInLocation(time.DateOnly, o.LastDay, fhir.London)
	return o.LastDay == "" || err == nil && at.Before(day.AddDate(0, 0, 1))
}

// Item is something to which the objection's kind of information is attached: what a clinician may see unless the person objects.
func (o *Objection) Item() *Item {
	it := &Item{}
	if g := o.group(); g != nil {
		it.Labels = RestrictedLabel
		for _, c := range g.codes {
			it.Labels |= byCode[c]
		}
	}
	return it
}

// Consent is the objection about a patient ("Patient/…"); taken back, it is inactive. FHIR R4 consent.html
func (o *Objection) Consent(patient fhir.Ref) *fhir.Resource {
	provision := fhir.M{"type": "deny"}
	if o.LastDay != "" {
		provision["period"] = fhir.M{"end": o.LastDay}
	}
	var actors []fhir.M
	actor := func(role, ods string) {
		if ods != "" {
			actors = append(actors, fhir.M{"role": fhir.Code(systemRoleCode, role, ""), "reference": fhir.Reference{Type: "Organization", Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: ods}}})
		}
	}
	actor("IRCP", o.Recipient)
	actor("CST", o.Holder)
	if actors != nil {
		provision["actor"] = actors
	}
	if o.Heading != "" {
		provision["class"] = []fhir.Coding{{System: fhir.SystemHeading, Code: string(o.Heading)}}
	}
	if g := o.group(); g != nil {
		var labels []fhir.Coding
		for _, c := range g.codes {
			labels = append(labels, codingOf(byCode[c]))
		}
		provision["securityLabel"] = labels
	}
	status, extensions := "active", []fhir.M{o.Made.extension(extMade)}
	if o.TakenBack != nil {
		status, extensions = "inactive", append(extensions, o.TakenBack.extension(extTakenBack))
	}
	f := fhir.M{"extension": extensions, "identifier": []fhir.Identifier{{System: systemOwnChoice, Value: o.ID}}, "status": status,
		"scope":    fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "Privacy Consent"),
		"category": []any{fhir.Code(fhir.SystemLOINC, "59284-0", "Patient Consent")}, "patient": fhir.Reference{Reference: string(patient)},
		"dateTime": o.Made.At.UTC().Format(time.RFC3339), "policyRule": fhir.Code(fhir.SystemActCode, "OPTOUT", "opt-out"), "provision": provision}
	if o.Made.Words != "" {
		f["verification"] = []fhir.M{{"verified": true, "verifiedWith": fhir.Reference{Reference: string(patient)}, "verificationDate": o.Made.At.UTC().Format(time.RFC3339)}}
	}
	return fhir.New("Consent", o.ID, f)
}

// codingOf is the one sensitivity of a label.
func codingOf(l Labels) fhir.Coding {
	for i, s := range sensitivities {
		if l == firstSensitivity<<i {
			return fhir.Coding{System: s.system, Code: s.code}
		}
	}
	return fhir.Coding{}
}

func (d *Deed) extension(url string) fhir.M {
	parts := []fhir.M{{"url": "by", "valueString": d.By}, {"url": "name", "valueString": d.Name}, {"url": "at", "valueInstant": d.At.UTC().Format(time.RFC3339)}}
	if d.Words != "" {
		parts = append(parts, fhir.M{"url": "words", "valueString": d.Words})
	}
	return fhir.M{"url": url, "extension": parts}
}

// ObjectionOf reads a Consent back as what a person chose here; ok is false for one of which that cannot be said in full.
func ObjectionOf(r *fhir.Resource) (o Objection, ok bool) {
	p := r.Value().Member("provision")
	root, err := readProvision(p, Provision{}, 0)
	if r.Type() != "Consent" || r.Text("scope.coding.code") != "patient-privacy" || err != nil || !p.Exists() {
		return o, false
	}
	if root.Permit || len(root.Exceptions)+len(root.Purposes)+len(root.Types)+len(root.Codes)+len(root.Data) > 0 || !root.DataFrom.IsZero() || !root.DataUntil.IsZero() ||
		len(root.Recipients) > 1 || len(root.Holders) > 1 || len(root.Headings) > 1 || p.Text("period.start") != "" {
		return o, false
	}
	o.LastDay = p.Text("period.end")
	for _, h := range root.Headings {
		o.Heading = h
	}
	for _, x := range []struct {
		from []string
		to   *string
	}{{root.Recipients, &o.Recipient}, {root.Holders, &o.Holder}} {
		for _, name := range x.from {
			const prefix = fhir.SystemODS + "|"
			if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
				return o, false
			}
			*x.to = name[len(prefix):]
		}
	}
	if root.Labels != 0 {
		for _, g := range SensitivityGroups {
			var all Labels
			for _, c := range g.codes {
				all |= byCode[c]
			}
			if all == root.Labels {
				o.Sensitivity = g.ID
			}
		}
		if o.Sensitivity == "" {
			return o, false
		}
	}
	for id := range r.Value().All("identifier") {
		if id.Text("system") == systemOwnChoice {
			o.ID = id.Text("value")
		}
	}
	for e := range r.Value().All("extension") {
		switch d := deedOf(e); e.Text("url") {
		case extMade:
			o.Made = d
		case extTakenBack:
			o.TakenBack = &d
		}
	}
	if o.Made.At.IsZero() {
		if span, err := fhir.ParseDate(r.Text("dateTime")); err == nil {
			o.Made.At = span.Start
		}
	}
	return o, true
}

func deedOf(e fhir.Value) (d Deed) {
	for x := range e.All("extension") {
		switch x.Text("url") {
		case "by":
			d.By = x.Text("valueString")
		case "name":
			d.Name = x.Text("valueString")
		case "words":
			d.Words = x.Text("valueString")
		case "at":
			d.At, _ = time.Parse(time.RFC3339, x.Text("valueInstant"))
		}
	}
	return d
}
