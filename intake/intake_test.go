package intake_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv/enginetest"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/standing"
	"tombolo/store"
)

// A house is the door with all that stands behind it, on a real store.
type house struct {
	*intake.Intake
	db       *store.DB
	people   *mpi.Index
	standing *standing.Index
	where    *locator.Locator
	stamper  connector.Stamper
}

var twoTrusts = &region.Region{ID: "test", Systems: []region.System{
	{ID: "trust", Organisation: "RX1", Product: "PAS", Gives: map[dataset.Heading]region.Way{dataset.Results: region.Push}},
	{ID: "gp", Organisation: "M85001"},
}}

// All that is said of the door here, and of the rooms behind it, holds on PostgreSQL too.
func TestOnPostgreSQL(t *testing.T) { enginetest.OnPostgreSQL(t) }

func open(t *testing.T) house {
	t.Helper()
	db, err := store.Open(store.Options{Engine: enginetest.Open(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	h := house{db: db, stamper: connector.Stamper{Key: []byte("test")}}
	h.people, h.where, h.standing = mpi.New(db, h.stamper), locator.New(db), standing.New(db)
	ctx, stop := context.WithCancel(context.Background())
	followers := []*events.Follower{db.Follower("mpi", h.people.Handle), db.Follower("locator", h.where.Handle), db.Follower("standing", h.standing.Handle)}
	done := make(chan struct{}, len(followers))
	for _, f := range followers {
		go func() { _ = f.Run(ctx); done <- struct{}{} }()
	}
	h.Intake = intake.New(intake.Options{Store: db, Region: twoTrusts, Stamper: h.stamper, Await: func(ctx context.Context, seq events.Seq) error {
		return errors.Join(followers[0].Await(ctx, seq), followers[1].Await(ctx, seq), followers[2].Await(ctx, seq))
	}})
	t.Cleanup(func() {
		stop()
		for range followers {
			<-done
		}
		_ = db.Close()
	})
	return h
}

func patient(id, nhs, family, born string, more fhir.M) *fhir.Resource {
	f := fhir.M{"name": []fhir.HumanName{{Family: family, Given: []string{"Ann"}}}, "birthDate": born}
	if nhs != "" {
		f["identifier"] = []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}, {System: "https://trust.example/mrn", Value: id}}
	}
	for k, v := range more {
		f[k] = v
	}
	return fhir.New("Patient", id, f)
}

func result(id, of, status, value string) *fhir.Resource {
	return fhir.New("Observation", id, fhir.M{"status": status, "subject": fhir.Reference{Reference: "Patient/" + of},
		"code": fhir.Code(fhir.SystemSNOMED, "1", "Sodium"), "valueString": value,
		"category": []fhir.CodeableConcept{fhir.Code("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "")}})
}

func delivery(id string, patientID string, content ...*fhir.Resource) connector.Delivery {
	var raw bytes.Buffer
	for _, r := range content {
		raw.Write(r.Raw())
	}
	return connector.Delivery{Source: "trust", ID: id, Patient: patientID, Content: content, Raw: raw.Bytes(), ContentType: "x/y", Map: "test/1", Reply: []byte("AA " + id)}
}

const (
	annsNumber = "9990000107"
	annsFamily = "Taylor"
)

func (h house) observation(t *testing.T, id string) *fhir.Resource {
	t.Helper()
	r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", fhir.MakeRef("Observation", id)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsAcknowledgedCanBeFound(t *testing.T) {
	h := open(t)
	got, err := h.Accept(t.Context(), delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil), result("o1", "p1", "final", "138")))
	if err != nil || got.Duplicate || string(got.Reply) != "AA m1" {
		t.Fatalf("accept: %+v, %v", got, err)
	}
	person, err := h.people.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber})
	if err != nil {
		t.Fatalf("right after the acknowledgement the person is not to be found: %v", err)
	}
	p, err := h.people.Person(t.Context(), person)
	if err != nil || p.Name.Family != annsFamily || len(p.Patients) != 1 {
		t.Fatalf("person: %+v, %v", p, err)
	}
	ptr, ok, err := h.where.Pointers(t.Context(), p.Patients[0].ID)
	if err != nil || !ok || ptr.Headings[dataset.Results].Count != 1 {
		t.Errorf("pointers: %+v %v %v", ptr, ok, err)
	}
	types := map[string]int{}
	for r, err := range h.db.Patient(t.Context(), p.Patients[0].ID) {
		if err != nil {
			t.Fatal(err)
		}
		types[r.Type()]++
		if connector.SourceOf(r) != "trust" {
			t.Errorf("%s does not say that it is the trust's", r.Ref())
		}
	}
	if types["Patient"] != 1 || types["Observation"] != 1 || types["Provenance"] != 1 {
		t.Errorf("the record holds %v, want the patient, the result and where they came from", types)
	}
}

func TestTheSameMessageTwiceIsOneMessage(t *testing.T) {
	h := open(t)
	d := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil), result("o1", "p1", "final", "138"))
	if _, err := h.Accept(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	before, _ := h.db.Tail(t.Context())
	again, err := h.Accept(t.Context(), d)
	if err != nil || !again.Duplicate || string(again.Reply) != "AA m1" {
		t.Fatalf("the repeat got %+v, %v", again, err)
	}
	if after, _ := h.db.Tail(t.Context()); after != before {
		t.Errorf("the repeat changed something: the log went from %d to %d", before, after)
	}
	other := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil), result("o2", "p1", "final", "140"))
	if got, err := h.Accept(t.Context(), other); err != nil || got.Duplicate || !got.Reused {
		t.Errorf("the same id with other content: %+v, %v; want it taken and flagged", got, err)
	}
	h.observation(t, "o2")
}

