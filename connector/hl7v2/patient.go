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
	i.Period = x.validity(v, 0, 7, 8)
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
	x.markNHS(k.identifiers, pid.Field(32))
	sc := &scope{own: pid}
	f := fhir.M{"identifier": k.identifiers, "managingOrganization": x.organisation()}
	x.fill("Patient", f, sc, "PID", "PD1")
	if pd1 := first(segs, "PD1"); peek(pd1.Field(12), 0) == "N" || pd1.Field(12).Null() { // no longer to be protected
		sc.cleared = append(sc.cleared, "meta.security")
	}
	switch x.h.does {
	case "gone":
		f["active"], sc.assumed = false, nil
	case "unlink":
		sc.cleared = append(sc.cleared, "link")
	case "link":
		f["link"] = x.others(pid)
	}
	x.addFrom(sc, "Patient", k.id, f)
	return nil
}

// others are the patients of a link (A24), each named by its own PID: the same person, and still two records.
func (x *mapper) others(pid Segment) []fhir.M {
	var out []fhir.M
	for _, s := range x.m.Segments() {
		if s.name != "PID" || s.start == pid.start {
			continue
		}
		if k := x.identify(s, x.o.Authority, 3, 2, 4); k.id != "" && k.id != x.patient {
			out = append(out, fhir.M{"other": fhir.Reference{Reference: "Patient/" + k.id}, "type": "seealso"})
		}
	}
	return out
}

// markNHS puts the NHS number status of PID-32 on the NHS number. UK Core Extension-UKCore-NHSNumberVerificationStatus
func (x *mapper) markNHS(ids []fhir.Identifier, status Value) {
	m, ok := x.meaningOf("nhs-number-status", status)
	if !ok {
		return
	}
	for n := range ids {
		if ids[n].System == fhir.SystemNHSNumber {
			ids[n].Extension = fhir.JSON([]fhir.M{{"url": extNHSVerification, "valueCodeableConcept": fhir.Code(m.system, m.code, m.display)}})
		}
	}
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

// Protected reports whether a message says of somebody that nobody may be shown where they are. HL7 v2.4 §3.4.9, PD1-12
func (m *Message) Protected() bool {
	return slices.ContainsFunc(m.segs, func(s Segment) bool { return s.name == "PD1" && peek(s.Field(12), 0) == "Y" })
}
