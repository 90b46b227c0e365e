package match

import (
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write what is learned to model.json")

// The model that is delivered is what Learn makes of an invented population that nobody has labelled, and comes near what is true of it. After a change
// of levels or learning, run with -update.
func TestTheModelIsWhatIsLearned(t *testing.T) {
	if testing.Short() {
		t.Skip("learning takes some seconds")
	}
	c := newCrowd(20_000, 2026)
	got, err := Learn(c.ds, 0.9999, 0.5, 1)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		b, _ := json.MarshalIndent(got, "", "\t")
		if err := os.WriteFile("model.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	truth := c.truth()
	for f := range fields {
		for i, l := range got.Levels[f.String()] {
			if kept := Default().Levels[f.String()][i]; math.Abs(math.Log2(l.M/kept.M)) > 0.01 || math.Abs(math.Log2(l.U/kept.U)) > 0.01 {
				t.Errorf("%s %s: learned %+v, model.json has %+v: run with -update", f, l.Name, l, kept)
			}
			if true := truth[f][i]; true > 0.02 && math.Abs(l.M-true) > 0.25*true+0.02 {
				t.Errorf("%s %s: learned m %.4f, of this population %.4f is true", f, l.Name, l.M, true)
			}
		}
	}
}

// truth counts the levels between records of one person.
func (c *crowd) truth() rates {
	var counts [fields][]float64
	for f := range fields {
		counts[f] = make([]float64, len(levels[f]))
	}
	for i := range c.ds {
		for j := i + 1; j < len(c.ds) && c.of[j] == c.of[i]; j++ {
			for f, level := range Compare(&c.ds[i], &c.ds[j]) {
				if level >= 0 {
					counts[f][level]++
				}
			}
		}
	}
	return normal(counts)
}

// A link made without anybody's looking that joins two people is clinical harm: at most one in a million pairs compared, in a population full of
// twins, households and namesakes. What is given up for it is printed.
func TestNobodyIsLinkedToSomebodyElse(t *testing.T) {
	people := 20_000
	if os.Getenv("TOMBOLO_SOAK") != "" {
		people = 400_000
	}
	q := newCrowd(people, 99).quality(Default())
	t.Logf("%d records, %d true pairs, %d compared: %d linked at once, %d of them wrongly, recall %.3f; %d to look at, %.3f of them right; recall of both %.3f",
		q.records, q.truth, q.compared, q.auto, q.auto-q.autoRight, share(q.autoRight, q.truth), q.found-q.auto, share(q.right-q.autoRight, q.found-q.auto), share(q.right, q.truth))
	if wrong := q.auto - q.autoRight; float64(wrong) > float64(q.compared)/1e6 {
		t.Errorf("%d of %d links join two people", wrong, q.auto)
	}
	if share(q.autoRight, q.truth) < 0.6 || share(q.right, q.truth) < 0.95 || share(q.right, q.found) < 0.95 {
		t.Error("want 60 % of true pairs linked at once, 95 % linked or shown, and 95 % of what is linked or shown right")
	}
}

var margaret = Raw{Given: []string{"Margaret", "Ann"}, Family: []string{"Taylor"}, Born: "1948-03-12", Sex: "female", Postcode: "ZZ99 3AB",
	Address: []string{"7 Mill Lane", "Severnbridge"}, Contacts: []string{"01632 960123"}, Numbers: []Number{{"nhs", "9990000107"}}}

// What the desk of a hospital meets, and what must follow. Each differs from Margaret's record in what is said.
func TestWhoIsTakenForWhom(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Raw)
		want   Verdict
	}{
		{"the same", func(*Raw) {}, Same},
		{"no number", func(r *Raw) { r.Numbers = nil }, Same},
		{"no number, written otherwise", func(r *Raw) {
			r.Numbers, r.Given, r.Family = nil, []string{"MARGARET"}, []string{"TAYLOR"}
			r.Postcode, r.Contacts = "zz993ab", []string{"+44 1632 960123"}
		}, Same},
		{"called Maggie, same number", func(r *Raw) { r.Given = []string{"Maggie"} }, Same},
		{"called Maggie, no number", func(r *Raw) { r.Given, r.Numbers = []string{"Maggie"}, nil }, Possible},
		{"name and birth date, and nothing else known", func(r *Raw) { *r = Raw{Given: r.Given, Family: r.Family, Born: r.Born, Sex: r.Sex} }, Possible},
		{"married", func(r *Raw) { r.Family, r.Numbers = []string{"Green"}, nil }, Possible},
		{"married, the former name known", func(r *Raw) { r.Family, r.Numbers = []string{"Green", "Taylor"}, nil }, Same},
		{"day and month changed about", func(r *Raw) { r.Born, r.Numbers = "1948-12-03", nil }, Possible},
		{"names changed about", func(r *Raw) { r.Given, r.Family, r.Numbers = []string{"Taylor"}, []string{"Margaret"}, nil }, Possible},
		{"another sex written down", func(r *Raw) { r.Sex, r.Numbers = "male", nil }, Possible},
		{"another number, all else the same", func(r *Raw) { r.Numbers = []Number{{"nhs", "9990000212"}} }, Possible},
		{"her twin", func(r *Raw) { r.Given, r.Numbers = []string{"Dorothy"}, nil }, Different},
		{"her twin, whose name is like hers", func(r *Raw) { r.Given, r.Numbers = []string{"Margarita"}, nil }, Possible},
		{"her daughter, called as she is", func(r *Raw) { r.Born, r.Numbers = "1975-07-30", nil }, Different},
		{"her husband", func(r *Raw) { r.Given, r.Born, r.Sex, r.Numbers = []string{"George"}, "1946-01-20", "male", nil }, Different},
		{"a namesake elsewhere", func(r *Raw) {
			*r = Raw{Given: r.Given[:1], Family: r.Family, Born: "1951-10-02", Sex: "female", Postcode: "ZZ1 1AA", Contacts: []string{"07700 900555"}}
		}, Different},
		{"a child without a name yet, born that day", func(r *Raw) {
			*r = Raw{Given: []string{"Baby"}, Family: []string{"Okafor"}, Born: r.Born, Postcode: "ZZ1 1AA"}
		}, Different},
		{"nothing known", func(r *Raw) { *r = Raw{} }, Different},
	} {
		a, b := margaret, margaret
		c.change(&b)
		x, y := Describe(a), Describe(b)
		s := Default().Score(&x, &y, 1.0/500_000, nil)
		if got := Default().Decide(s); got != c.want {
			t.Errorf("%s: %v, want %v: %.6f %q", c.what, got, c.want, s.Probability, s.Why())
		}
	}
}

