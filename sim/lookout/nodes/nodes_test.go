package nodes_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
	"tombolo/sim/lookout/nodes"
)

func TestMain(m *testing.M) { os.Exit(nodes.Main(m)) }

const (
	number = "9990000654"
	other  = "9990000107"
)

const oneTrust = `
region: {id: north, name: North}
organisations:
  - {ods: RX1, name: North Trust, kind: acute}
systems:
  - {id: pas, organisation: RX1, product: PAS, connector: hl7v2, listen: "127.0.0.1:0", release: all, gives: {demographics: push, problems: push}}
  - {id: demographics, organisation: RX1, product: PDS, connector: pds, address: "http://127.0.0.1:1/pds", gives: {demographics: live}}
  - {id: surgery, organisation: RX1, product: GP, connector: gpconnect, asid: "999000000101", address: "http://127.0.0.1:1/gp", options: {documents: "http://127.0.0.1:1/letters"}, gives: {problems: live}}
agreements:
  - {id: direct-care, parties: [RX1], purposes: [direct-care], headings: all, from: 2026-04-01}
`

// A spy is a lookout that lends what a node is given of it to whoever plants a leak.
type spy struct {
	node.Watch
	plant func(http.Handler) http.Handler

	log *slog.Logger
	by  *http.Client

	exchanged []string // over MLLP
	sent      []string
	beside    string // what is added to it
}

func (s *spy) Log(also slog.Handler) slog.Handler {
	h := s.Watch.Log(also)
	s.log = slog.New(h)
	return h
}

func (s *spy) Outward(to http.RoundTripper) http.RoundTripper {
	out := s.Watch.Outward(to)
	s.by = &http.Client{Transport: out}
	return out
}

func (s *spy) Exchange(asked []byte) func(answered []byte) {
	saw := s.Watch.Exchange(asked)
	return func(answered []byte) {
		s.exchanged = append(s.exchanged, string(answered))
		saw(append(answered, s.beside...))
	}
}

func (s *spy) Tells(system string) func([]byte) {
	saw := s.Watch.Tells(system)
	return func(message []byte) {
		s.sent = append(s.sent, string(message))
		saw(message)
	}
}

func (s *spy) Upkeep(h http.Handler) http.Handler { return s.Watch.Upkeep(s.plant(h)) }

func (s *spy) Answers(h http.Handler) http.Handler { return s.Watch.Answers(s.plant(h)) }

// A leaky is a node with a hole in it, to whom was told of Ann Oseiku (a number, a birth date, two problems), and what was refused of Peter Quintrell.
type leaky struct {
	*node.Node
	*spy
	data, live string
}

