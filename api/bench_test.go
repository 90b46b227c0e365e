package api_test

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkTransaction writes transactions of a patient and 99 results, acknowledged when they are durable, audited and can be found.
func BenchmarkTransaction(b *testing.B) {
	s := open(b)
	n := 0
	for b.Loop() {
		entries := []string{entry("POST", "Patient", uuidA, patientJSON("Bench"))}
		for i := range 99 {
			entries = append(entries, entry("POST", "Observation", "", fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"%s"},"effectiveDateTime":"2026-01-02T10:00:00Z","valueQuantity":{"value":%d,"unit":"/min"}}`, uuidA, i)))
		}
		if a := s.do("POST", "", transaction(entries...)); a.StatusCode != 200 {
			b.Fatalf("%d %.300s", a.StatusCode, a.body)
		}
		n += 100
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "resources/s")
}

// A body that is too large is refused before it is read, whole or in pieces.
func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	s := open(t)
	big := strings.Repeat(" ", 33<<20)
	s.do("POST", "Patient", big).want(t, 413)
	if n := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); n != "0" {
		t.Errorf("%s were written", n)
	}
}
