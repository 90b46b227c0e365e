package mpi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// Bucket is the name of this room's private key-values:
//
//	person/<person id>         -> Person
//	patient/<patient id>       -> person id
//	id/<system>|<value>        -> person id
//	review/<patient id>        -> Review: what somebody has to look at
//
// likeness.go and steward.go name those that they add.
const Bucket = "mpi"

const personPrefix = "person/"

// An Index follows the log and answers who is who. It may be used from many goroutines.
type Index struct {
	db      *store.DB
	stamper connector.Stamper
	trusted []string // sources
}

// New makes an Index over a store. stamper gives people their ids: the same log gives the same ids.
func New(db *store.DB, stamper connector.Stamper) *Index { return &Index{db: db, stamper: stamper} }

// Handle takes one event of the log into the index, in the transaction in which the follower's cursor moves.
func (x *Index) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	switch e.Ref.Type() {
	case "Patient":
		return x.patient(ctx, tx, e)
	case "Linkage":
		return x.linkage(ctx, tx, e)
	}
	return nil
}

func (x *Index) patient(ctx context.Context, tx store.Tx, e events.Event) error {
	b := tx.Bucket(Bucket)
	known, err := b.MultiGet(ctx, "patient/"+e.Ref.ID(), "review/"+e.Ref.ID(), leftPrefix+e.Ref.ID(), personPrefix+x.firstHome(e.Ref.ID())) // all that will be asked for
	if err != nil {
		return err
	}
	was := string(known[0])
	r, err := tx.Get(ctx, e.Ref)
	if fhir.Is(err, fhir.Deleted) || fhir.Is(err, fhir.NotFound) {
		return x.unlink(ctx, b, was, e.Ref.ID())
	}
	if err != nil {
		return err
	}
	pt := FromResource(e.Source, r)
	pt.Trusted = slices.Contains(x.trusted, e.Source)
	var anew []Patient
	if pt.Trusted {
		if anew, err = x.claim(ctx, b, &pt); err != nil {
			return err
		}
	}
	before := &Person{}
	if was != "" {
		if err := getJSON(ctx, b, personPrefix+was, before); err != nil {
			return err
		}
	}
	old, others := before.without(pt.ID)
	if err := said(ctx, b, &pt); err != nil {
		return err
	}
	if pt.ReplacedBy != "" {
		pt.remember(old)
	}
	home, merged, err := x.home(ctx, b, &pt, was, others, old.Doubted, e)
	if err != nil {
		return err
	}
	if err := x.describe(ctx, b, asKnown(&old), &pt); err != nil {
		return err
	}
	// What this patient was found by goes first; what is still true of it is written again.
	for _, id := range old.Identifiers {
		if owner, err := getString(ctx, b, idKey(id)); err != nil {
			return err
		} else if owner == was {
			b.Delete(idKey(id))
		}
	}
	if was != "" && was != home {
		before.Patients = others
		if err := x.store(ctx, b, before); err != nil {
			return err
		}
	}
	p := &Person{ID: home}
	if err := getJSON(ctx, b, personPrefix+home, p); err != nil {
		return err
	}
	for _, other := range merged {
		if err := x.absorb(ctx, b, p, other); err != nil {
			return err
		}
	}
	_, rest := p.without(pt.ID)
	p.Patients = append(rest, pt)
	if err := x.store(ctx, b, p); err != nil {
		return err
	}
	if together(before.Patients) || together(p.Patients) {
		if err := x.join(ctx, b, append(merged, was, home)...); err != nil {
			return err
		}
	}
	return x.look(ctx, tx, e, anew)
}

// together reports whether a steward has said of any of them that they are somebody else too.
func together(patients []Patient) bool {
	return slices.ContainsFunc(patients, func(q Patient) bool { return len(q.Together) > 0 })
}

// asKnown is the patient as they were, nil if there was none.
func asKnown(q *Patient) *Patient {
	if q.ID == "" {
		return nil
	}
	return q
}

// without parts a patient from the others.
func (p *Person) without(id string) (gone Patient, rest []Patient) {
	for _, q := range p.Patients {
		if q.ID == id {
			gone = q
		} else {
			rest = append(rest, q)
		}
	}
	return gone, rest
}

// remember keeps the numbers of a patient that has been merged away, as old ones: whoever still uses them must find the person.
func (q *Patient) remember(old Patient) {
	for _, id := range old.Identifiers {
		if !slices.ContainsFunc(q.Identifiers, func(k fhir.Identifier) bool { return k.System == id.System && k.Value == id.Value }) {
			q.Identifiers = append(q.Identifiers, fhir.Identifier{Use: "old", System: id.System, Value: id.Value})
		}
	}
}

