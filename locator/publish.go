package locator

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tombolo/connector/nrl"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// PublishedBucket is the name of what is known of the pointers that this region has registered with locators above it, by locator:
//
//	<locator>/dirty/<0 or 1><patient>  -> position: something changed, and nobody has looked yet what it means; 0: they may have pointers already
//	<locator>/out/<person id>          -> Waiting: a pointer is to be taken away
//	<locator>/in/<person id>           -> Waiting: one is to be registered or changed
//	<locator>/has/<person id>/<type>   -> published
//	<locator>/of/<patient id>          -> the person whose they were when it was last looked
//	<locator>/local/<pointer>          -> person id
//	<locator>/n                        -> Counts
const PublishedBucket = "locator-published"

// A Registrar is a locator above this one, as a producer sees it. nrl.Client is one.
type Registrar interface {
	Create(ctx context.Context, p nrl.Pointer, correlation string) (id string, err error)
	Update(ctx context.Context, p nrl.Pointer) error
	Delete(ctx context.Context, id string) error
	Own(ctx context.Context, q nrl.Query) (nrl.Found, error)
}

// A Wanted is a pointer that there should be.
type Wanted struct {
	Form    nrl.Form
	Subject nrl.Number
}

// PublisherOptions of a Publisher. All but Now, Logger, Pause and Verify are needed.
type PublisherOptions struct {
	Locator string // its id in the region file
	DB      *store.DB
	Key     []byte // makes the pointers' own ids, which tell nothing
	To      Registrar
	// Want says which pointers there should be about a person now; none for somebody who is not known (any more). It shows nothing of any record.
	Want func(ctx context.Context, person string) ([]Wanted, error)
	// PersonOf finds the person to whom a source patient is linked, or an issue of type NotFound.
	PersonOf func(ctx context.Context, patient string) (string, error)
	People   func(ctx context.Context) iter.Seq2[string, error]
	// Settled returns once all that follows the log has come as far as the log is now.
	Settled func(ctx context.Context) error
	// Written is told of each pointer that is about to be registered, changed or taken away: no audit, no bytes. nil: nobody is.
	Written func(ctx context.Context, act string, person string, subject nrl.Number, typ, pointer string) error
	Now     func() time.Time
	Logger  *slog.Logger
	Verify  time.Duration // how old it may be that a pointer was seen there; a week if 0
}

// A Publisher keeps the pointers that a region registers upward as they should be: what it has done is written down before and after, so that it can be stopped
// anywhere; what has failed is tried again, later and later; and everybody is looked at again from time to time. One Publisher works at a time for a locator:
// whoever runs it sees to that.
type Publisher struct {
	o PublisherOptions

	mu   sync.Mutex
	last Progress
}

// A Progress is how publishing stands. It tells nothing of people.
type Progress struct {
	Counts
	Problem string    // of the last that failed, as a code and in words
	At      time.Time // of the last pass
	Done    bool      // nothing waits
}

// Counts are how many pointers are registered, and how many people wait for one to be registered or taken away.
type Counts struct {
	There int            `json:"there"`
	ByTyp map[string]int `json:"types,omitempty"`
}

// published is what is known of one pointer.
type published struct {
	ID      string     `json:"id,omitempty"` // at the locator; "" while it is not known whether it is there
	Local   string     `json:"local"`
	Subject nrl.Number `json:"nhs"`
	Fixed   string     `json:"fixed"` // hash of what may not be changed
	Hash    string     `json:"hash"`  // of all
	Seen    time.Time  `json:"seen"`
}

