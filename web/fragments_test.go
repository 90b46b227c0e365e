package web

import (
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/sim/cast"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".html")
	got = strings.TrimSpace(regexp.MustCompile(`\n\s*\n`).ReplaceAllString(got, "\n")) + "\n"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test with -update once", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update if that is meant)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func testSite(t testing.TB) *Site {
	t.Helper()
	s, err := New(Options{Records: newFake(), Access: testAccess(t), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return today }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func render(t testing.TB, s *Site, name string, data any) string {
	t.Helper()
	html, err := s.fragment(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return html
}

func allergy(code, display string, fields fhir.M) *fhir.Resource {
	f := fhir.M{"code": fhir.Code(fhir.SystemSNOMED, code, display), "recordedDate": "2024-01-12", "clinicalStatus": status("active"), "verificationStatus": status("confirmed"), "recorder": who("Dr Yasmin Noor")}
	for k, v := range fields {
		f[k] = v
	}
	return fhir.New("AllergyIntolerance", "a-"+code, f)
}

func entryOf(source, name string, r *fhir.Resource) gather.Entry {
	return gather.Entry{Lead: r, Members: []gather.Member{{Resource: r, Source: source, Name: name, Received: today}}}
}

// oneSection is a record of two sources and one heading.
func oneSection(h dataset.Heading, a, b gather.Lane, state dataset.State, entries ...gather.Entry) *gather.Record {
	a.Source, a.Name, b.Source, b.Name = "gp", "Hilltop Surgery", "pas", "Severn Acute Trust"
	rec := &gather.Record{At: today}
	sec := gather.Section{Heading: h, Title: h.Title(), State: state, Entries: entries}
	for _, l := range []gather.Lane{a, b} {
		st := map[gather.LaneState]dataset.State{gather.Answered: dataset.NoneRecorded, gather.Refused: dataset.NotShared, gather.Partly: dataset.NotKnown, gather.Earlier: dataset.NotKnown, gather.Failed: dataset.NotKnown, gather.Asking: dataset.NotKnown}[l.State]
		l.Headings = map[dataset.Heading]dataset.State{h: st}
		switch st {
		case dataset.NotKnown:
			sec.Unknown = append(sec.Unknown, l.Name)
		case dataset.NotShared:
			sec.NotShared = append(sec.NotShared, l.Name)
		}
		rec.Lanes = append(rec.Lanes, l)
	}
	rec.Sections = []gather.Section{sec}
	return rec
}

// reaching is a record one of whose sources goes back only so far.
func reaching(rec *gather.Record) *gather.Record {
	rec.Sections[0].Reach = []string{"Hilltop Surgery reaches back to March 2025"}
	return rec
}

var (
	laneOK     = gather.Lane{State: gather.Answered, Took: 200 * time.Millisecond}
	laneFailed = gather.Lane{State: gather.Failed, Took: 2 * time.Second, Issue: fhir.Errorf(fhir.Timeout, "Severn Acute Trust did not answer within 2 s")}
	laneShut   = gather.Lane{State: gather.Refused, Issue: fhir.Errorf(fhir.Suppressed, "Severn Acute Trust does not share this with you")}
	laneAsking = gather.Lane{State: gather.Asking}
)

func TestEachStateOfASectionIsToldInItsOwnWords(t *testing.T) {
	s := testSite(t)
	penicillin := entryOf("gp", "Hilltop Surgery", allergy("91936005", "Allergy to penicillin", fhir.M{"criticality": "high"}))
	none := entryOf("gp", "Hilltop Surgery", allergy("716186003", "No known allergy", nil))
	for name, rec := range map[string]*gather.Record{
		"present":               oneSection(dataset.Allergies, laneOK, laneOK, dataset.Present, penicillin),
		"present-incomplete":    oneSection(dataset.Allergies, laneOK, laneFailed, dataset.Present, penicillin),
		"none-recorded":         oneSection(dataset.Problems, laneOK, laneOK, dataset.NoneRecorded),
		"allergies-none":        oneSection(dataset.Allergies, laneOK, laneOK, dataset.NoneRecorded),
		"not-known":             oneSection(dataset.Problems, laneOK, laneFailed, dataset.NotKnown),
		"not-shared":            oneSection(dataset.Problems, laneShut, laneShut, dataset.NotShared),
		"asking":                oneSection(dataset.Problems, laneOK, laneAsking, dataset.NotKnown),
		"claims-none-wrongly":   oneSection(dataset.Problems, laneOK, laneFailed, dataset.NoneRecorded),
		"no-known-allergies":    oneSection(dataset.Allergies, laneOK, laneOK, dataset.Present, none),
		"one-says-none-known":   oneSection(dataset.Allergies, laneOK, laneFailed, dataset.Present, none),
		"present-but-empty":     oneSection(dataset.Problems, laneOK, laneOK, dataset.Present),
		"without-any-state":     oneSection(dataset.Problems, laneOK, laneOK, ""),
		"none-as-far-as-goes":   reaching(oneSection(dataset.Problems, laneOK, laneOK, dataset.NoneRecorded)),
		"none-and-one-wont-say": oneSection(dataset.Problems, laneOK, laneShut, dataset.NotShared),
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, "section-"+name, render(t, s, "section", newSection(rec, &rec.Sections[0], "")))
			golden(t, "alerts-"+name, render(t, s, "alerts", newAlerts(rec)))
		})
	}
}