// takenOver finds the person who took a patient over in a merge. One with other national numbers, another name and another birth date did not: whoever sends such a merge is
// mistaken, or means to see one person's record in another's.
func (x *Index) takenOver(ctx context.Context, b store.TxBucket, pt *Patient) (home string, lies bool, err error) {
	if home, err = getString(ctx, b, "patient/"+pt.ReplacedBy); home == "" || err != nil {
		return "", false, err
	}
	p := &Person{}
	if err := getJSON(ctx, b, personPrefix+home, p); err != nil {
		return "", false, err
	}
	_, rest := p.without(pt.ID)
	if agreeWith(*pt, rest) || len(rest) == 0 {
		return home, false, nil
	}
	for _, q := range rest {
		for _, theirs := range nationalNumbers(q.Identifiers) {
			for _, ours := range nationalNumbers(pt.Identifiers) {
				if ours.System == theirs.System && ours.Value == theirs.Value {
					return home, false, nil
				}
				lies = lies || ours.System == theirs.System
			}
		}
	}
	return home, lies, nil
}

// home finds the person a patient belongs to: the one who took them over in a merge that can be believed, else the one with the same national number
// whose demographics agree, else who they were, else the one they are without doubt by what they are like, else somebody new. Whom a steward
// has told apart from them is passed over. A number that two people bear whom a steward has told apart, and either of whom they could be, says nothing of who they
// are. A number whose other holders do not agree is not believed: the patient
// keeps it as doubted, it leads to nobody through them, and somebody is to look. A patient who has become unlike everybody they were
// linked to is parted from them. merged are other people shown by a superseded number to be the same.
func (x *Index) home(ctx context.Context, b store.TxBucket, pt *Patient, was string, others []Patient, doubted []string, e events.Event) (home string, merged []string, err error) {
	review, looked, err := b.Get(ctx, "review/"+pt.ID)
	if err != nil {
		return "", nil, err
	}
	if looked {
		b.Delete("review/" + pt.ID)
	}
	if pt.ReplacedBy != "" {
		home, lies, err := x.takenOver(ctx, b, pt)
		if err != nil || home != "" && !lies {
			return home, nil, err
		}
		if lies {
			x.review(b, e, pt.ID, "its source says that it was merged into the record of somebody with another national number, another name and another birth date: the merge is not believed until one of them is put right, or a steward says that they are the same")
		}
	}
	if was != "" && apart(*pt, others) {
		home, err = x.leave(ctx, b, pt.ID, departure{From: was, Doubted: doubted, Review: review}, e.Seq)
		return home, nil, err
	}
	if len(pt.Apart) == 0 {
		if home, err = x.comeBack(ctx, b, pt, e); home != "" || err != nil {
			return home, nil, err
		}
	}
	for _, id := range nationalNumbers(pt.Identifiers) {
		if gone, err := void(ctx, b, id, pt.ID); err != nil {
			return "", nil, err
		} else if gone {
			pt.Doubted = append(pt.Doubted, id.System+"|"+id.Value)
			x.review(b, e, pt.ID, "has a national number that its register has invalidated: the number is nobody's, and is not believed from this source until it is put right")
			continue
		}
		owner, err := getString(ctx, b, idKey(id))
		if err != nil {
			return "", nil, err
		}
		if owner == "" {
			continue
		}
		p := &Person{}
		if err := getJSON(ctx, b, personPrefix+owner, p); err != nil {
			return "", nil, err
		}
		_, rest := p.without(pt.ID)
		if held, err := x.heldApart(ctx, b, pt, p, e); err != nil {
			return "", nil, err
		} else if held {
			continue
		}
		if len(rest) > 0 && !agreeWith(*pt, rest) {
			pt.Doubted = append(pt.Doubted, id.System+"|"+id.Value)
			x.review(b, e, pt.ID, "shares a national number with somebody whose name and birth date differ: the number is not believed from this source until it is put right")
			continue
		}
		if owner != was {
			if shared, err := x.disputed(ctx, b, pt, id, rest); err != nil {
				return "", nil, err
			} else if shared {
				pt.Doubted = append(pt.Doubted, id.System+"|"+id.Value)
				x.review(b, e, pt.ID, "has a national number that two people bear whom a steward has told apart, and could be either of them: the number is not believed from this source until somebody says who it is")
				continue
			}
		}
		switch {
		case home == "":
			home = owner
		case owner != home:
			merged = append(merged, owner)
		}
	}
	if home == "" && was != "" && len(others) > 0 && agreeWith(*pt, others) && !apart(*pt, others) {
		home = was
	}
	like, err := x.liken(ctx, b, pt, cmp.Or(home, was), e)
	if err != nil {
		return "", nil, err
	}
	if like != "" && like != home && like != was {
		p := &Person{ID: like}
		if err := getJSON(ctx, b, personPrefix+like, p); err != nil {
			return "", nil, err
		}
		if held, err := x.heldApart(ctx, b, pt, p, e); err != nil {
			return "", nil, err
		} else if held {
			like = ""
		}
	}
	switch {
	case home != "" && like != "" && like != home:
		merged = append(merged, like)
	case home != "":
	case like != "":
		home = like
	case was != "" && len(others) == 0:
		home = was
	case was != "":
		x.review(b, e, pt.ID, "has become somebody with another name and birth date than the people this source's record was linked to: it has been parted from them")
		home = x.stamper.ID("mpi", "Person", pt.ID+"/parted/"+strconv.FormatUint(uint64(e.Seq), 10))
	default:
		home = x.firstHome(pt.ID)
		if taken := (&Person{}); getJSON(ctx, b, personPrefix+home, taken) == nil && len(taken.Patients) > 0 {
			home = x.stamper.ID("mpi", "Person", pt.ID+"/again/"+strconv.FormatUint(uint64(e.Seq), 10))
		}
	}
	merged, err = x.keptApart(ctx, b, pt, home, merged, e)
	return home, merged, err
}