func TestAPreliminaryResultNeverOverwritesTheFinalOne(t *testing.T) {
	versions := []*fhir.Resource{result("o1", "p1", "preliminary", "1"), result("o1", "p1", "final", "2"), result("o1", "p1", "corrected", "3")}
	var orders [][]int
	for a := range 3 {
		for b := range 3 {
			for c := range 3 {
				if a != b && b != c && a != c {
					orders = append(orders, []int{a, b, c})
				}
			}
		}
	}
	for _, order := range orders {
		h := open(t)
		for _, i := range order {
			id := string(rune('a' + i))
			if _, err := h.Accept(t.Context(), delivery(id, "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil), versions[i])); err != nil {
				t.Fatal(err)
			}
		}
		if got := h.observation(t, "o1").Text("valueString"); got != "3" {
			t.Errorf("arriving in the order %v the result reads %q, want the corrected one", order, got)
		}
	}
}

func TestADeliveryAboutSomebodyElseIsRefusedWholeAndKept(t *testing.T) {
	h := open(t)
	d := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil), result("o1", "p2", "final", "138"))
	if _, err := h.Accept(t.Context(), d); !fhir.Is(err, fhir.BusinessRule) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if _, err := h.people.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber}); !fhir.Is(err, fhir.NotFound) {
		t.Error("part of the refused delivery was taken in")
	}
	q, err := h.Quarantine(t.Context(), 0)
	if err != nil || len(q) != 1 || !q[0].Whole || q[0].Owner != "RX1" {
		t.Fatalf("quarantine: %+v, %v", q, err)
	}
	if raw, err := h.Raw(t.Context(), q[0].Hash); err != nil || !bytes.Equal(raw, d.Raw) {
		t.Errorf("the raw bytes are not kept: %v", err)
	}
}

func TestAMergeMovesThePatientAndNothingElse(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	must := func(_ connector.Receipt, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.Accept(ctx, delivery("m1", "old", patient("old", "", annsFamily, "1948-03-12", nil), result("o1", "old", "final", "1"))))
	must(h.Accept(ctx, delivery("m2", "new", patient("new", annsNumber, annsFamily, "1948-03-12", nil), result("o2", "new", "final", "2"))))
	merge := delivery("m3", "new", patient("new", annsNumber, annsFamily, "1948-03-12", nil),
		patient("old", "", annsFamily, "1948-03-12", fhir.M{"active": false, "link": []fhir.M{{"other": fhir.Reference{Reference: "Patient/new"}, "type": "replaced-by"}}}))
	must(h.Accept(ctx, merge))
	id, err := h.people.Resolve(ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := h.people.Person(ctx, id)
	if len(p.PatientIDs("trust")) != 2 {
		t.Fatalf("after the merge the person has %d patients at the trust, want both", len(p.Patients))
	}
	n := 0
	for r, err := range h.db.Patient(ctx, p.PatientIDs("trust")...) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Type() == "Observation" {
			n++
			if r.Text("meta.versionId") != "1" {
				t.Error("the merge rewrote a result")
			}
		}
	}
	if n != 2 {
		t.Errorf("the merged record has %d results, want both", n)
	}
}

