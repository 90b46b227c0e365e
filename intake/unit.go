package intake

import (
	"context"
	"encoding/json"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/store"
)

// withUnits writes into an entry which organisational units made it, where only its delivery told (policy.UnitsOf). What is about who somebody is, and
// what is nobody's record, is no unit's.
func withUnits(r *fhir.Resource, units []string) *fhir.Resource {
	if len(units) == 0 || r.Type() == "Patient" || shared[r.Type()] {
		return r
	}
	tags := tagsOf(r, notOfUnit)
	for _, u := range units {
		tags = append(tags, fhir.JSON(fhir.Coding{System: dataset.SystemUnit, Code: u}))
	}
	return withTags(r, tags)
}

func withTags(r *fhir.Resource, tags []json.RawMessage) *fhir.Resource {
	meta := fhir.M{}
	for m := range r.Value().Member("meta").Children() {
		meta[m.Key()] = json.RawMessage(m.Raw())
	}
	meta["tag"] = tags
	return r.With("meta", meta)
}

// stillOf keeps the units of an entry that is told of again by a message which names none: a correction comes from an office, and the ward stays the ward.
func stillOf(ctx context.Context, tx store.Tx, d *connector.Delivery, r *fhir.Resource) (*fhir.Resource, error) {
	if len(d.Units) > 0 || !d.NamesUnits || r.Type() == "Patient" || shared[r.Type()] {
		return r, nil
	}
	was, err := tx.Get(ctx, r.Ref())
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if units := tagsOf(was, ofUnit); len(units) > 0 && len(tagsOf(r, ofUnit)) == 0 {
		return withTags(r, append(tagsOf(r, notOfUnit), units...)), nil
	}
	return r, nil
}

// tagsOf are the tags of a resource whose system is wanted.
func tagsOf(r *fhir.Resource, want func(system string) bool) []json.RawMessage {
	var out []json.RawMessage
	for t := range r.Value().Member("meta").All("tag") {
		if want(t.Text("system")) {
			out = append(out, json.RawMessage(t.Raw()))
		}
	}
	return out
}

func ofUnit(system string) bool    { return system == dataset.SystemUnit }
func notOfUnit(system string) bool { return system != dataset.SystemUnit }
