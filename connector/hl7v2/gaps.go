package hl7v2

import "strings"

// Gaps count what of a feed's messages is kept and not mapped, without saying anything of what the fields hold.
type Gaps struct {
	Messages int
	Fields   map[string]int // "ZU1-2 in ADT^A01": fields of which no map takes anything
	Parts    map[string]int // "PID-13(2…) in ADT^A01", "PID-5.7 in ADT^A01": repetitions and components that no map takes, of fields of which one takes others
	Refused  map[string]int // by message type and reason
	Notes    map[string]int // what was told of messages that were taken
}

// NewGaps has counted nothing.
func NewGaps() *Gaps {
	return &Gaps{Fields: map[string]int{}, Parts: map[string]int{}, Refused: map[string]int{}, Notes: map[string]int{}}
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
		counted := map[string]bool{} // a message counts once, however many lines of it have the gap
		for _, l := range a.Unread {
			place, part := gapOf(l.Place)
			what := place + " in " + kind
			switch {
			case counted[what]:
			case part:
				g.Parts[what]++
			default:
				g.Fields[what]++
			}
			counted[what] = true
		}
	}
}

// gapOf is the gap that a place is one of: "OBX[3]-5" is OBX-5, "PID-13(4)" is "PID-13(2…)", and "PID-3(2).7" is PID-3.7. part: of the field something is read.
func gapOf(place string) (gap string, part bool) {
	place = unnumbered(place)
	name, rest, repeats := strings.Cut(place, "(")
	if !repeats {
		return place, strings.Contains(place, ".")
	}
	n, inside, _ := strings.Cut(rest, ")")
	switch {
	case inside != "":
		return name + inside, true
	case n == "1":
		return place, true
	}
	return name + "(2…)", true
}

// unnumbered is a place without which of several segments it is: "OBX[3]-5" is OBX-5.
func unnumbered(s string) string {
	if i, j := strings.IndexByte(s, '['), strings.IndexByte(s, ']'); i == 3 && j > i {
		return s[:i] + s[j+1:]
	}
	return s
}
