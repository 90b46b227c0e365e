package standing_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/kv/enginetest"
	"tombolo/policy"
	"tombolo/standing"
	"tombolo/store"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestOnPostgreSQL(t *testing.T) { enginetest.OnPostgreSQL(t) }

func open(t *testing.T) (*store.DB, *standing.Index) {
	t.Helper()
	db, err := store.Open(store.Options{Engine: enginetest.Open(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	x := standing.New(db)
	f := db.Follower("standing", x.Handle)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = f.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done; _ = db.Close() })
	return db, x
}

// put writes a resource of the patient p1 and waits until it stands.
func put(t *testing.T, db *store.DB, r *fhir.Resource) {
	t.Helper()
	r = r.With("meta", fhir.M{"source": connector.SourceURI("pas")})
	_, err := db.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Put(t.Context(), store.Home{Source: "pas", Patient: "p1"}, r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, db)
}

func settle(t *testing.T, db *store.DB) {
	t.Helper()
	tail, err := db.Tail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if at, err := db.LoadCursor(t.Context(), "standing"); err == nil && at >= tail {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the index does not catch up")
}

func ods(code string) fhir.Reference {
	return fhir.Reference{Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: code}}
}

// Each thing that a source says of somebody's care makes the relationship that it is, while it lasts, and no longer.
func TestWhatMakesARelationship(t *testing.T) {
	at := func(days int) string { return noon.AddDate(0, 0, days).Format(time.RFC3339) }
	for _, c := range []struct {
		name string
		r    *fhir.Resource
		kind policy.Relationship
		org  string
		on   map[int]bool // days from now
	}{
		{"an open stay", fhir.New("Encounter", "a", fhir.M{"status": "in-progress", "period": fhir.M{"start": at(-3)}}), policy.OpenEncounter, "", map[int]bool{-4: false, 0: true, 300: true, 500: false}},
		{"a stay that is over", fhir.New("Encounter", "b", fhir.M{"status": "finished", "period": fhir.M{"start": at(-9), "end": at(-5)}}), policy.OpenEncounter, "", map[int]bool{0: true, 24: false}},
		{"a stay that was cancelled", fhir.New("Encounter", "c", fhir.M{"status": "cancelled", "period": fhir.M{"start": at(-9)}}), "", "", map[int]bool{0: false}},
		{"a referral to a clinic", fhir.New("ServiceRequest", "d", fhir.M{"status": "active", "intent": "order", "authoredOn": at(-30), "performer": []fhir.Reference{ods("RW4")}}), policy.OpenReferral, "RW4", map[int]bool{0: true, 400: false}},
		{"a referral that was revoked", fhir.New("ServiceRequest", "e", fhir.M{"status": "revoked", "intent": "order", "authoredOn": at(-30), "performer": []fhir.Reference{ods("RW4")}}), "", "", map[int]bool{0: false}},
		{"an appointment", fhir.New("Appointment", "f", fhir.M{"status": "booked", "start": at(10)}), policy.OpenAppointment, "", map[int]bool{-5: false, 0: true, 30: true, 60: false}},
		{"a team", fhir.New("CareTeam", "g", fhir.M{"status": "active", "managingOrganization": []fhir.Reference{ods("RY5")}}), policy.CareTeam, "RY5", map[int]bool{0: true}},
		{"a workgroup", fhir.New("CareTeam", "h", fhir.M{"status": "active", "identifier": []fhir.Identifier{{System: standing.SystemWorkgroup, Value: "ward-7"}}}), policy.Workgroup, "", map[int]bool{0: true}},
		{"an episode", fhir.New("EpisodeOfCare", "i", fhir.M{"status": "active", "period": fhir.M{"start": at(-9)}}), policy.CareTeam, "", map[int]bool{0: true}},
		{"a stay without a beginning", fhir.New("Encounter", "j", fhir.M{"status": "in-progress"}), "", "", map[int]bool{0: false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, x := open(t)
			put(t, db, c.r)
			_, ties, err := x.Of(t.Context(), "p1", "unknown")
			if err != nil {
				t.Fatal(err)
			}
			for day, want := range c.on {
				got := false
				for _, tie := range ties {
					got = got || tie.In(noon.AddDate(0, 0, day)) && tie.Kind == c.kind && tie.Organisation == c.org && tie.Source == "pas"
				}
				if got != want {
					t.Errorf("on day %d: %v, want %v (%+v)", day, got, want, ties)
				}
			}
			// What is taken back stands no more.
			if _, err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(t.Context(), c.r.Ref()) }); err != nil {
				t.Fatal(err)
			}
			settle(t, db)
			if _, ties, _ := x.Of(t.Context(), "p1"); len(ties) != 0 {
				t.Errorf("deleted, and it stands: %+v", ties)
			}
		})
	}
}

