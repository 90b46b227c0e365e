package world

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// a guess is a question about an id or a number that somebody made up: what of the answer is the guess itself is not told.
type guess struct {
	what, method, path, contentType, body string
	value                                 string
}

// guesses makes questions about ids that look like those there are, some of them next to one, and about numbers that are valid.
func guesses(r *rand.Rand, real []string, known map[string]bool) []guess {
	id := []byte(real[r.IntN(len(real))])
	if r.IntN(2) == 0 { // next to one
		i := r.IntN(len(id))
		id[i] = "0123456789abcdefghjkmnpqrstvwxyz"[(strings.IndexByte("0123456789abcdefghjkmnpqrstvwxyz", id[i])+1+r.IntN(31))%32]
	} else {
		for i := range id {
			if id[i] != '-' {
				id[i] = "0123456789abcdefghjkmnpqrstvwxyz"[r.IntN(32)]
			}
		}
	}
	number := madeUp(r, known)
	form := "application/x-www-form-urlencoded"
	s := string(id)
	return []guess{
		{"a patient", "GET", "/fhir/Patient/" + s, "", "", s},
		{"an entry", "GET", "/fhir/Condition/" + s, "", "", s},
		{"a file", "GET", "/fhir/Binary/" + s, "", "", s},
		{"everything", "GET", "/fhir/Patient/" + s + "/$everything", "", "", s},
		{"a search", "GET", "/fhir/Observation?patient=" + s, "", "", s},
		{"a version", "GET", "/fhir/Encounter/" + s + "/_history/1", "", "", s},
		{"a page", "GET", "/record/" + s, "", "", s},
		{"a letter", "GET", "/record/" + s + "/document/" + s, "", "", s},
		{"who has a number", "POST", "/fhir/Patient/_search", form, url.Values{"identifier": {fhir.SystemNHSNumber + "|" + number}}.Encode(), number},
		{"the record of a number", "POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"` + fhir.SystemNHSNumber + `","value":"` + number + `"}}]}`, number},
		{"a number on the page", "POST", "/record", form, url.Values{"system": {fhir.SystemNHSNumber}, "value": {number}}.Encode(), number},
	}
}

// madeUp is a valid NHS number that is nobody's here.
func madeUp(r *rand.Rand, known map[string]bool) string {
	for {
		number := fmt.Sprintf("999%07d", r.IntN(10_000_000))
		if _, err := fhir.ParseNHSNumber(number); err == nil && !known[number] {
			return number
		}
	}
}

// Whoever guesses ids and numbers learns nothing: in each role, each question has one answer, of whatever id or number it is asked. 100,000 guesses in each role in a long run (TOMBOLO_SOAK=1).
func TestGuessedIDsAndNumbersAllHaveOneAnswer(t *testing.T) {
	ids, numbers := 20, 3 // a number that nobody has is answered a second later: whoever may have it was asked
	if os.Getenv("TOMBOLO_SOAK") == "1" {
		ids, numbers = 100_000/8, 300
	}
	// Without limits: what is tried here is what an answer tells, not how many there are.
	w, err := Start(nonTestContext, Options{Also: "limits: {attempts: 0, opens: 0, client_opens: 0}\n", People: 20, Seed: 7, Mark: canaries.mark, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	c := &checker{w: w, ctx: t.Context(), out: io.Discard, watch: canaries.see}
	known, real := map[string]bool{}, []string{}
	for _, p := range w.People {
		known[p.NHS] = true
		for _, old := range p.OldNHS {
			known[old] = true
		}
	}
	for _, key := range []string{cast.Main, "george", "ann"} {
		i := slices.IndexFunc(w.People, func(p cast.Person) bool { return p.Key == key })
		if i < 0 {
			continue
		}
		_, b, err := c.gather("doctor", nhs(w.People[i]))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.entries {
			if e.Resource != nil && e.Resource.ID() != "" && strings.Trim(e.Resource.ID(), "0123456789abcdefghjkmnpqrstvwxyz-") == "" {
				real = append(real, e.Resource.ID())
			}
		}
	}
	if len(real) < 20 {
		t.Fatalf("only %d ids are known: %v", len(real), real)
	}
	for _, id := range real { // 2^64 ids and more: one cannot be found by trying
		if len(id) < 16 {
			t.Errorf("the id %q can be guessed", id)
		}
	}
	var all sync.WaitGroup
	for n, user := range []string{"gp", "doctor", "nurse", "paramedic", "social-worker", "receptionist", "steward", "privacy", "operator", "citizen"} {
		for kind, first := range guesses(rand.New(rand.NewPCG(0, 0)), real, known) {
			times := ids
			if first.method == "POST" {
				times = numbers
			}
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(kind), uint64(n)))
				said := ""
				for range times {
					g := guesses(r, real, known)[kind]
					status, head, body := c.asIs(t, g, user)
					for status == http.StatusServiceUnavailable { // as many records are being opened as are at once
						time.Sleep(50 * time.Millisecond)
						status, head, body = c.asIs(t, g, user)
					}
					text := fmt.Sprint(status, head, strings.ReplaceAll(string(body), g.value, "#"))
					if status == http.StatusOK && !bytes.Contains(body, []byte(`"total":0`)) {
						t.Errorf("%s, as %s, is answered: %.300s", g.what, user, body)
					}
					if said == "" {
						said = text
					}
					if said != text {
						t.Errorf("%s, as %s, has two answers:\n%.900s\n%.900s", g.what, user, said, text)
						return
					}
				}
			})
		}
	}
	all.Wait()
}

