package bench

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/fhir"
	"tombolo/node"
	"tombolo/search"
	"tombolo/store"
)

// StoreOptions say how large the table of the store's figures is made. Zero options work.
type StoreOptions struct {
	Options
	Store     string // postgres://… for a database in which to make schemas of its own; "" for the embedded engine
	Synthea   string // a folder of Synthea's bundles; "" for records made here
	Resources int    // about how many the large store has; 1,000,000 if 0
	Import    int    // about how many are imported as bundles and as NDJSON; 100,000 if 0
	// Only are the workloads wanted, as they are named in the results; all if empty. Filling the store is left out where none needs it.
	Only []string
	// Elsewhere runs AtRest in a new process; nil: that figure is not taken.
	Elsewhere func(ctx context.Context, place node.Config) (mib float64, err error)
}

// A storeBench is one run of all the store's workloads.
type storeBench struct {
	o     StoreOptions
	crowd *crowd
	emit  func(Result)
	db    *store.DB

	people   int      // in the store
	big      []string // patients of 1,000 resources each
	refs     []fhir.Ref
	patients []string // of refs
	raw      int64    // bytes of JSON given
	stored   int64    // resources
	large    bool     // the store has its full size
	small    map[string]Result
}

// Store runs the workloads of docs/performance.md's table of the store, each after the other on one store, and hands each result to emit.
func Store(ctx context.Context, o StoreOptions, emit func(Result)) error {
	if o.Resources == 0 {
		o.Resources = 1_000_000
	}
	if o.Import == 0 {
		o.Import = 100_000
	}
	o.fill()
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "tombolo-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	b := &storeBench{o: o, small: map[string]Result{}}
	made := 40
	if b.trial() { // no more than it stores, copies among them
		made = 4
	}
	c, err := openCrowd(o.Synthea, o.Seed, made)
	if err != nil {
		return err
	}
	b.crowd = c
	b.emit = func(r Result) {
		r.Machine, r.Data = machine(), c.about
		if was, ok := b.small[r.Workload]; b.large && r.Reads && ok {
			more := map[string]float64{"growth": r.Got / was.Got, "growth of processor": r.CPUMicros / was.CPUMicros}
			if found, ok := r.More["found each"]; ok {
				more["found each"], more["found each in the tenth"] = found, was.More["found each"]
			}
			if r.More = more; r.Higher {
				r.More["growth"] = was.Got / r.Got
			}
		} else if r.Reads {
			b.small[r.Workload] = r
			return // of the store a tenth as large: only for comparison
		}
		emit(r)
	}
	for _, name := range o.Only {
		if !slices.Contains(storeWorkloads, name) {
			return fhir.Errorf(fhir.NotFound, "there is no workload %q in the store's table: there are %s", name, strings.Join(storeWorkloads, ", "))
		}
	}
	steps := []func(context.Context) error{b.limits}
	if b.wants("import-bundles") {
		steps = append(steps, b.importBundles)
	}
	if b.wants("import-ndjson") {
		steps = append(steps, b.importNDJSON)
	}
	if b.wants(storeWorkloads[2:]...) {
		steps = append(steps, b.tenth, b.reads, b.mixed, b.whole, b.reads, b.writes, b.mixed, b.atRest)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// storeWorkloads are those of the store's table, the imports, which need no store filled, first.
var storeWorkloads = []string{"import-bundles", "import-ndjson", "bulk", "disk", "everything", "patient-search", "code-date", "code-count", "read", "small-1", "small-32", "mixed", "at-rest"}

// wants says whether one of these workloads is asked for.
func (b *storeBench) wants(names ...string) bool {
	return len(b.o.Only) == 0 || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(b.o.Only, name) })
}

// place is where one workload's data lies: a folder, or a schema.
func (b *storeBench) place(name string) (node.Config, error) {
	c := node.Config{Data: filepath.Join(b.o.Dir, name)}
	if b.o.Store == "" {
		return c, nil
	}
	u, err := url.Parse(b.o.Store)
	if err != nil {
		return c, fhir.Errorf(fhir.ValueError, "--store is not understood: give postgres://user@host/database")
	}
	q := u.Query()
	schema := q.Get("search_path")
	if schema == "" {
		schema = "tombolo_bench"
	}
	q.Set("search_path", schema+"_"+name)
	u.RawQuery = q.Encode()
	c.Store = u.String()
	return c, nil
}

