// Package document takes clinical documents: FHIR documents, and ITK-style CDA with or without its distribution envelope, sent by HTTP POST
// or read from files.
//
// A document becomes its coded parts (patient, encounter, observations, diagnoses) and a DocumentReference with a page for reading, which
// this package writes itself from an allow-list, so that nothing in a document can run or call out when somebody opens it. The original is
// kept byte for byte with the delivery. A document is known by its own identifier: sent twice, it is there once.
package document

import (
	"bytes"
	"io"
	"iter"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// MaxBytes is the largest document that is taken.
const MaxBytes = 16 << 20

// Read makes a delivery of one document. It never fails: what cannot be mapped comes back with Rejected saying what is wrong, where and how to
// mend it, and Raw to be kept in quarantine.
func Read(source string, data []byte, contentType string, received time.Time) connector.Delivery {
	var d connector.Delivery
	var err error
	start := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n")
	switch {
	case len(data) > MaxBytes:
		err = fhir.Errorf(fhir.TooLong, "a document of more than %d MiB is not taken; send large files as attachments by reference to their owner", MaxBytes>>20)
		data = nil
	case len(start) == 0:
		err = fhir.Errorf(fhir.Required, "the document is empty")
	case start[0] == '<' || strings.Contains(contentType, "xml") || bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		d, err = readCDA(data)
	default:
		d, err = readFHIR(data)
	}
	d.Source, d.Received, d.ContentType, d.Raw = source, received, contentType, data
	for i := range d.Issues {
		d.Issues[i] = d.Issues[i].From(source)
	}
	if err != nil {
		issue := fhir.IssueOf(err)
		if issue == nil {
			issue = fhir.Errorf(fhir.Exception, "the document could not be read for a fault of this program")
		}
		// Without an ID the content's hash is the key, so that the mended document is not taken for this one again.
		d.ID, d.Content, d.Patient, d.Issues, d.Rejected = "", nil, "", nil, issue.From(source)
	}
	return d
}

// Deliveries reads one document file for import. name is its file name.
func Deliveries(source string, r io.Reader, name string) iter.Seq2[connector.Delivery, error] {
	return func(yield func(connector.Delivery, error) bool) {
		data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
		if err != nil {
			yield(connector.Delivery{}, fhir.Errorf(fhir.Transient, "the file could not be read: %w", err))
			return
		}
		contentType := "application/fhir+json"
		if strings.HasSuffix(strings.ToLower(name), ".xml") {
			contentType = "application/xml"
		}
		yield(Read(source, data, contentType, time.Now()), nil)
	}
}
