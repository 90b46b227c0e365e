package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/store"
)

// A State of something in the queue.
type State string

// The states. The last three close it.
const (
	Waiting     State = "new"
	Looking     State = "looking"     // somebody is looking into it
	Appropriate State = "appropriate" // there was a good reason
	Misuse      State = "misuse"      // there was none; what follows is outside this program
	Mistaken    State = "mistaken"    // raised for nothing
)

// Closed reports whether nothing more is to be done here.
func (s State) Closed() bool { return s == Appropriate || s == Misuse || s == Mistaken }

// Valid reports whether there is such a state.
func (s State) Valid() bool { return s == Waiting || s == Looking || s.Closed() }

// Concern is the kind of what a citizen did not recognise.
const Concern = "concern"

// An Item is one thing to look into: an alert, or what a citizen did not recognise.
type Item struct {
	ID                            string
	Kind, Title                   string
	Grave                         bool
	Reason                        string // why it was raised
	Words                         string // of the citizen
	User, Who, Role, Organisation string // whose acts are in question
	PersonID                      string // whose record; "" where it is about many
	Entries                       []audit.Seq
	Count                         int       // how often it happened; Entries holds the first fifty
	Newest                        audit.Seq // the last entry that was counted
	First, Last                   time.Time
	Raised                        time.Time // when it came into the queue: its age is counted from then
	State                         State
	Owner                         string // whoever took it up: their name; "" while it waits for anybody
	OwnerID                       string
	Steps                         []Step
}

// Age is how long it has waited, or did until it was closed.
func (i Item) Age(now time.Time) time.Duration {
	if n := len(i.Steps); i.State.Closed() && n > 0 {
		now = i.Steps[n-1].At
	}
	return max(0, now.Sub(i.since()))
}

func (i Item) since() time.Time {
	if i.Raised.IsZero() { // written by an older version
		return i.First
	}
	return i.Raised
}

// Overdue reports whether it should have been closed by now: what is grave within a day, everything within a month, which is what a person
// who asks about their data may expect (UK GDPR article 12(3)).
func (i Item) Overdue(now time.Time) bool {
	age := i.Age(now)
	return !i.State.Closed() && (i.Grave && i.State == Waiting && age > 24*time.Hour || age > 30*24*time.Hour)
}

// A Step is what somebody decided about an item.
type Step struct {
	At    time.Time
	By    string
	State State
	Note  string
}

const (
	openItems   = "open/"
	closedItems = "closed/"
	unannounced = "tell/"
	maxEntries  = 50
)

func entryID(s audit.Seq) string { return fmt.Sprintf("AuditEvent/audit-%d", s) }

// alert makes the item of a rule that spoke. The same kind about the same people on the same day is the same item.
func alert(r Rule, f Facts, reason string) Item {
	s := f.Access
	it := Item{Kind: r.Kind, Title: r.Title, Grave: r.Grave, Reason: reason, User: s.User, Who: s.Who, Role: s.Role, Organisation: s.Organisation,
		Entries: []audit.Seq{s.Seq}, Count: 1, Newest: s.Seq, First: s.At, Last: s.At, State: Waiting}
	if r.Each {
		it.PersonID = s.PersonID
	}
	it.ID = itemID(r.Kind, s.User, it.PersonID, s.At.In(fhir.London).Format("2006-01-02"))
	return it
}

func itemID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:10])
}

// raise puts an item into the queue, or adds to the one that is there. Raising the same events again changes nothing.
func raise(ctx context.Context, b store.TxBucket, it Item, now time.Time) error {
	for _, prefix := range []string{openItems, closedItems} {
		v, ok, err := b.Get(ctx, prefix+it.ID)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		var was Item
		if err := json.Unmarshal(v, &was); err != nil {
			return err
		}
		if it.Newest <= was.Newest || slices.Contains(was.Entries, it.Entries[0]) {
			return nil // it was counted before
		}
		if len(was.Entries) < maxEntries {
			was.Entries = append(was.Entries, it.Entries...)
		}
		was.Count, was.Last, was.Newest, was.Reason = was.Count+1, it.Last, it.Newest, it.Reason
		b.Put(prefix+it.ID, fhir.JSON(was))
		return nil
	}
	it.Raised = now.UTC()
	v := fhir.JSON(it)
	b.Put(openItems+it.ID, v)
	b.Put(unannounced+it.ID, v)
	return nil
}

