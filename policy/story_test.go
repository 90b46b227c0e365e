package policy

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
)

// The files in testdata are for people who answer for confidentiality to read: "given" lines set facts, "expect" lines
// say what must come out. Facts last until the next blank line. docs/policy-stories.md tells what may be given.
func TestPolicyFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.policy")
	if len(files) == 0 {
		t.Fatal("no policy files")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".policy"), func(t *testing.T) { runFile(t, file) })
	}
}

// What may be given is told to those who read and write the stories.
func TestTheWordsOfTheStoriesAreExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/policy-stories.md")
	if err != nil {
		t.Fatal(err)
	}
	for word := range givens {
		if text := string(page); !strings.Contains(text, "`"+word+"`") && !strings.Contains(text, "`"+word+"=`") {
			t.Errorf("docs/policy-stories.md does not say what %q means", word)
		}
	}
}

func runFile(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	var facts Facts
	n, expects := 0, 0
	for sc.Scan() {
		n++
		line := strings.TrimSpace(sc.Text())
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "":
			facts = Facts{}
		case strings.HasPrefix(line, "#"):
		case verb == "given":
			if err := give(&facts, rest); err != nil {
				t.Fatalf("%s:%d: %v", file, n, err)
			}
		case verb == "expect":
			expects++
			got := say(Decide(facts))
			if !slices.Equal(strings.Fields(got), strings.Fields(rest)) {
				t.Errorf("%s:%d: got %q, want %q", file, n, got, rest)
			}
		default:
			t.Fatalf("%s:%d: what is %q?", file, n, verb)
		}
	}
	if expects == 0 {
		t.Fatalf("%s expects nothing", file)
	}
}