// waiting is somebody for whom something is to be done.
type waiting struct {
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`
}

// NewPublisher makes a Publisher.
func NewPublisher(o PublisherOptions) *Publisher {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Verify == 0 {
		o.Verify = 7 * 24 * time.Hour
	}
	if o.Written == nil {
		o.Written = func(context.Context, string, string, nrl.Number, string, string) error { return nil }
	}
	return &Publisher{o: o}
}

func (p *Publisher) key(parts ...string) string {
	return p.o.Locator + "/" + strings.Join(parts, "/")
}

// Handle marks whom an event is about, in the transaction in which the follower's cursor moves.
func (p *Publisher) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	b := tx.Bucket(PublishedBucket)
	mark := func(patient string) error {
		if patient == "" {
			return nil
		}
		_, looked, err := b.Get(ctx, p.key("of", patient))
		if err != nil {
			return err
		}
		first := "1"
		if looked { // there may be something to take away: it goes before all those who are new
			first = "0"
		}
		b.Put(p.key("dirty", first+patient), strconv.AppendUint(nil, uint64(e.Seq), 10))
		return nil
	}
	if err := mark(e.Patient); err != nil || e.Ref.Type() != "Linkage" {
		return err
	}
	r, err := tx.Get(ctx, e.Ref)
	if fhir.Is(err, fhir.Deleted) || fhir.Is(err, fhir.NotFound) {
		return nil // a word that is taken back is a Linkage that says so
	}
	if err != nil {
		return err
	}
	for v := range r.Value().All("item.resource.reference") {
		if ref := fhir.Ref(v.Str()); ref.Type() == "Patient" {
			if err := mark(ref.ID()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Mark has somebody looked at of whom something is known that the log does not tell: a live source's answer.
func (p *Publisher) Mark(ctx context.Context, patient string) error {
	_, err := p.o.DB.Update(ctx, func(tx store.Tx) error {
		tx.Bucket(PublishedBucket).Put(p.key("dirty", "1"+patient), []byte("seen "+strconv.FormatInt(p.o.Now().UnixNano(), 10)))
		return nil
	})
	return err
}

// local is a pointer's own id.
func (p *Publisher) local(person string, w Wanted) string {
	m := hmac.New(sha256.New, p.o.Key)
	for _, part := range []string{p.o.Locator, person, w.Form.Type.ID, w.Subject.Digits()} {
		m.Write([]byte(part))
		m.Write([]byte{0})
	}
	var out []byte
	for _, b := range m.Sum(nil)[:16] {
		out = append(out, 'a'+b>>4, 'a'+b&15) // no digits: no ten of them can ever look like somebody's number
	}
	return string(out)
}

// hashes are of what may not be changed of a pointer, and of all of it.
func hashes(d nrl.Pointer) (fixed, all string) {
	sum := func(parts ...[]byte) string {
		h := sha256.New()
		for _, b := range parts {
			h.Write(b)
			h.Write([]byte{0})
		}
		return hex.EncodeToString(h.Sum(nil)[:12])
	}
	return sum(d.Get("masterIdentifier").Raw(), d.Get("type").Raw(), d.Get("subject").Raw(), d.Get("custodian").Raw(), d.Value().Member("author").Raw()), sum(d.Raw())
}

// has reads what is known of somebody's pointers, by type.
func (p *Publisher) has(ctx context.Context, person string) (map[string]published, error) {
	out := map[string]published{}
	prefix := p.key("has", person, "")
	for item, err := range p.o.DB.View(PublishedBucket).Scan(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		var x published
		if err := json.Unmarshal(item.Value, &x); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "what is known of a registered pointer cannot be read")
		}
		out[strings.TrimPrefix(item.Key, prefix)] = x
	}
	return out, nil
}

// look compares what there should be with what there is, and notes what is to be done.
func (p *Publisher) look(ctx context.Context, person string) error {
	wanted, err := p.o.Want(ctx, person)
	if err != nil {
		return err
	}
	has, err := p.has(ctx, person)
	if err != nil {
		return err
	}
	out, in := false, false
	for _, w := range wanted {
		x, ok := has[w.Form.Type.ID]
		fixed, all := hashes(w.Form.Make(w.Subject, p.local(person, w)))
		out = out || ok && x.Fixed != fixed
		in = in || !ok || x.Hash != all || x.ID == "" || p.o.Now().Sub(x.Seen) > p.o.Verify
		delete(has, w.Form.Type.ID)
	}
	out = out || len(has) > 0
	if !out && !in {
		return nil
	}
	_, err = p.o.DB.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(PublishedBucket)
		for name, todo := range map[string]bool{"out": out, "in": in} {
			_, there, err := b.Get(ctx, p.key(name, person))
			if err != nil {
				return err
			}
			if todo && (!there || name == "out") {
				b.Put(p.key(name, person), []byte("{}"))
			}
		}
		return nil
	})
	return err
}

// How much one pass does, so that what must be taken away never waits long behind what is to be registered.
const (
	looksAPass = 500
	worksAPass = 100
	atOnce     = 4
	passTime   = 5 * time.Second  // for registering
	askTime    = 10 * time.Second // for one person
)

// Step does one pass: what has changed is looked at, what must go is taken away, and some of what is new is registered. more: there is more to do at once.
func (p *Publisher) Step(ctx context.Context) (more bool, err error) {
	if err := p.o.Settled(ctx); err != nil {
		return false, err
	}
	looked, err := p.lookAtChanges(ctx)
	if err != nil {
		return false, err
	}
	gone, failedOut, err := p.work(ctx, "out", 10*worksAPass)
	if err != nil {
		return false, err
	}
	came, failedIn, err := p.work(ctx, "in", worksAPass)
	if err != nil {
		return false, err
	}
	n, err := p.Counts(ctx)
	if err != nil {
		return false, err
	}
	more = looked == looksAPass || gone == 10*worksAPass || came == worksAPass
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Counts, p.last.At, p.last.Done = n, p.o.Now(), !more && gone+came+failedIn+failedOut == 0
	if failedIn+failedOut == 0 {
		p.last.Problem = ""
	}
	return more && failedIn+failedOut == 0, nil
}

// Progress is how it stood after the last pass.
func (p *Publisher) Progress() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Waiting is how many people wait for a pointer to be registered, and for one to be taken away.
func (p *Publisher) Waiting(ctx context.Context) (in, out int, err error) {
	v := p.o.DB.View(PublishedBucket)
	for name, n := range map[string]*int{"in": &in, "out": &out} {
		for _, err := range v.Scan(ctx, p.key(name, "")) {
			if err != nil {
				return 0, 0, err
			}
			*n++
		}
	}
	return in, out, nil
}

// Counts are how many pointers are registered.
func (p *Publisher) Counts(ctx context.Context) (n Counts, err error) {
	data, ok, err := p.o.DB.View(PublishedBucket).Get(ctx, p.key("n"))
	if err != nil || !ok {
		return n, err
	}
	return n, json.Unmarshal(data, &n)
}

// lookAtChanges looks at those whom events were about: at the person they are now, and at the one they were when it was last looked. One that cannot be looked at
// holds up nobody: it keeps its mark.
func (p *Publisher) lookAtChanges(ctx context.Context) (n int, err error) {
	prefix := p.key("dirty", "")
	for item, err := range p.o.DB.View(PublishedBucket).Scan(ctx, prefix) {
		if err != nil {
			return n, err
		}
		mark := strings.TrimPrefix(item.Key, prefix)
		if err := p.lookAt(ctx, mark, item.Value); err != nil {
			if ctx.Err() != nil {
				return n, err
			}
			p.tell(err)
		}
		if n++; n == looksAPass {
			break
		}
	}
	return n, nil
}

func (p *Publisher) lookAt(ctx context.Context, mark string, at []byte) error {
	patient := mark[1:]
	now, err := p.o.PersonOf(ctx, patient)
	if err != nil && !fhir.Is(err, fhir.NotFound) {
		return err
	}
	was, _, err := p.o.DB.View(PublishedBucket).Get(ctx, p.key("of", patient))
	if err != nil {
		return err
	}
	for _, person := range slices.Compact([]string{string(was), now}) {
		if person == "" {
			continue
		}
		if err := p.look(ctx, person); err != nil {
			return err
		}
	}
	return p.looked(ctx, mark, now, at)
}

// looked takes the mark away, unless something has changed meanwhile.
func (p *Publisher) looked(ctx context.Context, mark, person string, at []byte) error {
	patient := mark[1:]
	_, err := p.o.DB.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(PublishedBucket)
		now, ok, err := b.Get(ctx, p.key("dirty", mark))
		if err != nil {
			return err
		}
		if ok && string(now) == string(at) {
			b.Delete(p.key("dirty", mark))
		}
		if person == "" {
			b.Delete(p.key("of", patient))
		} else {
			b.Put(p.key("of", patient), []byte(person))
		}
		return nil
	})
	return err
}

// work does what waits in one of the two queues, at most so many, a few at once.
func (p *Publisher) work(ctx context.Context, queue string, most int) (done, failed int, err error) {
	v := p.o.DB.View(PublishedBucket)
	prefix := p.key(queue, "")
	var due []string
	for item, err := range v.Scan(ctx, prefix) {
		if err != nil {
			return 0, 0, err
		}
		var w waiting
		if json.Unmarshal(item.Value, &w) == nil && p.o.Now().Before(w.Next) {
			continue
		}
		if due = append(due, strings.TrimPrefix(item.Key, prefix)); len(due) == most {
			break
		}
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	turns := make(chan struct{}, atOnce)
	start := time.Now()
	for _, person := range due {
		turns <- struct{}{}
		if queue == "in" && time.Since(start) > passTime {
			break
		}
		group.Go(func() {
			defer func() { <-turns }()
			asking, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			werr := p.reconcile(asking, person, queue == "out")
			serr := p.settle(ctx, queue, person, werr)
			mu.Lock()
			defer mu.Unlock()
			if err = errors.Join(err, serr); werr != nil {
				failed++
			} else {
				done++
			}
		})
	}
	group.Wait()
	return done, failed, err
}

// Pauses between tries.
const (
	firstPause = 2 * time.Second
	mostPause  = 10 * time.Minute
	// goingPause bounds it for what must go: a place that may not be known is not left standing because the locator was away for a while.
	goingPause = 15 * time.Second
)

// settle takes somebody off a queue, or notes when to try again.
func (p *Publisher) settle(ctx context.Context, queue, person string, failed error) error {
	if ctx.Err() != nil {
		return nil // we are stopping: they stay where they are
	}
	if failed != nil {
		p.tell(failed)
	}
	_, err := p.o.DB.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(PublishedBucket)
		data, ok, err := b.Get(ctx, p.key(queue, person))
		if err != nil || !ok {
			return err
		}
		if failed == nil {
			b.Delete(p.key(queue, person))
			return nil
		}
		var w waiting
		_ = json.Unmarshal(data, &w)
		w.Tries++
		pause := min(firstPause<<min(w.Tries-1, 20), mostPause)
		if queue == "out" {
			pause = min(pause, goingPause)
		}
		w.Next = p.o.Now().Add(pause)
		b.Put(p.key(queue, person), fhir.JSON(w))
		return nil
	})
	return err
}

// tell keeps what went wrong last, without anything of whom it was about.
func (p *Publisher) tell(err error) {
	what := "it failed"
	if o := nrl.OutcomeOf(err); o != nil {
		what = o.Error()
	} else if i := fhir.IssueOf(err); i != nil {
		what = string(i.Type) + ": " + i.Text
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.Problem != what {
		p.o.Logger.Warn("a pointer could not be registered or taken away, and will be tried again", "locator", p.o.Locator, "why", what)
	}
	p.last.Problem = what
}
