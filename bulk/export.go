package bulk

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
	"tombolo/store"
)

// An Export says what is asked for. HL7 Bulk Data Access 2.0.0 export.html#query-parameters
type Export struct {
	Level    string    `json:"level"`             // "system", "patient" or "group"
	Patients []string  `json:"-"`                 // only these, of a group or as asked for
	Some     bool      `json:"some,omitempty"`    // only Patients
	Types    []string  `json:"types,omitempty"`   // _type; all if empty
	Since    time.Time `json:"since,omitzero"`    // _since
	Filters  []Filter  `json:"filters,omitempty"` // _typeFilter: of one type, any of them
	From     time.Time `json:"from,omitzero"`     // what _since comes to, once known
}

// A Filter is a search on one type, as it stands in a URL.
type Filter struct {
	Type  string              `json:"type"`
	Query map[string][]string `json:"query"`
	Last  string              `json:"-"` // the parameter written last
}

// Export begins one. What it asks for must have been checked: see CheckFilter.
func (s *Service) Export(ctx context.Context, own *gather.Own, request string, e Export) (Job, error) {
	if e.Level == "group" || e.Some {
		which := own.Mine // a group that may be read names its members
		if e.Level == "patient" {
			which = own.Known
		}
		mine, err := which(ctx, e.Patients...)
		if err != nil {
			return Job{}, err
		}
		e.Some = true
		if e.Level == "patient" && len(mine) < len(e.Patients) {
			return Job{}, fhir.Errorf(fhir.NotFound, "%d of these patients are not known here: leave them out", len(e.Patients)-len(mine)).At("patient")
		}
		slices.Sort(mine)
		e.Patients = slices.Compact(mine)
	}
	return s.begin(ctx, own, Job{Export: &e, Request: request, State: Waiting, Phase: phasePatients}, func(b store.TxBucket) {
		if e.Some {
			b.Put(patientsKey, fhir.JSON(e.Patients))
		}
	})
}

// patientsKey is where the patients of an export are kept, if they are not all: they may be many.
const patientsKey = "patients"

// CheckFilter reads a _typeFilter.
func CheckFilter(f Filter) error {
	_, err := f.matcher()
	return err
}

func (f Filter) matcher() (*search.Matcher, error) {
	q, _, err := search.Parse(f.Type, f.Query, true)
	if err != nil {
		return nil, err
	}
	if len(q.Include)+len(q.RevInclude)+len(q.Sort) > 0 {
		return nil, fhir.Errorf(fhir.NotSupported, "a filter selects by a resource's own content: leave _include and _sort out")
	}
	return search.Compile(q)
}

// The phases of an export, in order.
const (
	phasePatients = "patients' records"
	phaseShared   = "what is nobody's record"
	phaseGone     = "what was deleted"
)

// An exporting is one export under way.
type exporting struct {
	s       *Service
	own     *gather.Own
	out     *output
	job     *Job
	giving  gather.Giving
	filters map[string][]*search.Matcher
}

