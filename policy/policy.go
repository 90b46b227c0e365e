// Package policy decides: may this user, for this purpose, see this heading of this source about this person? It is one pure
// function of facts, without clock, store or network, so that a decision can be repeated, explained and simulated.
//
// The facts are gathered by access and gather *before* any record is touched (design law 4). The same function is asked three
// times with ever more facts: may the record be opened at all (no Source), may a source be asked for a heading (Source and
// Heading), may this resource be shown (Item too). What is refused with fewer facts stays refused with more.
package policy

import "tombolo/fhir"

// Version names the rules below; it goes into every audit entry. Change it when a rule changes.
const Version = "2026-11-22.8"

// Decide answers from the facts alone. Every rule that refuses is named; none refusing is a permit. Refusals by law, by a source's
// label or by an agreement cannot be overridden by any flag; only a person's choice gives way, to an alert and for an hour.
func Decide(f Facts) Decision { return decide(&f, rules) }

func decide(f *Facts, rules []rule) Decision {
	var d Decision
	var refused []Reason
	for _, rule := range rules {
		switch code, text, verdict := rule(f, &d); verdict {
		case refuse:
			refused = append(refused, Reason{code, text})
		case allow:
			d.Reasons = append(d.Reasons, Reason{code, text})
		}
	}
	if len(refused) > 0 {
		return Decision{Version: f.version(), Reasons: refused}
	}
	if f.Person.Restricted && !f.related(Self) {
		d.Obligations = append(d.Obligations, WithholdLocation)
	}
	d.Permit, d.Version = true, f.version()
	return d
}

func (f *Facts) version() string {
	if f.Data.Version == "" {
		return Version
	}
	return Version + "/" + f.Data.Version
}

type verdict int

const (
	silent verdict = iota
	allow
	refuse
)

// A rule reads the facts and may add obligations to d.
type rule func(f *Facts, d *Decision) (code, text string, v verdict)

// The rules, in the order in which their reasons are given.
var rules = []rule{dataRule, purposeRule, relationshipRule, proxyRule, secondaryRule, choiceRule, headingRule, releaseRule, agreementRule, labelRule}

// itemRules are those that look at one resource: all others say of every resource under a heading what they said of the heading. releaseRule does so
// where a source's release depends on units.
var itemRules = []rule{choiceRule, labelRule}

// A Filter decides on many resources of one source under one set of facts: what does not depend on the resource is decided once. Use it from
// one goroutine.
type Filter struct {
	facts  Facts
	opened Decision
	simple bool // no choice is about single resources
	seen   map[seenItem]verdictOn
	units  map[*Units]verdictOn // what its release says; nil if it does not depend on units
	said   Decision             // what rules write their obligations to
}

// A seenItem is all of a resource that decides where no choice is about single ones.
type seenItem struct {
	labels Labels
	units  *Units
}

type verdictOn struct {
	permit bool
	stage  string
}

// NewFilter takes facts with a Source and a Heading. Its answers are those of Decide with the resource among the facts.
func NewFilter(f Facts) *Filter {
	f.Item = nil
	x := &Filter{facts: f, opened: Decide(f), simple: f.Person.Choices.says(&f) != depends, seen: map[seenItem]verdictOn{}}
	if f.Source.Divided() {
		x.units = map[*Units]verdictOn{}
	}
	return x
}

// Permits decides on one resource.
func (x *Filter) Permits(it *Item) bool {
	ok, _ := x.Decide(it)
	return ok
}

// Decide decides on one resource, and gives the stage of release under which a tester sees it, "" if it is not as one.
func (x *Filter) Decide(it *Item) (permit bool, stage string) {
	if !x.opened.Permit {
		return false, ""
	}
	key := seenItem{it.Labels, it.Units}
	if x.simple {
		if v, ok := x.seen[key]; ok {
			return v.permit, v.stage
		}
	}
	x.facts.Item = it
	v := x.released(it.Units)
	for _, r := range itemRules {
		if _, _, said := r(&x.facts, &x.said); said == refuse {
			v.permit = false
		}
	}
	if x.simple {
		x.seen[key] = v
	}
	return v.permit, v.stage
}

// released is what the source's release says of what some units made.
func (x *Filter) released(u *Units) verdictOn {
	if x.units == nil {
		return verdictOn{true, x.opened.Stage}
	}
	v, ok := x.units[u]
	if !ok {
		var d Decision
		_, _, said := releaseRule(&x.facts, &d)
		v = verdictOn{said != refuse, d.Stage}
		x.units[u] = v
	}
	return v
}

// Follow is what belongs to the resources that the person's choices name, of all that the source says of them; nil if nothing depends on it.
func (x *Filter) Follow(rs []*fhir.Resource) Linked {
	if !x.NeedsItems() {
		return nil
	}
	return x.facts.Person.Choices.Follow(rs)
}

// NeedsItems reports whether some choice depends on more of a resource than its labels, so that Items must be read in full.
func (x *Filter) NeedsItems() bool { return x.opened.Permit && !x.simple }
