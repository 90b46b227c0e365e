package hl7v2

import (
	"slices"
	"strings"
)

// units are where the patient was when the message was written: PV1-3, the point of care (PL.1) within its facility (PL.4), or within the facility that
// sends (MSH-4). Of a message that names no place, the facility that sends, unless it is the system's organisation itself. HL7 v2.5.1 §2.A.53, §2.14.9.4
func (x *mapper) units() []string {
	sender := unitPart(authority(x.m.Header().Field(4)))
	if sender == strings.ToUpper(x.o.Organisation) {
		sender = ""
	}
	var out []string
	add := func(facility, point string) {
		if way := strings.Trim(facility+"/"+point, "/"); way != "" && !slices.Contains(out, way) {
			out = append(out, way)
		}
	}
	for _, s := range x.segs {
		if s.Name() != "PV1" {
			continue
		}
		place := s.Field(3)
		facility := unitPart(authority(place.Comp(4)))
		if facility == "" {
			facility = sender
		}
		add(facility, unitPart(str(place, 1)))
	}
	if len(out) == 0 {
		add(sender, "")
	}
	return out
}

// unitPart is a code fit to be a part of the way to a unit, whose parts stand between slashes.
func unitPart(code string) string {
	return strings.ToUpper(strings.TrimSpace(strings.ReplaceAll(code, "/", "-")))
}
