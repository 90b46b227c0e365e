package nrl

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"

	"tombolo/connector/nrl"
	"tombolo/fhir"
)

// create keeps a new pointer under an id of this server's making. The same request under the same correlation id is the same pointer: whoever has not
// heard the answer may ask again.
//
// NRL producer API, createDocumentReference; X-Correlation-ID
func (s *server) create(r *request) (*answer, error) {
	p, bad := nrl.Shape(r.body)
	if bad != nil {
		return nil, bad
	}
	return s.keep(r, p, newID(r.by.Organisation, s.again(r)))
}

// again is what a repeated request's id is made from; nil if it cannot be known again.
func (s *server) again(r *request) []byte {
	correlation := r.Header.Get(nrl.HeaderCorrelation)
	if correlation == "" {
		return nil
	}
	m := hmac.New(sha256.New, s.o.Key)
	for _, part := range [][]byte{[]byte(r.by.Application), []byte(r.by.Organisation), []byte(correlation), r.body} {
		sum := sha256.Sum256(part)
		m.Write(sum[:])
	}
	return m.Sum(nil)[:16]
}

// uuid writes 16 bytes as a UUID of version 8, which is whatever its maker likes. RFC 9562 §5.8
func uuid(b []byte) string {
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// upsert keeps a new pointer under the id that its producer gives. NRLF: upsertDocumentReference
func (s *server) upsert(r *request) (*answer, error) {
	p, bad := nrl.Shape(r.body)
	if bad != nil {
		return nil, bad
	}
	if id := p.ID(); id != "" && nrl.Custodian(id) != r.by.Organisation {
		if bad := nrl.Check(p, s.o.Settings); bad != nil {
			return nil, bad
		}
		return nil, nrl.Unprocessable("The id of the provided DocumentReference does not include the expected ODS code for this organisation")
	}
	return s.keep(r, p, p.ID())
}

// keep checks a new pointer in the service's order and keeps it.
func (s *server) keep(r *request, p nrl.Pointer, id string) (*answer, error) {
	if id != "" {
		p = nrl.Pointer{Resource: p.With("id", id)}
	}
	if bad := nrl.Check(p, s.o.Settings); bad != nil {
		return nil, bad
	}
	now := fhir.Instant(s.o.Now())
	if !r.by.Dates || p.Text("date") == "" {
		p = nrl.Pointer{Resource: p.With("date", now)}
	}
	p = nrl.Pointer{Resource: p.With("meta", fhir.M{"lastUpdated": now})}
	if p.Custodian() != r.by.Organisation {
		return nil, nrl.Unprocessable("The custodian of the provided DocumentReference does not match the expected ODS code for this organisation", "custodian.identifier.value")
	}
	if !contains(r.by.Types, p.Type()) {
		return nil, nrl.NotYours("The type of the provided DocumentReference is not in the list of allowed types for this organisation", "type.coding[0].code")
	}
	outcome := nrl.Created
	for _, rel := range p.Related() {
		if rel.Code == "replaces" {
			outcome = nrl.Superseded
		}
	}
	done := said(outcome)
	done.header = map[string]string{"Location": "/DocumentReference/" + id}
	if r.Method == http.MethodPost && s.again(r) != nil { // was this done before?
		if _, err := s.o.Registry.Get(r.Context(), r.by, id); err == nil {
			return done, nil
		} else if !fhir.Is(err, fhir.NotFound) {
			return nil, err
		}
	}
	replaces, err := s.replaced(r, p)
	if err != nil {
		return nil, err
	}
	if err := s.o.Registry.Create(r.Context(), r.by, p, replaces); err != nil {
		return nil, err
	}
	return done, nil
}

// replaced are the pointers that a new one takes the place of: of the same organisation, person and type, and there.
func (s *server) replaced(r *request, p nrl.Pointer) ([]string, error) {
	var out []string
	for i, rel := range p.Related() {
		wrong := func(text string) error {
			return nrl.Unprocessable(text, "relatesTo["+itoa(i)+"].target.identifier.value")
		}
		switch {
		case rel.ID == "":
			return nil, wrong("No identifier value provided for relatesTo target")
		case !r.by.Owns(nrl.Custodian(rel.ID)):
			return nil, wrong("The relatesTo target identifier value does not include the expected ODS code for this organisation")
		}
		if !r.by.Loose {
			was, err := s.o.Registry.Get(r.Context(), r.by, rel.ID)
			switch {
			case fhir.Is(err, fhir.NotFound):
				return nil, wrong("The relatesTo target document does not exist")
			case err != nil:
				return nil, err
			case was.Subject() != p.Subject():
				return nil, wrong("The relatesTo target document NHS number does not match the NHS number in the request")
			case was.Type() != p.Type():
				return nil, wrong("The relatesTo target document type does not match the type in the request")
			}
		}
		if rel.Code == "replaces" {
			out = append(out, rel.ID)
		}
	}
	return out, nil
}

// immutable are what an update may not change, in the order in which they are looked at.
var immutable = []string{"masterIdentifier", "id", "identifier", "status", "type", "subject", "custodian", "relatesTo", "author"}

// update changes a pointer of the producer's own.
//
// NRL producer API, updateDocumentReference
func (s *server) update(r *request, id string) (*answer, error) {
	p, bad := nrl.Shape(r.body)
	if bad != nil {
		return nil, bad
	}
	if p.ID() != id {
		return nil, nrl.Unprocessable("The document id in the path does not match the document id in the body")
	}
	if bad := nrl.Check(p, s.o.Settings); bad != nil {
		return nil, bad
	}
	if !r.by.Owns(nrl.Custodian(id)) {
		return nil, nrl.NotYours("The id of the provided DocumentReference does not include the expected ODS code for this organisation")
	}
	was, err := s.o.Registry.Get(r.Context(), r.by, id)
	if err != nil {
		return nil, err
	}
	for _, f := range immutable {
		if !same(p.Get(f), was.Get(f)) {
			return nil, nrl.Unprocessable("The field '"+f+"' is immutable and cannot be updated", f)
		}
	}
	p = nrl.Pointer{Resource: p.With("date", was.Text("date")).With("meta", fhir.M{"lastUpdated": fhir.Instant(s.o.Now())})}
	if err := s.o.Registry.Update(r.Context(), r.by, id, p); err != nil {
		return nil, err
	}
	return said(nrl.Updated), nil
}

// same compares two values by what they say.
func same(a, b fhir.Value) bool {
	if a.Exists() != b.Exists() {
		return false
	}
	if !a.Exists() {
		return true
	}
	var x, y any
	return json.Unmarshal(a.Raw(), &x) == nil && json.Unmarshal(b.Raw(), &y) == nil && reflect.DeepEqual(x, y)
}

// remove deletes a pointer of the producer's own. One that is not there is deleted already.
func (s *server) remove(r *request, id string) (*answer, error) {
	if !r.by.Owns(nrl.Custodian(id)) {
		return nil, nrl.NotYours("The requested DocumentReference cannot be deleted because it belongs to another organisation")
	}
	err := s.o.Registry.Delete(r.Context(), r.by, id)
	var issue *fhir.Issue
	switch {
	case errors.As(err, &issue) && issue.Type == fhir.NotFound:
		return said(nrl.NeverWas), nil
	case err != nil:
		return nil, err
	}
	return said(nrl.Deleted), nil
}
