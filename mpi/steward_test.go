package mpi_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/store"
)

// lives is what a registration says of where somebody lives and how they are reached.
func lives(postcode, line, phone string) fhir.M {
	return fhir.M{"address": []fhir.Address{{Line: []string{line}, City: "Severnbridge", PostalCode: postcode}}, "telecom": []fhir.M{{"system": "phone", "value": phone}}, "gender": "female"}
}

func called(given, family string) fhir.M {
	return fhir.M{"name": []fhir.HumanName{{Family: family, Given: []string{given}}}}
}

var mill = lives("ZZ99 3AB", "7 Mill Lane", "01632 960123")

// says is a steward's word, or its withdrawal.
func (d *desk) says(s mpi.Saying, withdrawn bool) {
	d.t.Helper()
	ctx := context.Background()
	s.By, s.Reason = "steward", "they were seen together"
	if !withdrawn {
		if err := d.Allows(ctx, s); err != nil {
			d.t.Fatal(err)
		}
	}
	if _, err := d.db.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Put(ctx, store.Home{Source: connector.Own}, s.Resource(withdrawn))
		return err
	}); err != nil {
		d.t.Fatal(err)
	}
	d.follow()
}

// people is who is who: the patients of each person.
func (d *desk) people(patients ...string) map[string][]string {
	d.t.Helper()
	out := map[string][]string{}
	for _, id := range patients {
		p, err := d.PersonOf(context.Background(), id)
		if fhir.Is(err, fhir.NotFound) {
			continue
		}
		if err != nil {
			d.t.Fatal(err)
		}
		out[p] = append(out[p], id)
	}
	return out
}

func (d *desk) same(a, b string) bool { return len(d.people(a, b)) == 1 }

func (d *desk) maybes() int {
	d.t.Helper()
	m, err := d.Maybes(context.Background(), 0)
	if err != nil {
		d.t.Fatal(err)
	}
	return len(m)
}

