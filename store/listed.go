package store

import (
	"sync"

	"tombolo/kv"
)

// Listed are partitions of which it is known that the catalogue has them, so that a write need not ask: what is in it stays.
type listed struct {
	mu    sync.Mutex
	parts map[kv.Part]bool
}

// mostListed bounds the memory of them, to about 10 MiB.
const mostListed = 64 << 10

func (l *listed) has(p kv.Part) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts[p]
}

// learn is told of partitions when it is certain that they are listed: after the commit.
func (l *listed) learn(parts map[kv.Part]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parts == nil || len(l.parts)+len(parts) > mostListed {
		l.parts = make(map[kv.Part]bool, len(parts))
	}
	for p := range parts {
		l.parts[p] = true
	}
}
