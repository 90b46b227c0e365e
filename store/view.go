package store

import (
	"context"
	"iter"
	"slices"
	"strings"

	"tombolo/kv"
)

// An Item is a key of a bucket and what stands there.
type Item struct {
	Key   string
	Value []byte
}

// A Reader reads a bucket as it is now, each call by itself.
type Reader struct {
	engine kv.Reader
	part   kv.Part
}

// View reads a room's bucket outside a transaction.
func (db *DB) View(bucket string) Reader { return Reader{db.engine, bucketPart(bucket)} }

// Get returns the value at key; ok is false if there is none.
func (r Reader) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	v, ok, err := r.engine.Get(ctx, kv.Key{Part: r.part, Key: key})
	if err != nil {
		return nil, false, readError(err)
	}
	return v, ok, nil
}

// MultiGet returns a value per key in one round trip, nil where there is none.
func (r Reader) MultiGet(ctx context.Context, keys ...string) ([][]byte, error) {
	places := make([]kv.Key, len(keys))
	for i, k := range keys {
		places[i] = kv.Key{Part: r.part, Key: k}
	}
	values, err := r.engine.MultiGet(ctx, places)
	if err != nil {
		return nil, readError(err)
	}
	return values, nil
}

// Scan yields the items whose keys start with prefix, in order. An error ends the sequence.
func (r Reader) Scan(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return r.scan(ctx, 0, kv.Prefix(r.part, prefix))
}

// ScanAll yields the items whose keys start with any of these prefixes, none of which is the beginning of another, in order: in one round trip.
func (r Reader) ScanAll(ctx context.Context, prefixes []string) iter.Seq2[Item, error] {
	ranges := make([]kv.Range, 0, len(prefixes))
	for _, prefix := range slices.Compact(slices.Sorted(slices.Values(prefixes))) {
		ranges = append(ranges, kv.Prefix(r.part, prefix))
	}
	return r.scan(ctx, 0, ranges...)
}

// ScanFrom yields the items from key on, in order, at most limit (0: all): a page of a long list.
func (r Reader) ScanFrom(ctx context.Context, key string, limit int) iter.Seq2[Item, error] {
	return r.scan(ctx, limit, kv.Range{Part: r.part, From: key})
}

func (r Reader) scan(ctx context.Context, limit int, ranges ...kv.Range) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for en, err := range r.engine.Scan(ctx, ranges, limit) {
			if err != nil {
				yield(Item{}, readError(err))
				return
			}
			if !yield(Item{en.Key.Key, en.Value}, nil) {
				return
			}
		}
	}
}

// PeekAll gives, for each prefix, up to limit of the items whose keys start with it. It is TxBucket.PeekAll outside a transaction.
func (r Reader) PeekAll(ctx context.Context, prefixes []string, limit int) ([][]Item, error) {
	out := make([][]Item, len(prefixes))
	order := make([]int, len(prefixes)) // ranges are read in the order of their keys
	ranges := make([]kv.Range, len(prefixes))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(prefixes[a], prefixes[b]) })
	for n, i := range order {
		ranges[n] = kv.Prefix(r.part, prefixes[i])
	}
	all, got, at := 4*limit, 0, 0
	for item, err := range r.scan(ctx, all, ranges...) {
		if err != nil {
			return nil, err
		}
		got++
		for at < len(order)-1 && !strings.HasPrefix(item.Key, prefixes[order[at]]) {
			at++
		}
		if i := order[at]; len(out[i]) < limit {
			out[i] = append(out[i], item)
		}
	}
	if got < all {
		return out, nil
	}
	for i, prefix := range prefixes { // some has many: each by itself
		out[i] = out[i][:0]
		for item, err := range r.scan(ctx, limit, kv.Prefix(r.part, prefix)) {
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], item)
		}
	}
	return out, nil
}
