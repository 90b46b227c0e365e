package gpconnect

import (
	"bytes"
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tombolo/fhir"
)

// demands.txt is what FHIR R4 and UK Core demand of the types that come out: an element that must be there ("Type.path R4" or "Type.path UK
// Core", there meaning wherever what it is in is there), or the codes that one may have ("Type.path code a,b"; "system|code" where it is
// no plain code). It is drawn from the published definitions, and held to them, by TestDemandsAreThoseOfTheDefinitions.
//
//go:embed demands.txt
var demandsText string

// A demand is what is demanded of one element, and of those in it.
type demand struct {
	by    string   // R4 or UK Core, if the element must be there
	codes []string // those it may have; nil: any
	in    map[string]*demand
	musts []string // the names in it that must be there
}

var demands = sync.OnceValue(func() *demand {
	root := &demand{}
	for line := range strings.Lines(demandsText) {
		path, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path == "" || path[0] == '#' {
			continue
		}
		within, at, name := root, root, ""
		for name = range strings.SplitSeq(path, ".") {
			if at.in == nil {
				at.in = map[string]*demand{}
			}
			if at.in[name] == nil {
				at.in[name] = &demand{}
			}
			within, at = at, at.in[name]
		}
		if codes, ok := strings.CutPrefix(what, "code "); ok {
			at.codes = strings.Split(codes, ",")
		} else {
			at.by = what
			within.musts = append(within.musts, name)
		}
	}
	return root
})

// Any element may have extensions, which must say what they are. FHIR R4 extensibility.html#Extension
var (
	noDemand     = &demand{}
	anyExtension = &demand{musts: []string{"url"}, in: map[string]*demand{"url": {by: "R4"}}}
)

// lacks adds what a resource that came out is short of to the report: it was not made up to please a validator.
func (c *converter) lacks(v fhir.Value, within string) {
	typ := v.Text("resourceType")
	d := demands().in[typ]
	if d == nil {
		d = noDemand
	}
	c.path = append(c.path[:0], within+typ)
	c.broken(v, ofResources[typ])
	c.nameless(v)
	c.lacking(v, d)
	for r := range v.All("contained") {
		if id := r.Text("id"); !bytes.Contains(v.Raw(), []byte(`"reference":"#`+id+`"`)) {
			c.lackAt(within+typ, breaks+"dom-3: what is contained must be referred to")
		}
		c.lacks(r, within+typ+".contained:")
	}
}

func (c *converter) lacking(v fhir.Value, d *demand) {
	for m := range v.Children() {
		next := d.in[m.Key()]
		switch m.Key() {
		case "extension", "modifierExtension":
			next = anyExtension
		case "contained":
			continue // each has demands of its own
		}
		if m.IsString() {
			c.misshapen(m)
		}
		if next == nil && !m.IsObject() && !m.IsArray() {
			continue
		}
		if next == nil {
			next = noDemand
		}
		for item := range m.All("") {
			if next.codes != nil && !next.allows(item) {
				c.lack(m.Key(), "is none of the codes that R4 has for it")
			}
			if item.IsObject() {
				c.path = append(c.path, strings.TrimPrefix(m.Key(), "_"))
				if isAmount(m) && item.Member("value").IsString() {
					c.lack("value", noNumber)
				}
				c.broken(item, ofElement(m.Key()))
				if m.Key() == "extension" {
					c.unextended(item)
				}
				c.lacking(item, next)
				c.path = c.path[:len(c.path)-1]
			}
		}
	}
	for _, name := range d.musts {
		if !there(v, name) {
			c.lack(name, "is demanded by "+d.in[name].by+" and was not sent")
		}
	}
}

// misshapen names a text that is not what R4 has in its place.
func (c *converter) misshapen(m fhir.Value) {
	switch name := m.Key(); {
	case isTime(name) && !validTime(inside(m)):
		c.lack(name, noTime)
	case name == "code" && !validCode(inside(m)):
		c.lack(name, noCode)
	case name == "data" && !strings.HasSuffix(c.path[len(c.path)-1], "ampledData") && !validBase64(m.Raw()):
		c.lack(name, noBase64)
	}
}

// unextended names what UK Core demands of its extensions beyond a value.
func (c *converter) unextended(x fhir.Value) {
	name, uk := strings.CutPrefix(x.Text("url"), ukExt)
	switch {
	case !uk:
	case name == "NHSNumberVerificationStatus":
		for k := range x.All("valueCodeableConcept.coding") {
			n, system := k.Text("code"), k.Text("system")
			if strings.HasSuffix(system, "Wales") || (system == "" || strings.HasSuffix(system, "-NHSNumberVerificationStatusEngland")) && len(n) == 2 && n[0] == '0' && '1' <= n[1] && n[1] <= '8' {
				return
			}
		}
		c.lackAt(strings.Join(c.path, "."), "is none of the codes that UK Core has for it")
	case name == "RelatedProblemHeader":
		for part := range x.All("extension") {
			if part.Text("url") == "target" {
				return
			}
		}
		c.lackAt(strings.Join(c.path, "."), "lacks its target, which UK Core demands")
	}
}

const (
	noBase64 = "is no base64"
	noNumber = "is no number"
	noTime   = "is no date or time as R4 writes them: one with a time of day has a time zone"
	noCode   = "is no code as R4 writes them: there is white space in it"
)

// isTime reports whether an element is a date or a time by the name under which it stands. FHIR R4 has no other elements of these names but
// texts that are neither, of which none comes out of the conversion.
func isTime(name string) bool {
	switch name {
	case "start", "end", "issued", "date", "authoredOn", "created", "sent", "received", "recorded", "time", "dateAsserted", "lastOccurrence", "lastUpdated", "creation":
		return true
	}
	return strings.HasSuffix(name, "DateTime") || strings.HasSuffix(name, "Date") || name == "receivedTime"
}

