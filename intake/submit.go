package intake

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/search"
	"tombolo/search/scope"
	"tombolo/store"
)

// BucketCriteria: <source>\x00<hash of a search> -> when it last decided that something was to be created. Two requests that create on the
// same condition at the same moment both write it, so that one of them starts over and finds what the other made.
const BucketCriteria = "intake-criteria"

// A Submission is one request in which a system that keeps its record here writes it over this node's own FHIR API (ADR 10). It is a delivery like
// any other: kept raw, once only, with provenance, in one transaction, and acknowledged when it can be found. Unlike others it keeps its own ids,
// because there is no other server whose ids they could be.
type Submission struct {
	Source      string
	Raw         []byte
	ContentType string
	// Key is the client's own name for this request, with which it may safely be sent again: an Idempotency-Key, or a Bundle's identifier. ""
	// means that each request stands for itself.
	Key string
	// Asked is what the request says beside its bytes: method, address, conditions. The same bytes under the same Key to another address are another request.
	Asked string
	// Reach is how far the application that writes reaches into the system's record; nil: all of it.
	Reach *scope.Reach
}

// A Writing is one run of what a Submission does. Everything in it happens, or nothing does. Other systems' resources are not there for it.
type Writing struct {
	in     *Intake
	tx     store.Tx
	source string
	reach  *scope.Reach
	refs   []fhir.Ref
	homes  []string
}

// Submit runs fn in one transaction and returns its reply once all is durable and can be found. fn may be run several times, as in store.Update; an
// error of it writes nothing. A Key that came before with the same bytes gives the reply that was given then, and runs nothing; with other
// bytes it is an error of type BusinessRule.
func (in *Intake) Submit(ctx context.Context, sub Submission, fn func(*Writing) (reply []byte, err error)) (connector.Receipt, error) {
	sys := in.system(sub.Source)
	if sys == nil {
		return connector.Receipt{}, fhir.Errorf(fhir.NotFound, "system %q is not in the region file", sub.Source)
	}
	sum := sha256.Sum256(sub.Raw)
	hash := hex.EncodeToString(sum[:])
	var receipt connector.Receipt
	seq, err := in.o.Store.Update(ctx, func(tx store.Tx) error {
		receipt = connector.Receipt{}
		return in.submit(ctx, tx, sys, sub, hash, &receipt, fn)
	})
	in.stats.add(sub.Source, in.o.Now(), func(s *Stat) {
		switch {
		case fhir.Is(err, fhir.Transient) || fhir.Is(err, fhir.NoStore):
			s.Failed++
		case err != nil:
			s.Rejected++
		case receipt.Duplicate:
			s.Duplicates++
		default:
			s.Accepted++
		}
	})
	if err != nil {
		return connector.Receipt{}, err
	}
	receipt.Seq = seq
	if in.awaits {
		if err := in.o.Await(ctx, seq); err != nil {
			return connector.Receipt{}, fhir.Errorf(fhir.Transient, "stored, and not yet findable: %w", err)
		}
	}
	return receipt, nil
}

func (in *Intake) submit(ctx context.Context, tx store.Tx, sys *region.System, sub Submission, hash string, receipt *connector.Receipt, fn func(*Writing) ([]byte, error)) error {
	var place string
	if sub.Key != "" {
		name := sha256.Sum256([]byte(sub.Key))
		place = sub.Source + "\x00api:" + hex.EncodeToString(name[:16])
		data, ok, err := tx.Bucket(BucketSeen).Get(ctx, place)
		if err != nil {
			return err
		}
		if ok {
			return again(data, hash, sub.request(hash), receipt)
		}
	}
	w := &Writing{in: in, tx: tx, source: sub.Source, reach: sub.Reach}
	reply, err := fn(w)
	if err != nil {
		return err
	}
	receipt.Reply = reply
	if sub.Key != "" {
		data, err := json.Marshal(kept{seen{Reply: reply, Received: in.o.Now(), Refs: w.refs}, sub.request(hash)})
		if err != nil {
			return err
		}
		tx.Bucket(BucketSeen).Put(place, data)
	}
	if len(w.refs) == 0 {
		return nil
	}
	putRaw(tx, hash, sub.Raw)
	// One for each patient, in their record, and one for what is nobody's.
	for _, home := range slices.Compact(slices.Sorted(slices.Values(w.homes))) {
		var refs []fhir.Ref
		for i, ref := range w.refs {
			if w.homes[i] == home {
				refs = append(refs, ref)
			}
		}
		d := connector.Delivery{Source: sub.Source, ID: NewID(), Received: tx.Now(), Map: "nothing: it came as it is"}
		if _, err := tx.Put(ctx, store.Home{Source: sub.Source, Patient: home}, in.provenance(sys, &d, refs, hash)); err != nil {
			return err
		}
	}
	return nil
}

// kept is what is remembered of a Submission with a Key.
type kept struct {
	seen
	Hash string `json:"hash"`
}

// wholeRequest is what a hash begins with that is of more than a request's bytes: earlier versions kept those of the bytes alone.
const wholeRequest = "r:"

