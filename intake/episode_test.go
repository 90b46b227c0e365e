package intake_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv/pebble"
	"tombolo/store"
)

// plain is a door that nobody follows, for tests that take in much.
func plain(t *testing.T) house {
	t.Helper()
	engine, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	h := house{db: db, stamper: open(t).stamper}
	h.Intake = intake.New(intake.Options{Store: db, Region: twoTrusts, Stamper: h.stamper})
	t.Cleanup(func() { _ = db.Close() })
	return h
}

// An adt is one message of an episode: event, minute of the day, and what PV1 says beside the visit number.
type adt struct {
	event      string
	minute     int
	class, loc string
	end        string
	more       string
}

func (a adt) wire(visit string, n int) string {
	at := fmt.Sprintf("20260302%02d%02d00", 8+a.minute/60, a.minute%60)
	pv1 := make([]string, 46)
	pv1[2], pv1[3], pv1[19], pv1[45] = a.class, a.loc, visit, a.end
	if a.class == "I" {
		pv1[44] = "20260302081000"
	}
	return strings.Join([]string{fmt.Sprintf("MSH|^~\\&|PAS|RX1|||%s||ADT^%s|%s-%d|P|2.4", at, a.event, visit, n), "EVN||" + at,
		"PID|1||T1" + visit + "^^^RX1^PI||Hart^Rosalind||19510417|2" + a.more, "PV1" + strings.TrimRight(strings.Join(pv1, "|"), "|")}, "\r") + "\r"
}

// together does each order, some dozens at a time.
func together(orders [][]int, do func(n int, order []int)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, 32)
	for n, order := range orders {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(n, order)
		})
	}
}

