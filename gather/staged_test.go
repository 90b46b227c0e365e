package gather_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/region"
)

// canary stands in everything that ward 8 made. Ward 8 is with its testers; the rest of the trust is released to all.
const canary = "HERON77"

var officer = region.SignOff{By: "A. Officer", Role: "Clinical Safety Officer", On: time.Now().AddDate(0, -2, 0), Standard: "DCB0160", HazardLog: "HL-1"}

func wardEight(to region.Stage) region.Release {
	to.From, to.Units = time.Now().AddDate(0, 0, -7), []string{"WARD8"}
	return region.Staged(region.Stage{All: true, From: time.Now().AddDate(0, -1, 0), SignOff: officer}, to)
}

// staged is a trust that sends results of two wards, and a live source that answers with problems of two.
func staged(t testing.TB, release region.Release, hidden bool) *bench {
	t.Helper()
	live := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		a := &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{}}
		for _, h := range q.Headings {
			a.States[h] = dataset.NoneRecorded
		}
		if hidden {
			a.States[dataset.Problems] = dataset.Present
			a.Content = append(a.Content, fhir.New("Condition", "c8", fhir.M{"subject": fhir.M{"reference": "Patient/p"}, "code": fhir.M{"text": canary + " problem"},
				"encounter": fhir.M{"reference": "Encounter/e8"}, "recorder": fhir.M{"reference": "Practitioner/p8"}}),
				fhir.New("Practitioner", "p8", fhir.M{"name": []fhir.M{{"family": canary}}}))
		}
		return a, nil
	})
	b := openWith(t, map[string]connector.Asker{"mind": live}, func(r *region.Region) {
		r.Users = append(r.Users, region.User{ID: "tester", Name: "Dr Test", Role: "hospital-doctor", Organisation: "RX1"},
			region.User{ID: "ann", Name: "Ann", Role: "citizen", PersonRef: fhir.SystemNHSNumber + "|" + annsNumber})
		for i := range r.Systems {
			r.Systems[i].Release = release
		}
		r.Systems[0].Gives[dataset.Documents], r.Systems[0].Gives[dataset.Encounters] = region.Push, region.Push
	})
	send := func(id string, units []string, content ...*fhir.Resource) {
		_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: id, Raw: []byte(id), Patient: "m1", Content: content, Units: units, NamesUnits: true})
		must(t, err)
	}
	of := fhir.M{"reference": "Patient/m1"}
	send("7", []string{"RX1HQ/WARD7"}, fhir.New("Observation", "o7", fhir.M{"status": "final", "subject": of, "code": fhir.M{"text": "Sodium of ward 7"}, "category": []fhir.M{{"coding": []fhir.M{{"code": "laboratory"}}}}}))
	if hidden {
		send("8", []string{"RX1HQ/WARD8"}, fhir.New("Observation", "o8", fhir.M{"status": "final", "subject": of, "code": fhir.M{"text": canary + " potassium"}, "category": []fhir.M{{"coding": []fhir.M{{"code": "laboratory"}}}}}),
			fhir.New("DocumentReference", "d8", fhir.M{"status": "current", "subject": of, "description": canary + " letter", "content": []fhir.M{{"attachment": fhir.M{"contentType": "text/plain", "url": "Binary/b8"}}}}),
			fhir.New("Binary", "b8", fhir.M{"contentType": "text/plain", "data": "SEVST043Nw=="}), fhir.New("Organization", "org8", fhir.M{"name": canary, "identifier": []fhir.M{{"value": "WARD8"}}}),
			fhir.New("Encounter", "v8", fhir.M{"status": "finished", "subject": of, "class": fhir.M{"code": "IMP"}, "serviceProvider": fhir.M{"reference": "Organization/org8"}, "reasonCode": []fhir.M{{"text": canary}}}))
		send("9", nil, fhir.New("Observation", "o9", fhir.M{"status": "final", "subject": of, "encounter": fhir.M{"reference": "Encounter/v8"}, "code": fhir.M{"text": canary + " by its visit"}, "category": []fhir.M{{"coding": []fhir.M{{"code": "laboratory"}}}}}))
	}
	return b
}

