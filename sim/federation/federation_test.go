package federation_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/api"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/fhirapi"
	"tombolo/connector/neighbour"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/kv/pebble"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/sim/federation"
	"tombolo/sim/lookout"
	"tombolo/store"
)

var (
	nhs = fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}
	chi = fhir.Identifier{System: fhir.SystemCHI, Value: "0101019998"}
	ann = federation.Person{Numbers: []fhir.Identifier{nhs}, Family: "Taylor", Born: "1948-03-12"}
	// The nation knows her by its own number alone.
	annThere = federation.Person{Numbers: []fhir.Identifier{chi}, Family: "Taylor", Born: "1948-03-12"}
)

const (
	each     = 2 // problems that each source records
	deadline = time.Second
)

// A place is a region with what its gatherings stand on: who people are, what is remembered, who may ask.
type place struct {
	region *region.Region
	opts   gather.Options
	users  *access.Manager
	watch  *lookout.Lookout
}

func sourceNames(of string) []string {
	var out []string
	for i := range 5 {
		out = append(out, fmt.Sprintf("%s-%d", of, i+1))
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, id string, who federation.Person, allowed time.Duration, neighbours ...region.Neighbour) *place {
	t.Helper()
	r := &region.Region{ID: id, Name: id, Neighbours: neighbours, Organisations: []region.Organisation{{ODS: "RX1", Name: "The Trust", Kind: region.KindAcute}},
		Users: []region.User{{ID: "doctor", Name: "Dr Ade", Role: "hospital-doctor", Organisation: "RX1"},
			{ID: "severn", Name: "Severn", Role: "neighbour", Organisation: "RX1", TokenSHA256: digest("severn")}},
		Systems: []region.System{{ID: "trust", Organisation: "RX1", Connector: "hl7v2", Release: region.Release{All: true}, Gives: map[dataset.Heading]region.Way{dataset.Demographics: region.Push}}},
		Limits:  region.Limits{}}
	parties := []string{"RX1", "VND"}
	r.Organisations = append(r.Organisations, region.Organisation{ODS: "VND", Name: "Vendor", Kind: region.KindOther})
	for i, name := range sourceNames(id) {
		ods := fmt.Sprintf("S%02d", i)
		parties = append(parties, ods)
		r.Organisations = append(r.Organisations, region.Organisation{ODS: ods, Name: name, Kind: region.KindMentalHealth})
		r.Systems = append(r.Systems, region.System{ID: name, Name: name, Organisation: ods, Connector: "fhirapi", Deadline: allowed, Release: region.Release{All: true},
			Gives: map[dataset.Heading]region.Way{dataset.Problems: region.Live}})
	}
	r.Agreements = []region.Agreement{{ID: "all", Parties: parties, Purposes: []string{"direct-care"}, AllHeadings: true, From: time.Now().AddDate(-1, 0, 0)}}
	engine, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	must(t, err)
	db, err := store.Open(store.Options{Engine: engine})
	must(t, err)
	log, err := audit.Open(t.Context(), engine, audit.Options{})
	must(t, err)
	watch := lookout.Over(t, lookout.Options{Region: r})
	watch.Open(db, log)
	stamper := connector.Stamper{Key: []byte(id)}
	people, where := mpi.New(db, stamper), locator.New(db)
	ctx, stop := context.WithCancel(context.Background())
	followers := []*events.Follower{db.Follower("mpi", people.Handle), db.Follower("locator", where.Handle)}
	done := make(chan struct{}, 2)
	for _, f := range followers {
		go func() { _ = f.Run(ctx); done <- struct{}{} }()
	}
	t.Cleanup(func() { stop(); <-done; <-done; watch.Close(); _ = db.Close() })
	in := intake.New(intake.Options{Store: db, Region: r, Stamper: stamper, Await: func(ctx context.Context, seq events.Seq) error {
		return errors.Join(followers[0].Await(ctx, seq), followers[1].Await(ctx, seq))
	}})
	_, err = in.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "1", Raw: []byte("a28"), Patient: "m1", Content: []*fhir.Resource{
		fhir.New("Patient", "m1", fhir.M{"identifier": who.Numbers, "name": []fhir.HumanName{{Family: who.Family, Given: []string{"Ann"}}}, "birthDate": who.Born})}})
	must(t, err)
	users, err := access.New(access.Options{Region: r})
	must(t, err)
	return &place{r, gather.Options{Region: r, People: people, Kept: db, Audit: log, Stamper: stamper, Logger: slog.New(watch.Log(slog.DiscardHandler))}, users, watch}
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// gatherer gathers there from sources that fail so. patience is how many times its deadlines everybody has: a busy machine needs more than one.
func (p *place) gatherer(t testing.TB, s *federation.Sockets, c *http.Client, how map[string]federation.Failure, patience time.Duration) gather.Options {
	t.Helper()
	o := p.opts
	r := *p.region
	r.Systems, r.Neighbours = slices.Clone(r.Systems), slices.Clone(r.Neighbours)
	for i := range r.Systems {
		r.Systems[i].Deadline *= patience
	}
	for i := range r.Neighbours {
		r.Neighbours[i].Deadline *= patience
	}
	o.Region = &r
	o.Askers = map[string]connector.Asker{}
	for _, name := range sourceNames(p.region.ID) {
		a, err := fhirapi.New(fhirapi.Options{Source: name, Address: s.Address(name, how[name]), HTTP: c, MaxBytes: 1 << 20})
		must(t, err)
		o.Askers[name] = a
	}
	return o
}