func (n *leaky) ask(how func(*http.Request)) {
	r, _ := http.NewRequest(http.MethodGet, "http://"+n.Addr()+"/leak", nil)
	how(r)
	if resp, err := http.DefaultTransport.RoundTrip(r); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// signedIn sends a credential. What it opens is not asked: the hole is before the door.
func signedIn(r *http.Request) { r.Header.Set("Authorization", "Bearer doctor") }

func (n *leaky) question(url, header, body string) {
	r, _ := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	r.Header.Set("X-Trace", header)
	if resp, err := n.by.Do(r); err == nil {
		_ = resp.Body.Close()
	}
}

// A lookout that sees nothing is worth nothing: whatever leaves a node by any way, on purpose here, it sees; and of what may leave it says nothing.
func TestALookoutSeesWhatLeaksOutOfANode(t *testing.T) {
	const nowhere = "http://127.0.0.1:1"
	says := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	leaks := map[string]struct {
		hole  http.HandlerFunc // what /leak answers
		plant func(n *leaky)
		want  []string
	}{
		"nothing": {nil, func(n *leaky) {
			n.log.Info("taken", "source", "pas", "person", "3f9aa0c2", "name", "Oseikuto")
			n.question(nowhere+"/Patient/_search", "3f9aa0c2", "identifier="+number+"&family=Oseiku&birthdate=1979-12-01")
		}, nil},

		"log: a number":           {nil, func(n *leaky) { n.log.Debug("taken", "patient", number) }, []string{"the log holds an NHS number"}},
		"log: a number, spaced":   {nil, func(n *leaky) { n.log.Info("of " + number[:3] + " " + number[3:6] + " " + number[6:]) }, []string{"the log holds an NHS number"}},
		"log: a name in a group":  {nil, func(n *leaky) { n.log.WithGroup("p").Warn("x", "name", "OSEIKU^ANN") }, []string{"the log holds a family name"}},
		"log: a given name":       {nil, func(n *leaky) { n.log.Warn("x", "name", "Imogen F.") }, []string{"the log holds a given name"}},
		"log: a short name":       {nil, func(n *leaky) { n.log.Warn("x", "name", "FOX^JO") }, []string{"the log holds a whole name"}},
		"log: half a short name":  {nil, func(n *leaky) { n.log.Warn("a fox; Jo") }, nil},
		"log: a local number":     {nil, func(n *leaky) { n.log.Warn("x", "patient", "rx100042") }, []string{"the log holds a patient's number at a source"}},
		"log: a birth date":       {nil, func(n *leaky) { n.log.Warn("born 1979-12-01") }, []string{"the log holds a birth date"}},
		"log: what was before":    {nil, func(n *leaky) { n.log.Error("HERON77") }, []string{"the log holds a canary"}},
		"log: what another said":  {nil, func(n *leaky) { n.log.Debug("heard", "raw", n.hear()) }, []string{"the log holds a canary"}},
		"log: text, cut off":      {nil, func(n *leaky) { n.log.Error("bad", "error", fmt.Errorf("at %.24q", "Found asleep in the garden shed")) }, []string{"the log holds free text"}},
		"log: what a panic says":  {func(http.ResponseWriter, *http.Request) { panic("no such patient: " + number) }, func(n *leaky) { n.ask(signedIn) }, nil},
		"log: of what was held":   {nil, func(n *leaky) { n.log.Warn("not taken", "name", "QUINTRELL", "number", other) }, []string{"the log holds a family name", "the log holds an NHS number"}},
		"log: text that was held": {nil, func(n *leaky) { n.log.Warn("not taken: Weeps when the post is late") }, []string{"the log holds free text"}},

		"metric": {nil, func(*leaky) {}, []string{"a metric holds an NHS number"}},

		"socket: to a stranger": {says(http.StatusOK, "HERON77"), func(n *leaky) { n.ask(func(*http.Request) {}) }, []string{"an answer to nobody knows whom (/leak) holds a canary"}},
		"socket: a refusal":     {says(http.StatusForbidden, `{"diagnostics": "not yours: Oseiku"}`), func(n *leaky) { n.ask(signedIn) }, []string{"a refusal (/leak) holds a family name"}},
		"socket: a refusal that repeats the question": {func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			http.Error(w, "nobody has "+string(body), http.StatusNotFound)
		}, func(n *leaky) {
			n.ask(func(r *http.Request) {
				signedIn(r)
				r.Body = io.NopCloser(strings.NewReader("identifier=" + number))
				r.Method = "POST"
			})
		}, nil},
		"socket: without audit": {says(http.StatusOK, "HERON77"), func(n *leaky) { n.ask(signedIn) }, []string{"an answer without audit (/leak) holds a canary"}},
		"socket: a page without audit": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "Found asleep in &#39;the garden&#39; shed")
		}, func(n *leaky) { n.ask(signedIn) }, []string{"an answer without audit (/leak) holds free text"}},
		"socket: a header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/Patient/"+number) }, func(n *leaky) { n.ask(signedIn) }, []string{"a header of an answer holds an NHS number"}},

		"MLLP: an answer":                        {nil, func(n *leaky) { n.Exchange([]byte("MSH|QBP"))([]byte("MSA|AA|HERON77")) }, []string{"an answer over MLLP holds a canary"}},
		"MLLP: an answer that repeats a message": {nil, func(n *leaky) { n.Exchange([]byte("PID|1||" + number))([]byte("ERR|PID^1|" + number)) }, nil},
		"MLLP: an answer with audit": {nil, func(n *leaky) {
			answer := n.Exchange([]byte("MSH|QBP"))
			if _, err := n.Audit.Append(t.Context(), audit.Event{Kind: audit.Read, Agent: audit.Agent{User: "pas"}}); err != nil {
				t.Error(err)
			}
			answer([]byte("PID|1||" + number))
		}, nil},

		"MLLP: a message": {nil, func(n *leaky) {
			n.Tells("pas")([]byte("MSH|^~\\&|T|N|PAS|RX1|20260301||ADT^A31|M1|P|2.4\rPID|1||" + number))
		}, []string{"a message over MLLP holds an NHS number"}},
		"MLLP: a message, recorded": {nil, func(n *leaky) {
			n.tell(t, "pas", "M1")
			n.Tells("pas")([]byte("MSH|^~\\&|T|N|PAS|RX1|20260301||ADT^A31|M1|P|2.4\rPID|1||" + number))
		}, nil},
		"MLLP: another message than is recorded": {nil, func(n *leaky) {
			n.tell(t, "pas", "M2")
			n.Tells("pas")([]byte("MSH|^~\\&|T|N|PAS|RX1|20260301||ADT^A31|M1|P|2.4\rPID|1||" + number))
		}, []string{"a message over MLLP holds an NHS number"}},
		"MLLP: to another system than is recorded": {nil, func(n *leaky) {
			n.tell(t, "lab", "M1")
			n.Tells("pas")([]byte("MSH|^~\\&|T|N|PAS|RX1|20260301||ADT^A31|M1|P|2.4\rPID|1||" + number))
		}, []string{"a message over MLLP holds an NHS number"}},

		"upkeep: an answer":                         {says(http.StatusOK, `{"error": "Condition/c: HERON77"}`), func(n *leaky) { n.keep(t, `{"do": "verify"}`) }, []string{"an answer on the upkeep socket holds a canary"}},
		"upkeep: an answer that says what is asked": {says(http.StatusOK, `{"error": "nobody has 9990000654"}`), func(n *leaky) { n.keep(t, `{"do": "probe", "number": "`+number+`"}`) }, nil},

		"syslog: ids and numbers": {nil, func(n *leaky) {
			n.sends(t, audit.Event{Kind: audit.Read, PersonID: "3f9aa0c2", NHSNumber: nhs(t, number), Query: "Patient?family=Oseiku&birthdate=1979-12-01", What: []string{"problems: Condition/c/_history/1"}})
		}, nil},
		"syslog: what was written": {nil, func(n *leaky) { n.sends(t, audit.Event{Kind: audit.Read, What: []string{"problems: HERON77"}}) },
			[]string{"a message to the audit repository holds a canary"}},
		"syslog: a name, in no question": {nil, func(n *leaky) { n.sends(t, audit.Event{Kind: audit.Read, What: []string{"reason: Oseiku"}}) },
			[]string{"a message to the audit repository holds a family name"}},
		"syslog: what was written, in a question": {nil, func(n *leaky) { n.sends(t, audit.Event{Kind: audit.Search, Query: "Condition?code:text=HERON77"}) },
			[]string{"a request in a message to the audit repository holds a canary"}},

		"file: its name":                         {nil, func(n *leaky) { n.write(t, "export-"+number+".ndjson", "", 0o600) }, []string{"a file's name holds an NHS number"}},
		"file: in it":                            {nil, func(n *leaky) { n.write(t, "report.txt", "line 3: HERON77", 0o600) }, []string{"a file holds a canary"}},
		"file: open to everybody on the machine": {nil, func(n *leaky) { n.write(t, "report.txt", "3 lines", 0o644) }, []string{"a file that others on the machine may read holds what is kept"}},

		"question: the address": {nil, func(n *leaky) { n.question(nowhere+"/Patient?family=O%73eiku&identifier=x%7C"+number, "", "") },
			[]string{"an address that is asked holds a family name", "an address that is asked holds an NHS number"}},
		"question: a header":              {nil, func(n *leaky) { n.question(nowhere, number, "") }, []string{"a header of a question holds an NHS number"}},
		"question: a signed claim":        {nil, func(n *leaky) { n.question(nowhere, "Bearer e30.eyJzdWIiOiI5OTkwMDAwNjU0In0.c2ln", "") }, []string{"a header of a question holds an NHS number"}},
		"question: what was written":      {nil, func(n *leaky) { n.question(nowhere, "", `{"note": "HERON77"}`) }, []string{"a question holds a canary"}},
		"question: as PDS is asked":       {nil, func(n *leaky) { n.question(nowhere+"/pds/Patient/"+number, "", "") }, nil},
		"question: as GP Connect is":      {nil, func(n *leaky) { n.question(nowhere+"/letters/Patient?identifier="+number, "", "") }, nil},
		"question: as neither of them is": {nil, func(n *leaky) { n.question(nowhere+"/letters/Patient?family=Oseiku", "", "") }, []string{"an address that is asked holds a family name"}},
	}
	for what, leak := range leaks {
		t.Run(what, func(t *testing.T) {
			var mu sync.Mutex
			var told []string
			n := open(t, func(leak string) { mu.Lock(); told = append(told, leak); mu.Unlock() }, leak.hole, what == "metric")
			leak.plant(n)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(told)
			if len(told) != len(leak.want) {
				t.Fatalf("said: %q, want %q", told, leak.want)
			}
			for i, want := range leak.want {
				if !strings.Contains(told[i], "TestALookoutSeesWhatLeaksOutOfANode") || !strings.Contains(told[i], ": "+want) {
					t.Errorf("said %q, want %q", told[i], want)
				}
			}
		})
	}
}

