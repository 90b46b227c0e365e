package node_test

import (
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/policy"
	"tombolo/web"
)

// register has a system send a patient.
func register(t *testing.T, n *node.Node, source, id, born string) {
	t.Helper()
	p := fhir.New("Patient", id, fhir.M{"name": []fhir.HumanName{{Use: "official", Family: "Taylor", Given: []string{"Margaret"}}}, "birthDate": born, "gender": "female",
		"address": []fhir.Address{{Line: []string{"7 Mill Lane"}, City: "Severnbridge", PostalCode: "ZZ99 3AB"}}})
	if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: source, ID: id + born, Received: time.Now(), ContentType: "application/fhir+json", Raw: p.Raw(),
		Content: []*fhir.Resource{p}, Patient: id, Map: "test/1"}); err != nil {
		t.Fatal(err)
	}
}

// A steward sees two records side by side, says that they are one person's, and takes it back; each look and each word is in the audit log of both
// people, and nobody else may see or say anything.
func TestAStewardSettlesWhoIsWhoAndIsAudited(t *testing.T) {
	n, _ := start(t, config(t, t.TempDir()))
	register(t, n, "pas", "p1", "1948-03-12")
	register(t, n, "epr", "e1", "1948-12-03")
	ctx := t.Context()
	steward := &access.Session{User: "leila", Name: "Leila Haddad", Role: policy.Steward, Trace: "one"}

	if _, err := n.Doubts(ctx, &access.Session{User: "dr", Role: policy.GP}, 10); !fhir.Is(err, fhir.Forbidden) {
		t.Errorf("a doctor asks for the worklist: %v", err)
	}
	st, err := n.Doubts(ctx, steward, 10)
	if err != nil || len(st.Pairs) != 1 {
		t.Fatalf("%v: %d pairs to look at, want one", err, len(st.Pairs))
	}
	pair := st.Pairs[0]
	if rows := pair.Rows(); len(rows) == 0 || pair.A.Name != "TAYLOR, Margaret" || !strings.Contains(strings.Join(pair.Why, ";"), "birth date") {
		t.Errorf("the pair is %+v", pair)
	}
	before := entriesAbout(t, n, pair)
	if before != 2 {
		t.Errorf("two people were shown, the audit log has %d entries about them", before)
	}
	if err := n.Tell(ctx, steward, pair.A.Patient, pair.B.Patient, web.IsSame, ""); !fhir.Is(err, fhir.Required) {
		t.Errorf("a word without a reason: %v", err)
	}
	if err := n.Tell(ctx, &access.Session{User: "dr", Role: policy.GP, Trace: "x"}, pair.A.Patient, pair.B.Patient, web.IsSame, "because"); !fhir.Is(err, fhir.Forbidden) {
		t.Errorf("a doctor says who is who: %v", err)
	}
	if err := n.Tell(ctx, steward, pair.A.Patient, pair.B.Patient, web.IsSame, "the surgery confirmed her date of birth"); err != nil {
		t.Fatal(err)
	}
	one, err := n.People.PersonOf(ctx, pair.A.Patient)
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := n.People.PersonOf(ctx, pair.B.Patient); other != one {
		t.Error("said to be the same, they are two people")
	}
	if st, err = n.Doubts(ctx, steward, 10); err != nil || len(st.Pairs) != 0 || len(st.Said) != 1 || st.Said[0].By != "leila" {
		t.Errorf("after the word: %+v, %v", st, err)
	}
	steward.Trace = "two"
	if err := n.Tell(ctx, steward, pair.B.Patient, pair.A.Patient, web.Withdrawn, "it was her sister"); err != nil {
		t.Fatal(err)
	}
	one, _ = n.People.PersonOf(ctx, pair.A.Patient)
	if other, _ := n.People.PersonOf(ctx, pair.B.Patient); other == one {
		t.Error("taken back, they are still one person")
	}
	if err := n.Tell(ctx, steward, pair.A.Patient, pair.B.Patient, web.Withdrawn, "it was her sister"); err != nil {
		t.Errorf("who heard no answer takes it back again: %v", err)
	}
	if err := n.Tell(ctx, steward, pair.A.Patient, pair.B.Patient, web.Withdrawn, "again"); !fhir.Is(err, fhir.Conflict) {
		t.Errorf("taken back twice: %v", err)
	}
	if got := entriesAbout(t, n, pair); got < before+5 {
		t.Errorf("two words and another look left %d entries, want one for each person each time", got-before)
	}
}

func entriesAbout(t *testing.T, n *node.Node, pair web.IdentityPair) int {
	t.Helper()
	seen := map[string]bool{}
	count := 0
	for _, patient := range []string{pair.A.Patient, pair.B.Patient} {
		id, err := n.People.PersonOf(t.Context(), patient)
		if err != nil {
			t.Fatal(err)
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		for _, err := range n.Audit.Show(t.Context(), id, 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
	}
	return count
}
