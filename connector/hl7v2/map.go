package hl7v2

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Limits on what one message may become. The largest honest one is a batch of results of some hundred lines.
const (
	maxContent  = 5000
	maxPatients = 200
)

// mapVersion is raised when a map changes what it makes of the same bytes.
const mapVersion = "/1"

// A family is the messages of one code: their map, the events it takes, and the segments it reads.
type family struct {
	name   string
	events string // space separated, with blanks around
	reads  string // segments that are mapped or carry nothing to map
	deal   func(x *mapper, segs []Segment) *fhir.Issue
}

const envelope = " MSH SFT UAC EVN "

var families = map[string]family{
	"ADT": {"hl7v2-adt", adtEvents, envelope + "PID PD1 NK1 PV1 PV2 AL1 DG1 PR1 MRG OBX NTE ", (*mapper).adt},
	"ORU": {"hl7v2-oru", " R01 ", envelope + "PID PD1 PV1 ORC OBR OBX NTE DSC ", (*mapper).oru},
	"MDM": {"hl7v2-mdm", " T02 T04 T06 T08 T10 T11 ", envelope + "PID PD1 PV1 TXA OBX NTE ", (*mapper).mdm},
	"SIU": {"hl7v2-siu", " S12 S13 S14 S15 S16 S17 S26 ", envelope + "SCH PID PD1 PV1 RGS AIS AIP AIL AIG NTE ", (*mapper).siu},
}

// A mapper makes one delivery: one patient's part of one message.
type mapper struct {
	m       *Message
	o       *Options
	d       *connector.Delivery
	event   string
	patient string         // the patient's id; every resource refers to it
	mrn     string         // the assigning authority of that id
	seen    map[string]int // ids made in this message, so that two things never share one
}

// Refuse says why a message is not for this feed, before anything is made of it: its version, its processing id, its type or event.
// The answer to such a message is AR. HL7 v2.4 §2.13.1
func Refuse(m *Message, o Options) *fhir.Issue {
	o = o.withDefaults()
	h := m.Header()
	if v := h.Field(12).Text(); v != "" && !slices.Contains(versions, v) {
		return fhir.Errorf(fhir.NotSupported, "this feed takes HL7 versions 2.1 to 2.8.2").At("MSH-12")
	}
	if p := h.Field(11).Text(); p != "" && (len(p) != 1 || !strings.Contains(o.Processing, p)) {
		return fhir.Errorf(fhir.NotSupported, "this feed takes messages whose processing id is one of %q: test and live messages do not mix", o.Processing).At("MSH-11")
	}
	code, event, _ := m.Type()
	f, ok := families[code]
	if !ok {
		return fhir.Errorf(fhir.NotSupported, "no map takes messages of this type: it was kept as it came").At("MSH-9")
	}
	if event == "" || !strings.Contains(f.events, " "+event+" ") {
		return fhir.Errorf(fhir.NotSupported, "no map takes this event: it was kept as it came").At("MSH-9.2")
	}
	return nil
}

var versions = strings.Fields("2 2.0 2.1 2.2 2.3 2.3.1 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2")

// Map makes deliveries of a message, one for each patient in it: nearly always one. It is pure; Received and Reply are left to the caller. raw
// is what arrived, to be kept. The error is a *fhir.Issue: of type NotSupported where Refuse says so, else a fault in the content.
func Map(m *Message, raw []byte, o Options) ([]connector.Delivery, error) {
	if issue := Refuse(m, o); issue != nil {
		return nil, issue
	}
	o = o.withDefaults()
	code, event, _ := m.Type()
	f := families[code]
	var out []connector.Delivery
	made := 0
	for i, segs := range patients(m) {
		d := connector.Delivery{Source: o.Source, ID: deliveryID(m, i), ContentType: "x-application/hl7-v2+er7", Raw: raw, Map: f.name + mapVersion, Partial: []string{"Patient", "Encounter", "Appointment"}}
		if i == 0 {
			d.Issues = append(d.Issues, m.Issues...)
			d.Issues = append(d.Issues, unread(m, f)...)
		}
		x := &mapper{m: m, o: &o, d: &d, event: event, seen: map[string]int{}}
		if issue := f.deal(x, segs); issue != nil {
			return nil, issue
		}
		d.Patient = x.patient
		out = append(out, d)
		if made += len(d.Content); made >= maxContent || len(out) > maxPatients {
			return nil, fhir.Errorf(fhir.TooCostly, "the message holds more than %d patients or %d entries: send it in parts", maxPatients, maxContent).At("PID")
		}
	}
	return out, nil
}

