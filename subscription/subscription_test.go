package subscription

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/kv/pebble"
	"tombolo/store"
)

// A site is a store with a Service beside it, whose clock stands until it is moved.
type site struct {
	t        testing.TB
	db       *store.DB
	s        *Service
	follower *events.Follower
	allowed  []string
	now      time.Time
	n        int
}

func open(t testing.TB, allowed ...string) *site {
	t.Helper()
	return openOn(t, func(e kv.Engine) kv.Engine { return e }, allowed...)
}

// openOn is open with something around the engine.
func openOn(t testing.TB, around func(kv.Engine) kv.Engine, allowed ...string) *site {
	t.Helper()
	e, err := pebble.Open(pebble.Options{Dir: filepath.Join(t.TempDir(), "store")})
	must(t, err)
	x := &site{t: t, allowed: allowed, now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	x.db, err = store.Open(store.Options{Engine: around(e)})
	must(t, err)
	x.begin()
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { _ = x.follower.Run(ctx) })
	t.Cleanup(func() {
		stop()
		following.Wait()
		must(t, x.db.Close())
	})
	return x
}

// begin begins sending anew, as after a restart.
func (x *site) begin() {
	x.s = New(Options{Store: x.db, Allowed: func(source string) []string {
		if source == "app" {
			return x.allowed
		}
		return nil
	}, HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, Now: func() time.Time { return x.now }})
	if x.follower == nil {
		x.follower = x.db.Follower("subscription", func(ctx context.Context, tx store.Tx, e events.Event) error { return x.s.Handle(ctx, tx, e) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a resource of a source, and waits until it was followed.
func (x *site) put(source string, r *fhir.Resource) {
	x.t.Helper()
	stamped, err := connector.Stamper{Key: []byte("test")}.StampOwn(source, r)
	must(x.t, err)
	seq, err := x.db.Update(context.Background(), func(tx store.Tx) error {
		_, err := tx.Put(context.Background(), store.Home{Source: source}, stamped)
		return err
	})
	must(x.t, err)
	must(x.t, x.follower.Await(context.Background(), seq))
}

// result writes a new laboratory result.
func (x *site) result(source, status string) string {
	x.n++
	id := "secret-" + strconv.Itoa(x.n)
	x.put(source, fhir.New("Observation", id, fhir.M{"status": status, "code": fhir.M{"text": "Haemoglobin"}}))
	return id
}

func (x *site) subscribe(id, criteria, endpoint, payload string) {
	channel := fhir.M{"type": "rest-hook", "endpoint": endpoint, "header": []string{"Authorization: Bearer of-the-app"}}
	if payload != "" {
		channel["payload"] = payload
	}
	x.put("app", fhir.New("Subscription", id, fhir.M{"status": "requested", "reason": "new results", "criteria": criteria, "channel": channel}))
}

// round lets every Subscription that is due send once, until nothing is due.
func (x *site) round() {
	x.t.Helper()
	for range 50 {
		before := x.stands()
		var senders sync.WaitGroup
		_, err := x.s.start(context.Background(), &senders)
		must(x.t, err)
		senders.Wait()
		tail, err := x.db.Tail(context.Background())
		must(x.t, err)
		must(x.t, x.follower.Await(context.Background(), tail))
		if before == x.stands() {
			return
		}
	}
	x.t.Fatal("it goes on and on")
}

func (x *site) stands() string {
	all, err := x.s.All(context.Background())
	must(x.t, err)
	return fmt.Sprint(all)
}

func (x *site) of(id string) Standing {
	x.t.Helper()
	st, err := x.s.Of(context.Background(), "app", id)
	must(x.t, err)
	return st
}

func (x *site) status(id string) string {
	x.t.Helper()
	r, err := x.db.Read(context.Background(), fhir.MakeRef("Subscription", id))
	must(x.t, err)
	return r.Text("status") + " " + r.Text("error")
}

// A hook is an endpoint.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
	answer func(w http.ResponseWriter)
}

func newHook(t testing.TB) *hook {
	h := &hook{answer: func(http.ResponseWriter) {}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.bodies, h.heads = append(h.bodies, string(body)), append(h.heads, r.Header)
		answer := h.answer
		h.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) answers(status int, head ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = func(w http.ResponseWriter) {
		for i := 0; i < len(head); i += 2 {
			w.Header().Set(head[i], head[i+1])
		}
		w.WriteHeader(status)
	}
}

// told are the kinds and numbers of the notifications that came, "handshake", "1", "2,3".
func (h *hook) told(t testing.TB) (out []string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, body := range h.bodies {
		if body == "" {
			out = append(out, "something")
			continue
		}
		b, err := fhir.Parse([]byte(body))
		must(t, err)
		kind, numbers := "", []string{}
		for p := range b.Value().All("entry.resource.parameter") {
			switch p.Text("name") {
			case "type":
				kind = p.Text("valueCode")
			case "notification-event":
				numbers = append(numbers, p.Text("part.valueString"))
			}
		}
		if kind == "event-notification" {
			kind = strings.Join(numbers, ",")
		}
		out = append(out, kind)
	}
	return out
}

func wants(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const fhirJSON = "application/fhir+json"

// FHIR R4 subscription.html: requested, active, and told when what it holds answers the criteria; and nobody else's.
func TestASystemIsToldOfWhatChangesInItsRecord(t *testing.T) {
	h := newHook(t)
	x := open(t, h.URL+"/told")
	x.result("app", "final") // before
	x.subscribe("plain", "Observation?status=final", h.URL+"/told/here", "")
	x.round()
	if got := x.status("plain"); got != "active " {
		t.Fatalf("it is %q", got)
	}
	wants(t, "before anything happens", h.told(t))
	x.result("app", "preliminary")
	x.result("other", "final")
	x.round()
	wants(t, "of what does not answer", h.told(t))
	x.result("app", "final")
	x.round()
	wants(t, "of what does", h.told(t), "something")
	if got := h.heads[0].Get("Authorization"); got != "Bearer of-the-app" {
		t.Errorf("it proves itself with %q", got)
	}
}

// A notification tells that there is something, and how many there were: no content, no id, no reference to anything but the Subscription.
func TestANotificationHoldsNothingOfARecord(t *testing.T) {
	h := newHook(t)
	x := open(t, h.URL)
	x.subscribe("results", "Observation?status=final", h.URL, fhirJSON)
	x.round()
	for range 3 {
		x.result("app", "final")
	}
	x.round()
	wants(t, "told", h.told(t), "handshake", "1,2,3")
	if all := strings.Join(h.bodies, ""); strings.Contains(all, "secret") || strings.Contains(all, "Haemoglobin") || strings.Contains(all, "Observation") {
		t.Errorf("something of the record went out: %s", all)
	}
	if !strings.Contains(h.bodies[1], `"valueString":"3"`) || !strings.Contains(h.heads[1].Get("Content-Type"), fhirJSON) {
		t.Errorf("the count is not there: %s", h.bodies[1])
	}
}

// What an endpoint does not take comes again, later each time, and in order; after a day it is given up, with an owner; requested again it goes on where it was.
func TestWhatIsNotTakenComesAgain(t *testing.T) {
	h := newHook(t)
	x := open(t, h.URL)
	x.subscribe("results", "Observation?status=final", h.URL, fhirJSON)
	x.round()
	h.answers(http.StatusServiceUnavailable)
	x.result("app", "final")
	x.round()
	first := x.of("results")
	x.round()
	if got := x.of("results"); got.Tries != 1 || got.Next != x.now.Add(firstWait) || got.Progress.Why != "it answered 503 Service Unavailable" {
		t.Errorf("after one failure: %+v", got.Progress)
	}
	for range 3 {
		x.now = x.of("results").Next
		x.round()
	}
	if got := x.of("results"); got.Tries != 4 || got.Next.Sub(x.now) != 8*firstWait || !got.Since.Equal(first.Since) {
		t.Errorf("after four: %+v", got.Progress)
	}
	h.answers(http.StatusTooManyRequests, "Retry-After", "120")
	x.now = x.of("results").Next
	x.round()
	if got := x.of("results"); got.Next.Sub(x.now) != 2*time.Minute {
		t.Errorf("asked to wait two minutes, it waits %s", got.Next.Sub(x.now))
	}
	x.now = first.Since.Add(giveUp)
	x.round()
	if got := x.status("results"); got != "error it answered 429 Too Many Requests" {
		t.Fatalf("after a day: %q", got)
	}
	h.answers(http.StatusNoContent)
	x.result("app", "final") // counted and kept, for when it is mended
	x.now = x.now.Add(time.Hour)
	x.round()
	h.bodies = nil
	x.subscribe("results", "Observation?status=final", h.URL, fhirJSON)
	x.round()
	wants(t, "requested again", h.told(t), "handshake", "1,2")
	if got := x.status("results"); got != "active " {
		t.Errorf("it is %q", got)
	}
}

// An endpoint that says that it is gone is given up at once, one that leads elsewhere is not followed.
func TestAnEndpointThatIsGoneOrLeadsElsewhere(t *testing.T) {
	h, elsewhere := newHook(t), newHook(t)
	x := open(t, h.URL)
	x.subscribe("results", "Observation", h.URL, "")
	x.round()
	h.answers(http.StatusTemporaryRedirect, "Location", elsewhere.URL)
	x.result("app", "final")
	x.round()
	if got := x.of("results"); got.Tries != 1 || len(elsewhere.bodies) > 0 {
		t.Errorf("a redirect: %+v, and %d went there", got.Progress, len(elsewhere.bodies))
	}
	h.answers(http.StatusGone)
	x.now = x.of("results").Next
	x.round()
	if got := x.status("results"); got != "error it answered 410 Gone" {
		t.Errorf("gone: %q", got)
	}
}

// One that hangs, one that refuses, and one whose address is no longer agreed hold up nobody else.
func TestABadEndpointHoldsUpNobody(t *testing.T) {
	good, bad := newHook(t), newHook(t)
	hang := make(chan struct{})
	bad.answer = func(http.ResponseWriter) { <-hang }
	x := open(t, good.URL, bad.URL)
	x.subscribe("good", "Observation", good.URL, fhirJSON)
	x.subscribe("bad", "Observation", bad.URL, fhirJSON)
	x.subscribe("lost", "Observation", bad.URL+"/x", "")
	x.allowed = []string{good.URL, bad.URL}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.s.Run(ctx) })
	for x.of("good").State != Active {
		time.Sleep(time.Millisecond)
	}
	x.result("app", "final")
	for x.of("good").Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	if got := x.of("bad"); got.State != Requested {
		t.Errorf("the bad one is %+v", got)
	}
	stop()
	close(hang)
	running.Wait()
	x.allowed = []string{good.URL}
	x.round()
	if got := x.status("bad"); !strings.HasPrefix(got, "error this address is not below one that is agreed") {
		t.Errorf("no longer agreed: %q", got)
	}
	wants(t, "the good one", good.told(t), "handshake", "1")
}

// However often the sender looks, and whatever ends between its looking and its sending, nothing is told twice of which the endpoint has said that it has it.
func TestWhatWasTakenIsNotToldAgain(t *testing.T) {
	h := newHook(t)
	x := openOn(t, func(e kv.Engine) kv.Engine { return far{e} }, h.URL)
	x.subscribe("results", "Observation", h.URL, fhirJSON)
	x.round()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.s.Run(ctx) })
	running.Go(func() {
		for ctx.Err() == nil {
			x.s.poke()
			time.Sleep(100 * time.Microsecond)
		}
	})
	const happened = 150
	for range happened {
		x.result("app", "final")
	}
	for x.of("results").Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	running.Wait()
	next := 1
	for _, told := range h.told(t)[1:] {
		for number := range strings.SplitSeq(told, ",") {
			if number != strconv.Itoa(next) {
				t.Fatalf("%s was told after %d: %q", number, next-1, h.told(t))
			}
			next++
		}
	}
	if next != happened+1 {
		t.Errorf("told of %d, %d happened", next-1, happened)
	}
}

// A far engine's answers are on their way for a while.
type far struct{ kv.Engine }

func (f far) MultiGet(ctx context.Context, keys []kv.Key) ([][]byte, error) {
	values, err := f.Engine.MultiGet(ctx, keys)
	time.Sleep(rand.N(2 * time.Millisecond))
	return values, err
}

// A store that cannot write down what was sent has the same sent again, and not as fast as it can.
func TestWhatCannotBeWrittenDownIsNotSentInARush(t *testing.T) {
	var fails atomic.Bool
	h := newHook(t)
	x := openOn(t, func(e kv.Engine) kv.Engine {
		return enginetest.Unsure{Engine: e, Fate: func() enginetest.Fate {
			if fails.Load() {
				return enginetest.LostBefore
			}
			return enginetest.Answered
		}}
	}, h.URL)
	x.subscribe("results", "Observation", h.URL, fhirJSON)
	x.round()
	x.result("app", "final")
	var times []time.Time
	h.mu.Lock()
	h.answer = func(http.ResponseWriter) {
		times = append(times, time.Now())
		fails.Store(len(times) < 3)
	}
	h.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.s.Run(ctx) })
	for x.of("results").Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	running.Wait()
	wants(t, "told", h.told(t), "handshake", "1", "1", "1")
	for i := range len(times) - 1 {
		if took := times[i+1].Sub(times[i]); took < firstWait {
			t.Errorf("told again after %s", took)
		}
	}
}

