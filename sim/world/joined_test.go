package world

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// What a FHIR client expects of a search holds inside one person's joined record too: pages, order, parts, what is linked, and reading each entry by its id, also those that were
// asked live.
func TestAJoinedRecordIsSearchedLikeAnyServersRecord(t *testing.T) {
	c := severn(t)
	status, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil || status != 200 {
		t.Fatal(status, err)
	}
	id := personOf(b)
	doctor := sim.TokenPrefix + "doctor"
	ask := func(path string) *bundle {
		t.Helper()
		status, b := get(t, c.w, path, doctor)
		if status != 200 {
			t.Fatalf("%s: %d %.400s", path, status, b.raw)
		}
		return b
	}
	refs := func(b *bundle, mode string) (out []string) {
		for _, e := range b.entries {
			if e.Mode == mode && e.Resource.Type() != "Provenance" && e.Resource.Type() != "OperationOutcome" {
				out = append(out, string(e.Resource.Ref()))
			}
		}
		return out
	}
	follow := func(path string) (all []string, pages int) {
		t.Helper()
		for path != "" {
			b := ask(path)
			all = append(all, refs(b, "match")...)
			if pages++; pages > 100 {
				t.Fatal("the pages do not end")
			}
			v, err := fhir.ParseValue(b.raw)
			if err != nil {
				t.Fatal(err)
			}
			if len(refs(b, "match")) > 0 && len(b.sources()) == 0 && !strings.Contains(path, "$everything") {
				t.Errorf("%s says of nothing where it came from", path)
			}
			path = ""
			for l := range v.All("link") {
				if l.Text("relation") == "next" {
					path = strings.TrimPrefix(l.Text("url"), c.w.URL())
				}
			}
		}
		return all, pages
	}
	everything := ask("/fhir/Patient/" + id + "/$everything")
	whole := refs(everything, "match")
	if all, pages := follow("/fhir/Patient/" + id + "/$everything?_count=7"); !slices.Equal(all, whole) || pages < 2 {
		t.Errorf("%d pages of $everything hold\n%q\nand the whole\n%q", pages, all, whole)
	}
	for _, typ := range []string{"Observation", "Condition", "MedicationRequest", "Encounter"} {
		at := "/fhir/" + typ + "?patient=" + id
		whole := refs(ask(at), "match")
		if len(whole) < 2 {
			t.Fatalf("too few of type %s to tell", typ)
		}
		if all, pages := follow(at + "&_count=1"); !slices.Equal(all, whole) || pages != len(whole) {
			t.Errorf("%s: %d pages hold %q, want %q", typ, pages, all, whole)
		}
		up, _ := follow(at + "&_sort=_id&_count=2")
		down := refs(ask(at+"&_sort=-_id"), "match")
		slices.Reverse(down)
		if !slices.IsSorted(up) || !slices.Equal(up, down) || len(up) != len(whole) {
			t.Errorf("%s in order: %q and back %q", typ, up, down)
		}
		if b := ask(at + "&_summary=count"); len(refs(b, "match")) != 0 || !strings.Contains(string(b.raw), `"total":`+strconv.Itoa(len(whole))) {
			t.Errorf("%s counted: %.300s", typ, b.raw)
		}
		for _, e := range ask(at + "&_elements=code").entries {
			if e.Resource.Type() == typ && (e.Resource.Get("subject").Exists() && typ != "MedicationRequest" && typ != "Condition" || !strings.Contains(string(e.Resource.Raw()), "SUBSETTED")) {
				t.Errorf("more than was asked for: %s", e.Resource.Raw())
			}
		}
		if with := refs(ask(at+"&_include="+typ+":patient&_count=1"), "include"); !slices.Contains(with, "Patient/"+id) {
			t.Errorf("the patient does not come with the %s: %q", typ, with)
		}
		family := url.QueryEscape(c.w.Person(cast.Main).Family)
		if got := refs(ask(at+"&subject:Patient.family="+family), "match"); !slices.Equal(got, whole) {
			t.Errorf("through a chain: %q", got)
		}
		if got := refs(ask(at+"&subject:Patient.family=Nobody"), "match"); len(got) != 0 {
			t.Errorf("through a chain that nobody answers: %q", got)
		}
	}
	if status, _ := get(t, c.w, "/fhir/Condition?patient="+id+"&_count=1&_cursor=1.00000000.00000000.x", doctor); status != 400 {
		t.Errorf("another search's cursor: %d", status)
	}
	read := 0
	for _, e := range everything.entries {
		if e.Mode != "match" || e.Resource.Type() == "Patient" {
			continue
		}
		status, got := get(t, c.w, "/fhir/"+string(e.Resource.Ref()), doctor)
		body := string(got.raw)
		if status != 200 {
			t.Errorf("%s is in the record and cannot be read: %d %s", e.Resource.Ref(), status, body)
			continue
		}
		if r, err := fhir.Parse([]byte(body)); err != nil || r.Ref() != e.Resource.Ref() {
			t.Errorf("%s is read as %s", e.Resource.Ref(), body)
		}
		read++
		if typ := e.Resource.Type(); (typ == "Condition" || typ == "MedicationRequest") && read%4 == 0 { // a refusal takes its time
			s1, b1 := get(t, c.w, "/fhir/"+string(e.Resource.Ref()), sim.TokenPrefix+"receptionist")
			s2, b2 := get(t, c.w, "/fhir/"+e.Resource.Type()+"/nobody", sim.TokenPrefix+"receptionist")
			if s1 != 404 || s1 != s2 || string(b1.raw) != string(b2.raw) {
				t.Fatalf("%s is told apart from what is not there: %d %s", e.Resource.Ref(), s1, b1.raw)
			}
		}
	}
	t.Logf("%d entries read by their ids", read)
}

