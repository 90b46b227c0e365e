package gpconnect

import (
	"bytes"
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

func (c *converter) mark(code string) {
	c.sep()
	c.raw(`{"system":"` + dataset.SystemReading + `","code":"` + code + `"}`)
}

// modifies reports whether a resource carries, anywhere in it, something that changes its meaning and that nobody here understands.
func modifies(v fhir.Value, f *form) bool {
	if v.Member("implicitRules").IsString() || f.negates != nil && f.negates(v) {
		return true
	}
	if !bytes.Contains(v.Raw(), []byte("odifierExtension")) { // nearly always; the walk below costs more
		return false
	}
	var within func(fhir.Value) bool
	within = func(v fhir.Value) bool {
		for m := range v.Children() {
			if m.Key() == "modifierExtension" && !isNull(m) || m.Key() != "contained" && within(m) {
				return true
			}
		}
		return false
	}
	return within(v)
}

// degraded are the codes that stand where a code was lost. SNOMED CT UK, "Transfer-degraded record entry" and its kinds
var degraded = map[string]bool{
	"196411000000103": true, // record entry
	"196421000000109": true, // medication entry
	"196461000000101": true, // drug allergy
	"196471000000108": true, // non-drug allergy
}

// quality notes the mark that the entry's own code earns. That of a medicine stands in the Medication that it refers to.
func (c *converter) quality(v fhir.Value, f *form) {
	ref := v.Text("medicationReference.reference")
	switch {
	case ref == "":
		c.cur.quality = quality(v, f)
	case ref[0] == '#':
		for r := range v.All("contained") {
			if r.Text("id") == ref[1:] && r.Text("resourceType") == "Medication" {
				c.cur.quality = quality(r, shapes["Medication"])
			}
		}
	default:
		c.cur.medicine = c.plain(ref)
	}
}

// quality is the mark that codes earn, "" if none.
func quality(v fhir.Value, f *form) string {
	members := f.about
	if members == nil {
		members = codeMember
	}
	codings, current, lost := 0, false, false
	for _, name := range members {
		for k := range v.Member(name).All("coding") {
			system := k.Member("system").Str()
			codings++
			current = current || !legacy(system)
			lost = lost || system == fhir.SystemSNOMED && degraded[k.Member("code").Str()] ||
				strings.HasPrefix(strings.ToLower(k.Member("display").Str()), "transfer-degraded")
		}
	}
	switch {
	case lost:
		return dataset.TransferDegraded
	case codings > 0 && !current:
		return dataset.LegacyCode
	}
	return ""
}

var codeMember = []string{"code"}

// legacy reports whether a code system is one of those that general practice has left or that only one supplier reads.
func legacy(system string) bool {
	system = strings.ToLower(system)
	return slices.ContainsFunc(legacySystems, func(s string) bool { return strings.Contains(system, s) })
}

// Read 2, CTV3 and the suppliers' own, in the many ways in which they are written. GP Connect 1.6 development_fhir_resource_guidance.html
var legacySystems = []string{"read.info/", "read-codes", "readv2", "ctv3", "2.16.840.1.113883.2.1.3.2.4.14", "2.16.840.1.113883.2.1.6.2", "2.16.840.1.113883.2.1.3.2.4.15.59",
	"emis", "tpp", "systmone", "visionscheme", "in-practice", "multilex", "resipuk", "egton"}

// codings writes every coding there is; SNOMED CT comes first, because the first that has words is what readers are shown.
func (c *converter) codings(v fhir.Value) {
	first := true
	for k := range v.All("") {
		if first && k.Member("system").Str() == fhir.SystemSNOMED {
			break // as nearly all are
		}
		if first = false; k.Member("system").Str() == fhir.SystemSNOMED {
			c.snomedFirst(v)
			return
		}
	}
	c.copy(v)
}

func (c *converter) snomedFirst(v fhir.Value) {
	c.out = append(c.out, '[')
	for _, snomed := range [...]bool{true, false} {
		for k := range v.All("") {
			if (k.Member("system").Str() == fhir.SystemSNOMED) == snomed {
				c.sep()
				c.copy(k)
			}
		}
	}
	c.out = append(c.out, ']')
}
