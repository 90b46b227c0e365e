package search

import (
	"net/url"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
)

// What matches is always found by the index: any type, any parameters, values that are drawn from few so that they meet.
func TestWhatMatchesIsIndexed(t *testing.T) {
	matched, planned := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(Types()).Draw(t, "type")
		defs := Defs(typ)
		fields := fhir.M{}
		var used []Def
		for range rapid.IntRange(1, 4).Draw(t, "fields") {
			d := rapid.SampledFrom(defs).Draw(t, "def")
			if d.Name == "_id" || d.Kind == KindComposite {
				continue
			}
			put(fields, rapid.SampledFrom(d.expr).Draw(t, "alt"), drawElement(t, d.Kind))
			used = append(used, d)
		}
		r := fhir.New(typ, rapid.SampledFrom(ids).Draw(t, "id"), fields)
		q := Query{Type: typ, Base: "https://us.example/fhir"}
		for range rapid.IntRange(1, 2).Draw(t, "params") {
			d := rapid.SampledFrom(append(used, defs...)[:max(len(used), 1)]).Draw(t, "asked")
			if d.Kind != KindComposite {
				q.Params = append(q.Params, Param{Name: d.Name, Modifier: rapid.SampledFrom([]string{"", "", "", modifierFor(d.Kind)}).Draw(t, "mod"),
					Values: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawValue(t, d.Kind) }), 1, 2).Draw(t, "values")})
			}
		}
		ok, err := Matches(q, r)
		if err == nil && ok {
			matched++
			planned += len(Keys(q))
			checkFindable(t, q, r)
		}
	})
	if matched == 0 || planned == 0 {
		t.Errorf("the property was never put to the test: %d matches, %d look-ups", matched, planned)
	}
	t.Logf("%d matches, %d look-ups", matched, planned)
}

var (
	ids     = []string{"a", "a-1", "b"}
	codes   = []string{"active", "Active", "a", "a|b", "9990000018", "999 000 0018", strings.Repeat("long", 40), strings.Repeat("long", 41)}
	systems = []string{"", "http://hl7.org/fhir/x", "http://snomed.info/sct", fhir.SystemNHSNumber, "http://fhir.nhs.net/Id/nhs-number"}
	dates   = []string{"2026", "2026-03", "2026-03-29", "2026-03-29T00:30:00Z", "2026-03-28T23:59:59.5Z", "2026-03-30", "2025-12-31",
		"2026-03-29T01:00:00+01:00", "0001", "9999", "9999-12-31T23:59:59Z", "0000-01-01"}
	texts = []string{"Pîke", "pike", "PI", "O’Brien", "obr", "o'b", "GL99 6LM", "gl996", "--", "Straße", "STRASS", "ﬁne", "fi",
		strings.Repeat("é", 70), strings.Repeat("e", 130)}
	refs = []string{"Patient/a", "Patient/a/_history/2", "https://us.example/fhir/Patient/a", "https://x.example/Patient/a", "Group/a",
		"urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "https://x.example/q|2", "https://x.example/q", "#contained"}
)

func modifierFor(k Kind) string {
	return map[Kind]string{KindReference: "identifier", KindString: "exact", KindURI: "below", KindToken: "text"}[k]
}

func drawElement(t *rapid.T, k Kind) any {
	one := func(from []string) string { return rapid.SampledFrom(from).Draw(t, "part") }
	identifier := func() fhir.M { return fhir.M{"system": one(systems), "value": one(codes)} }
	switch n := rapid.IntRange(0, 3).Draw(t, "shape"); k {
	case KindToken:
		return []any{one(codes), true, fhir.Code(one(systems), one(codes), ""), identifier()}[n]
	case KindReference:
		return []any{one(refs), fhir.M{"reference": one(refs)}, fhir.M{"identifier": identifier()},
			fhir.M{"reference": one(refs), "identifier": identifier()}}[n]
	case KindDate:
		return []any{one(dates), fhir.M{"start": one(dates), "end": one(dates)}, fhir.M{"end": one(dates)},
			fhir.M{"event": []string{one(dates), one(dates)}}}[n]
	case KindString:
		return []any{one(texts), []string{one(texts), one(texts)}, fhir.M{"family": one(texts), "given": []string{one(texts)}},
			fhir.M{"postalCode": one(texts)}}[n]
	case KindURI:
		return one(refs)
	}
	return fhir.M{"value": 5}
}

func drawValue(t *rapid.T, k Kind) string {
	one := func(from []string) string { return rapid.SampledFrom(from).Draw(t, "piece") }
	switch n := rapid.IntRange(0, 2).Draw(t, "form"); k {
	case KindToken:
		return []string{Escape(one(codes)), Token(one(systems[1:]), one(codes)), "|" + Escape(one(codes))}[n]
	case KindReference:
		return []string{one(refs), one(ids), Token(one(systems[1:]), one(codes))}[n]
	case KindDate:
		return rapid.SampledFrom([]string{"", "eq", "ge", "gt", "le", "lt", "sa", "eb", "ap", "ne"}).Draw(t, "prefix") + one(dates)
	case KindString:
		return Escape(one(texts))
	case KindURI:
		return Escape(one(refs))
	}
	return "5"
}

// put sets the element at a path; the members on the way are objects, or lists of one.
func put(m fhir.M, steps []step, v any) {
	for i, st := range steps {
		name := st.name
		if st.choice {
			name += map[bool]string{true: "DateTime", false: "Period"}[reflect.TypeOf(v).Kind() == reflect.String]
		}
		if i == len(steps)-1 {
			m[name] = []any{v}
			return
		}
		next, _ := m[name].(fhir.M)
		if next == nil {
			next = fhir.M{}
			if st.key != "" {
				next[st.key] = st.value
			}
			m[name] = next
		}
		m = next
	}
}

// A query written as a URL and read back is the same query.
func TestURLValuesRoundTrip(t *testing.T) {
	v, _ := url.ParseQuery(`family=o\,b,pike&birthdate=ge1940&birthdate=lt1950&identifier=https://x|1&_sort=-birthdate,family&_count=20&_total=none&_elements=name,gender&name:exact=A\|B`)
	q, issues, err := Parse("Patient", v, true)
	if err != nil || len(issues) > 0 {
		t.Fatal(err, issues)
	}
	again, _, err := Parse("Patient", q.URLValues(), true)
	if err != nil || !reflect.DeepEqual(q, again) {
		t.Errorf("read back %+v (%v), want %+v", again, err, q)
	}
	want := Query{Type: "Patient", Count: 20, Total: "none", Elements: []string{"name", "gender"},
		Sort: []SortKey{{"birthdate", true}, {"family", false}},
		Params: []Param{{Name: "birthdate", Modifier: "", Values: []string{"ge1940"}}, {Name: "birthdate", Modifier: "", Values: []string{"lt1950"}}, {Name: "family", Modifier: "", Values: []string{`o\,b`, "pike"}},
			{Name: "identifier", Modifier: "", Values: []string{"https://x|1"}}, {Name: "name", Modifier: "exact", Values: []string{`A\|B`}}}}
	if !reflect.DeepEqual(q, want) {
		t.Errorf("parsed %+v\nwant   %+v", q, want)
	}
}
