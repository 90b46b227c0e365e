package web

import (
	"strings"

	"tombolo/dataset"
	"tombolo/gather"
	"tombolo/policy"
)

// A stageRow is one stage of a system's release, as operators see it.
type stageRow struct{ policy.StageLine }

var stageStates = map[string]stateWord{
	"in force": {"In force", "✓", "ok"}, "not yet": {"Not yet", "◷", "muted"}, "over": {"Over", "○", "muted"}, "closed": {"Closed: its sign-off does not hold", "✕", "grave"},
}

// Released are the stages of each system's release.
func (p deskPage) Released() []stageRow {
	out := make([]stageRow, len(p.Stages))
	for i, l := range p.Stages {
		out[i].StageLine = l
	}
	return out
}

// What is whose data it is, and what of it.
func (r stageRow) What() string {
	units, headings := "every unit", "every heading"
	if len(r.Units) > 0 {
		units = strings.Join(r.Units, ", ")
	}
	if len(r.Headings) > 0 {
		titles := make([]string, len(r.Headings))
		for i, h := range r.Headings {
			titles[i] = dataset.Heading.Title(h)
		}
		headings = strings.Join(titles, ", ")
	}
	return units + "; " + headings
}

// How is how it stands in a word.
func (r stageRow) How() stateWord {
	if r.Word == "off" && r.State == "in force" {
		return stateWord{"Off", "○", "muted"}
	}
	return stageStates[r.State]
}

// Since is its first day.
func (r stageRow) Since() string {
	if r.From.IsZero() {
		return "not dated"
	}
	return r.From.Format("02-Jan-2006")
}

// By is who signed it off, and that nobody did where somebody should have.
func (r stageRow) By() string {
	if r.Signed == "" && (r.Word == "all" || r.Word == "organisations") {
		return "none recorded"
	}
	return r.Signed
}

// stageMark says of an entry that a tester sees before others under which stage that is.
func stageMark(e *gather.Entry) (mark, bool) {
	for _, m := range e.Members {
		if stage := gather.StageOf(m.Resource); stage != "" {
			return mark{"You test this: " + stage, toneWarn}, true
		}
	}
	return mark{}, false
}
