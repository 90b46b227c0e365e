package fhir

import (
	"log/slog"
	"strings"
)

// Identifier and code systems, written exactly as their owners write them.
const (
	SystemNHSNumber = "https://fhir.nhs.uk/Id/nhs-number"
	SystemODS       = "https://fhir.nhs.uk/Id/ods-organization-code"
	SystemASID      = "https://fhir.nhs.uk/Id/nhsSpineASID"
	SystemSDSUser   = "https://fhir.nhs.uk/Id/sds-user-id"
	SystemSDSRole   = "https://fhir.nhs.uk/Id/sds-role-profile-id"
	SystemCHI       = "https://fhir.nhs.scot/Id/chi-number"  // Scotland; the URI is not yet settled nationally
	SystemHCN       = "https://fhir.hscni.net/Id/hcn-number" // Northern Ireland
	SystemGMP       = "https://fhir.hl7.org.uk/Id/gmp-number"
	SystemGMC       = "https://fhir.hl7.org.uk/Id/gmc-number"

	SystemSNOMED = "http://snomed.info/sct"
	SystemLOINC  = "http://loinc.org"
	SystemUCUM   = "http://unitsofmeasure.org"
	SystemICD10  = "http://hl7.org/fhir/sid/icd-10"
	SystemOPCS4  = "https://fhir.hl7.org.uk/CodeSystem/UKCore-OPCS-4"

	SystemConfidentiality = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
	SystemActCode         = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

	// SystemSource is this program's own: the id of a system in the region file.
	SystemSource = "https://tombolo.dev/Id/source"
	// SystemHeading is this program's own: a heading of the shared data set.
	SystemHeading = "https://tombolo.dev/CodeSystem/heading"
)

// The old spellings that sources still send, and what they mean.
var oldSystems = map[string]string{
	"http://fhir.nhs.net/Id/nhs-number":            SystemNHSNumber,
	"http://fhir.nhs.uk/Id/nhs-number":             SystemNHSNumber,
	"https://fhir.nhs.uk/id/nhs-number":            SystemNHSNumber,
	"urn:oid:2.16.840.1.113883.2.1.4.1":            SystemNHSNumber,
	"2.16.840.1.113883.2.1.4.1":                    SystemNHSNumber,
	"http://fhir.nhs.net/Id/ods-organization-code": SystemODS,
	"https://fhir.nhs.uk/id/ods-organization-code": SystemODS,
	"https://fhir.nhs.uk/Id/ods-organisation-code": SystemODS,
}

// CanonicalSystem gives today's spelling of an identifier system; unknown ones come back unchanged.
func CanonicalSystem(system string) string {
	if s, ok := oldSystems[system]; ok {
		return s
	}
	return system
}

// unspaced takes off what people write between the digits of a number.
var unspaced = strings.NewReplacer(" ", "", "-", "")

// An NHSNumber is ten digits with a valid check digit. CHI and H&C numbers have the same form.
// It prints as "nhs-number(…)": use Digits where the digits are truly meant. It never belongs in a URL,
// log line, metric or subject name.
type NHSNumber struct{ digits string }

// ParseNHSNumber reads ten digits, with the spaces and dashes people write. It checks the mod-11 check digit
// and refuses the ten numbers made of one repeated digit, which pass the check and are nobody's.
func ParseNHSNumber(s string) (NHSNumber, error) {
	d := unspaced.Replace(strings.TrimSpace(s))
	if len(d) != 10 {
		return NHSNumber{}, Errorf(ValueError, "an NHS number has 10 digits, this has %d characters", len(d))
	}
	sum := 0
	for i, c := range d {
		if c < '0' || c > '9' {
			return NHSNumber{}, Errorf(ValueError, "an NHS number has digits only")
		}
		if i < 9 {
			sum += int(c-'0') * (10 - i)
		}
	}
	if strings.Count(d, d[:1]) == 10 {
		return NHSNumber{}, Errorf(ValueError, "an NHS number of one repeated digit is nobody's: check what was typed or sent")
	}
	check := (11 - sum%11) % 11
	if check == 10 || byte('0'+check) != d[9] {
		return NHSNumber{}, Errorf(ValueError, "the NHS number's check digit is wrong: one or more digits were mistyped")
	}
	return NHSNumber{d}, nil
}

// Digits are the ten digits.
func (n NHSNumber) Digits() string { return n.digits }

// Spaced is the form people read, 3-3-4.
func (n NHSNumber) Spaced() string {
	if n.digits == "" {
		return ""
	}
	return n.digits[:3] + " " + n.digits[3:6] + " " + n.digits[6:]
}

// IsZero reports whether there is no number.
func (n NHSNumber) IsZero() bool { return n.digits == "" }

// String hides the digits, so that a careless %v cannot leak them.
func (n NHSNumber) String() string { return "nhs-number(…)" }

// LogValue hides the digits from log/slog.
func (n NHSNumber) LogValue() slog.Value { return slog.StringValue(n.String()) }

// LogValue prints the system only, so that a careless log line cannot leak who is meant.
func (i Identifier) LogValue() slog.Value { return slog.StringValue(i.System + "|…") }

// Canonical returns the identifier with today's system URI, and for numbers of the NHS form without spaces.
func (i Identifier) Canonical() Identifier {
	i.System = CanonicalSystem(i.System)
	if i.System == SystemNHSNumber || i.System == SystemCHI || i.System == SystemHCN {
		i.Value = unspaced.Replace(i.Value)
	} else {
		i.Value = strings.TrimSpace(i.Value)
	}
	return i
}

// Check refuses an identifier that cannot be anybody's: no value, or a national number that fails its check.
func (i Identifier) Check() error {
	i = i.Canonical()
	if i.System == "" || i.Value == "" {
		return Errorf(Required, "an identifier needs a system and a value")
	}
	switch i.System {
	case SystemNHSNumber, SystemCHI, SystemHCN:
		if _, err := ParseNHSNumber(i.Value); err != nil {
			return err
		}
	}
	return nil
}
