package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Large bodies are read and taken one at a time: each costs several times its size in memory while it is at work, and many at once would cost all there is. Others wait;
// ordinary requests do not.
const (
	smallBody    = 64 << 10
	ordinaryBody = 4 << 20
	largeWait    = 30 * time.Second
)

// maxResourceValues is how many JSON values one resource that is no Bundle may have: no real one comes near.
const maxResourceValues = 200_000

// A gated body takes its turn once more of it has come than is ordinary.
type gated struct {
	io.ReadCloser
	ctx  context.Context
	at   *connector.Turnstile
	n    int
	turn *connector.Turn
}

func (g *gated) Read(b []byte) (n int, err error) {
	n, err = g.ReadCloser.Read(b)
	if g.n += n; g.n > ordinaryBody {
		if late := g.take(); late != nil {
			return 0, late
		}
	}
	return n, err
}

func (g *gated) take() (err error) {
	if g.turn == nil {
		g.turn, err = g.at.Take(g.ctx, largeWait)
	}
	return err
}

// done gives what the request cost back to the system, and the turn to the next.
func (g *gated) done() { g.turn.End() }

// gate puts a request's body behind the turnstile. An import is read a piece at a time, and needs no turn.
func gate(r *http.Request, at *connector.Turnstile) *gated {
	g := &gated{ReadCloser: r.Body, ctx: r.Context(), at: at}
	if r.URL.Path != "/fhir/$import" {
		r.Body = g
	}
	return g
}

// proportionate refuses a resource of little but brackets and commas, and one in a Bundle that is larger than it may be by itself.
func proportionate(res *fhir.Resource) error {
	switch raw := res.Raw(); {
	case res.Type() == "Bundle":
	case len(raw) > MaxResource:
		return fhir.Errorf(fhir.TooLong, "a resource has at most %d bytes: split it", MaxResource).At(res.Type())
	case len(raw) > maxResourceValues && fhir.CountValues(raw) > maxResourceValues:
		return fhir.Errorf(fhir.TooCostly, "a resource has at most %d values: many things are a Bundle, or NDJSON for $import", maxResourceValues).At(res.Type())
	}
	return nil
}
