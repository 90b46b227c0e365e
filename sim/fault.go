// Package sim is a whole region in one process: simulated systems, each serving its real protocol on a real socket, with faults
// that can be switched on. The demo, the end-to-end tests and the benchmarks all run on it.
package sim

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"
)

// A Fault is a way in which a simulated source can misbehave.
type Fault string

// The faults. Each simulated source understands every one that its protocol allows.
const (
	FaultNone         Fault = ""
	FaultSlow         Fault = "slow"          // answers after Delay
	FaultDown         Fault = "down"          // refuses or drops connections
	FaultWrongPatient Fault = "wrong-patient" // answers with somebody else's record
	FaultGarbage      Fault = "garbage"       // answers what is not its protocol
	FaultDrip         Fault = "drip"          // a byte at a time, for ever
	Fault429          Fault = "429"           // too many requests
	Fault500          Fault = "500"           // internal error
	FaultTruncated    Fault = "truncated"     // half an answer
)

// Faults is the switchboard of one source. The zero value behaves. It may be used from many goroutines.
type Faults struct {
	mu    sync.Mutex
	fault Fault
	delay time.Duration
}

// Set switches a fault on (or, with FaultNone, off). delay is for FaultSlow; 0 means 10 s.
func (f *Faults) Set(fault Fault, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if delay == 0 {
		delay = 10 * time.Second
	}
	f.fault, f.delay = fault, delay
}

// Now is the fault that is switched on.
func (f *Faults) Now() (Fault, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault, f.delay
}

// Handler wraps an HTTP source so that it shows the fault that is switched on. FaultWrongPatient is left to the source itself.
func (f *Faults) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault, delay := f.Now()
		if fault != FaultNone {
			// Only a server that has read the request notices its caller hanging up.
			body, _ := io.ReadAll(io.LimitReader(r.Body, 16<<20))
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		switch fault {
		case FaultSlow:
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
				return
			}
		case FaultDown:
			panic(http.ErrAbortHandler)
		case FaultGarbage:
			w.Header().Set("Content-Type", "application/fhir+json")
			_, _ = w.Write([]byte("<html>Service temporarily \x00\xff{\"resourceType\":"))
			return
		case FaultDrip:
			drip(w, r)
			return
		case Fault429:
			w.Header().Set("Retry-After", "30")
			http.Error(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"throttled"}]}`, http.StatusTooManyRequests)
			return
		case Fault500:
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		case FaultTruncated:
			next.ServeHTTP(&truncated{ResponseWriter: w, left: 600}, r)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

func drip(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/fhir+json")
	for i := 0; ; i++ {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
		if _, err := w.Write([]byte{" {\"resourceType\":\"Bundle\"             "[i%38]}); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

type truncated struct {
	http.ResponseWriter
	left int
}

func (t *truncated) Write(p []byte) (int, error) {
	n := min(t.left, len(p))
	t.left -= n
	if n > 0 {
		if _, err := t.ResponseWriter.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	return len(p), nil
}
