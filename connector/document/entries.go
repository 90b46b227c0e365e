package document

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// readEntries maps the coded entries of the sections. What has no mapping stays readable in the document and is named in an issue.
func (c *cda) readEntries() {
	n := 0
	for _, body := range c.doc.children("component") {
		for _, s := range sections(body.child("structuredBody")) {
			for _, e := range s.children("entry") {
				c.readEntry(e, clinicalDiscriminator(e), &n)
			}
		}
		c.readNonXML(body.child("nonXMLBody"))
	}
}

// clinicalDiscriminator reports whether an entry is NHS Pathways' working diagnosis (template COCD_TP146092GB01).
func clinicalDiscriminator(e *node) bool {
	for _, k := range e.kids {
		if k.name == "contentId" && strings.Contains(k.at("extension"), "ClinicalDiscriminator") {
			return true
		}
	}
	return false
}

// readEntry maps one entry, or what stands below an act, organizer or relationship.
func (c *cda) readEntry(e *node, diagnosis bool, n *int) {
	for _, k := range e.kids {
		switch k.name {
		case "observation":
			*n++
			c.observation(k, diagnosis, *n)
			c.below(k, diagnosis, n)
		case "observationMedia":
			c.media(k)
		case "act", "organizer", "encounter":
			c.below(k, diagnosis, n)
		case "substanceAdministration", "supply", "procedure", "regionOfInterest":
			c.inform(fhir.NotSupported, "an entry of kind "+k.name+" is not mapped; it can be read in the document itself", "entry."+k.name)
		}
	}
}

func (c *cda) below(k *node, diagnosis bool, n *int) {
	for _, r := range append(k.children("entryRelationship"), k.children("component")...) {
		c.readEntry(r, diagnosis, n)
	}
}

// observation maps a coded observation that was made (not one denied, planned or wished for, which would be turned into its opposite).
func (c *cda) observation(o *node, diagnosis bool, n int) {
	at := "entry.observation"
	if o.at("negationInd") == "true" || o.at("moodCode") != "" && o.at("moodCode") != "EVN" {
		c.inform(fhir.NotSupported, "an observation that is negated or not an event is not mapped; it can be read in the document itself", at)
		return
	}
	code, value := concept(o.child("code")), o.child("value")
	id := stableID("obs", c.key, strconv.Itoa(n))
	if own, ok := identifier(o.child("id")); ok {
		id = stableID("obs", own.System, own.Value)
	}
	if diagnosis {
		c.condition(id, o, value)
		return
	}
	if code.IsZero() || o.child("code").null() && len(code.Coding) == 0 && code.Text == "" {
		c.inform(fhir.Required, "an observation without a code is not mapped; it can be read in the document itself", at+".code")
		return
	}
	m := fhir.M{"status": observationStatus(o.child("statusCode").at("code")), "code": code, "subject": c.self()}
	if c.encounter != "" {
		m["encounter"] = fhir.Reference{Reference: string(c.encounter)}
	}
	if p := period(o.child("effectiveTime")); p.End != "" {
		m["effectivePeriod"] = p
	} else if p.Start != "" {
		m["effectiveDateTime"] = p.Start
	}
	if len(c.authors) > 0 {
		m["performer"] = c.authors[:1]
	}
	if i := concept(o.child("interpretationCode")); !i.IsZero() {
		m["interpretation"] = []fhir.CodeableConcept{i}
	}
	if !setValue(m, value) && value != nil {
		if value.null() {
			m["dataAbsentReason"] = fhir.Code("http://terminology.hl7.org/CodeSystem/data-absent-reason", "unknown", "Unknown")
		} else {
			c.warn(fhir.NotSupported, "an observation's value is of a type that is not mapped; it can be read in the document itself", at+".value")
			return
		}
	}
	c.add("Observation", id, m)
}

func observationStatus(code string) string {
	switch code {
	case "completed":
		return "final"
	case "active", "held", "suspended":
		return "preliminary"
	case "aborted", "cancelled":
		return "cancelled"
	case "nullified":
		return "entered-in-error"
	}
	return "unknown"
}

