package gather

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/store"
)

// A snapshot is what a source last answered about somebody, heading by heading: shown, with its age, when the source does not answer, where the region
// file lets it be kept (limits: last_good). It is a source's answer and nothing more: whose it is and who may see it is decided anew each time, and a
// source that no longer knows or shares the person's record takes its snapshots with it. What a source itself decides goes by who asks: its answer to a
// nurse is shown to nobody but nurses of that organisation for that purpose, and another region's to nobody but that user.
type snapshot struct {
	At      map[dataset.Heading]time.Time // when each heading was answered
	Patient json.RawMessage
	Content []json.RawMessage
	States  map[dataset.Heading]dataset.State
	Map     string
	Sum     []byte // of patient and content
}

const (
	// snapshotRooms are the buckets over which snapshots are spread, so that no partition of the store holds everybody's.
	snapshotRooms = 64
	// sameAnswer is for how long an answer that says the same again is not written again.
	sameAnswer = 10 * time.Minute
	mostKept   = 32 << 20 // bytes of one snapshot
)

var (
	packer, _   = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*mostKept))
)

func snapshotBucket(room int) string { return fmt.Sprintf("last-good-%02d", room) }

// A place is the bucket and key of a source's snapshot of somebody for those who ask alike, and what the keys for all who ask begin with. They tell nothing of
// whom.
type place struct{ bucket, person, key string }

func (g *Gatherer) place(l *lane, q connector.Question) (p place, ok bool) {
	who := q.Patient
	if len(q.Identifiers) > 0 {
		who = q.Identifiers[0].System + "|" + q.Identifiers[0].Value
	}
	if who == "" {
		return p, false
	}
	r := q.Requester
	by := []string{r.Role, r.OrganisationODS, r.Purpose, strings.Join(slices.Sorted(slices.Values(r.Activities)), " ")}
	if l.elsewhere() {
		by = append(by, r.UserID, r.SDSUserID)
	}
	id := g.o.Stamper.ID(l.key, "last-good", who)
	sum := sha256.Sum256([]byte(id))
	p = place{bucket: snapshotBucket(int(sum[0]) % snapshotRooms), person: l.key + "/" + id + "/"}
	p.key = p.person + g.o.Stamper.ID(l.key, "last-good-for", strings.Join(by, "\x00"))
	return p, true
}

// shelve keeps an answer, in the background of a reading. What else is kept of headings that were not asked this time stays.
func (g *Gatherer) shelve(ctx context.Context, source string, at place, q connector.Question, ans *connector.Answer) {
	if ans.Patient == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	now := g.o.Now()
	_, err := g.o.Kept.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(at.bucket)
		was, _, err := readSnapshot(b.Get(ctx, at.key))
		if err != nil {
			was = snapshot{} // damaged: the new one takes its place
		}
		next := was.with(q, ans, now)
		if slices.Equal(next.Sum, was.Sum) && next.freshEnough(was, q, now) {
			return nil
		}
		packed, err := next.pack()
		if err != nil || packed == nil {
			return err
		}
		b.Put(at.key, packed)
		return nil
	})
	if err != nil {
		g.o.Logger.Warn("a source's answer could not be kept for when it does not answer", "source", source, "error", err)
	}
}

// with is the snapshot after another answer: what was asked now is as it was answered now, the rest as it was.
func (s snapshot) with(q connector.Question, ans *connector.Answer, now time.Time) snapshot {
	out := snapshot{At: map[dataset.Heading]time.Time{}, States: map[dataset.Heading]dataset.State{}, Patient: ans.Patient.Raw(), Map: ans.Map}
	seen := map[fhir.Ref]bool{}
	for _, r := range ans.Content {
		out.Content = append(out.Content, r.Raw())
		seen[r.Ref()] = true
	}
	for _, raw := range s.Content {
		r, err := fhir.Parse(raw)
		if err != nil || seen[r.Ref()] || !supporting[r.Type()] && slices.Contains(q.Headings, dataset.HeadingOf(r)) {
			continue
		}
		out.Content = append(out.Content, raw)
	}
	for h, at := range s.At {
		out.At[h], out.States[h] = at, s.States[h]
	}
	for _, h := range q.Headings {
		delete(out.States, h)
		delete(out.At, h)
		if st, ok := ans.States[h]; ok {
			out.States[h], out.At[h] = st, now
		}
	}
	sum := sha256.New()
	for _, raw := range append([]json.RawMessage{out.Patient}, out.Content...) {
		sum.Write(raw)
	}
	out.Sum = sum.Sum(nil)
	return out
}

// freshEnough reports whether what was kept of the headings asked says so recently that it need not be written again.
func (s snapshot) freshEnough(was snapshot, q connector.Question, now time.Time) bool {
	for _, h := range q.Headings {
		if was.States[h] != s.States[h] || s.States[h] != "" && now.Sub(was.At[h]) > sameAnswer {
			return false
		}
	}
	return true
}

