package nrl

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tombolo/fhir"
)

// The shape of a pointer: which elements it may have and which it must, as the published schemas say. Mistakes are told of in the words of the service
// (a Python library's), in the order of the elements, and what is not in the shape after them.

// An element of a shape.
type element struct {
	name     string
	of       string // shape of an object; "" for a plain value
	list     bool
	required bool
	kind     byte           // of a plain value: 's' string, 'i' integer, 'b' boolean
	pattern  *regexp.Regexp // of a string; looked for anywhere in it, as the service does
	longest  int            // bytes, 0 for any
	words    []string       // of a string: nothing else
	most     int            // items of a list, 0 for any
}

const (
	patternID      = `[A-Za-z0-9\-\.]{1,64}`
	patternURI     = `\S*`
	patternSystem  = `\S+`
	patternCode    = `[^\s]+(\s[^\s]+)*`
	patternText    = `[\S]+[ \r\n\t\S]*`
	patternBase64  = `(\s*([0-9a-zA-Z\+/=]){4}\s*)+`
	patternInstant = `([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)-(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))`
	patternDate    = `([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?`
)

func str(name, pattern string) element {
	return element{name: name, kind: 's', pattern: regexp.MustCompile(pattern)}
}
func obj(name, of string) element { return element{name: name, of: of} }
func (e element) must() element   { e.required = true; return e }
func (e element) may() element    { e.required = false; return e }
func (e element) many() element   { e.list = true; return e }
func (e element) one() element    { e.list, e.most = true, 1; return e }

func word(name string, words ...string) element {
	return element{name: name, kind: 's', words: words, required: true}
}

var pointerID = element{name: "id", kind: 's', pattern: regexp.MustCompile(`^[A-Za-z0-9\.]+-[A-Za-z0-9]+[A-Za-z0-9\_\-]*$`), longest: 64}

var coding = []element{str("id", patternID), str("system", patternSystem), str("version", patternText), str("code", patternCode), str("display", patternText),
	{name: "userSelected", kind: 'b'}}