func TestEachStateOfALaneIsAWordAndAnIcon(t *testing.T) {
	s := testSite(t)
	rec := &gather.Record{At: today, Notice: "Some information may be withheld."}
	for _, l := range []gather.Lane{
		{Name: "Hilltop Surgery", State: gather.Answered, Way: "live", Count: 30, Took: 420 * time.Millisecond},
		{Name: "Severn Acute Trust", State: gather.Answered, Way: "stored", Count: 1, AsOf: today.Add(-6 * time.Hour)},
		{Name: "Riverside Medical Centre", State: gather.Partly, Way: "live", Count: 3, Took: 2 * time.Second, Issue: fhir.Errorf(fhir.Incomplete, "Riverside Medical Centre did not answer in full"),
			Warnings: []*fhir.Issue{fhir.Errorf(fhir.Suppressed, "Confidential items have been withheld")}},
		laneFailed, laneShut, laneAsking, {Name: "Severn Ambulance Service", State: gather.NotHere}, {Name: "New", State: "surprising"},
	} {
		if l.Name == "" {
			l.Name = "Severn Acute Trust"
		}
		rec.Lanes = append(rec.Lanes, l)
	}
	golden(t, "lanes", render(t, s, "strip", newStrip(rec)))
}

func TestTheMainPersonsSectionsReadAsBefore(t *testing.T) {
	s := testSite(t)
	w := margaretsWorld()
	rec := w.record(w.sources()...)
	for _, sec := range newSections(rec, "") {
		switch sec.Heading {
		case dataset.Medications, dataset.Results, dataset.Encounters, dataset.Documents:
			golden(t, "margaret-"+string(sec.Heading), render(t, s, "section", sec))
		}
	}
	golden(t, "margaret-banner", render(t, s, "banner", newBanner(rec, today)))
	golden(t, "margaret-alerts", render(t, s, "alerts", newAlerts(rec)))
}

// sayNone finds the words by which a page tells a reader that there are no allergies. They are words: a section's data-v, which is a
// hash, may hold the same letters.
var sayNone = regexp.MustCompile(`(?i)no\s+known\s+(drug\s+)?allerg|no allergies\b|\bNKD?A\b`)