func TestAChoiceStandsUntilItIsWithdrawn(t *testing.T) {
	db, x := open(t)
	consent := func(status string) *fhir.Resource {
		return fhir.New("Consent", "c", fhir.M{"status": status, "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""), "provision": fhir.M{"type": "deny"}})
	}
	for _, c := range []struct {
		status string
		want   int
	}{{"active", 1}, {"inactive", 0}, {"active", 1}, {"entered-in-error", 0}} {
		put(t, db, consent(c.status))
		if s, _, err := x.Of(t.Context(), "p1"); err != nil || len(s.Choices) != c.want {
			t.Errorf("%s: %d choices (%v)", c.status, len(s.Choices), err)
		}
	}
}

// The answer of the National Data Opt-Out check: who is not in it may not be used, and an old answer is none.
func TestTheOptOutIsAnsweredFromTheChecksFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "answer.dat")
	if err := os.WriteFile(file, []byte("9990000107,\r\n999 000 0433\nnot a number\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := standing.Register{File: func() string { return file }, Now: func() time.Time { return now }}
	for number, want := range map[string]policy.OptOut{"9990000107": policy.MayBeUsed, "9990000433": policy.MayBeUsed, "9990000542": policy.OptedOut, "": policy.NotConsulted} {
		if got, err := r.Ask(t.Context(), number); err != nil || got != want {
			t.Errorf("%q: %d (%v), want %d", number, got, err, want)
		}
	}
	now = now.Add(standing.MaxListAge + time.Hour)
	if got, _ := r.Ask(t.Context(), "9990000107"); got != policy.NotConsulted {
		t.Errorf("an old answer says %d", got)
	}
	file += "-gone"
	if got, err := r.Ask(t.Context(), "9990000107"); err == nil || got == policy.MayBeUsed {
		t.Errorf("without a file: %d, %v", got, err)
	}
	if got, err := (standing.Register{}).Ask(t.Context(), "9990000107"); err != nil || got != policy.NotConsulted {
		t.Errorf("where none is configured: %d, %v", got, err)
	}
}

// A store in which somebody's ties stand in one document goes on to be read, and what becomes of them is heard of.
func TestTiesKeptTogetherAreStillRead(t *testing.T) {
	db, x := open(t)
	stay := func(id, status string) *fhir.Resource {
		return fhir.New("Encounter", id, fhir.M{"status": status, "period": fhir.M{"start": noon.AddDate(0, 0, -3).Format(time.RFC3339)}})
	}
	if _, err := db.Update(t.Context(), func(tx store.Tx) error {
		tx.Bucket(standing.Bucket).Put("p1", []byte(`{"t":{"Encounter/a":[{"k":"open-encounter","s":"pas","f":"2026-05-29T12:00:00Z","u":"2027-05-29T12:00:00Z"}]}}`))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	stands := func(what string, want int) {
		t.Helper()
		if _, ties, err := x.Of(t.Context(), "p1"); err != nil || len(ties) != want {
			t.Errorf("%s: %d ties stand (%v), want %d", what, len(ties), err, want)
		}
	}
	stands("as it was", 1)
	put(t, db, stay("b", "in-progress"))
	stands("with another", 2)
	put(t, db, stay("a", "in-progress"))
	stands("told of again", 2)
	put(t, db, stay("a", "cancelled"))
	stands("taken back", 1)
}
