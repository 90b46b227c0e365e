package gather_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/region"
)

// secret are the users whom a live source's labels keep things from, each with what they are.
func secret(r *region.Region) {
	r.Users = append(r.Users, region.User{ID: "nurse", Name: "N", Role: "nurse", Organisation: "RX1", Activities: []string{policy.ViewRecord}},
		region.User{ID: "social", Name: "S", Role: "social-worker", Organisation: "RX1"})
	for i := range r.Systems {
		if r.Systems[i].ID == "one" {
			r.Systems[i].Deadline = 20 * time.Second
			for _, h := range []dataset.Heading{dataset.Medications, dataset.Results, dataset.Encounters} {
				r.Systems[i].Gives[h] = region.Live
			}
		}
	}
}

// told is what a live source says of Ann: entries under random labels, and clinics, products and people that some of them name.
func told(t *rapid.T) []*fhir.Resource {
	support := []*fhir.Resource{fhir.New("Medication", "pill", fhir.M{"code": fhir.Code(fhir.SystemSNOMED, "1", "Doxycycline")}), fhir.New("Medication", "std", fhir.M{"code": fhir.Code(fhir.SystemSNOMED, "8098009", "For it")}),
		fhir.New("Organization", "clinic", fhir.M{"name": "Sexual Health Clinic"}), fhir.New("Practitioner", "dr", fhir.M{"name": []fhir.M{{"family": "Venereologist"}}}),
		fhir.New("PractitionerRole", "role", fhir.M{"practitioner": fhir.Reference{Reference: "Practitioner/dr"}, "organization": fhir.Reference{Reference: "Organization/clinic"}}),
		fhir.New("Specimen", "swab", fhir.M{"type": fhir.Code(fhir.SystemSNOMED, "2", "Swab")}), fhir.New("Location", "ward", fhir.M{"name": "The quiet ward"})}
	out := slices.Clone(support)
	for k := range rapid.IntRange(0, 5).Draw(t, "entries") {
		f := fhir.M{"subject": fhir.Reference{Reference: "Patient/p"}, "code": fhir.Code(fhir.SystemSNOMED, rapid.SampledFrom([]string{"37796009", "37796009", "8098009"}).Draw(t, "code"), "C")}
		if l := rapid.SampledFrom([]string{"", "", "R", "V", "legally-withheld"}).Draw(t, "label"); l != "" {
			f["meta"] = fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: l}}}
		}
		typ := rapid.SampledFrom([]string{"Condition", "Observation", "MedicationRequest", "Encounter"}).Draw(t, "type")
		by := rapid.SampledFrom([]string{"", "Practitioner/dr", "PractitionerRole/role"}).Draw(t, "by")
		refer := func(name, to string, many bool) {
			switch {
			case to == "":
			case many:
				f[name] = []fhir.Reference{{Reference: to}}
			default:
				f[name] = fhir.Reference{Reference: to}
			}
		}
		switch typ {
		case "Condition":
			refer("recorder", by, false)
		case "Observation":
			f["status"] = "final"
			refer("performer", by, true)
			refer("specimen", rapid.SampledFrom([]string{"", "Specimen/swab"}).Draw(t, "specimen"), false)
		case "MedicationRequest":
			f["status"], f["intent"] = "active", "order"
			delete(f, "code")
			refer("medicationReference", rapid.SampledFrom([]string{"Medication/pill", "Medication/std"}).Draw(t, "of"), false)
			refer("requester", by, false)
		case "Encounter":
			f["status"], f["class"], f["reasonCode"] = "finished", fhir.Coding{Code: "AMB"}, []any{f["code"]}
			delete(f, "code")
			refer("serviceProvider", rapid.SampledFrom([]string{"", "Organization/clinic"}).Draw(t, "provider"), false)
		}
		out = append(out, fhir.New(typ, fmt.Sprintf("e%d", k), f))
	}
	return out
}

// seen is what somebody in a role may see of it by the decision on each entry: what supports an entry is seen with one that names it.
func seen(t *rapid.T, role policy.Role, activities []string, all []*fhir.Resource) []*fhir.Resource {
	labels := policy.NewSensitivity(policy.BuiltInLists(), nil).Labels(all)
	var out []*fhir.Resource
	names := ""
	for i, r := range all {
		f := policy.Facts{Subject: policy.Subject{Role: role, Organisation: "RX1", Activities: activities}, Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.KnownHere},
			Source: &policy.Source{System: "one", Organisation: "RX1", Release: region.Release{All: true}}, Heading: dataset.HeadingOf(r), Item: &policy.Item{Labels: labels[i]}, At: time.Now()}
		if supports := r.Type() == "PractitionerRole" || f.Heading == ""; !supports && policy.Decide(f).Permit {
			out = append(out, r)
			names += string(r.Raw())
		}
	}
	if strings.Contains(names, "PractitionerRole/role") {
		names += "Practitioner/dr Organization/clinic"
	}
	for _, r := range all[:7] {
		if strings.Contains(names, string(r.Ref())) {
			out = append(out, r)
		}
	}
	return out
}

// Non-interference of what is asked live: the joined record of a source that tells everything is, byte for byte, that of one which tells only what may be seen: not
// the clinic, the product, the specimen or the signature of what is withheld. reliability.md A3, A7
func TestALiveAnswerShowsNothingOfWhatIsWithheld(t *testing.T) {
	noon := time.Now()
	var content atomic.Pointer[[]*fhir.Resource]
	b := openWith(t, map[string]connector.Asker{"one": source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		a := &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{}}
		for _, h := range q.Headings {
			a.States[h] = dataset.NoneRecorded
		}
		for _, r := range *content.Load() {
			if h := dataset.HeadingOf(r); slices.Contains(q.Headings, h) {
				a.States[h] = dataset.Present
			}
			a.Content = append(a.Content, r)
		}
		return a, nil
	})}, secret)
	b.opts.Now = func() time.Time { return noon }
	b.Gatherer = gather.New(b.opts)
	id := mustPerson(t, b)
	shown, hidden, supported := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		all := told(rt)
		for user, as := range map[string]struct {
			role       policy.Role
			activities []string
		}{"doctor": {policy.HospitalDoctor, nil}, "nurse": {policy.Nurse, []string{policy.ViewRecord}}, "social": {policy.SocialWorker, nil}} {
			may := seen(rt, as.role, as.activities, all)
			var bundles [2][]byte
			for i, c := range [][]*fhir.Resource{all, may} {
				content.Store(&c)
				rec, err := b.Record(t.Context(), b.as(t, user), id, gather.Ask{})
				if err != nil {
					rt.Fatal(err)
				}
				bundles[i] = rec.Bundle("", "")
			}
			shown, hidden = shown+len(may), hidden+len(all)-len(may)
			if bytes.Contains(bundles[0], []byte("Sexual Health Clinic")) {
				supported++
			}
			if !bytes.Equal(bundles[0], bundles[1]) {
				rt.Fatalf("%s of all that the source tells gets\n%s\nof what they may see\n%s", user, bundles[0], bundles[1])
			}
		}
	})
	if t.Logf("%d entries shown, %d withheld; the clinic was named %d times", shown, hidden, supported); shown == 0 || hidden < 100 || supported == 0 {
		t.Error("the journeys do not meet what is tested")
	}
}
