package profile

import (
	"io"
	"strings"
	"sync"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/pack"
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
			if name == "UKCore-Provenance-RARecordConsent-Example.xml" && i.Expression == "Provenance.agent[0].onBehalfOf" {
				continue // it points at a StructureDefinition
			}
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

// The International Patient Summary's own examples are right by its profiles, and by R4.
func TestEveryExampleOfIPSValidates(t *testing.T) {
	d, ips := ipsDefinitions(t)
	n := 0
	for name, r := range packaged(t, ips, "example/") {
		var asked []string
		if u := ipsProfile(d, r.Type()); u != "" {
			asked = []string{u}
			n++
		}
		for _, i := range Errors(d.Check(r, asked...)) {
			t.Errorf("%s: %v", name, i)
		}
	}
	t.Logf("%d examples held to a profile", n)
}

// ipsProfile is IPS's profile of a type; "" if it has none, or several.
func ipsProfile(d *Definitions, typ string) string {
	u := "http://hl7.org/fhir/uv/ips/StructureDefinition/" + typ + "-uv-ips"
	for _, other := range d.URLs(typ) {
		if strings.HasSuffix(other, "-uv-ips") && other != u {
			return ""
		}
	}
	if d.Profile(u) == nil {
		return ""
	}
	return u
}

// packaged are the resources below a folder of a package.
func packaged(t testing.TB, file, folder string) map[string]*fhir.Resource {
	out := map[string]*fhir.Resource{}
	for f, err := range pack.Open(file) {
		if err != nil {
			t.Fatal(err)
		}
		name := f.Folder + "/" + f.Name
		if !strings.Contains(name, folder) || !strings.HasSuffix(name, ".json") {
			continue
		}
		raw, err := io.ReadAll(f.Content)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := fhir.Parse(raw); err == nil {
			out[name] = r
		}
	}
	return out
}

var loadedIPS = struct {
	once sync.Once
	d    *Definitions
	err  error
}{}

// ipsDefinitions are IPS's published definitions and R4's own, and the package that they are from.
func ipsDefinitions(t testing.TB) (*Definitions, string) {
	core, ips := data(t, "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz"), data(t, "02-fhir-definitions", "ips-package", "ips_v110.tgz")
	loadedIPS.once.Do(func() {
		var problems []string
		loadedIPS.d, problems, loadedIPS.err = Load(core, ips)
		for _, p := range problems {
			t.Log(p)
		}
	})
	if loadedIPS.err != nil {
		t.Fatal(loadedIPS.err)
	}
	return loadedIPS.d, ips
}
