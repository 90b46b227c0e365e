package pebble

import (
	"io"

	"github.com/cockroachdb/pebble/v2"

	"tombolo/kv"
)

// counters adds up what was added to a counter, when it is read and when tables are merged. Its name is that of Pebble's own, which stands in
// stores of before there were counters and which Pebble would otherwise refuse; what that one does, writing one sum behind the other, means the same (see
// kv.CounterOf), so that a store does not suffer from being opened by an earlier version of this program.
var counters = &pebble.Merger{
	Name: pebble.DefaultMerger.Name,
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		c := counter(kv.CounterOf(value))
		return &c, nil
	},
}

// A counter implements pebble.ValueMerger. It refuses nothing: an error would stop the merging of tables for good.
type counter int64

func (c *counter) MergeNewer(value []byte) error { *c += counter(kv.CounterOf(value)); return nil }
func (c *counter) MergeOlder(value []byte) error { *c += counter(kv.CounterOf(value)); return nil }

func (c *counter) Finish(bool) ([]byte, io.Closer, error) {
	return kv.CounterValue(int64(*c)), nil, nil
}
