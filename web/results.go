package web

import (
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// rowsOf is a laboratory report's results, whether they came as entries of their own or inside it; for a result that stands alone, itself.
// They stand in the report's order, those of a test group under it, and what was said when a group was filed with that group.
//
// GP Connect 1.6 accessrecord_structured_development_pathology_guidance.html
func (t teller) rowsOf(e *gather.Entry) []result {
	b := &bench{t: t, all: map[fhir.Ref]*fhir.Resource{}, member: map[fhir.Ref]bool{}, done: map[fhir.Ref]bool{}}
	switch {
	case e.Lead.Type() == "DiagnosticReport":
		b.take(e.Related)
		for c := range e.Lead.Value().All("contained") {
			if o, err := fhir.FromValue(c); err == nil && o.Type() == "Observation" {
				b.put(fhir.Ref("#"+o.ID()), o)
			}
		}
		for ref := range e.Lead.Value().All("result.reference") {
			b.rows(fhir.Ref(ref.Str()), 0)
		}
	case e.Lead.Type() == "Observation" && dataset.HeadingOf(e.Lead) == dataset.Results:
		b.put(e.Lead.Ref(), e.Lead)
		b.take(e.Related)
		b.rows(e.Lead.Ref(), 0)
	}
	for _, tops := range []bool{true, false} { // what the report does not name: groups first, so that their members stand under them
		for _, ref := range b.order {
			if b.member[ref] != tops {
				b.rows(ref, 0)
			}
		}
	}
	return b.out
}

// A bench is results being put in order.
type bench struct {
	t      teller
	all    map[fhir.Ref]*fhir.Resource
	order  []fhir.Ref
	member map[fhir.Ref]bool // of a group
	done   map[fhir.Ref]bool
	out    []result
}

func (b *bench) take(related []gather.Entry) {
	for _, rel := range related {
		if rel.Lead.Type() == "Observation" {
			b.put(rel.Lead.Ref(), rel.Lead)
		}
	}
}

func (b *bench) put(ref fhir.Ref, r *fhir.Resource) {
	b.all[ref] = r
	b.order = append(b.order, ref)
	for m := range r.Value().All("hasMember.reference") {
		b.member[fhir.Ref(m.Str())] = true
	}
}

func (b *bench) rows(ref fhir.Ref, depth int) {
	r := b.all[ref]
	if r == nil || b.done[ref] || depth > mostDepth {
		return
	}
	b.done[ref] = true
	row := readResult(thing{r, b.t.rec.Supporting})
	group := r.Get("hasMember").Exists()
	at := len(b.out)
	switch {
	case toBeReadThere(r):
		row = result{Said: b.t.tell(r).What}
	case row.Value == "" && r.Text("code.coding.code") == codeComment && row.Note != "":
		row = result{Said: row.Note}
	case row.Value == "" && group:
		row = result{Group: row.Test, Said: row.Note}
	case row.Value == "" && row.Test == "":
		row = result{}
	}
	if row != (result{}) {
		b.out = append(b.out, row)
	}
	if !group {
		return
	}
	for m := range r.Value().All("hasMember.reference") {
		b.rows(fhir.Ref(m.Str()), depth+1)
	}
	if row.Group != "" && row.Said == "" && len(b.out) == at+1 {
		b.out = slices.Delete(b.out, at, at+1) // a group without anything in it
	}
}
