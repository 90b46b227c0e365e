// Package council is the simulated case management system of a council's social care department: each night it leaves CSV files in
// a drop folder (or uploads them), and real PDF and text documents with a manifest that says what they are.
package council

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/sim/cast"
	"tombolo/sim/nightly"
)

// Options of a System.
type Options = nightly.Options

// A System is the council's system.
type System struct {
	people []cast.Person
	out    nightly.Handover
}

// New makes a System.
func New(o Options) (*System, error) {
	people, out, err := o.At(cast.Council)
	if err != nil {
		return nil, fmt.Errorf("council: %w", err)
	}
	return &System{people, out}, nil
}

var who = []string{"person_id", "nhs_number", "surname", "forenames", "title", "date_of_birth", "date_of_death", "gender", "address", "town", "postcode", "telephone", "address_protected"}

func table(name string, columns ...string) *nightly.Table {
	return &nightly.Table{Name: name, Columns: slices.Concat(who, columns)}
}

// A document of the night, under documents/.
type document struct {
	name string
	data []byte
}

// Write writes the night's extract: the documents first, so that whoever finds the manifest finds them. With a fault switched on that
// stops the run, there simply is no file.
func (s *System) Write(ctx context.Context) error {
	if s.out.Off() {
		return nil
	}
	tables, documents := s.night()
	for _, d := range documents {
		if err := s.out.Put(ctx, "documents/"+d.name, d.data); err != nil {
			return fmt.Errorf("council: %w", err)
		}
	}
	if err := s.out.PutTables(ctx, tables); err != nil {
		return fmt.Errorf("council: %w", err)
	}
	return nil
}

// A night is the files under construction.
type night struct {
	people, packages, contacts, visits, relations, legal, safeguarding, about, alerts, manifest *nightly.Table
	documents                                                                                   []document
}

func (s *System) night() ([]*nightly.Table, []document) {
	n := night{
		people:       table("people.csv"),
		packages:     table("packages.csv", "package_id", "status", "package", "detail", "provider", "start_date", "end_date"),
		contacts:     table("contacts.csv", "contact_id", "status", "role", "name", "job_title", "telephone_of_worker", "allocated_on"),
		visits:       table("visits.csv", "visit_id", "setting", "visit_type", "start", "finish", "reason", "place", "worker", "role", "notes"),
		relations:    table("relations.csv", "relation_id", "name", "relationship", "telephone_of_relation", "next_of_kin"),
		legal:        table("legal.csv", "legal_id", "kind", "status", "code", "title_of_order", "detail", "start_date", "end_date", "issued_by"),
		safeguarding: table("safeguarding.csv", "concern_id", "status", "code", "concern", "detail", "raised_on", "closed_on", "worker", "marking"),
		about:        table("about_me.csv", "answer_id", "question", "answer", "written_on"),
		alerts:       table("alerts.csv", "alert_id", "status", "code", "alert", "detail", "raised_on", "raised_by"),
		manifest:     table("documents/manifest.csv", "document_id", "file_name", "type_code", "type", "document_title", "written_on", "written_at", "author"),
	}
	for i, p := range s.people {
		nhs := p.NHS
		if s.out.WrongPatient() && i > 0 {
			nhs = s.people[0].NHS // somebody else's rows under the first person's number
		}
		n.add(p, nightly.Who(p, cast.Council, nhs))
	}
	return []*nightly.Table{n.people, n.packages, n.contacts, n.visits, n.relations, n.legal, n.safeguarding, n.about, n.alerts, n.manifest}, n.documents
}

func (n *night) add(p cast.Person, who []string) {
	row := func(t *nightly.Table, cells ...string) { t.Add(append(append([]string{}, who...), cells...)...) }
	row(n.people)
	for _, e := range p.EncountersAt(cast.Council) {
		row(n.visits, e.ID, e.Class, e.Type, nightly.Moment(e.Start), nightly.Moment(e.End), e.Reason, e.Where, e.By, e.Role, e.Note)
	}
	for i, r := range p.RelationsAt(cast.Council) {
		row(n.relations, fmt.Sprintf("%s-R%d", who[0], i+1), r.Name, r.Relationship, r.Phone, nightly.Flag(r.NextOfKin))
	}
	for _, d := range p.DocumentsAt(cast.Council) {
		name, data := d.ID+".txt", []byte(d.Text+"\r\n")
		if d.MIME == "application/pdf" {
			name, data = d.ID+".pdf", PDF(d.Title, d.Text)
		}
		n.documents = append(n.documents, document{name, data})
		row(n.manifest, d.ID, name, d.Code, d.Type, d.Title, nightly.Day(d.Date), nightly.Clock(d.Date), d.By)
	}
	for i, f := range p.ItemsAt(cast.Council) {
		id := fmt.Sprintf("%s-%d", who[0], i+1)
		from, until := nightly.Day(f.Date), nightly.Day(f.End)
		switch f.Heading {
		case dataset.SocialCare:
			row(n.packages, id, f.Status, f.Display, f.Text, f.By, from, until)
		case dataset.ProfessionalContacts:
			row(n.contacts, id, f.Status, f.Display, f.By, f.Role, f.Text, from)
		case dataset.Legal:
			row(n.legal, id, kindOf(f), f.Status, f.Code, f.Display, f.Text, from, until, f.By)
		case dataset.Safeguarding:
			row(n.safeguarding, id, f.Status, f.Code, f.Display, f.Text, from, until, f.By, f.Label)
		case dataset.AboutMe:
			row(n.about, id, f.Display, f.Text, from)
		case dataset.Alerts:
			row(n.alerts, id, f.Status, f.Code, f.Display, f.Text, from, f.By)
		default:
			panic(fmt.Sprintf("council: no file for the heading %s: %s holds one", f.Heading, p.Key))
		}
	}
}

// kindOf is the kind of a legal matter, as the system's drop-down list has it.
func kindOf(f cast.Item) string {
	switch d := strings.ToLower(f.Display); {
	case strings.Contains(d, "power of attorney"):
		return "LPA"
	case strings.Contains(d, "deprivation of liberty"):
		return "DoLS"
	}
	return "Other"
}