// What narrows $everything, and what comes with a search the other way round, is of a joined record as of any.
func TestAJoinedRecordIsNarrowedAndFollowedBackwards(t *testing.T) {
	c := severn(t)
	status, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil || status != 200 {
		t.Fatal(status, err)
	}
	id := personOf(b)
	ask := func(path string, mode string) (out []*fhir.Resource) {
		t.Helper()
		status, b := get(t, c.w, path, sim.TokenPrefix+"doctor")
		for range 10 { // a source may be late on a busy machine: that is not what this is about
			if !strings.Contains(string(b.raw), "did not answer within") && !strings.Contains(string(b.raw), "was not asked: it has failed") {
				break
			}
			time.Sleep(time.Second)
			status, b = get(t, c.w, path, sim.TokenPrefix+"doctor")
		}
		if status != 200 {
			t.Fatalf("%s: %d %.400s", path, status, b.raw)
		}
		for _, e := range b.entries {
			if e.Mode == mode && e.Resource.Type() != "Provenance" && e.Resource.Type() != "OperationOutcome" {
				out = append(out, e.Resource)
			}
		}
		return out
	}
	refs := func(all []*fhir.Resource) (out []string) {
		for _, r := range all {
			out = append(out, string(r.Ref()))
		}
		return out
	}
	at := "/fhir/Patient/" + id + "/$everything"
	whole := ask(at, "match")
	of := func(typ string) (out []string) {
		for _, r := range whole {
			if r.Type() == typ {
				out = append(out, string(r.Ref()))
			}
		}
		return out
	}
	if got, want := refs(ask(at+"?_type=Observation,Condition", "match")), append(of("Observation"), of("Condition")...); len(want) < 4 || len(got) != len(want) || slices.ContainsFunc(want, func(r string) bool { return !slices.Contains(got, r) }) {
		t.Errorf("by type: %q, want %q", got, want)
	}
	if got := refs(ask(at+"?_since=1900-01-01T00:00:00Z", "match")); !slices.Equal(got, refs(whole)) {
		t.Errorf("since long ago: %q", got)
	}
	// What a source does not say the time of is never left out: it may have changed.
	later := ask(at+"?_since=2999-01-01T00:00:00Z", "match")
	if len(later) >= len(whole) || slices.ContainsFunc(later, func(r *fhir.Resource) bool { return r.Text("meta.lastUpdated") != "" }) {
		t.Errorf("since a day to come: %q", refs(later))
	}
	dated := func(r *fhir.Resource) string { return r.Text("effectiveDateTime") }
	observed := 0
	for _, r := range whole {
		if day := dated(r); day != "" && r.Type() == "Observation" {
			observed++
			in, out := refs(ask(at+"?_type=Observation&start="+day[:10]+"&end="+day[:10], "match")), refs(ask(at+"?_type=Observation&end="+"1900-01-01", "match"))
			if !slices.Contains(in, string(r.Ref())) || slices.Contains(out, string(r.Ref())) {
				t.Errorf("%s of %s is among those of its day: %v, and of long before: %v", r.Ref(), day, slices.Contains(in, string(r.Ref())), slices.Contains(out, string(r.Ref())))
			}
			break
		}
	}
	if observed == 0 {
		t.Error("no Observation has a date")
	}
	// Backwards: from what is pointed at to what points at it, by _revinclude and by _has.
	followed := 0
	for _, way := range [][3]string{{"Observation", "encounter", "Encounter"}, {"Condition", "encounter", "Encounter"}, {"MedicationRequest", "encounter", "Encounter"},
		{"DiagnosticReport", "result", "Observation"}, {"Procedure", "encounter", "Encounter"}, {"Encounter", "part-of", "Encounter"}, {"MedicationStatement", "part-of", "MedicationRequest"}} {
		from, param, to := way[0], way[1], way[2]
		for _, r := range whole {
			target := ""
			for _, path := range []string{"encounter.reference", "result.reference", "hasMember.reference", "partOf.reference"} {
				if ref := r.Text(path); r.Type() == from && strings.HasPrefix(ref, to+"/") && slices.Contains(of(to), ref) {
					target = ref
				}
			}
			if target == "" {
				continue
			}
			followed++
			if got := refs(ask("/fhir/"+to+"?patient="+id+"&_revinclude="+from+":"+param, "include")); !slices.Contains(got, string(r.Ref())) {
				t.Errorf("%s points at %s by %s, and with the %ss came %q", r.Ref(), target, param, to, got)
			}
			if got := refs(ask("/fhir/"+to+"?patient="+id+"&_has:"+from+":"+param+":_id="+r.ID(), "match")); !slices.Contains(got, target) || len(got) == len(of(to)) {
				t.Errorf("%s points at %s by %s, and _has finds %q", r.Ref(), target, param, got)
			}
			break
		}
	}
	if followed == 0 {
		t.Error("nothing in the record points at something else in it")
	}
}
