package web

import (
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// alerts is the strip of what may kill or hurt if overlooked, in a fixed order, the most dangerous first.
type alerts struct {
	Rows    []alert
	Missing string // what could not be asked, so that a short strip is not read as a safe patient
}

// An alert is one row: a label, and the lines under it.
type alert struct {
	Label string
	Tone  string
	Items []alertItem
}

// An alertItem points at the section it comes from.
type alertItem struct {
	Text, More string
	Sources    []string
	Section    string
}

// The kinds of alert, in the order of the strip.
const (
	alertAllergy = iota
	alertTreatment
	alertChild
	alertAdult
	alertLegal
	alertInfection
	alertViolence
	alertCJD
	alertOther
	alertAdjust
	alertPregnant
	alertMind
	alertResearch
	alertDonor
	alertWithheld
	alertKinds
)

var alertLabels = [alertKinds]string{
	"Allergies", "Treatment escalation and end of life", "Child protection", "Adult safeguarding", "Legal: MHA, DoLS, LPA", "Infection",
	"Violence or abuse risk", "vCJD", "Other alerts", "Reasonable adjustments", "Pregnancy", "Dementia or learning disability",
	"Research", "Organ donation", "Withheld or in transit",
}

var alertTones = [alertKinds]string{
	toneGrave, toneGrave, toneGrave, toneWarn, toneWarn, toneWarn, toneWarn, toneWarn, toneWarn, toneActive, toneActive, toneActive, toneActive, toneActive, toneWarn,
}

// Words by which a flag or problem is known for its kind. Flags come with local codes as often as not, so the words decide; what none
// fits is "other", never left out.
var alertWords = []struct {
	kind  int
	words []string
}{
	{alertChild, []string{"child protection", "looked after child", "unborn child"}},
	{alertAdult, []string{"safeguarding", "domestic abuse", "marac"}},
	{alertTreatment, []string{"respect form", "dnacpr", "resuscitation", "advance decision", "escalation plan"}},
	{alertInfection, []string{"mrsa", "cpe", "carbapenem", "clostridi", "infection", "tuberculosis", "norovirus", "blood borne", "bloodborne"}},
	{alertViolence, []string{"violen", "aggress", "weapon", "assault", "abusive"}},
	{alertCJD, []string{"cjd", "creutzfeldt"}},
	{alertLegal, []string{"mental health act", "deprivation of liberty", "power of attorney", "court of protection"}},
	{alertAdjust, []string{"adjustment", "impairment", "large print", "braille", "interpreter", "sign language", "hearing", "deaf", "blind", "wheelchair", "communication need", "accessible"}},
	{alertMind, []string{"dementia", "alzheimer", "learning disab", "cognitive impair"}},
	{alertPregnant, []string{"pregnan"}},
	{alertResearch, []string{"research", "clinical trial"}},
	{alertDonor, []string{"organ don"}},
}

func newAlerts(rec *gather.Record) alerts {
	var found [alertKinds][]alertItem
	for i := range rec.Sections {
		sec := &rec.Sections[i]
		t := teller{rec: rec, clear: clearOf(rec, sec)}
		for j := range sec.Entries {
			e := &sec.Entries[j]
			if kind, ok := t.alertKind(sec.Heading, e); ok {
				found[kind] = append(found[kind], newAlertItem(t.line(sec.Heading, e)))
			}
		}
	}
	found[alertWithheld] = withheld(rec)
	var out alerts
	out.Rows = append(out.Rows, allergyAlert(rec, found[alertAllergy]))
	for kind := alertAllergy + 1; kind < alertKinds; kind++ {
		if len(found[kind]) > 0 {
			out.Rows = append(out.Rows, alert{alertLabels[kind], alertTones[kind], found[kind]})
		}
	}
	var missing []string
	for _, h := range [...]dataset.Heading{dataset.EndOfLife, dataset.Safeguarding, dataset.Legal, dataset.Alerts} {
		if !heard(rec, h) {
			missing = append(missing, strings.ToLower(h.Title()))
		}
	}
	if len(missing) > 0 {
		out.Missing = "Not every source has been heard on: " + sayList(missing) + ". There may be more."
		if newStrip(rec).Asking {
			out.Missing = "Still being asked about: " + sayList(missing) + ". There may be more."
		}
	}
	return out
}

// alertKind says whether an entry belongs in the strip, and where. Only what is current does; a thing taken back or over does not.
func (t teller) alertKind(h dataset.Heading, e *gather.Entry) (kind int, ok bool) {
	if inError(e.Lead) {
		return 0, false
	}
	status := statusOf(e.Lead)
	over := slices.Contains([]string{"inactive", "resolved", "remission", "revoked", "rejected", "cancelled", "stopped"}, status)
	over = over || t.tell(e.Lead).Over
	if over && e.Conflict == "" { // where sources disagree whether it is over, it is not
		return 0, false
	}
	if status == "completed" && h != dataset.EndOfLife { // a plan is completed when it is signed
		return 0, false
	}
	words := ""
	switch h {
	case dataset.Allergies:
		return alertAllergy, e.Lead.Type() == "AllergyIntolerance" && negation(e.Lead) == "" && !refuted(e.Lead)
	case dataset.EndOfLife:
		return alertTreatment, true
	case dataset.Legal:
		return alertLegal, true
	case dataset.Safeguarding, dataset.Alerts, dataset.Problems, dataset.Maternity:
		words = strings.ToLower(t.wordsOfThing(e.Lead))
	default:
		return 0, false
	}
	for _, k := range alertWords {
		if h == dataset.Problems && k.kind != alertPregnant && k.kind != alertMind && k.kind != alertInfection && k.kind != alertCJD {
			continue // a problem list has its own place; only these warn
		}
		for _, w := range k.words {
			if strings.Contains(words, w) && (w != "infection" || h != dataset.Problems) {
				return k.kind, true
			}
		}
	}
	switch h {
	case dataset.Safeguarding:
		return alertAdult, true
	case dataset.Alerts:
		return alertOther, true
	case dataset.Maternity:
		return alertPregnant, status == "active" || status == ""
	}
	return 0, false
}

func (t teller) wordsOfThing(r *fhir.Resource) string {
	said := t.tell(r)
	return join(" ", said.What, strings.Join(said.Codes, " "))
}

func newAlertItem(l line) alertItem {
	it := alertItem{Text: l.Told.What, Sources: l.Sources, Section: "s-" + string(l.Heading)}
	value := l.Told.Value
	if value == "" && len(l.Told.Notes) > 0 {
		value = l.Told.Notes[0]
	}
	it.More = join("; ", value, warningsOf(l), l.Conflict)
	if l.When != "" {
		it.More = join(" · ", it.More, l.When)
	}
	return it
}

// warningsOf is what warns of an entry: that it is a test to whoever sees it before others, that it was answered earlier, and so on.
func warningsOf(l line) string {
	var out []string
	for _, m := range l.Told.Marks {
		if m.Tone == toneGrave || m.Tone == toneWarn {
			out = append(out, m.Word)
		}
	}
	return strings.Join(out, ", ")
}

// allergyAlert is always there, and says one of four different things: what the allergies are; that there are none, which only an
// explicit statement while every source is heard can say; that none are recorded; or that it is not known.
func allergyAlert(rec *gather.Record, items []alertItem) alert {
	a := alert{Label: alertLabels[alertAllergy], Tone: toneGrave, Items: items}
	var sec *gather.Section
	for i := range rec.Sections {
		if rec.Sections[i].Heading == dataset.Allergies {
			sec = &rec.Sections[i]
		}
	}
	link := "s-" + string(dataset.Allergies)
	if sec == nil {
		a.Tone = toneWarn
		a.Items = []alertItem{{Text: "Not shown in this view", More: "This does not mean that there are none."}}
		return a
	}
	clear := clearOf(rec, sec)
	s := newSection(rec, sec, "")
	if len(items) > 0 {
		if len(sec.Unknown) > 0 || len(sec.NotShared) > 0 {
			a.Items = append(a.Items, alertItem{Text: "There may be more", More: sayReasons(s), Section: link})
		}
		return a
	}
	t := teller{rec: rec, clear: clear}
	for i := range sec.Entries {
		e := &sec.Entries[i]
		if negation(e.Lead) == "" || inError(e.Lead) || refuted(e.Lead) || !currentStatus(e.Lead) {
			continue
		}
		l := t.line(dataset.Allergies, e)
		a.Items = append(a.Items, alertItem{Text: l.Told.What, More: join(" · ", warningsOf(l), l.When, mayBeWithheld+" Ask."), Sources: l.Sources, Section: link})
		a.Tone = toneActive
	}
	switch {
	case s.State == stateAsking:
		a.Tone = toneMuted
		a.Items = append(a.Items, alertItem{Text: "Asking", More: "Not known yet.", Section: link})
	case !clear:
		a.Tone = toneWarn
		a.Items = append(a.Items, alertItem{Text: "Not known", More: sayReasons(s), Section: link})
	case len(a.Items) == 0:
		a.Tone = toneWarn
		text := stateNone.Word
		if len(sec.Entries) > 0 {
			text = "None current that you may see"
		}
		a.Items = append(a.Items, alertItem{Text: text, More: "No source states that there are none. " + mayBeWithheld + " Ask.", Section: link})
	}
	return a
}

func refuted(r *fhir.Resource) bool { return r.Text("verificationStatus.coding.code") == "refuted" }

// currentStatus reports whether a thing with a clinical status is in force; one without is taken to be.
func currentStatus(r *fhir.Resource) bool { s := statusOf(r); return s == "" || s == "active" }

func sayReasons(s section) string {
	var parts []string
	for _, r := range s.Reasons {
		parts = append(parts, r.Text)
	}
	if len(parts) == 0 {
		return "Not every source answered in full."
	}
	return strings.Join(parts, " ")
}

// withheld is what sources say they keep back or have not yet received.
func withheld(rec *gather.Record) []alertItem {
	var out []alertItem
	for _, l := range rec.Lanes {
		for _, w := range l.Warnings {
			if (w.Type == fhir.Suppressed || w.Type == fhir.Incomplete) && w.Text != "" {
				out = append(out, alertItem{Text: w.Text, Sources: []string{l.Name}})
			}
		}
	}
	return out
}
