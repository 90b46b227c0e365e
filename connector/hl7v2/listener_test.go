package hl7v2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A record is a door that keeps what comes, answers repeats as it answered first, and may be told to fail.
type record struct {
	mu   sync.Mutex
	kept []connector.Delivery
	fail func(d connector.Delivery) error
	hold chan struct{} // if not nil, each call waits for it
}

func (r *record) Accept(ctx context.Context, d connector.Delivery) (connector.Receipt, error) {
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return connector.Receipt{}, fhir.Errorf(fhir.Transient, "stopped: %w", ctx.Err())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(d); err != nil {
			return connector.Receipt{}, err
		}
	}
	for _, k := range r.kept {
		if d.ID != "" && k.ID == d.ID && bytes.Equal(k.Raw, d.Raw) {
			return connector.Receipt{Duplicate: true, Reply: k.Reply}, nil
		}
	}
	d.Raw = bytes.Clone(d.Raw)
	r.kept = append(r.kept, d)
	return connector.Receipt{}, nil
}

func (r *record) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

func (r *record) rejections() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.kept {
		if d.Rejected != nil {
			out = append(out, string(d.Rejected.Type)+" "+d.Rejected.Expression)
		}
	}
	return out
}

// pipes are a network inside the process, whose clock is synthetic.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
func (p *pipes) dial() *peer {
	a, b := net.Pipe()
	p.conns <- b
	return &peer{a, bufio.NewReader(a)}
}

// A peer is the sender's end.
type peer struct {
	net.Conn
	r *bufio.Reader
}

// ask sends bytes and reads one acknowledgement: "AA 1", or "closed" if the connection ended without one.
func (p *peer) ask(t *testing.T, wire string) string {
	t.Helper()
	go func() { _, _ = p.Write([]byte(wire)) }()
	return p.next(t)
}

func (p *peer) next(t *testing.T) string {
	t.Helper()
	f, err := ReadFrame(p.r, MaxMessage)
	if err != nil {
		return "closed"
	}
	a, err := ParseAck(f)
	if err != nil {
		t.Fatalf("not an acknowledgement: %q", f)
	}
	return strings.TrimSpace(a.Code + " " + a.Control + " " + a.Error)
}

