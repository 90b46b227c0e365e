package gather

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"tombolo/audit"
	"tombolo/dataset"
	"tombolo/fhir"
)

// What a disclosure showed is kept in parts (audit.View), so that it can be shown again exactly, long after its sources have changed or
// gone. The root holds what differs each time (times, how each source stood); the joined record and each resource are parts of
// their own, which a record that has not changed shares with the view before.

// largestPart is the size above which a resource is named and not copied: it is a document, and lies in the store with its versions.
const largestPart = 256 << 10

type viewRoot struct {
	Format     int                  `json:"format"`
	At         time.Time            `json:"at"`
	Took       time.Duration        `json:"took"`
	Lanes      []Lane               `json:"lanes"`
	Received   map[string]time.Time `json:"received"` // by source: when what bears no date of its own came
	Notice     string               `json:"notice"`
	BrokeGlass bool                 `json:"brokeGlass"`
	Record     audit.Sum            `json:"record"`
}

type viewRecord struct {
	Person     Person                    `json:"person"`
	NHSNumber  string                    `json:"nhsNumber"`
	Sections   []viewSection             `json:"sections"`
	Supporting map[fhir.Ref]viewResource `json:"supporting"`
}

type viewSection struct {
	Heading   dataset.Heading `json:"heading"`
	Title     string          `json:"title"`
	State     dataset.State   `json:"state"`
	Entries   []viewEntry     `json:"entries,omitempty"`
	Unknown   []string        `json:"unknown,omitempty"`
	NotShared []string        `json:"notShared,omitempty"`
	Reach     []string        `json:"reach,omitempty"`
}

type viewEntry struct {
	Members  []viewMember `json:"members"` // the shown one first
	Conflict string       `json:"conflict,omitempty"`
	Related  []viewEntry  `json:"related,omitempty"`
}

type viewMember struct {
	viewResource
	Source   string     `json:"source"`
	Name     string     `json:"name"`
	Received *time.Time `json:"received,omitempty"` // nil: as the root says of the source
}

type viewResource struct {
	Sum audit.Sum `json:"sum"`
	// Of a document that is not copied: where it is.
	Ref     fhir.Ref `json:"ref,omitempty"`
	Version int      `json:"version,omitempty"`
}

// view takes the record apart.
func (r *Record) view() *audit.View {
	v := &audit.View{Parts: make(map[audit.Sum][]byte, 64)}
	root := viewRoot{Format: 1, At: r.At, Took: r.Took, Lanes: r.Lanes, Received: map[string]time.Time{}, Notice: r.Notice, BrokeGlass: r.BrokeGlass}
	rec := viewRecord{Person: r.Person, NHSNumber: r.Person.NHSNumber.Digits(), Supporting: map[fhir.Ref]viewResource{}}
	for _, s := range r.Sections {
		vs := viewSection{Heading: s.Heading, Title: s.Title, State: s.State, Unknown: s.Unknown, NotShared: s.NotShared, Reach: s.Reach}
		for _, e := range s.Entries {
			vs.Entries = append(vs.Entries, keepEntry(v, e, root.Received))
		}
		rec.Sections = append(rec.Sections, vs)
	}
	for ref, res := range r.Supporting {
		rec.Supporting[ref] = keepResource(v, res)
	}
	root.Record = v.Add(fhir.JSON(rec))
	v.Root = v.Add(fhir.JSON(root))
	return v
}

func keepEntry(v *audit.View, e Entry, received map[string]time.Time) viewEntry {
	out := viewEntry{Conflict: e.Conflict}
	for _, m := range e.Members {
		vm := viewMember{viewResource: keepResource(v, m.Resource), Source: m.Source, Name: m.Name}
		if was, ok := received[m.Source]; !ok && m.Resource.Text("meta.lastUpdated") == "" {
			received[m.Source] = m.Received
		} else if !ok || !was.Equal(m.Received) {
			vm.Received = &m.Received
		}
		out.Members = append(out.Members, vm)
	}
	for _, rel := range e.Related {
		out.Related = append(out.Related, keepEntry(v, rel, received))
	}
	return out
}

