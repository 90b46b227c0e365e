package gather

import (
	"context"
	"slices"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// Who gives the person as this session may see them: identity only, no source is asked. It is decided and audited like any reading.
func (g *Gatherer) Who(ctx context.Context, s *access.Session, personID string) (Person, error) {
	op, err := g.open(ctx, s, personID, Ask{Headings: []dataset.Heading{dataset.Demographics}})
	if err != nil {
		return Person{}, err
	}
	for _, l := range op.lanes {
		if l.State == Asking {
			l.State = NotHere // nobody is asked
		}
	}
	rec := op.record()
	if rec.Person.Withheld {
		return Person{}, g.deny(ctx, s, personID, fhir.Identifier{}, notThisSession)
	}
	if err := g.audit(ctx, op, rec); err != nil {
		return Person{}, err
	}
	return rec.Person, nil
}

// Read gives one resource by its id on this server: one that is kept, or one that a source asked live gave not long ago. Unknown, deleted, somebody's whom the session may not see: all the same answer.
func (g *Gatherer) Read(ctx context.Context, s *access.Session, ref fhir.Ref) (*fhir.Resource, error) {
	if err := g.mayOpen(ctx, s); err != nil {
		return nil, err
	}
	r, err := g.o.Kept.Read(ctx, ref)
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return g.readLive(ctx, s, ref)
	}
	if err != nil {
		return nil, err
	}
	patient := PatientOf(r)
	if patient == "" {
		if !fhir.TellsOfNobody(r.Type()) {
			return nil, g.deny(ctx, s, "", fhir.Identifier{}, nil)
		}
		if home, err := g.o.Kept.Home(ctx, ref); err != nil || home != "" { // it came with somebody's record
			return g.beside(ctx, s, home, r)
		}
		if !s.Shows(r) || !g.sharedWith(ctx, s, r) {
			return nil, g.deny(ctx, s, "", fhir.Identifier{}, notThisSession)
		}
		return r, nil // an organisation or a practitioner
	}
	personID, err := g.o.People.PersonOf(ctx, patient)
	if err != nil {
		return nil, g.deny(ctx, s, "", fhir.Identifier{}, nil)
	}
	return g.disclose(ctx, s, personID, r)
}

// PatientOf is the id of the patient in whose record a resource stands, "" if it is nobody's.
func PatientOf(r *fhir.Resource) string {
	if r.Type() == "Patient" {
		return r.ID()
	}
	for _, of := range fhir.Subjects(r) {
		if id, ok := strings.CutPrefix(of.Reference, "Patient/"); ok {
			return id
		}
	}
	return ""
}

// disclose decides on one resource of a person, audits, and gives it out.
func (g *Gatherer) disclose(ctx context.Context, s *access.Session, personID string, r *fhir.Resource) (*fhir.Resource, error) {
	h := dataset.HeadingOf(r)
	if r.Type() == "Binary" {
		h = dataset.Documents
	}
	if h == "" { // of no heading by itself, as a list is that says that nothing is recorded: where it stands in the record, if it does
		if r, err := g.fromRecord(ctx, s, personID, r.Ref()); r != nil || err != nil {
			return r, err
		}
		return nil, unknown()
	}
	op, err := g.open(ctx, s, personID, Ask{Headings: []dataset.Heading{h}, Query: string(r.Ref())})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(op.lanes, func(l *lane) bool { return l.key == connector.SourceOf(r) })
	if i < 0 || !slices.Contains(op.lanes[i].permits, h) {
		return nil, g.deny(ctx, s, personID, fhir.Identifier{}, []policy.Reason{{Code: "not-shared"}})
	}
	if r, err = g.among(ctx, op, op.lanes[i], h, r); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, g.deny(ctx, s, personID, fhir.Identifier{}, []policy.Reason{{Code: "not-shared"}})
	}
	for _, l := range op.lanes {
		if l.State == Asking {
			l.State = NotHere
		}
	}
	if op.decision.Has(policy.WithholdLocation) { // before it is audited: what is kept of the view holds no more than was shown
		r = op.whereabouts().withhold(r, op.lanes[i])
	}
	op.lanes[i].State = Answered
	op.lanes[i].members[h] = []Member{{Resource: r, Source: op.lanes[i].Source, Name: op.lanes[i].Name}}
	if err := g.audit(ctx, op, op.record()); err != nil {
		return nil, err
	}
	return r, nil
}

// among decides on one kept resource among all that its source has sent about the person: what belongs to something sensitive is too.
func (g *Gatherer) among(ctx context.Context, op *opening, l *lane, h dataset.Heading, r *fhir.Resource) (*fhir.Resource, error) {
	at, all := -1, []*fhir.Resource(nil)
	for other, err := range g.o.Kept.Patient(ctx, l.patients...) {
		if err != nil {
			continue // a damaged entry is nobody's to show, and hides no other
		}
		if other.Ref() == r.Ref() {
			at = len(all)
		}
		all = append(all, other)
	}
	if at < 0 {
		at, all = len(all), append(all, r)
	}
	all = append(all, g.products(ctx, all)...)
	return op.discloser(l, all, nil, g.units(ctx, l, all))(at, h), ctx.Err()
}

// A Document is content that can be opened.
type Document struct {
	Title       string
	ContentType string
	Data        []byte
	Launch      string // if it is not given here: where the user's own browser opens it
}

