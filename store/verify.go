package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
)

// Verify reads all of one moment of the store, while work goes on, and holds it to itself: each version to its checksum, the index of ids, the
// index and the catalogue to the records, the log to the versions, its positions to one another. Memory does not grow with the store.
// An error means that it did not come to its end; what is wrong is in the Report. tell may be nil.
func (db *DB) Verify(ctx context.Context, tell func(Progress)) (*Report, error) {
	var report *Report
	err := db.withCensus(ctx, tell, func(c *census, snap kv.Snapshot, tell func(Progress)) error {
		report = &c.report
		return c.explain(ctx, db, snap, tell)
	})
	return report, err
}

// withCensus takes a census of one moment of the store, and lets it be used while that moment is held. tell may be nil.
func (db *DB) withCensus(ctx context.Context, tell func(Progress), use func(c *census, snap kv.Snapshot, tell func(Progress)) error) error {
	if tell == nil {
		tell = func(Progress) {}
	}
	snap, err := db.engine.Snapshot(ctx)
	if err != nil {
		return readError(err)
	}
	defer func() { _ = snap.Close() }()
	c, err := db.takeCensus(ctx, snap, tell)
	if err != nil {
		return err
	}
	return use(c, snap, tell)
}

// Stats counts what is in the store.
func (db *DB) Stats(ctx context.Context, tell func(Progress)) (*Counts, error) {
	var counts *Counts
	err := db.withCensus(ctx, tell, func(c *census, _ kv.Snapshot, _ func(Progress)) error {
		if c.broken {
			return fhir.Errorf(fhir.Exception, "not all of the store can be read: tombolo store verify says what")
		}
		counts = &c.report.Counts
		return nil
	})
	return counts, err
}

// explain looks through the piles that differ for what it is that differs.
func (c *census) explain(ctx context.Context, db *DB, snap kv.Snapshot, tell func(Progress)) error {
	if c.broken {
		// What could not be read would be found missing everywhere else.
		c.report.Findings = append(c.report.Findings, Finding{Unreadable, "the indexes and the log were not held to the records, since not all can be read"})
		return nil
	}
	v := &verifier{census: c, db: db, snap: snap, tell: tell}
	for _, step := range []func(context.Context) error{v.ids, v.strays, v.catalogue, v.log} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	missing := func(k kv.Key, at place) error {
		c.report.find(MissingIndexKey, "%s is not found by %s", fhir.MakeRef(typeOfIndex(k.Part), at.id), nameOfIndex(k.Part))
		return nil
	}
	stale := func(k kv.Key, at place) error {
		if typeOfIndex(k.Part) == "" {
			c.report.find(StaleIndexKey, "the index has a partition %s of a search parameter that this program does not know", k.Part)
			return nil
		}
		c.report.find(StaleIndexKey, "%s would be found by a value of %s that it does not have", fhir.MakeRef(typeOfIndex(k.Part), at.id), nameOfIndex(k.Part))
		return nil
	}
	if err := v.missing(ctx, missing); err != nil {
		return err
	}
	if err := v.stale(ctx, stale); err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(c.counts)) {
		// Of what is damaged the codes are not known; it was counted when it was whole.
		if c.counts[p].differs() && len(c.damaged) == 0 {
			c.report.find(WrongCount, "the codes of %s are not counted as the records have them", strings.TrimPrefix(string(p), counterPrefix))
		}
	}
	return nil
}

// typeOfIndex is the resource type of a partition of the index.
func typeOfIndex(part kv.Part) string {
	typ, _ := ofIndex(part)
	return typ
}

func nameOfIndex(part kv.Part) string {
	typ, param := ofIndex(part)
	if typ == "" {
		return param
	}
	return indexName{typ, param}.String()
}

// A verifier looks for what differs, in the same moment in which the census was taken.
type verifier struct {
	*census
	db   *DB
	snap kv.Snapshot
	tell func(Progress)
}

