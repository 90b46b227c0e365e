package gpconnect

import (
	"context"
	"encoding/base64"
	"html"
	"net/http"
	"slices"
	"strings"
	"sync"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Access Record HTML gives a section of the record as a page, with no meaning that a machine could read. It is asked for a heading only
// where the structured record cannot fill it, so that nothing is ever told twice as if it were two facts; the summary, which repeats the
// other sections, is never asked.
//
// GP Connect 0.7 accessrecord_use_case_retrieve_a_care_record_section.html

type htmlSection struct {
	code, title string
	heading     dataset.Heading
}

// htmlSections are the sections by the heading that they fill.
var htmlSections = []htmlSection{
	{"ALL", "Allergies and adverse reactions", dataset.Allergies},
	{"MED", "Medications", dataset.Medications},
	{"PRB", "Problems and issues", dataset.Problems},
	{"IMM", "Immunisations", dataset.Immunisations},
	{"ENC", "Encounters", dataset.Encounters},
	{"OBS", "Observations", dataset.Observations},
	{"CLI", "Clinical items", dataset.Observations},
	{"INV", "Investigations", dataset.Results},
	{"REF", "Referrals", dataset.Referrals},
	{"ADM", "Administrative items", dataset.CarePlans},
}

// atOnce is how many pages of one practice are asked for at the same time.
const atOnce = 4

func (c *Client) htmlParts(ctx context.Context, q connector.Question, nhs fhir.NHSNumber, headings []dataset.Heading) []*part {
	var parts []*part
	var wg sync.WaitGroup
	gate := make(chan struct{}, atOnce)
	for _, s := range htmlSections {
		if !slices.Contains(headings, s.heading) {
			continue
		}
		p := &part{heading: s.heading}
		parts = append(parts, p)
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			got, err := c.Section(ctx, q.Requester, nhs, s.code)
			if err != nil {
				p.err = err
				return
			}
			p.patient, p.bytes, p.state = got.Patient, got.Bytes, got.State
			for _, is := range got.Issues {
				p.issues = append(p.issues, is.At(string(s.heading)))
			}
			if got.Document != nil {
				p.content = []*fhir.Resource{got.Document}
			}
		})
	}
	wg.Wait()
	// Two sections fill one heading: it has none only if both say so.
	for _, p := range parts {
		for _, other := range parts {
			if p != other && p.heading == other.heading && p.state == dataset.NoneRecorded && other.state != dataset.NoneRecorded {
				p.state = ""
			}
		}
	}
	return parts
}

// A Page is one section of Access Record HTML.
type Page struct {
	Patient  *fhir.Resource // R4, as far as the practice told it
	Document *fhir.Resource // R4 DocumentReference under its heading, with the page made safe; nil if there is nothing to read
	State    dataset.State  // "" if the page does not tell
	Issues   []*fhir.Issue  // its banners
	Bytes    int64
}

// maxPage is the most that a section may have: more than any person could read.
const maxPage = 4 << 20

// Section asks for one section by its code ("ALL").
func (c *Client) Section(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, code string) (*Page, error) {
	i := slices.IndexFunc(htmlSections, func(s htmlSection) bool { return s.code == code })
	if i < 0 {
		return nil, fhir.Errorf(fhir.CodeInvalid, "there is no section %.10q of Access Record HTML that this system shows", code).From(c.o.Source)
	}
	if !directCare(by.Purpose) {
		return nil, fhir.Errorf(fhir.Forbidden, "GP Connect may be asked for direct care only").From(c.o.Source)
	}
	body := fhir.JSON(fhir.M{"resourceType": "Parameters", "parameter": []fhir.M{
		{"name": "patientNHSNumber", "valueIdentifier": fhir.M{"system": "http://fhir.nhs.net/Id/nhs-number", "value": nhs.Digits()}},
		{"name": "recordSection", "valueCodeableConcept": fhir.M{"coding": []fhir.M{{"system": "http://fhir.nhs.net/ValueSet/gpconnect-record-section-1", "code": code}}}},
	}})
	v, size, err := c.ask(ctx, by, call{method: http.MethodPost, path: "/Patient/$gpc.getcarerecord", interaction: InteractionHTML, scope: "patient/*.read",
		body: body, old: nhs, most: maxPage}, "Bundle")
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	p, err := readPage(v, code, htmlSections[i].title, htmlSections[i].heading)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	p.Bytes = size
	return p, nil
}

