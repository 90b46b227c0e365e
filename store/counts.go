package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

// Counters say how many current resources have a code, so that counting the matches of many codes does not read an index entry for each match. They are
// changed in the commit that writes the resource.
//
// Codes may overlap: a resource can have several, and must be counted once. So resources are counted by the whole set of values that they have for a
// parameter. There is one counter for each value of the set, and the set's own name beside the value: whoever counts adds up the sets that
// the values belong to, each once. A set of one value, as most are, has no name.
//
// Partition n/<Type>/<parameter>, key <value> 00 01 <set>, a counter.
const counterPrefix = "n/"

func counterPart(typ, param string) kv.Part { return kv.Part(counterPrefix + typ + "/" + param) }

// setName is how many bytes of a hash name a set. Two sets that have a value in common and the same name would be counted as one.
const setName = 12

// counterKeys are the counters in which a resource with these index keys, which stand together by parameter, is counted.
func counterKeys(index []kv.Key, at place) []kv.Key {
	var out []kv.Key
	end := len(at.code())
	for len(index) > 0 {
		n := 1
		for n < len(index) && index[n].Part == index[0].Part {
			n++
		}
		if typ, param := ofIndex(index[0].Part); search.Tallied(typ, param) {
			values := make([]string, n) // each with its end
			for i, k := range index[:n] {
				values[i] = k.Key[:len(k.Key)-end]
			}
			slices.Sort(values)
			values = slices.Compact(values)
			set := ""
			if len(values) > 1 {
				sum := sha256.Sum256([]byte(strings.Join(values, "")))
				set = string(sum[:setName])
			}
			for _, v := range values {
				out = append(out, kv.Key{Part: counterPart(typ, param), Key: v + set})
			}
		}
		index = index[n:]
	}
	return out
}

// tallied counts what matches any of some values of one parameter, from its counters. ok is false where they cannot be right.
func (f *finder) tallied(ctx context.Context, ranges []search.Range) (n int, ok bool, err error) {
	var all []kv.Range
	for _, r := range ranges {
		if of := kv.Prefix(counterPart(f.q.Type, r.Name), indexValue(f.q.Type, r.Name, r.From)); !slices.Contains(all, of) {
			all = append(all, of)
		}
	}
	sets := map[string]bool{}
	for en, err := range f.db.engine.Scan(ctx, all, 0) {
		if err != nil {
			return -1, false, readError(err)
		}
		_, set, _ := strings.Cut(en.Key.Key, "\x00\x01")
		if set != "" && sets[set] {
			continue
		}
		sets[set] = true
		here := kv.CounterOf(en.Value)
		if here < 0 {
			return -1, false, nil
		}
		n += int(here)
	}
	return n, true, nil
}

// count says by how much the counters change when a resource has other index keys than before.
func (w *writer) count(now, before []kv.Key, at place) {
	for _, k := range counterKeys(now, at) {
		w.sums[k]++
	}
	for _, k := range counterKeys(before, at) {
		w.sums[k]--
	}
}

// miscounted is by how much each counter of one moment is not what the records say.
func (v *verifier) miscounted(ctx context.Context) (map[kv.Key]int64, error) {
	wrong := map[kv.Key]int64{}
	err := v.eachVersion(ctx, "counting codes", currentPrefix, func(en kv.Entry) error {
		if ref, _, ok := parseRecordKey(en.Key.Key); ok {
			for _, k := range counterKeys(indexKeysOf(en), place{en.Key.Part, ref.ID()}) {
				if v.counts[k.Part] != nil && v.counts[k.Part].differs() {
					wrong[k]++
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for part, t := range v.counts {
		if !t.differs() {
			continue
		}
		for en, err := range v.snap.Scan(ctx, []kv.Range{{Part: part}}, 0) {
			if err != nil {
				return nil, readError(err)
			}
			wrong[en.Key] -= kv.CounterOf(en.Value)
		}
	}
	maps.DeleteFunc(wrong, func(_ kv.Key, n int64) bool { return n == 0 })
	return wrong, nil
}

// countingKey names, in the bucket of upkeep, who is mending counters: two who did it at once would each add what is missing.
const countingKey = "counting"

// counts mends the counters. What they lack at one moment they lack later too, whatever is written meanwhile, since whoever writes only adds: so it is added.
func (x *reindexer) counts(ctx context.Context) error {
	for range maxAttempts {
		err := x.count(ctx)
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
	return fhir.Errorf(fhir.Conflict, "another reindexing runs beside this one: wait until it is done")
}

func (x *reindexer) count(ctx context.Context) error {
	me := kv.Entry{Key: kv.Key{Part: bucketPart(upkeepBucket), Key: countingKey}, Value: []byte(rand.Text())}
	if err := x.commit(ctx, kv.Batch{Put: []kv.Entry{me}}); err != nil { // before the moment is taken
		return err
	}
	return x.db.withCensus(ctx, x.tell, func(c *census, snap kv.Snapshot, tell func(Progress)) error {
		if c.broken {
			return fhir.Errorf(fhir.Exception, "not all of the store can be read, so its codes cannot be counted: tombolo store verify says what")
		}
		wrong, err := (&verifier{census: c, db: x.db, snap: snap, tell: tell}).miscounted(ctx)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(sortedKeys(wrong), 1000) {
			b := kv.Batch{Expect: []kv.Precondition{{Key: me.Key, Value: me.Value}}}
			for _, k := range some {
				b.Add = append(b.Add, kv.Sum{Key: k, By: wrong[k]})
			}
			if err := x.commit(ctx, b); err != nil {
				return err
			}
			x.state.Done.Recounted += int64(len(some))
		}
		return nil
	})
}