// However a record comes out, "no known allergies" stands on the page only if a source has said so in a code and every source has been
// heard in full; and no heading is ever empty without a reason (design law 3).
func TestNoKnownAllergiesIsNeverSaidByMistake(t *testing.T) {
	s := testSite(t)
	states := []gather.LaneState{gather.Asking, gather.Answered, gather.Partly, gather.Failed, gather.Earlier, gather.Refused, gather.NotHere}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(cast.Dozen(today)[0])
		w.facts = nil
		var answered []string
		allOK, coded := true, false
		for _, src := range w.sources() {
			st := rapid.SampledFrom(states).Draw(t, src)
			if st == gather.NotHere {
				w.person.Known = without(w.person.Known, src)
				continue
			}
			if st == gather.Asking {
				allOK = false
				continue
			}
			answered = append(answered, src)
			if st != gather.Answered {
				allOK = false
				w.broken[src] = gather.Lane{State: st, Issue: fhir.Errorf(fhir.Timeout, "it did not answer")}
				continue
			}
			if rapid.IntRange(0, 5).Draw(t, "warn") == 0 {
				allOK = false
				w.broken[src] = gather.Lane{State: st, Warnings: []*fhir.Issue{fhir.Errorf(fhir.Suppressed, "items are withheld")}}
			}
			if rapid.Bool().Draw(t, "says none") {
				coded = true
				display := rapid.SampledFrom([]string{"No known allergy", "No Known Allergies", "NKDA"}).Draw(t, "words")
				w.facts = append(w.facts, held{heading: dataset.Allergies, key: src, source: src, resource: allergy("716186003", display, nil)})
			}
		}
		rec := w.record(answered...)
		page := render2(t, s, rec)
		if sayNone.MatchString(page) && !(allOK && coded) {
			t.Fatalf("the page says %q with every source heard: %v, coded: %v", sayNone.FindString(page), allOK, coded)
		}
		if allOK && coded && len(answered) > 0 && !strings.Contains(page, "No known allergies") {
			t.Fatalf("every source was heard and one says that there are none, and the page does not say so")
		}
		for _, sec := range newSections(rec, "") {
			if sec.Count == 0 && (len(sec.Reasons) == 0 || sec.State.Word == "") {
				t.Fatalf("%s is empty without a reason", sec.Heading)
			}
		}
	})
}

func without(list []string, s string) []string {
	var out []string
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}

