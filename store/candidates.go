package store

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

// limits bound how much is looked up at a time, and in one search.
type limits struct {
	examine int // resources read and matched in one call
	probe   int // index entries read of a plan to see whether it is selective
	collect int // index entries of one plan that are brought into order in memory
	fetch   int // resources got in one round trip
	parts   int // partitions scanned in one round trip
	list    int // entries of the catalogue read at a time
}

var usualLimits = limits{examine: 10_000, probe: 256, collect: 20_000, fetch: 128, parts: 64, list: 1000}

// A segment is part of where candidates are: one place, or (with no id) all of the type in one partition.
type segment = place

// candidates yields every resource that may match and comes after a place, in order. All that match are among them.
func (f *finder) candidates(ctx context.Context, after place) iter.Seq2[candidate, error] {
	return func(yield func(candidate, error) bool) {
		r := reader{f: f, ctx: ctx, after: after, yield: yield}
		for s, err := range f.segments(ctx, after) {
			if err != nil {
				yield(candidate{}, err)
				return
			}
			if !r.add(s) {
				return
			}
		}
		r.flush()
	}
}

// segments finds the best way to the candidates.
func (f *finder) segments(ctx context.Context, after place) iter.Seq2[segment, error] {
	if f.q.Patient != "" {
		return func(yield func(segment, error) bool) { f.within(ctx, patientPart(f.q.Patient), after, yield) }
	}
	var plans []plan
	if !f.db.IndexIsStale() {
		plans = f.plans(ctx)
	}
	return func(yield func(segment, error) bool) {
		if len(plans) == 1 && plans[0].exact {
			f.stream(ctx, plans[0], after, yield)
			return
		}
		// A plan that finds few is as good as any; they come with the one that should find fewest first.
		for _, p := range plans[:min(len(plans), 4)] {
			if done, ok := f.collect(ctx, p, after, f.db.limits.probe, yield); done || !ok {
				return
			}
		}
		for _, p := range plans {
			if p.exact {
				f.stream(ctx, p, after, yield)
				return
			}
		}
		for _, p := range plans[:min(len(plans), 1)] {
			if done, ok := f.collect(ctx, p, after, f.db.limits.collect, yield); done || !ok {
				return
			}
		}
		f.everywhere(ctx, after, yield)
	}
}

// within yields where one record's candidates are. An equality is looked up in the index, whose entries of one value lie in the order of records,
// when it finds few; else the record is scanned. Where partitions lie on many machines it always is: the record's machine is then the only one asked.
func (f *finder) within(ctx context.Context, part kv.Part, after place, yield func(segment, error) bool) {
	if !f.db.spread && !f.db.IndexIsStale() {
		if p, ok := f.planWithin(part); ok {
			if done, _ := f.collect(ctx, p, after, f.db.limits.probe, yield); done {
				return
			}
		}
	}
	yield(segment{part: part}, nil)
}

// planWithin is the first plan of equalities, in one record.
func (f *finder) planWithin(part kv.Part) (p plan, ok bool) {
	for _, ranges := range search.Keys(f.q) {
		if len(ownersIn(ranges)) > 0 || len(ranges) == 0 || ranges[0].Name == "_id" {
			continue // the index leaves these out
		}
		p = plan{}
		for _, r := range ranges {
			if _, one := r.Exact(); one {
				p.ranges = append(p.ranges, kv.Prefix(indexPart(f.q.Type, r.Name), indexValue(f.q.Type, r.Name, r.From)+partCode(part)))
			}
		}
		if len(p.ranges) == len(ranges) {
			return p, true
		}
	}
	return plan{}, false
}

// A plan is one complete way to the candidates.
type plan struct {
	ranges []kv.Range
	exact  bool      // each range is of one value, so its entries are in the order of their places
	also   []segment // what the index leaves out, see indexKeys
	err    error
}

func (f *finder) plans(ctx context.Context) []plan {
	var out []plan
	for _, ranges := range search.Keys(f.q) {
		p := plan{exact: true}
		for _, r := range ranges {
			p.ranges = append(p.ranges, indexRange(f.q.Type, r))
			if _, one := r.Exact(); !one {
				p.exact = false
			}
		}
		for _, id := range ownersIn(ranges) {
			p.also = append(p.also, segment{part: patientPart(id)})
		}
		if len(ranges) > 0 && ranges[0].Name == "_id" {
			var at []place
			at, p.err = f.byID(ctx, ranges)
			p.also = append(p.also, at...)
		}
		out = append(out, p)
	}
	return out
}

