package document

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"tombolo/fhir"
)

// builder collects what a document becomes: shared by CDA and FHIR documents.
type builder struct {
	key      string // the document's own identifier, system|value
	patient  fhir.Ref
	security []fhir.Coding
	content  []*fhir.Resource
	issues   []*fhir.Issue
	has      map[fhir.Ref]bool
}

// label keeps a document's confidentiality, which every part of it then carries. FHIR R4 security-labels.html
func (b *builder) label(code string) {
	switch code {
	case "R", "V":
		b.security = []fhir.Coding{{System: fhir.SystemConfidentiality, Code: code}}
	}
}

func (b *builder) self() fhir.Reference { return fhir.Reference{Reference: string(b.patient)} }

// withoutWhereabouts takes address and telephone out of the Patient of a restricted document. The document's label is not put on the Patient
// itself: that would say that the person's location is restricted everywhere, which is the demographics service's to say.
func (b *builder) withoutWhereabouts(m fhir.M) {
	if len(b.security) == 0 || m["address"] == nil && m["telecom"] == nil {
		return
	}
	delete(m, "address")
	delete(m, "telecom")
	b.inform(fhir.Suppressed, "the document is restricted, so the patient's address and telephone numbers in it were not taken; they are in the original", "Patient")
}

// add puts a resource into the content, with the document's labels.
func (b *builder) add(typ, id string, m fhir.M) {
	if len(b.security) > 0 && (fhir.NeedsPatient(typ) || typ == "Binary") {
		m["meta"] = fhir.M{"security": b.security}
	}
	b.addOnce(typ, id, m)
}

// addOnce puts a resource into the content unless one of its id is there.
func (b *builder) addOnce(typ, id string, m fhir.M) {
	if b.has == nil {
		b.has = map[fhir.Ref]bool{}
	}
	if ref := fhir.MakeRef(typ, id); !b.has[ref] {
		b.has[ref] = true
		b.content = append(b.content, fhir.New(typ, id, m))
	}
}

func (b *builder) warn(t fhir.IssueType, text, at string) {
	b.issues = append(b.issues, &fhir.Issue{Type: t, Severity: fhir.Warning, Text: text, Expression: at})
}

func (b *builder) inform(t fhir.IssueType, text, at string) {
	b.issues = append(b.issues, &fhir.Issue{Type: t, Severity: fhir.Information, Text: text, Expression: at})
}

func setList[T any](m fhir.M, name string, list []T) {
	if len(list) > 0 {
		m[name] = list
	}
}

// national reports whether an identifier is a number given by a nation.
func national(id fhir.Identifier) bool {
	return id.System == fhir.SystemNHSNumber || id.System == fhir.SystemCHI || id.System == fhir.SystemHCN
}

// patientID is the id under which the source's patient is kept: made of the first local number and who gave it, so that all documents
// about the same patient of the same system meet; else of the national number; else the patient is known from this document only.
func patientID(local []string, list []fhir.Identifier, key string) string {
	if local != nil {
		return stableID("pat", local...)
	}
	for _, id := range list {
		if national(id) {
			return stableID("pat", id.System, id.Value)
		}
	}
	return stableID("pat", key)
}

// An attachment is a file inside a document.
type attachment struct {
	mime, title string
	data        []byte
}

// safe are the media types that are kept as they are: those that a browser shows, or offers to save, without running anything.
var safe = map[string]bool{"application/pdf": true, "text/plain": true, "image/png": true, "image/jpeg": true, "image/tiff": true, "text/rtf": true, "application/rtf": true}

// binary adds a Binary and gives the attachment element that points at it. FHIR R4 binary.html
func (b *builder) binary(n int, a attachment) fhir.Attachment {
	id := stableID("bin", b.key, strconv.Itoa(n))
	data := base64.StdEncoding.EncodeToString(a.data)
	b.add("Binary", id, fhir.M{"contentType": a.mime, "securityContext": b.self(), "data": data})
	return fhir.Attachment{ContentType: a.mime, URL: "Binary/" + id, Title: a.title, Size: json.Number(strconv.Itoa(len(a.data)))}
}
