package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// Mutants: examples that are right, each with one thing made wrong that R4 or a profile says. The profiles' part is read here from the raw
// StructureDefinitions, not from what the checker made of them. Every mutant must be refused.

type object = map[string]any

// A mutant is made in place, and undone.
type mutant struct {
	name string
	do   func() (undo func())
}

func decode(t testing.TB, r *fhir.Resource) object {
	dec := json.NewDecoder(strings.NewReader(string(r.Raw())))
	dec.UseNumber()
	var o object
	if err := dec.Decode(&o); err != nil {
		t.Fatal(err)
	}
	return o
}

func put(o object, key string, value any) func() func() {
	return func() func() {
		was, had := o[key]
		o[key] = value
		return func() {
			if delete(o, key); had {
				o[key] = was
			}
		}
	}
}

func without(o object, keys ...string) func() func() {
	return func() func() {
		was := maps.Clone(o)
		for _, k := range keys {
			delete(o, k)
			delete(o, "_"+k)
		}
		return func() { maps.Copy(o, was) }
	}
}

// r4Mutants break what R4 says of each element that is there.
func r4Mutants(o object, t *r4.Type, at string, out []mutant) []mutant {
	out = append(out, mutant{at + " has an unknown element", put(o, "shoeSize", "43")})
	for _, key := range slices.Sorted(maps.Keys(o)) {
		e, typ := t.Member(key)
		if e == nil {
			continue
		}
		path := at + "." + key
		v := o[key]
		if e.Min > 0 && len(o) > 1 {
			out = append(out, mutant{path + " is missing", without(o, key)})
		}
		if list, ok := v.([]any); ok {
			out = append(out, mutant{path + " is no list", put(o, key, list[0])}, mutant{path + " is an empty list", put(o, key, []any{})})
			if inner, ok := list[0].(object); ok {
				out = r4Inside(inner, e, typ, path+"[0]", out)
			}
			continue
		}
		out = append(out, mutant{path + " is a list", put(o, key, []any{v})})
		switch v := v.(type) {
		case object:
			if ref, ok := v["reference"].(string); ok && typ == "Reference" && len(e.Targets) > 0 && !strings.HasPrefix(ref, "#") && !slices.Contains(e.Targets, "Slot") {
				out = append(out, mutant{path + " points at another type", put(o, key, object{"reference": "Slot/1"})})
			}
			out = append(out, mutant{path + " is a text", put(o, key, "x")}, mutant{path + " has nothing in it", put(o, key, object{})})
			out = r4Inside(v, e, typ, path, out)
		case string:
			out = append(out, mutant{path + " is empty", put(o, key, "")}, mutant{path + " is an object", put(o, key, object{"a": "b"})})
			if e.Codes != nil {
				out = append(out, mutant{path + " has no such code", put(o, key, "no-such-code")})
			}
			if typ == "date" || typ == "dateTime" || typ == "instant" {
				out = append(out, mutant{path + " is no day", put(o, key, "2026-02-30")})
			}
		case json.Number, bool:
			out = append(out, mutant{path + " is in quotes", put(o, key, fmt.Sprint(v))})
		}
	}
	return out
}

func r4Inside(o object, e *r4.Element, typ, at string, out []mutant) []mutant {
	t := e.Own
	if t == nil && typ == "Resource" {
		typ, _ = o["resourceType"].(string)
	}
	if t == nil {
		t = r4.TypeOf(typ)
	}
	if t == nil {
		return out
	}
	return r4Mutants(o, t, at, out)
}

// differentials are the elements that the profiles of a chain state, and their own ids.
func differentials(raw map[string]fhir.Value, url string) (out []fhir.Value) {
	for n := 0; raw[url].Exists() && n < 20; n++ {
		for e := range raw[url].All("differential.element") {
			out = append(out, e)
		}
		url = raw[url].Text("baseDefinition")
	}
	return out
}

// parents are the objects in which the last step of a path stands.
func parents(o object, steps []string) []object {
	if len(steps) == 1 {
		return []object{o}
	}
	var out []object
	for key, v := range o {
		name := strings.TrimSuffix(steps[0], "[x]")
		if key != name && !(name != steps[0] && strings.HasPrefix(key, name)) {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, x := range list {
			if inner, ok := x.(object); ok {
				out = append(out, parents(inner, steps[1:])...)
			}
		}
	}
	return out
}

func keyOf(o object, step string) string {
	name, choice := strings.CutSuffix(step, "[x]")
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if k == name || choice && strings.HasPrefix(k, name) {
			return k
		}
	}
	return ""
}

