package nrl

import (
	"context"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// An Asker is a locator that is asked whenever a record is opened: its pointers are entries of the record, each saying who else holds something and how to
// reach it. It implements connector.Asker.
type Asker struct {
	Client *Client
	Types  []string // system|code; none: all that it lets us have
	// Ours reports whether a pointer is one that we registered: what it points to is here already. nil: none is.
	Ours func(Pointer) bool
	// Content fetches what pointers lead to; nil: nothing is fetched.
	Content *Retriever
}

// Retrieve implements connector.Retriever.
func (a Asker) Retrieve(ctx context.Context, by connector.Requester, pointer *fhir.Resource) (connector.Retrieved, error) {
	if a.Content == nil {
		return connector.Retrieved{}, fhir.Errorf(fhir.NotSupported, "this is held elsewhere, and is not fetched from here: ask whoever holds the record")
	}
	return a.Content.Retrieve(ctx, by, pointer)
}

var _ connector.Asker = Asker{}

// Ask implements connector.Asker. Nothing is known of somebody of whom there is no pointer: NotFound.
func (a Asker) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	var subject Number
	for _, id := range q.Identifiers {
		if n, err := ParseNumber(id.Value); err == nil && id.System == fhir.SystemNHSNumber {
			subject = n
			break
		}
	}
	if subject == "" {
		return nil, fhir.Errorf(fhir.NotSupported, "a record locator can be asked only by an NHS number")
	}
	found, err := a.Client.Search(ctx, Query{Subject: subject, Types: a.Types}, q.Requester.TraceID)
	if err != nil && len(found.Pointers) == 0 {
		return nil, err
	}
	return Answer(found.Pointers, subject, found.Left, a.Ours, found.Bytes), err
}

// Answer is what pointers say of somebody, as an answer of a source. One about somebody else makes the whole of it theirs, so that it is dropped and the alarm
// raised. Without any it says that there is nothing.
func Answer(pointers []Pointer, subject Number, left int, ours func(Pointer) bool, size int64) *connector.Answer {
	a := &connector.Answer{States: map[dataset.Heading]dataset.State{}, Map: "nrl/1", Bytes: size}
	about := subject
	for _, p := range pointers {
		if n, err := ParseNumber(p.Subject()); err != nil || n != subject {
			about = n
		}
		if ours != nil && ours(p) || p.Text("status") != "current" {
			continue
		}
		r := p.Resource
		if !fhir.ValidID(r.ID()) {
			left++
			continue
		}
		if h := dataset.HeadingOf(r); h != "" {
			a.States[h] = dataset.Present
			a.Content = append(a.Content, r)
		}
	}
	if left > 0 {
		a.Issues = append(a.Issues, fhir.Errorf(fhir.Incomplete, "%d of the pointers could not be read", left))
	}
	a.Patient = fhir.New("Patient", "subject", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: about.Digits()}}})
	return a
}
