package hl7v2

import (
	"slices"
	"strings"

	"tombolo/fhir"
)

// PID, PD1 and MRG: who the patient is. HL7 v2.4 §3.4.2, §3.4.9, §3.4.10

// A knownAs is how a message names a patient: the id that this connector uses, and every identifier.
type knownAs struct {
	id, authority string
	identifiers   []fhir.Identifier
}

const maxIdentifiers = 50

// identify reads the CX fields of a segment in order of trust. The id is the local number of the feed's own authority, else another local number
// with its authority, else the NHS number. inherit is the authority of numbers that come without one.
func (x *mapper) identify(s Segment, inherit string, fields ...int) knownAs {
	var k knownAs
	best := -1
	for _, f := range fields {
		for rep := range s.Field(f).Reps() {
			if len(k.identifiers) == maxIdentifiers {
				x.note(fhir.TooCostly, s.Place(f), "further identifiers of the patient were left out: there are more than anybody has")
				return k
			}
			ident, auth, local := x.identifier(rep, s.Place(f))
			if ident.Value == "" || slices.ContainsFunc(k.identifiers, func(o fhir.Identifier) bool { return o.System == ident.System && o.Value == ident.Value }) {
				continue
			}
			if local && auth == "" {
				auth = inherit
			}
			k.identifiers = append(k.identifiers, ident)
			score := x.rank(ident, auth, rep, local)
			if score <= best {
				continue
			}
			best = score
			k.authority = auth
			switch {
			case !local: // bare, so that connector.Stamp sees that it is a national number and never shows it
				k.id = ident.Value
			case auth == "" || auth == x.o.Authority:
				k.id = id(ident.Value)
			default:
				k.id = id(auth, ident.Value)
			}
		}
	}
	return k
}

// rank says how good an identifier is as the patient's id: higher is better.
func (x *mapper) rank(i fhir.Identifier, auth string, rep Value, local bool) int {
	if !local {
		if i.System == fhir.SystemNHSNumber {
			return 2
		}
		return 1
	}
	switch strings.ToUpper(str(rep, 5)) {
	case "PI", "MR", "MRN", "PT", "":
		if auth == x.o.Authority {
			return 9
		}
		return 8
	case "SS", "DL", "PPN", "AN", "VN", "BC", "NI", "NH":
		return 0
	}
	return 5
}

// identifier reads a CX. A national number whose check digit is wrong is nobody's, and is left out and told of. HL7 v2.4 §2.9.12
func (x *mapper) identifier(v Value, place string) (i fhir.Identifier, auth string, local bool) {
	value := str(v, 1)
	if value == "" {
		return i, "", false
	}
	auth = authority(v.Comp(4))
	kind := strings.ToUpper(str(v, 5))
	system := x.systemOf(auth)
	switch kind {
	case "NH", "NHS", "NHSNMBR", "NHSNBR":
		system = fhir.SystemNHSNumber
	case "CHI":
		system = fhir.SystemCHI
	case "HCN", "H&C":
		system = fhir.SystemHCN
	}
	i = fhir.Identifier{System: system, Value: value}.Canonical()
	switch i.System {
	case fhir.SystemNHSNumber, fhir.SystemCHI, fhir.SystemHCN:
		if _, err := fhir.ParseNHSNumber(i.Value); err != nil {
			x.note(fhir.ValueError, place, "a national number that fails its check was left out: "+err.Error())
			return fhir.Identifier{}, "", false
		}
		return i, auth, false
	}
	if auth == "" && x.o.Authority != "" {
		i.System = x.systemOf(x.o.Authority)
	}
	if kind != "" {
		c := fhir.Code(v2Table+"0203", kind, "")
		i.Type = &c
	}
	return i, auth, true
}

// who reads PID and makes the Patient. Without any identifier there is nobody to file the message under.
func (x *mapper) who(segs []Segment) *fhir.Issue {
	pid := first(segs, "PID")
	if !pid.Exists() {
		return fhir.Errorf(fhir.Required, "the message has no PID segment, so it is nobody's").At("PID")
	}
	k := x.identify(pid, x.o.Authority, 3, 2, 4)
	if k.id == "" {
		return fhir.Errorf(fhir.Required, "the message has no usable patient identifier: send a local number or a valid NHS number").At("PID-3")
	}
	x.patient, x.mrn = k.id, k.authority
	x.markNHS(k.identifiers, str(pid.Field(32), 0))
	fields := x.demographics(pid, first(segs, "PD1"))
	fields["identifier"] = k.identifiers
	fields["managingOrganization"] = x.organisation()
	x.add("Patient", k.id, fields)
	return nil
}