// importBundles takes transaction bundles through the door: parsed, checked, stamped, indexed, kept raw, synced, and followed by the
// index of people and the locator.
func (b *storeBench) importBundles(ctx context.Context) error {
	var files []string
	for n, have := 0, 0; have < b.o.Import; n++ {
		files = append(files, fmt.Sprintf("%05d.json", n))
		have += len(b.crowd.records[n%len(b.crowd.records)].resources)
	}
	return b.imported(ctx, "bundles", "transaction bundles", 6000, 12000, files, func(i int) []byte { return b.crowd.bundle(i) })
}

// importNDJSON takes the same resources as one file of each type, as bulk export gives them.
func (b *storeBench) importNDJSON(ctx context.Context) error {
	byType := map[string][]byte{}
	seen := map[fhir.Ref]bool{} // an organisation is in many people's bundles, and once in an export
	for n := 0; len(seen) < b.o.Import; n++ {
		for _, g := range b.crowd.person(n) {
			r, err := fhir.Parse(g.raw)
			if err != nil {
				return err
			}
			if seen[r.Ref()] {
				continue
			}
			seen[r.Ref()] = true
			byType[r.Type()] = append(append(byType[r.Type()], g.raw...), '\n')
		}
	}
	var all []byte
	for _, typ := range slices.Sorted(maps.Keys(byType)) {
		all = append(all, byType[typ]...)
	}
	return b.imported(ctx, "ndjson", "NDJSON, a file", 10000, 20000, []string{"export.ndjson"}, func(int) []byte { return all })
}

func (b *storeBench) imported(ctx context.Context, name, what string, must, aim float64, files []string, content func(int) []byte) error {
	folder := filepath.Join(b.o.Dir, name+"-files")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	var paths []string
	var size int64
	for i, f := range files {
		data := content(i)
		size += int64(len(data))
		paths = append(paths, filepath.Join(folder, f))
		if err := os.WriteFile(paths[i], data, 0o600); err != nil {
			return err
		}
	}
	place, err := b.place(name)
	if err != nil {
		return err
	}
	t, err := startTrust(ctx, Options{Dir: b.o.Dir}, place)
	if err != nil {
		return err
	}
	defer os.RemoveAll(place.Data)
	defer t.stop()
	in, _, err := node.Files(paths)
	if err != nil {
		return err
	}
	b.o.Told("importing %d MiB of %s", size>>20, what)
	watch := start(b.named(name))
	rep, err := t.Import(ctx, "rx1-pas", in, func(int64) {})
	if err != nil {
		return err
	}
	r := watch.result("resources imported as "+what, rep.Resources, 8, nil)
	r.Workload, r.Got, r.Unit, r.Must, r.Aim, r.Higher = "import-"+name, r.PerSecond, "resources/s", must, aim, true
	r.More = map[string]float64{"MB/s": float64(size) / 1e6 / r.Seconds, "rejected": float64(rep.Rejected), "deliveries": float64(rep.Deliveries)}
	b.emit(r)
	return nil
}

func (b *storeBench) named(name string) Options {
	o := b.o.Options
	if b.o.MeasureNamed != nil {
		o.Measure = func() func() { return b.o.MeasureNamed(name) }
	}
	return o
}

func (b *storeBench) open(ctx context.Context) error {
	place, err := b.place("crowd")
	if err != nil {
		return err
	}
	place.Data = filepath.Join(b.o.Dir, "crowd")
	b.db, err = node.OpenStore(ctx, place)
	return err
}

