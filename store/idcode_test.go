package store

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/kv"
)

// someID draws an id: a UUID, one that is nearly one, one of this program's own, a number, or any.
func someID() *rapid.Generator[string] {
	uuid := rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	return rapid.OneOf(uuid,
		rapid.Custom(func(t *rapid.T) string {
			id := uuid.Draw(t, "uuid")
			id = id[:rapid.IntRange(1, len(id)).Draw(t, "cut")] + rapid.StringMatching(`[0-9a-zA-F.-]{0,28}`).Draw(t, "rest")
			return id
		}),
		rapid.StringMatching(`[0-9a-hjkmnp-tv-z]{26}`), rapid.StringMatching(`[0-9]{1,10}`), rapid.StringMatching(`[A-Za-z0-9.-]{1,64}`))
}

// Codes of ids stand for one id each, lie in the order of the ids, and none is the beginning of another.
func TestCodesOfIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someID().Draw(t, "a"), someID().Draw(t, "b")
		x, y := appendID(nil, a), appendID(nil, b)
		behind := string(x) + rapid.StringN(0, 5, -1).Draw(t, "behind")
		if id, n, ok := idOf(behind); !ok || id != a || n != len(x) {
			t.Fatalf("%q became %x and came back as %q, %d bytes, %v", a, x, id, n, ok)
		}
		if got, want := bytes.Compare(x, y), strings.Compare(a, b); got != want {
			t.Fatalf("%q and %q compare as %d, and their codes as %d", a, b, want, got)
		}
		if a != b && bytes.HasPrefix(y, x) {
			t.Fatalf("the code of %q begins as that of %q", b, a)
		}
	})
	for id, most := range map[string]int{"0faff814-3b44-4e7f-a9df-5d4d274180a9": 20, "4rj2k1mz0v7h3x9q5t8w6n2p4c": 21, "1": 2, "big-1": 6} {
		if b := appendID(nil, id); len(b) > most {
			t.Errorf("%s takes %d bytes, more than %d", id, len(b), most)
		}
	}
}

// What is no code of an id is told, and nothing else comes of it.
func FuzzIDOf(f *testing.F) {
	f.Add(string(appendID(nil, "0faff814-3b44-4e7f-a9df-5d4d274180a9")))
	f.Add("\xff\xff\xff")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, n, ok := idOf(s)
		if ok && (string(appendID(nil, id)) != s[:n]) {
			t.Errorf("%x was read as %q, whose code is %x", s, id, appendID(nil, id))
		}
	})
}

// Places at the ends of index keys lie in the order in which a search answers, and come back, whatever stands before them.
func TestPlacesInIndexKeys(t *testing.T) {
	somePlace := rapid.Custom(func(t *rapid.T) place {
		if rapid.Bool().Draw(t, "nobody's") {
			return place{kv.Part(sourcePrefix + rapid.SampledFrom([]string{"rx1-pas", "rx1", "a_b", "ä"}).Draw(t, "source")), someID().Draw(t, "id")}
		}
		return place{patientPart(someID().Draw(t, "patient")), someID().Draw(t, "id")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := somePlace.Draw(t, "a"), somePlace.Draw(t, "b")
		value := rapid.SampledFrom([]string{"", "x", "\x00", "\x00\x01", "a\x00\xff"}).Draw(t, "value") + rapid.String().Draw(t, "more")
		x, y := indexKey("Observation", "code", value, a), indexKey("Observation", "code", value, b)
		if at, ok := placeOf(x.Key); !ok || at != a {
			t.Fatalf("%v came back as %v, %v", a, at, ok)
		}
		if got, want := strings.Compare(x.Key, y.Key), a.compare(b); got != want {
			t.Fatalf("%v and %v compare as %d, and their keys as %d", a, b, want, got)
		}
		if in, want := strings.HasPrefix(y.Key, indexValue("Observation", "code", value)+partCode(a.part)), a.part == b.part; in != want {
			t.Fatalf("that %v is in %s is said to be %v", b, a.part, in)
		}
	})
}

// The short names of the index's partitions are of one parameter each.
func TestPartitionsOfTheIndexAreToldApart(t *testing.T) {
	names := 0
	for part, name := range indexNames().names {
		names++
		if indexPart(name.typ, name.param) != part || !isIndex(part) {
			t.Errorf("%s is not the partition of %v", part, name)
		}
	}
	if names < 500 || names != len(indexNames().parts) {
		t.Errorf("%d partitions for %d parameters", names, len(indexNames().parts))
	}
	if typ, param := ofIndex(indexPart("Observation", "code")); typ != "Observation" || param != "code" {
		t.Errorf("Observation's code is read as %s, %s", typ, param)
	}
}

// Tokens of two values are never written alike, and each begins with its code and the bar, also where somebody's system looks like a short one.
func TestShortTokens(t *testing.T) {
	system := rapid.OneOf(rapid.SampledFrom(systems), rapid.SampledFrom([]string{"", hl7Prefix, hl7Prefix + "other", "\x02", "\x02other", "\x03", "\x80", "\x81x", "urn:oid:1.2"}), rapid.String())
	value := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"8867-4", "", "a|b", "x"}).Draw(t, "code") + "|" + system.Draw(t, "system")
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := value.Draw(t, "a"), value.Draw(t, "b")
		x, y := shortToken(a), shortToken(b)
		if (a == b) != (x == y) {
			t.Fatalf("%q is written %q, and %q %q", a, x, b, y)
		}
		if i := strings.LastIndexByte(a, '|') + 1; !strings.HasPrefix(x, a[:i]) {
			t.Fatalf("%q is written %q", a, x)
		}
	})
	if got := indexKey("Observation", "code", "8867-4|http://loinc.org", place{"p/a", "b"}).Key; strings.Contains(got, "loinc") {
		t.Errorf("the key is %q", got)
	}
	if got := indexKey("Patient", "family", "x|http://loinc.org", place{"p/a", "b"}).Key; !strings.Contains(got, "|http://loinc.org") {
		t.Errorf("a name is written as a token: %q", got)
	}
}
