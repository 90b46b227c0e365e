package gpconnect

import (
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// A report is what a conversion has to say: each kind of remark once, with its first place and how often. Those about one resource are kept
// with it until it is certain that it is part of what comes out.
type report struct {
	index map[string]int32 // where and text -> kind
	kinds []remark
	// of the resource being converted
	now  []noted
	slot []int32 // by kind: 1 + its place in now
	// what is said
	said []*fhir.Issue
	line []int // by kind: 1 + its place in said
	many []int // by place in said: how often
	full int   // 1 + the place of the remark that there is more
}

type remark struct {
	typ         fhir.IssueType
	sev         fhir.Severity
	where, text string
}

// noted is how often a kind of remark was made about one resource.
type noted struct{ kind, n int32 }

const (
	mostKinds = 3000 // of remarks that are told apart
	mostLines = 300  // of the report
)

func newReport() report { return report{index: map[string]int32{}} }

// kind gives the number of a kind of remark; -1 if there are too many to tell them apart.
func (r *report) kind(m remark) int32 {
	key := m.where + "\x00" + m.text
	if k, ok := r.index[key]; ok {
		return k
	}
	if len(r.kinds) >= mostKinds {
		return -1
	}
	r.index[key] = int32(len(r.kinds))
	r.kinds, r.slot, r.line = append(r.kinds, m), append(r.slot, 0), append(r.line, 0)
	return int32(len(r.kinds) - 1)
}

// note makes a remark about the resource being converted.
func (r *report) note(m remark) {
	k := r.kind(m)
	if k >= 0 && r.slot[k] > 0 {
		r.now[r.slot[k]-1].n++
		return
	}
	r.now = append(r.now, noted{k, 1})
	if k >= 0 {
		r.slot[k] = int32(len(r.now))
	} else if i := len(r.now) - 2; i >= 0 && r.now[i].kind < 0 { // one line is enough for these
		r.now = r.now[:i+1]
		r.now[i].n++
	}
}

// noted ends the remarks about one resource and gives them.
func (r *report) noted() []noted {
	out := slices.Clone(r.now)
	for _, n := range r.now {
		if n.kind >= 0 {
			r.slot[n.kind] = 0
		}
	}
	r.now = r.now[:0]
	return out
}

// tally says what was noted of a resource that is part of what comes out.
func (r *report) tally(e *entry) {
	for _, n := range e.notes {
		r.say(n.kind, e.at, int(n.n))
	}
	e.notes = nil
}

// say adds a remark to what is said.
func (r *report) say(k int32, at, n int) {
	if k >= 0 && r.line[k] > 0 {
		r.many[r.line[k]-1] += n
		return
	}
	m := remark{fhir.Incomplete, fhir.Warning, "Bundle", "more was not carried over than this report can list"}
	if k < 0 || len(r.said) >= mostLines {
		if r.full > 0 {
			r.many[r.full-1] += n
			return
		}
		r.full = len(r.said) + 1
	} else {
		m = r.kinds[k]
		r.line[k] = len(r.said) + 1
	}
	r.said = append(r.said, &fhir.Issue{Type: m.typ, Severity: m.sev, Text: m.text, Stranger: m.typ == fhir.BusinessRule, Expression: m.where + " (Bundle.entry[" + strconv.Itoa(at) + "])"})
	r.many = append(r.many, n)
}

func (r *report) issues() []*fhir.Issue {
	for i, is := range r.said {
		if n := r.many[i]; n > 1 {
			is.Text += " (" + strconv.Itoa(n) + " times)"
		}
	}
	return r.said
}

// note makes a remark about the resource being converted. where is the kind of place, without indexes, so that a thousand of a kind make
// one line.
func (c *converter) note(t fhir.IssueType, sev fhir.Severity, where, text string) {
	c.report.note(remark{t, sev, where, text})
}

// say makes a remark about the bundle, whatever becomes of the entry that gave cause for it.
func (c *converter) say(t fhir.IssueType, sev fhir.Severity, where, text string) {
	c.report.say(c.report.kind(remark{t, sev, where, text}), c.at, 1)
}

// here names the place now being converted.
func (c *converter) here(name string) string { return strings.Join(c.path, ".") + "." + short(name) }

// short keeps a name that a source made up from filling the report.
func short(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// outcome passes on the warnings that a practice puts into its answer: what it was asked for and does not implement.
//
// GP Connect 1.6 accessrecord_structured_development_version_compatibility.html
func (c *converter) outcome(r fhir.Value) {
	for is := range r.All("issue") {
		code := is.Text("details.coding.code")
		if code == "NOT_IMPLEMENTED" {
			what := is.Text("diagnostics")
			if i := slices.IndexFunc(queries, func(q query) bool { return what == q.name }); i >= 0 {
				c.say(fhir.NotSupported, fhir.Warning, what, "the practice's system does not offer "+queries[i].plain+" through GP Connect")
				continue
			}
			c.say(fhir.NotSupported, fhir.Warning, "OperationOutcome", "the practice's system did not understand part of the question")
			continue
		}
		c.say(fhir.Incomplete, fhir.Warning, "OperationOutcome", "the practice's system warns that its answer may be incomplete")
	}
}