// Queue lists what is open, the grave first and then the newest; or what was closed, newest first.
func (w *Watcher) Queue(ctx context.Context, closed bool) ([]Item, error) {
	prefix := openItems
	if closed {
		prefix = closedItems
	}
	var out []Item
	for v, err := range w.o.Store.View(bucket).Scan(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		var it Item
		if err := json.Unmarshal(v.Value, &it); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "an item of the privacy officer's queue is damaged")
		}
		out = append(out, it)
	}
	slices.SortFunc(out, func(a, b Item) int {
		if a.Grave != b.Grave && !closed {
			if a.Grave {
				return -1
			}
			return 1
		}
		return b.Last.Compare(a.Last)
	})
	return out, nil
}

// Concerns are what a person asked about, open and closed.
func (w *Watcher) Concerns(ctx context.Context, personID string) ([]Item, error) {
	var out []Item
	for _, closed := range []bool{false, true} {
		items, err := w.Queue(ctx, closed)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			if it.Kind == Concern && it.PersonID == personID {
				out = append(out, it)
			}
		}
	}
	return out, nil
}

// Item is one of the queue, open or closed; fhir.NotFound if there is none.
func (w *Watcher) Item(ctx context.Context, id string) (Item, error) {
	values, err := w.o.Store.View(bucket).MultiGet(ctx, openItems+id, closedItems+id)
	if err != nil {
		return Item{}, err
	}
	for _, v := range values {
		if v != nil {
			var it Item
			return it, json.Unmarshal(v, &it)
		}
	}
	return Item{}, fhir.Errorf(fhir.NotFound, "there is no such item in the queue")
}

// Raise puts what a citizen does not recognise into the queue: entries of the audit log that are about them. It is remembered in the
// audit log before it returns.
func (w *Watcher) Raise(ctx context.Context, by audit.Agent, personID string, entries []audit.Seq, words string) (Item, error) {
	if len(entries) == 0 || len(entries) > maxEntries {
		return Item{}, fhir.Errorf(fhir.Required, "say which looks are not recognised: between one and %d", maxEntries)
	}
	it := Item{Kind: Concern, Title: "The person does not recognise this", Grave: true, Words: clip(words), PersonID: personID,
		Reason: "Asked by the person whose record it is.", Entries: entries, Count: len(entries), State: Waiting}
	for _, s := range entries {
		e, err := w.o.Log.Entry(ctx, s)
		if err != nil || e.PersonID != personID {
			return Item{}, fhir.Errorf(fhir.NotFound, "there is no such look at this record")
		}
		sum, err := e.Summary()
		if err != nil {
			return Item{}, err
		}
		it.User, it.Who, it.Role, it.Organisation, it.First = sum.User, sum.Who, sum.Role, sum.Organisation, sum.At
	}
	it.Last, it.Raised = w.o.Now().UTC(), w.o.Now().UTC()
	it.ID = itemID(Concern, personID, fmt.Sprint(entries))
	if err := w.remember(ctx, audit.Create, by, it); err != nil {
		return Item{}, err
	}
	_, err := w.o.Store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		if _, ok, err := b.Get(ctx, openItems+it.ID); ok || err != nil {
			return err // asked twice
		}
		again := it
		v, ok, err := b.Get(ctx, closedItems+it.ID)
		if err != nil {
			return err
		}
		if ok { // the answer did not answer it
			if err := json.Unmarshal(v, &again); err != nil {
				return err
			}
			again.Steps = append(again.Steps, Step{it.Raised, by.Name, Waiting, "Asked again. " + it.Words})
			again.State, again.Last, again.Raised, again.Owner, again.OwnerID = Waiting, it.Last, it.Raised, "", ""
			b.Delete(closedItems + it.ID)
		}
		b.Put(openItems+it.ID, fhir.JSON(again))
		return nil
	})
	if err != nil {
		return Item{}, err
	}
	return w.Item(ctx, it.ID)
}

func clip(s string) string {
	if runes := []rune(strings.TrimSpace(s)); len(runes) > 2000 {
		return string(runes[:2000])
	}
	return strings.TrimSpace(s)
}

