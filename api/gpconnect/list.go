package gpconnect

import (
	"time"

	"tombolo/fhir"
)

// A List answers one query: it names what was found, warns of what may be missing, and says why there is nothing if there is nothing.
//
// GP Connect 1.6 accessrecord_structured_development_list.html
type List struct {
	Query     Query
	Patient   string // reference
	At        time.Time
	Entries   []string // references
	Contained []any    // resources that stand in the list itself
	Warnings  []string // ListWarningCode
	Notes     []string // a warning's text among them
	Empty     Empty    // why there are no entries; ignored if there are
}

// Empty is why a list has no entries.
type Empty int

// NoContent is the source's own word that there is nothing; the others are not.
const (
	NoContent Empty = iota
	Withheld
	Unavailable
)

// ConfidentialItems is what is said, with the warning of that name, where items were left out.
const ConfidentialItems = "Items excluded due to confidentiality and/or patient preferences."

const extension = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-"

// Instant is how GP Connect writes a time.
const Instant = "2006-01-02T15:04:05-07:00"

// Resource is the list in STU3.
func (l List) Resource() fhir.M {
	ext := []fhir.M{{"url": extension + "ClinicalSetting-1", "valueCodeableConcept": coded(fhir.SystemSNOMED, "1060971000000108", "General practice service")}}
	for _, w := range l.Warnings {
		ext = append(ext, fhir.M{"url": extension + "ListWarningCode-1", "valueCode": w})
	}
	m := fhir.M{"resourceType": "List", "meta": Profile("CareConnect-GPC-List-1"), "extension": ext, "status": "current", "mode": "snapshot",
		"title": l.Query.Title, "code": coded(fhir.SystemSNOMED, l.Query.Code, l.Query.Title), "subject": fhir.M{"reference": l.Patient},
		"date": l.At.In(fhir.London).Format(Instant), "orderedBy": coded("http://hl7.org/fhir/list-order", "event-date", "Sorted by Event Date")}
	notes := l.Notes
	if len(l.Entries) == 0 {
		switch l.Empty {
		case NoContent:
			m["emptyReason"] = coded("https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1", "no-content-recorded", "No Content Recorded")
			notes = append(notes[:len(notes):len(notes)], "Information not available")
		case Withheld:
			m["emptyReason"] = coded("http://hl7.org/fhir/list-empty-reason", "withheld", "Information Withheld")
		default:
			m["emptyReason"] = coded("http://hl7.org/fhir/list-empty-reason", "unavailable", "Unavailable")
		}
	}
	var entries, texts []fhir.M
	for _, ref := range l.Entries {
		entries = append(entries, fhir.M{"item": fhir.M{"reference": ref}})
	}
	for _, n := range notes {
		texts = append(texts, fhir.M{"text": n})
	}
	if entries != nil {
		m["entry"] = entries
	}
	if texts != nil {
		m["note"] = texts
	}
	if len(l.Contained) > 0 {
		m["contained"] = l.Contained
	}
	return m
}

func coded(system, code, display string) fhir.M {
	return fhir.M{"coding": []fhir.M{{"system": system, "code": code, "display": display}}}
}
