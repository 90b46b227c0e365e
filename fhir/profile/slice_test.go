package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
)

// definitionsOf loads StructureDefinitions of which only what matters is written: name, type, base and elements.
func definitionsOf(t testing.TB, bodies ...string) *Definitions {
	t.Helper()
	dir := t.TempDir()
	for i, b := range bodies {
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".json"), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, problems, err := Load(dir)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return d
}

func definition(name, typ, elements string) string {
	return `{"resourceType":"StructureDefinition","url":"urn:` + name + `","name":"` + name + `","status":"draft","kind":"resource","abstract":false,"type":"` + typ + `","baseDefinition":"http://hl7.org/fhir/StructureDefinition/` + typ + `","derivation":"constraint","differential":{"element":[` + elements + `]}}`
}

func element(id, more string) string {
	path := id
	for i := strings.IndexByte(path, ':'); i >= 0; i = strings.IndexByte(path, ':') {
		end := strings.IndexByte(path[i:], '.')
		if end < 0 {
			end = len(path) - i
		}
		path = path[:i] + path[i+end:]
	}
	return `{"id":"` + id + `","path":"` + path + `"` + more + `}`
}

func slicingBy(kind, path, more string) string {
	return `,"slicing":{"discriminator":[{"type":"` + kind + `","path":"` + path + `"}]` + more + `}`
}