// tenth fills a tenth of the store, whole the rest.
func (b *storeBench) tenth(ctx context.Context) error {
	if err := b.open(ctx); err != nil {
		return err
	}
	for range b.db.Patients(ctx) {
		return fhir.Errorf(fhir.Conflict, "there is a store in %s or in that schema already: give an empty folder, or another search_path", b.o.Dir)
	}
	if err := b.bigPeople(ctx); err != nil {
		return err
	}
	if err := b.fill(ctx, b.o.Resources/10); err != nil {
		return err
	}
	_, err := b.settled(ctx) // as the larger store is, before it is read
	return err
}

// sized is the name under which a profile of what is measured in both stores is kept.
func (b *storeBench) sized(name string) string {
	if b.large {
		return name
	}
	return name + "-tenth"
}

func (b *storeBench) whole(ctx context.Context) error {
	b.o.Told("filling the store with %d resources", b.o.Resources)
	watch := start(b.named("fill"))
	was := b.stored
	if err := b.fill(ctx, b.o.Resources); err != nil {
		return err
	}
	r := watch.result("resources in transactions of 500, patients mixed", int(b.stored-was), fillers, nil)
	r.Workload, r.Got, r.Unit, r.Higher = "bulk", r.PerSecond, "resources/s", true
	b.emit(r)
	since := time.Now()
	disk, err := b.settled(ctx)
	if err != nil {
		return err
	}
	b.large = true
	b.emit(Result{Workload: "disk", What: "bytes on disk, of bodies, indexes, history and log, as a share of the compact JSON", Count: int(b.stored), DiskBytes: disk,
		Got: 100 * float64(disk) / float64(b.raw), Unit: "%", Must: 60, Aim: 35, More: map[string]float64{"JSON bytes each": float64(b.raw) / float64(b.stored), "disk bytes each": float64(disk) / float64(b.stored),
			"seconds after the last write": time.Since(since).Seconds()}})
	return nil
}

// fullPages is of how many codes, the most frequent first, a tenth of the store has four full pages.
func (b *storeBench) fullPages(codes []string) int {
	each := b.crowd.frequency("Observation")
	copies := float64(b.o.Resources/10) / float64(b.crowd.size())
	n := 0
	for n < len(codes) && float64(each[codes[n]])*copies >= 4*50 {
		n++
	}
	return n
}

// settled waits until the engine has done what it does by itself after writing.
func (b *storeBench) settled(ctx context.Context) (int64, error) {
	pause := time.Second
	if b.trial() {
		pause = 10 * time.Millisecond
	}
	var was int64
	for same := 0; same < 10; {
		now, err := b.db.DiskBytes(ctx)
		if err != nil {
			return 0, err
		}
		if same++; now != was {
			same, was = 0, now
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
	}
	return was, nil
}

// fillers is how many transactions are under way at a time while the store is filled.
const fillers = 4

// fill adds people until the store has so many resources, 64 people's resources mixed.
func (b *storeBench) fill(ctx context.Context, to int) error {
	rnd := rand.New(rand.NewPCG(b.o.Seed, uint64(to)))
	for first := true; first || b.stored < int64(to); first = false {
		var block []given
		for range min(64, max(b.o.Resources/2000, 4)) {
			block = append(block, b.crowd.person(b.people)...)
			b.people++
		}
		rnd.Shuffle(len(block), func(i, j int) { block[i], block[j] = block[j], block[i] })
		if err := b.put(ctx, block, ""); err != nil {
			return err
		}
	}
	return nil
}

// bigPeople adds the patients whose whole record is read: each of a thousand resources.
func (b *storeBench) bigPeople(ctx context.Context) error {
	for k := range min(max(b.o.Resources/50_000, 2), 20) {
		var block []given
		for n := k * 37; len(block) < 1000; n++ {
			for _, g := range b.crowd.person(n%len(b.crowd.records) + (1+k)*len(b.crowd.records)*1_000_003) {
				if len(block) < 1000 && g.patient != "" {
					block = append(block, g)
				}
			}
		}
		id := fmt.Sprintf("big-%d", k)
		b.big = append(b.big, id)
		if err := b.put(ctx, block, id); err != nil {
			return err
		}
	}
	return nil
}

// put stores resources, 500 to a transaction; in one patient's record if that is named.
func (b *storeBench) put(ctx context.Context, block []given, patient string) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	slots := make(chan struct{}, fillers)
	for part := range slices.Chunk(block, 500) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := putAll(ctx, b.db, part, patient); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	for i, g := range block {
		b.raw += int64(len(g.raw))
		b.stored++
		if i%16 == 0 && g.patient != "" && patient == "" {
			r, err := fhir.Parse(g.raw)
			if err != nil {
				return err
			}
			b.refs, b.patients = append(b.refs, r.Ref()), append(b.patients, g.patient)
		}
	}
	return nil
}

