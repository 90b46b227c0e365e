// Package scope reads the scopes that applications ask for and are given, in the language of SMART App Launch 2, and says which
// resources they let through. A scope only ever narrows: what its holder may not see is not opened by it.
package scope

import (
	"net/url"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/search"
)

// Limits on what may be asked for at once.
const (
	maxText   = 8 << 10
	maxScopes = 200
)

// A Level says whose data a scope speaks of. SMART App Launch 2.2 scopes-and-launch-context.html#scopes-for-requesting-fhir-resources
type Level string

// The levels.
const (
	Patient Level = "patient" // the one person of the launch
	User    Level = "user"    // whatever the signed-in user may see
	System  Level = "system"  // whatever the registered system may see; nobody is signed in
)

// Can is what may be done: a set of the letters c, r, u, d, s.
type Can uint8

// What may be done.
const (
	Create Can = 1 << iota
	Read
	Update
	Delete
	Search
)

const letters = "cruds"

func (c Can) String() string {
	var b strings.Builder
	for i := range letters {
		if c&(1<<i) != 0 {
			b.WriteByte(letters[i])
		}
	}
	return b.String()
}

// A Scope is one scope on data: patient/Observation.rs?category=laboratory.
type Scope struct {
	Level  Level
	Type   string // a resource type, or * for every type
	Can    Can
	Filter url.Values // search parameters that a resource must match; nil for all

	match *search.Matcher
}

// The scopes that are not about data.
var words = []string{"openid", "profile", "fhirUser", "launch", "launch/patient", "offline_access", "online_access"}

// A Set is what was asked for or given.
type Set struct {
	Words []string // of those that are not about data, in the order of the standard's list
	Data  []Scope
}

// Parse reads a list of scopes with spaces between. unknown are those that are none that there are; they give nothing.
func Parse(text string) (s Set, unknown []string) {
	if len(text) > maxText {
		return s, []string{"(longer than any list of scopes)"}
	}
	seen := map[string]bool{}
	for part := range strings.FieldsSeq(text) {
		if seen[part] || len(seen) >= maxScopes {
			continue
		}
		seen[part] = true
		if slices.Contains(words, part) {
			s.Words = append(s.Words, part)
			continue
		}
		d, err := ParseOne(part)
		if err != nil {
			unknown = append(unknown, part)
			continue
		}
		s.Data = append(s.Data, d)
	}
	slices.SortFunc(s.Words, func(a, b string) int { return slices.Index(words, a) - slices.Index(words, b) })
	return s, unknown
}

// ParseOne reads one scope on data. The letters stand in the order c r u d s; the words of version 1 are read as the letters they
// stand for (SMART App Launch 2.2 scopes-and-launch-context.html#scopes-for-requesting-fhir-resources).
func ParseOne(text string) (Scope, error) {
	bad := func(why string) (Scope, error) {
		return Scope{}, fhir.Errorf(fhir.ValueError, "not a scope: %s; write patient/Observation.rs or user/*.rs", why)
	}
	level, rest, ok := strings.Cut(text, "/")
	s := Scope{Level: Level(level)}
	if !ok || s.Level != Patient && s.Level != User && s.Level != System {
		return bad("it begins with patient/, user/ or system/")
	}
	rest, query, filtered := strings.Cut(rest, "?")
	typ, can, ok := strings.Cut(rest, ".")
	if s.Type = typ; !ok || typ != "*" && !fhir.IsType(typ) {
		return bad("after the slash stands a resource type, or *, and a dot")
	}
	if s.Can, ok = parseCan(can); !ok {
		return bad("after the dot stand letters of cruds, in that order")
	}
	if !filtered {
		return s, nil
	}
	if typ == "*" {
		return bad("parameters need a resource type")
	}
	v, err := url.ParseQuery(query)
	if err != nil || len(v) == 0 {
		return bad("its parameters cannot be read")
	}
	return s.filteredBy(v)
}

