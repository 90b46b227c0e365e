// Package probe finds out what each source can really give: which headings, how deep, how fast and how fresh. Not all shared care records are equal, and
// what a source gives is not what its contract says.
//
// A source that is asked live is asked about a test patient, heading by heading, several times, just as a gathering asks it; one that sends is judged by what
// it has sent. What is found is kept with nothing of any patient in it: counts, days, types and speeds. It is shown on the desk as the region's scope, and a
// gathering plans by it (gather). It decides nothing about who may see what.
package probe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/region"
)

// A Verdict is what was found of one heading at one source.
type Verdict string

// The verdicts. Of them only NotProvided keeps a source from being asked.
const (
	Given       Verdict = "given"        // it has given entries
	Empty       Verdict = "empty"        // it answers, and has nothing of the test patient; or it has sent nothing yet
	NotProvided Verdict = "not-provided" // it said, at every try, that it does not offer this
	Refused     Verdict = "refused"      // it does not share this with whom it was asked as
	Unknown     Verdict = "unknown"      // it did not answer, or not about this
)

// Ways in which a source gives a heading, beside region.Push and region.Live.
const (
	FromNeighbour = "neighbour"
	FromLocator   = "locator"
)

// A Speed is how long answers took.
type Speed struct {
	Tries int           `json:"tries"` // those that were answered
	P50   time.Duration `json:"p50,omitempty"`
	P95   time.Duration `json:"p95,omitempty"`
}

// A Found is what was found of one heading.
type Found struct {
	Verdict Verdict `json:"verdict"`
	Way     string  `json:"way"`               // push, live, neighbour or locator
	Entries int     `json:"entries,omitempty"` // of the test patient; of all patients where it sends
	// Patients are those of whom it has sent something, where it sends.
	Patients int    `json:"patients,omitempty"`
	Earliest string `json:"earliest,omitempty"` // year and month of the oldest entry looked at
	Latest   string `json:"latest,omitempty"`   // and of the newest
	// Age is how old the newest entry was when it was looked at; entries in the future do not count.
	Age   time.Duration  `json:"age,omitempty"`
	Came  time.Time      `json:"came,omitzero"`   // when it last sent anything under the heading
	Types map[string]int `json:"types,omitempty"` // entries by resource type, of those looked at
	// Unsent: it both sends and can be asked, and has never sent anything under the heading, as far as is counted here.
	Unsent  bool   `json:"unsent,omitempty"`
	Partly  bool   `json:"partly,omitempty"` // there may be more than it gave
	Speed   Speed  `json:"speed,omitzero"`
	Problem string `json:"problem,omitempty"` // in plain words, with what to do
}

// Facts says in words how much there is, how far back and how fast. when writes a time.
func (f *Found) Facts(when func(time.Time) string) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case f.Entries == 1:
		add("1 entry")
	case f.Entries > 1:
		add("%d entries", f.Entries)
	}
	if f.Patients > 0 {
		out[len(out)-1] += fmt.Sprintf(" of %d patients", f.Patients)
	}
	switch {
	case f.Earliest == "":
	case f.Earliest == f.Latest:
		add("%s", f.Earliest)
	default:
		add("%s to %s", f.Earliest, f.Latest)
	}
	if len(f.Types) > 0 && f.Verdict == Given {
		out = append(out, strings.Join(slices.Sorted(maps.Keys(f.Types)), ", "))
	}
	if f.Age > 0 {
		add("newest %d days old", int(f.Age.Hours()/24))
	}
	if f.Speed.Tries > 0 {
		add("%s (95 %%: %s)", f.Speed.P50, f.Speed.P95)
	}
	if !f.Came.IsZero() {
		add("last came %s", when(f.Came))
	}
	if f.Unsent {
		add("never sent")
	}
	if f.Partly {
		add("not in full")
	}
	if f.Problem != "" {
		out = append(out, f.Problem)
	}
	return out
}