// profileMutants break what a profile says of elements that are there.
func profileMutants(o object, elements []fhir.Value, label string) (out []mutant) {
	for _, e := range elements {
		steps := strings.Split(e.Text("path"), ".")[1:]
		if len(steps) == 0 {
			continue
		}
		if strings.Contains(e.Text("id"), ":") {
			out = append(out, sliceMutants(o, elements, e, label)...)
			continue
		}
		for _, in := range parents(o, steps) {
			key := keyOf(in, steps[len(steps)-1])
			if key == "" {
				continue
			}
			path := label + " " + e.Text("path")
			if m := e.Text("min"); m != "" && m != "0" {
				out = append(out, mutant{path + " is missing", without(in, key)})
			}
			list, isList := in[key].([]any)
			if e.Text("max") == "1" && isList {
				out = append(out, mutant{path + " is there twice", put(in, key, append(slices.Clone(list), list[0]))})
			}
			for m := range e.Children() {
				if strings.HasPrefix(m.Key(), "fixed") && m.IsString() && !isList {
					out = append(out, mutant{path + " is not the fixed one", put(in, key, m.Str()+"x")})
				}
			}
			if name, choice := strings.CutSuffix(steps[len(steps)-1], "[x]"); choice && e.Get("type").Exists() {
				wrong := name + "Base64Binary"
				allowed := false
				for t := range e.All("type") {
					allowed = allowed || t.Text("code") == "base64Binary"
				}
				if !allowed {
					out = append(out, mutant{path + " has the wrong type", func() func() {
						undo1 := without(in, key)()
						undo2 := put(in, wrong, "AAAA")()
						return func() { undo2(); undo1() }
					}})
				}
			}
			if b := e.Member("binding"); b.Text("strength") == "required" && listed[plainURL(b.Text("valueSet"))] {
				out = append(out, codeMutants(in, key, path)...)
			}
		}
	}
	return out
}

// sliceMutants break what is said of elements of a slice that is known by its system: an identifier's value, a coding's display.
func sliceMutants(o object, elements []fhir.Value, e fhir.Value, label string) (out []mutant) {
	i := strings.LastIndexByte(e.Text("id"), '.')
	if i < 0 || strings.Contains(e.Text("id")[i:], ":") {
		return nil
	}
	slice, system := e.Text("id")[:i], ""
	for _, other := range elements {
		if other.Text("id") == slice+".system" {
			system = other.Text("fixedUri")
		}
	}
	steps := strings.Split(e.Text("path"), ".")[1:]
	if system == "" {
		return nil
	}
	for _, in := range parents(o, steps) {
		key := keyOf(in, steps[len(steps)-1])
		if in["system"] != system || key == "" || key == "system" {
			continue
		}
		name := label + " " + e.Text("id")
		if m := e.Text("min"); m != "" && m != "0" {
			out = append(out, mutant{name + " is missing", without(in, key)})
		}
		if e.Text("max") == "0" {
			out = append(out, mutant{name + " is there", put(in, key, in[key])})
		}
		for m := range e.Children() {
			if strings.HasPrefix(m.Key(), "fixed") && m.IsString() {
				out = append(out, mutant{name + " is not the fixed one", put(in, key, m.Str()+"x")})
			}
		}
	}
	return out
}

// listed are value sets whose codes are all in the definitions, and to which UK Core binds as required.
var listed = map[string]bool{
	"https://fhir.hl7.org.uk/ValueSet/UKCore-BirthSex": true, "https://fhir.hl7.org.uk/ValueSet/UKCore-NHSNumberVerificationStatus": true, "https://fhir.hl7.org.uk/ValueSet/UKCore-MedicationChangeStatus": true,
}

func codeMutants(in object, key, path string) (out []mutant) {
	switch v := in[key].(type) {
	case string:
		out = append(out, mutant{path + " has no such code", put(in, key, "no-such-code")})
	case object:
		if list, ok := v["coding"].([]any); ok {
			out = append(out, mutant{path + " has no such code", put(v, "coding", []any{object{"system": list[0].(object)["system"], "code": "no-such-code"}})})
			out = append(out, mutant{path + " has no code", put(in, key, object{"text": "x"})})
		}
	}
	return out
}

// extensionMutants break each extension whose definition is known: its type of value, where it stands, how often.
func extensionMutants(o object, raw map[string]fhir.Value, label string) (out []mutant) {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		list, isList := o[key].([]any)
		if !isList {
			list = []any{o[key]}
		}
		for i, x := range list {
			inner, ok := x.(object)
			if !ok {
				continue
			}
			if url, _ := inner["url"].(string); key == "extension" && raw[url].Exists() {
				name := label + " extension " + raw[url].Text("name")
				out = append(out, profileMutants(inner, differentials(raw, url), name)...)
				moved := slices.Delete(slices.Clone(list), i, i+1)
				if anywhere := contextOf(raw[url], "Element"); !anywhere {
					out = append(out, mutant{name + " is where it may not stand", func() func() {
						undo := put(o, "meta", object{"extension": []any{x}})()
						undo2 := put(o, key, moved)
						if len(moved) == 0 {
							undo2 = without(o, key)
						}
						u := undo2()
						return func() { u(); undo() }
					}})
				}
			}
			out = append(out, extensionMutants(inner, raw, label)...)
		}
	}
	return out
}

func contextOf(d fhir.Value, expression string) bool {
	for x := range d.All("context") {
		if x.Text("expression") == expression || x.Text("type") != "element" {
			return true
		}
	}
	return !d.Get("context").Exists()
}