// Encounters converge to one right state through their whole life, in any order of arrival.
func TestAnEpisodesMessagesInAnyOrderGiveOneRightEncounter(t *testing.T) {
	episodes := []struct {
		name     string
		messages []adt
		want     string
	}{
		{"admitted, moved, discharged", []adt{
			{event: "A05", class: "P", loc: "Ward 1"}, {event: "A01", minute: 10, class: "I", loc: "Ward 1"}, {event: "A02", minute: 20, class: "I", loc: "Ward 2"},
			{event: "A08", minute: 30, class: "I", loc: "Ward 2"}, {event: "A03", minute: 40, class: "I", loc: "Lounge", end: "20260302084000"}},
			"finished IMP from 2026-03-02T08:10:00+00:00 to 2026-03-02T08:40:00+00:00 in Lounge"},
		{"the discharge was cancelled, and then done", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A03", minute: 10, class: "I", loc: "Ward 1", end: "20260302081000"}, {event: "A13", minute: 20, class: "I", loc: "Ward 1"},
			{event: "A02", minute: 30, class: "I", loc: "Ward 3"}, {event: "A03", minute: 50, class: "I", loc: "Ward 3", end: "20260302085000"}},
			"finished IMP from 2026-03-02T08:10:00+00:00 to 2026-03-02T08:50:00+00:00 in Ward 3"},
		{"the discharge was cancelled in the same minute", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A13", minute: 10, class: "I", loc: "Ward 1"}, {event: "A03", minute: 10, class: "I", loc: "Ward 1", end: "20260302081000"},
			{event: "A08", minute: 20, class: "I", loc: "Ward 1"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"the admission was cancelled, and something was still said of it", []adt{
			{event: "A05", class: "P", loc: "Ward 1"}, {event: "A01", minute: 10, class: "I", loc: "Ward 1"}, {event: "A02", minute: 20, class: "I", loc: "Ward 2"},
			{event: "A12", minute: 30, class: "I", loc: "Ward 1"}, {event: "A11", minute: 40, class: "I", loc: "Ward 1"}, {event: "A08", minute: 50, class: "I", loc: "Ward 1"}},
			"cancelled IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"on leave and back", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A21", minute: 10, class: "I", loc: "Ward 1"}, {event: "A22", minute: 60, class: "I", loc: "Ward 4"},
			{event: "A06", minute: 70, class: "I", loc: "Ward 5"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 5"},
		{"a visit that never was", []adt{
			{event: "A04", class: "O", loc: "Clinic"}, {event: "A08", minute: 10, class: "O", loc: "Clinic"}, {event: "A23", minute: 20, class: "O", loc: "Clinic"}},
			"entered-in-error AMB from  to  in Clinic"},
		{"a pre-admission that was cancelled", []adt{
			{event: "A05", class: "P", loc: "Ward 1"}, {event: "A08", minute: 10, class: "P", loc: "Ward 2"}, {event: "A38", minute: 20, class: "P", loc: "Ward 2"}},
			"cancelled PRENC from  to  in Ward 2"},
		{"an admission that was expected, and no longer", []adt{
			{event: "A14", class: "P", loc: "Ward 1"}, {event: "A08", minute: 10, class: "P", loc: "Ward 1"}, {event: "A27", minute: 20, class: "P", loc: "Ward 1"}},
			"cancelled PRENC from  to  in Ward 1"},
		{"a move that was cancelled", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A02", minute: 10, class: "I", loc: "Ward 2"}, {event: "A12", minute: 20, class: "I", loc: "Ward 1"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"a move that was expected, and no longer", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A15", minute: 10, class: "I", loc: "Ward 1"}, {event: "A26", minute: 20, class: "I", loc: "Ward 1"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"a discharge that was expected, and no longer", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A16", minute: 10, class: "I", loc: "Ward 1"}, {event: "A25", minute: 20, class: "I", loc: "Ward 1"},
			{event: "A02", minute: 30, class: "I", loc: "Ward 2"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 2"},
		{"gone to be X-rayed, and back", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A09", minute: 10, class: "I", loc: "X-ray"}, {event: "A10", minute: 20, class: "I", loc: "Ward 1"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"a leave that was cancelled", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A21", minute: 10, class: "I", loc: "Ward 1"}, {event: "A52", minute: 20, class: "I", loc: "Ward 1"},
			{event: "A08", minute: 30, class: "I", loc: "Ward 1"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"a return from leave that was cancelled", []adt{
			{event: "A01", class: "I", loc: "Ward 1"}, {event: "A21", minute: 10, class: "I", loc: "Ward 1"}, {event: "A22", minute: 20, class: "I", loc: "Ward 1"},
			{event: "A53", minute: 30, class: "I", loc: "Ward 1"}},
			"onleave IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1"},
		{"from the emergency department to a ward, and to the clinic", []adt{
			{event: "A04", class: "E", loc: "ED"}, {event: "A06", minute: 10, class: "I", loc: "Ward 1"}, {event: "A07", minute: 20, class: "O", loc: "Clinic"},
			{event: "A03", minute: 30, class: "O", loc: "Clinic", end: "20260302083000"}},
			"finished AMB from 2026-03-02T08:10:00+00:00 to 2026-03-02T08:30:00+00:00 in Clinic"},
		{"beds exchanged", []adt{
			{event: "A01", class: "I", loc: "Ward 1^Bay 1^1"}, {event: "A17", minute: 10, class: "I", loc: "Ward 1^Bay 1^2"}, {event: "A08", minute: 20, class: "I", loc: "Ward 1^Bay 1^2"}},
			"in-progress IMP from 2026-03-02T08:10:00+00:00 to  in Ward 1, Bay 1, Bed 2"},
	}
	for _, e := range episodes {
		t.Run(e.name, func(t *testing.T) {
			h := plain(t)
			orders := permutations(len(e.messages))
			if testing.Short() {
				orders = orders[:min(len(orders), 60)]
			}
			together(orders, func(n int, order []int) { // many at once share the disk's commits
				visit := fmt.Sprintf("V%d", n)
				for _, i := range order {
					for d := range hl7v2.Deliveries([]byte(e.messages[i].wire(visit, i)), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
						if _, err := h.Accept(t.Context(), d); err != nil || d.Rejected != nil {
							t.Error(err, d.Rejected)
							return
						}
					}
				}
				r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", fhir.MakeRef("Encounter", visit)))
				if err != nil {
					t.Error(err)
					return
				}
				got := fmt.Sprint(r.Text("status"), " ", r.Text("class.code"), " from ", r.Text("period.start"), " to ", r.Text("period.end"), " in ", r.Text("location.location.display"))
				if got != e.want {
					t.Errorf("arriving in the order %v the visit is\n%s, want\n%s", order, got, e.want)
				}
			})
			t.Logf("%d orders of %d messages", len(orders), len(e.messages))
		})
	}
}

// What a later message emptied stays empty, though an older one that fills it comes after.
func TestANullThatOvertakesWhatItDeletesStillDeletesIt(t *testing.T) {
	h := plain(t)
	for _, m := range []string{
		adt{event: "A31", minute: 20, more: `|||||""`}.wire("", 2), // PID-13
		adt{event: "A31", minute: 10, more: `|||||01632 960222`}.wire("", 1),
	} {
		for d := range hl7v2.Deliveries([]byte(m), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
			if _, err := h.Accept(t.Context(), d); err != nil || d.Rejected != nil {
				t.Fatal(err, d.Rejected)
			}
		}
	}
	r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", fhir.MakeRef("Patient", "T1")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Get("telecom").Exists() || r.Text("name.family") != "Hart" {
		t.Errorf("the patient is %s", r.Raw())
	}
}

// The client registry scenarios of OHIE, as SanteMPI tests them: every registration is taken or refused for a reason, and merges make one person.
func TestTheIdentityScenariosOfAClientRegistry(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(dataRoot(t), "santempi-pix", "*"))
	if len(files) == 0 {
		t.Skip("SKIPPED: no folder 05-hl7v2/santempi-pix; set TOMBOLO_DATA to where the shared sample data lies")
	}
	slices.Sort(files)
	scenarios := map[string][]string{}
	for _, f := range files {
		_, n, _ := strings.Cut(filepath.Base(f), "OHIE-CR-")
		scenarios[n[:2]] = append(scenarios[n[:2]], f)
	}
	counts := map[string]int{}
	patients := map[string]map[string]bool{} // scenario -> persons
	for n, files := range scenarios {
		h := open(t)
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for d := range hl7v2.Deliveries(data, hl7v2.Options{Source: "trust"}) {
				if d.Rejected != nil {
					counts["refused: "+d.Rejected.Error()]++
				} else {
					counts["taken by "+d.Map]++
				}
				if _, err := h.Accept(t.Context(), d); err != nil {
					t.Errorf("%s: %v", filepath.Base(f), err)
				}
			}
		}
		patients[n] = map[string]bool{}
		for id, err := range h.db.Patients(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if person, err := h.people.PersonOf(t.Context(), id); err == nil {
				patients[n][person] = true
			}
		}
	}
	for k, n := range counts {
		t.Logf("%4d %s", n, k)
	}
	// 05: a newborn beside the mother; 16: two records merged by A40; 17: several merges, by two hospitals.
	for n, want := range map[string]int{"05": 2, "16": 1, "17": 2} {
		if got := len(patients[n]); got != want {
			t.Errorf("scenario %s ends with %d people, want %d", n, got, want)
		}
	}
}