func serve(t *testing.T, o Options, door *record, test func(t *testing.T, p *pipes, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		o.Source, o.Organisation, o.Listener = "rx1-pas", "RX1", p
		feed, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- feed.Run(ctx, door) }()
		test(t, p, cancel)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func admit(control string) string {
	return "MSH|^~\\&|PAS|RX1|TIE|SEVERN|20260302||ADT^A28^ADT_A05|" + control + "|P|2.4\rPID|1||T1^^^RX1^PI||Hart^Rosalind\r"
}

func framed(s string) string { return "\x0b" + s + "\x1c\r" }

func TestAcknowledgementsKeepTheDeliveryRules(t *testing.T) {
	enhanced := func(accept, application string) string {
		return strings.Replace(admit("7"), "|P|2.4", "|P|2.4|||"+accept+"|"+application, 1)
	}
	order := strings.Replace(admit("2"), "ADT^A28^ADT_A05", "MFN^M02", 1)
	for _, c := range []struct {
		what, wire, want, kept string
		o                      Options
	}{
		{what: "taken", wire: admit("1"), want: "AA 1"},
		{what: "a type without a map", wire: order, want: "AR 2 MSH^1^9^200&Unsupported message type&HL70357", kept: "not-supported MSH-9"},
		{what: "the same where the feed keeps the unknown", wire: order, want: "AA 2", o: Options{KeepUnknown: true}},
		{what: "an event without a map", wire: strings.Replace(admit("3"), "A28^ADT_A05", "A99", 1), want: "AR 3 MSH^1^9^201&Unsupported event code&HL70357", kept: "not-supported MSH-9.2"},
		{what: "a test message to a live feed", wire: strings.Replace(admit("4"), "|P|", "|T|", 1), want: "AR 4 MSH^1^11^202&Unsupported processing id&HL70357", kept: "not-supported MSH-11"},
		{what: "a test message to a feed that takes them", wire: strings.Replace(admit("4"), "|P|", "|T|", 1), want: "AA 4", o: Options{Processing: "PT"}},
		{what: "another version", wire: strings.Replace(admit("5"), "|2.4", "|3.1", 1), want: "AR 5 MSH^1^12^203&Unsupported version id&HL70357", kept: "not-supported MSH-12"},
		{what: "nobody's message", wire: strings.Replace(admit("6"), "T1^^^RX1^PI", "", 1), want: "AE 6 PID^1^3^101&Required field missing&HL70357", kept: "required PID-3"},
		{what: "nobody's message in v2.5", wire: strings.NewReplacer("T1^^^RX1^PI", "", "|2.4", "|2.5").Replace(admit("6")), want: "AE 6 PID^1^3|101^Required field missing^HL70357", kept: "required PID-3"},
		{what: "no HL7 at all", wire: "hello", want: "AE  MSH^1^^100&Segment sequence error&HL70357", kept: "structure MSH"},
		{what: "an empty frame", wire: "", want: "AE  MSH^1^^100&Segment sequence error&HL70357", kept: "structure MSH"},
		{what: "enhanced: always", wire: enhanced("AL", "NE"), want: "CA 7"},
		{what: "enhanced: application acknowledgement only", wire: enhanced("NE", "AL"), want: "AA 7"},
		{what: "enhanced: on error, and it is one", wire: strings.Replace(enhanced("ER", ""), "T1^^^RX1^PI", "", 1), want: "CE 7 PID^1^3^101&Required field missing&HL70357", kept: "required PID-3"},
		{what: "enhanced: refused", wire: strings.Replace(enhanced("AL", ""), "A28^ADT_A05", "A99", 1), want: "CR 7 MSH^1^9^201&Unsupported event code&HL70357", kept: "not-supported MSH-9.2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			door := &record{}
			serve(t, c.o, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
				conn := p.dial()
				defer conn.Close()
				if got := conn.ask(t, framed(c.wire)); got != c.want {
					t.Errorf("answered %q, want %q", got, c.want)
				}
				if got := strings.Join(door.rejections(), ","); got != c.kept {
					t.Errorf("kept as rejected: %q, want %q", got, c.kept)
				}
				if len(door.kept) != 1 || string(door.kept[0].Raw) != strings.TrimSuffix(c.wire, "\r") && string(door.kept[0].Raw) != c.wire {
					t.Errorf("%d deliveries kept, want one with the bytes that came", len(door.kept))
				}
				if got := conn.ask(t, framed(admit("next"))); got != "AA next" {
					t.Errorf("the next message is answered %q", got)
				}
			})
		})
	}
}

func TestSilenceWhereTheSenderWantsIt(t *testing.T) {
	serve(t, Options{}, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		conn := p.dial()
		defer conn.Close()
		quiet := strings.Replace(admit("1"), "|P|2.4", "|P|2.4|||NE|NE", 1)
		onError := strings.Replace(admit("2"), "|P|2.4", "|P|2.4|||ER|ER", 1)
		if got := conn.ask(t, framed(quiet)+framed(onError)+framed(admit("3"))); got != "AA 3" {
			t.Errorf("answered %q, want nothing for the first two", got)
		}
	})
}

func TestBothAcknowledgementsOnOneConnectionIfTheFeedSaysSo(t *testing.T) {
	door := &record{}
	serve(t, Options{AppAck: true}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		both := strings.Replace(admit("1"), "|P|2.4", "|P|2.4|||AL|AL", 1)
		for range 2 { // the second is a repeat, and gets the stored answers
			conn := p.dial()
			if a, b := conn.ask(t, framed(both)), conn.next(t); a != "CA 1" || b != "AA 1" {
				t.Errorf("answered %q and %q", a, b)
			}
			conn.Close()
		}
		if len(door.kept) != 1 {
			t.Errorf("kept %d times", len(door.kept))
		}
	})
}

