package fhirapi

import (
	"context"
	"net/http"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

var _ connector.Describer = (*Client)(nil)

// Describe reads the server's CapabilityStatement. FHIR R4 http.html#capabilities
func (c *Client) Describe(ctx context.Context, by connector.Requester) (connector.Description, error) {
	a := &asking{Client: c, q: connector.Question{Requester: by}, budget: newBudget(c.o.MaxBytes), answer: &connector.Answer{States: map[dataset.Heading]dataset.State{}}}
	r, err := a.fetch(ctx, http.MethodGet, c.base.JoinPath("metadata"), "")
	if err != nil {
		return connector.Description{}, asIssue(err).From(c.o.Source)
	}
	if r.Type() != "CapabilityStatement" {
		return connector.Description{}, fhir.Errorf(fhir.Structure, "the source says what it can do with a %s; a CapabilityStatement was expected", r.Type()).From(c.o.Source)
	}
	return connector.ReadCapability(r.Value()), nil
}