func dataRoot(t *testing.T) string {
	t.Helper()
	if root := os.Getenv("TOMBOLO_DATA"); root != "" {
		return filepath.Join(root, "05-hl7v2")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(filepath.Dir(dir), "shared", "data", "05-hl7v2")
		}
	}
	return ""
}

// thread takes messages in, in one order, and gives a resource that they are about.
func (h house) thread(t *testing.T, ref fhir.Ref, messages []string, order []int) *fhir.Resource {
	t.Helper()
	for _, i := range order {
		for d := range hl7v2.Deliveries([]byte(messages[i]), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
			if d.Rejected != nil {
				t.Fatal(d.Rejected)
			}
			if _, err := h.Accept(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", ref))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Appointments that are moved, cancelled or missed, documents that are replaced and withdrawn, orders that are cancelled, results that are corrected: all in
// any order of arrival.
func TestAppointmentsDocumentsOrdersAndResultsInAnyOrderGiveOneState(t *testing.T) {
	msg := func(kind string, minute int, n string, segments ...string) string {
		at := fmt.Sprintf("202603020%d%02d00", 8+minute/60, minute%60)
		return strings.Join(append([]string{"MSH|^~\\&|PAS|RX1|||" + at + "||" + kind + "|" + n + fmt.Sprint(minute) + "|P|2.4", "PID|1||T1^^^RX1^PI||Hart^Rosalind||19510417|2"}, segments...), "\r") + "\r"
	}
	sch := func(n, when string) string { return "SCH|" + n + "|" + n + "|||||CHECK^Check-up||30|min|" + when }
	aip := "RGS|1\rAIP|1||C9000123^Hale^Owen"
	cases := []struct {
		name  string
		typ   string
		tell  func(n string) []string
		paths []string
		want  string
	}{
		{"booked, moved, missed", "Appointment", func(n string) []string {
			return []string{msg("SIU^S12", 0, n, sch(n, "^^30^20260401090000"), aip), msg("SIU^S13", 10, n, sch(n, "^^30^20260408100000"), aip), msg("SIU^S14", 20, n, sch(n, "^^30^20260408100000"), aip), msg("SIU^S26", 30, n, sch(n, ""))}
		}, []string{"status", "start", "participant.actor.display"}, "noshow 2026-04-08T10:00:00+01:00 Owen Hale"},
		{"booked, cancelled, changed afterwards", "Appointment", func(n string) []string {
			return []string{msg("SIU^S12", 0, n, sch(n, "^^30^20260401090000"), aip), msg("SIU^S15", 10, n, sch(n, "")), msg("SIU^S14", 20, n, sch(n, "^^30^20260401093000"), aip)}
		}, []string{"status", "start"}, "cancelled 2026-04-01T09:30:00+01:00"},
		{"a document replaced by another", "DocumentReference", func(n string) []string {
			return []string{msg("MDM^T02", 0, n, "TXA|1|DS^Summary|TX|||20260302||||||"+n+"|||||AU||AV", "OBX|1|TX|DS||First."), msg("MDM^T10", 10, n, "TXA|1|DS^Summary|TX|||20260303||||||"+n+"B|"+n+"||||AU||AV", "OBX|1|TX|DS||Second.")}
		}, []string{"status", "docStatus", "content.attachment.contentType"}, "superseded final text/plain; charset=utf-8"},
		{"a document withdrawn", "DocumentReference", func(n string) []string {
			return []string{msg("MDM^T02", 0, n, "TXA|1|DS^Summary|TX|||20260302||||||"+n+"|||||AU||AV", "OBX|1|TX|DS||First."), msg("MDM^T08", 10, n, "TXA|1|DS^Summary|TX|||20260303||||||"+n, "OBX|1|TX|DS||Second."), msg("MDM^T11", 20, n, "TXA|1|DS^Summary|TX|||20260303||||||"+n)}
		}, []string{"status", "docStatus", "content.attachment.contentType"}, "entered-in-error entered-in-error text/plain; charset=utf-8"},
		{"an order changed and cancelled", "ServiceRequest", func(n string) []string {
			return []string{msg("ORM^O01", 0, n, "ORC|NW|"+n, "OBR|1|"+n+"||FBC^Full blood count|||||||||||||||||||||||^^^^^R"), msg("ORM^O01", 10, n, "ORC|XO|"+n, "OBR|1|"+n+"||FBC^Full blood count|||||||||||||||||||||||^^^^^S"), msg("ORM^O01", 20, n, "ORC|CA|"+n)}
		}, []string{"status", "code.text", "priority"}, "revoked Full blood count stat"},
		{"a result, preliminary, final and corrected", "DiagnosticReport", func(n string) []string {
			obr := func(minute int, status, text string) string {
				return msg("ORU^R01", minute, n, fmt.Sprintf("OBR|1||%s||||20260302|||||||||||||||2026030209%02d00|||%s", n, minute, status), "NTE|1||"+text)
			}
			return []string{obr(1, "P", "looks low"), obr(2, "F", "is low"), obr(3, "C", "is normal"), obr(4, "C", "is normal, repeated")}
		}, []string{"status", "conclusion"}, "corrected is normal, repeated"},
		{"a document whose words were replaced under its number", "Binary", func(n string) []string {
			txa := func(kind string, minute int, text string) string {
				return msg(kind, minute, n, "TXA|1|DS^Summary|TX|||20260302||||||"+n+"|||||AU||AV", "OBX|1|TX|DS||"+text)
			}
			return []string{txa("MDM^T02", 0, "First."), txa("MDM^T08", 10, "Second."), txa("MDM^T08", 20, "Third.")}
		}, []string{"data"}, "VGhpcmQu"},
		{"a procedure that was told of again", "Procedure", func(n string) []string {
			pr1 := func(minute int, why string) string {
				return msg("ADT^A08", minute, n, "PV1|1|I|Ward 7||||||||||||||||V"+n, "PR1|1||W371^Hip replacement^OPCS4||20260302||||||||||"+why+"||||"+n)
			}
			return []string{pr1(0, "FALL^Fall"), pr1(10, "FRAC^Fracture"), pr1(20, "NECK^Fracture of neck of femur")}
		}, []string{"reasonCode.text"}, "Fracture of neck of femur"},
		{"a specimen that was told of again", "Specimen", func(n string) []string {
			spm := func(minute int, what string) string {
				return msg("OUL^R22", minute, n, "SPM|1|"+n+"||"+what, "OBR|1||R"+n+"|FBC^Full blood count|||20260302||||||||||||||||||F")
			}
			return []string{spm(0, "B^Blood"), spm(10, "VB^Venous blood"), spm(20, "AB^Arterial blood")}
		}, []string{"type.text"}, "Arterial blood"},
		{"a final result that is sent again changed, and does not say when it was issued", "DiagnosticReport", func(n string) []string {
			obr := func(minute int, text string) string {
				return msg("ORU^R01", minute, n, fmt.Sprintf("OBR|1||%s||||20260302||||||||||||||||||F", n), "NTE|1||"+text)
			}
			return []string{obr(1, "is low"), obr(2, "is normal"), obr(3, "is high")}
		}, []string{"status", "conclusion"}, "final is high"},
		{"a final result that is sent again changed in the same minute", "DiagnosticReport", func(n string) []string {
			obr := func(minute int, text string) string {
				return msg("ORU^R01", minute, n, fmt.Sprintf("OBR|1||%s||||20260302|||||||||||||||202603020900|||F", n), "NTE|1||"+text)
			}
			return []string{obr(1, "is low"), obr(2, "is normal"), obr(3, "is high")}
		}, []string{"status", "conclusion"}, "final is high"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := plain(t)
			for k, order := range permutations(len(c.tell(""))) {
				n := fmt.Sprintf("N%d", k)
				r := h.thread(t, fhir.MakeRef(c.typ, map[string]string{"Procedure": "PR.", "Specimen": "SP."}[c.typ]+n), c.tell(n), order)
				var got []string
				for _, p := range c.paths {
					for v := range r.Value().All(p) {
						got = append(got, v.Str())
					}
				}
				if strings.Join(got, " ") != c.want {
					t.Errorf("arriving in the order %v it is %q, want %q", order, strings.Join(got, " "), c.want)
				}
			}
		})
	}
}

// A message that says again what is known, under another control id and later, makes no new version of anything.
func TestSayingTheSameAgainChangesNothing(t *testing.T) {
	h := plain(t)
	for n, minute := range []int{0, 10} {
		for d := range hl7v2.Deliveries([]byte(adt{event: "A08", minute: minute, class: "I", loc: "Ward 1"}.wire("V1", n)), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
			if _, err := h.Accept(t.Context(), d); err != nil || d.Rejected != nil {
				t.Fatal(err, d.Rejected)
			}
		}
	}
	for _, ref := range []fhir.Ref{fhir.MakeRef("Encounter", "V1"), fhir.MakeRef("Patient", "T1V1")} {
		r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", ref))
		if err != nil {
			t.Fatal(err)
		}
		if v := r.Text("meta.versionId"); v != "1" {
			t.Errorf("%s has version %s after the same was said twice", ref.Type(), v)
		}
	}
}
