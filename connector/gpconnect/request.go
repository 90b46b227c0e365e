package gpconnect

import (
	"slices"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// An Include says what is asked of the practice. The zero value asks for nothing but who the person is.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html
type Include struct {
	Allergies, ResolvedAllergies bool

	Medication     bool
	WithoutIssues  bool   // leave out the single issues of prescriptions
	MedicationFrom string // only what was active on this day or later; a whole date

	Consultations       bool
	ConsultationPeriod  fhir.Period
	ConsultationsRecent int // only so many; not together with a period

	Problems     bool
	ProblemsOnly string // active or inactive; "" for both
	Significance string // major or minor; "" for both

	Immunisations         bool
	ImmunisationsNotGiven bool
	ImmunisationsStatus   bool // of consent and the like, where the practice records it

	Uncategorised       bool
	UncategorisedPeriod fhir.Period

	Investigations      bool
	InvestigationPeriod fhir.Period

	Referrals      bool
	ReferralPeriod fhir.Period

	Diary      bool
	DiaryUntil string // entries due by this day, which is not before today
}

// For is what has to be asked for the given headings, and no more.
func For(headings []dataset.Heading) Include {
	wants := func(h ...dataset.Heading) bool {
		return slices.ContainsFunc(h, func(x dataset.Heading) bool { return slices.Contains(headings, x) })
	}
	return Include{
		// That somebody refused a vaccination is told to those alone who ask for it, and may not be asked for beside consultations or problems.
		ImmunisationsNotGiven: wants(dataset.Immunisations) && !wants(dataset.Encounters, dataset.Problems),
		Allergies:             wants(dataset.Allergies), ResolvedAllergies: true,
		Medication:     wants(dataset.Medications),
		Consultations:  wants(dataset.Encounters),
		Problems:       wants(dataset.Problems),
		Immunisations:  wants(dataset.Immunisations),
		Uncategorised:  wants(dataset.Observations, dataset.SocialContext, dataset.FamilyHistory),
		Investigations: wants(dataset.Results),
		Referrals:      wants(dataset.Referrals),
		Diary:          wants(dataset.CarePlans),
	}
}

// offered reports whether a GP Connect structured record can fill a heading.
func offered(h dataset.Heading) bool {
	return h == dataset.Demographics || h == dataset.GPPractice ||
		slices.ContainsFunc(queries, func(q query) bool { return slices.Contains(q.headings, h) })
}

// Check refuses what the specification does not allow to be asked, so that it never reaches the wire. today decides what is past.
func (in Include) Check(today time.Time) error {
	day := today.In(fhir.London).Format(time.DateOnly)
	bad := func(part, why string) error {
		return fhir.Errorf(fhir.Invalid, "%s", why).At(part)
	}
	whole := func(d string) bool { _, err := time.Parse(time.DateOnly, d); return d == "" || err == nil }
	periods := map[string]fhir.Period{
		"includeConsultations.consultationSearchPeriod":          in.ConsultationPeriod,
		"includeUncategorisedData.uncategorisedDataSearchPeriod": in.UncategorisedPeriod,
		"includeInvestigations.investigationSearchPeriod":        in.InvestigationPeriod,
		"includeReferrals.referralSearchPeriod":                  in.ReferralPeriod,
	}
	for part, p := range periods {
		switch {
		case !whole(p.Start) || !whole(p.End):
			return bad(part, "a search period is of whole dates, such as 2026-03-31")
		case p.Start > day || p.End > day:
			return bad(part, "a search period may not reach into the future")
		case p.Start != "" && p.End != "" && p.Start > p.End:
			return bad(part, "the search period ends before it starts")
		}
	}
	switch {
	case !whole(in.MedicationFrom) || in.MedicationFrom > day:
		return bad("includeMedication.medicationSearchFromDate", "must be a whole date that is not in the future")
	case !whole(in.DiaryUntil) || in.DiaryUntil != "" && in.DiaryUntil < day:
		return bad("includeDiaryEntries.diaryEntriesSearchDate", "must be a whole date, today or later")
	case in.ConsultationsRecent < 0:
		return bad("includeConsultations.includeNumberOfMostRecent", "must be 1 or more")
	case in.ConsultationsRecent > 0 && in.ConsultationPeriod != (fhir.Period{}):
		return bad("includeConsultations", "a period and a number of the most recent may not both be given")
	case in.ProblemsOnly != "" && in.ProblemsOnly != "active" && in.ProblemsOnly != "inactive":
		return bad("includeProblems.filterStatus", "must be active or inactive")
	case in.Significance != "" && in.Significance != "major" && in.Significance != "minor":
		return bad("includeProblems.filterSignificance", "must be major or minor")
	}
	return in.checkCombination(bad)
}

// checkCombination: consultations and problems bring linked entries with them, and to narrow those at the same time could show a
// consultation without the medicine that was prescribed in it.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html "Not permitted parameter combinations"
func (in Include) checkCombination(bad func(part, why string) error) error {
	if !in.Consultations && !in.Problems {
		return nil
	}
	narrowing := []struct {
		part  string
		given bool
	}{
		{"includeMedication.medicationSearchFromDate", in.MedicationFrom != ""},
		{"includeUncategorisedData.uncategorisedDataSearchPeriod", in.UncategorisedPeriod != (fhir.Period{})},
		{"includeReferrals.referralSearchPeriod", in.ReferralPeriod != (fhir.Period{})},
		{"includeDiaryEntries.diaryEntriesSearchDate", in.DiaryUntil != ""},
		{"includeImmunisations.includeNotGiven", in.ImmunisationsNotGiven},
		{"includeImmunisations.includeStatus", in.ImmunisationsStatus},
		{"includeProblems.filterStatus", in.Consultations && in.ProblemsOnly != ""},
		{"includeProblems.filterSignificance", in.Consultations && in.Significance != ""},
	}
	for _, n := range narrowing {
		if n.given {
			return bad(n.part, "may not be given together with consultations or problems: entries that belong together could be torn apart")
		}
	}
	return nil
}

// parameters is the body of the request. The NHS number stands here and nowhere else.
func (in Include) parameters(nhs fhir.NHSNumber) []byte {
	params := []fhir.M{{"name": "patientNHSNumber", "valueIdentifier": fhir.M{"system": fhir.SystemNHSNumber, "value": nhs.Digits()}}}
	add := func(on bool, name string, parts ...fhir.M) {
		if !on {
			return
		}
		p := fhir.M{"name": name}
		parts = slices.DeleteFunc(parts, func(m fhir.M) bool { return m == nil })
		if len(parts) > 0 {
			p["part"] = parts
		}
		params = append(params, p)
	}
	when := func(on bool, name, valueX string, value any) fhir.M {
		if !on {
			return nil
		}
		return fhir.M{"name": name, valueX: value}
	}
	period := func(p fhir.Period, name string) fhir.M { return when(p != (fhir.Period{}), name, "valuePeriod", p) }

	add(in.Allergies, "includeAllergies", when(true, "includeResolvedAllergies", "valueBoolean", in.ResolvedAllergies))
	add(in.Medication, "includeMedication", when(true, "includePrescriptionIssues", "valueBoolean", !in.WithoutIssues),
		when(in.MedicationFrom != "", "medicationSearchFromDate", "valueDate", in.MedicationFrom))
	add(in.Consultations, "includeConsultations", period(in.ConsultationPeriod, "consultationSearchPeriod"),
		when(in.ConsultationsRecent > 0, "includeNumberOfMostRecent", "valuePositiveInt", in.ConsultationsRecent))
	add(in.Problems, "includeProblems", when(in.ProblemsOnly != "", "filterStatus", "valueCode", in.ProblemsOnly),
		when(in.Significance != "", "filterSignificance", "valueCode", in.Significance))
	add(in.Immunisations, "includeImmunisations", when(in.ImmunisationsNotGiven, "includeNotGiven", "valueBoolean", true),
		when(in.ImmunisationsStatus, "includeStatus", "valueBoolean", true))
	add(in.Uncategorised, "includeUncategorisedData", period(in.UncategorisedPeriod, "uncategorisedDataSearchPeriod"))
	add(in.Investigations, "includeInvestigations", period(in.InvestigationPeriod, "investigationSearchPeriod"))
	add(in.Referrals, "includeReferrals", period(in.ReferralPeriod, "referralSearchPeriod"))
	add(in.Diary, "includeDiaryEntries", when(in.DiaryUntil != "", "diaryEntriesSearchDate", "valueDate", in.DiaryUntil))
	return fhir.JSON(fhir.M{"resourceType": "Parameters", "parameter": params})
}
