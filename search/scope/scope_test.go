package scope

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
)

func observation(category string) *fhir.Resource {
	return fhir.New("Observation", "o", fhir.M{"status": "final", "category": []any{fhir.Code("http://terminology.hl7.org/CodeSystem/observation-category", category, "")}})
}

func TestScopesAreReadAsTheStandardWritesThem(t *testing.T) {
	for text, want := range map[string]string{
		"patient/Observation.rs":                        "patient/Observation.rs",
		"patient/*.cruds":                               "patient/*.cruds",
		"user/Patient.r":                                "user/Patient.r",
		"system/*.rs":                                   "system/*.rs",
		"patient/Observation.read":                      "patient/Observation.rs", // version 1
		"patient/Condition.write":                       "patient/Condition.cud",
		"user/*.*":                                      "user/*.cruds",
		"patient/Observation.rs?category=laboratory":    "patient/Observation.rs?category=laboratory",
		"openid fhirUser launch/patient offline_access": "openid fhirUser launch/patient offline_access",
	} {
		s, unknown := Parse(text)
		if len(unknown) > 0 || s.String() != want {
			t.Errorf("%s is read as %q, unknown %q", text, s, unknown)
		}
	}
	for _, text := range []string{"patient/Observation", "patient/Observation.", "patient/Observation.sr", "patient/Observation.rr", "patient/Nothing.rs", "patients/Observation.rs",
		"patient/.rs", "/Observation.rs", "patient/*.rs?category=laboratory", "patient/Observation.rs?", "patient/Observation.rs?nothing=1", "patient/Observation.rs?_count=1",
		"patient/Observation.rs?category=%zz", "patient/Observation.rs?_include=Observation:subject", "email", "patient/observation.rs", "patient/Observation.RS", "admin"} {
		if s, unknown := Parse(text); len(unknown) != 1 || len(s.Data) > 0 || len(s.Words) > 0 {
			t.Errorf("%s is taken for a scope: %q", text, s)
		}
	}
	if s, unknown := Parse(strings.Repeat("patient/Observation.rs ", 4000)); len(unknown) != 1 || len(s.Data) > 0 {
		t.Error("a list of scopes of any length is read")
	}
}

func TestAScopeLetsThroughWhatItSaysAndNothingElse(t *testing.T) {
	s, _ := Parse("patient/Observation.rs?category=laboratory patient/Condition.s")
	lab, vital, problem := observation("laboratory"), observation("vital-signs"), fhir.New("Condition", "c", fhir.M{})
	if !s.Permits(Read|Search, lab) || s.Permits(Read|Search, vital) {
		t.Error("the category does not decide")
	}
	if s.Permits(Read, problem) || !s.Permits(Search, problem) {
		t.Error("the letters do not decide")
	}
	if s.Permits(Read|Search, fhir.New("AllergyIntolerance", "a", fhir.M{})) || s.Permits(Update, lab) {
		t.Error("something else is let through")
	}
	if s.Whole() {
		t.Error("a part is called the whole")
	}
	if all, _ := Parse("user/*.rs"); !all.Whole() {
		t.Error("the whole is not known as such")
	}
}

func TestWhatIsGivenIsWhatIsAskedForAndAllowed(t *testing.T) {
	for _, c := range []struct{ asked, allowed, given string }{
		{"patient/*.rs", "patient/Observation.rs patient/Condition.r", "patient/Observation.rs patient/Condition.r"},
		{"patient/Observation.cruds", "patient/*.rs", "patient/Observation.rs"},
		{"user/Observation.rs", "patient/*.rs", ""},
		{"patient/Observation.rs?category=laboratory", "patient/*.rs", "patient/Observation.rs?category=laboratory"},
		{"patient/Observation.rs", "patient/Observation.rs?category=laboratory", "patient/Observation.rs?category=laboratory"},
		{"patient/Observation.rs?category=laboratory", "patient/Observation.rs?category=vital-signs", "patient/Observation.rs?category=laboratory&category=vital-signs"},
		{"openid launch offline_access", "openid launch", "openid launch"},
	} {
		asked, _ := Parse(c.asked)
		allowed, _ := Parse(c.allowed)
		if got := asked.Within(allowed).String(); got != c.given {
			t.Errorf("asked %q, allowed %q: given %q, want %q", c.asked, c.allowed, got, c.given)
		}
	}
}

var some = rapid.Custom(func(t *rapid.T) string {
	typ := rapid.SampledFrom([]string{"*", "Observation", "Condition", "Patient"}).Draw(t, "type")
	out := rapid.SampledFrom([]string{"patient", "user", "system"}).Draw(t, "level") + "/" + typ + "." + rapid.SampledFrom([]string{"r", "s", "rs", "cruds", "cud"}).Draw(t, "can")
	if typ == "Observation" && rapid.Bool().Draw(t, "filtered") {
		out += "?category=" + rapid.SampledFrom([]string{"laboratory", "vital-signs"}).Draw(t, "category")
	}
	return out
})

// What is let through by what was given is let through by what was asked for and by what was allowed.
func TestGivingNeverWidens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := func(name string) Set {
			s, unknown := Parse(strings.Join(rapid.SliceOfN(some, 1, 4).Draw(t, name), " "))
			if len(unknown) > 0 {
				t.Fatalf("unknown %q", unknown)
			}
			return s
		}
		asked, allowed := list("asked"), list("allowed")
		given := asked.Within(allowed)
		again, unknown := Parse(given.String())
		if len(unknown) > 0 || again.String() != given.String() {
			t.Fatalf("%q is read again as %q", given, again)
		}
		for _, r := range []*fhir.Resource{observation("laboratory"), observation("vital-signs"), fhir.New("Condition", "c", fhir.M{}), fhir.New("Patient", "p", fhir.M{})} {
			for _, can := range []Can{Read, Search, Create} {
				if given.Permits(can, r) && (!asked.Permits(can, r) || !allowed.Permits(can, r)) {
					t.Fatalf("asked %q, allowed %q: given %q lets %s %s through", asked, allowed, given, can, r.Type())
				}
			}
		}
	})
}

func FuzzScope(f *testing.F) {
	for _, s := range []string{"patient/Observation.rs?category=laboratory", "openid fhirUser launch", "user/*.*", "system/Patient.cruds", "patient/Observation.rs?code:in=x", "a/b.c?d=e&f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, _ := Parse(text)
		again, unknown := Parse(s.String())
		if len(unknown) > 0 && !slices.Equal(unknown, []string{"(longer than any list of scopes)"}) {
			t.Fatalf("%q is written as %q, of which %q is not read", text, s, unknown)
		}
		if len(unknown) == 0 && again.String() != s.String() {
			t.Fatalf("%q is written as %q and read again as %q", text, s, again)
		}
		s.Permits(Read, observation("laboratory"))
	})
}
