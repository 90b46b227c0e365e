package store

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"sync"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
)

// A census is what one reading of a whole store comes to: what is in it, what is wrong by itself, and the tallies of what must agree.
type census struct {
	report  Report
	current [256]tally // records, as the records have them and as the index of ids has them
	stored  [256]tally // versions, as the index of ids has them and as they are stored
	logged  [256]tally // versions, as they are stored and as the log tells of them
	index   map[indexPile]*tally
	counts  map[kv.Part]*tally // counters, as the records have them and as they stand
	records tally              // partitions with records, and the catalogue of them
	damaged map[place]bool     // current versions that cannot be read, so that nothing is known of their index keys
	broken  bool               // not all could be read: what is missing is not missing from the store
	h       hasher
}

func newCensus() *census {
	return &census{
		report: Report{Counts: Counts{Resources: map[string]int64{}, Kinds: map[string]Size{}}, Found: map[Damage]int64{}},
		index:  map[indexPile]*tally{}, counts: map[kv.Part]*tally{}, damaged: map[place]bool{},
	}
}

func (c *census) pile(p indexPile) *tally {
	t := c.index[p]
	if t == nil {
		t = &tally{}
		c.index[p] = t
	}
	return t
}

func (c *census) counter(p kv.Part) *tally {
	t := c.counts[p]
	if t == nil {
		t = &tally{}
		c.counts[p] = t
	}
	return t
}

// merge adds what another worker read.
func (c *census) merge(o *census) {
	c.report.Counts.add(o.report.Counts)
	for d, n := range o.report.Found {
		c.report.Found[d] += n
	}
	for _, f := range o.report.Findings {
		if len(c.report.Findings) < mostFindings*12 {
			c.report.Findings = append(c.report.Findings, f)
		}
	}
	for i := range c.current {
		c.current[i].add(o.current[i])
		c.stored[i].add(o.stored[i])
		c.logged[i].add(o.logged[i])
	}
	for p, t := range o.index {
		c.pile(p).add(*t)
	}
	for p, t := range o.counts {
		c.counter(p).add(*t)
	}
	c.records.add(o.records)
	for p := range o.damaged {
		c.damaged[p] = true
	}
	c.broken = c.broken || o.broken
}

// kindOf says what the keys of a partition are for.
func kindOf(k kv.Key) string {
	head, _, _ := strings.Cut(string(k.Part), "/")
	switch {
	case head == "p" || head == "s":
		if strings.HasPrefix(k.Key, oldPrefix) {
			return "history"
		}
		return "records"
	case head == "i":
		return "index of ids"
	case isIndex(k.Part):
		return "index"
	case head == "x":
		return "former index"
	case head == "n":
		return "counters"
	case head == "c":
		return "catalogue"
	case head == "b":
		return "rooms"
	case head == "f":
		return "format"
	}
	return head // audit, shown
}

// entry takes in one key. Only that something can be read is checked of what is not the store's.
func (c *census) entry(en kv.Entry) {
	kind := kindOf(en.Key)
	s := c.report.Counts.Kinds[kind]
	c.report.Counts.Kinds[kind] = Size{s.Keys + 1, s.Bytes + int64(len(en.Key.Part)+len(en.Key.Key)+len(en.Value))}
	switch kind {
	case "records", "history":
		c.version(en)
	case "index of ids":
		c.id(en)
	case "index":
		c.report.Counts.IndexKeys++
		at, ok := placeOf(en.Key.Key)
		if !ok {
			c.report.find(UnknownKey, "a key of %d bytes in the index of %s is not of its form", len(en.Key.Key), nameOfIndex(en.Key.Part))
			return
		}
		c.pile(indexPileOf(en.Key.Part, at)).found.add(c.h.key(en.Key))
	case "counters":
		c.counter(en.Key.Part).found.add(c.h.key(en.Key).times(kv.CounterOf(en.Value)))
	case "catalogue":
		c.records.found.add(c.h.of(en.Key.Key))
	}
}

