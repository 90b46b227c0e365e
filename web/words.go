package web

import (
	"strings"

	"tombolo/fhir"
)

// saying is any FHIR datatype in words: a concept's text, a reference's display, a quantity with its unit, a name, a period.
// References into the resource itself are followed. "" where there is nothing to say.
func saying(r thing, v fhir.Value) string { return sayingAt(r, v, 0) }

func sayingAt(r thing, v fhir.Value, depth int) string {
	switch {
	case !v.Exists() || depth > 4: // a contained resource may well refer to itself
		return ""
	case v.IsArray():
		var parts []string
		for c := range v.Children() {
			if s := sayingAt(r, c, depth); s != "" {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, ", ")
	case !v.IsObject():
		s := v.Str()
		if looksLikeDate(s) {
			return sayDate(s)
		}
		return s
	}
	switch {
	case v.Member("coding").Exists():
		var c fhir.CodeableConcept
		_ = v.Decode(&c)
		return c.Words()
	case v.Member("concept").Exists():
		return sayingAt(r, v.Member("concept"), depth+1)
	case v.Member("text").IsString():
		return v.Text("text")
	case v.Member("display").IsString():
		return v.Text("display")
	case v.Member("reference").IsString():
		if id, ok := strings.CutPrefix(v.Text("reference"), "#"); ok {
			return contained(r, id, depth+1)
		}
		return referred(r, fhir.Ref(v.Text("reference")), depth+1)
	case v.Member("value").Exists():
		return sayQuantity(v)
	case v.Member("low").Exists() || v.Member("high").Exists():
		return sayRange(v.Member("low"), v.Member("high"))
	case v.Member("numerator").Exists():
		return sayQuantity(v.Member("numerator")) + " per " + sayQuantity(v.Member("denominator"))
	case v.Member("start").Exists() || v.Member("end").Exists():
		return sayPeriod(v.Text("start"), v.Text("end"))
	case v.Member("family").Exists() || v.Member("given").Exists():
		var n fhir.HumanName
		_ = v.Decode(&n)
		return strings.TrimSpace(strings.Join(append(append(n.Prefix, n.Given...), n.Family), " "))
	case v.Member("line").Exists() || v.Member("postalCode").Exists():
		var a fhir.Address
		_ = v.Decode(&a)
		return sayAddress(&a)
	case v.Member("code").IsString():
		return v.Text("code")
	}
	return ""
}

// contained names a resource that stands inside another.
func contained(r thing, id string, depth int) string {
	for c := range r.Value().All("contained") {
		if c.Text("id") != id {
			continue
		}
		return nameOf(r, c, depth)
	}
	return ""
}

// referred names a resource that came along with the record.
func referred(r thing, ref fhir.Ref, depth int) string {
	if to := r.refs[ref]; to != nil {
		return nameOf(r, to.Value(), depth)
	}
	return ""
}

// nameOf is what people call the thing that a reference leads to.
func nameOf(r thing, c fhir.Value, depth int) string {
	for _, path := range [...]string{"code", "name", "practitioner", "vaccineCode", "deviceName", "type", "description"} {
		if s := sayingAt(r, c.Get(path), depth); s != "" {
			return s
		}
	}
	return ""
}

// looksLikeDate tells dates from other strings by their form alone: 2026-03-31 and longer.
func looksLikeDate(s string) bool {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return false
	}
	_, err := fhir.ParseDate(s)
	return err == nil
}

// units as people write them, for the UCUM codes that they would not recognise.
var units = map[string]string{
	"mm[Hg]": "mmHg", "{score}": "", "1": "", "Cel": "°C", "10*9/L": "×10⁹/L", "10*12/L": "×10¹²/L", "umol/L": "µmol/L", "ug": "µg", "[degF]": "°F",
	"{beats}/min": "/min", "/min": "/min", "{breaths}/min": "/min",
}

func sayUnit(v fhir.Value) string {
	u := v.Text("unit")
	if u == "" {
		u = v.Text("code")
	}
	if w, ok := units[u]; ok {
		return w
	}
	return u
}

func sayQuantity(v fhir.Value) string {
	n := v.Text("value")
	if n == "" {
		return ""
	}
	if c := v.Text("comparator"); c != "" {
		n = c + " " + n
	}
	switch u := sayUnit(v); u {
	case "":
		return n
	case "%":
		return n + "%"
	default:
		return n + " " + u
	}
}

// sayRange is a reference range without its unit, which stands beside the value.
func sayRange(low, high fhir.Value) string {
	l, h := low.Text("value"), high.Text("value")
	switch {
	case l != "" && h != "":
		return l + " to " + h
	case h != "":
		return "up to " + h
	case l != "":
		return l + " or more"
	}
	return ""
}

func sayAddress(a *fhir.Address) string {
	if a == nil {
		return ""
	}
	var parts []string
	for _, p := range append(append([]string{}, a.Line...), a.City, a.District, a.PostalCode) {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return a.Text
	}
	return strings.Join(parts, ", ")
}

// sayCode makes words of a code such as "entered-in-error".
func sayCode(code string) string {
	s := strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(code, "-", " "), "_", " "))
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// sayList joins names as a sentence does: "a", "a and b", "a, b and c".
func sayList(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// The code systems by the names people know them by.
var systemNames = map[string]string{
	fhir.SystemSNOMED: "SNOMED CT", fhir.SystemLOINC: "LOINC", fhir.SystemICD10: "ICD-10", fhir.SystemOPCS4: "OPCS-4", fhir.SystemUCUM: "UCUM",
	"https://dmd.nhs.uk": "dm+d", "http://read.info/readv2": "Read v2", "http://read.info/ctv3": "CTV3",
	"http://hl7.org/fhir/sid/icd-10-uk": "ICD-10",
}

func sayCoding(c fhir.Coding) string {
	name, ok := systemNames[c.System]
	if !ok {
		if name = "local code"; strings.HasPrefix(c.System, "http://hl7.org/") || strings.HasPrefix(c.System, "http://terminology.hl7.org/") {
			name = "FHIR"
		}
	}
	s := name + " " + c.Code
	if c.Display != "" {
		s += " (" + c.Display + ")"
	}
	return s
}
