package gpconnect

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Ask asks the practice for the headings of the question, by NHS number: its structured record, as far as its system says that it gives
// one; beside that its documents and the appointments to come, where it has addresses for them; and for the headings that its structured
// record cannot fill, and only those, the pages of Access Record HTML.
func (c *Client) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	a, err := c.gather(ctx, q)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	for i, is := range a.Issues {
		a.Issues[i] = is.From(c.o.Source)
	}
	return a, nil
}

func (c *Client) gather(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	nhs, err := nhsNumber(q.Identifiers)
	if err != nil {
		return nil, err
	}
	if !directCare(q.Requester.Purpose) {
		return nil, fhir.Errorf(fhir.Forbidden, "GP Connect may be asked for direct care only")
	}
	p, err := c.plan(ctx, q)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	parts := make([]*part, 0, 2)
	beside := func(wanted bool, h dataset.Heading, ask func(context.Context, connector.Requester, fhir.NHSNumber) *part) {
		if !wanted {
			return
		}
		pt := &part{}
		parts = append(parts, pt)
		wg.Go(func() {
			*pt = *ask(ctx, q.Requester, nhs)
			pt.heading = h
		})
	}
	beside(p.documents, dataset.Documents, c.documentsPart)
	beside(p.appointments, dataset.Appointments, c.appointmentsPart)
	beside(p.notGiven, dataset.Immunisations, c.notGivenPart)
	a, lacking, err := c.structured(ctx, q, nhs, p)
	wg.Wait()
	lacking = slices.Concat(lacking, p.lacking)
	if err != nil {
		if !p.html || !(fhir.Is(err, fhir.Forbidden) || fhir.Is(err, fhir.NotSupported)) {
			return nil, err
		}
		a = &connector.Answer{Map: Map, States: map[dataset.Heading]dataset.State{}, Issues: []*fhir.Issue{warn(err)}}
		lacking = q.Headings
	}
	if p.html {
		parts = append(parts, c.htmlParts(ctx, q, nhs, lacking)...)
	}
	return a, c.join(a, parts, nhs, len(parts) > 0 && a.Patient == nil)
}

// A plan is what one question comes to.
type plan struct {
	ask                           []dataset.Heading // of the structured record
	lacking                       []dataset.Heading // asked for, and not in the structured record of this practice's system
	html, documents, appointments bool
	notGiven                      bool // vaccinations that were refused need a question of their own
	old                           bool // the system is from before there was a word for those
}

// notGivenSince is the minor version that brought includeNotGiven.
const notGivenSince = 5

// plan reads what the practice's system can do first, and asks for nothing else.
func (c *Client) plan(ctx context.Context, q connector.Question) (p plan, err error) {
	wants := func(h dataset.Heading, interaction string) (bool, error) {
		if !slices.Contains(q.Headings, h) {
			return false, nil
		}
		return c.offers(ctx, interaction)
	}
	if p.documents, err = wants(dataset.Documents, InteractionDocumentSearch); err != nil {
		return p, err
	}
	if p.appointments, err = wants(dataset.Appointments, InteractionPatientAppointments); err != nil {
		return p, err
	}
	if !slices.ContainsFunc(q.Headings, offered) && !p.documents && !p.appointments {
		return p, fhir.Errorf(fhir.NotSupported, "GP Connect gives none of the headings asked for")
	}
	// What may not be asked is refused before anything goes out.
	if err = c.include(q.Headings).Check(c.o.Now()); err != nil {
		return p, err
	}
	if p.html, err = c.offers(ctx, InteractionHTML); err != nil {
		return p, err
	}
	can, err := c.capability(ctx, q.Requester)
	if p.html && fhir.Is(err, fhir.Forbidden) { // structured records may be switched off where pages are not
		can, err = capability{none: true}, nil
	}
	if err != nil {
		return p, err
	}
	if can.none && !p.html && !p.documents && !p.appointments {
		return p, fhir.Errorf(fhir.NotSupported, "the practice's system does not offer structured records through GP Connect")
	}
	for _, h := range q.Headings {
		i := slices.IndexFunc(queries, func(k query) bool { return slices.Contains(k.headings, h) })
		switch {
		case i >= 0 && can.gives(&queries[i]), i < 0 && offered(h) && !can.none:
			p.ask = append(p.ask, h)
		case i >= 0:
			p.lacking = append(p.lacking, h)
		}
	}
	p.old = can.minor >= 0 && can.minor < notGivenSince
	p.notGiven = !p.old && slices.Contains(p.ask, dataset.Immunisations) && !For(p.ask).ImmunisationsNotGiven
	return p, nil
}

