package locator

import (
	"context"
	"encoding/json"
	"time"

	"tombolo/dataset"
)

// A Holding is what one source has sent, of all its patients together.
type Holding struct {
	Patients int
	Last     time.Time // when it last sent anything
	Headings map[dataset.Heading]HeldUnder
	Sample   []string // some of its patients, by this server's ids
}

// HeldUnder is what there is under one heading.
type HeldUnder struct {
	Patients, Entries int
	Last              time.Time
}

// Held counts what each source has sent, over all pointers, and names so many of its patients for who wants to look closer. Ids are hashes, so the first are as
// good as any.
func (l *Locator) Held(ctx context.Context, sample int) (map[string]*Holding, error) {
	out := map[string]*Holding{}
	for item, err := range l.db.View(Bucket).Scan(ctx, "") {
		if err != nil {
			return nil, err
		}
		var p Pointers
		if json.Unmarshal(item.Value, &p) != nil || p.Source == "" {
			continue // a mark of the room's own, or damaged: verify tells of that
		}
		h := out[p.Source]
		if h == nil {
			h = &Holding{Headings: map[dataset.Heading]HeldUnder{}}
			out[p.Source] = h
		}
		h.Patients++
		if p.Last.After(h.Last) {
			h.Last = p.Last
		}
		if len(h.Sample) < sample {
			h.Sample = append(h.Sample, item.Key)
		}
		for heading, x := range p.Headings {
			u := h.Headings[heading]
			u.Patients++
			u.Entries += x.Count
			if x.Last.After(u.Last) {
				u.Last = x.Last
			}
			h.Headings[heading] = u
		}
	}
	return out, nil
}
