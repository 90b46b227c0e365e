// Package r4 is what FHIR R4 says of its resources and data types: their elements in order, cardinalities, types, which are in the summary, and the
// codes that required bindings allow. It is a table made from the published definitions; nothing is parsed but that, once.
//
// It knows structure only. What a profile adds, and whether a code of an outside terminology exists, is not known here.
package r4

import (
	_ "embed"
	"fmt"
	"iter"
	"maps"
	"strings"
	"sync"
)

//go:embed table.txt
var tableText string

// A Type is a resource or data type, or the content of an element that has elements of its own.
type Type struct {
	Name     string // "Patient"; "Patient.contact" of an element's content
	Resource bool
	Elements []*Element // in the order of XML

	byName map[string]*Element // "value" for value[x]
}

// An Element of a type.
type Element struct {
	Name    string // without [x]
	Choice  bool
	Min     int
	Many    bool
	Types   []string // codes of the data types; nil if the content is Own; "*": any
	Own     *Type
	Summary bool
	Codes   map[string]bool // the only codes allowed; nil: any
	Targets []string        // the types that a Reference may point at; nil: any

	path string // of the element whose content it has; "" for its own
}

var table = sync.OnceValue(func() map[string]*Type {
	t, err := read(tableText)
	if err != nil {
		panic("fhir/r4: table.txt: " + err.Error()) // a mistake in this program's own data
	}
	return t
})

// TypeOf finds a resource or data type by its name; nil if R4 has none.
func TypeOf(name string) *Type { return table()[name] }

// Types yields all resource and data types, in no order.
func Types() iter.Seq[*Type] { return maps.Values(table()) }

// Element is the element of this name, without [x] if it is a choice; nil if there is none.
func (t *Type) Element(name string) *Element { return t.byName[name] }

// Member finds the element that a JSON member is, and the data type that its name says if it is a choice: "valueQuantity" is value, Quantity.
func (t *Type) Member(name string) (e *Element, typ string) {
	if e := t.byName[name]; e != nil && !e.Choice {
		if len(e.Types) > 0 {
			typ = e.Types[0]
		}
		return e, typ
	}
	for i := len(name) - 1; i > 0; i-- {
		if name[i] < 'A' || name[i] > 'Z' {
			continue
		}
		e := t.byName[name[:i]]
		if e == nil || !e.Choice {
			continue
		}
		rest := name[i:]
		for _, typ := range e.types() {
			if strings.EqualFold(typ[:1], rest[:1]) && typ[1:] == rest[1:] {
				return e, typ
			}
		}
	}
	return nil, ""
}

// anyType are the types that an element of any type may have. FHIR R4 datatypes.html#open
var anyType = strings.Fields(`base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt string time unsignedInt uri url uuid
Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count Distance Duration HumanName Identifier Money Period Quantity Range Ratio Reference
SampledData Signature Timing ContactDetail Contributor DataRequirement Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage Meta`)

func (e *Element) types() []string {
	if len(e.Types) == 1 && e.Types[0] == "*" {
		return anyType
	}
	return e.Types
}

func read(text string) (map[string]*Type, error) {
	types, lists := map[string]*Type{}, map[string]map[string]bool{}
	var own map[string]*Type // "" and paths of the type being read
	var bound []struct {
		e    *Element
		list string
	}
	type link struct {
		e   *Element
		own map[string]*Type
	}
	var links []link
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || line[0] == '#':
		case words[0] == "V":
			lists[words[1]] = map[string]bool{}
			for _, c := range words[2:] {
				lists[words[1]][c] = true
			}
		case words[0] == "R" || words[0] == "D":
			t := &Type{Name: words[1], Resource: words[0] == "R", byName: map[string]*Element{}}
			types[t.Name], own = t, map[string]*Type{"": t}
		case len(words) < 3 || own == nil:
			return nil, fmt.Errorf("line %d: cannot be read", n+1)
		default:
			e, list, err := readElement(words, own)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
			if list != "" {
				bound = append(bound, struct {
					e    *Element
					list string
				}{e, list})
			}
			if e.path != "" {
				links = append(links, link{e, own})
			}
		}
	}
	for _, b := range bound {
		if b.e.Codes = lists[b.list]; b.e.Codes == nil {
			return nil, fmt.Errorf("there is no list %s", b.list)
		}
	}
	for _, l := range links {
		if l.e.Own = l.own[l.e.path]; l.e.Own == nil {
			return nil, fmt.Errorf("%s has the content of %s, which there is not", l.e.Name, l.e.path)
		}
	}
	return types, nil
}

// readElement reads "contact.gender 0..1 code S =administrative-gender".
func readElement(words []string, own map[string]*Type) (*Element, string, error) {
	parent, name := "", words[0]
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		parent, name = name[:i], name[i+1:]
	}
	in := own[parent]
	if in == nil {
		return nil, "", fmt.Errorf("%s comes before %s", words[0], parent)
	}
	e := &Element{Many: strings.HasSuffix(words[1], "*")}
	e.Name, e.Choice = strings.CutSuffix(name, "[x]")
	if words[1][0] != '0' {
		e.Min = 1
	}
	switch what := words[2]; {
	case what == ".":
		e.Own = &Type{Name: in.Name + "." + name, byName: map[string]*Element{}}
		own[words[0]] = e.Own
	case what[0] == '#':
		e.path = what[1:]
	default:
		e.Types = strings.Split(what, "|")
	}
	list := ""
	for _, w := range words[3:] {
		if l, ok := strings.CutPrefix(w, "="); ok {
			list = l
		} else if t, ok := strings.CutPrefix(w, ">"); ok {
			e.Targets = strings.Split(t, ",")
		} else {
			e.Summary = strings.Contains(w, "S")
		}
	}
	in.Elements = append(in.Elements, e)
	in.byName[e.Name] = e
	return e, list, nil
}
