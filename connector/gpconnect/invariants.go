package gpconnect

import (
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// An invariant is a rule of FHIR R4 about how elements go together, under the key by which R4 knows it. Here are those that must hold
// (severity error) of what this conversion makes and that a practice's record can break; what a practice wrote is left as it is.
type invariant struct {
	key, words string
	holds      func(v fhir.Value) bool
}

func has(v fhir.Value, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return there(v, n) })
}

// every reports whether each item of a list has something of names.
func every(v fhir.Value, list string, names ...string) bool {
	for item := range v.All(list) {
		if !has(item, names...) {
			return false
		}
	}
	return true
}

// withoutHome reports whether no item of a list is for use at home.
func withoutHome(v fhir.Value, list string) bool {
	for item := range v.All(list) {
		if item.Text("use") == "home" {
			return false
		}
	}
	return true
}

func inError(v fhir.Value) bool {
	return v.Text("verificationStatus.coding.code") == "entered-in-error"
}

// ofResources are the invariants of resources, by type. FHIR R4, each type's page, "Constraints"
var ofResources = map[string][]invariant{
	"AllergyIntolerance": {
		{"ait-1", "clinicalStatus must be there unless the entry is in error", func(v fhir.Value) bool { return inError(v) || has(v, "clinicalStatus") }},
		{"ait-2", "clinicalStatus must not be there if the entry is in error", func(v fhir.Value) bool { return !inError(v) || !has(v, "clinicalStatus") }},
	},
	"Condition": {
		{"con-1", "a stage needs a summary or an assessment", func(v fhir.Value) bool { return every(v, "stage", "summary", "assessment") }},
		{"con-2", "evidence needs a code or a detail", func(v fhir.Value) bool { return every(v, "evidence", "code", "detail") }},
		{"con-4", "what has abated must be inactive, resolved or in remission", func(v fhir.Value) bool {
			return !has(v, "abatement[x]") || slices.Contains([]string{"inactive", "resolved", "remission"}, v.Text("clinicalStatus.coding.code"))
		}},
		{"con-5", "clinicalStatus must not be there if the entry is in error", func(v fhir.Value) bool { return !inError(v) || !has(v, "clinicalStatus") }},
	},
	"Immunization": {
		{"ukcore-imm-001", "what was not given needs its reason", func(v fhir.Value) bool {
			status := v.Text("status")
			return status != "" && (status != "not-done" || has(v, "statusReason"))
		}},
	},
	"ServiceRequest": {
		{"prr-1", "orderDetail is of a code", func(v fhir.Value) bool { return !has(v, "orderDetail") || has(v, "code") }},
	},
	"Observation": {
		{"obs-3", "a reference range needs low, high or words", func(v fhir.Value) bool { return every(v, "referenceRange", "low", "high", "text") }},
		{"obs-6", "dataAbsentReason must not be there beside a value", func(v fhir.Value) bool { return !has(v, "dataAbsentReason") || !has(v, "value[x]") }},
	},
	"List": {
		{"lst-1", "emptyReason must not be there beside entries", func(v fhir.Value) bool { return !has(v, "emptyReason") || !has(v, "entry") }},
		{"lst-2", "deleted entries are of lists that show changes", func(v fhir.Value) bool {
			for e := range v.All("entry") {
				if e.Member("deleted").Bool() && v.Text("mode") != "changes" {
					return false
				}
			}
			return true
		}},
		{"lst-3", "dated entries are of lists that are worked with", func(v fhir.Value) bool {
			for e := range v.All("entry") {
				if has(e, "date") && v.Text("mode") != "working" {
					return false
				}
			}
			return true
		}},
	},
	"FamilyMemberHistory": {
		{"fhs-1", "an age and a birth must not both be there", func(v fhir.Value) bool { return !has(v, "age[x]") || !has(v, "born[x]") }},
		{"fhs-2", "estimatedAge is of an age", func(v fhir.Value) bool { return !has(v, "estimatedAge") || has(v, "age[x]") }},
	},
	"Organization": {
		{"org-1", "an organisation needs an identifier or a name", func(v fhir.Value) bool { return has(v, "identifier", "name") }},
		{"org-2", "an organisation's address is never of a home", func(v fhir.Value) bool { return withoutHome(v, "address") }},
		{"org-3", "an organisation's telecom is never of a home", func(v fhir.Value) bool { return withoutHome(v, "telecom") }},
	},
	"Patient": {
		{"pat-1", "a contact needs a name, telecom, address or organisation", func(v fhir.Value) bool {
			return every(v, "contact", "name", "telecom", "address", "organization")
		}},
	},
	"Appointment": {
		{"app-1", "whoever takes part needs a type or to be named", func(v fhir.Value) bool { return every(v, "participant", "type", "actor") }},
		{"app-4", "only what was cancelled or not attended has a reason for that", func(v fhir.Value) bool {
			return !has(v, "cancelationReason") || v.Text("status") == "cancelled" || v.Text("status") == "noshow"
		}},
		{"app-2", "start and end go together", func(v fhir.Value) bool { return has(v, "start") == has(v, "end") }},
		{"app-3", "only what is proposed, cancelled or waiting may lack its times", func(v fhir.Value) bool {
			return has(v, "start") && has(v, "end") || slices.Contains([]string{"proposed", "cancelled", "waitlist"}, v.Text("status"))
		}},
	},
}

