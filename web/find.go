package web

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
)

// A findForm is the form by which a person is found, as it stands or as it came back.
type findForm struct {
	Kinds  []IdentifierKind
	System string
	Value  string
	Error  string
	Glass  *glassForm // offered to those who may break the glass whenever nothing was found, whoever was looked for
}

// The national numbers, which every node can be asked by.
var nationalNumbers = []IdentifierKind{
	{fhir.SystemNHSNumber, "NHS number"}, {fhir.SystemCHI, "CHI number (Scotland)"}, {fhir.SystemHCN, "Health and care number (Northern Ireland)"},
}

func (s *Site) findPage(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if session.Locked != "" { // launched for one person: there is nobody to find
		http.Redirect(w, r, "/record/"+session.Locked, http.StatusSeeOther)
		return nil
	}
	if done, err := s.elsewhere(w, r, session, ""); done || err != nil {
		return err
	}
	return s.askWho(w, r, session, http.StatusOK, findForm{System: fhir.SystemNHSNumber})
}

func (s *Site) askWho(w http.ResponseWriter, r *http.Request, session *access.Session, status int, f findForm) error {
	f.Kinds = slices.Concat(nationalNumbers, s.opts.Identifiers)
	title := "Find a person"
	if f.Error != "" {
		title = "Error: " + title
	}
	return s.show(w, status, "find", s.newLayout(r, session, title, f))
}

// find takes the form and goes on to the record, whose address carries an opaque id and no number (design law 9).
func (s *Site) find(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if session.Locked != "" {
		return errNotFound
	}
	if done, err := s.elsewhere(w, r, session, ""); done || err != nil {
		return err
	}
	f := findForm{System: r.PostFormValue("system"), Value: strings.TrimSpace(r.PostFormValue("value"))}
	if f.System == "" {
		f.System = fhir.SystemNHSNumber
	}
	if f.Value == "" {
		f.Error = "Enter a number"
		return s.askWho(w, r, session, http.StatusBadRequest, f)
	}
	id := fhir.Identifier{System: f.System, Value: f.Value}.Canonical()
	if err := id.Check(); err != nil {
		f.Error = sentence(fhir.IssueOf(err).Text)
		return s.askWho(w, r, session, http.StatusBadRequest, f)
	}
	person, err := s.opts.Records.Find(r.Context(), session, id)
	switch {
	case err == nil:
		http.Redirect(w, r, "/record/"+person, http.StatusSeeOther)
		return nil
	case fhir.Is(err, fhir.NotFound), fhir.Is(err, fhir.Suppressed):
		f.Error = "No record was found with that number that you can open. Check the number; it may also belong to a person whom no joined source knows."
		if session.MayBreakGlass() {
			f.Glass = &glassForm{System: f.System, Value: f.Value, Reasons: glassReasons, Scopes: glassScopes}
		}
		return s.askWho(w, r, session, http.StatusNotFound, f)
	case fhir.Is(err, fhir.ValueError), fhir.Is(err, fhir.Required), fhir.Is(err, fhir.Invalid):
		f.Error = sentence(fhir.IssueOf(err).Text)
		return s.askWho(w, r, session, http.StatusBadRequest, f)
	case fhir.Is(err, fhir.MultipleMatch):
		f.Error = "More than one person has that number. Use another number, and tell the service desk."
		return s.askWho(w, r, session, http.StatusConflict, f)
	}
	return err
}

// sentence makes a sentence of an issue's text.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.TrimRight(s[1:], ".") + "."
}