// notGivenPart asks for vaccinations that were not given, where the record had to be asked for without them.
//
// GP Connect 1.5 accessrecord_structured_development_retrieve_patient_record.html: includeNotGiven is false unless given
func (c *Client) notGivenPart(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber) *part {
	in := c.include([]dataset.Heading{dataset.Immunisations})
	if err := in.Check(c.o.Now()); err != nil || !in.ImmunisationsNotGiven {
		return &part{err: err}
	}
	done, err := c.getRecord(ctx, by, nhs, in)
	if err != nil {
		return &part{err: err}
	}
	p := &part{patient: done.Patient, bytes: done.Bytes}
	for _, r := range answer(done, []dataset.Heading{dataset.Immunisations}).Content {
		if r.Type() != "Immunization" {
			p.content = append(p.content, r)
		} else if r.Text("status") == "not-done" {
			p.content, p.state = append(p.content, r), dataset.Present
		}
	}
	if p.state == "" {
		p.content = nil
	}
	return p
}

// getRecord asks for a structured record and converts it.
func (c *Client) getRecord(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, in Include) (*Converted, error) {
	var t turn
	defer t.done()
	return c.record(ctx, by, call{turn: &t, method: http.MethodPost, path: "/Patient/$gpc.getstructuredrecord", interaction: InteractionStructured,
		scope: "patient/*.read", body: in.parameters(nhs)}, false)
}

// structured asks for the structured record, and says of which headings the practice's system turned out not to know them.
func (c *Client) structured(ctx context.Context, q connector.Question, nhs fhir.NHSNumber, p plan) (*connector.Answer, []dataset.Heading, error) {
	a := &connector.Answer{Map: Map, States: map[dataset.Heading]dataset.State{}}
	for _, h := range p.lacking {
		if !p.html {
			a.Issues = append(a.Issues, (&fhir.Issue{Type: fhir.NotSupported, Severity: fhir.Warning,
				Text: "the practice's system says that it does not offer this through GP Connect"}).At(string(h)))
		}
	}
	if len(p.ask) == 0 {
		return a, nil, nil
	}
	in := c.include(p.ask)
	in.ImmunisationsNotGiven = in.ImmunisationsNotGiven && !p.old
	if err := in.Check(c.o.Now()); err != nil {
		return nil, nil, err
	}
	done, err := c.getRecord(ctx, q.Requester, nhs, in)
	if err != nil {
		return nil, nil, err
	}
	got := answer(done, p.ask)
	got.Issues = append(a.Issues, got.Issues...)
	return got, done.unoffered(p.ask), nil
}

func (c *Client) include(headings []dataset.Heading) Include {
	in := For(headings)
	if c.o.Narrow != nil {
		in = c.o.Narrow(in)
	}
	return in
}

// A part is what one other capability said. err leaves the rest of the answer as it is.
type part struct {
	heading dataset.Heading
	patient *fhir.Resource
	content []*fhir.Resource
	state   dataset.State // "" not known
	issues  []*fhir.Issue
	bytes   int64
	err     error
}

// join puts the parts to the structured record. A part about somebody else is left out, loudly; a part that failed is a warning. alone: there
// is no structured record, so that the first failure is the answer's if nothing else came.
func (c *Client) join(a *connector.Answer, parts []*part, nhs fhir.NHSNumber, alone bool) error {
	var first error
	came := false
	for _, p := range parts {
		a.Bytes += p.bytes
		if p.err == nil && p.patient != nil && !isAbout(p.patient, nhs) {
			p.err = fhir.Errorf(fhir.BusinessRule, "the practice answered about a different person; that part of its answer was dropped: tell the practice's supplier").OfStranger()
			if alone && len(parts) == 1 {
				a.Patient = p.patient // for the caller to see, and to raise the alarm
			}
		}
		if p.err != nil {
			if first == nil {
				first = p.err
			}
			a.Issues = append(a.Issues, warn(p.err).At(string(p.heading)))
			continue
		}
		came = true
		if a.Patient == nil {
			a.Patient = p.patient
		}
		seen := map[fhir.Ref]bool{}
		for _, r := range a.Content {
			seen[r.Ref()] = true
		}
		for _, r := range p.content {
			if !seen[r.Ref()] {
				a.Content = append(a.Content, r)
			}
		}
		if p.state != "" && (a.States[p.heading] == "" || p.state == dataset.Present) {
			a.States[p.heading] = p.state
		}
		a.Issues = append(a.Issues, p.issues...)
	}
	if alone && !came && a.Patient == nil {
		return first
	}
	return nil
}

// warn is an error as a remark on an answer that has come all the same.
func warn(err error) *fhir.Issue {
	is := fhir.IssueOf(err)
	if is == nil {
		is = fhir.Errorf(fhir.Transient, "the practice's system failed; try again later")
	}
	w := *is
	w.Severity = fhir.Warning
	return &w
}

// isAbout reports whether a Patient has the NHS number that was asked for.
func isAbout(p *fhir.Resource, nhs fhir.NHSNumber) bool {
	for _, id := range p.Identifiers() {
		if id.System == fhir.SystemNHSNumber {
			return id.Value == nhs.Digits()
		}
	}
	return false
}

// directCare reports whether a purpose is what GP Connect is for: the token would say so falsely of anything else.
func directCare(purpose string) bool {
	switch purpose {
	case "TREAT", "ETREAT", "BTG", "CAREMGT", "COC":
		return true
	}
	return false
}