// request is the hash by which a request is told from another under the same Key; hash is that of its bytes.
func (sub Submission) request(hash string) string {
	if sub.Asked == "" {
		return hash
	}
	sum := sha256.Sum256([]byte(sub.Asked + "\x00" + hash))
	return wholeRequest + hex.EncodeToString(sum[:])
}

func again(data []byte, hash, request string, receipt *connector.Receipt) error {
	var was kept
	if err := json.Unmarshal(data, &was); err != nil {
		return err
	}
	if was.Hash != request && (strings.HasPrefix(was.Hash, wholeRequest) || was.Hash != hash) {
		return fhir.Errorf(fhir.BusinessRule, "this key was used for another request: give each request its own key, and repeat a request byte for byte")
	}
	*receipt = connector.Receipt{Duplicate: true, Reply: was.Reply}
	return nil
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID makes an id for a resource that its client has not named.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return idEncoding.EncodeToString(b[:])
}

// System is whose record is written.
func (w *Writing) System() region.System { return *w.in.system(w.source) }

// Now is the meta.lastUpdated of what is written.
func (w *Writing) Now() time.Time { return w.tx.Now() }

// Get returns a resource of this system, with what this Writing has done to it. One of another system is NotFound, as one that is not there, and so is one with which
// the application may do nothing.
func (w *Writing) Get(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error) {
	r, err := w.get(ctx, ref)
	if err == nil && !w.reach.May(scope.Any, r) {
		return nil, notHere(ref)
	}
	return r, err
}

func (w *Writing) get(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error) {
	r, err := w.tx.Get(ctx, ref)
	if err == nil && connector.SourceOf(r) != w.source {
		return nil, notHere(ref)
	}
	return r, err
}

// Reach is how far the application that writes reaches.
func (w *Writing) Reach() *scope.Reach { return w.reach }

func notHere(ref fhir.Ref) error { return fhir.Errorf(fhir.NotFound, "%s is not known here", ref) }

// Version is the version that a resource has, or will have when this is committed; 0 if there never was one.
func (w *Writing) Version(ctx context.Context, ref fhir.Ref) (int, error) {
	return w.tx.Version(ctx, ref)
}

// Prefetch reads in one round trip what will be asked for of these resources.
func (w *Writing) Prefetch(ctx context.Context, refs ...fhir.Ref) error {
	return w.tx.Prefetch(ctx, refs...)
}

// Put writes a resource of this system, as an update does; it must have an id. changed is false if it says what is there already.
func (w *Writing) Put(ctx context.Context, r *fhir.Resource) (changed bool, err error) {
	return w.put(ctx, r, scope.Update)
}

// Create is Put of what was not there, as a create does.
func (w *Writing) Create(ctx context.Context, r *fhir.Resource) (changed bool, err error) {
	return w.put(ctx, r, scope.Create)
}

func (w *Writing) put(ctx context.Context, r *fhir.Resource, can scope.Can) (changed bool, err error) {
	if _, err := fhir.ParseNHSNumber(r.ID()); err == nil {
		return false, fhir.Errorf(fhir.BusinessRule, "a person's number must not be an id, which stands in URLs and logs: use another id, and put the number under identifier").At(r.Type() + ".id")
	}
	if err := w.usable(ctx, r.Ref()); err != nil {
		return false, err
	}
	if !w.reach.May(can, r) { // before anything is looked up of whom it is about
		return false, w.reach.Refuse(can, r.Type())
	}
	if about, _, _ := strings.Cut(r.Text("criteria"), "?"); r.Type() == "Subscription" && !w.reach.All(about) { // which goes on telling when nobody's scopes are looked at any more
		return false, w.reach.Refuse(scope.Read|scope.Search, about)
	}
	patient, err := w.home(ctx, r)
	if err != nil {
		return false, err
	}
	stamped, err := w.in.o.Stamper.StampOwn(w.source, r)
	if err != nil {
		return false, err
	}
	if !w.reach.May(can, stamped) {
		return false, w.reach.Refuse(can, r.Type())
	}
	changed, err = w.tx.Put(ctx, store.Home{Source: w.source, Patient: patient, Heading: string(dataset.HeadingOf(stamped))}, stamped)
	if changed {
		w.did(r.Ref(), patient)
	}
	return changed, err
}

// usable reports whether something may be written under an id. One that another system has, or had, and one of what the application does not know to be there, are
// refused in the same words.
func (w *Writing) usable(ctx context.Context, ref fhir.Ref) error {
	was, err := w.tx.Get(ctx, ref)
	if fhir.Is(err, fhir.Deleted) {
		was, err = w.last(ctx, ref)
	}
	switch {
	case fhir.Is(err, fhir.NotFound):
		return nil
	case err != nil:
		return err
	case was == nil:
		return nil
	case connector.SourceOf(was) != w.source || !w.reach.May(scope.Any, was):
		return fhir.Errorf(fhir.Conflict, "this id cannot be used: choose another, or POST and have one given").At(ref.Type() + ".id")
	case !w.reach.May(scope.Update, was):
		return w.reach.Refuse(scope.Update, ref.Type())
	}
	return nil
}