// More than is kept: what comes after is counted, and the numbers show the gap.
func TestAGapShowsInTheNumbers(t *testing.T) {
	h := newHook(t)
	x := open(t, h.URL)
	x.s.most = 3
	x.subscribe("results", "Observation", h.URL, fhirJSON)
	x.round()
	for range 5 {
		x.result("app", "final")
	}
	x.round()
	x.result("app", "final")
	x.round()
	wants(t, "told", h.told(t), "handshake", "1,2,3", "", "6")
	if !strings.Contains(h.bodies[2], `"valueString":"5"`) {
		t.Errorf("how many there were is not told: %s", h.bodies[2])
	}
}

// Off, deleted or past its end it is told of nothing more, and nothing of it stays.
func TestASubscriptionEnds(t *testing.T) {
	h := newHook(t)
	x := open(t, h.URL)
	until := fhir.New("Subscription", "dated", fhir.M{"status": "requested", "reason": "x", "criteria": "Observation", "end": fhir.Instant(x.now.Add(time.Hour)), "channel": fhir.M{"type": "rest-hook", "endpoint": h.URL}})
	x.put("app", until)
	x.subscribe("results", "Observation", h.URL, "")
	x.round()
	x.put("app", until.With("id", "results").With("status", "off"))
	x.now = x.now.Add(2 * time.Hour)
	x.round()
	if got := x.status("dated"); got != "off " {
		t.Errorf("past its end: %q", got)
	}
	x.result("app", "final")
	x.round()
	wants(t, "told", h.told(t))
	for item, err := range x.db.View(Bucket).Scan(t.Context(), "") {
		must(t, err)
		t.Errorf("%s stays", item.Key)
	}
}

