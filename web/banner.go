package web

import (
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A banner says whose record this is, in the one form that every page of a record carries.
// NHS Common User Interface, "Patient Banner"
type banner struct {
	Name, Preferred string
	Born, Age       string
	Died, DiedAge   string // formally, with a date; Died "Yes" where only the fact is known
	Gender          string
	NHS             string
	Unverified      string // why the NHS number is not to be relied on
	Numbers         []pair // other national numbers
	Address, Phone  string
	Withheld        bool
	Practice        string
	Notices         []string
}

// The NHS number's verification, where it is not "01 present and verified". UKCore-NHSNumberVerificationStatus
var unverified = map[string]string{
	"02": "present but not traced", "03": "trace needed", "04": "trace attempted, no match", "05": "trace needs to be resolved",
	"06": "trace in progress", "07": "not present and trace not needed", "08": "trace postponed",
}

func newBanner(rec *gather.Record, now time.Time) banner {
	p := rec.Person
	b := banner{
		Name: p.Name.Formal(), Born: sayDate(p.BirthDate), Age: sayAge(p.BirthDate, p.Deceased, now), Gender: sayCode(p.Gender), NHS: p.NHSNumber.Spaced(),
		Withheld: p.Restricted, Practice: p.PracticeName,
	}
	if b.Name == "" {
		b.Name = "Name not known"
	}
	if b.Gender == "" {
		b.Gender = "Not known"
	}
	if !p.Restricted { // the core has taken it off already; a page shall not depend on that
		b.Address, b.Phone = sayAddress(p.Address), p.Phone
	} else {
		b.Practice = ""
	}
	switch p.Deceased {
	case "":
	case "true":
		b.Died = "Yes, date not known"
		b.Age = ""
	default:
		b.Died, b.DiedAge, b.Age = sayDate(p.Deceased), b.Age, ""
	}
	for _, id := range p.Identifiers {
		switch id.System {
		case fhir.SystemNHSNumber:
			if id.Use != "old" {
				b.Unverified = unverified[verification(id)]
			}
		case fhir.SystemCHI:
			b.Numbers = append(b.Numbers, pair{"CHI No.", spacedNumber(id.Value)})
		case fhir.SystemHCN:
			b.Numbers = append(b.Numbers, pair{"H&C No.", spacedNumber(id.Value)})
		}
	}
	for _, old := range p.Merged {
		b.Notices = append(b.Notices, "The number "+spacedNumber(old)+" was replaced: its record is part of this one.")
	}
	b.fromDemographics(rec)
	return b
}

// fromDemographics adds what the sources' own Patient resources say beyond the index: the name people like to be called by, and
// that sources disagree, which must be shown. GP Connect, "cross-check demographics"
func (b *banner) fromDemographics(rec *gather.Record) {
	for _, sec := range rec.Sections {
		if sec.Heading != dataset.Demographics {
			continue
		}
		for _, e := range sec.Entries {
			if e.Conflict != "" {
				b.Notices = append(b.Notices, e.Conflict+".")
			}
			for _, m := range e.Members {
				for n := range m.Resource.Value().All("name") {
					if use := n.Text("use"); (use == "nickname" || use == "preferred") && b.Preferred == "" {
						if b.Preferred = n.Text("given"); b.Preferred == "" {
							b.Preferred = n.Text("text")
						}
					}
				}
			}
		}
	}
}

func verification(id fhir.Identifier) string {
	v, err := fhir.ParseValue(id.Extension)
	if err != nil {
		return ""
	}
	return v.Text("valueCodeableConcept.coding.code")
}

// spacedNumber writes a ten-digit number 3-3-4, anything else as it is.
func spacedNumber(s string) string {
	if n, err := fhir.ParseNHSNumber(s); err == nil {
		return n.Spaced()
	}
	return s
}
