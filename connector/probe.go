package connector

import (
	"context"
	"slices"
	"strings"

	"tombolo/fhir"
)

// A Describer is a source that says what it can do, of nobody in particular. The error says in plain words why it does not.
type Describer interface {
	Describe(ctx context.Context, by Requester) (Description, error)
}

// A Description is what a source says of itself: a claim, not what it does.
type Description struct {
	Software   string              // as its makers call it, with its version
	Speaks     string              // the standard and its version: "FHIR 4.0.1"
	Types      map[string][]string // resource types that it says can be searched, each with its parameters
	Operations []string
}

// mostDescribed bounds how much of what a source says of itself is kept, for each list and for each word.
const mostDescribed = 200

// ReadCapability reads a CapabilityStatement, of STU3 or R4. FHIR R4 capabilitystatement.html
func ReadCapability(v fhir.Value) Description {
	d := Description{Types: map[string][]string{}}
	d.Software = strings.TrimSpace(word(v.Text("software.name")) + " " + word(v.Text("software.version")))
	if version := word(v.Text("fhirVersion")); version != "" {
		d.Speaks = "FHIR " + version
	}
	operation := func(o fhir.Value) {
		if name := word(o.Text("name")); name != "" && len(d.Operations) < mostDescribed && !slices.Contains(d.Operations, name) {
			d.Operations = append(d.Operations, name)
		}
	}
	for o := range v.All("rest.operation") {
		operation(o)
	}
	for r := range v.All("rest.resource") {
		for o := range r.All("operation") {
			operation(o)
		}
		typ, searched := r.Text("type"), false
		for i := range r.All("interaction.code") {
			searched = searched || i.Str() == "search-type"
		}
		if !searched || !fhir.IsType(typ) || len(d.Types) == mostDescribed {
			continue
		}
		params := []string{}
		for p := range r.All("searchParam.name") {
			if name := word(p.Str()); name != "" && len(params) < mostDescribed {
				params = append(params, name)
			}
		}
		slices.Sort(params)
		d.Types[typ] = slices.Compact(params)
	}
	slices.Sort(d.Operations)
	return d
}

// word keeps what a source says of itself to a short line.
func word(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\ufffd' {
			return -1
		}
		return c
	}, s)
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80])
	}
	return strings.TrimSpace(s)
}
