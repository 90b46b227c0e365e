package web

import (
	"log/slog"
	"net/http"

	"tombolo/access"
	"tombolo/fhir"
)

// A problem is the page shown when there is nothing else to show.
type problem struct {
	Heading string
	Text    string
	Detail  string // for whoever can mend it; "" if nothing is to be told
	SignIn  bool
}

// The one page for what is not there and for what may not be known to be there: same status, headers and body (design law 4).
var notFound = problem{
	Heading: "Not found",
	Text:    "There is nothing here, or nothing that can be shown to you. Check the address or the number, and who you are signed in as.",
}

// fail turns an error into a page. What the reader may act on is told; what went wrong inside is logged and not shown.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, session *access.Session, err error) {
	status, p := http.StatusInternalServerError, problem{Heading: "Sorry, there is a problem with this service", Text: "Nothing is lost. Try again in a minute; if it goes on, tell the service desk the time at which you saw this."}
	is := fhir.IssueOf(err)
	switch {
	case is == nil:
	case is.Type == fhir.NotFound, is.Type == fhir.Suppressed, is.Type == fhir.Deleted:
		status, p = http.StatusNotFound, notFound
	case is.Type == fhir.Login:
		status, p = http.StatusUnauthorized, problem{Heading: "Sign in again", Text: "Your session has ended. Nothing was sent.", SignIn: true}
	case is.Type == fhir.Forbidden:
		status, p = http.StatusForbidden, problem{Heading: "Not allowed", Text: sentence(is.Text)}
	case is.Type == fhir.NotSupported:
		status, p = http.StatusUnsupportedMediaType, problem{Heading: "This cannot be opened here", Text: sentence(is.Text)}
	case is.Type == fhir.TooLong:
		status, p = http.StatusRequestEntityTooLarge, problem{Heading: "This is too large to open here", Text: sentence(is.Text)}
	case is.Type == fhir.Required, is.Type == fhir.ValueError, is.Type == fhir.Invalid:
		status, p = http.StatusBadRequest, problem{Heading: "That could not be read", Text: sentence(is.Text)}
	case is.Type == fhir.Throttled && is.After > 0: // it is us whom they ask too much
		status, p = http.StatusTooManyRequests, problem{Heading: "Too many at once", Text: "More was asked for in a short time than one person can read. Wait a minute, and try again. If this keeps happening while you work as usual, tell the service desk."}
		w.Header().Set("Retry-After", is.RetryAfter())
	case is.Type == fhir.Timeout, is.Type == fhir.Transient, is.Type == fhir.Throttled:
		status, p = http.StatusServiceUnavailable, problem{Heading: "No answer just now", Text: "What was asked for did not answer in time. Try again in a minute. This does not mean that there is nothing."}
		w.Header().Set("Retry-After", "30")
	}
	if status == http.StatusInternalServerError {
		// The pattern, not the path: a path is the requester's to fill.
		s.log.Error("page failed", slog.String("route", r.Pattern), slog.String("error", err.Error()))
	}
	title := p.Heading
	if err := s.show(w, status, "problem", layout{Title: title, Site: s.opts.Name, Session: session, Links: s.links(session, ""), Body: p}); err != nil {
		http.Error(w, title, status)
	}
}