func give(f *Facts, words string) error {
	if f.At.IsZero() {
		f.At = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		f.Believed = Believed{Proxies: []string{register}, Permissions: []string{register}}
	}
	for word := range strings.FieldsSeq(words) {
		k, v, _ := strings.Cut(word, "=")
		set, ok := givens[k]
		if !ok {
			return fmt.Errorf("what is %q?", k)
		}
		if err := set(f, v); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

// register is the system that tells of what a story does not say who told of; its word counts.
const register = "register"

func date(v string) (time.Time, error) { return time.Parse("2006-01-02", v) }

// givens are the words of the stories.
var givens = map[string]func(f *Facts, v string) error{
	"role":         func(f *Facts, v string) error { f.Subject.Role = Role(v); return nil },
	"of":           func(f *Facts, v string) error { f.Subject.Organisation = v; return nil },
	"part-of":      func(f *Facts, v string) error { f.Subject.Above = strings.Split(v, ","); return nil },
	"activities":   func(f *Facts, v string) error { f.Subject.Activities = strings.Split(v, ","); return nil },
	"called":       func(f *Facts, v string) error { f.Subject.Names = append(f.Subject.Names, v); return nil },
	"purpose":      func(f *Facts, v string) error { f.Purpose = Purpose(v); return nil },
	"relationship": func(f *Facts, v string) error { f.Relationships = append(f.Relationships, Relationship(v)); return nil },
	"channel":      func(f *Facts, v string) error { f.Channel = Channel(v); return nil },
	"restricted":   func(f *Facts, _ string) error { f.Person.Restricted = true; return nil },
	"dissent":      func(f *Facts, _ string) error { f.Person.Dissent = true; return nil },
	"no-scr":       func(f *Facts, _ string) error { f.Person.NoSCR = true; return nil },
	"type-1":       func(f *Facts, _ string) error { f.Person.TypeOne = true; return nil },
	"capable":      func(f *Facts, _ string) error { f.Person.Capable = true; return nil },
	"opt-out": func(f *Facts, v string) error {
		f.Person.OptOut = map[string]OptOut{"yes": OptedOut, "no": MayBeUsed, "not-asked": NotConsulted}[v]
		return nil
	},
	"objects": func(f *Facts, _ string) error { return choose(f, "deny") },
	"choice":  choose,
	"born":    func(f *Facts, v string) (err error) { f.Person.Born, err = date(v); return },
	"proxy": func(f *Facts, v string) error { // basis:from..until, :told-by=
		v, by, ok := strings.Cut(v, ":told-by=")
		if !ok {
			by = register
		}
		basis, span, _ := strings.Cut(v, ":")
		f.Relationships = append(f.Relationships, Proxy)
		x := Proxyhood{Source: by, Basis: Basis(basis), Validated: true}
		from, until, _ := strings.Cut(span, "..")
		x.From, _ = date(from)
		x.Until, _ = date(until)
		f.Person.Proxies = append(f.Person.Proxies, x)
		return nil
	},
	"believed": func(f *Facts, v string) error { // whose word counts, instead of the register's
		f.Believed = Believed{Proxies: strings.Split(v, ","), Permissions: strings.Split(v, ",")}
		return nil
	},
	"break-glass": func(f *Facts, v string) error { // words; an access alert in an emergency
		f.Glass = &Glass{Type: AccessAlert, Reason: EmergencyReason, Words: v, From: f.At, Until: f.At.Add(MaxGlass)}
		return nil
	},
	"alert": func(f *Facts, v string) error { // type/reason
		t, r, _ := strings.Cut(v, "/")
		f.Glass = &Glass{Type: AlertType(t), Reason: AlertReason(r), Words: "as the story says", From: f.At, Until: f.At.Add(MaxGlass)}
		return nil
	},
	"opened": func(f *Facts, v string) error { // the headings that the glass was broken for
		for h := range strings.SplitSeq(v, ",") {
			f.Glass.Headings = append(f.Glass.Headings, dataset.Heading(h))
		}
		return nil
	},
	"minutes": func(f *Facts, v string) error { // later
		d, err := time.ParseDuration(v + "m")
		f.At = f.At.Add(d)
		return err
	},
	"source": func(f *Facts, v string) error {
		f.Source = &Source{System: v + "-x", Organisation: v, Release: region.Release{All: true}}
		return nil
	},
	"source-part-of": func(f *Facts, v string) error { f.Source.Above = strings.Split(v, ","); return nil },
	"kind":           func(f *Facts, v string) error { f.Source.Kind = region.Kind(v); return nil },
	"summary":        func(f *Facts, _ string) error { f.Source.Summary = true; return nil },
	"source-label":   func(f *Facts, v string) error { f.Source.Labels |= Label("", v); return nil },
	"release": func(f *Facts, v string) error {
		f.Source.Release = region.Release{Off: v == "off", Testers: v == "testers"}
		if v != "off" && v != "testers" {
			f.Source.Release.ODS = strings.Split(v, ",")
		}
		return nil
	},
	"heading": func(f *Facts, v string) error { f.Heading = dataset.Heading(v); return nil },
	"label":   func(f *Facts, v string) error { item(f).Labels |= Label("", v); return nil },
	"type":    func(f *Facts, v string) error { item(f).Type = v; return nil },
	"author":  func(f *Facts, v string) error { item(f).Authors = append(f.Item.Authors, v); return nil },
	"at-encounter": func(f *Facts, v string) error {
		item(f).Refs = append(f.Item.Refs, "Encounter/"+v)
		return nil
	},
	"dated": func(f *Facts, v string) (err error) { item(f).When, err = fhir.ParseDate(v); return },
	"at":    func(f *Facts, v string) (err error) { f.At, err = date(v); return },
	"read": func(f *Facts, v string) error { // how many seconds ago the agreements were last confirmed
		d, err := time.ParseDuration(v + "s")
		f.Data.Read = f.At.Add(-d)
		return err
	},
	"agreement": func(f *Facts, v string) error { // id:parties:purposes:headings:from..until:roles
		p := append(strings.Split(v, ":"), "")
		a := region.Agreement{ID: p[0], Parties: strings.Split(p[1], ","), Purposes: strings.Split(p[2], ","), AllHeadings: p[3] == "all"}
		if !a.AllHeadings {
			for h := range strings.SplitSeq(p[3], ",") {
				a.Headings = append(a.Headings, dataset.Heading(h))
			}
		}
		from, until, _ := strings.Cut(p[4], "..")
		a.From, _ = date(from)
		a.Until, _ = date(until)
		if p[5] != "" {
			a.Roles = strings.Split(p[5], ",")
		}
		f.Agreements = append(f.Agreements, a)
		return nil
	},
}

func item(f *Facts) *Item {
	if f.Item == nil {
		f.Item = &Item{}
	}
	return f.Item
}

// choose reads a choice: "deny", "permit", or with what it is about: "deny:to=RW4", "deny:from=RX1:heading=results", "permit:purpose=TREAT:label=N".
func choose(f *Facts, v string) error {
	parts := strings.Split(v, ":")
	p, c := Provision{Permit: parts[0] == "permit"}, Choice{ID: v, Source: register}
	for _, part := range parts[1:] {
		k, val, _ := strings.Cut(part, "=")
		var err error
		switch k {
		case "to":
			p.Recipients = append(p.Recipients, orName(val))
		case "from":
			p.Holders = append(p.Holders, orName(val))
		case "heading":
			p.Headings = append(p.Headings, dataset.Heading(val))
		case "purpose":
			p.Purposes = append(p.Purposes, val)
		case "label":
			p.Labels |= Label("", val)
		case "author":
			p.Data = append(p.Data, Datum{"authoredby", val})
		case "encounter":
			p.Data = append(p.Data, Datum{"related", "Encounter/" + val})
		case "kind":
			p.Types = append(p.Types, val)
		case "guardian": // somebody else's for the person, on a day
			c.ByOther = true
			c.Made, err = date(val)
		case "told-by":
			c.Source = val
		case "until":
			p.Until, err = date(val)
		case "written-since":
			p.DataFrom, err = date(val)
		default:
			return fmt.Errorf("what is %q?", k)
		}
		if err != nil {
			return err
		}
	}
	c.Root = p
	f.Person.Choices = append(f.Person.Choices, c)
	return nil
}

func orName(v string) string {
	if strings.Contains(v, "/") {
		return v
	}
	return fhir.SystemODS + "|" + v
}

func say(d Decision) string {
	words := []string{"refuse"}
	if d.Permit {
		words[0] = "permit"
	}
	for _, r := range d.Reasons {
		words = append(words, r.Code)
	}
	for _, o := range d.Obligations {
		words = append(words, "+"+string(o))
	}
	return strings.Join(words, " ")
}
