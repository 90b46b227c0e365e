package node_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/locator"
	"tombolo/node"
	"tombolo/sim/cast"
	"tombolo/sim/national"
	simpds "tombolo/sim/pds"
	"tombolo/sim/practice"
)

// followed is a region with a hospital and a practice, PDS, a locator of its own and one above it. The practice was taken over by another.
const followed = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp, succeeded_by: M85003}
  - {ods: M85003, name: Hilltop and Valley Surgery, kind: gp}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push}, release: all}
  - {id: m85001-gp, organisation: M85001, connector: gpconnect, address: "%s", asid: "200000000116", gives: {demographics: live, problems: live}, deadline: 10s, release: all}
  - {id: pds, organisation: X26, connector: pds, address: "%s", gives: {demographics: push}, options: {rate: "200", recheck: "%s", believe: 1ms}, release: all}
locator:
  applications:
    - {application: epr, organisation: M85003, produces: all, consumes: all}
  national:
    - id: nrl
      address: "%s"
      token: NRL_TOKEN
      as: QSV
      organisation: X26
      publishes:
        - {type: "887181000000106", url: "https://record.north.example/launch/nrl/{pointer}", mechanism: InContext}
        - {type: "736373009", headings: [problems], url: "https://record.north.example/launch/nrl/{pointer}", mechanism: Direct}
agreements:
  - {id: care, parties: [RX1, M85001, M85003, RYA, QSV, X26], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: medic, name: A Paramedic, role: paramedic, organisation: RYA}
  - {id: epr, name: EPR, role: system, organisation: RX1, system: pas}
