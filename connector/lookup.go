package connector

import (
	"context"
	"sync"
	"time"

	"tombolo/fhir"
)

// A Lookup asks a directory about a key, and believes the answer for a while; that it knows of none (NotFound) is an answer too. While the directory cannot be reached
// an answer that has grown old is given rather than none. Make it with NewLookup; it may be used from many goroutines. It is for what is nobody's: nothing of it is
// ever forgotten, so its keys must be few.
type Lookup[K comparable, V any] struct {
	ask   func(context.Context, K) (V, error)
	while time.Duration
	now   func() time.Time

	mu    sync.Mutex
	known map[K]believed[V]
}

type believed[V any] struct {
	at    time.Time
	value V
	err   error // nil, or NotFound
}

// NewLookup makes a Lookup of a question whose answers are believed for so long. now may be nil.
func NewLookup[K comparable, V any](while time.Duration, now func() time.Time, ask func(context.Context, K) (V, error)) *Lookup[K, V] {
	if now == nil {
		now = time.Now
	}
	return &Lookup[K, V]{ask: ask, while: while, now: now, known: map[K]believed[V]{}}
}

// Get gives what is believed of a key, or asks.
func (l *Lookup[K, V]) Get(ctx context.Context, key K) (V, error) {
	now := l.now()
	l.mu.Lock()
	b, ok := l.known[key]
	l.mu.Unlock()
	if age := now.Sub(b.at); ok && age >= 0 && age < l.while {
		return b.value, b.err
	}
	v, err := l.ask(ctx, key)
	if err != nil && !fhir.Is(err, fhir.NotFound) {
		if ok && ctx.Err() == nil {
			return b.value, b.err
		}
		var none V
		return none, err
	}
	l.mu.Lock()
	l.known[key] = believed[V]{now, v, err}
	l.mu.Unlock()
	return v, err
}
