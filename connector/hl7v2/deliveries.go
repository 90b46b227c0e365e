package hl7v2

import (
	"fmt"
	"iter"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// MediaType is what a message's bytes are kept as.
const MediaType = "x-application/hl7-v2+er7"

// Again reads a message that could not be taken when it came, by the feed's settings and mapping as they are now. Reply is the answer that its sender's
// repeats are to get. The error is why it still cannot be taken.
func Again(raw []byte, o Options) ([]connector.Delivery, error) {
	o = o.withDefaults()
	m, made := read(raw, o)
	if !o.Wire.mayHaveSent(m) {
		return nil, notThisSenders()
	}
	_, replies := (&Feed{o: o}).replies(m, wishes(m), nil, o.Now(), faultsTaken(made)...)
	for i := range made {
		if made[i].Rejected != nil {
			return nil, made[i].Rejected
		}
		made[i].Received, made[i].Raw, made[i].Reply = o.Now(), raw, joinReplies(replies)
	}
	return made, nil
}

func notThisSenders() *fhir.Issue {
	return fhir.Errorf(fhir.NotSupported, "this feed does not take messages in this sender's name").At("MSH-3")
}

// Deliveries yields what a file of messages gives: one delivery for each patient in each message, in order. A message that cannot be
// read, is not for this feed or breaks a map is yielded as a delivery that is Rejected, with the reason, and reading goes on.
func Deliveries(data []byte, o Options) iter.Seq[connector.Delivery] {
	o = o.withDefaults()
	return func(yield func(connector.Delivery) bool) {
		for raw := range Split(data) {
			_, made := read(raw, o)
			for _, d := range made {
				d.Received = o.Now()
				if !yield(d) {
					return
				}
			}
		}
	}
}

// read parses and maps one message. It always gives at least one delivery. A fault in a map is this program's, not the feed's end.
func read(raw []byte, o Options) (m *Message, out []connector.Delivery) {
	defer func() {
		if r := recover(); r != nil {
			o.Logger.Error("an HL7 v2 map failed", "source", o.Source, "panic", fmt.Sprintf("%T", r))
			out = []connector.Delivery{rejected(m, raw, o, fhir.Errorf(fhir.Exception, "this program failed on the message, which was kept as it came"))}
		}
	}()
	m, err := Parse(raw, ParseOptions{Charset: o.Charset, MaxSize: o.MaxFrame})
	if err != nil {
		m = header(raw)
		return m, []connector.Delivery{rejected(m, raw, o, issueOf(err))}
	}
	out, err = Map(m, raw, o)
	if err == nil {
		return m, out
	}
	issue := issueOf(err)
	if o.KeepUnknown && issue.Type == fhir.NotSupported && (issue.Expression == "MSH-9" || issue.Expression == "MSH-9.2") {
		d := rejected(m, raw, o, nil)
		d.Issues, d.Map = append(m.Issues, issue), "hl7v2-none"+mapVersion
		return m, []connector.Delivery{d}
	}
	return m, []connector.Delivery{rejected(m, raw, o, issue)}
}

// header is the MSH of a message that cannot be read further, so that it can be answered by its control id; nil if even that is broken.
func header(raw []byte) *Message {
	raw = raw[:min(len(raw), 8<<10)]
	text, _, issue := decode(raw, "", new([]*fhir.Issue))
	if issue != nil {
		return nil
	}
	text = strings.TrimLeft(text, " \t\r\n\v\ufeff")
	m, err := Parse([]byte(text[:lineEnd(text, "\r\n")]), ParseOptions{})
	if err != nil {
		return nil
	}
	return m
}

func issueOf(err error) *fhir.Issue {
	if i := fhir.IssueOf(err); i != nil {
		return i
	}
	return fhir.Errorf(fhir.Exception, "this program failed on the message: %w", err)
}
