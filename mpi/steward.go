package mpi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// What a steward decides about two patients comes in by the one door as a Linkage resource and stands in the log like anything else: the index can be
// rebuilt with it, and withdrawn it is as if it had never been said. More keys of the bucket:
//
//	said/<patient id>/<patient id> -> Saying, both ways round
//	root/<person id>               -> the person that this one is joined to, and who answers for both
//	joined/<person id>             -> the ids of all the people joined to this one, itself included
//	left/<patient id>              -> departure: the person whom a patient left because a steward told them apart
const (
	leftPrefix   = "left/"
	saidPrefix   = "said/"
	rootPrefix   = "root/"
	joinedPrefix = "joined/"
)

// SystemPatient names a source patient by this server's id, in a Linkage.
const SystemPatient = "https://tombolo.dev/Id/patient"

// The extensions of a steward's Linkage.
const (
	extNotTheSame = "https://tombolo.dev/StructureDefinition/not-the-same"
	extReason     = "https://tombolo.dev/StructureDefinition/linkage-reason"
)

// A Saying is what a steward has said of two patients: that they are of one person, or that they are not.
type Saying struct {
	A      string    `json:"a"` // this server's ids of the source Patients, A before B
	B      string    `json:"b"`
	Same   bool      `json:"same"`
	Reason string    `json:"reason"`
	By     string    `json:"by"` // user id
	At     time.Time `json:"at"`
}

// Resource is the saying as a Linkage; withdrawn, it says nothing any more. There is one for each pair of patients, so that the last word counts.
//
// FHIR R4 linkage.html
func (s Saying) Resource(withdrawn bool) *fhir.Resource {
	item := func(kind, patient string) fhir.M {
		return fhir.M{"type": kind, "resource": fhir.M{"type": "Patient", "identifier": fhir.M{"system": SystemPatient, "value": patient}}}
	}
	return fhir.New("Linkage", pairID(s.A, s.B), fhir.M{
		"extension": []fhir.M{{"url": extNotTheSame, "valueBoolean": !s.Same}, {"url": extReason, "valueString": s.Reason}},
		"active":    !withdrawn,
		"author":    fhir.M{"identifier": fhir.M{"system": "https://tombolo.dev/Id/user", "value": s.By}},
		"item":      []fhir.M{item("source", min(s.A, s.B)), item("alternate", max(s.A, s.B))},
	})
}

// pairID is the id of what is said of two patients, whichever is named first.
func pairID(a, b string) string {
	sum := sha256.Sum256([]byte(min(a, b) + "/" + max(a, b)))
	return hex.EncodeToString(sum[:20])
}

// saying reads a Linkage; ok is false for one that no steward wrote.
func saying(r *fhir.Resource, at time.Time) (s Saying, active, ok bool) {
	var patients []string
	for v := range r.Value().All("item.resource.identifier") {
		if v.Text("system") == SystemPatient {
			patients = append(patients, v.Text("value"))
		}
	}
	if len(patients) != 2 || patients[0] == patients[1] || !fhir.ValidID(patients[0]) || !fhir.ValidID(patients[1]) {
		return s, false, false
	}
	s = Saying{A: min(patients[0], patients[1]), B: max(patients[0], patients[1]), Same: true, By: r.Text("author.identifier.value"), At: at}
	for v := range r.Value().All("extension") {
		switch v.Text("url") {
		case extNotTheSame:
			s.Same = !v.Get("valueBoolean").Bool()
		case extReason:
			s.Reason = v.Text("valueString")
		}
	}
	return s, r.Text("active") != "false", true
}

// TookBack reports whether the last word about two patients is just this steward's, for this reason, that nothing is said of them any more.
func (x *Index) TookBack(ctx context.Context, s Saying) (bool, error) {
	r, err := x.db.Read(ctx, x.stamper.Ref(connector.Own, s.Resource(true).Ref()))
	if err != nil {
		if fhir.Is(err, fhir.Deleted) || fhir.Is(err, fhir.NotFound) {
			err = nil
		}
		return false, err
	}
	was, active, ok := saying(r, time.Time{})
	return ok && !active && was.By == s.By && was.Reason == s.Reason, nil
}

// linkage takes in what a steward said, or has withdrawn.
func (x *Index) linkage(ctx context.Context, tx store.Tx, e events.Event) error {
	if e.Source != connector.Own {
		return nil // only what this node's own stewards decide joins or parts anybody
	}
	b := tx.Bucket(Bucket)
	r, err := tx.Get(ctx, e.Ref)
	if err != nil {
		if fhir.Is(err, fhir.Deleted) || fhir.Is(err, fhir.NotFound) {
			return nil // sayings are withdrawn, not deleted
		}
		return err
	}
	s, active, ok := saying(r, e.At)
	if !ok {
		return nil
	}
	data, _ := json.Marshal(s)
	for _, k := range [...]string{saidPrefix + s.A + "/" + s.B, saidPrefix + s.B + "/" + s.A} {
		if active {
			b.Put(k, data)
		} else {
			b.Delete(k)
		}
	}
	return x.obey(ctx, tx, e, s)
}

