package fhirapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// systemRecordHeadings is UK Core's code system of PRSB record headings, which servers put in category.
const systemRecordHeadings = "https://fhir.hl7.org.uk/CodeSystem/UKCore-RecordStandardHeadings"

// A search is one resource type asked for, and the parameters beside the patient.
type search struct {
	typ    string
	filter string // form-encoded
}

func all(types ...string) []search {
	var out []search
	for _, t := range types {
		out = append(out, search{typ: t})
	}
	return out
}

func categories(typ, system string, codes ...string) search {
	values := make([]string, len(codes))
	for i, c := range codes {
		values[i] = c
		if system != "" {
			values[i] = system + "|" + c
		}
	}
	return search{typ: typ, filter: "category=" + url.QueryEscape(strings.Join(values, ","))}
}

// searches is what each heading needs to be asked for. A search is narrowed by category only where the standard promises that
// category; elsewhere the whole type is asked for and what belongs to headings not asked is dropped unread, because "none recorded" must
// not come from a source that merely codes otherwise. Headings that no R4 type stands for are absent: they stay not known.
var searches = map[dataset.Heading][]search{
	dataset.Allergies:            all("AllergyIntolerance"),
	dataset.Problems:             all("Condition"),
	dataset.Medications:          all("MedicationRequest", "MedicationStatement", "MedicationDispense", "MedicationAdministration"),
	dataset.Immunisations:        all("Immunization"),
	dataset.Procedures:           all("Procedure"),
	dataset.Observations:         all("Observation"),
	dataset.Results:              append(all("DiagnosticReport"), categories("Observation", "", "laboratory")),
	dataset.Imaging:              all("ImagingStudy", "DiagnosticReport"),
	dataset.Encounters:           all("Encounter", "EpisodeOfCare"),
	dataset.Appointments:         all("Appointment"),
	dataset.Referrals:            all("ServiceRequest"),
	dataset.Documents:            all("DocumentReference"),
	dataset.CarePlans:            all("CarePlan", "Goal"),
	dataset.EndOfLife:            all("CarePlan"),
	dataset.RiskAssessments:      all("RiskAssessment"),
	dataset.Alerts:               all("Flag"),
	dataset.Safeguarding:         all("Flag"),
	dataset.ProfessionalContacts: all("CareTeam"),
	dataset.PersonalContacts:     all("RelatedPerson"),
	dataset.FamilyHistory:        all("FamilyMemberHistory"),
	dataset.Devices:              all("Device", "DeviceUseStatement"),
	dataset.AboutMe:              all("QuestionnaireResponse"),
	dataset.SocialContext:        {categories("Observation", "", "social-history")},
	dataset.Legal:                append(all("Consent"), categories("Observation", systemRecordHeadings, legalHeadings...)),
}

var legalHeadings = []string{
	"mental-health-act-or-equivalent-status", "legal-information", "deprivation-of-liberty-safeguards-or-equivalent",
	"lasting-or-enduring-power-of-attorney-or-similar", "advance-decisions-about-treatment",
	"lasting-power-of-attorney-for-health-and-welfare-or-court-appointed-deputy-or-equivalent", "mental-capacity-assessment",
}

// byRecordHeading is what UK Core's record headings mean among ours, where a resource's type alone would say something else.
var byRecordHeading = func() map[string]dataset.Heading {
	m := map[string]dataset.Heading{
		"safeguarding": dataset.Safeguarding, "safeguarding-issues": dataset.Safeguarding, "alerts": dataset.Alerts,
		"safety-alerts": dataset.Alerts, "social-context": dataset.SocialContext, "social-circumstances": dataset.SocialContext,
		"clinical-risk-assessment": dataset.RiskAssessments, "risk-information": dataset.RiskAssessments,
		"family-history": dataset.FamilyHistory,
	}
	for _, l := range legalHeadings {
		m[l] = dataset.Legal
	}
	return m
}()

// headed gives a resource the heading that its own record-heading category names, unless it already has our tag.
func headed(r *fhir.Resource) *fhir.Resource {
	for c := range r.Value().All("category.coding") {
		h, ok := byRecordHeading[c.Text("code")]
		if !ok || c.Text("system") != systemRecordHeadings || dataset.HeadingOf(r) == h {
			continue
		}
		return tagged(r, h)
	}
	return r
}

// tagged puts a resource under a heading.
func tagged(r *fhir.Resource, h dataset.Heading) *fhir.Resource {
	meta := fhir.M{}
	if r.Get("meta").Decode(&meta) != nil {
		meta = fhir.M{}
	}
	tags, _ := meta["tag"].([]any)
	meta["tag"] = append(tags, dataset.Tag(h))
	return r.With("meta", meta)
}

