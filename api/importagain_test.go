package api_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/kv/enginetest"
	"tombolo/region"
)

// cutAtAnswer is a line to a server that is cut when the first byte of an answer comes: the request was done, and its sender hears nothing.
func cutAtAnswer(t testing.TB, server string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	to, err := url.Parse(server)
	must(t, err)
	host := to.Host
	to.Host = l.Addr().String()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = in.Close() }()
				out, err := net.Dial("tcp", host)
				if err != nil {
					return
				}
				defer func() { _ = out.Close() }()
				go func() { _, _ = io.Copy(out, in) }()
				_, _ = out.Read(make([]byte, 1))
			}()
		}
	}()
	return to.String()
}

// unheard sends an import over a line that is cut when its answer comes.
func (s *site) unheard(lines, key string) {
	s.t.Helper()
	req, err := http.NewRequest("POST", cutAtAnswer(s.t, s.url)+"/$import", strings.NewReader(lines))
	must(s.t, err)
	req.Header = http.Header{"Authorization": {"Bearer epr"}, "Prefer": {"respond-async"}, "Content-Type": {"application/fhir+ndjson"}}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if res, err := c.Do(req); err == nil {
		s.t.Fatalf("the line was cut, and there is an answer: %s", res.Status)
	}
}

// half sends an import over a line that is cut when half of it is sent and begun.
func (s *site) half(lines, key string) {
	s.t.Helper()
	to, err := url.Parse(s.url)
	must(s.t, err)
	c, err := net.Dial("tcp", to.Host)
	must(s.t, err)
	_, err = fmt.Fprintf(c, "POST /fhir/$import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer epr\r\nPrefer: respond-async\r\n%s\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s", ndjson, key, len(lines), lines[:len(lines)/2])
	must(s.t, err)
	s.jobsAre(1)
	must(s.t, c.Close())
	s.jobsAre(0)
}

// jobsAre waits until there are n.
func (s *site) jobsAre(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); len(s.jobs()) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("there are %d jobs, want %d", len(s.jobs()), n)
		}
	}
}

// jobs are those of the system epr.
func (s *site) jobs() (ids []string) {
	s.t.Helper()
	for item, err := range s.db.View("bulk").Scan(s.t.Context(), "job/epr/") {
		must(s.t, err)
		ids = append(ids, strings.TrimPrefix(item.Key, "job/epr/"))
	}
	return ids
}

