package store

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

// Sizes of a page.
const (
	pageDefault = 50
	pageMost    = 1000
	// Whatever is asked for, a page is full with this many bytes, and no more than so many are put in order.
	pageBytes = 16 << 20
	sortBytes = 128 << 20
)

// Search finds current resources by search.Matches, the candidates coming from the index where a parameter has one. Pages are in the
// order of record, type and id, which stays the same while others write; with q.Sort, in the order asked, of all that match.
// The answer is exact, but for two things that are said in Page.Issues: a search that had to look at more than it may in one
// call (the page is then short, and Next goes on), and stored resources that are damaged.
//
// FHIR R4 search.html
func (db *DB) Search(ctx context.Context, q search.Query) (*search.Page, error) {
	if !fhir.IsType(q.Type) {
		return nil, fhir.Errorf(fhir.NotSupported, "%.40q is not a FHIR R4 resource type", q.Type)
	}
	m, err := search.Compile(q)
	if err != nil {
		return nil, err
	}
	count := q.Count
	switch {
	case count < 0:
		return nil, fhir.Errorf(fhir.ValueError, "_count is a number of resources, not less than 0")
	case count == 0:
		count = pageDefault
	}
	f := &finder{db: db, q: q, m: m, count: min(count, pageMost)}
	if len(q.Sort) > 0 {
		return f.sorted(ctx)
	}
	return f.page(ctx)
}

type finder struct {
	db     *DB
	q      search.Query
	m      *search.Matcher
	count  int
	issues []*fhir.Issue
	past   *past // once read
}

// page is the page after the cursor.
func (f *finder) page(ctx context.Context) (*search.Page, error) {
	after, err := parseCursor(f.q.Cursor)
	if err != nil {
		return nil, err
	}
	p := &search.Page{Total: -1}
	if f.q.Summary == "count" { // FHIR R4 search.html#summary
		p.Total, err = f.total(ctx)
		p.Issues = f.issues
		return p, err
	}
	last, size := after, 0
	stood := map[*fhir.Resource]place{}
	end, err := f.matches(ctx, after, func(at place, r *fhir.Resource) bool {
		if len(p.Resources) == f.count || size > pageBytes {
			return false
		}
		p.Resources, stood[r] = append(p.Resources, r), at
		size += len(r.Raw())
		last = at
		return true
	})
	if err != nil {
		return nil, err
	}
	switch {
	case end.cut:
		p.Next = cursorOf(end.at)
		f.warn(fhir.Incomplete, "this page is short: %d resources were looked at and the search is not at its end. Follow the next link, or narrow the search by a patient, an identifier or a code", f.db.limits.examine)
	case end.stopped:
		p.Next = cursorOf(last)
	case after == place{}:
		p.Total = len(p.Resources)
	}
	if f.q.Total == "accurate" && p.Total < 0 {
		if p.Total, err = f.total(ctx); err != nil {
			return nil, err
		}
	}
	if p.Resources, err = f.hold(ctx, p.Resources, stood); err != nil {
		return nil, err
	}
	p.Issues = f.issues
	return p, nil
}

// total counts all matches, or answers -1 and says why.
func (f *finder) total(ctx context.Context) (int, error) {
	// The index counts what matches now, of all sources.
	everything := f.q.Within == nil && f.q.Source == "" && f.q.AsOf == 0
	if ranges, ok := search.Counted(f.q); ok && everything && !f.db.IndexIsStale() {
		if search.Tallied(f.q.Type, ranges[0].Name) {
			if n, ok, err := f.tallied(ctx, ranges); ok || err != nil {
				return n, err
			}
		}
		return f.counted(ctx, ranges)
	}
	n := 0
	counter := &finder{db: f.db, q: f.q, m: f.m, past: f.past}
	end, err := counter.matches(ctx, place{}, func(place, *fhir.Resource) bool { n++; return true })
	if err != nil {
		return -1, err
	}
	if end.cut {
		f.warn(fhir.TooCostly, "not counted: more than %d resources would have to be looked at. Narrow the search", f.db.limits.examine)
		return -1, nil
	}
	return n, nil
}

