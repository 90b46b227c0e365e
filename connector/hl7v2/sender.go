package hl7v2

import (
	"cmp"
	"context"
	"slices"
	"time"

	"tombolo/fhir"
)

// A Sender sends messages outward and does not let go of one before its fate is known: one at a time, in order, the same bytes under the same MSH-10 again
// for as long as no acknowledgement comes. It has no queue: what is still to be sent is its caller's to keep.
type Sender struct {
	Client   *Client
	Attempts int           // before it gives up; without end if 0
	Pause    time.Duration // before the second attempt, doubled each time; 1 s if 0
	MaxPause time.Duration // 1 min if 0
	// Again are the acknowledgement codes by which this receiver means "later": "AR" for one that keeps to the standard. None if empty.
	Again []string
}

// Send returns the acknowledgement with which the receiver took the message. An error of type fhir.Processing is the receiver's refusal of this message:
// sending it again will not help, and whoever owns it must look. One of type fhir.Transient means that nothing is known of its fate: ctx has
// ended, or the attempts are used up.
func (s *Sender) Send(ctx context.Context, msg []byte) (Ack, error) {
	if _, err := Parse(msg, ParseOptions{}); err != nil {
		return Ack{}, err
	}
	pause := cmp.Or(s.Pause, time.Second)
	for attempt := 1; ; attempt++ {
		ack, err := s.Client.Send(ctx, msg)
		switch {
		case err != nil:
		case ack.Accepted():
			return ack, nil
		case slices.Contains(s.Again, ack.Code):
			err = fhir.Errorf(fhir.Transient, "%s answered %s: later", s.Client.Addr, ack.Code)
		default:
			return ack, fhir.Errorf(fhir.Processing, "%s refused the message: %s", s.Client.Addr, ack.Code)
		}
		if attempt == s.Attempts || ctx.Err() != nil {
			return Ack{}, fhir.Errorf(fhir.Transient, "not taken after %d attempts: %w", attempt, err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, cmp.Or(s.MaxPause, time.Minute))
	}
}
