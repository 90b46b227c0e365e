package practice

import (
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"tombolo/api/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

const (
	interactionHTML = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getcarerecord"
	oldFormat       = "application/json+fhir"
	oldNHS          = "http://fhir.nhs.net/Id/nhs-number"
)

// sectionNames are the sections of Access Record HTML. GP Connect 0.7 accessrecord_use_case_retrieve_a_care_record_section.html
var sectionNames = map[string]string{
	"SUM": "Summary", "ENC": "Encounters", "CLI": "Clinical Items", "PRB": "Problems and Issues", "ALL": "Allergies and Adverse Reactions", "MED": "Medications",
	"OBS": "Observations", "IMM": "Immunisations", "ADM": "Administrative Items", "REF": "Referrals", "INV": "Investigations",
}

// careRecord answers Access Record HTML: one section of the record as a page.
func (p *Practice) careRecord(w http.ResponseWriter, r *http.Request, who gpconnect.Caller) error {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != oldFormat {
		return &gpconnect.Refusal{Status: http.StatusUnsupportedMediaType, Code: "BAD_REQUEST", Diagnostics: "the body must be " + oldFormat}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return gpconnect.BadRequest("the body could not be read")
	}
	v, err := fhir.ParseValue(body)
	if err != nil {
		return gpconnect.BadRequest("the body is not JSON")
	}
	var nhs, code string
	for param := range v.All("parameter") {
		switch param.Text("name") {
		case "patientNHSNumber":
			if param.Text("valueIdentifier.system") == oldNHS {
				nhs = param.Text("valueIdentifier.value")
			}
		case "recordSection":
			code = param.Text("valueCodeableConcept.coding.code")
		}
	}
	if _, err := fhir.ParseNHSNumber(nhs); err != nil {
		return gpconnect.InvalidNHSNumber()
	}
	switch {
	case who.Record != nhs:
		return gpconnect.BadRequest("JWT requested_record claim does not match request")
	case sectionNames[code] == "":
		return gpconnect.InvalidParameter("there is no such recordSection")
	}
	person, err := p.find(nhs)
	if err != nil {
		return err
	}
	gpconnect.Write(w, r, http.StatusOK, oldFormat, fhir.JSON(p.page(person, code)))
	return nil
}

// page is the searchset of a section: the patient, and a Composition with the words.
func (p *Practice) page(c cast.Person, code string) fhir.M {
	patient := fhir.M{"resourceType": "Patient", "id": "1", "identifier": []fhir.M{{"system": oldNHS, "value": c.NHS}}, "gender": c.Sex, "birthDate": c.Born,
		"name": []fhir.M{{"use": "official", "text": c.FullName(), "family": []string{c.Family}, "given": c.Given, "prefix": []string{c.Prefix}}}}
	composition := fhir.M{"resourceType": "Composition", "date": p.o.Now().In(fhir.London).Format(gpconnect.Instant), "title": "Patient Care Record", "status": "final",
		"subject": fhir.M{"reference": "Patient/1"}, "section": []fhir.M{{"title": sectionNames[code],
			"code": fhir.M{"coding": []fhir.M{{"system": "http://fhir.nhs.net/ValueSet/gpconnect-record-section-1", "code": code}}},
			"text": fhir.M{"status": "generated", "div": p.words(c, code)}}}}
	return fhir.M{"resourceType": "Bundle", "type": "searchset", "entry": []fhir.M{{"resource": composition}, {"resource": patient}}}
}

// words is the XHTML of a section: its banners, and its table or the sentence that stands for one.
//
// GP Connect 0.7 accessrecord_development_html_layout_guide.html
func (p *Practice) words(c cast.Person, code string) string {
	var b strings.Builder
	title := sectionNames[code]
	fmt.Fprintf(&b, `<div xmlns="http://www.w3.org/1999/xhtml"><div><h1>%s</h1>`, title)
	banner := func(class, text string) {
		fmt.Fprintf(&b, `<div class="%s"><p>%s</p></div>`, class, html.EscapeString(text))
	}
	if d := p.arriving(c); d != "" {
		t, _ := time.Parse(time.DateOnly, d)
		banner("gptransfer-banner", "Patient record transfer from previous GP practice not yet complete; information recorded before "+t.Format("02-Jan-2006")+" may be missing")
	}
	if code == "ENC" || code == "OBS" || code == "REF" {
		banner("date-banner", "All relevant items")
	}
	head, rows, withheld := p.table(c, code)
	if withheld {
		banner("exclusion-banner", "Items excluded due to confidentiality and/or patient preferences")
	}
	switch {
	case head == nil:
		fmt.Fprintf(&b, `<div><p>This system does not support retrieval of '%s' data.</p><p>This data may still exist in the source system.</p></div>`, title)
	case len(rows) == 0:
		fmt.Fprintf(&b, `<div><p>No '%s' data is recorded for this patient.</p></div>`, title)
	default:
		writeTable(&b, strings.ToLower(code)+"-tab", head, rows)
	}
	b.WriteString("</div></div>")
	return b.String()
}

func writeTable(b *strings.Builder, id string, head []string, rows [][]string) {
	line := func(cell string, cells []string) {
		b.WriteString("<tr>")
		for _, c := range cells {
			b.WriteString("<" + cell + ">" + html.EscapeString(c) + "</" + cell + ">")
		}
		b.WriteString("</tr>")
	}
	b.WriteString(`<table id="` + id + `"><thead>`)
	line("th", head)
	b.WriteString("</thead><tbody>")
	for _, r := range rows {
		line("td", r)
	}
	b.WriteString("</tbody></table>")
}

// table is the rows of a section; no head if the system cannot show it.
func (p *Practice) table(c cast.Person, code string) (head []string, rows [][]string, withheld bool) {
	more := p.surgery(c)
	headings := map[string][]dataset.Heading{"PRB": {dataset.Problems}, "ALL": {dataset.Allergies}, "IMM": {dataset.Immunisations}, "REF": {dataset.Referrals},
		"OBS": {dataset.Observations}, "CLI": {dataset.SocialContext, dataset.FamilyHistory}}
	switch code {
	case "MED":
		for _, m := range append(c.MedicationsAt(p.o.Source), more.Medications...) {
			rows = append(rows, []string{shown(m.Start), m.Display, m.Dose, m.Type, m.Status})
		}
		return []string{"Start Date", "Medication Item", "Dosage Instruction", "Type", "Status"}, rows, false
	case "ENC":
		for _, e := range c.EncountersAt(p.o.Source) {
			rows = append(rows, []string{shown(e.Start), e.Type, e.Reason + " " + e.Note})
		}
		for _, e := range more.Consultations {
			rows = append(rows, []string{shown(e.Start), e.Type, e.Topics[0].Title})
		}
		return []string{"Date", "Title", "Details"}, rows, false
	}
	hs, ok := headings[code]
	if !ok {
		return nil, nil, false
	}
	for _, i := range append(c.ItemsAt(p.o.Source, hs...), more.Items...) {
		if i.Label == cast.Withheld || i.Label == "R" && p.o.Exclude {
			withheld = withheld || i.Heading == hs[0]
			continue
		}
		if i.Status == "not-done" {
			continue
		}
		rows = append(rows, []string{shown(i.Date), i.Display, strings.TrimSpace(i.Text + " " + i.Value + " " + i.Unit)})
	}
	return []string{"Date", "Entry", "Details"}, rows, withheld
}

// shown is a date as the pages have it.
func shown(date string) string {
	if s, err := fhir.ParseDate(date); err == nil {
		return s.Start.In(fhir.London).Format("02-Jan-2006")
	}
	return date
}