// markNHS puts the NHS number status of PID-32 on the NHS number. UK Core Extension-UKCore-NHSNumberVerificationStatus
func (x *mapper) markNHS(ids []fhir.Identifier, status string) {
	display, ok := verification[status]
	if !ok {
		return
	}
	for n := range ids {
		if ids[n].System == fhir.SystemNHSNumber {
			ids[n].Extension = fhir.JSON([]fhir.M{{"url": extNHSVerification, "valueCodeableConcept": fhir.Code(codeNHSVerification, status, display)}})
		}
	}
}

// demographics are the fields of Patient that do not say who it is.
func (x *mapper) demographics(pid, pd1 Segment) fhir.M {
	var names []fhir.HumanName
	for _, f := range [...]int{5, 9} {
		for rep := range pid.Field(f).Reps() {
			if n, ok := x.name(rep); ok {
				if f == 9 && n.Use == "official" { // an alias that does not say of what kind
					n.Use = "nickname"
				}
				names = append(names, n)
			}
		}
	}
	var homes []fhir.Address
	for rep := range pid.Field(11).Reps() {
		if a, ok := x.address(rep); ok {
			homes = append(homes, a)
		}
	}
	f := fhir.M{
		"active": true, "name": names, "address": homes, "telecom": x.telecoms(pid, 13, 14),
		"birthDate": x.date(pid.Field(7), "PID-7"),
		"gender":    genders[strings.ToUpper(str(pid.Field(8), 0))],
	}
	if code := strings.ToUpper(str(pid.Field(22), 1)); ethnicities[code] != "" {
		f["extension"] = []fhir.M{{"url": extEthnicCategory, "valueCodeableConcept": fhir.Code(codeEthnicCategory, code, ethnicities[code])}}
	}
	if s, ok := maritalStates[strings.ToUpper(str(pid.Field(16), 1))]; ok {
		f["maritalStatus"] = fhir.Code(v3MaritalStatus, s[0], s[1])
	}
	if l := str(pid.Field(15), 1); len(l) == 2 || len(l) == 3 {
		f["communication"] = []fhir.M{{"language": fhir.Code("urn:ietf:bcp:47", strings.ToLower(l), str(pid.Field(15), 2)), "preferred": true}}
	}
	if died := x.dateTime(pid.Field(29), "PID-29"); died != "" {
		f["deceasedDateTime"] = died
	} else if str(pid.Field(30), 0) == "Y" {
		f["deceasedBoolean"] = true
	}
	if str(pid.Field(24), 0) == "Y" {
		f["multipleBirthBoolean"] = true
	}
	f["generalPractitioner"] = x.practice(pd1)
	if str(pd1.Field(12), 0) == "Y" { // protection indicator: where the person lives and is seen is not to be told. HL7 v2.4 §3.4.10.12
		f["meta"] = fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "R", Display: "restricted"}}}
	}
	return f
}

func (x *mapper) telecoms(s Segment, home, work int) []fhir.ContactPoint {
	var out []fhir.ContactPoint
	for i, f := range [...]int{home, work} {
		for rep := range s.Field(f).Reps() {
			if cp, ok := x.telecom(rep, [...]string{"home", "work"}[i]); ok {
				out = append(out, cp)
			}
		}
	}
	return out
}

// practice is where the person is registered, and with whom: PD1-3 and PD1-4, by ODS and practitioner code. The messages say no more
// of either than their names, so that these are references by identifier.
func (x *mapper) practice(pd1 Segment) []fhir.Reference {
	var out []fhir.Reference
	org := pd1.Field(3)
	name, code := str(org, 1), str(org, 3)
	if code == "" {
		code = str(org, 10)
	}
	if name != "" || code != "" {
		r := fhir.Reference{Type: "Organization", Display: name}
		if code != "" {
			r.Identifier = &fhir.Identifier{System: fhir.SystemODS, Value: strings.ToUpper(code)}
		}
		out = append(out, r)
	}
	if gp, ok := x.practitioner(pd1.Field(4)); ok {
		out = append(out, gp)
	}
	return out
}

// merged makes the record that a merge closes: the number in MRG-1 is from now on the one in PID-3. HL7 v2.4 §3.3.40
func (x *mapper) merged(mrg Segment) *fhir.Issue {
	old := x.identify(mrg, x.mrn, 1, 4, 2)
	if old.id == "" {
		return fhir.Errorf(fhir.Required, "the merge does not say which number was merged").At("MRG-1")
	}
	if old.id == x.patient {
		return fhir.Errorf(fhir.BusinessRule, "the merge names the same number twice: a record cannot be merged into itself").At("MRG-1")
	}
	f := fhir.M{
		"active": false, "identifier": old.identifiers, "managingOrganization": x.organisation(),
		"link": []fhir.M{{"other": x.subject(), "type": "replaced-by"}},
	}
	if n, ok := x.name(mrg.Field(7)); ok {
		f["name"] = []fhir.HumanName{n}
	}
	x.add("Patient", old.id, f)
	return nil
}