func importLines(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"p%03d"}`+"\n", i)
		fmt.Fprintf(&lines, `{"resourceType":"Observation","id":"o%03d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p%03d"}}`+"\n", i, i)
	}
	return lines.String()
}

// once fails unless each resource of an import was written once.
func (s *site) once(n int) {
	s.t.Helper()
	seen := map[fhir.Ref]int{}
	for e, err := range s.db.Since(s.t.Context(), 0) {
		must(s.t, err)
		if seen[e.Ref]++; e.Ref.Type() != "Provenance" && (seen[e.Ref] > 1 || e.Version != 1) {
			s.t.Errorf("%s was written %d times, version %d", e.Ref, seen[e.Ref], e.Version)
		}
	}
	for i := range n {
		for _, ref := range []fhir.Ref{fhir.Ref(fmt.Sprintf("Patient/p%03d", i)), fhir.Ref(fmt.Sprintf("Observation/o%03d", i))} {
			if seen[ref] != 1 {
				s.t.Errorf("%s was written %d times", ref, seen[ref])
			}
		}
	}
}

const ndjson = "Content-Type: application/fhir+ndjson"

// An import whose answer is lost is sent again under its key: it is the same job, done once, told of as it would have been at first. What was cut off before all had come
// left nothing.
func TestAnImportIsDoneOnceUnderItsKey(t *testing.T) {
	s := open(t)
	const n = 20
	lines := importLines(n)
	s.half(lines, "k")
	s.unheard(lines, "k")
	begun := s.jobs()
	if len(begun) != 1 {
		t.Fatalf("%d jobs were begun", len(begun))
	}
	again := s.do("POST", "$import", lines, async, ndjson, "Idempotency-Key: k").want(t, 202)
	if at := again.Header.Get("Content-Location"); !strings.HasSuffix(at, "/"+begun[0]+"/status") {
		t.Errorf("sent again it is told of as %s, and the job is %s", at, begun[0])
	}
	if m := s.manifest(again); m.Text("extension.taken") != fmt.Sprint(2*n) {
		t.Errorf("the manifest says %s", m.Get("extension").Raw())
	}
	s.once(n)
	s.do("PUT", "Patient/p000", `{"resourceType":"Patient","id":"p000","active":false}`).want(t, 200)
	after := s.do("POST", "$import", lines, async, ndjson, "Idempotency-Key: k").want(t, 202) // done before: not again
	s.manifest(after)
	if got := s.do("GET", "Patient/p000", nil).want(t, 200).text(t, "active"); got != "false" || after.Header.Get("Content-Location") != again.Header.Get("Content-Location") {
		t.Errorf("an import that was done overwrote what was written since: active %q", got)
	}
	s.do("POST", "$import", importLines(n+1), async, ndjson, "Idempotency-Key: k").want(t, 422)
	s.do("POST", "$import", lines[:len(lines)/2], async, ndjson, "Idempotency-Key: k").want(t, 422)
	s.do("POST", "$import", lines, async, ndjson, "Idempotency-Key: "+strings.Repeat("k", 256)).want(t, 413)
	if all := s.jobs(); len(all) != 1 {
		t.Errorf("%d jobs, want the one", len(all))
	}
	if theirs := s.as("other", "POST", "$import", `{"resourceType":"Patient","id":"theirs"}`, async, ndjson, "Idempotency-Key: k").want(t, 202); theirs.Header.Get("Content-Location") == again.Header.Get("Content-Location") {
		t.Error("another system's key is taken for this one's")
	}
}

// Without a key an import that is sent again is a job of its own, which changes nothing.
func TestAnImportWithoutAKeyIsDoneAgainAndChangesNothing(t *testing.T) {
	s := open(t)
	const n = 20
	s.unheard(importLines(n), "")
	s.manifest(s.do("POST", "$import", importLines(n), async, ndjson).want(t, 202))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		left := 0
		for _, id := range s.jobs() {
			if s.do("GET", "$bulk/"+id+"/status", nil).StatusCode == 202 {
				left++
			}
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs do not end", left)
		}
	}
	s.once(n)
}

// Of several that send the same under one key at the same time, one is done, and all are told of it.
func TestImportsAtTheSameTimeUnderOneKeyAreOne(t *testing.T) {
	s := open(t)
	lines := importLines(20)
	at := make([]string, 6)
	var wait sync.WaitGroup
	for i := range at {
		wait.Go(func() {
			at[i] = s.do("POST", "$import", lines, async, ndjson, "Idempotency-Key: k").Header.Get("Content-Location")
		})
	}
	wait.Wait()
	for _, a := range at {
		if a == "" || a != at[0] {
			t.Errorf("told of %q and of %q", a, at[0])
		}
	}
	if all := s.jobs(); len(all) != 1 {
		t.Errorf("%d jobs, want one", len(all))
	}
}

// Whichever commit's answer the store loses, written or not: sent again until it is told of, an import is there once and whole.
func TestAnImportOutlivesCommitsThatAreNotAnswered(t *testing.T) {
	var on atomic.Bool
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(5, 6))
	engine := enginetest.Unsure{Engine: enginetest.Open(t, t.TempDir()), Fate: func() enginetest.Fate {
		mu.Lock()
		defer mu.Unlock()
		if !on.Load() {
			return enginetest.Answered
		}
		return map[int]enginetest.Fate{0: enginetest.LostBefore, 1: enginetest.LostAfter}[r.IntN(24)]
	}}
	s := openOn(t, engine, func(*region.Region) {})
	on.Store(true)
	const n = 3
	lines := importLines(n)
	send := func(i int) answer {
		t.Helper()
		mine := bytes.ReplaceAll([]byte(lines), []byte(`/p`), fmt.Appendf(nil, `/r%dp`, i))
		mine = bytes.ReplaceAll(mine, []byte(`"id":"`), fmt.Appendf(nil, `"id":"r%d`, i))
		for range 40 {
			if a := s.do("POST", "$import", mine, async, ndjson, fmt.Sprintf("Idempotency-Key: k%d", i)); a.StatusCode == 202 {
				return a
			} else if a.StatusCode < 500 {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
		}
		t.Fatal("it is never told of")
		return answer{}
	}
	for i := range 2 {
		m := s.manifest(send(i))
		if errs := s.lines(m, "error"); len(errs) != 0 {
			t.Errorf("told of: %v", errs)
		}
		if again := s.manifest(send(i)); again.Text("request") != m.Text("request") || again.Text("transactionTime") != m.Text("transactionTime") {
			t.Errorf("sent again it is another job")
		}
	}
	on.Store(false)
	s.once(0)
	for i := range 2 {
		for k := range n {
			s.do("GET", fmt.Sprintf("Observation/r%do%03d", i, k), nil).want(t, 200)
		}
	}
}
