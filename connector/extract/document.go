package extract

import (
	"bytes"
	"crypto/sha1" // FHIR R4 datatypes.html#Attachment fixes SHA-1; it guards against accidents, not attacks
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"tombolo/fhir"
)

// maxDocument is the size of the largest document taken in.
const maxDocument = 10 << 20

// mediaTypes are the kinds of document that are ever taken in: what a browser can show without running anything. HTML, SVG and XML
// are not among them.
var mediaTypes = []string{"application/pdf", "text/plain", "image/jpeg", "image/png", "application/rtf"}

// attached is a document that belongs to the row in hand.
type attached struct {
	contentType string
	url         string
	hash        string
	size        int
	bytes       []byte
}

// Documents opens files in one folder below root, for Deliveries. A name that leaves the folder, by "..", by being absolute or by
// a symbolic link, is refused, and so is what is no plain file: a named pipe would hang the reader.
func Documents(root *os.Root, folder string) func(name string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		name = strings.ReplaceAll(name, `\`, "/") // as Windows writes it
		if name == "" || len(name) > 400 || !filepath.IsLocal(name) || slices.Contains(strings.Split(name, "/"), "..") || strings.Contains(name, ":") {
			return nil, fhir.Errorf(fhir.Forbidden, "the file name leaves the drop folder: give the name of a file beside the manifest")
		}
		f, err := root.OpenFile(path.Join(folder, name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fhir.Errorf(fhir.NotFound, "the file is not in the drop folder: put it there, then send the manifest again")
		case err != nil:
			return nil, fhir.Errorf(fhir.Forbidden, "the file cannot be opened: it must be a plain file inside the drop folder")
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			_ = f.Close()
			return nil, fhir.Errorf(fhir.Forbidden, "the name is that of a folder or device, not of a file")
		}
		return f, nil
	}
}

// attach reads the document that a row names and makes its Binary.
func attach(name string, types []string, open func(string) (io.ReadCloser, error)) (*attached, error) {
	if open == nil {
		return nil, fhir.Errorf(fhir.NotSupported, "documents cannot be opened here: only the manifest was given")
	}
	r, err := open(name)
	if err != nil {
		if fhir.IssueOf(err) == nil {
			err = fhir.Errorf(fhir.NotFound, "the file cannot be opened")
		}
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	switch {
	case err != nil:
		return nil, fhir.Errorf(fhir.Transient, "read document: %w", err)
	case len(data) > maxDocument:
		return nil, fhir.Errorf(fhir.TooLong, "the document is larger than %d MiB", maxDocument>>20)
	case len(data) == 0:
		return nil, fhir.Errorf(fhir.Structure, "the document is empty")
	}
	typ := sniff(data)
	if base, _, _ := strings.Cut(typ, ";"); !slices.Contains(types, base) {
		return nil, fhir.Errorf(fhir.NotSupported, "the document is %s by its content, which is not taken in here; there may be %s", base, strings.Join(types, ", "))
	}
	sum := sha1.Sum(data)
	return &attached{contentType: typ, bytes: data, size: len(data), hash: base64.StdEncoding.EncodeToString(sum[:])}, nil
}

// sniff says what a document is by its bytes; what its name or manifest claims is not believed.
func sniff(data []byte) string {
	head := data[:min(len(data), 1024)]
	switch typ := http.DetectContentType(data); {
	case bytes.Contains(head, []byte("%PDF-")): // ISO 32000-1 annex H: within the first 1024 bytes
		return "application/pdf"
	case bytes.HasPrefix(head, []byte(`{\rtf`)):
		return "application/rtf"
	case !strings.HasPrefix(typ, "text/plain"):
		base, _, _ := strings.Cut(typ, ";")
		return base
	}
	if looksLikeMarkup(head) {
		return "text/html"
	}
	for _, c := range data {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f' {
			return "application/octet-stream"
		}
	}
	if utf8.Valid(data) {
		return "text/plain; charset=utf-8"
	}
	return "text/plain; charset=windows-1252"
}

// looksLikeMarkup catches what the standard sniffer lets pass as text and a browser might still take for a page or picture.
func looksLikeMarkup(head []byte) bool {
	s := bytes.ToLower(head)
	for _, tag := range []string{"<html", "<script", "<svg", "<!doctype", "<body", "<iframe", "<?xml", "javascript:"} {
		if bytes.Contains(s, []byte(tag)) {
			return true
		}
	}
	return false
}

// binary is the document as a resource of its own, under the same id as what refers to it, with the same labels, so that nothing
// can be read by asking for the Binary that could not be read by way of its DocumentReference. FHIR R4 binary.html
func (a *attached) binary(id, patient string, meta fhir.Value) (*fhir.Resource, error) {
	b := make([]byte, 0, base64.StdEncoding.EncodedLen(len(a.bytes))+1024)
	b = append(b, `{"resourceType":"Binary","id":`...)
	b = quote(b, id)
	if meta.Exists() {
		b = append(append(b, `,"meta":`...), meta.Raw()...)
	}
	b = quote(append(b, `,"contentType":`...), a.contentType)
	b = quote(append(b, `,"securityContext":{"reference":`...), patient)
	b = append(b, `},"data":"`...)
	b = base64.StdEncoding.AppendEncode(b, a.bytes)
	return fhir.Parse(append(b, `"}`...))
}
