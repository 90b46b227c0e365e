// Package kv is the engine contract under the store: an ordered, transactional key-value space in partitions.
//
// Keys are bytes, ordered bytewise within a partition. Partitions are the unit of distribution: a scan stays inside one,
// a commit may touch several. Every call carries a whole batch, so that an engine across a network pays one round trip
// where an embedded one pays none. Positions in the ordered log are given out by the engine at commit, because only
// it knows in which order commits become visible. What a key means is the business of store; kvtest holds each
// engine to the promises written here.
package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
)

// A Part names a partition, e.g. "p/rx1-pas/7f3a…" for one source patient.
type Part string

// A Key is a place: a partition and a key in it.
type Key struct {
	Part Part
	Key  string
}

// A Range is the keys k of one partition with From <= k < To; To == "" means to the end of the partition.
type Range struct {
	Part     Part
	From, To string
}

// Prefix is the range of all keys of a partition that start with prefix.
func Prefix(part Part, prefix string) Range {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return Range{part, prefix, string(end[:i+1])}
		}
	}
	return Range{part, prefix, ""}
}

// An Entry is a key and what stands there.
type Entry struct {
	Key   Key
	Value []byte
}

// A Precondition must hold at the moment of commit: the value at Key is byte-equal to Value, or absent if Absent.
type Precondition struct {
	Key    Key
	Value  []byte
	Absent bool
}

// A Sum adds to the counter at a key, which is 0 where there is none. A counter is read as any value is, by CounterOf. A key that is added to
// is not put or deleted in the same batch, and no precondition names it.
type Sum struct {
	Key Key
	By  int64
}

// CounterOf is the number that a counter's value stands for: the sum of its words of 8 bytes, big-endian.
func CounterOf(value []byte) (n int64) {
	for ; len(value) >= 8; value = value[8:] {
		n += int64(binary.BigEndian.Uint64(value))
	}
	return n
}

// CounterValue is the value of a counter that stands at n.
func CounterValue(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// A Batch is what one Commit does, all of it or none.
type Batch struct {
	Expect []Precondition
	Put    []Entry
	Delete []Key
	// Add changes counters. Sums commute, so that those who add to the same counter at once do not hold each other up.
	Add []Sum
	// Append are records for the ordered log. The engine gives them consecutive positions in this order.
	Append [][]byte

	// Since, if not 0, is what the engine's Moment said before any of what Expect speaks of was read: the engine may then take a precondition
	// to hold whose key nobody has written since, without reading it again.
	Since Moment
	// Given says that whoever commits this does not need its values afterwards: the engine may let go of each as soon as it has its own copy, so that a large commit is
	// not in memory twice.
	Given bool
	// Lazy says that the caller can do all this again from what is durable, so that Commit need not wait for the disk: whoever loses power may find it
	// undone, whole, together with all lazy commits after it. What others commit after having seen it is durable only together with it. It is
	// nothing but a permission, and none for a Batch that appends to the log.
	Lazy bool
}

// A Moment tells commits apart by when they came. 0 is no moment.
type Moment uint64

// A Timer is an engine that remembers when keys were last written.
type Timer interface {
	// Moment is now: every commit that a read begun before this call could not see comes after it.
	Moment() Moment
}

// A Position in the ordered log. The first record has position 1; 0 is "before everything".
type Position uint64

// A Record of the ordered log.
type Record struct {
	At    Position
	Value []byte
}

// ErrConflict is returned by Commit when a precondition does not hold, and by engines with optimistic
// transactions when another commit came between. Nothing was written; read again and retry.
var ErrConflict = errors.New("kv: conflict: another commit came first")

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("kv: engine is closed")

// ErrUnavailable is what a read fails with where the engine lies elsewhere and cannot be reached now: the same read may succeed later.
var ErrUnavailable = errors.New("kv: the engine cannot be reached now")

// A Reader reads one consistent state. The bytes it returns are the caller's own.
type Reader interface {
	// Get returns the value at k; ok is false if there is none.
	Get(ctx context.Context, k Key) (value []byte, ok bool, err error)

	// MultiGet returns one slice per key, in the order asked; nil where there is none. A value that is there and
	// empty comes back as a non-nil empty slice. One round trip.
	MultiGet(ctx context.Context, keys []Key) ([][]byte, error)

	// Scan yields the entries of the ranges, range after range, in key order, at most limit in all (0: no limit).
	// An error ends the sequence. One round trip for as many entries as the engine sees fit to fetch at a time.
	Scan(ctx context.Context, ranges []Range, limit int) iter.Seq2[Entry, error]
}

// A Grouper is an engine that can keep keys together which begin alike, so that what they have in common does not stand once for each. It is for engines
// that gain by it; nothing but room depends on it.
type Grouper interface {
	// GroupBy is called once, before anything else. stem says how long the beginning is that a key shares with its group: 0 for a key that has none, and less than 0
	// for all keys of a partition that has no groups, whatever the key. It says the same of every key that begins so, whatever follows, and of a key that is no more
	// than the beginning; and says so as long as there is a store. Keys with a group have no value, are not added to, and what follows their beginning neither is
	// nothing nor begins with 00 and a byte below 20.
	GroupBy(stem func(Key) int)

	// Group brings keys into their groups that were written before there were any, while work goes on. It may be interrupted, and called again.
	Group(ctx context.Context, told func(done int64)) error
}

// A Snapshot is one moment of the store, held until closed.
type Snapshot interface {
	Reader

	// Parts yields the name of every partition that has a key, each once, in no particular order. It is for upkeep: a call a thousand or
	// so partitions. An error ends the sequence.
	Parts(ctx context.Context) iter.Seq2[Part, error]

	// Tail is the position of the last log record visible in this snapshot.
	Tail() Position
	Close() error
}

// An Engine stores keys durably. Its Reader methods read the newest committed state, each call by itself.
type Engine interface {
	Reader

	// Commit applies b atomically and returns the position of its last log record (or, with no Append, of the last
	// record before it). When it returns nil, the batch survives the loss of the process and of power. When it
	// returns ErrConflict nothing was written. Any other error leaves open whether the batch was written: the
	// caller must be able to do it again.
	Commit(ctx context.Context, b Batch) (Position, error)

	// Log yields the records after the given position, in order, up to the newest that is durable. No record is
	// ever yielded such that one with a lower position becomes visible later. An error ends the sequence; what stands before a missing
	// record is yielded before the error.
	Log(ctx context.Context, after Position) iter.Seq2[Record, error]

	// Tail is the position of the newest durable record.
	Tail(ctx context.Context) (Position, error)

	// Changed returns a channel that is closed after the log has grown past the given position (at once if it has).
	// An engine that cannot know polls.
	Changed(after Position) <-chan struct{}

	Snapshot(ctx context.Context) (Snapshot, error)

	// Checkpoint writes a complete copy of one moment into dir, which must not exist, while commits go on.
	Checkpoint(ctx context.Context, dir string) error

	Close() error
}