func TestARareNameSaysMoreThanACommonOne(t *testing.T) {
	terms := func(f Field, v string) float64 { return map[string]float64{"taylor": 0.01, "zephyrine": 0.00001}[v] }
	a, b := Describe(Raw{Family: []string{"Taylor"}}), Describe(Raw{Family: []string{"Zephyrine"}})
	common, rare := Default().Score(&a, &a, 0.001, terms), Default().Score(&b, &b, 0.001, terms)
	if common.Weights[Family] >= rare.Weights[Family] {
		t.Errorf("Taylor %v, Zephyrine %v", common.Weights[Family], rare.Weights[Family])
	}
}

// Whoever is said to be the same has a key in common, comparison does not depend on who comes first, and what is packed is unpacked.
func TestWhatMustAlwaysHoldOfTwoRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 5))
		people := household(r, r.IntN(1000))
		p := people[r.IntN(len(people))]
		q := people[r.IntN(len(people))]
		a, b := Describe(register(r, p)), Describe(register(r, q))
		x, y := Default().Score(&a, &b, 1e-6, nil), Default().Score(&b, &a, 1e-6, nil)
		if x.Pattern != y.Pattern || math.Abs(x.Probability-y.Probability) > 1e-9 {
			rt.Fatalf("%v one way, %v the other", x, y)
		}
		keys := b.Keys()
		if Default().Decide(x) == Same && !slices.ContainsFunc(a.Keys(), func(k string) bool { return slices.Contains(keys, k) }) {
			rt.Fatalf("the same, and not found by any key:\n%+v\n%+v", a, b)
		}
		if back, ok := Unpack(a.Pack()); !ok || back.Pack() != a.Pack() || !slices.Equal(back.Keys(), a.Keys()) {
			rt.Fatalf("packed %+v, unpacked %+v", a, back)
		}
	})
}

