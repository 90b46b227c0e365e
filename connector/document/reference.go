package document

import "tombolo/fhir"

// document adds the DocumentReference and its Binaries: the page for reading first, then the files that came with it.
func (c *cda) document(id fhir.Identifier, page []byte) {
	title := c.title()
	m := fhir.M{"masterIdentifier": id, "status": "current", "subject": c.self(), "description": title}
	if t := concept(c.doc.child("code")); !t.IsZero() {
		m["type"] = t
	}
	written := moment(c.doc.child("effectiveTime"))
	setInstant(m, "date", written)
	setList(m, "author", c.authors)
	if c.custodian.Reference != "" {
		m["custodian"] = c.custodian
	}
	if c.encounter != "" {
		m["context"] = fhir.M{"encounter": []fhir.Reference{{Reference: string(c.encounter)}}}
	}
	if len(c.security) > 0 {
		m["securityLabel"] = []fhir.CodeableConcept{{Coding: c.security}}
	}
	for _, r := range c.doc.children("relatedDocument") {
		old, ok := identifier(r.child("parentDocument", "id"))
		if kind := map[string]string{"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}[r.at("typeCode")]; ok && kind != "" {
			m["relatesTo"] = []fhir.M{{"code": kind, "target": fhir.Reference{Identifier: &old,
				Reference: "DocumentReference/" + stableID("doc", old.System+"|"+old.Value)}}}
		}
	}
	c.addDocument(m, written, append([]attachment{{mime: "text/html", title: title, data: page}}, c.attached...))
}

// addDocument adds a DocumentReference whose content is the attachments.
func (b *builder) addDocument(m fhir.M, written string, files []attachment) {
	var content []fhir.M
	for n, a := range files {
		at := b.binary(n, a)
		at.Creation = written
		content = append(content, fhir.M{"attachment": at})
	}
	m["content"] = content
	b.add("DocumentReference", stableID("doc", b.key), m)
}

// setInstant sets an element that must be exact to the second; a date becomes its first moment.
func setInstant(m fhir.M, name, value string) {
	if span, err := fhir.ParseDate(value); err == nil {
		m[name] = span.Start.Format("2006-01-02T15:04:05-07:00")
	}
}
