package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// Choices is where a person's choices about sharing are read and recorded: by the person, or by a privacy officer whom they have asked. Whoever else
// asks is told what they are told of somebody unknown.
type Choices interface {
	// ChoicesOf tells what has been chosen. The reading is audited before it returns.
	ChoicesOf(ctx context.Context, s *access.Session, person string) (*ChoicesState, error)
	// WhoseChoices finds a person for a privacy officer.
	WhoseChoices(ctx context.Context, s *access.Session, id fhir.Identifier) (person string, err error)
	// EffectOf tells what a choice would take from whom, if it were made now.
	EffectOf(ctx context.Context, s *access.Session, person string, o policy.Objection) ([]ChoiceEffect, error)
	// Object records a choice, which is in force when it returns. TakeBack ends one.
	Object(ctx context.Context, s *access.Session, person string, o policy.Objection) error
	TakeBack(ctx context.Context, s *access.Session, person, id, words string) error
}

// A ChoicesState is what a person has chosen, newest first.
type ChoicesState struct {
	Name, Born, NHS string
	Here            []policy.Objection // recorded here, those that are over among them
	Elsewhere       []ChoiceElsewhere
	Organisations   []ChoiceParty
}

// BornSaid is the date of birth, and Spaced the NHS number, as they are written for people. NHS Common User Interface, patient banner
func (s ChoicesState) BornSaid() string { return sayDate(s.Born) }

// Spaced is the NHS number in groups of three, three and four; as it came if it is none.
func (s ChoicesState) Spaced() string {
	if n, err := fhir.ParseNHSNumber(s.NHS); err == nil {
		return n.Spaced()
	}
	return s.NHS
}

// A ChoiceElsewhere is one that a source has recorded.
type ChoiceElsewhere struct {
	policy.Objection
	Source string // who recorded it, as people call them
	Clear  bool   // the objection is all that it says
	Acts   bool   // it says that somebody acts for the person
	Counts bool   // what it says is heeded here
}

// A ChoiceParty is an organisation that can be chosen.
type ChoiceParty struct{ ODS, Name string }

// A ChoiceEffect is what one organisation would see no more.
type ChoiceEffect struct {
	Organisation string
	All          bool // of all that it sees now
	Headings     []dataset.Heading
}

type choicesPage struct {
	State    *ChoicesState
	Form     choiceForm
	Action   string // where the forms go
	Mine     bool   // the reader is the person
	Error    string
	ErrorAt  string
	Done     string
	Check    bool // the choice is shown before it is recorded
	Effects  []ChoiceEffect
	Now      time.Time
	names    map[string]string
	Headings []pair
	Groups   []pair
}

type choiceForm struct{ ID, Recipient, Holder, Heading, Sensitivity, Until, Words string }

func (f choiceForm) objection() policy.Objection {
	return policy.Objection{ID: f.ID, Recipient: f.Recipient, Holder: f.Holder, Heading: dataset.Heading(f.Heading), Sensitivity: f.Sensitivity, LastDay: f.Until, Made: policy.Deed{Words: f.Words}}
}

func readChoice(r *http.Request) choiceForm {
	v := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	return choiceForm{v("id"), v("recipient"), v("holder"), v("heading"), v("sensitivity"), v("until"), v("words")}
}

// whose is the person whose choices a request is about: the citizen's own, or the one that a privacy officer's address names.
func (s *Site) whose(r *http.Request, session *access.Session) (person, action string, err error) {
	if s.opts.Choices == nil {
		return "", "", errNotFound
	}
	if person = r.PathValue("person"); person == "" {
		person, err = s.myself(r.Context(), session)
		return person, "/me/choices", err
	}
	if !s.mayPrivacy(session) || !fhir.ValidID(person) {
		return "", "", errNotFound
	}
	return person, "/privacy/choices/" + person, nil
}

func (s *Site) choices(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	done := map[string]string{"made": "The choice is recorded, and in force now.", "back": "The choice is taken back, and no longer in force."}[r.URL.Query().Get("done")]
	return s.showChoices(w, r, session, http.StatusOK, choicesPage{Done: done})
}

func (s *Site) showChoices(w http.ResponseWriter, r *http.Request, session *access.Session, status int, p choicesPage) error {
	person, action, err := s.whose(r, session)
	if err != nil {
		return err
	}
	if p.State, err = s.opts.Choices.ChoicesOf(r.Context(), session, person); err != nil {
		return err
	}
	p.Action, p.Mine, p.Now, p.names = action, r.PathValue("person") == "", s.opts.Now(), map[string]string{}
	for _, o := range p.State.Organisations {
		p.names[o.ODS] = o.Name
	}
	for _, h := range dataset.All {
		if h.Heading != dataset.Demographics { // who somebody is goes with whatever is shown of them
			p.Headings = append(p.Headings, pair{string(h.Heading), h.Plain})
		}
	}
	for _, g := range policy.SensitivityGroups {
		p.Groups = append(p.Groups, pair{g.ID, g.Plain})
	}
	title := "Choices about sharing"
	if p.Check {
		title = "Check the choice"
	}
	if p.Error != "" {
		title = "Error: " + title
	}
	return s.show(w, status, "choices", s.newLayout(r, session, title, p))
}

