package api

import (
	"bytes"
	"sort"
	"strconv"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"tombolo/fhir"
	"tombolo/fhir/fhirxml"
)

// The media types in which a patch is taken. FHIR R4 http.html#patch
const (
	typeJSONPatch = "application/json-patch+json"
	typeFHIRJSON  = "application/fhir+json" // a Parameters resource: FHIRPath Patch
)

// A patch is a change to a resource, given as what to do to it.
type patch struct {
	json     jsonpatch.Patch
	fhirpath []pathOperation
}

// maxOperations bounds how many operations one patch has, and how much it may make a resource grow by copying.
const maxOperations = 1000

func readPatch(mediaType string, raw []byte) (*patch, error) {
	if len(raw) > maxResourceValues && fhir.CountValues(raw)+bytes.Count(raw, []byte("<")) > maxResourceValues {
		return nil, fhir.Errorf(fhir.TooCostly, "a patch has at most %d operations", maxOperations)
	}
	switch {
	case formats[mediaType] == inXML:
		res, err := fhirxml.Decode(raw)
		if err != nil {
			return nil, err
		}
		return readFHIRPatch(res.Raw())
	case mediaType == typeFHIRJSON:
		return readFHIRPatch(raw)
	case mediaType == typeJSONPatch || mediaType == "application/json":
		if _, err := fhir.ParseValue(raw); err != nil { // strict, and bounded in depth, before the library reads it
			return nil, err
		}
		p, err := jsonpatch.DecodePatch(raw)
		if wrong := wrongOperation(raw); wrong != nil {
			return nil, wrong
		}
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "a JSON Patch is an array of operations, each an object with op and path (RFC 6902)")
		}
		if len(p) > maxOperations {
			return nil, fhir.Errorf(fhir.TooCostly, "a patch has at most %d operations", maxOperations)
		}
		return &patch{json: p}, nil
	}
	return nil, fhir.Errorf(fhir.NotSupported, "send a patch as %s (RFC 6902), or as %s with Parameters (FHIRPath Patch)", typeJSONPatch, typeFHIRJSON).At("Content-Type")
}

var patchOptions = &jsonpatch.ApplyOptions{AccumulatedCopySizeLimit: 1 << 20}

// apply gives the resource as the patch leaves it. A test that fails, and a path that is not there, refuse the whole.
func (p *patch) apply(r *fhir.Resource) (*fhir.Resource, error) {
	if p.json == nil {
		root, left := grow(r.Value()), budgetOf(len(p.fhirpath))
		for i, op := range p.fhirpath {
			if err := op.do(root, r.Type(), left); err != nil {
				return nil, fhir.IssueOf(err).At("Parameters.parameter[" + strconv.Itoa(i) + "]")
			}
		}
		return reshaped(root.json())
	}
	out, err := applied(p.json, r.Raw())
	if err != nil {
		return nil, p.misfit(r)
	}
	return reshaped(out)
}

// misfit says which operation does not fit: the first with which the patch up to it does not. The library's words quote the content, and these do not.
func (p *patch) misfit(r *fhir.Resource) error {
	n := sort.Search(len(p.json)-1, func(n int) bool {
		_, err := applied(p.json[:n+1], r.Raw())
		return err != nil
	})
	op := p.json[n]
	path, _ := op.Path()
	if op.Kind() == "test" {
		return fhir.Errorf(fhir.Processing, "the test of %.200q does not hold, and nothing was changed. Read the resource, and make the patch again", path).At("[" + strconv.Itoa(n) + "]")
	}
	return fhir.Errorf(fhir.Processing, "%s %.200q does not fit: the path is not there, or what it needs is missing; nothing was changed. Read the resource, and make the patch again", op.Kind(), path).At("[" + strconv.Itoa(n) + "]")
}

// wrongOperation says which operation of a JSON Patch is none. RFC 6902 §4
func wrongOperation(raw []byte) error {
	list, err := fhir.ParseValue(raw)
	if err != nil || !list.IsArray() {
		return nil
	}
	i := 0
	for op := range list.Children() {
		at := "[" + strconv.Itoa(i) + "]"
		switch op.Text("op") {
		case "add", "replace", "test", "remove", "move", "copy":
			if !op.Member("path").IsString() {
				return fhir.Errorf(fhir.Required, "each operation has a path, such as /name/0/family (RFC 6901)").At(at + ".path")
			}
		default:
			return fhir.Errorf(fhir.Structure, "an operation is an object whose op is add, remove, replace, move, copy or test").At(at + ".op")
		}
		i++
	}
	return nil
}

// applied is what the library makes of a patch. One that it cannot bear, such as a test without a value, is a patch that does not fit.
func applied(p jsonpatch.Patch, raw []byte) (out []byte, err error) {
	defer func() {
		if recover() != nil {
			err = fhir.Errorf(fhir.Processing, "the patch cannot be applied")
		}
	}()
	return p.ApplyWithOptions(raw, patchOptions)
}

// reshaped reads what a patch has left: it must be R4 still.
func reshaped(out []byte) (*fhir.Resource, error) {
	patched, err := fhir.Parse(out)
	if err != nil {
		return nil, err
	}
	return patched, shape(patched)
}
