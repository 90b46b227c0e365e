package mpi

import (
	"context"
	"slices"

	"tombolo/fhir"
	"tombolo/mpi/match"
)

// A Candidate is a person who may be the one described.
type Candidate struct {
	Person  *Person
	Patient string // this server's id of the source Patient who is like the one described
	match.Score
	Grade string // FHIR match-grade: certain, probable, possible
}

// Match finds who may be the person described, the likeliest first, at most limit.
//
// told says whether whoever asks may be told of a person by what one of their sources says; nil: of everybody. Who may not be told of has no part in the
// answer, nor in how certain the others are: it is that of an index which holds only the rest. Where a restricted person lives, and how they are
// reached, neither finds them nor counts for or against: a guessed address would otherwise be confirmed.
//
// FHIR R4 patient-operation-match.html
func (x *Index) Match(ctx context.Context, d match.Description, limit int, told func(p *Person, source string) (bool, error)) ([]Candidate, error) {
	v := x.db.View(Bucket)
	near, err := candidates(ctx, v, d.Keys())
	if err != nil || len(near.ids) == 0 {
		return nil, err
	}
	terms, people, err := counted(ctx, v, &d)
	if err != nil {
		return nil, err
	}
	m := match.Default()
	prior := 1 / float64(max(people, leastPeople))
	var alike []scored
	blind := map[string]scored{} // those who are left, by patient, when nothing is said of places
	for i, id := range near.ids {
		other, ok := match.Unpack(string(near.packed[i]))
		if !ok {
			continue
		}
		s := m.Score(&d, &other, prior, terms)
		seeing := m.Decide(s)
		s0 := s.Placeless(prior)
		unseeing := m.Decide(s0)
		if unseeing != match.Different && near.sharesAny(placelessKeys(other)) {
			blind[id] = scored{id, s0, unseeing}
		} else {
			unseeing = match.Different
		}
		if seeing != match.Different || unseeing != match.Different {
			alike = append(alike, scored{id, s, seeing})
		}
	}
	return x.tell(ctx, alike, blind, limit, told)
}

// sharesAny reports whether one of these keys is one by which anybody was found.
func (f found) sharesAny(keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return f.keys[nearKey(k, "")] })
}

// tell makes the answer of those who are alike and may be told of: each person once, by the patient who is likest.
func (x *Index) tell(ctx context.Context, alike []scored, blind map[string]scored, limit int, told func(*Person, string) (bool, error)) ([]Candidate, error) {
	persons := map[string]*Person{}
	best := map[string]scored{}
	for _, s := range alike {
		id, err := x.PersonOf(ctx, s.patient)
		if fhir.Is(err, fhir.NotFound) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		p := persons[id]
		if p == nil {
			if p, err = x.Person(ctx, id); fhir.Is(err, fhir.NotFound) {
				continue
			} else if err != nil {
				return nil, err
			}
			persons[id] = p
		}
		if p.Restricted {
			if s = blind[s.patient]; s.patient == "" {
				continue
			}
		}
		if s.Verdict == match.Different {
			continue
		}
		i := slices.IndexFunc(p.Patients, func(q Patient) bool { return q.ID == s.patient })
		if i < 0 {
			continue
		}
		if told != nil {
			if ok, err := told(p, p.Patients[i].Source); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		if was, ok := best[id]; !ok || byLikelihood(s, was) < 0 {
			best[id] = s
		}
	}
	order := make([]scored, 0, len(best))
	owner := map[string]string{}
	for id, s := range best {
		order = append(order, s)
		owner[s.patient] = id
	}
	slices.SortFunc(order, byLikelihood)
	m := match.Default()
	var out []Candidate
	for _, s := range order {
		out = append(out, Candidate{persons[owner[s.patient]], s.patient, s.Score, m.Grade(s.Score)})
	}
	// Two who are certain are not: one of them is somebody else.
	if len(out) > 1 && out[1].Grade == "certain" {
		for i := range out {
			if out[i].Grade == "certain" {
				out[i].Grade = "probable"
			}
		}
	}
	return out[:min(len(out), limit)], nil
}

func placelessKeys(d match.Description) []string {
	d = d.Placeless()
	return d.Keys()
}