var shapes = map[string][]element{
	"DocumentReference": {word("resourceType", "DocumentReference"), pointerID, obj("meta", "Meta"), str("implicitRules", patternURI), str("language", patternCode),
		obj("text", "Narrative"), obj("masterIdentifier", "Identifier"), obj("identifier", "Identifier").many(), str("status", `^current$`).must(),
		word("docStatus", "entered-in-error", "amended", "preliminary", "final").may(), obj("type", "NRLCodeableConcept").must(), obj("category", "NRLCodeableConcept").many().must(),
		obj("subject", "Reference"), str("date", patternInstant), obj("author", "Reference").many().must(), obj("authenticator", "Reference"),
		obj("custodian", "Reference"), obj("relatesTo", "RelatesTo").many(), str("description", patternText), obj("securityLabel", "CodeableConcept").many(),
		obj("content", "Content").many().must(), obj("context", "Context").must()},
	"Meta": {str("id", patternID), str("versionId", patternID), str("lastUpdated", patternInstant), str("source", patternURI), str("profile", patternText).many(),
		obj("security", "Coding").many(), obj("tag", "Coding").many()},
	"Narrative": {str("id", patternID), str("status", patternCode).must(), {name: "div", kind: 's', required: true}},
	"Identifier": {str("id", patternID), str("use", patternCode), obj("type", "CodeableConcept"), str("system", patternSystem), str("value", patternText),
		obj("period", "Period"), obj("assigner", "Reference")},
	"Period":             {str("id", patternID), str("start", patternDate), str("end", patternDate)},
	"Reference":          {str("id", patternID), str("reference", patternText), str("type", patternURI), obj("identifier", "Identifier"), str("display", patternText)},
	"Coding":             coding,
	"NRLCoding":          {coding[0], coding[1].must(), coding[2], coding[3].must(), coding[4].must(), coding[5]},
	"NRLCodeableConcept": {str("id", patternID), obj("coding", "NRLCoding").one().must(), str("text", patternText)},
	"CodeableConcept":    {str("id", patternID), obj("coding", "Coding").many(), str("text", patternText)},
	"RelatesTo":          {str("id", patternID), str("code", patternCode).must(), obj("target", "Reference").must()},
	"Content":            {str("id", patternID), obj("attachment", "Attachment").must(), obj("format", "Format").must(), obj("extension", "Extension").many().must()},
	"Attachment": {str("id", patternID), str("contentType", patternCode).must(), str("language", patternCode), str("data", patternBase64), str("url", patternURI).must(),
		{name: "size", kind: 'i'}, str("hash", patternBase64), str("title", patternText), str("creation", patternDate)},
	"Format": {coding[0], word("system", systemFormat), coding[2], word("code", "urn:nhs-ic:record-contact", "urn:nhs-ic:unstructured", "urn:nhs-ic:structured"),
		word("display", "Contact details (HTTP Unsecured)", "Unstructured Document", "Structured Document"), coding[5]},
	"Extension": {str("id", patternID), obj("valueCodeableConcept", "CodeableConcept"), str("url", patternURI)},
	"Context": {str("id", patternID), obj("encounter", "Reference").many(), obj("event", "CodeableConcept").many(), obj("period", "Period"), obj("facilityType", "CodeableConcept"),
		obj("practiceSetting", "NRLCodeableConcept").must(), obj("sourcePatientInfo", "Reference"), obj("related", "Reference").many()},

	// What is held to more than the shape of an extension, once it is known which extension it is.
	"ContentStability":          {str("id", patternID), obj("valueCodeableConcept", "ContentStabilityConcept").must(), word("url", urlStability)},
	"ContentStabilityConcept":   {str("id", patternID), obj("coding", "ContentStabilityCoding").one().must(), str("text", patternText)},
	"ContentStabilityCoding":    {coding[0], word("system", systemStability), coding[2], word("code", "static", "dynamic"), word("display", "Static", "Dynamic"), coding[5]},
	"RetrievalMechanism":        {str("id", patternID), obj("valueCodeableConcept", "RetrievalMechanismConcept").must(), word("url", urlMechanism)},
	"RetrievalMechanismConcept": {str("id", patternID), obj("coding", "RetrievalMechanismCoding").one().must(), str("text", patternText)},
	"RetrievalMechanismCoding": {coding[0], word("system", systemMechanism), coding[2], word("code", "SSP", "Direct", "LDR", "InContext"),
		word("display", "Spine Secure Proxy", "Direct", "Large Document Retrieval", "Direct using In-Context"), coding[5]},
}

// conceptNames are what the service calls the concepts of the two extensions, where it says that something is no object.
var conceptNames = map[string]string{"ContentStabilityConcept": "ContentStabilityExtensionValueCodeableConcept",
	"RetrievalMechanismConcept": "NRLRetrievalMechanismExtensionValueCodeableConcept"}

// A fault is one mistake, and where it is.
type fault struct{ at, what string }

// against holds an object to a shape.
func against(v fhir.Value, shape, at string) []fault {
	var out []fault
	elements := shapes[shape]
	for _, e := range elements {
		m := v.Member(e.name)
		here := join(at, e.name)
		switch null := m.Exists() && string(m.Raw()) == "null"; {
		case (!m.Exists() || null) && !e.required:
		case null && e.of != "" && !e.list && conceptNames[e.of] != "", !m.Exists() && conceptNames[e.of] != "":
			// The service has read the extension once already, so that what is missing is there for it, as nothing.
			out = append(out, fault{here, "Input should be a valid dictionary or instance of " + conceptNames[e.of]})
		case !m.Exists() && len(e.words) > 0 && strings.HasSuffix(shape, "Coding"):
			out = append(out, fault{here, e.wants()})
		case !m.Exists():
			out = append(out, fault{here, "Field required"})
		case e.list && !m.IsArray():
			out = append(out, fault{here, "Input should be a valid array"})
		case e.list:
			n := 0
			for item := range m.Children() {
				out = append(out, e.check(item, fmt.Sprintf("%s[%d]", here, n))...)
				n++
			}
			if e.most > 0 && n > e.most {
				out = append(out, fault{here, fmt.Sprintf("List should have at most %d item after validation, not %d", e.most, n)})
			}
		default:
			out = append(out, e.check(m, here)...)
		}
	}
	for m := range v.Children() {
		if !slices.ContainsFunc(elements, func(e element) bool { return e.name == m.Key() }) {
			out = append(out, fault{join(at, m.Key()), "Extra inputs are not permitted"})
		}
	}
	return out
}

