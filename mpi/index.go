package mpi

import (
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
const Bucket = "mpi"

const personPrefix = "person/"

// An Index follows the log and answers who is who. It may be used from many goroutines.
type Index struct {
	db      *store.DB
	stamper connector.Stamper
}

// New makes an Index over a store. stamper gives people their ids: the same log gives the same ids.
func New(db *store.DB, stamper connector.Stamper) *Index { return &Index{db, stamper} }

// Handle takes one event of the log into the index, in the transaction in which the follower's cursor moves.
func (x *Index) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	if e.Ref.Type() != "Patient" {
		return nil
	}
	return x.patient(ctx, tx, e)
}

func (x *Index) patient(ctx context.Context, tx store.Tx, e events.Event) error {
	b := tx.Bucket(Bucket)
	was, err := getString(ctx, b, "patient/"+e.Ref.ID())
	if err != nil {
		return err
	}
	r, err := tx.Get(ctx, e.Ref)
	if fhir.Is(err, fhir.Deleted) || fhir.Is(err, fhir.NotFound) {
		return x.unlink(ctx, b, was, e.Ref.ID())
	}
	if err != nil {
		return err
	}
	pt := FromResource(e.Source, r)
	before := &Person{}
	if was != "" {
		if err := getJSON(ctx, b, personPrefix+was, before); err != nil {
			return err
		}
	}
	old, others := before.without(pt.ID)
	if pt.ReplacedBy != "" {
		pt.remember(old)
	}
	home, merged, err := x.home(ctx, b, &pt, was, others, e)
	if err != nil {
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
	return x.store(ctx, b, p)
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

// home finds the person a patient belongs to: the one who took them over in a merge, else the one with the same national number
// whose demographics agree, else who they were, else somebody new. A number whose other holders do not agree is not believed: the patient
// keeps it as doubted, it leads to nobody through them, and somebody is to look. A patient who has become unlike everybody they were
// linked to is parted from them. merged are other people shown by a superseded number to be the same.
func (x *Index) home(ctx context.Context, b store.TxBucket, pt *Patient, was string, others []Patient, e events.Event) (home string, merged []string, err error) {
	b.Delete("review/" + pt.ID)
	if pt.ReplacedBy != "" {
		if home, err = getString(ctx, b, "patient/"+pt.ReplacedBy); home != "" || err != nil {
			return home, nil, err
		}
	}
	for _, id := range nationalNumbers(pt.Identifiers) {
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
		if _, rest := p.without(pt.ID); len(rest) > 0 && !agreeWith(*pt, rest) {
			pt.Doubted = append(pt.Doubted, id.System+"|"+id.Value)
			x.review(b, e, pt.ID, "shares a national number with somebody whose name and birth date differ: the number is not believed from this source until it is put right")
			continue
		}
		switch {
		case home == "":
			home = owner
		case owner != home:
			merged = append(merged, owner)
		}
	}
	switch {
	case home != "":
	case was != "" && (len(others) == 0 || agreeWith(*pt, others)):
		home = was
	case was != "":
		x.review(b, e, pt.ID, "has become somebody with another name and birth date than the people this source's record was linked to: it has been parted from them")
		home = x.stamper.ID("mpi", "Person", pt.ID+"/parted/"+strconv.FormatUint(uint64(e.Seq), 10))
	default:
		home = x.stamper.ID("mpi", "Person", pt.ID)
		if taken := (&Person{}); getJSON(ctx, b, personPrefix+home, taken) == nil && len(taken.Patients) > 0 {
			home = x.stamper.ID("mpi", "Person", pt.ID+"/again/"+strconv.FormatUint(uint64(e.Seq), 10))
		}
	}
	return home, merged, nil
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
	return x.store(ctx, b, p)
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
			if id.Check() != nil || q.doubts(id) {
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

// Person returns what is known of a person, or an issue of type NotFound.
func (x *Index) Person(ctx context.Context, id string) (*Person, error) {
	data, ok, err := x.db.View(Bucket).Get(ctx, personPrefix+id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fhir.Errorf(fhir.NotFound, "no such person")
	}
	p := &Person{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the identity index holds an unreadable person: rebuild it")
	}
	return p, nil
}

// All yields the id of everybody in the index, in order.
func (x *Index) All(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for item, err := range x.db.View(Bucket).Scan(ctx, personPrefix) {
			if !yield(strings.TrimPrefix(item.Key, personPrefix), err) || err != nil {
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
	data, ok, err := x.db.View(Bucket).Get(ctx, key)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fhir.Errorf(fhir.NotFound, "nobody is known by that")
	}
	return string(data), nil
}

// idKey is where an identifier stands. One longer than any real one stands under its hash: keys are not as long as a sender likes.
func idKey(id fhir.Identifier) string {
	k := id.System + "|" + id.Value
	if len(k) > 500 {
		sum := sha256.Sum256([]byte(k))
		k = hex.EncodeToString(sum[:])
	}
	return "id/" + k
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