func TestATransientFaultIsNeverAcknowledged(t *testing.T) {
	for _, err := range []error{fhir.Errorf(fhir.Transient, "busy"), fhir.Errorf(fhir.NoStore, "disk full"), fmt.Errorf("write: %w", fhir.Errorf(fhir.NoStore, "x")), io.ErrUnexpectedEOF, context.Canceled} {
		failing := true
		door := &record{fail: func(connector.Delivery) error {
			if failing {
				return err
			}
			return nil
		}}
		serve(t, Options{}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
			conn := p.dial()
			if got := conn.ask(t, framed(admit("1"))); got != "closed" {
				t.Errorf("with %v: answered %q, want the connection closed", err, got)
			}
			failing = false
			again := p.dial()
			defer again.Close()
			if got := again.ask(t, framed(admit("1"))); got != "AA 1" {
				t.Errorf("sent again: answered %q", got)
			}
		})
	}
}

func TestAFaultInTheContentIsAnsweredWithItsPlaceAndNoMore(t *testing.T) {
	door := &record{fail: func(connector.Delivery) error {
		return fhir.Errorf(fhir.BusinessRule, "the NHS number is another person's").At("PID-3")
	}}
	serve(t, Options{}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		conn := p.dial()
		defer conn.Close()
		go func() { _, _ = conn.Write([]byte(framed(admit("1")))) }()
		f, err := ReadFrame(conn.r, 0)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := ParseAck(f)
		if a.Code != "AE" || a.Error != "PID^1^3^207&Application internal error&HL70357" {
			t.Errorf("answered %+v", a)
		}
		for _, secret := range []string{"Hart", "Rosalind", "T1"} {
			if bytes.Contains(f, []byte(secret)) {
				t.Errorf("the answer tells the patient's data: %q", f)
			}
		}
	})
}

func TestARepeatGetsTheStoredAnswer(t *testing.T) {
	door := &record{}
	serve(t, Options{}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		var answers []string
		for range 2 {
			conn := p.dial()
			go func() { _, _ = conn.Write([]byte(framed(admit("1")))) }()
			f, err := ReadFrame(conn.r, 0)
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, string(f))
			conn.Close()
			time.Sleep(time.Minute)
		}
		if answers[0] != answers[1] || len(door.kept) != 1 || string(door.kept[0].Reply) != answers[0] {
			t.Errorf("answered %q; kept %d", answers, len(door.kept))
		}
	})
}

func TestEachMessageOfABatchIsAnswered(t *testing.T) {
	serve(t, Options{}, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		conn := p.dial()
		defer conn.Close()
		got := []string{conn.ask(t, framed("BHS|^~\\&|PAS\r"+admit("1")+strings.Replace(admit("2"), "T1^^^RX1^PI", "", 1)+admit("3")+"BTS|3\r"))}
		got = append(got, conn.next(t), conn.next(t))
		if want := []string{"AA 1", "AE 2 PID^1^3^101&Required field missing&HL70357", "AA 3"}; !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
	})
}

func TestBrokenFramesAreKeptAndStopNothing(t *testing.T) {
	door := &record{}
	serve(t, Options{MaxFrame: 300}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		conn := p.dial()
		defer conn.Close()
		long := admit("big") + "NTE|1||" + strings.Repeat("x", 1000)
		if got := conn.ask(t, "junk\r\n"+framed(long)); got != "AE big ^^^102&Data type error&HL70357" {
			t.Errorf("a frame that is too long is answered %q", got)
		}
		if got := conn.ask(t, "\x0b"+admit("half")+framed(admit("1"))); got != "AE half ^^^100&Segment sequence error&HL70357" {
			t.Errorf("a frame without an end is answered %q", got)
		}
		if got := conn.next(t); got != "AA 1" {
			t.Errorf("the frame after it is answered %q", got)
		}
		cut := p.dial()
		_, _ = cut.Write([]byte("\x0bMSH|^~\\&|PAS"))
		cut.Close()
		synctest.Wait()
		if got, want := door.rejections(), []string{"structure MLLP", "too-long MLLP", "structure MLLP", "structure MLLP"}; !slices.Equal(got, want) {
			t.Errorf("kept %q, want %q", got, want)
		}
	})
}

