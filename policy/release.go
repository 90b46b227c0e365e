package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/region"
)

// A stance is how a stage of release stands to whoever asks.
type stance int

const (
	closed   stance = iota // not for them
	asTester               // for them, to try: they are told so
	open                   // for them
)

// A system's data is switched on in stages, so that its safety is looked at before everybody relies on it. Whose data it is may be known of a single
// resource only: before, a heading is asked for if some of it may be shown. What people hold of themselves is released to them as to everybody: at all.
func releaseRule(f *Facts, d *Decision) (string, string, verdict) {
	if f.Source == nil {
		return "", "", silent
	}
	r := &f.Source.Release
	if len(r.Stages) > 0 {
		return f.stagesRule(r, d)
	}
	switch {
	case r.Off:
		return "release", "this system's data is not switched on", refuse
	case r.All, slices.ContainsFunc(r.ODS, f.Subject.of):
		return "", "", silent
	case r.Testers && f.Subject.Role.info().Tester:
		d.Stage = "testers"
		return "release", "released to testers, of whom the user is one", allow
	}
	return "release", "this system's data is not yet switched on for this user", refuse
}

func (f *Facts) stagesRule(r *region.Release, d *Decision) (string, string, verdict) {
	how, st := closed, (*region.Stage)(nil)
	if f.Item != nil {
		how, st = f.ofUnits(r, f.Item.Units)
	} else {
		f.eachUnit(r, func(s stance, of *region.Stage) bool {
			if st == nil || s > how {
				how, st = s, of
			}
			return how < open
		})
	}
	switch how {
	case open:
		return "", "", silent
	case asTester:
		d.Stage = st.Word()
		return "release", "released to " + told(st) + "; the user is a tester", allow
	}
	if st == nil {
		return "release", "no stage of release has begun, so this is not switched on", refuse
	}
	if !st.Off && !st.Signed(f.At) {
		return "release", "the clinical-safety sign-off of this stage of release does not hold", refuse
	}
	return "release", "released to " + told(st) + ", and not to this user", refuse
}

// told says a stage to people.
func told(st *region.Stage) string {
	switch {
	case st.Testers:
		return "testers" + since(st)
	case st.All:
		return "all" + since(st)
	case len(st.ODS) > 0:
		return "users of " + strings.Join(st.ODS, ", ") + since(st)
	}
	return "nobody" + since(st)
}

func since(st *region.Stage) string {
	if st.From.IsZero() {
		return ""
	}
	return " since " + st.From.Format(time.DateOnly)
}

// stands is how a stage stands to the subject; nil is a stage that is off.
func (f *Facts) stands(st *region.Stage) stance {
	if st == nil || !st.Testers && !st.All && len(st.ODS) == 0 || !st.Signed(f.At) {
		return closed
	}
	switch {
	case st.All, slices.ContainsFunc(st.ODS, f.Subject.of):
		return open
	case f.tests(st):
		return asTester
	}
	return closed
}

// tests reports whether the subject is a tester of a stage. Users of other regions are known there and not here, and nobody tests on their own record.
func (f *Facts) tests(st *region.Stage) bool {
	s := &f.Subject
	switch {
	case s.Role == Citizen, s.Role == Neighbour, f.Channel == Between:
		return false
	case s.User != "" && (slices.Contains(st.Users, s.User) || slices.Contains(st.Users, s.Organisation+"/"+s.User)), slices.Contains(st.Roles, string(s.Role)):
		return true
	}
	return st.Testers && len(st.Users) == 0 && len(st.Roles) == 0 && s.Role.info().Tester
}

// ofUnits is how what these units made stands to the subject: where several made it, each must be released.
func (f *Facts) ofUnits(r *region.Release, u *Units) (how stance, by *region.Stage) {
	if u == nil || len(u.chains) == 0 || region.Undivided(f.Heading) {
		return f.ofChain(r, nil)
	}
	for i, chain := range u.chains {
		if s, of := f.ofChain(r, chain); s < how || i == 0 {
			how, by = s, of
		}
	}
	return how, by
}

