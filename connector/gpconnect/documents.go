package gpconnect

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// A DocumentFilter narrows a search for documents. The zero filter asks for all.
type DocumentFilter struct {
	From, To    string // created; whole dates
	Author      string // ODS code
	Description string
}

// Documents searches for a person's documents. Nothing is fetched: each DocumentReference that has a file carries the file's whole address,
// which Fetch takes. One without is a placeholder, whose reason stands in content.attachment.title.
//
// GP Connect 1.6 access_documents_development_search_patient_documents.html
func (c *Client) Documents(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, f DocumentFilter) (*Converted, error) {
	done, _, err := c.documents(ctx, by, nhs, f)
	return done, from(err, c.o.Source)
}

func (c *Client) documents(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, f DocumentFilter) (*Converted, int64, error) {
	if !directCare(by.Purpose) {
		return nil, 0, fhir.Errorf(fhir.Forbidden, "GP Connect may be asked for direct care only")
	}
	patient, n, err := c.findPatient(ctx, by, nhs, InteractionDocumentPatient)
	if err != nil {
		return nil, 0, err
	}
	query, err := f.query()
	if err != nil {
		return nil, 0, err
	}
	done, err := c.record(ctx, by, call{method: http.MethodGet, path: "/Patient/" + url.PathEscape(patient.Text("id")) + "/DocumentReference",
		interaction: InteractionDocumentSearch, scope: "patient/*.read", query: query}, true)
	if err != nil {
		return nil, 0, err
	}
	to, err := c.endpoint(ctx, InteractionDocumentRead)
	if err != nil {
		return nil, 0, err
	}
	if done.Patient == nil { // somebody without documents may come without themselves too
		if done.Patient, err = convertPatient(patient); err != nil {
			return nil, 0, err
		}
	}
	for i, r := range done.Content {
		if r.Type() == "DocumentReference" {
			done.Content[i] = done.place(r, to.Address)
		}
	}
	return done, n + done.Bytes, nil
}

// query are the parameters of the search, the five mandatory among them.
func (f DocumentFilter) query() (url.Values, error) {
	q := url.Values{
		"_include": {"DocumentReference:subject:Patient", "DocumentReference:custodian:Organization", "DocumentReference:author:Organization",
			"DocumentReference:author:Practitioner"},
		"_revinclude:recurse": {"PractitionerRole:practitioner"},
	}
	for prefix, d := range map[string]string{"ge": f.From, "le": f.To} {
		if d == "" {
			continue
		}
		if _, err := time.Parse(time.DateOnly, d); err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "a search for documents is by whole dates, such as 2026-03-31").At("created")
		}
		q["created"] = append(q["created"], prefix+d)
	}
	if f.Author != "" {
		q.Set("author", fhir.SystemODS+"|"+f.Author)
	}
	if f.Description != "" {
		q.Set("description", f.Description)
	}
	return q, nil
}

// findPatient finds the practice's own id of a person. This is the one place where the interface that we are a guest of puts the NHS number
// into an address; nothing here logs addresses, and no error quotes one.
//
// GP Connect 1.6 foundations_use_case_find_a_patient.html
func (c *Client) findPatient(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, interaction string) (fhir.Value, int64, error) {
	bundle, size, err := c.ask(ctx, by, call{method: http.MethodGet, path: "/Patient", interaction: interaction, scope: "patient/*.read",
		query: url.Values{"identifier": {fhir.SystemNHSNumber + "|" + nhs.Digits()}}}, "Bundle")
	if err != nil {
		return fhir.Value{}, 0, err
	}
	var found fhir.Value
	for r := range bundle.All("entry.resource") {
		if r.Text("resourceType") != "Patient" {
			continue
		}
		if found.Exists() {
			return fhir.Value{}, 0, fhir.Errorf(fhir.MultipleMatch, "the practice has more than one record under this NHS number")
		}
		found = r
	}
	if !found.Exists() {
		return fhir.Value{}, 0, fhir.Errorf(fhir.NotFound, "the practice has no record of this person to share")
	}
	for id := range found.All("identifier") {
		if n := nhsIn(id); n != "" && n != nhs.Digits() {
			return fhir.Value{}, 0, fhir.Errorf(fhir.BusinessRule, "the practice answered about a different person; its answer was dropped: tell the practice's supplier").OfStranger()
		}
	}
	if id := found.Text("id"); id == "" || strings.ContainsAny(id, "/?#") {
		return fhir.Value{}, 0, fhir.Errorf(fhir.Required, "the practice's Patient has no id by which it could be asked about").At("Patient.id")
	}
	return found, size, nil
}

func convertPatient(v fhir.Value) (*fhir.Resource, error) {
	b, err := fhir.ParseValue(fhir.JSON(fhir.M{"resourceType": "Bundle", "entry": []fhir.M{{"resource": rawValue(v)}}}))
	if err != nil {
		return nil, err
	}
	done, err := Convert(b)
	if err != nil {
		return nil, err
	}
	return done.Patient, nil
}

