package node

import (
	"context"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/watch"
	"tombolo/web"
)

// WhoLooked lists who opened a person's record or tried to, newest first, for the person themselves. The entries of one opening are one look.
func (n *Node) WhoLooked(ctx context.Context, s *access.Session, person string) ([]web.Look, error) {
	if _, err := n.Gather.Who(ctx, s, person); err != nil {
		return nil, err // only those who may open the record may know who else did
	}
	var out []web.Look
	byTrace := map[string]int{}
	for e, err := range n.Audit.Show(ctx, person, 0, 0) {
		if err != nil {
			return nil, err
		}
		sum, err := e.Summary()
		if err != nil {
			return nil, err
		}
		if !sum.Shows() && sum.Kind != audit.Denied && sum.Kind != audit.Verified {
			continue
		}
		look := lookOf(sum)
		if i, ok := byTrace[sum.User+sum.Trace]; ok && sum.Trace != "" {
			was := &out[i]
			was.Entry, was.BrokeGlass = look.Entry, was.BrokeGlass || look.BrokeGlass
			if look.What != whoYouAre {
				was.What = look.What
			}
			continue
		}
		byTrace[sum.User+sum.Trace] = len(out)
		out = append(out, look)
	}
	slices.Reverse(out)
	asked, err := n.Watch.Concerns(ctx, person)
	if err != nil {
		return nil, err
	}
	for i := range out {
		for _, it := range asked {
			if slices.Contains(it.Entries, audit.Seq(out[i].Entry)) {
				out[i].Asked, out[i].Answered = it.Raised, it.State.Closed()
			}
		}
	}
	return out, nil
}

func lookOf(s audit.Summary) web.Look {
	look := web.Look{Entry: uint64(s.Seq), User: s.User, At: s.At, Who: s.Who, Role: s.Role, Organisation: s.Organisation, Why: purposeWords[s.Purpose], What: headingsShown(s.What),
		BrokeGlass: s.Kind == audit.BreakGlass || len(s.Said("emergency")) > 0, Refused: s.Kind == audit.Denied, Own: s.Purpose == policy.PatientRequest.Code()}
	switch {
	case s.Kind == audit.Verified:
		look.Why, look.What = "to check who has looked at your record", "this list, and nothing of your record"
		look.Background = "Privacy officers look after this list. They see who looked and when, not what is in your record."
	case s.Kind == audit.Export:
		look.Copied = true
		look.Background = "A copy was written to a file: because you asked, or because the record moves to another system."
		if why := s.Said("reason"); len(why) > 0 {
			look.Background += " The reason given: " + strings.TrimSuffix(strings.Join(why, "; "), ".") + "."
		}
	case s.Kind == audit.Notified:
		look.Told = true
		look.Background = "A system, not a person at a screen, was told that something in your record changed, as agreed for your care."
	case strings.Contains(s.User, "/"):
		look.Background = "Asked through the record of a neighbouring region, where this person works. Their region keeps its own list too."
	}
	if look.Refused {
		look.What = "nothing: they were refused"
	}
	return look
}

var purposeWords = map[string]string{
	"TREAT": "to care for you", "ETREAT": "in an emergency", "SAFETY": "to keep somebody safe", "PATADMIN": "to arrange your care", "PATRQT": "you looked yourself",
	"RECORDMGT": "to look after records",
}

const whoYouAre = "who you are"

// headingsShown turns an audit entry's list into words that everybody knows: the headings of which something was shown.
func headingsShown(what []string) string {
	var shown []string
	for _, w := range what {
		h, refs, ok := strings.Cut(w, ": ")
		if !ok || !strings.Contains(refs, "/") {
			continue
		}
		if i := slices.IndexFunc(dataset.All, func(i dataset.Info) bool { return string(i.Heading) == h }); i >= 0 {
			plain := dataset.All[i].Plain
			if first, _, _ := strings.Cut(plain, " "); strings.ToUpper(first) != first { // not GP
				plain = strings.ToLower(plain[:1]) + plain[1:]
			}
			shown = append(shown, plain)
		}
	}
	switch {
	case len(shown) == 0:
		return whoYouAre
	case len(shown) > len(dataset.All)/2:
		return "most of your record: " + strings.Join(shown, ", ")
	}
	return strings.Join(shown, ", ")
}