func (s snapshot) pack() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil || len(text) > mostKept {
		return nil, err
	}
	return packer.EncodeAll(text, nil), nil
}

func readSnapshot(packed []byte, ok bool, err error) (snapshot, bool, error) {
	if err != nil || !ok {
		return snapshot{}, false, err
	}
	var s snapshot
	text, err := unpacker.DecodeAll(packed, nil)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err == nil, err
}

// unshelve drops what is kept of somebody whom a source no longer knows, or no longer shares.
func (g *Gatherer) unshelve(ctx context.Context, source string, at place) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var keys []string
	var err error
	for item, serr := range g.o.Kept.View(at.bucket).Scan(ctx, at.person) {
		if err = serr; err != nil {
			break
		}
		keys = append(keys, item.Key)
	}
	if err == nil && len(keys) > 0 {
		_, err = g.o.Kept.Update(ctx, func(tx store.Tx) error {
			for _, key := range keys {
				tx.Bucket(at.bucket).Delete(key)
			}
			return nil
		})
	}
	if err != nil {
		g.o.Logger.Warn("what was kept of a source's answer could not be dropped", "source", source, "error", err)
	}
}

// earlier gives what the source last answered about the person under the headings asked, and when the oldest of it was answered; nil if nothing is
// kept that is young enough, or if it is known by now that it is about somebody else. Content of other headings is given too: it is not to be shown, and may
// tell what belongs to it.
func (g *Gatherer) earlier(ctx context.Context, op *opening, l *lane, q connector.Question) (*connector.Answer, time.Time) {
	at, ok := g.place(l, q)
	if !ok {
		return nil, time.Time{}
	}
	s, ok, err := readSnapshot(g.o.Kept.View(at.bucket).Get(ctx, at.key))
	if err != nil || !ok {
		if err != nil && !errors.Is(err, context.Canceled) {
			g.o.Logger.Warn("what was kept of a source's answer could not be read", "source", l.key, "error", err)
		}
		return nil, time.Time{}
	}
	ans := &connector.Answer{States: map[dataset.Heading]dataset.State{}, Map: s.Map}
	if ans.Patient, err = fhir.Parse(s.Patient); err != nil {
		return nil, time.Time{}
	}
	owner, err := g.o.People.PersonOf(ctx, g.o.Stamper.ID(l.key, "Patient", ans.Patient.ID()))
	if err != nil && !fhir.Is(err, fhir.NotFound) || err == nil && owner != op.person.ID {
		return nil, time.Time{} // since then the source's patient was found to be another person
	}
	var oldest time.Time
	for _, h := range q.Headings {
		at, ok := s.At[h]
		if !ok || g.o.Now().Sub(at) > g.callers[l.key].limits.LastGood {
			continue
		}
		ans.States[h] = s.States[h]
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	for _, raw := range s.Content {
		r, err := fhir.Parse(raw)
		if err != nil {
			continue
		}
		ans.Content = append(ans.Content, r)
	}
	if len(ans.States) == 0 {
		return nil, time.Time{}
	}
	return ans, oldest
}

// keeps reports whether this session's questions to a source are kept: the region file lets it, and nothing out of the ordinary was asked for.
func (g *Gatherer) keeps(op *opening, l *lane) bool {
	return g.callers[l.key].limits.LastGood > 0 && !op.decision.Has(policy.AlertPrivacy)
}

// DropEarlier forgets snapshots that are older than their source's limit, and those of sources that are no longer asked or may no longer be kept.
func (g *Gatherer) DropEarlier(ctx context.Context) (dropped int, err error) {
	for room := range snapshotRooms {
		bucket := snapshotBucket(room)
		var old []string
		for item, err := range g.o.Kept.View(bucket).Scan(ctx, "") {
			if err != nil {
				return dropped, err
			}
			if g.tooOld(item) {
				old = append(old, item.Key)
			}
		}
		for part := range slices.Chunk(old, 500) {
			if _, err := g.o.Kept.Update(ctx, func(tx store.Tx) error {
				for _, key := range part {
					tx.Bucket(bucket).Delete(key)
				}
				return nil
			}); err != nil {
				return dropped, err
			}
			dropped += len(part)
		}
	}
	return dropped, nil
}

func (g *Gatherer) tooOld(item store.Item) bool {
	source, _, _ := strings.Cut(item.Key, "/")
	c, asked := g.callers[source]
	s, ok, err := readSnapshot(item.Value, true, nil)
	if !asked || err != nil || !ok {
		return true
	}
	for _, at := range s.At {
		if g.o.Now().Sub(at) <= c.limits.LastGood {
			return false
		}
	}
	return true
}
