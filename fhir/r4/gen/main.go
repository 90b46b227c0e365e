// Command gen writes fhir/r4/table.txt, what R4 says of its resources and data types, and fhir/profile/rules.txt, its invariants, from the published definitions:
//
//	go run ./fhir/r4/gen hl7.fhir.r4.core-4.0.1.tgz > fhir/r4/table.txt
//	go run ./fhir/r4/gen hl7.fhir.r4.core-4.0.1.tgz rules > fhir/profile/rules.txt
//
// The definitions are HL7's, given to the public domain (CC0). The table holds names, cardinalities, types and codes: nothing of the descriptions. The
// invariants have their sentence for people.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"tombolo/fhir/pack"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 || len(os.Args) == 3 && os.Args[2] != "rules" {
		fmt.Fprintln(os.Stderr, "usage: gen hl7.fhir.r4.core-4.0.1.tgz > table.txt; gen hl7.fhir.r4.core-4.0.1.tgz rules > rules.txt")
		os.Exit(2)
	}
	d, err := read(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
	if len(os.Args) == 3 {
		d.writeRules(os.Stdout)
		return
	}
	d.write(os.Stdout)
}

type structure struct {
	Name, Kind, Type, Derivation string
	Abstract                     bool
	Snapshot                     struct{ Element []element }
}

type element struct {
	Path, Max        string
	Min              int
	ContentReference string
	IsSummary        bool
	IsModifier       bool
	Type             []struct {
		Code          string
		TargetProfile []string
	}
	Binding    *struct{ Strength, ValueSet string }
	Constraint []struct{ Key, Severity, Human, Expression string }
}

type concept struct {
	Code    string
	Concept []concept
}

type include struct {
	System   string
	Concept  []concept
	Filter   []any
	ValueSet []string
}

type valueSet struct {
	URL     string
	Compose struct{ Include, Exclude []include }
}

type codeSystem struct {
	URL, Content string
	Concept      []concept
}

type definitions struct {
	structures []structure
	sets       map[string]valueSet
	systems    map[string]codeSystem
}

func read(file string) (*definitions, error) {
	d := &definitions{sets: map[string]valueSet{}, systems: map[string]codeSystem{}}
	for f, err := range pack.Open(file) {
		if err != nil {
			return nil, err
		}
		dec := json.NewDecoder(f.Content)
		switch f.Kind() {
		case "StructureDefinition":
			var s structure
			if err = dec.Decode(&s); err == nil && s.Derivation != "constraint" {
				d.structures = append(d.structures, s)
			}
		case "ValueSet":
			var v valueSet
			err = dec.Decode(&v)
			d.sets[v.URL] = v
		case "CodeSystem":
			var c codeSystem
			err = dec.Decode(&c)
			d.systems[c.URL] = c
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return d, nil
}

const heading = `# FHIR R4's resources and data types, made by fhir/r4/gen from HL7's published definitions (CC0): change that, not this.
#
#   R Patient                    a resource; D a data type
#   name 0..* HumanName S        an element, its cardinality and types; S: in the summary, M: a modifier
#   contact 0..* .               with elements of its own, contact.name; #path: with the elements of that one
#   gender 0..1 code S =name     a code that must be of the list V name
#   subject 0..1 Reference >A,B  a reference to an A or a B; to anything if it does not say
`

func (d *definitions) write(w io.Writer) {
	fmt.Fprint(w, heading)
	used := map[string]string{}
	slices.SortFunc(d.structures, func(a, b structure) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range d.structures {
		letter := map[string]string{"resource": "R", "complex-type": "D"}[s.Kind]
		if letter == "" || s.Abstract && s.Type != "Element" && s.Type != "BackboneElement" || len(s.Snapshot.Element) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s %s\n", letter, s.Type)
		for _, e := range s.Snapshot.Element[1:] {
			d.element(w, s, e, used)
		}
	}
	names := make([]string, 0, len(used))
	for n := range used {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(w, "\nV %s %s", n, used[n])
	}
	fmt.Fprintln(w)
}

func (d *definitions) element(w io.Writer, s structure, e element, used map[string]string) {
	if e.Max == "0" {
		return
	}
	rest := strings.TrimPrefix(e.Path, s.Type+".")
	var types []string
	for _, t := range e.Type {
		code := strings.TrimPrefix(t.Code, "http://hl7.org/fhirpath/System.")
		if code == "String" { // of ids and of extensions' urls
			code = "string"
		}
		if !slices.Contains(types, code) {
			types = append(types, code)
		}
	}
	what := strings.Join(types, "|")
	switch {
	case e.ContentReference != "":
		what = strings.Replace(e.ContentReference, "#"+s.Type+".", "#", 1)
	case what == "BackboneElement" || what == "Element":
		what = "."
	case len(types) > 20:
		what = "*"
	}
	max := "*"
	if e.Max == "1" {
		max = "1"
	}
	line := fmt.Sprintf("%s %d..%s %s", rest, e.Min, max, what)
	flags := ""
	if e.IsSummary {
		flags = "S"
	}
	if e.IsModifier {
		flags += "M"
	}
	if flags != "" {
		line += " " + flags
	}
	if targets := e.targets(); len(targets) > 0 {
		line += " >" + strings.Join(targets, ",")
	}
	if e.Binding != nil && e.Binding.Strength == "required" && what == "code" {
		url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
		name := path.Base(url)
		if codes := d.codes(url); len(codes) > 0 && len(codes) <= 400 {
			used[name] = strings.Join(codes, " ")
			line += " =" + name
		}
	}
	fmt.Fprintln(w, line)
}

// targets are the types that a reference may point at; none if it may be any.
func (e element) targets() []string {
	var out []string
	for _, t := range e.Type {
		for _, url := range t.TargetProfile {
			name := path.Base(url)
			if t.Code != "Reference" {
				continue
			}
			if name == "Resource" {
				return nil
			}
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// codes are all codes of a value set, none if they cannot be listed from the definitions alone.
func (d *definitions) codes(url string) []string {
	v, ok := d.sets[url]
	if !ok || len(v.Compose.Exclude) > 0 {
		return nil
	}
	var out []string
	for _, in := range v.Compose.Include {
		switch {
		case len(in.Filter) > 0:
			return nil
		case len(in.ValueSet) > 0:
			for _, other := range in.ValueSet {
				url, _, _ := strings.Cut(other, "|")
				more := d.codes(url)
				if len(more) == 0 {
					return nil
				}
				out = append(out, more...)
			}
		case len(in.Concept) > 0:
			out = flatten(out, in.Concept)
		default:
			c, ok := d.systems[in.System]
			if !ok || c.Content != "complete" || len(c.Concept) == 0 {
				return nil
			}
			out = flatten(out, c.Concept)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if slices.ContainsFunc(out, func(c string) bool { return strings.ContainsAny(c, " \t") }) {
		return nil
	}
	return out
}

func flatten(out []string, list []concept) []string {
	for _, c := range list {
		out = flatten(append(out, c.Code), c.Concept)
	}
	return out
}
