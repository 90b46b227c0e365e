package pebble

import (
	"hash/maphash"

	"tombolo/kv"
)

var _ kv.Timer = (*Engine)(nil)

// Moment is the number of the newest commit that readers can see, plus one, so that none is 0.
func (e *Engine) Moment() kv.Moment { return kv.Moment(e.moment()) }

func (e *Engine) moment() uint64 { return e.applied.Load() + 1 }

// written knows of every key a moment before which it was last written: that of the last commit with any key of the same hash. So it is of one size
// however much is written, and a key may be taken to have changed that has not, but never the other way round.
type written struct {
	seed  maphash.Seed
	after [1 << 16]uint64
}

func newWritten() *written { return &written{seed: maphash.MakeSeed()} }

func (w *written) slot(k kv.Key) *uint64 {
	return &w.after[maphash.Comparable(w.seed, k)%uint64(len(w.after))]
}

// note takes down what the commit writes that leads to a moment.
func (w *written) note(moment uint64, b kv.Batch) {
	for _, p := range b.Put {
		*w.slot(p.Key) = moment
	}
	for _, k := range b.Delete {
		*w.slot(k) = moment
	}
	for _, s := range b.Add {
		*w.slot(s.Key) = moment
	}
}

// since are those of the preconditions whose keys may have been written after a moment.
func (w *written) since(moment uint64, pre []kv.Precondition) (again []kv.Precondition) {
	for _, p := range pre {
		if *w.slot(p.Key) > moment {
			again = append(again, p)
		}
	}
	return again
}
