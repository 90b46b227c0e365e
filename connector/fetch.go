package connector

import (
	"context"

	"tombolo/fhir"
)

// A Fetcher is a live source that hands out the files of its documents. address is the url of an Attachment that this source gave; one that is not
// the source's own is refused, so that no answer can send this node elsewhere. The answer is an R4 Binary.
type Fetcher interface {
	Fetch(ctx context.Context, by Requester, address string) (*fhir.Resource, error)
}
