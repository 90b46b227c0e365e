package hl7v2

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// text makes a value fit to be a FHIR string: no control characters but tab and line ends, no blanks around it.
// FHIR R4 datatypes.html#string
func text(s string) string {
	s = strings.TrimSpace(s)
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0 {
		return s
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r == 0x7f {
			return -1
		}
		return r
	}, s))
}

// str is the text of a value's component (0: the value's own first leaf), fit to be a FHIR string.
func str(v Value, comp int) string {
	if comp > 0 {
		v = v.Comp(comp)
	}
	return text(v.Text())
}

// words is free text: unescaped separators in it are taken as the sender's slip, not as structure.
func words(v Value) string { return text(v.Words()) }

var idAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return idAlphabet.EncodeToString(h.Sum(nil)[:10])
}

// id makes a logical id of a source's own names for a thing. The same names give the same id always; names that FHIR cannot have in an
// id, or that would be ambiguous when joined, are told apart by a hash. FHIR R4 datatypes.html#id
func id(parts ...string) string {
	joined := strings.Join(parts, ".")
	plain := fhir.ValidID(joined)
	if len(parts) > 1 {
		for _, p := range parts {
			plain = plain && p != "" && !strings.Contains(p, ".")
		}
	}
	if plain {
		return joined
	}
	safe := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, joined)
	return safe[:min(len(safe), 46)] + "." + hash(parts...)
}

// dateTime reads a TS or DTM at whatever precision it has, in the feed's zone unless it gives an offset. What is no date is left out and told of.
// HL7 v2.4 §2.9.47
func (x *mapper) dateTime(v Value, place string) string {
	t, precision, ok := x.parseTime(v, place)
	if !ok {
		return ""
	}
	return formatTime(t, precision)
}

// date is dateTime to the day at most.
func (x *mapper) date(v Value, place string) string {
	t, precision, ok := x.parseTime(v, place)
	if !ok {
		return ""
	}
	return formatTime(t, min(precision, 8))
}

func formatTime(t time.Time, precision int) string {
	switch {
	case precision <= 4:
		return t.Format("2006")
	case precision <= 6:
		return t.Format("2006-01")
	case precision <= 8:
		return t.Format("2006-01-02")
	case t.Nanosecond() > 0:
		return t.Format("2006-01-02T15:04:05.000-07:00")
	}
	return t.Format("2006-01-02T15:04:05-07:00") // FHIR wants seconds where there is a time: FHIR R4 datatypes.html#dateTime
}

func (x *mapper) parseTime(v Value, place string) (t time.Time, precision int, ok bool) {
	s := str(v, 1)
	if s == "" {
		return t, 0, false
	}
	t, precision, ok = parseTS(s, x.o.Location)
	if !ok {
		x.note(fhir.ValueError, place, "not an HL7 date: it should read YYYYMMDD or YYYYMMDDHHMMSS, with +ZZZZ where the zone is not the feed's")
	}
	return t, precision, ok
}

func parseTS(s string, zone *time.Location) (time.Time, int, bool) {
	none := func() (time.Time, int, bool) { return time.Time{}, 0, false }
	if i := strings.IndexAny(s, "+-"); i > 0 {
		off := s[i+1:]
		n, err := strconv.ParseUint(off, 10, 16)
		if err != nil || len(off) != 4 || n/100 > 14 || n%100 > 59 {
			return none()
		}
		secs := int(n/100)*3600 + int(n%100)*60
		if s[i] == '-' {
			secs = -secs
		}
		zone, s = time.FixedZone("", secs), s[:i]
	}
	s, fraction, _ := strings.Cut(s, ".")
	if len(s) < 4 || len(s) > 14 || len(s)%2 != 0 || len(fraction) > 9 {
		return none()
	}
	nano := 0
	if fraction != "" {
		f, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
		if err != nil || len(s) < 14 {
			return none()
		}
		nano = int(f)
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return none()
		}
	}
	at := func(from, missing int) int {
		if len(s) < from+2 {
			return missing
		}
		return int(s[from]-'0')*10 + int(s[from+1]-'0')
	}
	year := at(0, 0)*100 + at(2, 0)
	month, day, hour, minute, sec := at(4, 1), at(6, 1), at(8, 0), at(10, 0), at(12, 0)
	if year < 1800 || year > 2200 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || sec > 59 {
		return none()
	}
	t := time.Date(year, time.Month(month), day, hour, minute, sec, nano, zone)
	if d := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC); d.Day() != day {
		return none()
	}
	return t, len(s), true
}

