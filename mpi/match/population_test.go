package match

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// A crowd is an invented population with what makes telling people apart hard: households that share name, address and telephone, twins, sons
// called as their fathers, common names, and records with the errors that registration desks make. Of which person a record is stands in of.
type crowd struct {
	ds []Description
	of []int
}

var (
	women = strings.Fields(`margaret susan patricia christine linda sarah julie karen jane emma claire laura rebecca sophie charlotte emily chloe
		jessica olivia amelia ava grace lily ella mia isla freya evie poppy aisha fatima zainab priya ananya mei ling agnieszka katarzyna elena maria
		sofia nicola joanne helen alison catherine elizabeth anne dorothy joan doris irene hilda edith rose ivy florence mabel eileen sheila jean
		marjorie gwen megan cerys rhian sian bethan niamh siobhan aoife mairi morag fiona kirsty eilidh shona tracey michelle lisa donna sharon`)
	men = strings.Fields(`david john peter michael james robert paul andrew mark stephen richard christopher daniel matthew thomas jack oliver
		harry george noah arthur leo oscar charlie muhammad mohammed ahmed ali omar hassan ravi arjun wei jun piotr tomasz andrei carlos ian kevin alan
		brian keith graham roger trevor colin derek dennis ronald kenneth donald albert alfred ernest harold leonard frederick sidney reginald stanley
		walter william henry edward joseph samuel benjamin joshua liam ethan dylan rhys owen gareth hywel sean patrick connor declan ewan hamish alasdair
		callum fraser gary darren lee craig wayne stuart neil simon jason anthony nicholas philip`)
	common = strings.Fields(`smith jones taylor williams brown davies evans wilson thomas johnson roberts robinson thompson wright walker
		white edwards hughes green hall lewis harris clarke patel jackson wood turner martin cooper hill ward morris moore clark lee king baker
		harrison morgan allen james scott phillips watson davis parker price bennett young griffiths mitchell kelly cook carter richardson bailey
		collins bell shaw murphy miller cox richards khan marshall anderson simpson ellis adams singh begum wilkinson foster chapman powell webb
		rogers gray mason ali hunt hussain campbell matthews owen palmer holmes mills barnes knight lloyd butler russell barker fisher stevens
		jenkins murray dixon harvey okafor kowalski nowak ahmed oneill macdonald mackenzie`)
	firstHalf  = strings.Fields(`ash black brad brook bur chat clif cran dal dun east el far fair glen green had hart hol kings lang len mar mid nor oak pem pres rad red ros sel shel stan sut thorn wal west whit wood`)
	secondHalf = strings.Fields(`bourne bridge bury by combe cott croft dale den don field ford gate grove ham hill hurst land ley low man mere more ney over port ridge sby sey shaw stead ston thorpe ton well wick wood worth`)
	streets    = strings.Fields(`church high station mill park victoria green london queens kings manor york chapel windsor albert school grove springfield orchard meadow`)
	roadKinds  = strings.Fields(`road street lane avenue close drive way`)
)

// zipf picks a word, the earlier the likelier.
func zipf(r *rand.Rand, words []string) string {
	return words[int(math.Pow(float64(len(words)), r.Float64()*r.Float64()*0.5+r.Float64()*0.5))%len(words)]
}

type human struct {
	given, middle, family, former, sex string
	year, month, day                   int
	home                               int
	phone                              string
	nhs                                string
}

// newCrowd invents n people and what up to three systems hold of each.
func newCrowd(n int, seed uint64) *crowd {
	r := rand.New(rand.NewPCG(seed, 7))
	var people []human
	for home := 0; len(people) < n; home++ {
		people = append(people, household(r, home)...)
	}
	c := &crowd{}
	for i, h := range people {
		for range []int{1, 1, 1, 2, 2, 2, 3}[r.IntN(7)] {
			c.ds = append(c.ds, Describe(register(r, h)))
			c.of = append(c.of, i)
		}
	}
	return c
}