func TestWhoIsWithoutDoubtTheSameIsLinkedAndWhoMayBeIsListed(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("gp", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("hospital", "", "Taylor", "1948-03-12", called("MARGARET", "TAYLOR"), mill)
	if !d.same("gp", "hospital") || d.maybes() != 0 {
		t.Errorf("the hospital's record without a number is somebody else's; %d to look at", d.maybes())
	}
	d.register("twin", "", "Taylor", "1948-03-12", called("Dorothy", "Taylor"), mill)
	if d.same("gp", "twin") || d.maybes() != 0 {
		t.Errorf("her twin: linked %v, %d to look at", d.same("gp", "twin"), d.maybes())
	}
	d.register("clinic", "", "Taylor", "1948-12-03", called("Maggie", "Taylor"), mill)
	if d.same("gp", "clinic") || d.maybes() == 0 {
		t.Errorf("day and month changed about: linked %v, %d to look at", d.same("gp", "clinic"), d.maybes())
	}
	for _, m := range must(d.Maybes(t.Context(), 0)) {
		if why := strings.Join(m.Why, "; "); strings.Contains(strings.ToLower(why), "taylor") || !strings.Contains(why, "birth date one slip") {
			t.Errorf("the reasons given are %q", why)
		}
	}
	d.register("clinic", "", "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	if !d.same("gp", "clinic") || d.maybes() != 0 {
		t.Errorf("put right: linked %v, %d to look at", d.same("gp", "clinic"), d.maybes())
	}
	if got := d.opens(margaret); got != "Taylor" {
		t.Errorf("her number opens %q", got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNobodyIsLinkedOnLikenessAcrossTwoNumbers(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", george, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	if d.same("a", "b") || d.maybes() != 1 {
		t.Errorf("two numbers, one description: linked %v, %d to look at", d.same("a", "b"), d.maybes())
	}
	d.register("c", "", "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	if d.same("a", "c") || d.same("b", "c") {
		t.Error("a record that could be of either was given to one of them")
	}
}

func TestAStewardsWordGoesBeforeAllElseAndCanBeTakenBack(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", "", "Green", "1948-03-12", called("Peggy", "Green"), lives("ZZ1 1AA", "1 Elsewhere", "07700 900111"))
	before := d.dump()
	ab := mpi.Saying{A: "a", B: "b", Same: true}
	d.says(ab, false)
	if !d.same("a", "b") {
		t.Fatal("joined by a steward, they are two people")
	}
	if p := must(d.Person(t.Context(), must(d.PersonOf(t.Context(), "b")))); len(p.Patients) != 2 || p.NHSNumber != margaret {
		t.Errorf("the joined person is %+v", p)
	}
	if err := d.Allows(t.Context(), mpi.Saying{A: "a", B: "b", Reason: "no"}); err != nil {
		t.Errorf("the last word about one pair counts: %v", err)
	}
	d.says(ab, true)
	if diff := differ(before, d.dump()); diff != "" {
		t.Errorf("taken back, it is not as if it had never been said:\n%s", diff)
	}

	d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	ac := mpi.Saying{A: "a", B: "c"}
	d.says(ac, false)
	if d.same("a", "c") {
		t.Fatal("told apart by a steward, they are one person")
	}
	d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), lives("ZZ99 3AB", "7 Mill Lane", "07700 900123"))
	if d.same("a", "c") || d.maybes() != 0 {
		t.Error("what a steward has settled was linked, or asked, again")
	}
	if err := d.Allows(t.Context(), mpi.Saying{A: "a", B: "c", Same: true, Reason: "after all"}); err != nil {
		t.Error(err)
	}
	d.says(mpi.Saying{A: "b", B: "c", Same: true}, false)
	if err := d.Allows(t.Context(), mpi.Saying{A: "a", B: "b", Same: true, Reason: "x"}); !fhir.Is(err, fhir.Conflict) {
		t.Errorf("joining over somebody between who is held apart: %v", err)
	}
	d.says(ac, true)
	if !d.same("a", "c") {
		t.Error("taken back, the number does not link them again")
	}
}

// Whatever is registered and said in whatever order: what is said holds, and when all is taken back, everything is as it was before.
func TestTakingBackIsExact(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	checks := 0
	rapid.Check(t, func(rt *rapid.T) {
		d.empty()
		checks++
		var ids []string
		for _, id := range []string{"a", "b", "c", "d"} {
			ids = append(ids, fmt.Sprint(id, checks))
		}
		homes := []fhir.M{mill, lives("ZZ1 1AA", "1 Elsewhere", "07700 900111")}
		people := map[string]string{"Taylor": "1948-03-12", "Okafor": "1955-07-30"}
		for range rapid.IntRange(2, 8).Draw(rt, "registrations") {
			family := rapid.SampledFrom([]string{"Taylor", "Okafor"}).Draw(rt, "family")
			d.register(rapid.SampledFrom(ids).Draw(rt, "patient"), rapid.SampledFrom([]string{margaret, george, ""}).Draw(rt, "number"), family, people[family],
				rapid.SampledFrom(homes).Draw(rt, "home"))
		}
		before := d.dump()
		said := map[[2]string]mpi.Saying{}
		for range rapid.IntRange(1, 4).Draw(rt, "sayings") {
			a, b := rapid.SampledFrom(ids).Draw(rt, "a"), rapid.SampledFrom(ids).Draw(rt, "b")
			s := mpi.Saying{A: min(a, b), B: max(a, b), Same: rapid.Bool().Draw(rt, "same"), Reason: "drawn"}
			if d.Allows(context.Background(), s) != nil {
				continue
			}
			d.says(s, false)
			said[[2]string{s.A, s.B}] = s
			if s.Same != d.same(s.A, s.B) {
				rt.Fatalf("said of %s and %s that they are the same: %v; they are: %v", s.A, s.B, s.Same, d.same(s.A, s.B))
			}
		}
		for _, s := range said {
			d.says(s, true)
		}
		if diff := differ(before, d.dump()); diff != "" {
			rt.Fatalf("all taken back, it is not what it was:\n%s", diff)
		}
	})
}

// Whatever is registered afterwards, by whomever and in whatever order: who was told apart stays apart until it is taken back.
func TestWhoWasToldApartStaysApartWhateverComes(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.Trust("pds")
	checks, apart := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d.empty()
		checks++
		var ids []string
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			ids = append(ids, fmt.Sprint(id, checks))
		}
		homes := []fhir.M{mill, lives("ZZ1 1AA", "1 Elsewhere", "07700 900111")}
		said := map[[2]string]mpi.Saying{}
		for range rapid.IntRange(3, 14).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "a steward says something") > 0 {
				numbers := []fhir.Identifier{}
				for _, n := range []string{margaret, george} {
					if rapid.Bool().Draw(rt, "has "+n) {
						numbers = append(numbers, fhir.Identifier{Use: rapid.SampledFrom([]string{"", "old"}).Draw(rt, "use"), System: fhir.SystemNHSNumber, Value: n})
					}
				}
				id := rapid.SampledFrom(ids).Draw(rt, "patient")
				d.registerAt(map[bool]string{true: "pds", false: "s"}[id == ids[4]], id, "", "Taylor", "1948-03-12", rapid.SampledFrom(homes).Draw(rt, "home"), numbered(numbers...))
			} else {
				a, b := rapid.SampledFrom(ids).Draw(rt, "a"), rapid.SampledFrom(ids).Draw(rt, "b")
				s := mpi.Saying{A: min(a, b), B: max(a, b), Same: rapid.Bool().Draw(rt, "same"), Reason: "drawn"}
				if d.Allows(context.Background(), s) != nil {
					continue
				}
				d.says(s, false)
				said[[2]string{s.A, s.B}] = s
			}
			for _, s := range said {
				if !s.Same {
					if apart++; d.same(s.A, s.B) {
						rt.Fatalf("%s and %s were told apart, and are one", s.A, s.B)
					}
				}
			}
		}
	})
	if apart == 0 {
		t.Error("nobody was ever told apart: nothing is shown by this")
	}
}

