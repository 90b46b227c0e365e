// Package intake is the one door in. Whatever a source sends, by whatever protocol, comes through Accept: seen before? kept raw,
// stamped as the source's, checked, given provenance and stored, all in one transaction; then the followers are waited for, so
// that what is acknowledged is durable and can be found (design law 1).
package intake

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/store"
)

// The private key-values of this room.
const (
	// BucketSeen: <source>\x00<hash of delivery id>\x00<hash> -> seen: what was accepted, and the reply it got. Without the last
	// part: that something came under the id.
	BucketSeen = "intake-seen"
	// BucketQuarantine: <source>\x00whole|part\x00<sha-256> -> Quarantined. What could not be taken at all, and what was left out.
	BucketQuarantine = "intake-quarantine"
)

// MaxRaw is the largest delivery taken. Connectors have smaller limits of their own.
const MaxRaw = 64 << 20

// Options of an Intake.
type Options struct {
	Store   *store.DB
	Region  *region.Region
	Stamper connector.Stamper
	// Await waits until the followers have taken in the log up to seq. nil: nobody follows.
	Await  func(ctx context.Context, seq events.Seq) error
	Now    func() time.Time
	Logger *slog.Logger
}

// An Intake is the door. It may be used from many goroutines.
type Intake struct {
	o      Options
	awaits bool
	stats  *stats
}

var _ connector.Door = (*Intake)(nil)

// New makes the door.
func New(o Options) *Intake {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Intake{o: o, awaits: o.Await != nil, stats: &stats{}}
}

// Bulk is the same door for a long import: it does not wait for the followers after each delivery. Whoever imports awaits
// the last receipt's Seq before saying that all is in.
func (in *Intake) Bulk() *Intake { c := *in; c.awaits = false; return &c }

// seen is what is remembered of one accepted delivery.
type seen struct {
	Reply    []byte     `json:"reply,omitempty"`
	Received time.Time  `json:"received"`
	Refs     []fhir.Ref `json:"refs,omitempty"`
}

// Quarantined is something that could not be taken, with an owner and, by At, an age.
type Quarantined struct {
	Source string    `json:"source"`
	Owner  string    `json:"owner"` // the organisation that must mend it
	ID     string    `json:"id"`    // the sender's id of the delivery
	Hash   string    `json:"hash"`  // of the raw bytes, kept
	Size   int       `json:"size"`
	Type   string    `json:"type"` // media type
	At     time.Time `json:"at"`
	Whole  bool      `json:"whole"` // nothing was taken; else only Issues' parts were not
	Issues []Note    `json:"issues"`
}

// A Note is one reason, without clinical content.
type Note struct {
	Type  fhir.IssueType `json:"type"`
	Where string         `json:"where,omitempty"`
	Text  string         `json:"text"`
}

// Accept takes one delivery; see connector.Door.
func (in *Intake) Accept(ctx context.Context, d connector.Delivery) (connector.Receipt, error) {
	return in.take(ctx, &d, false)
}

// Again takes a delivery that waits in quarantine, and whose cause has been mended: what was made of the same bytes this time. It answers its sender's
// repeats from now on, and waits no longer if it could be taken. Of a delivery that was taken it is a repeat.
func (in *Intake) Again(ctx context.Context, d connector.Delivery) (connector.Receipt, error) {
	return in.take(ctx, &d, true)
}

func (in *Intake) take(ctx context.Context, d *connector.Delivery, again bool) (connector.Receipt, error) {
	sys := in.system(d.Source)
	if sys == nil {
		return connector.Receipt{}, fhir.Errorf(fhir.NotFound, "system %q is not in the region file", d.Source)
	}
	got, err := in.accept(ctx, sys, d, again)
	in.stats.add(d.Source, in.o.Now(), func(s *Stat) {
		switch {
		case fhir.Is(err, fhir.Transient) || fhir.Is(err, fhir.NoStore):
			s.Failed++
		case err != nil || d.Rejected != nil:
			s.Rejected++
		case got.Duplicate:
			s.Duplicates++
		default:
			s.Accepted++
		}
		if err == nil && got.Reused && d.Unique {
			s.Reused, s.LastReused = s.Reused+1, in.o.Now()
		}
	})
	if err == nil && got.Reused && d.Unique {
		in.o.Logger.Warn("a delivery came under an id that another had: its sender has reset its counter, or two senders share it", "source", d.Source)
	}
	return got, err
}

