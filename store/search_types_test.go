package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
	"tombolo/search"
)

// What is drawn for elements and for what is asked of them: few values, so that they meet, and those on which the index could be wrong.
var (
	genAnyCode   = rapid.SampledFrom([]string{"active", "Active", "a", "a|b", "9990000018", strings.Repeat("long", 40), strings.Repeat("long", 41), "a\x00b"})
	genAnySystem = rapid.SampledFrom([]string{"", "http://hl7.org/fhir/x", fhir.SystemSNOMED, fhir.SystemNHSNumber, "http://fhir.nhs.net/Id/nhs-number"})
	genAnyDate   = rapid.SampledFrom([]string{"2026", "2026-03", "2026-03-29", "2026-03-29T00:30:00Z", "2026-03-28T23:59:59.5Z", "2025-12-31", "2026-03-29T01:00:00+01:00", "0001", "9999"})
	genAnyText   = rapid.SampledFrom([]string{"Pîke", "pike", "PI", "O’Brien", "obr", "GL99 6LM", "gl996", "Straße", "STRASS", strings.Repeat("é", 70), strings.Repeat("e", 130)})
	genAnyURI    = rapid.SampledFrom([]string{"https://x.example/q", "https://x.example/q/1", "https://x.example/q|2", "urn:oid:1.2", "urn:oid:1.2.3", strings.Repeat("https://long.example/", 7)})
	genAnyNumber = rapid.SampledFrom([]string{"5", "5.0", "5.4", "0", "-1", "100"})
	genAnyUnit   = rapid.SampledFrom([]string{"mmol/L", "mol/L", "mg", "boxes"})
	genAnyRef    = rapid.SampledFrom([]string{"Patient/ann", "Patient/ann/_history/2", "Patient/bob", "https://here/fhir/Patient/ann", "https://elsewhere/Patient/ann", "Group/a", "Practitioner/a",
		"Organization/b", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "#contained"})
	genPrefix = rapid.SampledFrom([]string{"", "eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap"})
)

// anyElement is an element of a kind, in one of the shapes that FHIR gives it.
func anyElement(t *rapid.T, k search.Kind) any {
	identifier := func() fhir.M {
		return fhir.M{"system": genAnySystem.Draw(t, "system"), "value": genAnyCode.Draw(t, "value"), "type": fhir.Code("types", "MR", "")}
	}
	period := func() fhir.M {
		from, till := genAnyDate.Draw(t, "from"), genAnyDate.Draw(t, "till")
		return []fhir.M{{"start": from}, {"end": till}, {"start": from, "end": till}}[rapid.IntRange(0, 2).Draw(t, "ends")]
	}
	shape := rapid.IntRange(0, 3).Draw(t, "shape")
	switch k {
	case search.KindToken:
		switch shape {
		case 0:
			return genAnyCode.Draw(t, "code")
		case 1:
			return rapid.Bool().Draw(t, "boolean")
		case 2:
			return fhir.CodeableConcept{Text: genAnyText.Draw(t, "text"), Coding: []fhir.Coding{{System: genAnySystem.Draw(t, "system"), Code: genAnyCode.Draw(t, "code")}, {System: "s", Code: "second"}}}
		}
		return identifier()
	case search.KindReference:
		switch shape {
		case 0:
			return genAnyRef.Draw(t, "canonical")
		case 1:
			return fhir.M{"identifier": identifier()}
		}
		return fhir.M{"reference": genAnyRef.Draw(t, "reference")}
	case search.KindDate:
		switch shape {
		case 0:
			return period()
		case 1:
			return fhir.M{"event": []string{genAnyDate.Draw(t, "once"), genAnyDate.Draw(t, "again")}}
		}
		return genAnyDate.Draw(t, "date")
	case search.KindString:
		switch shape {
		case 0:
			return fhir.M{"family": genAnyText.Draw(t, "family"), "given": []string{genAnyText.Draw(t, "given")}}
		case 1:
			return fhir.M{"city": genAnyText.Draw(t, "city"), "postalCode": genAnyText.Draw(t, "postcode")}
		}
		return genAnyText.Draw(t, "text")
	case search.KindURI:
		return genAnyURI.Draw(t, "uri")
	case search.KindNumber:
		return json.Number(genAnyNumber.Draw(t, "number"))
	}
	return fhir.Quantity{Value: json.Number(genAnyNumber.Draw(t, "number")), System: fhir.SystemUCUM, Code: genAnyUnit.Draw(t, "unit"), Unit: "unit"}
}

