package gather

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/mpi/match"
	"tombolo/region"
)

// IndexOf is the key of the asker that tells who somebody is at a neighbour.
func IndexOf(neighbour string) string { return neighbour + indexSuffix }

const indexSuffix = "/index"

// indexed are the neighbours whose index this node can ask.
func (g *Gatherer) indexed(yield func(region.Neighbour, *caller) bool) {
	for _, n := range g.o.Region.Neighbours {
		if c, ok := g.callers[IndexOf(n.ID)]; ok && !n.OnlyAsks && !yield(n, c) {
			return
		}
	}
}

// wantedThere are the systems of the identifiers by which a neighbour is asked; none: any.
func wantedThere(n region.Neighbour) []string {
	if len(n.Index.Wanted) > 0 {
		return n.Index.Wanted
	}
	var out []string
	for _, number := range n.Numbers {
		out = append(out, numberSystems[number])
	}
	return out
}

// identifiable reports whether a neighbour's index may know by which number the neighbour knows the person. Somebody whose whereabouts must not be known
// is described to nobody, and is asked for by their numbers alone.
func (op *opening) identifiable(n region.Neighbour) bool {
	_, ok := op.g.callers[IndexOf(n.ID)]
	return ok && (len(op.identifiers()) > 0 || n.Index.Describes() && op.described(n) != nil)
}

// described is what an index is told of who the person is; nil if it may be told nothing, or if nothing would come of it.
func (op *opening) described(n region.Neighbour) *fhir.Resource {
	p := op.person
	if !n.Index.Describes() || p.Restricted || p.Name.Family == "" || len(p.Name.Given) == 0 || p.BirthDate == "" {
		return nil
	}
	m := fhir.M{"name": []fhir.HumanName{{Family: p.Name.Family, Given: p.Name.Given}}, "birthDate": p.BirthDate}
	if ids := op.identifiers(); len(ids) > 0 {
		m["identifier"] = ids
	}
	if p.Gender != "" {
		m["gender"] = p.Gender
	}
	if p.Address != nil {
		m["address"] = []fhir.Address{*p.Address}
	}
	if p.Phone != "" {
		m["telecom"] = []fhir.ContactPoint{{System: "phone", Value: p.Phone}}
	}
	return fhir.New("Patient", "", m)
}

// identify finds by which number a neighbour knows the person, where none is known here by which it is asked. NotFound: it knows nobody who is them. What the
// index was told is noted in a.
func (g *Gatherer) identify(ctx context.Context, op *opening, l *lane, q connector.Question, a *answered) (connector.Question, error) {
	index, ok := g.callers[IndexOf(l.key)]
	wanted := wantedThere(l.neighbour)
	known := func(id fhir.Identifier) bool { return len(wanted) == 0 || slices.Contains(wanted, id.System) }
	if !ok || slices.ContainsFunc(q.Identifiers, known) {
		return q, nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.deadline(l.neighbour.Index.Deadline))
	defer cancel()
	about := op.described(l.neighbour)
	if a.index = "by number"; about != nil {
		a.index = "by number and description"
	}
	ans, err := index.ask(ctx, connector.Question{Identifiers: op.identifiers(), About: about, Wanted: wanted, Headings: []dataset.Heading{dataset.Demographics}, Requester: q.Requester})
	if err != nil {
		return q, err
	}
	if ans == nil || ans.Patient == nil {
		return q, fhir.Errorf(fhir.Structure, "the index did not say who this is")
	}
	if i := g.isThem(op, l, ans.Patient); i != nil {
		return q, i
	}
	var found []fhir.Identifier
	for _, id := range ans.Patient.Identifiers() {
		if id = id.Canonical(); id.Use != "old" && id.Check() == nil && known(id) && !slices.ContainsFunc(op.identifiers(), func(o fhir.Identifier) bool { return o.System == id.System && o.Value == id.Value }) {
			found = append(found, fhir.Identifier{System: id.System, Value: id.Value})
		}
	}
	if len(found) == 0 && len(q.Identifiers) == 0 {
		return q, fhir.Errorf(fhir.NotFound, "the index knows no number by which they could be asked for")
	}
	q.Identifiers = append(found, q.Identifiers...)
	return q, nil
}