// ofChain is how what a unit made stands. Of what is nobody's record by itself, and so under no heading, the widest counts.
func (f *Facts) ofChain(r *region.Release, chain []string) (stance, *region.Stage) {
	best, st := f.underHeading(r, chain, f.Heading)
	if f.Heading != "" {
		return best, st
	}
	for _, info := range dataset.All {
		if best == open {
			break
		}
		if len(chain) > 0 && region.Undivided(info.Heading) {
			continue
		}
		if s, of := f.underHeading(r, chain, info.Heading); s > best {
			best, st = s, of
		}
	}
	return best, st
}

// underHeading is how what a unit made stands under a heading, "" for what is under none. Where it cannot be told which unit it is, every one must be released.
func (f *Facts) underHeading(r *region.Release, chain []string, h dataset.Heading) (how stance, by *region.Stage) {
	st, told := f.stageOf(r, chain, h)
	if told {
		return f.stands(st), st
	}
	how = open
	f.each(r, h, func(s stance, of *region.Stage) bool {
		if s < how {
			how, by = s, of
		}
		return how > closed
	})
	return how, by
}

// stageOf is the stage that counts for a unit, given with what it is part of, the nearest first; nil if none does. The nearest that a stage names
// counts, and of it a stage of the heading before one of all; then those of the heading and of the system. told is false if that depends on a unit that
// cannot be told.
func (f *Facts) stageOf(r *region.Release, chain []string, h dataset.Heading) (st *region.Stage, told bool) {
	if len(r.Units()) > 0 && !region.Undivided(h) {
		if st, told = f.unitStage(r, chain, h); st != nil || !told {
			return st, told
		}
	}
	return r.Stage("", h, f.At), true
}

func (f *Facts) unitStage(r *region.Release, chain []string, h dataset.Heading) (st *region.Stage, told bool) {
	body := false // the chain leads to a body of the region file
	for _, code := range chain {
		if code == untold {
			return nil, false
		}
		if st := r.Stage(code, h, f.At); st != nil {
			return st, true
		}
		body = body || code == f.Source.Organisation
		if f.Source.Within == nil {
			continue
		}
		above, known := f.Source.Within(code)
		body = body || known
		for _, up := range above {
			if st := r.Stage(up, h, f.At); st != nil {
				return st, true
			}
		}
	}
	if body {
		return nil, true
	}
	if st := r.Stage(f.Source.Organisation, h, f.At); st != nil {
		return st, true
	}
	for _, up := range f.Source.Above {
		if st := r.Stage(up, h, f.At); st != nil {
			return st, true
		}
	}
	return nil, true
}

// each visits how what each unit made stands under a heading: of units that are named, of the system's organisation, and of any other, until visit says no.
func (f *Facts) each(r *region.Release, h dataset.Heading, visit func(stance, *region.Stage) bool) (more bool) {
	one := func(chain []string) bool {
		st, _ := f.stageOf(r, chain, h)
		return visit(f.stands(st), st)
	}
	if !one(nil) {
		return false
	}
	if region.Undivided(h) || len(r.Units()) == 0 {
		return true
	}
	if st := r.Stage("", h, f.At); !visit(f.stands(st), st) { // a unit of another body's, of which no stage speaks
		return false
	}
	chain := make([]string, 1)
	for _, chain[0] = range r.Units() {
		if !one(chain) {
			return false
		}
	}
	return true
}

// eachUnit is each under the heading that is asked about; if none is, under every one.
func (f *Facts) eachUnit(r *region.Release, visit func(stance, *region.Stage) bool) {
	if !f.each(r, f.Heading, visit) || f.Heading != "" {
		return
	}
	for _, info := range dataset.All {
		if !f.each(r, info.Heading, visit) {
			return
		}
	}
}

// Divided reports whether a source's release depends on which unit made what: single resources must be looked at.
func (s *Source) Divided() bool { return s != nil && len(s.Release.Units()) > 0 }

