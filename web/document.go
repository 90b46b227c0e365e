package web

import (
	"bytes"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/text/encoding/charmap"

	"tombolo/access"
	"tombolo/fhir"
)

// maxHTML bounds what is sanitised, which costs several times its size. Text and PDF go out as they are.
const maxHTML = 8 << 20

// document opens a document of a record.
func (s *Site) document(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person, id := r.PathValue("person"), r.PathValue("id")
	if done, err := s.elsewhere(w, r, session, person); done || err != nil {
		return err
	}
	return s.openDocument(w, r, session, person, id)
}

func (s *Site) openDocument(w http.ResponseWriter, r *http.Request, session *access.Session, person, id string) error {
	if !fhir.ValidID(id) {
		return errNotFound
	}
	doc, err := s.opts.Records.Document(r.Context(), session, person, fhir.MakeRef("DocumentReference", id))
	if err != nil {
		return err
	}
	if doc.Launch != "" { // a system of its own, which asks who they are
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, doc.Launch, http.StatusSeeOther)
		return nil
	}
	body, contentType, csp, err := safely(doc.Title, doc.ContentType, doc.Data)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", csp)
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": fileName(doc.Title, contentType)}))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// safely makes a stranger's document fit to be shown under this site's address: three kinds only, each proven to be what it says.
// Whatever else it is, it runs no script, loads nothing, and is its own origin (sandbox).
func safely(title, declared string, data []byte) (body []byte, contentType, csp string, err error) {
	const sandbox = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
	mediaType, params, perr := mime.ParseMediaType(declared)
	if perr != nil {
		mediaType = strings.ToLower(strings.TrimSpace(declared))
	}
	if len(data) == 0 {
		return nil, "", "", fhir.Errorf(fhir.NotSupported, "The source sent this document without any content. Open it in the system that wrote it.")
	}
	switch mediaType {
	case "text/plain":
		return toUTF8(data, params["charset"]), "text/plain; charset=utf-8", sandbox, nil
	case "application/pdf":
		// ISO 32000-1 §7.5.2: the header may stand anywhere in the first 1024 bytes; no reader of ours wants it later.
		if !bytes.Contains(data[:min(len(data), 1024)], []byte("%PDF-")) {
			return nil, "", "", fhir.Errorf(fhir.NotSupported, "The source says that this document is a PDF, and it is not one. Open it in the system that wrote it.")
		}
		// A browser's own PDF reader does not start in a sandbox; it runs apart from the page's origin by itself.
		return data, "application/pdf", "default-src 'none'; object-src 'self'; frame-ancestors 'none'", nil
	case "text/html", "application/xhtml+xml":
		if len(data) > maxHTML {
			return nil, "", "", fhir.Errorf(fhir.TooLong, "This document is a web page of %s, which is too large to make safe here. Open it in the system that wrote it.", sayBytes(int64(len(data))))
		}
		return wholePage(title, cleanHTML(toUTF8(data, params["charset"]))), "text/html; charset=utf-8", sandbox, nil
	}
	return nil, "", "", fhir.Errorf(fhir.NotSupported, "Documents of this kind are not opened here: only text, PDF and plain web pages are safe to show. Open it in the system that wrote it.")
}

// htmlPolicy is what remains of a document that is a web page: its words, headings, lists and tables. No links, images, styles or forms.
var htmlPolicy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "div", "span", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "b", "strong", "i", "em", "u", "sub", "sup",
		"pre", "blockquote", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td")
	p.AllowAttrs("colspan", "rowspan").Matching(bluemonday.Integer).OnElements("td", "th")
	p.AllowAttrs("scope").Matching(bluemonday.Paragraph).OnElements("th")
	return p
}()

func cleanHTML(data []byte) []byte { return htmlPolicy.SanitizeBytes(data) }

func wholePage(title string, clean []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`<!DOCTYPE html><html lang="en-GB"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>`)
	template.HTMLEscape(&b, []byte(title))
	b.WriteString(`</title><style>body{font:1rem/1.5 Arial,sans-serif;max-width:50rem;margin:1.5rem auto;padding:0 1rem;overflow-wrap:anywhere}table{border-collapse:collapse}td,th{border:1px solid #4c6272;padding:.25rem .5rem;text-align:left}</style></head><body>`)
	b.Write(clean)
	b.WriteString("</body></html>\n")
	return b.Bytes()
}

// toUTF8 reads text in the encoding it says it has. Text that says nothing and is not UTF-8 is read as Windows-1252, which is what
// British systems of a certain age write.
func toUTF8(data []byte, charset string) []byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch strings.ToLower(charset) {
	case "iso-8859-1", "latin1", "windows-1252", "cp1252":
		if out, err := charmap.Windows1252.NewDecoder().Bytes(data); err == nil {
			return out
		}
	}
	if utf8.Valid(data) {
		return data
	}
	if out, err := charmap.Windows1252.NewDecoder().Bytes(data); err == nil {
		return out
	}
	return bytes.ToValidUTF8(data, []byte("\uFFFD"))
}

// fileName is a name under which a document may be kept, of its title's plain letters.
func fileName(title, contentType string) string {
	var b strings.Builder
	for _, c := range title {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 60 {
			break
		}
	}
	name := strings.Trim(b.String(), "-")
	if name == "" {
		name = "document"
	}
	switch {
	case strings.HasPrefix(contentType, "application/pdf"):
		return name + ".pdf"
	case strings.HasPrefix(contentType, "text/html"):
		return name + ".html"
	}
	return name + ".txt"
}
