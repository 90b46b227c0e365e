package match

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
)

// A Model says how often each level of each field is seen between two records of one person (m) and between records of two people (u), and
// from what probability a pair counts as the same person or as possibly so.
type Model struct {
	Levels map[string][]Level `json:"levels"` // by the name of the field, in the order of the field's levels
	// Same is the probability from which two records are linked without anybody's looking; Possible that from which somebody is to look.
	Same     float64 `json:"same"`
	Possible float64 `json:"possible"`

	weight [fields][]float64
	m      [fields][]float64
}

// A Level is one outcome of comparing a field.
type Level struct {
	Name string  `json:"name"`
	M    float64 `json:"m"`
	U    float64 `json:"u"`
}

//go:embed model.json
var modelJSON []byte

// Default is the model that Tombolo is delivered with: learned by EM on an invented population (TestTheModelIsWhatIsLearned).
var Default = sync.OnceValue(func() *Model {
	m, err := ParseModel(modelJSON)
	if err != nil {
		panic(err) // a test reads it
	}
	return m
})

// ParseModel reads a model. An error says which field or level is wrong.
func ParseModel(data []byte) (*Model, error) {
	m := &Model{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("matching model: %w", err)
	}
	if !(m.Possible > 0 && m.Possible <= m.Same && m.Same < 1) {
		return nil, fmt.Errorf("matching model: want 0 < possible ≤ same < 1, have %v and %v", m.Possible, m.Same)
	}
	return m, m.settle()
}

// settle computes the weights, log2(m/u).
func (m *Model) settle() error {
	for f := range fields {
		given := m.Levels[f.String()]
		if len(given) != len(levels[f]) {
			return fmt.Errorf("matching model: %q has %d levels, want these: %q", f, len(given), levels[f])
		}
		m.weight[f] = make([]float64, len(given))
		m.m[f] = make([]float64, len(given))
		for i, l := range given {
			if l.Name != levels[f][i] {
				return fmt.Errorf("matching model: level %d of %q is %q, want %q", i+1, f, l.Name, levels[f][i])
			}
			if !(l.M > 0 && l.M <= 1 && l.U > 0 && l.U <= 1) {
				return fmt.Errorf("matching model: m and u of %q in %q must be above 0 and at most 1", l.Name, f)
			}
			m.weight[f][i] = math.Log2(l.M / l.U)
			m.m[f][i] = l.M
		}
	}
	return nil
}

// Terms tells how common a value is: the share of records that have it in that field, 0 if it has not been counted. It is asked for given
// names, family names and postcodes that two records have in common.
type Terms func(f Field, value string) float64

// A Score is how likely two descriptions are of one person, and why.
type Score struct {
	Pattern     Pattern
	Weights     [fields]float64 // bits: what each field says for (above 0) or against
	Probability float64
}

// Score weighs how two descriptions compare. prior is the probability that a pair taken without looking is of one person: 1 in the number of people
// for one record against everybody.
func (m *Model) Score(a, b *Description, prior float64, terms Terms) Score {
	s := Score{Pattern: Compare(a, b)}
	for f := range fields {
		if level := s.Pattern[f]; level >= 0 {
			s.Weights[f] = m.bits(f, int(level), a, b, terms)
		}
	}
	s.placeOnce()
	s.read(prior)
	return s
}

// read works the probability out from the weights.
func (s *Score) read(prior float64) {
	bits := math.Log2(prior / (1 - prior))
	for _, w := range s.Weights {
		bits += w
	}
	s.Probability = 1 / (1 + math.Exp2(-bits))
}

// Placeless is the score as it would be if nothing were said of where either lives, or of how they are reached. prior is that of the score.
func (s Score) Placeless(prior float64) Score {
	for _, f := range [...]Field{Postcode, Address, Contact} {
		s.Pattern[f], s.Weights[f] = -1, 0
	}
	s.read(prior)
	return s
}

