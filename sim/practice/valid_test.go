package practice_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tombolo/connector/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/fhir/profile"
	"tombolo/sim/cast"
	"tombolo/sim/practice"
)

// ukCore are the definitions of R4 and UK Core beside the repository; the test skips where they are not.
func ukCore(t *testing.T) *profile.Definitions {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	for wd, _ := os.Getwd(); dir == "" && wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
		if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
			dir = filepath.Join(wd, "shared", "data")
		}
	}
	dir = filepath.Join(dir, "02-fhir-definitions")
	d, _, err := profile.Load(filepath.Join(dir, "hl7.fhir.r4.core-4.0.1.tgz"), filepath.Join(dir, "ukcore-stu3"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the definitions of FHIR R4 and UK Core are not here: skipped")
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What the practices serve of everybody of the cast becomes valid R4 and UK Core, whole, but for what UK Core demands and GP Connect has no place for.
func TestWhatThePracticesServeBecomesValid(t *testing.T) {
	d := ukCore(t)
	checked := 0
	for _, source := range []string{cast.GP1, cast.GP2} {
		c := whole(t, practice.Options{Source: source})
		for _, p := range cast.Dozen(now) {
			if p.NHS == "" || !p.At(source) || p.Died != "" {
				continue
			}
			a, err := c.Ask(t.Context(), question(p, append(headings, dataset.Documents, dataset.Appointments)...))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range append([]*fhir.Resource{a.Patient}, a.Content...) {
				checked++
				for _, is := range profile.Errors(d.Check(r)) {
					if r.Type() == "MedicationRequest" && is.Expression == "MedicationRequest.substitution" && is.Type == fhir.Required {
						continue // named in the report of each conversion
					}
					t.Errorf("%s, %s: %s: %s: %s", source, p.Key, r, is.Expression, is.Text)
				}
			}
		}
	}
	t.Logf("%d resources were held to R4 and UK Core, of %s", checked, gpconnect.Map)
	if checked < 150 {
		t.Errorf("only %d resources were looked at", checked)
	}
}
