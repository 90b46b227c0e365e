package gather

import (
	"slices"
	"time"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/probe"
	"tombolo/region"
)

// An opening is one record being gathered.
type opening struct {
	g        *Gatherer
	session  *access.Session
	person   *mpi.Person
	facts    policy.Facts
	decision policy.Decision
	ask      Ask
	start    time.Time
	lanes    []*lane
	places   *whereabouts  // of a restricted person, once they are needed
	opened   bool          // its opening has been audited by itself
	trail    policy.Trail  // to what is sensitive, of all that sources have answered
	lead     *policy.Trail // from pointers that are sensitive to what they lead to
	answers  []heard       // of sources, in case a pointer that comes later makes something of them sensitive
	pointers []answered    // of locators, until every source that may say what they lead to has answered
}

// A lane is one source's part while it is being gathered. Only the goroutine that runs the opening touches it.
type lane struct {
	Lane
	key       string        // the system's or neighbour's id, whatever the lane is called
	found     *probe.Result // what a probe found of it, looked up once: it may age out, or be found anew, meanwhile
	system    region.System
	speaks    string            // of a neighbour: its kind
	neighbour region.Neighbour  // that it is; zero for others
	facts     policy.Facts      // with this source
	permits   []dataset.Heading // what may be asked of it
	patients  []string          // this server's ids of the person's patients there
	live      string            // and of the patient whom it answered about
	original  string            // the source's own id of the patient, if known
	deadline  time.Duration
	members   map[dataset.Heading][]Member
	choices   map[dataset.Heading]*Choice // the plan
	lacking   []dataset.Heading           // not asked for, since a probe found that they are not given
	outdated  []dataset.Heading           // whose source was not heard as lately as the rule wants
	silent    []dataset.Heading           // whose source had not been heard for longer when it was probed
	unsent    []dataset.Heading           // of which it had sent nothing about anybody then
	unasked   []dataset.Heading           // of outdated ones, not asked for since a probe found that it takes longer than there is
	slow      time.Duration               // how long it was found to take for what it is asked, where that is longer than it has
	said      []*fhir.Issue               // what the plan means for whoever reads the record
	support   map[fhir.Ref]*fhir.Resource
}

// plan decides for each system and heading, and then whom to ask how. A source that is refused is not looked at further: whether
// it knows the person does not show.
func (op *opening) plan() {
	for _, sys := range op.g.o.Region.Systems {
		if len(sys.Gives) == 0 {
			continue
		}
		if l := op.planSystem(sys); len(l.Headings) > 0 { // one that gives nothing of what was asked for has no part in it
			op.lanes = append(op.lanes, l)
		}
	}
	for _, n := range op.g.o.Region.Neighbours {
		if _, ok := op.g.o.Askers[n.ID]; ok && !op.session.Passed() {
			op.lanes = append(op.lanes, op.planNeighbour(n))
		}
	}
	op.planLocators()
	for _, p := range op.person.Patients {
		if p.Source == connector.Own { // what people have chosen here is no part of the record
			continue
		}
		if !slices.ContainsFunc(op.lanes, func(l *lane) bool { return l.key == p.Source }) && !op.g.inRegion(p.Source) {
			op.lanes = append(op.lanes, op.planGone(p.Source))
		}
	}
}

// inRegion reports whether the region file names a system or neighbour.
func (g *Gatherer) inRegion(source string) bool {
	return slices.ContainsFunc(g.o.Region.Systems, func(s region.System) bool { return s.ID == source }) ||
		slices.ContainsFunc(g.o.Region.Neighbours, func(n region.Neighbour) bool { return n.ID == source })
}

// planGone is the lane of a source that the region file no longer names, and that once sent something about the person. Nothing is known
// any more of who agreed to share it, so it is not shown; but what it held must not look as if it had never been.
func (op *opening) planGone(source string) *lane {
	l := &lane{key: source, members: map[dataset.Heading][]Member{}, facts: op.facts}
	l.Lane = Lane{Source: source, Name: source, Way: "stored", State: Failed, Headings: map[dataset.Heading]dataset.State{}}
	if op.decision.Has(policy.WithholdLocation) {
		l.Source, l.Name = "former-source", "A former source (location withheld)"
	}
	role, _ := op.session.Role.Info()
	for _, info := range dataset.All {
		if op.wanted(info.Heading) && (role.Headings == nil || slices.Contains(role.Headings, info.Heading)) {
			l.Headings[info.Heading] = dataset.NotKnown
		}
	}
	l.Issue = fhir.Errorf(fhir.Incomplete, "%s is no longer part of this region: what it sent is kept here, and is not shown", l.Name).From(l.Source)
	return l
}

