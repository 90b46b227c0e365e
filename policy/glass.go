package policy

import (
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// An AlertType is what breaking the glass claims. https://fhir.nhs.uk/CodeSystem/SCR-AlertType
type AlertType string

// The alert types.
const (
	SelfClaim   AlertType = "1" // a legitimate relationship that no system knows of
	AccessAlert AlertType = "2" // access against the person's choice
)

// An AlertReason is why. https://fhir.nhs.uk/CodeSystem/SCR-AlertReason
type AlertReason string

// The alert reasons.
const (
	PublicInterest     AlertReason = "1"
	Statute            AlertReason = "2"
	CourtOrder         AlertReason = "3"
	SelfClaimEmergency AlertReason = "4"
	EmergencyReason    AlertReason = "5"
	OtherPermission    AlertReason = "6" // another reason, with the person's permission
)

// MaxGlass is how long broken glass lasts at most.
const MaxGlass = time.Hour

// minWords is how much must be said: a slip of the keyboard opens nothing.
const minWords = 3

// A Glass is one breaking of the glass: for one person, by one user, for some headings and a short time. Which person and user it is for
// is not policy's to know: it is among the facts of nobody else.
type Glass struct {
	Type        AlertType
	Reason      AlertReason
	Words       string
	Headings    []dataset.Heading // none: all that the role may see
	From, Until time.Time
}

// Allowed reports whether an alert of the type may have the reason. NHS SCR FHIR API, POST AuditEvent: 1/5, 2/4 and 2/6 may not.
func (t AlertType) Allowed(r AlertReason) bool {
	switch t {
	case SelfClaim:
		return slices.Contains([]AlertReason{PublicInterest, Statute, CourtOrder, SelfClaimEmergency, OtherPermission}, r)
	case AccessAlert:
		return slices.Contains([]AlertReason{PublicInterest, Statute, CourtOrder, EmergencyReason}, r)
	}
	return false
}

// Check says what is wrong with a breaking of the glass, nil if nothing is.
func (g *Glass) Check() error {
	switch {
	case g.Type != SelfClaim && g.Type != AccessAlert:
		return fhir.Errorf(fhir.CodeInvalid, "the alert type is 1 (self-claimed relationship) or 2 (access alert)").At("alertType")
	case !g.Type.Allowed(g.Reason):
		return fhir.Errorf(fhir.CodeInvalid, "an alert of type %s may not have the reason %.4q", g.Type, g.Reason).At("alertReason")
	case len([]rune(strings.TrimSpace(g.Words))) < minWords:
		return fhir.Errorf(fhir.Required, "say why this is an emergency").At("reason")
	case !g.From.Before(g.Until) || g.Until.Sub(g.From) > MaxGlass:
		return fhir.Errorf(fhir.Invalid, "the glass is broken for at most %d minutes", int(MaxGlass.Minutes())).At("until")
	}
	for _, h := range g.Headings {
		if !h.Valid() {
			return fhir.Errorf(fhir.CodeInvalid, "%.60q is not a heading of the data set", string(h)).At("heading")
		}
	}
	return nil
}

// broken reports whether the facts hold a glass that is in force here: a pair that is allowed, words, not over and not yet to come (clocks
// that jump extend nothing), raised by somebody at a screen whose role and activities allow it, and about the heading.
func (f *Facts) broken(t AlertType) bool {
	g := f.Glass
	return g != nil && g.Type == t && g.Check() == nil && !f.At.Before(g.From) && f.At.Before(g.Until) && f.Channel != Machine &&
		(f.Heading == "" || len(g.Headings) == 0 || slices.Contains(g.Headings, f.Heading)) &&
		(t == SelfClaim && f.Subject.Role.info().Clinical && f.Subject.May(ClaimRelationship) ||
			t == AccessAlert && f.Subject.Role.info().BreaksGlass && f.Subject.May(EmergencyAccess))
}