func TestProfilesAreHeldTo(t *testing.T) {
	obs := func(more string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"}` + more + `}`
	}
	comp := func(codes ...string) string {
		var list []string
		for _, c := range codes {
			list = append(list, `{"code":{"coding":[{"system":"urn:s","code":"`+c+`"}]},"valueString":"v"}`)
		}
		return obs(`,"component":[` + strings.Join(list, ",") + `]`)
	}
	two := func(kind, path, rules string) string {
		return definition("p", "Observation", strings.Join([]string{
			element("Observation.component", slicingBy(kind, path, rules)),
			element("Observation.component:one", `,"min":1,"max":"1"`), element("Observation.component:one.code", `,"patternCodeableConcept":{"coding":[{"system":"urn:s","code":"1"}]}`),
			element("Observation.component:one.value[x]", `,"type":[{"code":"string"}]`),
			element("Observation.component:two", `,"max":"1"`), element("Observation.component:two.code", `,"patternCodeableConcept":{"coding":[{"system":"urn:s","code":"2"}]}`)}, ","))
	}
	patient := func(more string) string { return `{"resourceType":"Patient"` + more + `}` }
	for _, c := range []struct {
		name, profile, body, want string // want: of an issue's place and text; "" if it is right
	}{
		{"slices by pattern", two("pattern", "code", `,"rules":"open"`), comp("1", "2", "3"), ""},
		{"a slice is missing", two("pattern", "code", `,"rules":"open"`), comp("2"), "Observation.component: p wants this of the kind one"},
		{"a slice is there twice", two("pattern", "code", `,"rules":"open"`), comp("1", "1"), "p allows at most 1 of the kind one"},
		{"closed slices", two("pattern", "code", `,"rules":"closed"`), comp("1", "3"), "Observation.component[1]: p allows only the kinds one, two"},
		{"ordered slices", two("pattern", "code", `,"rules":"open","ordered":true`), comp("2", "1"), "Observation.component[1]: p wants these in the order one, two"},
		{"others at the end", two("pattern", "code", `,"rules":"openAtEnd"`), comp("3", "1"), "Observation.component[1]: p wants what is of no kind of its own"},
		{"the type within a slice", two("pattern", "code", `,"rules":"open"`), strings.Replace(comp("1"), `"valueString":"v"`, `"valueInteger":1`, 1), "Observation.component[0].value.ofType(integer): p allows the type string here"},
		{"slices by what a concept holds", two("value", "code.coding.code", `,"rules":"closed"`), comp("1", "2"), ""},
		{"by type of a choice", definition("p", "Observation", element("Observation.value[x]", slicingBy("type", "$this", `,"rules":"closed"`))+","+element("Observation.value[x]:valueQuantity", `,"type":[{"code":"Quantity"}]`)+","+element("Observation.value[x]:valueQuantity.unit", `,"min":1`)),
			obs(`,"valueQuantity":{"value":1}`), "Observation.value.ofType(Quantity).unit: p wants this"},
		{"by type, closed", definition("p", "Observation", element("Observation.value[x]", slicingBy("type", "$this", `,"rules":"closed"`))+","+element("Observation.value[x]:valueQuantity", `,"type":[{"code":"Quantity"}]`)), obs(`,"valueString":"x"`), "allows only the kinds valueQuantity"},
		{"a choice by its short name", definition("p", "Observation", element("Observation.valueQuantity", ``)+","+element("Observation.valueQuantity.code", `,"min":1`)), obs(`,"valueQuantity":{"value":1}`), "Quantity).code: p wants this"},
		{"by existence", definition("p", "Patient", element("Patient.identifier", slicingBy("exists", "period", `,"rules":"open"`))+","+element("Patient.identifier:old", `,"min":1`)+","+element("Patient.identifier:old.period", `,"min":1`)+","+element("Patient.identifier:new", `,"max":"1"`)+","+element("Patient.identifier:new.period", `,"max":"0"`)),
			patient(`,"identifier":[{"value":"1"},{"value":"2"}]`), "Patient.identifier: p wants this of the kind old"},
		{"by the type of what is referred to", definition("p", "Patient", element("Patient.generalPractitioner", slicingBy("type", "resolve()", `,"rules":"open"`))+","+element("Patient.generalPractitioner:org", `,"max":"1","type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Organization"]}]`)),
			patient(`,"generalPractitioner":[{"reference":"Organization/1"},{"reference":"Organization/2"},{"reference":"Practitioner/1"}]`), "allows at most 1 of the kind org"},
		{"slices of slices", definition("p", "Patient", element("Patient.identifier", slicingBy("value", "system", `,"rules":"open"`))+","+element("Patient.identifier:a", slicingBy("value", "use", `,"rules":"open"`))+","+element("Patient.identifier:a.system", `,"fixedUri":"urn:a"`)+","+element("Patient.identifier:a/b", `,"max":"1"`)+","+element("Patient.identifier:a/b.use", `,"fixedCode":"old"`)),
			patient(`,"identifier":[{"system":"urn:a","use":"old"},{"system":"urn:a","use":"old"},{"system":"urn:a"}]`), "allows at most 1 of the kind b"},
		{"what may not be there", definition("p", "Patient", element("Patient.photo", `,"max":"0"`)), patient(`,"photo":[{"url":"http://x"}]`), "Patient.photo: p does not allow this"},
		{"at least two", definition("p", "Patient", element("Patient.name", `,"min":2`)), patient(`,"name":[{"family":"x"}]`), "at least 2, and there are 1"},
		{"fixed, whole", definition("p", "Patient", element("Patient.maritalStatus", `,"fixedCodeableConcept":{"text":"x"}`)), patient(`,"maritalStatus":{"text":"x","coding":[{"code":"y"}]}`), "Patient.maritalStatus: p has one value"},
		{"a date before the first", definition("p", "Patient", element("Patient.birthDate", `,"minValueDate":"1900-01-01"`)), patient(`,"birthDate":"1899"`), "at least"},
		{"a date that may be the first", definition("p", "Patient", element("Patient.birthDate", `,"minValueDate":"1900-06-01"`)), patient(`,"birthDate":"1900"`), ""},
		{"a date after the last", definition("p", "Patient", element("Patient.birthDate", `,"maxValueDate":"2026-01"`)), patient(`,"birthDate":"2026-02-01"`), "at most"},
		{"a number above the most", definition("p", "Patient", element("Patient.multipleBirth[x]", `,"maxValueInteger":9`)), patient(`,"multipleBirthInteger":10`), "at most 9"},
		{"a number that is the most", definition("p", "Patient", element("Patient.multipleBirth[x]", `,"maxValueInteger":9`)), patient(`,"multipleBirthInteger":9`), ""},
		{"a text that is too long", definition("p", "Patient", element("Patient.name.family", `,"maxLength":3`)), patient(`,"name":[{"family":"Ashe"}]`), "at most 3 characters"},
		{"a rule of its own", definition("p", "Patient", element("Patient", `,"constraint":[{"key":"x-1","severity":"error","human":"a name or a number","expression":"name.exists() or identifier.exists()"}]`)), patient(``), "Patient: x-1: a name or a number"},
		{"a rule that warns", definition("p", "Patient", element("Patient", `,"constraint":[{"key":"x-1","severity":"warning","human":"a name","expression":"name.exists()"}]`)), patient(``), ""},
		{"a reference to another type", definition("p", "Observation", element("Observation.subject", `,"type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Patient"]}]`)), obs(`,"subject":{"reference":"Group/1"}`), "Observation.subject: p wants a reference to Patient, and this is to a Group"},
		{"a resource inside", definition("p", "Bundle", element("Bundle.entry.resource", `,"type":[{"code":"Patient","profile":["urn:inner"]}]`)), `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient"}}]}`, "Bundle.entry[0].resource.name: inner wants this"},
		{"a profile of a type", definition("p", "Patient", element("Patient.name", `,"type":[{"code":"HumanName","profile":["urn:named"]}]`)), patient(`,"name":[{"text":"x"}]`), "Patient.name[0].family: named wants this"},
		{"a resource of another type", definition("p", "Group", ``), patient(``), "the profile p is of Group"},
		{"an unlisted code", definition("p", "Patient", element("Patient.maritalStatus", `,"binding":{"strength":"required","valueSet":"urn:vs|1"}`)), patient(`,"maritalStatus":{"coding":[{"system":"urn:cs","code":"z"}]}`), "Patient.maritalStatus: p wants a code of the value set"},
		{"no code", definition("p", "Patient", element("Patient.maritalStatus", `,"binding":{"strength":"required","valueSet":"urn:vs"}`)), patient(`,"maritalStatus":{"text":"z"}`), "and there is no code"},
		{"a listed code", definition("p", "Patient", element("Patient.maritalStatus", `,"binding":{"strength":"required","valueSet":"urn:vs"}`)), patient(`,"maritalStatus":{"coding":[{"system":"urn:other","code":"z"},{"system":"urn:cs","code":"b"}]}`), ""},
		{"an excluded code", definition("p", "Patient", element("Patient.maritalStatus", `,"binding":{"strength":"required","valueSet":"urn:vs"}`)), patient(`,"maritalStatus":{"coding":[{"system":"urn:cs","code":"c"}]}`), "wants a code of the value set"},
		{"an extension where it may stand", definition("p", "Patient", element("Patient.extension", slicingBy("value", "url", ``))+","+element("Patient.extension:mark", `,"min":1,"type":[{"code":"Extension","profile":["urn:mark"]}]`)), patient(`,"extension":[{"url":"urn:mark","valueString":"x"}]`), ""},
		{"an extension is missing", definition("p", "Patient", element("Patient.extension", slicingBy("value", "url", ``))+","+element("Patient.extension:mark", `,"min":1,"type":[{"code":"Extension","profile":["urn:mark"]}]`)), patient(``), "Patient.extension: p wants this of the kind mark"},
		{"an extension with another value", definition("p", "Patient", ``), patient(`,"extension":[{"url":"urn:mark","valueInteger":1}]`), "Patient.extension[0].value.ofType(integer): mark allows the type string here"},
		{"an extension in another place", definition("p", "Patient", ``), patient(`,"contact":[{"name":{"text":"x"},"extension":[{"url":"urn:mark","valueString":"x"}]}]`), "Patient.contact[0].extension[0]: mark does not stand here, but in Patient"},
		{"an extension that is no modifier", definition("p", "Patient", ``), patient(`,"modifierExtension":[{"url":"urn:mark","valueString":"x"}]`), "does not change the meaning"},
		{"a chain", strings.Replace(definition("p", "Patient", element("Patient.gender", `,"min":1`)), "http://hl7.org/fhir/StructureDefinition/Patient", "urn:inner", 1), patient(`,"gender":"male"`), "Patient.name: p wants this"},
	} {
		mark := strings.Replace(definition("mark", "Extension", element("Extension.url", `,"fixedUri":"urn:mark"`)+","+element("Extension.value[x]", `,"min":1,"type":[{"code":"string"}]`)), `"differential"`, `"context":[{"type":"element","expression":"Patient"}],"differential"`, 1)
		d := definitionsOf(t, c.profile, mark, definition("inner", "Patient", element("Patient.name", `,"min":1`)), definition("named", "HumanName", element("HumanName.family", `,"min":1`)),
			`{"resourceType":"ValueSet","url":"urn:vs","status":"draft","compose":{"include":[{"system":"urn:cs"}],"exclude":[{"system":"urn:cs","concept":[{"code":"c"}]}]}}`,
			`{"resourceType":"CodeSystem","url":"urn:cs","status":"draft","content":"complete","concept":[{"code":"a","concept":[{"code":"b"}]},{"code":"c"}]}`)
		var told []string
		for _, i := range Errors(d.Check(parse(t, c.body), "urn:p")) {
			told = append(told, i.Error())
		}
		all := strings.Join(told, "\n")
		if c.want == "" && all != "" || c.want != "" && !strings.Contains(all, c.want) {
			t.Errorf("%s: told %q, want %q", c.name, all, c.want)
		}
	}
}

