package hl7v2

import "strings"

// Gaps count what of a feed's messages is kept and not mapped, without saying anything of what the fields hold.
type Gaps struct {
	Messages int
	Fields   map[string]int // "ZU1-2 in ADT^A01": fields that no map reads
	Refused  map[string]int // by message type and reason
	Notes    map[string]int // what was told of messages that were taken
}

// NewGaps has counted nothing.
func NewGaps() *Gaps {
	return &Gaps{Fields: map[string]int{}, Refused: map[string]int{}, Notes: map[string]int{}}
}

// Add counts the messages in what a feed sent.
func (g *Gaps) Add(raw []byte, o Options) {
	for a := range Try(raw, o) {
		g.Messages++
		kind := "?"
		if a.Message != nil {
			code, event, _ := a.Message.Type()
			kind = code + "^" + event
		}
		for _, d := range a.Deliveries {
			if d.Rejected != nil {
				g.Refused[kind+" "+d.Rejected.Error()]++
			}
			for _, i := range d.Issues {
				g.Notes[unnumbered(i.Error())]++
			}
		}
		for _, l := range a.Unread {
			g.Fields[unnumbered(l.Place)+" in "+kind]++
		}
	}
}

// unnumbered is a place without which of several segments it is: "OBX[3]-5" is OBX-5.
func unnumbered(s string) string {
	if i, j := strings.IndexByte(s, '['), strings.IndexByte(s, ']'); i == 3 && j > i {
		return s[:i] + s[j+1:]
	}
	return s
}
