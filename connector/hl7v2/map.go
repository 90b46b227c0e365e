package hl7v2

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

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
const mapVersion = "/4"

// partialTypes are the resources of which a message says only what it says: an empty field is unchanged. HL7 v2.4 §2.10. Results are not among
// them: each states the whole.
var partialTypes = strings.Fields("Patient Encounter Appointment DocumentReference ServiceRequest MedicationRequest MedicationDispense MedicationAdministration Immunization Condition AllergyIntolerance Account")

// structure is the Go that deals with a family of messages: which segments belong together, what a thing's id is, how far it has come.
// Which field fills which element is data, under maps/.
func structure(name string) func(*mapper, []Segment) *fhir.Issue {
	switch name {
	case "adt":
		return (*mapper).adt
	case "results":
		return (*mapper).results
	case "documents":
		return (*mapper).documents
	case "appointments":
		return (*mapper).appointments
	case "orders":
		return (*mapper).orders
	case "referrals":
		return (*mapper).referrals
	case "vaccinations":
		return (*mapper).vaccinations
	case "problems":
		return (*mapper).problems
	case "kept":
		return (*mapper).kept
	}
	return nil
}

// A mapper makes one delivery: one patient's part of one message.
type mapper struct {
	m       *Message
	o       *Options
	mp      *Mapping
	d       *connector.Delivery
	code    string
	event   string
	h       *happening
	segs    []Segment      // this patient's part
	patient string         // the patient's id; every resource refers to it
	mrn     string         // the assigning authority of that id
	seen    map[string]int // ids made in this message, so that two things never share one
	later   []pending      // results that others may yet be found to belong to
}

// happens is what a message tells of: its family, and its event as the feed's dialect has it.
func (m *Mapping) happens(msg *Message) (*family, string, *happening, *fhir.Issue) {
	code, event, _ := msg.Type()
	f, ok := m.families[code]
	if !ok {
		return nil, "", nil, fhir.Errorf(fhir.NotSupported, "no map takes messages of this type: it was kept as it came").At("MSH-9")
	}
	if event == "" {
		event = f.oldEvent
	}
	if a := m.aliases[code+"^"+event]; a != "" {
		event = a
	}
	h, ok := f.events[event]
	if !ok {
		return nil, "", nil, fhir.Errorf(fhir.NotSupported, "no map takes this event: it was kept as it came").At("MSH-9.2")
	}
	return f, event, h, nil
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
	_, _, _, issue := o.Mapping.happens(m)
	return issue
}

var versions = strings.Fields("2 2.0 2.1 2.2 2.3 2.3.1 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2")

// Map makes deliveries of a message, one for each patient in it: nearly always one. It is pure; Received and Reply are left to the caller. raw
// is what arrived, to be kept. The error is a *fhir.Issue: of type NotSupported where Refuse says so, else a fault in the content.
func Map(m *Message, raw []byte, o Options) ([]connector.Delivery, error) {
	_, out, err := trace(m, raw, o.withDefaults())
	return out, err
}

// trace maps a message, and gives the message as the map saw it, which knows what was read of it.
func trace(m *Message, raw []byte, o Options) (*Message, []connector.Delivery, error) {
	if issue := Refuse(m, o); issue != nil {
		return m, nil, issue
	}
	f, event, h, _ := o.Mapping.happens(m)
	was := m.told
	m = m.rearranged(o.Mapping).traced()
	m.told = was
	for _, mv := range o.Mapping.moves { // what was moved has been read where it was
		for _, s := range m.segs {
			if s.name == mv.segment {
				mv.value(&scope{x: &mapper{segs: m.segs}, own: s}).Words()
			}
		}
	}
	name := f.name + mapVersion
	if o.Mapping.Name != "" {
		name += "+" + o.Mapping.Name
	}
	var out []connector.Delivery
	made := 0
	for i, segs := range patients(m) {
		d := connector.Delivery{Source: o.Source, ID: deliveryID(m, i), Unique: true, ContentType: MediaType, Raw: raw, Map: name, Partial: partialTypes}
		if i == 0 {
			d.Issues = append(d.Issues, m.Issues...)
		}
		x := &mapper{m: m, o: &o, mp: o.Mapping, d: &d, code: f.code, event: event, h: h, segs: segs, seen: map[string]int{}}
		if issue := structure(f.make)(x, segs); issue != nil {
			return m, nil, issue
		}
		x.localSegments(segs)
		d.Patient, d.Order = x.patient, x.order()
		d.Units, d.NamesUnits = x.units(), true
		out = append(out, d)
		if made += len(d.Content); made >= maxContent || len(out) > maxPatients {
			return m, nil, fhir.Errorf(fhir.TooCostly, "the message holds more than %d patients or %d entries: send it in parts", maxPatients, maxContent).At("PID")
		}
	}
	if issue := unread(m, o.Mapping); issue != nil && len(out) > 0 {
		out[0].Issues = append(out[0].Issues, issue)
	}
	return m, out, nil
}