func (b *bench) bundle(t testing.TB, user string) (string, *gather.Record) {
	t.Helper()
	s := b.as(t, user)
	if user == "ann" {
		s.Person = fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber}
	}
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	rec, err := b.Record(t.Context(), s, id, gather.Ask{})
	must(t, err)
	return string(rec.Bundle("https://x/fhir", "self")), rec
}

// What an unreleased unit made never leaves to who is outside its stage; to its testers it says how far it has come.
func TestAnUnreleasedUnitIsNotSeenOutsideItsStage(t *testing.T) {
	b := staged(t, wardEight(region.Stage{Testers: true, Users: []string{"tester"}}), true)
	for _, user := range []string{"doctor", "clerk", "ann"} {
		if user == "clerk" {
			continue // opens no results
		}
		got, rec := b.bundle(t, user)
		if strings.Contains(got, canary) {
			t.Errorf("%s is shown what ward 8 made", user)
		}
		if strings.Contains(got, policy.SystemStage) {
			t.Errorf("%s is told of stages", user)
		}
		if s := rec.Section(dataset.Documents); s.State != dataset.NotShared || rec.Complete(dataset.Documents) {
			t.Errorf("to %s documents are %s, complete %v: they are not all shared", user, s.State, rec.Complete(dataset.Documents))
		}
		if !strings.Contains(got, "Sodium of ward 7") {
			t.Errorf("%s is not shown what ward 7 made", user)
		}
	}
	got, rec := b.bundle(t, "tester")
	for _, want := range []string{canary + " potassium", canary + " by its visit", canary + " letter", `"code":"testers"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the tester is not shown %q", want)
		}
	}
	if l := lane(rec, "trust"); l.Stage != "testers" || l.InPart != nil {
		t.Errorf("the tester's lane says stage %q, in part %v", l.Stage, l.InPart)
	}
	for _, e := range rec.Section(dataset.Results).Entries {
		if in, of := strings.Contains(string(e.Lead.Raw()), canary), gather.StageOf(e.Lead); in != (of == "testers") {
			t.Errorf("%s says that its stage is %q", e.Lead.Ref(), of)
		}
	}
}

// ids are what differs between two nodes that hold the same.
var ids = regexp.MustCompile(`[0-9a-z]{26}|\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+\d\d:\d\d)|"versionId":"\d+"`)

// To who is outside its stage, a unit that made much and one that made nothing are the same, byte for byte.
func TestWhatIsNotReleasedCannotBeTold(t *testing.T) {
	release := wardEight(region.Stage{Testers: true, Users: []string{"tester"}})
	with, without := staged(t, release, true), staged(t, release, false)
	for _, user := range []string{"doctor", "ann"} {
		a, _ := with.bundle(t, user)
		c, _ := without.bundle(t, user)
		if a, c = ids.ReplaceAllString(a, "-"), ids.ReplaceAllString(c, "-"); a != c {
			t.Errorf("to %s what ward 8 made shows:\n%s\n%s", user, a, c)
		}
	}
}

// One entry by its id, a document's content, and what is nobody's record: each is unknown to who is outside the stage.
func TestReadingOneEntryOfAnUnreleasedUnit(t *testing.T) {
	b := staged(t, wardEight(region.Stage{Off: true}), true)
	stamper := connector.Stamper{Key: []byte("test")}
	s := b.as(t, "doctor")
	person, err := b.Find(t.Context(), s, ann)
	must(t, err)
	_, never := b.Read(t.Context(), s, fhir.MakeRef("Observation", "never-was"))
	for _, ref := range []fhir.Ref{"Observation/o8", "Observation/o9", "DocumentReference/d8", "Encounter/v8", "Binary/b8", "Organization/org8"} {
		r, err := b.Read(t.Context(), s, stamper.Ref("trust", ref))
		if r != nil || err == nil || err.Error() != never.Error() || fhir.IssueOf(err).Type != fhir.IssueOf(never).Type {
			t.Errorf("%s: %v, %v; want %v", ref, r, err, never)
		}
	}
	if d, err := b.Document(t.Context(), s, person, stamper.Ref("trust", "DocumentReference/d8")); d != nil || err == nil {
		t.Errorf("the letter of ward 8 is opened: %v", err)
	}
	if r, err := b.Read(t.Context(), s, stamper.Ref("trust", "Observation/o7")); err != nil || r == nil {
		t.Errorf("ward 7's: %v", err)
	}
}

// A source is not asked for a heading that is off for the user, and is asked for one of which some unit's is released.
func TestALiveSourceIsAskedForWhatIsReleased(t *testing.T) {
	var asked []dataset.Heading
	live := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		asked = q.Headings
		return &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Allergies: dataset.NoneRecorded}}, nil
	})
	b := openWith(t, map[string]connector.Asker{"mind": live}, func(r *region.Region) {
		r.Systems[1].Release = region.Staged(region.Stage{Off: true}, region.Stage{All: true, Units: []string{"WARD7"}, Headings: []dataset.Heading{dataset.Allergies}, SignOff: officer})
	})
	rec := b.record(t)
	if fmt.Sprint(asked) != "[allergies]" {
		t.Errorf("asked for %v", asked)
	}
	if s := rec.Section(dataset.Allergies); s.State != dataset.NotShared || rec.Complete(dataset.Allergies) {
		t.Errorf("with one ward's allergies released, none recorded is read as %s, complete %v", s.State, rec.Complete(dataset.Allergies))
	}
	if s := rec.Section(dataset.Problems); s.State != dataset.NotShared {
		t.Errorf("problems are %s", s.State)
	}
}

// An answer may hold what was not asked for, which tells the unit of what was: that is used, and not shown.
func TestWhatALiveAnswerTellsBesidesTellsTheUnit(t *testing.T) {
	live := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		visit := func(id, ward string) *fhir.Resource {
			return fhir.New("Encounter", id, fhir.M{"status": "finished", "class": fhir.M{"code": "IMP"}, "subject": fhir.M{"reference": "Patient/p"}, "serviceProvider": fhir.M{"identifier": fhir.M{"value": ward}}, "reasonCode": []fhir.M{{"text": "Reasonword"}}})
		}
		at := func(id, encounter, text string) *fhir.Resource {
			return problem(id, "p").With("encounter", fhir.M{"reference": "Encounter/" + encounter}).With("code", fhir.M{"text": text})
		}
		return &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present},
			Content: []*fhir.Resource{visit("e7", "WARD7"), visit("e8", "WARD8"), at("1", "e7", "Of ward seven"), at("2", "e8", canary), problem("3", "p").With("code", fhir.M{"text": canary + " by provenance"}),
				fhir.New("Provenance", "pr", fhir.M{"target": []fhir.M{{"reference": "Condition/3"}}, "recorded": "2026-01-01T00:00:00Z", "agent": []fhir.M{{"who": fhir.M{"identifier": fhir.M{"value": "ward8"}}}}})}}, nil
	})
	b := openWith(t, map[string]connector.Asker{"mind": live}, func(r *region.Region) { r.Systems[1].Release = wardEight(region.Stage{Off: true}) })
	got := string(b.record(t).Bundle("x", "y"))
	if !strings.Contains(got, "Of ward seven") || strings.Contains(got, canary) || strings.Contains(got, "Reasonword") {
		t.Errorf("ward 7's problem shown %v, ward 8's %v, the visits that were not asked for %v", strings.Contains(got, "Of ward seven"), strings.Contains(got, canary), strings.Contains(got, "Reasonword"))
	}
}

// A change of the file is in force at the next question.
func TestAStageThatIsTakenBackHoldsAtOnce(t *testing.T) {
	b := staged(t, wardEight(region.Stage{All: true, SignOff: officer}), true)
	if got, _ := b.bundle(t, "doctor"); !strings.Contains(got, canary) {
		t.Fatal("what is released is not shown")
	}
	so := officer
	so.Withdrawn = time.Now().Add(-time.Minute)
	now := *b.opts.Region
	now.Systems = append([]region.System{}, now.Systems...)
	for i := range now.Systems {
		now.Systems[i].Release = wardEight(region.Stage{All: true, SignOff: so})
	}
	b.opts.Agreed = inForce{&now}
	b.Gatherer = gather.New(b.opts)
	if got, _ := b.bundle(t, "doctor"); strings.Contains(got, canary) {
		t.Error("what was signed off is shown after the sign-off was withdrawn")
	}
}

type inForce struct{ r *region.Region }

func (f inForce) InForce() (*region.Region, *policy.Sensitivity, policy.Data) {
	return f.r, policy.NewSensitivity(policy.BuiltInLists(), nil), policy.Data{Version: "test"}
}