func (s Scope) filteredBy(v url.Values) (Scope, error) {
	for name := range v {
		if strings.HasPrefix(name, "_") && name != "_id" && name != "_security" && name != "_tag" && name != "_profile" {
			return Scope{}, fhir.Errorf(fhir.NotSupported, "a scope's parameters choose resources: %.20q does not", name)
		}
	}
	q, _, err := search.Parse(s.Type, v, true)
	if err != nil {
		return Scope{}, err
	}
	m, err := search.Compile(q)
	if err != nil {
		return Scope{}, err
	}
	s.Filter, s.match = v, m
	return s, nil
}

func parseCan(text string) (Can, bool) {
	switch text {
	case "read":
		return Read | Search, true
	case "write":
		return Create | Update | Delete, true
	case "*":
		return Create | Read | Update | Delete | Search, true
	}
	var c Can
	last := -1
	for _, l := range text {
		i := strings.IndexRune(letters, l)
		if i <= last {
			return 0, false
		}
		c, last = c|1<<i, i
	}
	return c, c != 0
}

func (s Scope) String() string {
	out := string(s.Level) + "/" + s.Type + "." + s.Can.String()
	if len(s.Filter) > 0 {
		out += "?" + s.Filter.Encode()
	}
	return out
}

func (s Set) String() string {
	parts := slices.Clone(s.Words)
	for _, d := range s.Data {
		parts = append(parts, d.String())
	}
	return strings.Join(parts, " ")
}

// Has reports whether a word such as openid is in the set.
func (s Set) Has(word string) bool { return slices.Contains(s.Words, word) }

// At reports whether the set speaks of data at a level.
func (s Set) At(l Level) bool {
	return slices.ContainsFunc(s.Data, func(d Scope) bool { return d.Level == l })
}

// Within is what of s lies in allowed: of each scope, what each allowed one has in common with it. It is how a request is held to
// what an application was registered for, and never more than either.
func (s Set) Within(allowed Set) Set {
	var out Set
	for _, w := range s.Words {
		if allowed.Has(w) {
			out.Words = append(out.Words, w)
		}
	}
	seen := map[string]bool{}
	for _, d := range s.Data {
		for _, a := range allowed.Data {
			if c, ok := d.and(a); ok && !seen[c.String()] {
				seen[c.String()] = true
				out.Data = append(out.Data, c)
			}
		}
	}
	return out
}

// and is what two scopes have in common.
func (s Scope) and(o Scope) (Scope, bool) {
	out := Scope{Level: s.Level, Type: s.Type, Can: s.Can & o.Can}
	switch {
	case s.Level != o.Level || out.Can == 0:
		return out, false
	case s.Type == "*":
		out.Type = o.Type
	case o.Type != "*" && o.Type != s.Type:
		return out, false
	}
	both := url.Values{}
	for _, f := range []url.Values{s.Filter, o.Filter} {
		for name, values := range f {
			for _, v := range values {
				if !slices.Contains(both[name], v) {
					both[name] = append(both[name], v) // repeated parameters must all hold. FHIR R4 search.html#combining
				}
			}
		}
	}
	if len(both) == 0 {
		return out, true
	}
	out, err := out.filteredBy(both)
	return out, err == nil
}

// Permits reports whether a resource may be had by doing one of the things in can.
func (s Set) Permits(can Can, r *fhir.Resource) bool {
	return slices.ContainsFunc(s.Data, func(d Scope) bool {
		return d.Can&can != 0 && (d.Type == "*" || d.Type == r.Type()) && (d.match == nil || d.match.Match(r))
	})
}

// Whole reports whether everything of every type may be read: only then may the holder be told that there is nothing.
func (s Set) Whole() bool {
	return slices.ContainsFunc(s.Data, func(d Scope) bool { return d.Type == "*" && d.Can&Read != 0 && d.Can&Search != 0 })
}
