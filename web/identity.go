package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/fhir"
)

// Identity is what a steward works with: which patients may be of one person, and what was said of it. Each reading of it is audited before it
// returns, for every person it shows.
type Identity interface {
	// Doubts are the pairs to look at, the likeliest first, at most limit; more is how many there are beside them.
	Doubts(ctx context.Context, s *access.Session, limit int) (st *IdentityState, err error)
	// Tell takes the steward's word about two patients: IsSame, NotSame or Withdrawn.
	Tell(ctx context.Context, s *access.Session, a, b, word, reason string) error
}

// What a steward can say of two patients.
const (
	IsSame    = "same"
	NotSame   = "not-the-same"
	Withdrawn = "withdrawn"
)

// An IdentityState is the steward's worklist.
type IdentityState struct {
	Pairs  []IdentityPair
	More   int
	Doubts []IdentityDoubt // numbers that are not believed of a patient
	Said   []IdentityWord  // newest first
}

// An IdentityPair is two patients who may be of one person.
type IdentityPair struct {
	A, B   IdentitySide
	Likely int      // of a hundred such pairs, how many are of one person
	Why    []string // what speaks for and against, the weightiest first
	Since  time.Time
}

// An IdentitySide is one source's description of a patient.
type IdentitySide struct {
	Patient, Source                                 string
	Name, Born, Sex, Address, Phone, Numbers, Other string
	Died                                            string
}

// An IdentityDoubt is a patient whose number is not believed, and why.
type IdentityDoubt struct {
	IdentitySide
	Why   string
	Since time.Time
}

// An IdentityWord is what a steward has said.
type IdentityWord struct {
	A, B       IdentitySide
	Same       bool
	By, Reason string
	At         time.Time
}

// identityPairs is how many pairs a page shows.
const identityPairs = 25

type identityPage struct {
	*IdentityState
	Error, ErrorAt string
}

func (s *Site) mayIdentify(session *access.Session) bool {
	info, _ := session.Role.Info()
	return info.Identifies && s.opts.Identity != nil
}

func (s *Site) identity(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.showIdentity(w, r, session, http.StatusOK, identityPage{})
}

func (s *Site) showIdentity(w http.ResponseWriter, r *http.Request, session *access.Session, status int, p identityPage) error {
	if !s.mayIdentify(session) {
		return errNotFound
	}
	var err error
	if p.IdentityState, err = s.opts.Identity.Doubts(r.Context(), session, identityPairs); err != nil {
		return err
	}
	title := "Who is who"
	if p.Error != "" {
		title = "Error: " + title
	}
	l := s.newLayout(r, session, title, p)
	l.Wide = true
	return s.show(w, status, "identity", l)
}

func (s *Site) identify(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if !s.mayIdentify(session) {
		return errNotFound
	}
	v := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	err := s.opts.Identity.Tell(r.Context(), session, v("a"), v("b"), v("word"), v("reason"))
	if i := fhir.IssueOf(err); i != nil && (i.Type == fhir.Required || i.Type == fhir.Conflict || i.Type == fhir.Invalid) {
		return s.showIdentity(w, r, session, http.StatusBadRequest, identityPage{Error: i.Text, ErrorAt: v("a") + "-" + v("b")})
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/desk/identity", http.StatusSeeOther)
	return nil
}

// Total is how many pairs wait.
func (p identityPage) Total() int { return len(p.Pairs) + p.More }

// A compared row is one thing said of both patients.
type comparedRow struct {
	Label, A, B string
	Differs     bool
}

// Rows are what is said of both, side by side.
func (p IdentityPair) Rows() []comparedRow {
	var out []comparedRow
	add := func(label, a, b string) {
		if a != "" || b != "" {
			out = append(out, comparedRow{label, a, b, a != "" && b != "" && !strings.EqualFold(a, b)})
		}
	}
	add("Name", p.A.Name, p.B.Name)
	add("Other names", p.A.Other, p.B.Other)
	add("Born", p.A.Born, p.B.Born)
	add("Sex", p.A.Sex, p.B.Sex)
	add("Address", p.A.Address, p.B.Address)
	add("Telephone", p.A.Phone, p.B.Phone)
	add("Numbers", p.A.Numbers, p.B.Numbers)
	add("Died", p.A.Died, p.B.Died)
	return out
}
