package api_test

import (
	"strings"
	"testing"

	"tombolo/conform"
)

// The bundled conformance run passes on this server, on both engines.
func TestTheConformanceRunPasses(t *testing.T) {
	s := open(t)
	s.watch.Known("conform") // is what its patients are called, and their ids
	report, err := conform.Run(t.Context(), conform.Options{URL: s.url, Token: "epr"})
	must(t, err)
	var text strings.Builder
	must(t, report.Write(&text))
	if report.Count(conform.Fails) > 0 || report.Count(conform.Passes) < 80 {
		t.Errorf("%s", text.String())
	}
	t.Log(text.String())
	if left := s.do("GET", "Patient", nil).want(t, 200).text(t, "total"); left != "0" {
		t.Errorf("%s patients are left behind", left)
	}
}
