package search

import (
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// Limits on what one search may ask for, so that a hostile URL costs little.
const (
	maxParams = 200
	maxValues = 1000
	maxText   = 8 << 10
)

// Parse reads the parameters of a search on a type. Unknown parameters are errors if strict (Prefer: handling=strict, and our
// own default), else warnings, and then play no part. Unsupported modifiers and unreadable values are always errors: ignored, they
// would answer another question than was asked. On error, issues holds every problem and the error is the first of them.
//
// FHIR R4 search.html, http.html#search
func Parse(typ string, values url.Values, strict bool) (Query, []*fhir.Issue, error) {
	return ParseWith(nil, typ, values, strict)
}

// ParseWith is Parse where there are search parameters beside R4's own.
func ParseWith(custom Custom, typ string, values url.Values, strict bool) (Query, []*fhir.Issue, error) {
	q := Query{Type: typ, Custom: custom}
	if !fhir.IsType(typ) {
		err := fhir.Errorf(fhir.NotSupported, "there is no R4 resource type of this name to search for")
		return q, []*fhir.Issue{err}, err
	}
	p := parser{q: &q, strict: strict}
	n := 0
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, v := range values[name] {
			if n++; n > maxParams || len(v) > maxText {
				err := fhir.Errorf(fhir.TooCostly, "a search has at most %d parameters of at most %d characters each: ask in parts", maxParams, maxText)
				return q, append(p.issues, err), err
			}
			p.add(name, v)
		}
	}
	if p.err != nil {
		return q, p.issues, p.err
	}
	return q, p.issues, nil
}

type parser struct {
	q      *Query
	strict bool
	issues []*fhir.Issue
	err    error
}

func (p *parser) fail(i *fhir.Issue) {
	p.issues = append(p.issues, i)
	if p.err == nil {
		p.err = i
	}
}

// lenient is an error for the strict and a warning for others.
func (p *parser) lenient(i *fhir.Issue) {
	if p.strict {
		p.fail(i)
		return
	}
	w := *i
	w.Severity = fhir.Warning
	w.Text += " It was ignored."
	p.issues = append(p.issues, &w)
}

func (p *parser) add(name, value string) {
	base, modifier, hasModifier := strings.Cut(name, ":")
	if control, ok := controls[base]; ok {
		if hasModifier {
			p.fail(fhir.Errorf(fhir.Invalid, "%s takes no modifier", base).At(base))
		} else if err := control(p.q, value); err != nil {
			p.lenient(fhir.IssueOf(err).At(base))
		}
		return
	}
	if base == "_has" || strings.Contains(name, ".") {
		c, err := parseChain(p.q.Type, name, value, 0)
		if err != nil {
			p.lenient(fhir.IssueOf(err))
			return
		}
		p.q.Chains = append(p.q.Chains, c)
		return
	}
	if base == "_include" || base == "_revinclude" {
		if err := p.include(base, modifier, value); err != nil {
			p.lenient(fhir.IssueOf(err).At(base))
		}
		return
	}
	if why, ok := notOffered[base]; ok {
		p.lenient(fhir.Errorf(fhir.NotSupported, "%s.", why).At(base))
		return
	}
	if p.q.def(base) == nil {
		p.lenient(unknownParam(p.q.Type, base))
		return
	}
	param := Param{Name: base, Modifier: modifier}
	for _, v := range split(value, ',') {
		if strings.TrimSpace(v) != "" {
			param.Values = append(param.Values, v)
		}
	}
	switch {
	case hasModifier && modifier == "":
		p.fail(fhir.Errorf(fhir.Invalid, "has a colon but no modifier after it").At(base))
	case len(param.Values) == 0:
		// An empty criterion that is passed over finds everybody.
		p.lenient(paramError(param, fhir.Errorf(fhir.Invalid, "has no value: leave it out, or say what to look for.")))
	case len(param.Values) > maxValues:
		p.fail(fhir.Errorf(fhir.TooCostly, "has more than %d alternatives: ask in parts", maxValues).At(base))
	case byTerminology(p.q.def(base), modifier):
		for _, v := range param.Values {
			if err := checkTerminology(modifier, v); err != nil {
				p.fail(paramError(param, err))
				return
			}
		}
		p.q.Params = append(p.q.Params, param)
	default:
		if _, err := compileParam(*p.q, param); err != nil {
			p.fail(fhir.IssueOf(err))
			return
		}
		p.q.Params = append(p.q.Params, param)
	}
}

