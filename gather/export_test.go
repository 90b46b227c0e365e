package gather_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/store"
)

var clerk = audit.Agent{User: "command-line/ann", Name: "ann, at the command line"}

func (b *bench) put(t testing.TB, patient string, resources ...*fhir.Resource) {
	t.Helper()
	_, err := b.db.Update(t.Context(), func(tx store.Tx) error {
		for _, r := range resources {
			if _, err := tx.Put(t.Context(), store.Home{Source: "trust", Patient: patient}, r); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
}

// annsPatient is this server's id of Ann's patient at the trust, and her own.
func (b *bench) annsPatient(t testing.TB) (patient, person string) {
	t.Helper()
	person, err := b.opts.People.Resolve(t.Context(), ann)
	must(t, err)
	p, err := b.opts.People.Person(t.Context(), person)
	must(t, err)
	return p.Patients[0].ID, person
}

func exported(t testing.TB, g *gather.Gatherer, ask gather.ExportAsk, person string) (given []*fhir.Resource, out gather.Exported) {
	t.Helper()
	ask.By = clerk
	out, err := g.Export(t.Context(), ask, person, func(r *fhir.Resource) error { given = append(given, r); return nil })
	must(t, err)
	return given, out
}

// Exactly what the log says was given is given: each resource in its version, once, with what it refers to, and with the links that make
// the person's patients one.
func TestAnExportGivesWhatItRecords(t *testing.T) {
	b := open(t, nil)
	patient, person := b.annsPatient(t)
	doctor := fhir.New("Practitioner", "dr", fhir.M{"name": []fhir.HumanName{{Family: "Hale"}}})
	b.put(t, "", doctor, fhir.New("Practitioner", "another", nil))
	note := problem("c1", patient).With("recorder", fhir.Reference{Reference: "Practitioner/dr"})
	from := fhir.New("Provenance", "from", fhir.M{"target": []fhir.Reference{{Reference: "Condition/c1"}}, "entity": []fhir.M{{"role": "source", "extension": []fhir.M{{"url": connector.ExtensionRaw, "valueString": strings.Repeat("a", 64)}}}}})
	b.put(t, patient, note, from, problem("c2", patient))
	b.put(t, patient, problem("c2", patient).With("note", []fhir.M{{"text": "changed"}}))
	ask := gather.ExportAsk{Reason: "she asked", Trace: "a-trace", Shared: true, Raw: func(_ context.Context, hash string) ([]byte, error) { return []byte("MSH|"), nil }}
	given, out := exported(t, b.Gatherer, ask, person)
	var refs []string
	for _, r := range given {
		ref := string(r.Ref())
		if v := r.Text("meta.versionId"); v != "" {
			ref += "/_history/" + v
		}
		refs = append(refs, ref)
	}
	slices.Sort(refs)
	want := []string{"Binary/" + strings.Repeat("a", 64), "Condition/c1/_history/1", "Condition/c2/_history/2", "Patient/" + patient + "/_history/1", "Patient/" + person, "Practitioner/dr/_history/1", "Provenance/from/_history/1"}
	for _, r := range refs { // that of Ann's own delivery, which the trust sent
		if strings.HasPrefix(r, "Provenance/") && !slices.Contains(want, r) {
			want = append(want, r)
		}
		if strings.HasPrefix(r, "Binary/") && !slices.Contains(want, r) {
			want = append(want, r)
		}
	}
	slices.Sort(want)
	if !slices.Equal(refs, want) || out.Resources != len(given) || len(out.Damaged) > 0 {
		t.Errorf("given:\n%v\nwant:\n%v\n%+v", refs, want, out)
	}
	e := b.entries(t)[len(b.entries(t))-1]
	s, err := e.Summary()
	must(t, err)
	if s.Kind != audit.Export || s.PersonID != person || s.User != clerk.User || s.Trace != "a-trace" || s.NHSNumber.Digits() != annsNumber || fmt.Sprint(s.Said("reason")) != "[she asked]" {
		t.Errorf("recorded as %+v", s)
	}
	said := strings.Join(s.What, " ")
	for _, r := range want {
		if r != "Patient/"+person && !strings.Contains(said, strings.TrimPrefix(r, "Binary/")) {
			t.Errorf("%s was given, and the log does not say so: %s", r, said)
		}
	}
	if link := given[0].Text("link.other.reference"); given[0].ID() != person || link != "Patient/"+patient {
		t.Errorf("first is %s, linked to %s", given[0].Ref(), link)
	}
	if b.audited(t, audit.Export) != 1 {
		t.Errorf("recorded %d times", b.audited(t, audit.Export))
	}
}

// A kept that changes between the two readings of an export.
type changing struct {
	gather.Kept
	reads   int
	between func()
}

func (c *changing) Patient(ctx context.Context, ids ...string) iter.Seq2[*fhir.Resource, error] {
	if c.reads++; c.reads == 2 {
		c.between()
	}
	return c.Kept.Patient(ctx, ids...)
}

// What changes, comes or goes while an export is under way is given as it was recorded.
func TestAnExportGivesWhatItRecordedWhateverChangesMeanwhile(t *testing.T) {
	b := open(t, nil)
	patient, person := b.annsPatient(t)
	b.put(t, patient, problem("stays", patient), problem("changes", patient), problem("goes", patient))
	o := b.opts
	o.Kept = &changing{Kept: b.db, between: func() {
		b.put(t, patient, problem("comes", patient), problem("changes", patient).With("note", []fhir.M{{"text": "later"}}))
		_, err := b.db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(t.Context(), "Condition/goes") })
		must(t, err)
	}}
	given, out := exported(t, gather.New(o), gather.ExportAsk{}, person)
	var conditions []string
	for _, r := range given {
		if r.Type() == "Condition" {
			conditions = append(conditions, r.ID()+" "+r.Text("meta.versionId")+r.Text("note.text"))
		}
	}
	slices.Sort(conditions)
	if got := strings.Join(conditions, ", "); got != "changes 1, goes 1, stays 1" || len(out.Damaged) > 0 {
		t.Errorf("given: %s %v", got, out.Damaged)
	}
}

// One damaged resource costs itself, and the export says so.
func TestADamagedResourceCostsAnExportNoOther(t *testing.T) {
	b := open(t, nil)
	patient, person := b.annsPatient(t)
	b.put(t, patient, problem("good", patient))
	o := b.opts
	o.Kept = torn{b.db}
	given, out := exported(t, gather.New(o), gather.ExportAsk{}, person)
	if len(out.Damaged) != 1 || !slices.ContainsFunc(given, func(r *fhir.Resource) bool { return r.ID() == "good" }) {
		t.Errorf("%d damaged, given %d", len(out.Damaged), len(given))
	}
	if s, err := b.entries(t)[len(b.entries(t))-1].Summary(); err != nil || fmt.Sprint(s.Said("damaged and not given")) != "[1]" {
		t.Errorf("recorded as %+v %v", s, err)
	}
}

// A torn kept has something that cannot be read.
type torn struct{ gather.Kept }

func (d torn) Patient(ctx context.Context, ids ...string) iter.Seq2[*fhir.Resource, error] {
	return func(yield func(*fhir.Resource, error) bool) {
		if !yield(nil, fhir.Errorf(fhir.Exception, "Condition/bad is damaged")) {
			return
		}
		d.Kept.Patient(ctx, ids...)(yield)
	}
}

// Of what cannot be recorded, of nobody, and behind a writer that fails, nothing goes on.
func TestAnExportThatCannotBeRecordedGivesNothing(t *testing.T) {
	b := open(t, nil)
	_, person := b.annsPatient(t)
	o := b.opts
	o.Audit = broken{}
	silent := gather.New(o)
	never := func(*fhir.Resource) error { t.Error("something was given"); return nil }
	for name, export := range map[string]func() (gather.Exported, error){
		"a person": func() (gather.Exported, error) { return silent.Export(t.Context(), gather.ExportAsk{}, person, never) },
		"nobody": func() (gather.Exported, error) {
			return silent.Export(t.Context(), gather.ExportAsk{}, "nobody", never)
		},
		"a patient of nobody": func() (gather.Exported, error) {
			return silent.ExportPatient(t.Context(), gather.ExportAsk{}, "p", never)
		},
		"what is nobody's": func() (gather.Exported, error) {
			return silent.ExportShared(t.Context(), gather.ExportAsk{}, "trust", never)
		},
	} {
		if _, err := export(); !fhir.Is(err, fhir.NoStore) {
			t.Errorf("%s, with no audit: %v", name, err)
		}
	}
	if _, err := b.Export(t.Context(), gather.ExportAsk{By: clerk, Number: ann}, "nobody", never); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("nobody: %v", err)
	}
	if s, err := b.entries(t)[len(b.entries(t))-1].Summary(); err != nil || s.Kind != audit.Search || s.Outcome != audit.Minor || s.NHSNumber.Digits() != annsNumber {
		t.Errorf("that nobody was found is recorded as %+v %v", s, err)
	}
	full := errors.New("the disk is full")
	if _, err := b.Export(t.Context(), gather.ExportAsk{By: clerk}, person, func(*fhir.Resource) error { return full }); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
}
