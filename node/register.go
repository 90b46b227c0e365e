package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/pds"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/mpi/match"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/store"
)

// A register asks PDS about everybody whom the other sources register: whether the number is theirs, and who they are where they bring none. What PDS says comes in by
// the one door, as the source that PDS is in the region file, and identity follows: a superseded number is replaced, an invalidated one is nobody's, a restriction,
// a death or a change of practice counts. It follows the log, so nobody is forgotten while PDS is down, and asks at PDS's pace; whoever is on PDS
// is asked about again after a while. The keys of its bucket:
//
//	due/<when>/<patient id> -> who is to be asked about, in order of time
//	at/<patient id>         -> that key, so that each is due once
//	said/<patient id>       -> Finding
//	sum/<patient id>        -> what of PDS's own patient was last taken in, a hash
type register struct {
	n       *Node
	sys     region.System
	c       *pds.Client
	recheck time.Duration
	turn    *lease
	wake    chan struct{}
	mu      sync.Mutex // one delivery at a time
}

const (
	duePrefix  = "due/"
	atPrefix   = "at/"
	saidPrefix = "said/"
	sumPrefix  = "sum/"
)

// A Finding is what came of asking PDS about a source's patient, for stewards.
type Finding struct {
	At   time.Time `json:"at"`
	What string    `json:"what"` // one of findings' keys
}

// findings are the outcomes, and what a steward is to make of those that need one.
var findings = map[string]string{
	"known":   "",
	"traced":  "",
	"unknown": "has an NHS number that PDS does not know: check what was typed, and whether the number is of another country",
	"invalid": "has an NHS number that PDS has invalidated: the number is nobody's any more",
	"unsure":  "has no NHS number, and PDS knows somebody who may be this patient, but not without doubt: trace them by hand",
	"several": "has no NHS number, and PDS knows more than one person who may be this patient: trace them by hand",
	"nobody":  "", // PDS knows nobody described so: a visitor, or a slip that only the patient can put right
	"too-few": "", // nothing to ask by
}

func newPDS(n *Node, s region.System) (connector.Runner, connector.Asker, error) {
	o := pds.Options{Source: s.ID, Address: s.Address, EndUser: n.option(s, "end-user"), Now: n.c.Now}
	var err error
	if o.HTTP, err = n.asking(s.TLS); err != nil {
		return nil, nil, fhir.Errorf(fhir.ValueError, "system %s: tls: %w", s.ID, err)
	}
	if o.Believe, err = n.duration(s, "believe"); err != nil {
		return nil, nil, err
	}
	if v := n.option(s, "rate"); v != "" {
		if o.Rate, err = strconv.Atoi(v); err != nil || o.Rate < 1 {
			return nil, nil, fhir.Errorf(fhir.ValueError, "system %s: options: rate: write how many questions a second PDS lets this application ask, such as 5", s.ID)
		}
	}
	if o.Tokens, err = n.pdsTokens(s, o); err != nil {
		return nil, nil, err
	}
	r := &register{n: n, sys: s, turn: n.lease("register/" + s.ID), wake: make(chan struct{}, 1)}
	if r.recheck, err = n.duration(s, "recheck"); err != nil {
		return nil, nil, err
	}
	r.recheck = cmp.Or(r.recheck, 7*24*time.Hour)
	if r.c, err = pds.New(o); err != nil {
		return nil, nil, err
	}
	n.registers = append(n.registers, r)
	n.People.Trust(s.ID)
	n.followers = append(n.followers, n.follower("register/"+s.ID, r.follow))
	return r, r, nil
}