// asIs asks, and follows nothing.
func (c *checker) asIs(t *testing.T, g guess, user string) (int, http.Header, []byte) {
	req, err := http.NewRequestWithContext(c.ctx, g.method, c.w.URL()+g.path, strings.NewReader(g.body))
	if err != nil {
		t.Error(err)
		return 0, nil, nil
	}
	req.Header.Set("Authorization", "Bearer "+sim.TokenPrefix+user)
	if g.contentType != "" {
		req.Header.Set("Content-Type", g.contentType)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0, nil, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if c.watch != nil {
		c.watch(user, []byte(g.path+g.body), body)
	}
	resp.Header.Del("Date")
	return resp.StatusCode, resp.Header, body
}

// Whoever tries one number after the other is stopped, and the privacy officer sees it within seconds.
func TestWhoTriesNumbersIsStoppedAndTheAlarmIsRaised(t *testing.T) {
	// A third of what is let through by default: more is let through by the minute, and a busy machine's answers must not take as long as that.
	const budget, missed, atOnce = 200, 10, 20
	w, err := Start(nonTestContext, Options{Also: fmt.Sprintf("limits: {opens: %d}\n", budget), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	c := &checker{w: w, ctx: t.Context(), out: io.Discard}
	// Each costs a second when nobody is found: they come many at a time.
	var tried, busy atomic.Int32
	var all sync.WaitGroup
	began := time.Now()
	for n := range atOnce {
		r := rand.New(rand.NewPCG(3, uint64(n)))
		all.Go(func() {
			for time.Since(began) < 3*time.Minute {
				status, _, err := c.gather("nurse", fhir.Identifier{System: fhir.SystemNHSNumber, Value: madeUp(r, nil)})
				switch {
				case status == http.StatusTooManyRequests:
					return
				case status == http.StatusNotFound:
					tried.Add(1)
				case status >= 500: // too busy to look, which tells nothing of anybody
					busy.Add(1)
				default:
					t.Errorf("%d (%v)", status, err)
					return
				}
			}
			t.Errorf("whoever has tried numbers for %s is still not stopped", time.Since(began).Round(time.Second))
		})
	}
	all.Wait()
	// Those that the minute's worth allows, those asked beside them before they were counted, and what the time since allows.
	if most := budget/missed + atOnce + int32(budget/missed*time.Since(began).Minutes()); tried.Load() > most {
		t.Errorf("%d numbers could be tried, and %d are let through", tried.Load(), most)
	}
	start := time.Now()
	for {
		status, _, page, err := c.http("GET", "/privacy", "privacy", "", nil)
		if err != nil || status != http.StatusOK && status < 500 {
			t.Fatalf("%d (%v): %.1000s", status, err, page)
		}
		if bytes.Contains(page, []byte("Numbers tried one after the other")) && bytes.Contains(page, []byte("Mary Osborne")) {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("a minute later nobody was told of it: %.2000s", page)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%d were tried, %d found the server busy, and it was in the queue %s later", tried.Load(), busy.Load(), time.Since(start).Round(10*time.Millisecond))
}
