package document

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"regexp"
	"strings"

	"tombolo/fhir"
)

// Object identifiers that UK clinical documents use, and their FHIR spelling.
var systems = map[string]string{
	"2.16.840.1.113883.2.1.4.1":        fhir.SystemNHSNumber,
	"2.16.840.1.113883.2.1.3.2.4.19.1": fhir.SystemODS, // organisation
	"2.16.840.1.113883.2.1.3.2.4.19.2": fhir.SystemODS, // site
	"2.16.840.1.113883.2.1.3.2.4.15":   fhir.SystemSNOMED,
	"2.16.840.1.113883.6.96":           fhir.SystemSNOMED,
	"2.16.840.1.113883.6.1":            fhir.SystemLOINC,
	"2.16.840.1.113883.6.3":            fhir.SystemICD10,
	"2.16.840.1.113883.6.8":            fhir.SystemUCUM,
	"2.16.840.1.113883.1.11.16926":     fhir.SystemConfidentiality,
	"2.16.840.1.113883.5.25":           fhir.SystemConfidentiality,
	"1.2.826.0.1285.0.2.0.107":         fhir.SystemSDSUser,
}

func system(root string) string {
	if s := systems[root]; s != "" {
		return s
	}
	return oidOrUUID(root)
}

var (
	oid  = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]*))+$`)
	uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
)

// oidOrUUID is an HL7 v3 root as a URI; "" if it is neither.
func oidOrUUID(root string) string {
	switch {
	case oid.MatchString(root):
		return "urn:oid:" + root
	case uuid.MatchString(root):
		return "urn:uuid:" + strings.ToLower(root)
	}
	return ""
}

// identifier reads an II. A root without extension is itself the identifier. CDA R2, HL7 v3 datatypes II
func identifier(n *node) (fhir.Identifier, bool) {
	root, ext := n.at("root"), n.at("extension")
	if n.null() || root == "" || system(root) == "" {
		return fhir.Identifier{}, false
	}
	if ext == "" {
		return fhir.Identifier{System: "urn:ietf:rfc:3986", Value: oidOrUUID(root)}, true // FHIR R4 identifier-registry.html
	}
	return fhir.Identifier{System: system(root), Value: ext}.Canonical(), true
}

// authority is who gave a local number: the ODS code before the colon of assigningAuthorityName ("RX7:NWAS 111"), else the root.
func authority(n *node) string {
	if code, _, ok := strings.Cut(n.at("assigningAuthorityName"), ":"); ok && code != "" {
		return code
	}
	return n.at("root")
}

var ids = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// stableID makes an id that says nothing of what it is made of and is the same for the same parts, in whichever document they stand.
func stableID(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range append([]string{kind}, parts...) {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return kind + "-" + ids.EncodeToString(h.Sum(nil)[:16])
}

// concept reads a CD or CE with its translations.
func concept(n *node) fhir.CodeableConcept {
	var c fhir.CodeableConcept
	if n == nil {
		return c
	}
	for _, k := range append([]*node{n}, n.children("translation")...) {
		if code := k.at("code"); code != "" {
			c.Coding = append(c.Coding, fhir.Coding{System: system(k.at("codeSystem")), Code: code, Display: k.at("displayName")})
		}
	}
	if t := n.child("originalText").words(); t != "" {
		c.Text = t
	} else if d := n.at("displayName"); d != "" {
		c.Text = d
	}
	return c
}

// moment reads a TS: "20210803140714+0100" as "2021-08-03T14:07:14+01:00", at the precision it has; "" if it is none. A time to the
// hour only becomes its date, for FHIR has no such precision; a time without a zone is London's.
func moment(n *node) string {
	s := n.at("value")
	if n.null() || s == "" {
		return ""
	}
	clock, zone := s, ""
	if i := strings.IndexAny(s, "+-Z"); i >= 0 {
		clock, zone = s[:i], s[i:]
	}
	clock, _, _ = strings.Cut(clock, ".")
	for _, c := range clock {
		if c < '0' || c > '9' {
			return ""
		}
	}
	var out string
	switch len(clock) {
	case 4:
		out = clock
	case 6:
		out = clock[:4] + "-" + clock[4:]
	case 8, 10:
		out = clock[:4] + "-" + clock[4:6] + "-" + clock[6:8]
	case 12, 14:
		out = clock[:4] + "-" + clock[4:6] + "-" + clock[6:8] + "T" + clock[8:10] + ":" + clock[10:12] + ":"
		if out += "00"; len(clock) == 14 {
			out = out[:len(out)-2] + clock[12:]
		}
		switch {
		case zone == "Z":
			out += "Z"
		case len(zone) == 5:
			out += zone[:3] + ":" + zone[3:]
		case len(zone) == 3:
			out += zone + ":00"
		case zone != "":
			return ""
		default:
			span, err := fhir.ParseDate(out)
			if err != nil {
				return ""
			}
			out = span.Start.Format("2006-01-02T15:04:05-07:00")
		}
	}
	if _, err := fhir.ParseDate(out); out == "" || err != nil {
		return ""
	}
	return out
}

// period reads an IVL_TS: low and high, or one value for both.
func period(n *node) fhir.Period {
	if v := moment(n); v != "" {
		return fhir.Period{Start: v}
	}
	return fhir.Period{Start: moment(n.child("low")), End: moment(n.child("high"))}
}

// name reads a PN, in parts or as words.
func name(n *node) (fhir.HumanName, bool) {
	if n.null() {
		return fhir.HumanName{}, false
	}
	h := fhir.HumanName{Family: n.child("family").words()}
	for _, g := range n.children("given") {
		if w := g.words(); w != "" {
			h.Given = append(h.Given, w)
		}
	}
	for _, p := range n.children("prefix") {
		if w := p.words(); w != "" {
			h.Prefix = append(h.Prefix, w)
		}
	}
	if h.Family == "" && len(h.Given) == 0 {
		h.Prefix, h.Text = nil, n.words()
	}
	return h, h.Text != "" || h.Family != "" || len(h.Given) > 0
}

// addresses reads the home addresses among ADs. Where the person is at the moment (PHYS) is the incident's, not theirs, and is left to the
// document itself.
func addresses(list []*node) []fhir.Address {
	var out []fhir.Address
	for _, n := range list {
		if n.null() || n.at("use") == "PHYS" {
			continue
		}
		a := fhir.Address{City: n.child("city").words(), PostalCode: n.child("postalCode").words()}
		for _, l := range n.children("streetAddressLine") {
			if w := l.words(); w != "" {
				a.Line = append(a.Line, w)
			}
		}
		if u := n.at("use"); u == "H" || u == "HP" {
			a.Use = "home"
		}
		if len(a.Line) > 0 || a.PostalCode != "" {
			out = append(out, a)
		}
	}
	return out
}

// telecoms reads TELs: "tel:01632 960101".
func telecoms(list []*node) []fhir.ContactPoint {
	var out []fhir.ContactPoint
	for _, n := range list {
		scheme, value, ok := strings.Cut(n.at("value"), ":")
		if n.null() || !ok || value == "" {
			continue
		}
		c := fhir.ContactPoint{Value: value, System: map[string]string{"tel": "phone", "mailto": "email", "fax": "fax"}[scheme]}
		if c.System == "" {
			continue
		}
		c.Use = map[string]string{"H": "home", "HP": "home", "WP": "work", "MC": "mobile"}[n.at("use")]
		out = append(out, c)
	}
	return out
}

var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

// quantity reads a PQ; ok is false if its value is no number FHIR could carry.
func quantity(n *node) (fhir.Quantity, bool) {
	v := n.at("value")
	if n.null() || !number.MatchString(v) {
		return fhir.Quantity{}, false
	}
	q := fhir.Quantity{Value: json.Number(v)}
	if u := n.at("unit"); u != "" && u != "1" {
		q.Unit, q.System, q.Code = u, fhir.SystemUCUM, u
	}
	return q, true
}