// version takes in a stored version, current or not.
func (c *census) version(en kv.Entry) {
	ref, n, ok := parseRecordKey(en.Key.Key)
	if !ok {
		c.report.find(UnknownKey, "%s holds a key of %d bytes that is no version's", en.Key.Part, len(en.Key.Key))
		return
	}
	c.report.Counts.Versions++
	s, err := decode(ref, en.Value)
	if err != nil || n > 0 && s.Version != n {
		if n == 0 {
			c.damaged[place{en.Key.Part, ref.ID()}] = true
			c.report.find(DamagedVersion, "%s, its current version", ref)
			c.report.Counts.Resources[ref.Type()]++
		} else {
			c.report.find(DamagedVersion, "%s, version %d", ref, n)
			c.seen(ref, n) // it is there, though nobody can read it
		}
		return
	}
	c.seen(ref, s.Version)
	if n > 0 {
		return
	}
	c.report.Counts.Resources[ref.Type()]++
	r, err := s.Resource()
	if err != nil {
		c.damaged[place{en.Key.Part, ref.ID()}] = true
		c.report.find(DamagedVersion, "%s, its current version, is not the JSON of that resource", ref)
		return
	}
	c.current[pileOf(ref)].want.add(c.entrySum(ref, &entry{part: en.Key.Part, version: s.Version, content: contentHash(r)}))
	at := place{en.Key.Part, ref.ID()}
	index := indexKeys(r, at, updatedValues(fhir.Instant(s.At)))
	for _, k := range index {
		c.pile(indexPileOf(k.Part, at)).want.add(c.h.key(k))
	}
	for _, k := range counterKeys(index, at) {
		c.counter(k.Part).want.add(c.h.key(k))
	}
}

func (c *census) seen(ref fhir.Ref, version int) {
	h := c.h.version(ref, version)
	c.stored[pileOf(ref)].found.add(h)
	c.logged[pileOf(ref)].want.add(h)
}

func (c *census) entrySum(ref fhir.Ref, e *entry) sum {
	v := c.h.version(ref, e.version)
	v.add(c.h.of(string(ref), string(e.part), string(e.content[:])))
	return v
}

// id takes in an entry of the index of ids.
func (c *census) id(en kv.Entry) {
	ref := fhir.Ref(en.Key.Key)
	e, err := decodeEntry(en.Value)
	if err != nil || idPart(ref) != en.Key.Part {
		c.report.find(WrongEntry, "the entry of %s cannot be read", ref)
		return
	}
	for v := 1; v <= e.version; v++ {
		c.stored[pileOf(ref)].want.add(c.h.version(ref, v))
	}
	if e.deleted {
		c.report.Counts.Deleted++
		return
	}
	c.current[pileOf(ref)].found.add(c.entrySum(ref, e))
}

// part takes in that there is a partition.
func (c *census) part(p kv.Part) {
	switch {
	case strings.HasPrefix(string(p), patientPrefix):
		c.report.Counts.Patients++
		c.records.want.add(c.h.of(string(p)))
	case strings.HasPrefix(string(p), sourcePrefix):
		c.records.want.add(c.h.of(string(p)))
	}
}

// parseRecordKey reads a key of a record: n is 0 for a current version.
func parseRecordKey(key string) (ref fhir.Ref, n int, ok bool) {
	if rest, ok := strings.CutPrefix(key, currentPrefix); ok {
		return fhir.Ref(rest), 0, strings.Count(rest, "/") == 1
	}
	rest, ok := strings.CutPrefix(key, oldPrefix)
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 || strings.Count(rest, "/") != 2 || len(rest)-i-1 != 10 {
		return "", 0, false
	}
	for _, d := range rest[i+1:] {
		if d < '0' || d > '9' {
			return "", 0, false
		}
		n = 10*n + int(d-'0')
	}
	return fhir.Ref(rest[:i]), n, n > 0
}

// scanned is how many partitions are read in one call.
const scanned = 32

// takeCensus reads all of a snapshot and the log up to its end.
func (db *DB) takeCensus(ctx context.Context, snap kv.Snapshot, tell func(Progress)) (*census, error) {
	batches := make(chan []kv.Entry, 8)
	workers := make([]*census, max(2, runtime.GOMAXPROCS(0)))
	var wg sync.WaitGroup
	for i := range workers {
		workers[i] = newCensus()
		wg.Go(func() {
			for b := range batches {
				for _, en := range b {
					workers[i].entry(en)
				}
			}
		})
	}
	c := newCensus()
	err := c.read(ctx, snap, batches, tell)
	close(batches)
	wg.Wait()
	for _, w := range workers {
		c.merge(w)
	}
	if err == nil {
		err = c.readLog(ctx, db.engine, snap.Tail(), tell)
	}
	return c, err
}

