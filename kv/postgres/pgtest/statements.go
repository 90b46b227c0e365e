package pgtest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Statements notes what is sent to a server, as an Options.Tracer.
type Statements struct {
	mu    sync.Mutex
	trips []Trip
}

// A Trip is what was sent together, as one round trip.
type Trip []Statement

// A Statement is its text and what stands for $1, $2 …
type Statement struct {
	SQL  string
	Args []any
}

var (
	_ pgx.QueryTracer = (*Statements)(nil)
	_ pgx.BatchTracer = (*Statements)(nil)
)

// Take gives the round trips since the last Take, without those that look for news of the log by themselves.
func (s *Statements) Take() []Trip {
	s.mu.Lock()
	defer s.mu.Unlock()
	trips := slices.DeleteFunc(s.trips, func(t Trip) bool {
		return len(t) == 1 && (strings.HasPrefix(t[0].SQL, "listen ") || strings.HasPrefix(t[0].SQL, "select coalesce(max(at)") || strings.Contains(t[0].SQL, "set_config"))
	})
	s.trips = nil
	return trips
}

func (s *Statements) note(t Trip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips = append(s.trips, t)
}

// TraceQueryStart notes a statement that goes alone.
func (s *Statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.note(Trip{{d.SQL, d.Args}})
	return ctx
}

// TraceQueryEnd does nothing.
func (s *Statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart notes statements that go together.
func (s *Statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	var t Trip
	for _, q := range d.Batch.QueuedQueries {
		t = append(t, Statement{q.SQL, q.Arguments})
	}
	s.note(t)
	return ctx
}

// TraceBatchQuery does nothing.
func (s *Statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd does nothing.
func (s *Statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
