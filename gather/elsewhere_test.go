package gather_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

const annsCHI = "0101019998"

// there is a neighbour that knows people by CHI number alone, with its index.
func there(index source, asks ...string) (map[string]connector.Asker, func(*region.Region), *[]connector.Question) {
	var asked []connector.Question
	record := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		asked = append(asked, q)
		a := &connector.Answer{States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present}, Content: []*fhir.Resource{problem("7", "p")},
			Patient: fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemCHI, Value: annsCHI}}, "name": []fhir.HumanName{{Family: "Taylor", Given: []string{"Ann"}}}, "birthDate": "1948-03-12"})}
		return a, nil
	})
	return map[string]connector.Asker{"north": record, gather.IndexOf("north"): index}, func(r *region.Region) {
		r.Systems = r.Systems[:1] // the bench makes a system of each asker
		r.Neighbours = []region.Neighbour{{ID: "north", Name: "North", Kind: region.KindTombolo, Numbers: []string{"chi"}, Deadline: 5 * time.Second,
			Index: region.Index{Address: "http://north.example/identity", Asks: asks, Deadline: 100 * time.Millisecond}}}
	}, &asked
}

func says(ids ...fhir.Identifier) source {
	return func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		return &connector.Answer{Patient: fhir.New("Patient", "there", fhir.M{"identifier": append(ids, q.Identifiers...)})}, nil
	}
}

// A neighbour that knows people by another number is asked by it, once its index has said which it is; and nobody's record is asked for by a number of which it is not
// sure whose it is.
func TestANeighboursIndexSaysByWhichNumberItIsAsked(t *testing.T) {
	chi := fhir.Identifier{System: fhir.SystemCHI, Value: annsCHI}
	described := func(nhs, family, born, street, postcode string) source {
		return func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			if q.About == nil {
				return nil, fhir.Errorf(fhir.NotFound, "nobody by this number")
			}
			m := fhir.M{"identifier": []fhir.Identifier{chi}, "name": []fhir.HumanName{{Family: family, Given: []string{"Ann"}}}, "birthDate": born, "gender": "female", "address": []fhir.Address{{Line: []string{street}, PostalCode: postcode}}}
			if nhs != "" {
				m["identifier"] = []fhir.Identifier{chi, {System: fhir.SystemNHSNumber, Value: nhs}}
			}
			return &connector.Answer{Patient: fhir.New("Patient", "x", m)}, nil
		}
	}
	for name, c := range map[string]struct {
		index source
		asks  []string
		state gather.LaneState
		want  fhir.IssueType
		by    string // the number that the neighbour is asked by; "" if it is not asked
		alarm bool
	}{
		"by number":                  {says(chi), nil, gather.Answered, "", annsCHI, false},
		"described without doubt":    {described("", "Taylor", "1948-03-12", "1 Quay Street", "ZZ1 1AA"), []string{"pix", "match"}, gather.Answered, "", annsCHI, false},
		"described and not surely":   {described("", "Taylor", "1948-03-12", "9 Hill Road", "ZZ9 9ZZ"), []string{"pix", "match"}, gather.Failed, fhir.MultipleMatch, "", false},
		"somebody else's NHS number": {described("9990000433", "Taylor", "1948-03-12", "1 Quay Street", "ZZ1 1AA"), []string{"match"}, gather.Failed, fhir.BusinessRule, "", true},
		"her number on another":      {described(annsNumber, "Khan", "2015-11-05", "1 Quay Street", "ZZ1 1AA"), []string{"match"}, gather.Failed, fhir.BusinessRule, "", true},
		"not allowed to describe":    {described("", "Taylor", "1948-03-12", "1 Quay Street", "ZZ1 1AA"), []string{"pix"}, gather.NotHere, "", "", false},
		"knows nobody":               {fails(fhir.NotFound), nil, gather.NotHere, "", "", false},
		"knows her by nothing else":  {says(), nil, gather.NotHere, "", "", false},
		"is down":                    {fails(fhir.Transient), nil, gather.Failed, fhir.Transient, "", false},
		"says that some may be her":  {fails(fhir.MultipleMatch), nil, gather.Failed, fhir.MultipleMatch, "", false},
		"hangs": {func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil, gather.Failed, fhir.Timeout, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			askers, change, asked := there(c.index, c.asks...)
			b := openWith(t, askers, change)
			_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "2", Raw: []byte("a31"), Patient: "m1", Content: []*fhir.Resource{
				patient("m1", annsNumber, "Taylor", "1948-03-12").With("gender", "female").With("address", []fhir.Address{{Line: []string{"1 Quay Street"}, PostalCode: "ZZ1 1AA"}})}})
			must(t, err)
			rec := b.record(t)
			l := lane(rec, "north")
			if l.State != c.state || (l.Issue == nil) != (c.want == "") || l.Issue != nil && l.Issue.Type != c.want {
				t.Errorf("%s: %v, want %s %q", l.State, l.Issue, c.state, c.want)
			}
			by := ""
			for _, q := range *asked {
				by += q.Identifiers[0].Value
			}
			if by != c.by {
				t.Errorf("asked by %q, want %q", by, c.by)
			}
			if c.alarm != (b.audited(t, audit.WrongPatient) == 1) {
				t.Errorf("the alarm was raised %d times", b.audited(t, audit.WrongPatient))
			}
			if sec := rec.Section(dataset.Problems); c.state == gather.Failed && (sec.State != dataset.NotKnown || !slices.Contains(sec.Unknown, "North")) {
				t.Errorf("problems are %s, not known: %v", sec.State, sec.Unknown)
			}
		})
	}
}

