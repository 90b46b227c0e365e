package node

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// columns is how wide a line of what is told at a terminal may become.
const columns = 100

// folded breaks a text between words into lines that begin with indent, those after the first with four blanks more.
func folded(indent, text string) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len([]rune(line))+len([]rune(word)) >= columns && strings.TrimSpace(line) != "" {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent + "    "
		}
		line += word + " "
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}

// Words are an explanation for somebody at a terminal: who may see it on a line of its own, below it what, and why.
func (e *Explanation) Words(ask ExplainAsk) string {
	var b strings.Builder
	chosen := map[int]string{0: "the person had made no choice about sharing", 1: "one choice of the person's stood"}[e.Choices]
	if chosen == "" {
		chosen = fmt.Sprintf("%d choices of the person's stood", e.Choices)
	}
	b.WriteString(folded("", fmt.Sprintf("On %s, %s. Decided by rules %s and agreements %s.", ask.On.In(fhir.London).Format("2 January 2006"), chosen, policy.Version, e.Agreed)))
	if e.Opening != nil {
		may := "could not open the record"
		if e.Opening.Permit {
			may = "could open the record"
		}
		b.WriteString(folded("", fmt.Sprintf("%s %s: %s.", ask.User, may, because(*e.Opening))))
	}
	last := ""
	for _, g := range together(e.Rows) {
		if !g.Decision.Permit && ask.User == "" && !ask.Refused {
			continue
		}
		if who := g.who + " of " + organisation(e.Region, g.Organisation); who != last {
			b.WriteString("\n" + folded("", who))
			last = who
		}
		b.WriteString(folded("  ", g.headings+", held by "+holder(e.Region, g.System)+madeBy(g.Unit)))
		b.WriteString(folded("    ", inWords(g.Decision)))
	}
	if last == "" {
		b.WriteString("Nobody could see anything of it.\n")
	}
	b.WriteString("\n")
	for _, u := range e.Unheeded {
		b.WriteString(folded("", "Not heeded: "+u+"."))
	}
	for _, u := range e.Unsure {
		b.WriteString(folded("", "Not known: "+u+"."))
	}
	return b.String()
}

// A group is rows that were decided alike, on one line.
type group struct {
	Explained
	who, headings string
}

// together puts headings, and then roles, of which the same is said on one line.
func together(rows []Explained) []group {
	type key struct{ who, org, system, unit, said string }
	var order []key
	first := map[key]Explained{}
	headings := map[key][]string{}
	for _, r := range rows {
		info, _ := r.Role.Info()
		who := info.Name
		if r.Who != "" {
			who = r.Who
		}
		k := key{who, r.Organisation, r.System, r.Unit, inWords(r.Decision)}
		if _, ok := first[k]; !ok {
			first[k] = r
			order = append(order, k)
		}
		headings[k] = append(headings[k], r.Heading.Title())
	}
	var out []group
	at := map[string]int{}
	for _, k := range order {
		hs := strings.Join(headings[k], ", ")
		same := strings.Join([]string{k.org, k.system, k.unit, k.said, hs}, "\x00")
		if i, ok := at[same]; ok {
			out[i].who += ", " + k.who
			continue
		}
		at[same] = len(out)
		out = append(out, group{first[k], k.who, hs})
	}
	slices.SortStableFunc(out, func(a, b group) int { return strings.Compare(a.Organisation, b.Organisation) })
	return out
}

// organisation is one as people know it, with its code.
func organisation(r *region.Region, ods string) string {
	if o, ok := r.Organisation(ods); ok {
		return o.Name + " (" + ods + ")"
	}
	return ods
}

// holder is who holds what a system gives, with the system's id.
func holder(r *region.Region, id string) string {
	s, ok := r.System(id)
	if o, known := r.Organisation(s.Organisation); ok && known {
		return o.Name + " (" + id + ")"
	}
	return id
}

// madeBy is which unit made it, where that decides.
func madeBy(unit string) string {
	if unit == "" {
		return ""
	}
	return ", made by " + unit
}

func inWords(d policy.Decision) string {
	if d.Permit {
		return "permitted: " + because(d)
	}
	return "refused: " + because(d)
}

// because are a decision's reasons, and what had to be done with it.
func because(d policy.Decision) string {
	var words []string
	for _, r := range d.Reasons {
		words = append(words, r.Text)
	}
	for _, o := range d.Obligations {
		words = append(words, o.Words())
	}
	return strings.Join(words, "; ")
}