// open starts a node with a hole in it.
func open(t *testing.T, report func(string), hole http.HandlerFunc, metric bool, feeds ...string) *leaky {
	t.Helper()
	return openAs(t, oneTrust, report, hole, metric, feeds...)
}

// openAs starts one of another region.
func openAs(t *testing.T, file string, report func(string), hole http.HandlerFunc, metric bool, feeds ...string) *leaky {
	t.Helper()
	for _, at := range feeds {
		file = strings.Replace(file, "127.0.0.1:0", at, 1)
	}
	r, problems := region.Parse("north.yaml", []byte(file))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	data, err := os.MkdirTemp("", "leaky") // a test's own is too long for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	n := &leaky{spy: &spy{}, data: data}
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = w.Write(fhir.New("Condition", "c", fhir.M{"code": fhir.CodeableConcept{Text: "LINNET42"}}).Raw())
	}))
	t.Cleanup(live.Close)
	n.live = live.URL
	n.plant = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/leak" && hole != nil:
				hole(w, r)
			case r.URL.Path == "/metrics" && metric:
				h.ServeHTTP(w, r)
				_, _ = fmt.Fprintf(w, "tombolo_deliveries_total{source=%q} 1\n", number)
			default:
				h.ServeHTTP(w, r)
			}
		})
	}
	was := node.Watched
	defer func() { node.Watched = was }()
	node.Watched = func(c node.Config) node.Watch {
		n.spy.Watch = nodes.Over(report)(c)
		return n.spy
	}
	if n.Node, err = node.New(t.Context(), node.Config{Region: r, Data: n.data, Listen: "127.0.0.1:0", Feeds: len(feeds) > 0}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	for i, text := range []string{"HERON77", "Found asleep in the garden shed", "Found asleep in 'the garden' shed"} {
		of := fhir.Reference{Reference: "Patient/p"}
		if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: fmt.Sprint(i), Raw: []byte{'x', byte(i)}, Patient: "p", Content: []*fhir.Resource{
			fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}, {System: "urn:mrn", Value: "RX100042"}}, "name": []fhir.HumanName{{Family: "Oseiku", Given: []string{"Imogen", "Jo"}}, {Family: "Fox", Given: []string{"Jo"}}}, "birthDate": "1979-12-01"}),
			fhir.New("Condition", "c", fhir.M{"subject": of, "code": fhir.CodeableConcept{Text: text}})}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "held", Rejected: fhir.Errorf(fhir.NotSupported, "there is no such structure"),
		Raw: []byte("MSH|^~\\&|PAS|RX1|T|N|20260301101500||ADT^Z99|H1|P|2.4\rPID|1||" + other + "^^^NHS^NH||Quintrell^Peter||19480312|1\rNTE|1||Weeps when the post is late\r")}); err != nil {
		t.Fatal(err)
	}
	return n
}