// anyValue is a value to ask for by a parameter of a kind.
func anyValue(t *rapid.T, k search.Kind, modifier string) string {
	token := func() string {
		code, system := genAnyCode.Draw(t, "code"), genAnySystem.Draw(t, "system")
		return rapid.SampledFrom([]string{search.Escape(code), search.Token(system, code), "|" + search.Escape(code), search.Escape(system) + "|", "true", "s|second"}).Draw(t, "token")
	}
	switch {
	case modifier == "missing":
		return rapid.SampledFrom([]string{"true", "false"}).Draw(t, "missing")
	case modifier == "text":
		return search.Escape(genAnyText.Draw(t, "words"))
	case modifier == "of-type":
		return "types|MR|" + search.Escape(genAnyCode.Draw(t, "number"))
	case modifier == "identifier" || k == search.KindToken:
		return token()
	}
	switch k {
	case search.KindReference:
		if ref := genAnyRef.Draw(t, "reference"); modifier == "" {
			return search.Escape(ref)
		}
		return rapid.SampledFrom([]string{"ann", "a", "b"}).Draw(t, "id")
	case search.KindDate:
		return genPrefix.Draw(t, "prefix") + genAnyDate.Draw(t, "date")
	case search.KindString:
		return search.Escape(genAnyText.Draw(t, "text"))
	case search.KindURI:
		return search.Escape(genAnyURI.Draw(t, "uri"))
	case search.KindNumber:
		return genPrefix.Draw(t, "prefix") + genAnyNumber.Draw(t, "number")
	}
	number := genPrefix.Draw(t, "prefix") + genAnyNumber.Draw(t, "number")
	return number + rapid.SampledFrom([]string{"", "||" + genAnyUnit.Draw(t, "unit"), "|" + fhir.SystemUCUM + "|" + genAnyUnit.Draw(t, "unit")}).Draw(t, "of")
}

var modifiers = map[search.Kind][]string{
	search.KindToken: {"", "", "not", "text", "of-type", "missing"}, search.KindReference: {"", "", "identifier", "Patient", "Practitioner", "missing"},
	search.KindString: {"", "", "exact", "contains", "missing"}, search.KindURI: {"", "above", "below", "missing"}, search.KindDate: {"", "", "", "missing"},
	search.KindNumber: {"", "", "", "missing"}, search.KindQuantity: {"", "", "", "missing"}, search.KindComposite: {"", "", "", "missing"},
}

// setAt gives a resource an element that a parameter looks at. path is one alternative of params.txt.
func setAt(m map[string]any, path string, k search.Kind, v any) {
	steps := cutOutside(path, '.')
	for i, st := range steps {
		name, filter, _ := strings.Cut(strings.TrimSuffix(st, ")"), "(")
		if name, choice := strings.CutSuffix(name, "[x]"); choice {
			st = name + map[search.Kind]string{search.KindDate: "DateTime", search.KindQuantity: "Quantity", search.KindReference: "Reference", search.KindToken: "CodeableConcept",
				search.KindString: "String", search.KindURI: "Uri"}[k]
			if _, object := v.(fhir.M); object && k == search.KindDate {
				st = name + "Period"
			}
		} else {
			st = name
		}
		if st == "" || st == "." {
			continue
		}
		key, value, keyed := strings.Cut(filter, "=")
		if i == len(steps)-1 {
			m[st] = v
			if of, object := v.(fhir.M); object && keyed {
				of[key] = value
			}
			return
		}
		if st == "meta" { // the one element on the way to others that is no list anywhere
			next, _ := m[st].(map[string]any)
			if next == nil {
				next = map[string]any{}
				m[st] = next
			}
			m = next
			continue
		}
		list, _ := m[st].([]any)
		var next map[string]any
		if len(list) == 1 {
			next, _ = list[0].(map[string]any)
		}
		if next == nil {
			next = map[string]any{}
			m[st] = []any{next}
		}
		if keyed {
			setAt(next, key, search.KindToken, value)
		}
		m = next
	}
}

