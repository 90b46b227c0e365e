package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tombolo/fhir"
)

// An exportWriter takes an export resource by resource. Either finish or abandon is called last.
type exportWriter interface {
	write(r *fhir.Resource) error
	finish(m manifest) error // what was written is whole
	abandon() error          // it is not, and must not look so
}

// An ndjsonStream is one resource a line, of all types. FHIR R4 nd-json.html
type ndjsonStream struct{ w *bufio.Writer }

func (s *ndjsonStream) write(r *fhir.Resource) error {
	_, err := s.w.Write(r.Raw())
	return errors.Join(err, s.w.WriteByte('\n'))
}

func (s *ndjsonStream) finish(manifest) error { return s.w.Flush() }

func (s *ndjsonStream) abandon() error { return s.w.Flush() }

// A bundleStream is one collection Bundle, written as it comes. FHIR R4 bundle.html
type bundleStream struct {
	w     *bufio.Writer
	under io.Writer
	path  string // of the file; "" for standard output
	n     int
}

func newBundleStream(w io.Writer, path string) *bundleStream {
	return &bundleStream{w: bufio.NewWriterSize(w, 1<<16), under: w, path: path}
}

func (s *bundleStream) write(r *fhir.Resource) error {
	before := `,{"resource":`
	if s.n == 0 {
		before = `{"resourceType":"Bundle","type":"collection","entry":[{"resource":`
	}
	s.n++
	_, err := s.w.WriteString(before)
	_, err2 := s.w.Write(r.Raw())
	return errors.Join(err, err2, s.w.WriteByte('}'))
}

func (s *bundleStream) finish(manifest) error {
	end := "]}\n"
	if s.n == 0 {
		end = `{"resourceType":"Bundle","type":"collection"}` + "\n"
	}
	_, err := s.w.WriteString(end)
	err = errors.Join(err, s.w.Flush())
	if f, ok := s.under.(*os.File); ok && s.path != "" {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	return err
}

// abandon leaves what cannot be taken for a Bundle: on standard output half of one, in a file nothing.
func (s *bundleStream) abandon() error {
	if f, ok := s.under.(*os.File); ok && s.path != "" {
		return errors.Join(f.Close(), os.Remove(s.path))
	}
	return s.w.Flush()
}

// An ndjsonFolder is a file for each type, and the manifest of HL7 Bulk Data Access, which is written last.
type ndjsonFolder struct {
	dir   string
	files map[string]*ndjsonFile
}

type ndjsonFile struct {
	f     *os.File
	w     *bufio.Writer
	sum   hash.Hash
	count int
}

func (d *ndjsonFolder) write(r *fhir.Resource) error {
	o := d.files[r.Type()]
	if o == nil {
		f, err := os.OpenFile(filepath.Join(d.dir, r.Type()+".ndjson"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		sum := sha256.New()
		o = &ndjsonFile{f: f, sum: sum, w: bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<16)}
		d.files[r.Type()] = o
	}
	o.count++
	_, err := o.w.Write(r.Raw())
	return errors.Join(err, o.w.WriteByte('\n'))
}

// A manifest tells what is in a folder. HL7 Bulk Data Access 2.0.0 export.html#response---output-manifest
type manifest struct {
	Region, Program, AuditHead string
}

type manifestFile struct {
	Type      string `json:"type"`
	URL       string `json:"url"`
	Count     int    `json:"count"`
	Extension fhir.M `json:"extension"`
}

func (d *ndjsonFolder) finish(m manifest) error {
	output, failed := []manifestFile{}, []manifestFile{}
	for _, typ := range slices.Sorted(maps.Keys(d.files)) {
		o := d.files[typ]
		if err := errors.Join(o.w.Flush(), o.f.Sync(), o.f.Close()); err != nil {
			return err
		}
		file := manifestFile{Type: typ, URL: typ + ".ndjson", Count: o.count, Extension: fhir.M{"sha256": hex.EncodeToString(o.sum.Sum(nil))}}
		if typ == "OperationOutcome" {
			failed = append(failed, file)
		} else {
			output = append(output, file)
		}
	}
	b, err := json.MarshalIndent(fhir.M{"transactionTime": fhir.Instant(time.Now()), "request": "tombolo export", "requiresAccessToken": false, "output": output, "error": failed,
		"extension": fhir.M{"region": m.Region, "program": m.Program, "auditHead": m.AuditHead}}, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, "manifest.json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// abandon leaves the files without a manifest: what was written was recorded as given, and is for whoever exports to remove.
func (d *ndjsonFolder) abandon() error {
	var err error
	for _, o := range d.files {
		err = errors.Join(err, o.w.Flush(), o.f.Close())
	}
	return err
}