// pdsTokens are what the region file says of proving who we are: options token, api-key, key-id and key. Without token nothing is proven, as in the sandbox.
func (n *Node) pdsTokens(s region.System, o pds.Options) (*pds.Tokens, error) {
	address := n.option(s, "token")
	if address == "" {
		return nil, nil
	}
	data, err := os.ReadFile(n.path(n.option(s, "key")))
	if err != nil {
		return nil, fhir.Errorf(fhir.NotFound, "system %s: options: key: the private key that signs for us at PDS cannot be read: %w", s.ID, err)
	}
	key, err := pds.ParseKey(data)
	if err != nil {
		return nil, fhir.Errorf(fhir.ValueError, "system %s: options: key: %w", s.ID, err)
	}
	t, err := pds.NewTokens(pds.TokenOptions{Address: address, APIKey: n.option(s, "api-key"), KeyID: n.option(s, "key-id"), Key: key, HTTP: o.HTTP, Now: n.c.Now})
	if err != nil {
		return nil, fhir.Errorf(fhir.Required, "system %s: options: %w", s.ID, err)
	}
	return t, nil
}

func (r *register) bucket() string { return "register/" + r.sys.ID }

// follow notes whom PDS is to be asked about: everybody another source registers or changes, at once; and whom PDS itself told of, again after a while.
func (r *register) follow(ctx context.Context, tx store.Tx, e events.Event) error {
	if e.Ref.Type() != "Patient" || e.Source == connector.Own {
		return nil
	}
	b := tx.Bucket(r.bucket())
	if e.Kind == events.Deleted {
		b.Delete(saidPrefix + e.Ref.ID())
		return r.due(ctx, b, e.Ref.ID(), time.Time{})
	}
	when := e.At
	if e.Source == r.sys.ID {
		when = when.Add(r.recheck)
	}
	if err := r.due(ctx, b, e.Ref.ID(), when); err != nil {
		return err
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

// due writes when a patient is to be asked about; the zero time: never.
func (r *register) due(ctx context.Context, b store.TxBucket, patient string, when time.Time) error {
	was, _, err := b.Get(ctx, atPrefix+patient)
	if err != nil {
		return err
	}
	if len(was) > 0 {
		b.Delete(string(was))
	}
	if when.IsZero() {
		b.Delete(atPrefix + patient)
		return nil
	}
	key := duePrefix + when.UTC().Format("2006-01-02T15:04:05.000000") + "/" + patient
	b.Put(key, nil)
	b.Put(atPrefix+patient, []byte(key))
	return nil
}

// Run implements connector.Runner: it asks about whoever is due, while it is this node's turn.
func (r *register) Run(ctx context.Context, _ connector.Door) error {
	for ctx.Err() == nil {
		mine, err := r.turn.Holds(ctx)
		if err != nil {
			return err
		}
		next := time.Minute
		if mine {
			if next, err = r.work(ctx); err != nil {
				return err
			}
		}
		t := time.NewTimer(min(max(next, time.Millisecond), time.Minute/12))
		select {
		case <-t.C:
		case <-r.wake:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
		}
	}
	return ctx.Err()
}

// atOnce is how many are asked about before the turn is looked at again.
const atOnce = 25

// work asks about those who are due, and tells how long it is until the next one is.
func (r *register) work(ctx context.Context) (time.Duration, error) {
	for range atOnce {
		key, patient, when, err := r.first(ctx)
		if err != nil || key == "" {
			return time.Minute, err
		}
		if wait := when.Sub(r.n.c.Now()); wait > 0 {
			return wait, nil
		}
		err = r.ask(ctx, patient)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil && passing(err) { // asked again, but not before others were
			r.n.c.Logger.Warn("PDS could not be asked about a patient, and will be", "source", r.sys.ID, "error", err)
			return time.Second, r.later(ctx, patient, r.n.c.Now().Add(time.Minute))
		}
		if err != nil {
			r.n.c.Logger.Error("PDS cannot be asked about a patient: is the configuration right?", "source", r.sys.ID, "error", err)
			return time.Second, r.later(ctx, patient, r.n.c.Now().Add(time.Hour))
		}
	}
	return 0, nil
}

func passing(err error) bool {
	return slices.ContainsFunc([]fhir.IssueType{fhir.Timeout, fhir.Transient, fhir.Throttled, fhir.NoStore, fhir.TooLong, fhir.Structure}, func(t fhir.IssueType) bool { return fhir.Is(err, t) })
}

func (r *register) first(ctx context.Context) (key, patient string, when time.Time, err error) {
	for item, err := range r.n.store.View(r.bucket()).ScanFrom(ctx, duePrefix, 1) {
		if err != nil || !strings.HasPrefix(item.Key, duePrefix) {
			return "", "", when, err
		}
		at, patient, _ := strings.Cut(item.Key[len(duePrefix):], "/")
		when, err = time.Parse("2006-01-02T15:04:05.000000", at)
		return item.Key, patient, when, err
	}
	return "", "", when, nil
}

func (r *register) later(ctx context.Context, patient string, when time.Time) error {
	_, err := r.n.store.Update(ctx, func(tx store.Tx) error { return r.due(ctx, tx.Bucket(r.bucket()), patient, when) })
	return err
}

// ask asks about one source patient, takes in what PDS says, and writes down what came of it.
func (r *register) ask(ctx context.Context, patient string) error {
	res, err := r.n.store.Read(ctx, fhir.MakeRef("Patient", patient))
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return r.later(ctx, patient, time.Time{})
	}
	if err != nil {
		return err
	}
	if tail, err := r.n.store.Tail(ctx); err != nil { // whose record it is must be known, so that the question stands in their log
		return err
	} else if err := r.n.Await(ctx, tail); err != nil {
		return fhir.Errorf(fhir.Transient, "the index has not caught up with the log: %w", err)
	}
	pt := mpi.FromResource(connector.SourceOf(res), res)
	what, err := r.find(ctx, pt)
	if err != nil {
		return err
	}
	data, err := json.Marshal(Finding{At: r.n.c.Now(), What: what})
	if err != nil {
		return err
	}
	_, err = r.n.store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(r.bucket())
		when := time.Time{}
		if pt.Source == r.sys.ID && pt.ReplacedBy == "" {
			when = r.n.c.Now().Add(r.recheck)
		} else {
			b.Put(saidPrefix+patient, data)
		}
		return r.due(ctx, b, patient, when)
	})
	return err
}

