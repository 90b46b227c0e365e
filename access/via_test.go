package access

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/region"
)

// A question says which nodes it has passed. One that has been here is refused, so that none goes round; any other is told of to whoever is asked next.
func TestAQuestionThatHasBeenHereIsRefused(t *testing.T) {
	r := &region.Region{ID: "severn", Users: []region.User{{ID: "doctor", Name: "Dr Ade", Role: "hospital-doctor", TokenSHA256: digest("t")}}}
	for _, here := range []string{"", "xyz"} {
		m, err := New(Options{Region: r, Here: here})
		if err != nil {
			t.Fatal(err)
		}
		us := "severn"
		if here != "" {
			us = here
		}
		for via, want := range map[string]fhir.IssueType{"": "", "wye": "", "wye, far": "", us: fhir.NotSupported, "wye, " + us + ", far": fhir.NotSupported, strings.Repeat("x,", 8): "",
			strings.Repeat("x,", 9): fhir.NotSupported} {
			req := httptest.NewRequest("POST", "/fhir/$gather", nil)
			req.Header.Set("Authorization", "Bearer t")
			req.Header.Set(connector.HeaderTimeout, "1.5s")
			if via != "" {
				req.Header.Set(connector.HeaderVia, via)
			}
			s, err := m.Session(req)
			switch {
			case want != "":
				if s != nil || !fhir.Is(err, want) {
					t.Errorf("via %q: %v, %v; want it refused", via, s, err)
				}
			case err != nil:
				t.Errorf("via %q: %v", via, err)
			case s.Passed() != (via != "") || s.Here != us || s.Waits != 1500*time.Millisecond:
				t.Errorf("via %q: passed %v, here %q, waits %s", via, s.Passed(), s.Here, s.Waits)
			}
		}
	}
}