// ofElement are the invariants of the datatype that stands under a name. FHIR R4 datatypes.html, "Constraints"
func ofElement(name string) []invariant {
	switch {
	case name == "extension" || name == "modifierExtension":
		return ofExtension
	case strings.HasSuffix(name, "eriod"):
		return ofPeriod
	case strings.HasSuffix(name, "uantity") || name == "low" || name == "high":
		return ofQuantity
	case name == "expectedSupplyDuration" || name == "length":
		return ofDuration
	case name == "telecom":
		return ofTelecom
	case strings.HasSuffix(name, "ttachment"):
		return ofAttachment
	case strings.HasSuffix(name, "Range"):
		return ofRange
	case name == "strength" || strings.HasSuffix(name, "Ratio"):
		return ofRatio
	case name == "repeat":
		return ofRepeat
	}
	return nil
}

var (
	ofExtension  = []invariant{extension1}
	ofPeriod     = []invariant{period1}
	ofQuantity   = []invariant{quantity3}
	ofDuration   = []invariant{quantity3, duration1}
	ofTelecom    = []invariant{telecom2}
	ofAttachment = []invariant{attachment1}
	ofRange      = []invariant{range2}
	ofRatio      = []invariant{ratio1}
	ofRepeat     = []invariant{timing1, timing2}

	duration1 = invariant{"drt-1", "the code of a length of time is one of UCUM, and has a value", func(v fhir.Value) bool {
		return !has(v, "code") || has(v, "value") && v.Text("system") == "http://unitsofmeasure.org"
	}}
	ratio1 = invariant{"rat-1", "numerator and denominator go together", func(v fhir.Value) bool {
		return has(v, "numerator") == has(v, "denominator") && (has(v, "numerator") || v.Member("extension").Exists())
	}}
	timing1    = invariant{"tim-1", "a duration needs its unit", func(v fhir.Value) bool { return !has(v, "duration") || has(v, "durationUnit") }}
	timing2    = invariant{"tim-2", "a period needs its unit", func(v fhir.Value) bool { return !has(v, "period") || has(v, "periodUnit") }}
	extension1 = invariant{"ext-1", "an extension has a value or extensions, and not both", func(v fhir.Value) bool {
		return has(v, "value[x]") != v.Member("extension").Exists()
	}}
	period1 = invariant{"per-1", "a period must not end before it starts", func(v fhir.Value) bool {
		start, serr := fhir.ParseDate(v.Text("start"))
		end, eerr := fhir.ParseDate(v.Text("end"))
		return serr != nil || eerr != nil || !validTime(inside(v.Member("start"))) || !validTime(inside(v.Member("end"))) || start.Start.Before(end.End)
	}}
	quantity3   = invariant{"qty-3", "a unit's code needs its system", func(v fhir.Value) bool { return !has(v, "code") || has(v, "system") }}
	telecom2    = invariant{"cpt-2", "a contact point with a value needs its system", func(v fhir.Value) bool { return !has(v, "value") || has(v, "system") }}
	attachment1 = invariant{"att-1", "data needs its content type", func(v fhir.Value) bool { return !has(v, "data") || has(v, "contentType") }}
	range2      = invariant{"rng-2", "low must not be above high", func(v fhir.Value) bool {
		low, lerr := strconv.ParseFloat(v.Text("low.value"), 64)
		high, herr := strconv.ParseFloat(v.Text("high.value"), 64)
		return lerr != nil || herr != nil || low <= high
	}}
)

const (
	breaks   = "breaks R4's "
	breaksUK = "breaks UK Core's "
)

func (r *invariant) broken() string {
	if strings.HasPrefix(r.key, "ukcore-") {
		return breaksUK + r.key + ": " + r.words
	}
	return breaks + r.key + ": " + r.words
}

// broken adds to the report which invariants a resource or element breaks.
func (c *converter) broken(v fhir.Value, rules []invariant) {
	for i := range rules {
		if r := &rules[i]; !r.holds(v) {
			c.lackAt(strings.Join(c.path, "."), r.broken())
		}
	}
}