func (op *opening) wanted(h dataset.Heading) bool {
	return len(op.ask.Headings) == 0 || slices.Contains(op.ask.Headings, h)
}

func (op *opening) planSystem(sys region.System) *lane {
	org := op.g.organisation(sys.Organisation)
	l := &lane{key: sys.ID, found: op.g.probed(sys.ID), system: sys, deadline: op.deadline(sys.Deadline), members: map[dataset.Heading][]Member{}}
	l.Lane = Lane{Source: sys.ID, Name: sys.Name, Organisation: sys.Organisation, Kind: string(org.Kind), Way: "stored",
		Headings: map[dataset.Heading]dataset.State{}}
	if l.Name == "" {
		l.Name = org.Name
	}
	if op.decision.Has(policy.WithholdLocation) && org.Kind == region.KindGP {
		l.Source, l.Name, l.Organisation = "gp-practice", "GP practice (location withheld)", ""
	}
	l.facts = op.facts
	agreed, _, _ := op.g.o.Agreed.InForce()
	l.facts.Source = policy.SourceOf(sys, agreed)
	live := false
	for _, info := range dataset.All {
		h := info.Heading
		way, gives := sys.Gives[h]
		if !gives || !op.wanted(h) {
			continue
		}
		l.facts.Heading = h
		d := policy.Decide(l.facts)
		c := op.choice(l, h, d)
		if !d.Permit {
			l.Headings[h], c.Why = dataset.NotShared, WhyPolicy
			continue
		}
		l.Headings[h] = dataset.NotKnown
		if !op.choose(l, h, way, c) {
			continue
		}
		l.permits = append(l.permits, h)
		live = live || c.Way == "live"
	}
	op.tells(l)
	if len(l.permits) == 0 && len(l.lacking) > 0 {
		l.State, l.Way, l.Issue, l.Warnings, l.said = Failed, "live", l.said[0], nil, nil
		return l
	}
	if len(l.permits) == 0 {
		l.State = Refused
		l.Issue = fhir.Errorf(fhir.Suppressed, "%s does not share this with you", l.Name).From(l.Source)
		return l
	}
	l.divide()
	l.patients = op.person.PatientIDs(sys.ID)
	if pt, ok := op.person.At(sys.ID); ok {
		l.original = pt.Original
	}
	if live {
		l.Way = "live"
	}
	l.State = Asking
	if why := op.notAsked(l, org); why != "" {
		l.State, l.Warnings = NotAsked, nil
		l.Issue = fhir.Errorf(fhir.Informational, "%s %s", l.Name, why).From(l.Source)
	}
	return l
}

// notAsked says why a source is not asked, "" if it is. A source that sends is looked at if it has ever sent anything about the
// person. A practice is asked if the person is registered there, or is known there, or if no practice is known at all.
func (op *opening) notAsked(l *lane, org region.Organisation) string {
	switch {
	case len(l.patients) > 0, l.InPart != nil && l.Way != "live": // where less than all is released, that it has sent nothing would tell too
		return ""
	case l.Way != "live":
		return "has sent nothing about this person"
	case len(op.identifiers()) == 0:
		return "was not asked: it can be asked by a national number only, and none is known"
	case org.Kind == region.KindGP && op.person.Practice != "" && op.g.o.Region.Current(op.person.Practice) != op.g.o.Region.Current(org.ODS):
		return "was not asked: the person is registered elsewhere"
	}
	return ""
}

