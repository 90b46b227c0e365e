package cast

import (
	"fmt"
	"math/rand/v2"
	"time"

	d "tombolo/dataset"
)

// Generate makes n more people from a seed: the same seed gives the same people. Each is registered at one practice and known at
// a random few of the other sources, with a few facts at each.
func Generate(seed uint64, n int, today time.Time) []Person {
	r := rand.New(rand.NewPCG(seed, 0x746f6d626f6c6f))
	people := make([]Person, 0, n)
	for i := 0; len(people) < n; i++ {
		nine := fmt.Sprintf("999%06d", 100000+i)
		if !hasCheckDigit(nine) {
			continue
		}
		people = append(people, generated(r, nine, today))
	}
	return people
}

func hasCheckDigit(nine string) bool {
	sum := 0
	for i, c := range nine {
		sum += int(c-'0') * (10 - i)
	}
	return (11-sum%11)%11 != 10
}

func generated(r *rand.Rand, nine string, today time.Time) Person {
	sex, given := "female", pick(r, femaleNames)
	if r.IntN(2) == 0 {
		sex, given = "male", pick(r, maleNames)
	}
	gp, practice := GP1, "M85001"
	if r.IntN(2) == 0 {
		gp, practice = GP2, "M85002"
	}
	p := Person{
		Key: "p" + nine, Shows: "generated", NHS: NHSNumber(nine), NHSStatus: "01", Given: []string{given}, Family: pick(r, surnames),
		Born: day(today, 365+r.IntN(32000)), Sex: sex, Address: []string{fmt.Sprintf("%d %s", 1+r.IntN(120), pick(r, streets))},
		City: "Severnmouth", Postcode: fmt.Sprintf("GL99 %d%c%c", r.IntN(10), 'A'+rune(r.IntN(26)), 'A'+rune(r.IntN(26))),
		Ethnicity: "A", Practice: practice, Known: []string{gp},
	}
	for _, s := range []string{Acute, Mental, Community, Council, Ambulance} {
		if r.IntN(3) == 0 || s == Acute && r.IntN(2) == 0 {
			p.Known = append(p.Known, s)
		}
	}
	for range 1 + r.IntN(4) {
		f := pick(r, problems)
		p.Items = append(p.Items, Item{Heading: d.Problems, System: sct, Code: f[0], Display: f[1], Date: day(today, 200+r.IntN(5000)), Status: "active", By: "Dr Helen Marsh", Held: []string{gp}})
	}
	if r.IntN(3) == 0 {
		held := []string{gp}
		for _, s := range p.Known[1:] {
			if s == Acute || s == Mental {
				held = append(held, s)
			}
		}
		p.Items = append(p.Items, penicillin(held...))
	}
	for range r.IntN(4) {
		m := pick(r, medicines)
		p.Medications = append(p.Medications, Medication{Code: m[0], Display: m[1], Dose: "One each day", Quantity: "28", Unit: "tablet", Type: "repeat",
			Start: day(today, 100+r.IntN(900)), Status: "active", Issues: []string{day(today, 56), day(today, 28)}, By: "Dr Helen Marsh", Held: []string{gp}})
	}
	for i, s := range p.Known[1:] {
		ago := 10 + r.IntN(700)
		p.Encounters = append(p.Encounters, Encounter{ID: fmt.Sprintf("E%s%d", nine[3:], i), Class: "AMB", Type: "Attendance", Start: at(today, ago, "10:00"), End: at(today, ago, "10:30"),
			Reason: pick(r, reasons), Where: OrganisationOf(s).Name, By: "Dr Femi Ade", Role: "Clinician", Held: []string{s}})
	}
	return p
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

var (
	femaleNames = []string{"Olivia", "Grace", "Fatima", "Sian", "Joan", "Maria", "Zara", "Ffion", "Dorothy", "Wei", "Ngozi", "Zoë"}
	maleNames   = []string{"Noah", "Arthur", "Mohammed", "Gareth", "Brian", "José", "Ravi", "Emrys", "Kenneth", "Jun", "Chidi", "Liam"}
	surnames    = []string{"Smith", "Jones", "Patel", "Evans", "O'Brien", "Ahmed", "Lloyd-Hughes", "Williams", "Okoro", "Chen", "Novák", "Brown", "Roberts", "Singh"}
	streets     = []string{"High Street", "Church Road", "Ferry Lane", "Quay Road", "Mill Street", "Castle Rise", "Orchard Close"}
	reasons     = []string{"Review", "Chest infection", "Back pain", "Wound check", "Medication review", "Fall"}
	problems    = [][2]string{{"38341003", "Hypertensive disorder"}, {"195967001", "Asthma"}, {"44054006", "Type 2 diabetes mellitus"}, {"396275006", "Osteoarthritis"}, {"40930008", "Hypothyroidism"}, {"37796009", "Migraine"}, {"35489007", "Depressive disorder"}}
	medicines   = [][2]string{{"319996000", "Simvastatin 40mg tablets"}, {"318857002", "Ramipril 5mg capsules"}, {"109081006", "Metformin 500mg tablets"}, {"321988005", "Sertraline 50mg tablets"}, {"322236009", "Paracetamol 500mg tablets"}}
)
