package mpi_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/mpi"
	"tombolo/store"
)

const (
	margaret = "9990000107"
	george   = "9990000212"
)

// A desk is an index on a real store that takes registrations as they come.
type desk struct {
	t  testing.TB
	db *store.DB
	*mpi.Index
	seq uint64
}

func open(t testing.TB, dir string) *desk {
	engine, err := pebble.Open(pebble.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, db: db, Index: mpi.New(db, connector.Stamper{Key: []byte("k")})}
}

// register takes one Patient in, and lets the index follow.
func (d *desk) register(id, nhs, family, born string, more ...fhir.M) {
	d.t.Helper()
	d.registerAt("s", id, nhs, family, born, more...)
}

func (d *desk) registerAt(source, id, nhs, family, born string, more ...fhir.M) {
	d.t.Helper()
	f := fhir.M{"name": []fhir.HumanName{{Family: family, Given: []string{"Ann"}}}, "birthDate": born, "meta": fhir.M{"source": "urn:tombolo:source:s#" + id}}
	if nhs != "" {
		f["identifier"] = []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}, {System: "mrn", Value: id}}
	}
	for _, m := range more {
		for k, v := range m {
			f[k] = v
		}
	}
	r := fhir.New("Patient", id, f)
	ctx := context.Background()
	if _, err := d.db.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Put(ctx, store.Home{Source: source, Patient: id, Heading: "demographics"}, r)
		return err
	}); err != nil {
		d.t.Fatal(err)
	}
	d.follow()
}

// follow lets the index take in what is new in the log.
func (d *desk) follow() {
	ctx := context.Background()
	for e, err := range d.db.Since(ctx, events.Seq(d.seq)) {
		if err != nil {
			d.t.Fatal(err)
		}
		if uint64(e.Seq) <= d.seq {
			continue
		}
		d.seq = uint64(e.Seq)
		if _, err := d.db.Update(ctx, func(tx store.Tx) error { return d.Handle(ctx, tx, e) }); err != nil {
			d.t.Fatal(err)
		}
	}
}

