package connector_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A directory is asked once for a while; that it knows of none is an answer; one that cannot be reached takes nothing away that it said.
func TestADirectoryIsBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		var down error
		l := connector.NewLookup(time.Hour, nil, func(_ context.Context, key string) (int, error) {
			asked[key]++
			switch {
			case down != nil:
				return 0, down
			case key == "none":
				return 0, fhir.Errorf(fhir.NotFound, "no such organisation")
			}
			return asked[key], nil
		})
		get := func(key string, want int, kind fhir.IssueType) {
			t.Helper()
			got, err := l.Get(t.Context(), key)
			if got != want || (err == nil) != (kind == "") || err != nil && !fhir.Is(err, kind) {
				t.Errorf("%s: %d, %v; want %d %s", key, got, err, want, kind)
			}
		}
		get("a", 1, "")
		get("a", 1, "")
		get("none", 0, fhir.NotFound)
		get("none", 0, fhir.NotFound)
		if asked["a"] != 1 || asked["none"] != 1 {
			t.Errorf("asked %v", asked)
		}
		time.Sleep(2 * time.Hour)
		get("a", 2, "")
		down = fhir.Errorf(fhir.Transient, "down")
		time.Sleep(2 * time.Hour)
		get("a", 2, "") // old, and better than none
		get("none", 0, fhir.NotFound)
		get("new", 0, fhir.Transient)
		down = nil
		get("new", 2, "")
	})
}
