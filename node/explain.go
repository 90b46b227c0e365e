package node

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"tombolo/audit"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// optOuts is the file of those who may be used for research and planning, as the region file now names it.
func (n *Node) optOuts() string {
	r, _, _ := n.agreed.InForce()
	name := r.Policy.OptOuts
	if name != "" && !filepath.IsAbs(name) {
		name = filepath.Join(n.c.Folder, name)
	}
	return name
}

// An ExplainAsk says of whose record to explain what, to whom, and on which day.
type ExplainAsk struct {
	By     audit.Agent
	Person string // id; see PersonFor
	// Identifier, if there is one, is whose it is instead of Person.
	Identifier *fhir.Identifier
	User       string // of the region file; "": every organisation and role that could
	On         time.Time
	Headings   []dataset.Heading // none: all
	Purpose    policy.Purpose    // "": the first of the role's
	Refused    bool              // tell what is refused too, where no User is named
}

// An Explained is one decision, with what it was about.
type Explained struct {
	Who, Organisation string
	Role              policy.Role
	System            string
	Heading           dataset.Heading
	Unit              string // where the system's release depends on which unit made something; "": one that no stage names
	Decision          policy.Decision
}

// An Explanation tells who could see what, and why.
type Explanation struct {
	Region  *region.Region   // as it was agreed then
	Agreed  string           // which version of the agreements was in force
	Lists   string           // which code lists
	Choices int              // how many Consents of the person stood then
	Opening *policy.Decision // of the record as a whole, for the user asked about
	Rows    []Explained
	// Unheeded says of which Consents of that day the word counts for nothing, or for less than it says, since the region file does not name their source.
	Unheeded []string
	// Unsure says what is not known of that day, in words; empty if nothing.
	Unsure []string
}

// PersonFor finds somebody by identifier, for commands: it is recorded that they were looked for.
func (n *Node) PersonFor(ctx context.Context, by audit.Agent, id fhir.Identifier) (string, error) {
	id = id.Canonical()
	if err := id.Check(); err != nil {
		return "", err
	}
	e := audit.Event{Kind: audit.Search, Agent: by, What: []string{"looked for at the command line, to explain"}}
	person, err := n.People.Resolve(ctx, id)
	if err != nil && !fhir.Is(err, fhir.NotFound) {
		return "", err
	}
	e.PersonID = person
	if _, aerr := n.Audit.Append(ctx, e); aerr != nil {
		return "", aerr
	}
	return person, err
}

// Explain decides again as it would have been decided on a day: by the agreements that were in force then, and the person's choices as they
// stood. That it was asked is remembered first.
func (n *Node) Explain(ctx context.Context, ask ExplainAsk) (*Explanation, error) {
	if _, err := n.Audit.Append(ctx, audit.Event{Kind: audit.Policy, Agent: ask.By, PersonID: ask.Person, What: []string{"policy: explained, of " + ask.On.Format(time.DateOnly), "user: " + ask.User}}); err != nil {
		return nil, err
	}
	p, err := n.People.Person(ctx, ask.Person)
	if err != nil {
		return nil, err
	}
	out := &Explanation{}
	r, err := n.agreedOn(ctx, ask.On, out)
	if err != nil {
		return nil, err
	}
	out.Region = r
	person, err := n.choicesOn(ctx, p, ask.On, policy.BelievedBy(r), out)
	if err != nil {
		return nil, err
	}
	person.Born = gather.Born(p)
	person.Restricted = p.Restricted
	if ask.User != "" {
		return out, n.explainUser(ctx, ask, r, p, person, out)
	}
	for _, org := range r.Organisations {
		for _, role := range policy.Roles() {
			f := policy.Facts{Subject: policy.Subject{Role: role, Organisation: org.ODS, Above: r.Above(org.ODS)}, Person: person, Relationships: []policy.Relationship{policy.KnownHere}}
			n.explain(ask, r, f, "", out)
		}
	}
	out.Unsure = append(out.Unsure, "every organisation is taken to have had a relationship of care with the person: whether it had, the audit log tells of each opening")
	return out, nil
}

// explainUser decides for one user, with the relationships that are known now.
func (n *Node) explainUser(ctx context.Context, ask ExplainAsk, r *region.Region, p *mpi.Person, person policy.Person, out *Explanation) error {
	s, err := n.Access.As(ask.User)
	if err != nil {
		return err
	}
	f, err := n.Gather.FactsOn(ctx, s, p, ask.On)
	if err != nil {
		return err
	}
	acts := f.Person.Proxies
	f.Person = person
	f.Person.Proxies = acts
	f.Agreements, f.Believed, f.At, f.Data = r.Agreements, policy.BelievedBy(r), ask.On, policy.Data{Version: dataVersion(r)}
	if ask.Purpose != "" {
		f.Purpose = ask.Purpose
	}
	d := policy.Decide(f)
	out.Opening = &d
	n.explain(ask, r, f, s.Name, out)
	return nil
}

