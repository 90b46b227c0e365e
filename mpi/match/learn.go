package match

import (
	"math/rand/v2"
	"slices"
	"strconv"
)

// Learn estimates a model from records of which nobody has said who is who. u is counted in pairs drawn at random, which are hardly ever of one
// person. m is found by expectation and maximisation (Winkler 1988) over the pairs that share a key, taken as a mixture of four kinds: one
// person; one household, whose members share address, telephone and often name; namesakes; and coincidence. Two kinds would take households and
// namesakes for people who keep changing their birth date or moving house. thresholds are kept as they are; the same records and seed give the same model.
func Learn(ds []Description, same, possible float64, seed uint64) (*Model, error) {
	u := chance(ds, seed)
	seen := map[Pattern]float64{}
	for i, j := range Pairs(ds) {
		seen[Compare(&ds[i], &ds[j])]++
	}
	patterns := make([]counted, 0, len(seen)) // in one order, so that sums come out the same
	for p, n := range seen {
		patterns = append(patterns, counted{p, n})
	}
	slices.SortFunc(patterns, func(a, b counted) int { return slices.Compare(a.Pattern[:], b.Pattern[:]) })
	kinds := start(u)
	for range 60 {
		kinds = maximise(patterns, kinds)
	}
	m := &Model{Levels: map[string][]Level{}, Same: same, Possible: possible}
	for f := range fields {
		ls := make([]Level, len(levels[f]))
		for i, name := range levels[f] {
			ls[i] = Level{name, rounded(kinds[person].rates[f][i]), rounded(u[f][i])}
		}
		m.Levels[f.String()] = ls
	}
	return m, m.settle()
}

// A counted pattern is how many candidate pairs compare so.
type counted struct {
	Pattern
	n float64
}

type rates [fields][]float64

// A kind is one of the reasons for which two records share a key.
type kind struct {
	rates
	share float64 // of the candidate pairs
}

const (
	person = iota
	home
	namesake
	coincidence
	kinds
)

// start says roughly what each kind looks like: a person agrees in nearly everything; a household where it lives and in its name, not in birth date
// and given name; namesakes in their names; a coincidence no more than any two people.
func start(u rates) (out [kinds]kind) {
	for k := range out {
		out[k].share = 1.0 / kinds
	}
	for f := range fields {
		n := len(levels[f])
		agree, differ := make([]float64, n), make([]float64, n)
		for i := range n {
			agree[i], differ[i] = 0.1/float64(n-1), 0.1/float64(n-1)
		}
		agree[0], differ[n-1] = 0.9, 0.9
		out[person].rates[f], out[coincidence].rates[f] = agree, u[f]
		out[home].rates[f], out[namesake].rates[f] = agree, differ
		switch f {
		case Given, Born, Numbers:
			out[home].rates[f] = differ
		}
		switch f {
		case Given, Family, Sex:
			out[namesake].rates[f] = agree
		}
	}
	return out
}

// chance counts the levels of random pairs. A level that was not seen is given half a count, so that no weight is without bound.
func chance(ds []Description, seed uint64) (u rates) {
	var counts [fields][]float64
	for f := range fields {
		counts[f] = make([]float64, len(levels[f]))
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 20 * len(ds) {
		i, j := rnd.IntN(len(ds)), rnd.IntN(len(ds))
		if i == j {
			continue
		}
		for f, level := range Compare(&ds[i], &ds[j]) {
			if level >= 0 {
				counts[f][level]++
			}
		}
	}
	return normal(counts)
}

// normal turns counts into rates.
func normal(counts [fields][]float64) (r rates) {
	for f := range fields {
		sum := 0.0
		for _, n := range counts[f] {
			sum += n + 0.5
		}
		r[f] = make([]float64, len(counts[f]))
		for i, n := range counts[f] {
			r[f][i] = (n + 0.5) / sum
		}
	}
	return r
}

// maximise does one step: how likely is each pattern to be of each kind, and what rates follow from that.
func maximise(patterns []counted, from [kinds]kind) (out [kinds]kind) {
	var counts [kinds][fields][]float64
	for k := range counts {
		for f := range fields {
			counts[k][f] = make([]float64, len(levels[f]))
		}
	}
	all := 0.0
	for _, p := range patterns {
		var likely [kinds]float64
		sum := 0.0
		for k := range likely {
			likely[k] = from[k].share
			for f, level := range p.Pattern {
				if level >= 0 {
					likely[k] *= from[k].rates[f][level]
				}
			}
			sum += likely[k]
		}
		all += p.n
		for k := range likely {
			w := p.n * likely[k] / sum
			out[k].share += w
			for f, level := range p.Pattern {
				if level >= 0 {
					counts[k][f][level] += w
				}
			}
		}
	}
	for k := range out {
		out[k].share /= all
		if k == namesake { // who has the name and the birth date of somebody, and has moved, is no namesake
			counts[k][Born][bornSame], counts[k][Numbers][0] = 0, 0
		}
		out[k].rates = normal(counts[k])
	}
	return out
}

// rounded keeps three significant digits: a model is read by people.
func rounded(x float64) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'e', 2, 64), 64)
	return y
}
