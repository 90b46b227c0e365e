package search

import (
	"slices"
	"strings"

	"tombolo/fhir"
)

// Sort puts resources in the order of keys, stable for what is equal. Each is placed by its smallest value of a parameter, or
// its largest where the key is reversed; those without a value come last either way. FHIR R4 search.html#sort
func Sort(q Query, rs []*fhir.Resource) {
	keys := q.Sort
	if len(keys) == 0 {
		return
	}
	type row struct {
		r    *fhir.Resource
		keys []sortValue
	}
	rows := make([]row, len(rs))
	for i, r := range rs {
		rows[i] = row{r, make([]sortValue, len(keys))}
		for j, k := range keys {
			if d := q.def(k.Name); d != nil {
				rows[i].keys[j] = d.sortValue(r, k.Desc)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		for j, k := range keys {
			if c := a.keys[j].compare(b.keys[j], k.Desc); c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range rows {
		rs[i] = rows[i].r
	}
}

// A sortValue is where a resource stands: a number for numbers and quantities, text for the rest.
type sortValue struct {
	ok   bool
	text string
	num  decimal
}

func (a sortValue) compare(b sortValue, desc bool) int {
	switch {
	case a.ok != b.ok:
		if a.ok {
			return -1
		}
		return 1
	case !a.ok:
		return 0
	}
	c := strings.Compare(a.text, b.text)
	if a.num.value != nil && b.num.value != nil {
		c = a.num.value.Cmp(b.num.value)
	}
	if desc {
		return -c
	}
	return c
}

func (d *Def) sortValue(r *fhir.Resource, desc bool) sortValue {
	var best sortValue
	keep := func(v sortValue) bool {
		if v.ok = true; !best.ok || v.compare(best, desc) < 0 {
			best = v
		}
		return true
	}
	d.each(r.Value(), func(v found) bool {
		switch d.Kind {
		case KindDate:
			return eachDate(v, func(s fhir.Span) bool {
				t := s.Start
				if desc && !s.End.IsZero() {
					t = s.End
				}
				return keep(sortValue{text: fhir.Instant(t)})
			})
		case KindNumber, KindQuantity:
			if q := v.Member("value"); q.Exists() {
				v = q
			}
			if n, ok := parseDecimal(v.Str()); ok {
				return keep(sortValue{num: n})
			}
			return true
		}
		return d.entries(v, func(s string) bool { return keep(sortValue{text: s}) })
	})
	return best
}
