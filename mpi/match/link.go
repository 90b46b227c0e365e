package match

import (
	"cmp"
	"hash/maphash"
	"iter"
	"runtime"
	"slices"
	"sync"
)

// maxBlock is how many records one key may bring together. A key that more have is of no help in finding anybody, and would compare everybody with
// everybody; who is the same is found by other keys.
const maxBlock = 400

// Pairs yields each pair of records that share a key, once, with i < j. Positions are those of ds. The order is not told.
func Pairs(ds []Description) iter.Seq2[int, int] {
	x := newBlocks(ds)
	return func(yield func(int, int) bool) {
		x.pairs(0, len(x.entries), func(i, j int) bool { return yield(i, j) })
	}
}

type entry struct {
	key uint64
	at  uint32
}

// blocks are the records by key: sorted, so that those of one key stand side by side.
type blocks struct {
	entries []entry
	keys    [][]uint64 // of each record, sorted
}

func newBlocks(ds []Description) *blocks {
	seed := maphash.MakeSeed()
	x := &blocks{keys: make([][]uint64, len(ds))}
	parallel(len(ds), func(from, to int) {
		for i := from; i < to; i++ {
			ks := ds[i].Keys()
			hs := make([]uint64, len(ks))
			for j, k := range ks {
				hs[j] = maphash.String(seed, k)
			}
			slices.Sort(hs)
			x.keys[i] = slices.Compact(hs)
		}
	})
	n := 0
	for _, ks := range x.keys {
		n += len(ks)
	}
	x.entries = make([]entry, 0, n)
	for i, ks := range x.keys {
		for _, k := range ks {
			x.entries = append(x.entries, entry{k, uint32(i)})
		}
	}
	slices.SortFunc(x.entries, func(a, b entry) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.at, b.at)) })
	return x
}

// pairs gives the pairs of the blocks that begin in entries[from:to].
func (x *blocks) pairs(from, to int, yield func(i, j int) bool) {
	for from > 0 && from < to && x.entries[from-1].key == x.entries[from].key {
		from++
	}
	for from < to {
		end := from + 1
		for end < len(x.entries) && x.entries[end].key == x.entries[from].key {
			end++
		}
		if block := x.entries[from:end]; len(block) <= maxBlock {
			for a := range block {
				for b := a + 1; b < len(block); b++ {
					i, j := block[a].at, block[b].at
					if x.first(i, j) == block[a].key && !yield(int(i), int(j)) {
						return
					}
				}
			}
		}
		from = end
	}
}

// first is the least key that two records share and that is not too common: there the pair is counted.
func (x *blocks) first(i, j uint32) uint64 {
	a, b := x.keys[i], x.keys[j]
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] == b[0]:
			if !x.tooCommon(a[0]) {
				return a[0]
			}
			a, b = a[1:], b[1:]
		case a[0] < b[0]:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return 0
}

func (x *blocks) tooCommon(key uint64) bool {
	at, _ := slices.BinarySearchFunc(x.entries, key, func(e entry, k uint64) int { return cmp.Compare(e.key, k) })
	return at+maxBlock < len(x.entries) && x.entries[at+maxBlock].key == key
}

// A Link is a pair of records that are, or may be, of one person.
type Link struct {
	A, B    int // positions, A < B
	Score   Score
	Verdict Verdict
}

// LinkAll compares all records that share a key, on all processors, and returns the pairs that are the same or possibly so, in order of position.
func (m *Model) LinkAll(ds []Description) []Link {
	x := newBlocks(ds)
	terms := Count(ds).Share
	prior := 1 / float64(max(len(ds), 2))
	var mu sync.Mutex
	var out []Link
	parallel(len(x.entries), func(from, to int) {
		var mine []Link
		x.pairs(from, to, func(i, j int) bool {
			s := m.Score(&ds[i], &ds[j], prior, terms)
			if v := m.Decide(s); v != Different {
				mine = append(mine, Link{i, j, s, v})
			}
			return true
		})
		mu.Lock()
		defer mu.Unlock()
		out = append(out, mine...)
	})
	slices.SortFunc(out, func(a, b Link) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) })
	return out
}

// parallel calls f with parts of 0…n, from as many goroutines as there are processors.
func parallel(n int, f func(from, to int)) {
	parts := 8 * runtime.GOMAXPROCS(0)
	size := n/parts + 1
	next := make(chan int, parts+1)
	for from := 0; from < n; from += size {
		next <- from
	}
	close(next)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for from := range next {
				f(from, min(from+size, n))
			}
		})
	}
	wg.Wait()
}

// Counts are how often each name and postcode is seen.
type Counts struct {
	of      [fields]map[string]int
	records int
}

// Count counts the terms of a population.
func Count(ds []Description) *Counts {
	c := &Counts{records: len(ds)}
	for _, f := range [...]Field{Given, Family, Postcode} {
		c.of[f] = map[string]int{}
	}
	for i := range ds {
		for f, value := range ds[i].Terms() {
			c.of[f][value]++
		}
	}
	return c
}

// Terms are the values whose frequency matters.
func (d *Description) Terms() iter.Seq2[Field, string] {
	return func(yield func(Field, string) bool) {
		if len(d.Given) > 0 && !yield(Given, d.Given[0]) {
			return
		}
		for _, f := range d.Family {
			if !yield(Family, f) {
				return
			}
		}
		if d.Postcode != "" {
			yield(Postcode, d.Postcode)
		}
	}
}

// Share is the share of records that have a value.
func (c *Counts) Share(f Field, value string) float64 {
	return float64(c.of[f][value]) / float64(max(c.records, 1))
}
