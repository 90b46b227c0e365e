package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"tombolo/fhir"
	"tombolo/kv"
)

// A Sum is the SHA-256 of a part of what was shown: the name under which it is kept.
type Sum [sha256.Size]byte

// SumOf names a part by its content.
func SumOf(b []byte) Sum { return sha256.Sum256(b) }

func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes the hexadecimal form.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads it.
func (s *Sum) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(s[:], b); err != nil || n != len(s) || len(b) != 2*len(s) {
		return fhir.Errorf(fhir.ValueError, "not a SHA-256 in hexadecimal")
	}
	return nil
}

// A View is what one disclosure showed, in parts: Root names the part from which the others are reached. The event carries Root, so that
// the Merkle tree over the events covers every byte that was shown.
type View struct {
	Root  Sum
	Parts map[Sum][]byte
}

// Add takes in a part and gives its name.
func (v *View) Add(b []byte) Sum {
	s := SumOf(b)
	if v.Parts == nil {
		v.Parts = map[Sum][]byte{}
	}
	v.Parts[s] = b
	return s
}

const viewDetail = "view"

// Parts are kept by month, once in each month in which they were shown, so that what is past its retention goes a month at a time and
// nothing that a later view needs can go with it.
func shownPart(at time.Time) kv.Part { return kv.Part("shown/" + at.UTC().Format("2006-01")) }

// months lists the months in which something was shown.
const monthsPart kv.Part = "shown"

// missing gives the parts of a view that are not kept yet this month, packed. A part may be found missing by two at once and written
// twice: it is the same.
func (l *Log) missing(ctx context.Context, at time.Time, v *View) ([]kv.Entry, error) {
	in := shownPart(at)
	var ask []kv.Key
	for s := range v.Parts {
		if k := (kv.Key{Part: in, Key: string(s[:])}); !l.shown.has(k) {
			ask = append(ask, k)
		}
	}
	if len(ask) == 0 {
		return nil, nil
	}
	slices.SortFunc(ask, func(a, b kv.Key) int { return compare(a.Key, b.Key) })
	values, err := l.engine.MultiGet(ctx, ask)
	if err != nil {
		return nil, err
	}
	var out []kv.Entry
	for i, k := range ask {
		if values[i] != nil {
			l.shown.add([]kv.Entry{{Key: k}})
			continue
		}
		out = append(out, kv.Entry{Key: k, Value: packer.EncodeAll(v.Parts[Sum([]byte(k.Key))], nil)})
	}
	if len(out) > 0 {
		out = append(out, kv.Entry{Key: kv.Key{Part: monthsPart, Key: string(in)}, Value: []byte{}})
	}
	return out, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// recent remembers parts that are known to be kept, so that the same record opened again costs no look at the store.
type recent struct {
	mu  sync.Mutex
	now map[kv.Key]struct{}
	old map[kv.Key]struct{}
}

const maxRecent = 1 << 16

func (r *recent) has(k kv.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.now[k]; ok {
		return true
	}
	_, ok := r.old[k]
	return ok
}

func (r *recent) add(kept []kv.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range kept {
		if r.now == nil || len(r.now) >= maxRecent {
			r.old, r.now = r.now, map[kv.Key]struct{}{}
		}
		r.now[e.Key] = struct{}{}
	}
}

func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.old = nil, nil
}

// Shown reads back a part of what an entry's disclosure showed, checked against its name. It is fhir.Deleted when its retention is over.
func (l *Log) Shown(ctx context.Context, e Entry, s Sum) ([]byte, error) {
	packed, ok, err := l.engine.Get(ctx, kv.Key{Part: shownPart(e.Recorded()), Key: string(s[:])})
	switch {
	case err != nil:
		return nil, readError(err)
	case !ok:
		return nil, fhir.Errorf(fhir.Deleted, "what entry %d showed is no longer kept: its retention is over. The entry itself says which versions it was", e.Seq)
	}
	b, err := unpacker.DecodeAll(packed, nil)
	if err != nil || SumOf(b) != s {
		return nil, fhir.Errorf(fhir.Exception, "a part of what entry %d showed has been altered: keep the directory as it is, and restore from a checkpoint", e.Seq)
	}
	return b, nil
}

// Root names what the entry's disclosure showed; ok is false if it showed nothing of a record.
func (e Entry) Root() (root Sum, ok bool, err error) {
	r, err := e.Resource()
	if err != nil {
		return root, false, err
	}
	for d := range r.Value().All("entity.detail") {
		if d.Text("type") == viewDetail {
			err := root.UnmarshalText([]byte(d.Text("valueString")))
			return root, err == nil, err
		}
	}
	return root, false, nil
}

// Forget drops what was shown in months that ended before the given time, and records that it did, by whom and which months. The
// entries of those months stay for ever: who looked, when, why, and at which versions.
func (l *Log) Forget(ctx context.Context, before time.Time, by Agent) (months []string, err error) {
	before = time.Date(before.UTC().Year(), before.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	last := string(shownPart(before))
	for m, err := range l.engine.Scan(ctx, []kv.Range{{Part: monthsPart}}, 0) {
		if err != nil {
			return nil, readError(err)
		}
		if m.Key.Key < last {
			months = append(months, m.Key.Key)
		}
	}
	if len(months) == 0 {
		return nil, nil
	}
	what := make([]string, len(months))
	for i, m := range months {
		what[i] = "retention over: " + m
	}
	if _, err := l.Append(ctx, Event{Kind: Delete, Agent: by, What: what}); err != nil {
		return nil, err
	}
	l.shown.forget()
	for _, m := range months {
		if err := l.drop(ctx, kv.Part(m)); err != nil {
			return nil, fhir.Errorf(fhir.NoStore, "drop what was shown in %s: %w", m, err)
		}
	}
	return months, nil
}

func (l *Log) drop(ctx context.Context, month kv.Part) error {
	for {
		var b kv.Batch
		for e, err := range l.engine.Scan(ctx, []kv.Range{{Part: month}}, 4*maxBatch) {
			if err != nil {
				return err
			}
			b.Delete = append(b.Delete, e.Key)
		}
		if len(b.Delete) == 0 {
			_, err := l.engine.Commit(ctx, kv.Batch{Delete: []kv.Key{{Part: monthsPart, Key: string(month)}}})
			return err
		}
		if _, err := l.engine.Commit(ctx, b); err != nil {
			return err
		}
	}
}
