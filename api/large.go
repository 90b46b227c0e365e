package api

import (
	"context"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"tombolo/fhir"
)

// Large bodies are read and taken one at a time: each costs several times its size in memory while it is at work, and many at once would cost all there is. Others wait;
// ordinary requests do not.
const (
	ordinaryBody = 4 << 20
	largeWait    = 30 * time.Second
)

// maxResourceValues is how many JSON values one resource that is no Bundle may have: no real one comes near.
const maxResourceValues = 200_000

// A turnstile lets one large body through at a time.
type turnstile chan struct{}

// A gated body takes its turn once more of it has come than is ordinary.
type gated struct {
	io.ReadCloser
	ctx  context.Context
	turn turnstile
	n    int
	mine bool
}

func (g *gated) Read(b []byte) (int, error) {
	n, err := g.ReadCloser.Read(b)
	if g.n += n; g.n > ordinaryBody && !g.mine {
		wait := time.NewTimer(largeWait)
		defer wait.Stop()
		select {
		case g.turn <- struct{}{}:
			g.mine = true
		case <-wait.C:
			busy := fhir.Errorf(fhir.Throttled, "other large requests are being read: send this one again later, or in parts")
			busy.After = largeWait
			return 0, busy
		case <-g.ctx.Done():
			return 0, g.ctx.Err()
		}
	}
	return n, err
}

// done gives the turn to the next, and what the request cost back to the system.
func (g *gated) done() {
	if g.mine {
		debug.FreeOSMemory()
		<-g.turn
	}
}

// gate puts a request's body behind the turnstile. An import is read a piece at a time, and needs no turn.
func (t turnstile) gate(r *http.Request) *gated {
	g := &gated{ReadCloser: r.Body, ctx: r.Context(), turn: t}
	if r.URL.Path != "/fhir/$import" {
		r.Body = g
	}
	return g
}

// proportionate refuses a resource of little but brackets and commas.
func proportionate(res *fhir.Resource) error {
	if raw := res.Raw(); res.Type() != "Bundle" && len(raw) > maxResourceValues && fhir.CountValues(raw) > maxResourceValues {
		return fhir.Errorf(fhir.TooCostly, "a resource has at most %d values: many things are a Bundle, or NDJSON for $import", maxResourceValues).At(res.Type())
	}
	return nil
}