// An archipelago is three regions: ours with five sources of its own, a vendor's record and a nation across the border with five each.
type archipelago struct {
	ours, nation *place
	sockets      *federation.Sockets
	client       *http.Client

	mu     sync.Mutex
	routes map[string]http.Handler // what stands behind a neighbour's address, by case
	n      int
}

// links are the neighbours, which can fail themselves.
var links = []string{"vendor", "nation"}

// factors are all that can fail.
func factors() []string {
	return slices.Concat(sourceNames("ours"), sourceNames("vendor"), sourceNames("nation"), links)
}

func build(t testing.TB) *archipelago {
	t.Helper()
	a := &archipelago{routes: map[string]http.Handler{}}
	a.nation = open(t, "nation", annThere, 2*deadline) // it would wait for its own sources longer than we wait for it
	both := federation.Person{Numbers: []fhir.Identifier{nhs, chi}, Family: ann.Family, Born: ann.Born}
	a.ours = open(t, "ours", both, deadline/2,
		region.Neighbour{ID: "vendor", Name: "vendor", Kind: "fhir", Organisation: "VND", Numbers: []string{"nhs"}, Gives: []dataset.Heading{dataset.Problems}, Deadline: deadline},
		region.Neighbour{ID: "nation", Name: "nation", Kind: region.KindTombolo, Numbers: []string{"chi"}, Deadline: deadline})
	sources := map[string]http.Handler{}
	for _, of := range []string{"ours", "vendor"} {
		for _, name := range sourceNames(of) {
			sources[name] = federation.Source(ann, each)
		}
	}
	for _, name := range sourceNames("nation") {
		sources[name] = federation.Source(annThere, each)
	}
	var err error
	a.sockets, err = federation.Open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		a.mu.Lock()
		h, ok := a.routes[name]
		a.mu.Unlock()
		if ok {
			r.URL.Path = "/" + rest
			if r.Header.Get("Wrong-Patient") != "" && strings.HasPrefix(name, "nation") {
				wrongNation(w)
				return
			}
			h.ServeHTTP(w, r)
			return
		}
		sources[name].ServeHTTP(w, r)
	}))
	must(t, err)
	t.Cleanup(a.sockets.Close)
	a.client = &http.Client{Transport: a.ours.watch.Outward(a.nation.watch.Outward(&http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 512, ResponseHeaderTimeout: 10 * time.Second}))}
	t.Cleanup(a.client.CloseIdleConnections)
	return a
}

// wrongNation is a nation's answer about somebody else.
func wrongNation(w http.ResponseWriter) {
	b := fhir.NewBundle("searchset", "", 2, 512)
	b.Add(fhir.New("Patient", "x", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemCHI, Value: "0202029999"}}, "name": []fhir.HumanName{{Family: "Khan"}}, "birthDate": "2015-11-05"}), "match")
	b.Add(fhir.New("Condition", "y", fhir.M{"subject": fhir.Reference{Reference: "Patient/x"}, "code": fhir.CodeableConcept{Text: "somebody else's"}}), "match")
	w.Header().Set("Content-Type", "application/fhir+json")
	_, _ = w.Write(b.Bytes())
}

// A gathering is a way to gather Ann's record in which some fail.
type gathering struct {
	g     *gather.Gatherer
	s     *access.Session
	id    string
	close func()
}

