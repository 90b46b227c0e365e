package policy

import (
	"math/bits"
	"strings"

	"tombolo/fhir"
)

// Labels are the security labels of a resource, as a set. FHIR R4 security-labels.html
type Labels uint64

// Confidentiality, v3-Confidentiality: most restrictive wins. Unrestricted, low and moderate are shown as normal is.
const (
	Normal Labels = 1 << iota
	RestrictedLabel
	VeryRestricted
	// NoPatient is NOPAT as GP Connect uses it: not to be shown to the person, or to who acts for them.
	NoPatient
	// LegallyWithheld is what a statute forbids to share. Nobody can override it.
	LegallyWithheld
	firstSensitivity
)

// SystemSensitivity is this program's own code system: the sets of codes that make something sensitive (docs/sensitivity.md).
const SystemSensitivity = "https://tombolo.dev/CodeSystem/sensitivity"

// The kinds of sensitivity: v3-ActCode InformationSensitivityPolicy, then the sets that have no code there. The order is that of the bits.
var sensitivities = []struct{ system, code string }{
	{fhir.SystemActCode, "ETH"}, {fhir.SystemActCode, "ETHUD"}, {fhir.SystemActCode, "OPIOIDUD"}, {fhir.SystemActCode, "SUD"}, {fhir.SystemActCode, "PSY"},
	{fhir.SystemActCode, "MH"}, {fhir.SystemActCode, "BH"}, {fhir.SystemActCode, "PSYTHPN"}, {fhir.SystemActCode, "SEX"}, {fhir.SystemActCode, "STD"},
	{fhir.SystemActCode, "HIV"}, {fhir.SystemActCode, "SDV"}, {fhir.SystemActCode, "DV"}, {fhir.SystemActCode, "VIO"}, {fhir.SystemActCode, "GDIS"},
	{fhir.SystemActCode, "SCA"}, {fhir.SystemActCode, "SPI"}, {fhir.SystemActCode, "PREGNANT"}, {fhir.SystemActCode, "SICKLE"}, {fhir.SystemActCode, "DVD"},
	{SystemSensitivity, "gender"}, {SystemSensitivity, "assisted-fertilisation"}, {SystemSensitivity, "termination"}, {SystemSensitivity, "sexually-transmitted"},
	{SystemSensitivity, "hfe-act"}, {SystemSensitivity, "gender-recognition-act"},
	{"", "other"}, // a sensitivity code that is not known here: it bears meaning all the same
}

var byCode = func() map[string]Labels {
	m := map[string]Labels{"N": Normal, "U": Normal, "L": Normal, "M": Normal, "R": RestrictedLabel, "V": VeryRestricted, "NOPAT": NoPatient, "legally-withheld": LegallyWithheld}
	for i, s := range sensitivities {
		m[s.code] = firstSensitivity << i
	}
	return m
}()

// Label reads one code of meta.security. A code that is not known, in a system of labels, is taken for restricted: not knowing a label
// is no clearance. Other systems' codes (obligations, test marks) are no labels.
func Label(system, code string) Labels {
	if l, ok := byCode[code]; ok {
		return l
	}
	switch {
	case strings.HasSuffix(system, "Confidentiality"):
		return RestrictedLabel
	case system == fhir.SystemActCode, system == SystemSensitivity:
		return RestrictedLabel | byCode["other"]
	}
	return 0
}

// LabelsOf reads the labels of a resource as its source wrote them: meta.security, and what documents have of their own for it, which says how sensitive what they
// hold or point to is. FHIR R4 documentreference.html#securityLabel, composition.html#confidentiality
func LabelsOf(r *fhir.Resource) Labels {
	l := inMeta(r)
	switch r.Type() {
	case "DocumentReference", "DocumentManifest":
		for v := range r.Value().All("securityLabel.coding") {
			l |= Label(v.Text("system"), v.Text("code"))
		}
	case "Composition":
		if code := r.Text("confidentiality"); code != "" {
			l |= Label(fhir.SystemConfidentiality, code)
		}
	}
	return l
}

// inMeta are the labels in meta.security.
func inMeta(r *fhir.Resource) (l Labels) {
	for v := range r.Value().Member("meta").All("security") {
		l |= Label(v.Text("system"), v.Text("code"))
	}
	return l
}

// Confidentiality is the most restrictive confidentiality in the set; normal if none is given.
func (l Labels) Confidentiality() Labels {
	switch {
	case l&VeryRestricted != 0:
		return VeryRestricted
	case l&RestrictedLabel != 0:
		return RestrictedLabel
	}
	return Normal
}

// Sealed reports whether an entry with these labels is one whose being there is told to nobody who cannot be decided about alone, as a national locator's users cannot.
func (l Labels) Sealed() bool { return inherited(l) != 0 }

// sensitive are the sensitivities in the set.
func (l Labels) sensitive() Labels { return l &^ (firstSensitivity - 1) }

// Codings are the labels as meta.security has them: one confidentiality, then the rest in a fixed order.
func (l Labels) Codings() []fhir.Coding {
	if l == 0 {
		return nil
	}
	out := []fhir.Coding{{System: fhir.SystemConfidentiality, Code: map[Labels]string{Normal: "N", RestrictedLabel: "R", VeryRestricted: "V"}[l.Confidentiality()]}}
	if l&NoPatient != 0 {
		out = append(out, fhir.Coding{System: fhir.SystemActCode, Code: "NOPAT"})
	}
	if l&LegallyWithheld != 0 {
		out = append(out, fhir.Coding{System: SystemSensitivity, Code: "legally-withheld"})
	}
	for s := l.sensitive(); s != 0; s &= s - 1 {
		if k := sensitivities[bits.TrailingZeros64(uint64(s/firstSensitivity))]; k.system != "" {
			out = append(out, fhir.Coding{System: k.system, Code: k.code})
		}
	}
	return out
}