// order is when the event happened as its sender recorded it, in UTC, then which of events of one moment is the later, then the control id.
func (x *mapper) order() string {
	var when time.Time
	take := func(v Value) bool {
		t, precision, ok := parseTS(peek(v, 1), x.o.Location)
		if ok && precision >= 8 && t.After(when) {
			when = t
		}
		return ok && precision >= 8
	}
	if !take(first(x.segs, "EVN").Field(2)) {
		for _, s := range x.segs { // results say when they were reported or changed
			if s.name == "OBR" {
				take(s.Field(22))
			}
		}
		if when.IsZero() && !take(x.m.Header().Field(7)) {
			return ""
		}
	}
	_, _, control := x.m.Type()
	if len(control) < 20 { // so that 9 comes before 10
		control = strings.Repeat("0", 20-len(control)) + control
	}
	return when.UTC().Format("20060102150405.000") + "." + strconv.Itoa(x.h.turn) + "." + control[:min(len(control), 40)]
}

// rearranged is the message with the fields that the feed puts elsewhere where the standard has them.
func (m *Message) rearranged(mp *Mapping) *Message {
	if len(mp.moves) == 0 {
		return m
	}
	sep := char(m.Delims.Field)
	lines := make([][]string, len(m.segs))
	for i, s := range m.segs {
		lines[i] = strings.Split(m.text[s.start:s.end], sep)
	}
	for _, mv := range mp.moves {
		there := false
		for i, s := range m.segs {
			if s.name != mv.segment {
				continue
			}
			there = true
			lines[i] = moved(lines[i], mv, &scope{x: &mapper{segs: m.segs}, own: s})
		}
		if !there {
			if line := moved([]string{mv.segment}, mv, &scope{x: &mapper{segs: m.segs}}); len(line) > 1 {
				lines = append(lines, line)
			}
		}
	}
	text := make([]string, len(lines))
	for i, l := range lines {
		text[i] = strings.Join(l, sep)
	}
	c := &Message{Delims: m.Delims, Charset: m.Charset, Issues: m.Issues, text: strings.Join(text, "\r")}
	if c.split() != nil { // it was split before
		return m
	}
	return c
}

func moved(line []string, mv move, sc *scope) []string {
	v := mv.value(sc)
	if v.raw == "" {
		return line
	}
	for len(line) <= mv.field {
		line = append(line, "")
	}
	line[mv.field] = v.raw
	return line
}

// value is what stands where the feed puts it, if anything does.
func (mv move) value(sc *scope) Value {
	for _, t := range mv.from.alts {
		if t.cond != nil && !t.cond.holds(sc) {
			continue
		}
		if v, _ := t.value(sc); v.raw != "" {
			return v
		}
	}
	return Value{}
}

// localSegments makes the resources that the feed's own segments are said to make.
func (x *mapper) localSegments(segs []Segment) {
	if len(x.mp.makers) == 0 {
		return
	}
	for _, s := range segs {
		for _, b := range x.mp.makers[s.name] {
			sc := &scope{x: x, own: s, segs: segs}
			name, _ := b.id.eval(sc).(string)
			f := fhir.M{}
			x.fillFrom(b, f, sc)
			if name == "" || len(f) == 0 {
				x.note(fhir.Required, s.Place(0), "the segment does not say what it is about, or has no name for it, so nothing was made of it")
				continue
			}
			subject := "subject"
			switch b.resource {
			case "AllergyIntolerance", "Immunization", "RelatedPerson", "Consent", "Device", "NutritionOrder":
				subject = "patient"
			case "Task":
				subject = "for"
			}
			f[subject] = x.subject()
			x.addFrom(sc, b.resource, x.unique(s.name, name), f)
		}
	}
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

// envelope are segments that are about the message.
var envelope = map[string]bool{"MSH": true, "SFT": true, "UAC": true, "EVN": true, "DSC": true, "RGS": true, "MSA": true}

// unread names the segments of which no map read anything: they are kept in the raw message only.
func unread(m *Message, mp *Mapping) *fhir.Issue {
	var names []string
	for _, s := range m.Segments() {
		if envelope[s.name] || mp.ignored[s.name] || s.Fields() == 0 || slices.Contains(names, s.name) || s.read(0) {
			continue
		}
		if len(names) == 20 {
			names = append(names, "…")
			break
		}
		names = append(names, s.name)
	}
	if len(names) == 0 {
		return nil
	}
	return &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Expression: names[0],
		Text: "segments that no map reads, kept in the raw message: " + strings.Join(names, ", ")}
}

// note tells of one element that could not be taken.
func (x *mapper) note(t fhir.IssueType, place, text string) {
	for _, i := range x.d.Issues {
		if i.Expression == place && i.Type == t && i.Text == text {
			return
		}
	}
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

// addFrom is add, with what the scope found to be cleared or only assumed.
func (x *mapper) addFrom(sc *scope, typ, id string, fields fhir.M) fhir.Ref {
	ref := x.add(typ, id, fields)
	if len(sc.cleared) > 0 {
		if x.d.Cleared == nil {
			x.d.Cleared = map[fhir.Ref][]string{}
		}
		for _, path := range sc.cleared {
			if top, part, _ := strings.Cut(path, "."); empty(fields[top]) || part != "" && partEmpty(fields[top], part) {
				x.d.Cleared[ref] = append(x.d.Cleared[ref], path)
			}
		}
	}
	if len(sc.assumed) > 0 {
		if x.d.Assumed == nil {
			x.d.Assumed = map[fhir.Ref][]string{}
		}
		x.d.Assumed[ref] = sc.assumed
	}
	return ref
}

func partEmpty(v any, part string) bool {
	m, ok := v.(fhir.M)
	return ok && empty(m[part])
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
	case []any:
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