func (a *archipelago) failing(t testing.TB, how map[string]federation.Failure, patience time.Duration) gathering {
	t.Helper()
	a.mu.Lock()
	a.n++
	vendorAt, nationAt := fmt.Sprintf("vendor:%d", a.n), fmt.Sprintf("nation:%d", a.n)
	a.mu.Unlock()
	inner := map[string]string{}
	for _, name := range sourceNames("vendor") {
		inner[name] = a.sockets.Address(name, how[name])
	}
	there := a.nation.watch.Answers(api.New(api.Options{Gather: gather.New(a.nation.gatherer(t, a.sockets, a.client, how, patience)), Access: a.nation.users, Name: "nation", Version: "test"}))
	a.mu.Lock()
	a.routes[vendorAt] = federation.Vendor(ann, inner, patience*deadline/3, a.client)
	a.routes[nationAt] = there
	a.mu.Unlock()

	o := a.ours.gatherer(t, a.sockets, a.client, how, patience)
	vendor, err := fhirapi.New(fhirapi.Options{Source: "vendor", Address: a.sockets.Address(vendorAt, how["vendor"]), HTTP: a.client, MaxBytes: 1 << 20})
	must(t, err)
	nation, err := neighbour.New(neighbour.Options{Source: "nation", Address: a.sockets.Address(nationAt, how["nation"]), HTTP: a.client, Token: "severn", MaxBytes: 1 << 20})
	must(t, err)
	o.Askers["vendor"], o.Askers["nation"] = vendor, nation
	g := gather.New(o)
	s, err := a.ours.users.As("doctor")
	must(t, err)
	id, err := a.ours.opts.People.Resolve(t.Context(), nhs)
	must(t, err)
	return gathering{g, s, id, func() {
		a.mu.Lock()
		delete(a.routes, vendorAt)
		delete(a.routes, nationAt)
		a.mu.Unlock()
	}}
}

// A stopwatch that knows how late the machine itself was meanwhile.
type stopwatch struct {
	begun time.Time
	late  chan time.Duration
}

// start begins to measure. The machine's lateness is how much longer than asked for a sleep takes beside what is measured.
func start(allowed time.Duration) stopwatch {
	w := stopwatch{time.Now(), make(chan time.Duration, 1)}
	go func() {
		time.Sleep(allowed)
		w.late <- time.Since(w.begun) - allowed
	}()
	return w
}

func (w stopwatch) took() (took, late time.Duration) {
	took = time.Since(w.begun)
	return took, <-w.late
}

// A fault is what is wrong with how a gathering came out.
type fault struct {
	says string // "" if nothing is
	load bool   // a machine that is too busy may have done it: what is late, or was not heard in time
}

// broken looks at how a gathering came out: every answer in time, all that the good sources hold, each bad one named, nothing of a bad one shown, and nothing called
// complete that is not. The last three hold however busy the machine is.
func (a *archipelago) broken(t testing.TB, how map[string]federation.Failure, patience time.Duration) fault {
	t.Helper()
	x := a.failing(t, how, patience)
	defer x.close()
	watch := start(patience * deadline)
	rec, err := x.g.Record(t.Context(), x.s, x.id, gather.Ask{Headings: []dataset.Heading{dataset.Problems}})
	took, late := watch.took()
	if err != nil {
		return fault{"no record came: " + err.Error(), true}
	}
	if took > patience*deadline+250*time.Millisecond+2*late {
		return fault{fmt.Sprintf("it took %s (the machine was %s late)", took, late), true}
	}
	got := map[string]int{}
	for _, e := range rec.Section(dataset.Problems).Entries {
		for _, m := range e.Members {
			got[m.Resource.Text("code.coding.code")]++
		}
	}
	said := strings.Builder{}
	said.WriteString(rec.Summary())
	for _, l := range rec.Lanes {
		for _, w := range l.Warnings {
			said.WriteString("\n" + w.Text)
		}
	}
	bad, missed := false, fault{}
	for _, name := range factors() {
		link, _, inner := strings.Cut(name, "-")
		fails := how[name] != federation.None
		cut := inner && link != "ours" && how[link] != federation.None // whatever it holds cannot come
		bad = bad || fails
		shown := got[federation.Code(name, 0)] + got[federation.Code(name, 1)]
		switch named := strings.Contains(said.String(), name); {
		case inner && (fails || cut) && shown > 0:
			return fault{fmt.Sprintf("%s (%s, behind %s) failed, and something of it is shown", name, how[name], how[link]), false}
		case fails && !cut && !named && (link == "ours" || !inner): // asked by this node itself
			return fault{name + " failed and is not named in: " + said.String(), false}
		case fails && !cut && !named:
			missed = fault{name + " failed and is not named in: " + said.String(), true}
		case inner && !fails && !cut && shown != each:
			missed = fault{fmt.Sprintf("of the %d that %s holds there are %d: %s", each, name, shown, said.String()), true}
		}
	}
	sec := rec.Section(dataset.Problems)
	switch {
	case bad && (rec.Complete(dataset.Problems) || len(sec.Unknown) == 0):
		return fault{fmt.Sprintf("the record is called complete (not known from %v)", sec.Unknown), false}
	case len(got) == 0 && sec.State == dataset.NoneRecorded:
		return fault{"nothing was heard, and the record says that there is nothing", false}
	case missed.says != "":
		return missed
	case !bad && (!rec.Complete(dataset.Problems) || len(got) != 15*each):
		return fault{fmt.Sprintf("nothing failed, and the record has %d of %d, not known from %v: %s", len(got), 15*each, sec.Unknown, said.String()), true}
	}
	return fault{}
}