// render2 is everything of a record that a page shows: the clinician's and the citizen's.
func render2(t *rapid.T, s *Site, rec *gather.Record) string {
	parts, order, err := s.fragments(rec, "/record/x")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, id := range order {
		b.WriteString(parts[id])
	}
	for _, page := range []struct {
		name string
		body any
	}{{"me", newMe(rec)}, {"timeline", newTimeline(rec, "", "")}} {
		if err := s.pages.byName[page.name].ExecuteTemplate(&b, "main", layout{Body: page.body}); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestWhatASourceWroteIsNeverMarkup(t *testing.T) {
	s := testSite(t)
	evil := `<script>alert(1)</script><img src=x onerror=alert(1)>"'`
	r := allergy("1", evil, fhir.M{"recorder": who(evil), "note": []fhir.M{{"text": evil}}, "text": fhir.M{"status": "generated", "div": "<div>" + evil + "</div>"},
		"reaction": []fhir.M{{"manifestation": []fhir.CodeableConcept{{Text: evil}}}}})
	rec := oneSection(dataset.Allergies, laneOK, laneOK, dataset.Present, entryOf("gp", evil, r))
	rec.Person.Name = fhir.HumanName{Family: evil}
	rec.Sections[0].Entries[0].Conflict = evil
	parts, _, err := s.fragments(rec, "/record/x")
	if err != nil {
		t.Fatal(err)
	}
	for id, html := range parts {
		if strings.Contains(html, "<script") || strings.Contains(html, "<img") || strings.Contains(html, `onerror=alert(1)>"`) {
			t.Errorf("%s: what a source wrote came out as markup", id)
		}
	}
}

func FuzzTellNeverFails(f *testing.F) {
	for _, h := range facts(cast.Dozen(today)[0]) {
		f.Add(h.resource.Raw())
	}
	f.Add([]byte(`{"resourceType":"Observation","contained":[{"resourceType":"Medication","id":"a","code":{"reference":"#a"}}],"code":{"reference":"#a"},"valueRatio":{"numerator":{"value":1}}}`))
	f.Add([]byte(`{"resourceType":"QuestionnaireResponse","item":[{"text":1,"answer":[{"valueCoding":[[]]}]}]}`))
	s := testSite(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			return
		}
		r, err := fhir.Parse(data)
		if err != nil {
			return
		}
		h := dataset.HeadingOf(r)
		if h == "" {
			h = dataset.Problems
		}
		rec := oneSection(h, laneOK, laneFailed, dataset.Present, entryOf("gp", "Hilltop Surgery", r))
		if tell(thing{r, nil}).What == "" {
			t.Errorf("a %s is told without a name", r.Type())
		}
		if _, _, err := s.fragments(rec, "/record/x"); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkRecordPage(b *testing.B) {
	s := testSite(b)
	w := margaretsWorld()
	rec := w.record(w.sources()...)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.fragments(rec, "/record/x"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWhatHasEndedIsNoAlertAndWhatIsReferredToIsNamed(t *testing.T) {
	s := testSite(t)
	detained := func(end string) *fhir.Resource {
		return fhir.New("Observation", "mha-"+end, fhir.M{"meta": fhir.M{"tag": []fhir.Coding{dataset.Tag(dataset.Legal)}}, "status": "final", "code": fhir.CodeableConcept{Text: "Detained under section 2"},
			"effectivePeriod": fhir.Period{Start: "2026-05-01", End: end}, "performer": []fhir.Reference{{Reference: "Practitioner/p1"}}})
	}
	rec := oneSection(dataset.Legal, laneOK, laneOK, dataset.Present, entryOf("mh", "Severn Mental Health Trust", detained("2026-05-16")))
	rec.Supporting = map[fhir.Ref]*fhir.Resource{"Practitioner/p1": fhir.New("Practitioner", "p1", fhir.M{"name": []fhir.HumanName{{Family: "Rao", Given: []string{"Anil"}, Prefix: []string{"Dr"}}}})}
	if html := render(t, s, "alerts", newAlerts(rec)); strings.Contains(html, "Detained") {
		t.Errorf("a detention that ended stands among the alerts:\n%s", html)
	}
	html := render(t, s, "section", newSection(rec, &rec.Sections[0], ""))
	for _, want := range []string{"Past or inactive", "Ended 16-May-2026", "Dr Anil Rao"} {
		if !strings.Contains(html, want) {
			t.Errorf("want %q in\n%s", want, html)
		}
	}
	rec.Sections[0].Entries[0] = entryOf("mh", "Severn Mental Health Trust", detained("2026-12-16"))
	if html := render(t, s, "alerts", newAlerts(rec)); !strings.Contains(html, "Detained") {
		t.Errorf("a detention that goes on is missing among the alerts:\n%s", html)
	}
}

func TestHowAConsultationIsLaidOutIsNotShownAsIfItWereSomething(t *testing.T) {
	s := testSite(t)
	list := func(id, code, title string) gather.Entry {
		return entryOf("gp", "Hilltop Surgery", fhir.New("List", id, fhir.M{"status": "current", "mode": "snapshot", "title": title, "code": fhir.Code(fhir.SystemSNOMED, code, "Topic (EHR)")}))
	}
	e := entryOf("gp", "Hilltop Surgery", fhir.New("Encounter", "c1", fhir.M{"status": "finished", "type": []fhir.CodeableConcept{{Text: "Consultation"}}}))
	e.Related = []gather.Entry{list("l1", "25851000000105", "Diabetic review"), entryOf("gp", "Hilltop Surgery", fhir.New("Observation", "o1", fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "Comment note"}, "note": []fhir.M{{"text": "Feet checked"}}}))}
	rec := oneSection(dataset.Encounters, laneOK, laneOK, dataset.Present, e)
	html := render(t, s, "section", newSection(rec, &rec.Sections[0], ""))
	if strings.Contains(html, "Topic (EHR)") || !strings.Contains(html, "Feet checked") {
		t.Errorf("want the note and not the layout, got\n%s", html)
	}
}

// Wherever it is said that there is nothing, or that none are known, it is said that some may be withheld: always, since only then does it tell nothing of whether anything is.
func TestNoneIsNeverSaidWithoutThatSomeMayBeWithheld(t *testing.T) {
	files, err := filepath.Glob("testdata/*.html")
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		none := strings.Contains(string(text), stateNone.Word) || strings.Contains(string(text), "None current") || strings.Contains(string(text), "<strong class=\"t-line__name\">No known") && !strings.Contains(string(text), "Some information may be withheld")
		if none {
			said++
		}
		if none && !strings.Contains(string(text), mayBeWithheld) {
			t.Errorf("%s says that there is none, and not that some may be withheld", file)
		}
		if strings.Contains(string(text), "None recorded<") || strings.Contains(string(text), "None recorded.") {
			t.Errorf("%s says that there is none without saying of what", file)
		}
	}
	if said < 4 {
		t.Errorf("only %d fragments say that there is none", said)
	}
}