// check holds one value to an element.
func (e element) check(v fhir.Value, at string) []fault {
	if e.of != "" {
		if !v.IsObject() {
			return []fault{{at, "Input should be an object"}}
		}
		return against(v, e.of, at)
	}
	wrong := ""
	switch first := v.Raw()[0]; {
	case e.kind == 'i' && (first != '-' && (first < '0' || first > '9') || bytes.ContainsAny(v.Raw(), ".eE")):
		wrong = "Input should be a valid integer"
	case e.kind == 'b' && first != 't' && first != 'f':
		wrong = "Input should be a valid boolean"
	case e.kind == 's' && !v.IsString() && len(e.words) == 0:
		wrong = "Input should be a valid string"
	case len(e.words) > 0 && (!v.IsString() || !slices.Contains(e.words, v.Str())):
		wrong = e.wants()
	case e.pattern != nil && !e.pattern.MatchString(v.Str()), e.longest > 0 && len(v.Str()) > e.longest:
		wrong = "String should match pattern '" + e.patternText() + "'"
	}
	if wrong == "" {
		return nil
	}
	return []fault{{at, wrong}}
}

// patternText is the pattern as it is published.
func (e element) patternText() string {
	if e.longest > 0 {
		return "^(?=.{1,64}$)" + strings.TrimPrefix(e.pattern.String(), "^")
	}
	return e.pattern.String()
}

// wants says which words there are: 'a', 'b' or 'c'.
func (e element) wants() string {
	quoted := make([]string, len(e.words))
	for i, w := range e.words {
		quoted[i] = "'" + w + "'"
	}
	if last := len(quoted) - 1; last > 0 {
		return "Input should be " + strings.Join(quoted[:last], ", ") + " or " + quoted[last]
	}
	return "Input should be " + quoted[0]
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// empties are the places of what is there and empty, which nothing may be.
func empties(v fhir.Value, at string) []string {
	if raw := string(v.Raw()); raw == `""` || (v.IsArray() || v.IsObject()) && hasNone(v) {
		return []string{at}
	}
	var out []string
	i := 0
	for c := range v.Children() {
		here := join(at, c.Key())
		if v.IsArray() {
			here = fmt.Sprintf("%s[%d]", at, i)
			i++
		}
		out = append(out, empties(c, here)...)
	}
	return out
}

func hasNone(v fhir.Value) bool {
	for range v.Children() {
		return false
	}
	return true
}

// duplicates finds members that an object has more than once: which, and where, in the order in which they come.
func duplicates(data []byte) (names, paths []string) {
	d := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))
	var walk func(at string) bool
	walk = func(at string) bool {
		t, err := d.ReadToken()
		if err != nil || d.StackDepth() > fhir.MaxDepth {
			return false
		}
		switch t.Kind() {
		case '{':
			seen := map[string]bool{}
			for d.PeekKind() != '}' {
				name, err := d.ReadToken()
				if err != nil {
					return false
				}
				key := name.String()
				here := at + "." + key
				if seen[key] && !slices.Contains(paths, here) {
					names, paths = append(names, key), append(paths, here)
				}
				seen[key] = true
				if !walk(here) {
					return false
				}
			}
		case '[':
			for i := 0; d.PeekKind() != ']'; i++ {
				if !walk(fmt.Sprintf("%s[%d]", at, i)) {
					return false
				}
			}
		default:
			return true
		}
		_, err = d.ReadToken()
		return err == nil
	}
	walk("DocumentReference")
	return names, paths
}
