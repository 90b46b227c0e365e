package hl7v2

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/connector"
)

// A feed whose dialect takes the first of two telephone numbers and the family name only, and moves a field.
const narrow = `
mapping: narrow/1
fields:
  PV1-19: ZV1-2.2
segments:
  PID:
    Patient:
      telecom: {each: PID-13, value: it.1}
      name: {family: PID-5.1}
`

func unreadOf(t testing.TB, dialect, msg string) (unread []string, g *Gaps) {
	t.Helper()
	m, err := ParseMapping([]byte(dialect))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Source: "rx1-pas", Organisation: "RX1", Mapping: m}
	g = NewGaps()
	g.Add([]byte(msg), o)
	for a := range Try([]byte(msg), o) {
		if a.Message == nil || a.Deliveries[0].Rejected != nil {
			t.Fatalf("refused: %v", a.Deliveries[0].Rejected)
		}
		for _, l := range a.Unread {
			unread = append(unread, l.Place+" "+l.Text)
		}
	}
	return unread, g
}

// Nothing is dropped unseen: whole segments and fields, further repetitions of a field, components and subcomponents that no map reads are told of,
// each where it stands. What is read, by whatever alternative, and what stands elsewhere and is moved, is not.
func TestWhatNoMapReadsIsToldToTheSubcomponent(t *testing.T) {
	msg := "MSH|^~\\&|PAS|RX1|||20260302||ADT^A01|1|P|2.4\rEVN||20260302\r" +
		"PID|1||T1^7^M11^RX1&2.16.1&ISO^PI~9434765919^^^NHS^NH||Hart^Rosalind^^^Ms||19510417|F|||||0117 1^PRN^PH~0770 2^PRN^CP~\"\"~0770 3||||||||||Bath|||AUS~NZL\r" +
		"PV1|1|I|7B^2^3|EM|||C1^Cole^A^^^Dr^^^GMC^X||||||||||||||||||||||||||||||||||||20260302\rZV1|1|note^V77\rZZZ|1|x|\"\"|^^\rNTE|1\r"
	got, g := unreadOf(t, narrow, msg)
	want := []string{
		"PID-3(1).2 7", "PID-3(1).3 M11", "PID-3(1).4.2 2.16.1", "PID-3(1).4.3 ISO",
		"PID-5.2 Rosalind", "PID-5.5 Ms",
		"PID-13(1).2 PRN", "PID-13(1).3 PH", "PID-13(2) 0770 2^PRN^CP", "PID-13(4) 0770 3",
		"PID-26 AUS~NZL", "PV1-7.10 X", "ZV1-2.1 note", "ZZZ-2 x",
	}
	if !slices.Equal(got, want) {
		t.Errorf("not read are\n%q\nwant\n%q", got, want)
	}
	wantFields := map[string]int{"PID-26 in ADT^A01": 1, "ZZZ-2 in ADT^A01": 1}
	wantParts := map[string]int{}
	for _, p := range strings.Fields("PID-3.2 PID-3.3 PID-3.4.2 PID-3.4.3 PID-5.2 PID-5.5 PID-13.2 PID-13.3 PID-13(2…) PV1-7.10 ZV1-2.1") {
		wantParts[p+" in ADT^A01"] = 1
	}
	if !maps.Equal(g.Fields, wantFields) || !maps.Equal(g.Parts, wantParts) {
		t.Errorf("counted are %v and %v,\nwant %v and %v", g.Fields, g.Parts, wantFields, wantParts)
	}
	for what := range g.Parts {
		if strings.Contains(what, "Rosalind") || strings.Contains(what, "0770") {
			t.Errorf("%q tells what a field holds", what)
		}
	}
	// What the base map reads as well is no gap with it.
	got, _ = unreadOf(t, "mapping: base/1", msg)
	for _, place := range []string{"PID-5.2", "PID-5.5", "PID-13(2)", "PID-13(4)", "PID-13(1).2"} {
		if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, place+" ") }) {
			t.Errorf("%s is told of as not read, and the base map reads it: %q", place, got)
		}
	}
}

// Whatever is put into any field of any kind of message is in what is made of it, or is told of with its place: a word in each component of two repetitions,
// whatever the map thinks that the field holds.
func TestWhateverIsInAMessageIsTakenOrToldOf(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hl7")
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	o := Options{Source: "rx1-pas", Organisation: "RX1"}
	tried := map[string]bool{}
	lost := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for raw := range Split(data) {
			m, err := Parse(raw, ParseOptions{})
			if err != nil || m.Delims != Standard {
				continue
			}
			code, event, _ := m.Type()
			for _, s := range m.Segments() {
				if envelope[s.name] {
					continue
				}
				for n := 1; n <= 40; n++ {
					if s.name == "OBX" && (n == 2 || n == 4) { // how OBX-5 is to be read, and which results belong together
						continue
					}
					if what := fmt.Sprint(code, event, s.name, n); !tried[what] {
						tried[what] = true
						for _, w := range lostIn(m, s, n, o) {
							lost[fmt.Sprint(s.name, "-", n, " ", w)] = code + "^" + event + " of " + file
						}
					}
				}
			}
		}
	}
	t.Logf("%d fields of kinds of messages", len(tried))
	for _, what := range slices.Sorted(maps.Keys(lost)) {
		t.Errorf("%s is nowhere, in %s", what, lost[what])
	}
}

// lostIn puts words into a field, and gives those that are neither in what is made of the message nor told of.
func lostIn(m *Message, s Segment, n int, o Options) (lost []string) {
	const reps, comps = 2, 12
	var words []string
	var field strings.Builder
	for r := range reps {
		for c := range comps {
			words = append(words, fmt.Sprintf("WORD%c%02d", 'A'+r, c+1))
			field.WriteString(words[len(words)-1] + "^")
		}
		field.WriteString("~")
	}
	fields := strings.Split(m.text[s.start:s.end], "|")
	for len(fields) <= n {
		fields = append(fields, "")
	}
	fields[n] = strings.TrimSuffix(strings.ReplaceAll(field.String(), "^~", "~"), "~")
	text := m.text[:s.start] + strings.Join(fields, "|") + m.text[s.end:]
	for a := range Try([]byte(text), o) {
		var told strings.Builder
		whole, parts := false, map[string]bool{}
		for _, d := range a.Deliveries {
			if d.Rejected != nil {
				return nil // kept, and told of, whole
			}
			told.WriteString(string(Golden([]connector.Delivery{d})) + strings.Join(d.Units, " "))
			for _, r := range d.Content {
				data, _ := base64.StdEncoding.DecodeString(r.Text("data"))
				told.Write(data)
			}
			for _, i := range d.Issues {
				place, _ := gapOf(i.Expression)
				name, comp, part := strings.Cut(place, ".")
				if name, _, _ = strings.Cut(name, "("); name == fmt.Sprint(s.name, "-", n) {
					whole = whole || !part
					parts[comp] = true
				}
			}
		}
		for _, l := range a.Unread {
			told.WriteString("\n" + l.Place + " " + l.Text)
		}
		all := strings.ToUpper(told.String())
		for i, w := range words {
			if !whole && !parts[fmt.Sprint(i%comps+1)] && !strings.Contains(all, w) {
				lost = append(lost, w)
			}
		}
	}
	return lost
}
