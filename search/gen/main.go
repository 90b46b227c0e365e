// Command gen writes search/params.txt, the table of R4's search parameters, from the published definitions:
//
//	go run ./search/gen hl7.fhir.r4.core-4.0.1.tgz > search/params.txt
//
// The definitions are HL7's, given to the public domain (CC0). The table is made of them once, here, so that nothing of them is read at run time.
// What cannot be said in the table's notation is written to standard error with its reason, and stands in docs/conformance.md.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"tombolo/fhir/pack"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen hl7.fhir.r4.core-4.0.1.tgz > params.txt")
		os.Exit(2)
	}
	d, err := read(os.Args[1])
	if err == nil {
		err = d.write(os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

type parameter struct {
	URL, Code, Type, Expression string
	Base, Target                []string
	Component                   []struct{ Definition, Expression string }
}

type definitions struct {
	params   []parameter
	elements map[string]bool   // "Observation.value[x]"
	types    map[string]string // of elements that have but one
}

func read(file string) (*definitions, error) {
	d := &definitions{elements: map[string]bool{}, types: map[string]string{}}
	for f, err := range pack.Open(file) {
		if err != nil {
			return nil, err
		}
		switch f.Kind() {
		case "SearchParameter":
			var p parameter
			if err := json.NewDecoder(f.Content).Decode(&p); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			if !strings.HasSuffix(p.URL, "/example") && !strings.HasSuffix(p.URL, "/example-reference") {
				d.params = append(d.params, p)
			}
		case "StructureDefinition":
			var sd struct {
				Derivation string
				Snapshot   struct {
					Element []struct {
						Path string
						Type []struct{ Code string }
					}
				}
			}
			if err := json.NewDecoder(f.Content).Decode(&sd); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			if sd.Derivation == "constraint" {
				continue
			}
			for _, e := range sd.Snapshot.Element {
				d.elements[e.Path] = true
				if len(e.Type) == 1 && e.Type[0].Code != "BackboneElement" && e.Type[0].Code != "Element" {
					d.types[e.Path] = e.Type[0].Code
				}
			}
		}
	}
	return d, nil
}

// departures are where the table looks elsewhere than the published expression, and why.
var departures = map[string]string{
	"Consent.source-reference":   "sourceReference", // the Attachment that source[x] may be is no reference
	"RiskAssessment.probability": "prediction.probabilityDecimal",
	"Resource._id":               "id",
	"InsurancePlan.name":         "name|alias", // published without the type's name
	"InsurancePlan.phonetic":     "name|alias",
}

// composites whose published components name each other's elements.
var composites = map[string]string{"DocumentReference.relationship": "relatesTo;token:code;reference:target"}

const heading = `# The FHIR R4 search parameters, made by search/gen from HL7's published definitions (CC0): change that, not this.
# FHIR R4 searchparameter-registry.html
#
# A type stands alone on its line ("*" is every type). Below it each line is a kind and the parameters of that kind,
#   name            the element of the same name
#   name=path       an element, a.b.c; alternatives are joined with "|"
#   name=path>A,B   a reference to those types; without, to any
# and a path may say
#   a[x]            whichever type the choice has: effective[x] is effectiveDateTime, effectivePeriod …
#   a(k=v)          only those that have v at k, which is a path: telecom(system=phone)
#   a(first)        the first of a list
#   a(Patient)      only references to that type
#   a(some)         true if there is one and it is not false
# A composite is name=path;kind:path;kind:path, the parts being read inside the same element ("." is the resource itself; a part
# that begins with "^" is read in the resource).
`

func (d *definitions) write(out, notes io.Writer) error {
	kinds := map[string]string{} // of each definition, for composites
	bases := map[string][]parameter{}
	for _, p := range d.params {
		kinds[p.URL] = p.Type
		for _, b := range p.Base {
			bases[b] = append(bases[b], p)
		}
	}
	names := make([]string, 0, len(bases))
	for b := range bases {
		names = append(names, b)
	}
	slices.Sort(names)
	fmt.Fprint(out, heading)
	for _, base := range append([]string{"Resource"}, names...) {
		if base == "DomainResource" || // _text is done by the program
			base == "Resource" && len(bases[base]) == 0 {
			continue
		}
		lines := map[string][]string{}
		for _, p := range bases[base] {
			if base == "Resource" && !strings.HasPrefix(p.Code, "_") {
				continue // an example in the package
			}
			word, err := d.word(base, p, kinds)
			if err != nil {
				fmt.Fprintf(notes, "%s.%s: %v\n", base, p.Code, err)
				continue
			}
			lines[p.Type] = append(lines[p.Type], word)
		}
		bases[base] = nil
		if base == "Resource" {
			base = "*"
		}
		if len(lines) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", base)
		for _, kind := range []string{"token", "reference", "date", "string", "number", "quantity", "uri", "composite"} {
			if len(lines[kind]) > 0 {
				slices.Sort(lines[kind])
				fmt.Fprintf(out, "  %s %s\n", kind, strings.Join(slices.Compact(lines[kind]), " "))
			}
		}
	}
	return nil
}

// word is a parameter as the table writes it.
func (d *definitions) word(base string, p parameter, kinds map[string]string) (string, error) {
	if p.Expression == "" {
		return "", errors.New("has no expression: what it does is in the program, or is not done")
	}
	if p.Type == "special" {
		return "", errors.New("is special")
	}
	paths, err := d.paths(base, p.Expression, p.Type == "composite")
	if dep, ok := departures[base+"."+p.Code]; ok {
		paths, err = dep, nil
	}
	if err != nil {
		return "", err
	}
	if p.Type == "composite" {
		if c, ok := composites[base+"."+p.Code]; ok {
			return p.Code + "=" + c, nil
		}
		word := p.Code + "=" + paths
		at := base
		if first, _, _ := strings.Cut(paths, "|"); first != "." {
			at = base + "." + first
		}
		for _, c := range p.Component {
			outer, whole := strings.CutPrefix(c.Expression, "%resource.")
			from, mark := at, ""
			if whole {
				from, mark = base, "^"
			}
			sub, err := d.component(from, outer)
			if err != nil {
				return "", err
			}
			word += ";" + kinds[c.Definition] + ":" + mark + sub
		}
		return word, nil
	}
	if p.Code == "_id" {
		paths = "id"
	}
	targets := ""
	if p.Type == "reference" && len(p.Target) > 0 && !slices.Contains(p.Target, "Resource") && len(p.Target) < 100 {
		targets = ">" + strings.Join(p.Target, ",")
	}
	if paths == p.Code && targets == "" {
		return paths, nil
	}
	return p.Code + "=" + paths + targets, nil
}

var (
	asType    = regexp.MustCompile(`^\((.*) as (\w+)\)(.*)$`)
	asCall    = regexp.MustCompile(`\.(?:as|ofType)\((\w+)\)`)
	resolves  = regexp.MustCompile(`\.where\(resolve\(\) is (\w+)\)`)
	where     = regexp.MustCompile(`\.where\((\w+)='([\w-]+)'\)`)
	extended  = regexp.MustCompile(`\.where\(hasExtension\('([^']+)'\)\)`)
	extension = regexp.MustCompile(`\.extension\('([^']+)'\)`)
	plain     = regexp.MustCompile(`^[\w.\[\]]*$`)
	filter    = regexp.MustCompile(`\([^)]*\)`)
)

// paths writes an expression's alternatives for one base the way the table does.
func (d *definitions) paths(base, expression string, composite bool) (string, error) {
	var out []string
	for alt := range strings.SplitSeq(expression, "|") {
		alt = strings.TrimSpace(alt)
		if alt == "Patient.deceased.exists() and Patient.deceased != false" {
			out = append(out, "deceased[x](some)")
			continue
		}
		if alt == base && composite {
			out = append(out, ".")
			continue
		}
		alt = concrete(alt)
		rest, ok := strings.CutPrefix(alt, base+".")
		if !ok {
			continue
		}
		rest = extension.ReplaceAllString("."+rest, ".extension(url=$1).value[x]")[1:]
		if strings.Contains(filter.ReplaceAllString(rest, ""), "(") || !plain.MatchString(filter.ReplaceAllString(rest, "")) {
			return "", fmt.Errorf("%s is more than the table's notation says", alt)
		}
		rest, err := d.choices(base, rest)
		if err != nil {
			return "", err
		}
		out = append(out, rest)
	}
	if len(out) == 0 {
		return "", errors.New("its expression does not name this type")
	}
	return strings.Join(slices.Compact(out), "|"), nil
}

func concrete(alt string) string {
	alt = asType.ReplaceAllStringFunc(alt, func(s string) string {
		m := asType.FindStringSubmatch(s)
		return m[1] + upper(m[2]) + m[3]
	})
	alt = asCall.ReplaceAllStringFunc(alt, func(s string) string { return upper(asCall.FindStringSubmatch(s)[1]) })
	alt = extended.ReplaceAllString(strings.ReplaceAll(alt, "[0]", "(first)"), "(extension.url=$1)")
	return where.ReplaceAllString(resolves.ReplaceAllString(alt, "($1)"), "($1=$2)")
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (d *definitions) component(at, expression string) (string, error) {
	var out []string
	for alt := range strings.SplitSeq(expression, "|") {
		rest, err := d.choices(at, concrete(strings.TrimSpace(alt)))
		if err != nil {
			return "", err
		}
		out = append(out, rest)
	}
	return strings.Join(out, "|"), nil
}

// choices marks the steps of a path that are choices of type, and refuses one that R4 does not have.
func (d *definitions) choices(at, rest string) (string, error) {
	steps := strings.Split(rest, ".")
	if strings.Contains(rest, "(url=") || strings.Contains(rest, "(extension.url=") {
		return rest, nil
	}
	for i, st := range steps {
		name := filter.ReplaceAllString(st, "")
		if t := d.types[at]; t != "" {
			at = t
		}
		here := at + "." + name
		switch {
		case d.elements[here]:
		case d.elements[here+"[x]"]:
			steps[i] = strings.Replace(st, name, name+"[x]", 1)
			here += "[x]"
		case d.concreteForm(at, name):
		case i == 0:
			return "", fmt.Errorf("R4 has no element %s", here)
		default:
			return strings.Join(steps, "."), nil // inside a data type
		}
		at = here
	}
	return strings.Join(steps, "."), nil
}

// concreteForm reports whether a member is one form of a choice: valueQuantity is of value[x].
func (d *definitions) concreteForm(at, member string) bool {
	for i := len(member) - 1; i > 0; i-- {
		if d.elements[at+"."+member[:i]+"[x]"] {
			return true
		}
	}
	return false
}