// last is what something was before it was deleted; nil if that is not known, or was done in this Writing.
func (w *Writing) last(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error) {
	all, err := w.in.o.Store.History(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if !s.Deleted {
			return s.Resource()
		}
	}
	return nil, nil
}

func (w *Writing) did(ref fhir.Ref, patient string) {
	if !slices.Contains(w.refs, ref) {
		w.refs, w.homes = append(w.refs, ref), append(w.homes, patient)
	}
}

// home finds in whose record a resource stands. Every patient it is about must be one of this system's own: otherwise an entry would get
// into the record of somebody whom another system means by that id (design law 9). One that is not there and one of another system are
// refused in the same words.
func (w *Writing) home(ctx context.Context, r *fhir.Resource) (string, error) {
	if r.Type() == "Patient" {
		return r.ID(), nil
	}
	home := ""
	for _, of := range fhir.Subjects(r) {
		id, ok := strings.CutPrefix(of.Reference, "Patient/")
		if !ok {
			continue // by identifier, or on another server: nobody's record here
		}
		id, _, _ = strings.Cut(id, "/")
		if _, err := w.get(ctx, fhir.MakeRef("Patient", id)); err != nil { // scopes on what is written say nothing of who it may be about
			if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
				return "", fhir.Errorf(fhir.BusinessRule, "the patient whom this is about is not here: create the Patient first, or in the same transaction").At(r.Type())
			}
			return "", err
		}
		home = cmp.Or(home, id)
	}
	return home, nil
}

// Delete takes away a resource of this system. A Patient goes only with all that stands in their record.
func (w *Writing) Delete(ctx context.Context, ref fhir.Ref) error {
	if ref.Type() == "Patient" && !w.reach.Whole() { // whether it may go depends on all that stands in the record
		return w.reach.Refuse(scope.Read|scope.Search, "*")
	}
	r, err := w.Get(ctx, ref)
	if err != nil {
		return err
	}
	if !w.reach.May(scope.Delete, r) {
		return w.reach.Refuse(scope.Delete, ref.Type())
	}
	patient := ""
	if ref.Type() == "Patient" {
		if err := w.empty(ctx, ref.ID()); err != nil {
			return err
		}
	} else if patient, err = w.home(ctx, r); err != nil && !fhir.Is(err, fhir.BusinessRule) {
		return err
	}
	if err := w.tx.Delete(ctx, ref); err != nil {
		return err
	}
	w.did(ref, patient)
	return nil
}

func (w *Writing) empty(ctx context.Context, patientID string) error {
	put, deleted := w.tx.Pending("")
	left := 0
	for s, err := range w.in.o.Store.PatientRaw(ctx, patientID) {
		if err != nil {
			return err
		}
		if s.Ref.Type() != "Patient" && s.Ref.Type() != "Provenance" && !slices.Contains(deleted, s.Ref) {
			left++
		}
	}
	for _, r := range put {
		for _, of := range fhir.Subjects(r) {
			if of.Reference == "Patient/"+patientID {
				left++
			}
		}
	}
	if left > 0 {
		return fhir.Errorf(fhir.Conflict, "%d entries stand in this patient's record: delete them first, or in the same transaction", left).At("Patient")
	}
	return nil
}

// Find gives the resources of this system that a search on one type finds, with what this Writing has done; at most limit. What the application may not search for is
// not there.
func (w *Writing) Find(ctx context.Context, q search.Query, limit int) ([]*fhir.Resource, error) {
	q.Source, q.Count, q.Within = w.source, limit, w.reach.Matches(scope.Search)
	m, err := search.Compile(q)
	if err != nil {
		return nil, err
	}
	put, deleted := w.tx.Pending(q.Type)
	var out []*fhir.Resource
	touched := map[fhir.Ref]bool{}
	for _, ref := range deleted {
		touched[ref] = true
	}
	for _, r := range put {
		touched[r.Ref()] = true
		if m.Match(r) && w.reach.May(scope.Search, r) {
			out = append(out, r)
		}
	}
	for {
		page, err := w.in.o.Store.Search(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Resources {
			if !touched[r.Ref()] {
				out = append(out, r)
			}
		}
		if len(out) >= limit || page.Next == "" {
			return out[:min(limit, len(out))], nil
		}
		q.Cursor = page.Next
	}
}

// FindOrCreate is Find for a condition on which something is created if nothing is found. It makes the condition a part of the transaction: of two
// requests with the same condition at the same moment one starts over, and finds what the other made.
// FHIR R4 http.html#ccreate
func (w *Writing) FindOrCreate(ctx context.Context, q search.Query) ([]*fhir.Resource, error) {
	sum := sha256.Sum256([]byte(q.Type + "?" + q.URLValues().Encode()))
	key := w.source + "\x00" + hex.EncodeToString(sum[:16])
	b := w.tx.Bucket(BucketCriteria)
	if _, _, err := b.Get(ctx, key); err != nil { // before looking: what comes between is noticed
		return nil, err
	}
	found, err := w.Find(ctx, q, 2)
	if err == nil && len(found) == 0 {
		b.Put(key, strconv.AppendInt(nil, w.tx.Now().UnixNano(), 10))
	}
	return found, err
}
