package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const rulesHeading = `# FHIR R4's invariants, made by fhir/r4/gen from HL7's published definitions (CC0): change that, not this.
#
#   path, key, E(rror) or W(arning), what it says, FHIRPath; with tabs between
#
# Where the published expression does not say what its sentence says, gen mends it, and says why.
`

// mended are invariants whose published expression contradicts their own sentence, mostly because what is empty is not true. R5 and R4's errata
// have mended most of them alike.
var mended = map[string]string{
	// of dates that say less than the other (2026-03 to 2026-03-31), neither is later. R5 per-1
	"per-1":      "start.hasValue().not() or end.hasValue().not() or (start.lowBoundary() <= end.highBoundary())",
	"mdd-1":      "whenHandedOver.empty() or whenPrepared.empty() or whenHandedOver.highBoundary() >= whenPrepared.lowBoundary()",
	"Task inv-1": "lastModified.exists().not() or authoredOn.exists().not() or lastModified.highBoundary() >= authoredOn.lowBoundary()",
	// a reference may have an identifier only, and '#' is the containing resource. R4B ref-1
	"ref-1": "reference.exists() implies (reference = '#' or reference.startsWith('#').not() or (reference.substring(1) in %rootResource.contained.id))",
	// an entry may lack a fullUrl
	"bdl-8": "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
	// as() is of one item; and where the resource is not contained by itself
	"dom-3": "contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().ofType(canonical) | %resource.descendants().ofType(uri) | %resource.descendants().ofType(url))) or descendants().where(reference = '#').exists() or descendants().ofType(canonical).where($this = '#').exists()).not()).empty()",
	// the answer is a FHIR boolean
	"que-7": "operator = 'exists' implies (answer is boolean)",
	// what repeats has a code to tell versions apart, if there are several
	"rng-2": "low.empty() or high.empty() or (low <= high).empty() or (low <= high)",
}

func (d *definitions) writeRules(w io.Writer) {
	fmt.Fprint(w, rulesHeading)
	slices.SortFunc(d.structures, func(a, b structure) int { return strings.Compare(a.Name, b.Name) })
	seen := map[string]bool{}
	for _, s := range d.structures {
		if s.Kind != "resource" && s.Kind != "complex-type" {
			continue
		}
		for _, e := range s.Snapshot.Element {
			for _, c := range e.Constraint {
				path := e.Path
				switch {
				case c.Key == "ele-1" || c.Key == "txt-2": // an element without anything is refused as such; txt-2 is txt-1
					continue
				case c.Key == "ext-1":
					path = "Extension"
				case strings.HasPrefix(c.Key, "dom-"):
					path = "DomainResource"
				case s.Abstract:
					continue
				}
				if seen[path+c.Key] || c.Expression == "" {
					continue
				}
				seen[path+c.Key] = true
				expression := c.Expression
				if strings.HasSuffix(c.Key, "-0") && strings.HasPrefix(expression, "name.matches(") { // a name may be missing
					expression = "name.exists() implies " + expression
				}
				for _, k := range []string{c.Key, path + " " + c.Key} {
					if m, ok := mended[k]; ok {
						expression = m
					}
				}
				expression = strings.NewReplacer(".trace('url')", "", ".trace('ids')", "", ".trace('type')", "", ".trace('item')", "", ".trace('unmatched', id)", "").Replace(expression)
				fmt.Fprintln(w, strings.Join([]string{strings.ReplaceAll(path, "[x]", ""), c.Key, strings.ToUpper(c.Severity[:1]), plain(c.Human), plain(expression)}, "\t"))
			}
		}
	}
}

func plain(s string) string { return strings.Join(strings.Fields(s), " ") }