// InPart reports whether there may be something under a heading of a source that is not released to the subject, although some is. It is the same whoever
// the record is about, and so tells nothing of it.
func InPart(f Facts) bool {
	if !f.Source.Divided() || region.Undivided(f.Heading) {
		return false
	}
	part := false
	f.eachUnit(&f.Source.Release, func(s stance, _ *region.Stage) bool {
		part = s == closed
		return !part
	})
	return part
}

// Released reports whether what a source sent that is nobody's record may be shown to the subject at all, by its release alone.
func Released(f Facts) bool {
	_, _, v := releaseRule(&f, &Decision{})
	return v != refuse
}

// A StageLine is one stage of a system's release as people read it.
type StageLine struct {
	System   string
	Units    []string
	Headings []dataset.Heading
	Word, To string // "organisations", "users of RX1"
	From     time.Time
	State    string // "in force", "not yet", "over", "closed"
	Signed   string // who signed, under what; "" if nobody did
	Testers  string
}

// StageLines are the stages of release of a region's systems as they stand at a time, in the order of the file.
func StageLines(r *region.Region, at time.Time) []StageLine {
	var out []StageLine
	for _, s := range r.Systems {
		if len(s.Gives) == 0 {
			continue
		}
		if len(s.Release.Stages) == 0 {
			word, to := "off", "nobody"
			switch rel := s.Release; {
			case rel.Off:
			case rel.Testers:
				word, to = "testers", "testers"
			case rel.All:
				word, to = "all", "all"
			default:
				word, to = "organisations", "users of "+strings.Join(rel.ODS, ", ")
			}
			out = append(out, StageLine{System: s.ID, Word: word, To: to, State: "in force"})
			continue
		}
		for i := range s.Release.Stages {
			st := &s.Release.Stages[i]
			l := StageLine{System: s.ID, Units: st.Units, Headings: st.Headings, Word: st.Word(), To: strings.TrimSuffix(told(st), since(st)), From: st.From, State: stateOf(&s.Release, st, at),
				Signed: signed(st.SignOff), Testers: strings.Join(append(slices.Clone(st.Users), st.Roles...), ", ")}
			out = append(out, l)
		}
	}
	return out
}

// stateOf is how a stage stands in time.
func stateOf(r *region.Release, st *region.Stage, at time.Time) string {
	switch {
	case at.Before(st.From):
		return "not yet"
	case !r.Counts(st, at):
		return "over"
	case st.Word() != "off" && !st.Signed(at):
		return "closed"
	}
	return "in force"
}

func signed(s region.SignOff) string {
	if s == (region.SignOff{}) {
		return ""
	}
	text := fmt.Sprintf("%s, %s, %s, %s, %s", s.By, s.Role, s.On.Format(time.DateOnly), s.Standard, s.HazardLog)
	if !s.Until.IsZero() {
		text += ", until " + s.Until.Add(-time.Nanosecond).Format(time.DateOnly)
	}
	if !s.Withdrawn.IsZero() {
		text += ", withdrawn " + s.Withdrawn.Format(time.DateOnly)
	}
	return text
}

// releaseText is a release as Agreed writes it, all that decides.
func releaseText(r *region.Release) string {
	if len(r.Stages) == 0 {
		return fmt.Sprintf("%+v", struct {
			Off, Testers, All bool
			ODS               []string
		}{r.Off, r.Testers, r.All, r.ODS})
	}
	return "in stages"
}

// stageTexts are the lines of Agreed for the stages of a system's release.
func stageTexts(s *region.System) string {
	var b strings.Builder
	for i := range s.Release.Stages {
		st := &s.Release.Stages[i]
		fmt.Fprintf(&b, "release of %s units %q headings %v: %s; testers %q roles %q", s.ID, st.Units, st.Headings, told(st), st.Users, st.Roles)
		if text := signed(st.SignOff); text != "" {
			b.WriteString("; signed off by " + text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