func (in *Intake) accept(ctx context.Context, sys *region.System, d *connector.Delivery, again bool) (connector.Receipt, error) {
	if len(d.Raw) > MaxRaw {
		return connector.Receipt{}, fhir.Errorf(fhir.TooLong, "a delivery of %d bytes is larger than the %d taken", len(d.Raw), MaxRaw)
	}
	sum := sha256.Sum256(d.Raw)
	hash := hex.EncodeToString(sum[:])
	var content []*fhir.Resource
	var refused *fhir.Issue
	if d.Rejected == nil {
		if content, refused = in.stamp(d); refused != nil {
			d.Rejected = refused
		}
		d.Content = nil // a document is large, and as it came from its source nobody wants it any more
	}
	var receipt connector.Receipt
	told := len(d.Issues)
	seq, err := in.o.Store.Update(ctx, func(tx store.Tx) error {
		receipt, d.Issues = connector.Receipt{Reply: d.Reply}, d.Issues[:told:told] // a retried transaction starts afresh
		return in.write(ctx, tx, sys, d, hash, content, &receipt, again)
	})
	if err != nil {
		if i := fhir.IssueOf(err); i != nil && i.Type != fhir.Exception {
			return connector.Receipt{}, i
		}
		return connector.Receipt{}, fhir.Errorf(fhir.NoStore, "the delivery could not be stored: %w", err)
	}
	receipt.Seq = seq
	if in.awaits { // a repeat too: the first may have been stored, and its sender told nothing, because it could not be found yet
		if err := in.o.Await(ctx, seq); err != nil {
			// Durable, but it cannot be promised that it can be found: the sender shall send again, and will be recognised.
			return connector.Receipt{}, fhir.Errorf(fhir.Transient, "stored, and not yet findable: %w", err)
		}
	}
	if refused != nil {
		return receipt, refused
	}
	return receipt, nil
}

