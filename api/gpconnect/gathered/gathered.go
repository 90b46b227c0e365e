// Package gathered is the record that Tombolo holds as GP Connect tells it: what stands behind the provider's side of the protocol (api/gpconnect) in a
// region's own node, for systems that speak nothing newer.
//
// It is a face like any other: it holds a Session and asks Records, which decides, withholds and audits. Who may not see a person is told
// what is told of somebody unknown, byte for byte. An entry is told as its leading source says it, with a note of who else says so and of any
// disagreement; "none" is said only where every source said so.
package gathered

import (
	"context"
	"net/http"
	"time"

	"tombolo/access"
	"tombolo/api/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// Records opens a person's record for a session by NHS number. An issue of type NotFound is also every refusal.
type Records interface {
	Record(ctx context.Context, s *access.Session, nhs fhir.NHSNumber, headings []dataset.Heading) (*gather.Record, error)
}

// Admit is what gpconnect.Options.Admit needs: session makes the session of a request whose caller has been proven, and of who its token says
// is asking, and records are then asked in its name.
func Admit(records Records, session func(*http.Request, gpconnect.Caller) (*access.Session, error), now func() time.Time) func(*http.Request, gpconnect.Caller) (gpconnect.Records, error) {
	if now == nil {
		now = time.Now
	}
	return func(r *http.Request, who gpconnect.Caller) (gpconnect.Records, error) {
		s, err := session(r, who)
		if err != nil {
			return nil, err
		}
		return &admitted{records, s, now}, nil
	}
}

// An admitted caller asks in the name of a session.
type admitted struct {
	records Records
	session *access.Session
	now     func() time.Time
}

func (a *admitted) Record(ctx context.Context, q *gpconnect.Question) ([]fhir.M, error) {
	rec, err := a.records.Record(ctx, a.session, q.NHS, headings(q))
	if err != nil {
		return nil, err
	}
	return tell(rec, q, a.now()), nil
}

// headingsOf are the headings that answer each query.
var headingsOf = map[string][]dataset.Heading{
	"includeAllergies": {dataset.Allergies}, "includeMedication": {dataset.Medications}, "includeProblems": {dataset.Problems},
	"includeImmunisations": {dataset.Immunisations}, "includeUncategorisedData": {dataset.Observations, dataset.SocialContext, dataset.FamilyHistory},
	"includeInvestigations": {dataset.Results}, "includeReferrals": {dataset.Referrals}, "includeDiaryEntries": {dataset.CarePlans},
	"includeConsultations": {dataset.Encounters},
}

func headings(q *gpconnect.Question) []dataset.Heading {
	out := []dataset.Heading{dataset.Demographics}
	for _, k := range gpconnect.Queries {
		if q.Asked[k.Name] {
			out = append(out, headingsOf[k.Name]...)
		}
	}
	return out
}