// Of somebody whose whereabouts must not be known an index is told numbers and nothing else.
func TestARestrictedPersonIsNotDescribedElsewhere(t *testing.T) {
	var told []connector.Question
	askers, change, _ := there(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		told = append(told, q)
		return nil, fhir.Errorf(fhir.NotFound, "nobody")
	}, "pix", "match", "search")
	b := openWith(t, askers, change)
	b.record(t)
	restricted := patient("m1", annsNumber, "Taylor", "1948-03-12").With("meta", fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "R"}}})
	_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "2", Raw: []byte("a31"), Patient: "m1", Content: []*fhir.Resource{restricted}})
	must(t, err)
	b.record(t)
	if len(told) != 2 || told[0].About == nil || told[1].About != nil || len(told[1].Identifiers) != 1 {
		t.Errorf("told %+v", told)
	}
}

// Somebody who brings a number that nobody here has is found by what a neighbour's index says of it: here, if it leads to one person and no other.
func TestWhoBringsANeighboursNumberIsFound(t *testing.T) {
	nhs := fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber}
	for name, c := range map[string]struct {
		index source
		want  bool
	}{
		"known there":   {func(_ context.Context, q connector.Question) (*connector.Answer, error) { return says(nhs)(nil, q) }, true},
		"unknown there": {fails(fhir.NotFound), false},
		"down":          {fails(fhir.Transient), false},
		"another's":     {says(fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000433"}), false},
	} {
		t.Run(name, func(t *testing.T) {
			askers, change, _ := there(c.index)
			b := openWith(t, askers, func(r *region.Region) {
				change(r)
				r.Neighbours[0].Index.Deadline = time.Second // a busy machine needs it
			})
			id, err := b.Find(t.Context(), b.as(t, "doctor"), fhir.Identifier{System: fhir.SystemCHI, Value: annsCHI})
			if (err == nil) != c.want || err != nil && !fhir.Is(err, fhir.NotFound) {
				t.Fatalf("found %q: %v", id, err)
			}
			if c.want {
				if want, _ := b.Find(t.Context(), b.as(t, "doctor"), ann); id != want {
					t.Errorf("found %s, want %s", id, want)
				}
			}
			asked := 0
			for e, err := range b.audit.All(t.Context(), 0, 0) {
				must(t, err)
				s, err := e.Summary()
				must(t, err)
				if slices.Contains(s.What, "asked: north/index") {
					asked++
				}
				if strings.Contains(strings.Join(s.What, " ")+s.Query, annsCHI) {
					t.Error("the number stands in the audit log's words")
				}
			}
			if asked != 1 {
				t.Errorf("that the index was asked stands %d times in the audit log", asked)
			}
			if _, err := b.Find(t.Context(), b.as(t, "clerk"), fhir.Identifier{System: fhir.SystemCHI, Value: annsCHI}); err == nil {
				t.Error("reception traces nobody")
			}
		})
	}
}