// controls are the parameters that shape the answer and select nothing. FHIR R4 search.html#return
var controls = map[string]func(q *Query, value string) error{
	"_format": func(*Query, string) error { return nil }, // the face's business
	"_pretty": func(*Query, string) error { return nil },
	"_cursor": func(q *Query, v string) error { q.Cursor = v; return nil },
	"_count": func(q *Query, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return fhir.Errorf(fhir.Invalid, "takes a whole number, 0 or more.")
		}
		if q.Count = n; n == 0 { // FHIR R4 search.html#count: the same as _summary=count
			q.Summary = "count"
		}
		return nil
	},
	"_total": func(q *Query, v string) error { return oneOf(&q.Total, v, "none", "estimate", "accurate") },
	"_summary": func(q *Query, v string) error {
		return oneOf(&q.Summary, v, "true", "text", "data", "count", "false")
	},
	"_elements": func(q *Query, v string) error {
		for _, e := range strings.Split(v, ",") {
			if !elementName.MatchString(e) {
				return fhir.Errorf(fhir.Invalid, "takes names of elements with commas between them: _elements=identifier,status.")
			}
			q.Elements = append(q.Elements, strings.TrimPrefix(e, q.Type+"."))
		}
		return nil
	},
	"_sort": parseSort,
	"_list": func(q *Query, v string) error {
		if strings.HasPrefix(v, "$") {
			return fhir.Errorf(fhir.NotSupported, "takes the id of a List that is held here: functional lists are not offered.")
		}
		if v = strings.TrimPrefix(v, "List/"); !fhir.ValidID(v) {
			return fhir.Errorf(fhir.Invalid, "takes the id of a List.")
		}
		q.List = v
		return nil
	},
}

var elementName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]{0,127}$`)

func oneOf(to *string, v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fhir.Errorf(fhir.Invalid, "takes one of %s.", strings.Join(allowed, ", "))
	}
	*to = v
	return nil
}

// parseSort reads "_sort=-date,status". FHIR R4 search.html#sort
func parseSort(q *Query, v string) error {
	for _, k := range strings.Split(v, ",") {
		name, desc := strings.CutPrefix(k, "-")
		d := q.def(name)
		if d == nil || d.Kind == KindComposite || d.scan != nil {
			return fhir.Errorf(fhir.Invalid, "cannot sort by %s: name search parameters of %s, with a - before them to reverse.", readable(name), q.Type)
		}
		q.Sort = append(q.Sort, SortKey{name, desc})
	}
	return nil
}

// notOffered are R4's parameters that this program knows and does not do.
var notOffered = map[string]string{
	"_filter":        "_filter is not offered: use ordinary parameters",
	"_query":         "named queries are not offered",
	"_type":          "a search across types is asked of the base, [base]?_type=…: leave it out here",
	"_contained":     "contained resources are not searched",
	"_containedType": "contained resources are not searched",
	"_score":         "answers carry no score",
}

func unknownParam(typ, name string) *fhir.Issue {
	hint := ""
	defs := Defs(typ)
	names := make([]string, 0, len(defs)+len(controls))
	for _, d := range defs {
		names = append(names, d.Name)
	}
	names = append(names, slices.Sorted(maps.Keys(controls))...)
	if n := fhir.Nearest(name, names); n != "" {
		hint = " Did you mean " + n + "?"
	}
	return fhir.Errorf(fhir.Invalid, "%s has no search parameter %s.%s", typ, readable(name), hint).At(named(name))
}

// paramError says which parameter an error is about. The value is never repeated: it may name a person.
func paramError(p Param, err error) *fhir.Issue {
	name := p.Name
	if p.Modifier != "" {
		name += ":" + readable(p.Modifier)
	}
	var i *fhir.Issue
	if !errors.As(err, &i) {
		i = fhir.Errorf(fhir.Invalid, "%w", err)
	}
	c := *i
	c.Text = name + " " + i.Text
	return c.At(p.Name)
}

var nameLike = regexp.MustCompile(`^[A-Za-z_][A-Za-z_.:-]{0,63}$`)

// readable is a name as typed if it is one: digits, of which a person's number is made, are not repeated.
func readable(name string) string {
	if nameLike.MatchString(name) {
		return `"` + name + `"`
	}
	return "of this name"
}

// URLValues writes the query as URL parameters, for asking another server the same. Parse reads them back.
func (q Query) URLValues() url.Values {
	v := url.Values{}
	for _, p := range q.Params {
		name := p.Name
		if p.Modifier != "" {
			name += ":" + p.Modifier
		}
		v.Add(name, strings.Join(p.Values, ","))
	}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	for _, c := range q.Chains {
		v.Add(c.Name, c.Raw)
	}
	for _, inc := range q.Include {
		v.Add(inc.text("_include"))
	}
	for _, inc := range q.RevInclude {
		v.Add(inc.text("_revinclude"))
	}
	keys := make([]string, len(q.Sort))
	for i, k := range q.Sort {
		if keys[i] = k.Name; k.Desc {
			keys[i] = "-" + k.Name
		}
	}
	set("_sort", strings.Join(keys, ","))
	set("_elements", strings.Join(q.Elements, ","))
	set("_cursor", q.Cursor)
	set("_list", q.List)
	set("_total", q.Total)
	set("_summary", q.Summary)
	if q.Count > 0 {
		set("_count", strconv.Itoa(q.Count))
	}
	return v
}