// cutOutside splits at a byte, but not inside parentheses.
func cutOutside(s string, sep byte) (out []string) {
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case sep:
			if depth == 0 {
				out, from = append(out, s[from:i]), i+1
			}
		}
	}
	return append(out, s[from:])
}

// compound are the parts of a composite: where they stand together, and the kind and paths of each.
func compound(d search.Def) (base string, kinds []search.Kind, paths []string) {
	pieces := strings.Split(d.Path, ";")
	for _, p := range pieces[1:] {
		k, path, _ := strings.Cut(p, ":")
		kinds, paths = append(kinds, search.Kind(k)), append(paths, path)
	}
	return pieces[0], kinds, paths
}

func anyResource(t *rapid.T, typ, id string, defs []search.Def) *fhir.Resource {
	m := map[string]any{}
	one := func(path string) string { return rapid.SampledFrom(cutOutside(path, '|')).Draw(t, "alternative") }
	for range rapid.IntRange(0, 4).Draw(t, "elements") {
		d := rapid.SampledFrom(defs).Draw(t, "of")
		switch {
		case d.Name == "_id" || d.Name == "_lastUpdated" || d.Path == "" || d.Name == "near":
		case d.Name == "_text":
			m["text"] = map[string]any{"div": "<div>" + "pike" + "</div>"}
		case d.Kind == search.KindComposite:
			base, kinds, paths := compound(d)
			base = one(base)
			for i, k := range kinds {
				path, whole := strings.CutPrefix(paths[i], "^")
				if path = one(path); !whole && base != "." {
					path = base + "." + path
				}
				setAt(m, path, k, anyElement(t, k))
			}
		default:
			setAt(m, one(d.Path), d.Kind, anyElement(t, d.Kind))
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var fields fhir.M
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatalf("%v", err)
	}
	return fhir.New(typ, id, fields)
}

// anyParam is one parameter of a type, with values that it takes.
func anyParam(t *rapid.T, typ string, defs []search.Def) search.Param {
	for {
		d := rapid.SampledFrom(defs).Draw(t, "by")
		p := search.Param{Name: d.Name}
		switch {
		case d.Name == "_id":
			p.Values = []string{rapid.SampledFrom([]string{"a", "B", "none"}).Draw(t, "id")}
		case d.Name == "near":
			continue
		case d.Name == "_text" || d.Name == "_content":
			p.Values = []string{search.Escape(genAnyText.Draw(t, "words"))}
		default:
			p.Modifier = rapid.SampledFrom(modifiers[d.Kind]).Draw(t, "modifier")
			n := 1
			if p.Modifier != "missing" {
				n = rapid.IntRange(1, 3).Draw(t, "values")
			}
			for range n {
				if d.Kind != search.KindComposite || p.Modifier == "missing" {
					p.Values = append(p.Values, anyValue(t, d.Kind, p.Modifier))
					continue
				}
				_, kinds, _ := compound(d)
				var parts []string
				for _, k := range kinds {
					parts = append(parts, strings.ReplaceAll(anyValue(t, k, ""), "$", `\$`))
				}
				p.Values = append(p.Values, strings.Join(parts, "$"))
			}
		}
		if _, err := search.Compile(search.Query{Type: typ, Params: []search.Param{p}}); err == nil { // not each value can be asked for: "|" is none
			return p
		}
	}
}

// Of every type of resource, by every kind of parameter that R4 gives it, with every modifier and prefix, sorted by any of them: the store's answer is that of search.Matches
// and search.Sort over all there is.
func TestSearchOfEveryTypeIsMatchesOverEverything(t *testing.T) {
	run := newRuns(t)
	types := search.Types()
	var rare []string // the types that have the rarer kinds of parameters
	for _, typ := range types {
		if slices.ContainsFunc(search.Defs(typ), func(d search.Def) bool { return d.Kind == search.KindNumber || d.Kind == search.KindComposite }) {
			rare = append(rare, typ)
		}
	}
	seen := map[string]bool{}
	round := types // of this round
	check := func(t *rapid.T) {
		w := run.world(t)
		defer w.done()
		for range 3 {
			typ := rapid.SampledFrom(round).Draw(t, "type")
			if rapid.IntRange(0, 2).Draw(t, "rare") == 0 {
				typ = rapid.SampledFrom(rare).Draw(t, "rare type")
			}
			seen[typ] = true
			all := search.Defs(typ)
			few := []search.Def{}
			byKind := map[search.Kind][]search.Def{}
			for _, d := range all {
				byKind[d.Kind] = append(byKind[d.Kind], d)
			}
			for range 4 { // few, so that resources and questions meet, and of each kind as often
				kind := rapid.SampledFrom(slices.Sorted(maps.Keys(byKind))).Draw(t, "kind")
				few = append(few, rapid.SampledFrom(byKind[kind]).Draw(t, "def"))
			}
			for i := range rapid.IntRange(3, 12).Draw(t, "resources") {
				home := Home{Source: rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "source"), Patient: genPatient.Draw(t, "home")}
				id := rapid.SampledFrom([]string{"a", "b", "B", "a-1", "e" + strconv.Itoa(i)}).Draw(t, "id")
				w.put(t, home, anyResource(t, typ, id, few))
			}
			for range 8 {
				q := search.Query{Type: typ, Count: rapid.IntRange(1, 5).Draw(t, "count"), Base: "https://here/fhir"}
				for range rapid.IntRange(1, 2).Draw(t, "params") {
					q.Params = append(q.Params, anyParam(t, typ, few))
				}
				w.check(t, w.narrowed(t, q))
			}
		}
	}
	lacking := func() (out []string) {
		for kind, of := range modifiers {
			for _, m := range of {
				if way := strings.TrimSuffix(string(kind)+":"+m, ":"); run.tried[way] == 0 {
					out = append(out, way)
				}
			}
		}
		for _, kind := range []search.Kind{search.KindDate, search.KindNumber, search.KindQuantity} {
			for _, prefix := range []string{"eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap"} {
				if way := string(kind) + "=" + prefix; run.tried[way] == 0 {
					out = append(out, way)
				}
			}
		}
		for _, typ := range types {
			if !seen[typ] {
				out = append(out, typ)
			}
		}
		slices.Sort(out)
		return out
	}
	run.check(t, check, func() []string {
		if round = slices.DeleteFunc(slices.Clone(types), func(typ string) bool { return seen[typ] }); len(round) == 0 {
			round = types
		}
		return lacking()
	})
}