// isThem holds an index to the person it was asked about (design law 9): by a number that was asked by, else by a description about which there is no doubt. A number
// of theirs that is another one raises the alarm.
func (g *Gatherer) isThem(op *opening, l *lane, r *fhir.Resource) *fhir.Issue {
	there := mpi.FromResource(l.Source, r)
	confirmed := false
	for _, asked := range op.identifiers() {
		for _, got := range there.Identifiers {
			if got = got.Canonical(); got.System != asked.System || got.Use == "old" {
				continue
			}
			if got.Value != asked.Value && !slices.Contains(op.person.Superseded, got.Value) {
				return g.alarm(op, l)
			}
			confirmed = true
		}
	}
	named := there.Name.Family != "" || there.BirthDate != ""
	switch {
	case confirmed && named && !mpi.Agree(op.person.Name, there.Name, op.person.BirthDate, there.BirthDate):
		return g.alarm(op, l)
	case confirmed || g.surely(op.person, there):
		return nil
	}
	return fhir.Errorf(fhir.MultipleMatch, "the index knows somebody who may be this person, and is not surely them")
}

// surely reports whether a description leaves no doubt that it is of the person: as much would link them here.
func (g *Gatherer) surely(p *mpi.Person, there mpi.Patient) bool {
	m, b := match.Default(), there.Describe()
	return slices.ContainsFunc(p.Patients, func(q mpi.Patient) bool {
		a := q.Describe()
		return m.Decide(m.Score(&a, &b, 1.0/peopleThere, nil)) == match.Same
	})
}

// peopleThere is how many people another region may know.
const peopleThere = 1_000_000

// unidentified says what it means that nobody could say who the person is at a neighbour.
func unidentified(l *lane, err error) *fhir.Issue {
	i := fhir.IssueOf(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || i != nil && i.Type == fhir.Timeout:
		return fhir.Errorf(fhir.Timeout, "%s was not asked: its index did not say in time by which number this person is known there", l.Name).From(l.Source)
	case i != nil && i.Type == fhir.BusinessRule: // the alarm, which says it all
		return i
	case i != nil && i.Type == fhir.MultipleMatch:
		return fhir.Errorf(fhir.MultipleMatch, "%s was not asked: its index knows somebody who may be this person, and nobody who surely is", l.Name).From(l.Source)
	case i == nil:
		return fhir.Errorf(fhir.Transient, "%s was not asked: its index could not say by which number this person is known there", l.Name).From(l.Source)
	}
	return fhir.Errorf(i.Type, "%s was not asked: its index could not say by which number this person is known there", l.Name).From(l.Source)
}

// traceThere asks the neighbours' indexes which national numbers belong to an identifier that nobody here has, and gives the person here who has one of them: "" if it
// is nobody, or if they lead to more than one. To ask is to tell, so it is remembered first.
func (g *Gatherer) traceThere(ctx context.Context, s *access.Session, id fhir.Identifier) string {
	if !g.tracesThere(s) {
		return ""
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var people []string
	wanted := []string{fhir.SystemNHSNumber, fhir.SystemCHI, fhir.SystemHCN}
	for n, index := range g.indexed {
		e := g.event(s, string(audit.Search))
		e.Query, e.What = "Patient/$ihe-pix, asked elsewhere", []string{"asked: " + IndexOf(n.ID)}
		if id.System == fhir.SystemNHSNumber {
			e.NHSNumber, _ = fhir.ParseNHSNumber(id.Value)
		}
		if g.remember(ctx, e) != nil {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, g.deadline(n.Index.Deadline))
			defer cancel()
			ans, err := index.ask(ctx, connector.Question{Identifiers: []fhir.Identifier{id}, Wanted: wanted, Headings: []dataset.Heading{dataset.Demographics}, Requester: requester(s, s.Purpose)})
			if err != nil || ans == nil || ans.Patient == nil {
				return
			}
			for _, got := range ans.Patient.Identifiers() {
				if got = got.Canonical(); !slices.Contains(wanted, got.System) || got.Use == "old" || got.Check() != nil {
					continue
				}
				if person, err := g.o.People.Resolve(ctx, got); err == nil {
					mu.Lock()
					if !slices.Contains(people, person) {
						people = append(people, person)
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(people) != 1 {
		return ""
	}
	return people[0]
}

// tracesThere reports whether a session's questions go to neighbours' indexes: not those that came from a neighbour, which would go round in circles.
func (g *Gatherer) tracesThere(s *access.Session) bool {
	return !s.Passed() && !s.Purpose.Secondary()
}

// neighbourOf is the neighbour whose asker, or whose index, a key names.
func neighbourOf(key string) (neighbour string, index bool) {
	return strings.CutSuffix(key, indexSuffix)
}
