package mpi

import (
	"context"
	"slices"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// A steward's word that two patients are not the same stands against whatever comes afterwards: their number, what they are like, a third who fits both, and
// somebody else's being joined to one of them. What is in its way is listed for somebody to look at.

const fitsBoth = "fits two people whom a steward has told apart: it has not been linked to both"

// heldApart reports whether a patient cannot be linked to a person: a steward has told them apart, or somebody who is joined to the one from somebody who is joined to the other.
func (x *Index) heldApart(ctx context.Context, b store.TxBucket, pt *Patient, p *Person, e events.Event) (bool, error) {
	_, rest := p.without(pt.ID)
	if apart(*pt, rest) {
		return true, nil
	}
	if len(pt.Together) == 0 && !together(rest) {
		return false, nil
	}
	mine, err := x.joinedTo(ctx, b, pt)
	if err != nil {
		return false, err
	}
	theirs, err := x.everybody(ctx, b, p)
	if err != nil || !anyApart(mine, theirs) {
		return false, err
	}
	x.review(b, e, pt.ID, fitsBoth)
	return true, nil
}

// joinedTo is a patient with all to whom stewards have joined them.
func (x *Index) joinedTo(ctx context.Context, b store.TxBucket, pt *Patient) ([]Patient, error) {
	out := []Patient{*pt}
	for _, other := range pt.Together {
		_, p, err := x.owner(ctx, b, other)
		if err != nil {
			return nil, err
		}
		if p != nil {
			all, err := x.everybody(ctx, b, p)
			if err != nil {
				return nil, err
			}
			out = append(out, all...)
		}
	}
	return out, nil
}

// everybody are a person's patients, and those of all who are joined to them.
func (x *Index) everybody(ctx context.Context, b store.TxBucket, p *Person) ([]Patient, error) {
	if !together(p.Patients) {
		return p.Patients, nil
	}
	ids, err := x.component(ctx, b, p.ID)
	if err != nil {
		return nil, err
	}
	var out []Patient
	for _, id := range ids {
		q := &Person{}
		if err := getJSON(ctx, b, personPrefix+id, q); err != nil {
			return nil, err
		}
		out = append(out, q.Patients...)
	}
	return out, nil
}

func anyApart(some, others []Patient) bool {
	return slices.ContainsFunc(some, func(q Patient) bool { return apart(q, others) })
}

// keptApart takes out of who would be merged into a person whoever a steward has told apart from them, or from another of them: a third who fits both does not bring them together.
func (x *Index) keptApart(ctx context.Context, b store.TxBucket, pt *Patient, home string, merged []string, e events.Event) ([]string, error) {
	if len(merged) == 0 {
		return nil, nil
	}
	all, err := x.joinedTo(ctx, b, pt)
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, id := range append([]string{home}, merged...) {
		p := &Person{}
		if err := getJSON(ctx, b, personPrefix+id, p); err != nil {
			return nil, err
		}
		theirs, err := x.everybody(ctx, b, p)
		if err != nil {
			return nil, err
		}
		if id != home && anyApart(theirs, all) {
			x.review(b, e, pt.ID, fitsBoth)
			continue
		}
		all = append(all, theirs...)
		if id != home {
			kept = append(kept, id)
		}
	}
	return kept, nil
}

// disputed reports whether a number is borne by two people whom a steward has told apart, one of them among the holders given, and a patient could be either. It is not where
// the register that gives out its numbers says whose it is, or the patient is the register's own.
func (x *Index) disputed(ctx context.Context, b store.TxBucket, pt *Patient, id fhir.Identifier, holders []Patient) (bool, error) {
	if pt.Trusted || slices.ContainsFunc(holders, func(q Patient) bool { return q.Trusted && q.bears(id) }) {
		return false, nil
	}
	for _, q := range holders {
		if !q.bears(id) {
			continue
		}
		for _, other := range q.Apart {
			_, p, err := x.owner(ctx, b, other)
			if err != nil {
				return false, err
			}
			if p == nil || slices.Contains(pt.Apart, other) {
				continue
			}
			if z, _ := p.without(other); z.bears(id) && agreeWith(*pt, p.Patients) {
				return true, nil
			}
		}
	}
	return false, nil
}