// tell records that a system is told of something in a message.
func (n *leaky) tell(t *testing.T, system, control string) {
	t.Helper()
	if _, err := n.Audit.Append(t.Context(), audit.Event{Kind: audit.Notified, NHSNumber: nhs(t, number), Agent: audit.Agent{User: system}, What: []string{"message: " + control}}); err != nil {
		t.Error(err)
	}
}

// keep asks for upkeep.
func (n *leaky) keep(t *testing.T, what string) {
	t.Helper()
	at, start := filepath.Join(n.data, "upkeep.sock"), time.Now()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for { // it begins to listen after the rest does
			conn, err := new(net.Dialer).DialContext(ctx, "unix", at)
			if err == nil || time.Since(start) > 10*time.Second {
				return conn, err
			}
			time.Sleep(time.Millisecond)
		}
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Post("http://upkeep/leak", "application/json", strings.NewReader(what))
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

func nhs(t *testing.T, number string) fhir.NHSNumber {
	t.Helper()
	n, err := fhir.ParseNHSNumber(number)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sends sends an entry to the audit repository, as the node of trust_test does.
func (n *leaky) sends(t *testing.T, e audit.Event) {
	t.Helper()
	entry, err := n.Audit.Append(t.Context(), e)
	if err != nil {
		t.Error(err)
		return
	}
	message, err := entry.DICOM()
	if err != nil {
		t.Error(err)
	}
	n.Audited(message)
}

func (n *leaky) hear() string {
	resp, err := n.by.Get(n.live)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func (n *leaky) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.data, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// What a feed of a node answers is seen before it is sent.
func TestWhatIsAnsweredOverMLLPIsSeen(t *testing.T) {
	for beside, leaks := range map[string]bool{"": false, "ERR|1|HERON77": true} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := free.Addr().String()
		_ = free.Close()
		var mu sync.Mutex
		var told []string
		n := open(t, func(leak string) { mu.Lock(); told = append(told, leak); mu.Unlock() }, nil, false, at)
		n.beside = beside
		c := &hl7v2.Client{Addr: at}
		const messages = 10 // one may be answered just when something else is written into the audit log, as at a node's start: anything may be in it then
		var acks []string
		for i := range messages {
			ack, err := c.Send(t.Context(), fmt.Appendf(nil, "MSH|^~\\&|PAS|RX1|T|N|20260301101500||ADT^A28|Q%d|P|2.4\rEVN||20260301101500\rPID|1||RX1^^^RX1^PI||Quintrell^Peter||19480312|1\r", i))
			if err != nil {
				t.Fatal(err)
			}
			acks = append(acks, string(ack.Raw))
		}
		_ = c.Close()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if !slices.Equal(n.exchanged, acks) || (len(told) > 0) != leaks || leaks && !strings.Contains(told[0], "an answer over MLLP holds a canary") {
			t.Errorf("with %q: answered %q, saw %q, said %q", beside, acks, n.exchanged, told)
		}
		mu.Unlock()
	}
}

// What a node sends over MLLP is seen before it is sent.
func TestWhatIsSentOverMLLPIsSeen(t *testing.T) {
	at := make(chan []byte, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		frame, err := hl7v2.ReadFrame(bufio.NewReader(conn), hl7v2.MaxMessage)
		at <- frame
		m, err2 := hl7v2.Parse(frame, hl7v2.ParseOptions{})
		if err == nil && err2 == nil {
			_, _, id := m.Type()
			_ = hl7v2.WriteFrame(conn, []byte("MSH|^~\\&|PAS|RX1|T|N|20260301||ACK|X1|P|2.4\rMSA|AA|"+id+"\r"))
		}
	}()
	file := strings.Replace(oneTrust, `release: all, gives`, `release: all, options: {send-to: "mllp://`+ln.Addr().String()+`", system.RX1: "https://rx1.example/mrn"}, gives`, 1)
	n := openAs(t, file, func(leak string) { t.Error(leak) }, nil, false)
	s, ok := n.Sender("pas")
	if !ok {
		t.Fatal("the system cannot be told")
	}
	if err := s.Send(t.Context(), fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}, {System: "https://rx1.example/mrn", Value: "T1"}},
		"name": []fhir.HumanName{{Family: "Oseiku"}}, "birthDate": "1979-12-01", "meta": fhir.M{"versionId": "1", "lastUpdated": "2026-03-02T10:00:00Z"}})); err != nil {
		t.Fatal(err)
	}
	if sent := string(<-at); len(n.sent) != 1 || n.sent[0] != sent || !strings.Contains(sent, number) {
		t.Errorf("sent %q, saw %q", sent, n.sent)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// What is recorded before its first byte may be answered, of those whom the record names.
func TestWhatIsAuditedMayBeAnswered(t *testing.T) {
	var told []string
	var n *leaky
	var p, q string
	answers := map[string]struct {
		entry       func() audit.Event
		first, then string // what is answered before it is recorded, and after
		leak        string
	}{
		"of whom it names":            {func() audit.Event { return audit.Event{PersonID: p} }, "", "HERON77", ""},
		"recorded too late":           {func() audit.Event { return audit.Event{PersonID: p} }, "HERON77, ", "HERON77", "an answer without audit (/leak) holds a canary"},
		"of another":                  {func() audit.Event { return audit.Event{PersonID: p} }, "", "HERON77 PLOVER55", "an answer of somebody whom no audit entry names (/leak) holds a canary"},
		"another's number":            {func() audit.Event { return audit.Event{PersonID: p} }, "", "999 000 1561", "an answer of somebody whom no audit entry names (/leak) holds an NHS number"},
		"another's name":              {func() audit.Event { return audit.Event{PersonID: p} }, "", "Ashdown", "an answer of somebody whom no audit entry names (/leak) holds a family name"},
		"another's, and recorded":     {func() audit.Event { return audit.Event{PersonID: q} }, "", "PLOVER55", ""},
		"named by number":             {func() audit.Event { return audit.Event{NHSNumber: nhs(t, "9990001561")} }, "", "PLOVER55", ""},
		"of nobody":                   {func() audit.Event { return audit.Event{} }, "", "PLOVER55", "an answer of which the audit log names nobody (/leak) holds a canary"},
		"nothing of anybody":          {func() audit.Event { return audit.Event{} }, "", "3 lines", ""},
		"what both of them have":      {func() audit.Event { return audit.Event{PersonID: p} }, "", "Sings to the canal boats", ""},
		"what a code is called":       {func() audit.Event { return audit.Event{PersonID: p} }, "", "Fracture of the left scaphoid", ""},
		"in what is kept of them too": {func() audit.Event { return audit.Event{PersonID: q} }, "", "Found asleep in the garden shed", ""},
	}
	n = open(t, func(leak string) { told = append(told, leak) }, func(w http.ResponseWriter, r *http.Request) {
		a := answers[r.Header.Get("X-Case")]
		if a.first != "" {
			_, _ = io.WriteString(w, a.first)
		}
		e := a.entry()
		e.Kind, e.Agent.User = audit.Read, "doctor"
		if _, err := n.Audit.Append(r.Context(), e); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, a.then)
	}, false)
	of := fhir.Reference{Reference: "Patient/q"}
	if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "q", Raw: []byte("q"), Patient: "q", Content: []*fhir.Resource{
		fhir.New("Patient", "q", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990001561"}}, "name": []fhir.HumanName{{Family: "Ashdown"}}, "birthDate": "1960-02-02"}),
		fhir.New("Condition", "q1", fhir.M{"subject": of, "code": fhir.CodeableConcept{Text: "PLOVER55"}}),
		fhir.New("Condition", "q2", fhir.M{"subject": of, "code": fhir.CodeableConcept{Text: "Sings to the canal boats"}}),
		fhir.New("Condition", "q3", fhir.M{"subject": of, "code": fhir.CodeableConcept{Coding: []fhir.Coding{{System: fhir.SystemSNOMED, Code: "263102004"}}, Text: "Fracture of the left scaphoid"}}),
		fhir.New("Condition", "q4", fhir.M{"subject": of, "code": fhir.CodeableConcept{Text: "Was found asleep in the garden shed"}})}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "p9", Raw: []byte("p9"), Patient: "p", Content: []*fhir.Resource{
		fhir.New("Condition", "p9", fhir.M{"subject": fhir.Reference{Reference: "Patient/p"}, "code": fhir.CodeableConcept{Text: "Sings to the canal boats"}})}}); err != nil {
		t.Fatal(err)
	}
	for number, id := range map[string]*string{number: &p, "9990001561": &q} {
		var err error
		if *id, err = n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: number}); err != nil {
			t.Fatal(err)
		}
	}
	for what := range answers {
		n.ask(func(r *http.Request) { signedIn(r); r.Header.Set("X-Case", what) })
	}
	if _, err := n.Audit.Append(t.Context(), audit.Event{Kind: audit.Notified, PersonID: p, Agent: audit.Agent{User: "pas"}, What: []string{"message: M9"}}); err != nil {
		t.Fatal(err)
	}
	n.Tells("pas")([]byte("MSH|^~\\&|T|N|PAS|RX1|20260301||ADT^A31|M9|P|2.4\rNTE|1||HERON77 PLOVER55"))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	const sent = "a message over MLLP of somebody whom no audit entry names holds a canary"
	want := map[string]bool{sent: true}
	if !slices.ContainsFunc(told, func(said string) bool { return strings.Contains(said, sent) && strings.Contains(said, "plover55") }) {
		t.Errorf("said %q, want %q", told, sent)
	}
	for what, a := range answers {
		if a.leak == "" {
			continue
		}
		want[a.leak] = true
		if !slices.ContainsFunc(told, func(said string) bool { return strings.Contains(said, ": "+a.leak) }) {
			t.Errorf("%s: said %q, want %q", what, told, a.leak)
		}
	}
	if len(told) != len(want) {
		t.Errorf("said %q, want %v and no more", told, want)
	}
}

