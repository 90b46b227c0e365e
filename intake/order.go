package intake

import (
	"context"
	"encoding/json"

	"tombolo/fhir"
	"tombolo/store"
)

// finality ranks the statuses through which results and documents only go forward: a preliminary result that arrives late never
// overwrites the final one (reliability rule 7). Types that are not here take whatever comes last.
var finality = map[string]map[string]int{
	"Observation":       {"registered": 1, "preliminary": 2, "final": 3, "amended": 4, "corrected": 4, "cancelled": 4, "entered-in-error": 5},
	"DiagnosticReport":  {"registered": 1, "partial": 2, "preliminary": 2, "final": 3, "amended": 4, "corrected": 4, "appended": 4, "cancelled": 4, "entered-in-error": 5},
	"DocumentReference": {"preliminary": 1, "final": 2, "amended": 3, "entered-in-error": 4},
}

// completed adds to a partial resource what is already here and it leaves out. Its identifiers join those of other systems.
func completed(ctx context.Context, tx store.Tx, r *fhir.Resource) (*fhir.Resource, error) {
	was, err := tx.Get(ctx, r.Ref())
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	for m := range was.Value().Children() {
		if k := m.Key(); k != "meta" && !r.Get(k).Exists() {
			r = r.With(k, json.RawMessage(m.Raw()))
		}
	}
	if r.Type() == "Patient" {
		r = withIdentifiersOf(r, was)
	}
	return r, nil
}

func withIdentifiersOf(r, was *fhir.Resource) *fhir.Resource {
	said := map[string]bool{}
	var all []any
	for v := range r.Value().All("identifier") {
		said[v.Text("system")] = true
		all = append(all, json.RawMessage(v.Raw()))
	}
	n := len(all)
	for v := range was.Value().All("identifier") {
		if !said[v.Text("system")] {
			all = append(all, json.RawMessage(v.Raw()))
		}
	}
	if len(all) == n {
		return r
	}
	return r.With("identifier", all)
}

// goesBack reports whether storing r would take something back to an earlier status than it already has here.
func goesBack(ctx context.Context, tx store.Tx, r *fhir.Resource) (bool, error) {
	rank, ok := finality[r.Type()]
	if !ok {
		return false, nil
	}
	path := "status"
	if r.Type() == "DocumentReference" {
		path = "docStatus"
	}
	was, err := tx.Get(ctx, r.Ref())
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return rank[r.Text(path)] < rank[was.Text(path)], nil
}