// place gives a document's file its whole address, so that it is fetched from this practice and nowhere else; a placeholder gets its mark,
// and its reason into the report.
func (done *Converted) place(r *fhir.Resource, root string) *fhir.Resource {
	held := false
	for a := range r.Value().All("content.attachment") {
		held = held || a.Text("url") != "" || a.Text("data") != ""
	}
	if !held {
		reason := r.Text("content.attachment.title")
		text := "a document is listed whose file the practice does not have"
		if reason != "" {
			text = "a document is listed whose file the practice does not have: “" + plain(reason) + "”"
		}
		done.Issues = append(done.Issues, (&fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Information, Text: text}).At(string(dataset.Documents)))
		return tagged(r, dataset.Placeholder)
	}
	raw := r.Value().Rewrite(func(v fhir.Value) ([]byte, bool) {
		if v.Key() != "url" || !strings.HasPrefix(v.Str(), "Binary/") {
			return nil, false
		}
		return fhir.JSON(root + "/" + v.Str()), true
	})
	out, err := fhir.Parse(raw)
	if err != nil {
		return r
	}
	return out
}

// tagged adds one of this program's marks to a resource.
func tagged(r *fhir.Resource, code string) *fhir.Resource {
	meta := fhir.M{}
	var tags []any
	for m := range r.Value().Member("meta").Children() {
		if m.Key() != "tag" {
			meta[m.Key()] = rawValue(m)
		}
	}
	for t := range r.Value().All("meta.tag") {
		tags = append(tags, rawValue(t))
	}
	meta["tag"] = append(tags, fhir.Coding{System: dataset.SystemReading, Code: code})
	return r.With("meta", meta)
}

type rawJSON []byte

func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

func rawValue(v fhir.Value) rawJSON { return v.Raw() }

func (c *Client) documentsPart(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber) *part {
	done, size, err := c.documents(ctx, by, nhs, DocumentFilter{})
	if err != nil {
		return &part{err: err}
	}
	p := &part{patient: done.Patient, issues: done.Issues, bytes: size, state: dataset.NoneRecorded}
	for _, r := range done.Content {
		switch h := dataset.HeadingOf(r); {
		case r.Type() == "DocumentReference":
			p.state = dataset.Present
		case h != "":
			continue
		}
		p.content = append(p.content, r)
	}
	return p
}

// MaxDocument is the most that a file may have that a practice hands out. GP Connect 1.6 access_documents_development_binary.html
const MaxDocument = 5 << 20

// Fetch reads a document's file from the address that its DocumentReference carries, as an R4 Binary.
func (c *Client) Fetch(ctx context.Context, by connector.Requester, address string) (*fhir.Resource, error) {
	r, err := c.fetch(ctx, by, address)
	return r, from(err, c.o.Source)
}

func (c *Client) fetch(ctx context.Context, by connector.Requester, address string) (*fhir.Resource, error) {
	if !directCare(by.Purpose) {
		return nil, fhir.Errorf(fhir.Forbidden, "GP Connect may be asked for direct care only")
	}
	to, err := c.endpoint(ctx, InteractionDocumentRead)
	if err != nil {
		return nil, err
	}
	id, ok := strings.CutPrefix(address, to.Address+"/Binary/")
	if id, _, _ = strings.Cut(id, "/_history/"); !ok || !fhir.ValidID(id) {
		return nil, fhir.Errorf(fhir.Processing, "the document lies at another address than the practice's own, where nobody is asked; tell the practice's supplier")
	}
	// base64 is a third longer, and stands in JSON.
	v, _, err := c.ask(ctx, by, call{method: http.MethodGet, path: "/Binary/" + id, interaction: InteractionDocumentRead, scope: "patient/*.read",
		most: MaxDocument/3*4 + 64<<10}, "Binary")
	switch is := fhir.IssueOf(err); {
	case err == nil:
	case is != nil && is.Type == fhir.NotFound, is != nil && is.Type == fhir.TooLong:
		// A practice answers "no record" for a file that is over the limit as for one that is gone.
		return nil, fhir.Errorf(is.Type, "the document cannot be had through GP Connect: it is larger than 5 MB, or no longer there; ask the practice for it")
	default:
		return nil, err
	}
	data := v.Text("content") // R4 calls it data
	if n := base64.StdEncoding.DecodedLen(len(data)); n > MaxDocument+2 {
		return nil, fhir.Errorf(fhir.TooLong, "the document cannot be had through GP Connect: it is larger than 5 MB; ask the practice for it")
	}
	if data == "" || v.Text("contentType") == "" {
		return nil, fhir.Errorf(fhir.Required, "the practice sent a document without its content, or without saying what it is").At("Binary")
	}
	return fhir.New("Binary", id, fhir.M{"contentType": v.Text("contentType"), "data": data}), nil
}
