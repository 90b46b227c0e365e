// Package watch reads the audit log as it grows and raises what somebody should look at: staff who open the records of family, colleagues or the
// famous, many people in an hour, numbers tried one after the other, an emergency that was claimed.
//
// Each rule is a pure function of one event and what is known around it, and says in words why it speaks (rules.go). What they raise, and
// what citizens do not recognise, stands in one queue for the privacy officer (queue.go), at most seconds after it happened, and
// in the audit log. The room refuses nobody anything: that is policy's. An alert is a question, never a verdict.
package watch

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/store"
)

// People tells who a person is. mpi.Index is one.
type People interface {
	Person(ctx context.Context, id string) (*mpi.Person, error)
}

// Options of a Watcher. Log and Store are needed.
type Options struct {
	Log    *audit.Log
	Store  *store.DB
	People People         // nil: rules that need to know the person are silent
	Region *region.Region // for the kinds of organisation; nil: none is known
	Staff  []Member       // the staff register; empty: rules that need it are silent or go by names
	VIPs   []string       // NHS numbers of people whose every reading is looked at
	Limits Limits         // DefaultLimits if zero
	Every  time.Duration  // how often the log is looked at; 1 s if 0
	// Turn reports whether it is this watcher's turn, where several nodes share one log; nil: it always is.
	Turn   func(ctx context.Context) (bool, error)
	Now    func() time.Time
	Logger *slog.Logger
}

// A Watcher follows the audit log. Its queue may be used from many goroutines; Run only once at a time.
type Watcher struct {
	o       Options
	kinds   map[string]region.Kind // by ODS code
	staff   map[string]*Member     // by user id
	byNHS   map[string]*Member
	vips    map[string]bool
	history history
	cursor  audit.Seq
	started bool
}

// New makes a Watcher. It reads nothing before Run or Step.
func New(o Options) *Watcher {
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits
	}
	w := &Watcher{o: o, kinds: map[string]region.Kind{}, staff: map[string]*Member{}, byNHS: map[string]*Member{}, vips: map[string]bool{}, history: newHistory()}
	if o.Region != nil {
		for _, org := range o.Region.Organisations {
			w.kinds[org.ODS] = org.Kind
		}
	}
	for i := range o.Staff {
		m := &o.Staff[i]
		w.staff[m.User] = m
		if m.NHSNumber != "" {
			w.byNHS[m.NHSNumber] = m
		}
	}
	for _, n := range o.VIPs {
		w.vips[n] = true
	}
	return w
}

const (
	bucket    = "watch"
	cursorKey = "cursor"
	batch     = 256
)

// Run follows the log until ctx ends. What it cannot do it tries again; nothing is passed over.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.o.Every)
	defer tick.Stop()
	for {
		for {
			n, err := w.turn(ctx)
			if err != nil && ctx.Err() == nil {
				w.o.Logger.Error("misuse watching does not go on", "at", uint64(w.cursor), "error", err)
			}
			if n == 0 || err != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// turn is a step, if it is this watcher's turn. After another's, it reads anew how far that one has come.
func (w *Watcher) turn(ctx context.Context) (int, error) {
	if w.o.Turn != nil {
		if mine, err := w.o.Turn(ctx); err != nil || !mine {
			w.started = false
			return 0, err
		}
	}
	return w.Step(ctx)
}

// Step takes in the next events of the log and returns how many there were. Its alerts are in the queue when it returns.
func (w *Watcher) Step(ctx context.Context) (int, error) {
	if err := w.start(ctx); err != nil {
		return 0, err
	}
	var found []Item
	n, last := 0, w.cursor
	for e, err := range w.o.Log.All(ctx, w.cursor, batch) {
		if err != nil {
			return 0, err
		}
		items, err := w.see(ctx, e)
		if err != nil {
			return 0, err
		}
		found = append(found, items...)
		n, last = n+1, e.Seq
	}
	if n == 0 {
		return 0, w.announce(ctx)
	}
	_, err := w.o.Store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		for _, it := range found {
			if err := raise(ctx, b, it, w.o.Now()); err != nil {
				return err
			}
		}
		b.Put(cursorKey, binary.BigEndian.AppendUint64(nil, uint64(last)))
		return nil
	})
	if err != nil {
		w.started = false // the history has run ahead of the cursor: both are read again
		return 0, err
	}
	w.cursor = last
	return n, w.announce(ctx)
}

