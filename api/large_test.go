package api

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Of several large bodies at once one is read, and the others wait for it with no more of theirs read than is ordinary; who has waited too long is told when to
// come back, and ordinary requests wait for nobody.
func TestLargeBodiesAreReadOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := connector.NewTurnstile()
		type outcome struct {
			read int64
			err  error
			at   time.Duration
		}
		began := time.Now()
		send := func(size int, hold time.Duration) <-chan outcome {
			done := make(chan outcome, 1)
			go func() {
				r := httptest.NewRequestWithContext(t.Context(), "POST", "/fhir", bytes.NewReader(make([]byte, size)))
				g := gate(r, turn)
				defer g.done()
				n, err := io.Copy(io.Discard, r.Body)
				done <- outcome{n, err, time.Since(began)}
				time.Sleep(hold) // while it is taken
			}()
			synctest.Wait()
			return done
		}
		const large = 5 * ordinaryBody
		first := send(large, 10*time.Second)
		second, ordinary := send(large, time.Hour), send(ordinaryBody, 0)
		if o := <-first; o.err != nil || o.read != large || o.at != 0 {
			t.Errorf("the first was read as %d bytes after %v, %v", o.read, o.at, o.err)
		}
		if o := <-ordinary; o.err != nil || o.read != ordinaryBody || o.at != 0 {
			t.Errorf("an ordinary one was read as %d bytes after %v, %v", o.read, o.at, o.err)
		}
		if o := <-second; o.err != nil || o.read != large || o.at != 10*time.Second {
			t.Errorf("the second was read as %d bytes after %v, %v; want it when the first was taken", o.read, o.at, o.err)
		}
		o := <-send(large, 0)
		var busy *fhir.Issue
		if !errors.As(o.err, &busy) || busy.Type != fhir.Throttled || busy.After <= 0 || o.at != 10*time.Second+largeWait {
			t.Errorf("the third was answered %v after %v; want to be told, after %v, when to come back", o.err, o.at, largeWait)
		}
		if o.read > ordinaryBody+(64<<10) {
			t.Errorf("%d bytes of the third were read while it waited", o.read)
		}
		time.Sleep(2 * time.Hour)
	})
}
