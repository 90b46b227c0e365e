package gather_test

import (
	"slices"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/mpi"
	"tombolo/region"
)

// sends has a source deliver something.
func (b *bench) sends(t *testing.T, source, id, of string, content ...*fhir.Resource) {
	t.Helper()
	_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: source, ID: id, Received: time.Now(), Raw: []byte(id), Patient: of, Content: content})
	must(t, err)
}

// shown are the codes of the problems that somebody is shown of the person to whom a patient belongs, and the record.
func (b *bench) shown(t *testing.T, patient string) ([]string, *gather.Record) {
	t.Helper()
	person, err := b.opts.People.PersonOf(t.Context(), patient)
	must(t, err)
	rec, err := b.Record(t.Context(), b.as(t, "doctor"), person, gather.Ask{})
	must(t, err)
	var out []string
	for _, e := range rec.Section(dataset.Problems).Entries {
		for _, m := range e.Members {
			out = append(out, m.Resource.Text("code.coding.code"))
		}
	}
	slices.Sort(out)
	return out, rec
}

// Two women of one name and one number, one of whom the surgery knows and the other the trust: once a steward has said so, what the surgery answers by the number is
// shown of the one and never of the other, live or from what it answered earlier; and of a source of which nobody knows yet whom it means, it is shown of neither.
func TestALiveAnswerAboutSomebodyToldApartIsNotShown(t *testing.T) {
	surgery := &moody{}
	surgery.becomes(gives("1"))
	b := openWith(t, map[string]connector.Asker{"surgery": surgery, "clinic": gives("2")}, func(r *region.Region) { r.Systems[2].Limits.LastGood = 24 * time.Hour })
	id := func(source, patient string) string { return b.opts.Stamper.ID(source, "Patient", patient) }
	b.sends(t, "surgery", "live", "p", patient("p", annsNumber, "Taylor", "1948-03-12"))
	if got, _ := b.shown(t, id("trust", "m1")); !slices.Equal(got, []string{"1", "2"}) {
		t.Fatalf("before anybody says anything %v is shown", got)
	}
	for range 200 {
		if b.snapshots(t) != "" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if b.snapshots(t) == "" {
		t.Fatal("the surgery's answer was not kept")
	}

	word := mpi.Saying{A: id("trust", "m1"), B: id("surgery", "p"), Reason: "two women, one number", By: "leila"}
	b.sends(t, connector.Own, "word", "", word.Resource(false))
	got, rec := b.shown(t, id("trust", "m1"))
	if len(got) > 0 {
		t.Errorf("of her whom the trust knows %v is shown", got)
	}
	for _, source := range []string{"surgery", "clinic"} {
		if l := lane(rec, source); l.State != gather.Failed || !fhir.Is(l.Issue, fhir.BusinessRule) || l.Headings[dataset.Problems] != dataset.NotKnown {
			t.Errorf("the lane of the %s is %s, %v, %v", source, l.State, l.Issue, l.Headings[dataset.Problems])
		}
	}
	if st := rec.Section(dataset.Problems).State; st != dataset.NotKnown {
		t.Errorf("her problems are %s", st)
	}
	if got, _ := b.shown(t, id("surgery", "p")); !slices.Equal(got, []string{"1"}) {
		t.Errorf("of her whom the surgery knows %v is shown, want what it says itself", got)
	}
	surgery.becomes(fails(fhir.Transient))
	if got, rec := b.shown(t, id("trust", "m1")); len(got) > 0 || lane(rec, "surgery").State == gather.Earlier {
		t.Errorf("with the surgery down %v is shown of the other, from an earlier answer", got)
	}
	surgery.becomes(gives("1"))

	b.sends(t, connector.Own, "word taken back", "", word.Resource(true))
	if got, _ := b.shown(t, id("trust", "m1")); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("once the word is taken back %v is shown", got)
	}
}

// A daughter of another name who has her mother's number by mistake makes nobody doubt what is said of the mother.
func TestSomebodyToldApartWhoIsUnlikeThemDoubtsNoAnswer(t *testing.T) {
	b := open(t, map[string]connector.Asker{"clinic": gives("2")})
	id := func(source, patient string) string { return b.opts.Stamper.ID(source, "Patient", patient) }
	b.sends(t, "trust", "2", "m2", patient("m2", annsNumber, "Khan", "1979-06-01"))
	b.sends(t, connector.Own, "word", "", mpi.Saying{A: id("trust", "m1"), B: id("trust", "m2"), Reason: "mother and daughter", By: "leila"}.Resource(false))
	if got, rec := b.shown(t, id("trust", "m1")); !slices.Equal(got, []string{"2"}) {
		t.Errorf("of the mother %v is shown (%v)", got, lane(rec, "clinic").Issue)
	}
}
