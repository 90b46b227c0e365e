package probe

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/locator"
	"tombolo/region"
)

// Kept is where what sources sent lies. store.DB is one.
type Kept interface {
	Patient(ctx context.Context, patientIDs ...string) iter.Seq2[*fhir.Resource, error]
}

// Held is what each source has sent, counted. locator.Locator is one.
type Held interface {
	Held(ctx context.Context, sample int) (map[string]*locator.Holding, error)
}

// Options of a Prober.
type Options struct {
	Region *region.Region
	Askers map[string]connector.Asker // by system and by neighbour
	Held   Held
	Kept   Kept
	Ledger *Ledger
	Now    func() time.Time
	Logger *slog.Logger
}

// A Prober probes the sources of a region. It may be used from many goroutines; each source is probed by one of them at a time.
type Prober struct {
	o Options

	mu   sync.Mutex
	busy map[string]bool
}

// New makes a Prober.
func New(o Options) *Prober {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{o: o, busy: map[string]bool{}}
}

// An Ask says what to probe. Whoever asks has remembered in the audit log that sources will be asked about the test patients, before.
type Ask struct {
	Sources  []string // none: all
	Patients []fhir.Identifier
	Who      connector.Requester
	Tries    int // 0: as the region file says
}

const (
	defaultTries = 3
	// atOnce is how many sources are probed at the same time. Each is asked one question at a time: a probe is never a load.
	atOnce = 4
	// sampled is how many of a source's patients are looked at for how far back it goes and of what types it sends.
	sampled = 100
)

// Probe probes sources, keeps what is found, and gives it in the order of the region file. tell, if not nil, is told of each as it is found. An error means
// that something could not be read or kept here; that sources fail is in the results.
func (p *Prober) Probe(ctx context.Context, ask Ask, tell func(*Result)) ([]*Result, error) {
	var targets []Target
	for _, t := range Targets(p.o.Region) {
		if len(ask.Sources) == 0 || slices.Contains(ask.Sources, t.ID) {
			targets = append(targets, t)
		}
	}
	for _, id := range ask.Sources {
		if !slices.ContainsFunc(targets, func(t Target) bool { return t.ID == id }) {
			return nil, fhir.Errorf(fhir.NotFound, "%q is no source of this region: there are %s", id, names(p.o.Region))
		}
	}
	ask.Tries = cmp.Or(ask.Tries, p.o.Region.Probing.Tries, defaultTries)
	held, err := p.o.Held.Held(ctx, sampled)
	if err != nil {
		return nil, err
	}
	out := make([]*Result, len(targets))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	var telling sync.Mutex
	for i, t := range targets {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = p.one(ctx, t, ask, held[t.ID])
			if tell != nil && out[i] != nil {
				telling.Lock()
				defer telling.Unlock()
				tell(out[i])
			}
		})
	}
	wg.Wait()
	out = slices.DeleteFunc(out, func(r *Result) bool { return r == nil })
	if ctx.Err() != nil {
		return out, ctx.Err() // what was cut short is not kept
	}
	return out, p.o.Ledger.Keep(ctx, out...)
}

func names(r *region.Region) string {
	var out []string
	for _, t := range Targets(r) {
		out = append(out, t.ID)
	}
	return strings.Join(out, ", ")
}

// one probes one source; nil if somebody else is at it.
func (p *Prober) one(ctx context.Context, t Target, ask Ask, held *locator.Holding) *Result {
	p.mu.Lock()
	taken := p.busy[t.ID]
	p.busy[t.ID] = true
	p.mu.Unlock()
	if taken {
		return nil
	}
	defer func() {
		p.mu.Lock()
		delete(p.busy, t.ID)
		p.mu.Unlock()
	}()
	start := time.Now()
	r := &Result{Source: t.ID, Name: t.Name, Kind: t.Kind, At: p.o.Now(), Headings: map[dataset.Heading]*Found{}}
	if err := p.sent(ctx, t, held, r); err != nil {
		r.Problems = append(r.Problems, "What it has sent could not be read in full: "+plain(err)+".")
		p.o.Logger.Error("what a source sent could not be read while it was probed", "source", t.ID, "error", err)
	}
	if len(t.live()) > 0 {
		a := &asking{t: t, asker: p.o.Askers[t.ID], who: ask.Who, tries: ask.Tries, r: r}
		a.ask(ctx, ask.Patients)
	}
	r.Took = time.Since(start).Round(time.Millisecond)
	return r
}

// sent judges a source by what it has sent: how much is exact, how far back it goes is told by some of its patients.
func (p *Prober) sent(ctx context.Context, t Target, held *locator.Holding, r *Result) error {
	if held == nil {
		held = &locator.Holding{}
	}
	pushes := false
	for h, way := range t.Way {
		if !region.Way(way).Sends() {
			continue
		}
		pushes = true
		f := &Found{Verdict: Empty, Way: way}
		if x, ok := held.Headings[h]; ok && x.Entries > 0 {
			f.Verdict, f.Entries, f.Patients, f.Came = Given, x.Entries, x.Patients, x.Last
		} else {
			f.Problem = "it has sent nothing of this yet"
		}
		r.Headings[h] = f
	}
	for _, info := range dataset.All {
		if x, ok := held.Headings[info.Heading]; ok && x.Entries > 0 && t.Way[info.Heading] == "" {
			r.Besides = append(r.Besides, info.Heading)
		}
	}
	if !pushes || len(held.Sample) == 0 {
		if pushes {
			r.Problems = append(r.Problems, "It has sent nothing yet.")
		}
		return nil
	}
	deep := map[dataset.Heading]*depth{}
	var failed error
	for res, err := range p.o.Kept.Patient(ctx, held.Sample...) {
		if err != nil {
			failed = err
			continue
		}
		h := dataset.HeadingOf(res)
		if f := r.Headings[dataset.GPPractice]; f != nil && res.Type() == "Patient" && res.Get("generalPractitioner").Exists() {
			f.Verdict, f.Problem = Given, "" // each practice stands in its Patient, and is counted with it
		}
		if f := r.Headings[h]; f == nil || !region.Way(f.Way).Sends() || supporting[res.Type()] {
			continue
		}
		if deep[h] == nil {
			deep[h] = &depth{now: r.At}
		}
		deep[h].add(res)
	}
	for h, d := range deep {
		f, of := r.Headings[h], d.found()
		f.Types, f.Earliest, f.Latest, f.Age = of.Types, of.Earliest, of.Latest, of.Age
	}
	return failed
}
