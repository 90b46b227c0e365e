package gather

import (
	"cmp"
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/probe"
	"tombolo/region"
)

// record is the record as it stands. It shares nothing that later changes.
func (op *opening) record() *Record {
	now := op.g.o.Now()
	rec := &Record{Person: op.banner(), At: now, Took: now.Sub(op.start), Notice: Notice, Supporting: map[fhir.Ref]*fhir.Resource{}, BrokeGlass: op.decision.Has(policy.AlertPrivacy)}
	if rec.BrokeGlass && op.facts.Glass != nil {
		rec.GlassUntil = op.facts.Glass.Until
	}
	rec.Person.Withheld = !op.session.Shows(rec.Person.Resource())
	for _, l := range op.lanes {
		if op.hides(l) {
			continue
		}
		c := l.Lane
		c.Headings = make(map[dataset.Heading]dataset.State, len(l.Headings))
		for h, st := range l.Headings {
			c.Headings[h] = st
		}
		rec.Lanes = append(rec.Lanes, c)
		if l.Kind == string(region.KindGP) && op.decision.Has(policy.WithholdLocation) {
			continue // who works there tells where it is
		}
		for ref, r := range l.support {
			rec.Supporting[ref] = r
		}
	}
	for _, info := range dataset.All {
		if op.wanted(info.Heading) {
			rec.Sections = append(rec.Sections, op.section(info))
		}
	}
	if op.ask.Explain && op.g.MayExplain(op.session) {
		rec.Plan = op.explained()
	}
	return rec
}

// hides reports whether that a source was considered at all would tell where somebody is whose whereabouts are withheld: where they are not registered tells
// where they may be.
func (op *opening) hides(l *lane) bool {
	return l.Kind == string(region.KindGP) && l.Silent() && op.decision.Has(policy.WithholdLocation)
}

// section joins one heading over all lanes. Its state is present if anything is; else it is the worst that any
// source that may hold something says, so that "none recorded" needs every one of them to have said so.
func (op *opening) section(info dataset.Info) Section {
	s := Section{Heading: info.Heading, Title: info.Title}
	var members []Member
	gives, none := 0, 0
	for _, l := range op.lanes {
		st, ok := l.Headings[info.Heading]
		if !ok {
			continue
		}
		if l.Silent() {
			continue
		}
		gives++
		members = append(members, l.members[info.Heading]...)
		switch {
		case l.State == Earlier, l.Part[info.Heading], st == dataset.NotKnown, st == "":
			s.Unknown = append(s.Unknown, l.Name)
		case st == dataset.NotShared:
			s.NotShared = append(s.NotShared, l.Name)
		case l.InPart[info.Heading]: // what it gave is what is released
			s.NotShared = append(s.NotShared, l.Name)
		case st == dataset.NoneRecorded:
			none++
			if back := l.Reaches[info.Heading]; back != "" {
				s.Reach = append(s.Reach, l.Name+" reaches back to "+probe.Month(back))
			}
		}
	}
	s.Entries = Reconcile(info.Heading, onceEach(members))
	switch {
	case len(s.Entries) > 0:
		s.State = dataset.Present
	case len(s.Unknown) > 0 || gives == 0:
		s.State = dataset.NotKnown
	case len(s.NotShared) > 0:
		s.State = dataset.NotShared
	case none == gives:
		s.State = dataset.NoneRecorded
	default:
		s.State = dataset.NotKnown
	}
	return s
}

// banner is the person as shown to this session.
func (op *opening) banner() Person {
	return op.g.shown(op.person, op.decision)
}

func (g *Gatherer) shown(p *mpi.Person, d policy.Decision) Person {
	nhs, _ := fhir.ParseNHSNumber(p.NHSNumber)
	out := Person{
		ID: p.ID, NHSNumber: nhs, Identifiers: slices.Clone(p.Identifiers), Name: p.Name, BirthDate: p.BirthDate, Gender: p.Gender,
		Address: p.Address, Phone: p.Phone, Deceased: p.Deceased, Practice: p.Practice, Restricted: p.Restricted, Merged: slices.Clone(p.Superseded),
	}
	if p.Practice != "" {
		out.PracticeName = cmp.Or(g.organisation(p.Practice).Name, p.Practice)
	}
	if d.Has(policy.WithholdLocation) {
		out.Address, out.Phone, out.Practice, out.PracticeName = nil, "", "", ""
		out.Identifiers = slices.DeleteFunc(out.Identifiers, func(id fhir.Identifier) bool { return !national(id.System) && !g.fromElsewhere(p, id) })
	}
	return out
}

// national reports whether a system of identifiers is a nation's: its numbers are given out by no practice.
func national(system string) bool {
	return system == fhir.SystemNHSNumber || system == fhir.SystemCHI || system == fhir.SystemHCN
}

// fromElsewhere reports whether somebody else than a practice knows the person by an identifier: a practice's own number tells which practice it is.
func (g *Gatherer) fromElsewhere(p *mpi.Person, id fhir.Identifier) bool {
	return slices.ContainsFunc(p.Patients, func(pt mpi.Patient) bool {
		sys, ok := g.o.Region.System(pt.Source)
		return ok && g.organisation(sys.Organisation).Kind != region.KindGP && slices.ContainsFunc(pt.Identifiers, func(own fhir.Identifier) bool { return own.System == id.System && own.Value == id.Value })
	})
}

// Complete reports whether every source that may hold something under a heading answered in full. Only then may the
// absence of something be spoken of (design law 3).
func (r *Record) Complete(h dataset.Heading) bool {
	for _, l := range r.Lanes {
		st, gives := l.Headings[h]
		if !gives || l.Silent() {
			continue
		}
		if l.State != Answered || l.Part[h] || l.InPart[h] || st == dataset.NotKnown || st == dataset.NotShared {
			return false
		}
	}
	return true
}

// Section is the section of a heading, nil if it was not asked for.
func (r *Record) Section(h dataset.Heading) *Section {
	for i := range r.Sections {
		if r.Sections[i].Heading == h {
			return &r.Sections[i]
		}
	}
	return nil
}
