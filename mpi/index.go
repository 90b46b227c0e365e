package mpi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

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
//	review/<patient id>        -> why a national number was not believed
const Bucket = "mpi"

// An Index follows the log and answers who is who. It may be used from many goroutines.
type Index struct {
	db      *store.DB
	stamper connector.Stamper
}

// New makes an Index over a store. stamper gives people their ids: the same log gives the same ids.
func New(db *store.DB, stamper connector.Stamper) *Index { return &Index{db, stamper} }

// Handle takes one event of the log into the index, in the transaction in which the follower's cursor moves.
func (x *Index) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	switch e.Ref.Type() {
	case "Patient":
		return x.patient(ctx, tx, e)
	case "Consent":
		return x.consent(ctx, tx, e)
	}
	return nil
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
	if pt.ReplacedBy != "" && was != "" {
		if err := x.remember(ctx, b, was, &pt); err != nil {
			return err
		}
	}
	home, merged, err := x.home(ctx, b, pt, was)
	if err != nil {
		return err
	}
	if was != "" && was != home {
		if err := x.unlink(ctx, b, was, pt.ID); err != nil {
			return err
		}
	}
	p := &Person{ID: home}
	if err := getJSON(ctx, b, "person/"+home, p); err != nil {
		return err
	}
	for _, other := range merged {
		if err := x.absorb(ctx, b, p, other); err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(p.Patients, func(q Patient) bool { return q.ID == pt.ID }); i >= 0 {
		pt.Objects = p.Patients[i].Objects
		p.Patients[i] = pt
	} else {
		p.Patients = append(p.Patients, pt)
	}
	return x.save(b, p)
}

// remember keeps the numbers of a patient that has been merged away, as old ones: whoever still uses them must find the person.
func (x *Index) remember(ctx context.Context, b store.TxBucket, was string, pt *Patient) error {
	p := &Person{}
	if err := getJSON(ctx, b, "person/"+was, p); err != nil {
		return err
	}
	for _, q := range p.Patients {
		if q.ID != pt.ID {
			continue
		}
		for _, id := range q.Identifiers {
			if !slices.ContainsFunc(pt.Identifiers, func(k fhir.Identifier) bool { return k.System == id.System && k.Value == id.Value }) {
				pt.Identifiers = append(pt.Identifiers, fhir.Identifier{Use: "old", System: id.System, Value: id.Value})
			}
		}
	}
	return nil
}

// home finds the person a patient belongs to: the one who took them over in a merge, else the one with the same national number
// whose demographics agree, else who they were, else somebody new. merged are other people shown by a superseded number to be the same.
func (x *Index) home(ctx context.Context, b store.TxBucket, pt Patient, was string) (home string, merged []string, err error) {
	if pt.ReplacedBy != "" {
		if home, err = getString(ctx, b, "patient/"+pt.ReplacedBy); home != "" || err != nil {
			return home, nil, err
		}
	}
	for _, id := range nationalNumbers(pt.Identifiers) {
		owner, err := getString(ctx, b, idKey(id))
		if err != nil || owner == "" {
			if err != nil {
				return "", nil, err
			}
			continue
		}
		p := &Person{}
		if err := getJSON(ctx, b, "person/"+owner, p); err != nil {
			return "", nil, err
		}
		if owner != was && !Agree(p.Name, pt.Name, p.BirthDate, pt.BirthDate) {
			b.Put("review/"+pt.ID, []byte("shares a national number with somebody whose name and birth date differ"))
			continue
		}
		switch {
		case home == "":
			home = owner
		case owner != home:
			merged = append(merged, owner)
		}
	}
	if home == "" {
		home = was
	}
	if home == "" {
		home = x.stamper.ID("mpi", "Person", pt.ID)
	}
	return home, merged, nil
}

func (x *Index) absorb(ctx context.Context, b store.TxBucket, p *Person, other string) error {
	o := &Person{}
	if err := getJSON(ctx, b, "person/"+other, o); err != nil {
		return err
	}
	p.Patients = append(p.Patients, o.Patients...)
	b.Delete("person/" + other)
	return nil
}

// unlink takes a patient out of a person. The identifiers that only that patient had go with it.
func (x *Index) unlink(ctx context.Context, b store.TxBucket, person, patient string) error {
	b.Delete("patient/" + patient)
	if person == "" {
		return nil
	}
	p := &Person{}
	if err := getJSON(ctx, b, "person/"+person, p); err != nil {
		return err
	}
	for _, q := range p.Patients {
		for _, id := range q.Identifiers {
			if q.ID == patient {
				b.Delete(idKey(id))
			}
		}
	}
	p.Patients = slices.DeleteFunc(p.Patients, func(q Patient) bool { return q.ID == patient })
	if len(p.Patients) == 0 {
		b.Delete("person/" + person)
		return nil
	}
	return x.save(b, p)
}

// save settles the person and writes everything that leads to them.
func (x *Index) save(b store.TxBucket, p *Person) error {
	p.settle()
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	b.Put("person/"+p.ID, data)
	for _, q := range p.Patients {
		b.Put("patient/"+q.ID, []byte(p.ID))
		for _, id := range q.Identifiers {
			if id.Check() == nil {
				b.Put(idKey(id), []byte(p.ID))
			}
		}
	}
	return nil
}

// consent reads an objection to sharing. FHIR R4 consent.html: scope patient-privacy, provision deny.
func (x *Index) consent(ctx context.Context, tx store.Tx, e events.Event) error {
	b := tx.Bucket(Bucket)
	person, err := getString(ctx, b, "patient/"+e.Patient)
	if err != nil || person == "" {
		return err
	}
	r, err := tx.Get(ctx, e.Ref)
	objects := false
	if err == nil {
		if r.Text("scope.coding.code") != "patient-privacy" {
			return nil
		}
		objects = r.Text("status") == "active" && r.Text("provision.type") == "deny"
	} else if !fhir.Is(err, fhir.Deleted) && !fhir.Is(err, fhir.NotFound) {
		return err
	}
	p := &Person{}
	if err := getJSON(ctx, b, "person/"+person, p); err != nil {
		return err
	}
	for i := range p.Patients {
		if p.Patients[i].ID == e.Patient {
			p.Patients[i].Objects = objects
		}
	}
	return x.save(b, p)
}

// Person returns what is known of a person, or an issue of type NotFound.
func (x *Index) Person(ctx context.Context, id string) (*Person, error) {
	data, ok, err := x.db.View(Bucket).Get(ctx, "person/"+id)
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
