package api_test

import (
	"strings"
	"testing"
)

func operation(kind, path string, parts ...string) string {
	all := append([]string{`{"name":"type","valueCode":"` + kind + `"}`, `{"name":"path","valueString":"` + path + `"}`}, parts...)
	return `{"name":"operation","part":[` + strings.Join(all, ",") + `]}`
}

// The operations of FHIRPath Patch, on single elements and lists, choices and elements with elements of their own. FHIR R4 fhirpatch.html (failure 16)
func TestAFHIRPathPatchDoesWhatItSays(t *testing.T) {
	s := open(t)
	const start = `{"resourceType":"Patient","name":[{"family":"A","given":["x","y","z"]},{"use":"old","family":"B"}],"gender":"female","birthDate":"1970-01-31","deceasedBoolean":false,"identifier":[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"2"}]}`
	for _, c := range []struct{ name, op, want string }{
		{"replace", operation("replace", "Patient.birthDate", `{"name":"value","valueDate":"1980"}`), `"birthDate":"1980"`},
		{"add a single element", operation("add", "Patient", `{"name":"name","valueString":"active"}`, `{"name":"value","valueBoolean":true}`), `"active":true`},
		{"add to a list", operation("add", "Patient.name[0]", `{"name":"name","valueString":"given"}`, `{"name":"value","valueString":"w"}`), `["x","y","z","w"]`},
		{"add a first item", operation("add", "Patient", `{"name":"name","valueString":"telecom"}`, `{"name":"value","valueContactPoint":{"system":"phone","value":"1"}}`), `"telecom":[{"system":"phone","value":"1"}]`},
		{"add by parts", operation("add", "Patient", `{"name":"name","valueString":"contact"}`, `{"name":"value","part":[{"name":"name","valueHumanName":{"family":"C"}},{"name":"gender","valueCode":"male"}]}`), `"contact":[{"name":{"family":"C"},"gender":"male"}]`},
		{"insert", operation("insert", "Patient.name[0].given", `{"name":"index","valueInteger":1}`, `{"name":"value","valueString":"w"}`), `["x","w","y","z"]`},
		{"move", operation("move", "Patient.name[0].given", `{"name":"source","valueInteger":2}`, `{"name":"destination","valueInteger":0}`), `["z","x","y"]`},
		{"delete", operation("delete", "Patient.gender"), ``},
		{"delete what is not there", operation("delete", "Patient.photo"), `"gender":"female"`},
		{"delete by what it says", operation("delete", "Patient.identifier.where(system = 'urn:a')"), `"identifier":[{"system":"urn:b","value":"2"}]`},
		{"replace the last", operation("replace", "Patient.name.last().family", `{"name":"value","valueString":"Z"}`), `{"use":"old","family":"Z"}`},
		{"replace what a condition finds", operation("replace", "Patient.name.where(given contains 'y' and use.empty()).family", `{"name":"value","valueString":"Z"}`), `{"family":"Z"`},
		{"delete what a place in a list finds", operation("delete", "Patient.identifier.tail()"), `"identifier":[{"system":"urn:a","value":"1"}]`},
		{"replace in what a choice is", operation("replace", "Patient.identifier[iif(active, 0, 1)].value", `{"name":"value","valueString":"3"}`), `{"system":"urn:b","value":"3"}`},
		{"replace a choice with another type", operation("replace", "Patient.deceased", `{"name":"value","valueDateTime":"2020"}`), `"deceasedDateTime":"2020"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := s.made(start)
			a := s.do("PATCH", id, `{"resourceType":"Parameters","parameter":[`+c.op+`]}`).want(t, 200)
			if !strings.Contains(string(a.body), c.want) || c.name == "delete" && strings.Contains(string(a.body), "gender") {
				t.Errorf("%s", a.body)
			}
		})
	}
	id := s.made(start)
	for name, op := range map[string]string{
		"two places":      operation("replace", "Patient.name.family", `{"name":"value","valueString":"Z"}`),
		"no place":        operation("replace", "Patient.photo", `{"name":"value","valueString":"Z"}`),
		"a wrong type":    operation("replace", "Patient.birthDate", `{"name":"value","valueBoolean":true}`),
		"no element":      operation("add", "Patient", `{"name":"name","valueString":"shoe"}`, `{"name":"value","valueBoolean":true}`),
		"no value":        operation("replace", "Patient.birthDate"),
		"no operation":    operation("sing", "Patient"),
		"out of the list": operation("insert", "Patient.name", `{"name":"index","valueInteger":9}`, `{"name":"value","valueHumanName":{"family":"Z"}}`),
		"another path":    operation("delete", "Patient.name.exists()"),
		"a costly path":   operation("delete", "Patient.descendants().select(%resource.descendants()).select(%resource.descendants()).select(%resource.descendants())"),
		"no FHIRPath":     operation("delete", "Patient.name.wher(use = 'x')"),
		"one that stands": operation("add", "Patient", `{"name":"name","valueString":"gender"}`, `{"name":"value","valueCode":"male"}`),
	} {
		if a := s.do("PATCH", id, `{"resourceType":"Parameters","parameter":[`+op+`]}`); a.StatusCode != 400 && a.StatusCode != 413 && a.StatusCode != 422 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if v := s.do("GET", id, nil).want(t, 200).text(t, "meta.versionId"); v != "1" {
		t.Errorf("patches that were refused left version %s", v)
	}
}
