package harness

import (
	"context"
	"fmt"
	"strings"
	"time"

	"tombolo/connector/hl7v2"
)

// A Message is one that a sender sends, and what must be there once it is acknowledged.
type Message struct {
	Control string
	MRN     string
	NHS     string // "" for most
	Visit   string
	Bytes   []byte
}

// patients is how many a sender has: what it sends after that is about further visits of theirs.
const patients = 40_000

// NewMessage is the nth message of a sender: a patient of its own is admitted.
func NewMessage(sender, n int) Message { return admission(sender, n, patients) }

// admission is the nth message of a sender who has so many patients.
func admission(sender, n, patients int) Message {
	who := n % patients
	m := Message{Control: fmt.Sprintf("H%d-%07d", sender, n), MRN: fmt.Sprintf("MRN%d-%07d", sender, who), Visit: fmt.Sprintf("V%d-%07d", sender, n)}
	numbers := []any{hl7v2.Comp(m.MRN, "", "", "RX1", "PI")}
	if sender < 10 {
		if m.NHS = withCheckDigit(fmt.Sprintf("999%d%05d", sender, who)); m.NHS != "" {
			numbers = append(numbers, hl7v2.Comp(m.NHS, "", "", "NHS", "NH"))
		}
	}
	at := "20260301101500"
	var e hl7v2.Encoder
	e.Segment("MSH", hl7v2.Fields{3: "PAS", 4: "RX1", 5: "TOMBOLO", 6: "HARNESS", 7: at, 9: hl7v2.Comp("ADT", "A01", "ADT_A01"), 10: m.Control, 11: "P", 12: "2.4"})
	e.Segment("EVN", hl7v2.Fields{2: at})
	e.Segment("PID", hl7v2.Fields{3: hl7v2.Rep(numbers...), 5: hl7v2.Comp(family(who), given(who)), 7: born(sender, who).Format("20060102"), 8: "2",
		11: hl7v2.Comp("1 Ferry Lane", "", "Severnmouth", "", fmt.Sprintf("GL%d %d%c%c", 50+who%40, who/40%10, 'A'+who/400%26, 'A'+who/10_400%26))})
	e.Segment("PV1", hl7v2.Fields{2: "I", 3: "WARD7", 19: m.Visit, 44: at})
	m.Bytes = e.Bytes()
	return m
}

// born is the birthday of somebody's nth patient: as many as people have, since those who share one with a name are compared with each other.
func born(who, n int) time.Time {
	return time.Date(1925, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, (who*7919+n)%35_003)
}

// family and given are what somebody's nth patient is called. They sound like different names, some of them commoner than others, as names do: matching
// compares those whose names sound alike, and words that differ only in their figures all sound the same.
func family(n int) string { return syllables(n%4999*(n/3%4999)/4999, 3) }

func given(n int) string { return syllables(n%409*(n/5%409)/409, 2) }

// syllables is a word of so many, another for each n below 95 to their number.
func syllables(n, size int) string {
	var b strings.Builder
	for range size {
		b.WriteByte("lmnrstkdbgpfvhwzjcq"[n%19])
		b.WriteByte("aeiou"[n/19%5])
		n /= 95
	}
	return strings.ToUpper(b.String()[:1]) + b.String()[1:]
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

// Senders send messages for as long as they are let, each over a connection of its own, and remember what was acknowledged.
type Senders struct{ outbox[Message] }

// NewSenders makes n senders that have sent nothing.
func NewSenders(n int) *Senders { return &Senders{newOutbox(n, NewMessage)} }

// Run sends until ctx ends or each sender has met a connection that does not answer, whichever is first. At most limit new messages
// each; 0 is no limit.
func (s *Senders) Run(ctx context.Context, addr string, limit int) {
	s.each(ctx, limit, func() (send func(Message) (refused string, err error), done func()) {
		c := &hl7v2.Client{Addr: addr, Timeout: 10 * time.Second}
		return func(m Message) (string, error) {
			ack, err := c.Send(ctx, m.Bytes)
			if err != nil || ack.Accepted() && ack.Control == m.Control {
				return "", err
			}
			return strings.Join([]string{m.Control, ack.Code, ack.Control, ack.Text, ack.Error}, " "), nil
		}, func() { _ = c.Close() }
	})
}