func describe(how map[string]federation.Failure) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(how)) {
		if how[k] != federation.None {
			parts = append(parts, k+": "+string(how[k]))
		}
	}
	return strings.Join(parts, ", ")
}

// hold runs cases side by side. What a busy machine may have done is looked at again, with more patience and fewer at a time, in the end alone; what no machine
// may do is told at once.
func (a *archipelago) hold(t *testing.T, cases []map[string]federation.Failure) {
	t.Helper()
	left, again := cases, 0
	for _, round := range []struct {
		patience time.Duration
		atOnce   int
		last     bool
	}{{1, 3 * runtime.GOMAXPROCS(0), false}, {3, 2 * runtime.GOMAXPROCS(0), false}, {10, 1, false}, {10, 1, false}, {10, 1, false}, {10, 1, true}} {
		var mu sync.Mutex
		var doubtful []map[string]federation.Failure
		var wg sync.WaitGroup
		slots := make(chan struct{}, round.atOnce)
		for _, how := range left {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				f := a.broken(t, how, round.patience)
				if f.says == "" {
					return
				}
				if !f.load || round.last {
					t.Errorf("with %s: %s", describe(how), f.says)
					return
				}
				mu.Lock()
				doubtful = append(doubtful, how)
				mu.Unlock()
			})
		}
		wg.Wait()
		left = doubtful
		again += len(left)
	}
	t.Logf("%d gatherings, %d times one of them was looked at again", len(cases), again)
	if a.sockets.Inner.Came() {
		t.Error("a redirect led to an address inside")
	}
}

func TestNothingFails(t *testing.T) {
	build(t).hold(t, []map[string]federation.Failure{{}})
}

func TestEachFailureOfEachPart(t *testing.T) {
	var cases []map[string]federation.Failure
	for _, f := range federation.Failures {
		for _, name := range []string{"ours-1", "vendor-1", "nation-1", "vendor", "nation"} {
			cases = append(cases, map[string]federation.Failure{name: f})
		}
		all := map[string]federation.Failure{}
		for _, name := range factors() {
			all[name] = f
		}
		cases = append(cases, all)
	}
	build(t).hold(t, cases)
}

// Every two failures meet in every two places.
func TestEveryPairOfFailures(t *testing.T) {
	cases := everyPair()
	if os.Getenv("TOMBOLO_SOAK") == "" {
		cases = slices.Clone(cases)
		r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
		r.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
		t.Logf("%d of the %d cases; all of them with TOMBOLO_SOAK=1", min(20, len(cases)), len(cases))
		cases = cases[:min(20, len(cases))]
	}
	build(t).hold(t, cases)
}

func TestRandomFailures(t *testing.T) {
	n := 30
	if os.Getenv("TOMBOLO_SOAK") != "" {
		n = 2400
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 2))
	t.Logf("seed %d", seed)
	var cases []map[string]federation.Failure
	for range n {
		how, often := map[string]federation.Failure{}, r.Float64()
		for _, name := range factors() {
			if r.Float64() < often {
				how[name] = federation.Failures[r.IntN(len(federation.Failures))]
			}
		}
		cases = append(cases, how)
	}
	build(t).hold(t, cases)
}

// outcomes are how a part can come out.
var outcomes = append([]federation.Failure{federation.None}, federation.Failures...)