func putAll(ctx context.Context, db *store.DB, part []given, patient string) error {
	rs := make([]*fhir.Resource, len(part))
	refs := make([]fhir.Ref, len(part))
	for i, g := range part {
		r, err := fhir.Parse(g.raw)
		if err != nil {
			return err
		}
		rs[i], refs[i] = r, r.Ref()
	}
	_, err := db.Update(ctx, func(tx store.Tx) error {
		if err := tx.Prefetch(ctx, refs...); err != nil {
			return err
		}
		for i, r := range rs {
			home := store.Home{Source: "rx1-pas", Patient: part[i].patient}
			if patient != "" {
				home.Patient = patient
			}
			if _, err := tx.Put(ctx, home, r); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// reads takes the figures of reading.
func (b *storeBench) reads(ctx context.Context) error {
	obs, con := b.crowd.codes("Observation"), b.crowd.codes("Condition")
	if len(obs) < 8 || len(con) < 8 {
		return fhir.Errorf(fhir.Invalid, "the records have too few codes to search by: %d of results and %d of conditions", len(obs), len(con))
	}
	many := slices.Clone(con[:min(200, len(con))])
	for n := len(many); n < 200; n++ { // and codes that nothing has
		many = append(many, "http://snomed.info/sct|"+strconv.Itoa(99_000_000+n))
	}
	// Codes of which the store has enough for a full page when it has a tenth of its size: a page of 20 there and of 50 here would be two questions.
	full := obs[:max(1, b.fullPages(obs))]
	rare := func(i int) string { return full[len(full)-1-i%min(len(full), 20)] }
	w := fhir.NewBundle("searchset", "https://record.example/fhir", 1000, 2_000_000)
	for _, x := range []struct {
		name, what string
		count      int
		must, aim  float64
		quantile   string
		one        func(i int) (int, error)
	}{
		{"everything", "whole records of 1,000 resources, checked, spliced into a Bundle", 400, 5, 2, "p50", func(i int) (int, error) {
			w = fhir.NewBundle("searchset", "https://record.example/fhir", 1000, 2_000_000)
			n := 0
			for s, err := range b.db.PatientRaw(ctx, b.big[i%len(b.big)]) {
				if err != nil {
					return n, err
				}
				w.AddRaw(s.Ref, s.Body, "match")
				n++
			}
			_ = w.Bytes()
			return n, nil
		}},
		{"patient-search", "searches Observation?patient&code&date=ge in records of 1,000", 2000, 1, 0.3, "p50", func(i int) (int, error) {
			return b.found(ctx, search.Query{Type: "Observation", Patient: b.big[i%len(b.big)], Params: []search.Param{
				{Name: "code", Values: []string{obs[i%8]}}, {Name: "date", Values: []string{"ge2012"}}}})
		}},
		{"code-date", "first pages of 50 of Observation?code&date=ge across all records", 200, 10, 3, "p50", func(i int) (int, error) {
			return b.found(ctx, search.Query{Type: "Observation", Count: 50, Params: []search.Param{
				{Name: "code", Values: []string{rare(i)}}, {Name: "date", Values: []string{"ge" + strconv.Itoa(2010+i%6)}}}})
		}},
		{"code-count", "counts of Condition?code=(200 codes)&_summary=count across all records", 60, 50, 20, "p50", func(int) (int, error) {
			return b.found(ctx, search.Query{Type: "Condition", Summary: "count", Params: []search.Param{{Name: "code", Values: many}}})
		}},
		{"read", "single resources by reference", 20000, 0, 0, "p50", func(i int) (int, error) {
			_, err := b.db.ReadRaw(ctx, b.refs[i*7919%len(b.refs)])
			return 1, err
		}},
	} {
		if !b.wants(x.name) {
			continue
		}
		if b.trial() {
			x.count = max(x.count/20, 5)
		}
		warm := min(x.count/4, 40)
		if x.name == "read" {
			warm = len(b.refs) // each once
		}
		for i := range warm { // caches
			if _, err := x.one(i); err != nil {
				return err
			}
		}
		b.o.Told("%s, of %d resources", x.name, b.stored)
		took := make([]time.Duration, x.count)
		hits := 0
		watch := start(b.named(b.sized(x.name)))
		for i := range took {
			began := time.Now()
			n, err := x.one(i)
			if err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
			took[i] = time.Since(began)
			hits += n
		}
		r := watch.result(x.what, x.count, 1, took)
		r.Workload, r.Got, r.Unit, r.Must, r.Aim, r.Reads = x.name, r.Millis[x.quantile], "ms p50", x.must, x.aim, true
		r.More = map[string]float64{}
		if r.More["found each"] = float64(hits) / float64(x.count); x.name == "read" || x.name == "code-count" {
			delete(r.More, "found each")
		}
		b.emit(r)
		if x.name == "everything" {
			r.Workload, r.Got, r.Unit, r.Must, r.Aim = "everything-p99", r.Millis["p99"], "ms p99", 15, 6
			b.emit(r)
		}
	}
	return nil
}

func (b *storeBench) found(ctx context.Context, q search.Query) (int, error) {
	p, err := b.db.Search(ctx, q)
	switch {
	case err != nil:
		return 0, err
	case q.Summary == "count" && p.Total < 0:
		return 0, fhir.Errorf(fhir.TooCostly, "not counted: %v", p.Issues)
	case q.Summary == "count":
		return p.Total, nil
	}
	return len(p.Resources), nil
}

// writes takes the figures of small transactions: a patient's change and a result, synced.
func (b *storeBench) writes(ctx context.Context) error {
	for _, x := range []struct {
		clients, count int
		must, aim      float64
	}{{1, 4000, 1000, 1500}, {32, 24000, 4000, 8000}} {
		name := fmt.Sprintf("small-%d", x.clients)
		if !b.wants(name) {
			continue
		}
		b.o.Told("%s: %d transactions", name, x.count)
		r, err := b.clients(ctx, name, x.clients, x.count, func(n int) error {
			return b.smallWrite(ctx, name, n)
		})
		if err != nil {
			return err
		}
		r.What = "durable transactions of 2 resources"
		r.Workload, r.Got, r.Unit, r.Must, r.Aim, r.Higher = name, r.PerSecond, "tx/s", x.must, x.aim, true
		b.emit(r)
	}
	return nil
}

func (b *storeBench) smallWrite(ctx context.Context, name string, n int) error {
	patient := b.patients[n*31%len(b.patients)]
	part := make([]given, 2)
	for i, typ := range []string{"Encounter", "Observation"} {
		part[i] = given{patient: patient, raw: fmt.Appendf(nil, `{"resourceType":%q,"id":"%s-%d-%d","status":"final","subject":{"reference":"Patient/%s"},`+
			`"code":{"coding":[{"system":"http://snomed.info/sct","code":"%d"}]},"effectiveDateTime":"2026-03-0%dT10:00:00Z"}`, typ, name, n, i, patient, 1000000+n%97, 1+n%9)}
	}
	return putAll(ctx, b.db, part, "")
}

// warm reads once whatever the mixed workload will: what is measured is a store that is used, of either size, and not the first reading of its blocks.
func (b *storeBench) warm(ctx context.Context, codes []string) error {
	b.o.Told("reading everything once")
	searched := map[string]bool{}
	for i, ref := range b.refs {
		if _, err := b.db.ReadRaw(ctx, ref); err != nil {
			return err
		}
		if searched[b.patients[i]] {
			continue
		}
		searched[b.patients[i]] = true
		for _, code := range codes {
			if _, err := b.found(ctx, inRecord(b.patients[i], code)); err != nil {
				return err
			}
		}
	}
	return nil
}

func inRecord(patient, code string) search.Query {
	return search.Query{Type: "Observation", Patient: patient, Count: 20, Params: []search.Param{{Name: "code", Values: []string{code}}}}
}

// mixed is 70 % reads by reference, 25 % searches in a record and 5 % writes.
func (b *storeBench) mixed(ctx context.Context) error {
	if !b.wants("mixed") {
		return nil
	}
	obs := b.crowd.codes("Observation")
	if err := b.warm(ctx, obs[:8]); err != nil {
		return err
	}
	// The small writes before this, of which there are none in the smaller store, leave tables to be compacted: that is their cost, and not that of a larger store.
	if _, err := b.settled(ctx); err != nil {
		return err
	}
	b.o.Told("mixed reads and writes")
	r, err := b.clients(ctx, b.sized("mixed"), 16, 60000, func(n int) error {
		at := n * 7919 % len(b.refs)
		switch k := n % 20; {
		case k == 0:
			return b.smallWrite(ctx, fmt.Sprintf("mixed-%d", b.stored), n)
		case k <= 5:
			_, err := b.found(ctx, inRecord(b.patients[at], obs[n%8]))
			return err
		}
		_, err := b.db.ReadRaw(ctx, b.refs[at])
		return err
	})
	if err != nil {
		return err
	}
	r.What = "requests: 70 % read, 25 % search in a record, 5 % durable write"
	r.Workload, r.Got, r.Unit, r.Must, r.Aim, r.Higher, r.Reads = "mixed", r.PerSecond, "requests/s", 8000, 20000, true, true
	b.emit(r)
	return nil
}

// trial says that the figures are not the point.
func (b *storeBench) trial() bool { return b.o.Resources < 20_000 }

// clients does one thing count times, so many at a time.
func (b *storeBench) clients(ctx context.Context, name string, clients, count int, one func(n int) error) (Result, error) {
	if b.trial() {
		count /= 20
	}
	took := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var next atomic.Int64
	var wg sync.WaitGroup
	watch := start(b.named(name))
	for i := range clients {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(count) && ctx.Err() == nil; n = next.Add(1) {
				began := time.Now()
				if errs[i] = one(int(n)); errs[i] != nil {
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for i := range took {
		if errs[i] != nil {
			return Result{}, errs[i]
		}
		all = append(all, took[i]...)
	}
	return watch.result(name, len(all), clients, all), ctx.Err()
}

// atRest has a process of its own open the full store and read a little.
func (b *storeBench) atRest(ctx context.Context) error {
	if err := b.db.Close(); err != nil {
		return err
	}
	if b.o.Elsewhere == nil || !b.wants("at-rest") {
		return nil
	}
	place, err := b.place("crowd")
	if err != nil {
		return err
	}
	rss, err := b.o.Elsewhere(ctx, place)
	if err != nil {
		return err
	}
	b.emit(Result{Workload: "at-rest", What: "resident memory of a process that has opened the store and read 1,000 resources", Count: int(b.stored), Got: rss, Unit: "MiB", Must: 200, Aim: 100})
	return nil
}

// AtRest opens a store, reads a thousand resources and says how much memory this process then holds, in MiB. PostgreSQL's own is not in it.
func AtRest(ctx context.Context, place node.Config) (float64, error) {
	db, err := node.OpenStore(ctx, place)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	n := 0
	for patient, err := range db.Patients(ctx) {
		if err != nil {
			return 0, err
		}
		for _, err := range db.PatientRaw(ctx, patient) {
			if err != nil {
				return 0, err
			}
			n++
		}
		if n >= 1000 {
			break
		}
	}
	runtime.GC()
	debug.FreeOSMemory()
	return resident()
}

// resident is the memory that the process holds now, in MiB.
func resident() (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fhir.Errorf(fhir.NotSupported, "this system does not say how much memory a process holds")
}
