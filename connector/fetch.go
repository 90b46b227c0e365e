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

// A Retriever is a locator that knows how what its pointers lead to is fetched. pointer is a DocumentReference that it gave. Wherever the pointer's address leads, only
// places that the region file names are gone to: nobody who registers a pointer sends this node elsewhere.
type Retriever interface {
	Retrieve(ctx context.Context, by Requester, pointer *fhir.Resource) (Retrieved, error)
}

// Retrieved is what a pointer led to: a Binary, or an address to which the user's own browser is sent.
type Retrieved struct {
	File   *fhir.Resource
	Launch string
}
