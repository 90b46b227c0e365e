package node

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/sim/unraced"
)

// stagedNorth releases what ward 8 makes to a tester, and what ward 9 finds to the council; the rest of the trust is released to all.
func stagedNorth() *region.Region {
	r := secretive()
	signed := region.SignOff{By: "A. Officer", Role: "Clinical Safety Officer", On: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Standard: "DCB0160", HazardLog: "HL-1"}
	from := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	r.Systems[0].Release = region.Staged(region.Stage{All: true, From: from, SignOff: signed}, region.Stage{Testers: true, From: from, Units: []string{"WARD8"}, Users: []string{"nobody-here"}},
		region.Stage{ODS: []string{"918"}, From: from, Units: []string{"WARD9"}, Headings: []dataset.Heading{dataset.Observations, dataset.Problems}, SignOff: signed})
	r.Users[1].Organisation = "918"
	return r
}

// ofWards are a patient and random entries of wards. Each says which ward made it, if at all, in one of the ways in which sources do, or belongs to an encounter that does.
func ofWards(t *rapid.T, i int) (number string, all []*fhir.Resource, units, wards []string) {
	number = someNumber(i)
	of := fhir.Reference{Reference: "Patient/p"}
	all, units, wards = append(all, fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}}, "name": []fhir.HumanName{{Family: "Taylor", Given: []string{"Ann"}}}, "birthDate": "1948-03-12"})), []string{""}, []string{""}
	for k := range rapid.IntRange(1, 7).Draw(t, "entries") {
		typ := rapid.SampledFrom([]string{"Condition", "Observation", "Encounter"}).Draw(t, "type")
		ward, told := rapid.SampledFrom([]string{"", "WARD7", "WARD8", "WARD8", "WARD9"}).Draw(t, "ward"), ""
		by := fhir.Reference{Type: "Organization", Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: ward}}
		f := fhir.M{"subject": of, "code": fhir.Code(fhir.SystemSNOMED, "8098009", "")}
		switch typ {
		case "Observation":
			f["status"] = "final"
		case "Encounter":
			f["status"], f["class"], f["reasonCode"] = "finished", fhir.Coding{Code: "AMB"}, []any{f["code"]}
			delete(f, "code")
		}
		way := rapid.SampledFrom([]string{"delivery", "tag", "element"}).Draw(t, "told by")
		switch {
		case ward == "":
		case way == "delivery":
			told = "RX1HQ/" + strings.ToLower(ward)
		case way == "tag", typ == "Condition":
			f["meta"] = fhir.M{"tag": []fhir.Coding{{System: dataset.SystemUnit, Code: "RX1HQ/" + ward}}}
		case typ == "Observation":
			f["performer"] = []fhir.Reference{{Reference: "Practitioner/x"}, by}
		default:
			f["serviceProvider"] = by
		}
		if to := rapid.IntRange(0, k).Draw(t, "link"); typ != "Encounter" && to > 0 && all[to].Type() == "Encounter" {
			f["encounter"] = fhir.Reference{Reference: string(all[to].Ref())}
			if ward == "" {
				ward = wards[to]
			}
		}
		all, units, wards = append(all, fhir.New(typ, fmt.Sprintf("e%d", k), f)), append(units, told), append(wards, ward)
	}
	return number, all, units, wards
}

// What anybody outside a stage gets is, byte for byte and header for header, what they would get of a store that holds only what is released to them.
func TestAnswersAreThoseOfAStoreThatHoldsOnlyWhatIsReleased(t *testing.T) {
	c := &clock{}
	c.at.Store(time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC).UnixNano())
	released := func(user, ward string, r *fhir.Resource) bool {
		switch {
		case r.Type() == "Patient":
			return true
		case ward == "WARD8":
			return false
		case ward == "WARD9" && r.Type() != "Encounter":
			return user == "social-worker"
		}
		return true
	}
	users := []string{"doctor", "social-worker"}
	full, reduced := holdingIn(t, c, 1, stagedNorth()), map[string]*Node{}
	for _, user := range users {
		reduced[user] = holdingIn(t, c, 1, stagedNorth())
	}
	answers, kept := 3000, 200
	if !unraced.Run(t) {
		answers, kept = 300, 10
	}
	people, asked, hidden := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		if asked >= answers && hidden >= kept && os.Getenv("TOMBOLO_SOAK") == "" {
			return // a short run has compared what it promises
		}
		people++
		number, all, units, wards := ofWards(rt, people)
		give := func(n *Node, i int) {
			d := connector.Delivery{Source: "pas", ID: fmt.Sprintf("%d/%d", people, i), Raw: all[i].Raw(), Patient: "p" + number, Map: "test/1", Content: of(number, all[i]), NamesUnits: true}
			if units[i] != "" {
				d.Units = []string{units[i]}
			}
			if _, err := n.Intake.Accept(t.Context(), d); err != nil {
				rt.Fatal(err)
			}
		}
		for i := range all {
			c.at.Add(int64(time.Minute))
			give(full, i)
			for _, user := range users {
				if released(user, wards[i], all[i]) {
					give(reduced[user], i)
				} else {
					hidden++
				}
			}
		}
		c.at.Add(int64(time.Hour))
		for _, user := range users {
			for _, q := range questions(t, full, number, all) {
				asked++
				a, b := full.handed(t, q.method, q.path, user, q.body), reduced[user].handed(t, q.method, q.path, user, q.body)
				if a.Code != b.Code || !bytes.Equal(a.Body.Bytes(), b.Body.Bytes()) || fmt.Sprint(a.Header()) != fmt.Sprint(b.Header()) {
					rt.Fatalf("%s asks %s %s: the full store says\n%d %v\n%s\nthe reduced one\n%d %v\n%s", user, q.method, q.path, a.Code, a.Header(), a.Body, b.Code, b.Header(), b.Body)
				}
			}
		}
	})
	t.Logf("%d people, %d entries held back from somebody, %d answers compared", people, hidden, asked)
	if asked < answers || hidden < kept {
		t.Errorf("only %d answers were compared, with %d entries held back", asked, hidden)
	}
}