// systemOf is the URI of an assigning authority or code table: what the feed's settings say, else what it is known as everywhere, else a
// name that at least tells two apart.
func (x *mapper) systemOf(name string) string {
	if name == "" {
		return ""
	}
	if uri, ok := x.o.Systems[name]; ok {
		return uri
	}
	if uri, ok := x.mp.systems[strings.ToUpper(name)]; ok {
		return uri
	}
	if uri, ok := knownSystems[strings.ToUpper(name)]; ok {
		return uri
	}
	if table, ok := strings.CutPrefix(name, "HL7"); ok && len(table) == 4 && strings.Trim(table, "0123456789") == "" {
		return v2Table + table
	}
	if strings.Contains(name, "://") || strings.HasPrefix(name, "urn:") {
		return fhir.CanonicalSystem(strings.ReplaceAll(name, " ", "%20"))
	}
	if strings.Trim(name, "0123456789.") == "" && strings.Contains(name, ".") {
		return fhir.CanonicalSystem("urn:oid:" + name)
	}
	return "urn:id:" + strings.ReplaceAll(name, " ", "-") // as the HL7 v2-to-FHIR guide names systems that have no URI
}

// authority reads an HD: a name, or a universal id where that says more.
func authority(hd Value) string {
	if ns := text(hd.Sub(1).Text()); ns != "" {
		return ns
	}
	return text(hd.Sub(2).Text())
}

// concept reads a CE or CWE: a code, the same in another table, and words.
func (x *mapper) concept(v Value) fhir.CodeableConcept {
	var c fhir.CodeableConcept
	for _, from := range [...]int{1, 4} {
		code, display, table := str(v, from), str(v, from+1), str(v, from+2)
		if code == "" && (display == "" || from == 4) {
			continue
		}
		if code == "" {
			c.Text = display
			continue
		}
		c.Coding = append(c.Coding, fhir.Coding{System: x.codeSystem(table, code), Code: code, Display: display})
	}
	if t := str(v, 9); t != "" {
		c.Text = t
	}
	if c.Text == "" && len(c.Coding) > 0 {
		c.Text = c.Coding[0].Display
		if c.Text == "" && c.Coding[0].System == "" { // words in the place of the code, as is common
			c.Text = c.Coding[0].Code
		}
	}
	return c
}

// codeSystem is the system of a code. Many send their own codes as LOINC's or SNOMED's, because the field had to say something: what has not the form
// of one is of the sender's own table of that name, and nobody takes "GLU" for a code that all the world knows.
func (x *mapper) codeSystem(table, code string) string {
	system := x.systemOf(table)
	if system == fhir.SystemLOINC && !loincCode.MatchString(code) || system == fhir.SystemSNOMED && !snomedCode.MatchString(code) {
		return "urn:id:" + id(table)
	}
	return system
}

// LOINC: digits and a check digit, in parts and answers with letters before; SNOMED CT: an SCTID, or an expression of them.
var (
	loincCode  = regexp.MustCompile(`^(L[APLG]+)?[0-9]+-[0-9]$`)
	snomedCode = regexp.MustCompile(`^[0-9]{6,18}([^0-9A-Za-z].*)?$`)
)

// coded is a value of an HL7 table in which only some codes have a FHIR equivalent.
func (x *mapper) coded(v Value, system string) (fhir.CodeableConcept, bool) {
	c := x.concept(v)
	for i := range c.Coding {
		if c.Coding[i].System == "" {
			c.Coding[i].System = system
			if c.Text == c.Coding[i].Code { // a code of a known table is not words
				c.Text = c.Coding[i].Display
			}
		}
	}
	return c, !c.IsZero()
}

// name reads an XPN. HL7 v2.4 §2.9.51
func (x *mapper) name(v Value) (fhir.HumanName, bool) {
	n := fhir.HumanName{Family: str(v, 1), Use: "official"}
	if kind := v.Comp(7); strings.TrimSpace(kind.Raw()) != "" && !kind.Null() {
		n.Use = x.translate("name-use", kind)
	}
	for _, c := range [...]int{2, 3} {
		given := str(v, c)
		if strings.Count(given, " ") > 20 { // not names, but something in their place: kept as one
			n.Given = append(n.Given, given)
			continue
		}
		n.Given = append(n.Given, strings.Fields(given)...)
	}
	if p := str(v, 5); p != "" {
		n.Prefix = []string{p}
	}
	for _, c := range [...]int{4, 6} {
		if s := str(v, c); s != "" {
			n.Suffix = append(n.Suffix, s)
		}
	}
	n.Period = x.validity(v, 10, 12, 13)
	return n, n.Family != "" || len(n.Given) > 0
}

// validity is from when to when a name, address or number counts; before v2.5 a DR has both in one component.
func (x *mapper) validity(v Value, both, from, to int) *fhir.Period {
	at := func(v Value) string {
		if v.Empty() {
			return ""
		}
		return x.dateTime(v, v.Place())
	}
	p := fhir.Period{Start: at(v.Comp(from)), End: at(v.Comp(to))}
	if both > 0 && p == (fhir.Period{}) {
		p = fhir.Period{Start: at(v.Comp(both).Sub(1)), End: at(v.Comp(both).Sub(2))}
	}
	if p == (fhir.Period{}) {
		return nil
	}
	return &p
}

