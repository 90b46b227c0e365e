// Package national is a National Record Locator for tests and the demo: both of its sides on a real socket, with the rules and errors that are published, in memory,
// and with faults that can be switched on. It is not its owner's, and nobody has approved it.
package national

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/access"
	nrlface "tombolo/api/nrl"
	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/sim"
)

// Options of a Locator.
type Options struct {
	Token string // what every application shows; "" for anything
	Base  string // of links
	Now   func() time.Time
}

// A Locator is the whole service. Its address is the base URL, below which /producer/FHIR/R4 and /consumer/FHIR/R4 are.
type Locator struct {
	sim.Faults
	o   Options
	mux http.Handler

	mu   sync.Mutex
	kept map[string]nrl.Pointer
	asks []string // method and address of each request
}

var (
	_ nrlface.Registry = (*Locator)(nil)
	_ http.Handler     = (*Locator)(nil)
)

// New makes a Locator.
func New(o Options) *Locator {
	l := &Locator{o: o, kept: map[string]nrl.Pointer{}}
	var all []string
	for _, t := range nrl.Types {
		all = append(all, t.ID)
	}
	mux := http.NewServeMux()
	for _, side := range []nrlface.Side{nrlface.Producer, nrlface.Consumer} {
		face, err := nrlface.New(nrlface.Options{Side: side, Registry: l, Session: l.session, Application: func(s *access.Session) string { return s.User },
			Permit: func(nrlface.Side, string, string) nrlface.Permission { return nrlface.Permission{Types: all} },
			Base:   strings.TrimRight(o.Base, "/") + "/" + string(side) + "/FHIR/R4", Key: []byte("0123456789abcdef0123456789abcdef"), Now: o.Now})
		if err != nil {
			panic("sim: " + err.Error()) // a mistake in this program
		}
		mux.Handle("/"+string(side)+"/FHIR/R4/", http.StripPrefix("/"+string(side)+"/FHIR/R4", face))
	}
	l.mux = l.Handler(mux)
	return l
}

// ServeHTTP implements http.Handler.
func (l *Locator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asks = append(l.asks, r.Method+" "+r.URL.String())
	l.mu.Unlock()
	l.mux.ServeHTTP(w, r)
}

func (l *Locator) session(r *http.Request) (*access.Session, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if l.o.Token != "" && token != l.o.Token || l.o.Token != "" && !ok {
		return nil, fhir.Errorf(fhir.Login, "not an application of this service")
	}
	return &access.Session{User: "application"}, nil
}

// Asked are the requests so far, each its method and address.
func (l *Locator) Asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asks)
}

// Pointers are those about somebody, by id; about everybody if nhs is "".
func (l *Locator) Pointers(nhs string) []nrl.Pointer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []nrl.Pointer
	for _, p := range l.kept {
		if nhs == "" || p.Subject() == nhs {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b nrl.Pointer) int { return strings.Compare(a.ID(), b.ID()) })
	return out
}

// Register puts a pointer there, as some other organisation has done.
func (l *Locator) Register(p nrl.Pointer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept[p.ID()] = p
}

// Lose takes a pointer away behind everybody's back.
func (l *Locator) Lose(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, id)
}

// Create implements nrlface.Registry.
func (l *Locator) Create(_ context.Context, _ nrlface.Caller, p nrl.Pointer, replaces []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.kept[p.ID()]; ok {
		return fhir.Errorf(fhir.Conflict, "there is one already")
	}
	for _, id := range replaces {
		delete(l.kept, id)
	}
	l.kept[p.ID()] = p
	return nil
}

// Update implements nrlface.Registry.
func (l *Locator) Update(_ context.Context, _ nrlface.Caller, id string, p nrl.Pointer) error {
	l.Register(p)
	return nil
}

// Delete implements nrlface.Registry.
func (l *Locator) Delete(ctx context.Context, by nrlface.Caller, id string) error {
	if _, err := l.Get(ctx, by, id); err != nil {
		return err
	}
	l.Lose(id)
	return nil
}

// Get implements nrlface.Registry.
func (l *Locator) Get(_ context.Context, _ nrlface.Caller, id string) (nrl.Pointer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.kept[id]
	if !ok {
		return p, fhir.Errorf(fhir.NotFound, "there is no such pointer")
	}
	return p, nil
}

// Find implements nrlface.Registry. With sim.FaultWrongPatient it finds somebody else's.
func (l *Locator) Find(_ context.Context, by nrlface.Caller, q nrl.Query) ([]nrl.Pointer, error) {
	fault, _ := l.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []nrl.Pointer
	for _, p := range l.kept {
		if (p.Subject() == q.Subject.Digits()) != (fault == sim.FaultWrongPatient) && q.Wants(p) && (by.Side == nrlface.Consumer || p.Custodian() == by.Organisation) {
			out = append(out, p)
		}
	}
	return out, nil
}

// Shown implements nrlface.Registry.
func (l *Locator) Shown(context.Context, nrlface.Caller, nrl.Query, []nrl.Pointer) error { return nil }