// validTime reports whether s is a date, or a date and time, as R4 writes them. FHIR R4 datatypes.html#dateTime
func validTime(s []byte) bool {
	number := func(from, n, least, most int) bool {
		v := 0
		for _, b := range s[from : from+n] {
			if b < '0' || b > '9' {
				return false
			}
			v = v*10 + int(b-'0')
		}
		return least <= v && v <= most
	}
	n := len(s)
	switch {
	case n < 4 || !number(0, 4, 0, 9999):
		return false
	case n == 4:
		return true
	case n < 7 || s[4] != '-' || !number(5, 2, 1, 12):
		return false
	case n == 7:
		return true
	case n < 10 || s[7] != '-' || !number(8, 2, 1, 31):
		return false
	case n == 10:
		return true
	case n < 20 || s[10] != 'T' || s[13] != ':' || s[16] != ':' || !number(11, 2, 0, 24) || !number(14, 2, 0, 59) || !number(17, 2, 0, 60):
		return false
	}
	zone := 19
	if s[zone] == '.' {
		for zone++; zone < n && '0' <= s[zone] && s[zone] <= '9'; zone++ {
		}
	}
	if s[min(zone, n-1)] == 'Z' {
		return zone == n-1
	}
	return zone+6 == n && (s[zone] == '+' || s[zone] == '-') && s[zone+3] == ':' && number(zone+1, 2, 0, 14) && number(zone+4, 2, 0, 59)
}

// inside is what a JSON text says, between its quotes and as it is written.
func inside(m fhir.Value) []byte {
	raw := m.Raw()
	if len(raw) < 2 {
		return nil
	}
	return raw[1 : len(raw)-1]
}

// validBase64 reports whether a JSON text can be base64. FHIR R4 datatypes.html#base64Binary
func validBase64(raw []byte) bool {
	n := 0
	for _, b := range raw[1 : len(raw)-1] {
		switch {
		case 'A' <= b && b <= 'Z', 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '+', b == '/', b == '=':
			n++
		case b == ' ':
		default:
			return bytes.IndexByte(raw, '\\') >= 0 // written with escapes: not worth a copy of what may be a large file
		}
	}
	return n%4 == 0
}

// validCode reports whether s is without white space at its ends, or twice in a row. FHIR R4 datatypes.html#code
func validCode(s []byte) bool {
	for i := range len(s) {
		if space := s[i] <= ' '; space && (s[i] != ' ' || i == 0 || i == len(s)-1 || s[i-1] == ' ') {
			return false
		}
	}
	return len(s) > 0
}

// nameless names identifiers without their value, where UK Core demands it of those of a system that it names.
func (c *converter) nameless(v fhir.Value) {
	for id := range v.All("identifier") {
		switch id.Text("system") {
		case fhir.SystemNHSNumber, fhir.SystemODS, "https://fhir.nhs.uk/Id/ods-site-code", fhir.SystemSDSUser, fhir.SystemSDSRole:
			if id.IsObject() && !there(id, "value") {
				c.lackAt(strings.Join(c.path, ".")+".identifier.value", "is demanded by UK Core and was not sent")
			}
		}
	}
}

// there reports whether an element is there in any of its types, or is said to be absent by an extension.
func there(v fhir.Value, name string) bool {
	if v.Member(name).Exists() || v.Member("_"+name).Exists() {
		return true
	}
	stem, choice := strings.CutSuffix(name, "[x]")
	if !choice {
		return false
	}
	for m := range v.Children() {
		if strings.HasPrefix(strings.TrimPrefix(m.Key(), "_"), stem) {
			return true
		}
	}
	return false
}

func (d *demand) allows(v fhir.Value) bool {
	switch {
	case v.IsString():
		return slices.Contains(d.codes, v.Str())
	case v.Member("coding").Exists():
		for k := range v.All("coding") {
			if slices.Contains(d.codes, k.Text("system")+"|"+k.Text("code")) {
				return true
			}
		}
		return false
	}
	return slices.Contains(d.codes, v.Text("system")+"|"+v.Text("code"))
}

// most kinds of lack that a report lists: far more than the kinds there are in the records that are known.
const mostLacks = 300

func (c *converter) lack(name, what string) { c.lackAt(strings.Join(c.path, ".")+"."+name, what) }

func (c *converter) lackAt(at, what string) {
	key := at + " " + what
	if c.short[key]++; len(c.short) > mostLacks {
		delete(c.short, key)
	}
}

// shortfalls is the report of lacks, in the order of their places.
func (c *converter) shortfalls() []*fhir.Issue {
	var out []*fhir.Issue
	for key, n := range c.short {
		at, what, _ := strings.Cut(key, " ")
		t := fhir.Required
		switch {
		case strings.HasPrefix(what, "is none"):
			t = fhir.CodeInvalid
		case strings.HasPrefix(what, noNumber), strings.HasPrefix(what, noTime), strings.HasPrefix(what, noBase64), strings.HasPrefix(what, noCode):
			t = fhir.ValueError
		case strings.HasPrefix(what, breaks), strings.HasPrefix(what, breaksUK):
			t = fhir.Invariant
		}
		if n > 1 {
			what += " (" + strconv.Itoa(n) + " times)"
		}
		out = append(out, &fhir.Issue{Type: t, Severity: fhir.Information, Expression: at, Text: at + " " + what})
	}
	slices.SortFunc(out, func(a, b *fhir.Issue) int { return strings.Compare(a.Text, b.Text) })
	return out
}
