package policy_test

import (
	"slices"
	"testing"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// pointer is a pointer of a custodian's, with what it says besides.
func pointer(id, custodian string, more fhir.M) *fhir.Resource {
	m := fhir.M{"status": "current", "custodian": fhir.M{"identifier": fhir.Identifier{System: fhir.SystemODS, Value: custodian}},
		"context": fhir.M{"related": []fhir.M{{"identifier": fhir.Identifier{System: fhir.SystemASID, Value: "200000000610"}}}}}
	for k, v := range more {
		m[k] = v
	}
	return fhir.New("DocumentReference", id, m)
}

func leadsTo(url string) fhir.M {
	return fhir.M{"content": []fhir.M{{"attachment": fhir.M{"contentType": "application/pdf", "url": url}}}}
}

// A pointer bears what that bears to which it leads, by whatever ties the two together; and nothing for what they have in common with everything.
func TestAPointerBearsWhatItLeadsTo(t *testing.T) {
	s := policy.NewSensitivity(policy.BuiltInLists(), nil)
	id := func(system, value string) []fhir.Identifier {
		return []fhir.Identifier{{System: system, Value: value}}
	}
	// What RX1 holds: a termination, its encounter, a letter and a referral of it, and a letter of something else.
	held := []*fhir.Resource{
		fhir.New("Procedure", "p", fhir.M{"code": fhir.Code(fhir.SystemSNOMED, "386639001", ""), "encounter": fhir.Reference{Reference: "Encounter/e"}}),
		fhir.New("Encounter", "e", fhir.M{"identifier": id("https://rx1.example/visit", "V17")}),
		fhir.New("DocumentReference", "letter", fhir.M{"meta": fhir.M{"source": "https://tombolo.dev/Id/source/pas#DOC-8"}, "masterIdentifier": fhir.Identifier{System: "urn:ietf:rfc:3986", Value: "urn:uuid:2f1a8a2e-1111-4f6f-9a6d-0d6a4b2e0001"},
			"identifier": append(id("https://rx1.example/doc", "D8"), id("", "LETTER-8")...), "context": fhir.M{"encounter": []fhir.M{{"reference": "Encounter/e"}}},
			"content": []fhir.M{{"attachment": fhir.M{"url": "https://dms.rx1.example:443/files/8.pdf"}}}}),
		fhir.New("ServiceRequest", "ubrn", fhir.M{"identifier": id("https://fhir.nhs.uk/Id/UBRN", "000000070000"), "encounter": fhir.Reference{Reference: "Encounter/e"}}),
		fhir.New("DocumentReference", "other", fhir.M{"masterIdentifier": fhir.Identifier{System: "https://rx1.example/doc", Value: "D9"}, "content": []fhir.M{{"attachment": fhir.M{"url": "https://dms.rx1.example/files/9.pdf"}}}}),
	}
	var trail policy.Trail
	trail.Mark(held, s.Labels(held), "RX1")
	for what, c := range map[string]struct {
		p     *fhir.Resource
		bears bool
	}{
		"its own identifier":                 {pointer("1", "RAX", fhir.M{"masterIdentifier": fhir.Identifier{System: "https://rx1.example/doc", Value: "D8"}}), true},
		"a UUID, whatever stands beside it":  {pointer("1", "RAX", fhir.M{"identifier": id("", "urn:uuid:2f1a8a2e-1111-4f6f-9a6d-0d6a4b2e0001")}), true},
		"a local number of the same holder":  {pointer("1", "RX1", fhir.M{"masterIdentifier": fhir.Identifier{Value: "LETTER-8"}}), true},
		"a local number of another":          {pointer("1", "RAX", fhir.M{"masterIdentifier": fhir.Identifier{Value: "LETTER-8"}}), false},
		"its encounter":                      {pointer("1", "RAX", fhir.M{"context": fhir.M{"encounter": []fhir.M{{"identifier": id("https://rx1.example/visit", "V17")[0]}}}}), true},
		"its referral":                       {pointer("1", "RAX", fhir.M{"context": fhir.M{"related": []fhir.M{{"identifier": id("https://fhir.nhs.uk/Id/UBRN", "000000070000")[0]}}}}), true},
		"its address":                        {pointer("1", "RAX", leadsTo("https://DMS.rx1.example/files/8.pdf")), true},
		"its address, by the proxy":          {pointer("1", "RAX", leadsTo("ssp://dms.rx1.example/files/8.pdf")), true},
		"its id here":                        {pointer("1", "RAX", leadsTo("https://record.example/fhir/DocumentReference/letter")), true},
		"an old version of it here":          {pointer("1", "RAX", leadsTo("https://record.example/fhir/DocumentReference/letter/_history/1")), true},
		"its id at who holds it":             {pointer("1", "RX1", leadsTo("https://api.rx1.example/R4/DocumentReference/DOC-8")), true},
		"the same id at another":             {pointer("1", "RAX", leadsTo("https://api.rax.example/R4/DocumentReference/DOC-8")), false},
		"what it belongs to":                 {pointer("1", "RAX", fhir.M{"relatesTo": []fhir.M{{"code": "appends", "target": fhir.M{"identifier": id("https://rx1.example/doc", "D8")[0]}}}}), true},
		"another letter":                     {pointer("1", "RX1", fhir.M{"masterIdentifier": fhir.Identifier{System: "https://rx1.example/doc", Value: "D9"}}), false},
		"another letter's address":           {pointer("1", "RX1", leadsTo("https://dms.rx1.example/files/9.pdf")), false},
		"the same host and nothing else":     {pointer("1", "RX1", leadsTo("https://dms.rx1.example/")), false},
		"a code of its own":                  {pointer("1", "RAX", fhir.M{"context": fhir.M{"event": []fhir.CodeableConcept{fhir.Code(fhir.SystemSNOMED, "386639001", "")}}}), true},
		"a security label of the document":   {pointer("1", "RAX", fhir.M{"securityLabel": []fhir.CodeableConcept{fhir.Code(fhir.SystemConfidentiality, "R", "")}}), true},
		"nothing but its system and its own": {pointer("1", "RX1", nil), false},
	} {
		got := s.Pointers([]*fhir.Resource{c.p}, &trail, nil)[0]
		if (got&policy.RestrictedLabel != 0) != c.bears || c.bears != got.Sealed() {
			t.Errorf("%s: labels %v, want marked: %v", what, got.Codings(), c.bears)
		}
	}
}

// Pointers that speak of the same thing are marked together, in whatever order they stand, and everything from a clinic that is nothing but sensitive is.
func TestPointersAreMarkedTogether(t *testing.T) {
	s := policy.NewSensitivity(policy.BuiltInLists(), nil)
	a := pointer("Y1-a", "Y1", fhir.M{"securityLabel": []fhir.CodeableConcept{fhir.Code(fhir.SystemConfidentiality, "V", "")}, "masterIdentifier": fhir.Identifier{System: "s", Value: "1"}})
	b := pointer("Y1-b", "Y1", fhir.M{"relatesTo": []fhir.M{{"code": "appends", "target": fhir.M{"identifier": fhir.Identifier{Value: "Y1-a"}}}}})
	c := pointer("Y1-c", "Y1", fhir.M{"relatesTo": []fhir.M{{"code": "appends", "target": fhir.M{"identifier": fhir.Identifier{Value: "Y1-b"}}}}})
	d := pointer("Y1-d", "Y1", leadsTo("https://y1.example/d"))
	for _, order := range [][]*fhir.Resource{{a, b, c, d}, {d, c, b, a}, {b, a, d, c}} {
		for i, l := range s.Pointers(order, nil, nil) {
			if (l&policy.VeryRestricted != 0) != (order[i] != d) {
				t.Errorf("%s: %v", order[i].ID(), l.Codings())
			}
		}
	}
	givesDocuments := map[dataset.Heading]region.Way{dataset.Documents: region.Push}
	agreed := &region.Region{Systems: []region.System{{ID: "clinic", Organisation: "Y2", Labels: []string{"R", "STD"}, Gives: givesDocuments}, {ID: "ward", Organisation: "Y3", Gives: givesDocuments},
		{ID: "ward-clinic", Organisation: "Y3", Labels: []string{"R"}, Gives: givesDocuments}}}
	of := func(ods string) policy.Labels { return policy.LabelsOfHolder(agreed, ods) }
	for ods, want := range map[string]bool{"Y2": true, "Y3": false, "Y9": false} {
		if got := s.Pointers([]*fhir.Resource{pointer("x", ods, nil)}, nil, of)[0]; got.Sealed() != want {
			t.Errorf("what %s registers: %v, want marked: %v", ods, got.Codings(), want)
		}
	}
}

// What a sensitive pointer leads to is sensitive, and what belongs to that, by the same ties; and nothing is that only has in common with it what everything has.
func TestWhatASensitivePointerLeadsToIsSensitive(t *testing.T) {
	s := policy.NewSensitivity(policy.BuiltInLists(), nil)
	number := func(value string) []fhir.Identifier {
		return []fhir.Identifier{{System: "https://rx1.example/doc", Value: value}}
	}
	held := []*fhir.Resource{
		fhir.New("Patient", "p", fhir.M{"identifier": number("D8")}),
		fhir.New("DocumentReference", "letter", fhir.M{"masterIdentifier": number("D8")[0], "content": []fhir.M{{"attachment": fhir.M{"url": "https://dms.rx1.example/8.pdf"}}}, "context": fhir.M{"encounter": []fhir.M{{"reference": "Encounter/e"}}}}),
		fhir.New("Encounter", "e", fhir.M{"identifier": []fhir.Identifier{{System: "https://rx1.example/visit", Value: "V17"}}}),
		fhir.New("MedicationRequest", "m", fhir.M{"encounter": fhir.Reference{Reference: "Encounter/e"}}),
		fhir.New("DocumentReference", "other", fhir.M{"masterIdentifier": number("D9")[0], "content": []fhir.M{{"attachment": fhir.M{"url": "https://dms.rx1.example/9.pdf"}}}}),
	}
	restricted := fhir.M{"securityLabel": []fhir.CodeableConcept{fhir.Code(fhir.SystemConfidentiality, "R", "")}}
	with := func(more fhir.M) fhir.M {
		m := fhir.M{}
		for _, from := range []fhir.M{restricted, more} {
			for k, v := range from {
				m[k] = v
			}
		}
		return m
	}
	all, none := []string{"DocumentReference/letter", "Encounter/e", "MedicationRequest/m"}, []string(nil)
	for what, c := range map[string]struct {
		ps   []*fhir.Resource
		want []string
	}{
		"by its identifier":         {[]*fhir.Resource{pointer("1", "RX1", with(fhir.M{"masterIdentifier": number("D8")[0]}))}, all},
		"by its address":            {[]*fhir.Resource{pointer("1", "RX1", with(leadsTo("ssp://dms.rx1.example/8.pdf")))}, all},
		"by its encounter":          {[]*fhir.Resource{pointer("1", "RX1", with(fhir.M{"context": fhir.M{"encounter": []fhir.M{{"identifier": fhir.Identifier{System: "https://rx1.example/visit", Value: "V17"}}}}}))}, all},
		"by its id here":            {[]*fhir.Resource{pointer("1", "RX1", with(leadsTo("https://record.example/fhir/DocumentReference/letter")))}, all},
		"by a code of the pointer":  {[]*fhir.Resource{pointer("1", "RX1", fhir.M{"masterIdentifier": number("D8")[0], "type": fhir.Code(fhir.SystemSNOMED, "386639001", "")})}, all},
		"by another pointer to it":  {[]*fhir.Resource{pointer("1", "RX1", with(nil)), pointer("2", "RX1", fhir.M{"masterIdentifier": number("D8")[0], "relatesTo": []fhir.M{{"code": "replaces", "target": fhir.M{"identifier": fhir.Identifier{Value: "1"}}}}})}, all},
		"a pointer without a label": {[]*fhir.Resource{pointer("1", "RX1", fhir.M{"masterIdentifier": number("D8")[0]})}, none},
		"to something else":         {[]*fhir.Resource{pointer("1", "RX1", with(fhir.M{"masterIdentifier": number("D7")[0]}))}, none},
		"nothing but its custodian": {[]*fhir.Resource{pointer("1", "RX1", with(nil))}, none},
	} {
		var got []string
		for i, l := range s.LabelsLed(held, s.Lead(c.ps), "RX1") {
			if l&policy.RestrictedLabel != 0 {
				got = append(got, string(held[i].Ref()))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v are marked, want %v", what, got, c.want)
		}
	}
}
