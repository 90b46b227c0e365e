package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/region"
)

// A term is one line of what has been agreed: as it is compared and kept, and as people read it.
type term struct{ raw, words string }

// terms are what of a region file decides, line by line.
func terms(r *region.Region) []term {
	say := named([]*region.Region{r})
	var out []term
	add := func(words, raw string, args ...any) { out = append(out, term{fmt.Sprintf(raw, args...), words}) }
	for _, o := range r.Organisations {
		part := ""
		if o.PartOf != "" {
			part = ", part of " + say("organisation", o.PartOf)
		}
		add(fmt.Sprintf("organisation %s: %s%s", say("organisation", o.ODS), o.Kind, part), "organisation %s %s part of %q", o.ODS, o.Kind, o.PartOf)
		if o.SucceededBy != "" {
			add(fmt.Sprintf("organisation %s: succeeded by %s", say("organisation", o.ODS), say("organisation", o.SucceededBy)), "organisation %s succeeded by %s", o.ODS, o.SucceededBy)
		}
	}
	for i := range r.Systems {
		s := &r.Systems[i]
		words := fmt.Sprintf("system %s, held by %s: %s", say("system", s.ID), say("organisation", s.Organisation), releaseWords(&s.Release, say))
		if len(s.Labels) > 0 {
			words += "; all that it gives is marked " + strings.Join(s.Labels, ", ")
		}
		if s.Options["summary-care-record"] == "yes" {
			words += "; it is the Summary Care Record"
		}
		add(words, "system %s of %s release %s labels %v summary %q", s.ID, s.Organisation, releaseText(&s.Release), s.Labels, s.Options["summary-care-record"])
		for j, line := range strings.Split(strings.TrimSuffix(stageTexts(s), "\n"), "\n") {
			if line != "" {
				add(stageWords(s, &s.Release.Stages[j], say), "%s", line)
			}
		}
	}
	for i := range r.Agreements {
		out = append(out, agreementTerm(&r.Agreements[i], say))
	}
	for _, u := range r.Users {
		if len(u.Workgroups) > 0 {
			add(fmt.Sprintf("user %s (%s): in the workgroups %s", u.Name, u.ID, strings.Join(u.Workgroups, ", ")), "user %s workgroups %v", u.ID, u.Workgroups)
		}
	}
	for _, id := range r.Policy.Proxies {
		add(fmt.Sprintf("believed on who acts for a person: %s", say("system", id)), "proxies %s", id)
	}
	for _, id := range r.Policy.Permissions {
		add(fmt.Sprintf("believed on what a person permits of what others hold: %s", say("system", id)), "permissions %s", id)
	}
	ways := map[string]string{"restrict": "for clinicians only", "withhold": "for nobody", "show": "for everybody, as anything else is"}
	for _, set := range region.SensitiveSets {
		if way := r.Policy.Sensitive[set]; way != "" {
			add(fmt.Sprintf("sensitive: %s, %s", set, ways[way]), "sensitive %s %s", set, way)
		}
	}
	return out
}

func agreementTerm(a *region.Agreement, say func(kind, code string) string) term {
	headings, said := "all", "all headings"
	if !a.AllHeadings {
		headings, said = list(a.Headings), each("heading", a.Headings, say)
	}
	until, ends := "", ""
	if !a.Until.IsZero() {
		until = " until before " + a.Until.Format(time.DateOnly)
		ends = ", until before " + a.Until.Format("2 January 2006")
	}
	if len(a.Roles) > 0 {
		until += " for " + strings.Join(a.Roles, ", ") + " only"
		ends += "; for users who are " + each("role", a.Roles, say) + " only"
	}
	basis := ""
	if a.Basis != "" {
		basis = "; on the basis of " + a.Basis
	}
	return term{
		fmt.Sprintf("agreement %s: between %s; for %s; headings %s; basis %q; from %s%s", a.ID, strings.Join(a.Parties, ", "), strings.Join(a.Purposes, ", "), headings, a.Basis, a.From.Format(time.DateOnly), until),
		fmt.Sprintf("agreement %s: between %s; for %s; %s%s; from %s%s", a.ID, each("organisation", a.Parties, say), each("purpose", a.Purposes, say), said, basis, a.From.Format("2 January 2006"), ends)}
}

// releaseWords is a release as people read it.
func releaseWords(r *region.Release, say func(kind, code string) string) string {
	switch {
	case len(r.Stages) > 0:
		return "released in stages"
	case r.All:
		return "released to all"
	case len(r.ODS) > 0:
		return "released to " + each("organisation", r.ODS, say)
	case r.Testers:
		return "released to testers"
	}
	return "switched off"
}

// stageWords is a stage of a release as people read it.
func stageWords(s *region.System, st *region.Stage, say func(kind, code string) string) string {
	units, headings, to := "all that it gives", "under all headings", "nobody"
	if len(st.Units) > 0 {
		units = "what " + strings.Join(st.Units, ", ") + " made"
	}
	if len(st.Headings) > 0 {
		headings = "under " + each("heading", st.Headings, say)
	}
	switch {
	case st.Testers:
		to = "testers"
	case st.All:
		to = "all"
	case len(st.ODS) > 0:
		to = "users of " + each("organisation", st.ODS, say)
	}
	out := fmt.Sprintf("release of %s: %s, %s, to %s", say("system", s.ID), units, headings, to)
	if !st.From.IsZero() {
		out += " from " + st.From.Format("2 January 2006")
	}
	if len(st.Users)+len(st.Roles) > 0 {
		out += "; testers: " + strings.Join(append(slices.Clone(st.Users), each("role", st.Roles, say)), ", ")
	}
	if text := signed(st.SignOff); text != "" {
		out += "; signed off by " + text
	}
	return out
}

// Agreed is what of a region file decides: two files that agree in it decide alike. Version, author and reason are not of it.
func Agreed(r *region.Region) string {
	var b strings.Builder
	for _, t := range terms(r) {
		b.WriteString(t.raw + "\n")
	}
	return b.String()
}

// Diff is the lines of Agreed that two files differ in, with - and + before them.
func Diff(was, is *region.Region) []string {
	return differing(was, is, func(t term) string { return t.raw })
}

// DiffWords is Diff as people read it: by names, with the codes of organisations and systems behind.
func DiffWords(was, is *region.Region) []string {
	return differing(was, is, func(t term) string { return t.words })
}

func differing(was, is *region.Region, say func(term) string) []string {
	before, after := terms(was), terms(is)
	var out []string
	without := func(in, other []term, sign string) {
		for _, t := range in {
			if !slices.ContainsFunc(other, func(o term) bool { return o.raw == t.raw }) {
				out = append(out, sign+say(t))
			}
		}
	}
	without(before, after, "- ")
	without(after, before, "+ ")
	return out
}
