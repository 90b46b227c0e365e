package search

import (
	"strings"

	"tombolo/fhir"
)

// eachText calls yield with the texts of an element: the element, or the parts of a HumanName or Address that R4 has a name or
// address search look at. FHIR R4 search.html#string
func eachText(v fhir.Value, yield func(string) bool) bool {
	if !v.IsObject() {
		if s := v.Str(); s != "" {
			return yield(s)
		}
		return true
	}
	for m := range v.Children() {
		switch m.Key() {
		case "text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country":
			for s := range m.All("") {
				if t := s.Str(); t != "" && !yield(t) {
					return false
				}
			}
		}
	}
	return true
}

func stringTest(name, modifier, value string) (valueTest, error) {
	value = unescape(value)
	var ok func(string) bool
	switch want := foldFor(name, value); modifier {
	case "exact":
		ok = func(s string) bool { return s == value }
	case "contains":
		ok = func(s string) bool { return strings.Contains(foldFor(name, s), want) }
	default:
		ok = func(s string) bool { return strings.HasPrefix(foldFor(name, s), want) }
	}
	return func(v fhir.Value) bool {
		return !eachText(v, func(s string) bool { return !ok(s) })
	}, nil
}

func stringLookups(name, index, modifier, value string) []Range {
	want := foldFor(name, unescape(value))
	switch modifier {
	case "exact":
		return []Range{exactRange(index, want)}
	case "":
		return []Range{prefixRange(index, want)}
	}
	return nil
}

// uriTest compares URIs letter by letter. A canonical URL is found with and without its version, and meta.source
// with and without its fragment, where the value asked for has none. FHIR R4 search.html#uri
func uriTest(modifier, value string) (valueTest, error) {
	want := unescape(value)
	switch modifier {
	case "below":
		return func(v fhir.Value) bool { return strings.HasPrefix(v.Str(), want) }, nil
	case "above":
		return func(v fhir.Value) bool { s := v.Str(); return s != "" && strings.HasPrefix(want, s) }, nil
	}
	return func(v fhir.Value) bool { s := v.Str(); return s == want || bareURI(s) == want }, nil
}

// bareURI is a URI without version and fragment.
func bareURI(s string) string {
	if i := strings.IndexAny(s, "|#"); i >= 0 {
		return s[:i]
	}
	return s
}

func uriLookups(name, modifier, value string) []Range {
	want := unescape(value)
	switch modifier {
	case "":
		return []Range{exactRange(name, want), prefixRange(name, want+"|"), prefixRange(name, want+"#")}
	case "below":
		return []Range{prefixRange(name, want)}
	}
	return nil
}
