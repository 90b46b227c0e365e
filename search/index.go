package search

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"slices"
	"strings"

	"tombolo/fhir"
)

// How a store finds candidates without reading everything: it keeps, for each resource, the pairs that Values yields, in order of
// (name, value), and looks a query up with Keys. What comes back is a superset, which Match then filters. The guarantee:
//
//	if q matches r, then each plan of Keys(q) has a Range that holds one of r's Values.
//
// Parameters that look at the same elements share entries (patient those of subject), so a resource has few.

// indexRules is raised whenever Values yields other values for the same definitions.
const indexRules = "1"

// IndexRules changes with the definitions of the parameters and with how Values writes them: an index made under others is not complete.
func IndexRules() string {
	sum := sha256.Sum256([]byte(paramsText))
	return indexRules + "." + hex.EncodeToString(sum[:8])
}

// A Range is the index entries of one parameter with From <= value < To.
type Range struct{ Name, From, To string }

// Holds reports whether an index entry lies in the range.
func (r Range) Holds(name, value string) bool {
	return name == r.Name && value >= r.From && (r.To == "" || value < r.To)
}

// Exact is the one value the range holds, if it is an equality look-up.
func (r Range) Exact() (value string, ok bool) { return r.From, r.To == r.From+"\x00" }

// maxValue bounds an index value. Longer ones are cut on both sides, so they are still found.
const maxValue = 120

func clip(s string) string { return s[:min(len(s), maxValue)] }

func exactRange(name, value string) Range { v := clip(value); return Range{name, v, v + "\x00"} }

func prefixRange(name, value string) Range {
	if len(value) >= maxValue {
		return exactRange(name, value)
	}
	end := []byte(value)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return Range{name, value, string(end[:i+1])}
		}
	}
	return Range{name, value, ""}
}

// Values yields the (parameter, value) pairs under which r is indexed, each once:
//
//	token      "code|system", code in lower case, system "" if there is none
//	reference  "id/Type"; also the whole URL if absolute; "=value|system" for a reference's identifier
//	date       the start of its span as 20060102T150405 in UTC; also ">" and the end if the span is longer than a day
//	string     folded: lower case without accents or punctuation
//	uri        as written
//
// Values longer than 120 bytes are cut. Numbers, quantities and composites have no entries.
func Values(r *fhir.Resource) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		var seen []string // values of the current parameter; few
		for _, d := range indexed(r.Type()) {
			seen = seen[:0]
			entry := func(value string) bool {
				value = clip(value)
				if slices.Contains(seen, value) {
					return true
				}
				seen = append(seen, value)
				return yield(d.Name, value)
			}
			if !d.each(r.Value(), func(v found) bool { return d.entries(v, entry) }) {
				return
			}
		}
	}
}

func (d *Def) entries(v fhir.Value, yield func(string) bool) bool {
	switch d.Kind {
	case KindToken:
		return eachToken(v, func(t token) bool { return yield(foldCode(t.code) + "|" + t.system) })
	case KindReference:
		return referenceEntries(v, yield)
	case KindDate:
		return eachDate(v, func(s fhir.Span) bool { return dateEntries(s, yield) })
	case KindString:
		return eachText(v, func(s string) bool { return yield(foldFor(d.Name, s)) })
	case KindURI:
		if s := v.Str(); s != "" {
			return yield(s)
		}
	}
	return true
}

// Keys gives the ways in which a store can find the candidates for q, most selective first. Each way is complete by itself:
// every resource that matches is indexed in at least one of its Ranges. With none, look at every resource of the type.
func Keys(q Query) [][]Range {
	type plan struct {
		rank   int
		ranges []Range
	}
	var plans []plan
	if q.Any != nil { // by id: none of them has a plan of no ranges, which finds nothing
		ranges := make([]Range, 0, len(q.Any))
		for ref := range q.Any {
			ranges = append(ranges, exactRange("_id", foldCode(ref.ID())+"|"))
		}
		plans = append(plans, plan{-1, ranges})
	}
	if q.Among != nil {
		ranges := make([]Range, 0, len(q.Among))
		for ref := range q.Among {
			ranges = append(ranges, exactRange("_id", foldCode(ref.ID())+"|"))
		}
		plans = append(plans, plan{-1, ranges})
	}
	for _, p := range q.Params {
		if d := q.def(p.Name); d != nil {
			if ranges := paramRanges(q, d, p); len(ranges) > 0 {
				plans = append(plans, plan{rank(d, p, ranges), ranges})
			}
		}
	}
	slices.SortStableFunc(plans, func(a, b plan) int { return a.rank - b.rank })
	out := make([][]Range, len(plans))
	for i, p := range plans {
		out[i] = p.ranges
	}
	return out
}

// paramRanges are the look-ups that cover a parameter; nil if one of its values has none.
func paramRanges(q Query, d *Def, p Param) []Range {
	var out []Range
	for _, name := range indexNames(q.Type, d) {
		for _, v := range p.Values {
			ranges := valueRanges(q, d, p.Modifier, name, v)
			if len(ranges) == 0 {
				return nil
			}
			out = append(out, ranges...)
		}
	}
	return out
}

func valueRanges(q Query, d *Def, modifier, index, value string) []Range {
	switch {
	case value == "":
	case d.Kind == KindToken && modifier == "":
		if w, err := parseToken(value); err == nil {
			return w.lookups(index)
		}
	case d.Kind == KindReference && modifier == "identifier":
		w, err := parseToken(value)
		if err != nil {
			return nil
		}
		w.code = "=" + w.code
		return w.lookups(index)
	case d.Kind == KindReference && (modifier == "" || fhir.IsType(modifier)):
		if w, err := parseRefWant(value, modifier, q.Base); err == nil {
			return w.lookups(index)
		}
	case d.Kind == KindDate && modifier == "":
		if w, err := parseDateWant(value); err == nil {
			return w.lookups(index)
		}
	case d.Kind == KindString:
		return stringLookups(d.Name, index, modifier, value)
	case d.Kind == KindURI:
		return uriLookups(index, modifier, value)
	}
	return nil
}

// rank guesses how few a look-up finds; lower is fewer.
func rank(d *Def, p Param, ranges []Range) int {
	switch {
	case d.Name == "_id":
		return 0
	case p.Modifier == "identifier" || strings.HasSuffix(d.Name, "identifier"):
		return 1
	case d.Name == "patient" || d.Name == "subject":
		return 2
	case d.Kind == KindReference:
		return 3
	case d.Kind == KindString:
		return 4
	case d.Name == "telecom" || d.Name == "phone" || d.Name == "email" || d.Name == "birthdate":
		return 4
	case d.Kind == KindURI:
		return 6
	case d.Kind == KindDate:
		if len(ranges) == 1 && ranges[0].From != "" && ranges[0].To != ">" {
			return 5
		}
		return 8
	case commonTokens[d.Name]:
		return 9
	}
	return 7
}

// commonTokens are parameters of which many resources share a value.
var commonTokens = map[string]bool{
	"status": true, "category": true, "intent": true, "gender": true, "active": true, "class": true, "deceased": true,
	"clinical-status": true, "verification-status": true, "criticality": true, "priority": true, "_tag": true, "_security": true,
	"address-use": true, "type": true, "docstatus": true, "language": true,
}
