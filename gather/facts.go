package gather

import (
	"context"
	"slices"
	"time"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// facts are what policy must know before anything is looked at.
func (g *Gatherer) facts(ctx context.Context, s *access.Session, p *mpi.Person) (policy.Facts, error) {
	return g.FactsOn(ctx, s, p, g.o.Now())
}

// FactsOn is what a decision for the session about the person would rest on at a time, as far as it is known now. It shows nothing of any record.
func (g *Gatherer) FactsOn(ctx context.Context, s *access.Session, p *mpi.Person, now time.Time) (policy.Facts, error) {
	agreed, _, data := g.o.Agreed.InForce()
	f := policy.Facts{Subject: subject(s, agreed), Purpose: s.Purpose, Agreements: agreed.Agreements, Believed: policy.BelievedBy(agreed), Data: data, At: now, Channel: channel(s)}
	if g.o.Standing != nil {
		ids := make([]string, 0, len(p.Patients))
		for _, pt := range p.Patients {
			ids = append(ids, pt.ID)
		}
		stands, ties, err := g.o.Standing.Of(ctx, ids...)
		if err != nil {
			return f, err
		}
		f.Person = stands.Person
		if acts := stands.Acting[s.Person.System+"|"+s.Person.Value]; len(acts) > 0 && s.Role == policy.Citizen {
			f.Person.Proxies = acts
			f.Relationships = append(f.Relationships, policy.Proxy)
		}
		for _, t := range ties {
			org := t.Organisation
			if org == "" {
				sys, _ := agreed.System(t.Source)
				org = sys.Organisation
			}
			if t.In(now) && (t.Kind == policy.Workgroup && slices.Contains(workgroups(s, agreed), t.Workgroup) || t.Kind != policy.Workgroup && org != "" && (org == s.Organisation || slices.Contains(f.Subject.Above, org))) {
				f.Relationships = append(f.Relationships, t.Kind)
			}
		}
	}
	f.Person.Restricted = p.Restricted
	f.Person.Born = Born(p)
	if f.Glass = s.Glass(p.ID, now); f.Glass != nil {
		f.Purpose = policy.Emergency
	}
	if f.Purpose.Secondary() && g.o.OptOuts != nil {
		var err error
		if f.Person.OptOut, err = g.o.OptOuts.Ask(ctx, p.NHSNumber); err != nil {
			return f, err
		}
	}
	g.relate(&f, s, p)
	return f, nil
}

// Born is the earliest day on which a person may have been born, by whatever any source says: who may be 16 is taken to be, so that no source makes a young
// person younger than others know them to be. Zero: nobody says.
func Born(p *mpi.Person) time.Time {
	var first time.Time
	earliest := func(date string) {
		if span, err := fhir.ParseDate(date); err == nil && (first.IsZero() || span.Start.Before(first)) {
			first = span.Start
		}
	}
	earliest(p.BirthDate)
	for _, pt := range p.Patients {
		if pt.ReplacedBy == "" {
			earliest(pt.BirthDate)
		}
	}
	return first
}

// relate adds what the identity index says of who knows the person.
func (g *Gatherer) relate(f *policy.Facts, s *access.Session, p *mpi.Person) {
	if s.Role == policy.Citizen {
		for _, id := range p.Identifiers {
			if id.System == s.Person.System && id.Value == s.Person.Value && id.Value != "" {
				f.Relationships = append(f.Relationships, policy.Self)
			}
		}
		return
	}
	agreed, _, _ := g.o.Agreed.InForce()
	if p.Practice != "" && (p.Practice == s.Organisation || agreed.Current(p.Practice) == s.Organisation) { // a practice's successor has its list
		f.Relationships = append(f.Relationships, policy.RegisteredPractice)
	}
	for _, sys := range g.o.Region.Systems {
		if _, ok := p.At(sys.ID); ok && sys.Organisation == s.Organisation {
			f.Relationships = append(f.Relationships, policy.KnownHere)
			break
		}
	}
	// Opening a record *is* the claim to care for the person: it is recorded as such where no system confirms it.
	if info, _ := s.Role.Info(); info.Clinical && len(f.Relationships) == 0 && !f.Purpose.Secondary() {
		f.Relationships = append(f.Relationships, policy.SelfClaimed)
	}
}

// subject is the session as policy sees it, with what the region file says of its organisation.
func subject(s *access.Session, agreed *region.Region) policy.Subject {
	out := s.Subject()
	out.Above = agreed.Above(s.Organisation)
	out.User = s.User
	out.Names = []string{"Practitioner/" + s.User, fhir.SystemSDSUser + "|" + s.User}
	if s.Person.Value != "" {
		out.Names = append(out.Names, s.Person.System+"|"+s.Person.Value)
	}
	for _, w := range workgroups(s, agreed) {
		out.Names = append(out.Names, "Group/"+w)
	}
	return out
}

func workgroups(s *access.Session, agreed *region.Region) []string {
	if i := slices.IndexFunc(agreed.Users, func(u region.User) bool { return u.ID == s.User }); i >= 0 {
		return agreed.Users[i].Workgroups
	}
	return nil
}

func channel(s *access.Session) policy.Channel {
	switch {
	case s.FromNeighbour():
		return policy.Between
	case s.Unattended():
		return policy.Machine
	case s.Locked != "":
		return policy.Launch
	case s.Client != "":
		return policy.API
	}
	return policy.Page
}