// readPage makes a Page of the searchset (DSTU2) that answers for a section.
func readPage(bundle fhir.Value, code, title string, h dataset.Heading) (*Page, error) {
	p := &Page{}
	var composition fhir.Value
	for r := range bundle.All("entry.resource") {
		switch r.Text("resourceType") {
		case "Patient":
			if p.Patient != nil {
				return nil, fhir.Errorf(fhir.BusinessRule, "the page comes with two patients; nobody can say whose record it is").OfStranger()
			}
			p.Patient = oldPatient(r)
		case "Composition":
			composition = r
		}
	}
	switch {
	case p.Patient == nil:
		return nil, fhir.Errorf(fhir.Required, "the page comes without its Patient, so nobody can say whose record it is").At("Bundle.entry")
	case !composition.Exists():
		return nil, fhir.Errorf(fhir.Required, "the page comes without its Composition").At("Bundle.entry")
	}
	var div string
	for s := range composition.All("section") {
		div += s.Text("text.div")
	}
	if div == "" {
		div = composition.Text("text.div")
	}
	read := ReadHTML(div)
	p.State, p.Issues = read.State(), read.Issues()
	if p.State != dataset.Present {
		return p, nil
	}
	page := "<!DOCTYPE html>\n<html lang=\"en-GB\"><head><meta charset=\"utf-8\"><title>" + html.EscapeString(title) + "</title></head><body>\n" + read.Clean + "\n</body></html>\n"
	fields := fhir.M{
		"meta": fhir.M{"tag": []fhir.Coding{dataset.Tag(h)}}, "status": "current",
		"type":        fhir.CodeableConcept{Text: title + ", as the practice's system shows them"},
		"description": title + ", as the practice's system shows them",
		"subject":     fhir.Reference{Reference: string(p.Patient.Ref())},
		"content":     []fhir.M{{"attachment": fhir.Attachment{ContentType: "text/html; charset=utf-8", Title: title, Data: base64.StdEncoding.EncodeToString([]byte(page))}}},
	}
	if d := composition.Text("date"); d != "" {
		if span, err := fhir.ParseDate(d); err == nil && strings.Contains(d, "T") {
			fields["date"] = fhir.Instant(span.Start)
		}
	}
	p.Document = fhir.New("DocumentReference", "html-"+strings.ToLower(code)+"-"+p.Patient.ID(), fields)
	return p, nil
}

// oldPatient is what a Patient of FHIR DSTU2 says of who somebody is, as R4: names there have lists of families.
func oldPatient(r fhir.Value) *fhir.Resource {
	var ids []fhir.Identifier
	for v := range r.All("identifier") {
		if id := (fhir.Identifier{System: v.Text("system"), Value: v.Text("value")}).Canonical(); id.Value != "" {
			ids = append(ids, id)
		}
	}
	var names []fhir.HumanName
	for v := range r.All("name") {
		n := fhir.HumanName{Use: v.Text("use"), Text: v.Text("text")}
		var family []string
		for f := range v.All("family") {
			family = append(family, f.Str())
		}
		n.Family = strings.Join(family, " ")
		for g := range v.All("given") {
			n.Given = append(n.Given, g.Str())
		}
		for x := range v.All("prefix") {
			n.Prefix = append(n.Prefix, x.Str())
		}
		names = append(names, n)
	}
	fields := fhir.M{}
	if len(ids) > 0 {
		fields["identifier"] = ids
	}
	if len(names) > 0 {
		fields["name"] = names
	}
	if d := r.Text("birthDate"); d != "" {
		if _, err := fhir.ParseDate(d); err == nil {
			fields["birthDate"] = d
		}
	}
	if g := r.Text("gender"); g != "" {
		fields["gender"] = g
	}
	if d := r.Text("deceasedDateTime"); d != "" {
		fields["deceasedDateTime"] = d
	}
	id := r.Text("id")
	if id == "" {
		id = madeID("made", r.Raw())
	}
	return fhir.New("Patient", validID(id), fields)
}