// opens is the family name of whoever a number leads to, "" for nobody.
func (d *desk) opens(nhs string) string {
	id, err := d.Resolve(context.Background(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: nhs})
	if fhir.Is(err, fhir.NotFound) {
		return ""
	}
	if err != nil {
		d.t.Fatal(err)
	}
	p, err := d.Person(context.Background(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	return p.Name.Family
}

func (d *desk) wants(what string, numbers map[string]string, reviews int) {
	d.t.Helper()
	for n, want := range numbers {
		if got := d.opens(n); got != want {
			d.t.Errorf("%s: a number opens %q, want %q", what, got, want)
		}
	}
	if r, err := d.Reviews(context.Background()); err != nil || len(r) != reviews {
		d.t.Errorf("%s: %d things to look at (%v), want %d", what, len(r), err, reviews)
	}
}

func TestANumberSentForTheWrongPersonOpensNobodyElsesRecord(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("m1", margaret, "Taylor", "1948-03-12")
	d.register("m2", margaret, "Taylor", "1948-03-12")
	d.register("g1", george, "Okafor", "1955-07-30")
	d.wants("at first", map[string]string{margaret: "Taylor", george: "Okafor"}, 0)

	d.register("m1", george, "Taylor", "1948-03-12") // Margaret's record, George's number
	d.wants("mistyped", map[string]string{margaret: "Taylor", george: "Okafor"}, 1)
	if id, _ := d.PersonOf(t.Context(), "m1"); id != mustPerson(t, d, "m2") {
		t.Error("Margaret's own record was parted from her over a number that is not believed")
	}
	d.register("m1", margaret, "Taylor", "1948-03-12")
	d.wants("put right", map[string]string{margaret: "Taylor", george: "Okafor"}, 0)

	d.register("x9", margaret, "Stranger", "1970-01-01") // somebody new under her number
	d.wants("a stranger", map[string]string{margaret: "Taylor"}, 1)
	if mustPerson(t, d, "x9") == mustPerson(t, d, "m1") {
		t.Error("the stranger was linked to Margaret")
	}
}

// A merge is believed where the two could be one: somebody brought in unknown, a slip in one of name, date and number. One of two people who have nothing in common is not, until it is put right.
func TestAMergeOfTwoPeopleWithNothingInCommonIsNotBelieved(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("m1", margaret, "Taylor", "1948-03-12")
	d.register("g1", george, "Okafor", "1955-07-30")
	merged := func(id, into, nhs, family, born string) {
		t.Helper()
		d.register(id, nhs, family, born, fhir.M{"active": false, "link": []fhir.M{{"other": fhir.Reference{Reference: "Patient/" + into}, "type": "replaced-by"}}})
	}
	merged("g1", "m1", george, "Okafor", "1955-07-30")
	d.wants("a lie", map[string]string{margaret: "Taylor", george: "Okafor"}, 1)
	if mustPerson(t, d, "g1") == mustPerson(t, d, "m1") {
		t.Error("George is in Margaret's record")
	}
	merged("g1", "m1", "", "Okafor", "1955-07-30") // without the number that told them apart: it is remembered
	if mustPerson(t, d, "g1") == mustPerson(t, d, "m1") {
		t.Error("without his number George is in Margaret's record")
	}
	for _, c := range []struct{ id, nhs, family, born string }{{"unknown", "", "Unknown", ""}, {"married", "", "Smith", "1948-03-12"}, {"same-number", margaret, "Tailor", "1984-03-12"}, {"old-number", george, "Taylor", "1948-03-12"}} {
		merged(c.id, "m1", c.nhs, c.family, c.born)
		if mustPerson(t, d, c.id) != mustPerson(t, d, "m1") {
			t.Errorf("%s: the merge is not believed", c.id)
		}
	}
	merged("g1", "m1", george, "Taylor", "1948-03-12") // put right: it was Margaret's record under George's number
	if mustPerson(t, d, "g1") != mustPerson(t, d, "m1") {
		t.Error("put right, the merge is still not believed")
	}
}

func TestAPatientWhoBecomesSomebodyElseIsParted(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("m1", margaret, "Taylor", "1948-03-12")
	d.register("m2", margaret, "Taylor", "1948-03-12")
	d.register("m1", margaret, "Khan", "2019-10-05")
	d.wants("overwritten", map[string]string{margaret: "Taylor"}, 1)
	if mustPerson(t, d, "m1") == mustPerson(t, d, "m2") {
		t.Error("the record that became somebody else's is still linked")
	}
	d.register("m1", margaret, "Taylor", "1948-03-12")
	d.wants("put right", map[string]string{margaret: "Taylor"}, 0)
	if mustPerson(t, d, "m1") != mustPerson(t, d, "m2") {
		t.Error("put right, it is not linked again")
	}
}

func mustPerson(t *testing.T, d *desk, patient string) string {
	t.Helper()
	id, err := d.PersonOf(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Whatever is registered in whatever order: a number leads to a person who holds it and is described as its holder; every patient has exactly one
// person.
func TestTheIndexIsSoundAfterAnyRegistrations(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := open(t, t.TempDir())
		defer d.db.Close()
		people := map[string]string{"Taylor": "1948-03-12", "Okafor": "1955-07-30", "Khan": "2015-11-05"}
		for range rapid.IntRange(1, 12).Draw(rt, "n") {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "patient")
			family := rapid.SampledFrom([]string{"Taylor", "Okafor", "Khan"}).Draw(rt, "family")
			d.register(id, rapid.SampledFrom([]string{margaret, george, ""}).Draw(rt, "number"), family, people[family])
		}
		ctx := context.Background()
		for _, n := range []string{margaret, george} {
			id, err := d.Resolve(ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: n})
			if fhir.Is(err, fhir.NotFound) {
				continue
			}
			p, err := d.Person(ctx, id)
			if err != nil {
				rt.Fatalf("a number leads to nobody: %v", err)
			}
			if len(p.Patients) == 0 || p.NHSNumber != n && p.NHSNumber == "" {
				rt.Fatalf("a number leads to a person who does not hold it: %+v", p)
			}
			families := map[string]bool{}
			for _, q := range p.Patients {
				families[q.Name.Family] = true
			}
			if len(families) > 1 {
				rt.Fatalf("people who differ in name and birth date are one person: %v", families)
			}
		}
	})
}