// ids looks through the index of ids for entries that are not as the record is, and versions that are not there.
func (v *verifier) ids(ctx context.Context) error {
	for i := range v.current {
		if !v.current[i].differs() && !v.stored[i].differs() {
			continue
		}
		v.tell(Progress{Doing: "looking through the index of ids", Done: int64(i), Total: 256})
		for en, err := range v.snap.Scan(ctx, []kv.Range{{Part: kv.Part(fmt.Sprintf("i/%02x", i))}}, 0) {
			if err != nil {
				return readError(err)
			}
			ref := fhir.Ref(en.Key.Key)
			e, err := decodeEntry(en.Value)
			if err != nil {
				continue // told of already
			}
			if err := v.id(ctx, ref, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) id(ctx context.Context, ref fhir.Ref, e *entry) error {
	now, there, err := v.snap.Get(ctx, currentKey(e.part, ref))
	if err != nil {
		return readError(err)
	}
	newest := 0 // the version that is current; 0 if that cannot be known
	switch s, derr := decode(ref, now); {
	case e.deleted && there:
		v.report.find(WrongEntry, "%s is deleted, says the index of ids, and still stands in its record", ref)
	case e.deleted:
	case !there:
		v.report.find(MissingVersion, "%s, version %d, which should be the current one of its record", ref, e.version)
	case derr == nil:
		newest = s.Version
		r, err := s.Resource()
		if s.Version != e.version || err == nil && contentHash(r) != e.content {
			v.report.find(WrongEntry, "%s is of version %d, and the index of ids says %d or another content", ref, s.Version, e.version)
		}
	default:
		newest = e.version // damaged: told of already
	}
	if !v.stored[pileOf(ref)].differs() {
		return nil
	}
	var ranges []kv.Range
	for _, p := range e.parts() {
		ranges = append(ranges, kv.Prefix(p, historyPrefix(ref)))
	}
	have := map[int]bool{newest: true}
	for en, err := range v.snap.Scan(ctx, ranges, 0) {
		if err != nil {
			return readError(err)
		}
		if _, n, ok := parseRecordKey(en.Key.Key); ok {
			have[n] = true
		}
	}
	for n := 1; n <= e.version; n++ {
		if !have[n] && (there || n < e.version || e.deleted) {
			v.report.find(MissingVersion, "%s, version %d", ref, n)
		}
	}
	return nil
}

// eachVersion visits the keys and values of all records.
func (v *verifier) eachVersion(ctx context.Context, doing, prefix string, visit func(kv.Entry) error) error {
	done := int64(0)
	group := func(ranges []kv.Range) error {
		v.tell(Progress{Doing: doing, Done: done})
		for en, err := range v.snap.Scan(ctx, ranges, 0) {
			if err != nil {
				return readError(err)
			}
			done++
			if err := visit(en); err != nil {
				return err
			}
		}
		return nil
	}
	var ranges []kv.Range
	for p, err := range v.snap.Parts(ctx) {
		if err != nil {
			return readError(err)
		}
		if !isRecord(p) {
			continue
		}
		if ranges = append(ranges, kv.Prefix(p, prefix)); len(ranges) == scanned {
			if err := group(ranges); err != nil {
				return err
			}
			ranges = nil
		}
	}
	return group(ranges)
}

func isRecord(p kv.Part) bool {
	return strings.HasPrefix(string(p), patientPrefix) || strings.HasPrefix(string(p), sourcePrefix)
}

// strays looks for versions of which the index of ids does not know.
func (v *verifier) strays(ctx context.Context) error {
	some := false
	for i := range v.current {
		some = some || v.current[i].differs() || v.stored[i].differs()
	}
	if !some {
		return nil
	}
	return v.eachVersion(ctx, "looking for versions without an entry", "", func(en kv.Entry) error {
		ref, n, ok := parseRecordKey(en.Key.Key)
		if i := pileOf(ref); !ok || !v.current[i].differs() && !v.stored[i].differs() {
			return nil
		}
		raw, there, err := v.snap.Get(ctx, idKey(ref))
		if err != nil {
			return readError(err)
		}
		e, err := decodeEntry(raw)
		switch {
		case !there:
			v.report.find(WrongEntry, "%s is stored, and the index of ids has no entry for it", ref)
		case err != nil: // told of already
		case n == 0 && e.part != en.Key.Part, n > 0 && !slices.Contains(e.parts(), en.Key.Part):
			v.report.find(WrongEntry, "%s stands in one record, and in another says the index of ids", ref)
		case n > e.version:
			v.report.find(WrongEntry, "%s has a version %d, and the index of ids knows %d", ref, n, e.version)
		}
		return nil
	})
}

// catalogue looks for records that are not listed.
func (v *verifier) catalogue(ctx context.Context) error {
	if !v.records.differs() {
		return nil
	}
	for p, err := range v.snap.Parts(ctx) {
		if err != nil {
			return readError(err)
		}
		if !isRecord(p) {
			continue
		}
		if _, ok, err := v.snap.Get(ctx, kv.Key{Part: cataloguePart, Key: string(p)}); err != nil {
			return readError(err)
		} else if !ok {
			v.report.find(WrongCatalogue, "%s is not listed", p)
		}
	}
	for en, err := range v.snap.Scan(ctx, []kv.Range{{Part: cataloguePart}}, 0) {
		if err != nil {
			return readError(err)
		}
		some := false
		for _, err := range v.snap.Scan(ctx, []kv.Range{{Part: kv.Part(en.Key.Key)}}, 1) {
			if some = true; err != nil {
				return readError(err)
			}
		}
		if !some {
			v.report.find(MissingVersion, "all of %s, which is listed and holds nothing", en.Key.Key)
		}
	}
	return nil
}

// mostPiles bounds how much of the log and the records is held to each other one by one.
const mostPiles = 8

// log looks for the resources of which the log tells another story than their versions do.
func (v *verifier) log(ctx context.Context) error {
	bad, more := map[byte]bool{}, 0
	for i := range v.logged {
		switch {
		case !v.logged[i].differs():
		case len(bad) < mostPiles:
			bad[byte(i)] = true
		default:
			more++
		}
	}
	if len(bad) == 0 {
		return nil
	}
	type story struct{ stored, told, sum int }
	stories := map[fhir.Ref]*story{}
	of := func(ref fhir.Ref) *story {
		s := stories[ref]
		if s == nil {
			s = &story{}
			stories[ref] = s
		}
		return s
	}
	if err := v.eachVersion(ctx, "holding the log to the versions", "", func(en kv.Entry) error {
		ref, n, ok := parseRecordKey(en.Key.Key)
		if !ok || !bad[pileOf(ref)] {
			return nil
		}
		if n == 0 {
			raw, _, err := v.snap.Get(ctx, idKey(ref)) // the version itself may be damaged
			if err != nil {
				return readError(err)
			}
			if e, err := decodeEntry(raw); err == nil {
				n = e.version
			}
			if s, err := decode(ref, en.Value); err == nil {
				n = s.Version
			}
		}
		s := of(ref)
		s.stored, s.sum = s.stored+1, s.sum+n
		return nil
	}); err != nil {
		return err
	}
	for e, err := range v.db.Since(ctx, 0) {
		if err != nil || kv.Position(e.Seq) > v.snap.Tail() {
			break // a hole was told of already
		}
		if bad[pileOf(e.Ref)] {
			s := of(e.Ref)
			s.told, s.sum = s.told+1, s.sum-e.Version
		}
	}
	for _, ref := range sortedRefs(stories) {
		if s := stories[ref]; s.stored != s.told || s.sum != 0 {
			v.report.find(LogDiffers, "%s: %d versions are stored and the log tells of %d", ref, s.stored, s.told)
		}
	}
	if more > 0 {
		v.report.find(LogDiffers, "and more, in %d of 256 parts of the store that were not looked through", more)
	}
	return nil
}

func sortedRefs[V any](m map[fhir.Ref]V) []fhir.Ref {
	out := make([]fhir.Ref, 0, len(m))
	for r := range m {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// badIndex are the piles of the index that differ.
func (c *census) badIndex() map[indexPile]bool {
	bad := map[indexPile]bool{}
	for p, t := range c.index {
		if t.differs() {
			bad[p] = true
		}
	}
	return bad
}

// missing visits each key that records should have in the index and have not.
func (v *verifier) missing(ctx context.Context, visit func(kv.Key, place) error) error {
	bad := v.badIndex()
	if len(bad) == 0 {
		return nil
	}
	var keys []kv.Key
	var places []place
	flush := func() error {
		values, err := v.snap.MultiGet(ctx, keys)
		if err != nil {
			return readError(err)
		}
		for i, value := range values {
			if value == nil {
				if err := visit(keys[i], places[i]); err != nil {
					return err
				}
			}
		}
		keys, places = nil, nil
		return nil
	}
	err := v.eachVersion(ctx, "looking for what the index lacks", currentPrefix, func(en kv.Entry) error {
		for _, k := range indexKeysOf(en) {
			at := place{en.Key.Part, refOfCurrent(en.Key.Key).ID()}
			if bad[indexPileOf(k.Part, at)] {
				keys, places = append(keys, k), append(places, at)
			}
		}
		if len(keys) >= 1000 {
			return flush()
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return flush()
}

// indexKeysOf are the index keys of a stored current version; none if it is damaged.
func indexKeysOf(en kv.Entry) []kv.Key {
	ref, n, ok := parseRecordKey(en.Key.Key)
	if !ok || n > 0 {
		return nil
	}
	s, err := decode(ref, en.Value)
	if err != nil {
		return nil
	}
	r, err := s.Resource()
	if err != nil {
		return nil
	}
	return indexKeys(r, place{en.Key.Part, ref.ID()}, updatedValues(fhir.Instant(s.At)))
}

// stale visits each key of the index that is not one of the resource at its place.
func (v *verifier) stale(ctx context.Context, visit func(kv.Key, place) error) error {
	bad := v.badIndex()
	var parts []kv.Part
	for p := range bad {
		if !slices.Contains(parts, p.part) {
			parts = append(parts, p.part)
		}
	}
	slices.Sort(parts)
	for i, part := range parts {
		v.tell(Progress{Doing: "looking for what the index should not have", Done: int64(i), Total: int64(len(parts))})
		var keys []kv.Key
		var places []place
		flush := func() error {
			typ := typeOfIndex(part)
			at := make([]kv.Key, len(keys))
			for i, p := range places {
				at[i] = currentKey(p.part, fhir.MakeRef(typ, p.id))
			}
			values, err := v.snap.MultiGet(ctx, at)
			if err != nil {
				return readError(err)
			}
			for i, value := range values {
				if v.damaged[places[i]] || value != nil && slices.Contains(indexKeysOf(kv.Entry{Key: at[i], Value: value}), keys[i]) {
					continue
				}
				if err := visit(keys[i], places[i]); err != nil {
					return err
				}
			}
			keys, places = nil, nil
			return nil
		}
		for en, err := range v.snap.Scan(ctx, []kv.Range{{Part: part}}, 0) {
			if err != nil {
				return readError(err)
			}
			if at, ok := placeOf(en.Key.Key); ok && bad[indexPileOf(part, at)] {
				keys, places = append(keys, en.Key), append(places, at)
			}
			if len(keys) >= 500 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if len(keys) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}