// Whatever fails and is restarted, every number comes, in order, and each again only until it was taken.
func TestEveryNumberComesAtLeastOnceAndInOrder(t *testing.T) {
	x, run := open(t), 0
	rapid.Check(t, func(rt *rapid.T) {
		h := newHook(t)
		defer h.Close()
		run++
		id := "results-" + strconv.Itoa(run)
		x.allowed = []string{h.URL}
		x.subscribe(id, "Observation", h.URL, fhirJSON)
		defer x.put("app", fhir.New("Subscription", id, fhir.M{"status": "off"}))
		x.round()
		happened := 0
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"change", "fails", "mends", "waits", "restarts", "cut off"}).Draw(rt, "step") {
			case "change":
				x.result("app", "final")
				happened++
			case "fails":
				h.answers(http.StatusInternalServerError)
			case "mends":
				h.answers(http.StatusOK)
			case "waits":
				x.now = x.now.Add(time.Hour)
			case "restarts":
				x.begin()
			case "cut off": // it was sent, and the answer did not come back
				ctx, stop := context.WithCancel(context.Background())
				h.mu.Lock()
				h.answer = func(http.ResponseWriter) { stop(); time.Sleep(time.Millisecond) }
				h.mu.Unlock()
				var senders sync.WaitGroup
				_, err := x.s.start(ctx, &senders)
				must(t, err)
				senders.Wait()
				stop()
				h.answers(http.StatusOK)
			}
			x.round()
		}
		h.answers(http.StatusOK)
		x.now = x.now.Add(time.Hour)
		x.round()
		next := 1
		for _, told := range h.told(t) {
			if told == "handshake" {
				continue
			}
			for _, number := range strings.Split(told, ",") {
				n, _ := strconv.Atoi(number)
				if n > next {
					rt.Fatalf("%d came before %d: %q", n, next, h.told(t))
				}
				next = max(next, n+1)
			}
		}
		if next != happened+1 || x.of(id).Waiting != 0 {
			rt.Fatalf("%d happened, and the last told of is %d: %q", happened, next-1, h.told(t))
		}
	})
}

