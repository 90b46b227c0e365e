package web

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/region"
)

// stagedRegion has a system as a whole, and one in stages of which one is to come, one is over and one is closed.
var stagedRegion = func() *region.Region {
	signed := region.SignOff{By: "Dr A. Officer", Role: "Clinical Safety Officer", On: today.AddDate(0, -3, 0), Standard: "DCB0160", HazardLog: "HL-0042"}
	withdrawn := signed
	withdrawn.Withdrawn = today.AddDate(0, 0, -2)
	day := func(n int) time.Time { return today.AddDate(0, 0, n) }
	gives := map[dataset.Heading]region.Way{dataset.Results: region.Push, dataset.Documents: region.Push}
	return &region.Region{Systems: []region.System{
		{ID: "m85001-gp", Gives: gives, Release: region.Release{All: true}},
		{ID: "rx1-pas", Gives: gives, Release: region.Staged(
			region.Stage{Testers: true, From: day(-60)}, region.Stage{All: true, From: day(-30), SignOff: signed},
			region.Stage{Testers: true, From: day(-20), Units: []string{"RX1HQ/WARD7", "RX1HQ/WARD8"}, Headings: []dataset.Heading{dataset.Documents}, Users: []string{"dr-marsh"}, Roles: []string{"nurse"}},
			region.Stage{ODS: []string{"RX1", "M85001"}, From: day(7), Units: []string{"RX1HQ/WARD7"}, Headings: []dataset.Heading{dataset.Documents}, SignOff: signed},
			region.Stage{All: true, From: day(-10), Units: []string{"WARD9"}, SignOff: withdrawn})},
	}}
}()

func TestTheDeskShowsHowFarEachReleaseHasCome(t *testing.T) {
	ops := newReader(t, newSite(t, newFake()), "ops")
	ops.get("/desk").wants(t, "Release", "RX1HQ/WARD7, RX1HQ/WARD8; Documents", "testers: dr-marsh, nurse", "users of RX1, M85001", "Not yet", "Over", "Closed: its sign-off does not hold",
		"Dr A. Officer, Clinical Safety Officer, 2026-08-22, DCB0160, HL-0042", "withdrawn 2026-11-20", "none recorded", "29-Nov-2026")
}

// What a tester sees before others says so: the entry, and the source.
func TestATesterIsToldThatItIsATest(t *testing.T) {
	f := newFake()
	w := f.worlds["person-1"]
	of := ""
	for i, h := range w.facts {
		if h.heading == dataset.Problems && of == "" {
			of = h.source
			w.facts[i].resource = h.resource.With("meta", fhir.M{"source": connector.SourceURI(of), "tag": []fhir.Coding{dataset.Tag(dataset.Problems), {System: policy.SystemStage, Code: "testers"}}})
		}
	}
	if of == "" {
		t.Fatal("she has no problem")
	}
	page := newReader(t, newSite(t, f), "dr-marsh").get("/record/person-1?all=1")
	page.wants(t, "You test this: testers")
	if n := strings.Count(page.body, "You test this: "); n != 1 {
		t.Errorf("%d entries say that they are a test, want the one", n)
	}
	c := newChip(&gather.Lane{Name: "Severn Acute Trust", State: gather.Answered, Stage: "testers"})
	if !slices.Contains(c.Warnings, "Some of this you see as a tester: it is released to testers only.") {
		t.Errorf("the source says %q", c.Warnings)
	}
}

// The strip of alerts says of each, and of the statement that there are no allergies, that its reader sees it as a tester: it is read before anything else.
func TestTheAlertsTellATesterThatTheyAreATest(t *testing.T) {
	allergy := func(code, name string, tags ...fhir.Coding) *fhir.Resource {
		return fhir.New("AllergyIntolerance", "a", fhir.M{"meta": fhir.M{"tag": tags}, "clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active", "Active"),
			"code": fhir.Code(fhir.SystemSNOMED, code, name)})
	}
	for what, entry := range map[string]func(tags ...fhir.Coding) *fhir.Resource{
		"an allergy":          func(tags ...fhir.Coding) *fhir.Resource { return allergy("91936005", "Allergy to penicillin", tags...) },
		"that there are none": func(tags ...fhir.Coding) *fhir.Resource { return allergy("716186003", "No known allergy", tags...) },
	} {
		shown := func(r *fhir.Resource) string {
			rec := &gather.Record{Lanes: []gather.Lane{{Source: "pas", Name: "The Trust", State: gather.Answered}}, Sections: []gather.Section{{Heading: dataset.Allergies, State: dataset.Present,
				Entries: []gather.Entry{{Lead: r, Members: []gather.Member{{Resource: r, Source: "pas", Name: "The Trust"}}}}}}}
			var out []string
			for _, row := range newAlerts(rec).Rows {
				for _, it := range row.Items {
					out = append(out, it.Text+": "+it.More)
				}
			}
			return strings.Join(out, "\n")
		}
		if got := shown(entry(fhir.Coding{System: policy.SystemStage, Code: "testers"})); !strings.Contains(got, "You test this: testers") {
			t.Errorf("%s: the strip says %q", what, got)
		}
		if got := shown(entry()); strings.Contains(got, "You test") {
			t.Errorf("%s that is released: the strip says %q", what, got)
		}
	}
}