// find asks by the number, or where there is none by the description.
func (r *register) find(ctx context.Context, pt mpi.Patient) (string, error) {
	if pt.ReplacedBy != "" {
		return "known", nil
	}
	for _, id := range pt.Identifiers {
		if id = id.Canonical(); id.System != fhir.SystemNHSNumber || id.Use == "old" {
			continue
		}
		n, err := fhir.ParseNHSNumber(id.Value)
		if err != nil {
			continue
		}
		if err := r.remember(ctx, pt, n, "PDS: by number"); err != nil {
			return "", err
		}
		f, err := (*pds.Found)(nil), error(nil)
		if pt.Source == r.sys.ID {
			f, err = r.c.Fresh(ctx, n, pds.Patient)
		} else {
			f, err = r.c.Read(ctx, n, pds.Patient)
		}
		switch {
		case fhir.Is(err, fhir.NotFound):
			return "unknown", nil
		case fhir.Is(err, fhir.Deleted):
			return "invalid", r.void(ctx, n)
		case err != nil:
			return "", err
		}
		return "known", r.take(ctx, f)
	}
	return r.trace(ctx, pt)
}

// others is how many people may still be described so. PDS knows sixty million, but has said that of all of them only this one answers to the beginnings of the
// names, the birth date and the place: one in a million allows for who is on PDS under another name or not at all.
const others = 1_000_000