// purposely is set in the process that leaks so that its test must fail.
const purposely = "TOMBOLO_LEAK"

// Leaks fail the tests of a package, whichever way out of the process they took and whatever its tests look at.
func TestALeakFailsTheTestsOfItsPackage(t *testing.T) {
	if by := os.Getenv(purposely); by != "" {
		n := open(t, nil, nil, false)
		leak := map[string]func(){
			"nothing":         func() {},
			"the node's log":  func() { n.log.Info(number) },
			"log.Default":     func() { log.Print("HERON77") },
			"slog.Default":    func() { slog.Debug("HERON77") },
			"another process": func() { another(t, "the node's log", true) },
		}[by]
		leak()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	for by, fails := range map[string]bool{"nothing": false, "the node's log": true, "log.Default": true, "slog.Default": true, "another process": true} {
		out, err := another(t, by, false)
		if (err != nil) != fails || strings.Contains(out, "LEAK: ") != fails || fails && !strings.Contains(out, "PASS") {
			t.Errorf("%s: %v\n%s", by, err, out)
		}
	}
}

// another runs this test in a process of its own, which tells this one of what leaks or its own caller.
func another(t *testing.T, by string, child bool) (string, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestALeakFailsTheTestsOfItsPackage$")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, purposely+"=") || !child && strings.HasPrefix(v, "TOMBOLO_LOOKOUT=")
	})
	cmd.Env = append(cmd.Env, purposely+"="+by)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
