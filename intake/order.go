package intake

import (
	"context"
	"encoding/json"
	"time"

	"tombolo/fhir"
	"tombolo/store"
)

// finality ranks the statuses through which results and documents only go forward: a preliminary result that arrives late never
// overwrites the final one (reliability rule 7). Of other types what the source said last is right.
var finality = map[string]map[string]int{
	"Observation":       {"registered": 1, "preliminary": 2, "final": 3, "amended": 4, "corrected": 4, "cancelled": 4, "entered-in-error": 5},
	"DiagnosticReport":  {"registered": 1, "partial": 2, "preliminary": 2, "final": 3, "amended": 4, "corrected": 4, "appended": 4, "cancelled": 4, "entered-in-error": 5},
	"DocumentReference": {"preliminary": 1, "final": 2, "amended": 3, "entered-in-error": 4},
}

// finalityOf is the element that says how final a resource is.
func finalityOf(r *fhir.Resource) string {
	if r.Type() == "DocumentReference" {
		return "docStatus"
	}
	return "status"
}

// goesBack reports whether storing r would take something back to an earlier status than it already has here. Of two that are equally final the one that was
// issued later is right; where they do not say, or say the same, the one of which the source told later.
func (m *merger) goesBack(ctx context.Context, tx store.Tx, r *fhir.Resource) (bool, error) {
	rank, ok := finality[r.Type()]
	if !ok {
		return false, nil
	}
	path := finalityOf(r)
	was, err := tx.Get(ctx, r.Ref())
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	is, before := rank[r.Text(path)], rank[was.Text(path)]
	if is != before {
		return is < before, nil
	}
	if now, then := r.Text("issued"), was.Text("issued"); earlier(now, then) || earlier(then, now) {
		return earlier(now, then), nil
	}
	return m.d.Order != "" && m.orders[r.Ref()][path] > rankOf(m.d.Order, false), nil
}

// told keeps when the source told of a resource as a whole: what it had said before, and comes after, is kept out by goesBack or as if it had been withdrawn.
func (m *merger) told(tx store.Tx, r *fhir.Resource) error {
	if m.d.Order == "" {
		return nil
	}
	order := m.orders[r.Ref()]
	if order == nil {
		order = said{}
	}
	path := whole
	if finality[r.Type()] != nil {
		path = finalityOf(r)
	}
	order[path] = rankOf(m.d.Order, false)
	data, err := json.Marshal(order)
	if err != nil {
		return err
	}
	tx.Bucket(BucketOrder).Put(string(r.Ref()), data)
	return nil
}

func earlier(a, b string) bool {
	s, err1 := time.Parse(time.RFC3339, a)
	t, err2 := time.Parse(time.RFC3339, b)
	return err1 == nil && err2 == nil && s.Before(t)
}
