package api

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// A view is which part of a resource is wanted. FHIR R4 search.html#summary
type view struct {
	summary  string
	elements []string
}

func viewOf(r *http.Request) (view, error) {
	q := r.URL.Query()
	v := view{summary: q.Get("_summary")}
	if !slices.Contains([]string{"", "true", "false", "text", "data", "count"}, v.summary) {
		return v, fhir.Errorf(fhir.Invalid, "takes true, text, data, count or false").At("_summary")
	}
	for _, list := range q["_elements"] {
		v.elements = append(v.elements, strings.Split(list, ",")...)
	}
	if len(v.elements) > 0 && v.summary != "" && v.summary != "false" {
		return v, fhir.Errorf(fhir.Invalid, "ask for _summary or _elements, not for both").At("_elements")
	}
	return v, nil
}

// known holds _elements to those that a type has, so that one that is misspelt is not passed over.
func (v view) known(typ string) error {
	t := r4.TypeOf(typ)
	for _, e := range v.elements {
		name, _, _ := strings.Cut(strings.TrimPrefix(e, typ+"."), ".")
		if el, _ := t.Member(name); el != nil || name == "id" || name == "resourceType" || slices.ContainsFunc(t.Elements, func(x *r4.Element) bool { return x.Name == name }) {
			continue
		}
		return fhir.Errorf(fhir.Invalid, "%s has no element %.60q", typ, name).At("_elements")
	}
	return nil
}

func (v view) whole() bool { return len(v.elements) == 0 && (v.summary == "" || v.summary == "false") }

// of is the part of a resource that is wanted, marked as a part. FHIR R4 valueset-common-tags.html (SUBSETTED)
func (v view) of(r *fhir.Resource) *fhir.Resource {
	if v.whole() {
		return r
	}
	m := fhir.M{}
	for c := range r.Value().Children() {
		name := strings.TrimPrefix(c.Key(), "_")
		if name == "resourceType" || name == "id" || name == "meta" || !v.keeps(r.Type(), name) {
			continue
		}
		m[c.Key()] = fhir.JSON(rawJSON(c.Raw()))
	}
	m["meta"] = subsetted(r)
	return fhir.New(r.Type(), r.ID(), m)
}

type rawJSON []byte

func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

func subsetted(r *fhir.Resource) fhir.M {
	meta := fhir.M{}
	var tags []any
	for c := range r.Value().Member("meta").Children() {
		if c.Key() != "tag" {
			meta[c.Key()] = rawJSON(c.Raw())
			continue
		}
		for t := range c.Children() {
			tags = append(tags, rawJSON(t.Raw()))
		}
	}
	meta["tag"] = append(tags, fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", Code: "SUBSETTED"})
	return meta
}

func (v view) keeps(typ, name string) bool {
	if len(v.elements) > 0 {
		for _, e := range v.elements {
			e, _, _ = strings.Cut(strings.TrimPrefix(e, typ+"."), ".")
			if e == name || strings.HasPrefix(name, e) && choice(name[len(e):]) {
				return true
			}
		}
		return mandatory(typ, name)
	}
	switch v.summary {
	case "text":
		return name == "text" || mandatory(typ, name)
	case "data":
		return name != "text"
	}
	e, _ := r4.TypeOf(typ).Member(name)
	return e != nil && (e.Summary || e.Min > 0)
}

// mandatory elements come with every part, so that it is a resource still. FHIR R4 search.html#elements
func mandatory(typ, name string) bool {
	e, _ := r4.TypeOf(typ).Member(name)
	return e != nil && e.Min > 0
}

// choice reports whether the rest of a member's name may be a data type's: valueQuantity is value.
func choice(rest string) bool { return rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' }
