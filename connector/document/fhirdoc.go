package document

import (
	"strconv"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

const fhirMapping = "fhir-document/1"

// fhirDoc is one FHIR document on its way into the record.
type fhirDoc struct {
	builder
	full  map[string]fhir.Ref // what this document's references mean
	other map[fhir.Ref]bool   // other people's Patient resources in it
	comp  *fhir.Resource
}

// readFHIR makes a delivery of a FHIR document: its resources under their own ids, and in place of the Composition a DocumentReference with
// a page to read. FHIR R4 documents.html
func readFHIR(data []byte) (connector.Delivery, error) {
	var none connector.Delivery
	if err := fhir.CheckCost(data); err != nil {
		return none, err
	}
	root, err := fhir.ParseValue(data)
	if err != nil {
		return none, err
	}
	if root.Text("resourceType") != "Bundle" || root.Text("type") != "document" {
		return none, fhir.Errorf(fhir.NotSupported, "send a FHIR document: a Bundle of type document").At("Bundle.type")
	}
	id := fhir.Identifier{System: root.Text("identifier.system"), Value: root.Text("identifier.value")}
	if id.Value == "" {
		return none, fhir.Errorf(fhir.Required, "a FHIR document must have an identifier, by which a repeat is known (FHIR R4 bdl-9)").At("Bundle.identifier")
	}
	d := &fhirDoc{full: map[string]fhir.Ref{}, other: map[fhir.Ref]bool{}}
	d.key = id.System + "|" + id.Value
	entries := d.entries(root)
	if len(entries) == 0 || entries[0] == nil || entries[0].Type() != "Composition" {
		return none, fhir.Errorf(fhir.Required, "the first entry of a FHIR document must be a Composition (FHIR R4 bdl-11)").At("Bundle.entry[0]")
	}
	d.comp = entries[0]
	d.label(d.comp.Text("confidentiality"))
	patient, err := d.subject(entries)
	if err != nil {
		return none, err
	}
	d.take(patient, 0)
	for i, r := range entries[1:] {
		if r != nil && r != patient {
			d.take(r, i+1)
		}
	}
	d.reference(id)
	return connector.Delivery{ID: d.key, Content: d.content, Patient: d.patient.ID(), Map: fhirMapping, Issues: d.issues}, nil
}

// entries reads the resources, nil where one is broken, and learns what their fullUrls stand for.
func (d *fhirDoc) entries(root fhir.Value) []*fhir.Resource {
	var out []*fhir.Resource
	for e, err := range fhir.Entries(root) {
		i := strconv.Itoa(len(out))
		r := e.Resource
		switch {
		case err != nil:
			d.issues = append(d.issues, fhir.IssueOf(err))
		case r == nil:
		case r.ID() == "":
			tail := e.FullURL[strings.LastIndexAny(e.FullURL, ":/")+1:]
			if !fhir.ValidID(tail) {
				tail = stableID("part", d.key, i)
			}
			r = r.With("id", tail)
		}
		if r != nil && e.FullURL != "" {
			d.full[e.FullURL] = r.Ref()
		}
		out = append(out, r)
	}
	return out
}

// resolve gives a reference as Type/id.
func (d *fhirDoc) resolve(ref string) (fhir.Ref, bool) {
	if r, ok := d.full[ref]; ok {
		return r, true
	}
	parts := strings.Split(ref, "/")
	if len(parts) == 2 && fhir.IsType(parts[0]) && fhir.ValidID(parts[1]) {
		return fhir.MakeRef(parts[0], parts[1]), true
	}
	return "", false
}

// subject finds the one patient the document is about, and settles the id they are kept under.
func (d *fhirDoc) subject(entries []*fhir.Resource) (*fhir.Resource, error) {
	var patients []*fhir.Resource
	for _, r := range entries {
		if r != nil && r.Type() == "Patient" {
			patients = append(patients, r)
		}
	}
	want, ok := d.resolve(d.comp.Text("subject.reference"))
	var found *fhir.Resource
	for _, p := range patients {
		if ok && p.Ref() == want || !ok && len(patients) == 1 && !d.comp.Get("subject").Exists() {
			found = p
		}
	}
	if found == nil {
		return nil, fhir.Errorf(fhir.Required, "the document must hold the Patient that it is about, named by Composition.subject").At("Composition.subject")
	}
	var local []string
	var list []fhir.Identifier
	for v := range found.Value().All("identifier") {
		var id fhir.Identifier
		if v.Decode(&id) != nil {
			continue
		}
		if id = id.Canonical(); id.Check() != nil {
			continue
		}
		if !national(id) && local == nil {
			if local = []string{id.System, id.Value}; v.Text("assigner.identifier.value") != "" {
				local[0] = v.Text("assigner.identifier.value") // who gave it, by ODS code, as in a CDA's assigning authority
			}
		}
		list = append(list, id)
	}
	d.patient = fhir.MakeRef("Patient", patientID(local, list, d.key))
	for _, p := range patients {
		if p != found {
			d.other[p.Ref()] = true
		}
	}
	for u, r := range d.full {
		if r == found.Ref() {
			d.full[u] = d.patient
		}
	}
	d.full[string(found.Ref())] = d.patient
	return found, nil
}

// take puts one resource of the document into the content, if it is the patient's or nobody's.
func (d *fhirDoc) take(r *fhir.Resource, n int) {
	at := "Bundle.entry[" + strconv.Itoa(n) + "]"
	switch r.Type() {
	case "Composition", "Bundle", "OperationOutcome", "MessageHeader", "Parameters":
		d.inform(fhir.NotSupported, "a "+r.Type()+" inside a document is kept with the original only", at)
		return
	case "Binary":
		if mime := strings.ToLower(r.Text("contentType")); !safe[mime] {
			d.inform(fhir.NotSupported, "a file of a type that is not shown ("+shownType(mime)+") is kept with the original document only", at)
			return
		}
	}
	if d.other[r.Ref()] {
		d.warn(fhir.BusinessRule, "the document holds a second Patient; a document must be of exactly one, and the other was left out", at)
		return
	}
	r, err := fhir.MapReferences(r, func(o fhir.Value, ref string) ([]byte, bool) {
		target, ok := d.resolve(ref)
		if !ok || string(target) == ref {
			return nil, false
		}
		return fhir.WithReference(o, string(target)), true
	})
	if err != nil {
		d.issues = append(d.issues, fhir.IssueOf(err).At(at))
		return
	}
	if r.Type() == "Patient" {
		if r = r.With("id", d.patient.ID()); len(d.security) > 0 && (r.Get("address").Exists() || r.Get("telecom").Exists()) {
			m := fhir.M{}
			_ = r.Value().Decode(&m)
			delete(m, "resourceType")
			delete(m, "id")
			d.withoutWhereabouts(m)
			r = fhir.New("Patient", d.patient.ID(), m)
		}
	} else if why := d.foreign(r); why != "" {
		d.warn(fhir.BusinessRule, why, at)
		return
	}
	if len(d.security) > 0 && (fhir.NeedsPatient(r.Type()) || r.Type() == "Binary") && !r.Get("meta.security").Exists() {
		meta := fhir.M{}
		_ = r.Get("meta").Decode(&meta)
		meta["security"] = d.security
		r = r.With("meta", meta)
	}
	if d.has == nil {
		d.has = map[fhir.Ref]bool{}
	}
	if d.has[r.Ref()] {
		d.warn(fhir.Duplicate, "the document holds the same "+r.Type()+" twice; the first was taken", at)
		return
	}
	d.has[r.Ref()] = true
	d.content = append(d.content, r)
}

// foreign says why a resource is not this patient's; "" if it is, or is nobody's.
func (d *fhirDoc) foreign(r *fhir.Resource) string {
	subjects := fhir.Subjects(r)
	if len(subjects) == 0 && fhir.NeedsPatient(r.Type()) {
		return "the " + r.Type() + " does not say whose it is; it was left out"
	}
	for _, s := range subjects {
		if target, ok := d.resolve(s.Reference); !ok || target != d.patient {
			return "the " + r.Type() + " is of another patient than the document; it was left out"
		}
	}
	return ""
}

// reference adds the DocumentReference that stands for the Composition.
func (d *fhirDoc) reference(id fhir.Identifier) {
	title := d.comp.Text("title")
	if title == "" {
		title = d.comp.Concept("type").Words()
	}
	m := fhir.M{"masterIdentifier": id, "status": "current", "subject": d.self(), "description": title}
	if t := d.comp.Concept("type"); !t.IsZero() {
		m["type"] = t
	}
	if d.comp.Text("status") == "entered-in-error" {
		m["status"] = "entered-in-error"
	}
	setInstant(m, "date", d.comp.Text("date"))
	var authors []fhir.Reference
	for a := range d.comp.Value().All("author") {
		if ref := d.local(a); ref.Reference != "" || ref.Display != "" {
			authors = append(authors, ref)
		}
	}
	setList(m, "author", authors)
	if c := d.local(d.comp.Get("custodian")); c.Reference != "" || c.Display != "" {
		m["custodian"] = c
	}
	if e := d.local(d.comp.Get("encounter")); e.Reference != "" {
		m["context"] = fhir.M{"encounter": []fhir.Reference{e}}
	}
	if len(d.security) > 0 {
		m["securityLabel"] = []fhir.CodeableConcept{{Coding: d.security}}
	}
	d.addDocument(m, d.comp.Text("date"), []attachment{{mime: "text/html", title: title, data: d.page(title, authors)}})
}

func (d *fhirDoc) local(v fhir.Value) fhir.Reference {
	var ref fhir.Reference
	if v.Decode(&ref) != nil {
		return fhir.Reference{}
	}
	if target, ok := d.resolve(ref.Reference); ok {
		ref.Reference = string(target)
	}
	return ref
}

func (d *fhirDoc) page(title string, authors []fhir.Reference) []byte {
	p := &page{}
	p.element("h1", title)
	p.b.WriteString("<dl>\n")
	p.row("Written", written(d.comp.Text("date")))
	for _, a := range authors {
		p.row("By", a.Display)
	}
	p.row("Organisation", d.comp.Text("custodian.display"))
	p.b.WriteString("</dl>\n")
	p.b.WriteString(d.comp.Text("text.div"))
	p.composed(d.comp.Value(), 2)
	return p.bytes(title)
}

// composed writes the sections of a Composition; their XHTML passes the policy when the page is closed.
func (p *page) composed(v fhir.Value, level int) {
	for s := range v.All("section") {
		p.element("h"+strconv.Itoa(min(level, 6)), s.Text("title"))
		if div := s.Text("text.div"); div != "" {
			p.b.WriteString(div + "\n")
		} else if why := s.Text("emptyReason.coding.display"); why != "" {
			p.element("p", why)
		}
		p.composed(s, level+1)
	}
}