// byID looks resources up by id where the index has no _id entries: ranges are of values "id|".
func (f *finder) byID(ctx context.Context, ranges []search.Range) ([]place, error) {
	var keys []kv.Key
	var ids []string
	for _, r := range ranges {
		if id, _, _ := strings.Cut(r.From, "|"); fhir.ValidID(id) {
			keys, ids = append(keys, idKey(fhir.MakeRef(f.q.Type, id))), append(ids, id)
		}
	}
	values, err := f.db.engine.MultiGet(ctx, keys)
	if err != nil {
		return nil, readError(err)
	}
	var out []place
	for i, v := range values {
		if v == nil {
			continue
		}
		e, err := decodeEntry(v)
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "%s: %w", fhir.MakeRef(f.q.Type, ids[i]), err)
		}
		if !e.deleted {
			out = append(out, place{e.part, ids[i]})
		}
	}
	return out, nil
}

// collect reads the whole of a plan, puts it in order and yields it. done is false if it is more than most; nothing was yielded then. ok is
// false if nothing more is wanted.
func (f *finder) collect(ctx context.Context, p plan, after place, most int, yield func(segment, error) bool) (done, ok bool) {
	if p.err != nil {
		yield(segment{}, p.err)
		return true, false
	}
	found, err := f.entries(ctx, p.from(after), most+1)
	if err != nil {
		yield(segment{}, err)
		return true, false
	}
	if len(found) > most {
		return false, true
	}
	return true, yieldInOrder(append(p.uncovered(found), p.also...), after, yield)
}

// counted counts the different places in ranges of the index of which all match. A place counts once by a 64-bit hash of it, so of a million matches
// one may be missed in one of ten million searches.
func (f *finder) counted(ctx context.Context, ranges []search.Range) (int, error) {
	all := make([]kv.Range, len(ranges))
	for i, r := range ranges {
		all[i] = indexRange(f.q.Type, r)
	}
	// In one range a place stands once.
	if len(all) == 1 {
		n := 0
		for _, err := range f.db.engine.Scan(ctx, all, 0) {
			if err != nil {
				return -1, readError(err)
			}
			n++
		}
		return n, nil
	}
	seen := map[uint64]struct{}{}
	for en, err := range f.db.engine.Scan(ctx, all, 0) {
		if err != nil {
			return -1, readError(err)
		}
		if i := strings.Index(en.Key.Key, valueEnd); i >= 0 {
			seen[maphash.String(seeds[0], en.Key.Key[i:])] = struct{}{}
		}
	}
	return len(seen), nil
}

// from narrows the ranges of an exact plan to what comes after a place.
func (p plan) from(after place) []kv.Range {
	if !p.exact || after == (place{}) {
		return p.ranges
	}
	out := slices.Clone(p.ranges)
	for i, r := range out {
		// r.From is the value with its end; the entries of that value follow it in the order of places.
		out[i].From = r.From + after.code() + "\x00"
	}
	return out
}

func (f *finder) entries(ctx context.Context, ranges []kv.Range, limit int) ([]place, error) {
	var out []place
	for en, err := range f.db.engine.Scan(ctx, ranges, limit) {
		if err != nil {
			return nil, readError(err)
		}
		if at, ok := placeOf(en.Key.Key); ok {
			out = append(out, at)
		}
	}
	return out, nil
}

// firstPiece is how many index entries a stream begins with: mostly a page's worth is wanted.
const firstPiece = 64

// stream reads an exact plan that finds many, a piece at a time: each of its ranges is in the order of places, so what lies below the
// lowest end of the pieces read is complete.
func (f *finder) stream(ctx context.Context, p plan, after place, yield func(segment, error) bool) {
	if p.err != nil {
		yield(segment{}, p.err)
		return
	}
	also := p.also
	size := min(firstPiece, f.db.limits.probe)
	for at := after; ; size = f.db.limits.probe {
		var found []place
		horizon, more := place{}, false
		for _, r := range p.from(at) {
			piece, err := f.entries(ctx, []kv.Range{r}, size)
			if err != nil {
				yield(segment{}, err)
				return
			}
			if len(piece) == size {
				if last := piece[len(piece)-1]; !more || last.compare(horizon) < 0 {
					horizon, more = last, true
				}
			}
			found = append(found, p.uncovered(piece)...)
		}
		found = append(found, also...)
		if more {
			later := func(s segment) bool { return s.compare(horizon) > 0 }
			also = slices.DeleteFunc(slices.Clone(also), func(s segment) bool { return !later(s) })
			found = slices.DeleteFunc(found, later)
		}
		if !yieldInOrder(found, at, yield) || !more {
			return
		}
		at = horizon
	}
}