// memory is the searcher that cannot be wrong: it looks at everything.
type memory struct {
	t   *rapid.T
	all []*fhir.Resource // in the order of records
}

func (m memory) Search(_ context.Context, q search.Query) (*search.Page, error) {
	p := &search.Page{}
	for _, r := range m.all {
		ok, err := search.Matches(q, r)
		if err != nil {
			return nil, err
		}
		if ok {
			p.Resources = append(p.Resources, r)
		}
	}
	p.Total = len(p.Resources)
	return p, nil
}

// What is asked of the resources at the other ends of references is asked of the store as it is of everything there is: chains, chains of chains, _has, _list, and the modifiers that need
// value sets and code systems.
func TestLinkedSearchesAreMatchesOverEverything(t *testing.T) {
	run := newRuns(t)
	queries := []string{
		"Observation?subject:Patient.family=smith", "Observation?patient.gender=male", "Observation?patient.organization.name=north", "Observation?subject:Patient.organization:Organization.name=south",
		"Observation?performer:Practitioner.family=jones&code=c1", "Patient?_has:Observation:patient:code=c1", "Patient?_has:Observation:subject:status=final&gender=male", "Patient?organization.name=north",
		"Patient?_has:Observation:patient:performer:Practitioner.family=jones", "Organization?_has:Patient:organization:family=smith", "Organization?_has:Patient:organization:_has:Observation:patient:code=c2",
		"Practitioner?_has:Observation:performer:patient.family=smith", "Observation?patient._has:Observation:patient:code=c2", "Patient?_list=l1", "Observation?_list=l1&code=c1", "Observation?_list=none",
		"Observation?code:in=http://sets/one", "Observation?code:not-in=http://sets/one", "Observation?code:below=sys|c1", "Observation?code:above=sys|c2", "Observation?code:in=http://sets/none",
		"Observation?code=sys|c1&_has:AuditEvent:entity:type=x", "Observation?code=sys|c1&_list=l1", "Patient?general-practitioner.family=jones",
	}
	found := map[string]bool{}
	check := func(t *rapid.T) {
		w := run.world(t)
		defer w.done()
		for range rapid.IntRange(5, 30).Draw(t, "changes") {
			w.linked(t)
		}
		for range 12 {
			text := rapid.SampledFrom(queries).Draw(t, "query")
			asked := parseQuery(t, text)
			mem := memory{t: t, all: w.everything(t)}
			want, err := search.Resolve(context.Background(), mem, asked)
			got, dbErr := search.Resolve(context.Background(), w.db, asked)
			if (err == nil) != (dbErr == nil) {
				t.Fatalf("%s: %v of the store and %v of all there is", text, dbErr, err)
			}
			if err != nil {
				continue
			}
			refs := w.expect(t, want)
			found[text] = found[text] || len(refs) > 0
			w.answers(t, got, refs)
		}
	}
	// These find nothing by what they ask.
	never := map[string]bool{"Observation?_list=none": true, "Observation?code:in=http://sets/none": true, "Observation?code=sys|c1&_has:AuditEvent:entity:type=x": true, "Patient?general-practitioner.family=jones": true}
	lacking := func() (out []string) {
		for _, q := range queries {
			if !found[q] && !never[q] {
				out = append(out, q)
			}
		}
		return out
	}
	run.check(t, check, lacking)
}