// Document opens the content of a DocumentReference that is in the person's record.
func (g *Gatherer) Document(ctx context.Context, s *access.Session, personID string, ref fhir.Ref) (*Document, error) {
	doc, err := g.documentReference(ctx, s, personID, ref)
	if err != nil {
		return nil, err
	}
	var att fhir.Attachment
	if err := doc.Get("content.attachment").Decode(&att); err != nil {
		return nil, err
	}
	if masked(doc) {
		return nil, fhir.Errorf(fhir.NotSupported, "This document is not shown: its letterhead may tell where the person lives or is seen, which must not be known. Ask the service that wrote it.")
	}
	out := &Document{Title: att.Title, ContentType: att.ContentType}
	data := att.Data
	if id, ok := strings.CutPrefix(att.URL, "Binary/"); ok && data == "" {
		b, err := g.o.Kept.Read(ctx, fhir.MakeRef("Binary", id))
		if err != nil || connector.SourceOf(b) != connector.SourceOf(doc) {
			return nil, fhir.Errorf(fhir.NotFound, "the document's content is not held here")
		}
		out.ContentType, data = b.Text("contentType"), b.Text("data")
	}
	if data == "" && att.URL != "" {
		b, launch, err := g.fetch(ctx, s, personID, doc, att.URL)
		if err != nil {
			return nil, err
		}
		if launch != "" {
			out.Launch = launch
			return out, nil
		}
		out.ContentType, data = b.Text("contentType"), b.Text("data")
	}
	if data == "" {
		return nil, fhir.Errorf(fhir.NotFound, "the document's content is not held here: open it in the system that wrote it")
	}
	if out.Data, err = fhir.DecodeBase64(data); err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the document's content is not valid base64")
	}
	return out, nil
}

// fetch has a live source hand out a file. That the document may be seen has been decided and audited with its reference.
func (g *Gatherer) fetch(ctx context.Context, s *access.Session, personID string, doc *fhir.Resource, address string) (file *fhir.Resource, launch string, err error) {
	source := connector.SourceOf(doc)
	f, fetches := g.o.Askers[source].(connector.Fetcher)
	x, retrieves := g.o.Askers[source].(connector.Retriever)
	allowed, known := g.deadlineOf(source)
	if !fetches && !retrieves || !known {
		return nil, "", fhir.Errorf(fhir.NotFound, "the document's content is not held here: open it in the system that wrote it")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*allowed) // a file may be large
	defer cancel()
	purpose := s.Purpose
	if s.Glass(personID, g.o.Now()) != nil {
		purpose = policy.Emergency
	}
	if retrieves {
		got, err := g.retrieve(ctx, s, personID, x, requester(s, purpose), doc)
		return got.File, got.Launch, err
	}
	file, err = f.Fetch(ctx, requester(s, purpose), address)
	return file, "", err
}

// retrieve follows a pointer. That it is followed is remembered before, and if nothing comes of it, that as well: whoever holds the record remembers it too.
// NRL consumer API, "Consumer Document/Record Retrieval"
func (g *Gatherer) retrieve(ctx context.Context, s *access.Session, personID string, x connector.Retriever, by connector.Requester, doc *fhir.Resource) (connector.Retrieved, error) {
	e := g.event(s, string(audit.Read))
	e.PersonID, e.Query = personID, string(doc.Ref())
	e.NHSNumber, _ = fhir.ParseNHSNumber(doc.Text("subject.identifier.value"))
	pointer := doc.ID()
	if _, id, ok := strings.Cut(doc.Text("meta.source"), "#"); ok {
		pointer = id
	}
	what := []string{"locator: " + connector.SourceOf(doc), "pointer: " + pointer, "address: " + doc.Text("content.attachment.url")}
	e.What = append([]string{"follows: a pointer"}, what...)
	if err := g.remember(ctx, e); err != nil {
		return connector.Retrieved{}, err
	}
	got, err := x.Retrieve(ctx, by, doc)
	if err != nil {
		e.Outcome, e.What = audit.Serious, append([]string{"nothing was retrieved: " + err.Error()}, what...)
		if err := g.remember(context.WithoutCancel(ctx), e); err != nil {
			return connector.Retrieved{}, err
		}
	}
	return got, err
}

// deadlineOf is how long a system or neighbour of the region may take.
func (g *Gatherer) deadlineOf(source string) (time.Duration, bool) {
	if s, ok := g.o.Region.System(source); ok {
		return g.deadline(s.Deadline), true
	}
	if source == OwnLocator {
		return g.deadline(0), true
	}
	for _, n := range g.o.Region.Locator.National {
		if n.ID == source {
			return g.deadline(n.Deadline), true
		}
	}
	n, ok := g.o.Region.Neighbour(source)
	return g.deadline(n.Deadline), ok
}

// documentReference finds it among what is kept, else in the record as gathered live.
func (g *Gatherer) documentReference(ctx context.Context, s *access.Session, personID string, ref fhir.Ref) (*fhir.Resource, error) {
	if ref.Type() != "DocumentReference" {
		return nil, unknown()
	}
	if r, err := g.o.Kept.Read(ctx, ref); err == nil {
		if owner, err := g.o.People.PersonOf(ctx, PatientOf(r)); err != nil || owner != personID {
			return nil, g.deny(ctx, s, personID, fhir.Identifier{}, []policy.Reason{{Code: "other-person"}})
		}
		return g.disclose(ctx, s, personID, r)
	}
	rec, err := g.Record(ctx, s, personID, Ask{Query: string(ref)})
	if err != nil {
		return nil, err
	}
	for _, sec := range rec.Sections {
		for _, e := range sec.Entries {
			for _, m := range e.Members {
				if m.Resource.Ref() == ref {
					return m.Resource, nil
				}
			}
		}
	}
	return nil, unknown()
}
