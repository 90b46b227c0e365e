package gather_test

import (
	"context"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// again makes the gatherer anew in a region that is a little different, with one more neighbour to ask.
func (b *bench) again(differ func(*region.Region), askers map[string]connector.Asker) *gather.Gatherer {
	o := b.opts
	r := *o.Region
	differ(&r)
	o.Region = &r
	all := map[string]connector.Asker{}
	for k, v := range o.Askers {
		all[k] = v
	}
	for k, v := range askers {
		all[k] = v
	}
	o.Askers = all
	return gather.New(o)
}

// A practice has closed, and another has taken its list: whoever works there has to do with the people who are still registered with the old one in the trust's records.
func TestTheSuccessorOfAPracticeHasItsList(t *testing.T) {
	b := open(t, nil)
	_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "2", Received: time.Now(), Raw: []byte("a31"), Patient: "m1", Content: []*fhir.Resource{with(patient("m1", annsNumber, "Taylor", "1948-03-12"),
		"generalPractitioner", []fhir.M{{"identifier": fhir.M{"system": fhir.SystemODS, "value": "M1"}}})}})
	must(t, err)
	anns, err := b.opts.People.Resolve(t.Context(), ann)
	must(t, err)
	clerk := *b.as(t, "clerk")
	clerk.Organisation = "M2"
	for name, c := range map[string]struct {
		successor string
		opens     bool
	}{"while the practice goes on": {"", false}, "when it was succeeded": {"M2", true}} {
		g := b.again(func(r *region.Region) {
			r.Organisations = append(r.Organisations, region.Organisation{ODS: "M1", Kind: region.KindGP, SucceededBy: c.successor}, region.Organisation{ODS: "M2", Kind: region.KindGP})
			r.Agreements = append([]region.Agreement{}, r.Agreements...)
			r.Agreements[0].Parties = append([]string{"M1", "M2"}, r.Agreements[0].Parties...)
		}, nil)
		_, err := g.Record(t.Context(), &clerk, anns, gather.Ask{})
		if (err == nil) != c.opens {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A neighbour in another nation is asked by its own numbers: an NHS number says nothing in Scotland, and is nobody's business there.
func TestANeighbourIsAskedByItsOwnNumbers(t *testing.T) {
	b := open(t, nil)
	anns, err := b.opts.People.Resolve(t.Context(), ann)
	must(t, err)
	var asked []fhir.Identifier
	ask := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		asked = append(asked, q.Identifiers...)
		return nil, fhir.Errorf(fhir.NotFound, "not known")
	})
	lane := func(numbers ...string) gather.Lane {
		asked = nil
		g := b.again(func(r *region.Region) {
			r.Neighbours = []region.Neighbour{{ID: "alba", Kind: "tombolo", Numbers: numbers}}
		}, map[string]connector.Asker{"alba": ask})
		rec, err := g.Record(t.Context(), b.as(t, "doctor"), anns, gather.Ask{})
		must(t, err)
		return rec.Lanes[len(rec.Lanes)-1]
	}
	if l := lane("chi"); l.State != gather.NotAsked || len(asked) != 0 {
		t.Errorf("without a CHI number it was asked: %v, %v", l.State, asked)
	}
	if lane(); len(asked) != 1 || asked[0].System != fhir.SystemNHSNumber {
		t.Errorf("one that takes any number was asked by %v", asked)
	}
	n := chiNumber()
	_, err = b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "3", Received: time.Now(), Raw: []byte("a31 chi"), Patient: "m1", Content: []*fhir.Resource{with(patient("m1", annsNumber, "Taylor", "1948-03-12"),
		"identifier", []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: annsNumber}, {System: fhir.SystemCHI, Value: n}})}})
	must(t, err)
	if lane("chi"); len(asked) != 1 || asked[0].System != fhir.SystemCHI || asked[0].Value != n {
		t.Errorf("Scotland was asked by %v", asked)
	}
}

// chiNumber is a valid number in the form of Scotland's: a birth date and four digits.
func chiNumber() string {
	for i := range 10 {
		if n, err := fhir.ParseNHSNumber("120348123" + string(rune('0'+i))); err == nil {
			return n.Digits()
		}
	}
	for i := range 10 {
		if n, err := fhir.ParseNHSNumber("120348124" + string(rune('0'+i))); err == nil {
			return n.Digits()
		}
	}
	return ""
}

func with(r *fhir.Resource, member string, value any) *fhir.Resource {
	m := fhir.M{}
	for c := range r.Value().Children() {
		if c.Key() != "resourceType" && c.Key() != "id" && c.Key() != member {
			m[c.Key()] = fhir.JSON(raw(c.Raw()))
		}
	}
	m[member] = value
	return fhir.New(r.Type(), r.ID(), m)
}

type raw []byte

func (r raw) MarshalJSON() ([]byte, error) { return r, nil }
