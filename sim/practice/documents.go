package practice

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"tombolo/api/gpconnect"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

const (
	interactionDocumentPatient = "urn:nhs:names:services:gpconnect:documents:fhir:rest:search:patient-1"
	interactionDocumentSearch  = "urn:nhs:names:services:gpconnect:documents:fhir:rest:search:documentreference-1"
	interactionDocumentRead    = "urn:nhs:names:services:gpconnect:documents:fhir:rest:read:binary-1"
	interactionPatient         = "urn:nhs:names:services:gpconnect:fhir:rest:search:patient-1"
)

// findPatient is "find a patient". Nobody found is an empty answer, not an error.
//
// GP Connect 1.6 foundations_use_case_find_a_patient.html
func (p *Practice) findPatient(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	system, nhs, _ := strings.Cut(r.URL.Query().Get("identifier"), "|")
	if system != fhir.SystemNHSNumber {
		return &gpconnect.Refusal{Status: http.StatusBadRequest, Code: "INVALID_IDENTIFIER_SYSTEM", Diagnostics: "identifier needs the NHS number's system"}
	}
	if _, err := fhir.ParseNHSNumber(nhs); err != nil {
		return gpconnect.InvalidNHSNumber()
	}
	b := fhir.M{"resourceType": "Bundle", "type": "searchset"}
	if person, err := p.find(nhs); err == nil {
		b["entry"] = []fhir.M{{"resource": p.demographics(person)}}
	}
	gpconnect.WriteFHIR(w, r, http.StatusOK, b)
	return nil
}

// demographics is a person's Patient alone.
func (p *Practice) demographics(c cast.Person) fhir.M {
	b := p.builder(c)
	b.patient()
	for _, e := range b.entries {
		if r := e["resource"].(fhir.M); r["resourceType"] == "Patient" {
			return r
		}
	}
	return nil
}

func (p *Practice) builder(c cast.Person) *builder {
	return &builder{p: p, person: c, ask: &gpconnect.Question{}, made: map[string]bool{}, byName: map[string]*list{}, topics: map[string]*topic{}, surgery: p.surgery(c)}
}

// byID finds somebody by the practice's own id. Under the fault that mixes people up it is somebody else.
func (p *Practice) byID(id string) (cast.Person, error) {
	for i, c := range p.o.People {
		if !p.serves(c) || p.builder(c).mine("patient") != id {
			continue
		}
		if fault, _ := p.faults.Now(); fault == sim.FaultWrongPatient {
			for n := 1; n < len(p.o.People); n++ {
				if other := p.o.People[(i+n)%len(p.o.People)]; p.serves(other) {
					return other, nil
				}
			}
		}
		return c, nil
	}
	return cast.Person{}, gpconnect.Nobody()
}

// The parameters without which a search for documents is refused.
var mandatoryIncludes = []string{"DocumentReference:subject:Patient", "DocumentReference:custodian:Organization", "DocumentReference:author:Organization",
	"DocumentReference:author:Practitioner"}

func (p *Practice) documents(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	q := r.URL.Query()
	for _, need := range mandatoryIncludes {
		if !slices.Contains(q["_include"], need) {
			return gpconnect.InvalidParameter("_include=" + need + " is missing")
		}
	}
	if !slices.Contains(q["_revinclude:recurse"], "PractitionerRole:practitioner") {
		return gpconnect.InvalidParameter("_revinclude:recurse=PractitionerRole:practitioner is missing")
	}
	person, err := p.byID(r.PathValue("id"))
	if err != nil {
		return err
	}
	b := p.builder(person)
	b.patient()
	root := "http://" + r.Host + DocumentsRoot
	for _, l := range p.letters(person) {
		if from := strings.TrimPrefix(q.Get("created"), "ge"); from != "" && l.Date[:10] < from {
			continue
		}
		b.letter(l, root)
	}
	gpconnect.WriteFHIR(w, r, http.StatusOK, fhir.M{"resourceType": "Bundle", "meta": gpconnect.Profile("GPConnect-Searchset-Bundle-1"), "type": "searchset", "entry": b.entries})
	return nil
}

// letters are a person's documents at the practice.
func (p *Practice) letters(c cast.Person) []cast.Letter {
	var out []cast.Letter
	for _, d := range c.DocumentsAt(p.o.Source) {
		out = append(out, cast.Letter{Document: d})
	}
	return append(out, p.surgery(c).Documents...)
}

func (b *builder) letter(l cast.Letter, root string) {
	r := b.base("DocumentReference", "CareConnect-GPC-DocumentReference-1", b.mine("letter", l.ID), "")
	r["status"], r["subject"], r["description"] = "current", b.subject(), l.Title
	r["type"] = fhir.M{"coding": []fhir.M{{"system": fhir.SystemSNOMED, "code": l.Code, "display": l.Type}}}
	r["created"], r["indexed"] = l.Date, instant(l.Date)
	r["author"], r["custodian"] = []fhir.M{b.by(l.By, "")}, b.organisation(b.p.o.Name, b.p.o.ODS)
	size := l.Size
	if size == 0 {
		size = len(l.Text)
	}
	file := fhir.M{"contentType": l.MIME, "size": size, "url": root + "/Binary/" + b.mine("file", l.ID)}
	if l.Missing != "" {
		file = fhir.M{"contentType": "application/octet-stream", "size": 0, "title": l.Missing}
	}
	r["content"] = []fhir.M{{"attachment": file}}
	b.add(r)
}

func (p *Practice) binary(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	for _, c := range p.o.People {
		if !p.serves(c) {
			continue
		}
		b := p.builder(c)
		for _, l := range p.letters(c) {
			if b.mine("file", l.ID) != r.PathValue("id") || l.Missing != "" || l.Size > 5<<20 {
				continue // a file that is too large is not found. GP Connect 1.6 access_documents_development_retrieve_patient_documents.html
			}
			gpconnect.WriteFHIR(w, r, http.StatusOK, fhir.M{"resourceType": "Binary", "id": r.PathValue("id"), "contentType": l.MIME,
				"content": base64.StdEncoding.EncodeToString([]byte(l.Text))})
			return nil
		}
	}
	return &gpconnect.Refusal{Status: http.StatusNotFound, Code: "NO_RECORD_FOUND", Diagnostics: "no such document"}
}
