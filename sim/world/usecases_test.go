package world

import (
	"html"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tombolo/sim/cast"
)

// What the use cases of GP Connect want a viewer to show of a practice's record, and the people of the cast whose pages show it. The names
// are those of docs/gpconnect-use-cases.md, which says which use case wants what; a test below keeps the two together.
var needs = []struct {
	name, person, section string
	says                  []string // in this order; {28} is the day 28 days ago
	never                 []string
}{
	{"medicine", "priya", "medications", []string{"{392}|Levothyroxine sodium 100microgram tablets|Repeat|One to be taken each morning, half an hour before breakfast",
		"Recorded by|Dr Yasmin Noor", "Status|Active", "Quantity|28 tablet", "Reason|Hypothyroidism", "Supply|28 day", "Times issued|14", "Issues authorised|14", "Last issued|{28}",
		"Prescribed by|Prescribed at GP practice", "SNOMED CT 376988009"}, nil},
	{"issues", "priya", "medications", []string{"Issues (14 entries)|{28}|28 tablet|{56}", "{392}|28 tablet|From"}, nil},
	{"past medicine", "margaret", "medications", []string{"Current", "Stopped, finished or not current"}, nil},
	{"alphabetical", "margaret", "medications", []string{"In alphabetical order"}, nil},
	{"allergy", "priya", "allergies", []string{"03-Feb-2001|Allergy to amoxicillin|Low risk|Rash|From|Riverside Medical Centre", "Recorded by|Dr Yasmin Noor", "SNOMED CT 294505008"}, nil},
	{"problem", "margaret", "problems", []string{"Active", "Type 2 diabetes mellitus", "Significance|Major", "Recorded by"}, nil},
	{"immunisation", "margaret", "immunisations", []string{"Seasonal influenza vaccination|Batch FLU2291, left deltoid|From", "Recorded by|Sr Joan Price", "Status|Completed"}, []string{"UNK"}},
	{"measurement", "priya", "observations", []string{"{34} 09:40|Body weight|71.5 kg", "Recorded by|Dr Yasmin Noor"}, nil},
	{"consultation", "priya", "encounters", []string{"{34} 09:40|Surgery consultation|Hypothyroidism|History|Tired since the winter. No change of weight. Takes tablets most mornings.|" +
		"Examination|Heart rate: 58 /min|Body weight: 71.5 kg|Plan|Thyroid function today; see again with the result.|Knee pain|History|Left knee, on stairs, two months.|Examination|No effusion, full range.",
		"Recorded by|Dr Yasmin Noor", "Where|Riverside Medical Centre"}, []string{"Comment note"}},
	{"result groups", "priya", "results", []string{"Full blood count|Haemoglobin estimation|128 g/L|115 to 165", "Platelet count|262 ×10⁹/L|150 to 450|Normal, no action|Urea and electrolytes",
		"Serum creatinine|91 µmol/L|45 to 84|High|Repeat in three months"}, []string{"Comment note"}},
	{"results over time", "priya", "/trends", []string{"All 3 sources answered.", "Serum free T4 level|in pmol/L", "Serum TSH level|in mU/L", "4 readings, from {420} to {35}", "Shaded: reference range, 0.3 to 5.5.", "|6.8 mU/L|0.3-5.5|High|Severn Acute Trust|", "|2.9 mU/L|0.3 to 5.5|Riverside Medical Centre|",
		"|< 0.05 mU/L|0.3 to 5.5|Low|Riverside Medical Centre|", "|11.2 mU/L|0.3 to 5.5|High|Riverside Medical Centre"}, nil},
	{"document without a file", "priya", "documents", []string{"Letter from previous practice|No file|Letter; The file was not received with the transfer of the record|From"}, []string{"OpenLetter from previous practice"}},
	{"left out", "sam", "", []string{"items are left out because they are confidential or because the person wishes it"}, nil},
	{"in transit", "laura", "", []string{"the record from the person's previous practice has not all arrived"}, nil},
	{"none", "priya", "referrals", []string{"None recorded"}, nil},
	{"not known", "priya", "family-history", nil, []string{"Not known"}},
}

