package fhir

import (
	"encoding/json"
	"strings"
)

// M is the fields of a resource or element under construction. Values may be anything that marshals to
// the right JSON: M, []M, strings, the datatypes below, json.RawMessage.
type M = map[string]any

// The datatypes below are views: they carry what this program reasons about, not every element.
// FHIR R4 datatypes.html

// A Coding is one code of one system.
type Coding struct {
	System       string `json:"system,omitempty"`
	Version      string `json:"version,omitempty"`
	Code         string `json:"code,omitempty"`
	Display      string `json:"display,omitempty"`
	UserSelected bool   `json:"userSelected,omitempty"`
}

// A CodeableConcept is one meaning, coded any number of times and in words.
type CodeableConcept struct {
	Coding []Coding `json:"coding,omitempty"`
	Text   string   `json:"text,omitempty"`
}

// Code makes a CodeableConcept of one coding.
func Code(system, code, display string) CodeableConcept {
	return CodeableConcept{Coding: []Coding{{System: system, Code: code, Display: display}}}
}

// Words is the best text for a person to read: text, else the chosen or first display, else a code.
func (c CodeableConcept) Words() string {
	if c.Text != "" {
		return c.Text
	}
	for _, k := range c.Coding {
		if k.UserSelected && k.Display != "" {
			return k.Display
		}
	}
	for _, k := range c.Coding {
		if k.Display != "" {
			return k.Display
		}
	}
	for _, k := range c.Coding {
		if k.Code != "" {
			return k.Code
		}
	}
	return ""
}

// Has reports whether the concept is coded so.
func (c CodeableConcept) Has(system, code string) bool {
	for _, k := range c.Coding {
		if k.System == system && k.Code == code {
			return true
		}
	}
	return false
}

// IsZero reports whether nothing is said.
func (c CodeableConcept) IsZero() bool { return len(c.Coding) == 0 && c.Text == "" }

// An Identifier is a name for a thing within a system of such names.
type Identifier struct {
	Use       string           `json:"use,omitempty"`
	Type      *CodeableConcept `json:"type,omitempty"`
	System    string           `json:"system,omitempty"`
	Value     string           `json:"value,omitempty"`
	Extension json.RawMessage  `json:"extension,omitempty"`
	Period    *Period          `json:"period,omitempty"`
}

// A Period is a span of time, open where a side is empty.
type Period struct {
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
}

// A Reference points at a resource, or names it by identifier or in words.
type Reference struct {
	Reference  string      `json:"reference,omitempty"`
	Type       string      `json:"type,omitempty"`
	Identifier *Identifier `json:"identifier,omitempty"`
	Display    string      `json:"display,omitempty"`
}

// A HumanName of a person.
type HumanName struct {
	Use    string   `json:"use,omitempty"`
	Text   string   `json:"text,omitempty"`
	Family string   `json:"family,omitempty"`
	Given  []string `json:"given,omitempty"`
	Prefix []string `json:"prefix,omitempty"`
	Suffix []string `json:"suffix,omitempty"`
	Period *Period  `json:"period,omitempty"`
}

// Formal is the banner form of a name, "TAYLOR, Margaret Anne (Mrs)".
func (n HumanName) Formal() string {
	if n.Family == "" && len(n.Given) == 0 {
		return n.Text
	}
	s := strings.ToUpper(n.Family)
	if len(n.Given) > 0 {
		s += ", " + strings.Join(n.Given, " ")
	}
	if len(n.Prefix) > 0 {
		s += " (" + strings.Join(n.Prefix, " ") + ")"
	}
	return strings.TrimPrefix(s, ", ")
}

// An Address of a person or place.
type Address struct {
	Use        string   `json:"use,omitempty"`
	Type       string   `json:"type,omitempty"`
	Text       string   `json:"text,omitempty"`
	Line       []string `json:"line,omitempty"`
	City       string   `json:"city,omitempty"`
	District   string   `json:"district,omitempty"`
	PostalCode string   `json:"postalCode,omitempty"`
	Country    string   `json:"country,omitempty"`
	Period     *Period  `json:"period,omitempty"`
}

// A ContactPoint is a telephone number, e-mail address or the like.
type ContactPoint struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value,omitempty"`
	Use    string `json:"use,omitempty"`
}

// A Quantity is a measured amount; the value is kept as the text that arrived.
type Quantity struct {
	Value      json.Number `json:"value,omitempty"`
	Comparator string      `json:"comparator,omitempty"`
	Unit       string      `json:"unit,omitempty"`
	System     string      `json:"system,omitempty"`
	Code       string      `json:"code,omitempty"`
}

// An Attachment is content held inline or elsewhere.
type Attachment struct {
	ContentType string      `json:"contentType,omitempty"`
	Language    string      `json:"language,omitempty"`
	Data        string      `json:"data,omitempty"` // base64
	URL         string      `json:"url,omitempty"`
	Size        json.Number `json:"size,omitempty"`
	Hash        string      `json:"hash,omitempty"` // base64 of SHA-1
	Title       string      `json:"title,omitempty"`
	Creation    string      `json:"creation,omitempty"`
}

// An Annotation is a note.
type Annotation struct {
	Text            string     `json:"text"`
	Time            string     `json:"time,omitempty"`
	AuthorString    string     `json:"authorString,omitempty"`
	AuthorReference *Reference `json:"authorReference,omitempty"`
}
