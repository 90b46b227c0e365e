package store

import (
	"testing"

	"tombolo/kv"
)

// A cursor from outside is one that this store made, or is refused.
func FuzzCursor(f *testing.F) {
	f.Add(cursorOf(place{kv.Part(patientPrefix + "ann"), "o1"}))
	f.Add("p")
	f.Add("n12")
	f.Add("pAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseCursor(s)
		if err != nil || s == "" {
			return
		}
		again, err := parseCursor(cursorOf(at))
		if err != nil || again != at {
			t.Errorf("%q means %v, which is written and read as %v (%v)", s, at, again, err)
		}
	})
}
