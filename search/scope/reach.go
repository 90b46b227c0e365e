package scope

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/fhir"
)

// Any is whatever may be done.
const Any = Create | Read | Update | Delete | Search

// A Reach is how far an application reaches into a record that a system keeps here: by its scopes, and, launched for one patient, into that patient's part. Nil reaches
// everywhere. A Reach only narrows: whose record it is has been decided besides.
type Reach struct {
	set      Set
	locked   bool
	patients []string
}

// NewReach makes the Reach of scopes; nil scopes are no narrowing. Locked, only the patients with these ids are reached, and of what is nobody's record nothing is written.
func NewReach(given *Set, locked bool, patients ...string) *Reach {
	if given == nil && !locked {
		return nil
	}
	r := &Reach{locked: locked, patients: patients, set: Set{Data: []Scope{{Level: User, Type: "*", Can: Any}}}}
	if given != nil {
		r.set.Data = slices.DeleteFunc(slices.Clone(given.Data), func(d Scope) bool { return d.Level == Patient && !locked }) // of no patient, it is of nothing
	}
	return r
}

// May reports whether one of the things in can may be done with a resource as it is.
func (r *Reach) May(can Can, res *fhir.Resource) bool {
	if r == nil {
		return true
	}
	if r.locked {
		mine, nobodys := r.about(res)
		if nobodys {
			can &= Read | Search
		}
		if !mine && !nobodys || can == 0 {
			return false
		}
	}
	return r.set.Permits(can, res)
}

// about says whether a resource is about the patients reached alone, or about nobody.
func (r *Reach) about(res *fhir.Resource) (mine, nobodys bool) {
	if res.Type() == "Patient" {
		return slices.Contains(r.patients, res.ID()), false
	}
	of := fhir.Subjects(res)
	for _, s := range of {
		id, ok := strings.CutPrefix(s.Reference, "Patient/")
		if id, _, _ = strings.Cut(id, "/"); !ok || !slices.Contains(r.patients, id) {
			return false, false
		}
	}
	return len(of) > 0, len(of) == 0
}

// Lacks is the refusal of what no scope lets anybody do with any resource of a type; nil if one does with some. It depends on the scopes alone, and so tells nothing.
func (r *Reach) Lacks(can Can, typ string) error {
	if r == nil || slices.ContainsFunc(r.set.Data, func(d Scope) bool { return d.Can&can != 0 && (d.Type == "*" || typ == "*" || d.Type == typ) }) {
		return nil
	}
	return r.Refuse(can, typ)
}

// Refuse is the refusal of something that lies beyond the scopes.
func (r *Reach) Refuse(can Can, typ string) error {
	m := Missing{Level: User, Type: typ, Can: can}
	if r != nil && len(r.set.Data) > 0 {
		m.Level = r.set.Data[0].Level
	}
	return fhir.Errorf(fhir.Forbidden, "the application's access does not reach so far: %w", m)
}

// Whole reports whether all that there is may be seen, of every type and every patient.
func (r *Reach) Whole() bool { return r == nil || !r.locked && r.set.Whole() }

// All reports whether all of a type may be read and found.
func (r *Reach) All(typ string) bool {
	return r == nil || !r.locked && slices.ContainsFunc(r.set.Data, func(d Scope) bool {
		return d.match == nil && (d.Type == "*" || d.Type == typ) && d.Can&Read != 0 && d.Can&Search != 0
	})
}

// Matches is May as a search needs it; nil: everything.
func (r *Reach) Matches(can Can) func(*fhir.Resource) bool {
	if r == nil {
		return nil
	}
	return func(res *fhir.Resource) bool { return r.May(can, res) }
}

// Covers reports whether all of another Reach lies in this one: what was made for the other may be given to this one.
func (r *Reach) Covers(o *Reach) bool {
	switch {
	case r == nil:
		return true
	case o == nil || r.locked && (!o.locked || !slices.Equal(r.patients, o.patients)):
		return false
	}
	return slices.Equal(Set{Data: o.set.Data}.Within(r.set).texts(), Set{Data: o.set.Data}.texts())
}

func (s Set) texts() []string {
	var out []string
	for _, d := range s.Data {
		if t := d.String(); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return out
}

// A Missing scope is what would have been needed. RFC 6750 §3.1
type Missing struct {
	Level Level
	Type  string
	Can   Can
}

func (m Missing) Error() string { return fmt.Sprintf("it takes a scope such as %s", m.Scope()) }

// Scope is the scope that is missing, as it is written.
func (m Missing) Scope() string { return Scope{Level: m.Level, Type: m.Type, Can: m.Can}.String() }