func TestTwoSourcesWithOneNumberAreOnePersonOnlyIfTheyAgree(t *testing.T) {
	for _, c := range []struct {
		name, family, born string
		same               bool
	}{
		{"same surname and birth date", annsFamily, "1948-03-12", true},
		{"married since", "Smith", "1948-03-12", true},
		{"birth date mistyped", annsFamily, "1948-12-03", true},
		{"somebody else under a mistyped number", "Jones", "1999-01-01", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			first := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil))
			second := delivery("m2", "g1", patient("g1", annsNumber, c.family, c.born, nil))
			second.Source = "gp"
			for _, d := range []connector.Delivery{first, second} {
				if _, err := h.Accept(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			id, _ := h.people.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber})
			p, _ := h.people.Person(t.Context(), id)
			if same := len(p.Patients) == 2; same != c.same {
				t.Errorf("one person: %v, want %v", same, c.same)
			}
		})
	}
}

func TestAnObjectionIsKnownAsSoonAsItIsIn(t *testing.T) {
	h := open(t)
	consent := func(status string) *fhir.Resource {
		return fhir.New("Consent", "c1", fhir.M{"status": status, "patient": fhir.Reference{Reference: "Patient/p1"},
			"scope":     fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""),
			"provision": fhir.M{"type": "deny"}})
	}
	for i, c := range []struct {
		status  string
		objects bool
	}{{"active", true}, {"inactive", false}} {
		d := delivery(string(rune('a'+i)), "p1", consent(c.status), patient("p1", annsNumber, annsFamily, "1948-03-12", nil))
		if _, err := h.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		id, _ := h.people.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber})
		p, err := h.people.Person(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if s, _, err := h.standing.Of(t.Context(), p.PatientIDs("trust")...); err != nil || (len(s.Choices) == 1) != c.objects {
			t.Errorf("consent %s: %d choices (%v), want %v", c.status, len(s.Choices), err, c.objects)
		}
	}
}

func TestAFollowerThatLagsHoldsTheAcknowledgement(t *testing.T) {
	h := open(t)
	slow := intake.New(intake.Options{Store: h.db, Region: twoTrusts, Stamper: h.stamper, Await: func(context.Context, events.Seq) error { return context.DeadlineExceeded }})
	d := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil))
	if _, err := slow.Accept(t.Context(), d); !fhir.Is(err, fhir.Transient) {
		t.Fatalf("got %v, want a transient fault: no acknowledgement", err)
	}
	if got, err := h.Accept(t.Context(), d); err != nil || !got.Duplicate {
		t.Errorf("sent again it is not recognised: %+v, %v", got, err)
	}
}

