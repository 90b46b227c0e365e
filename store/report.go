package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Damage is a kind of thing that can be wrong in a store.
type Damage string

// The kinds of damage.
const (
	DamagedVersion  Damage = "damaged-version"   // a stored version fails its checksum or cannot be read
	MissingVersion  Damage = "missing-version"   // a version that the index of ids speaks of is not stored
	WrongEntry      Damage = "wrong-entry"       // the index of ids does not say what the record says
	MissingIndexKey Damage = "missing-index-key" // a resource is not found by something it should be found by
	StaleIndexKey   Damage = "stale-index-key"   // the index speaks of what a resource does not say
	WrongCatalogue  Damage = "wrong-catalogue"   // the list of records is not complete
	WrongCount      Damage = "wrong-count"       // counts of codes are not those of the records
	UnknownKey      Damage = "unknown-key"       // a key that no version of this program wrote
	LogGap          Damage = "log-gap"           // positions of the log without a record
	DamagedEvent    Damage = "damaged-event"     // a record of the log that cannot be read
	LogDiffers      Damage = "log-differs"       // the log tells of other versions than are stored
	Unreadable      Damage = "unreadable"        // the engine cannot read part of the store
)

// Mend says how damage of this kind is mended.
func (d Damage) Mend() string {
	switch d {
	case WrongEntry, MissingIndexKey, StaleIndexKey, WrongCatalogue, WrongCount:
		return "run tombolo store reindex: it is made again from the records, while work goes on"
	case DamagedVersion:
		return "have its source send it again, or restore a backup; until then it is not shown"
	case MissingVersion, LogGap, DamagedEvent, LogDiffers, Unreadable:
		return "restore a backup, and let the sources send again what came since"
	case UnknownKey:
		return "it does no harm; tell the makers of this program where it may have come from"
	}
	return ""
}

// A Finding is one thing that is not as it should be. It holds references and names of parameters, never a value.
type Finding struct {
	Damage Damage `json:"damage"`
	Text   string `json:"text"`
}

// mostFindings is how many findings of a kind are kept; all are counted.
const mostFindings = 50

// Counts say what is in a store.
type Counts struct {
	Resources map[string]int64 `json:"resources"` // current ones, by type
	Versions  int64            `json:"versions"`  // of them and of what was before, deletions too
	Deleted   int64            `json:"deleted"`   // resources whose last version is a deletion
	Patients  int64            `json:"patients"`  // source patients' records
	IndexKeys int64            `json:"indexKeys"` // by which resources are found across records
	Events    int64            `json:"events"`
	Kinds     map[string]Size  `json:"kinds"` // by what they are for
}

// A Size is how many keys there are and how many bytes they and their values have, before the engine compresses them.
type Size struct {
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
}

func (c *Counts) add(o Counts) {
	for k, n := range o.Resources {
		c.Resources[k] += n
	}
	for k, s := range o.Kinds {
		t := c.Kinds[k]
		c.Kinds[k] = Size{t.Keys + s.Keys, t.Bytes + s.Bytes}
	}
	c.Versions += o.Versions
	c.Deleted += o.Deleted
	c.Patients += o.Patients
	c.IndexKeys += o.IndexKeys
	c.Events += o.Events
}

// Total is the number of current resources.
func (c Counts) Total() (n int64) {
	for _, k := range c.Resources {
		n += k
	}
	return n
}

// String is the counts as an operator reads them.
func (c Counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d resources in the records of %d source patients; %d versions, %d deleted, %d index keys, %d events\n",
		c.Total(), c.Patients, c.Versions, c.Deleted, c.IndexKeys, c.Events)
	types := slices.SortedFunc(maps.Keys(c.Resources), func(x, y string) int {
		if d := c.Resources[y] - c.Resources[x]; d != 0 {
			return int(d)
		}
		return strings.Compare(x, y)
	})
	for _, t := range types {
		fmt.Fprintf(&b, "  %12d %s\n", c.Resources[t], t)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Kinds)) {
		fmt.Fprintf(&b, "  %12d keys %9.1f MiB  %s\n", c.Kinds[k].Keys, float64(c.Kinds[k].Bytes)/(1<<20), k)
	}
	return b.String()
}

// A Report is what Verify found.
type Report struct {
	Counts   Counts           `json:"counts"`
	Found    map[Damage]int64 `json:"found"`    // how often; empty if all is well
	Findings []Finding        `json:"findings"` // the first of each kind
}

// OK says that nothing is wrong.
func (r *Report) OK() bool { return len(r.Found) == 0 }

func (r *Report) find(d Damage, format string, args ...any) {
	if r.Found[d]++; r.Found[d] <= mostFindings {
		r.Findings = append(r.Findings, Finding{d, fmt.Sprintf(format, args...)})
	}
}

// String is the report as an operator reads it.
func (r *Report) String() string {
	var b strings.Builder
	c := r.Counts
	fmt.Fprintf(&b, "%d resources in %d versions, %d index keys and %d events read and held to each other", c.Total(), c.Versions, c.IndexKeys, c.Events)
	if r.OK() {
		b.WriteString(": all is well.\n")
		return b.String()
	}
	b.WriteString(":\n")
	for _, d := range slices.Sorted(maps.Keys(r.Found)) {
		fmt.Fprintf(&b, "%s: %d\n", d, r.Found[d])
		for _, f := range r.Findings {
			if f.Damage == d {
				fmt.Fprintf(&b, "  %s\n", f.Text)
			}
		}
		if r.Found[d] > mostFindings {
			fmt.Fprintf(&b, "  and %d more\n", r.Found[d]-mostFindings)
		}
		fmt.Fprintf(&b, "  To mend it: %s.\n", d.Mend())
	}
	return b.String()
}

// Progress is how far a long piece of upkeep has come. Total is 0 where it is not known.
type Progress struct {
	Doing string `json:"doing"`
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"`
}