func TestIdleAndSlowConnectionsAreClosed(t *testing.T) {
	serve(t, Options{IdleTimeout: time.Minute, FrameTimeout: 10 * time.Second}, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		began := time.Now()
		idle := p.dial()
		if got := idle.next(t); got != "closed" || time.Since(began) != time.Minute {
			t.Errorf("an idle connection is %s after %v", got, time.Since(began))
		}
		began = time.Now()
		slow := p.dial()
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			for _, b := range []byte(framed(admit("1"))) {
				if _, err := slow.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if got := slow.next(t); got != "closed" || time.Since(began) != 10*time.Second {
			t.Errorf("a slow frame is %s after %v", got, time.Since(began))
		}
	})
}

func TestAStoppingFeedFinishesWhatIsInHand(t *testing.T) {
	door := &record{}
	serve(t, Options{}, door, func(t *testing.T, p *pipes, stop context.CancelFunc) {
		door.hold = make(chan struct{})
		conn, idle := p.dial(), p.dial()
		answer := make(chan string, 1)
		go func() { answer <- conn.ask(t, framed(admit("1"))) }()
		synctest.Wait()
		stop()
		if got := idle.next(t); got != "closed" {
			t.Errorf("an idle connection is answered %q", got)
		}
		close(door.hold)
		if got := <-answer; got != "AA 1" {
			t.Errorf("the message in hand is answered %q", got)
		}
	})
}

// Whoever hangs up while the door is slow holds no place for those who come after; whoever waits, even with more already sent, is answered.
func TestASenderWhoHangsUpHoldsNoPlace(t *testing.T) {
	door := &record{}
	serve(t, Options{MaxConns: 2}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		door.hold = make(chan struct{})
		for n := range 6 { // three times as many as there are places
			gone := p.dial()
			if _, err := gone.Write([]byte(framed(admit(fmt.Sprint("gone", n))))); err != nil {
				t.Fatal(err)
			}
			_ = gone.Close()
		}
		began := time.Now()
		patient := p.dial()
		if _, err := patient.Write([]byte(framed(admit("1")) + framed(admit("2")))); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Second, func() { close(door.hold) })
		for _, want := range []string{"AA 1", "AA 2"} {
			if got := patient.next(t); got != want {
				t.Errorf("answered %q, want %q", got, want)
			}
		}
		if waited := time.Since(began); waited > 25*time.Second {
			t.Errorf("the sender waited %s, behind those who had hung up", waited)
		}
		_ = patient.Close()
	})
	if n := len(door.kept); n != 2 {
		t.Errorf("%d messages were taken, want the 2 whose sender waited", n)
	}
}

func TestAStoppingFeedDoesNotWaitForEver(t *testing.T) {
	door := &record{}
	serve(t, Options{Grace: 2 * time.Second}, door, func(t *testing.T, p *pipes, stop context.CancelFunc) {
		door.hold = make(chan struct{})
		conn := p.dial()
		answer := make(chan string, 1)
		go func() { answer <- conn.ask(t, framed(admit("1"))) }()
		synctest.Wait()
		began := time.Now()
		stop()
		if got := <-answer; got != "closed" || time.Since(began) != 2*time.Second {
			t.Errorf("the message in hand is answered %q after %v, want no answer after the grace", got, time.Since(began))
		}
	})
}

func TestOneBadConnectionStopsNoOther(t *testing.T) {
	door := &record{}
	serve(t, Options{MaxConns: 40}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				conn := p.dial()
				defer conn.Close()
				if i%3 == 0 {
					_, _ = conn.Write([]byte("\x0b\x00\xffgarbage"))
					return
				}
				for n := range 5 {
					control := fmt.Sprint(i, "-", n)
					if got := conn.ask(t, framed(admit(control))); got != "AA "+control {
						t.Errorf("answered %q, want AA %s", got, control)
					}
				}
			})
		}
		all.Wait()
	})
	if got := len(door.kept) - len(door.rejections()); got != 100 {
		t.Errorf("%d messages kept, want 100", got)
	}
}

