package web

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/fhir"
)

// Privacy is what the privacy officer works with, and where citizens' questions go. Each reading of it is itself audited before
// it returns.
type Privacy interface {
	// Concern asks the privacy officer about looks at a citizen's own record.
	Concern(ctx context.Context, s *access.Session, person string, entries []uint64, words string) error
	Queue(ctx context.Context, s *access.Session, closed bool) ([]PrivacyItem, error)
	Decide(ctx context.Context, s *access.Session, id, state, note string) error
	// AuditSearch finds entries, newest first; more says that there are others beyond limit.
	AuditSearch(ctx context.Context, s *access.Session, q AuditQuery, limit int) (rows []AuditRow, more bool, err error)
	AuditExport(ctx context.Context, s *access.Session, q AuditQuery, w io.Writer) error
}

// A PrivacyItem is an alert or a citizen's question.
type PrivacyItem struct {
	ID, Title                     string
	Grave                         bool
	Reason, Words                 string
	Who, User, Role, Organisation string
	Person                        string // id
	Entries                       []uint64
	Count                         int
	First, Last                   time.Time
	State                         string
	Closed                        bool
	Owner                         string        // who took it up; "" while it waits
	Age                           time.Duration // since it was raised
	Overdue                       bool
	Steps                         []PrivacyStep
}

// AgeWords is the item's age in words.
func (i PrivacyItem) AgeWords() string {
	switch days := int(i.Age.Hours()) / 24; days {
	case 0:
		return "In the queue since today"
	case 1:
		return "In the queue for a day"
	default:
		return "In the queue for " + strconv.Itoa(days) + " days"
	}
}

// A PrivacyStep is a decision about an item.
type PrivacyStep struct {
	At              time.Time
	By, State, Note string
}

// An AuditQuery asks for entries; what is empty does not narrow.
type AuditQuery struct {
	Identifier fhir.Identifier // of the person
	User       string
	From, To   time.Time // To is not included
}

// An AuditRow is an entry of the audit log.
type AuditRow struct {
	Entry                         uint64
	At                            time.Time
	Who, User, Role, Organisation string
	Kind, Why, Person, What       string
	Refused                       bool
}

// auditRows is how many entries a search shows; all of them are in the export.
const auditRows = 200

type privacyPage struct {
	Items   []PrivacyItem
	Closed  bool
	Form    privacyForm
	Asked   bool // a search was made
	Rows    []AuditRow
	More    bool
	Kinds   []IdentifierKind
	Choices bool // the person's choices can be opened
	Error   string
	ErrorAt string // id of the item whose form was wrong
}

type privacyForm struct{ System, Value, User, From, To string }

func (s *Site) privacy(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.showPrivacy(w, r, session, http.StatusOK, privacyPage{Closed: r.URL.Query().Get("closed") != ""})
}

func (s *Site) mayPrivacy(session *access.Session) bool {
	info, _ := session.Role.Info()
	return info.Audit && s.opts.Privacy != nil
}

func (s *Site) showPrivacy(w http.ResponseWriter, r *http.Request, session *access.Session, status int, p privacyPage) error {
	if !s.mayPrivacy(session) {
		return errNotFound
	}
	var err error
	if p.Items, err = s.opts.Privacy.Queue(r.Context(), session, p.Closed); err != nil {
		return err
	}
	p.Choices = s.opts.Choices != nil
	p.Kinds = slices.Concat(nationalNumbers, s.opts.Identifiers)
	title := "Who looked"
	if p.Error != "" {
		title = "Error: " + title
	}
	l := s.newLayout(r, session, title, p)
	l.Wide = true
	return s.show(w, status, "privacy", l)
}