// A plan is the searches to make and which of them each heading waits for.
type plan struct {
	searches []search
	needs    map[dataset.Heading][]search
	missing  map[dataset.Heading]bool // the server offers nothing that the heading needs
}

// planFor joins the headings' searches: each is made once, and a narrowed one not at all where the whole type is asked for anyway.
// offers are the types the server says can be searched; nil if it does not say.
func planFor(headings []dataset.Heading, offers map[string]bool) plan {
	p := plan{needs: map[dataset.Heading][]search{}, missing: map[dataset.Heading]bool{}}
	whole := map[string]bool{}
	offered := func(s search) bool { return offers == nil || offers[s.typ] }
	for _, h := range headings {
		for _, s := range searches[h] {
			whole[s.typ] = whole[s.typ] || s.filter == "" && offered(s)
		}
	}
	for _, h := range headings {
		if h == dataset.Demographics || h == dataset.GPPractice {
			continue
		}
		for _, s := range searches[h] {
			if !offered(s) {
				continue
			}
			if whole[s.typ] {
				s.filter = ""
			}
			if !slices.Contains(p.needs[h], s) {
				p.needs[h] = append(p.needs[h], s)
			}
			if !slices.Contains(p.searches, s) {
				p.searches = append(p.searches, s)
			}
		}
		p.missing[h] = len(p.needs[h]) == 0
	}
	return p
}

// conclude turns what the searches gave into the answer: content, the state of each heading, issues and error.
func (a *asking) conclude(p plan, results []*result) error {
	source := a.o.Source
	bySearch := map[search]*result{}
	var failures []*fhir.Issue
	for _, r := range results {
		bySearch[r.search] = r
		for _, i := range r.issues {
			a.addIssue(i.From(source))
		}
		if r.failed == nil {
			continue
		}
		a.addIssue(r.failed.From(source))
		switch r.failed.Type {
		case fhir.NotSupported, fhir.Suppressed, fhir.Login, fhir.Incomplete, fhir.TooLong, fhir.BusinessRule:
		default:
			failures = append(failures, r.failed)
		}
	}
	present := a.keep(results)
	for _, h := range a.q.Headings {
		if p.missing[h] {
			a.addIssue(fhir.Errorf(fhir.NotSupported, "the server offers no search for the heading %s; take it out of the system's gives in the region file", h).From(source))
			continue
		}
		switch {
		case h == dataset.Demographics:
			a.answer.States[h] = dataset.Present
		case h == dataset.GPPractice:
			a.answer.States[h] = dataset.NoneRecorded
			if a.answer.Patient.Get("generalPractitioner").Exists() {
				a.answer.States[h] = dataset.Present
			}
		default:
			if s, ok := stateOf(p.needs[h], bySearch, present[h]); ok {
				a.answer.States[h] = s
			}
		}
	}
	if len(failures) == 0 {
		return nil
	}
	worst := *failures[0]
	worst.Text = fmt.Sprintf("%d of %d searches failed: %s", len(failures), len(results), worst.Text)
	return worst.From(source)
}

// stateOf is a heading's state; ok is false if it is not known.
func stateOf(needs []search, results map[search]*result, present bool) (s dataset.State, ok bool) {
	refused := 0
	for _, n := range needs {
		r := results[n]
		if r.failed != nil && (r.failed.Type == fhir.Suppressed || r.failed.Type == fhir.Login) {
			refused++
		} else if !r.complete {
			return "", false
		}
	}
	switch {
	case refused == len(needs):
		return dataset.NotShared, true
	case refused > 0:
		return "", false
	case present:
		return dataset.Present, true
	}
	return dataset.NoneRecorded, true
}

// keep moves what was found into the answer, once each, without what belongs to headings that were not asked for.
func (a *asking) keep(results []*result) map[dataset.Heading]bool {
	present := map[dataset.Heading]bool{}
	for _, r := range results {
		for _, res := range r.found {
			res = headed(res)
			h := dataset.HeadingOf(res)
			if a.seen[res.Ref()] || res.Type() == "Patient" || h != "" && !slices.Contains(a.q.Headings, h) {
				continue
			}
			a.seen[res.Ref()] = true
			present[h] = true
			a.answer.Content = append(a.answer.Content, res)
		}
	}
	return present
}

// addIssue adds an issue that has not been told yet.
func (a *asking) addIssue(i *fhir.Issue) {
	for _, old := range a.answer.Issues {
		if old.Type == i.Type && old.Text == i.Text && old.Expression == i.Expression {
			return
		}
	}
	a.answer.Issues = append(a.answer.Issues, i)
}
