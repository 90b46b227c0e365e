package hl7v2

import (
	"maps"
	"slices"
	"strings"
	"time"

	"tombolo/fhir"
)

// Datatypes, written: what datatypes.go reads, backwards. The tables are the maps' own and the feed's, so that a receiver is told in the words that it
// uses itself.

// codeFor is the code that a table gives a meaning; "" if it has none.
func (o *Options) codeFor(name, meaning string) string {
	t := o.Mapping.tables[name]
	switch {
	case t == nil || meaning == "":
		return ""
	case t.writes[meaning] != "":
		return t.writes[meaning]
	case t.like != nil && t.like.MatchString(meaning):
		return meaning
	}
	return ""
}

// nameOf is what messages call a system of identifiers or codes.
func (o *Options) nameOf(system string) string {
	if system == "" {
		return ""
	}
	for _, known := range []map[string]string{o.Systems, o.Mapping.systems, knownSystems} {
		best := ""
		for _, n := range slices.Sorted(maps.Keys(known)) {
			if known[n] == system && (best == "" || len(n) < len(best)) {
				best = n
			}
		}
		if best != "" {
			return best
		}
	}
	if table, ok := strings.CutPrefix(system, v2Table); ok {
		return "HL7" + table
	}
	for _, prefix := range []string{"urn:id:", "urn:oid:"} {
		if name, ok := strings.CutPrefix(system, prefix); ok {
			return name
		}
	}
	return system
}

// authorityName is how a system of numbers is named in messages, and what kind of number it is. HL7 table 0203
func (o *Options) authorityName(system string) (name, kind string) {
	switch system {
	case "":
		return "", ""
	case fhir.SystemNHSNumber:
		return "NHS", "NH"
	case fhir.SystemCHI:
		return "CHI", "NI"
	case fhir.SystemHCN:
		return "HCN", "NI"
	}
	return o.nameOf(system), "PI"
}

// cx is an identifier. HL7 v2.5.1 §2.A.14
func (o *Options) cx(id fhir.Identifier) Part {
	name, kind := o.authorityName(id.System)
	if id.Type != nil && len(id.Type.Coding) > 0 && id.Type.Coding[0].Code != "" {
		kind = id.Type.Coding[0].Code
	}
	return Comp(id.Value, "", "", name, kind)
}

// ei is an order's or document's number. HL7 v2.5.1 §2.A.28
func (o *Options) ei(id fhir.Identifier) Part { return Comp(id.Value, o.nameOf(id.System)) }

// ce is a coded value: two codings at the most, and the words where they say more. HL7 v2.5.1 §2.A.3, §2.A.13
func (o *Options) ce(c fhir.CodeableConcept) Part {
	if len(c.Coding) == 0 {
		return Comp("", c.Text)
	}
	var out []any
	for _, k := range c.Coding[:min(len(c.Coding), 2)] {
		out = append(out, k.Code, k.Display, o.nameOf(k.System))
	}
	if c.Text != "" && c.Text != c.Coding[0].Display {
		for len(out) < 8 {
			out = append(out, "")
		}
		out = append(out, c.Text)
	}
	return Comp(out...)
}

// xpn is a name. HL7 v2.5.1 §2.A.88
func (o *Options) xpn(n fhir.HumanName) Part {
	first, others := "", ""
	if len(n.Given) > 0 {
		first, others = n.Given[0], strings.Join(n.Given[1:], " ")
	}
	family := n.Family
	if family == "" && first == "" {
		family = n.Text
	}
	use := o.codeFor("name-use", n.Use)
	if use == "" {
		use = "L"
	}
	return Comp(family, first, others, strings.Join(n.Suffix, " "), strings.Join(n.Prefix, " "), "", use)
}

// xad is an address. HL7 v2.5.1 §2.A.83
func (o *Options) xad(a fhir.Address) Part {
	line := append(slices.Clone(a.Line), "", "")
	return Comp(line[0], strings.Trim(strings.Join(line[1:], ", "), ", "), a.City, a.District, a.PostalCode, a.Country, o.codeFor("address-use", a.Use))
}

// xtn is a telephone number or e-mail address. HL7 v2.5.1 §2.A.89
func (o *Options) xtn(t fhir.ContactPoint) Part {
	if t.System == "email" {
		return Comp("", "NET", "Internet", t.Value)
	}
	use, kind := "PRN", "PH"
	switch {
	case t.Use == "mobile":
		kind = "CP"
	case t.Use == "work":
		use = "WPN"
	}
	if k := o.codeFor("telecom-kind", t.System); k != "" && t.System != "phone" {
		kind = k
	}
	return Comp(t.Value, use, kind)
}

// xcn is somebody who gives care, known by number and name. A name that came as words stays words. HL7 v2.5.1 §2.A.86
func (o *Options) xcn(r fhir.Reference) Part {
	code, authority := "", ""
	if r.Identifier != nil {
		code, authority = r.Identifier.Value, o.nameOf(r.Identifier.System)
	}
	return Comp(code, r.Display, "", "", "", "", "", "", authority)
}

// xon is an organisation. HL7 v2.5.1 §2.A.87
func (o *Options) xon(r fhir.Reference) Part {
	if r.Identifier == nil {
		return Comp(r.Display)
	}
	return Comp(r.Display, "", r.Identifier.Value)
}

// ts is a FHIR date, dateTime or instant, at the precision that it has. HL7 v2.5.1 §2.A.77
func ts(s string) string {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		if t.Nanosecond() > 0 {
			return t.Format("20060102150405.000-0700")
		}
		return t.Format("20060102150405-0700")
	}
	return strings.ReplaceAll(s, "-", "")
}

// lines are a text's lines, a repetition each.
func lines(s string) Part {
	var out []any
	for l := range strings.SplitSeq(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		out = append(out, l)
	}
	return Rep(out...)
}

// list decodes what stands at a path, leaving out what is misshapen.
func allOf[T any](r *fhir.Resource, path string) []T { return allIn[T](r.Value(), path) }

func allIn[T any](v fhir.Value, path string) []T {
	var out []T
	for e := range v.All(path) {
		var one T
		if e.Decode(&one) == nil {
			out = append(out, one)
		}
	}
	return out
}

// each writes repetitions.
func each[T any](all []T, part func(T) Part) Part {
	var out []any
	for _, a := range all {
		out = append(out, part(a))
	}
	return Rep(out...)
}