// firstHome is the person that a patient makes who is nobody known.
func (x *Index) firstHome(patient string) string { return x.stamper.ID("mpi", "Person", patient) }

// apart reports whether a steward has said that a patient is not one of the others.
func apart(pt Patient, others []Patient) bool {
	return slices.ContainsFunc(others, func(q Patient) bool { return slices.Contains(pt.Apart, q.ID) || slices.Contains(q.Apart, pt.ID) })
}

// agreeWith reports whether a patient is described like any of the others.
func agreeWith(pt Patient, others []Patient) bool {
	return slices.ContainsFunc(others, func(q Patient) bool { return Agree(q.Name, pt.Name, q.BirthDate, pt.BirthDate) })
}

// A Review is something about identity that a person has to look at.
type Review struct {
	Patient string    `json:"patient"` // this server's id of the source Patient
	Source  string    `json:"source"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

func (x *Index) review(b store.TxBucket, e events.Event, patient, why string) {
	data, _ := json.Marshal(Review{Patient: patient, Source: e.Source, Why: why, At: e.At})
	b.Put("review/"+patient, data)
}

// Reviews are what somebody has to look at.
func (x *Index) Reviews(ctx context.Context) ([]Review, error) {
	var out []Review
	for item, err := range x.db.View(Bucket).Scan(ctx, "review/") {
		if err != nil {
			return nil, err
		}
		var r Review
		if err := json.Unmarshal(item.Value, &r); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the identity index holds an unreadable review")
		}
		out = append(out, r)
	}
	return out, nil
}

func (x *Index) absorb(ctx context.Context, b store.TxBucket, p *Person, other string) error {
	o := &Person{}
	if err := getJSON(ctx, b, personPrefix+other, o); err != nil {
		return err
	}
	for _, q := range o.Patients {
		for _, id := range q.Identifiers {
			b.Delete(idKey(id))
		}
	}
	p.Patients = append(p.Patients, o.Patients...)
	b.Delete("person/" + other)
	return nil
}

// unlink takes a deleted patient out of a person. The identifiers that only that patient had go with it.
func (x *Index) unlink(ctx context.Context, b store.TxBucket, person, patient string) error {
	b.Delete("patient/" + patient)
	b.Delete("review/" + patient)
	if person == "" {
		return nil
	}
	p := &Person{}
	if err := getJSON(ctx, b, personPrefix+person, p); err != nil {
		return err
	}
	gone, rest := p.without(patient)
	for _, id := range gone.Identifiers {
		b.Delete(idKey(id))
	}
	p.Patients = rest
	if err := x.store(ctx, b, p); err != nil {
		return err
	}
	return x.join(ctx, b, person)
}

// store settles the person and writes everything that leads to them; a person without patients is nobody. An identifier that leads to
// somebody else is left to them.
func (x *Index) store(ctx context.Context, b store.TxBucket, p *Person) error {
	if len(p.Patients) == 0 {
		b.Delete("person/" + p.ID)
		return nil
	}
	p.settle()
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	b.Put(personPrefix+p.ID, data)
	for _, q := range p.Patients {
		b.Put("patient/"+q.ID, []byte(p.ID))
		for _, id := range q.Identifiers {
			if id.Check() != nil || q.Doubts(id) {
				continue
			}
			owner, err := getString(ctx, b, idKey(id))
			if err != nil {
				return err
			}
			if owner == "" || owner == p.ID {
				b.Put(idKey(id), []byte(p.ID))
			}
		}
	}
	return nil
}

// Person returns what is known of a person, with everybody whom stewards have joined to them, or an issue of type NotFound.
func (x *Index) Person(ctx context.Context, id string) (*Person, error) {
	v := x.db.View(Bucket)
	got, err := v.MultiGet(ctx, personPrefix+id, rootPrefix+id)
	if err != nil {
		return nil, err
	}
	if got[0] == nil {
		return nil, fhir.Errorf(fhir.NotFound, "no such person")
	}
	p, err := readPerson(got[0])
	if err != nil || got[1] == nil {
		return p, err
	}
	return x.whole(ctx, string(got[1]))
}

// whole puts together a person from all who are joined to them.
func (x *Index) whole(ctx context.Context, root string) (*Person, error) {
	v := x.db.View(Bucket)
	data, _, err := v.Get(ctx, joinedPrefix+root)
	if err != nil {
		return nil, err
	}
	var ids []string
	if err := json.Unmarshal(data, &ids); err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the identity index holds an unreadable person: rebuild it")
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = "person/" + id
	}
	parts, err := v.MultiGet(ctx, keys...)
	if err != nil {
		return nil, err
	}
	p := &Person{ID: root}
	for _, data := range parts {
		if data == nil {
			continue // parted meanwhile
		}
		part, err := readPerson(data)
		if err != nil {
			return nil, err
		}
		p.Patients = append(p.Patients, part.Patients...)
	}
	p.settle()
	return p, nil
}

func readPerson(data []byte) (*Person, error) {
	p := &Person{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the identity index holds an unreadable person: rebuild it")
	}
	return p, nil
}

// All yields the id of everybody in the index, in order. People whom stewards have joined are one.
func (x *Index) All(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		v := x.db.View(Bucket)
		for item, err := range v.Scan(ctx, personPrefix) {
			if err != nil {
				yield("", err)
				return
			}
			id := strings.TrimPrefix(item.Key, personPrefix)
			root, joined, err := v.Get(ctx, rootPrefix+id)
			if joined && string(root) != id {
				continue
			}
			if !yield(id, err) || err != nil {
				return
			}
		}
	}
}

// Resolve finds the person with an identifier, or an issue of type NotFound.
func (x *Index) Resolve(ctx context.Context, id fhir.Identifier) (string, error) {
	return x.lookup(ctx, idKey(id.Canonical()))
}

// PersonOf finds the person to whom a source patient is linked, or an issue of type NotFound.
func (x *Index) PersonOf(ctx context.Context, patientID string) (string, error) {
	return x.lookup(ctx, "patient/"+patientID)
}

func (x *Index) lookup(ctx context.Context, key string) (string, error) {
	v := x.db.View(Bucket)
	data, ok, err := v.Get(ctx, key)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fhir.Errorf(fhir.NotFound, "nobody is known by that")
	}
	root, ok, err := v.Get(ctx, rootPrefix+string(data))
	if err != nil || !ok {
		return string(data), err
	}
	return string(root), nil
}

// idKey is where an identifier stands. One longer than any real one stands under its hash: keys are not as long as a sender likes.
func idKey(id fhir.Identifier) string { return "id/" + short(id.System+"|"+id.Value) }

func short(k string) string {
	if len(k) > 500 {
		sum := sha256.Sum256([]byte(k))
		k = hex.EncodeToString(sum[:])
	}
	return k
}

func getString(ctx context.Context, b store.TxBucket, key string) (string, error) {
	v, _, err := b.Get(ctx, key)
	return string(v), err
}

func getJSON(ctx context.Context, b store.TxBucket, key string, into any) error {
	v, ok, err := b.Get(ctx, key)
	if err != nil || !ok {
		return err
	}
	return json.Unmarshal(v, into)
}
