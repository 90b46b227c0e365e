package hl7v2

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strconv"

	"tombolo/connector"
	"tombolo/fhir"
)

// An Attempt is one message, and what a feed makes of it: for those who write a dialect.
type Attempt struct {
	Message    *Message             // nil if it cannot be read
	Deliveries []connector.Delivery // at least one; Rejected says why nothing was made
	Unread     []Leaf               // what it says that no map takes, to the subcomponent: kept in the raw message only
	Replies    [][]byte             // what its sender would be told, once it is stored
}

// A Leaf is one value of a message and where it stands, "PID-5.1".
type Leaf struct{ Place, Text string }

// Try maps every message in data, and finds what was not read.
func Try(data []byte, o Options) iter.Seq[Attempt] {
	o = o.withDefaults()
	return func(yield func(Attempt) bool) {
		for raw := range Split(data) {
			if !yield(try(raw, o)) {
				return
			}
		}
	}
}

func try(raw []byte, o Options) Attempt {
	m, made := read(raw, o)
	var worst *fhir.Issue
	for _, d := range made {
		if d.Rejected != nil {
			worst = d.Rejected
		}
	}
	a := Attempt{Message: m, Deliveries: made}
	_, a.Replies = (&Feed{o: o}).replies(m, wishes(m), worst, o.Now(), faultsTaken(made)...)
	if m == nil || made[0].Rejected != nil {
		return a
	}
	again := *m
	again.told = new(told)
	seen, _, err := trace(&again, raw, o)
	if err != nil || seen.touched == nil { // kept, and nothing made of it
		return a
	}
	a.Unread = seen.unreadParts(o.Mapping.ignored)
	return a
}

// Leaves yields every value of a message with its place: segment, field, repetition, component and subcomponent as far as it is divided.
func (m *Message) Leaves() iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		for _, s := range m.Segments() {
			from := 1
			if s.isHeader() {
				from = 3
			}
			for n := from; n <= s.Fields(); n++ {
				if !leavesOf(s.Field(n), field, s.Place(n), yield) {
					return
				}
			}
		}
	}
}

func leavesOf(v Value, l level, place string, yield func(Leaf) bool) bool {
	if v.Null() {
		return yield(Leaf{place, `""`})
	}
	if l == subcomponent {
		if t := v.Words(); t != "" {
			return yield(Leaf{place, t})
		}
		return true
	}
	parts := slices.Collect(v.parts(l))
	for i, p := range parts {
		at := place
		if len(parts) > 1 {
			if l == field {
				at += "(" + strconv.Itoa(i+1) + ")"
			} else {
				at += "." + strconv.Itoa(i+1)
			}
		}
		if !leavesOf(p, l+1, at, yield) {
			return false
		}
	}
	return true
}

// golden is what a message gives, as a clinician or integrator can read it.
type golden struct {
	ID       string                `json:"id"`
	Patient  string                `json:"patient,omitempty"`
	Map      string                `json:"map,omitempty"`
	Rejected string                `json:"rejected,omitempty"`
	Issues   []string              `json:"issues,omitempty"`
	Delete   []fhir.Ref            `json:"delete,omitempty"`
	Renamed  map[fhir.Ref]fhir.Ref `json:"renamed,omitempty"`
	Cleared  map[fhir.Ref][]string `json:"cleared,omitempty"`
	Content  []json.RawMessage     `json:"content,omitempty"`
}

// Golden writes deliveries as JSON to be kept beside a message and compared with: a pair x.hl7, x.json.
func Golden(deliveries []connector.Delivery) []byte {
	out := []golden{}
	for _, d := range deliveries {
		g := golden{ID: d.ID, Patient: d.Patient, Map: d.Map, Delete: d.Delete, Renamed: d.Renamed, Cleared: d.Cleared}
		if d.Rejected != nil {
			g.Rejected = string(d.Rejected.Type) + " " + d.Rejected.Error()
		}
		for _, i := range d.Issues {
			g.Issues = append(g.Issues, string(i.Type)+" "+i.Error())
		}
		for _, r := range d.Content {
			g.Content = append(g.Content, r.Raw())
		}
		out = append(out, g)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil { // resources are JSON already
		panic("hl7v2: " + err.Error())
	}
	return b.Bytes()
}
