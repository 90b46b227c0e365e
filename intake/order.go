package intake

import (
	"context"
	"time"

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
	is, before := rank[r.Text(path)], rank[was.Text(path)]
	if is == before && r.Text("issued") != "" { // of two that are equally final, the one that was issued later
		return earlier(r.Text("issued"), was.Text("issued")), nil
	}
	return is < before, nil
}

func earlier(a, b string) bool {
	s, err1 := time.Parse(time.RFC3339, a)
	t, err2 := time.Parse(time.RFC3339, b)
	return err1 == nil && err2 == nil && s.Before(t)
}
