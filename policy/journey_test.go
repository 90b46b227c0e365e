package policy

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
)

// A step of a journey is one entry: what it is called in references, and what it refers to by which element.
type step struct {
	ref, code string
	links     []string
	marked    bool // it tells of the sensitive thing
}

// A journey is how a person goes through care, as sources write it: a beginning, an encounter with what came of it, and what came of that. Each is told with
// which entries tell of the sensitive thing by the words of docs/sensitivity.md, and not by the code that computes it.
type journey struct{ steps []step }

func (j *journey) add(typ string, marked bool, code string, links ...string) string {
	ref := fmt.Sprintf("%s/%d", typ, len(j.steps))
	j.steps = append(j.steps, step{ref, code, links, marked})
	return ref
}

// somethingOf adds what belongs to an encounter: marked with it if its type tells, and never a problem, vaccination or allergy.
func (j *journey) somethingOf(t *rapid.T, encounter string, sensitive bool) {
	tells := rapid.SampledFrom([]string{"DocumentReference", "ServiceRequest", "MedicationRequest", "DiagnosticReport", "Observation", "Procedure", "Appointment", "Communication", "Task", "ImagingStudy"}).Draw(t, "of the visit")
	element := map[string]string{"DocumentReference": "context", "Appointment": "basedOnEncounter"}[tells]
	if element == "" {
		element = "encounter"
	}
	x := j.add(tells, sensitive, "", element+"="+encounter)
	if rapid.Bool().Draw(t, "follows") { // what hangs on it: a dispensing, a result, a file
		switch tells {
		case "MedicationRequest":
			j.add("MedicationDispense", sensitive, "", "authorizingPrescription="+x)
		case "DiagnosticReport":
			o := j.add("Observation", sensitive, "", "basedOn="+x)
			j.add("Observation", sensitive, "", "derivedFrom="+o)
		case "DocumentReference":
			j.add("Binary", sensitive, "", "securityContext="+x)
		case "ServiceRequest":
			a := j.add("Appointment", sensitive, "", "basedOn="+x)
			j.add("Communication", sensitive, "", "about="+a)
		}
	}
	if rapid.Bool().Draw(t, "beside") { // written down at the same encounter, of itself no matter
		j.add(rapid.SampledFrom([]string{"Condition", "Immunization", "AllergyIntolerance"}).Draw(t, "no matter"), false, benign, "encounter="+encounter)
	}
}

// draw makes one sensitive episode and some that are not, of one person at one source.
func (j *journey) draw(t *rapid.T) {
	episode := func(sensitive bool) {
		code := benign
		if sensitive {
			code = rapid.SampledFrom([]string{std, "86406008", "386639001", "93461009", "63487001"}).Draw(t, "code")
		}
		e := j.add("Encounter", sensitive, "")
		switch rapid.SampledFrom([]string{"condition", "visit", "result", "referral", "medicine"}).Draw(t, "known by") {
		case "condition":
			j.add("Condition", sensitive, code, "encounter="+e)
		case "visit":
			j.steps[len(j.steps)-1].code = code
		case "result":
			o := j.add("Observation", sensitive, code, "encounter="+e)
			r := j.add("DiagnosticReport", sensitive, "", "result="+o)
			if rapid.Bool().Draw(t, "asked for") {
				j.add("ServiceRequest", sensitive, "", "supportingInfo="+r)
			}
		case "referral":
			j.add("ServiceRequest", sensitive, code, "encounter="+e)
		case "medicine": // given for a problem that was written down at home
			c := j.add("Condition", sensitive, code)
			j.add("MedicationRequest", sensitive, "", "reasonReference="+c, "encounter="+e)
		}
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			j.somethingOf(t, e, sensitive)
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "before") {
		episode(false)
	}
	episode(true)
	for range rapid.IntRange(0, 2).Draw(t, "after") {
		episode(false)
	}
	// A plan that lists entries of all of them is marked for what it holds, and marks nothing else.
	var lists []string
	sensitive := false
	for range rapid.IntRange(1, 4).Draw(t, "listed") {
		s := rapid.SampledFrom(j.steps).Draw(t, "lists")
		lists = append(lists, "addresses="+s.ref)
		sensitive = sensitive || s.marked
	}
	j.add(rapid.SampledFrom([]string{"CarePlan", "List", "Composition", "Provenance"}).Draw(t, "gathers"), sensitive, "", lists...)
}

// Three hundred journeys, and others each run: all that tells of the sensitive thing is marked, and nothing else is.
func TestWhateverTheJourneyWhatTellsOfItIsMarked(t *testing.T) {
	journeys, entries, hidden := 0, 0, 0
	check := func(t *rapid.T) {
		var j journey
		j.draw(t)
		rs := make([]*fhir.Resource, len(j.steps))
		for i, s := range j.steps {
			rs[i] = made(s.ref, s.code, s.links...)
		}
		journeys++
		for i, l := range builtin.Labels(rs) {
			entries++
			if j.steps[i].marked {
				hidden++
			}
			if got := l&(RestrictedLabel|LegallyWithheld) != 0; got != j.steps[i].marked {
				var told strings.Builder
				for _, s := range j.steps {
					fmt.Fprintf(&told, "\n  %s %s %v marked=%v", s.ref, s.code, s.links, s.marked)
				}
				t.Fatalf("%s is marked: %v%s", j.steps[i].ref, got, told.String())
			}
		}
	}
	for journeys < 300 {
		rapid.Check(t, check)
	}
	t.Logf("%d journeys of %d entries, of which %d tell of something sensitive", journeys, entries, hidden)
}