// agentOf is a session as the audit log names it.
func agentOf(s *access.Session) audit.Agent {
	return audit.Agent{User: s.User, Name: s.Name, Role: s.RoleName, Organisation: s.Organisation, OrgName: s.OrganisationName, Device: s.Device, Address: s.Address}
}

// Concern puts looks that a citizen does not recognise into the privacy officer's queue.
func (n *Node) Concern(ctx context.Context, s *access.Session, person string, entries []uint64, words string) error {
	if _, err := n.Gather.Who(ctx, s, person); err != nil {
		return err
	}
	seqs := make([]audit.Seq, len(entries))
	for i, e := range entries {
		seqs[i] = audit.Seq(e)
	}
	_, err := n.Watch.Raise(ctx, agentOf(s), person, seqs, words)
	return err
}

func mayAudit(s *access.Session) error {
	if info, _ := s.Role.Info(); !info.Audit {
		return fhir.Errorf(fhir.Forbidden, "this role does not see who looked")
	}
	return nil
}

// Queue is what the privacy officer has to look into, or what was closed.
func (n *Node) Queue(ctx context.Context, s *access.Session, closed bool) ([]web.PrivacyItem, error) {
	if err := mayAudit(s); err != nil {
		return nil, err
	}
	items, err := n.Watch.Queue(ctx, closed)
	if err != nil {
		return nil, err
	}
	out := make([]web.PrivacyItem, len(items))
	for i, it := range items {
		out[i] = web.PrivacyItem{Owner: it.Owner, Age: it.Age(n.c.Now()), Overdue: it.Overdue(n.c.Now()), ID: it.ID, Title: it.Title, Grave: it.Grave, Reason: it.Reason, Words: it.Words, Who: it.Who, User: it.User, Role: it.Role,
			Organisation: it.Organisation, Person: it.PersonID, Count: it.Count, First: it.First, Last: it.Last, State: string(it.State), Closed: it.State.Closed()}
		for _, e := range it.Entries {
			out[i].Entries = append(out[i].Entries, uint64(e))
		}
		for _, st := range it.Steps {
			out[i].Steps = append(out[i].Steps, web.PrivacyStep{At: st.At, By: st.By, State: string(st.State), Note: st.Note})
		}
	}
	return out, n.used(ctx, s, "", "the queue", "")
}

// Tasks are the queue, open and closed, as FHIR.
func (n *Node) Tasks(ctx context.Context, s *access.Session, query string) ([]*fhir.Resource, error) {
	if err := mayAudit(s); err != nil {
		return nil, err
	}
	if err := n.used(ctx, s, "", "the queue", query); err != nil {
		return nil, err
	}
	var out []*fhir.Resource
	for _, closed := range []bool{false, true} {
		items, err := n.Watch.Queue(ctx, closed)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			out = append(out, it.Task())
		}
	}
	return out, nil
}

// Decide moves an item of the queue to another state.
func (n *Node) Decide(ctx context.Context, s *access.Session, id, state, note string) error {
	if err := mayAudit(s); err != nil {
		return err
	}
	_, err := n.Watch.Decide(ctx, agentOf(s), id, watch.State(state), note)
	return err
}

// used remembers that the audit log itself was read. Nothing of it is shown before.
func (n *Node) used(ctx context.Context, s *access.Session, person, how, query string) error {
	_, err := n.Audit.Append(ctx, audit.Event{Kind: audit.Verified, Agent: agentOf(s), PersonID: person, Query: query, Trace: s.Trace, What: []string{"audit log: " + how}})
	return err
}

