package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/web"
)

// What people choose about sharing is kept as Consents of this node's own source, about a Patient of that source who bears the person's national
// number: identity joins that one like any other, and a choice goes with whose number it is if others are parted or joined (ADR 16).

// mayChoose finds the person if the session may read and record their choices: their own, or anybody's for a privacy officer.
func (n *Node) mayChoose(ctx context.Context, s *access.Session, person string) (*mpi.Person, error) {
	info, _ := s.Role.Info()
	own := s.Role == policy.Citizen && s.Client == "" && s.Person.Value != ""
	if own {
		id, err := n.Gather.Find(ctx, s, s.Person)
		if err != nil {
			return nil, err
		}
		own = id == person
	}
	if !own && !info.Audit {
		return nil, fhir.Errorf(fhir.NotFound, "no record was found that you can open")
	}
	return n.People.Person(ctx, person)
}

func (n *Node) chose(ctx context.Context, s *access.Session, kind audit.Kind, person, what string) error {
	purpose := policy.Administration
	if s.Role == policy.Citizen {
		purpose = policy.PatientRequest
	}
	_, err := n.Audit.Append(ctx, audit.Event{Kind: kind, Agent: agentOf(s), Purpose: purpose.Code(), PersonID: person, Trace: s.Trace, What: []string{what}})
	return err
}

// WhoseChoices finds somebody for a privacy officer.
func (n *Node) WhoseChoices(ctx context.Context, s *access.Session, id fhir.Identifier) (string, error) {
	if err := mayAudit(s); err != nil {
		return "", err
	}
	id = id.Canonical()
	if err := id.Check(); err != nil {
		return "", err
	}
	person, err := n.People.Resolve(ctx, id)
	if err != nil && !fhir.Is(err, fhir.NotFound) {
		return "", err
	}
	if aerr := n.chose(ctx, s, audit.Search, person, "choices about sharing: looked for"); aerr != nil {
		return "", aerr
	}
	return person, err
}

// ChoicesOf tells what somebody has chosen, here and elsewhere.
func (n *Node) ChoicesOf(ctx context.Context, s *access.Session, person string) (*web.ChoicesState, error) {
	p, err := n.mayChoose(ctx, s, person)
	if err != nil {
		return nil, err
	}
	agreed, _, _ := n.agreed.InForce()
	believed := policy.BelievedBy(agreed)
	out := &web.ChoicesState{Name: p.Name.Formal(), Born: p.BirthDate, NHS: p.NHSNumber}
	for _, pt := range p.Patients {
		for r, err := range n.store.Patient(ctx, pt.ID) {
			if err != nil {
				return nil, err
			}
			if r.Type() != "Consent" {
				continue
			}
			o, clear := policy.ObjectionOf(r)
			switch {
			case pt.Source == connector.Own && clear:
				out.Here = append(out.Here, o)
			case r.Text("status") == "active" && r.Text("scope.coding.code") == "patient-privacy":
				var says policy.Standing
				says.Take(pt.Source, r)
				out.Elsewhere = append(out.Elsewhere, web.ChoiceElsewhere{Objection: o, Source: n.sourceName(pt.Source), Clear: clear, Acts: len(says.Acting) > 0, Counts: believed.Unheeded(pt.Source, r) == ""})
			}
		}
	}
	slices.SortStableFunc(out.Here, func(a, b policy.Objection) int { return b.Made.At.Compare(a.Made.At) })
	for _, o := range n.c.Region.Organisations {
		out.Organisations = append(out.Organisations, web.ChoiceParty{ODS: o.ODS, Name: o.Name})
	}
	slices.SortFunc(out.Organisations, func(a, b web.ChoiceParty) int { return strings.Compare(a.Name, b.Name) })
	return out, n.chose(ctx, s, audit.Read, person, "choices about sharing: read")
}

// roleAt is who cares for people at a kind of organisation.
func roleAt(k region.Kind) policy.Role {
	switch k {
	case region.KindGP:
		return policy.GP
	case region.KindAcute:
		return policy.HospitalDoctor
	case region.KindMentalHealth:
		return policy.MentalHealth
	case region.KindSocialCare:
		return policy.SocialWorker
	case region.KindAmbulance:
		return policy.Paramedic
	}
	return policy.Nurse
}

// EffectOf decides, with the choice and without, what those who care for people at each organisation see of what is held of this person.
func (n *Node) EffectOf(ctx context.Context, s *access.Session, person string, o policy.Objection) ([]web.ChoiceEffect, error) {
	p, err := n.mayChoose(ctx, s, person)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(p.Patients))
	for i, pt := range p.Patients {
		ids[i] = pt.ID
	}
	now, _, err := n.Standing.Of(ctx, ids...)
	if err != nil {
		return nil, err
	}
	with := now
	with.Choices = slices.Clone(now.Choices)
	with.Take(connector.Own, o.Consent("Patient/x"))
	agreed, _, data := n.agreed.InForce()
	var out []web.ChoiceEffect
	for _, org := range agreed.Organisations {
		f := policy.Facts{Subject: policy.Subject{Role: roleAt(org.Kind), Organisation: org.ODS, Above: agreed.Above(org.ODS)}, Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.KnownHere},
			Agreements: agreed.Agreements, Believed: policy.BelievedBy(agreed), At: n.c.Now(), Data: data, Item: o.Item()}
		e, kept := web.ChoiceEffect{Organisation: org.Name}, false
		for _, sys := range agreed.Systems {
			if holds, ok := agreed.Organisation(sys.Organisation); !ok || !n.holds(p, sys, holds) {
				continue
			}
			f.Source = policy.SourceOf(sys, agreed)
			for _, h := range dataset.AllHeadings() {
				if _, gives := sys.Gives[h]; !gives {
					continue
				}
				f.Heading, f.Person = h, now.Person
				if !policy.Decide(f).Permit {
					continue
				}
				if f.Person = with.Person; policy.Decide(f).Permit {
					kept = true
				} else if !slices.Contains(e.Headings, h) {
					e.Headings = append(e.Headings, h)
				}
			}
		}
		if e.All = !kept; len(e.Headings) > 0 {
			out = append(out, e)
		}
	}
	return out, nil
}