// every thins out what takes long; all of it in make soak.
func every(n int) int {
	if os.Getenv("TOMBOLO_SOAK") != "" {
		return 1
	}
	return n
}

// try runs mutants, and tells of those that are taken for right.
func try(t *testing.T, d *Definitions, name string, o object, asked []string, list []mutant) (n int) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range list {
		if seen[m.name] {
			continue
		}
		seen[m.name] = true
		undo := m.do()
		raw, err := json.Marshal(o)
		undo()
		if err != nil {
			t.Fatal(err)
		}
		r, err := fhir.Parse(raw)
		if err != nil {
			n++
			continue // refused before it is a resource
		}
		issues := Errors(d.Check(r, asked...))
		if strings.HasSuffix(m.name, "Extension.url is not the fixed one") { // another extension is allowed; that it is like a known one is told
			issues = slices.DeleteFunc(d.Check(r, asked...), func(i *fhir.Issue) bool { return !strings.Contains(i.Text, "Did you mean") })
		}
		if len(issues) == 0 {
			t.Errorf("%s: %s, and it is taken for right", name, m.name)
		}
		for _, i := range issues {
			if i.Expression == "" || i.Text == "" {
				t.Errorf("%s: %s: an issue without place or text: %v", name, m.name, i)
			}
		}
		n++
	}
	return n
}

func TestMutantsOfR4sExamplesAreRefused(t *testing.T) {
	n, tried := 0, 0
	all := examples(t, "r4-examples")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name]
		if n++; n%every(24) > 0 || len(r.Raw()) > 30_000 || known[name] != "" {
			continue
		}
		o := decode(t, r)
		tried += try(t, R4(), name, o, nil, r4Mutants(o, r4.TypeOf(r.Type()), r.Type(), nil))
	}
	t.Logf("%d mutants", tried)
}

func TestMutantsOfUKCoresExamplesAreRefused(t *testing.T) {
	d := ukCore(t)
	raw := rawProfiles(t)
	n, tried := 0, 0
	all := examples(t, "ukcore-examples")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name]
		if len(Errors(d.Check(r))) > 0 {
			continue
		}
		o := decode(t, r)
		url := profileOf(d, r)
		asked := []string{url}
		if url == "" {
			url, asked = plainURL(r.Text("meta.profile")), nil
		}
		list := profileMutants(o, differentials(raw, url), r.Type())
		list = append(list, extensionMutants(o, raw, r.Type())...)
		if n++; n%every(6) == 0 {
			list = append(list, r4Mutants(o, r4.TypeOf(r.Type()), r.Type(), nil)...)
		}
		tried += try(t, d, name, o, asked, list)
	}
	t.Logf("%d mutants", tried)
	if tried < 1500 {
		t.Errorf("only %d mutants were made", tried)
	}
}

// The summary that IPS publishes as an example, with each of its sections taken out, renamed or emptied; and its resources as above.
func TestMutantsOfIPSExamplesAreRefused(t *testing.T) {
	d, ips := ipsDefinitions(t)
	raw := map[string]fhir.Value{}
	for _, r := range packaged(t, ips, "package/StructureDefinition-") {
		raw[r.Text("url")] = r.Value()
	}
	required := map[string]bool{"11450-4": true, "48765-2": true, "10160-0": true} // problems, allergies, medications
	tried, sections := 0, 0
	for name, r := range packaged(t, ips, "example/") {
		o := decode(t, r)
		var list []mutant
		for _, e := range append(entriesOf(o), o) {
			typ, _ := e["resourceType"].(string)
			if typ == r.Type() {
				list = append(list, profileMutants(e, differentials(raw, ipsProfile(d, typ)), typ)...)
			}
			if typ != "Composition" {
				continue
			}
			all, _ := e["section"].([]any)
			for i, s := range all {
				code := s.(object)["code"].(object)["coding"].([]any)[0].(object)
				if !required[code["code"].(string)] {
					continue
				}
				sections++
				list = append(list, mutant{"section " + code["code"].(string) + " is missing", put(e, "section", slices.Delete(slices.Clone(all), i, i+1))},
					mutant{"section " + code["code"].(string) + " has another code", put(code, "code", "x")},
					mutant{"section " + code["code"].(string) + " is there twice", put(e, "section", append(slices.Clone(all), s))},
					mutant{"section " + code["code"].(string) + " has no title", without(s.(object), "title")})
			}
		}
		if u := ipsProfile(d, r.Type()); u != "" {
			tried += try(t, d, name, o, []string{u}, list)
		}
	}
	t.Logf("%d mutants, of %d sections among them", tried, sections)
	if tried < 100 || sections < 3 {
		t.Error("too few were made")
	}
}

func entriesOf(o object) (out []object) {
	list, _ := o["entry"].([]any)
	for _, e := range list {
		if r, ok := e.(object)["resource"].(object); ok {
			out = append(out, r)
		}
	}
	return out
}
