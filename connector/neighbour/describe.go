package neighbour

import (
	"context"
	"io"
	"net/http"

	"tombolo/connector"
	"tombolo/fhir"
)

var _ connector.Describer = (*Neighbour)(nil)

// Describe reads what the neighbour says of its FHIR API. It tells that to anybody, so nobody is named to it.
func (n *Neighbour) Describe(ctx context.Context, by connector.Requester) (connector.Description, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/metadata", nil)
	if err != nil {
		return connector.Description{}, fhir.Errorf(fhir.Exception, "the request could not be made")
	}
	req.Header.Set("Accept", "application/fhir+json")
	by.Accompany(ctx, req.Header)
	resp, err := n.o.HTTP.Do(req)
	if err != nil {
		return connector.Description{}, failure(ctx, err)
	}
	defer resp.Body.Close()
	const most = 8 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return connector.Description{}, failure(ctx, err)
	}
	if err := status(resp, data); err != nil {
		return connector.Description{}, err
	}
	if len(data) > most {
		return connector.Description{}, fhir.Errorf(fhir.TooLong, "what the neighbour says of itself is larger than %d bytes", most)
	}
	if err := fhir.CheckCost(data); err != nil {
		return connector.Description{}, err
	}
	r, err := fhir.Parse(data)
	if err != nil {
		return connector.Description{}, err
	}
	if r.Type() != "CapabilityStatement" {
		return connector.Description{}, fhir.Errorf(fhir.Structure, "the neighbour says what it can do with a %s; a CapabilityStatement was expected", r.Type())
	}
	return connector.ReadCapability(r.Value()), nil
}
