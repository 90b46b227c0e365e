// Package events is the ordered log of what changed, and how to follow it.
//
// An Event is committed in the same transaction as the change it tells of, carries no clinical content and
// no identifier of a person, and has a sequence number: followers keep a cursor, read in order, and can always start
// again from zero. What they build (identity links, pointers, notifications) is therefore rebuildable.
package events

import (
	"context"
	"iter"
	"time"

	"tombolo/fhir"
)

// A Seq is a position in the log; the first event has 1, and 0 is before everything.
type Seq uint64

// A Kind of change.
type Kind string

// The kinds.
const (
	Created Kind = "created"
	Updated Kind = "updated"
	Deleted Kind = "deleted"
)

// An Event says that one resource of one source changed.
type Event struct {
	Seq     Seq       `json:"-"`
	Kind    Kind      `json:"k"`
	Ref     fhir.Ref  `json:"r"`           // the resource
	Patient string    `json:"p,omitempty"` // id of the source Patient in whose record it stands; "" if nobody's
	Source  string    `json:"s"`
	Heading string    `json:"h,omitempty"`
	Version int       `json:"v"`
	At      time.Time `json:"t"`
}

// A Log is read in order. Since yields the events after a position, oldest first, and ends at the newest durable
// one; Changed is closed once there is more after the given position.
type Log interface {
	Since(ctx context.Context, after Seq) iter.Seq2[Event, error]
	Changed(after Seq) <-chan struct{}
	Tail(ctx context.Context) (Seq, error)
}
