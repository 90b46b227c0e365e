package store

import (
	"sync"

	"tombolo/fhir"
	"tombolo/kv"
)

// Places remember in which partition resources were found, so that a read across a network asks for the entry and the resource at once. What is
// remembered is a guess: the entry that comes with it says whether it still holds. nil remembers nothing.
type places struct {
	mu sync.Mutex
	at map[fhir.Ref]kv.Part
}

// mostPlaces bounds the memory of them, to about 5 MiB.
const mostPlaces = 32 << 10

func (p *places) guess(ref fhir.Ref) (kv.Part, bool) {
	if p == nil {
		return "", false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	part, ok := p.at[ref]
	return part, ok
}

func (p *places) learn(ref fhir.Ref, part kv.Part) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.at) >= mostPlaces {
		for old := range p.at { // any will do
			delete(p.at, old)
			break
		}
	}
	p.at[ref] = part
}