func TestWhatIsAskedForIsChecked(t *testing.T) {
	with := func(criteria, kind, endpoint, payload, header string) *fhir.Resource {
		channel := fhir.M{"type": kind, "endpoint": endpoint}
		if payload != "" {
			channel["payload"] = payload
		}
		if header != "" {
			channel["header"] = []string{header}
		}
		return fhir.New("Subscription", "s", fhir.M{"status": "requested", "reason": "x", "criteria": criteria, "channel": channel})
	}
	allowed := []string{"https://app.example/told", "https://other.example:8443"}
	const good = "https://app.example/told/1"
	for _, c := range []struct {
		name string
		r    *fhir.Resource
		want string // the issue's place; "" if it is taken
	}{
		{"it is taken", with("Observation?code=http://loinc.org|4548-4&status=final", "rest-hook", good, "application/fhir+json", "X-Key: a"), ""},
		{"the agreed address itself", with("Patient", "rest-hook", "https://APP.example:443/told", "", ""), ""},
		{"another kind of channel", with("Patient", "email", "mailto:a@b.example", "", ""), "Subscription.channel.type"},
		{"no type", with("?status=final", "rest-hook", good, "", ""), "Subscription.criteria"},
		{"an unknown parameter", with("Observation?colour=red", "rest-hook", good, "", ""), "Subscription.criteria"},
		{"a chain", with("Observation?subject:Patient.name=x", "rest-hook", good, "", ""), "Subscription.criteria"},
		{"an include", with("Observation?_include=Observation:subject", "rest-hook", good, "", ""), "Subscription.criteria"},
		{"another payload", with("Patient", "rest-hook", good, "application/fhir+xml", ""), "Subscription.channel.payload"},
		{"a header of the connection", with("Patient", "rest-hook", good, "", "Host: inside"), "Subscription.channel.header"},
		{"two headers in one", with("Patient", "rest-hook", good, "", "X-A: b\r\nHost: inside"), "Subscription.channel.header"},
	} {
		err := Check(c.r, allowed)
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || fhir.IssueOf(err).Expression != c.want {
			t.Errorf("%s: %v, want an issue at %q", c.name, err, c.want)
		}
	}
	for _, endpoint := range []string{"http://app.example/told", "https://app.example/toldyou", "https://app.example.evil/told", "https://app.example/told/../admin", "https://app.example/told/%2e%2e/admin",
		"https://app.example/told%2f..%2fadmin", "https://user@app.example/told", "https://app.example:444/told", "https://evil/?https://app.example/told", "https://other.example/", "file:///etc/passwd", "", "https://app.example/told#x", "https://app.example//told", "https://app.example/./told", "https://app.example/told//x"} {
		if err := Permitted(endpoint, allowed); err == nil {
			t.Errorf("%s is called", endpoint)
		}
	}
}

// Whatever an address is, it is called only if its origin and its path are agreed as a browser would read them.
func FuzzPermitted(f *testing.F) {
	for _, s := range []string{"https://app.example/told/1", "https://app.example/told/../x", "https://app.example\\@evil/told", "https://app.example/told/%2e%2e%2fx", "https://[::1]/told"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		if Permitted(endpoint, []string{"https://app.example/told"}) != nil {
			return
		}
		req, err := http.NewRequest(http.MethodPost, endpoint, nil)
		if err != nil {
			return
		}
		if req.URL.Scheme != "https" || !strings.EqualFold(req.URL.Hostname(), "app.example") || port(req.URL) != "443" || strings.Contains(req.URL.EscapedPath(), "..") {
			t.Errorf("%q is called at %s", endpoint, req.URL)
		}
	})
}
