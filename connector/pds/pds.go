// Package pds asks the Personal Demographics Service who somebody is: by their NHS number, or by what is known of them where they have none.
//
// It speaks the PDS FHIR API in application-restricted access mode: one person or nobody. PDS lets an application ask five times a second, so
// questions wait their turn, those for which somebody is waiting first; the same question asked twice at once is asked once; and what PDS said is
// believed for a while. PDS reads by the NHS number in the URL, and searches by demographics there: that is its API. No URL of it is ever
// written anywhere by this package, nor told in an error.
package pds

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"tombolo/fhir"
)

// Options of a Client. Source and Address are needed; the rest has defaults.
type Options struct {
	Source  string  // id of the system in the region file
	Address string  // service root, https://api.service.nhs.uk/personal-demographics/FHIR/R4
	Tokens  *Tokens // nil: no access token is shown, as in the sandbox
	EndUser string  // ODS code of the organisation asked for (NHSD-End-User-Organisation-ODS); "" if the application serves one only

	Rate     int           // questions a second; 5 if not given
	Believe  time.Duration // how long an answer is believed; an hour if not given
	Deadline time.Duration // of one question with its repeats; 15 s if not given
	HTTP     *http.Client
	Now      func() time.Time
	MaxBytes int64 // most that an answer may have; 1 MiB if not given
}

// A Client asks PDS. It may be used from many goroutines.
type Client struct {
	o      Options
	http   http.Client
	budget budget
	flight singleflight.Group

	mu    sync.Mutex
	known map[string]believed // by NHS number; in memory only
}

type believed struct {
	at    time.Time
	found *Found
	err   error // of a kind that an answer is
}

// mostKnown answers are kept.
const mostKnown = 10_000

// A Found is what PDS says of somebody.
type Found struct {
	Patient *fhir.Resource // as PDS gives it: its id is the NHS number
	Number  fhir.NHSNumber // in use now
	// Superseded is the number that was asked for, if PDS answered with another one's record: it must be replaced by Number wherever it is held.
	Superseded fhir.NHSNumber
	Restricted bool    // address, telephone, contacts and practice are left out, and must not be shown
	Score      float64 // of a search; 1 for a read
	By         string  // which step of the cascade found them; "number" for a read
	At         time.Time
}

// New makes a Client, or says which option is wrong.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Address)
	switch {
	case o.Source == "":
		return nil, fhir.Errorf(fhir.Required, "a PDS source needs its id")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil:
		return nil, fhir.Errorf(fhir.ValueError, "address must be PDS's service root, such as https://api.service.nhs.uk/personal-demographics/FHIR/R4").From(o.Source)
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.Rate = max(cmp.Or(o.Rate, 5), 1)
	o.Believe = cmp.Or(o.Believe, time.Hour)
	o.Deadline = cmp.Or(o.Deadline, 15*time.Second)
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Client{o: o, known: map[string]believed{}, budget: budget{every: time.Second / time.Duration(o.Rate)}}
	if o.HTTP != nil {
		c.http = *o.HTTP
	}
	// A redirect could send the token and the NHS number to somebody else.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http.Jar = nil
	return c, nil
}

// A Turn says how a question waits for its turn.
type Turn bool

// The turns.
const (
	Urgent  Turn = true  // somebody waits for the answer
	Patient Turn = false // nobody does: after all who are urgent
)

// Read gives the record of an NHS number. An issue of type NotFound: PDS knows no such number; Deleted: it did, and the number is nobody's any more. Others are
// failures, and may be asked again. PDS FHIR API: Get patient details
func (c *Client) Read(ctx context.Context, n fhir.NHSNumber, turn Turn) (*Found, error) {
	if n.IsZero() {
		return nil, fhir.Errorf(fhir.Required, "PDS is asked by NHS number").From(c.o.Source)
	}
	if f, err, ok := c.recall(n.Digits()); ok {
		return f, err
	}
	return c.once(ctx, n.Digits(), func(ctx context.Context) (*Found, error) {
		if f, err, ok := c.recall(n.Digits()); ok { // answered to others between the look above and now
			return f, err
		}
		return c.read(ctx, n, turn)
	})
}

// Fresh is Read without believing anything that was said before.
func (c *Client) Fresh(ctx context.Context, n fhir.NHSNumber, turn Turn) (*Found, error) {
	c.mu.Lock()
	delete(c.known, n.Digits())
	c.mu.Unlock()
	return c.Read(ctx, n, turn)
}

// once asks one question for all who ask it at the same time. Whoever stops waiting does not stop it for the others.
func (c *Client) once(ctx context.Context, key string, ask func(context.Context) (*Found, error)) (*Found, error) {
	answer := c.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.o.Deadline)
		defer cancel()
		return ask(ctx)
	})
	select {
	case r := <-answer:
		f, _ := r.Val.(*Found)
		return f, r.Err
	case <-ctx.Done():
		return nil, c.fails(ctx, ctx.Err())
	}
}

func (c *Client) read(ctx context.Context, n fhir.NHSNumber, turn Turn) (*Found, error) {
	v, err := c.get(ctx, "/Patient/"+n.Digits(), turn)
	f := (*Found)(nil)
	if err == nil {
		f, err = c.patient(v)
	}
	if err == nil {
		f.Score, f.By = 1, "number"
		if f.Number.Digits() != n.Digits() {
			f.Superseded = n
		}
	}
	if err == nil || fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		c.remember(n.Digits(), f, err)
	}
	return f, err
}

func (c *Client) recall(number string) (*Found, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.known[number]
	if age := c.o.Now().Sub(b.at); !ok || age < 0 || age >= c.o.Believe {
		return nil, nil, false
	}
	return b.found, b.err, true
}

func (c *Client) remember(number string, f *Found, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Now()
	if len(c.known) >= mostKnown {
		for k, b := range c.known {
			if age := now.Sub(b.at); age < 0 || age >= c.o.Believe {
				delete(c.known, k)
			}
		}
		for k := range c.known { // still too many: some are asked for again
			if len(c.known) < mostKnown*3/4 {
				break
			}
			delete(c.known, k)
		}
	}
	c.known[number] = believed{now, f, err}
}

// patient reads a Patient of PDS. Whatever else it says, it must say whose it is.
func (c *Client) patient(v fhir.Value) (*Found, error) {
	r, err := fhir.FromValue(v)
	if err != nil || r.Type() != "Patient" {
		return nil, fhir.Errorf(fhir.Structure, "PDS's answer is not a Patient").From(c.o.Source)
	}
	n, err := fhir.ParseNHSNumber(r.ID())
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "PDS's answer does not say whose it is: its id is no NHS number").From(c.o.Source)
	}
	named := slices.ContainsFunc(r.Identifiers(), func(id fhir.Identifier) bool {
		return id.System == fhir.SystemNHSNumber && id.Value == n.Digits()
	})
	if !named {
		return nil, fhir.Errorf(fhir.Structure, "PDS's answer contradicts itself about whose it is").From(c.o.Source)
	}
	f := &Found{Patient: r, Number: n, At: c.o.Now()}
	for code := range r.Value().All("meta.security.code") {
		switch code.Str() {
		case "R", "V":
			f.Restricted = true
		case "REDACTED": // an invalidated record, which the specification says is not given
			return nil, fhir.Errorf(fhir.Deleted, "PDS has invalidated this number").From(c.o.Source)
		}
	}
	return f, nil
}
