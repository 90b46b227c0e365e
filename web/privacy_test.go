package web

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/sim/cast"
)

// A fakePrivacy remembers what was asked of it.
type fakePrivacy struct {
	asked   []string
	concern []uint64
	words   string
	query   AuditQuery
	decided [3]string
}

func (f *fakePrivacy) Concern(_ context.Context, _ *access.Session, person string, entries []uint64, words string) error {
	f.concern, f.words = entries, words
	return nil
}

func (f *fakePrivacy) Queue(_ context.Context, _ *access.Session, closed bool) ([]PrivacyItem, error) {
	f.asked = append(f.asked, fmt.Sprint("queue ", closed))
	if closed {
		return nil, nil
	}
	return []PrivacyItem{{ID: "a1", Title: "Emergency access", Grave: true, Reason: "The reason given: unconscious <b>", Words: "I was not there", Who: "Dr Femi Ade", User: "doctor", Person: "p-1",
		Entries: []uint64{7, 9}, Count: 2, Last: today, State: "new", Owner: "Ines Duarte", Age: 50 * time.Hour, Overdue: true}}, nil
}

func (f *fakePrivacy) Decide(_ context.Context, _ *access.Session, id, state, note string) error {
	if note == "" && state != "looking" {
		return fhir.Errorf(fhir.Required, "say what was found")
	}
	f.decided = [3]string{id, state, note}
	return nil
}

func (f *fakePrivacy) AuditSearch(_ context.Context, _ *access.Session, q AuditQuery, limit int) ([]AuditRow, bool, error) {
	f.query = q
	return []AuditRow{{Entry: 7, At: today, Who: "Dr Femi Ade", User: "doctor", Kind: "break-glass", Person: "p-1", What: "problems: Condition/1"}}, true, nil
}

func (f *fakePrivacy) AuditExport(_ context.Context, _ *access.Session, q AuditQuery, w io.Writer) error {
	f.query = q
	_, err := io.WriteString(w, "entry,when\r\n7,x\r\n")
	return err
}

// numbered are the looks of fakeLooks with their entries.
type numbered struct{ fakeLooks }

func (n numbered) WhoLooked(ctx context.Context, s *access.Session, person string) ([]Look, error) {
	looks, err := n.fakeLooks.WhoLooked(ctx, s, person)
	for i := range looks {
		looks[i].Entry = uint64(12 - i)
	}
	return looks, err
}

func privacySite(t *testing.T) (*httptest.Server, *fakePrivacy) {
	t.Helper()
	users, err := access.New(access.Options{Demo: true, Now: func() time.Time { return today }, Region: &region.Region{
		Users: []region.User{{ID: "ines", Name: "Ines Duarte", Role: "privacy-officer"}, {ID: "dr-marsh", Name: "Dr Helen Marsh", Role: "gp"},
			{ID: "margaret", Name: "Margaret Taylor", Role: "citizen", PersonRef: fhir.SystemNHSNumber + "|" + cast.Dozen(today)[0].NHS}}}})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakePrivacy{}
	return serve(t, Options{Records: newFake(), Access: users, Looks: numbered{}, Privacy: f, Now: func() time.Time { return today }}), f
}

func TestThePrivacyOfficerHasAQueueASearchAndAnExport(t *testing.T) {
	srv, f := privacySite(t)
	r := newReader(t, srv, "ines")
	r.get("/privacy").wants(t, "Emergency access", "unconscious &lt;b&gt;", "I was not there", "2 times", "New", "Who looked", "Overdue", "In the queue for 2 days", "Taken up by Ines Duarte")
	nhs := cast.Dozen(today)[0].NHS
	found := r.post("/privacy", url.Values{"system": {fhir.SystemNHSNumber}, "value": {nhs}, "user": {"doctor"}, "from": {"2026-11-01"}, "to": {"2026-11-22"}})
	found.wants(t, "break-glass", "There are more", "problems: Condition/1")
	if strings.Contains(found.path, nhs) || f.query.Identifier.Value != nhs || f.query.User != "doctor" ||
		!f.query.From.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, fhir.London)) || !f.query.To.Equal(time.Date(2026, 11, 23, 0, 0, 0, 0, fhir.London)) {
		t.Errorf("asked for %+v at %s", f.query, found.path)
	}
	if got := r.post("/privacy", url.Values{"system": {fhir.SystemNHSNumber}, "value": {"123"}}); got.status != 400 {
		t.Errorf("a number that is none: %d", got.status)
	}
	if got := r.post("/privacy", url.Values{"from": {"yesterday"}}); got.status != 400 || !strings.Contains(got.body, "write a date") {
		t.Errorf("a date that is none: %d", got.status)
	}
	file := r.post("/privacy/export", url.Values{"user": {"doctor"}})
	if file.header.Get("Content-Type") != "text/csv; charset=utf-8" || !strings.HasPrefix(file.header.Get("Content-Disposition"), "attachment") || !strings.HasPrefix(file.body, "entry,") {
		t.Errorf("the export: %v %q", file.header, file.body)
	}
	if got := r.post("/privacy/a1", url.Values{"state": {"appropriate"}}); got.status != 400 || !strings.Contains(got.body, "say what was found") {
		t.Errorf("closed without a note: %d", got.status)
	}
	if got := r.post("/privacy/a1", url.Values{"state": {"appropriate"}, "note": {"in resus"}}); got.path != "/privacy" || f.decided != [3]string{"a1", "appropriate", "in resus"} {
		t.Errorf("decided %v, then %s", f.decided, got.path)
	}
	for _, user := range []string{"dr-marsh", "margaret"} {
		other := newReader(t, srv, user)
		for _, got := range []answer{other.get("/privacy"), other.post("/privacy", nil), other.post("/privacy/export", nil), other.post("/privacy/a1", url.Values{"state": {"misuse"}, "note": {"x"}})} {
			if got.status != 404 {
				t.Errorf("%s at %s: %d, want 404", user, got.path, got.status)
			}
		}
	}
}

