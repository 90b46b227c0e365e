package ucum

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func rat(t testing.TB, s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatal(s)
	}
	return r
}

func TestValuesAreConverted(t *testing.T) {
	for _, c := range []struct{ value, from, to, want string }{
		{"4", "g", "mg", "4000"},
		{"1", "mg/dL", "g/L", "0.01"},
		{"5.5", "mmol/L", "umol/mL", "5.5"},
		{"7", "d", "wk", "1"},
		{"1", "[lb_av]", "kg", "0.45359237"},
		{"12", "[stone_av]", "[lb_av]", "168"},
		{"6", "[ft_i]", "cm", "182.88"},
		{"37", "Cel", "[degF]", "98.6"},
		{"98.6", "[degF]", "Cel", "37"},
		{"310.15", "K", "Cel", "37"},
		{"120", "mm[Hg]", "kPa", "15.99864"},
		{"50", "%", "1", "0.5"},
		{"4.5", "10*9/L", "10*6/mL", "4.5"},
		{"4.5", "10^9/L", "/nL", "4.5"},
		{"2", "U/L", "u[iU]/L", ""},
		{"1", "{cells}/uL", "/uL", "1"},
		{"60", "{beats}/min", "Hz", "1"},
		{"60", "/min", "s-1", "1"},
		{"1000", "ug/kg/min", "mg/(kg.min)", "1"},
		{"2", "m[iU]/mL", "[iU]/L", "2"},
		{"1", "kcal", "kJ", "4.184"},
		{"1", "mo", "d", "30.4375"},
		{"1", "Gy", "m2.s-2", "1"},
		{"1", "mg", "mL", ""},
		{"1", "[iU]", "[arb'U]", ""},
		{"1", "[pH]", "1", ""},
	} {
		got, err := Convert(rat(t, c.value), c.from, c.to)
		switch {
		case err != nil && c.want != "":
			t.Errorf("%s %s in %s: %v", c.value, c.from, c.to, err)
		case err == nil && (c.want == "" || got.Cmp(rat(t, c.want)) != 0):
			t.Errorf("%s %s in %s: %s, want %q", c.value, c.from, c.to, got.FloatString(12), c.want)
		}
	}
}

func TestWhatIsNoUnitIsRefused(t *testing.T) {
	for _, code := range []string{"lbs", "mgg", "mg//dL", "mg/", "mg dL", "(mg", "mg)", "{x", "m99999999999", "m41", "[lb_av", "k[lb_av]", "0", "é", "m-", "((((((((((m))))))))))", ".m", "days"} {
		if u, err := Parse(code); err == nil {
			t.Errorf("%q is taken for %s", code, u.Base())
		}
	}
}

// Conversion and back gives the same value, and base units are the same for all that can be compared.
func TestConversionGoesBothWays(t *testing.T) {
	units := []string{"g", "mg", "ug", "kg", "[lb_av]", "[oz_av]", "mg/dL", "mmol/L", "Cel", "[degF]", "K", "mm[Hg]", "kPa", "%", "min", "h", "a", "10*9/L", "L/min", "mL/h", "[iU]/L", "m[iU]/mL"}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SampledFrom(units).Draw(t, "from"), rapid.SampledFrom(units).Draw(t, "to")
		v := big.NewRat(rapid.Int64().Draw(t, "n"), rapid.Int64Range(1, 1<<40).Draw(t, "d"))
		u, _ := Parse(a)
		w, _ := Parse(b)
		there, err := Convert(v, a, b)
		if (err == nil) != (u.Base() == w.Base()) {
			t.Fatalf("%s and %s: %v", u.Base(), w.Base(), err)
		}
		if err != nil {
			return
		}
		back, err := Convert(there, b, a)
		if err != nil || back.Cmp(v) != 0 {
			t.Fatalf("%v became %v, %v", v, back, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"mg/dL", "10*-9/L{x}", "/(m2.s-1)", "kg.m/s2", "[in_i'H2O]", "((("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := Parse(s)
		if err != nil {
			return
		}
		w, err := Parse(u.Base())
		if err != nil || !u.Comparable(w) {
			t.Errorf("%q is in %q, which is read as %v, %v", s, u.Base(), w, err)
		}
	})
}
