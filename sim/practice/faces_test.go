package practice_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/practice"
)

// whole is a practice with all its capabilities, found by way of a directory.
func whole(t *testing.T, o practice.Options) *gpconnect.Client {
	t.Helper()
	o.Now, o.ASID = clock, "200000000116"
	if o.People == nil {
		o.People = cast.Dozen(now)
	}
	srv := httptest.NewServer(practice.New(o))
	t.Cleanup(srv.Close)
	ods := cast.OrganisationOf(o.Source).ODS
	sds := httptest.NewServer(practice.NewSDS(practice.Listings(ods, srv.URL, o.ASID)...))
	t.Cleanup(sds.Close)
	d, err := gpconnect.NewDirectory(gpconnect.DirectoryOptions{Address: sds.URL, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	c, err := gpconnect.New(gpconnect.Options{Source: o.Source, ASID: "200000000115", Where: d.For(ods), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func number(p cast.Person) fhir.NHSNumber { n, _ := fhir.ParseNHSNumber(p.NHS); return n }

func ask(t *testing.T, c *gpconnect.Client, key string, h ...dataset.Heading) *connector.Answer {
	t.Helper()
	a, err := c.Ask(t.Context(), question(person(key), h...))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The records that make general practice what it is: a repeat with its issues, a consultation with topics, a report with groups.
func TestRealisticRecords(t *testing.T) {
	a := ask(t, whole(t, practice.Options{Source: cast.GP2}), "priya")
	byRef := map[string]*fhir.Resource{}
	for _, r := range a.Content {
		byRef[string(r.Ref())] = r
	}
	plans := map[string]int{}
	for _, r := range a.Content {
		if r.Type() == "MedicationRequest" && r.Text("intent") == "order" {
			plans[r.Text("basedOn.reference")]++
		}
	}
	if len(plans) != 1 {
		t.Errorf("issues of %d plans, want one", len(plans))
	}
	for ref, n := range plans {
		if n != 14 || byRef[ref].Text("intent") != "plan" || byRef[ref].Text("dosageInstruction.text") != "One to be taken each morning, half an hour before breakfast" {
			t.Errorf("%d issues of %s", n, byRef[ref].Raw())
		}
	}
	// The tree of the consultation, walked from its root in its own order.
	var words []string
	var walk func(ref string, depth int)
	walk = func(ref string, depth int) {
		r := byRef[ref]
		if r == nil {
			t.Fatalf("the tree leads to %s, which did not arrive", ref)
		}
		if r.Type() != "List" {
			words = append(words, strings.Repeat(" ", depth)+r.Text("note.text")+r.Text("valueQuantity.value"))
			return
		}
		if r.Text("encounter.reference") == "" {
			t.Errorf("%s does not say of which consultation it is", r)
		}
		words = append(words, strings.Repeat(" ", depth)+r.Text("title"))
		for e := range r.Value().All("entry.item.reference") {
			walk(e.Str(), depth+1)
		}
	}
	for ref, r := range byRef {
		if r.Type() == "List" && r.Text("code.coding.code") == "325851000000107" {
			walk(ref, 0)
		}
	}
	want := []string{"Surgery consultation", " Hypothyroidism", "  History", "   Tired since the winter. No change of weight. Takes tablets most mornings.",
		"  Examination", "   58", "   71.5", "  Plan", "   Thyroid function today; see again with the result.", " Knee pain", "  History",
		"   Left knee, on stairs, two months.", "  Examination", "   No effusion, full range."}
	if !slices.Equal(words, want) {
		t.Errorf("the consultation reads\n%s\nwant\n%s", strings.Join(words, "\n"), strings.Join(want, "\n"))
	}
	groups := 0
	for _, r := range a.Content {
		if r.Type() == "DiagnosticReport" {
			for ref := range r.Value().All("result.reference") {
				if g := byRef[ref.Str()]; g.Get("hasMember").Exists() {
					groups++
				}
			}
			if req := byRef[r.Text("basedOn.reference")]; dataset.When(req) == "" {
				t.Error("the request for the test has no date")
			}
		}
	}
	if groups != 5 {
		t.Errorf("%d groups of results, want 5: two of one report, and one of each of three", groups)
	}
}

// That a vaccination was refused is told to those alone who ask for it, which they may not do beside problems: it is asked for by itself
// then. A system from before there was a word for it is not asked.
func TestARefusedVaccinationIsAskedFor(t *testing.T) {
	people := cast.Dozen(now)
	for i, p := range people {
		if p.Key == "leo" {
			people[i].Items = append(p.Items, cast.Item{Heading: dataset.Immunisations, System: fhir.SystemSNOMED, Code: "38598009", Display: "MMR vaccination", Date: "2026-01-12",
				Status: "not-done", Text: "Parents differ", By: "Sr Joan Price", Held: []string{cast.GP1}})
		}
	}
	for _, c := range []struct {
		minor, want int
		headings    []dataset.Heading
	}{
		{6, 1, []dataset.Heading{dataset.Immunisations}},
		{6, 1, []dataset.Heading{dataset.Immunisations, dataset.Problems, dataset.Encounters}},
		{6, 0, []dataset.Heading{dataset.Problems}},
		{3, 0, []dataset.Heading{dataset.Immunisations, dataset.Problems}},
		{3, 0, []dataset.Heading{dataset.Immunisations}},
	} {
		a := ask(t, whole(t, practice.Options{Source: cast.GP1, People: people, Minor: c.minor}), "leo", c.headings...)
		refused, seen := 0, map[fhir.Ref]bool{}
		for _, r := range a.Content {
			if seen[r.Ref()] {
				t.Errorf("%s came twice", r)
			}
			seen[r.Ref()] = true
			if r.Type() == "Immunization" && r.Text("status") == "not-done" {
				refused++
				if r.Text("statusReason.text") != "Parents differ" || a.States[dataset.Immunisations] != dataset.Present {
					t.Errorf("refused: %s; immunisations are told as %q", r.Raw(), a.States[dataset.Immunisations])
				}
			}
		}
		if refused != c.want || len(a.Issues) > 0 {
			t.Errorf("1.%d, %v: %d vaccinations that were refused, want %d; %v", c.minor, c.headings, refused, c.want, a.Issues)
		}
	}
}

func TestWhatIsWithheldAndWhatIsOnItsWay(t *testing.T) {
	sam := ask(t, whole(t, practice.Options{Source: cast.GP2}), "sam", dataset.Problems)
	if sam.States[dataset.Problems] != dataset.Present || len(sam.Content) == 0 {
		t.Error("what is not withheld is there")
	}
	if !slices.ContainsFunc(sam.Issues, func(i *fhir.Issue) bool { return i.Type == fhir.Suppressed && i.Expression == "problems" }) {
		t.Errorf("nobody is told that something is withheld: %v", sam.Issues)
	}
	for _, r := range sam.Content {
		if strings.Contains(string(r.Raw()), "8098009") {
			t.Error("what is withheld was sent")
		}
	}
	laura := ask(t, whole(t, practice.Options{Source: cast.GP1}), "laura")
	said := 0
	for _, i := range laura.Issues {
		if strings.Contains(i.Text, "previous practice") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("that the record is on its way is said %d times, want once: %v", said, laura.Issues)
	}
	if st, ok := laura.States[dataset.Allergies]; ok {
		t.Errorf("an empty list of a record on its way is told as %q", st)
	}
}

// Pages are shown where the structured record has nothing to say, and nowhere else.
func TestPagesFillWhatTheStructuredRecordCannot(t *testing.T) {
	old := whole(t, practice.Options{Source: cast.GP1, Minor: 2}) // knows medicines and allergies only
	a := ask(t, old, cast.Main, dataset.Allergies, dataset.Medications, dataset.Problems, dataset.Encounters, dataset.Immunisations, dataset.Referrals, dataset.Results)
	pages := map[dataset.Heading]*fhir.Resource{}
	for _, r := range a.Content {
		if r.Type() == "DocumentReference" {
			pages[dataset.HeadingOf(r)] = r
		}
	}
	if pages[dataset.Allergies] != nil || pages[dataset.Medications] != nil {
		t.Error("what is structured is shown a second time as a page")
	}
	for h, words := range map[dataset.Heading]string{dataset.Problems: "Type 2 diabetes", dataset.Encounters: "Feet checked, no ulcer"} {
		if pages[h] == nil || a.States[h] != dataset.Present {
			t.Fatalf("no page under %s, which is told as %q", h, a.States[h])
		}
		data, err := base64.StdEncoding.DecodeString(pages[h].Text("content.attachment.data"))
		if err != nil || !strings.Contains(string(data), words) || pages[h].Text("content.attachment.contentType") != "text/html; charset=utf-8" {
			t.Errorf("the page of %s: %s %v", h, data, err)
		}
	}
	if st, ok := a.States[dataset.Results]; ok || pages[dataset.Results] != nil {
		t.Errorf("a section that the system cannot show is told as %q", st)
	}
	if !slices.ContainsFunc(a.Issues, func(i *fhir.Issue) bool { return i.Type == fhir.NotSupported && i.Expression == "results" }) {
		t.Errorf("nobody says that results cannot be shown: %v", a.Issues)
	}
	// A system of today is asked for no page at all.
	for _, r := range ask(t, whole(t, practice.Options{Source: cast.GP1}), cast.Main).Content {
		if strings.HasPrefix(r.ID(), "html-") {
			t.Errorf("%s was asked for beside the structured record", r)
		}
	}
	// "No data is recorded" is the practice's own word; with a banner it is not.
	if st := ask(t, old, "leo", dataset.Problems).States[dataset.Problems]; st != dataset.NoneRecorded {
		t.Errorf("a page that says that there is none is told as %q", st)
	}
	if st, ok := ask(t, old, "laura", dataset.Problems).States[dataset.Problems]; ok {
		t.Errorf("an empty page of a record on its way is told as %q", st)
	}
}

func TestDocuments(t *testing.T) {
	c := whole(t, practice.Options{Source: cast.GP2})
	a := ask(t, c, "priya", dataset.Documents)
	docs := map[string]*fhir.Resource{}
	for _, r := range a.Content {
		if r.Type() == "DocumentReference" {
			docs[r.Text("description")] = r
		}
	}
	if len(docs) != 3 || a.States[dataset.Documents] != dataset.Present {
		t.Fatalf("%d documents, told as %q", len(docs), a.States[dataset.Documents])
	}
	letter, err := c.Fetch(t.Context(), marsh, docs["Endocrinology clinic letter"].Text("content.attachment.url"))
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := base64.StdEncoding.DecodeString(letter.Text("data")); !strings.HasPrefix(string(data), "Seen in clinic.") || letter.Text("contentType") != "text/plain" {
		t.Errorf("the letter: %s", letter.Raw())
	}
	missing := docs["Letter from previous practice"]
	if missing.Text("content.attachment.title") != "The file was not received with the transfer of the record" || missing.Text("meta.tag.code") != dataset.Placeholder {
		t.Errorf("a placeholder: %s", missing.Raw())
	}
	if !slices.ContainsFunc(a.Issues, func(i *fhir.Issue) bool { return strings.Contains(i.Text, "not received with the transfer") }) {
		t.Errorf("the placeholder's reason is not told: %v", a.Issues)
	}
	_, err = c.Fetch(t.Context(), marsh, docs["Scanned notes 1990 to 2005"].Text("content.attachment.url"))
	if !fhir.Is(err, fhir.NotFound) || !strings.Contains(err.Error(), "5 MB") {
		t.Errorf("a file that is too large: %v", err)
	}
	for _, elsewhere := range []string{"https://evil.example/Binary/1", letter.Text("url") + "/Binary/../Patient", "Binary/1", ""} {
		if _, err := c.Fetch(t.Context(), marsh, elsewhere); !fhir.Is(err, fhir.Processing) {
			t.Errorf("asked %q: %v", elsewhere, err)
		}
	}
	if none := ask(t, c, "george", dataset.Documents); none.States[dataset.Documents] != dataset.NoneRecorded {
		t.Errorf("somebody without documents is told as %q", none.States[dataset.Documents])
	}
	if _, err := c.Documents(t.Context(), marsh, number(person("margaret")), gpconnect.DocumentFilter{}); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("somebody registered elsewhere: %v", err)
	}
	var faults sim.Faults
	mixed := whole(t, practice.Options{Source: cast.GP2, Faults: &faults})
	faults.Set(sim.FaultWrongPatient, 0)
	if done, err := mixed.Documents(t.Context(), marsh, number(person("priya")), gpconnect.DocumentFilter{}); !fhir.Is(err, fhir.BusinessRule) {
		t.Errorf("somebody else's documents came through: %v %v", done, err)
	}
}

func TestAppointments(t *testing.T) {
	c := whole(t, practice.Options{Source: cast.GP2})
	admin := marsh
	admin.Purpose = "PATADMIN"
	search := gpconnect.SlotSearch{From: now, To: now.Add(13 * 24 * time.Hour), OrgType: "urgent-care"}
	free, err := c.FreeSlots(t.Context(), admin, search)
	if err != nil || len(free) < 20 {
		t.Fatalf("%d free slots, %v", len(free), err)
	}
	s := free[0]
	if s.Start != "2026-04-16T09:00:00+01:00" || s.With != "NOOR, Yasmin (Dr)" || s.Role != "General Medical Practitioner" || s.Channel != "In-person" ||
		s.Place != "Riverside Medical Centre" || s.Session != "Morning surgery" || !strings.Contains(s.Address, "GL99 1AA") {
		t.Errorf("the first slot: %+v", s)
	}
	b := gpconnect.Booking{Person: number(person("priya")), Slots: free[:2], Description: "Review after emergency attendance", Phone: "01632 960000", OrgType: "urgent-care"}
	a, err := c.Book(t.Context(), admin, b)
	if err != nil {
		t.Fatal(err)
	}
	if a.Resource.Text("status") != "booked" || a.Resource.Text("end") != free[1].End || a.Version != "1" {
		t.Errorf("booked: %s", a.Resource.Raw())
	}
	if same, err := c.Book(t.Context(), admin, b); err != nil || same.ID != a.ID {
		t.Errorf("the same booking again: %v %v, want the appointment that was made", same, err)
	}
	for what, change := range map[string]func(*gpconnect.Booking, *connector.Requester){
		"for somebody else":       func(b *gpconnect.Booking, _ *connector.Requester) { b.Person = number(person("george")) },
		"for something else":      func(b *gpconnect.Booking, _ *connector.Requester) { b.Description = "Blood pressure" },
		"of part of the time":     func(b *gpconnect.Booking, _ *connector.Requester) { b.Slots = b.Slots[:1] },
		"by another organisation": func(_ *gpconnect.Booking, r *connector.Requester) { r.OrganisationODS = "RYA" },
		"of a slot that overlaps": func(b *gpconnect.Booking, _ *connector.Requester) { b.Slots = free[1:3] },
	} {
		other, by := b, admin
		change(&other, &by)
		if got, err := c.Book(t.Context(), by, other); !fhir.Is(err, fhir.Conflict) {
			t.Errorf("a slot that is taken, %s: %v %v", what, got, err)
		}
	}
	list, err := c.Appointments(t.Context(), admin, b.Person, now, now.Add(30*24*time.Hour))
	if err != nil || len(list) != 1 || list[0].ID != a.ID {
		t.Fatalf("her appointments: %v %v", list, err)
	}
	if rec := ask(t, c, "priya", dataset.Appointments); rec.States[dataset.Appointments] != dataset.Present || rec.Content[0].Type() != "Appointment" {
		t.Errorf("the record shows %v", rec.States)
	}
	amended, err := c.Amend(t.Context(), admin, list[0], "", "Bring the letter")
	if err != nil || amended.Resource.Text("comment") != "Bring the letter" || amended.Version != "2" || amended.Resource.Text("description") != b.Description {
		t.Fatalf("amended: %v %v", amended, err)
	}
	if _, err := c.Cancel(t.Context(), admin, list[0], "Seen elsewhere"); !fhir.Is(err, fhir.Conflict) {
		t.Errorf("an appointment that somebody changed meanwhile: %v", err)
	}
	again, err := c.Appointment(t.Context(), admin, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := c.Cancel(t.Context(), admin, again, "Seen elsewhere")
	if err != nil || gone.Resource.Text("status") != "cancelled" || gone.Resource.Text("cancelationReason.text") != "Seen elsewhere" {
		t.Fatalf("cancelled: %v %v", gone, err)
	}
	if _, err := c.Amend(t.Context(), admin, gone, "x", ""); !fhir.Is(err, fhir.BusinessRule) {
		t.Errorf("amending what is cancelled: %v", err)
	}
	if after, _ := c.FreeSlots(t.Context(), admin, search); len(after) != len(free) {
		t.Errorf("%d slots free after the cancellation, want %d", len(after), len(free))
	}
	for name, change := range map[string]func(*gpconnect.Booking){
		"no words":   func(b *gpconnect.Booking) { b.Description = " " },
		"many words": func(b *gpconnect.Booking) { b.Description = strings.Repeat("x", 101) },
		"no slot":    func(b *gpconnect.Booking) { b.Slots = nil },
		"a gap":      func(b *gpconnect.Booking) { b.Slots = []gpconnect.Slot{free[0], free[2]} },
		"nobody":     func(b *gpconnect.Booking) { b.Person = fhir.NHSNumber{} },
		"the past": func(b *gpconnect.Booking) {
			b.Slots = []gpconnect.Slot{{Start: "2026-04-14T09:00:00+01:00", Location: "x"}}
		},
		"no call back": func(b *gpconnect.Booking) { b.Phone = "" },
	} {
		other := b
		change(&other)
		if _, err := c.Book(t.Context(), admin, other); fhir.IssueOf(err) == nil || fhir.Is(err, fhir.Processing) {
			t.Errorf("%s: %v, want a refusal before the wire", name, err)
		}
	}
	if _, err := c.FreeSlots(t.Context(), admin, gpconnect.SlotSearch{From: now, To: now.Add(15 * 24 * time.Hour)}); !fhir.Is(err, fhir.Invalid) {
		t.Errorf("three weeks of slots: %v", err)
	}
	if _, err := c.Appointments(t.Context(), admin, b.Person, now.Add(-48*time.Hour), now); !fhir.Is(err, fhir.Invalid) {
		t.Errorf("appointments of the past: %v", err)
	}
	research := marsh
	research.Purpose = "HRESCH"
	if _, err := c.Book(t.Context(), research, b); !fhir.Is(err, fhir.Forbidden) {
		t.Errorf("booking for research: %v", err)
	}
}

// Of many who want one slot one gets it; and whose answer is lost on its way books again and has one appointment.
func TestASlotIsBookedOnce(t *testing.T) {
	srv := httptest.NewServer(practice.New(practice.Options{Source: cast.GP2, People: cast.Dozen(now), Now: clock}))
	defer srv.Close()
	wire := &losing{}
	c, err := gpconnect.New(gpconnect.Options{Source: cast.GP2, ASID: "1", ToASID: "2", Address: srv.URL, Appointments: srv.URL + practice.AppointmentsRoot, Now: clock,
		HTTP: &http.Client{Transport: wire}})
	if err != nil {
		t.Fatal(err)
	}
	admin := marsh
	admin.Purpose = "PATADMIN"
	free, err := c.FreeSlots(t.Context(), admin, gpconnect.SlotSearch{From: now, To: now.Add(13 * 24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b := gpconnect.Booking{Person: number(person("priya")), Slots: free[:1], Description: "Review", Phone: "01632 960000"}
	got := make(chan error, 8)
	for i := range 8 {
		go func() {
			mine := b
			mine.Comment = strings.Repeat("x", i)
			_, err := c.Book(t.Context(), admin, mine)
			got <- err
		}()
	}
	won := 0
	for range 8 {
		if err := <-got; err == nil {
			won++
		} else if !fhir.Is(err, fhir.Conflict) {
			t.Errorf("one who came too late: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 got the slot", won)
	}
	b.Slots = free[3:4]
	wire.next.Store(true)
	first, err := c.Book(t.Context(), admin, b)
	if !fhir.Is(err, fhir.Transient) || !strings.Contains(err.Error(), "book it again") || first != nil {
		t.Fatalf("an answer that was lost: %v %v", first, err)
	}
	again, err := c.Book(t.Context(), admin, b)
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Appointments(t.Context(), admin, b.Person, now, now.Add(30*24*time.Hour))
	if err != nil || len(list) != 2 || !slices.ContainsFunc(list, func(a *gpconnect.Appointment) bool { return a.ID == again.ID }) {
		t.Errorf("her appointments: %v %v", list, err)
	}
}

// A losing wire loses the next answer to a booking after the practice has made it.
type losing struct{ next atomic.Bool }

func (l *losing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost && l.next.CompareAndSwap(true, false) {
		_ = resp.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return resp, err
}

// A directory is asked once in a while, says who is not there, and lends its memory while it is down.
func TestDirectory(t *testing.T) {
	at, asked, down := now, 0, false
	sds := practice.NewSDS(practice.Listings("M85001", "https://gp.example/M85001", "1")...)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; down {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		sds.ServeHTTP(w, r)
	}))
	defer srv.Close()
	d, err := gpconnect.NewDirectory(gpconnect.DirectoryOptions{Address: srv.URL, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	find := func(want gpconnect.Endpoint) {
		t.Helper()
		if got, err := d.Endpoint(t.Context(), "M85001", gpconnect.InteractionDocumentSearch); err != nil || got != want {
			t.Errorf("got %v %v, want %v", got, err, want)
		}
	}
	documents := gpconnect.Endpoint{Address: "https://gp.example/M85001/documents", ASID: "1"}
	find(documents)
	find(documents)
	if asked != 2 {
		t.Errorf("SDS was asked %d times, want 2: once for the endpoint, once for the device", asked)
	}
	at, down = at.Add(time.Hour), true
	find(documents)
	down = false
	find(documents)
	if asked != 5 {
		t.Errorf("SDS was asked %d times, want 5", asked)
	}
	if _, err := d.Endpoint(t.Context(), "M99999", gpconnect.InteractionStructured); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("a practice that SDS does not know: %v", err)
	}
}

func TestOnlyWhatTheSystemSaysItCanDoIsAsked(t *testing.T) {
	var bodies []string
	o := practice.Options{Source: cast.GP1, People: cast.Dozen(now), Now: clock, Minor: 2}
	p := practice.New(o)
	reads := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metadata" {
			reads++
		} else {
			b := new(strings.Builder)
			_, _ = copyBody(b, r)
			bodies = append(bodies, b.String())
		}
		p.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c, err := gpconnect.New(gpconnect.Options{Source: o.Source, Address: srv.URL, ASID: "1", ToASID: "2", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a := ask(t, c, cast.Main, dataset.Medications, dataset.Problems)
		if a.States[dataset.Medications] != dataset.Present || a.States[dataset.Problems] != "" {
			t.Errorf("states %v", a.States)
		}
		if !slices.ContainsFunc(a.Issues, func(i *fhir.Issue) bool { return i.Type == fhir.NotSupported && i.Expression == "problems" }) {
			t.Errorf("nobody says that problems are not offered: %v", a.Issues)
		}
	}
	if reads != 1 {
		t.Errorf("the capability was read %d times for two questions, want once", reads)
	}
	for _, b := range bodies {
		if strings.Contains(b, "includeProblems") || !strings.Contains(b, "includeMedication") {
			t.Errorf("asked %s", b)
		}
	}
}

// copyBody reads a request's body and puts it back.
func copyBody(to *strings.Builder, r *http.Request) (int64, error) {
	data, err := io.ReadAll(r.Body)
	to.Write(data)
	r.Body = io.NopCloser(strings.NewReader(string(data)))
	return int64(len(data)), err
}
