package mpi

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/mpi/match"
	"tombolo/store"
)

// More keys of the bucket, for people who are found by what they are like:
//
//	near/<hash of a match key><patient id> -> under keys that many share (see carries), match.Description, packed; else nothing
//	like/<patient id>                -> match.Description, packed
//	term/<field>/<value>             -> how many patients have that name or postcode
//	term                             -> how many patients there are
//	maybe/<patient id>/<patient id>  -> Maybe, both ways round
const (
	nearPrefix  = "near/"
	likePrefix  = "like/"
	termPrefix  = "term/"
	termTotal   = "term"
	maybePrefix = "maybe/"
)

const (
	// perKey is how many patients may share a key: what more have in common finds nobody, and is passed over.
	perKey = 100
	// perPatient is how many others a patient is noted as possibly being.
	perPatient = 10
	// leastPeople is the population that anybody is taken to be one of, however few are registered yet: it is the region's people, not the node's.
	leastPeople = 100_000
	// leastCounted is how many patients must be registered before the frequencies of their names say something.
	leastCounted = 10_000
)

// Describe is a patient as they are compared with others.
func (q *Patient) Describe() match.Description {
	raw := match.Raw{Given: q.Name.Given, Family: []string{q.Name.Family}, Born: q.BirthDate, Sex: q.Gender}
	for _, n := range q.OtherNames {
		raw.Family = append(raw.Family, n.Family)
	}
	if q.Address != nil {
		raw.Postcode = q.Address.PostalCode
		raw.Address = append(slices.Clone(q.Address.Line), q.Address.City)
	}
	if q.Phone != "" {
		raw.Contacts = []string{q.Phone}
	}
	for _, id := range q.Identifiers {
		if id.Use != "old" && id.Check() == nil && !q.Doubts(id) {
			raw.Numbers = append(raw.Numbers, match.Number{System: id.System, Value: id.Value})
		}
	}
	return match.Describe(raw)
}

// describe keeps what a patient is found by as it now is. A nil patient is not there: before they came, or after they went.
func (x *Index) describe(ctx context.Context, b store.TxBucket, was, is *Patient) error {
	var before, after match.Description
	if was != nil {
		before = was.Describe()
	}
	if is != nil {
		after = is.Describe()
	}
	if was != nil && is != nil && before.Pack() == after.Pack() {
		return nil
	}
	counts := map[string]int{}
	if was != nil {
		for _, k := range before.Keys() {
			b.Delete(nearKey(k, was.ID))
		}
		for f, v := range before.Terms() {
			counts[termKey(f, v)]--
		}
		counts[termTotal]--
	}
	if is == nil {
		b.Delete(likePrefix + was.ID)
	} else {
		packed := []byte(after.Pack())
		b.Put(likePrefix+is.ID, packed)
		for _, k := range after.Keys() {
			if carries(k) {
				b.Put(nearKey(k, is.ID), packed)
			} else {
				b.Put(nearKey(k, is.ID), nil)
			}
		}
		for f, v := range after.Terms() {
			counts[termKey(f, v)]++
		}
		counts[termTotal]++
	}
	return count(ctx, b, counts)
}

// nearKey is short, since there are ten to a patient: of the match key it holds 60 bits of a hash, and who shares those by chance is told apart by
// what they are like.
func nearKey(key, patient string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	var sum [8]byte
	return nearPrefix + base64.RawURLEncoding.EncodeToString(h.Sum(sum[:0]))[:10] + patient
}

// carries tells of the keys by which dozens are found in any region of some size, a birthday or a whole postcode in common: what they are like stands there
// too, so that it need not be looked up for each. (An entry of a store of before carries nothing, and is looked up.)
func carries(key string) bool { return key != "" && (key[0] == 'b' || key[0] == 'p') }

func termKey(f match.Field, value string) string {
	return termPrefix + strconv.Itoa(int(f)) + "/" + short(value)
}

// count adds to counters.
func count(ctx context.Context, b store.TxBucket, by map[string]int) error {
	for _, k := range slices.Sorted(maps.Keys(by)) {
		if by[k] == 0 {
			continue
		}
		v, _, err := b.Get(ctx, k)
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(string(v))
		if n += by[k]; n > 0 {
			b.Put(k, strconv.AppendInt(nil, int64(n), 10))
		} else {
			b.Delete(k)
		}
	}
	return nil
}

