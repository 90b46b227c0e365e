package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/fhir"
)

// heartbeat keeps proxies from closing a stream on which nothing is said.
const heartbeat = 10 * time.Second

// A part is one fragment on the event stream: the element with this id becomes this.
type part struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// events sends the parts of an open record as its sources answer. A stream that is joined late or again begins with all of them: the page
// passes over what it has. With no such viewing it answers 204, at which browsers stop asking.
//
// WHATWG HTML §9.2 Server-sent events
func (s *Site) events(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v := s.viewings.find(session, r.PathValue("person"), r.FormValue("view"))
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Time{}) // the gathering has its own end
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it all back
	sent := map[string]string{}
	for n := 0; ; {
		sn, err := s.nextOrBeat(r.Context(), w, v, n)
		if err != nil {
			if !fhir.Is(err, fhir.Timeout) {
				say(w, "stopped", "")
				_ = out.Flush()
			}
			return nil // the stream has begun: there is no page to make of it
		}
		parts, order, err := s.fragments(sn.Record, "/record/"+v.person)
		if err != nil {
			s.log.Error("the event stream could not make a fragment", "error", err.Error())
			say(w, "stopped", "")
			return nil
		}
		for _, id := range order {
			if sent[id] == parts[id] {
				continue
			}
			sent[id] = parts[id]
			body, _ := json.Marshal(part{id, parts[id]})
			say(w, "part", string(body))
		}
		if sn.done {
			say(w, "done", newStrip(sn.Record).Headline)
		}
		if out.Flush() != nil || sn.done {
			return nil
		}
		n = sn.n
	}
}

// nextOrBeat waits for a later snapshot and keeps the stream alive meanwhile.
func (s *Site) nextOrBeat(r context.Context, w http.ResponseWriter, v *viewing, n int) (snapshot, error) {
	for {
		ctx, cancel := context.WithTimeout(r, heartbeat)
		sn, err := v.next(ctx, n)
		cancel()
		if err == nil || r.Err() != nil || !fhir.Is(err, fhir.Timeout) {
			return sn, err
		}
		_, _ = fmt.Fprint(w, ": still asking\n\n")
		if http.NewResponseController(w).Flush() != nil {
			return sn, err
		}
	}
}

// say writes one event. Data is one line: JSON has no raw line breaks, and a sentence of ours has none either.
func say(w http.ResponseWriter, event, data string) {
	_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, strings.NewReplacer("\n", " ", "\r", " ").Replace(data))
}
