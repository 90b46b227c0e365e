package policy

import (
	"cmp"
	"slices"

	"tombolo/dataset"
	"tombolo/region"
)

func (f *Facts) related(r Relationship) bool { return slices.Contains(f.Relationships, r) }

// What is agreed may have changed since it was last looked at. Whoever does not know denies.
func dataRule(f *Facts, _ *Decision) (string, string, verdict) {
	if !f.Data.Read.IsZero() && f.At.Sub(f.Data.Read) > MaxStale {
		return "stale", "what has been agreed was not confirmed within a minute", refuse
	}
	return "", "", silent
}

func purposeRule(f *Facts, _ *Decision) (string, string, verdict) {
	r := f.Subject.Role.info()
	if !r.Opens {
		return "role", "this role opens no records", refuse
	}
	switch role := f.Subject.Role; {
	case f.Channel == Between && (role == Citizen || role == Analyst), f.Channel == Machine && role == Citizen:
		return "channel", "this role does not ask this way", refuse
	}
	if !slices.Contains(r.Purposes, f.Purpose) {
		return "purpose", "this role may not open records for this purpose", refuse
	}
	return "", "", silent
}

// confirmed are the relationships that some system knows of, the closest first, each with its words.
var confirmed = []struct {
	relationship Relationship
	text         string
}{
	{RegisteredPractice, "registered with the user's practice"},
	{OpenEncounter, "with the user's organisation now"},
	{OpenReferral, "referred to the user's organisation"},
	{OpenAppointment, "has an appointment at the user's organisation"},
	{CareTeam, "the user's organisation is in the care team"},
	{Workgroup, "assigned to a workgroup of the user's"},
	{KnownHere, "known to the user's organisation"},
}

// A record is opened by somebody who cares for the person. A clinician may claim a relationship that no system knows of
// (the person has just walked in) and is held to it; administrative staff may not. A system that asks for its clinicians claims for them, and breaks no glass.
func relationshipRule(f *Facts, d *Decision) (string, string, verdict) {
	switch {
	case f.Subject.Role == Citizen && f.related(Self):
		return "self", "it is their own record", allow
	case f.Subject.Role == Citizen && f.related(Proxy):
		return "", "", silent // proxyRule
	case f.Subject.Role == Citizen:
		return "relationship", "a citizen opens their own record only", refuse
	case f.Purpose.Secondary():
		return "secondary-use", "research and planning go by agreement, not by relationship", allow
	}
	for i := range confirmed {
		if f.related(confirmed[i].relationship) {
			return string(confirmed[i].relationship), confirmed[i].text, allow
		}
	}
	// Of fewer facts the question is whether there is anything that may be asked, and there is: who they are.
	if f.related(Identifying) && f.Purpose == Administration && (f.Heading == "" || f.Heading == dataset.Demographics) {
		return "identifying", "who somebody is, and nothing else, may be asked before a relationship is known", allow
	}
	claims := f.related(SelfClaimed) && f.Subject.May(ClaimRelationship)
	if f.broken(SelfClaim) {
		claims = true
		d.Obligations = append(d.Obligations, AlertPrivacy, ShowBanner)
	}
	if f.Subject.Role.info().Clinical && (claims || f.broken(AccessAlert)) {
		d.Obligations = append(d.Obligations, RecordSelfClaim)
		return "self-claimed", "the user says that the person is in their care", allow
	}
	return "relationship", "no relationship of care is known", refuse
}

// Research and planning: the National Data Opt-Out is consulted each time, and not for anything else. Only consent to this very research
// outweighs it. A Type 1 objection holds whatever the practice has.
func secondaryRule(f *Facts, _ *Decision) (string, string, verdict) {
	if !f.Purpose.Secondary() {
		return "", "", silent
	}
	if f.Person.TypeOne && f.Source != nil && f.Source.Kind == region.KindGP {
		return "type-1", "no confidential data leaves the practice for research or planning", refuse
	}
	consents := func(c Choice) bool {
		return f.Purpose == Research && slices.Contains(c.Root.Purposes, Research.Code()) && c.answer(f) == permits
	}
	unheeded := ""
	for i := range f.Person.Choices {
		switch c := &f.Person.Choices[i]; {
		case !consents(*c):
		case f.heeds(c):
			return "research-consent", "the person consents to this research", allow
		default:
			unheeded = "; that they consent to this research is told of by " + cmp.Or(c.Source, "nobody who is known") + ", whose word does not count for it (policy.permissions of the region file)"
		}
	}
	switch {
	case f.Person.OptOut == OptedOut:
		return "opt-out", "the person has opted out of research and planning" + unheeded, refuse
	case f.Person.OptOut != MayBeUsed:
		return "opt-out", "the National Data Opt-Out was not consulted", refuse
	}
	return "", "", silent
}

