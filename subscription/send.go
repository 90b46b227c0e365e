package subscription

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/store"
)

const (
	sending   = 16               // notifications on their way at once, and
	each      = 4                // of these to one server: a slow one holds up nobody but itself
	together  = 100              // events in one notification
	patience  = 10 * time.Second // with an endpoint
	firstWait = time.Second      // after a failure; twice that after the next
	longest   = 5 * time.Minute  // between two tries
	asLong    = time.Hour        // as an endpoint may ask to be left alone
	look      = 5 * time.Second  // for what another node has written
	giveUp    = 24 * time.Hour   // of trying in vain
)

// Options of a Service.
type Options struct {
	Store *store.DB
	// Allowed are the addresses to which a source may have notifications sent; none if it is no longer in the region file.
	Allowed func(source string) []string
	// HTTP sends. It must not follow redirects, and must refuse addresses to which nothing may lead.
	HTTP *http.Client
	// Turn reports whether it is this node's turn to send, of those that share a database; nil: always.
	Turn   func(ctx context.Context) (bool, error)
	Now    func() time.Time
	Logger *slog.Logger
}

// A Service follows the log (Handle) and sends (Run).
type Service struct {
	o     Options
	wake  chan struct{}
	cache cache
	most  uint64 // events that wait for one endpoint

	mu   sync.Mutex
	busy map[string]bool // by source/id
	to   map[string]int  // by server
}

// New makes a Service.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Turn == nil {
		o.Turn = func(context.Context) (bool, error) { return true, nil }
	}
	return &Service{o: o, wake: make(chan struct{}, 1), cache: cache{of: map[string]compiled{}}, most: MaxWaiting, busy: map[string]bool{}, to: map[string]int{}}
}

func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run sends what waits until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var senders sync.WaitGroup
	defer senders.Wait()
	for ctx.Err() == nil {
		next := s.o.Now().Add(look)
		mine, err := s.o.Turn(ctx)
		if err == nil && mine {
			var due time.Time
			if due, err = s.start(ctx, &senders); due.Before(next) && !due.IsZero() {
				next = due
			}
		}
		if err != nil && ctx.Err() == nil {
			s.o.Logger.Warn("what is to be notified cannot be read, and will be again", "error", err)
		}
		t := time.NewTimer(max(next.Sub(s.o.Now()), time.Millisecond))
		select {
		case <-t.C:
		case <-s.wake:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// start starts a sender for each Subscription that has something to do, and tells when the next one has.
func (s *Service) start(ctx context.Context, senders *sync.WaitGroup) (next time.Time, err error) {
	all, err := s.All(ctx)
	if err != nil {
		return next, err
	}
	now := s.o.Now()
	for _, st := range all {
		due, at := st.due(now)
		if !due {
			if !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
			continue
		}
		done, ok := s.begin(st)
		if !ok {
			continue
		}
		senders.Go(func() {
			defer s.poke()
			defer done()
			if err := s.work(ctx, st.Source, st.ID); err != nil && ctx.Err() == nil {
				s.o.Logger.Warn("a notification could not be written down as sent, and will come again", "source", st.Source, "subscription", st.ID, "error", err)
				s.rest(ctx) // in its place: a store that takes no writes must not have an endpoint told the same as fast as it can answer
			}
		})
	}
	return next, nil
}

func (s *Service) rest(ctx context.Context) {
	select {
	case <-time.After(firstWait):
	case <-ctx.Done():
	}
}

// due reports whether a Subscription has something to do now; if not, when it will have without anything happening, zero for never.
func (st Standing) due(now time.Time) (due bool, at time.Time) {
	ended := !st.End.IsZero() && !now.Before(st.End)
	switch {
	case st.State == Failed:
		return false, time.Time{}
	case ended:
		return true, time.Time{}
	case st.State == Active && st.Waiting == 0:
		return false, st.End
	}
	return !now.Before(st.Next), st.Next
}

// begin takes a place to send in; false if there is none now: whoever ends one asks again.
func (s *Service) begin(st Standing) (done func(), ok bool) {
	name, server := st.Source+"/"+st.ID, ""
	if u, err := url.Parse(st.Endpoint); err == nil {
		server = strings.ToLower(u.Host)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[name] || len(s.busy) >= sending || s.to[server] >= each {
		return nil, false
	}
	s.busy[name] = true
	s.to[server]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.busy, name)
		if s.to[server]--; s.to[server] == 0 {
			delete(s.to, server)
		}
	}, true
}

// work sends one notification of a Subscription, and writes down what came of it. Whoever calls it has its place (begin): only from then on does how it stands stay as it
// is read, and what another sender has just told is not told again.
func (s *Service) work(ctx context.Context, source, id string) error {
	st, err := s.Of(ctx, source, id)
	if fhir.Is(err, fhir.NotFound) {
		return nil // it was taken away
	}
	if err != nil {
		return err
	}
	now := s.o.Now()
	if due, _ := st.due(now); !due {
		return nil
	}
	if !st.End.IsZero() && !now.Before(st.End) {
		return s.settle(ctx, st, Off, "")
	}
	err = Permitted(st.Endpoint, s.o.Allowed(st.Source)) // as the region file has it by now
	if st.Definition.Why != "" {
		err = fhir.Errorf(fhir.BusinessRule, "%s", st.Definition.Why)
	}
	if err != nil {
		return s.settle(ctx, st, Failed, fhir.IssueOf(err).Text)
	}
	kind, last := "event-notification", st.Sent
	var events []Event
	if st.State == Requested {
		kind = "handshake"
	} else if events, err = s.Events(ctx, st.Source, st.ID, st.Sent+1, together); err != nil {
		return err
	} else if last = st.Events; len(events) > 0 { // if not, too many waited for them to be kept: the number says how many there were
		last = events[len(events)-1].Number
	}
	if kind == "event-notification" || st.Body { // without a body a handshake could not be told from an event
		if failed := s.post(ctx, st, kind, events); failed != nil {
			return s.failed(ctx, st, failed)
		}
	}
	if st.State == Requested {
		return s.settle(ctx, st, Active, "")
	}
	return s.sent(ctx, st, last)
}

// A failure is why an endpoint has not taken a notification. Its words hold nothing that the endpoint said.
type failure struct {
	words string
	wait  time.Duration // as the endpoint asks
	final bool
}

func (s *Service) post(ctx context.Context, st Standing, kind string, events []Event) *failure {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var body []byte
	if st.Body {
		body = Notification(st, kind, events, s.o.Now())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, st.Endpoint, bytes.NewReader(body))
	if err != nil {
		return &failure{words: "the address cannot be used", final: true}
	}
	for name, value := range st.Header {
		req.Header.Set(name, value)
	}
	if st.Body {
		req.Header.Set("Content-Type", "application/fhir+json; charset=utf-8")
	}
	resp, err := s.o.HTTP.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return &failure{words: fmt.Sprintf("no answer within %s", patience)}
		}
		return &failure{words: "it cannot be connected to: check the address, its certificate and the way there"}
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	f := &failure{words: fmt.Sprintf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), final: permanent(resp.StatusCode)}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		f.wait = min(time.Duration(seconds)*time.Second, asLong)
	}
	return f
}