// uncovered drops the places that lie in a partition which is read as a whole anyway.
func (p plan) uncovered(found []place) []place {
	for _, s := range p.also {
		if s.id == "" {
			found = slices.DeleteFunc(found, func(at place) bool { return at.part == s.part })
		}
	}
	return found
}

// yieldInOrder yields the segments after a place, each once.
func yieldInOrder(found []segment, after place, yield func(segment, error) bool) bool {
	slices.SortFunc(found, segment.compare)
	for i, s := range found {
		switch {
		case i > 0 && s == found[i-1]:
			continue
		case s.id == "" && s.part < after.part, s.id != "" && s.compare(after) <= 0:
			continue
		}
		if !yield(s, nil) {
			return false
		}
	}
	return true
}

// everywhere yields every partition from that of a place on.
func (f *finder) everywhere(ctx context.Context, after place, yield func(segment, error) bool) {
	from := kv.Range{Part: cataloguePart, From: string(after.part)}
	for {
		n := 0
		for en, err := range f.db.engine.Scan(ctx, []kv.Range{from}, f.db.limits.list) {
			if err != nil {
				yield(segment{}, readError(err))
				return
			}
			n++
			from.From = en.Key.Key + "\x00"
			if !yield(segment{part: kv.Part(en.Key.Key)}, nil) {
				return
			}
		}
		if n < f.db.limits.list {
			return
		}
	}
}

// A reader turns segments into candidates, gathering neighbours of a kind into one round trip. Pages are small and often filled by the
// first few, so it begins with a page's worth and doubles.
type reader struct {
	f     *finder
	ctx   context.Context
	after place
	yield func(candidate, error) bool

	places []place
	wholes []kv.Range
	size   int
}

func (r *reader) add(s segment) bool {
	if r.size == 0 {
		r.size = min(max(16, r.f.count+1), r.f.db.limits.fetch) // one more tells whether there is a next page
	}
	prefix := currentPrefix + r.f.q.Type + "/"
	if s.id != "" {
		if len(r.wholes) > 0 && !r.flush() {
			return false
		}
		r.places = append(r.places, s)
	} else {
		if len(r.places) > 0 && !r.flush() {
			return false
		}
		rg := kv.Prefix(s.part, prefix)
		if s.part == r.after.part {
			rg.From = prefix + r.after.id + "\x00"
		}
		r.wholes = append(r.wholes, rg)
	}
	if len(r.places) >= min(r.size, r.f.db.limits.fetch) || len(r.wholes) >= min(r.size, r.f.db.limits.parts) {
		r.size *= 2
		return r.flush()
	}
	return true
}

// flush reads what was gathered; false if nothing more is wanted.
func (r *reader) flush() bool {
	places, wholes := r.places, r.wholes
	r.places, r.wholes = nil, nil
	typ := r.f.q.Type
	if len(places) > 0 {
		keys := make([]kv.Key, len(places))
		for i, p := range places {
			keys[i] = currentKey(p.part, fhir.MakeRef(typ, p.id))
		}
		values, err := r.f.db.engine.MultiGet(r.ctx, keys)
		if err != nil {
			r.yield(candidate{}, readError(err))
			return false
		}
		for i, v := range values {
			if v != nil && !r.yield(candidate{places[i], v}, nil) {
				return false
			}
		}
	}
	if len(wholes) == 0 {
		return true
	}
	for en, err := range r.f.db.engine.Scan(r.ctx, wholes, 0) {
		if err != nil {
			r.yield(candidate{}, readError(err))
			return false
		}
		if !r.yield(candidate{place{en.Key.Part, refOfCurrent(en.Key.Key).ID()}, en.Value}, nil) {
			return false
		}
	}
	return true
}