// Decide moves an item to a state, with a note; closing it takes one. It is remembered in the audit log first. The last step said again, as by somebody who heard no answer,
// changes nothing.
func (w *Watcher) Decide(ctx context.Context, by audit.Agent, id string, to State, note string) (Item, error) {
	note = clip(note)
	if !to.Valid() {
		return Item{}, fhir.Errorf(fhir.CodeInvalid, "there is no such state").At("state")
	}
	if to.Closed() && note == "" {
		return Item{}, fhir.Errorf(fhir.Required, "say what was found").At("note")
	}
	it, err := w.Item(ctx, id)
	if err != nil {
		return Item{}, err
	}
	if it.endsWith(by, to, note) {
		return it, nil
	}
	it.State = to
	if err := w.remember(ctx, audit.Update, by, it); err != nil {
		return Item{}, err
	}
	_, err = w.o.Store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		from := openItems
		v, ok, err := b.Get(ctx, from+id)
		if err == nil && !ok {
			from = closedItems
			v, ok, err = b.Get(ctx, from+id)
		}
		if err != nil {
			return err
		}
		if !ok {
			return fhir.Errorf(fhir.NotFound, "there is no such item in the queue")
		}
		if err := json.Unmarshal(v, &it); err != nil {
			return err
		}
		if it.endsWith(by, to, note) {
			return nil
		}
		it.State = to
		if to != Waiting {
			it.Owner, it.OwnerID = by.Name, by.User
		}
		it.Steps = append(it.Steps, Step{w.o.Now().UTC(), by.Name, to, note})
		b.Delete(from + id)
		into := openItems
		if to.Closed() {
			into = closedItems
		}
		b.Put(into+id, fhir.JSON(it))
		return nil
	})
	return it, err
}

// endsWith reports whether the last step is this one.
func (it Item) endsWith(by audit.Agent, to State, note string) bool {
	if len(it.Steps) == 0 || it.State != to {
		return false
	}
	last := it.Steps[len(it.Steps)-1]
	return last.By == by.Name && last.State == to && last.Note == note
}

func (w *Watcher) remember(ctx context.Context, kind audit.Kind, by audit.Agent, it Item) error {
	_, err := w.o.Log.Append(ctx, audit.Event{Kind: kind, Agent: by, PersonID: it.PersonID,
		What: []string{"task: " + it.ID, "about: " + it.Kind, "state: " + string(it.State)}})
	return err
}

var taskStates = map[State]string{Waiting: "requested", Looking: "in-progress", Appropriate: "completed", Misuse: "completed", Mistaken: "cancelled"}

// Task is the item as FHIR, for systems in which privacy officers keep their work. FHIR R4 task.html
func (it Item) Task() *fhir.Resource {
	f := fhir.M{"status": taskStates[it.State], "intent": "order", "priority": "routine",
		"code":           fhir.Code("https://tombolo.dev/CodeSystem/privacy-task", it.Kind, it.Title),
		"description":    it.Reason,
		"authoredOn":     fhir.Instant(it.since()),
		"requester":      fhir.Reference{Display: "Tombolo misuse watching"},
		"owner":          fhir.Reference{Display: "Privacy officer"},
		"businessStatus": fhir.CodeableConcept{Text: string(it.State)},
	}
	if it.Grave {
		f["priority"] = "urgent"
	}
	if it.OwnerID != "" {
		f["owner"] = fhir.Reference{Display: it.Owner, Identifier: &fhir.Identifier{System: "https://tombolo.dev/Id/user", Value: it.OwnerID}}
	}
	last := it.Last
	for _, s := range it.Steps {
		if s.At.After(last) {
			last = s.At
		}
	}
	f["lastModified"] = fhir.Instant(last)
	if it.PersonID != "" {
		f["for"] = fhir.Reference{Reference: "Patient/" + it.PersonID}
		if it.Kind == Concern {
			f["requester"] = fhir.Reference{Reference: "Patient/" + it.PersonID}
		}
	}
	var notes []fhir.M
	if it.Words != "" {
		notes = append(notes, fhir.M{"text": it.Words})
	}
	for _, s := range it.Steps {
		if s.Note != "" {
			notes = append(notes, fhir.M{"authorString": s.By, "time": fhir.Instant(s.At), "text": s.Note})
		}
	}
	if len(notes) > 0 {
		f["note"] = notes
	}
	if len(it.Entries) > 0 {
		f["focus"] = fhir.Reference{Reference: entryID(it.Entries[0])}
		var inputs []fhir.M
		for _, s := range it.Entries[1:] {
			inputs = append(inputs, fhir.M{"type": fhir.CodeableConcept{Text: "further event"}, "valueReference": fhir.Reference{Reference: entryID(s)}})
		}
		if len(inputs) > 0 {
			f["input"] = inputs
		}
	}
	return fhir.New("Task", it.ID, f)
}