// linked puts one resource of those that are asked for through each other.
func (w *world) linked(t *rapid.T) {
	ref := func(typ string) fhir.Reference {
		return fhir.Reference{Reference: typ + "/" + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "to")}
	}
	id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
	home := Home{Source: rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "source"), Patient: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "home")}
	code := func() string { return rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "code") }
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0:
		w.put(t, home, fhir.New("Organization", id, fhir.M{"name": rapid.SampledFrom([]string{"North", "South"}).Draw(t, "name")}))
	case 1:
		w.put(t, home, fhir.New("Practitioner", id, fhir.M{"name": []fhir.M{{"family": genFamily.Draw(t, "family")}}}))
	case 2, 3:
		w.put(t, home, fhir.New("Patient", id, fhir.M{"name": []fhir.M{{"family": genFamily.Draw(t, "family")}}, "gender": rapid.SampledFrom([]string{"male", "female"}).Draw(t, "gender"),
			"managingOrganization": ref("Organization")}))
	case 4, 5:
		w.put(t, home, fhir.New("Observation", id+strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "nth")), fhir.M{"status": "final", "code": fhir.Code("sys", code(), ""), "subject": ref("Patient"),
			"performer": []fhir.Reference{ref("Practitioner")}}))
	case 6:
		w.put(t, home, fhir.New("List", "l1", fhir.M{"status": "current", "mode": "working", "entry": []fhir.M{{"item": ref("Patient")},
			{"item": fhir.Reference{Reference: "Observation/" + id + strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "nth"))}}}}))
	case 7:
		if rapid.Bool().Draw(t, "hierarchy") {
			w.put(t, home, fhir.New("CodeSystem", "sys", fhir.M{"url": "sys", "status": "active", "content": "complete", "concept": []fhir.M{{"code": "c1", "concept": []fhir.M{{"code": "c2"}}}}}))
		} else {
			w.put(t, home, fhir.New("ValueSet", "one", fhir.M{"url": "http://sets/one", "status": "active", "compose": fhir.M{"include": []fhir.M{{"system": "sys", "concept": []fhir.M{{"code": code()}}}}}}))
		}
	}
}
