package locator

import (
	"container/list"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// mostRemembered is about how many people the answers of one locator are remembered.
const mostRemembered = 10_000

// A Cache asks a locator once about a person, and believes the answer for a while: records are opened more often than pointers change. Only answers in full are
// remembered, and that it knows nobody is one of them; a failure is nobody's answer. Several who ask at once wait for one question. It implements
// connector.Asker and may be used from many goroutines.
type Cache struct {
	asker connector.Asker
	ttl   time.Duration
	now   func() time.Time
	each  bool // what it tells depends on who asks

	mu     sync.Mutex
	kept   map[[32]byte]*list.Element // of *remembered
	recent *list.List
}

var _ connector.Asker = (*Cache)(nil)

type remembered struct {
	key   [32]byte
	until time.Time
	done  chan struct{} // closed once it is answered
	a     *connector.Answer
	err   error
	stays bool
}

// NewCache makes a Cache of an asker. now may be nil.
func NewCache(asker connector.Asker, ttl time.Duration, now func() time.Time) *Cache {
	if now == nil {
		now = time.Now
	}
	return &Cache{asker: asker, ttl: ttl, now: now, kept: map[[32]byte]*list.Element{}, recent: list.New()}
}

// ForEach has the answer of one user believed for those alone who ask as they do: by an organisation, in a role, for a purpose.
func (c *Cache) ForEach() *Cache {
	c.each = true
	return c
}

func (c *Cache) key(q connector.Question) [32]byte {
	key := keyOf(q)
	if r := q.Requester; c.each {
		key = sha256.Sum256(append(key[:], r.OrganisationODS+"\x00"+r.Role+"\x00"+r.Purpose...))
	}
	return key
}

// Asked is the asker behind what is remembered.
func (c *Cache) Asked() connector.Asker { return c.asker }

// keyOf is the person in a question, hashed: numbers do not lie about in memory, nor in a dump of it.
func keyOf(q connector.Question) [32]byte {
	h := sha256.New()
	for _, id := range q.Identifiers {
		h.Write([]byte(id.System + "|" + id.Value + "\x00"))
	}
	for _, w := range q.Wanted {
		h.Write([]byte(w + "\x00"))
	}
	if q.About != nil {
		h.Write(q.About.Raw())
	}
	return [32]byte(h.Sum(nil))
}

// Ask implements connector.Asker. Whoever waits for a question that somebody else has asked waits no longer than their own deadline.
func (c *Cache) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	key := c.key(q)
	for {
		m, mine := c.turn(key)
		if mine {
			return c.ask(ctx, q, m)
		}
		select {
		case <-m.done:
		case <-ctx.Done():
			return nil, fhir.Errorf(fhir.Timeout, "it did not answer in time")
		}
		if m.stays {
			return answer(m.a), m.err
		} // whoever asked has failed, maybe by their own deadline: ask again
	}
}

// Retrieve implements connector.Retriever, where what is asked does.
func (c *Cache) Retrieve(ctx context.Context, by connector.Requester, pointer *fhir.Resource) (connector.Retrieved, error) {
	r, ok := c.asker.(connector.Retriever)
	if !ok {
		return connector.Retrieved{}, fhir.Errorf(fhir.NotSupported, "this is held elsewhere, and is not fetched from here: ask whoever holds the record")
	}
	return r.Retrieve(ctx, by, pointer)
}

func (c *Cache) ask(ctx context.Context, q connector.Question, m *remembered) (a *connector.Answer, err error) {
	err = fhir.Errorf(fhir.Exception, "the locator's connector failed") // what the others are told if it panics
	defer func() { c.finish(m, a, err) }()
	a, err = c.asker.Ask(ctx, q)
	return answer(a), err
}

// turn finds what is remembered, or gives the caller the turn to ask.
func (c *Cache) turn(key [32]byte) (m *remembered, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.kept[key]; ok {
		m := e.Value.(*remembered)
		select {
		case <-m.done:
			if c.now().Before(m.until) {
				c.recent.MoveToFront(e)
				return m, false
			}
			c.drop(e)
		default:
			return m, false
		}
	}
	m = &remembered{key: key, done: make(chan struct{})}
	c.kept[key] = c.recent.PushFront(m)
	for c.recent.Len() > mostRemembered {
		c.drop(c.recent.Back())
	}
	return m, true
}

func (c *Cache) drop(e *list.Element) {
	c.recent.Remove(e)
	if m := e.Value.(*remembered); c.kept[m.key] == e {
		delete(c.kept, m.key)
	}
}

func (c *Cache) finish(m *remembered, a *connector.Answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.a, m.err = a, err
	m.stays = err == nil || fhir.Is(err, fhir.NotFound)
	m.until = c.now().Add(c.ttl)
	if e, ok := c.kept[m.key]; ok && e.Value == m && !m.stays {
		c.drop(e)
	}
	close(m.done)
}

// Forget drops what is remembered of the person whom these identifiers ask for, so that the next question goes out.
func (c *Cache) Forget(identifiers ...fhir.Identifier) {
	key := keyOf(connector.Question{Identifiers: identifiers})
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.kept[key]; ok {
		c.drop(e)
	}
}

// answer is a copy that its reader may change.
func answer(a *connector.Answer) *connector.Answer {
	if a == nil {
		return nil
	}
	b := *a
	b.Content, b.Issues = slices.Clone(a.Content), slices.Clone(a.Issues)
	return &b
}