// explain decides on each heading of each system.
func (n *Node) explain(ask ExplainAsk, r *region.Region, f policy.Facts, who string, out *Explanation) {
	f.At = ask.On
	f.Agreements, f.Believed = r.Agreements, policy.BelievedBy(r)
	f.Data = policy.Data{Version: dataVersion(r)}
	info, _ := f.Subject.Role.Info()
	switch {
	case ask.Purpose != "":
		f.Purpose = ask.Purpose
	case f.Purpose == "" && len(info.Purposes) > 0:
		f.Purpose = info.Purposes[0]
	}
	for _, sys := range r.Systems {
		f.Source = policy.SourceOf(sys, r)
		for _, h := range dataset.AllHeadings() {
			if _, gives := sys.Gives[h]; !gives || len(ask.Headings) > 0 && !contains(ask.Headings, h) {
				continue
			}
			f.Heading = h
			units := []string{""}
			if !region.Undivided(h) {
				units = append(units, f.Source.Release.Units()...)
			}
			for _, unit := range units {
				f.Item = nil
				switch {
				case unit != "":
					f.Item = &policy.Item{Units: policy.OfUnit(unit)}
				case len(units) > 1:
					f.Item = &policy.Item{}
				}
				out.Rows = append(out.Rows, Explained{Who: who, Organisation: f.Subject.Organisation, Role: f.Subject.Role, System: sys.ID, Heading: h, Unit: unit, Decision: policy.Decide(f)})
			}
		}
	}
}

func contains(hs []dataset.Heading, h dataset.Heading) bool {
	for _, x := range hs {
		if x == h {
			return true
		}
	}
	return false
}

// agreedOn is the region file as it was in force on a day. What was in force before this node first kept it is not known.
func (n *Node) agreedOn(ctx context.Context, on time.Time, out *Explanation) (*region.Region, error) {
	r, sensitive, data := n.agreed.InForce()
	out.Agreed, out.Lists = data.Version, sensitive.Version()
	then, err := n.agreed.last(ctx, on)
	if err != nil {
		return nil, err
	}
	if then == nil {
		if first, err := n.agreed.last(ctx, time.Time{}); err != nil || first == nil {
			return r, err
		}
		out.Unsure = append(out.Unsure, "no version of the region file from that day is kept: the present one is used, whose agreements are dated by themselves")
		return r, nil
	}
	old, problems := region.Parse("region file of "+then.At.Format(time.DateOnly), then.File)
	if region.Broken(problems) {
		out.Unsure = append(out.Unsure, "the region file of that day is not understood by this version of the program: the present one is used")
		return r, nil
	}
	out.Agreed = dataVersion(old)
	if given := data.Version; given != out.Agreed && n.c.Now().Sub(on) < time.Minute {
		out.Unheeded = append(out.Unheeded, "the region file given ("+given+") is not the one in force here: what it would change, tombolo policy simulate tells")
	}
	return old, nil
}

// choicesOn are the person's Consents in the versions that stood on a day.
func (n *Node) choicesOn(ctx context.Context, p *mpi.Person, on time.Time, believed policy.Believed, out *Explanation) (policy.Person, error) {
	var s policy.Standing
	for _, pt := range p.Patients {
		for r, err := range n.store.Patient(ctx, pt.ID) {
			if fhir.Is(err, fhir.Exception) {
				out.Unsure = append(out.Unsure, "an entry of the record is damaged, and may have been a choice")
				continue
			}
			if err != nil {
				return s.Person, err
			}
			if r.Type() != "Consent" {
				continue
			}
			then, err := n.versionOn(ctx, r.Ref(), on)
			if err != nil {
				return s.Person, err
			}
			if then != nil {
				out.Choices++
				s.Take(pt.Source, then)
				if text := believed.Unheeded(pt.Source, then); text != "" && !slices.Contains(out.Unheeded, text) {
					out.Unheeded = append(out.Unheeded, text)
				}
			}
		}
	}
	out.Unsure = append(out.Unsure, "a choice that was deleted since, and not withdrawn, is not known")
	return s.Person, nil
}

// versionOn is the version of a resource that stood on a day; nil if there was none.
func (n *Node) versionOn(ctx context.Context, ref fhir.Ref, on time.Time) (*fhir.Resource, error) {
	all, err := n.store.History(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, v := range all { // newest first
		if v.At.After(on) {
			continue
		}
		if v.Deleted {
			return nil, nil
		}
		return n.store.ReadVersion(ctx, ref, v.Version)
	}
	return nil, nil
}

var _ gather.Agreed = (*agreed)(nil)
