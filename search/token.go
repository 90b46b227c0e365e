package search

import (
	"strings"

	"tombolo/fhir"
)

// A token is a code or identifier found in a resource.
type token struct {
	system, code string
	implied      bool // a bare code element: R4 binds its system, the JSON does not say it
}

// foldCode brings a code to the form in which codes are compared: R4 asks servers in doubt to leave case aside, because
// finding too much is safer than missing something. FHIR R4 search.html#token
func foldCode(s string) string { return strings.ToLower(s) }

// eachToken calls yield with the tokens of an element until it says stop; it reports whether it came to the end.
func eachToken(v fhir.Value, yield func(token) bool) bool {
	if !v.IsObject() {
		if s := v.Str(); s != "" {
			return yield(token{code: s, implied: true})
		}
		return true
	}
	if coding := v.Member("coding"); coding.Exists() { // CodeableConcept
		for c := range coding.Children() {
			if !codingToken(c, yield) {
				return false
			}
		}
		return true
	}
	if value := v.Member("value"); value.IsString() { // Identifier, ContactPoint
		system := v.Member("system").Str()
		if contactSystems[system] {
			return yield(token{code: value.Str()})
		}
		id := fhir.Identifier{System: system, Value: value.Str()}.Canonical()
		return yield(token{system: id.System, code: id.Value})
	}
	return codingToken(v, yield)
}

func codingToken(c fhir.Value, yield func(token) bool) bool {
	code := c.Member("code").Str()
	if code == "" {
		return true
	}
	return yield(token{system: fhir.CanonicalSystem(c.Member("system").Str()), code: code})
}

// contactSystems are no URIs: R4 searches contact points by value alone. FHIR R4 valueset-contact-point-system.html
var contactSystems = map[string]bool{"phone": true, "fax": true, "email": true, "pager": true, "url": true, "sms": true, "other": true}

// A tokenWant is what a search value asks for. FHIR R4 search.html#token
type tokenWant struct {
	system    string
	anySystem bool // "code"
	code      string
	anyCode   bool // "system|"
}

func parseToken(value string) (tokenWant, error) {
	sys, code, barred := cut(value, '|')
	if !barred {
		return tokenWant{anySystem: true, code: foldCode(strings.TrimSpace(unescape(sys)))}, nil
	}
	if _, _, more := cut(code, '|'); more {
		return tokenWant{}, fhir.Errorf(fhir.Invalid, `has more than one "|": write system|code, and a bar inside a value as \|`)
	}
	if sys == "" && code == "" {
		return tokenWant{}, fhir.Errorf(fhir.Invalid, `is only a "|": write system|code, |code, system| or code`)
	}
	id := fhir.Identifier{System: strings.TrimSpace(unescape(sys)), Value: unescape(code)}.Canonical()
	return tokenWant{system: id.System, code: foldCode(id.Value), anyCode: code == ""}, nil
}

func (w tokenWant) matches(t token) bool {
	if !w.anyCode && foldCode(t.code) != w.code {
		return false
	}
	return w.anySystem || t.system == w.system || t.implied && mayBeImplied(w.system)
}

// mayBeImplied reports whether a bare code may be of this system: R4 binds such elements to its own code systems and to
// media types, languages and time zones.
func mayBeImplied(system string) bool {
	return strings.HasPrefix(system, "http://hl7.org/fhir/") || strings.HasPrefix(system, "http://terminology.hl7.org/") ||
		strings.HasPrefix(system, "urn:ietf:bcp:")
}

func tokenTest(value string) (valueTest, error) {
	w, err := parseToken(value)
	if err != nil {
		return nil, err
	}
	return func(v fhir.Value) bool {
		return !eachToken(v, func(t token) bool { return !w.matches(t) })
	}, nil
}

// tokenTextTest is the :text modifier: the words that go with a code, from the start of any word. FHIR R4 search.html#modifiers
func tokenTextTest(value string) (valueTest, error) {
	want := fold(unescape(value))
	starts := func(v fhir.Value) bool {
		text := fold(v.Str())
		return text != "" && (strings.HasPrefix(text, want) || strings.Contains(text, " "+want))
	}
	return func(v fhir.Value) bool {
		if starts(v.Member("text")) || starts(v.Member("display")) || starts(v.Get("type.text")) {
			return true
		}
		for d := range v.All("coding.display") {
			if starts(d) {
				return true
			}
		}
		return false
	}, nil
}

// ofTypeTest is the :of-type modifier of identifiers, "system|code|value", system and code being Identifier.type's.
func ofTypeTest(value string) (valueTest, error) {
	p := split(value, '|')
	if len(p) != 3 || p[1] == "" || p[2] == "" {
		return nil, fhir.Errorf(fhir.Invalid, "needs three parts with :of-type: type system|type code|identifier value")
	}
	typ := tokenWant{system: unescape(p[0]), anySystem: p[0] == "", code: foldCode(unescape(p[1]))}
	want := foldCode(strings.TrimSpace(unescape(p[2])))
	return func(v fhir.Value) bool {
		return foldCode(strings.TrimSpace(v.Member("value").Str())) == want &&
			!eachToken(v.Member("type"), func(t token) bool { return !typ.matches(t) })
	}, nil
}

// lookups of a token: entries are "code|system", so that a bare code is a prefix.
func (w tokenWant) lookups(name string) []Range {
	switch {
	case w.anyCode:
		return nil
	case w.anySystem:
		return []Range{prefixRange(name, w.code+"|")}
	case mayBeImplied(w.system):
		return []Range{exactRange(name, w.code+"|"+w.system), exactRange(name, w.code+"|")}
	}
	return []Range{exactRange(name, w.code+"|"+w.system)}
}
