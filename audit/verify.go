package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
)

// A Report says what Verify found.
type Report struct {
	Entries uint64 // entries that are good, from the first on
	Head    Head   // of the last good one
	Bad     *Bad   // the first thing wrong; nil if all is well
}

// A Bad is the first place at which the log is not as it was written.
type Bad struct {
	Seq  Seq // the entry; 0 if it is not about one
	What string
}

func (b *Bad) Error() string {
	if b.Seq == 0 {
		return "audit log: " + b.What
	}
	return fmt.Sprintf("audit log, entry %d: %s", b.Seq, b.What)
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return r.Bad == nil }

// Verify reads the whole log and finds any entry that was altered, removed, added or moved, and any change to the person's index or the
// head. Expected are heads that were published earlier: with them it also finds a log that was cut off or written anew. The error
// is for a log that cannot be read; what is found is in the Report.
func (l *Log) Verify(ctx context.Context, expected ...Head) (Report, error) {
	snap, err := l.engine.Snapshot(ctx)
	if err != nil {
		return Report{}, fhir.Errorf(fhir.NoStore, "verify the audit log: %w", err)
	}
	defer func() { _ = snap.Close() }()
	v := newVerifier(expected)
	for e, err := range snap.Scan(ctx, []kv.Range{{Part: part}}, 0) {
		if err == nil {
			err = v.see(e)
		}
		if err != nil {
			return v.result(ctx, snap, err)
		}
	}
	return v.result(ctx, snap, v.end())
}

// A verifier reads the partition in order: entries, the head, the persons' index.
type verifier struct {
	head     Head   // of what was read so far
	expected []Head // those still ahead, in order
	stored   *Head

	seed              maphash.Seed
	places, indexed   uint64 // sums over the index as entries want it, and as it is
	nPlaces, nIndexed uint64
}

func newVerifier(expected []Head) *verifier {
	expected = slices.Clone(expected)
	slices.SortFunc(expected, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	for len(expected) > 0 && expected[0].Seq == 0 { // an empty log is the beginning of any
		expected = expected[1:]
	}
	return &verifier{expected: expected, seed: maphash.MakeSeed()}
}

func (v *verifier) see(e kv.Entry) error {
	key := e.Key.Key
	switch {
	case strings.HasPrefix(key, entries):
		return v.entry(key[len(entries):], e.Value)
	case key == headKey:
		h, ok := decodeHead(e.Value)
		if !ok {
			return &Bad{0, "the head is not one"}
		}
		v.stored = &h
		return nil
	case strings.HasPrefix(key, persons) && len(e.Value) == 0:
		v.indexed += maphash.String(v.seed, key)
		v.nIndexed++
		return nil
	}
	return &Bad{0, "something stands there that the log did not write"}
}

func (v *verifier) entry(key string, value []byte) error {
	next := v.head.Seq + 1
	s, ok := parseSeq(key)
	switch {
	case !ok:
		return &Bad{next, "before it stands a key that is no entry"}
	case s == 0:
		return &Bad{0, "an entry stands before the first"}
	case s != next:
		return &Bad{next, fmt.Sprintf("is missing; the next there is has number %d", s)}
	}
	e, ok := decode(s, value)
	if !ok {
		return &Bad{s, "has been altered: it does not agree with its hash"}
	}
	if e.Prev != v.head.Hash {
		return &Bad{s, "does not follow the one before it: one of the two was replaced, moved or added"}
	}
	v.head = e.Head()
	for len(v.expected) > 0 && v.expected[0].Seq == s {
		if v.expected[0].Hash != e.Hash {
			return &Bad{s, "is not the entry whose hash was published: the log up to here was written anew"}
		}
		v.expected = v.expected[1:]
	}
	if e.PersonID != "" {
		v.places += maphash.String(v.seed, personKey(e.PersonID, s).Key)
		v.nPlaces++
	}
	return nil
}

// end judges what can only be known when all was read.
func (v *verifier) end() error {
	stored := Head{}
	if v.stored != nil {
		stored = *v.stored
	}
	last := v.head.Seq
	switch {
	case stored.Seq > last:
		return &Bad{last + 1, fmt.Sprintf("is missing: the log ends at %d and its head says %d", last, stored.Seq)}
	case stored.Seq < last:
		return &Bad{stored.Seq + 1, fmt.Sprintf("stands after the log's head, which says %d: it was added, or the head was put back", stored.Seq)}
	case stored.Hash != v.head.Hash:
		return &Bad{last, "the head does not agree with the last entry"}
	case len(v.expected) > 0:
		return &Bad{last + 1, fmt.Sprintf("is missing: the log ends at %d, and a head at %d was published", last, v.expected[0].Seq)}
	case v.places != v.indexed || v.nPlaces != v.nIndexed:
		return errIndex
	}
	return nil
}

var errIndex = errors.New("the persons' index does not agree with the entries")

func (v *verifier) result(ctx context.Context, r kv.Reader, err error) (Report, error) {
	rep := Report{Entries: uint64(v.head.Seq), Head: v.head}
	if errors.Is(err, errIndex) {
		if err = v.indexFault(ctx, r); err == nil {
			err = &Bad{0, errIndex.Error()}
		}
	}
	if err == nil || errors.As(err, &rep.Bad) {
		return rep, nil
	}
	return rep, fhir.Errorf(fhir.NoStore, "verify the audit log: read after entry %d: %w", v.head.Seq, err)
}

// indexFault looks for the entry that the persons' index has wrong. It reads all again, which only happens when something is.
func (v *verifier) indexFault(ctx context.Context, r kv.Reader) error {
	for e, err := range r.Scan(ctx, []kv.Range{kv.Prefix(part, entries)}, 0) {
		if err != nil {
			return err
		}
		entry, err := open(e.Key.Key[len(entries):], e.Value)
		if err != nil {
			return err
		}
		if entry.PersonID == "" {
			continue
		}
		_, ok, err := r.Get(ctx, personKey(entry.PersonID, entry.Seq))
		if err != nil {
			return err
		}
		if !ok {
			return &Bad{entry.Seq, "is not in its person's index: they would not be shown it"}
		}
	}
	for e, err := range r.Scan(ctx, []kv.Range{kv.Prefix(part, persons)}, 0) {
		if err != nil {
			return err
		}
		key := e.Key.Key
		s, ok := parseSeq(key[strings.LastIndexByte(key, '/')+1:])
		if !ok {
			return &Bad{0, "a person's index holds what is no place"}
		}
		value, there, err := r.Get(ctx, entryKey(s))
		if err != nil {
			return err
		}
		entry, _ := decode(s, value)
		if !there || personKey(entry.PersonID, s).Key != key {
			return &Bad{s, "stands in the index of a person whom it is not about"}
		}
	}
	return nil
}
