package match

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const data = "../../../shared/data/07-record-linkage"

// A linkage set is a public collection of records of which somebody has said who is who.
type linkageSet struct {
	name, file string
	read       func(row map[string]string) (who string, d Raw)
	// What the model, which has seen none of these sets, must at least reach: of the links made at once, how many are right; of the true pairs, how
	// many are linked or shown to somebody; of what is linked or shown, how many are right.
	auto, recall, precision float64
}

var linkageSets = []linkageSet{
	{"FEBRL 1", "febrl/dataset1.csv", febrl, 1, 0.93, 0.99},
	{"FEBRL 2", "febrl/dataset2.csv", febrl, 1, 0.93, 0.99},
	{"FEBRL 3", "febrl/dataset3.csv", febrl, 1, 0.93, 0.99},
	{"historical people, UK", "splink-historical-uk/historical_figures_with_errors.csv", historical, 1, 0.45, 0.97},
	{"Uganda client registry", "uganda-client-registry/uganda_data_v21_20201501.csv", uganda, 1, 0.9, 0.99},
	{"splink fake 1000", "splink-fake-1000/fake_1000.csv", splinkFake, 1, 0.4, 0.99},
}

func febrl(r map[string]string) (string, Raw) {
	id := strings.Split(r["rec_id"], "-")
	return id[1], Raw{Given: []string{r["given_name"]}, Family: []string{r["surname"]}, Born: r["date_of_birth"], Postcode: r["postcode"],
		Address: []string{r["street_number"], r["address_1"], r["suburb"]}, Numbers: []Number{{"soc", r["soc_sec_id"]}}}
}

func historical(r map[string]string) (string, Raw) {
	return r["cluster"], Raw{Given: []string{r["first_name"]}, Family: []string{r["surname"]}, Born: r["dob"], Sex: r["gender"], Postcode: r["postcode_fake"]}
}

func uganda(r map[string]string) (string, Raw) {
	id := strings.Split(r["rec_id"], "-")
	return id[1], Raw{Given: []string{r["given_name"]}, Family: []string{r["surname"]}, Born: r["date_of_birth"], Sex: r["sex"],
		Contacts: []string{r["phone_number"]}, Numbers: []Number{{"nin", r["uganda_nin"]}, {"art", r["art_number"]}}}
}

func splinkFake(r map[string]string) (string, Raw) {
	return r["cluster"], Raw{Given: []string{r["first_name"]}, Family: []string{r["surname"]}, Born: r["dob"], Contacts: []string{r["email"]}, Address: []string{r["city"]}}
}

func (s linkageSet) load(t testing.TB) *crowd {
	f, err := os.Open(filepath.Join(data, s.file))
	if err != nil {
		t.Skipf("the public sets for linkage are not here: %v", err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.TrimLeadingSpace = true
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{}
	numbers := map[string]int{}
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, name := range rows[0] {
			m[strings.TrimSpace(name)] = strings.TrimSpace(row[i])
		}
		who, raw := s.read(m)
		if _, known := numbers[who]; !known {
			numbers[who] = len(numbers)
		}
		c.ds = append(c.ds, Describe(raw))
		c.of = append(c.of, numbers[who])
	}
	return c
}

// quality is how well a population was linked.
type quality struct{ records, truth, compared, auto, autoRight, found, right int }

func (c *crowd) quality(m *Model) quality {
	q := quality{records: len(c.ds)}
	size := map[int]int{}
	for _, who := range c.of {
		q.truth += size[who]
		size[who]++
	}
	for range Pairs(c.ds) {
		q.compared++
	}
	for _, l := range m.LinkAll(c.ds) {
		right := 0
		if c.of[l.A] == c.of[l.B] {
			right = 1
		}
		q.found, q.right = q.found+1, q.right+right
		if l.Verdict == Same {
			q.auto, q.autoRight = q.auto+1, q.autoRight+right
		}
	}
	return q
}

func share(a, b int) float64 { return float64(a) / float64(max(b, 1)) }

// The delivered model on sets that it was not learned from. Run with -v for the table of docs/performance.md.
func TestHowWellPublicSetsAreLinked(t *testing.T) {
	t.Logf("%-24s %8s %8s | %-28s | %s", "set", "records", "pairs", "linked at once: right recall", "with those to look at: precision recall F1")
	for _, s := range linkageSets {
		t.Run(s.name, func(t *testing.T) {
			q := s.load(t).quality(Default())
			p, r := share(q.right, q.found), share(q.right, q.truth)
			t.Logf("%-24s %8d %8d | %8.5f %8.4f | %8.4f %8.4f %8.4f", s.name, q.records, q.truth, share(q.autoRight, q.auto), share(q.autoRight, q.truth), p, r, 2*p*r/(p+r))
			if share(q.autoRight, q.auto) < s.auto || r < s.recall || p < s.precision {
				t.Errorf("want at least %v of the links made at once right, recall %v, precision %v", s.auto, s.recall, s.precision)
			}
		})
	}
}