// AuditSearch finds entries by person, user and time, newest first, at most limit.
func (n *Node) AuditSearch(ctx context.Context, s *access.Session, q web.AuditQuery, limit int) (rows []web.AuditRow, more bool, err error) {
	found, err := n.auditFound(ctx, s, q, "searched", limit)
	if err != nil {
		return nil, false, err
	}
	for e, err := range found {
		if err != nil {
			return nil, false, err
		}
		sum, err := e.Summary()
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, web.AuditRow{Entry: uint64(sum.Seq), At: sum.At, Who: sum.Who, User: sum.User, Role: sum.Role, Organisation: sum.Organisation, Kind: string(sum.Kind),
			Why: purposeWords[sum.Purpose], Person: sum.PersonID, What: strings.Join(sum.What, "; "), Refused: sum.Outcome != audit.Success})
		if len(rows) > limit { // what is wanted is at the end
			rows, more = rows[1:], true
		}
	}
	slices.Reverse(rows)
	return rows, more, nil
}

// AuditExport writes what AuditSearch finds, all of it, oldest first, for a spreadsheet.
func (n *Node) AuditExport(ctx context.Context, s *access.Session, q web.AuditQuery, w io.Writer) error {
	found, err := n.auditFound(ctx, s, q, "exported", 0)
	if err != nil {
		return err
	}
	return audit.WriteCSV(w, found)
}

// auditFound reads what a query is about, of which the caller shows the newest so many (0: all). That it was asked is remembered first.
func (n *Node) auditFound(ctx context.Context, s *access.Session, q web.AuditQuery, how string, newest int) (iter.Seq2[audit.Entry, error], error) {
	if err := mayAudit(s); err != nil {
		return nil, err
	}
	person := ""
	if q.Identifier.Value != "" {
		id := q.Identifier.Canonical()
		if err := id.Check(); err != nil {
			return nil, err
		}
		var err error
		if person, err = n.People.Resolve(ctx, id); fhir.Is(err, fhir.NotFound) {
			person = "nobody"
		} else if err != nil {
			return nil, err
		}
	}
	query := "user=" + q.User + " from=" + q.From.Format(time.RFC3339) + " to=" + q.To.Format(time.RFC3339)
	about := person
	if about == "nobody" {
		about = ""
	}
	if err := n.used(ctx, s, about, how, query); err != nil {
		return nil, err
	}
	head, err := n.Audit.Head(ctx)
	if err != nil {
		return nil, err
	}
	after := audit.Seq(0)
	if !q.From.IsZero() {
		if after, err = n.Audit.Before(ctx, q.From); err != nil {
			return nil, err
		}
	}
	if newest > 0 && person == "" && q.User == "" && q.To.IsZero() && head.Seq > audit.Seq(newest)+1 {
		after = max(after, head.Seq-audit.Seq(newest)-1) // nothing else narrows it: no need to read what is not shown
	}
	all := n.Audit.All(ctx, after, 0)
	switch {
	case person != "":
		all = n.Audit.Show(ctx, person, after, 0)
	case q.User != "":
		all = n.Audit.By(ctx, q.User, after, 0)
	}
	timed := !q.From.IsZero() || !q.To.IsZero()
	return func(yield func(audit.Entry, error) bool) {
		for e, err := range all {
			if err == nil && e.Seq > head.Seq {
				return // what came since, the reading of it among them
			}
			if err == nil && (q.User != "" && e.User != q.User || timed && (e.Recorded().Before(q.From) || !q.To.IsZero() && !e.Recorded().Before(q.To))) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}, nil
}

// Shown puts together again what an audit entry says was shown. That it was looked at is remembered first.
func (n *Node) Shown(ctx context.Context, by audit.Agent, seq audit.Seq) (*gather.Record, error) {
	e, err := n.Audit.Entry(ctx, seq)
	if err != nil {
		return nil, err
	}
	if _, err := n.Audit.Append(ctx, audit.Event{Kind: audit.Verified, Agent: by, PersonID: e.PersonID, What: []string{"audit log: what entry " + strconv.FormatUint(uint64(seq), 10) + " showed"}}); err != nil {
		return nil, err
	}
	return gather.Rebuild(ctx, n.Audit, n.store, e)
}