// address reads an XAD. HL7 v2.4 §2.9.48
func (x *mapper) address(v Value) (fhir.Address, bool) {
	a := fhir.Address{City: str(v, 3), District: str(v, 4), PostalCode: str(v, 5), Country: str(v, 6)}
	if s := street(v.Comp(1)); s != "" {
		a.Line = append(a.Line, s)
	}
	for _, c := range [...]int{2, 8} {
		if s := str(v, c); s != "" {
			a.Line = append(a.Line, s)
		}
	}
	a.Use, a.Type = x.translate("address-use", v.Comp(7)), x.translate("address-type", v.Comp(7))
	a.Period = x.validity(v, 12, 13, 14)
	return a, len(a.Line) > 0 || a.City != "" || a.PostalCode != "" || a.District != ""
}

// street reads a SAD: the whole line, then perhaps street name and house number again; or "Marks & Spencer" from a sender who does not escape.
// HL7 v2.4 §2.9.38
func street(v Value) string {
	s := text(v.Text())
	if strings.Contains(v.Raw(), " "+char(Standard.Sub)+" ") {
		return words(v)
	}
	n := 0
	for sub := range v.Subs() {
		if t := text(sub.Text()); n > 0 && t != "" && !strings.Contains(s, t) {
			s = strings.TrimSpace(s + " " + t)
		}
		n++
	}
	return s
}

// telecom reads an XTN. HL7 v2.4 §2.9.52
func (x *mapper) telecom(v Value, use string) (fhir.ContactPoint, bool) {
	cp := fhir.ContactPoint{System: "phone", Use: use}
	if u := x.translate("telecom-use", v.Comp(2)); u != "" {
		cp.Use = u
	}
	equipment := v.Comp(3)
	if m, ok := x.meaningOf("telecom-kind", equipment); ok {
		cp.System = m.code
	}
	if strings.EqualFold(equipment.Raw(), "CP") && cp.Use != "work" {
		cp.Use = "mobile"
	}
	first := []int{1, 4, 12} // one of them is taken; the others are told of
	if v.Comp(2).Raw() == "NET" {
		first = []int{4, 1, 12}
	}
	for _, c := range first {
		if cp.Value = str(v, c); cp.Value == "" {
			continue
		}
		if c == 4 {
			cp.System = "email"
		}
		break
	}
	if cp.Value == "" {
		parts := []string{}
		for _, c := range [...]int{5, 6, 7} {
			if s := str(v, c); s != "" {
				parts = append(parts, s)
			}
		}
		cp.Value = strings.Join(parts, " ")
	}
	if strings.Contains(cp.Value, "@") {
		cp.System = "email"
	}
	return cp, cp.Value != ""
}

// practitioner reads an XCN as a reference by identifier: the sender knows who is meant, and sends nothing else about them.
// HL7 v2.4 §2.9.50
func (x *mapper) practitioner(v Value) (fhir.Reference, bool) {
	r := fhir.Reference{Type: "Practitioner"}
	if code := str(v, 1); code != "" {
		table, kind := "", peek(v, 13)
		if kind == "GMC" || kind == "GMP" {
			table = str(v, 13)
		}
		if table == "" {
			table = authority(v.Comp(9))
		}
		for _, c := range [...]int{8, 13} {
			if table == "" {
				table = str(v, c)
			}
		}
		r.Identifier = &fhir.Identifier{System: x.systemOf(table), Value: code}
	}
	var words []string
	for _, c := range [...]int{6, 3, 4, 2, 5} {
		if s := str(v, c); s != "" {
			words = append(words, s)
		}
	}
	r.Display = strings.Join(words, " ")
	if r.Display == "" && r.Identifier != nil && r.Identifier.System == "" { // a name in the number's place, as some send it: that much can be shown
		r.Display = r.Identifier.Value
	}
	return r, r.Identifier != nil || r.Display != ""
}

// locationWords reads a PL as words: "Ward 7B, Bay 2, Bed 3". HL7 v2.4 §2.9.31
func locationWords(v Value) string {
	var parts []string
	for _, c := range [...]struct {
		n      int
		prefix string
	}{{9, ""}, {1, ""}, {2, ""}, {3, "Bed "}} {
		s := str(v, c.n)
		if s == "" {
			continue
		}
		if c.prefix != "" && strings.Trim(s, "0123456789") == "" {
			s = c.prefix + s
		}
		if len(parts) == 0 || parts[len(parts)-1] != s {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ", ")
}

// number reads an NM as a JSON number without changing its precision: "+007.50" is 7.50.
// HL7 v2.4 §2.9.28
func number(s string) (json.Number, bool) {
	s = strings.TrimSpace(s)
	sign := ""
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign, s = strings.TrimPrefix(s[:1], "+"), s[1:]
	}
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" && frac == "" || strings.Trim(whole+frac, "0123456789") != "" || len(s) > 40 {
		return "", false
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if point && frac != "" {
		whole += "." + frac
	}
	return json.Number(sign + whole), true
}