// text is what a reader reads, a piece a |.
func text(page string) string {
	page = regexp.MustCompile(`(?s)<(script|style)\b.*?</(script|style)>`).ReplaceAllString(page, "")
	page = html.UnescapeString(regexp.MustCompile(`<[^>]+>`).ReplaceAllString(page, "\n"))
	var parts []string
	for l := range strings.Lines(page) {
		if l = strings.TrimSpace(l); l != "" {
			parts = append(parts, l)
		}
	}
	return strings.Join(parts, "|")
}

var daysAgo = regexp.MustCompile(`\{\d+\}`)

func TestTheUseCasesOfGPConnect(t *testing.T) {
	c := severn(t)
	pages := map[string]string{}
	for _, n := range needs {
		query := "?all=1"
		if strings.HasPrefix(n.section, "/") { // a page of its own
			query = n.section
		}
		page := pages[n.person+query]
		if page == "" {
			page = c.pageOf(t, c.w.Person(n.person), query)
			pages[n.person+query] = page
		}
		if n.section != "" && query != n.section {
			_, after, ok := strings.Cut(page, `<section class="t-section`)
			for ok && !strings.Contains(after[:min(len(after), 200)], `id="s-`+n.section+`"`) {
				_, after, ok = strings.Cut(after, `<section class="t-section`)
			}
			if page, _, _ = strings.Cut(after, "</section>"); !ok {
				t.Errorf("%s: the page has no section %s", n.name, n.section)
				continue
			}
		}
		shown := text(unmarked(page))
		rest := shown
		for _, want := range n.says {
			want = daysAgo.ReplaceAllStringFunc(want, func(in string) string {
				days, _ := strconv.Atoi(strings.Trim(in, "{}"))
				return c.w.o.Now().AddDate(0, 0, -days).Format("02-Jan-2006")
			})
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: %s's page does not say, in its place, %q:\n%s", n.name, n.person, want, shown)
				break
			}
			rest = after
		}
		for _, never := range n.never {
			if strings.Contains(shown, never) {
				t.Errorf("%s: %s's page says %q", n.name, n.person, never)
			}
		}
	}
}

// Medicines can be read in alphabetical order as well as by date.
func TestMedicinesInAlphabeticalOrder(t *testing.T) {
	c := severn(t)
	names := regexp.MustCompile(`<strong class="t-line__name">([^<]*)</strong>`)
	order := func(query string) (out []string) {
		_, page, _ := strings.Cut(c.pageOf(t, c.w.Person(cast.Main), query), `id="s-medications"`)
		page, _, _ = strings.Cut(page, "Stopped, finished or not current")
		for _, m := range names.FindAllStringSubmatch(page, -1) {
			out = append(out, strings.ToLower(m[1]))
		}
		return out
	}
	dated, named := order("?all=1"), order("?all=1&order=name")
	if len(named) < 3 || !slices.IsSorted(named) || slices.IsSorted(dated) {
		t.Errorf("by date %q, by name %q", dated, named)
	}
}

func (c *checker) pageOf(t *testing.T, p cast.Person, query string) string {
	t.Helper()
	_, b, err := c.gather("doctor", nhs(p))
	if err != nil || personOf(b) == "" {
		t.Fatalf("%s: %v", p.Key, err)
	}
	status, _, page, err := c.http(http.MethodGet, "/record/"+personOf(b)+query, "doctor", "", nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %v", p.Key, status, err)
	}
	return string(page)
}

// The document of the use cases names every need that the test shows, and no other.
func TestTheUseCasesAreWrittenDown(t *testing.T) {
	doc, err := os.ReadFile("../../docs/gpconnect-use-cases.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`need: ([^`]+)`").FindAllStringSubmatch(string(doc), -1) {
		named[m[1]] = true
	}
	for _, n := range needs {
		if !named[n.name] {
			t.Errorf("docs/gpconnect-use-cases.md does not name %q", n.name)
		}
		delete(named, n.name)
	}
	if len(named) > 0 {
		t.Errorf("docs/gpconnect-use-cases.md names what nothing shows: %v", named)
	}
}