// read hands all entries to the workers.
func (c *census) read(ctx context.Context, snap kv.Snapshot, to chan<- []kv.Entry, tell func(Progress)) error {
	done := int64(0)
	var batch []kv.Entry
	size := 0
	flush := func() {
		if len(batch) > 0 {
			to <- batch
			batch, size = nil, 0
			tell(Progress{Doing: "reading", Done: done})
		}
	}
	group := func(parts []kv.Part) error {
		for en, err := range snap.Scan(ctx, wholeOf(parts), 0) {
			if ctx.Err() != nil {
				return readError(ctx.Err())
			}
			if err != nil {
				c.broken = true
				c.report.find(Unreadable, "%s: %v", partsInWords(parts), err)
				break
			}
			done++
			batch, size = append(batch, en), size+len(en.Value)
			if len(batch) == 1024 || size > 1<<20 {
				flush()
			}
		}
		return nil
	}
	var parts []kv.Part
	for p, err := range snap.Parts(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return readError(ctx.Err())
			}
			c.broken = true
			c.report.find(Unreadable, "the list of partitions: %v", err)
			break
		}
		c.part(p)
		if parts = append(parts, p); len(parts) == scanned {
			if err := group(parts); err != nil {
				return err
			}
			parts = nil
		}
	}
	if err := group(parts); err != nil {
		return err
	}
	flush()
	return nil
}

func wholeOf(parts []kv.Part) []kv.Range {
	out := make([]kv.Range, len(parts))
	for i, p := range parts {
		out[i].Part = p
	}
	return out
}

func partsInWords(parts []kv.Part) string {
	if len(parts) == 1 {
		return string(parts[0])
	}
	return "somewhere from " + string(parts[0]) + " to " + string(parts[len(parts)-1])
}

// mostGap is how far the end of a hole in the log is looked for.
const mostGap = 1000

// readLog reads the log up to a position, over holes.
func (c *census) readLog(ctx context.Context, e kv.Engine, tail kv.Position, tell func(Progress)) error {
	after := kv.Position(0)
	gap := kv.Position(0) // the first position of the hole that is being looked over; 0: none
	for after < tail {
		var fault error
		for r, err := range e.Log(ctx, after) {
			if fault = err; err != nil {
				break
			}
			if gap > 0 {
				c.gap(gap, r.At-1)
				gap = 0
			}
			if r.At > tail {
				after = tail
				break
			}
			c.event(r)
			if after = r.At; after%4096 == 0 {
				tell(Progress{Doing: "reading the log", Done: int64(after), Total: int64(tail)})
			}
		}
		if ctx.Err() != nil {
			return readError(ctx.Err())
		}
		if fault == nil {
			break
		}
		if gap == 0 {
			gap = after + 1
		}
		if after++; after-gap >= mostGap {
			c.report.find(LogGap, "nothing can be read for %d positions from %d on, of %d: %v", mostGap, gap, tail, fault)
			return nil
		}
	}
	if gap > 0 {
		c.gap(gap, tail)
	}
	return nil
}

func (c *census) gap(from, to kv.Position) {
	if from == to {
		c.report.find(LogGap, "event %d is missing", from)
		return
	}
	c.report.find(LogGap, "events %d to %d are missing", from, to)
}

func (c *census) event(r kv.Record) {
	c.report.Counts.Events++
	s := c.report.Counts.Kinds["log"]
	c.report.Counts.Kinds["log"] = Size{s.Keys + 1, s.Bytes + int64(8+len(r.Value))}
	var e events.Event
	if err := json.Unmarshal(r.Value, &e); err != nil || e.Ref == "" || e.Version < 1 {
		c.report.find(DamagedEvent, "event %d", r.At)
		return
	}
	c.logged[pileOf(e.Ref)].found.add(c.h.version(e.Ref, e.Version))
}
