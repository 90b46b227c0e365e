package region

import (
	"strings"
	"testing"
	"time"

	"tombolo/dataset"
)

const ground = `
region: {id: north, name: North}
organisations: [{ods: RX1, name: North Trust, kind: acute}, {ods: NA1, name: A Nation, kind: other}]
systems: [{id: ehr, organisation: RX1, connector: fhirapi, address: "http://127.0.0.1:9", gives: {allergies: both, problems: live}}]
agreements: [{id: care, parties: [RX1, NA1], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RX1, token_sha256: "` + "0000000000000000000000000000000000000000000000000000000000000000" + `"}]
`

// What a region file says of probing, of freshness and of who may have a gathering explained is read, and what is wrong with it is said with its mending.
func TestWhatAFileSaysOfProbingAndPlanning(t *testing.T) {
	r, problems := Parse("region.yaml", []byte(ground+`
probing: {as: doctor, patients: ["9990000107", "https://fhir.example/number|A1"], every: 24h, holds: 240h, tries: 5}
gathering: {fresh: {allergies: 1h, documents: 24h}}
policy: {version: "1", author: Somebody, explain: [hospital-doctor, B0360]}
`))
	if Broken(problems) {
		t.Fatal(problems)
	}
	if p := r.Probing; p.As != "doctor" || len(p.Patients) != 2 || p.Every != 24*time.Hour || p.Holds != 240*time.Hour || p.Tries != 5 {
		t.Errorf("probing: %+v", p)
	}
	if f := r.Gathering.Fresh; f[dataset.Allergies] != time.Hour || f[dataset.Documents] != 24*time.Hour || len(f) != 2 {
		t.Errorf("fresh: %v", f)
	}
	if way := r.Systems[0].Gives[dataset.Allergies]; way != Both || !way.Asked() || !way.Sends() || Live.Sends() || Push.Asked() {
		t.Errorf("a system gives allergies %s", way)
	}
	for wrong, want := range map[string]string{
		"probing: {patients: [\"9990000107\"]}":                                                   "nothing says who",
		"probing: {as: nobody, patients: [\"9990000107\"]}":                                       "nobody is not among the users",
		"probing: {as: doctor, patients: [\"9990000108\"]}":                                       "not a number by which anybody is known",
		"probing: {as: doctor, patients: [\"4010232137\"]}":                                       "may be somebody's own number",
		"probing: {every: 24h}":                                                                   "without a test patient",
		"gathering: {fresh: {hats: 1h}}":                                                          "hats",
		"gathering: {fresh: {allergies: soon}}":                                                   "not a duration",
		"policy: {version: \"1\", author: X, explain: [citizen]}":                                 "neither a role",
		"policy: {version: \"1\", author: X, explain: [hospital-docter]}":                         "neither a role",
		"neighbours: [{id: far, kind: xca, address: \"https://far.example\", organisation: NA1}]": "does not speak XCA yet",
	} {
		_, problems := Parse("region.yaml", []byte(ground+wrong))
		said := ""
		for _, p := range problems {
			said += p.String() + "\n"
		}
		if !strings.Contains(said, want) {
			t.Errorf("%s\nsays:\n%s\nwant %q", wrong, said, want)
		}
	}
}
