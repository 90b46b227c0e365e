package profile

import (
	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
)

// Whether a code is in a value set.
type membership int

const (
	cannotTell membership = iota // the value set is not known, or has parts that are known to a terminology server only
	isIn
	isOut
	noCode // there is no code to look for
)

// A valueSet is a compose, and not more: it is looked into, never expanded.
type valueSet struct {
	include, exclude []set
}

type set struct {
	system   string
	codes    map[string]bool // nil: the whole system
	filtered bool            // by what is not known here
	sets     []string        // value sets that a code is in, all of them
}

type codeSystem struct {
	codes    map[string]bool
	complete bool
}

func readSet(v fhir.Value) *valueSet {
	s := &valueSet{}
	for in := range v.All("compose.include") {
		s.include = append(s.include, readInclude(in))
	}
	for in := range v.All("compose.exclude") {
		s.exclude = append(s.exclude, readInclude(in))
	}
	if len(s.include) == 0 {
		for in := range v.All("expansion.contains") { // a value set that is given as its expansion only
			s.include = append(s.include, set{system: in.Text("system"), codes: map[string]bool{in.Text("code"): true}})
		}
	}
	return s
}

func readInclude(v fhir.Value) set {
	s := set{system: v.Text("system"), filtered: v.Member("filter").Exists()}
	for c := range v.All("concept") {
		if s.codes == nil {
			s.codes = map[string]bool{}
		}
		s.codes[c.Text("code")] = true
	}
	for u := range v.All("valueSet") {
		s.sets = append(s.sets, plainURL(u.Str()))
	}
	return s
}

func readSystem(v fhir.Value) *codeSystem {
	s := &codeSystem{codes: map[string]bool{}, complete: v.Text("content") == "complete"}
	var concepts func(v fhir.Value, depth int)
	concepts = func(v fhir.Value, depth int) {
		for c := range v.All("concept") {
			s.codes[c.Text("code")] = true
			if depth < fhir.MaxDepth {
				concepts(c, depth+1)
			}
		}
	}
	concepts(v, 0)
	return s
}

// coded reports whether a code, Coding, CodeableConcept, Quantity or text is in a value set.
func (d *Definitions) coded(it fhirpath.Item, url string) membership {
	s := d.sets[plainURL(url)]
	if s == nil {
		return cannotTell
	}
	v := it.Value()
	switch it.Type().Name {
	case "CodeableConcept":
		any := noCode
		for c := range v.All("coding") {
			switch d.coding(s, c) {
			case isIn:
				return isIn
			case cannotTell:
				any = cannotTell
			case isOut:
				if any == noCode {
					any = isOut
				}
			}
		}
		return any
	case "Coding", "Quantity", "Age", "Count", "Distance", "Duration":
		return d.coding(s, v)
	}
	if code := it.String(); code != "" {
		return d.member(s, "", code, 0)
	}
	return noCode
}

func (d *Definitions) coding(s *valueSet, v fhir.Value) membership {
	if code := v.Member("code").Str(); code != "" {
		return d.member(s, v.Member("system").Str(), code, 0)
	}
	return noCode
}

const maxSets = 10 // value sets within value sets

// member looks for a code; without a system (of the type code) in any.
func (d *Definitions) member(s *valueSet, system, code string, depth int) membership {
	if s == nil || depth > maxSets || len(s.include) == 0 {
		return cannotTell
	}
	for _, x := range s.exclude {
		if m := d.included(x, system, code, depth); m != isOut {
			if m == isIn {
				return isOut
			}
			return cannotTell
		}
	}
	out := isOut
	for _, in := range s.include {
		switch d.included(in, system, code, depth) {
		case isIn:
			return isIn
		case cannotTell:
			out = cannotTell
		}
	}
	return out
}

func (d *Definitions) included(in set, system, code string, depth int) membership {
	all := isIn
	for _, u := range in.sets {
		switch d.member(d.sets[u], system, code, depth+1) {
		case isOut:
			return isOut
		case cannotTell:
			all = cannotTell
		}
	}
	switch {
	case in.system == "":
		return all
	case system != "" && in.system != system:
		return isOut
	case in.codes != nil:
		if !in.codes[code] {
			return isOut
		}
		return all
	}
	s := d.systems[in.system]
	switch {
	case s == nil || !s.complete:
		return cannotTell
	case !s.codes[code]:
		return isOut
	case in.filtered:
		return cannotTell
	}
	return all
}
