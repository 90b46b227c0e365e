package region

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tombolo/dataset"
)

// A Release says for whom a system's data is switched on: for all of it alike, or in Stages.
type Release struct {
	Off, Testers, All bool
	ODS               []string // only users of these organisations
	// Stages, if there are any, say it by organisational unit and heading, and nothing above counts. What none of them covers is off.
	Stages []Stage

	index map[stageKey][]*Stage // newest first
	units []string              // that are named, in order
}

// A Stage is how far the release of something has come: off, testers, some organisations, all. It holds from a day until another stage of the same
// units and headings begins.
type Stage struct {
	Units    []string          // whose data, as docs/federation.md says; none: whoever's
	Headings []dataset.Heading // none: every heading

	Off, Testers, All bool
	ODS               []string // users of these organisations

	From  time.Time
	Users []string // testers by their id, or by organisation and id (RX1/dr-a), whatever their role; they see it at each later stage too
	Roles []string // whose users are testers; none, and no Users: the roles that are
	// SignOff is the clinical-safety sign-off. A stage beyond testers is closed without one.
	SignOff SignOff
}

// A SignOff is the word of a clinical safety officer that something may be relied on. DCB0129 (its maker's), DCB0160 (its user's)
type SignOff struct {
	By, Role  string
	On        time.Time
	Standard  string
	HazardLog string    // the hazard log, or the safety case, that was signed
	Until     time.Time // it holds while t < Until (the file's until names the last day); zero: open-ended
	Withdrawn time.Time // from which it holds no more; zero: it was not withdrawn
}

// In reports whether the sign-off holds at a time.
func (s SignOff) In(at time.Time) bool {
	return !s.On.IsZero() && !at.Before(s.On) && (s.Until.IsZero() || at.Before(s.Until)) && (s.Withdrawn.IsZero() || at.Before(s.Withdrawn))
}

// Signed reports whether the stage may show anything to anybody at a time: testers need no sign-off.
func (s *Stage) Signed(at time.Time) bool { return s.Testers || s.SignOff.In(at) }

// Word is the stage in a word: off, testers, organisations or all.
func (s *Stage) Word() string {
	switch {
	case s.Testers:
		return "testers"
	case s.All:
		return "all"
	case len(s.ODS) > 0:
		return "organisations"
	}
	return "off"
}

type stageKey struct {
	unit    string
	heading dataset.Heading
}

// Unit is how the code of an organisational unit is compared: systems write the same one in capitals and not.
func Unit(code string) string { return strings.ToUpper(strings.TrimSpace(code)) }

// Staged is a release in stages.
func Staged(stages ...Stage) Release {
	r := Release{Stages: stages, index: map[stageKey][]*Stage{}}
	for i := range stages {
		for _, k := range stages[i].keys() {
			r.index[k] = append(r.index[k], &stages[i])
			if k.unit != "" && !slices.Contains(r.units, k.unit) {
				r.units = append(r.units, k.unit)
			}
		}
	}
	for _, all := range r.index {
		slices.SortStableFunc(all, func(a, b *Stage) int { return b.From.Compare(a.From) })
	}
	slices.Sort(r.units)
	return r
}

