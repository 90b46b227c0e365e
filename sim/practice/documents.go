package practice

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

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

// findFor is "find a patient" as one capability has it. Nobody found is an empty answer, not an error.
//
// GP Connect 1.6 foundations_use_case_find_a_patient.html
func (p *Practice) findFor(interaction string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := p.check(r, http.MethodGet, interaction, "patient/*.read"); err != nil {
			p.fail(w, err)
			return
		}
		system, nhs, _ := strings.Cut(r.URL.Query().Get("identifier"), "|")
		if system != fhir.SystemNHSNumber {
			p.refuse(w, &refusal{http.StatusBadRequest, "INVALID_PARAMETER", "identifier needs the NHS number's system"})
			return
		}
		if _, err := fhir.ParseNHSNumber(nhs); err != nil {
			p.refuse(w, &refusal{http.StatusBadRequest, "INVALID_NHS_NUMBER", ""})
			return
		}
		b := fhir.M{"resourceType": "Bundle", "type": "searchset"}
		if person, err := p.find(nhs); err == nil {
			b["entry"] = []fhir.M{{"resource": p.demographics(person)}}
		}
		answer(w, http.StatusOK, b)
	}
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
	return &builder{p: p, person: c, ask: &question{asked: map[string]bool{}}, made: map[string]bool{}, byName: map[string]*list{}, topics: map[string]*topic{}, surgery: p.surgery(c)}
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
	return cast.Person{}, &refusal{http.StatusNotFound, "PATIENT_NOT_FOUND", ""}
}

// The parameters without which a search for documents is refused.
var mandatoryIncludes = []string{"DocumentReference:subject:Patient", "DocumentReference:custodian:Organization", "DocumentReference:author:Organization",
	"DocumentReference:author:Practitioner"}

func (p *Practice) documents(w http.ResponseWriter, r *http.Request) {
	if err := p.check(r, http.MethodGet, interactionDocumentSearch, "patient/*.read"); err != nil {
		p.fail(w, err)
		return
	}
	q := r.URL.Query()
	for _, need := range mandatoryIncludes {
		if !slices.Contains(q["_include"], need) {
			p.refuse(w, invalid("_include="+need+" is missing"))
			return
		}
	}
	if !slices.Contains(q["_revinclude:recurse"], "PractitionerRole:practitioner") {
		p.refuse(w, invalid("_revinclude:recurse=PractitionerRole:practitioner is missing"))
		return
	}
	person, err := p.byID(r.PathValue("id"))
	if err != nil {
		p.fail(w, err)
		return
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
	answer(w, http.StatusOK, fhir.M{"resourceType": "Bundle", "meta": profile("GPConnect-Searchset-Bundle-1"), "type": "searchset", "entry": b.entries})
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

func (p *Practice) binary(w http.ResponseWriter, r *http.Request) {
	if err := p.check(r, http.MethodGet, interactionDocumentRead, "patient/*.read"); err != nil {
		p.fail(w, err)
		return
	}
	for _, c := range p.o.People {
		if !p.serves(c) {
			continue
		}
		b := p.builder(c)
		for _, l := range p.letters(c) {
			if b.mine("file", l.ID) != r.PathValue("id") || l.Missing != "" || l.Size > 5<<20 {
				continue // a file that is too large is not found. GP Connect 1.6 access_documents_development_retrieve_patient_documents.html
			}
			answer(w, http.StatusOK, fhir.M{"resourceType": "Binary", "id": r.PathValue("id"), "contentType": l.MIME,
				"content": base64.StdEncoding.EncodeToString([]byte(l.Text))})
			return
		}
	}
	p.refuse(w, &refusal{http.StatusNotFound, "NO_RECORD_FOUND", "no such document"})
}