// placeOnce lets agreement on where somebody lives count once: who shares a house shares its postcode and often its telephone.
func (s *Score) placeOnce() {
	best := max(s.Weights[Postcode], s.Weights[Address], s.Weights[Contact])
	counted := false
	for _, f := range [...]Field{Contact, Address, Postcode} {
		switch {
		case s.Weights[f] == best && !counted:
			counted = true
		case s.Weights[f] > 0:
			s.Weights[f] = 0
		}
	}
}

func (m *Model) bits(f Field, level int, a, b *Description, terms Terms) float64 {
	if level != 0 || terms == nil {
		return m.weight[f][level]
	}
	value := ""
	switch f {
	case Given:
		value = a.Given[0]
	case Family:
		value = commonFamily(a, b)
	case Postcode:
		value = a.Postcode
	default:
		return m.weight[f][level]
	}
	share := terms(f, value)
	if share <= 0 {
		return m.weight[f][level]
	}
	// A value counted once or twice is not known to be that rare: at most five bits more than the field usually gives.
	return min(math.Log2(m.m[f][0]/share), m.weight[f][0]+5)
}

func commonFamily(a, b *Description) string {
	for _, x := range a.Family {
		for _, y := range b.Family {
			if x == y {
				return x
			}
		}
	}
	return ""
}

// Why says in words what speaks for and against, the weightiest first: "birth date same (+11.2)".
func (s Score) Why() []string {
	order := make([]Field, 0, fields)
	for f := range fields {
		if s.Pattern[f] >= 0 {
			order = append(order, f)
		}
	}
	slices.SortStableFunc(order, func(a, b Field) int { return cmp.Compare(math.Abs(s.Weights[b]), math.Abs(s.Weights[a])) })
	out := make([]string, len(order))
	for i, f := range order {
		out[i] = fmt.Sprintf("%s %s (%+.1f)", f, levels[f][s.Pattern[f]], s.Weights[f])
	}
	return out
}

// A Verdict is what follows from a score.
type Verdict uint8

// Verdicts, from what nobody need look at to what is linked at once.
const (
	Different Verdict = iota
	Possible
	Same
)

func (v Verdict) String() string { return [...]string{"different", "possible", "same"}[v] }

// Decide reads a verdict from a score, under rules that no weight overrides. Without the same number, two records are possibly of one person only if
// neither the given names nor the birth dates are quite different: twins share all but the one, father and son all but the other. And a link is
// made without anybody's looking only if the birth dates are the same and whole, the sex does not differ, the given name is the same (one
// twin may be John and the other Jack: a short form will do only beside the same number), the family name is alike, no number of one system
// differs, and something besides name and birth date agrees: a number, a telephone, a postcode, an address.
func (m *Model) Decide(s Score) Verdict {
	p := s.Pattern
	if s.Probability < m.Possible {
		return Different
	}
	if p[Numbers] != 0 && (p[Given] == givenDifferent || p[Born] == bornDifferent || p[Born] == bornYear && p[Given] > givenShort) {
		return Different
	}
	// Who was given a new number and recorded under another sex has left the old record behind, and nobody is shown the way back to it.
	if p[Numbers] == numbersDifferent && p[Sex] == sexDifferent {
		return Different
	}
	agrees := p[Numbers] == 0 || p[Contact] == 0 || p[Postcode] == 0 || p[Address] == 0
	named := (p[Given] == givenSame || p[Given] == givenShort && p[Numbers] == 0) && p[Family] >= 0 && p[Family] <= familySlip
	if s.Probability >= m.Same && p[Born] == bornSame && p[Sex] <= 0 && p[Numbers] <= 0 && named && agrees {
		return Same
	}
	return Possible
}

// Grade is the match-grade of a FHIR $match: certain, probable, possible, certainly-not.
// FHIR R4 valueset-match-grade.html
func (m *Model) Grade(s Score) string {
	switch v := m.Decide(s); {
	case v == Same:
		return "certain"
	case v == Possible && s.Probability >= 0.9:
		return "probable"
	case v == Possible:
		return "possible"
	}
	return "certainly-not"
}