// dump is all that the index holds, but for whom it would like somebody to look at, which it may notice more of each time it looks.
func (d *desk) dump() map[string]string {
	d.t.Helper()
	out := map[string]string{}
	for item, err := range d.db.View(mpi.Bucket).Scan(context.Background(), "") {
		if err != nil {
			d.t.Fatal(err)
		}
		if !strings.HasPrefix(item.Key, "maybe/") {
			out[item.Key] = string(item.Value)
		}
	}
	return out
}

func TestRebuiltFromTheLogWhatStewardsSaidStillHolds(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", "", "Green", "1948-03-12", called("Peggy", "Green"), lives("ZZ1 1AA", "1 Elsewhere", "07700 900111"))
	d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.says(mpi.Saying{A: "a", B: "b", Same: true}, false)
	d.says(mpi.Saying{A: "a", B: "c"}, false)
	before := d.dump()
	d.empty()
	d.seq = 0
	d.follow()
	if diff := differ(before, d.dump()); diff != "" {
		t.Errorf("rebuilt, the index differs:\n%s", diff)
	}
	if !d.same("a", "b") || d.same("a", "c") {
		t.Error("what stewards said is lost")
	}
}

// empty empties the index; the log stays.
func (d *desk) empty() {
	d.t.Helper()
	if _, err := d.db.Update(context.Background(), func(tx store.Tx) error {
		for item, err := range d.db.View(mpi.Bucket).Scan(context.Background(), "") {
			if err != nil {
				return err
			}
			tx.Bucket(mpi.Bucket).Delete(item.Key)
		}
		return nil
	}); err != nil {
		d.t.Fatal(err)
	}
}

func differ(want, got map[string]string) string {
	var b strings.Builder
	keys := map[string]bool{}
	for k := range maps.Keys(want) {
		keys[k] = true
	}
	for k := range maps.Keys(got) {
		keys[k] = true
	}
	for k := range keys {
		if want[k] != got[k] && !(want[k] == "" && strings.HasPrefix(k, "id/")) { // a number that led nowhere may lead to who has it

			fmt.Fprintf(&b, "%q:\n  want %s\n  have %s\n", k, want[k], got[k])
		}
	}
	return b.String()
}
