package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/fhir"
)

// A lookGroup is the looks of one person for one reason, as a citizen reads them.
type lookGroup struct {
	Look  // the newest
	Looks []Look
	First time.Time
}

// groupLooks puts together what one person did for one reason: the groups with the newest look first, one's own last.
func groupLooks(looks []Look) []lookGroup {
	type key struct {
		user, who, role, organisation, why string
		glass, refused, copied, told       bool
	}
	at := map[key]int{}
	var out []lookGroup
	for _, l := range looks {
		k := key{l.User, l.Who, l.Role, l.Organisation, l.Why, l.BrokeGlass, l.Refused, l.Copied, l.Told}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, lookGroup{Look: l, First: l.At})
		}
		g := &out[i]
		g.Looks = append(g.Looks, l)
		if l.At.After(g.At) {
			g.Look = l
		}
		if l.At.Before(g.First) {
			g.First = l.At
		}
	}
	for i := range out {
		slices.SortStableFunc(out[i].Looks, func(a, b Look) int { return b.At.Compare(a.At) })
	}
	slices.SortStableFunc(out, func(a, b lookGroup) int {
		if a.Own != b.Own {
			if a.Own {
				return 1
			}
			return -1
		}
		return b.At.Compare(a.At)
	})
	return out
}

// Sentence says in plain English what happened.
func (g lookGroup) Sentence() string {
	did := "looked at your record"
	switch {
	case g.Own:
		did = "looked at your own record"
	case g.Refused:
		did = "asked for your record and was refused"
	case g.Copied:
		did = "took a copy of your record"
	case g.Told:
		did = "was told of a change in your record"
	case g.BrokeGlass:
		did = "opened your record in an emergency, although you have asked that it is not shared"
	}
	who := cmp.Or(g.Who, "A system")
	if g.Own {
		who = "You"
	}
	s := who + " " + did
	if !g.Own && g.Role != "" {
		s = who + ", " + lowerFirst(g.Role) + at(g.Organisation) + ", " + did
	} else if !g.Own && g.Organisation != "" {
		s = who + at(g.Organisation) + " " + did
	}
	if g.Why != "" && !g.BrokeGlass && !g.Own && !g.Refused {
		s += " " + g.Why
	}
	return s + "."
}

func at(organisation string) string {
	if organisation == "" {
		return ""
	}
	return " at " + organisation
}

func lowerFirst(s string) string {
	if len(s) > 1 && strings.ToUpper(s[:2]) == s[:2] { // GP
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// Times says how often and when.
func (g lookGroup) Times() string {
	if len(g.Looks) == 1 {
		return sayTime(g.At)
	}
	return strconv.Itoa(len(g.Looks)) + " times, last on " + sayTime(g.At)
}

// Question says what became of what the person asked about it; "" if they did not.
func (g lookGroup) Question() string {
	for _, l := range g.Looks {
		switch {
		case l.Asked.IsZero():
		case l.Answered:
			return "You asked about this on " + sayTime(l.Asked) + ". The privacy officer has looked into it."
		default:
			return "You asked about this on " + sayTime(l.Asked) + ". The privacy officer is looking into it."
		}
	}
	return ""
}

// Entries are the entries that a question about this group is about: the newest.
func (g lookGroup) Entries() []uint64 {
	var out []uint64
	for _, l := range g.Looks[:min(len(g.Looks), 50)] {
		out = append(out, l.Entry)
	}
	return out
}

// May reports whether a citizen can ask about it: not about what they did themselves.
func (g lookGroup) May() bool { return !g.Own && g.Entry > 0 }

// looked takes "I don't recognise this".
func (s *Site) looked(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if s.opts.Privacy == nil {
		return errNotFound
	}
	person, err := s.myself(r.Context(), session)
	if err != nil {
		return err
	}
	if err := r.ParseForm(); err != nil {
		return fhir.Errorf(fhir.Invalid, "the form could not be read")
	}
	var entries []uint64
	for _, v := range r.PostForm["entry"] {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return fhir.Errorf(fhir.Invalid, "the form could not be read")
		}
		entries = append(entries, n)
	}
	if err := s.opts.Privacy.Concern(r.Context(), session, person, entries, r.PostFormValue("words")); err != nil {
		return err
	}
	http.Redirect(w, r, "/me/asked", http.StatusSeeOther)
	return nil
}

// asked confirms it.
func (s *Site) asked(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if session.Person.Value == "" || s.opts.Privacy == nil {
		return errNotFound
	}
	return s.show(w, http.StatusOK, "asked", s.newLayout(r, session, "We have your question", nil))
}