func TestOverTCP(t *testing.T) {
	feed, err := New(Options{Source: "rx1-pas", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	door := &record{}
	go func() { ended <- feed.Run(ctx, door) }()
	client := &Client{Addr: feed.Addr().String()}
	defer client.Close()
	for i := range 3 {
		a, err := client.Send(ctx, []byte(admit(fmt.Sprint(i))))
		if err != nil || !a.Accepted() || a.Control != fmt.Sprint(i) {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if s := feed.Stats(); s.Accepted != 3 || s.Connections != 1 {
		t.Errorf("stats are %+v", s)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := client.Send(context.Background(), []byte(admit("late"))); !fhir.Is(err, fhir.Transient) {
		t.Errorf("sending to a feed that has ended: %v", err)
	}
	if _, err := New(Options{Source: "x", Listen: "no-such-place:-1"}); err == nil {
		t.Error("a wrong address is not told")
	}
	if _, err := New(Options{Listen: "127.0.0.1:0"}); !fhir.Is(err, fhir.Required) {
		t.Error("a feed without a source is not told")
	}
}

func TestAFaultInAMapIsOursAndLosesNothing(t *testing.T) {
	o := trust
	o.Mapping = Base().clone()
	o.Mapping.families["XXX"] = &family{make: "adt", events: map[string]*happening{"A28": nil}} // on which the map stumbles
	made := deliveries([]byte(strings.Replace(admit("1"), "ADT^", "XXX^", 1)+admit("2")), o)
	if len(made) != 2 || made[0].Rejected == nil || made[0].Rejected.Type != fhir.Exception || made[1].Rejected != nil {
		t.Errorf("gave %v", made)
	}
}

func TestSettingsAreReadAndWrongOnesNamed(t *testing.T) {
	var o Options
	err := o.Set(map[string]string{"authority": "RX1", "charset": "8859/15", "timezone": "Europe/London", "processing": "pt", "keep-unknown": "true", "max-frame": "1000",
		"idle-timeout": "2h", "frame-timeout": "5s", "app-ack": "true", "system.WinPath": "https://rx1.example/winpath"})
	if err != nil || o.Authority != "RX1" || o.Charset != "8859/15" || o.Processing != "PT" || !o.KeepUnknown || o.MaxFrame != 1000 || o.IdleTimeout != 2*time.Hour || o.Systems["WinPath"] == "" {
		t.Errorf("%+v, %v", o, err)
	}
	for k, v := range map[string]string{"charset": "klingon", "timezone": "Atlantis", "processing": "X", "keep-unknown": "maybe", "max-frame": "big", "nonsense": "1", "system.": "x"} {
		var i *fhir.Issue
		if err := new(Options).Set(map[string]string{k: v}); !errors.As(err, &i) || i.Expression != "options."+k {
			t.Errorf("%s: %s gives %v", k, v, err)
		}
	}
}

// A message is taken although the NHS number in it is wrong, which the local number makes possible; its sender is told so, by place.
func TestASenderIsToldOfAFaultInAMessageThatWasTaken(t *testing.T) {
	door := &record{}
	serve(t, Options{}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		conn := p.dial()
		defer conn.Close()
		msg := "MSH|^~\\&|PAS|RX1|T|N|20260301101500||ADT^A28|N1|P|2.5.1\rEVN|A28|20260301101500\rPID|1||9990000108^^^NHS^NH~T77^^^RX1^PI||Hart^Rosalind||19800101|2\r"
		go func() { _, _ = conn.Write([]byte(framed(msg))) }()
		f, err := ReadFrame(conn.r, 0)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := ParseAck(f)
		if a.Code != "AA" || !bytes.Contains(f, []byte("Taken, but:")) || !bytes.Contains(f, []byte("|W|")) || !bytes.Contains(f, []byte("PID^1^3")) {
			t.Errorf("answered %q", f)
		}
		if bytes.Contains(f, []byte("9990000108")) || bytes.Contains(f, []byte("Hart")) {
			t.Errorf("the answer tells the patient's data: %q", f)
		}
	})
}
