package cast

import (
	"testing"
	"time"

	"tombolo/fhir"
)

func TestEveryNumberIsValidAndNobodyShares(t *testing.T) {
	seen := map[string]string{}
	people := append(Dozen(time.Now()), Generate(1, 500, time.Now())...)
	for _, p := range people {
		for _, n := range append([]string{p.NHS, p.CHI}, p.OldNHS...) {
			if n == "" {
				continue
			}
			if _, err := fhir.ParseNHSNumber(n); err != nil {
				t.Errorf("%s: %v", p.Key, err)
			}
			if who, taken := seen[n]; taken {
				t.Errorf("%s and %s share a number", p.Key, who)
			}
			seen[n] = p.Key
		}
	}
	for _, p := range people {
		for _, i := range p.Items {
			if !i.Heading.Valid() {
				t.Errorf("%s: heading %q is not of the data set", p.Key, i.Heading)
			}
			for _, s := range i.Held {
				if !p.At(s) {
					t.Errorf("%s: %s holds %q and does not know them", p.Key, s, i.Display)
				}
			}
		}
	}
}
