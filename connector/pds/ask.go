package pds

import (
	"context"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// MapVersion names how a record of PDS is read: as it is.
const MapVersion = "pds/1"

var _ connector.Asker = (*Client)(nil)

// Ask implements connector.Asker: a person's demographics and registered practice, by NHS number.
func (c *Client) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return c.ask(ctx, q, c.Read)
}

// Asked is the client as an asker that believes nothing that was said before: for finding out what PDS gives, and how fast, now.
func (c *Client) Asked() connector.Asker { return afresh{c} }

type afresh struct{ c *Client }

// Ask implements connector.Asker.
func (a afresh) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return a.c.ask(ctx, q, a.c.Fresh)
}

func (c *Client) ask(ctx context.Context, q connector.Question, read func(context.Context, fhir.NHSNumber, Turn) (*Found, error)) (*connector.Answer, error) {
	for _, id := range q.Identifiers {
		if id = id.Canonical(); id.System != fhir.SystemNHSNumber || id.Value == "" {
			continue
		}
		n, err := fhir.ParseNHSNumber(id.Value)
		if err != nil {
			return nil, fhir.IssueOf(err).From(c.o.Source)
		}
		f, err := read(ctx, n, Urgent)
		if fhir.Is(err, fhir.Deleted) {
			return nil, fhir.Errorf(fhir.NotFound, "PDS has invalidated this number").From(c.o.Source)
		}
		if err != nil {
			return nil, err
		}
		p := f.Patient
		a := &connector.Answer{Patient: p, States: map[dataset.Heading]dataset.State{}, Map: MapVersion, Bytes: int64(len(p.Raw()))}
		for _, h := range q.Headings {
			switch h {
			case dataset.Demographics:
				a.States[h] = dataset.Present
			case dataset.GPPractice:
				switch {
				case f.Restricted:
					a.States[h] = dataset.NotShared
				case p.Text("generalPractitioner.identifier.value") != "":
					a.States[h] = dataset.Present
				default:
					a.States[h] = dataset.NoneRecorded
				}
			}
		}
		return a, nil
	}
	return nil, fhir.Errorf(fhir.NotSupported, "PDS can be asked by NHS number only, and none is known for this person").From(c.o.Source)
}
