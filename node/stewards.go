package node

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/web"
)

func mayIdentify(s *access.Session) error {
	if info, _ := s.Role.Info(); !info.Identifies {
		return fhir.Errorf(fhir.Forbidden, "this role does not settle who is who")
	}
	return nil
}

// Doubts is the steward's worklist. Who is shown is audited, each person once, before anything is.
func (n *Node) Doubts(ctx context.Context, s *access.Session, limit int) (*web.IdentityState, error) {
	if err := mayIdentify(s); err != nil {
		return nil, err
	}
	maybes, err := n.People.Maybes(ctx, 0)
	if err != nil {
		return nil, err
	}
	reviews, err := n.People.Reviews(ctx)
	if err != nil {
		return nil, err
	}
	said, err := n.People.Sayings(ctx)
	if err != nil {
		return nil, err
	}
	st := &web.IdentityState{More: max(len(maybes)-limit, 0)}
	d := described{n: n, people: map[string]bool{}}
	for _, m := range maybes[:min(limit, len(maybes))] {
		st.Pairs = append(st.Pairs, web.IdentityPair{A: d.side(ctx, m.A), B: d.side(ctx, m.B), Likely: int(math.Floor(100 * m.Probability)), Why: m.Why, Since: m.At})
	}
	for _, r := range reviews[:min(limit, len(reviews))] {
		st.Doubts = append(st.Doubts, web.IdentityDoubt{IdentitySide: d.side(ctx, r.Patient), Why: r.Why, Since: r.At})
	}
	if err := n.registerDoubts(ctx, st, &d, limit); err != nil {
		return nil, err
	}
	for _, w := range said[:min(limit, len(said))] {
		st.Said = append(st.Said, web.IdentityWord{A: d.side(ctx, w.A), B: d.side(ctx, w.B), Same: w.Same, By: w.By, Reason: w.Reason, At: w.At})
	}
	if d.err != nil {
		return nil, d.err
	}
	var events []audit.Event
	for id := range d.people {
		events = append(events, audit.Event{Kind: audit.Read, Agent: agentOf(s), Purpose: policy.Administration.Code(), PersonID: id, Trace: s.Trace,
			What: []string{"who is who: name, birth date, sex, address, telephone and numbers, as each source has them"}})
	}
	if len(events) == 0 {
		return st, nil
	}
	if _, err := n.Audit.AppendAll(ctx, events); err != nil {
		return nil, err
	}
	return st, nil
}

// registerDoubts adds what a national register said of patients that somebody has to look at.
func (n *Node) registerDoubts(ctx context.Context, st *web.IdentityState, d *described, limit int) error {
	for _, r := range n.registers {
		said, err := r.Findings(ctx)
		if err != nil {
			return err
		}
		for _, patient := range slices.Sorted(maps.Keys(said)) {
			if f := said[patient]; len(st.Doubts) < limit {
				st.Doubts = append(st.Doubts, web.IdentityDoubt{IdentitySide: d.side(ctx, patient), Why: findings[f.What], Since: f.At})
			}
		}
	}
	return nil
}

// described collects what is shown of patients, and of which people.
type described struct {
	n      *Node
	people map[string]bool
	err    error
}

func (d *described) side(ctx context.Context, patient string) web.IdentitySide {
	out := web.IdentitySide{Patient: patient}
	id, err := d.n.People.PersonOf(ctx, patient)
	if fhir.Is(err, fhir.NotFound) {
		out.Name = "(no longer there)"
		return out
	}
	var p *mpi.Person
	if err == nil {
		p, err = d.n.People.Person(ctx, id)
	}
	if err != nil {
		d.err = err
		return out
	}
	d.people[id] = true
	i := slices.IndexFunc(p.Patients, func(q mpi.Patient) bool { return q.ID == patient })
	if i < 0 {
		return out
	}
	q := p.Patients[i]
	out.Source = d.n.sourceName(q.Source)
	out.Name, out.Born, out.Sex, out.Died = q.Name.Formal(), q.BirthDate, q.Gender, q.Deceased
	var others []string
	for _, n := range q.OtherNames {
		others = append(others, n.Formal())
	}
	out.Other = strings.Join(others, "; ")
	var numbers []string
	for _, id := range q.Identifiers {
		numbers = append(numbers, id.Value)
	}
	out.Numbers = strings.Join(numbers, ", ")
	switch { // where a restricted person is to be found is shown to nobody
	case p.Restricted:
		out.Address = "withheld"
	case q.Address != nil:
		out.Address = strings.Join(slices.DeleteFunc(append(slices.Clone(q.Address.Line), q.Address.City, q.Address.PostalCode), func(s string) bool { return s == "" }), ", ")
		out.Phone = q.Phone
	default:
		out.Phone = q.Phone
	}
	return out
}

func (n *Node) sourceName(id string) string {
	if id == connector.Own {
		return n.c.Region.Name
	}
	s, _ := n.c.Region.System(id)
	if o, ok := n.c.Region.Organisation(s.Organisation); ok {
		return o.Name
	}
	return id
}

// Tell takes a steward's word about two patients in by the one door, and waits until it counts.
func (n *Node) Tell(ctx context.Context, s *access.Session, a, b, word, reason string) error {
	if err := mayIdentify(s); err != nil {
		return err
	}
	say := mpi.Saying{A: min(a, b), B: max(a, b), Same: word == web.IsSame, Reason: reason, By: s.User}
	switch word {
	case web.IsSame, web.NotSame:
		if err := n.People.Allows(ctx, say); err != nil {
			return err
		}
	case web.Withdrawn:
		was, err := n.People.Sayings(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(was, func(w mpi.Saying) bool { return w.A == say.A && w.B == say.B })
		if i < 0 {
			if done, err := n.People.TookBack(ctx, say); err != nil || done { // the answer to it was lost
				return err
			}
			return fhir.Errorf(fhir.Conflict, "that has been taken back already")
		}
		say.Same = was[i].Same
	default:
		return fhir.Errorf(fhir.Invalid, "say that they are the same, that they are not, or take it back")
	}
	var events []audit.Event
	for _, patient := range [...]string{say.A, say.B} {
		if id, err := n.People.PersonOf(ctx, patient); err == nil {
			events = append(events, audit.Event{Kind: audit.Update, Agent: agentOf(s), Purpose: policy.Administration.Code(), PersonID: id, Trace: s.Trace,
				What: []string{"who is who: said of Patient/" + say.A + " and Patient/" + say.B + ": " + word}})
		}
	}
	if _, err := n.Audit.AppendAll(ctx, events); err != nil {
		return err
	}
	r := say.Resource(word == web.Withdrawn)
	raw, err := json.Marshal(struct {
		Trace    string
		Resource json.RawMessage
	}{s.Trace, r.Raw()})
	if err != nil {
		return err
	}
	_, err = n.Intake.Accept(ctx, connector.Delivery{Source: connector.Own, ID: "who-is-who/" + s.Trace, Received: n.c.Now(), ContentType: "application/json", Raw: raw,
		Content: []*fhir.Resource{r}, Map: "steward/1"})
	return err
}
