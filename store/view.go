package store

import (
	"context"
	"iter"

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
	return r.scan(ctx, kv.Prefix(r.part, prefix), 0)
}

// ScanFrom yields the items from key on, in order, at most limit (0: all): a page of a long list.
func (r Reader) ScanFrom(ctx context.Context, key string, limit int) iter.Seq2[Item, error] {
	return r.scan(ctx, kv.Range{Part: r.part, From: key}, limit)
}

func (r Reader) scan(ctx context.Context, rg kv.Range, limit int) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for en, err := range r.engine.Scan(ctx, []kv.Range{rg}, limit) {
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

// Peek yields up to limit items whose keys start with prefix, in order. It is TxBucket.Peek outside a transaction.
func (r Reader) Peek(ctx context.Context, prefix string, limit int) iter.Seq2[Item, error] {
	return r.scan(ctx, kv.Prefix(r.part, prefix), limit)
}
