package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/store"
)

var ctx = context.Background()

// Tuesday, an ordinary day.
var midnight = time.Date(2026, 11, 24, 0, 0, 0, 0, fhir.London)

type people map[string]*mpi.Person

func (p people) Person(_ context.Context, id string) (*mpi.Person, error) {
	if x := p[id]; x != nil {
		return x, nil
	}
	return nil, fhir.Errorf(fhir.NotFound, "nobody")
}

// A place is the demo region with its audit log, a watcher, and a clock that the story moves.
type place struct {
	t      testing.TB
	log    *audit.Log
	db     *store.DB
	w      *Watcher
	opts   Options
	people people
	cast   []cast.Person
	now    time.Time
	traces int
}

func severn(t testing.TB) *place {
	t.Helper()
	e, err := pebble.Open(pebble.Options{Dir: filepath.Join(t.TempDir(), "store"), CacheBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := &place{t: t, db: db, people: people{}, now: midnight}
	if p.log, err = audit.Open(ctx, e, audit.Options{Node: "severn", Now: func() time.Time { return p.now }}); err != nil {
		t.Fatal(err)
	}
	p.cast = append(cast.Dozen(midnight), cast.Generate(3, 600, midnight)...)
	for _, c := range p.cast {
		m := &mpi.Person{ID: "id-" + c.Key, NHSNumber: c.NHS, Name: fhir.HumanName{Family: c.Family, Given: c.Given}, BirthDate: c.Born, Deceased: c.Died, Practice: c.Practice,
			Restricted: c.Restricted}
		if len(c.Address) > 0 {
			m.Address = &fhir.Address{Line: c.Address, PostalCode: c.Postcode}
		}
		p.people[m.ID] = m
	}
	r, problems := region.Parse("severn.yaml", sim.Region(sim.Addresses{Practice1: "http://a", Practice2: "http://b", Mental: "http://c", MLLP: "127.0.0.1:1", Documents: "127.0.0.1:2",
		CommunityHTTP: "127.0.0.1:3", CommunityDrop: "x", CouncilDrop: "y", RegisterDrop: "z", CitizenNHS: p.cast[0].NHS}))
	for _, problem := range problems {
		if problem.Severity == region.Error && !strings.Contains(problem.String(), "register.yaml") {
			t.Fatal(problem)
		}
	}
	p.opts = Options{Log: p.log, Store: db, People: p.people, Region: r, Now: func() time.Time { return p.now },
		VIPs: []string{p.person("margaret").NHSNumber},
		Staff: []Member{
			{User: "gp", Family: "Marsh", Given: "Helen", Organisation: "M85001", Home: Home("2 Weir Cottage", "GL99 7ZZ")},
			{User: "doctor", Family: "Ade", Given: "Femi", Organisation: "RX1", NHSNumber: "9990009991", Home: Home("8 Quay Road", "GL99 2XY")},
			{User: "nurse-7", Family: "Osborne", Given: "Mary", Organisation: "RX1", NHSNumber: "9990009992", Home: Home("1 Mill Street", "GL99 3QQ")},
		}}
	p.w = New(p.opts)
	return p
}

func (p *place) person(key string) *mpi.Person {
	p.t.Helper()
	x := p.people["id-"+key]
	if x == nil {
		p.t.Fatal("nobody is called " + key)
	}
	return x
}

// add puts somebody into the region for a story.
func (p *place) add(key, given, family, nhs, line, postcode string) *mpi.Person {
	x := &mpi.Person{ID: "id-" + key, NHSNumber: nhs, Name: fhir.HumanName{Family: family, Given: []string{given}}, Address: &fhir.Address{Line: []string{line}, PostalCode: postcode}, Practice: "M85001"}
	p.people[x.ID] = x
	return x
}

// A who is one of the staff.
type who struct{ user, name, role, ods, address string }

var (
	marsh     = who{"gp", "Dr Helen Marsh", "General practitioner", "M85001", "10.1.0.4"}
	ade       = who{"doctor", "Dr Femi Ade", "Hospital doctor", "RX1", "10.2.0.9"}
	pat       = who{"receptionist", "Pat Lyle", "Receptionist", "RX1", "10.2.0.3"}
	blake     = who{"paramedic", "Tom Blake", "Paramedic", "RYA", "10.9.0.1"}
	hibbert   = who{"social-worker", "Dawn Hibbert", "Social worker", "918", "10.7.0.1"}
	neighbour = who{"wye/dr-bowen", "dr-bowen, by Wye", "Hospital doctor (WD1)", "WYE", "192.0.2.4"}
)

func (p *place) event(by who, kind audit.Kind, person *mpi.Person, what ...string) audit.Event {
	p.traces++
	e := audit.Event{Kind: kind, Agent: audit.Agent{User: by.user, Name: by.name, Role: by.role, Organisation: by.ods, OrgName: by.ods, Device: "browser", Address: by.address},
		Purpose: "TREAT", What: what, Trace: fmt.Sprint("trace-", p.traces)}
	if person != nil {
		e.PersonID = person.ID
	}
	return e
}

func (p *place) append(events ...audit.Event) {
	p.t.Helper()
	if _, err := p.log.AppendAll(ctx, events); err != nil {
		p.t.Fatal(err)
	}
}

// opens is what gather writes when a page is opened: the opening, and what it showed.
func (p *place) opens(by who, person *mpi.Person, relationship string, what ...string) {
	p.t.Helper()
	what = append([]string{"policy: 2026-11-22", "permitted: " + relationship}, what...)
	opened := p.event(by, audit.Opened, person, what...)
	if len(what) > 2 && strings.HasPrefix(what[2], "emergency") {
		opened.Kind, opened.Purpose = audit.BreakGlass, "ETREAT"
	}
	read := opened
	read.Kind = audit.Read
	p.append(opened, read)
}

func (p *place) finds(by who) { // nobody
	e := p.event(by, audit.Search, nil)
	e.Outcome = audit.Minor
	p.append(e)
}

func (p *place) refused(by who, person *mpi.Person) {
	p.append(p.event(by, audit.Denied, person, "refused: relationship"))
}

func (p *place) at(hour, minute int) {
	p.now = midnight.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
}

// alerts lets the watcher catch up, and gives the kinds of what is in its queue.
func (p *place) alerts() []string {
	p.t.Helper()
	for {
		n, err := p.w.Step(ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	items, err := p.w.Queue(ctx, false)
	if err != nil {
		p.t.Fatal(err)
	}
	var kinds []string
	for _, it := range items {
		if !slices.Contains(kinds, it.Kind) {
			kinds = append(kinds, it.Kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// Each story of misuse raises the alert that it should, and no other.
func TestEachStoryOfMisuseRaisesItsAlert(t *testing.T) {
	generated := func(p *place, at string) []*mpi.Person {
		var out []*mpi.Person
		for _, c := range p.cast {
			if c.Shows == "generated" && c.Practice == at {
				out = append(out, p.people["id-"+c.Key])
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		story func(p *place)
		want  string
	}{
		"a doctor opens the record of somebody who objects, in an emergency": {func(p *place) {
			p.opens(ade, p.person("daniel"), "self-claimed", "emergency: unconscious in resus")
		}, "break-glass"},
		"a doctor opens his own record": {func(p *place) {
			p.opens(ade, p.add("ade", "Femi", "Ade", "9990009991", "8 Quay Road", "GL99 2XY"), "known-here")
		}, "own-record same-surname"},
		"a receptionist, who is in no register, opens her own": {func(p *place) {
			p.opens(pat, p.add("pat", "Pat", "Lyle", "9990009995", "9 Quay Road", "GL99 2XY"), "known-here")
		}, "own-record same-surname"},
		"a GP opens the record of her brother": {func(p *place) {
			p.opens(marsh, p.add("brother", "Edward", "Marsh", "9990009996", "77 High Street", "GL99 4AA"), "registered-practice")
		}, "same-surname"},
		"a psychiatrist opens a namesake's record whom his trust does not know": {func(p *place) {
			smith := who{"smith", "Dr Amy Smith", "Mental health practitioner", "RW4", "10.3.0.8"}
			p.opens(smith, p.add("smith", "John", "Smith", "9990009997", "78 High Street", "GL99 4AA"), "self-claimed")
		}, "no-relationship same-surname"},
		"a doctor opens the record of the woman he lives with": {func(p *place) {
			p.opens(ade, p.add("partner", "Grace", "Holt", "9990009998", "8 quay road", "GL992XY"), "known-here")
		}, "same-address"},
		"a doctor opens the record of a nurse of his trust": {func(p *place) {
			p.opens(ade, p.add("osborne", "Mary", "Osborne", "9990009992", "1 Mill Street", "GL99 3QQ"), "known-here")
		}, "colleague"},
		"a nurse of the neighbouring region looks at somebody well known": {func(p *place) {
			p.opens(neighbour, p.person("margaret"), "self-claimed")
		}, "vip"},
		"a GP opens the record of another practice's patient": {func(p *place) {
			p.opens(marsh, generated(p, "M85002")[3], "self-claimed")
		}, "no-relationship"},
		"a social worker opens the record of somebody the council does not know": {func(p *place) {
			p.opens(hibbert, generated(p, "M85002")[5], "self-claimed")
		}, "no-relationship"},
		"a paramedic looks up a woman whose address is secret": {func(p *place) {
			p.opens(blake, p.person("chloe"), "self-claimed")
		}, "restricted"},
		"a paramedic opens forty records in a day on his word": {func(p *place) {
			for i, x := range generated(p, "M85001")[:40] {
				p.at(7, 15*i)
				p.opens(blake, x, "self-claimed")
			}
		}, "many-claims"},
		"a GP at three in the morning": {func(p *place) {
			p.at(3, 12)
			p.opens(marsh, generated(p, "M85001")[0], "registered-practice")
		}, "out-of-hours"},
		"a doctor goes through fifty records in half an hour": {func(p *place) {
			for _, x := range generated(p, "M85001")[:50] {
				p.now = p.now.Add(30 * time.Second)
				p.opens(ade, x, "known-here")
			}
		}, "volume"},
		"a receptionist tries one number after the other": {func(p *place) {
			for range 12 {
				p.now = p.now.Add(20 * time.Second)
				p.finds(pat)
			}
		}, "enumeration"},
		"a receptionist is refused again and again": {func(p *place) {
			for _, x := range generated(p, "M85002")[:6] {
				p.now = p.now.Add(time.Minute)
				p.refused(pat, x)
			}
		}, "refused-again"},
		"a doctor opens the record of somebody who died years ago": {func(p *place) {
			x := p.add("dead", "Arthur", "Holt", "9990009990", "3 Castle Rise", "GL99 9AA")
			x.Deceased = "2024-02-01"
			p.opens(ade, x, "known-here")
		}, "after-death"},
		"a doctor comes back to one stranger day after day": {func(p *place) {
			x := generated(p, "M85001")[9]
			for day := range 5 {
				p.at(11+24*day, 0)
				p.opens(ade, x, "self-claimed")
			}
		}, "repeated"},
		"a doctor opens one record all day long": {func(p *place) {
			for i := range 31 {
				p.at(8, 20*i)
				p.opens(ade, generated(p, "M85001")[9], "known-here")
			}
		}, "repeated"},
		"a paramedic opens everybody at one address": {func(p *place) {
			for i, given := range []string{"Ann", "Ben", "Cal", "Dee"} {
				p.opens(blake, p.add("h"+given, given, "Holt", fmt.Sprintf("999000888%d", i), "5 Castle Rise", "GL99 9AB"), "self-claimed")
			}
		}, "household"},
		"one account in three places at once": {func(p *place) {
			for i, from := range []string{"10.2.0.9", "10.8.1.1", "203.0.113.7"} {
				by := ade
				by.address = from
				p.at(11, i)
				p.opens(by, generated(p, "M85001")[i], "known-here")
			}
		}, "two-places"},
		"launches of one system are refused in several places": {func(p *place) {
			for i, from := range []string{"10.2.0.9", "10.8.1.1", "203.0.113.7", "10.2.0.8"} {
				p.at(11, i)
				p.append(p.event(who{user: "launcher epr", address: from}, audit.Denied, nil, "refused: launch: the launch was used before"))
			}
		}, ""},
		"a launch was changed on its way": {func(p *place) {
			p.append(p.event(who{user: "launcher epr", address: "10.2.0.9"}, audit.Denied, nil, "refused: launch: the date of birth is not the record's", "alarm: launch"))
		}, "launch"},
		"a source answers about somebody else": {func(p *place) {
			p.append(p.event(ade, audit.WrongPatient, p.person("george"), "source: m85001-gp"))
		}, "wrong-patient"},
		"a record leaves as a file": {func(p *place) {
			p.append(p.event(ade, audit.Export, p.person("george"), "permitted: known-here"))
		}, "export"},
	} {
		t.Run(name, func(t *testing.T) {
			p := severn(t)
			p.at(11, 0)
			c.story(p)
			if got := strings.Join(p.alerts(), " "); got != c.want {
				items, _ := p.w.Queue(ctx, false)
				t.Errorf("raised %q, want %q: %+v", got, c.want, items)
			}
		})
	}
}

// A subscriber that is told of two hundred people in an hour does what it is there for.
func TestNotificationsRaiseNoAlert(t *testing.T) {
	p := severn(t)
	p.at(3, 0)
	epr := who{"subscriber/m85001-epr", "Hilltop Surgery's system", "System", "M85001", "10.4.0.2"}
	for _, c := range p.cast[:200] {
		p.append(p.event(epr, audit.Notified, p.people["id-"+c.Key], "subscription: s1"))
	}
	if got := p.alerts(); len(got) > 0 {
		t.Errorf("raised %v", got)
	}
}

func TestEveryRuleHasItsStory(t *testing.T) {
	src, err := os.ReadFile("watch_test.go")
	if err != nil {
		t.Fatal(err)
	}
	stories, _, _ := strings.Cut(string(src), "func TestEveryRuleHasItsStory")
	if len(Rules) < 12 {
		t.Errorf("only %d kinds of alert", len(Rules))
	}
	for _, r := range Rules {
		if !strings.Contains(stories, `"`+r.Kind+`"`) && !strings.Contains(stories, `"`+r.Kind+" ") && !strings.Contains(stories, " "+r.Kind+`"`) {
			t.Errorf("no story ends in %s", r.Kind)
		}
	}
}

// An ordinary day and night of the whole region: some seventy people at work, each at the pace of their job, with its typing errors, walk-ins,
// emergencies, night shifts and namesakes. Nothing of it is an alert.
func TestAnOrdinaryDayRaisesNoAlert(t *testing.T) {
	p := severn(t)
	n := ordinaryDay(p, 1)
	if kinds := p.alerts(); len(kinds) > 0 {
		items, _ := p.w.Queue(ctx, false)
		for _, it := range items {
			t.Errorf("%s: %s, %s at %s: %s", it.Kind, it.Who, it.Role, it.Organisation, it.Reason)
		}
	}
	if n < 900 {
		t.Errorf("only %d openings: no ordinary day", n)
	}
	t.Logf("%d openings by the region's staff", n)
}

// ordinaryDay writes a day into the log and tells how many openings there were.
func ordinaryDay(p *place, seed uint64) int {
	p.t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	type visit struct {
		minute int
		do     func()
	}
	var day []visit
	n := 0
	at := map[string][]*mpi.Person{} // by organisation that knows them
	for _, c := range p.cast {
		x := p.people["id-"+c.Key]
		if c.Key == "margaret" || x.Restricted || c.Objects || x.Deceased != "" {
			continue
		}
		for _, s := range c.Known {
			at[cast.OrganisationOf(s).ODS] = append(at[cast.OrganisationOf(s).ODS], x)
		}
	}
	staff := func(ods, role string, names []string, from, to, visits int, relationship string) {
		for i, name := range names {
			by := who{fmt.Sprintf("%s-%s-%d", ods, strings.Fields(role)[0], i), name, role, ods, fmt.Sprintf("10.%d.0.%d", len(day)%200, i)}
			for range visits {
				minute := from + r.IntN(to-from)
				x := at[ods][r.IntN(len(at[ods]))]
				rel := relationship
				if relationship == "self-claimed" { // somebody whom the organisation has never seen
					x = p.people["id-"+p.cast[20+r.IntN(len(p.cast)-20)].Key]
				}
				again := 1
				if r.IntN(6) == 0 {
					again = 3
				}
				for k := range again {
					n++
					day = append(day, visit{minute + 2*k, func() { p.opens(by, x, rel) }})
				}
			}
			for range r.IntN(4) { // a number mistyped
				day = append(day, visit{from + r.IntN(to-from), func() { p.finds(by) }})
			}
		}
	}
	gps := []string{"Dr Helen Marsh", "Dr Sunil Patel", "Dr Rhys Evans", "Dr Amy Jones"}
	staff("M85001", "General practitioner", gps, 8*60, 18*60+30, 28, "registered-practice")
	staff("M85002", "General practitioner", []string{"Dr Olu Bankole", "Dr Jane Smith", "Dr Wei Chen"}, 8*60, 18*60+30, 28, "registered-practice")
	staff("RX1", "Hospital doctor", []string{"Dr Femi Ade", "Mr Owen Hale", "Dr Imogen Clarke", "Dr Ravi Singh", "Dr Ngozi Brown"}, 8*60, 20*60, 16, "known-here")
	staff("RX1", "Hospital doctor", []string{"Dr Lena Fox", "Dr Hari Patel", "Dr Sam Williams"}, 0, 8*60, 12, "self-claimed") // the emergency department at night
	staff("RX1", "Nurse", []string{"Sr Joan Price", "Ann Roberts", "Jun Brown", "Mary Smith", "Eve Ahmed"}, 7*60, 20*60, 14, "known-here")
	staff("RX1", "Receptionist", []string{"Pat Lyle", "Kay Jones"}, 8*60, 18*60, 90, "known-here")
	staff("RYA", "Paramedic", []string{"Tom Blake", "Kim Doyle", "Al Evans", "Jo Patel"}, 0, 24*60-10, 10, "self-claimed")
	staff("RW4", "Mental health practitioner", []string{"Dr Anil Rao", "Ruth Ellery", "Ed Brown"}, 8*60, 22*60, 10, "known-here")
	staff("RY5", "Nurse", []string{"Mary Osborne", "Paul Whitcombe", "Di Roberts"}, 7*60, 21*60, 14, "known-here")
	staff("918", "Social worker", []string{"Dawn Hibbert", "Lewis Grant"}, 8*60, 18*60, 8, "known-here")
	for i := range 25 { // citizens, at any hour, each their own
		x := p.people["id-"+p.cast[30+i].Key]
		day = append(day, visit{r.IntN(24 * 60), func() {
			e := p.event(who{fmt.Sprint("citizen-", i), x.Name.Given[0] + " " + x.Name.Family, "Citizen", "", "198.51.100.7"}, audit.Read, x, "permitted: self")
			e.Purpose = "PATRQT"
			p.append(e)
		}})
	}
	day = append(day, visit{10 * 60, func() { p.refused(pat, at["M85001"][0]) }}, visit{15 * 60, func() { p.refused(pat, at["M85002"][0]) }})
	walkIn := p.add("walk-in", "Zed", "Quill", "9990007771", "1 Elsewhere", "ZZ1 1ZZ")
	walkIn.Practice = ""
	day = append(day, visit{11 * 60, func() { p.opens(marsh, walkIn, "self-claimed") }}, visit{12 * 60, func() { p.opens(neighbour, at["RX1"][0], "self-claimed") }})
	slices.SortStableFunc(day, func(a, b visit) int { return a.minute - b.minute })
	for _, v := range day {
		p.now = midnight.Add(time.Duration(v.minute) * time.Minute)
		v.do()
	}
	return n
}

func TestAnAlertIsRaisedOnceWithItsReasonAndStandsInTheAuditLog(t *testing.T) {
	p := severn(t)
	p.at(11, 0)
	for range 3 {
		p.opens(ade, p.person("daniel"), "self-claimed", "emergency: unconscious in resus")
		p.now = p.now.Add(time.Hour)
	}
	p.alerts()
	// Started again, from its own cursor, and once from before everything: nothing doubles.
	p.w = New(p.opts)
	p.alerts()
	if _, err := p.db.Update(ctx, func(tx store.Tx) error { tx.Bucket(bucket).Delete(cursorKey); return nil }); err != nil {
		t.Fatal(err)
	}
	p.w = New(p.opts)
	p.alerts()
	items, err := p.w.Queue(ctx, false)
	if err != nil || len(items) != 1 || items[0].Count != 3 || len(items[0].Entries) != 3 || !strings.Contains(items[0].Reason, "unconscious in resus") {
		t.Fatalf("queue: %+v (%v)", items, err)
	}
	told := 0
	for e, err := range p.log.All(ctx, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := e.Summary(); s.Kind == audit.Alert {
			told++
			if s.PersonID != items[0].PersonID || !slices.Contains(s.What, "alert: "+items[0].ID) {
				t.Errorf("the alert's event: %+v", s)
			}
		}
	}
	if told != 1 {
		t.Errorf("%d events tell of the alert, want 1", told)
	}
}

func TestWhatHappenedBeforeARestartStillCounts(t *testing.T) {
	p := severn(t)
	p.at(11, 0)
	for i := range 12 {
		p.now = p.now.Add(20 * time.Second)
		p.finds(pat)
		if i == 8 {
			p.alerts()
			p.w = New(p.opts)
		}
	}
	if got := p.alerts(); !slices.Contains(got, "enumeration") {
		t.Errorf("raised %v", got)
	}
}

func TestTheQueueGoesFromNewToClosedAndEveryStepIsAudited(t *testing.T) {
	p := severn(t)
	p.at(11, 0)
	p.opens(ade, p.person("daniel"), "self-claimed", "emergency: unconscious")
	p.alerts()
	items, _ := p.w.Queue(ctx, false)
	id := items[0].ID
	officer := audit.Agent{User: "privacy", Name: "Ines Duarte"}
	if _, err := p.w.Decide(ctx, officer, id, Looking, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := p.w.Decide(ctx, officer, id, Appropriate, " "); !fhir.Is(err, fhir.Required) {
		t.Errorf("closed without a word: %v", err)
	}
	if _, err := p.w.Decide(ctx, officer, id, "whatever", "x"); !fhir.Is(err, fhir.CodeInvalid) {
		t.Errorf("a state that there is not: %v", err)
	}
	if _, err := p.w.Decide(ctx, officer, id, Looking, ""); err != nil { // she heard no answer
		t.Fatal(err)
	}
	it, err := p.w.Decide(ctx, officer, id, Appropriate, "He was in resus.")
	if err != nil || !it.State.Closed() || len(it.Steps) != 2 {
		t.Fatalf("%+v (%v)", it, err)
	}
	if open, _ := p.w.Queue(ctx, false); len(open) != 0 {
		t.Errorf("still open: %+v", open)
	}
	if closed, _ := p.w.Queue(ctx, true); len(closed) != 1 {
		t.Errorf("closed: %+v", closed)
	}
	task := it.Task()
	if task.Text("status") != "completed" || task.Text("for.reference") != "Patient/"+it.PersonID || task.Text("note.text") != "He was in resus." || !strings.HasPrefix(task.Text("focus.reference"), "AuditEvent/audit-") {
		t.Errorf("%s", task.Raw())
	}
	steps := 0
	for e := range p.log.By(ctx, "privacy", 0, 0) {
		s, _ := e.Summary()
		if s.Kind == audit.Update && slices.Contains(s.What, "task: "+id) {
			steps++
		}
	}
	if again, err := p.w.Decide(ctx, officer, id, Appropriate, "He was in resus."); err != nil || len(again.Steps) != 2 {
		t.Errorf("closed twice: %+v (%v)", again, err)
	}
	if steps != 2 {
		t.Errorf("%d steps are audited, want 2", steps)
	}
	if _, err := p.w.Decide(ctx, officer, "nothing", Looking, ""); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("an item that there is not: %v", err)
	}
}

func TestACitizensConcernBecomesATask(t *testing.T) {
	p := severn(t)
	p.at(11, 0)
	margaret, george := p.person("margaret"), p.person("george")
	p.opens(ade, margaret, "known-here") // entries 1 and 2
	p.opens(ade, george, "known-here")   // entries 3 and 4
	citizen := audit.Agent{User: "citizen", Name: "Margaret Taylor"}
	it, err := p.w.Raise(ctx, citizen, margaret.ID, []audit.Seq{2}, "I have never met a Dr Ade.")
	if err != nil {
		t.Fatal(err)
	}
	task := it.Task()
	if task.Text("status") != "requested" || task.Text("requester.reference") != "Patient/"+margaret.ID || task.Text("note.text") != "I have never met a Dr Ade." || it.User != "doctor" {
		t.Errorf("%+v\n%s", it, task.Raw())
	}
	if again, err := p.w.Raise(ctx, citizen, margaret.ID, []audit.Seq{2}, "twice"); err != nil || again.ID != it.ID || again.Words != it.Words {
		t.Errorf("asked twice: %+v (%v)", again, err)
	}
	// It waits for anybody, grows old, is taken up by somebody, and comes back if the answer does not answer it.
	if task.Text("owner.display") != "Privacy officer" || it.Owner != "" || it.Overdue(p.now) {
		t.Errorf("new: %s", task.Raw())
	}
	p.now = p.now.Add(26 * time.Hour)
	if it.Age(p.now) != 26*time.Hour || !it.Overdue(p.now) {
		t.Errorf("a day later it is %s old, overdue %v", it.Age(p.now), it.Overdue(p.now))
	}
	officer := audit.Agent{User: "privacy", Name: "Ines Duarte"}
	it, err = p.w.Decide(ctx, officer, it.ID, Looking, "")
	task = it.Task()
	if err != nil || task.Text("owner.identifier.value") != "privacy" || task.Text("status") != "in-progress" || it.Overdue(p.now) || !strings.HasPrefix(task.Text("lastModified"), "2026-11-25T13") {
		t.Errorf("taken up (%v): %s", err, task.Raw())
	}
	if it, err = p.w.Decide(ctx, officer, it.ID, Appropriate, "He was on call."); err != nil || it.Age(p.now.Add(time.Hour)) != 26*time.Hour {
		t.Errorf("closed, it grows older: %s (%v)", it.Age(p.now.Add(time.Hour)), err)
	}
	if all, err := p.w.Concerns(ctx, margaret.ID); err != nil || len(all) != 1 || !all[0].State.Closed() {
		t.Errorf("what she asked about: %+v (%v)", all, err)
	}
	if it, err = p.w.Raise(ctx, citizen, margaret.ID, []audit.Seq{2}, "He was not."); err != nil || it.State != Waiting || it.Owner != "" || len(it.Steps) != 3 || !strings.Contains(it.Steps[2].Note, "He was not.") {
		t.Errorf("asked again: %+v (%v)", it, err)
	}
	if all, _ := p.w.Queue(ctx, true); len(all) != 0 {
		t.Errorf("still closed: %+v", all)
	}
	for _, wrong := range [][]audit.Seq{nil, {4}, {999}, {2, 3}} {
		if _, err := p.w.Raise(ctx, citizen, margaret.ID, wrong, ""); err == nil {
			t.Errorf("entries %v are taken for hers", wrong)
		}
	}
}

// A whole day's events pass the rules in far less than the minute within which an alert must be raised.
func BenchmarkWatch(b *testing.B) {
	p := severn(b)
	ordinaryDay(p, 1)
	head, _ := p.log.Head(ctx)
	for b.Loop() {
		if _, err := p.db.Update(ctx, func(tx store.Tx) error { tx.Bucket(bucket).Delete(cursorKey); return nil }); err != nil {
			b.Fatal(err)
		}
		p.w = New(p.opts)
		p.alerts()
	}
	b.ReportMetric(float64(b.N)*float64(head.Seq)/b.Elapsed().Seconds(), "events/s")
}