// What the person has chosen. It binds everybody but themselves, and gives way to an access alert; PDS dissent and the Summary Care
// Record's permission are choices of their own, each about its own.
func choiceRule(f *Facts, d *Decision) (string, string, verdict) {
	if f.Subject.Role == Citizen && f.related(Self) {
		return "", "", silent
	}
	code, text := "", ""
	switch a := f.Person.Choices.says(f); {
	case a == denies:
		code, text = "objection", "the person objects to this being shared"
	case a == confines:
		code, text = "objection", "the person has agreed to something else being shared, and not to this"
	case f.Person.Dissent && f.Heading != "" && f.Heading != dataset.Demographics && f.Heading != dataset.GPPractice:
		code, text = "dissent", "the person dissents from detailed sharing (PDS)"
	case f.Person.NoSCR && f.Source != nil && f.Source.Summary:
		code, text = "scr-permission", "the person has no Summary Care Record shared"
	default:
		return "", "", silent
	}
	if f.Purpose == Emergency && f.broken(AccessAlert) {
		if !d.Has(AlertPrivacy) {
			d.Obligations = append(d.Obligations, AlertPrivacy, ShowBanner)
		}
		return "break-glass", "opened in an emergency against the person's choice", allow
	}
	return code, text, refuse
}

func headingRule(f *Facts, _ *Decision) (string, string, verdict) {
	if !f.Subject.mayView(f.Heading) {
		return "activity", "the sign-in does not allow this activity", refuse
	}
	if f.Heading != "" && !f.Subject.Role.info().sees(f.Heading) {
		return "role-heading", "this role does not see this heading", refuse
	}
	return "", "", silent
}

func agreementRule(f *Facts, d *Decision) (string, string, verdict) {
	if f.Source == nil {
		return "", "", silent
	}
	if f.Subject.Role == Citizen {
		return "own-data", "people see what is held about them", allow
	}
	if f.Source.Organisation == f.Subject.Organisation && !f.Purpose.Secondary() {
		return "own-organisation", "the user's own organisation holds it", allow
	}
	for i := range f.Agreements {
		if f.under(&f.Agreements[i]) {
			d.Agreement = f.Agreements[i].ID
			return "agreement", "shared under agreement " + d.Agreement, allow
		}
	}
	return "agreement", "no agreement in force covers this", refuse
}

// under reports whether an agreement, as it was in force at the time, covers what is asked.
func (f *Facts) under(a *region.Agreement) bool {
	if f.At.Before(a.From) || !a.Until.IsZero() && !f.At.Before(a.Until) || !covers(a.Purposes, f.Purpose) {
		return false
	}
	if f.Heading != "" && !a.AllHeadings && !slices.Contains(a.Headings, f.Heading) || len(a.Roles) > 0 && !slices.Contains(a.Roles, string(f.Subject.Role)) {
		return false
	}
	holder := func(ods string) bool { return isOrPartOf(f.Source.Organisation, f.Source.Above, ods) }
	return slices.ContainsFunc(a.Parties, f.Subject.of) && slices.ContainsFunc(a.Parties, holder)
}

// covers reports whether an agreement's purposes include p. Agreements for direct care cover its emergency form and
// the administration of that care (bookings), which is how such agreements are written.
func covers(purposes []string, p Purpose) bool {
	if slices.Contains(purposes, string(p)) {
		return true
	}
	return (p == Emergency || p == Administration) && slices.Contains(purposes, string(DirectCare))
}

// Labels on a resource, or on everything from a source; the more restrictive wins. FHIR R4 security-labels.html
func labelRule(f *Facts, _ *Decision) (string, string, verdict) {
	var l Labels
	if f.Source != nil {
		l = f.Source.Labels
	}
	if f.Item != nil {
		l |= f.Item.Labels
	}
	citizen := f.Subject.Role == Citizen
	switch {
	case l&LegallyWithheld != 0:
		return "law", "withheld by law", refuse
	case l&VeryRestricted != 0:
		return "label", "marked very restricted", refuse
	case l&NoPatient != 0 && citizen:
		return "label", "marked as not to be shown to the person", refuse
	case l&RestrictedLabel == 0 && l.sensitive() == 0:
		return "", "", silent
	case citizen && !f.related(Self):
		return "label", "restricted, and not for those who act for the person", refuse
	case citizen:
		return "", "", silent
	case !f.Subject.Role.info().Clinical, !f.Subject.May(ViewSensitive):
		return "label", "marked restricted", refuse
	}
	return "", "", silent
}
