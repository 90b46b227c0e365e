package api

import (
	jsonpatch "github.com/evanphx/json-patch/v5"

	"tombolo/fhir"
)

// The media types in which a patch is taken. FHIR R4 http.html#patch
const (
	typeJSONPatch = "application/json-patch+json"
	typeFHIRJSON  = "application/fhir+json" // a Parameters resource: FHIRPath Patch
)

// A patch is a change to a resource, given as what to do to it.
type patch struct {
	json jsonpatch.Patch
}

// maxOperations bounds how many operations one patch has, and how much it may make a resource grow by copying.
const maxOperations = 1000

func readPatch(mediaType string, raw []byte) (*patch, error) {
	switch mediaType {
	case typeJSONPatch, "application/json":
		if _, err := fhir.ParseValue(raw); err != nil { // strict, and bounded in depth, before the library reads it
			return nil, err
		}
		p, err := jsonpatch.DecodePatch(raw)
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "a JSON Patch is an array of operations, each an object with op and path (RFC 6902)")
		}
		if len(p) > maxOperations {
			return nil, fhir.Errorf(fhir.TooCostly, "a patch has at most %d operations", maxOperations)
		}
		return &patch{json: p}, nil
	}
	return nil, fhir.Errorf(fhir.NotSupported, "send a patch as %s (RFC 6902)", typeJSONPatch).At("Content-Type")
}

var patchOptions = &jsonpatch.ApplyOptions{AccumulatedCopySizeLimit: 1 << 20}

// apply gives the resource as the patch leaves it. A test that fails, and a path that is not there, refuse the whole.
func (p *patch) apply(r *fhir.Resource) (*fhir.Resource, error) {
	out, err := p.json.ApplyWithOptions(r.Raw(), patchOptions)
	if err != nil {
		// The library's words quote the content: say which operation, not what.
		return nil, fhir.Errorf(fhir.Processing, "the patch does not fit: a test failed, or a path is not there. Read the resource, and make the patch again")
	}
	patched, err := fhir.Parse(out)
	if err != nil {
		return nil, err
	}
	return patched, shape(patched)
}
