package policy

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/region"
)

// A Reach is one thing that somebody could see: users of a role at an organisation, what for, of which system, under which heading. What a
// person has chosen, and whether there is a relationship, is not in it: it is what the file itself opens.
type Reach struct {
	Organisation string
	Role         Role
	Purpose      Purpose
	System       string
	Heading      dataset.Heading
	Unit         string // where the system's release depends on which unit made something; "": one that no stage names
}

// staff are the roles and purposes for which files open anything.
func staff() iter.Seq2[Role, Purpose] {
	return func(yield func(Role, Purpose) bool) {
		for _, role := range Roles() {
			for _, p := range roles[role].Purposes {
				if !yield(role, p) {
					return
				}
			}
		}
	}
}

// Reaches are all that a file opens on a day, each with the agreement that does, "" for an organisation's own.
func Reaches(r *region.Region, at time.Time) iter.Seq2[Reach, string] {
	return reaches(r, at, unitsOf(r))
}

// unitsOf are the units that stages of files name, by system.
func unitsOf(files ...*region.Region) map[string][]string {
	out := map[string][]string{}
	for _, r := range files {
		for i := range r.Systems {
			id := r.Systems[i].ID
			out[id] = append(out[id], r.Systems[i].Release.Units()...)
		}
	}
	for id := range out {
		slices.Sort(out[id])
		out[id] = slices.Compact(out[id])
	}
	return out
}

