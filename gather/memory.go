package gather

import (
	"sync"
	"time"

	"tombolo/connector"
)

// memory keeps sources' answers in full for the seconds in which the same user is likely to ask the same again: a page, then a document in it.
// What may be shown of them is decided anew each time, so that an objection recorded meanwhile holds at once. It is bounded for all sources together,
// and nothing of it is written down.
type memory struct {
	mu    sync.Mutex
	kept  map[recalled]remembered
	bytes int64
}

type recalled struct {
	source string
	key    [32]byte
}

type remembered struct {
	ans   *connector.Answer
	until time.Time
	bytes int64
}

// mostRemembered bounds the answers that are kept in memory, in bytes of their content.
const mostRemembered = 64 << 20

func (m *memory) recall(source string, key [32]byte, while time.Duration) *connector.Answer {
	if while <= 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := recalled{source, key}
	r, ok := m.kept[k]
	if !ok {
		return nil
	}
	if !time.Now().Before(r.until) {
		m.drop(k)
		return nil
	}
	own := *r.ans
	return &own
}

func (m *memory) keep(source string, key [32]byte, ans *connector.Answer, while time.Duration) {
	if while <= 0 || ans == nil {
		return
	}
	bytes := sizeOf(ans)
	if bytes > mostRemembered/4 {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	k := recalled{source, key}
	m.drop(k)
	if m.bytes+bytes > mostRemembered {
		for old, r := range m.kept {
			if !now.Before(r.until) {
				m.drop(old)
			}
		}
	}
	if m.bytes+bytes > mostRemembered {
		return // the next question will ask the source, which is always right
	}
	m.kept[k] = remembered{ans, now.Add(while), bytes}
	m.bytes += bytes
}

// forget drops an answer that turned out not to be one.
func (m *memory) forget(source string, key [32]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(recalled{source, key})
}

func (m *memory) drop(k recalled) {
	if r, ok := m.kept[k]; ok {
		m.bytes -= r.bytes
		delete(m.kept, k)
	}
}

func sizeOf(a *connector.Answer) int64 {
	n := int64(1024)
	if a.Patient != nil {
		n += int64(len(a.Patient.Raw()))
	}
	for _, r := range a.Content {
		n += int64(len(r.Raw()))
	}
	return n
}
