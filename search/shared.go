package search

import (
	"iter"
	"slices"
	"strings"
	"sync"

	"tombolo/fhir"
)

// An indexPlan says, for one resource type, which parameters have index entries of their own and whose entries the others use.
type indexPlan struct {
	own   []*Def              // in order of name
	names map[string][]string // parameter -> the parameters under whose names its elements are indexed
}

var indexPlans sync.Map // type -> *indexPlan

func planFor(typ string) *indexPlan {
	if p, ok := indexPlans.Load(typ); ok {
		return p.(*indexPlan)
	}
	p := makePlan(typ)
	indexPlans.Store(typ, p)
	return p
}

func makePlan(typ string) *indexPlan {
	defs := Defs(typ)
	// Whoever looks at a plain path alone owns its entries; where two look at the same, the first by name.
	owner := map[string]*Def{}
	for i := range defs {
		d := &defs[i]
		if d.scan != nil {
			continue
		}
		if len(d.expr) == 1 && !filtered(d.expr[0]) {
			if k := ownerKey(d, d.expr[0]); owner[k] == nil {
				owner[k] = d
			}
		}
	}
	p := &indexPlan{names: map[string][]string{}}
	for i := range defs {
		d := &defs[i]
		if d.scan != nil {
			continue
		}
		switch d.Kind {
		case KindToken, KindReference, KindDate, KindString, KindURI:
		default:
			continue
		}
		var names []string
		for _, alt := range d.expr {
			o := owner[ownerKey(d, alt)]
			if o == nil {
				names = nil
				break
			}
			names = append(names, o.Name)
		}
		if names == nil {
			names = []string{d.Name}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		p.names[d.Name] = names
		if len(names) == 1 && names[0] == d.Name {
			p.own = append(p.own, d)
		}
	}
	return p
}

// ownerKey is a path without its filters, with what else decides how its entries are written.
func ownerKey(d *Def, alt []step) string {
	var b strings.Builder
	b.WriteString(string(d.Kind))
	if d.Kind == KindString {
		b.WriteString(" " + foldFor(d.Name, "a b"))
	}
	for _, st := range alt {
		b.WriteString("." + st.name)
		if st.choice {
			b.WriteString("[x]")
		}
		if st.some {
			b.WriteString("(some)")
		}
	}
	return b.String()
}

func filtered(alt []step) bool {
	return slices.ContainsFunc(alt, func(st step) bool { return st.key != "" || st.target != "" || st.first })
}

// indexed are the parameters of a type that have index entries.
func indexed(typ string) []*Def { return planFor(typ).own }

// Indexed yields the parameters of each type under which index entries stand, as Values names them.
func Indexed() iter.Seq2[string, *Def] {
	return func(yield func(typ string, d *Def) bool) {
		for _, typ := range fhir.Types() {
			for _, d := range indexed(typ) {
				if !yield(typ, d) {
					return
				}
			}
		}
	}
}

// indexNames are the names under which a parameter's elements are indexed; none for kinds without an index.
func indexNames(typ string, d *Def) []string { return planFor(typ).names[d.Name] }