// A reader reads the bucket, inside a transaction or out of one.
type reader interface {
	MultiGet(ctx context.Context, keys ...string) ([][]byte, error)
	PeekAll(ctx context.Context, prefixes []string, limit int) ([][]store.Item, error)
}

// A scored patient is one who is like somebody.
type scored struct {
	patient string
	match.Score
	match.Verdict
}

// byLikelihood puts the likeliest first.
func byLikelihood(a, b scored) int {
	return cmp.Or(cmp.Compare(b.Verdict, a.Verdict), cmp.Compare(b.Probability, a.Probability), cmp.Compare(a.patient, b.patient))
}

// like gives the patients that are the same as, or possibly, whoever is described, the likeliest first.
func like(ctx context.Context, b reader, d *match.Description) ([]scored, error) {
	c, err := candidates(ctx, b, d.Keys())
	if err != nil || len(c.ids) == 0 {
		return nil, err
	}
	terms, people, err := counted(ctx, b, d)
	if err != nil {
		return nil, err
	}
	m := match.Default()
	var out []scored
	for i, id := range c.ids {
		other, ok := match.Unpack(string(c.packed[i]))
		if !ok {
			continue
		}
		s := m.Score(d, &other, 1/float64(max(people, leastPeople)), terms)
		if v := m.Decide(s); v != match.Different {
			out = append(out, scored{id, s, v})
		}
	}
	slices.SortFunc(out, byLikelihood)
	return out, nil
}

// found are patients who have a key in common with somebody, and what they are like.
type found struct {
	ids    []string
	packed [][]byte        // as described, beside ids
	keys   map[string]bool // the prefixes that found anybody: keys that too many share have not
}

func candidates(ctx context.Context, b reader, keys []string) (found, error) {
	prefixes := make([]string, len(keys))
	for i, k := range keys {
		prefixes[i] = nearKey(k, "")
	}
	slices.Sort(prefixes)
	prefixes = slices.Compact(prefixes)
	listed, err := b.PeekAll(ctx, prefixes, perKey+1)
	if err != nil {
		return found{}, err
	}
	out := found{keys: map[string]bool{}}
	carried := map[string][]byte{}
	for i, items := range listed {
		if len(items) > perKey {
			continue
		}
		for _, item := range items {
			id := item.Key[len(prefixes[i]):]
			out.ids = append(out.ids, id)
			out.keys[prefixes[i]] = true
			if len(item.Value) > 0 {
				carried[id] = item.Value
			}
		}
	}
	slices.Sort(out.ids)
	if out.ids = slices.Compact(out.ids); len(out.ids) == 0 {
		return out, nil
	}
	out.packed = make([][]byte, len(out.ids))
	var at []string
	var of []int
	for i, id := range out.ids {
		if out.packed[i] = carried[id]; out.packed[i] == nil {
			at, of = append(at, likePrefix+id), append(of, i)
		}
	}
	if len(at) == 0 {
		return out, nil
	}
	looked, err := b.MultiGet(ctx, at...)
	if err != nil {
		return found{}, err
	}
	for n, i := range of {
		out.packed[i] = looked[n]
	}
	return out, nil
}

// counted reads how common what is described is.
func counted(ctx context.Context, b reader, d *match.Description) (match.Terms, int, error) {
	keys := []string{termTotal}
	for f, v := range d.Terms() {
		keys = append(keys, termKey(f, v))
	}
	values, err := b.MultiGet(ctx, keys...)
	if err != nil {
		return nil, 0, err
	}
	counts := map[string]int{}
	for i, k := range keys {
		counts[k], _ = strconv.Atoi(string(values[i]))
	}
	people := counts[keys[0]]
	if people < leastCounted {
		return nil, people, nil
	}
	return func(f match.Field, v string) float64 { return float64(counts[termKey(f, v)]) / float64(people) }, people, nil
}

// A Maybe is two patients who may be of one person, for somebody to look at.
type Maybe struct {
	A           string    `json:"a"` // this server's ids of the source Patients, A before B
	B           string    `json:"b"`
	Probability float64   `json:"p"`
	Why         []string  `json:"why"` // what speaks for and against, the weightiest first; no value of any patient
	At          time.Time `json:"at"`
}

func (x *Index) maybe(b store.TxBucket, patient string, s scored, at time.Time) {
	m := Maybe{A: min(patient, s.patient), B: max(patient, s.patient), Probability: s.Probability, Why: s.Why(), At: at}
	data, _ := json.Marshal(m)
	b.Put(maybePrefix+m.A+"/"+m.B, data)
	b.Put(maybePrefix+m.B+"/"+m.A, data)
}