`

type following struct {
	*node.Node
	pds      *simpds.Service
	national *national.Locator
}

func follows(t *testing.T, recheck time.Duration, people []cast.Person) following {
	t.Helper()
	gp := httptest.NewServer(practice.New(practice.Options{Source: cast.GP1, ASID: "200000000116", People: cast.Dozen(time.Now())}))
	t.Cleanup(gp.Close)
	f := following{pds: simpds.New(simpds.Options{People: people}), national: national.New(national.Options{Token: "secret"})}
	register, above := httptest.NewServer(f.pds), httptest.NewServer(f.national)
	t.Cleanup(func() { register.CloseClientConnections(); register.Close(); above.Close() })
	f.Node = run(t, node.Config{Region: regionOf(t, followed, gp.URL, register.URL, recheck, above.URL), Data: t.TempDir(), Listen: "127.0.0.1:0", Feeds: true,
		Secret: func(string) string { return "secret" }})
	return f
}

// types are the types of the pointers registered above about a number.
func (f following) types(nhs string) []string {
	var out []string
	for _, p := range f.national.Pointers(nhs) {
		out = append(out, p.Text("type.coding.code"))
	}
	slices.Sort(out)
	return out
}

// What changes at PDS moves the pointers within the minute, with nobody sending anything: another practice, a practice that was taken over, restriction, death, another
// number, a number that is nobody's, and each of them taken back.
func TestWhatChangesAtPDSMovesThePointers(t *testing.T) {
	dozen := cast.Dozen(time.Now())
	margaret := dozen[slices.IndexFunc(dozen, func(p cast.Person) bool { return p.Key == "margaret" })]
	f := follows(t, 200*time.Millisecond, []cast.Person{margaret})
	deliver(t, f.Node, "1", "p1", fhir.New("Patient", "p1", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: margaret.NHS}},
		"name": []fhir.HumanName{{Family: margaret.Family, Given: margaret.Given}}, "birthDate": margaret.Born, "gender": margaret.Sex}))
	const whole, problems = "887181000000106", "736373009"
	both := []string{problems, whole}
	has := func(nhs string, want ...string) func() bool {
		return func() bool { return slices.Equal(f.types(nhs), want) }
	}
	eventually(t, "the record as a whole is registered", has(margaret.NHS, whole))
	s, err := f.Access.As("medic")
	if err != nil {
		t.Fatal(err)
	}
	open := func(nhs string) *gather.Record {
		t.Helper()
		rec, err := f.Gather.Record(t.Context(), s, personOf(t, f.Node, nhs), gather.Ask{})
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	open(margaret.NHS)
	eventually(t, "what her practice was seen to hold is registered", has(margaret.NHS, both...))

	for _, c := range []struct {
		what         string
		change, back func(p *cast.Person)
		want         []string
	}{
		{"she is with another practice", func(p *cast.Person) { p.Practice = "M85999" }, func(p *cast.Person) { p.Practice = "M85001" }, []string{whole}},
		{"her practice was taken over", func(p *cast.Person) { p.Practice = "M85003" }, func(p *cast.Person) { p.Practice = "M85001" }, both},
		{"she is restricted", func(p *cast.Person) { p.Restricted = true }, func(p *cast.Person) { p.Restricted = false }, nil},
		{"she has died", func(p *cast.Person) { p.Died = "2026-11-01" }, func(p *cast.Person) { p.Died = "" }, nil},
	} {
		changed := margaret
		c.change(&changed)
		f.pds.Put(changed)
		eventually(t, "PDS was heard: "+c.what, func() bool {
			p, err := f.People.Person(t.Context(), personOf(t, f.Node, margaret.NHS))
			return err == nil && (p.Restricted == changed.Restricted) && ((p.Deceased != "") == (changed.Died != "")) && (changed.Restricted || p.Practice == changed.Practice)
		})
		eventually(t, c.what, has(margaret.NHS, c.want...))
		c.back(&changed)
		f.pds.Put(changed)
		eventually(t, "no longer: "+c.what, has(margaret.NHS, both...))
	}

	// What was registered here under a number is hers under the next one, in the record that is opened then, and her successor practice's to change.
	form := nrl.Form{Custodian: "M85001", URL: "https://m85001.example/plan", Mechanism: nrl.Direct, Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
	form.Type, _ = nrl.TypeNamed("736253002")
	p := nrl.Pointer{Resource: form.Make(nrl.Number(margaret.NHS), "plan").With("id", "M85001-plan")}
	if err := f.Registry.Create(t.Context(), locator.Registered{ID: p.ID(), Application: "epr", Subject: margaret.NHS, Custodian: "M85001", Type: p.Type(), Category: p.Category(), Doc: p.Raw()}); err != nil {
		t.Fatal(err)
	}
	registered := func(nhs string) gather.Lane {
		rec := open(nhs)
		i := slices.IndexFunc(rec.Lanes, func(l gather.Lane) bool { return l.Source == gather.OwnLocator })
		return rec.Lanes[i]
	}
	if l := registered(margaret.NHS); l.Count != 1 {
		t.Errorf("the registered pointer in her record: %s, %d", l.State, l.Count)
	}
	next := margaret
	next.NHS = cast.NHSNumber("999000077")
	f.pds.Put(next)
	f.pds.Supersede(margaret.NHS, next.NHS)
	eventually(t, "she has another number", func() bool { return slices.Contains(f.types(next.NHS), whole) && len(f.types(margaret.NHS)) == 0 })
	if l := registered(next.NHS); l.Count != 1 {
		t.Errorf("the pointer registered under her old number: %s, %d", l.State, l.Count)
	}
	then := f.types(next.NHS)
	next.Restricted = true
	f.pds.Put(next)
	eventually(t, "and is restricted", has(next.NHS))
	if l := registered(next.NHS); l.State != gather.Refused || l.Count != 0 {
		t.Errorf("restricted, and the registered pointer is shown: %s, %d", l.State, l.Count)
	}
	next.Restricted = false
	f.pds.Put(next)
	eventually(t, "and is not", has(next.NHS, then...))
	f.pds.Invalidate(next.NHS)
	eventually(t, "the number is nobody's", has(next.NHS))
}

// Whatever happens to people, in any order, and whether it is told by PDS or by a hospital: in the end there is one pointer for each number that is somebody's who lives
// and may be located, and none besides; and those that this region keeps are the same made anew from the log.
func TestPointersAfterAnyOrderOfEventsAreThoseOfTheLog(t *testing.T) {
	seeds := uint64(2)
	if os.Getenv("TOMBOLO_SOAK") == "1" {
		seeds = 100
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { anyOrder(t, rand.New(rand.NewPCG(seed, 9))) })
	}
}

// numberAfter is the next NHS number: one in eleven has no check digit.
func numberAfter(nine *int) string {
	for {
		*nine++
		for digit := range 10 {
			if n, err := fhir.ParseNHSNumber(fmt.Sprintf("%d%d", *nine, digit)); err == nil {
				return n.Digits()
			}
		}
	}
}

func anyOrder(t *testing.T, r *rand.Rand) {
	spare := 999000100
	names := []string{"Taylor", "Khan", "Reid", "Ord", "Vane"}
	var people []cast.Person
	for i, name := range names {
		people = append(people, cast.Person{NHS: numberAfter(&spare), Given: []string{"Ann"}, Family: name, Born: fmt.Sprintf("19%d-03-12", 50+i), Sex: "female", Practice: "M85999"})
	}
	f := follows(t, 150*time.Millisecond, people)
	invalid, sent, there := map[string]bool{}, 0, map[int]string{} // which patients the hospital has, and under which numbers
	say := func(i int, more fhir.M) {
		sent++
		m := fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: people[i].NHS}}, "name": []fhir.HumanName{{Family: names[i], Given: []string{"Ann"}}}, "birthDate": people[i].Born, "gender": "female"}
		maps.Copy(m, more)
		id := fmt.Sprint("p", i)
		deliver(t, f.Node, fmt.Sprint("m", sent), id, fhir.New("Patient", id, m))
		there[i] = people[i].NHS
	}
	for range 20 {
		i := r.IntN(len(people))
		p := &people[i]
		switch what := r.IntN(8); what {
		case 0, 1:
			say(i, nil)
		case 2:
			p.Restricted = !p.Restricted
		case 3:
			p.Died = map[bool]string{true: "2026-11-01", false: ""}[p.Died == ""]
		case 4:
			p.Practice = map[bool]string{true: "M85001", false: "M85999"}[p.Practice == "M85999"]
		case 5: // another number
			old := p.NHS
			p.NHS = numberAfter(&spare)
			f.pds.Put(*p)
			f.pds.Supersede(old, p.NHS)
			delete(invalid, old)
		case 6:
			if _, ok := there[i]; ok { // the hospital takes the patient back
				sent++
				if _, err := f.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: fmt.Sprint("m", sent), Received: time.Now(), Raw: fmt.Append(nil, sent), Delete: []fhir.Ref{fhir.MakeRef("Patient", fmt.Sprint("p", i))}, Patient: fmt.Sprint("p", i), Map: "test/1"}); err != nil {
					t.Fatal(err)
				}
				delete(there, i)
			}
			continue
		case 7:
			if invalid[p.NHS] {
				delete(invalid, p.NHS)
			} else {
				invalid[p.NHS] = true
				f.pds.Invalidate(p.NHS)
				continue
			}
		}
		if !invalid[p.NHS] {
			f.pds.Put(*p)
		}
		time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
	}
	want := map[string]int{}
	for i, p := range people {
		if _, ok := there[i]; ok && p.Died == "" && !p.Restricted && !invalid[p.NHS] {
			want[p.NHS] = 1
		}
	}
	t.Logf("%d of %d are to be pointed to", len(want), len(people))
	eventually(t, "each number has the pointers that are due", func() bool {
		got := map[string]int{}
		for _, p := range f.national.Pointers("") {
			got[p.Subject()]++
		}
		return maps.Equal(got, want)
	})
	kept := func() map[string]locator.Pointers {
		out := map[string]locator.Pointers{}
		for id, err := range f.People.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			p, err := f.People.Person(t.Context(), id)
			if err != nil {
				continue
			}
			var ids []string
			for _, q := range p.Patients {
				ids = append(ids, q.ID)
			}
			of, err := f.Locator.Of(t.Context(), ids...)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(out, of)
		}
		return out
	}
	before := kept()
	same := func(now map[string]locator.Pointers) bool {
		return len(now) == len(before) && !slices.ContainsFunc(slices.Collect(maps.Keys(before)), func(id string) bool {
			return !maps.Equal(now[id].Headings, before[id].Headings) || !now[id].Last.Equal(before[id].Last) || now[id].Source != before[id].Source
		})
	}
	eventually(t, "PDS has nothing more to say", func() bool {
		time.Sleep(400 * time.Millisecond)
		now := kept()
		done := same(now)
		before = now
		return done
	})
	if err := f.Locator.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the same made anew from the log", func() bool { return same(kept()) })
}
