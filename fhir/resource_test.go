package fhir

import (
	"errors"
	"strings"
	"testing"
)

func TestPathsGoThroughArrays(t *testing.T) {
	r, err := Parse([]byte(`{"resourceType":"Patient","id":"p","name":[{"given":["Ann","Mary"]},{"given":["Nan"]}],"active":true,"multipleBirthInteger":2}`))
	if err != nil {
		t.Fatal(err)
	}
	var given []string
	for v := range r.Value().All("name.given") {
		given = append(given, v.Str())
	}
	if got := strings.Join(given, " "); got != "Ann Mary Nan" {
		t.Errorf("name.given is %q", got)
	}
	if r.Text("multipleBirthInteger") != "2" || r.Text("active") != "true" || !r.Get("active").Bool() || r.Get("name.family").Exists() {
		t.Error("numbers, booleans and what is absent are not read as they stand")
	}
}

func TestWhatIsNotAResourceIsRefused(t *testing.T) {
	for json, want := range map[string]IssueType{
		``: Structure, `[]`: Structure, `"x"`: Structure, `{}`: Required, `{"resourceType":"Hat"}`: NotSupported,
		`{"resourceType":"Patient","id":"a b"}`: ValueError, `{"resourceType":"Patient","id":"1","id":"2"}`: Structure,
	} {
		if _, err := Parse([]byte(json)); !Is(err, want) {
			t.Errorf("%s: %v, want %s", json, err, want)
		}
	}
}

func TestWithAndWithoutChangeOneMemberOnly(t *testing.T) {
	raw := `{ "resourceType":"Observation", "id":"o" , "valueQuantity":{"value":1.00, "unit":"é"}, "_status":{"id":"x"} }`
	r, err := Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.With("id", "new").Raw()), strings.Replace(raw, `"o"`, `"new"`, 1); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if w := r.With("note", []M{{"text": "a<b"}}); w.Text("note.text") != "a<b" || w.Text("valueQuantity.value") != "1.00" {
		t.Errorf("got %s", w.Raw())
	}
	if w := r.Without("valueQuantity"); w.Get("valueQuantity").Exists() || w.Text("_status.id") != "x" || w.ID() != "o" {
		t.Errorf("got %s", w.Raw())
	}
}

func TestNHSNumbers(t *testing.T) {
	for s, ok := range map[string]bool{"9990000107": true, "999 000 0107": true, "999-000-0107": true, "9990000108": false, "999000010": false,
		"99900001070": false, "0000000000": false, "9999999999": false, "1111111111": false, "999000010a": false, "": false, "９９９0000107": false} {
		n, err := ParseNHSNumber(s)
		if (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
		if ok && (n.Digits() != "9990000107" || n.Spaced() != "999 000 0107") {
			t.Errorf("%q reads %s", s, n.Spaced())
		}
		if strings.Contains(n.String(), "999") || strings.Contains(n.LogValue().String(), "999") {
			t.Error("printing a number prints its digits")
		}
		if err != nil && s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats what was typed: %v", err)
		}
	}
}

func TestDatesMeanTheSpanTheyName(t *testing.T) {
	for s, want := range map[string]string{
		"2026": "2026-01-01T00:00:00Z/2027-01-01T00:00:00Z", "2026-02": "2026-02-01T00:00:00Z/2026-03-01T00:00:00Z",
		"2026-07-01":                "2026-06-30T23:00:00Z/2026-07-01T23:00:00Z", // British Summer Time
		"2026-07-01T10:00:00+01:00": "2026-07-01T09:00:00Z/2026-07-01T09:00:01Z",
		"2026-07-01T10:00:00.123Z":  "2026-07-01T10:00:00.123Z/2026-07-01T10:00:00.124Z",
	} {
		got, err := ParseDate(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		const layout = "2006-01-02T15:04:05.999Z07:00"
		if g := got.Start.UTC().Format(layout) + "/" + got.End.UTC().Format(layout); g != want {
			t.Errorf("%s is %s, want %s", s, g, want)
		}
	}
	for _, s := range []string{"", "26", "2026-13", "2026-02-30", "yesterday", "2026-01-01T25:00:00Z", "2026-01-01T10:00:00.Z", "2026-1-1"} {
		if _, err := ParseDate(s); !Is(err, ValueError) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestIssuesCarryTheirTypeThroughWrapping(t *testing.T) {
	inner := Errorf(Conflict, "somebody came first")
	outer := Errorf(NoStore, "write: %w", inner)
	if !Is(outer, NoStore) || !errors.Is(outer, error(inner)) || IssueOf(nil) != nil {
		t.Errorf("got %v", outer)
	}
	o := Outcome(inner.At("Patient.name").From("gp"))
	if o.Text("issue.code") != "conflict" || o.Text("issue.expression") != "Patient.name" || o.Text("issue.details.coding.code") != "gp" {
		t.Errorf("got %s", o.Raw())
	}
}