// trace asks by what a source says of somebody, and believes the answer only if there is no doubt.
func (r *register) trace(ctx context.Context, pt mpi.Patient) (string, error) {
	w := pds.Wanted{Family: pt.Name.Family, BirthDate: pt.BirthDate, Gender: pt.Gender}
	if len(pt.Name.Given) > 0 {
		w.Given = pt.Name.Given[0]
	}
	if pt.Address != nil {
		w.Postcode = pt.Address.PostalCode
	}
	if !pt.Active || w.Given == "" || w.Postcode == "" { // a guess at best, and each guess tells PDS's audit of people who were not meant
		return "too-few", nil
	}
	if err := r.remember(ctx, pt, fhir.NHSNumber{}, "PDS: by name, birth date and postcode"); err != nil {
		return "", err
	}
	f, err := r.c.Trace(ctx, w, pds.Patient)
	switch {
	case fhir.Is(err, fhir.NotFound):
		return "nobody", nil
	case fhir.Is(err, fhir.MultipleMatch):
		return "several", nil
	case fhir.Is(err, fhir.Required), fhir.Is(err, fhir.Invalid), fhir.Is(err, fhir.ValueError):
		return "too-few", nil
	case err != nil:
		return "", err
	}
	there := mpi.FromResource(r.sys.ID, f.Patient)
	a, b := pt.Describe(), there.Describe()
	m := match.Default()
	if m.Decide(m.Score(&a, &b, 1.0/others, nil)) != match.Same {
		return "unsure", nil
	}
	return "traced", r.take(ctx, f)
}

// remember writes into the audit log that PDS is asked about somebody: to ask is to tell.
func (r *register) remember(ctx context.Context, pt mpi.Patient, n fhir.NHSNumber, query string) error {
	person, err := r.n.People.PersonOf(ctx, pt.ID)
	if err != nil && !fhir.Is(err, fhir.NotFound) {
		return err
	}
	_, err = r.n.Audit.Append(ctx, audit.Event{Kind: audit.Search, Agent: audit.Agent{User: "tombolo", Name: "Tombolo", Organisation: r.sys.Organisation}, Purpose: policy.Administration.Code(),
		PersonID: person, NHSNumber: n, Query: query, What: []string{"asked: " + r.sys.ID, "about: Patient/" + pt.ID}})
	if err != nil {
		return fhir.Errorf(fhir.NoStore, "the question could not be recorded, so it is not asked: %w", err)
	}
	return nil
}

// key is PDS's patient under a name that tells no number.
func (r *register) key(n fhir.NHSNumber) string {
	return r.n.stamper.ID(r.sys.ID, "number", n.Digits())
}

// take takes in what PDS says of somebody, if it is news.
func (r *register) take(ctx context.Context, f *pds.Found) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.key(f.Number)
	ref := r.n.stamper.Ref(r.sys.ID, fhir.MakeRef("Patient", key))
	old, err := r.supersededBy(ctx, ref)
	if err != nil {
		return err
	}
	var merged []*fhir.Resource
	if d := f.Superseded.Digits(); d != "" && !slices.Contains(old, d) {
		old = append(old, d)
		gone := r.key(f.Superseded)
		if _, err := r.n.store.Read(ctx, r.n.stamper.Ref(r.sys.ID, fhir.MakeRef("Patient", gone))); err == nil { // it is here under the old number too
			merged = append(merged, fhir.New("Patient", gone, fhir.M{"active": false, "link": []fhir.M{{"type": "replaced-by", "other": fhir.Reference{Reference: "Patient/" + key}}}}))
		}
	}
	p := asRegistered(f.Patient, key, old)
	return r.deliver(ctx, key, p, merged)
}

// supersededBy are the numbers that gave way to the one of a patient that is here already.
func (r *register) supersededBy(ctx context.Context, ref fhir.Ref) ([]string, error) {
	was, err := r.n.store.Read(ctx, ref)
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var old []string
	for _, id := range was.Identifiers() {
		if id.System == fhir.SystemNHSNumber && id.Use == "old" {
			old = append(old, id.Value)
		}
	}
	return old, nil
}

// asRegistered is PDS's record as it is kept here: under another id than the number, and with the numbers that gave way to it.
func asRegistered(p *fhir.Resource, key string, old []string) *fhir.Resource {
	m := fhir.M{}
	for c := range p.Value().Children() {
		if c.Key() != "resourceType" && c.Key() != "id" && c.Key() != "identifier" {
			m[c.Key()] = json.RawMessage(c.Raw())
		}
	}
	var ids []any
	for c := range p.Value().Member("identifier").Children() {
		ids = append(ids, json.RawMessage(c.Raw()))
	}
	for _, n := range old {
		ids = append(ids, fhir.Identifier{Use: "old", System: fhir.SystemNHSNumber, Value: n})
	}
	m["identifier"] = ids
	return fhir.New("Patient", key, m)
}

