package standing

import (
	"slices"
	"time"

	"tombolo/fhir"
	"tombolo/policy"
)

// SystemWorkgroup is this program's own: the id of a workgroup, as the region file gives it to users and a CareTeam bears it.
const SystemWorkgroup = "https://tombolo.dev/Id/workgroup"

// After these times what was left open is taken for forgotten. A relationship that nobody closed is no relationship for ever.
const (
	longestStay     = 400 * 24 * time.Hour
	longestReferral = 400 * 24 * time.Hour
	beforeVisit     = 14 * 24 * time.Hour // notes are read before somebody is seen
	afterVisit      = 28 * 24 * time.Hour // and letters written after
)

// ties are how each type makes a relationship of care. None of them for a resource that is planned away, cancelled or wrong.
var ties = map[string]func(*fhir.Resource) []Tie{
	"Encounter": encounterTies, "EpisodeOfCare": episodeTies, "ServiceRequest": referralTies, "Task": referralTies,
	"Appointment": appointmentTies, "CareTeam": teamTies,
}

func start(r *fhir.Resource, paths ...string) time.Time {
	for _, p := range paths {
		if span, err := fhir.ParseDate(r.Text(p)); err == nil {
			return span.Start
		}
	}
	return time.Time{}
}

// until is a period's end, or so long after its start where it has none. With neither nothing is known, and no tie is made.
func until(r *fhir.Resource, end string, from time.Time, longest time.Duration) (time.Time, bool) {
	if span, err := fhir.ParseDate(r.Text(end)); err == nil {
		return span.End, true
	}
	return from.Add(longest), !from.IsZero()
}

func encounterTies(r *fhir.Resource) []Tie {
	if !slices.Contains([]string{"arrived", "triaged", "in-progress", "onleave", "finished"}, r.Text("status")) {
		return nil
	}
	from := start(r, "period.start")
	end, ok := until(r, "period.end", from, longestStay)
	if !ok {
		return nil
	}
	if r.Text("period.end") != "" {
		end = end.Add(afterVisit)
	}
	return []Tie{{Kind: policy.OpenEncounter, Organisation: odsOf(r.Get("serviceProvider")), From: from, Until: end}}
}

func episodeTies(r *fhir.Resource) []Tie {
	if s := r.Text("status"); s != "active" && s != "onhold" && s != "waitlist" {
		return nil
	}
	from := start(r, "period.start")
	end, ok := until(r, "period.end", from, longestStay)
	if !ok {
		return nil
	}
	return []Tie{{Kind: policy.CareTeam, Organisation: odsOf(r.Get("managingOrganization")), From: from, Until: end}}
}

// referralTies hold for the organisation that is asked, where it is named: who wrote the referral has other ties.
func referralTies(r *fhir.Resource) []Tie {
	if !slices.Contains([]string{"active", "on-hold", "requested", "received", "accepted", "ready", "in-progress"}, r.Text("status")) {
		return nil
	}
	from := start(r, "authoredOn", "occurrenceDateTime")
	if from.IsZero() {
		return nil
	}
	var out []Tie
	for _, path := range []string{"performer", "owner"} {
		for v := range r.Value().All(path) {
			if ods := odsOf(v); ods != "" {
				out = append(out, Tie{Kind: policy.OpenReferral, Organisation: ods, From: from, Until: from.Add(longestReferral)})
			}
		}
	}
	return out
}

func appointmentTies(r *fhir.Resource) []Tie {
	if !slices.Contains([]string{"booked", "arrived", "checked-in", "fulfilled", "pending"}, r.Text("status")) {
		return nil
	}
	at := start(r, "start")
	if at.IsZero() {
		return nil
	}
	from, end := at.Add(-beforeVisit), at.Add(afterVisit)
	out := []Tie{{Kind: policy.OpenAppointment, From: from, Until: end}}
	for v := range r.Value().All("participant.actor") {
		if ods := odsOf(v); ods != "" {
			out = append(out, Tie{Kind: policy.OpenAppointment, Organisation: ods, From: from, Until: end})
		}
	}
	return out
}

func teamTies(r *fhir.Resource) []Tie {
	if s := r.Text("status"); s != "active" && s != "" {
		return nil
	}
	from := start(r, "period.start")
	var end time.Time
	if span, err := fhir.ParseDate(r.Text("period.end")); err == nil {
		end = span.End
	}
	var out []Tie
	for _, id := range r.Identifiers() {
		if id.System == SystemWorkgroup {
			out = append(out, Tie{Kind: policy.Workgroup, Workgroup: id.Value, From: from, Until: end})
		}
	}
	for _, path := range []string{"managingOrganization", "participant.member", "participant.onBehalfOf"} {
		for v := range r.Value().All(path) {
			if ods := odsOf(v); ods != "" {
				out = append(out, Tie{Kind: policy.CareTeam, Organisation: ods, From: from, Until: end})
			}
		}
	}
	return out
}

// odsOf is the ODS code by which a reference names an organisation, "" if it does not.
func odsOf(ref fhir.Value) string {
	if id := ref.Member("identifier"); fhir.CanonicalSystem(id.Text("system")) == fhir.SystemODS {
		return id.Text("value")
	}
	return ""
}
