package intake

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/store"
)

// BucketRenamed: <this server's ref of an Encounter> -> name: what its source calls the visit since it gave it another number. What is said under the
// old number, before or after, is said of the visit as it is now called (HL7 v2.4 §3.3.42, §3.3.50).
const BucketRenamed = "intake-renamed"

// A name is what a visit is called since an order.
type name struct {
	Rank   string   `json:"rank"`
	Ref    fhir.Ref `json:"ref"`    // this server's
	Source string   `json:"source"` // its meta.source
}

// mostNames bounds how often one visit can have been given another number.
const mostNames = 20

// nameOf is what a visit is now called. loop, if not "", is looked out for on the way: the walk ends at the visit that was called by it next.
func nameOf(ctx context.Context, tx store.Tx, ref, loop fhir.Ref) (now name, closes bool, err error) {
	now.Ref = ref
	for range mostNames {
		data, ok, err := tx.Bucket(BucketRenamed).Get(ctx, string(now.Ref))
		if err != nil || !ok {
			return now, false, err
		}
		var next name
		if err := json.Unmarshal(data, &next); err != nil {
			return now, false, fhir.Errorf(fhir.Exception, "%s: what it is now called is unreadable: %w", ref, err)
		}
		if next.Ref == loop {
			return name{next.Rank, now.Ref, now.Source}, true, nil
		}
		now = next
	}
	return now, false, nil
}

// renamed takes in which visits a delivery gives another number, and puts its content under the numbers that are now right. names are the visits of the content
// that are called otherwise now; was are the old refs of each visit that this delivery renames.
func (in *Intake) renamed(ctx context.Context, tx store.Tx, d *connector.Delivery, content []*fhir.Resource) (out []*fhir.Resource, names map[fhir.Ref]fhir.Ref, was map[fhir.Ref][]fhir.Ref, err error) {
	if d.Order == "" {
		return content, nil, nil, nil
	}
	was = map[fhir.Ref][]fhir.Ref{}
	for _, theirs := range slices.Sorted(maps.Keys(d.Renamed)) {
		stamped, err := in.o.Stamper.Stamp(d.Source, fhir.New("Encounter", d.Renamed[theirs].ID(), nil))
		if err != nil {
			return nil, nil, nil, err
		}
		from := in.o.Stamper.Ref(d.Source, theirs)
		to, err := in.rename(ctx, tx, d, from, name{rankOf(d.Order, false), stamped.Ref(), stamped.Text("meta.source")})
		if err != nil {
			return nil, nil, nil, err
		}
		if to != "" {
			was[to] = append(was[to], from)
		}
	}
	names = map[fhir.Ref]fhir.Ref{}
	called := map[fhir.Ref]name{}
	for _, r := range content {
		visit := visitOf(r)
		if r.Type() == "Encounter" {
			visit = r.Ref()
		}
		if _, known := called[visit]; known || visit == "" {
			continue
		}
		now, _, err := nameOf(ctx, tx, visit, "")
		if err != nil {
			return nil, nil, nil, err
		}
		if called[visit] = now; now.Ref != visit {
			names[visit] = now.Ref
		}
	}
	if len(names) == 0 {
		return content, nil, was, nil
	}
	out = slices.Clone(content)
	for i, r := range out {
		for from := range names {
			if out[i], err = renamedIn(r, from, called[from]); err != nil {
				return nil, nil, nil, err
			}
			r = out[i]
		}
	}
	return out, names, was, nil
}

// rename notes that a visit has another number, and puts what is here of it and under it under that. It gives the visit's ref as it is now, or "" where a later
// delivery has said otherwise.
func (in *Intake) rename(ctx context.Context, tx store.Tx, d *connector.Delivery, from fhir.Ref, to name) (fhir.Ref, error) {
	b := tx.Bucket(BucketRenamed)
	rank := to.Rank
	if was, _, err := nameOf(ctx, tx, from, ""); err != nil || was.Ref != from && was.Rank > rank {
		return "", err
	}
	now, closes, err := nameOf(ctx, tx, to.Ref, from)
	switch {
	case err != nil:
		return "", err
	case closes && now.Rank > rank: // it has been given back its old number since
		return "", nil
	case closes:
		b.Delete(string(now.Ref))
	}
	if now.Source != "" {
		to.Ref, to.Source = now.Ref, now.Source
	}
	if to.Ref == from {
		return "", nil
	}
	data, err := json.Marshal(to)
	if err != nil {
		return "", err
	}
	b.Put(string(from), data)
	return to.Ref, in.handOver(ctx, tx, d, from, to)
}