// holds reports whether a system holds something of somebody, as far as is known: it has sent it, or is their practice's.
func (n *Node) holds(p *mpi.Person, s region.System, at region.Organisation) bool {
	_, sent := p.At(s.ID)
	return sent || at.Kind == region.KindGP && p.Practice == at.ODS
}

// Object records a choice by the one door, and waits until it counts.
func (n *Node) Object(ctx context.Context, s *access.Session, person string, o policy.Objection) error {
	p, err := n.mayChoose(ctx, s, person)
	if err != nil {
		return err
	}
	now := n.c.Now()
	if err := o.Check(now); err != nil {
		return err
	}
	for ods, at := range map[string]string{o.Recipient: "recipient", o.Holder: "holder"} {
		if _, ok := n.c.Region.Organisation(ods); ods != "" && !ok {
			return fhir.Errorf(fhir.CodeInvalid, "choose a service from the list").At(at)
		}
	}
	if s.Role != policy.Citizen && o.Made.Words == "" {
		return fhir.Errorf(fhir.Required, "say how you know that the person wants this").At("words")
	}
	if o.ID == "" {
		o.ID = s.Trace
	}
	// The same again is the same choice, which was made already; what differs in anything is another. And nobody's choice can be made to replace another's.
	o.Made = policy.Deed{By: s.User, Name: nameIn(s), Words: wordsOf(s, o.Made.Words)}
	sum := sha256.Sum256(slices.Concat([]byte(person+"/"), fhir.JSON(o)))
	o.ID = hex.EncodeToString(sum[:16])
	said := fhir.JSON(o)
	o.Made.At = now
	return n.keepChoice(ctx, s, p, o, "recorded", said)
}

// TakeBack ends a choice that was made here.
func (n *Node) TakeBack(ctx context.Context, s *access.Session, person, id, words string) error {
	p, err := n.mayChoose(ctx, s, person)
	if err != nil {
		return err
	}
	if s.Role != policy.Citizen && words == "" {
		return fhir.Errorf(fhir.Required, "say how you know that the person wants it taken back").At("words")
	}
	for r, err := range n.store.Patient(ctx, p.PatientIDs(connector.Own)...) {
		if err != nil {
			return err
		}
		o, ok := policy.ObjectionOf(r)
		if r.Type() != "Consent" || !ok || o.ID != id {
			continue
		}
		if o.TakenBack != nil {
			return nil // it was, already
		}
		o.TakenBack = &policy.Deed{By: s.User, Name: nameIn(s), Words: wordsOf(s, words)}
		said := fhir.JSON(o)
		o.TakenBack.At = n.c.Now()
		return n.keepChoice(ctx, s, p, o, "taken back", said)
	}
	return fhir.Errorf(fhir.NotFound, "there is no such choice")
}

// nameIn is how a deed names who did it.
func nameIn(s *access.Session) string {
	if s.Role == policy.Citizen {
		return s.Name
	}
	return s.Name + ", " + strings.ToLower(s.RoleName)
}

// wordsOf are the words of somebody who acts for the person; the person themselves need none.
func wordsOf(s *access.Session, words string) string {
	if s.Role == policy.Citizen {
		return ""
	}
	return strings.ToValidUTF8(words[:min(len(words), 500)], "")
}

// keepChoice audits what is chosen, and takes it in as this node's own source. said is what the page said, without when: when it comes again, as after an answer that was
// lost, it is recognised and changes nothing, whatever was chosen since.
func (n *Node) keepChoice(ctx context.Context, s *access.Session, p *mpi.Person, o policy.Objection, what string, said []byte) error {
	if p.NHSNumber == "" {
		return fhir.Errorf(fhir.NotSupported, "a choice is recorded here for people whose NHS number is known: ask the service that knows them to record it")
	}
	if err := n.chose(ctx, s, audit.Update, p.ID, "choice about sharing: "+what+": "+o.ID); err != nil {
		return err
	}
	patient := fhir.New("Patient", p.NHSNumber, fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: p.NHSNumber}}, "name": []fhir.HumanName{p.Name}, "birthDate": p.BirthDate})
	consent := o.Consent("Patient/" + fhir.Ref(p.NHSNumber))
	_, err := n.Intake.Accept(ctx, connector.Delivery{Source: connector.Own, ID: "choice/" + o.ID + "/" + what, Received: n.c.Now(), ContentType: "application/json", Raw: said,
		Content: []*fhir.Resource{patient, consent}, Patient: p.NHSNumber, Map: "choice/1"})
	return err
}