func TestPairsAreFoundOnceEach(t *testing.T) {
	c := newCrowd(300, 4)
	want := map[[2]int]bool{}
	for i := range c.ds {
		for j := i + 1; j < len(c.ds); j++ {
			keys := c.ds[j].Keys()
			if slices.ContainsFunc(c.ds[i].Keys(), func(k string) bool { return slices.Contains(keys, k) }) {
				want[[2]int{i, j}] = true
			}
		}
	}
	got := map[[2]int]bool{}
	for i, j := range Pairs(c.ds) {
		if got[[2]int{i, j}] || !want[[2]int{i, j}] {
			t.Fatalf("%d and %d came twice, or share no key", i, j)
		}
		got[[2]int{i, j}] = true
	}
	if len(got) != len(want) {
		t.Errorf("%d pairs, want %d", len(got), len(want))
	}
}

func TestAModelThatMakesNoSenseIsRefused(t *testing.T) {
	for what, data := range map[string]string{
		"no JSON": "{", "no levels": `{"same":0.9,"possible":0.5}`, "thresholds the wrong way": `{"same":0.5,"possible":0.9}`,
	} {
		if _, err := ParseModel([]byte(data)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	m := *Default()
	m.Levels = map[string][]Level{}
	for f, ls := range Default().Levels {
		m.Levels[f] = slices.Clone(ls)
	}
	m.Levels["sex"][0].U = 0
	data, _ := json.Marshal(m)
	if _, err := ParseModel(data); err == nil {
		t.Error("a level that two people never show has a weight without bound: taken")
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add("Zoë-Anne", "O'Brien Müller", "1948-03-12", "+44 7700 900123", "ZZ99 3AB")
	f.Add("\xff\x00", "李", "00000000", "@", "Ⅷ")
	f.Fuzz(func(t *testing.T, given, family, born, phone, post string) {
		d := Describe(Raw{Given: []string{given}, Family: []string{family}, Born: born, Postcode: post, Address: []string{family, given}, Contacts: []string{phone}, Numbers: []Number{{given, born}}})
		m := Describe(margaret)
		Default().Decide(Default().Score(&d, &m, 1e-6, nil))
		if s := Default().Score(&d, &d, 1e-6, nil); math.IsNaN(s.Probability) {
			t.Error("no probability")
		}
		d.Keys()
		if d2, ok := Unpack(d.Pack()); ok {
			d2.Keys()
		}
		Unpack(given)
	})
}

func BenchmarkScore(b *testing.B) {
	c := newCrowd(2000, 3)
	terms := Count(c.ds).Share
	m := Default()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		m.Score(&c.ds[i%len(c.ds)], &c.ds[(i*7+1)%len(c.ds)], 1e-6, terms)
	}
}

// A million records, who is who among all of them.
func BenchmarkLinkMillion(b *testing.B) {
	c := newCrowd(580_000, 11)
	c.ds = c.ds[:min(len(c.ds), 1_000_000)]
	b.ReportAllocs()
	for b.Loop() {
		b.ReportMetric(float64(len(Default().LinkAll(c.ds))), "links")
	}
	b.ReportMetric(float64(len(c.ds)), "records")
}