// start reads the cursor, and what came in the days before it, which the rules look back upon.
func (w *Watcher) start(ctx context.Context) error {
	if w.started {
		return nil
	}
	v, ok, err := w.o.Store.View(bucket).Get(ctx, cursorKey)
	if err != nil {
		return err
	}
	w.cursor, w.history = 0, newHistory()
	if ok && len(v) == 8 {
		w.cursor = audit.Seq(binary.BigEndian.Uint64(v))
	}
	if w.cursor > 0 {
		from, err := w.o.Log.Before(ctx, w.o.Now().Add(-lookBack))
		if err != nil {
			return err
		}
		for e, err := range w.o.Log.All(ctx, min(from, w.cursor), int(w.cursor-min(from, w.cursor))) {
			if err != nil {
				return err
			}
			if _, err := w.facts(ctx, e); err != nil {
				return err
			}
			if e.Seq >= w.cursor {
				break
			}
		}
	}
	w.started = true
	return nil
}

// see asks every rule about an event.
func (w *Watcher) see(ctx context.Context, e audit.Entry) ([]Item, error) {
	f, err := w.facts(ctx, e)
	if f == nil || err != nil {
		return nil, err
	}
	var out []Item
	for _, r := range Rules {
		if reason := r.Look(*f); reason != "" {
			out = append(out, alert(r, *f, reason))
		}
	}
	return out, nil
}

// facts are what the rules may know of an event; nil for an event that no rule is about. The event is taken into the history.
func (w *Watcher) facts(ctx context.Context, e audit.Entry) (*Facts, error) {
	s, err := e.Summary()
	if err != nil {
		w.o.Logger.Error("an audit event could not be read, and no rule has seen it", "entry", uint64(e.Seq))
		return nil, nil
	}
	if s.User == "" || s.Kind == audit.Alert || s.Purpose == "PATRQT" {
		return nil, nil
	}
	f := &Facts{Access: s, Limits: w.o.Limits, Organisation: w.kinds[s.ODS], Staff: w.staff[s.User]}
	if f.Person, err = w.person(ctx, s); err != nil {
		return nil, err
	}
	if f.Person != nil {
		f.AsStaff = w.byNHS[f.Person.NHSNumber]
	}
	if !w.history.add(f) {
		return nil, nil // the second half of a disclosure that was already seen
	}
	return f, nil
}

func (w *Watcher) person(ctx context.Context, s audit.Summary) (*Person, error) {
	if w.o.People == nil || s.PersonID == "" {
		return nil, nil
	}
	p, err := w.o.People.Person(ctx, s.PersonID)
	if fhir.Is(err, fhir.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &Person{ID: p.ID, NHSNumber: p.NHSNumber, Family: p.Name.Family, Deceased: p.Deceased, Restricted: p.Restricted, Practice: p.Practice, VIP: w.vips[p.NHSNumber]}
	if len(p.Name.Given) > 0 {
		out.Given = p.Name.Given[0]
	}
	if p.Address != nil && len(p.Address.Line) > 0 {
		out.Home = home(p.Address.Line[0], p.Address.PostalCode)
	}
	return out, nil
}

// announce writes an AuditEvent for each alert that has none yet. After a crash in between, one may have two, with the same id.
func (w *Watcher) announce(ctx context.Context) error {
	view := w.o.Store.View(bucket)
	var told []string
	for item, err := range view.Scan(ctx, unannounced) {
		if err != nil {
			return err
		}
		var it Item
		if err := json.Unmarshal(item.Value, &it); err != nil {
			return err
		}
		what := []string{"alert: " + it.ID, "kind: " + it.Kind, "reason: " + it.Reason, "user: " + it.User}
		if len(it.Entries) > 0 {
			what = append(what, "entry: "+entryID(it.Entries[0]))
		}
		if _, err := w.o.Log.Append(ctx, audit.Event{Kind: audit.Alert, Agent: audit.Agent{User: "tombolo", Name: "Tombolo misuse watching"}, PersonID: it.PersonID, What: what}); err != nil {
			return err
		}
		told = append(told, item.Key)
	}
	if len(told) == 0 {
		return nil
	}
	// What was told is crossed off also while the node is being stopped, or it would be told again at its next start.
	_, err := w.o.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		for _, k := range told {
			b.Delete(k)
		}
		return nil
	})
	return err
}