// deliveryID is MSH-3^MSH-4^MSH-10, as sent. A message without a control id is known by its content.
func deliveryID(m *Message, group int) string {
	h := m.Header()
	if h.Field(10).Text() == "" {
		return ""
	}
	id := h.Field(3).Raw() + "^" + h.Field(4).Raw() + "^" + h.Field(10).Raw()
	if group > 0 {
		id += "#" + string(rune('1'+min(group, 8))) + strings.Repeat("+", max(0, group-8))
	}
	return id
}

// patients divides a message at each PID. What stands before the first (SCH, EVN) and, in SIU, what follows the last patient (RGS …)
// belongs to each.
func patients(m *Message) iter.Seq2[int, []Segment] {
	segs := m.Segments()
	var starts []int
	tail := len(segs)
	for i, s := range segs {
		switch s.Name() {
		case "PID":
			starts = append(starts, i)
		case "RGS":
			if len(starts) > 0 {
				tail = min(tail, i)
			}
		}
	}
	return func(yield func(int, []Segment) bool) {
		if len(starts) <= 1 {
			yield(0, segs)
			return
		}
		for i, from := range starts {
			to := tail
			if i+1 < len(starts) {
				to = min(to, starts[i+1])
			}
			group := slices.Clone(segs[:starts[0]])
			if from < to {
				group = append(group, segs[from:to]...)
			}
			if !yield(i, append(group, segs[tail:]...)) {
				return
			}
		}
	}
}

// unread names the segments that are kept in the raw message only.
func unread(m *Message, f family) []*fhir.Issue {
	var names []string
	for _, s := range m.Segments() {
		if len(names) > 20 {
			names[20] = "…"
			break
		}
		if !strings.Contains(f.reads, " "+s.Name()+" ") && !slices.Contains(names, s.Name()) {
			names = append(names, s.Name())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []*fhir.Issue{{Type: fhir.Informational, Severity: fhir.Information, Expression: names[0],
		Text: "segments that no map reads, kept in the raw message: " + strings.Join(names, ", ")}}
}

// note tells of one element that could not be taken.
func (x *mapper) note(t fhir.IssueType, place, text string) {
	if len(x.d.Issues) < 200 {
		x.d.Issues = append(x.d.Issues, &fhir.Issue{Type: t, Severity: fhir.Warning, Text: text, Expression: place})
	}
}

// add makes a resource of the delivery. Empty fields are left out.
func (x *mapper) add(typ, id string, fields fhir.M) fhir.Ref {
	if len(x.d.Content) >= maxContent { // Map refuses the message
		return fhir.MakeRef(typ, id)
	}
	prune(fields)
	x.d.Content = append(x.d.Content, fhir.New(typ, id, fields))
	return fhir.MakeRef(typ, id)
}

// unique tells apart two things of one message that the sender gave the same names.
func (x *mapper) unique(parts ...string) string {
	first := id(parts...)
	made := first
	for n := max(2, x.seen[first]+1); x.seen[made] > 0; n++ {
		made = id(first + "." + strconv.Itoa(n))
		x.seen[first] = n
	}
	x.seen[made]++
	return made
}

func (x *mapper) subject() fhir.Reference {
	return fhir.Reference{Reference: "Patient/" + x.patient}
}

// organisation is the trust that runs the feed, by its ODS code.
func (x *mapper) organisation() any {
	if x.o.Organisation == "" {
		return nil
	}
	return fhir.Reference{Type: "Organization", Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: x.o.Organisation}}
}

// tagged is the meta that puts a resource under a heading which its type does not tell.
func tagged(h dataset.Heading) fhir.M { return fhir.M{"tag": []fhir.Coding{dataset.Tag(h)}} }

// prune takes out of a resource under construction what says nothing, since FHIR has no empty elements.
// FHIR R4 json.html: "Properties can never be empty"
func prune(m fhir.M) {
	for k, v := range m {
		if empty(v) {
			delete(m, k)
		}
	}
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case fhir.CodeableConcept:
		return v.IsZero()
	case []fhir.CodeableConcept:
		return len(v) == 0
	case fhir.M:
		prune(v)
		return len(v) == 0
	case []fhir.M:
		return len(v) == 0
	case []string:
		return len(v) == 0
	case []fhir.Identifier:
		return len(v) == 0
	case []fhir.Reference:
		return len(v) == 0
	case []fhir.HumanName:
		return len(v) == 0
	case []fhir.Address:
		return len(v) == 0
	case []fhir.ContactPoint:
		return len(v) == 0
	case []fhir.Annotation:
		return len(v) == 0
	case fhir.Period:
		return v == fhir.Period{}
	case fhir.Reference:
		return v.Reference == "" && v.Identifier == nil && v.Display == ""
	}
	return false
}

// first is the first segment of a name in a group.
func first(segs []Segment, name string) Segment {
	for _, s := range segs {
		if s.Name() == name {
			return s
		}
	}
	return Segment{}
}