// handOver puts a visit, and what stands under it, under its new name.
func (in *Intake) handOver(ctx context.Context, tx store.Tx, d *connector.Delivery, from fhir.Ref, to name) error {
	visits := tx.Bucket(BucketVisit)
	under, any, err := visits.Get(ctx, string(from))
	if err != nil {
		return err
	}
	patient, said, _ := strings.Cut(string(under), "\x00")
	if any {
		if _, there, err := visits.Get(ctx, string(to.Ref)); err != nil {
			return err
		} else if !there {
			visits.Put(string(to.Ref), under)
		}
		visits.Delete(string(from))
	}
	of := patient
	e, err := tx.Get(ctx, from)
	switch missing := fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted); {
	case err == nil:
		if patient = subjectOf(e); patient == "" {
			return nil
		}
		if of, err = in.joinVisits(ctx, tx, d, e, to); err != nil {
			return err
		}
	case !missing:
		return err
	case said < rankOf(d.Order, false) && d.Patient != "": // of whom the visit is, this delivery knows better than what came under it before
		of = in.o.Stamper.ID(d.Source, "Patient", d.Patient)
		if now, err := tx.Get(ctx, to.Ref); err == nil {
			of = cmp.Or(subjectOf(now), of)
		}
	}
	if patient == "" {
		return nil
	}
	for stored, err := range in.o.Store.Patient(ctx, patient) {
		if err != nil {
			return err
		}
		if stored.Ref() == from || !mentions(stored, from) || stored.Type() == "Provenance" {
			continue
		}
		r, err := tx.Get(ctx, stored.Ref())
		if err != nil {
			return err
		}
		if r, err = renamedIn(r, from, to); err != nil {
			return err
		}
		if of != patient {
			if r, err = ofPatient(r, patient, of); err != nil {
				return err
			}
		}
		if _, err := tx.Put(ctx, store.Home{Source: d.Source, Patient: of, Heading: string(dataset.HeadingOf(r))}, r); err != nil {
			return err
		}
	}
	return nil
}

// joinVisits makes one visit of two, each element as it was told of last, and gives whose it is.
func (in *Intake) joinVisits(ctx context.Context, tx store.Tx, d *connector.Delivery, old *fhir.Resource, to name) (patient string, err error) {
	orders := tx.Bucket(BucketOrder)
	var was, order said
	for ref, into := range map[fhir.Ref]*said{old.Ref(): &was, to.Ref: &order} {
		*into = said{}
		data, ok, err := orders.Get(ctx, string(ref))
		if err != nil {
			return "", err
		}
		if ok {
			if err := json.Unmarshal(data, into); err != nil {
				return "", fhir.Errorf(fhir.Exception, "%s: the order of its elements is unreadable: %w", ref, err)
			}
		}
	}
	base, err := renamedIn(old, old.Ref(), to)
	if err != nil {
		return "", err
	}
	now := map[string]json.RawMessage{}
	if here, err := tx.Get(ctx, to.Ref); err == nil {
		base, now = here, elements(here)
	} else if !fhir.Is(err, fhir.NotFound) && !fhir.Is(err, fhir.Deleted) {
		return "", err
	}
	had := elements(old)
	paths := maps.Clone(had)
	for path := range was {
		if path != whole {
			paths[path] = had[path] // nil: it was emptied
		}
	}
	for path, raw := range paths {
		rank := was.of(path)
		if rank <= order.of(path) && order.of(path) != "" {
			continue
		}
		if order[path] = rank; raw == nil {
			delete(now, path)
		} else {
			now[path] = raw
		}
	}
	data, err := json.Marshal(order)
	if err != nil {
		return "", err
	}
	orders.Put(string(to.Ref), data)
	orders.Delete(string(old.Ref()))
	one := joined(base, now)
	patient = subjectOf(one)
	if _, err := tx.Put(ctx, store.Home{Source: d.Source, Patient: patient, Heading: string(dataset.HeadingOf(one))}, one); err != nil {
		return "", err
	}
	return patient, tx.Delete(ctx, old.Ref())
}

// mentions reports whether a resource refers to another.
func mentions(r *fhir.Resource, ref fhir.Ref) bool {
	for named := range references(r.Value()) {
		if named == string(ref) {
			return true
		}
	}
	return false
}

// renamedIn is a resource in which a visit has its new name: the visit itself, or what refers to it.
func renamedIn(r *fhir.Resource, from fhir.Ref, to name) (*fhir.Resource, error) {
	root := r.Value()
	itself := r.Ref() == from
	id, source := root.Member("id"), root.Get("meta.source")
	return fhir.Parse(root.Rewrite(func(v fhir.Value) ([]byte, bool) {
		switch {
		case itself && v == id:
			return fhir.JSON(to.Ref.ID()), true
		case itself && v == source:
			return fhir.JSON(to.Source), true
		case v.Key() == "reference" && v.IsString() && v.Str() == string(from):
			return fhir.JSON(to.Ref), true
		}
		return nil, false
	}))
}
