// Package acute is the simulated acute trust: a patient administration system, laboratory, radiology and letters behind one
// integration engine, which push what the cast says the trust holds as HL7 v2.4 messages in the NHS Interoperability Toolkit's dialect over MLLP.
//
// It behaves as such engines do: one connection, one message at a time, the next only after an acknowledgement; without one the same
// message again, under the same control id. It sends restricted addresses too: hiding them is the receiver's duty.
package acute

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// Options configure the trust.
type Options struct {
	Addr     string // host:port at which the node listens
	Source   string // which source of the cast it is; cast.Acute if empty
	People   []cast.Person
	Faults   *sim.Faults // nil: behaves
	Now      func() time.Time
	Timeout  time.Duration // for each acknowledgement; 30 s if 0
	Attempts int           // how often one message is sent before Send gives up; 5 if 0
	Pause    time.Duration // before the second attempt, doubled each time; 100 ms if 0
	Logger   *slog.Logger
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
}

// Trust sends. One Send or Run at a time.
type Trust struct {
	o      Options
	client *hl7v2.Client
}

// A Report says what became of what was sent.
type Report struct {
	Sent     int // messages that were answered
	Accepted int // AA
	Refused  []Refusal
	Retries  int // times a message was sent again for want of an answer
}

// A Refusal is a message that was answered with an error.
type Refusal struct{ Type, Control, Code, Error, Text string }

// New makes the trust. It connects when it first sends.
func New(o Options) *Trust {
	if o.Source == "" {
		o.Source = cast.Acute
	}
	if o.Faults == nil {
		o.Faults = &sim.Faults{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Pause <= 0 {
		o.Pause = 100 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Trust{o: o, client: &hl7v2.Client{Addr: o.Addr, Timeout: o.Timeout, Dial: o.Dial}}
}

// Messages are everything the trust has to send, in the order it happened to each person. The same cast on the same day gives the same
// messages, byte for byte.
func (t *Trust) Messages() []Message {
	fault, _ := t.o.Faults.Now()
	w := writer{source: t.o.Source, org: cast.OrganisationOf(t.o.Source), people: t.o.People, today: t.o.Now(), wrong: fault == sim.FaultWrongPatient}
	var out []Message
	for i := range t.o.People {
		if t.o.People[i].At(t.o.Source) {
			out = append(out, w.person(i)...)
		}
	}
	return out
}

// Send sends everything once and waits for each answer. A message that is answered with an error is reported, and sending goes on; one that is
// not answered after all attempts ends it, since its successors would overtake it.
func (t *Trust) Send(ctx context.Context) (Report, error) {
	var r Report
	defer t.client.Close()
	for _, m := range t.Messages() {
		if err := t.deliver(ctx, m, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Run sends everything, trying again for as long as the receiver does not answer, and then stays until ctx ends.
func (t *Trust) Run(ctx context.Context) error {
	for pause := t.o.Pause; ; pause = min(2*pause, 10*time.Second) {
		r, err := t.Send(ctx)
		if err == nil {
			t.o.Logger.Info("the simulated acute trust has sent its messages", "accepted", r.Accepted, "refused", len(r.Refused), "retries", r.Retries)
			<-ctx.Done()
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		t.o.Logger.Warn("the simulated acute trust could not send; trying again", "err", err)
		if sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// deliver sends one message until it is answered.
func (t *Trust) deliver(ctx context.Context, m Message, r *Report) error {
	var err error
	pause := t.o.Pause
	for attempt := range t.o.Attempts {
		if attempt > 0 {
			r.Retries++
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause *= 2
		}
		if err = t.misbehave(ctx, m); err != nil {
			continue
		}
		var ack hl7v2.Ack
		if ack, err = t.client.Send(ctx, m.Bytes); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		r.Sent++
		if ack.Accepted() {
			r.Accepted++
		} else {
			r.Refused = append(r.Refused, Refusal{m.Type, m.Control, ack.Code, ack.Error, ack.Text})
		}
		return nil
	}
	return fmt.Errorf("%s %s was not acknowledged after %d attempts: %w", m.Type, m.Control, t.o.Attempts, err)
}

// misbehave shows the fault that is switched on, before the message itself. An error means that the message was not sent this time.
func (t *Trust) misbehave(ctx context.Context, m Message) error {
	fault, delay := t.o.Faults.Now()
	switch fault {
	case sim.FaultSlow:
		return sleep(ctx, delay)
	case sim.FaultDown:
		_ = t.client.Close()
		return fhir.Errorf(fhir.Transient, "the simulated trust is switched off")
	case sim.FaultGarbage: // something that is no frame, a frame that is no HL7, and then the message as it should be
		return t.raw(ctx, []byte("GET / HTTP/1.1\r\n\r\n\x00\xff\x0bMSH|broken\x1c\r"), true)
	case sim.FaultTruncated: // half a frame, and the connection gone; then the message again, whole
		half := append([]byte{0x0b}, m.Bytes[:len(m.Bytes)/2]...)
		return t.raw(ctx, half, true)
	case sim.FaultDrip:
		return t.drip(ctx, m)
	}
	return nil
}

// raw writes bytes past the client, and hangs up so that no answer to them is taken for the message's.
func (t *Trust) raw(ctx context.Context, data []byte, hangUp bool) error {
	conn, err := t.client.Conn(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.Write(data); err != nil {
		_ = t.client.Close()
		return err
	}
	if hangUp {
		_ = t.client.Close()
	}
	return nil
}

// drip sends a byte at a time for as long as the fault stays on.
func (t *Trust) drip(ctx context.Context, m Message) error {
	defer t.client.Close()
	for i := 0; ; i++ {
		if fault, _ := t.o.Faults.Now(); fault != sim.FaultDrip {
			return nil
		}
		b := byte(0x0b)
		if i > 0 {
			b = m.Bytes[min(i-1, len(m.Bytes)-1)]
		}
		if err := t.raw(ctx, []byte{b}, false); err != nil {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