// setValue sets value[x] by the value's xsi:type. HL7 v3 datatypes
func setValue(m fhir.M, v *node) bool {
	if v.null() {
		return false
	}
	_, kind, found := strings.Cut(v.at("type"), ":")
	if !found {
		kind = v.at("type")
	}
	switch kind {
	case "PQ", "REAL":
		q, ok := quantity(v)
		if ok {
			m["valueQuantity"] = q
		}
		return ok
	case "INT":
		if !number.MatchString(v.at("value")) || strings.Contains(v.at("value"), ".") || len(v.at("value")) > 9 {
			return false
		}
		m["valueInteger"] = json.Number(v.at("value"))
	case "BL":
		if v.at("value") != "true" && v.at("value") != "false" {
			return false
		}
		m["valueBoolean"] = v.at("value") == "true"
	case "CD", "CE", "CV", "CO", "CD.NPfIT.CDA":
		k := concept(v)
		if k.IsZero() {
			return false
		}
		m["valueCodeableConcept"] = k
	case "ST", "ED":
		if v.words() == "" || v.at("representation") == "B64" {
			return false
		}
		m["valueString"] = v.words()
	case "TS":
		t := moment(v)
		if t == "" {
			return false
		}
		m["valueDateTime"] = t
	default:
		return false
	}
	return true
}

// condition maps a working diagnosis.
func (c *cda) condition(id string, o, value *node) {
	code := concept(value)
	if code.IsZero() {
		code = concept(o.child("code"))
	}
	if code.IsZero() {
		c.inform(fhir.Required, "a diagnosis without a code is not mapped; it can be read in the document itself", "entry.observation.value")
		return
	}
	m := fhir.M{"subject": c.self(), "code": code,
		"clinicalStatus":     fhir.Code("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"),
		"verificationStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/condition-ver-status", "provisional", "Provisional"),
		"category":           []fhir.CodeableConcept{fhir.Code("http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis", "Encounter Diagnosis")}}
	if c.encounter != "" {
		m["encounter"] = fhir.Reference{Reference: string(c.encounter)}
	}
	if t := period(o.child("effectiveTime")); t.Start != "" {
		m["recordedDate"] = t.Start
	}
	c.add("Condition", id, m)
}

// media keeps a file inside the document, if it is of a kind that is safe to hand on.
func (c *cda) media(n *node) {
	v := n.child("value")
	if v.child("reference") != nil {
		c.warn(fhir.NotSupported, "a file that lies elsewhere is not fetched; send it inside the document", "observationMedia.value.reference")
		return
	}
	c.attach(v, "Attached file", "observationMedia.value")
}

func (c *cda) attach(v *node, title, at string) bool {
	mime := strings.ToLower(v.at("mediaType"))
	if mime == "" {
		mime = "text/plain" // CDA R2: ED's default media type
	}
	if !safe[mime] {
		c.inform(fhir.NotSupported, "a file of a type that is not shown ("+shownType(mime)+") is kept with the original document only", at)
		return false
	}
	data := []byte(v.words())
	if v.at("representation") == "B64" {
		var err error
		if data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(v.words()), "")); err != nil {
			c.warn(fhir.Structure, "a file in the document is not valid base64; it is kept with the original only", at)
			return false
		}
	}
	c.attached = append(c.attached, attachment{mime: mime, title: title, data: data})
	return true
}

func shownType(mime string) string {
	if len(mime) > 40 || strings.ContainsFunc(mime, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "unknown"
	}
	return mime
}

// readNonXML keeps a body that is a file rather than sections.
func (c *cda) readNonXML(n *node) {
	if n == nil {
		return
	}
	text := n.child("text")
	if text.child("reference") != nil {
		c.warn(fhir.NotSupported, "the document's body lies elsewhere and is not fetched; send it inside the document", "nonXMLBody.text.reference")
		return
	}
	title := c.doc.child("title").words()
	if title == "" {
		title = "Document"
	}
	c.attach(text, title, "nonXMLBody.text")
}
