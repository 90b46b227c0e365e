package gather

import (
	"cmp"
	"slices"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// Lanes of what others hold: their kinds, and the ways in which they answer.
const (
	neighbourLane = "neighbour"
	locatorLane   = "locator"
)

// OwnLocator is the key of the asker that gives what has been registered at this region's own record locator.
const OwnLocator = "own-locator"

// elsewhere reports whether a lane speaks of what is held outside this region's systems: it has no patients here, and gives what it has and no more.
func (l *Lane) elsewhere() bool { return l.Kind == neighbourLane || l.Kind == locatorLane }

// planLocators adds those who know who else holds something: this region's own locator, and the national ones, which are asked for our own users only.
func (op *opening) planLocators() {
	if _, ok := op.g.o.Askers[OwnLocator]; ok {
		op.lanes = append(op.lanes, op.planLocator(OwnLocator, "Pointers registered in this region", 0))
	}
	if op.session.Passed() {
		return
	}
	for _, n := range op.g.o.Region.Locator.National {
		if _, ok := op.g.o.Askers[n.ID]; ok && n.Asks {
			op.lanes = append(op.lanes, op.planLocator(n.ID, cmp.Or(n.Name, n.ID), n.Deadline))
		}
	}
}

// planLocator is the lane of a locator. What it does not know it does not hold up; but as long as it has not answered, nobody can say that nothing is held
// elsewhere, under any heading (design law 3). Each of its pointers says where the person is seen, so those of a restricted person are not asked for.
func (op *opening) planLocator(key, name string, deadline time.Duration) *lane {
	l := &lane{key: key, found: op.g.probed(key), deadline: op.deadline(deadline), members: map[dataset.Heading][]Member{}, facts: op.facts}
	l.Lane = Lane{Source: key, Name: name, Kind: locatorLane, Way: locatorLane, State: Asking, Headings: map[dataset.Heading]dataset.State{}}
	role, _ := op.session.Role.Info()
	for _, info := range dataset.All {
		if h := info.Heading; h != dataset.Demographics && h != dataset.GPPractice && op.wanted(h) && (role.Headings == nil || slices.Contains(role.Headings, h)) {
			l.permits = append(l.permits, h)
			l.Headings[h] = dataset.NotKnown
			c := op.choice(l, h, policy.Decision{})
			c.Way, c.Why = locatorLane, WhyLocator
		}
	}
	switch {
	case op.decision.Has(policy.WithholdLocation):
		for h := range l.Headings {
			l.Headings[h] = dataset.NotShared
			l.choices[h].Way, l.choices[h].Why = "", WhyPolicy
		}
		l.State, l.permits = Refused, nil
		l.Issue = fhir.Errorf(fhir.Suppressed, "%s: who else holds something would tell where this person is seen, so it was not asked", l.Name).From(l.Source)
	case len(l.permits) == 0:
		l.State = NotAsked
		l.Issue = fhir.Errorf(fhir.Informational, "%s was not asked: it knows nothing of these headings", l.Name).From(l.Source)
	case op.person.NHSNumber == "":
		l.State = NotAsked
		l.Issue = fhir.Errorf(fhir.Informational, "%s was not asked: it can be asked by an NHS number only, and none is known", l.Name).From(l.Source)
	}
	return l
}