// update changes a Subscription's Progress, unless it has begun anew meanwhile.
func (s *Service) update(ctx context.Context, st Standing, change func(store.Tx, *Progress) error) error {
	_, err := s.o.Store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(Bucket)
		data, ok, err := b.Get(ctx, progressKey(st.Source, st.ID))
		if err != nil || !ok {
			return err
		}
		p, err := read[Progress](data)
		if err != nil || p.Of != st.Of || p.State != st.State {
			return err
		}
		if err := change(tx, &p); err != nil {
			return err
		}
		b.Put(progressKey(st.Source, st.ID), fhir.JSON(p))
		return nil
	})
	return err
}

// sent writes down that everything up to a number was taken.
func (s *Service) sent(ctx context.Context, st Standing, last uint64) error {
	return s.update(ctx, st, func(tx store.Tx, p *Progress) error {
		for n := st.Sent + 1; n <= last; n++ {
			if n > Kept {
				tx.Bucket(Bucket).Delete(eventKey(st.Source, st.ID, n-Kept))
			}
		}
		*p = Progress{State: p.State, Of: p.Of, Sent: last}
		return nil
	})
}

// failed writes down a failure, and when to try again; or gives up.
func (s *Service) failed(ctx context.Context, st Standing, f *failure) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now := s.o.Now()
	if f.final || !st.Since.IsZero() && now.Sub(st.Since) >= giveUp {
		return s.settle(ctx, st, Failed, f.words)
	}
	return s.update(ctx, st, func(_ store.Tx, p *Progress) error {
		if p.Tries++; p.Tries == 1 {
			p.Since = now
		}
		p.Next = now.Add(max(min(firstWait<<min(p.Tries-1, 20), longest), f.wait))
		p.Why = f.words
		return nil
	})
}

// settle gives a Subscription another status, in its resource too: whoever asked for it reads there how it stands. FHIR R4 subscription.html#status
func (s *Service) settle(ctx context.Context, st Standing, state State, why string) error {
	if state == Failed {
		s.o.Logger.Error("a system's notifications are given up: its endpoint has to be mended and the Subscription requested again", "source", st.Source, "subscription", st.ID, "problem", why)
	}
	return s.update(ctx, st, func(tx store.Tx, p *Progress) error {
		*p = Progress{State: state, Of: p.Of, Sent: p.Sent, Why: why}
		if state == Failed {
			p.Since = s.o.Now()
		}
		r, err := tx.Get(ctx, fhir.MakeRef("Subscription", st.ID))
		if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
			return nil
		}
		if err != nil {
			return err
		}
		if r = r.With("status", state).Without("error"); why != "" {
			r = r.With("error", why)
		}
		_, err = tx.Put(ctx, store.Home{Source: st.Source, Heading: string(dataset.HeadingOf(r))}, r)
		return err
	})
}