func TestACitizenAsksAboutALookThatTheyDoNotRecognise(t *testing.T) {
	srv, f := privacySite(t)
	r := newReader(t, srv, "margaret")
	r.get("/me").wants(t, "Dr Femi Ade, hospital doctor at Severn Acute Trust, opened your record in an emergency", "Emergency access", "I don’t recognise this")
	if got := r.post("/me/looked", url.Values{"entry": {"12", "9"}, "words": {"who?"}}); got.path != "/me/asked" || !slices.Equal(f.concern, []uint64{12, 9}) || f.words != "who?" {
		t.Errorf("asked about %v %q, then %s", f.concern, f.words, got.path)
	}
	if got := newReader(t, srv, "dr-marsh").post("/me/looked", url.Values{"entry": {"1"}}); got.status != 404 {
		t.Errorf("a doctor asks as a citizen: %d", got.status)
	}
}

func TestLooksAreGroupedNewestFirstAndOnesOwnLast(t *testing.T) {
	at := func(hours int) time.Time { return today.Add(-time.Duration(hours) * time.Hour) }
	gp := Look{Who: "Dr Helen Marsh", Role: "General practitioner", Organisation: "Hilltop Surgery", Why: "to care for you"}
	with := func(l Look, entry uint64, hours int) Look { l.Entry, l.At = entry, at(hours); return l }
	me := Look{Who: "Margaret Taylor", Role: "Citizen", Why: "you looked yourself", Own: true}
	glass := Look{Who: "Dr Femi Ade", Role: "Hospital doctor", Organisation: "Severn Acute Trust", Why: "in an emergency", BrokeGlass: true}
	copied := Look{Who: "ann, at the command line", Why: "to look after records", Copied: true}
	namesake := gp
	namesake.User = "another"
	namesake.Asked, namesake.Answered = today, true
	refused := Look{Who: "Pat Lyle", Role: "Receptionist", Organisation: "Severn Acute Trust", Why: "to arrange your care", Refused: true}
	got := groupLooks([]Look{with(me, 9, 1), with(glass, 7, 5), with(gp, 3, 2), with(gp, 1, 90), with(refused, 2, 30), with(namesake, 11, 40), with(copied, 12, 50)})
	var say []string
	for _, g := range got {
		say = append(say, fmt.Sprintf("%s %d%v%v", g.Sentence(), len(g.Looks), g.Entries(), g.May()))
	}
	want := []string{
		"Dr Helen Marsh, general practitioner at Hilltop Surgery, looked at your record to care for you. 2[3 1]true",
		"Dr Femi Ade, hospital doctor at Severn Acute Trust, opened your record in an emergency, although you have asked that it is not shared. 1[7]true",
		"Pat Lyle, receptionist at Severn Acute Trust, asked for your record and was refused. 1[2]true",
		"Dr Helen Marsh, general practitioner at Hilltop Surgery, looked at your record to care for you. 1[11]true",
		"ann, at the command line took a copy of your record to look after records. 1[12]true",
		"You looked at your own record. 1[9]false",
	}
	if q := got[3].Question(); !strings.HasPrefix(q, "You asked about this on ") || !strings.HasSuffix(q, "has looked into it.") || got[0].Question() != "" {
		t.Errorf("what became of the question: %q, %q", q, got[0].Question())
	}
	if !slices.Equal(say, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(say, "\n"), strings.Join(want, "\n"))
	}
}