// obey brings two patients to where they belong under what is now said of them. Who is told apart from the others of a person leaves; who left for
// that alone comes back when it is withdrawn. Nobody else is looked at anew.
func (x *Index) obey(ctx context.Context, tx store.Tx, e events.Event, s Saying) error {
	b := tx.Bucket(Bucket)
	var homes []string
	for _, id := range [...]string{s.A, s.B} { // first both must know
		home, p, err := x.owner(ctx, b, id)
		if err != nil {
			return err
		}
		if home == "" {
			continue // not known yet, or no longer
		}
		q, others := p.without(id)
		if err := said(ctx, b, &q); err != nil {
			return err
		}
		p.Patients = append(others, q)
		if err := x.store(ctx, b, p); err != nil {
			return err
		}
		homes = append(homes, home)
	}
	for _, id := range [...]string{s.A, s.B} {
		home, p, err := x.owner(ctx, b, id)
		if err != nil || home == "" {
			return err
		}
		_, left, err := b.Get(ctx, leftPrefix+id)
		if err != nil {
			return err
		}
		if q, others := p.without(id); apart(q, others) || left && len(q.Apart) == 0 {
			if err := x.patient(ctx, tx, events.Event{Seq: e.Seq, Ref: fhir.MakeRef("Patient", id), Source: q.Source, At: e.At}); err != nil {
				return err
			}
		}
	}
	return x.join(ctx, b, homes...)
}

// A departure is what a patient left because of a steward's word.
type departure struct {
	From    string          `json:"from"`              // person
	To      string          `json:"to"`                // the person they became
	Doubted []string        `json:"doubted,omitempty"` // what was not believed of them before
	Review  json.RawMessage `json:"review,omitempty"`  // what somebody was to look at
}

// leave makes a person of a patient whom a steward has told apart from those they were linked to, and remembers where they were first.
func (x *Index) leave(ctx context.Context, b store.TxBucket, patient string, d departure, at events.Seq) (string, error) {
	var first departure
	if err := getJSON(ctx, b, leftPrefix+patient, &first); err != nil {
		return "", err
	}
	if first.To == d.From && first.From != "" {
		d = first
	}
	d.To = x.stamper.ID("mpi", "Person", patient+"/apart/"+strconv.FormatUint(uint64(at), 10))
	data, _ := json.Marshal(d)
	b.Put(leftPrefix+patient, data)
	return d.To, nil
}

// comeBack is the person whom a patient left because of a steward's word, which has been withdrawn; "" if there was none, or they have become
// somebody else.
func (x *Index) comeBack(ctx context.Context, b store.TxBucket, pt *Patient, e events.Event) (string, error) {
	var left departure
	if err := getJSON(ctx, b, leftPrefix+pt.ID, &left); err != nil || left.From == "" {
		return "", err
	}
	b.Delete(leftPrefix + pt.ID)
	if now, err := getString(ctx, b, "patient/"+pt.ID); err != nil || now != left.To {
		return "", err
	}
	p := &Person{}
	if err := getJSON(ctx, b, personPrefix+left.From, p); err != nil {
		return "", err
	}
	if held, err := x.heldApart(ctx, b, pt, p, e); err != nil || held || !agreeWith(*pt, p.Patients) {
		return "", err
	}
	pt.Doubted = left.Doubted
	if len(left.Review) > 0 {
		b.Put("review/"+pt.ID, left.Review)
	}
	return left.From, nil
}

// said reads what stewards have said of a patient.
func said(ctx context.Context, b store.TxBucket, pt *Patient) error {
	pt.Together, pt.Apart = nil, nil
	prefix := saidPrefix + pt.ID + "/"
	for item, err := range b.Scan(ctx, prefix) {
		if err != nil {
			return err
		}
		var s Saying
		if err := json.Unmarshal(item.Value, &s); err != nil {
			return fhir.Errorf(fhir.Exception, "the identity index holds an unreadable decision: rebuild it")
		}
		if other := item.Key[len(prefix):]; s.Same {
			pt.Together = append(pt.Together, other)
		} else {
			pt.Apart = append(pt.Apart, other)
		}
	}
	return nil
}