// A Result is what one probing found of one source.
type Result struct {
	Source    string                     `json:"source"`
	Name      string                     `json:"name"`
	Kind      string                     `json:"kind"` // its connector, or kind of neighbour
	At        time.Time                  `json:"at"`
	Took      time.Duration              `json:"took"`
	Describes *connector.Description     `json:"describes,omitempty"` // what it says of itself; nil: it says nothing, or is not asked
	Known     bool                       `json:"known,omitempty"`     // it knows a test patient
	Speed     Speed                      `json:"speed,omitzero"`      // of a question for everything at once, as a gathering asks it
	Headings  map[dataset.Heading]*Found `json:"headings"`
	// Besides are headings of which it gave entries although the region file does not say that it gives them.
	Besides  []dataset.Heading `json:"besides,omitempty"`
	Problems []string          `json:"problems,omitempty"`
	// Deadline is what the source has to answer in, and Until how long the result counts in planning, by the region file as it is when the result is shown.
	Deadline time.Duration `json:"deadline,omitempty"`
	Until    time.Time     `json:"until,omitzero"`
}

// Lacks are the headings that the source was found not to provide, in the data set's order.
func (r *Result) Lacks() []dataset.Heading {
	var out []dataset.Heading
	for _, info := range dataset.All {
		if f := r.Headings[info.Heading]; f != nil && f.Verdict == NotProvided {
			out = append(out, info.Heading)
		}
	}
	return out
}

// Answered reports whether the source answered anything at all.
func (r *Result) Answered() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(r.Headings)), func(f *Found) bool { return f.Verdict == Given || f.Verdict == Empty })
}

// A Target is a source as the region file names it, with the headings that it is said to give.
type Target struct {
	ID, Name, Kind string
	Way            map[dataset.Heading]string
	Numbers        []string // of a neighbour: by which it knows people
	Deadline       time.Duration
	Off            bool // switched off in the region file: it is not asked, what it sent is told
}

// locatorKind is the kind of a national locator.
const locatorKind = "nrl"

// Targets are all sources that a region file names and that can give anything, in the order of the file: systems, neighbours, national locators.
func Targets(r *region.Region) []Target {
	var out []Target
	for _, s := range r.Systems {
		if s.Connector == region.Consumer {
			continue
		}
		t := Target{ID: s.ID, Name: s.Name, Kind: s.Connector, Way: map[dataset.Heading]string{}, Deadline: s.Deadline, Off: s.Release.Off}
		if o, ok := r.Organisation(s.Organisation); ok && t.Name == "" {
			t.Name = o.Name
		}
		for h, way := range s.Gives {
			t.Way[h] = string(way)
		}
		out = append(out, t)
	}
	for _, n := range r.Neighbours {
		if n.OnlyAsks {
			continue
		}
		t := Target{ID: n.ID, Name: n.Name, Kind: n.Kind, Way: map[dataset.Heading]string{}, Numbers: n.Numbers, Deadline: n.Deadline}
		for _, info := range dataset.All {
			if n.MayGive(info.Heading) {
				t.Way[info.Heading] = FromNeighbour
			}
		}
		out = append(out, t)
	}
	for _, n := range r.Locator.National {
		if n.Asks {
			t := Target{ID: n.ID, Name: n.Name, Kind: locatorKind, Way: map[dataset.Heading]string{}, Numbers: []string{"nhs"}, Deadline: n.Deadline}
			for _, h := range nrl.HeadingsOf(n.Types) {
				t.Way[h] = FromLocator
			}
			out = append(out, t)
		}
	}
	for i := range out {
		if out[i].Name == "" {
			out[i].Name = out[i].ID
		}
		if out[i].Deadline == 0 {
			out[i].Deadline = region.DefaultDeadline
		}
	}
	return out
}

// live are the headings of a target for which it is asked.
func (t Target) live() []dataset.Heading {
	var out []dataset.Heading
	for _, info := range dataset.All {
		if way, ok := t.Way[info.Heading]; ok && way != string(region.Push) {
			out = append(out, info.Heading)
		}
	}
	return out
}