func household(r *rand.Rand, home int) []human {
	family := zipf(r, common)
	if r.IntN(2) == 0 {
		family = firstHalf[r.IntN(len(firstHalf))] + secondHalf[r.IntN(len(secondHalf))]
	}
	landline := fmt.Sprintf("01%09d", r.IntN(1e9))
	one := func(young, old int) human {
		h := human{family: family, home: home, year: 2026 - young - r.IntN(old-young+1), month: 1 + r.IntN(12), day: 1 + r.IntN(28), phone: landline,
			nhs: fmt.Sprintf("%010d", r.IntN(1e10))}
		if r.IntN(2) == 0 {
			h.sex, h.given, h.middle = "female", zipf(r, women), zipf(r, women)
		} else {
			h.sex, h.given, h.middle = "male", zipf(r, men), zipf(r, men)
		}
		if r.IntN(3) > 0 {
			h.phone = fmt.Sprintf("07%09d", r.IntN(1e9))
		}
		return h
	}
	out := []human{one(20, 95)}
	if r.IntN(2) == 0 {
		out = append(out, one(20, 95))
		if out[1].sex == "female" {
			out[1].former = zipf(r, common)
		}
	}
	for range r.IntN(4) {
		child := one(0, 19)
		switch r.IntN(40) {
		case 0: // called as a parent
			if child.sex == out[0].sex {
				child.given = out[0].given
			}
		case 1, 2: // twins
			twin := one(0, 19)
			twin.year, twin.month, twin.day, twin.phone = child.year, child.month, child.day, child.phone
			if twin.sex == child.sex && twin.given == child.given {
				twin.given = twin.middle
			}
			if twin.given != child.given {
				out = append(out, twin)
			}
		}
		out = append(out, child)
	}
	return out
}

// register is what one desk writes down of somebody.
func register(r *rand.Rand, h human) Raw {
	chance := func(percent int) bool { return r.IntN(100) < percent }
	d := Raw{Given: []string{h.given}, Family: []string{h.family}, Born: fmt.Sprintf("%04d-%02d-%02d", h.year, h.month, h.day), Sex: h.sex}
	place := rand.New(rand.NewPCG(uint64(h.home), 3))
	if chance(8) { // moved, and this desk knows the old place or the new one
		place = rand.New(rand.NewPCG(uint64(h.home)+1<<40, 3))
	}
	d.Postcode = fmt.Sprintf("ZZ%d %d%c%c", 1+place.IntN(60), place.IntN(10), 'A'+rune(place.IntN(20)), 'A'+rune(place.IntN(20)))
	d.Address = []string{fmt.Sprint(1 + place.IntN(200)), streets[place.IntN(len(streets))] + " " + roadKinds[place.IntN(len(roadKinds))], firstHalf[place.IntN(len(firstHalf))] + "ton"}
	if chance(50) {
		d.Given = append(d.Given, h.middle)
	}
	if chance(70) {
		d.Contacts = []string{h.phone}
	}
	if chance(10) {
		d.Contacts = []string{fmt.Sprintf("07%09d", r.IntN(1e9))}
	}
	if chance(60) {
		d.Numbers = []Number{{"nhs", h.nhs}}
	}
	switch {
	case chance(4):
		d.Given[0] = typo(r, d.Given[0])
	case chance(4):
		if lines := nicknames[h.given]; len(lines) > 0 {
			forms := strings.Fields(strings.Split(strings.TrimSpace(nicknameLines), "\n")[lines[0]])
			d.Given[0] = forms[r.IntN(len(forms))]
		}
	case chance(1):
		d.Given[0] = d.Given[0][:1]
	}
	switch {
	case h.former != "" && chance(25):
		d.Family[0] = h.former
	case chance(3):
		d.Family[0] = typo(r, d.Family[0])
	case chance(1):
		d.Family[0], d.Given[0] = d.Given[0], d.Family[0]
	}
	switch {
	case chance(2):
		d.Born = fmt.Sprintf("%04d-%02d-%02d", h.year, 1+r.IntN(12), h.day)
	case chance(1):
		d.Born = fmt.Sprintf("%04d-%02d-%02d", h.year+[]int{-10, -1, 1, 10}[r.IntN(4)], h.month, h.day)
	case chance(1):
		d.Born = fmt.Sprintf("%04d-01-01", h.year)
	case chance(1) && h.day <= 12:
		d.Born = fmt.Sprintf("%04d-%02d-%02d", h.year, h.day, h.month)
	}
	if chance(1) {
		d.Sex = map[string]string{"female": "male", "male": "female"}[h.sex]
	}
	if chance(3) {
		d.Postcode = typo(r, d.Postcode)
	}
	if chance(5) {
		d.Postcode, d.Address = "", nil
	}
	return d
}

// typo makes one or two slips of the finger.
func typo(r *rand.Rand, s string) string {
	b := []byte(s)
	for range 1 + r.IntN(2)*r.IntN(2) {
		if len(b) < 3 {
			break
		}
		i := r.IntN(len(b) - 1)
		switch r.IntN(4) {
		case 0:
			b = append(b[:i], b[i+1:]...)
		case 1:
			b[i], b[i+1] = b[i+1], b[i]
		case 2:
			b[i] = byte('a' + r.IntN(26))
		case 3:
			b = append(b[:i+1], b[i:]...)
		}
	}
	return string(b)
}