// forget takes away what was thought of a patient and others.
func (x *Index) forget(ctx context.Context, b store.TxBucket, patient string) error {
	prefix := maybePrefix + patient + "/"
	for item, err := range b.Scan(ctx, prefix) {
		if err != nil {
			return err
		}
		b.Delete(item.Key)
		b.Delete(maybePrefix + item.Key[len(prefix):] + "/" + patient)
	}
	return nil
}

// Maybes are the pairs of patients who may be of one person and of whom nobody has said yet, the likeliest first, at most limit.
func (x *Index) Maybes(ctx context.Context, limit int) ([]Maybe, error) {
	settled := map[string]bool{}
	for item, err := range x.db.View(Bucket).Scan(ctx, saidPrefix) {
		if err != nil {
			return nil, err
		}
		settled[strings.TrimPrefix(item.Key, saidPrefix)] = true
	}
	var out []Maybe
	for item, err := range x.db.View(Bucket).Scan(ctx, maybePrefix) {
		if err != nil {
			return nil, err
		}
		var m Maybe
		if err := json.Unmarshal(item.Value, &m); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the identity index holds an unreadable pair")
		}
		if pair := m.A + "/" + m.B; item.Key != maybePrefix+pair || settled[pair] {
			continue
		}
		if same, err := x.linked(ctx, m.A, m.B); err != nil {
			return nil, err
		} else if !same {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Maybe) int { return cmp.Compare(b.Probability, a.Probability) })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

// linked reports whether two patients are of one person.
func (x *Index) linked(ctx context.Context, a, b string) (bool, error) {
	p, err := x.PersonOf(ctx, a)
	if err == nil {
		var q string
		if q, err = x.PersonOf(ctx, b); err == nil {
			return p == q, nil
		}
	}
	if fhir.Is(err, fhir.NotFound) {
		return false, nil
	}
	return false, err
}

// liken finds the one other person that a patient is without doubt, and notes whom they may be. More than one is nobody: one of them is somebody else.
func (x *Index) liken(ctx context.Context, b store.TxBucket, pt *Patient, home string, e events.Event) (string, error) {
	if err := x.forget(ctx, b, pt.ID); err != nil {
		return "", err
	}
	d := pt.Describe()
	found, err := like(ctx, b, &d)
	if err != nil {
		return "", err
	}
	same := ""
	ambiguous := false
	var doubtful []scored
	for _, s := range found {
		if s.patient == pt.ID {
			continue
		}
		owner, p, err := x.owner(ctx, b, s.patient)
		if err != nil {
			return "", err
		}
		if owner == "" || owner == home {
			continue
		}
		_, others := p.without(pt.ID)
		if s.Verdict != match.Same || !mayBe(*pt, others) {
			doubtful = append(doubtful, s)
			continue
		}
		ambiguous = ambiguous || same != "" && same != owner
		same = owner
		doubtful = append(doubtful, s)
	}
	if same != "" && !ambiguous {
		return same, nil
	}
	for _, s := range doubtful[:min(len(doubtful), perPatient)] {
		x.maybe(b, pt.ID, s, e.At)
	}
	return "", nil
}

// owner reads the person a patient is linked to.
func (x *Index) owner(ctx context.Context, b store.TxBucket, patient string) (string, *Person, error) {
	id, err := getString(ctx, b, "patient/"+patient)
	if err != nil || id == "" {
		return "", nil, err
	}
	p := &Person{}
	return id, p, getJSON(ctx, b, personPrefix+id, p)
}

// mayBe reports whether a patient may be linked to others on likeness alone: nobody has said that they are not, and no national number speaks
// against it.
func mayBe(pt Patient, others []Patient) bool {
	numbers := map[string]string{}
	for _, id := range nationalNumbers(pt.Identifiers) {
		if id.Use != "old" && !pt.Doubts(id) {
			numbers[id.System] = id.Value
		}
	}
	for _, q := range others {
		if slices.Contains(pt.Apart, q.ID) || slices.Contains(q.Apart, pt.ID) {
			return false
		}
		for _, id := range nationalNumbers(q.Identifiers) {
			if mine, ok := numbers[id.System]; ok && id.Use != "old" && !q.Doubts(id) && mine != id.Value {
				return false
			}
		}
	}
	return true
}
