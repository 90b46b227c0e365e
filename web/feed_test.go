package web

import (
	"context"
	"net/url"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/fhir"
)

func (d fakeDesk) Feed(ctx context.Context, s *access.Session, source string) (*FeedState, error) {
	st, _ := d.Desk(ctx, s)
	if source != "rx1-pas" {
		return nil, fhir.Errorf(fhir.NotFound, "there is no such system")
	}
	held := st.Quarantine[0]
	held.Hash = "0a1b2c"
	return &FeedState{SourceState: st.Sources[0], Duplicates: 7, Reused: 3, LastReused: today.Add(-time.Hour), Held: []Quarantined{held}, More: 2,
		Wire: []Count{{What: "Connections open now", N: 8}, {What: "Bytes that were no whole frame, kept", N: 4, Odd: true}},
		Gaps: []Gap{{"ZU1-2 in ADT^A01", 212}, {"IN1-2 in ADT^A08", 3}, {"PID-3.4.2 in ADT^A01", 290}, {"PID-15(2…) in ADT^A31", 4}}, Sampled: 300, Gappable: true}, nil
}

func (d fakeDesk) OpenHeld(ctx context.Context, s *access.Session, source, hash, reason string) (Quarantined, []byte, error) {
	st, err := d.Feed(ctx, s, source)
	switch {
	case err != nil || hash != st.Held[0].Hash:
		return Quarantined{}, nil, fhir.Errorf(fhir.NotFound, "nothing waits under that hash")
	case reason == "":
		return Quarantined{}, nil, fhir.Errorf(fhir.Required, "say why it must be opened")
	}
	return st.Held[0], []byte("MSH|^~\\&|PAS|RX1\rPID|1||<b>T1</b>\x00\r"), nil
}

func (d fakeDesk) TakeHeld(ctx context.Context, s *access.Session, source, hash string) error {
	if hash == "taken" {
		return fhir.Errorf(fhir.NotFound, "nothing waits under that hash")
	}
	if hash != "0a1b2c" {
		return fhir.Errorf(fhir.Structure, "the message is cut off").At("OBX")
	}
	return nil
}

// A feed's page tells what its operators have to see to; what waits is opened by them alone, for a reason, and never by its address.
func TestAFeedsPageIsForItsOperators(t *testing.T) {
	srv := newSite(t, newFake())
	ops := newReader(t, srv, "ops")
	ops.get("/desk").wants(t, `href="/desk/feeds/rx1-pas"`)
	page := ops.get("/desk/feeds/rx1-pas")
	page.wants(t, "Severn Acute Trust", "3 came under an id that another message had", "ZU1-2 in ADT^A01", "212", "3 waiting", "segment 4, OBX", "Bytes that were no whole frame, kept")
	page.lacks(t, "MSH|")
	if got := ops.get("/desk/feeds/nothing"); got.status != 404 {
		t.Errorf("a source that there is not: %d", got.status)
	}
	open := func(r *reader, hash, reason string) answer {
		return r.post("/desk/feeds/rx1-pas/open", url.Values{"held": {hash}, "reason": {reason}})
	}
	if got := open(ops, "0a1b2c", " "); got.status != 400 {
		t.Errorf("opened without a reason: %d", got.status)
	} else {
		got.wants(t, "say why it must be opened", `href="#h-0a1b2c"`)
		got.lacks(t, "MSH|")
	}
	got := open(ops, "0a1b2c", "The sender says that it was whole")
	got.wants(t, "MSH|^~\\&amp;|PAS|RX1", "&lt;b&gt;T1", "is recorded")
	got.lacks(t, "<b>T1", "\x00")
	if got := open(ops, "ffff", "The sender says so"); got.status != 404 {
		t.Errorf("what does not wait: %d", got.status)
	}
	ops.post("/desk/feeds/rx1-pas/take", url.Values{"held": {"0a1b2c"}}).wants(t, "It was taken")
	if got := ops.post("/desk/feeds/rx1-pas/take", url.Values{"held": {"beef"}}); got.status != 409 {
		t.Errorf("what still cannot be taken: %d", got.status)
	} else {
		got.wants(t, "It still cannot be taken: OBX: the message is cut off")
	}
	if got := ops.post("/desk/feeds/rx1-pas/take", url.Values{"held": {"taken"}}); got.status != 404 { // the answer was lost, and it is asked again
		t.Errorf("what was taken before: %d", got.status)
	} else {
		got.wants(t, "it may have been taken already")
	}
	for _, user := range []string{"dr-marsh", "margaret"} {
		r := newReader(t, srv, user)
		for _, got := range []answer{r.get("/desk/feeds/rx1-pas"), open(r, "0a1b2c", "I am curious"), r.post("/desk/feeds/rx1-pas/take", url.Values{"held": {"0a1b2c"}})} {
			if got.status != 404 {
				t.Errorf("%s at a feed's page: %d", user, got.status)
			}
		}
	}
}
