package bulk

import (
	"testing"
	"time"

	"tombolo/kv/enginetest"
	"tombolo/store"
)

// The marks of exports, from which others go on, do not grow for ever.
func TestMarksOfOldExportsAreSwept(t *testing.T) {
	db, err := store.Open(store.Options{Engine: enginetest.Open(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := New(Options{Store: db, Now: func() time.Time { return now }})
	if _, err := db.Update(t.Context(), func(tx store.Tx) error {
		for days := range 1000 {
			tx.Bucket(Bucket).Put(markKey("epr", now.AddDate(0, 0, -days)), []byte("1"))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 0
	for item, err := range db.View(Bucket).Scan(t.Context(), "mark/") {
		if err != nil {
			t.Fatal(err)
		}
		left++
		_ = item
	}
	if left != 401 { // today's and those of the 400 days before
		t.Errorf("%d marks are left", left)
	}
}
