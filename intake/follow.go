package intake

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/store"
)

// BucketVisit: <this server's ref of an Encounter> -> <patient id>\x00<rank of the order>, of what was last stored under it. Whoever moves a visit reads it,
// so that what comes under the visit meanwhile is not missed.
const BucketVisit = "intake-visit"

// What stands under a visit follows the visit: when a source moves a visit to another patient (HL7 v2.4 §3.3.45), its results, documents and diagnoses
// were that patient's all along, whether they came before the move or come late.

// visitOf is the Encounter in which something was done; "" if it does not say.
func visitOf(r *fhir.Resource) fhir.Ref {
	for _, path := range []string{"encounter.reference", "context.reference", "context.encounter.reference"} {
		if ref := fhir.Ref(r.Text(path)); ref.Type() == "Encounter" {
			return ref
		}
	}
	return ""
}

// subjectOf is the id of the patient whom a resource is of; "" if it is nobody's.
func subjectOf(r *fhir.Resource) string {
	for _, of := range fhir.Subjects(r) {
		if id, ok := strings.CutPrefix(of.Reference, "Patient/"); ok {
			return id
		}
	}
	return ""
}

// ofPatient is a resource with every mention of one patient made one of another.
func ofPatient(r *fhir.Resource, from, to string) (*fhir.Resource, error) {
	was := "Patient/" + from
	now, err := json.Marshal("Patient/" + to)
	if err != nil {
		return nil, err
	}
	return fhir.Parse(r.Value().Rewrite(func(v fhir.Value) ([]byte, bool) { return now, v.IsString() && v.Str() == was }))
}

// underVisit puts what was said of a visit before it was moved under the patient to whom it was moved.
func (in *Intake) underVisit(ctx context.Context, tx store.Tx, d *connector.Delivery, r *fhir.Resource) (*fhir.Resource, error) {
	visit := visitOf(r)
	if visit == "" || d.Order == "" {
		return r, nil
	}
	from := subjectOf(r)
	tx.Bucket(BucketVisit).Put(string(visit), []byte(from+"\x00"+rankOf(d.Order, false)))
	e, err := tx.Get(ctx, visit)
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	to := subjectOf(e)
	if from == "" || to == "" || from == to {
		return r, nil
	}
	data, ok, err := tx.Bucket(BucketOrder).Get(ctx, string(visit))
	if err != nil || !ok {
		return r, err
	}
	var s said
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fhir.Errorf(fhir.Exception, "%s: the order of its elements is unreadable: %w", visit, err)
	}
	if s.of("subject") <= rankOf(d.Order, false) { // the source has said this since, of whom it names
		return r, nil
	}
	return ofPatient(r, from, to)
}

// A move is a visit that a delivery has put under another patient.
type move struct {
	visit    fhir.Ref
	was      []fhir.Ref // what it was called until this delivery
	from, to string
}

// movedBy tells whether an Encounter about to be stored leaves the patient under whom it stands, or under whom something was said of it before it was
// itself told of.
func movedBy(ctx context.Context, tx store.Tx, d *connector.Delivery, e *fhir.Resource) (move, bool, error) {
	m := move{visit: e.Ref(), to: subjectOf(e)}
	was, err := tx.Get(ctx, e.Ref())
	switch {
	case err == nil:
		m.from = subjectOf(was)
	case fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted):
		data, _, err := tx.Bucket(BucketVisit).Get(ctx, string(e.Ref()))
		if err != nil {
			return m, false, err
		}
		if from, rank, _ := strings.Cut(string(data), "\x00"); rank < rankOf(d.Order, false) {
			m.from = from
		}
	default:
		return m, false, err
	}
	return m, m.from != "" && m.to != "" && m.from != m.to, nil
}

// withVisit are types that say by themselves in which visit they were; those that only such name come with them.
var withVisit = map[string]bool{"Specimen": true, "Binary": true, "Media": true}

// accompany puts what only came with something that was said of a moved visit, such as its specimen, under the same patient.
func accompany(ctx context.Context, tx store.Tx, d *connector.Delivery, content, followed []*fhir.Resource) error {
	for _, f := range followed {
		to := subjectOf(f)
		for named := range references(f.Value()) {
			i := slices.IndexFunc(content, func(r *fhir.Resource) bool { return withVisit[r.Type()] && string(r.Ref()) == named })
			if i < 0 {
				continue
			}
			r := content[i]
			for _, p := range content { // the delivery's patient, by this server's id
				if p.Type() != "Patient" {
					continue
				}
				var err error
				if r, err = ofPatient(r, p.ID(), to); err != nil {
					return err
				}
			}
			if _, err := tx.Put(ctx, store.Home{Source: d.Source, Patient: to, Heading: string(dataset.HeadingOf(r))}, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow moves what stands under a visit to the patient to whom it was moved, and gives what it moved.
func (in *Intake) follow(ctx context.Context, tx store.Tx, d *connector.Delivery, m move) ([]fhir.Ref, error) {
	if _, any, err := tx.Bucket(BucketVisit).Get(ctx, string(m.visit)); err != nil || !any {
		return nil, err
	}
	var under, others []*fhir.Resource
	named := map[string]bool{}
	for r, err := range in.o.Store.Patient(ctx, m.from) {
		if err != nil {
			return nil, err
		}
		switch {
		case r.Type() != "Encounter" && (visitOf(r) == m.visit || slices.Contains(m.was, visitOf(r))):
			under = append(under, r)
			for v := range references(r.Value()) {
				named[v] = true
			}
		case withVisit[r.Type()]:
			others = append(others, r)
		}
	}
	under = append(under, slices.DeleteFunc(others, func(r *fhir.Resource) bool { return !named[string(r.Ref())] })...)
	var refs []fhir.Ref
	for _, r := range under {
		r, err := tx.Get(ctx, r.Ref()) // as this transaction sees it: it starts over if somebody changes it meanwhile
		if err != nil {
			return nil, err
		}
		if r, err = ofPatient(r, m.from, m.to); err != nil {
			return nil, err
		}
		if _, err := tx.Put(ctx, store.Home{Source: d.Source, Patient: m.to, Heading: string(dataset.HeadingOf(r))}, r); err != nil {
			return nil, err
		}
		if err := ranked(ctx, tx, r.Ref(), d.Order); err != nil {
			return nil, err
		}
		refs = append(refs, r.Ref())
	}
	return refs, nil
}

// ranked notes that whose a resource is was told with an order, where the order of its elements is kept.
func ranked(ctx context.Context, tx store.Tx, ref fhir.Ref, order string) error {
	b := tx.Bucket(BucketOrder)
	data, ok, err := b.Get(ctx, string(ref))
	if err != nil || !ok {
		return err
	}
	var s said
	if err := json.Unmarshal(data, &s); err != nil {
		return fhir.Errorf(fhir.Exception, "%s: the order of its elements is unreadable: %w", ref, err)
	}
	for _, path := range []string{"subject", "patient"} {
		if s[path] != "" {
			s[path] = rankOf(order, false)
		}
	}
	if data, err = json.Marshal(s); err != nil {
		return err
	}
	b.Put(string(ref), data)
	return nil
}

// references yields every reference and attachment address of a resource.
func references(v fhir.Value) func(func(string) bool) {
	return func(yield func(string) bool) {
		var walk func(fhir.Value) bool
		walk = func(v fhir.Value) bool {
			if (v.Key() == "reference" || v.Key() == "url") && v.IsString() && !yield(v.Str()) {
				return false
			}
			for c := range v.Children() {
				if !walk(c) {
					return false
				}
			}
			return true
		}
		walk(v)
	}
}
