package mpi

import (
	"context"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/search"
)

// A Description is what somebody knows of a person whose number they do not have. Empty fields are not known. Names, Line and City may end in "*": begins so.
type Description struct {
	Family, Given string
	BirthDate     string // YYYY-MM-DD, as far as it is known
	Gender        string
	Line, City    string // of the address
	Postcode      string
}

// enough reports whether a description could mean few people: a surname or a birth date, and something beside it.
func (d Description) enough() bool {
	n := 0
	for _, s := range []string{d.Family, d.BirthDate, d.Given, d.Postcode} {
		if strings.Trim(s, "* ") != "" {
			n++
		}
	}
	return n >= 2 && (strings.Trim(d.Family, "* ") != "" || len(d.BirthDate) == len("2006-01-02"))
}

// examined is how many patients one description may lead to; whoever means more must say more.
const examined = 1000

// Find gives the people of whom some source says all of a description, in an order that stays the same. Nothing is guessed: a spelling that differs is
// somebody else. from says which sources may be believed, and so told from. The error is of type Required for a description that is too thin, and
// TooCostly for one that too many people answer.
func (x *Index) Find(ctx context.Context, d Description, from func(source string) bool) ([]string, error) {
	if !d.enough() {
		return nil, fhir.Errorf(fhir.Required, "say more of who is meant: a surname and a date of birth, or one of them with a forename or postcode")
	}
	q := search.Query{Type: "Patient", Count: examined}
	if f := strings.Trim(d.Family, "* "); f != "" {
		q.Params = append(q.Params, search.Param{Name: "family", Values: []string{search.Escape(f)}})
	}
	if d.BirthDate != "" {
		q.Params = append(q.Params, search.Param{Name: "birthdate", Values: []string{search.Escape(d.BirthDate)}})
	}
	var out []string
	err := x.answering(ctx, q, func(id, patient string) error {
		if slices.Contains(out, id) {
			return nil
		}
		p, err := x.Person(ctx, id)
		if err == nil && slices.ContainsFunc(p.Patients, func(q Patient) bool { return q.ID == patient && from(q.Source) && d.of(q) }) {
			out = append(out, id)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Found gives the people of whom some source's Patient answers a search, in an order that stays the same; of type TooCostly if it is answered by too many. Who may be
// told of, and by which source, is for whoever asks to see to.
func (x *Index) Found(ctx context.Context, q search.Query) ([]string, error) {
	q.Type, q.Count = "Patient", examined
	var out []string
	err := x.answering(ctx, q, func(id, _ string) error {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// answering gives the person and the id of each patient who answers a search; of type TooCostly if they are more than a page.
func (x *Index) answering(ctx context.Context, q search.Query, give func(person, patient string) error) error {
	page, err := x.db.Search(ctx, q)
	if err != nil {
		return err
	}
	if page.Next != "" {
		return fhir.Errorf(fhir.TooCostly, "too many people answer to this: say more of who is meant")
	}
	for _, r := range page.Resources {
		id, err := x.PersonOf(ctx, r.ID())
		if fhir.Is(err, fhir.NotFound) {
			continue // not yet taken in
		}
		if err == nil {
			err = give(id, r.ID())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// KnowsSystem reports whether anybody has an identifier of a system: national numbers are always known.
func (x *Index) KnowsSystem(ctx context.Context, system string) (bool, error) {
	switch system {
	case fhir.SystemNHSNumber, fhir.SystemCHI, fhir.SystemHCN:
		return true, nil
	}
	if len(system) > 400 {
		return false, nil
	}
	found, err := x.db.View(Bucket).PeekAll(ctx, []string{"id/" + system + "|"}, 1)
	return err == nil && len(found) > 0 && len(found[0]) > 0, err
}

// Begins reports whether a value begins as wanted, whatever its capitals and accents.
func Begins(wanted, value string) bool { return value != "" && says(wanted+"*", value) }

// Answers reports whether one of the person's patients is described so.
func (p *Person) Answers(d Description) bool { return slices.ContainsFunc(p.Patients, d.of) }

// of reports whether a patient is described so.
func (d Description) of(q Patient) bool {
	a := q.Address
	if a == nil {
		a = &fhir.Address{}
	}
	return says(d.Family, q.Name.Family) && says(d.Given, q.Name.Given...) && (d.BirthDate == "" || strings.HasPrefix(q.BirthDate, d.BirthDate)) &&
		(d.Gender == "" || q.Gender == d.Gender) && says(d.Line, slices.Concat(a.Line, []string{strings.Join(a.Line, " ")})...) && says(d.City, a.City) &&
		(d.Postcode == "" || postcode(d.Postcode) == postcode(a.PostalCode))
}

// says reports whether one of the values is the one wanted, whatever its capitals and accents, or begins as wanted.
func says(wanted string, values ...string) bool {
	stem, begins := strings.CutSuffix(strings.TrimSpace(wanted), "*")
	if stem = search.Fold(stem); stem == "" {
		return true
	}
	return slices.ContainsFunc(values, func(v string) bool { v = search.Fold(v); return v == stem || begins && strings.HasPrefix(v, stem) })
}

func postcode(s string) string { return strings.ToUpper(strings.ReplaceAll(s, " ", "")) }

// ToldBy is the person as only some of their sources describe them; nil if none of those knows them. An objection to sharing and a restriction hold
// whichever source told of it.
func (p *Person) ToldBy(from func(source string) bool) *Person {
	out := &Person{ID: p.ID}
	for _, q := range p.Patients {
		if from(q.Source) {
			out.Patients = append(out.Patients, q)
		}
	}
	if len(out.Patients) == 0 {
		return nil
	}
	out.settle()
	out.Restricted = p.Restricted
	return out
}