// void takes in that a number is nobody's.
func (r *register) void(ctx context.Context, n fhir.NHSNumber) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.key(n)
	return r.deliver(ctx, key, fhir.New("Patient", key, fhir.M{"active": false, "identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: n.Digits()}},
		"meta": fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "REDACTED"}}}}), nil)
}

// deliver hands a patient in by the one door, unless nothing about them is new.
func (r *register) deliver(ctx context.Context, key string, p *fhir.Resource, merged []*fhir.Resource) error {
	sum := sha256.Sum256(p.Raw())
	hash := hex.EncodeToString(sum[:])
	was, _, err := r.n.store.View(r.bucket()).Get(ctx, sumPrefix+key)
	if err != nil || string(was) == hash {
		return err
	}
	now := r.n.c.Now()
	if _, err := r.n.Intake.Accept(ctx, connector.Delivery{Source: r.sys.ID, ID: "read/" + key + "/" + now.UTC().Format(time.RFC3339Nano), Received: now, ContentType: "application/fhir+json",
		Raw: p.Raw(), Content: append([]*fhir.Resource{p}, merged...), Patient: key, Map: pds.MapVersion}); err != nil {
		return err
	}
	_, err = r.n.store.Update(ctx, func(tx store.Tx) error {
		tx.Bucket(r.bucket()).Put(sumPrefix+key, []byte(hash))
		return nil
	})
	return err
}

// Ask implements connector.Asker, where the region file has PDS asked live: what it says is also taken in.
func (r *register) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	a, err := r.c.Ask(ctx, q)
	if err != nil {
		return a, err
	}
	n, err := fhir.ParseNHSNumber(a.Patient.ID())
	if err != nil {
		return nil, err
	}
	asked := ""
	for _, id := range q.Identifiers {
		if id = id.Canonical(); id.System == fhir.SystemNHSNumber {
			asked = id.Value
			break
		}
	}
	if asked != n.Digits() {
		was, _ := fhir.ParseNHSNumber(asked)
		if err := r.take(context.WithoutCancel(ctx), &pds.Found{Patient: a.Patient, Number: n, Superseded: was}); err != nil {
			return nil, err
		}
		return nil, fhir.Errorf(fhir.Transient, "PDS has given this person another NHS number, which counts from now on: open the record again").From(r.sys.ID)
	}
	a.Patient = asRegistered(a.Patient, r.key(n), nil)
	return a, nil
}

// Findings are the patients of whom PDS said something that somebody has to look at, by this server's ids.
func (r *register) Findings(ctx context.Context) (map[string]Finding, error) {
	out := map[string]Finding{}
	for item, err := range r.n.store.View(r.bucket()).Scan(ctx, saidPrefix) {
		if err != nil {
			return nil, err
		}
		var f Finding
		if err := json.Unmarshal(item.Value, &f); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "what PDS said of a patient is unreadable")
		}
		if findings[f.What] != "" {
			out[strings.TrimPrefix(item.Key, saidPrefix)] = f
		}
	}
	return out, nil
}

// Waiting is how many patients PDS is yet to be asked about.
func (r *register) Waiting(ctx context.Context) (n int, err error) {
	now := duePrefix + r.n.c.Now().UTC().Format("2006-01-02T15:04:05.000000")
	for item, err := range r.n.store.View(r.bucket()).Scan(ctx, duePrefix) {
		if err != nil || item.Key > now {
			return n, err
		}
		n++
	}
	return n, nil
}

// Asked is PDS itself, which a probe asks: nothing that was said before is believed, and nothing that it says is taken in.
func (r *register) Asked() connector.Asker { return r.c.Asked() }