// auditQuery reads the form. A person's number comes in the body only: an address is written to logs.
func (f privacyForm) query() (q AuditQuery, err error) {
	if f.Value != "" {
		q.Identifier = fhir.Identifier{System: f.System, Value: f.Value}
		if err := q.Identifier.Canonical().Check(); err != nil {
			return q, err
		}
	}
	q.User = f.User
	for _, d := range []struct {
		text string
		to   *time.Time
		add  int
	}{{f.From, &q.From, 0}, {f.To, &q.To, 1}} {
		if d.text == "" {
			continue
		}
		t, err := time.ParseInLocation("2006-01-02", d.text, fhir.London)
		if err != nil {
			return q, fhir.Errorf(fhir.ValueError, "write a date as 2026-11-22")
		}
		*d.to = t.AddDate(0, 0, d.add)
	}
	return q, nil
}

func readPrivacyForm(r *http.Request) privacyForm {
	v := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	return privacyForm{v("system"), v("value"), v("user"), v("from"), v("to")}
}

func (s *Site) searchAudit(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if !s.mayPrivacy(session) {
		return errNotFound
	}
	p := privacyPage{Form: readPrivacyForm(r), Asked: true}
	q, err := p.Form.query()
	if err == nil {
		p.Rows, p.More, err = s.opts.Privacy.AuditSearch(r.Context(), session, q, auditRows)
	}
	if i := fhir.IssueOf(err); i != nil && i.Type != fhir.NoStore && i.Type != fhir.Exception {
		p.Error, p.Asked = i.Text, false
		return s.showPrivacy(w, r, session, http.StatusBadRequest, p)
	}
	if err != nil {
		return err
	}
	return s.showPrivacy(w, r, session, http.StatusOK, p)
}

func (s *Site) exportAudit(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if !s.mayPrivacy(session) {
		return errNotFound
	}
	q, err := readPrivacyForm(r).query()
	if err != nil {
		return err
	}
	out := &download{w: w}
	err = s.opts.Privacy.AuditExport(r.Context(), session, q, out)
	if err != nil && out.begun {
		s.log.Error("an export of the audit log broke off", "error", err.Error())
		panic(http.ErrAbortHandler) // a list that is cut short must not look whole
	}
	return err
}

// A download sends its headers with the first byte, so that what fails before it can still be a page.
type download struct {
	w     http.ResponseWriter
	begun bool
}

// Write sends a part of the file.
func (d *download) Write(b []byte) (int, error) {
	if !d.begun {
		d.begun = true
		h := d.w.Header()
		h.Set("Content-Type", "text/csv; charset=utf-8")
		h.Set("Content-Disposition", `attachment; filename="who-looked.csv"`)
	}
	return d.w.Write(b)
}

func (s *Site) decide(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if !s.mayPrivacy(session) {
		return errNotFound
	}
	id := r.PathValue("id")
	err := s.opts.Privacy.Decide(r.Context(), session, id, r.PostFormValue("state"), r.PostFormValue("note"))
	if i := fhir.IssueOf(err); i != nil && (i.Type == fhir.Required || i.Type == fhir.CodeInvalid) {
		return s.showPrivacy(w, r, session, http.StatusBadRequest, privacyPage{Error: i.Text, ErrorAt: id})
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/privacy", http.StatusSeeOther)
	return nil
}

var privacyStates = []pair{{"looking", "I am looking into it"}, {"appropriate", "There was a good reason"}, {"misuse", "It was misuse"}, {"mistaken", "Raised for nothing"}}

// States are those to which an item can go.
func (p privacyPage) States() []pair { return privacyStates }

// StateWord is the item's state in words.
func (i PrivacyItem) StateWord() string {
	switch i.State {
	case "new":
		return "New"
	case "looking":
		return "Being looked into"
	case "appropriate":
		return "Good reason"
	case "misuse":
		return "Misuse"
	}
	return "Raised for nothing"
}

// By is who did it.
func (i PrivacyItem) By() string {
	out := i.Who
	if i.Role != "" {
		out += ", " + i.Role
	}
	if i.Organisation != "" {
		out += ", " + i.Organisation
	}
	return out
}