// choose shows what a choice would do, and records it once that has been seen.
func (s *Site) choose(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person, action, err := s.whose(r, session)
	if err != nil {
		return err
	}
	p := choicesPage{Form: readChoice(r)}
	o := p.Form.objection()
	err = o.Check(s.opts.Now())
	if err == nil && r.PathValue("person") != "" && len(o.Made.Words) < 10 {
		err = fhir.Errorf(fhir.Required, "say how you know that the person wants this").At("words")
	}
	switch {
	case err != nil:
	case r.PostFormValue("step") == "record":
		if err = s.opts.Choices.Object(r.Context(), session, person, o); err == nil {
			http.Redirect(w, r, action+"?done=made", http.StatusSeeOther)
			return nil
		}
	default:
		p.Check, p.Form.ID = true, access.NewTrace() // pressed twice, it is one choice
		p.Effects, err = s.opts.Choices.EffectOf(r.Context(), session, person, o)
	}
	if i := fhir.IssueOf(err); i != nil && (i.Type == fhir.Required || i.Type == fhir.CodeInvalid || i.Type == fhir.ValueError) {
		p.Error, p.ErrorAt, p.Check = sentence(i.Text), i.Expression, false
		return s.showChoices(w, r, session, http.StatusBadRequest, p)
	}
	if err != nil {
		return err
	}
	return s.showChoices(w, r, session, http.StatusOK, p)
}

func (s *Site) takeBack(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person, action, err := s.whose(r, session)
	if err != nil {
		return err
	}
	if err := s.opts.Choices.TakeBack(r.Context(), session, person, r.PostFormValue("id"), strings.TrimSpace(r.PostFormValue("words"))); err != nil {
		return err
	}
	http.Redirect(w, r, action+"?done=back", http.StatusSeeOther)
	return nil
}

// findChoices leads a privacy officer to somebody's choices. The number comes in the body of the form.
func (s *Site) findChoices(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if !s.mayPrivacy(session) || s.opts.Choices == nil {
		return errNotFound
	}
	f := readPrivacyForm(r)
	id := fhir.Identifier{System: f.System, Value: f.Value}
	err := id.Canonical().Check()
	var person string
	if err == nil {
		person, err = s.opts.Choices.WhoseChoices(r.Context(), session, id)
	}
	if fhir.Is(err, fhir.NotFound) {
		return s.showPrivacy(w, r, session, http.StatusNotFound, privacyPage{Form: f, Error: "Nobody with this number is known here"})
	}
	if i := fhir.IssueOf(err); i != nil && i.Type == fhir.ValueError {
		return s.showPrivacy(w, r, session, http.StatusBadRequest, privacyPage{Form: f, Error: sentence(i.Text)})
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/privacy/choices/"+person, http.StatusSeeOther)
	return nil
}

// Active are the choices made here that hold.
func (p choicesPage) Active() []policy.Objection {
	return slices.DeleteFunc(slices.Clone(p.State.Here), func(o policy.Objection) bool { return !o.In(p.Now) })
}

// Over are those that hold no more.
func (p choicesPage) Over() []policy.Objection {
	return slices.DeleteFunc(slices.Clone(p.State.Here), func(o policy.Objection) bool { return o.In(p.Now) })
}

// Asked is the choice of the form.
func (p choicesPage) Asked() policy.Objection { return p.Form.objection() }

// Says is a choice in a sentence.
func (p choicesPage) Says(o policy.Objection) string {
	whose := "your record"
	if !p.Mine {
		whose = "the record"
	}
	who := "No service sees "
	if o.Recipient != "" {
		who = "Nobody at " + p.name(o.Recipient) + " sees "
	}
	what := whose
	if o.Heading != "" {
		what = "“" + plainTitle(o.Heading) + "” in " + whose
	}
	for _, g := range policy.SensitivityGroups {
		if g.ID == o.Sensitivity {
			what = "what is marked as “" + g.Plain + "” in " + what
		}
	}
	if o.Holder != "" {
		what += ", of what " + p.name(o.Holder) + " holds"
	}
	if o.LastDay != "" {
		what += ", until " + plainDate(o.LastDay)
	}
	return who + what + "."
}

func (p choicesPage) name(ods string) string {
	if n := p.names[ods]; n != "" {
		return n
	}
	return ods
}

// By is who did something, and how they knew that it was wanted.
func (p choicesPage) By(d policy.Deed) string {
	switch {
	case p.Mine && d.Words == "":
		return "you"
	case d.Words == "":
		return d.Name
	}
	return d.Name + ", who wrote: " + strings.TrimRight(d.Words, ".")
}

// Day is when something was done, "" if that is not known.
func (p choicesPage) Day(d policy.Deed) string {
	if d.At.IsZero() {
		return ""
	}
	return plainDate(d.At.In(fhir.London).Format(time.DateOnly))
}

// Lost is what an organisation would see no more, in words.
func (p choicesPage) Lost(e ChoiceEffect) string {
	if e.All && p.Form.Sensitivity == "" {
		return "all that it sees now"
	}
	var parts []string
	for _, h := range e.Headings {
		parts = append(parts, plainTitle(h))
	}
	out := strings.Join(parts, ", ")
	if p.Form.Sensitivity != "" {
		out = "what is marked so in: " + out
	}
	return out
}
