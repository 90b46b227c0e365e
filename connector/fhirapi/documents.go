package fhirapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Fetch hands out the file of a document that this server gave: a Binary, or whatever lies at the attachment's URL. It must lie below the configured
// address, since credentials go with the request. FHIR R4 binary.html; IHE MHD ITI-68
func (c *Client) Fetch(ctx context.Context, by connector.Requester, address string) (*fhir.Resource, error) {
	r, err := c.fetchFile(ctx, by, address)
	if err != nil {
		return nil, asIssue(err).From(c.o.Source)
	}
	return r, nil
}

func (c *Client) fetchFile(ctx context.Context, by connector.Requester, address string) (*fhir.Resource, error) {
	at, err := url.Parse(address)
	if err != nil || at.RawQuery != "" || at.Fragment != "" || !c.within(at) {
		return nil, fhir.Errorf(fhir.Processing, "the document lies at another address than the source's own, where nobody is asked; tell its administrators")
	}
	data, form, err := c.do(ctx, request{method: http.MethodGet, at: at, accept: "application/fhir+json, */*;q=0.5", by: by}, newBudget(c.o.MaxBytes))
	if err != nil {
		return nil, err
	}
	if form == "application/fhir+json" || form == "application/json+fhir" {
		if err := fhir.CheckCost(data); err != nil {
			return nil, err
		}
		r, err := fhir.Parse(data)
		switch {
		case err != nil:
			return nil, err
		case r.Type() == "Binary" && r.Text("data") != "" && r.Text("contentType") != "":
			return r, nil
		case r.Type() == "Binary":
			return nil, fhir.Errorf(fhir.Required, "the source sent a document without its content, or without saying what it is").At("Binary")
		case r.Type() == "OperationOutcome":
			return nil, fhir.Errorf(fhir.Processing, "the source sent an OperationOutcome in place of the document")
		}
	}
	if form == "" {
		return nil, fhir.Errorf(fhir.Required, "the source sent a document without saying what it is").At("Content-Type")
	}
	return fhir.New("Binary", "document", fhir.M{"contentType": form, "data": base64.StdEncoding.EncodeToString(data)}), nil
}

// Documents asks an IHE MHD document responder for the documents it has about a person (ITI-67, Find Document References), and fetches them
// (ITI-68, Retrieve Document). It needs nothing of the server but DocumentReference: the person is named by identifier in the search itself.
type Documents struct{ *Client }

var (
	_ connector.Asker   = (*Documents)(nil)
	_ connector.Fetcher = (*Documents)(nil)
)

// NewDocuments makes a Documents. It opens no connection.
func NewDocuments(o Options) (*Documents, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Documents{c}, nil
}

// Ask finds the person's documents that are current, by each identifier in turn until one is known there. A responder says nothing of who the
// person is beyond the identifier; what it gives under another is dropped.
func (d *Documents) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	if !slices.Contains(q.Headings, dataset.Documents) {
		return nil, fhir.Errorf(fhir.NotSupported, "a document responder gives documents and nothing else").From(d.o.Source)
	}
	a := &asking{Client: d.Client, q: q, budget: newBudget(d.o.MaxBytes), seen: map[fhir.Ref]bool{}}
	a.answer = &connector.Answer{States: map[dataset.Heading]dataset.State{}, Map: "mhd/1"}
	var ids []fhir.Identifier
	for _, id := range q.Identifiers {
		if id = id.Canonical(); id.Check() == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, fhir.Errorf(fhir.NotFound, "the person has no identifier by which this source could be asked").From(d.o.Source)
	}
	var err error
	for _, id := range ids {
		var found []*fhir.Resource
		if found, err = a.documents(ctx, id); err != nil && len(found) == 0 {
			return nil, asIssue(err).From(d.o.Source)
		}
		if len(found) > 0 {
			a.answer.Content = found
			a.answer.Patient = fhir.New("Patient", subjectID(found[0]), fhir.M{"identifier": []fhir.Identifier{id}})
			break
		}
	}
	a.answer.Bytes = a.budget.used()
	switch {
	case a.answer.Patient == nil:
		return nil, fhir.Errorf(fhir.NotFound, "the source has no document of this person").From(d.o.Source)
	case err != nil:
		a.answer.States[dataset.Documents] = dataset.Present
		return a.answer, asIssue(err).From(d.o.Source)
	}
	a.answer.States[dataset.Documents] = dataset.Present
	return a.answer, nil
}

// documents asks by one identifier. What is found is made to speak of one Patient, whose reference is the server's own if it gave one.
//
// IHE MHD ITI-67 §2:3.67.4.1.2: patient.identifier shall be supported, and so shall searching by POST
func (a *asking) documents(ctx context.Context, id fhir.Identifier) ([]*fhir.Resource, error) {
	r := &result{search: search{typ: "DocumentReference"}}
	form := "patient.identifier=" + url.QueryEscape(escape(id.System)+"|"+escape(id.Value)) + "&status=current"
	subject := ""
	a.pages(ctx, r, form, func(doc *fhir.Resource) *fhir.Issue {
		if doc.Type() != "DocumentReference" {
			return nil // what it included besides
		}
		if !a.about(ctx, doc, id) {
			return fhir.Errorf(fhir.BusinessRule, "the source sent a document of another patient, or did not say whose it is; it was dropped. Tell its administrators").At("DocumentReference.subject").OfStranger()
		}
		if subject == "" {
			subject = subjectID(doc)
		}
		r.found = append(r.found, doc.With("subject", fhir.Reference{Reference: "Patient/" + subject}))
		return nil
	})
	a.answer.Issues = append(a.answer.Issues, r.issues...)
	if r.failed != nil {
		return r.found, r.failed
	}
	if i := slices.IndexFunc(r.issues, func(i *fhir.Issue) bool { return i.Stranger }); i >= 0 && len(r.found) == 0 {
		return nil, r.issues[i]
	}
	if !r.complete {
		return r.found, fhir.Errorf(fhir.Incomplete, "not every document could be taken")
	}
	return r.found, nil
}

// about reports whether a document says that it is of the person with an identifier: in its subject, in the source's patient that it contains, or in
// the Patient on the same server that it refers to.
func (a *asking) about(ctx context.Context, doc *fhir.Resource, id fhir.Identifier) bool {
	same := func(v fhir.Value) bool {
		var got fhir.Identifier
		if v.Decode(&got) != nil {
			return false
		}
		got = got.Canonical()
		return got.System == id.System && got.Value == id.Value
	}
	if doc.Get("subject.identifier").Exists() {
		return same(doc.Get("subject.identifier"))
	}
	ref := doc.Text("subject.reference")
	if local, ok := strings.CutPrefix(ref, "#"); ok {
		for c := range doc.Value().All("contained") {
			if c.Text("id") == local {
				for i := range c.All("identifier") {
					if same(i) {
						return true
					}
				}
			}
		}
		return false
	}
	patient, ok := relative(ref)
	if !ok || patient.Type() != "Patient" {
		return false
	}
	if a.patient == "" { // once: all the documents of one person refer to one patient
		p, err := a.fetch(ctx, http.MethodGet, a.base.JoinPath(string(patient)), "")
		if err != nil || p.Ref() != patient {
			return false
		}
		for i := range p.Value().All("identifier") {
			if same(i) {
				a.patient = patient
			}
		}
	}
	return patient == a.patient
}

// subjectID is the id that a document's patient has on its server, or one to stand for it.
func subjectID(doc *fhir.Resource) string {
	if ref, ok := relative(doc.Text("subject.reference")); ok {
		return ref.ID()
	}
	return "subject"
}