func (in *Intake) system(id string) *region.System {
	if id == connector.Own {
		return &region.System{ID: connector.Own, Product: "Tombolo"}
	}
	i := slices.IndexFunc(in.o.Region.Systems, func(s region.System) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return &in.o.Region.Systems[i]
}

// stamp turns the content into this server's. Content that is about anybody but the delivery's patient refuses the whole delivery
// (design law 9): nobody can say which half of it is wrong.
func (in *Intake) stamp(d *connector.Delivery) ([]*fhir.Resource, *fhir.Issue) {
	patient := ""
	if d.Patient != "" {
		patient = "Patient/" + d.Patient
	}
	var out []*fhir.Resource
	for _, r := range d.Content {
		if r.Type() == "Patient" {
			// The delivery's patient, or one that was merged into them.
			if r.ID() != d.Patient && !mergedInto(r, patient) {
				return nil, fhir.Errorf(fhir.BusinessRule, "the delivery holds a second patient").At(r.Type())
			}
		}
		for _, of := range fhir.Subjects(r) {
			if strings.HasPrefix(of.Reference, "Patient/") && of.Reference != patient {
				return nil, fhir.Errorf(fhir.BusinessRule, "the delivery holds an entry about another patient than its own").At(r.Type())
			}
		}
		s, err := in.o.Stamper.Stamp(d.Source, r)
		if err != nil {
			return nil, fhir.IssueOf(err)
		}
		out = append(out, withUnits(s, d.Units))
	}
	// Identity first: what follows the log can then place all else.
	slices.SortStableFunc(out, func(a, b *fhir.Resource) int { return cmp.Compare(rank(a), rank(b)) })
	return out, nil
}

func rank(r *fhir.Resource) int {
	switch {
	case r.Type() == "Patient" && !r.Get("link").Exists():
		return 0
	case r.Type() == "Patient":
		return 1
	}
	return 2
}

func mergedInto(r *fhir.Resource, patient string) bool {
	for v := range r.Value().All("link") {
		if v.Text("type") == "replaced-by" && v.Text("other.reference") == patient {
			return true
		}
	}
	return false
}

// write does all of a delivery in one transaction. It may be run several times.
func (in *Intake) write(ctx context.Context, tx store.Tx, sys *region.System, d *connector.Delivery, hash string, resources []*fhir.Resource, receipt *connector.Receipt, again bool) error {
	// Senders do reset their counters: the same id with other content is news, and is flagged. Each content is recognised again.
	// The sender's id is as long as the sender likes, and a key is not.
	name := sha256.Sum256([]byte(cmp.Or(d.ID, hash)))
	idKey := d.Source + "\x00" + hex.EncodeToString(name[:16])
	seenKey := idKey + "\x00" + hash
	memory := tx.Bucket(BucketSeen)
	known, err := memory.MultiGet(ctx, idKey, seenKey)
	if err != nil {
		return err
	}
	waits := false
	if again {
		if _, waits, err = tx.Bucket(BucketQuarantine).Get(ctx, quarantineKey(d.Source, hash, true)); err != nil {
			return err
		}
	}
	if known[1] != nil && !waits {
		var was seen
		if err := json.Unmarshal(known[1], &was); err != nil {
			return err
		}
		*receipt = connector.Receipt{Duplicate: true, Reply: was.Reply}
		return nil
	}
	if receipt.Reused = known[0] != nil && known[1] == nil; receipt.Reused && d.Unique {
		d.Issues = append(d.Issues, &fhir.Issue{Type: fhir.Duplicate, Severity: fhir.Warning, Expression: "id",
			Text: "it came under an id that another delivery has had: it was taken as news. Have the sender give each its own id"})
	}
	now := seen{Reply: d.Reply, Received: in.o.Now()}
	putRaw(tx, hash, d.Raw)
	if d.Rejected == nil {
		if now.Refs, err = in.put(ctx, tx, sys, d, resources, hash); err != nil {
			return err
		}
	}
	if waits && d.Rejected == nil {
		tx.Bucket(BucketQuarantine).Delete(quarantineKey(d.Source, hash, true))
	}
	if d.Rejected != nil || len(d.Issues) > 0 {
		in.quarantine(tx, sys, d, hash)
	}
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	memory.Put(idKey, []byte{})
	memory.Put(seenKey, data)
	return nil
}

// put stores the content and says where it came from.
func (in *Intake) put(ctx context.Context, tx store.Tx, sys *region.System, d *connector.Delivery, content []*fhir.Resource, hash string) ([]fhir.Ref, error) {
	patientID := ""
	if d.Patient != "" {
		patientID = in.o.Stamper.ID(d.Source, "Patient", d.Patient)
	}
	content, names, renamed, err := in.renamed(ctx, tx, d, content)
	if err != nil {
		return nil, err
	}
	all := make([]fhir.Ref, len(content))
	for i, r := range content {
		all[i] = r.Ref()
	}
	if err := tx.Prefetch(ctx, all...); err != nil { // one round trip, not one each
		return nil, err
	}
	order, err := in.merger(ctx, tx, d, all, names)
	if err != nil {
		return nil, err
	}
	var refs []fhir.Ref
	var moves []move
	var followed []*fhir.Resource // said of a visit that had been moved by then
	for _, r := range content {
		stale := order.withdrawn(r.Ref())
		if !stale && !order.ordered(r) {
			if stale, err = order.goesBack(ctx, tx, r); err != nil {
				return nil, err
			}
		}
		if stale {
			d.Issues = append(d.Issues, fhir.Errorf(fhir.Conflict, "what the source said of it later is already here, so this older one was kept out").At(r.Type()))
			continue
		}
		if order.partial(r) {
			r, err = order.over(ctx, tx, r)
		} else {
			err = order.told(tx, r)
		}
		if err != nil {
			return nil, err
		}
		if r, err = stillOf(ctx, tx, d, r); err != nil {
			return nil, err
		}
		home := order.home(r, patientID)
		if r.Type() == "Encounter" && order.ordered(r) {
			if m, moved, err := movedBy(ctx, tx, d, r); err != nil {
				return nil, err
			} else if moved {
				m.was = renamed[m.visit]
				moves = append(moves, m)
			}
		} else if of := subjectOf(r); !shared[r.Type()] && r.Type() != "Patient" {
			if r, err = in.underVisit(ctx, tx, d, r); err != nil {
				return nil, err
			}
			if now := subjectOf(r); now != of {
				home, followed = now, append(followed, r)
			}
		}
		changed, err := tx.Put(ctx, store.Home{Source: d.Source, Patient: home, Heading: string(dataset.HeadingOf(r))}, r)
		if err != nil {
			return nil, err
		}
		if changed {
			refs = append(refs, r.Ref())
		}
	}
	if err := accompany(ctx, tx, d, content, followed); err != nil {
		return nil, err
	}
	for _, m := range moves {
		moved, err := in.follow(ctx, tx, d, m)
		if err != nil {
			return nil, err
		}
		refs = append(refs, moved...)
	}
	for _, theirs := range d.Delete {
		ref := in.o.Stamper.Ref(d.Source, theirs)
		if err := tx.Delete(ctx, ref); err != nil && !fhir.Is(err, fhir.NotFound) && !fhir.Is(err, fhir.Deleted) {
			return nil, err
		}
		if err := order.withdraw(tx, ref); err != nil {
			return nil, err
		}
	}
	if len(refs) > 0 && patientID != "" {
		p := in.provenance(sys, d, refs, hash)
		if _, err := tx.Put(ctx, store.Home{Source: d.Source, Patient: patientID}, p); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// shared are the types that are nobody's record: they stand once for a source, not under each patient.
var shared = map[string]bool{"Organization": true, "Practitioner": true, "PractitionerRole": true, "Location": true, "HealthcareService": true}

// provenance says for every entry of a delivery who sent it, as what, when, and by which mapping it became FHIR.
// FHIR R4 provenance.html
func (in *Intake) provenance(sys *region.System, d *connector.Delivery, refs []fhir.Ref, hash string) *fhir.Resource {
	targets := make([]fhir.Reference, len(refs))
	for i, r := range refs {
		targets[i].Reference = string(r)
	}
	received := d.Received
	if received.IsZero() {
		received = in.o.Now()
	}
	id := in.o.Stamper.ID(d.Source, "Provenance", cmp.Or(d.ID, hash)+"/"+hash)
	return fhir.New("Provenance", id, fhir.M{
		"target": targets, "recorded": fhir.Instant(received),
		"meta":     fhir.M{"source": connector.SourceURI(d.Source)},
		"activity": fhir.CodeableConcept{Text: "received and transformed by " + cmp.Or(d.Map, "no mapping")},
		"agent": []fhir.M{{
			"type": fhir.Code("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author"),
			"who":  fhir.Reference{Type: "Organization", Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: sys.Organisation}}}},
		"entity": []fhir.M{{"role": "source", "what": fhir.Reference{Display: sys.Product,
			Identifier: &fhir.Identifier{System: fhir.SystemSource, Value: sys.ID}},
			"extension": []fhir.M{{"url": connector.ExtensionRaw, "valueString": hash}}}},
	})
}

func (in *Intake) quarantine(tx store.Tx, sys *region.System, d *connector.Delivery, hash string) {
	q := Quarantined{Source: d.Source, Owner: sys.Organisation, ID: d.ID, Hash: hash, Size: len(d.Raw), Type: d.ContentType, At: in.o.Now(), Whole: d.Rejected != nil}
	if d.Rejected != nil {
		q.Issues = append(q.Issues, Note{d.Rejected.Type, d.Rejected.Expression, d.Rejected.Text})
	}
	for _, i := range d.Issues {
		if len(q.Issues) == 100 {
			q.Issues = append(q.Issues, Note{fhir.Incomplete, "", "and more of the same"})
			break
		}
		q.Issues = append(q.Issues, Note{i.Type, i.Expression, i.Text})
	}
	data, _ := json.Marshal(q)
	tx.Bucket(BucketQuarantine).Put(quarantineKey(d.Source, hash, q.Whole), data)
}

func quarantineKey(source, hash string, whole bool) string {
	if whole {
		return source + "\x00whole\x00" + hash
	}
	return source + "\x00part\x00" + hash
}