// planNeighbour decides about another region's record as about any source's, where it is party to an agreement; its own node decides again.
func (op *opening) planNeighbour(n region.Neighbour) *lane {
	l := &lane{key: n.ID, found: op.g.probed(n.ID), speaks: n.Kind, neighbour: n, deadline: op.deadline(n.Deadline), members: map[dataset.Heading][]Member{}, facts: op.facts}
	l.Lane = Lane{Source: n.ID, Name: n.Name, Kind: neighbourLane, Way: neighbourLane, State: Asking, Headings: map[dataset.Heading]dataset.State{}}
	if l.Name == "" {
		l.Name = n.ID
	}
	agreed, _, _ := op.g.o.Agreed.InForce()
	l.facts.Source = policy.SourceOfNeighbour(n, agreed)
	role, _ := op.session.Role.Info()
	for _, info := range dataset.All {
		if !op.wanted(info.Heading) || !n.MayGive(info.Heading) || role.Headings != nil && !slices.Contains(role.Headings, info.Heading) {
			continue
		}
		lacking := lacks(l.found, info.Heading)
		if lacking && n.Kind == region.KindTombolo {
			continue // as if it had answered that its own sources do not give it
		}
		d := policy.Decision{Permit: true}
		if l.facts.Heading = info.Heading; l.facts.Source != nil {
			d = policy.Decide(l.facts)
		}
		c := op.choice(l, info.Heading, d)
		if !d.Permit {
			l.Headings[info.Heading], c.Why = dataset.NotShared, WhyPolicy
			continue
		}
		if lacking {
			l.Headings[info.Heading], c.Why = dataset.NotKnown, WhyNotProvided
			l.lacking = append(l.lacking, info.Heading)
			continue
		}
		c.Way, c.Why = neighbourLane, WhyNeighbour
		l.slow = max(l.slow, c.Slow)
		l.permits = append(l.permits, info.Heading)
		l.Headings[info.Heading] = dataset.NotKnown
	}
	op.tells(l)
	switch {
	case len(l.permits) == 0 && len(l.lacking) > 0:
		l.State, l.Issue, l.Warnings, l.said = Failed, l.said[0], nil, nil
	case len(l.permits) == 0 && len(l.Headings) > 0:
		l.State = Refused
		l.Issue = fhir.Errorf(fhir.Suppressed, "%s does not share this with you", l.Name).From(l.Source)
	case len(l.permits) == 0:
		l.State = NotAsked
		l.Issue = fhir.Errorf(fhir.Informational, "%s was not asked: it gives nothing of what was asked for", l.Name).From(l.Source)
	case len(op.known(l)) == 0 && !op.identifiable(n):
		l.State = NotAsked
		l.Issue = fhir.Errorf(fhir.Informational, "%s was not asked: it can be asked by a national number only, and none is known", l.Name).From(l.Source)
	}
	return l
}

// numberSystems are the national numbers of the region file.
var numberSystems = map[string]string{"nhs": fhir.SystemNHSNumber, "chi": fhir.SystemCHI, "hcn": fhir.SystemHCN}

// known is how a lane's source may know the person: by the numbers that its region file entry names, in that order, or by any.
func (op *opening) known(l *lane) []fhir.Identifier {
	all := op.identifiers()
	if len(l.neighbour.Numbers) == 0 {
		return all
	}
	var out []fhir.Identifier
	for _, n := range l.neighbour.Numbers {
		for _, id := range all {
			if id.System == numberSystems[n] {
				out = append(out, id)
			}
		}
	}
	return out
}

// identifiers are those by which other organisations may know the person: national numbers, the NHS number first.
func (op *opening) identifiers() []fhir.Identifier {
	var out []fhir.Identifier
	if op.person.NHSNumber != "" {
		out = append(out, fhir.Identifier{System: fhir.SystemNHSNumber, Value: op.person.NHSNumber})
	}
	for _, id := range op.person.Identifiers {
		if (id.System == fhir.SystemCHI || id.System == fhir.SystemHCN) && id.Check() == nil {
			out = append(out, id)
		}
	}
	return out
}

func (op *opening) question(l *lane) connector.Question {
	return connector.Question{Identifiers: op.known(l), Patient: l.original, Headings: l.permits, Requester: requester(op.session, op.facts.Purpose)}
}

// RequesterOf is how a source is told who asks, for a session and a purpose.
func RequesterOf(s *access.Session, purpose policy.Purpose) connector.Requester {
	return requester(s, purpose)
}

func requester(s *access.Session, purpose policy.Purpose) connector.Requester {
	return connector.Requester{UserID: s.User, UserName: s.Name, SDSUserID: "UNK", SDSRoleID: "UNK", Role: string(s.Role), RoleName: s.RoleName,
		Activities: s.Principal().Activities, OrganisationODS: s.Organisation, OrgName: s.OrganisationName, Purpose: purpose.Code(), TraceID: s.Trace, Via: onward(s)}
}

// onward are the nodes that a question has passed when it leaves this one.
func onward(s *access.Session) []string {
	if s.Here == "" {
		return s.Via
	}
	return append(slices.Clone(s.Via), s.Here)
}