func TestRejectedDeliveriesAreListedWithOwnerAndAge(t *testing.T) {
	h := open(t)
	d := connector.Delivery{Source: "trust", ID: "x", Raw: []byte("garbage"), ContentType: "x-application/hl7-v2+er7", Rejected: fhir.Errorf(fhir.Structure, "no MSH").At("MSH")}
	if _, err := h.Accept(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	q, err := h.Quarantine(t.Context(), 0)
	if err != nil || len(q) != 1 || q[0].At.IsZero() || time.Since(q[0].At) > time.Minute {
		t.Fatalf("%+v, %v", q, err)
	}
	if !slices.Equal(q[0].Issues, []intake.Note{{Type: fhir.Structure, Where: "MSH", Text: "no MSH"}}) {
		t.Errorf("issues: %+v", q[0].Issues)
	}
}

// What rots in the bytes that are kept is noticed when they are asked for.
func TestDamagedBytesAreNotGivenBack(t *testing.T) {
	h := open(t)
	raw := []byte("garbage")
	sum := sha256.Sum256(raw)
	hash := hex.EncodeToString(sum[:])
	d := connector.Delivery{Source: "trust", ID: "x", Raw: raw, Rejected: fhir.Errorf(fhir.Structure, "no MSH")}
	if _, err := h.Accept(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Raw(t.Context(), hash); err != nil || string(got) != "garbage" {
		t.Fatalf("Raw = %q, %v", got, err)
	}
	if _, err := h.db.Update(t.Context(), func(tx store.Tx) error {
		tx.Bucket(intake.BucketRaw).Put(hash, []byte("garbagf"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Raw(t.Context(), hash); err == nil || !fhir.Is(err, fhir.Exception) {
		t.Errorf("damaged: Raw = %q, %v", got, err)
	}
}

// However large a delivery is, its bytes come back as they came; so do those that were kept whole, before there were parts. A part that is gone or damaged is noticed.
func TestALargeDeliveryIsKeptInParts(t *testing.T) {
	h := open(t)
	const part = 1 << 20
	update := func(fn func(tx store.Tx)) {
		t.Helper()
		if _, err := h.db.Update(t.Context(), func(tx store.Tx) error { fn(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{part - 1, part, part + 1, 3 * part, 3*part + 17} {
		raw := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		sum := sha256.Sum256(raw)
		hash := hex.EncodeToString(sum[:])
		held := func(how string) {
			t.Helper()
			if got, err := h.Raw(t.Context(), hash); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%d bytes, %s: %d bytes come back, %v", size, how, len(got), err)
			}
		}
		d := connector.Delivery{Source: "trust", ID: strconv.Itoa(size), Raw: raw, Rejected: fhir.Errorf(fhir.Structure, "no MSH")}
		if _, err := h.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		held("as they were kept")
		if size > part {
			second, kept, err := h.db.View(intake.BucketRaw).Get(t.Context(), hash+"/00001")
			if err != nil || !kept || len(second) != min(size-part, part) {
				t.Fatalf("%d bytes: the second part has %d, %v, %v", size, len(second), kept, err)
			}
			update(func(tx store.Tx) { tx.Bucket(intake.BucketRaw).Delete(hash + "/00001") })
			if _, err := h.Raw(t.Context(), hash); !fhir.Is(err, fhir.Exception) {
				t.Errorf("%d bytes, a part gone: %v", size, err)
			}
		}
		update(func(tx store.Tx) { tx.Bucket(intake.BucketRaw).Put(hash, raw) })
		held("kept whole")
	}
}

func BenchmarkAccept(b *testing.B) {
	db, _ := store.Open(store.Options{Engine: enginetest.Open(b, b.TempDir())})
	defer db.Close()
	in := intake.New(intake.Options{Store: db, Region: twoTrusts, Stamper: connector.Stamper{Key: []byte("k")}})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		id := fmt.Sprintf("p%d", i)
		if _, err := in.Accept(b.Context(), delivery(id, "p", patient("p", annsNumber, annsFamily, "1948-03-12", nil), result(id, "p", "final", "1"))); err != nil {
			b.Fatal(err)
		}
	}
}

// HL7 v2.4 §2.10: an empty field leaves what is here as it is. A result's sparse PID must not undo a registration.
func TestAPartialPatientLeavesTheRestAsItIs(t *testing.T) {
	h := open(t)
	full := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", fhir.M{"telecom": []fhir.ContactPoint{{System: "phone", Value: "01632 960101"}}}))
	sparse := delivery("m2", "p1", fhir.New("Patient", "p1", fhir.M{
		"identifier": []fhir.Identifier{{System: "https://trust.example/mrn", Value: "p1"}}, "name": []fhir.HumanName{{Family: "Taylor-Smith"}}}), result("o1", "p1", "final", "1"))
	sparse.Partial = []string{"Patient"}
	for _, d := range []connector.Delivery{full, sparse} {
		if _, err := h.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	id, err := h.people.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := h.people.Person(t.Context(), id)
	if p.Name.Family != "Taylor-Smith" || p.BirthDate != "1948-03-12" || p.Phone != "01632 960101" {
		t.Errorf("after a sparse message the person is %s born %q on %q", p.Name.Family, p.BirthDate, p.Phone)
	}
}
