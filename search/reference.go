package search

import (
	"strings"

	"tombolo/fhir"
)

// A ref is a reference taken apart. FHIR R4 references.html#literal
type ref struct {
	base    string // "" if relative
	typ, id string // both "" if it is not of the form […/]Type/id
	version string // of …/_history/3, or of canonical|3
	other   string // the text, if it has another form: urn:uuid:…, a canonical URL
}

func parseReference(s string) ref {
	var r ref
	if s == "" || s[0] == '#' { // contained: nobody can ask for it
		return r
	}
	if url, v, ok := strings.Cut(s, "|"); ok {
		s, r.version = url, v
	}
	rest := s
	if before, v, ok := strings.Cut(s, "/_history/"); ok {
		rest, r.version = before, v
	}
	i := strings.LastIndexByte(rest, '/')
	if i > 0 && fhir.ValidID(rest[i+1:]) {
		j := strings.LastIndexByte(rest[:i], '/')
		if typ := rest[j+1 : i]; fhir.IsType(typ) {
			r.typ, r.id = typ, rest[i+1:]
			r.base = rest[:max(j, 0)]
			return r
		}
	}
	r.other = s
	return r
}

// literal is the text of a Reference, of an element that is a URL itself, or what would be one to a resource that stands there.
func literal(v fhir.Value) string {
	if v.IsObject() {
		if typ := v.Member("resourceType").Str(); typ != "" && v.Member("id").Str() != "" {
			return typ + "/" + v.Member("id").Str()
		}
		return v.Member("reference").Str()
	}
	return v.Str()
}

// A refWant is what a search value asks for. FHIR R4 search.html#reference
type refWant struct {
	ref
	bare string // an id without a type
	own  string // the service's base
}

// parseRefWant reads "id", "Type/id" or an absolute URL; typ is the modifier's type or "".
func parseRefWant(value, typ, own string) (refWant, error) {
	s := strings.TrimSpace(unescape(value))
	w := refWant{own: own}
	if !strings.ContainsAny(s, "/:|") {
		if !fhir.ValidID(s) {
			return w, fhir.Errorf(fhir.Invalid, `is not a reference: write an id, Type/id or a URL; for an identifier use the modifier :identifier with system|value`)
		}
		if typ == "" {
			w.bare = s
		} else {
			w.typ, w.id = typ, s
		}
		return w, nil
	}
	w.ref = parseReference(s)
	if w.ref == (ref{}) || w.other != "" && !strings.Contains(w.other, ":") {
		return w, fhir.Errorf(fhir.Invalid, `is not a reference: write an id, Type/id (with one of R4's types) or a URL; for an identifier use the modifier :identifier with system|value`)
	}
	if typ != "" && w.typ != "" && w.typ != typ {
		return w, fhir.Errorf(fhir.Invalid, "names a %s where the modifier says %s", w.typ, typ)
	}
	if w.base == own {
		w.base = ""
	}
	return w, nil
}

func (w refWant) matches(have ref) bool {
	if own := have.base == "" || have.base == w.own; own {
		have.base = ""
	}
	if w.bare != "" {
		return have.base == "" && have.id == w.bare
	}
	return have.base == w.base && have.typ == w.typ && have.id == w.id && have.other == w.other &&
		(w.version == "" || w.version == have.version)
}

func referenceTest(value, typ, own string) (valueTest, error) {
	w, err := parseRefWant(value, typ, own)
	if err != nil {
		return nil, err
	}
	return func(v fhir.Value) bool { return w.matches(parseReference(literal(v))) }, nil
}

// referenceIdentifierTest is the :identifier modifier: what is meant is named by its business identifier, whether or not the
// reference can be followed.
func referenceIdentifierTest(value string) (valueTest, error) {
	t, err := tokenTest(value)
	if err != nil {
		return nil, err
	}
	return func(v fhir.Value) bool {
		id := v.Member("identifier")
		return id.Exists() && t(id)
	}, nil
}

// Index entries of references are "id/Type", so that an id without a type is a prefix, also the full URL of absolute ones, and
// "=value|system" for identifiers.
func referenceEntries(v fhir.Value, yield func(string) bool) bool {
	if r := parseReference(literal(v)); r.id != "" {
		if !yield(r.id+"/"+r.typ) || r.base != "" && !yield(r.base+"/"+r.typ+"/"+r.id) {
			return false
		}
	} else if r.other != "" && !yield(r.other) {
		return false
	}
	return eachToken(v.Member("identifier"), func(t token) bool {
		return yield("=" + foldCode(t.code) + "|" + t.system)
	})
}

func (w refWant) lookups(name string) []Range {
	switch {
	case w.bare != "":
		return []Range{prefixRange(name, w.bare+"/")}
	case w.other != "":
		return []Range{exactRange(name, w.other)}
	case w.base != "":
		return []Range{exactRange(name, w.base+"/"+w.typ+"/"+w.id)}
	}
	return []Range{exactRange(name, w.id+"/"+w.typ)}
}
