package ips

import (
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Line is a resource in one line for people: what it is about, its value, when, and everything that turns its meaning round, which comes first.
func Line(r *fhir.Resource) string {
	var parts []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			parts = append(parts, s)
		}
	}
	add(about(r))
	add(value(r.Value()))
	for c := range r.Value().All("component") {
		add(words(c.Get("code")) + " " + value(c))
	}
	if r.Type() == "MedicationRequest" || r.Type() == "MedicationStatement" {
		for d := range r.Value().All("dosageInstruction.text") {
			add(d.Str())
		}
		for d := range r.Value().All("dosage.text") {
			add(d.Str())
		}
	}
	if day, _, _ := strings.Cut(dataset.When(r), "T"); day != "" {
		add(day)
	}
	for _, path := range []string{"clinicalStatus.coding.code", "verificationStatus.coding.code", "status", "criticality"} {
		if s := r.Text(path); s != "" && s != "final" && s != "confirmed" && s != "unable-to-assess" {
			add(s)
		}
	}
	line := strings.Join(parts, ", ")
	switch {
	case r.Text("doNotPerform") == "true":
		line = "DO NOT GIVE: " + line
	case r.Text("status") == "not-done" || r.Text("status") == "not-taken":
		line = strings.ToUpper(r.Text("status")) + ": " + line
	case r.Text("verificationStatus.coding.code") == "refuted":
		line = "REFUTED: " + line
	}
	if dataset.Reading(r) == dataset.SeeSource {
		line += " (to be read at its source)"
	}
	return line
}

func about(r *fhir.Resource) string {
	if s := words(r.Get("medicationReference")); s != "" {
		return s
	}
	c := dataset.About(r)
	if c.Text != "" {
		return c.Text
	}
	for _, coding := range c.Coding {
		if coding.Display != "" {
			return coding.Display
		}
	}
	for _, coding := range c.Coding {
		return coding.Code
	}
	return r.Type() + " without a code"
}

// words are those of a CodeableConcept or Reference.
func words(v fhir.Value) string {
	for _, path := range []string{"text", "display", "coding.display", "coding.code"} {
		if s := v.Text(path); s != "" {
			return s
		}
	}
	return ""
}

// value is what an observation, or a component of one, says.
func value(v fhir.Value) string {
	if q := v.Get("valueQuantity"); q.Exists() {
		unit := q.Text("unit")
		if unit == "" {
			unit = q.Text("code")
		}
		return q.Text("comparator") + q.Get("value").Str() + " " + unit
	}
	if c := v.Get("valueCodeableConcept"); c.Exists() {
		return words(c)
	}
	for _, path := range []string{"valueString", "valueInteger", "valueBoolean", "valueDateTime", "dataAbsentReason.text", "dataAbsentReason.coding.code"} {
		if x := v.Get(path); x.Exists() {
			return x.Str()
		}
	}
	return ""
}
