package search

import (
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
)

// Custom are search parameters beside R4's own, by type and name.
type Custom map[string]map[string]*Def

// Add adds a parameter to those of a type.
func (c Custom) Add(typ string, d *Def) {
	if c[typ] == nil {
		c[typ] = map[string]*Def{}
	}
	c[typ][d.Name] = d
}

// customKinds are those that a custom parameter may be of.
var customKinds = []Kind{KindToken, KindReference, KindDate, KindString, KindNumber, KindQuantity, KindURI}

// Define reads a SearchParameter: for each type that it is on, what it searches by. What cannot be searched by is refused with the reason. It is not asked whether it is
// active. FHIR R4 searchparameter.html
func Define(r *fhir.Resource) (map[string]*Def, error) {
	code, kind := r.Text("code"), Kind(r.Text("type"))
	refuse := func(where, format string, args ...any) error {
		return fhir.Errorf(fhir.BusinessRule, format, args...).At("SearchParameter." + where)
	}
	if !elementName.MatchString(strings.ReplaceAll(code, "-", "")) {
		return nil, refuse("code", "a search parameter's code has letters, digits and '-', and begins with a letter")
	}
	if !slices.Contains(customKinds, kind) {
		return nil, refuse("type", "it can be of type token, reference, date, string, number, quantity or uri")
	}
	text := r.Text("expression")
	if text == "" {
		return nil, refuse("expression", "without an expression there is nothing to search by")
	}
	out := map[string]*Def{}
	for b := range r.Value().All("base") {
		typ := b.Str()
		if !fhir.IsType(typ) {
			return nil, refuse("base", "%.40q is not a FHIR R4 resource type: name each type that it is on", typ)
		}
		if lookup(typ, code) != nil || controls[code] != nil || notOffered[code] != "" {
			return nil, refuse("code", "%s has a search parameter %s already: choose another code", typ, readable(code))
		}
		path, err := fhirpath.CompileFor(typ, text)
		if err != nil {
			return nil, refuse("expression", "it cannot be indexed on %s: %s", typ, err.Error())
		}
		d := &Def{Name: code, Kind: kind, Path: text, path: path}
		for t := range r.Value().All("target") {
			d.Targets = append(d.Targets, t.Str())
		}
		out[typ] = d
	}
	if len(out) == 0 {
		return nil, refuse("base", "name the types that it is on")
	}
	return out, nil
}

// customLimits bound what one parameter may cost on one resource.
var customLimits = fhirpath.Limits{Steps: 100_000, Items: 10_000, Text: 64 << 10}

// each yields the elements that the parameter looks at, as expr.each does. An expression that fails on a resource finds nothing in it.
func (d *Def) each(root fhir.Value, yield func(found) bool) bool {
	if d.path == nil {
		return d.expr.each(root, yield)
	}
	r, err := fhir.FromValue(root)
	if err != nil {
		return true
	}
	items, err := d.path.Eval(fhirpath.Resource(r), &fhirpath.Env{Limits: customLimits})
	if err != nil {
		return true
	}
	for _, it := range items {
		v := it.Value()
		if !v.Exists() { // computed
			raw, err := it.MarshalJSON()
			if err != nil {
				continue
			}
			if v, err = fhir.ParseValue(raw); err != nil {
				continue
			}
		}
		if !yield(v) {
			return false
		}
	}
	return true
}

// Indexed reports whether the parameter has index entries: numbers and quantities have none.
func (d *Def) Indexed() bool { return d.Kind != KindNumber && d.Kind != KindQuantity }

// Entries are the values under which a resource is found by this one parameter, each once, written as Values writes them.
func (d *Def) Entries(r *fhir.Resource) []string {
	var out []string
	d.each(r.Value(), func(v found) bool {
		return d.entries(v, func(value string) bool {
			if value = clip(value); !slices.Contains(out, value) {
				out = append(out, value)
			}
			return true
		})
	})
	return out
}

// CustomRanges are, for each custom parameter of a query that has index entries for what is asked, where they are: every resource that matches is in one of a parameter's ranges.
func (q Query) CustomRanges() [][]Range {
	var out [][]Range
	for _, p := range q.Params {
		d := q.Custom[q.Type][p.Name]
		if d == nil {
			continue
		}
		var ranges []Range
		for _, v := range p.Values {
			some := valueRanges(q, d, p.Modifier, d.Name, v)
			if len(some) == 0 {
				ranges = nil
				break
			}
			ranges = append(ranges, some...)
		}
		if len(ranges) > 0 {
			out = append(out, ranges)
		}
	}
	return out
}

// def finds a parameter of the query's type.
func (q Query) def(name string) *Def {
	if d := q.Custom[q.Type][name]; d != nil {
		return d
	}
	return lookup(q.Type, name)
}

// Named are the parameters that a query asks for, and those by which it sorts.
func (q Query) Named() []string {
	var out []string
	for _, p := range q.Params {
		out = append(out, p.Name)
	}
	for _, k := range q.Sort {
		out = append(out, k.Name)
	}
	return out
}
