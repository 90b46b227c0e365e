package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"tombolo/access"
	"tombolo/policy"
)

// Desk is what operators see. It never holds anything of a person's record.
type Desk interface {
	Desk(ctx context.Context, s *access.Session) (*DeskState, error)
}

// A DeskState is how the node stands.
type DeskState struct {
	Sources    []SourceState
	Quarantine []Quarantined // oldest first
	More       int           // how many more there are than are listed
	Audit      AuditState
	Events     uint64 // newest position of the log
	Followers  []Follower
	Lists      []CodeList // by which what is sensitive is known
	Locators   []LocatorState
	Registered []RegisteredState  // at this region's own locator, by custodian
	Stages     []policy.StageLine // of each system's release
	Notices    []NoticeState      // systems' Subscriptions, those in trouble first
	Jobs       []JobState         // what is done in the background for systems, what goes on first
}

// A LocatorState is a record locator above the region's, as operators see it: how it is asked, and how far it has been told.
type LocatorState struct {
	ID, Name    string
	State       string // "ok", "failing"
	Problem     string
	Asked, Told bool
	There       int // pointers registered
	In, Out     int // people who wait for one to be registered, and for one to be taken away
	Types       []RegisteredState
	Last        time.Time // when it was last kept up
}

// A NoticeState is a system's Subscription, as operators see it.
type NoticeState struct {
	System, ID    string
	Owner         string // who has to mend it: the system's organisation
	State         string // "ok", "failing", "silent" (not begun yet)
	Problem       string
	Events, Waits uint64
	Since         time.Time // since when its endpoint takes nothing
}

// Word is its state in a word.
func (n NoticeState) Word() stateWord { return deskStates[n.State] }

// A JobState is something that is done in the background for a system, as operators see it: an export, an import, or a SearchParameter that is being indexed.
type JobState struct {
	System, ID, What string
	State            string // "ok", "failing", "silent" (it waits)
	Progress         string
	Done             int // resources given, taken or looked at
	Begun, Ended     time.Time
}

// Word is its state in a word.
func (j JobState) Word() stateWord {
	switch {
	case j.State == "ok" && !j.Ended.IsZero():
		return stateWord{"Ended", "✓", "muted"}
	case j.State == "silent":
		return stateWord{"Waiting", "◐", "warn"}
	}
	return deskStates[j.State]
}

// A RegisteredState is how many pointers there are of a kind.
type RegisteredState struct {
	What string
	N    int
}

// A CodeList is one list of codes that make an entry sensitive.
type CodeList struct {
	Title, Version string
	Codes          int
	Complete       bool
	Does           string // what is done with it
}

// A SourceState is one source as operators see it.
type SourceState struct {
	ID, Name, Organisation string
	Connector              string // kind
	Way                    string // pushes, is asked, both
	State                  string // "ok", "failing", "silent", "off"
	Problem                string // why, and what to do
	Last                   time.Time
	Accepted, Rejected     int
	Page                   bool // it has a page of its own
}

// A Quarantined delivery could not be taken in, and waits for somebody.
type Quarantined struct {
	ID, Source string
	Hash       string // of its bytes: names it
	Reason     string
	Where      string // place in the message: "PID-3", "row 12"
	Owner      string
	Since      time.Time
	Bytes      int64
}

// An AuditState is what is known of the audit chain.
type AuditState struct {
	OK      bool
	Entries int
	Head    string // hash of the newest entry
	Checked time.Time
	Problem string
}

// A Follower reads the log.
type Follower struct {
	Name   string
	At     uint64
	Behind uint64
}

type deskPage struct {
	*DeskState
	Now    time.Time
	Scoped bool // what each source gives has a page
}

func (s *Site) desk(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	info, _ := session.Role.Info()
	if s.opts.Desk == nil || !info.Operates {
		return errNotFound
	}
	st, err := s.opts.Desk.Desk(r.Context(), session)
	if err != nil {
		return err
	}
	l := s.newLayout(r, session, "Desk", deskPage{st, s.opts.Now(), s.opts.Scope != nil})
	l.Wide = true
	return s.show(w, http.StatusOK, "desk", l)
}

var deskStates = map[string]stateWord{
	"ok": {"Working", "✓", "ok"}, "failing": {"Failing", "✕", "grave"}, "silent": {"Silent", "◐", "warn"}, "off": {"Off", "○", "muted"},
}

// Word is the locator's state in a word.
func (l LocatorState) Word() stateWord { return deskStates[l.State] }

// Waits says how many wait, in words.
func (l LocatorState) Waits() string {
	if !l.Told {
		return "is not told anything"
	}
	if l.In+l.Out == 0 {
		return "nobody waits"
	}
	return strconv.Itoa(l.In) + " to register, " + strconv.Itoa(l.Out) + " to take away"
}

// Word is the source's state in a word.
func (s SourceState) Word() stateWord {
	if w, ok := deskStates[s.State]; ok {
		return w
	}
	return stateWord{sayCode(s.State), "?", "warn"}
}

// Seen is when the source was last heard of.
func (s SourceState) Seen() string {
	if s.Last.IsZero() {
		return "never"
	}
	return sayTime(s.Last)
}

// Waiting is how long a delivery has waited.
func (p deskPage) Waiting(q Quarantined) string { return sayAgo(q.Since, p.Now) }

// Total is how many deliveries wait.
func (p deskPage) Total() string { return strconv.Itoa(len(p.Quarantine) + p.More) }

// Size is how large the delivery is.
func (q Quarantined) Size() string { return sayBytes(q.Bytes) }