// reaches is Reaches where units of systems are told apart.
func reaches(r *region.Region, at time.Time, units map[string][]string) iter.Seq2[Reach, string] {
	return func(yield func(Reach, string) bool) {
		for _, sys := range r.Systems {
			src := SourceOf(sys, r)
			items := map[string]*Item{"": nil}
			if of := units[sys.ID]; len(of) > 0 {
				items[""] = &Item{}
				for _, u := range of {
					items[u] = &Item{Units: OfUnit(u)}
				}
			}
			for _, org := range r.Organisations {
				f := Facts{Subject: Subject{Organisation: org.ODS, Above: r.Above(org.ODS)}, Relationships: []Relationship{KnownHere}, Source: src,
					Agreements: r.Agreements, At: at, Person: Person{OptOut: MayBeUsed}}
				for role, purpose := range staff() {
					f.Subject.Role, f.Purpose = role, purpose
					for _, info := range dataset.All {
						if _, gives := sys.Gives[info.Heading]; !gives {
							continue
						}
						f.Heading = info.Heading
						for unit, item := range items {
							if unit != "" && region.Undivided(info.Heading) {
								continue
							}
							f.Item = item
							if d := Decide(f); d.Permit && !yield(Reach{org.ODS, role, purpose, sys.ID, info.Heading, unit}, d.Agreement) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// A Change is what a changed file opens or closes from a day on, put together where it is the same for several.
type Change struct {
	From         time.Time // zero: at once
	Opens        bool
	Organisation string
	System       string
	Roles        []Role
	Purposes     []Purpose
	Headings     []dataset.Heading
	Unit         string // whose data; "" if the release does not depend on units, or of one that no stage names
	Agreement    string // the one that opens it now, or that did
}

func (c Change) String() string { return c.sentence(func(_, code string) string { return code }) }

// Words is String as people read it: by the names of roles, purposes and headings, and of organisations and systems with their codes behind, as the files have them; the first that knows
// one names it.
func (c Change) Words(files ...*region.Region) string { return c.sentence(named(files)) }

// named gives what a code of a kind is called, in files.
func named(files []*region.Region) func(kind, code string) string {
	return func(kind, code string) string {
		name := nameIn(kind, code, files)
		switch {
		case name == "":
			return code
		case kind != "organisation" && kind != "system":
			return name
		case strings.EqualFold(name, code):
			return code
		}
		return name + " (" + code + ")"
	}
}

func nameIn(kind, code string, files []*region.Region) string {
	switch kind {
	case "role":
		info, _ := Role(code).Info()
		return info.Name
	case "purpose":
		return Purpose(code).Words()
	case "heading":
		for _, h := range dataset.All {
			if string(h.Heading) == code {
				return h.Title
			}
		}
		return ""
	}
	for _, r := range files {
		if kind == "system" {
			if s, ok := r.System(code); ok {
				o, _ := r.Organisation(s.Organisation)
				return cmp.Or(s.Name, strings.TrimSpace(s.Product+" of "+o.Name))
			}
			continue
		}
		if o, ok := r.Organisation(code); ok {
			return o.Name
		}
	}
	return ""
}

func (c Change) sentence(say func(kind, code string) string) string {
	verb := "closes"
	if c.Opens {
		verb = "opens"
	}
	when := ""
	if !c.From.IsZero() {
		when = "from " + c.From.Format("2 January 2006") + " "
	}
	by := ""
	if c.Agreement != "" {
		by = " (agreement " + c.Agreement + ")"
	}
	of := say("system", c.System)
	if c.Unit != "" {
		of = c.Unit + " at " + of
	}
	return fmt.Sprintf("%s%s: %s of %s, for %s, see %s of %s%s", when, verb, each("role", c.Roles, say), say("organisation", c.Organisation), each("purpose", c.Purposes, say), each("heading", c.Headings, say), of, by)
}

func each[T ~string](kind string, what []T, say func(kind, code string) string) string {
	out := make([]string, len(what))
	for i, w := range what {
		out[i] = say(kind, string(w))
	}
	return strings.Join(out, ", ")
}

func list[T ~string](what []T) string {
	out := make([]string, len(what))
	for i, w := range what {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}

// Compare tells what a changed file would open and close, from the day given and on each later day on which one of the two changes by itself
// because an agreement, a stage of release or its sign-off begins or ends. A change that stands already is not told again for a later day.
func Compare(was, is *region.Region, at time.Time) []Change {
	var out []Change
	told := map[string]bool{}
	for i, day := range append([]time.Time{at}, boundaries(at, was, is)...) {
		from := day
		if i == 0 {
			from = time.Time{}
		}
		for _, c := range compareOn(was, is, day) {
			if key := c.String(); !told[key] {
				told[key] = true
				c.From = from
				out = append(out, c)
			}
		}
	}
	return out
}

// boundaries are the days after at on which an agreement or a stage of release of any of the files begins or ends.
func boundaries(at time.Time, files ...*region.Region) []time.Time {
	var out []time.Time
	for _, r := range files {
		for _, a := range r.Agreements {
			for _, t := range []time.Time{a.From, a.Until} {
				if t.After(at) {
					out = append(out, t)
				}
			}
		}
		for i := range r.Systems {
			for _, st := range r.Systems[i].Release.Stages {
				for _, t := range []time.Time{st.From, st.SignOff.Until, st.SignOff.Withdrawn} {
					if t.After(at) {
						out = append(out, t)
					}
				}
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

func compareOn(was, is *region.Region, at time.Time) []Change {
	units := unitsOf(was, is)
	before, after := maps.Collect(reaches(was, at, units)), maps.Collect(reaches(is, at, units))
	type cell struct {
		opens           bool
		org, system, by string
		unit            string
		role            Role
		purpose         Purpose
	}
	headings := map[cell][]dataset.Heading{}
	note := func(opens bool, in, other map[Reach]string) {
		for r, by := range in {
			if _, both := other[r]; !both {
				k := cell{opens, r.Organisation, r.System, by, r.Unit, r.Role, r.Purpose}
				headings[k] = append(headings[k], r.Heading)
			}
		}
	}
	note(true, after, before)
	note(false, before, after)

	// What is the same for several roles, and then for several purposes, is one line.
	type line struct {
		opens           bool
		org, system, by string
		unit            string
		headings        string
	}
	byPurpose := map[line]map[Purpose][]Role{}
	for k, hs := range headings {
		slices.SortFunc(hs, func(a, b dataset.Heading) int { return cmp.Compare(order[a], order[b]) })
		l := line{k.opens, k.org, k.system, k.by, k.unit, list(hs)}
		if byPurpose[l] == nil {
			byPurpose[l] = map[Purpose][]Role{}
		}
		byPurpose[l][k.purpose] = append(byPurpose[l][k.purpose], k.role)
	}
	var out []Change
	for l, purposes := range byPurpose {
		same := map[string][]Purpose{}
		who := map[string][]Role{}
		for p, rs := range purposes {
			slices.Sort(rs)
			same[list(rs)] = append(same[list(rs)], p)
			who[list(rs)] = rs
		}
		for key, ps := range same {
			slices.Sort(ps)
			c := Change{Opens: l.opens, Organisation: l.org, System: l.system, Unit: l.unit, Agreement: l.by, Roles: who[key], Purposes: ps}
			for h := range strings.SplitSeq(l.headings, ", ") {
				c.Headings = append(c.Headings, dataset.Heading(h))
			}
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.String(), b.String()) })
	return out
}

var order = func() map[dataset.Heading]int {
	m := map[dataset.Heading]int{}
	for i, info := range dataset.All {
		m[info.Heading] = i
	}
	return m
}()