// keys are the pairs of unit and heading that a stage is about, "" for any.
func (s *Stage) keys() []stageKey {
	units, headings := s.Units, s.Headings
	if len(units) == 0 {
		units = []string{""}
	}
	if len(headings) == 0 {
		headings = []dataset.Heading{""}
	}
	var out []stageKey
	for _, u := range units {
		for _, h := range headings {
			if k := (stageKey{Unit(u), h}); !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out
}

// Units are those that some stage names, in capitals and in order.
func (r *Release) Units() []string { return r.units }

// Stage is the stage that is in force for a unit ("": whatever the unit) and exactly that, or for a heading of it; nil if none names it. Of those
// that name both and those that name the unit alone, the first count: the most specific wins.
func (r *Release) Stage(unit string, h dataset.Heading, at time.Time) *Stage {
	if h != "" {
		if s := r.newest(stageKey{unit, h}, at); s != nil {
			return s
		}
	}
	return r.newest(stageKey{unit, ""}, at)
}

func (r *Release) newest(k stageKey, at time.Time) *Stage {
	for _, s := range r.index[k] {
		if !at.Before(s.From) {
			return s
		}
	}
	return nil
}

// Standards are those of clinical safety under which something is signed off.
var Standards = []string{"DCB0129", "DCB0160"}

const releaseWants = "off, testers, all, a list of ODS codes, or a list of stages"

var releaseReader = reader[System]{
	read: func(d *decoder, n ast.Node, path string, s *System) {
		if seq, ok := n.(*ast.SequenceNode); ok {
			readReleaseList(d, seq, path, s)
			return
		}
		word, ok := d.scalar(n, path, releaseWants)
		if !ok {
			s.Release = Release{Off: true} // what was meant is not known, so nobody is shown anything
			return
		}
		switch word {
		case "off", "false", "no": // some editors quote or change off, which older YAML takes for false
			s.Release = Release{Off: true}
		case "testers":
			s.Release = Release{Testers: true}
		case "all":
			s.Release = Release{All: true}
		default:
			// What was meant is not known, so nobody is shown anything.
			s.Release = Release{Off: true}
			d.known(n, path, "a release: "+releaseWants, word, []string{"off", "testers", "all"})
		}
	},
	schema: func() schema {
		return schema{"oneOf": []schema{{"enum": []any{"off", "testers", "all", false}}, {"type": "array", "items": odsItem.schema()},
			{"type": "array", "items": stageShape.schema(), "minItems": 1}}}
	},
}

// readReleaseList reads a list of ODS codes, or one of stages.
func readReleaseList(d *decoder, seq *ast.SequenceNode, path string, s *System) {
	staged := slices.ContainsFunc(seq.Values, func(v ast.Node) bool {
		switch v.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			return true
		}
		return false
	})
	if staged {
		var stages []Stage
		list(func(*System) *[]Stage { return &stages }, stageShape).read(d, seq, path, s)
		s.Release = Staged(stages...)
		return
	}
	s.Release = Release{}
	list(func(s *System) *[]string { return &s.Release.ODS }, odsItem).read(d, seq, path, s)
	if len(s.Release.ODS) == 0 {
		s.Release.Off = true
	}
}

var unitText = anyText

var stageShape = block("How far the release of some units' or headings' data has come, from a day on. The most specific stage counts: of a unit and heading, of a unit, of a heading, of the system.",
	field[Stage]{"stage", "off, testers, all, or a list of ODS codes whose users see it", true, stageReader},
	field[Stage]{"from", "the first day", true, day(func(s *Stage) *time.Time { return &s.From }, false)},
	field[Stage]{"units", "the organisational units whose data it is: ODS codes of sites, or wards and departments as the system writes them (WARD7, or RX1HQ/WARD7); every unit's if not given", false,
		list(func(s *Stage) *[]string { return &s.Units }, text(func(s *string) *string { return s }, unitText))},
	field[Stage]{"headings", "the headings that it is about; every heading if not given", false,
		list(func(s *Stage) *[]dataset.Heading { return &s.Headings }, oneOf(func(h *dataset.Heading) *dataset.Heading { return h }, "a heading of the shared data set", headings))},
	field[Stage]{"testers", "the ids of users who test it, whatever their role, and who see it at every stage but off; RX1/dr-ade for a user of one organisation only", false, list(func(s *Stage) *[]string { return &s.Users }, text(func(s *string) *string { return s }, anyText))},
	field[Stage]{"tester_roles", "the roles whose users test it; the program's own (gp) if neither these nor testers are given", false, list(func(s *Stage) *[]string { return &s.Roles }, oneOf(func(s *string) *string { return s }, "a role", Roles))},
	field[Stage]{"sign_off", "the clinical-safety sign-off, which a stage beyond testers needs", false, signOffShape},
)

var stageReader = reader[Stage]{
	read: func(d *decoder, n ast.Node, path string, s *Stage) {
		if _, ok := n.(*ast.SequenceNode); ok {
			list(func(s *Stage) *[]string { return &s.ODS }, odsItem).read(d, n, path, s)
			s.Off = len(s.ODS) == 0
			return
		}
		s.Off = true // unless it is understood
		word, ok := d.scalar(n, path, "off, testers, all, or a list of ODS codes")
		switch {
		case !ok, word == "off", word == "false", word == "no":
		case word == "testers":
			s.Off, s.Testers = false, true
		case word == "all":
			s.Off, s.All = false, true
		default:
			d.known(n, path, "a stage: off, testers, all, or a list of ODS codes", word, []string{"off", "testers", "all"})
		}
	},
	schema: func() schema {
		return schema{"oneOf": []schema{{"enum": []any{"off", "testers", "all", false}}, {"type": "array", "items": odsItem.schema()}}}
	},
}

var signOffShape = reader[Stage]{
	read:   func(d *decoder, n ast.Node, path string, s *Stage) { signOffBlock.read(d, n, path, &s.SignOff) },
	schema: func() schema { return signOffBlock.schema() },
}

var signOffBlock = block("A clinical-safety sign-off: who found, and wrote down, that this may be relied on.",
	field[SignOff]{"by", "the name of who signed", true, text(func(s *SignOff) *string { return &s.By }, anyText)},
	field[SignOff]{"role", "as what, such as Clinical Safety Officer", true, text(func(s *SignOff) *string { return &s.Role }, anyText)},
	field[SignOff]{"on", "the day of signing", true, day(func(s *SignOff) *time.Time { return &s.On }, false)},
	field[SignOff]{"standard", "the standard: DCB0129 of a maker, DCB0160 of those who use it", true, oneOf(func(s *SignOff) *string { return &s.Standard }, "a standard of clinical safety", Standards)},
	field[SignOff]{"hazard_log", "the id of the hazard log or safety case that was signed", true, text(func(s *SignOff) *string { return &s.HazardLog }, anyText)},
	field[SignOff]{"until", "the last day on which it holds; open-ended if not given", false, day(func(s *SignOff) *time.Time { return &s.Until }, true)},
	field[SignOff]{"withdrawn", "the day from which it holds no more", false, day(func(s *SignOff) *time.Time { return &s.Withdrawn }, false)},
)

// release tells what is wrong with the stages of a system's release.
func (c *checker) release(path string, s System) {
	for i, ods := range s.Release.ODS {
		c.organisation(fmt.Sprintf("%s.release[%d]", path, i), ods)
	}
	if c.r.Policy.SignedReleases && len(s.Release.Stages) == 0 && (s.Release.All || len(s.Release.ODS) > 0) && len(s.Gives) > 0 {
		c.err(path+".release", fmt.Sprintf("%s is released to more than testers without a clinical-safety sign-off, which policy.signed_releases asks for", s.ID),
			"Write it as a stage: release: [{stage: all, from: "+c.at.Format(time.DateOnly)+", sign_off: {by: NAME, role: Clinical Safety Officer, on: DATE, standard: DCB0160, hazard_log: ID}}]")
	}
	first := map[string]string{}
	for i := range s.Release.Stages {
		st, at := &s.Release.Stages[i], fmt.Sprintf("%s.release[%d]", path, i)
		for j, ods := range st.ODS {
			c.organisation(fmt.Sprintf("%s.stage[%d]", at, j), ods)
		}
		for j, h := range st.Headings {
			if _, gives := s.Gives[h]; !gives && h != "" {
				c.warn(fmt.Sprintf("%s.headings[%d]", at, j), fmt.Sprintf("%s does not give %s, so nothing is switched on or off by this", s.ID, h), "Take it out, or add it to gives")
			}
			if len(st.Units) > 0 && Undivided(h) {
				c.err(fmt.Sprintf("%s.headings[%d]", at, j), fmt.Sprintf("%s is not divided by units: who somebody is, a system knows as a whole", h), "Write a stage of this heading without units")
			}
		}
		for _, k := range st.keys() {
			key := fmt.Sprintf("%s\x00%s\x00%s", k.unit, k.heading, st.From.Format(time.DateOnly))
			if was, twice := first[key]; twice && was != at {
				c.err(at, fmt.Sprintf("%s has a stage from %s already, at %s", k, st.From.Format(time.DateOnly), c.where(was)), "Of two stages of the same thing the later counts: give them different days, or take one out")
			}
			first[key] = cmp.Or(first[key], at)
		}
		c.signOff(at, st)
	}
}

// String is what a stage is about, in words.
func (k stageKey) String() string {
	switch {
	case k.unit == "" && k.heading == "":
		return "the system"
	case k.unit == "":
		return "the heading " + string(k.heading)
	case k.heading == "":
		return "the unit " + k.unit
	}
	return "the heading " + string(k.heading) + " of the unit " + k.unit
}

// Undivided reports whether a heading is released for all of a system's units alike: who somebody is.
func Undivided(h dataset.Heading) bool { return h == dataset.Demographics || h == dataset.GPPractice }

func (c *checker) signOff(path string, st *Stage) {
	if !st.All && len(st.ODS) == 0 {
		return
	}
	s, day := st.SignOff, func(t time.Time) string { return t.Format(time.DateOnly) }
	at := path + ".sign_off"
	switch {
	case s == SignOff{}:
		c.err(at, "a stage beyond testers needs a clinical-safety sign-off",
			"Add sign_off: {by: NAME, role: Clinical Safety Officer, on: DATE, standard: DCB0160, hazard_log: ID}, or write stage: testers")
	case s.On.After(st.From):
		c.err(at+".on", fmt.Sprintf("it was signed on %s, after the stage begins on %s", day(s.On), day(st.From)), "Let the stage begin on the day of signing or later")
	case !s.Until.IsZero() && !st.From.Before(s.Until):
		c.err(at+".until", "it is over before the stage begins on "+day(st.From), "Have it signed anew, or let the stage begin earlier")
	case !s.Until.IsZero() && !c.at.Before(s.Until):
		c.warn(at+".until", "the sign-off is over, so nobody is shown this", "Have it signed anew, or write a stage: testers or off")
	case !s.Withdrawn.IsZero() && !c.at.Before(s.Withdrawn):
		c.warn(at+".withdrawn", "the sign-off was withdrawn, so nobody is shown this", "Have it signed anew, or write a stage: testers or off")
	}
}

// Counts reports whether a stage is the one in force at a time for some of what it is about.
func (r *Release) Counts(st *Stage, at time.Time) bool {
	return slices.ContainsFunc(st.keys(), func(k stageKey) bool { return r.newest(k, at) == st })
}