func (s *Service) export(ctx context.Context, own *gather.Own, out *output) error {
	x := &exporting{s: s, own: own, out: out, job: out.job, filters: map[string][]*search.Matcher{}}
	for _, f := range x.job.Export.Filters {
		m, err := f.matcher()
		if err != nil {
			return err
		}
		x.filters[f.Type] = append(x.filters[f.Type], m)
	}
	if x.job.Export.Some {
		v, _, err := s.o.Store.View(files(x.job.ID)).Get(ctx, patientsKey)
		if err == nil {
			err = json.Unmarshal(v, &x.job.Export.Patients)
		}
		if err != nil {
			return err
		}
	}
	if err := x.mark(ctx); err != nil {
		return err
	}
	x.giving = gather.Giving{Query: "$export " + x.job.ID, At: x.job.At, Keep: x.keeps}
	for _, step := range []struct {
		phase string
		do    func(context.Context) error
	}{{phasePatients, x.patients}, {phaseShared, x.shared}, {phaseGone, x.gone}} {
		if x.job.Phase != step.phase {
			continue // done before this node started again
		}
		if err := step.do(ctx); err != nil {
			return err
		}
		x.job.Cursor = ""
		switch step.phase {
		case phasePatients:
			x.job.Phase = phaseShared
		case phaseShared:
			x.job.Phase = phaseGone
		}
		if err := out.flush(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

func markKey(source string, at time.Time) string { return "mark/" + source + "/" + fhir.Instant(at) }

// mark keeps the position of the log at the moment that the export is of, and finds out what _since means: a client takes it from the transactionTime of the export
// before, and what was being written just then must not fall between the two.
func (x *exporting) mark(ctx context.Context) error {
	tail, err := x.own.Tail(ctx)
	if err != nil {
		return err
	}
	e := x.job.Export
	if !e.Since.IsZero() && e.From.IsZero() {
		before, err := x.markOf(ctx, e.Since)
		if err != nil {
			return err
		}
		if e.From, _, err = x.own.Since(ctx, e.Since, before); err != nil {
			return err
		}
	}
	return x.out.flush(ctx, true, func(tx store.Tx) error {
		tx.Bucket(Bucket).Put(markKey(x.job.Source, x.job.At), strconv.AppendUint(nil, uint64(tail), 10))
		return nil
	})
}

func (x *exporting) markOf(ctx context.Context, at time.Time) (events.Seq, error) {
	v, ok, err := x.s.o.Store.View(Bucket).Get(ctx, markKey(x.job.Source, at))
	if err != nil || !ok {
		return 0, err
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	return events.Seq(n), err
}

// keeps says whether a resource is asked for.
func (x *exporting) keeps(r *fhir.Resource) bool {
	e := x.job.Export
	if len(e.Types) > 0 && !slices.Contains(e.Types, r.Type()) {
		return false
	}
	if !e.From.IsZero() {
		if at, err := time.Parse(time.RFC3339, r.Text("meta.lastUpdated")); err == nil && at.Before(e.From) {
			return false
		}
	}
	filters := x.filters[r.Type()]
	return len(filters) == 0 || slices.ContainsFunc(filters, func(m *search.Matcher) bool { return m.Match(r) })
}

func (x *exporting) write(ctx context.Context) func(*fhir.Resource) error {
	return func(r *fhir.Resource) error {
		x.out.line("output", r.Type(), r.Raw())
		x.job.Done++
		if x.out.full() {
			return x.out.flush(ctx, false)
		}
		return nil
	}
}

func (x *exporting) damaged(d gather.Exported) {
	for _, err := range d.Damaged {
		i := fhir.IssueOf(err)
		if i == nil {
			i = fhir.Errorf(fhir.Exception, "%w", err)
		}
		x.out.problem(i)
	}
}

// patients gives records one after the other. Its cursor is the last one that was given whole, and the page it was on.
func (x *exporting) patients(ctx context.Context) error {
	if x.job.Export.Some {
		_, after, _ := strings.Cut(x.job.Cursor, " ")
		_, err := x.some(ctx, "", after, x.job.Export.Patients)
		return err
	}
	page, after, _ := strings.Cut(x.job.Cursor, " ")
	for {
		ids, next, err := x.own.Patients(ctx, page, 200)
		if err != nil {
			return err
		}
		if after, err = x.some(ctx, page, after, ids); err != nil {
			return err
		}
		if page = next; next == "" {
			return nil
		}
		x.job.Cursor = page + " " + after
	}
}

// some gives the records of these, who come in order, after one of them.
func (x *exporting) some(ctx context.Context, page, after string, ids []string) (string, error) {
	for _, id := range ids {
		if id <= after {
			continue
		}
		given, named, err := x.own.Give(ctx, id, x.giving, x.write(ctx))
		if err != nil {
			return after, err
		}
		x.damaged(given)
		after = id
		x.job.Cursor = page + " " + id
		var notes []func(store.Tx) error
		if x.job.Export.Level != "system" && len(named) > 0 {
			notes = append(notes, func(tx store.Tx) error { x.note(tx, named); return nil })
		}
		if len(notes) > 0 || x.out.full() || x.out.due() {
			if err := x.out.flush(ctx, true, notes...); err != nil {
				return after, err
			}
		}
	}
	return after, nil
}

const (
	toGive = "?"
	given  = "+"
)

// note keeps what the records name, so that it is given once at the end.
func (x *exporting) note(tx store.Tx, refs []fhir.Ref) {
	b := tx.Bucket(files(x.job.ID))
	for _, ref := range refs {
		b.Put("ref/"+string(ref), []byte(toGive))
	}
}

// shared gives what is nobody's record: all of it of a whole system, else what the records name, and what that names.
func (x *exporting) shared(ctx context.Context) error {
	if x.job.Export.Level == "system" {
		got, _, err := x.own.GiveShared(ctx, x.giving, nil, x.write(ctx))
		x.damaged(got)
		return err
	}
	done := map[fhir.Ref]bool{}
	for {
		var refs []fhir.Ref
		for item, err := range x.s.o.Store.View(files(x.job.ID)).Scan(ctx, "ref/") {
			if err != nil {
				return err
			}
			ref := fhir.Ref(strings.TrimPrefix(item.Key, "ref/"))
			if string(item.Value) == given {
				done[ref] = true
			} else if len(refs) < 100 {
				refs = append(refs, ref)
			}
		}
		if len(refs) == 0 {
			return nil
		}
		got, named, err := x.own.GiveShared(ctx, x.giving, refs, x.write(ctx))
		if err != nil {
			return err
		}
		x.damaged(got)
		for _, ref := range refs {
			done[ref] = true
		}
		named = slices.DeleteFunc(named, func(ref fhir.Ref) bool { return done[ref] })
		err = x.out.flush(ctx, true, func(tx store.Tx) error {
			x.note(tx, named)
			for _, ref := range refs {
				tx.Bucket(files(x.job.ID)).Put("ref/"+string(ref), []byte(given))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// gone gives what was deleted since _since, a transaction of DELETEs a line. HL7 Bulk Data Access 2.0.0 export.html#response---output-manifest
func (x *exporting) gone(ctx context.Context) error {
	e := x.job.Export
	if e.Since.IsZero() {
		return nil
	}
	mark, err := x.markOf(ctx, e.Since)
	if err != nil {
		return err
	}
	_, all, err := x.own.Since(ctx, e.Since, mark)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(g gather.Gone) bool {
		switch {
		case len(e.Types) > 0 && !slices.Contains(e.Types, g.Ref.Type()):
			return true
		case e.Some && !slices.Contains(e.Patients, g.Patient):
			return true
		}
		return e.Level != "system" && g.Patient == "" && g.Ref.Type() != "Patient"
	})
	for part := range slices.Chunk(all, 100) {
		d := gather.Doing{Kind: "export", Query: x.giving.Query}
		for _, g := range part {
			d.Refs = append(d.Refs, "deleted: "+string(g.Ref))
			if g.Patient != "" && !slices.Contains(d.Patients, g.Patient) {
				d.Patients = append(d.Patients, g.Patient)
			}
		}
		if err := x.own.Remember(ctx, d); err != nil {
			return err
		}
		for _, g := range part {
			line, err := json.Marshal(fhir.M{"resourceType": "Bundle", "type": "transaction", "entry": []fhir.M{{"request": fhir.M{"method": "DELETE", "url": string(g.Ref)}}}})
			if err != nil {
				return err
			}
			x.out.line("deleted", "Bundle", line)
		}
	}
	return nil
}
