package web

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/region"
)

// fakeIdentity has one pair to settle.
type fakeIdentity struct{ told []string }

func (f *fakeIdentity) Doubts(context.Context, *access.Session, int) (*IdentityState, error) {
	gp := IdentitySide{Patient: "p1", Source: "Hilltop Surgery", Name: "TAYLOR, Margaret", Born: "1948-03-12", Sex: "female", Address: "7 Mill Lane, Severnbridge, ZZ99 3AB", Phone: "01632 960123", Numbers: "9990000107"}
	ward := IdentitySide{Patient: "e1", Source: "Severn Acute Trust", Name: "TAYLOR, Peggy <b>", Born: "1948-12-03", Sex: "female", Address: "7 Mill Lane, Severnbridge, ZZ99 3AB"}
	return &IdentityState{Pairs: []IdentityPair{{A: gp, B: ward, Likely: 97, Why: []string{"address same (+13.3)", "birth date one slip (+5.1)"}, Since: today}}, More: 3,
		Doubts: []IdentityDoubt{{IdentitySide: ward, Why: "shares a national number with somebody whose name and birth date differ", Since: today}},
		Said:   []IdentityWord{{A: gp, B: ward, Same: true, By: "leila", Reason: "the surgery confirmed it", At: today}}}, nil
}

func (f *fakeIdentity) Tell(_ context.Context, _ *access.Session, a, b, word, reason string) error {
	if reason == "" {
		return fhir.Errorf(fhir.Required, "give the reason: somebody else will have to understand it")
	}
	f.told = append(f.told, strings.Join([]string{a, b, word, reason}, "|"))
	return nil
}

func TestAStewardSeesBothRecordsSideBySideAndSaysWhichTheyAre(t *testing.T) {
	users, err := access.New(access.Options{Demo: true, Region: &region.Region{Users: []region.User{{ID: "leila", Name: "Leila Haddad", Role: "steward"}, {ID: "dr-marsh", Name: "Dr Helen Marsh", Role: "gp"}}}})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeIdentity{}
	srv := serve(t, Options{Records: newFake(), Access: users, Identity: f})

	if got := newReader(t, srv, "dr-marsh").get("/desk/identity"); got.status != 404 {
		t.Errorf("a doctor asks for the worklist: %d", got.status)
	}
	r := newReader(t, srv, "leila")
	r.get("/desk/identity").wants(t, "Who is who", "Hilltop Surgery", "Peggy &lt;b&gt;", "differs", "97 in 100", "And 3 more", "Not believed", "the surgery confirmed it", "Take back")
	if got := r.post("/desk/identity", url.Values{"a": {"p1"}, "b": {"e1"}, "word": {IsSame}}); got.status != 400 || !strings.Contains(got.body, "give the reason") {
		t.Errorf("without a reason: %d", got.status)
	}
	if got := r.post("/desk/identity", url.Values{"a": {"p1"}, "b": {"e1"}, "word": {NotSame}, "reason": {"her sister"}}); got.path != "/desk/identity" || len(f.told) != 1 || f.told[0] != "p1|e1|not-the-same|her sister" {
		t.Errorf("said: %q", f.told)
	}
}