func keepResource(v *audit.View, r *fhir.Resource) viewResource {
	if len(r.Raw()) <= largestPart {
		return viewResource{Sum: v.Add(r.Raw())}
	}
	version, _ := strconv.Atoi(r.Text("meta.versionId"))
	return viewResource{Sum: audit.SumOf(r.Raw()), Ref: r.Ref(), Version: version}
}

// Versions reads a version that is in the store. store.DB is one.
type Versions interface {
	ReadVersion(ctx context.Context, ref fhir.Ref, version int) (*fhir.Resource, error)
}

// Rebuild puts together again what an audit entry says was shown: the record exactly as it was, whatever has become of its sources since.
// It fails with fhir.NotFound if the entry showed nothing of a record, and fhir.Deleted if the retention of what was shown is over.
func Rebuild(ctx context.Context, log *audit.Log, old Versions, e audit.Entry) (*Record, error) {
	sum, ok, err := e.Root()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fhir.Errorf(fhir.NotFound, "entry %d of the audit log showed nothing of a record", e.Seq)
	}
	b := &rebuilding{ctx: ctx, log: log, old: old, entry: e}
	var root viewRoot
	var rec viewRecord
	b.decode(sum, &root)
	b.decode(root.Record, &rec)
	if b.err != nil {
		return nil, b.err
	}
	if root.Format != 1 {
		return nil, fhir.Errorf(fhir.NotSupported, "what entry %d showed was kept by another version of this program", e.Seq)
	}
	b.received = root.Received
	r := &Record{Person: rec.Person, Lanes: root.Lanes, At: root.At, Took: root.Took, Notice: root.Notice, BrokeGlass: root.BrokeGlass,
		Supporting: map[fhir.Ref]*fhir.Resource{}}
	if rec.NHSNumber != "" {
		if r.Person.NHSNumber, err = fhir.ParseNHSNumber(rec.NHSNumber); err != nil {
			return nil, err
		}
	}
	for _, s := range rec.Sections {
		sec := Section{Heading: s.Heading, Title: s.Title, State: s.State, Unknown: s.Unknown, NotShared: s.NotShared, Reach: s.Reach}
		for _, e := range s.Entries {
			sec.Entries = append(sec.Entries, b.rebuild(e))
		}
		r.Sections = append(r.Sections, sec)
	}
	for _, ref := range slices.Sorted(maps.Keys(rec.Supporting)) {
		r.Supporting[ref] = b.resource(rec.Supporting[ref])
	}
	return r, b.err
}

// A rebuilding remembers the first thing that failed.
type rebuilding struct {
	ctx      context.Context
	log      *audit.Log
	old      Versions
	entry    audit.Entry
	received map[string]time.Time
	err      error
}

func (b *rebuilding) decode(sum audit.Sum, into any) {
	if b.err != nil {
		return
	}
	part, err := b.log.Shown(b.ctx, b.entry, sum)
	if err == nil {
		err = json.Unmarshal(part, into)
	}
	b.err = err
}

func (b *rebuilding) rebuild(e viewEntry) Entry {
	out := Entry{Conflict: e.Conflict}
	for i, m := range e.Members {
		member := Member{Resource: b.resource(m.viewResource), Source: m.Source, Name: m.Name, Received: b.received[m.Source]}
		if m.Received != nil {
			member.Received = *m.Received
		}
		if out.Members = append(out.Members, member); i == 0 {
			out.Lead = member.Resource
		}
	}
	for _, rel := range e.Related {
		out.Related = append(out.Related, b.rebuild(rel))
	}
	return out
}

func (b *rebuilding) resource(v viewResource) *fhir.Resource {
	if b.err != nil {
		return nil
	}
	if v.Ref != "" {
		r, err := b.old.ReadVersion(b.ctx, v.Ref, v.Version)
		if err == nil && audit.SumOf(r.Raw()) != v.Sum {
			err = fhir.Errorf(fhir.Exception, "%s version %d is not what entry %d showed", v.Ref, v.Version, b.entry.Seq)
		}
		b.err = err
		return r
	}
	part, err := b.log.Shown(b.ctx, b.entry, v.Sum)
	var r *fhir.Resource
	if err == nil {
		r, err = fhir.Parse(part)
	}
	b.err = err
	return r
}