// sorted finds all matches and puts them in order; its cursor is how many have been given.
func (f *finder) sorted(ctx context.Context) (*search.Page, error) {
	skip := 0
	if f.q.Cursor != "" {
		n, ok := strings.CutPrefix(f.q.Cursor, "n")
		var err error
		if skip, err = strconv.Atoi(n); !ok || err != nil || skip < 0 {
			return nil, badCursor()
		}
	}
	var all []*fhir.Resource
	size := 0
	stood := map[*fhir.Resource]place{}
	end, err := f.matches(ctx, place{}, func(at place, r *fhir.Resource) bool {
		all, stood[r] = append(all, r), at
		size += len(r.Raw())
		return size <= sortBytes
	})
	if err != nil {
		return nil, err
	}
	p := &search.Page{Total: len(all)}
	if end.cut || end.stopped {
		p.Total = -1
		f.warn(fhir.Incomplete, "only part of what matches is here: what was looked at is as much as can be sorted (%d resources, or %d bytes of them). Narrow the search, or leave _sort out to page through everything", f.db.limits.examine, sortBytes)
	}
	search.Sort(f.q, all)
	if f.q.Summary != "count" {
		all = all[min(skip, len(all)):]
		if n := f.fits(all); n < len(all) {
			all = all[:n]
			p.Next = "n" + strconv.Itoa(skip+n)
		}
		if p.Resources, err = f.hold(ctx, all, stood); err != nil {
			return nil, err
		}
	}
	p.Issues = f.issues
	return p, nil
}

// fits is how many of what is left make a page.
func (f *finder) fits(left []*fhir.Resource) int {
	size := 0
	for i, r := range left {
		if i == f.count || size > pageBytes {
			return i
		}
		size += len(r.Raw())
	}
	return len(left)
}

func (f *finder) warn(t fhir.IssueType, format string, args ...any) {
	i := fhir.Errorf(t, format, args...)
	i.Severity = fhir.Warning
	f.issues = append(f.issues, i)
}

// ending says how a walk over the matches ended.
type ending struct {
	stopped bool  // visit wanted no more
	cut     bool  // as many were looked at as may be
	at      place // the last one looked at, if cut
}

// matches calls visit with each match after a place, in order. With AsOf, what was changed since is passed over where it stands now, and
// given in its old version where it stood then.
func (f *finder) matches(ctx context.Context, after place, visit func(place, *fhir.Resource) bool) (ending, error) {
	old, err := f.before(ctx)
	if err != nil {
		return ending{}, err
	}
	were := old.after(after)
	examined := 0
	last := after
	for c, err := range f.candidates(ctx, after) {
		if err != nil {
			return ending{}, err
		}
		if examined == f.db.limits.examine {
			return ending{cut: true, at: last}, nil
		}
		for len(were) > 0 && were[0].at.compare(c.at) <= 0 { // also what stood where it stands now, or a page that is cut here would go on behind it
			if !f.judge(were[0].at, were[0].stored, nil, visit) {
				return ending{stopped: true}, nil
			}
			were = were[1:]
		}
		examined++
		last = c.at
		ref := fhir.MakeRef(f.q.Type, c.at.id)
		if old.changed[ref] {
			continue
		}
		s, err := decode(ref, c.value)
		if !f.judge(c.at, s, err, visit) {
			return ending{stopped: true}, nil
		}
	}
	for _, w := range were {
		if !f.judge(w.at, w.stored, nil, visit) {
			return ending{stopped: true}, nil
		}
	}
	return ending{}, nil
}

// judge visits a resource if it matches; what is damaged is told of. It reports whether more is wanted.
func (f *finder) judge(at place, s Stored, err error, visit func(place, *fhir.Resource) bool) bool {
	if err == nil && f.q.Source != "" && s.Source != f.q.Source {
		return true
	}
	var r *fhir.Resource
	if err == nil {
		r, err = s.Resource()
	}
	if err != nil {
		i := *fhir.IssueOf(err)
		f.issues = append(f.issues, &i)
		return true
	}
	return !f.m.Match(r) || f.q.Within != nil && !f.q.Within(r) || visit(at, r)
}

// A candidate may match.
type candidate struct {
	at    place
	value []byte // as stored
}

// Cursors are opaque to callers: the place of the last resource given.
func cursorOf(p place) string {
	return "p" + base64.RawURLEncoding.EncodeToString([]byte(p.String()))
}

func parseCursor(s string) (place, error) {
	if s == "" {
		return place{}, nil
	}
	code, ok := strings.CutPrefix(s, "p")
	data, err := base64.RawURLEncoding.DecodeString(code)
	part, id, ok2 := strings.Cut(string(data), "\x00")
	if !ok || !ok2 || err != nil || !fhir.ValidID(id) || !slices.Contains([]string{patientPrefix, sourcePrefix}, part[:min(2, len(part))]) {
		return place{}, badCursor()
	}
	return place{kv.Part(part), id}, nil
}

func badCursor() error {
	return fhir.Errorf(fhir.ValueError, "this is not a cursor of this search: take the next link as it was given")
}