// Bundle entries and contained resources are held to the profiles that they claim; what is not known is told, and is no error unless it was asked for.
func TestClaimedProfilesAreHonoured(t *testing.T) {
	d := definitionsOf(t, definition("p", "Patient", element("Patient.name", `,"min":1`)))
	bundle := parse(t, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","meta":{"profile":["urn:p|1.0"]}}}]}`)
	issues := Errors(d.Check(bundle))
	if len(issues) != 1 || issues[0].Expression != "Bundle.entry[0].resource.name" {
		t.Errorf("an entry's own profile: %v", issues)
	}
	patient := parse(t, `{"resourceType":"Patient","meta":{"profile":["urn:none"]},"name":[{"text":"x"}]}`)
	if issues := d.Check(patient); len(Errors(issues)) != 0 || !strings.Contains(issues[0].Text+issues[len(issues)-1].Text, "urn:none is not known here") {
		t.Errorf("an unknown profile that is claimed: %v", issues)
	}
	if issues := Errors(d.Check(patient, "urn:none")); len(issues) != 1 {
		t.Errorf("an unknown profile that is asked for: %v", issues)
	}
}

// Definitions from outside make no check fail otherwise than by issues.
func FuzzDefinitions(f *testing.F) {
	f.Add(definition("p", "Patient", element("Patient.identifier", slicingBy("value", "system.resolve().ofType(x)", `,"rules":"closed"`))+","+element("Patient.identifier:a/b.system", `,"fixedUri":"urn:a"`)+","+element("Patient.deceasedBoolean", `,"min":1`)))
	f.Add(definition("p", "Extension", element("Extension.extension:x.value[x]:valueQuantity.code", `,"binding":{"strength":"required","valueSet":"urn:p"},"type":[{"code":"Extension","profile":["urn:p"]}]`)))
	f.Add(`{"resourceType":"ValueSet","url":"urn:p","status":"draft","compose":{"include":[{"valueSet":["urn:p"]}]}}`)
	r, err := fhir.Parse([]byte(`{"resourceType":"Patient","meta":{"profile":["urn:p"]},"identifier":[{"system":"urn:a","use":"old"}],"extension":[{"url":"urn:p","valueQuantity":{"value":1}}],"contained":[{"resourceType":"Patient"}],"deceasedBoolean":true,"maritalStatus":{"text":"x"}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		l := &loader{d: &Definitions{profiles: map[string]*Profile{}, sets: map[string]*valueSet{}, systems: map[string]*codeSystem{}}}
		if err := l.read("x.json", strings.NewReader(body)); err != nil {
			return
		}
		l.link()
		l.d.Check(r, "urn:p")
	})
}
