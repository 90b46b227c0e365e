package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/fhir"
)

// Feeds is what operators see and do at one source.
type Feeds interface {
	// Feed is how a source stands, or NotFound.
	Feed(ctx context.Context, s *access.Session, source string) (*FeedState, error)
	// OpenHeld gives the bytes of what waits in quarantine under a hash, once it is recorded who opened it and why. Whoever holds no reason gets Required.
	OpenHeld(ctx context.Context, s *access.Session, source, hash, reason string) (Quarantined, []byte, error)
	// TakeHeld takes it in again with the source's mapping as it is now, and records who did. The error says why it still cannot be taken.
	TakeHeld(ctx context.Context, s *access.Session, source, hash string) error
}

// A FeedState is how one source stands.
type FeedState struct {
	SourceState
	Duplicates, Failed int
	Reused             int       // messages under the id of another
	LastReused         time.Time // the last of those
	Wire               []Count   // what its connections have met with
	Held               []Quarantined
	More               int   // how many more wait than are listed
	Gaps               []Gap // messages and fields, then repetitions and components, each with the most frequent first
	Sampled            int   // in how many messages, taken at random of all that are kept, the gaps were counted
	Gappable           bool  // there is a mapping of which gaps can be told
}

// A Count is something that was counted since the node started.
type Count struct {
	What string
	N    int64
	Odd  bool // somebody should look when it is not zero
}

// A Gap is something that a source sends and that is kept, and not mapped.
type Gap struct {
	What  string
	Count int
}

type feedPage struct {
	*FeedState
	Now    time.Time
	Done   bool         // what waited was taken
	Opened *Quarantined // is shown
	Raw    string
	Error  string
	ErrAt  string // hash of what the error is about
}

func (s *Site) feed(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.showFeed(w, r, session, http.StatusOK, feedPage{Done: r.URL.Query().Get("taken") != ""})
}

func (s *Site) showFeed(w http.ResponseWriter, r *http.Request, session *access.Session, status int, p feedPage) error {
	info, _ := session.Role.Info()
	if s.opts.Feeds == nil || !info.Operates {
		return errNotFound
	}
	st, err := s.opts.Feeds.Feed(r.Context(), session, r.PathValue("feed"))
	if err != nil {
		return err
	}
	p.FeedState, p.Now = st, s.opts.Now()
	title := st.Name
	if p.Error != "" {
		title = "Error: " + title
	}
	l := s.newLayout(r, session, title, p)
	l.Wide = true
	return s.show(w, status, "feed", l)
}

// openHeld shows what waits in quarantine. What it is and why it is opened come in the body: an address is written to logs.
func (s *Site) openHeld(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	info, _ := session.Role.Info()
	if s.opts.Feeds == nil || !info.Operates {
		return errNotFound
	}
	hash := r.PostFormValue("held")
	q, raw, err := s.opts.Feeds.OpenHeld(r.Context(), session, r.PathValue("feed"), hash, strings.TrimSpace(r.PostFormValue("reason")))
	if fhir.Is(err, fhir.Required) {
		return s.showFeed(w, r, session, http.StatusBadRequest, feedPage{Error: fhir.IssueOf(err).Text, ErrAt: hash})
	}
	if fhir.Is(err, fhir.Forbidden) {
		return s.showFeed(w, r, session, http.StatusForbidden, feedPage{Error: fhir.IssueOf(err).Text, ErrAt: hash})
	}
	if err != nil {
		return err
	}
	return s.showFeed(w, r, session, http.StatusOK, feedPage{Opened: &q, Raw: readable(raw)})
}

// readable is a message as lines of text: what is no text is shown by its number.
func readable(raw []byte) string {
	const most = 256 << 10
	cut := len(raw) > most
	text := strings.ToValidUTF8(string(raw[:min(len(raw), most)]), "\ufffd")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	text = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return '\ufffd'
		}
		return c
	}, text)
	if cut {
		text += "\n… (cut here: it is longer)"
	}
	return text
}

func (s *Site) takeHeld(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	info, _ := session.Role.Info()
	if s.opts.Feeds == nil || !info.Operates {
		return errNotFound
	}
	feed, hash := r.PathValue("feed"), r.PostFormValue("held")
	err := s.opts.Feeds.TakeHeld(r.Context(), session, feed, hash)
	if fhir.Is(err, fhir.NotFound) {
		return s.showFeed(w, r, session, http.StatusNotFound, feedPage{Error: "It does not wait here: it may have been taken already."})
	}
	if i := fhir.IssueOf(err); i != nil && i.Type != fhir.NoStore {
		return s.showFeed(w, r, session, http.StatusConflict, feedPage{Error: "It still cannot be taken: " + i.Error(), ErrAt: hash})
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/desk/feeds/"+url.PathEscape(feed)+"?taken=1", http.StatusSeeOther)
	return nil
}

// Waiting is how long a delivery has waited.
func (p feedPage) Waiting(q Quarantined) string { return sayAgo(q.Since, p.Now) }

// Total is how many deliveries wait.
func (p feedPage) Total() int { return len(p.Held) + p.More }

// Address is where the source's page is.
func (s SourceState) Address() string { return "/desk/feeds/" + url.PathEscape(s.ID) }
