package harness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
)

// A Message is one that a sender sends, and what must be there once it is acknowledged.
type Message struct {
	Control string
	MRN     string
	NHS     string // "" for most
	Visit   string
	Bytes   []byte
}

// NewMessage is the nth message of a sender: each about a patient of its own, admitted.
func NewMessage(sender, n int) Message {
	m := Message{Control: fmt.Sprintf("H%d-%07d", sender, n), MRN: fmt.Sprintf("MRN%d-%07d", sender, n), Visit: fmt.Sprintf("V%d-%07d", sender, n)}
	numbers := []any{hl7v2.Comp(m.MRN, "", "", "RX1", "PI")}
	if nine := fmt.Sprintf("999%d%05d", sender%10, n%100000); n < 100000 && sender < 10 {
		if m.NHS = withCheckDigit(nine); m.NHS != "" {
			numbers = append(numbers, hl7v2.Comp(m.NHS, "", "", "NHS", "NH"))
		}
	}
	at := "20260301101500"
	var e hl7v2.Encoder
	e.Segment("MSH", hl7v2.Fields{3: "PAS", 4: "RX1", 5: "TOMBOLO", 6: "HARNESS", 7: at, 9: hl7v2.Comp("ADT", "A01", "ADT_A01"), 10: m.Control, 11: "P", 12: "2.4"})
	e.Segment("EVN", hl7v2.Fields{2: at})
	e.Segment("PID", hl7v2.Fields{3: hl7v2.Rep(numbers...), 5: hl7v2.Comp(fmt.Sprintf("Family%d", n%997), "Given"), 7: "19480312", 8: "2",
		11: hl7v2.Comp("1 Ferry Lane", "", "Severnmouth", "", "GL99 1AA")})
	e.Segment("PV1", hl7v2.Fields{2: "I", 3: "WARD7", 19: m.Visit, 44: at})
	m.Bytes = e.Bytes()
	return m
}

// withCheckDigit completes an NHS number; "" for nine digits that have no valid tenth.
func withCheckDigit(nine string) string {
	sum := 0
	for i, c := range nine {
		sum += int(c-'0') * (10 - i)
	}
	switch d := (11 - sum%11) % 11; d {
	case 10:
		return ""
	default:
		return nine + string(rune('0'+d))
	}
}

// Senders send for as long as they are let, each over a connection of its own, and remember what was acknowledged.
type Senders struct {
	mu    sync.Mutex
	next  []int     // per sender: number of its next new message
	open  []Message // per sender: sent and not acknowledged; it goes first next time
	acked []Message // since Take
	wrong []string  // answers that were no acceptance
}

// NewSenders makes n senders that have sent nothing.
func NewSenders(n int) *Senders { return &Senders{next: make([]int, n), open: make([]Message, n)} }

// Run sends until ctx ends or each sender has met a connection that does not answer, whichever is first. At most limit new messages
// each; 0 is no limit.
func (s *Senders) Run(ctx context.Context, addr string, limit int) {
	var wg sync.WaitGroup
	for i := range s.next {
		wg.Go(func() { s.send(ctx, i, addr, limit) })
	}
	wg.Wait()
}

func (s *Senders) send(ctx context.Context, i int, addr string, limit int) {
	c := &hl7v2.Client{Addr: addr, Timeout: 10 * time.Second}
	defer c.Close()
	for n := 0; ctx.Err() == nil && (limit == 0 || n < limit); n++ {
		m := s.begin(i)
		ack, err := c.Send(ctx, m.Bytes)
		if err != nil {
			return // its fate is not known: it is sent again when the node is back
		}
		s.end(i, m, ack)
	}
}

func (s *Senders) begin(i int) Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[i].Control == "" {
		s.open[i] = NewMessage(i, s.next[i])
		s.next[i]++
	}
	return s.open[i]
}

func (s *Senders) end(i int, m Message, ack hl7v2.Ack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[i] = Message{}
	if ack.Accepted() && ack.Control == m.Control {
		s.acked = append(s.acked, m)
		return
	}
	s.wrong = append(s.wrong, strings.Join([]string{m.Control, ack.Code, ack.Control, ack.Text, ack.Error}, " "))
}

// Take gives what has been acknowledged since the last Take, and an error if anything was answered otherwise.
func (s *Senders) Take() ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, wrong := s.acked, s.wrong
	s.acked, s.wrong = nil, nil
	if len(wrong) > 0 {
		return out, fhir.Errorf(fhir.Processing, "%d messages were not accepted, the first so: %s", len(wrong), wrong[0])
	}
	return out, nil
}
