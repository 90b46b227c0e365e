package profile

import (
	"sync"
	"testing"

	"tombolo/fhir"
)

var loaded struct {
	once     sync.Once
	d        *Definitions
	problems []string
	err      error
}

// ukCore are UK Core's published definitions and R4's own, where a developer has them.
func ukCore(t testing.TB) *Definitions {
	core, uk := data(t, "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz"), data(t, "02-fhir-definitions", "ukcore-stu3")
	loaded.once.Do(func() { loaded.d, loaded.problems, loaded.err = Load(core, uk) })
	if loaded.err != nil {
		t.Fatal(loaded.err)
	}
	return loaded.d
}

// profileOf is the profile that an example is of: the one it claims, or UK Core's of its type.
func profileOf(d *Definitions, r *fhir.Resource) string {
	for p := range r.Value().All("meta.profile") {
		if d.Profile(p.Str()) != nil {
			return ""
		}
	}
	if u := "https://fhir.hl7.org.uk/StructureDefinition/UKCore-" + r.Type(); d.Profile(u) != nil {
		return u
	}
	return ""
}

func TestEveryExampleOfUKCoreValidates(t *testing.T) {
	d := ukCore(t)
	for _, p := range loaded.problems {
		t.Log(p)
	}
	n, held := 0, 0
	for name, r := range examples(t, "ukcore-examples") {
		n++
		var asked []string
		if u := profileOf(d, r); u != "" {
			asked = []string{u}
		}
		if len(asked) > 0 || r.Get("meta.profile").Exists() {
			held++
		}
		for _, i := range Errors(d.Check(r, asked...)) {
			t.Errorf("%s: %v", name, i)
		}
	}
	t.Logf("%d examples, %d held to a profile; %d profiles, %d value sets, %d code systems", n, held, len(d.profiles), len(d.sets), len(d.systems))
}

// rawProfiles are UK Core's definitions as they are published, by URL.
func rawProfiles(t testing.TB) map[string]fhir.Value {
	out := map[string]fhir.Value{}
	for _, r := range examples(t, "ukcore-stu3/structuredefinitions") {
		out[r.Text("url")] = r.Value()
	}
	return out
}
