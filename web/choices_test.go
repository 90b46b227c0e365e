package web

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// fakeChoices are those of somebody with one of each kind, and remember what is made.
type fakeChoices struct {
	made  []policy.Objection
	taken []string
}

func (f *fakeChoices) ChoicesOf(context.Context, *access.Session, string) (*ChoicesState, error) {
	officer := policy.Deed{By: "ines", Name: "Ines Duarte, privacy officer", Words: "asked by letter <b>", At: today.AddDate(0, -2, 0)}
	self := policy.Deed{By: "margaret", Name: "Margaret Taylor", At: today.AddDate(0, -1, 0)}
	return &ChoicesState{Name: "TAYLOR, Margaret Anne (Mrs)", Born: "1948-03-12", NHS: "9990000107",
		Organisations: []ChoiceParty{{"M85001", "Hilltop Surgery"}, {"RX1", "Severn Acute Trust"}},
		Here: []policy.Objection{{ID: "c1", Heading: dataset.SocialCare, Recipient: "RX1", Holder: "M85001", LastDay: "2027-05-03", Made: self}, {ID: "c2", Sensitivity: "mental-health", Made: officer, TakenBack: &self},
			{ID: "c3", LastDay: "2026-11-01", Made: self}},
		Elsewhere: []ChoiceElsewhere{{Objection: policy.Objection{Made: policy.Deed{At: today.AddDate(-1, 0, 0)}}, Source: "Severn Mental Health", Clear: true, Counts: true}, {Source: "Hilltop Surgery", Counts: true}, {Source: "Validated Relationships Service", Acts: true, Counts: true}, {Source: "Severn Acute Trust", Acts: true}}}, nil
}

func (f *fakeChoices) WhoseChoices(context.Context, *access.Session, fhir.Identifier) (string, error) {
	return "person-1", nil
}

func (f *fakeChoices) EffectOf(context.Context, *access.Session, string, policy.Objection) ([]ChoiceEffect, error) {
	return []ChoiceEffect{{Organisation: "Severn Acute Trust", Headings: []dataset.Heading{dataset.Allergies, dataset.Medications}}, {Organisation: "Severn Ambulance Service", All: true}}, nil
}

func (f *fakeChoices) Object(_ context.Context, _ *access.Session, _ string, o policy.Objection) error {
	f.made = append(f.made, o)
	return nil
}

func (f *fakeChoices) TakeBack(_ context.Context, _ *access.Session, _, id, _ string) error {
	f.taken = append(f.taken, id)
	return nil
}

func TestChoicesAreToldInSentences(t *testing.T) {
	srv := newSite(t, newFake())
	r := newReader(t, srv, "margaret")
	r.get("/me/choices").wants(t, "Nobody at Severn Acute Trust sees “Social care” in your record, of what Hilltop Surgery holds, until 3 May 2027.", "Chosen by you.", "Taken back on 22 October 2026 by you",
		"No service sees what is marked as “Mental health” in your record.", "asked by letter &lt;b&gt;", "Its last day is over", "No service sees your record.", "Recorded by Severn Mental Health", "A choice with more to it")
	got := r.post("/me/choices", url.Values{"heading": {"medications"}})
	got.wants(t, "Check the choice", "Severn Acute Trust", "Allergies and bad reactions, Medicines", "all that it sees now", "In an emergency")
	if strings.Contains(got.body, "Take this back") {
		t.Error("the page that checks one choice offers others")
	}
	if bad := r.post("/me/choices", url.Values{"until": {"2020-01-01"}}); bad.status != 400 || !strings.Contains(bad.body, `href="#c-until"`) {
		t.Errorf("a day that is over: %d", bad.status)
	}
	for _, user := range []string{"dr-marsh", "ops"} {
		if got := newReader(t, srv, user).get("/me/choices"); got.status != 404 {
			t.Errorf("%s: %d", user, got.status)
		}
	}
}
