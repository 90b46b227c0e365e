package search

import "strings"

// Counted gives the index entries that are, one for one, what matches q: whoever counts the different resources that they name has counted the
// matches, without reading any. ok is false where only Matches can tell: of several parameters, of a chain, of a modifier, of another kind of parameter, of
// values for which the index holds more than what matches (a code of any system) or less than the whole value (one that is cut).
func Counted(q Query) (ranges []Range, ok bool) {
	if len(q.Params) != 1 || len(q.Custom) > 0 || q.Patient != "" || q.Any != nil || q.Among != nil || len(q.Chains) > 0 || q.List != "" {
		return nil, false
	}
	p := q.Params[0]
	d := lookup(q.Type, p.Name)
	if d == nil || d.Kind != KindToken || p.Modifier != "" || d.Name == "_id" {
		return nil, false
	}
	names := indexNames(q.Type, d)
	if len(names) != 1 || names[0] != d.Name {
		return nil, false // the entries are those of other elements too
	}
	for _, v := range p.Values {
		w, err := parseToken(v)
		if err != nil || w.anySystem || w.anyCode || mayBeImplied(w.system) || strings.Contains(w.code, "|") || strings.Contains(w.system, "|") {
			return nil, false
		}
		value := w.code + "|" + w.system
		if len(value) >= maxValue {
			return nil, false
		}
		ranges = append(ranges, exactRange(d.Name, value))
	}
	return ranges, len(ranges) > 0
}

// Tallied says whether a store should keep count of how many resources have each value of a parameter, since it is what cohorts are counted by: the
// codes of diagnoses, results, medicines and the like. (Identifiers would have as many counts as there are of them.)
func Tallied(typ, name string) bool {
	if name != "code" && !strings.HasSuffix(name, "-code") {
		return false
	}
	d := lookup(typ, name)
	return d != nil && d.Kind == KindToken
}