// join works out anew who is joined to a person by what stewards said, and who was until now. Nobody's own entry changes: taking the word back parts
// them exactly as they were.
func (x *Index) join(ctx context.Context, b store.TxBucket, persons ...string) error {
	// Everybody who was joined to them.
	var stale []string
	for _, id := range persons {
		if id == "" {
			continue
		}
		var all []string
		root, err := getString(ctx, b, rootPrefix+id)
		if err != nil {
			return err
		}
		if root != "" {
			if err := getJSON(ctx, b, joinedPrefix+root, &all); err != nil {
				return err
			}
		}
		stale = append(stale, id)
		stale = append(stale, all...)
	}
	done := map[string]bool{}
	for _, id := range stale {
		if done[id] {
			continue
		}
		group, err := x.component(ctx, b, id)
		if err != nil {
			return err
		}
		for _, g := range group {
			done[g] = true
		}
		done[id] = true
		b.Delete(rootPrefix + id)
		b.Delete(joinedPrefix + id)
		if len(group) < 2 {
			continue
		}
		data, _ := json.Marshal(group)
		for _, g := range group {
			b.Put(rootPrefix+g, []byte(group[0]))
			b.Delete(joinedPrefix + g)
		}
		b.Put(joinedPrefix+group[0], data)
	}
	return nil
}

// component is everybody to be reached from a person by what stewards said, in order of id.
func (x *Index) component(ctx context.Context, b store.TxBucket, id string) ([]string, error) {
	seen := map[string]bool{}
	next := []string{id}
	for len(next) > 0 {
		id := next[0]
		if next = next[1:]; seen[id] {
			continue
		}
		p := &Person{}
		if err := getJSON(ctx, b, personPrefix+id, p); err != nil {
			return nil, err
		}
		if len(p.Patients) == 0 {
			continue
		}
		seen[id] = true
		for _, q := range p.Patients {
			for _, other := range q.Together {
				owner, err := getString(ctx, b, "patient/"+other)
				if err != nil {
					return nil, err
				}
				if owner != "" {
					next = append(next, owner)
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// Allows reports whether a steward may say that two patients are the same, or not: both must be known, and one cannot say of people joined by other
// words that they are apart, or of people held apart that they are joined. The error says what must be withdrawn first.
func (x *Index) Allows(ctx context.Context, s Saying) error {
	if s.A == s.B {
		return fhir.Errorf(fhir.Invalid, "these are one and the same entry")
	}
	if s.Reason == "" {
		return fhir.Errorf(fhir.Required, "give the reason: somebody else will have to understand it")
	}
	a, err := x.personOfPatient(ctx, s.A)
	if err != nil {
		return err
	}
	b, err := x.personOfPatient(ctx, s.B)
	if err != nil {
		return err
	}
	if s.Same {
		for _, p := range a.Patients {
			for _, q := range b.Patients {
				if slices.Contains(p.Apart, q.ID) && pairID(p.ID, q.ID) != pairID(s.A, s.B) {
					return fhir.Errorf(fhir.Conflict, "somebody has said that two of these patients (%s and %s) are not the same: withdraw that first", p.ID, q.ID)
				}
			}
		}
		return nil
	}
	if a.ID != b.ID {
		return nil
	}
	return x.parts(ctx, a, s)
}

// parts reports, as an error, what else would still hold together two patients of one person who are told apart: a chain of words that others have said.
func (x *Index) parts(ctx context.Context, p *Person, s Saying) error {
	group := map[string]string{}
	for _, q := range p.Patients {
		data, _, err := x.db.View(Bucket).Get(ctx, "patient/"+q.ID)
		if err != nil {
			return err
		}
		group[q.ID] = string(data)
	}
	leaves := group[s.A] == group[s.B]
	seen := map[string]bool{s.A: true}
	next := []string{s.A}
	for len(next) > 0 {
		id := next[0]
		next = next[1:]
		for _, q := range p.Patients {
			together := slices.Contains(q.Together, id) && pairID(q.ID, id) != pairID(s.A, s.B)
			if seen[q.ID] || !together && (leaves && (id == s.A || q.ID == s.A) || group[q.ID] != group[id]) {
				continue
			}
			if q.ID == s.B {
				return fhir.Errorf(fhir.Conflict, "somebody has said that %s and %s are the same, which holds these two together: withdraw that first", id, q.ID)
			}
			seen[q.ID] = true
			next = append(next, q.ID)
		}
	}
	return nil
}

func (x *Index) personOfPatient(ctx context.Context, patient string) (*Person, error) {
	id, err := x.PersonOf(ctx, patient)
	if err != nil {
		return nil, err
	}
	return x.Person(ctx, id)
}

// Sayings are what stewards have said and not withdrawn, the newest first.
func (x *Index) Sayings(ctx context.Context) ([]Saying, error) {
	var out []Saying
	for item, err := range x.db.View(Bucket).Scan(ctx, saidPrefix) {
		if err != nil {
			return nil, err
		}
		var s Saying
		if err := json.Unmarshal(item.Value, &s); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the identity index holds an unreadable decision: rebuild it")
		}
		if item.Key == saidPrefix+s.A+"/"+s.B {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Saying) int { return b.At.Compare(a.At) })
	return out, nil
}
