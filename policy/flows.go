package policy

import (
	"fmt"
	"io"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/region"
)

// WriteFlows writes the data flows of a region as a data protection impact assessment wants them: each flow once, from the file that runs.
// It is Markdown; times are those of the day given.
func WriteFlows(w io.Writer, r *region.Region, at time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Data flows of %s\n\nMade from the region file as it stands on %s", r.Name, at.Format("2 January 2006"))
	if r.Policy.Version != "" {
		fmt.Fprintf(&b, ", version %s, for which %s answers", cellText(r.Policy.Version), cellText(r.Policy.Author))
	}
	b.WriteString(". Lawful bases are as the agreements give them.\n\n## Into the record\n\n| from (controller) | system | personal data | how it comes | kept here | labels on all of it | shared with |\n|---|---|---|---|---|---|---|\n")
	for _, s := range r.Systems {
		var pushed, live []string
		for _, h := range headingsOf(s) {
			if s.Gives[h].Asked() {
				live = append(live, string(h))
			}
			if s.Gives[h].Sends() {
				pushed = append(pushed, string(h))
			}
		}
		for _, part := range []struct {
			headings  []string
			how, kept string
		}{{pushed, "sent by " + s.Connector, "yes, with every version"}, {live, "asked by " + s.Connector + " when somebody looks", "no; what was shown is kept with the audit log"}} {
			if len(part.headings) > 0 {
				row(&b, name(r, s.Organisation), s.ID, strings.Join(part.headings, ", "), part.how, part.kept, strings.Join(s.Labels, ", "), released(s.Release))
			}
		}
	}
	writeStages(&b, r, at)
	b.WriteString("\n## Between organisations\n\n| agreement | between | what for | personal data | who | basis | in force |\n|---|---|---|---|---|---|---|\n")
	for _, a := range r.Agreements {
		headings := "all headings"
		if !a.AllHeadings {
			headings = list(a.Headings)
		}
		parties := make([]string, len(a.Parties))
		for i, p := range a.Parties {
			parties[i] = name(r, p)
		}
		who := "every role that may"
		if len(a.Roles) > 0 {
			who = strings.Join(a.Roles, ", ")
		}
		row(&b, a.ID, strings.Join(parties, "; "), each("purpose", a.Purposes, named(nil)), headings, who, orDash(a.Basis), inForce(a, at))
	}
	b.WriteString("\n## Out of the node\n\nBeside whoever opens a record on its pages under an agreement.\n\n| to | what | how |\n|---|---|---|\n")
	flows := outFlows(r)
	for _, f := range flows {
		row(&b, f.to, f.what, f.how)
	}
	if len(flows) == 0 {
		row(&b, "nobody", "–", "–")
	}
	b.WriteString("\n## Kept apart\n\n| what | done with it |\n|---|---|\n")
	for _, set := range region.SensitiveSets {
		way := orID(r.Policy.Sensitive[set], "restrict")
		if Statutory(set) {
			way = "withheld by statute, whatever is written"
		}
		row(&b, set, way)
	}
	for _, said := range []struct {
		what string
		ids  []string
	}{{"who acts for a person (a parent, a carer, an attorney)", r.Policy.Proxies}, {"what a person permits of what others hold", r.Policy.Permissions}} {
		if len(said.ids) == 0 {
			row(&b, said.what, "believed of nobody")
			continue
		}
		row(&b, said.what, "believed of "+strings.Join(said.ids, ", ")+" alone")
	}
	use := "not used for research or planning: no answer of the National Data Opt-Out check is given"
	if r.Policy.OptOuts != "" {
		use = "used for research and planning only where the National Data Opt-Out check allows it"
	}
	row(&b, "everything", use)
	_, err := io.WriteString(w, b.String())
	return err
}

func row(b *strings.Builder, cells ...string) {
	for _, c := range cells {
		b.WriteString("| " + cellText(orDash(c)) + " ")
	}
	b.WriteString("|\n")
}

// cellText keeps a cell on its line and in its column.
func cellText(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ").Replace(s)
}

func orDash(s string) string { return orID(s, "–") }

func orID(s, id string) string {
	if s == "" {
		return id
	}
	return s
}

func name(r *region.Region, ods string) string {
	if o, ok := r.Organisation(ods); ok {
		return o.Name + " (" + ods + ")"
	}
	return ods
}

func released(r region.Release) string {
	if len(r.Stages) > 0 {
		return "in stages, by unit and heading: see below"
	}
	switch {
	case r.Off:
		return "nobody: switched off"
	case r.Testers:
		return "testers"
	case r.All:
		return "whoever an agreement names"
	}
	return "users of " + strings.Join(r.ODS, ", ")
}

func inForce(a region.Agreement, at time.Time) string {
	span := "since " + a.From.Format(time.DateOnly)
	if !a.Until.IsZero() {
		span = a.From.Format(time.DateOnly) + " to " + a.Until.AddDate(0, 0, -1).Format(time.DateOnly)
	}
	switch {
	case at.Before(a.From):
		return "not yet: " + span
	case !a.Until.IsZero() && !at.Before(a.Until):
		return "over: " + span
	}
	return span
}

// headingsOf are the headings that a system gives, in display order.
func headingsOf(s region.System) []dataset.Heading {
	var out []dataset.Heading
	for _, info := range dataset.All {
		if _, ok := s.Gives[info.Heading]; ok {
			out = append(out, info.Heading)
		}
	}
	return out
}

// writeStages writes how far the release of each system that goes by stages has come.
func writeStages(b *strings.Builder, r *region.Region, at time.Time) {
	begun := false
	for _, l := range StageLines(r, at) {
		if sys, _ := r.System(l.System); len(sys.Release.Stages) == 0 {
			continue
		}
		if !begun {
			b.WriteString("\n## Released in stages\n\n| system | units | headings | released to | testers | since | state | clinical-safety sign-off |\n|---|---|---|---|---|---|---|---|\n")
			begun = true
		}
		row(b, l.System, orID(strings.Join(l.Units, ", "), "every unit"), orID(list(l.Headings), "all headings"), l.To, l.Testers, l.From.Format(time.DateOnly), l.State, l.Signed)
	}
}