// everyPair is pairs of all that can fail and how, made once: it takes a while.
var everyPair = sync.OnceValue(func() []map[string]federation.Failure { return pairs(factors(), outcomes) })

// pairs is a list of cases in which every two values meet in every two factors, made greedily.
func pairs(names []string, values []federation.Failure) []map[string]federation.Failure {
	type pair struct {
		a, b   int
		va, vb federation.Failure
	}
	left := map[pair]bool{}
	for a := range names {
		for b := a + 1; b < len(names); b++ {
			for _, va := range values {
				for _, vb := range values {
					left[pair{a, b, va, vb}] = true
				}
			}
		}
	}
	r := rand.New(rand.NewPCG(7, 7))
	var out []map[string]federation.Failure
	for len(left) > 0 {
		var best []federation.Failure
		most := -1
		for range 2 {
			try := make([]federation.Failure, len(names))
			for i := range names {
				try[i] = values[r.IntN(len(values))]
			}
			for i := range names { // the value that meets most of what is left
				top := -1
				for _, v := range values {
					n := 0
					for j := range names {
						if j != i && left[pair{min(i, j), max(i, j), pick(i < j, v, try[j]), pick(i < j, try[j], v)}] {
							n++
						}
					}
					if n > top {
						top, try[i] = n, v
					}
				}
			}
			n := 0
			for i := range names {
				for j := i + 1; j < len(names); j++ {
					if left[pair{i, j, try[i], try[j]}] {
						n++
					}
				}
			}
			if n > most {
				most, best = n, try
			}
		}
		how := map[string]federation.Failure{}
		for i, name := range names {
			how[name] = best[i]
			for j := i + 1; j < len(names); j++ {
				delete(left, pair{i, j, best[i], best[j]})
			}
		}
		out = append(out, how)
	}
	return out
}

func pick(first bool, a, b federation.Failure) federation.Failure {
	if first {
		return a
	}
	return b
}

func TestPairsMeetInEveryTwoPlaces(t *testing.T) {
	names, values := factors(), outcomes
	cases := everyPair()
	for i := range names {
		for j := i + 1; j < len(names); j++ {
			met := map[[2]federation.Failure]bool{}
			for _, c := range cases {
				met[[2]federation.Failure{c[names[i]], c[names[j]]}] = true
			}
			if len(met) != len(values)*len(values) {
				t.Fatalf("%s and %s meet in %d ways of %d", names[i], names[j], len(met), len(values)*len(values))
			}
		}
	}
	t.Logf("%d cases", len(cases))
}

// Two of five hang: the other three's lanes are there as soon as without.
func TestSourcesThatHangChangeNothingForTheOthers(t *testing.T) {
	a := build(t)
	x := a.failing(t, map[string]federation.Failure{"ours-1": federation.Hang, "ours-2": federation.BlackHole, "vendor": federation.Hang, "nation": federation.Drip}, 2)
	defer x.close()
	begun := time.Now()
	seen := map[string]time.Duration{}
	for rec, err := range x.g.Watch(t.Context(), x.s, x.id, gather.Ask{Headings: []dataset.Heading{dataset.Problems}}) {
		must(t, err)
		for _, l := range rec.Lanes {
			if _, ok := seen[l.Source]; !ok && l.State == gather.Answered {
				seen[l.Source] = time.Since(begun)
			}
		}
	}
	whole := time.Since(begun)
	for _, name := range []string{"ours-3", "ours-4", "ours-5"} {
		if at, ok := seen[name]; !ok || at > whole/2 {
			t.Errorf("%s was to be seen after %s, the whole took %s", name, at, whole)
		}
	}
}

// What a gathering begins ends with it, however its sources behave.
func TestNothingIsLeftBehind(t *testing.T) {
	a := build(t)
	a.broken(t, map[string]federation.Failure{}, 1)
	a.client.CloseIdleConnections()
	time.Sleep(100 * time.Millisecond)
	goroutines, sockets := runtime.NumGoroutine(), openFiles(t)
	for _, f := range federation.Failures {
		all := map[string]federation.Failure{}
		for _, name := range factors() {
			all[name] = f
		}
		a.broken(t, all, 1)
	}
	var g, s int
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		a.client.CloseIdleConnections()
		if g, s = runtime.NumGoroutine(), openFiles(t); g <= goroutines+3 && s <= sockets+3 {
			return
		}
	}
	t.Errorf("10 s after the last gathering there are %d goroutines and %d open files; before there were %d and %d", g, s, goroutines, sockets)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}
