// Package state keeps what getting in must remember for a while: browser sessions, codes, tokens, launches, what was used once. It lies in
// the store, so it outlives a restart and is the same for all nodes of one store. What is found by a secret is kept under the secret's
// SHA-256, so that whoever reads the store can use none of it.
package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"tombolo/store"
)

const bucket = "access"

// A Kind of thing that is remembered; it begins the key. docs/storage.md lists them.
type Kind string

// The kinds.
const (
	Session Kind = "session" // a browser session, by its cookie
	Request Kind = "request" // an application's request for authorisation, until the user has answered it
	Code    Kind = "code"    // an authorisation code
	Access  Kind = "token"   // an access token
	Refresh Kind = "refresh" // a refresh token
	Family  Kind = "family"  // the tokens that came of one authorisation: here if they were revoked
	Leave   Kind = "leave"   // the applications that a user has let in, by the user
	Launch  Kind = "launch"  // a launch of an application from here, until it is used
	SignIn  Kind = "sign-in" // somebody who is at an identity provider to sign in
	Used    Kind = "used"    // what may be used once only: ids of assertions and launches
	Ring    Kind = "ring"    // this node's signing keys
)

// A State remembers. It may be used from many goroutines, and the store by many nodes.
type State struct {
	db  *store.DB
	now func() time.Time

	mu  sync.Mutex
	mem map[string][]byte // instead of db
}

// New makes a State over a store; without one what is remembered is forgotten when the program ends.
func New(db *store.DB, now func() time.Time) *State {
	return &State{db: db, now: now, mem: map[string][]byte{}}
}

type kept struct {
	Expires time.Time       `json:"expires,omitzero"`
	Value   json.RawMessage `json:"value"`
}

func key(k Kind, secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return string(k) + "/" + hex.EncodeToString(sum[:])
}

// a change reads a key and writes it anew: nil deletes it.
type change func(was []byte, ok bool) (next []byte, write bool, err error)

func (s *State) update(ctx context.Context, at string, fn change) error {
	if s.db == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		was, ok := s.mem[at]
		next, write, err := fn(was, ok)
		switch {
		case err != nil || !write:
		case next == nil:
			delete(s.mem, at)
		default:
			s.mem[at] = next
		}
		return err
	}
	_, err := s.db.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		was, ok, err := b.Get(ctx, at)
		if err != nil {
			return err
		}
		next, write, err := fn(was, ok)
		switch {
		case err != nil || !write:
		case next == nil:
			b.Delete(at)
		default:
			b.Put(at, next)
		}
		return err
	})
	return err
}

// read takes a value out of what is kept; ok is false for what has expired.
func (s *State) read(data []byte, into any) (ok bool, err error) {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return false, fmt.Errorf("what is remembered cannot be read: %w", err)
	}
	if !k.Expires.IsZero() && !s.now().Before(k.Expires) {
		return false, nil
	}
	if into == nil {
		return true, nil
	}
	return true, json.Unmarshal(k.Value, into)
}

func write(value any, expires time.Time) ([]byte, error) {
	v, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(kept{expires, v})
}

// Get reads what is remembered under a secret; ok is false if nothing is, or it has expired.
func (s *State) Get(ctx context.Context, k Kind, secret string, into any) (ok bool, err error) {
	at := key(k, secret)
	var data []byte
	if s.db == nil {
		s.mu.Lock()
		data, ok = s.mem[at]
		s.mu.Unlock()
	} else {
		data, ok, err = s.db.View(bucket).Get(ctx, at)
	}
	if err != nil || !ok {
		return false, err
	}
	return s.read(data, into)
}

// Put remembers a value until expires.
func (s *State) Put(ctx context.Context, k Kind, secret string, value any, expires time.Time) error {
	data, err := write(value, expires)
	if err != nil {
		return err
	}
	return s.update(ctx, key(k, secret), func([]byte, bool) ([]byte, bool, error) { return data, true, nil })
}

// Take is Get and Delete at once: of many who take the same, one gets it.
func (s *State) Take(ctx context.Context, k Kind, secret string, into any) (ok bool, err error) {
	err = s.update(ctx, key(k, secret), func(was []byte, here bool) ([]byte, bool, error) {
		if ok = false; !here {
			return nil, false, nil
		}
		ok, err = s.read(was, into)
		return nil, true, err
	})
	return ok && err == nil, err
}

// Once reports whether an id is used for the first time, and remembers it until expires.
func (s *State) Once(ctx context.Context, id string, expires time.Time) (first bool, err error) {
	data, err := write(struct{}{}, expires)
	if err != nil {
		return false, err
	}
	err = s.update(ctx, key(Used, id), func(was []byte, here bool) ([]byte, bool, error) {
		if here {
			if still, err := s.read(was, nil); still || err != nil {
				first = false
				return nil, false, err
			}
		}
		first = true
		return data, true, nil
	})
	return first && err == nil, err
}

// Change reads a value into into and writes it again as change leaves it, at once. Nothing happens if there is none; ok says whether there was.
func (s *State) Change(ctx context.Context, k Kind, secret string, into any, change func() (expires time.Time, err error)) (ok bool, err error) {
	return s.alter(ctx, key(k, secret), into, false, change)
}

// Keep is Change where there need be none yet: into is then as it was given.
func (s *State) Keep(ctx context.Context, k Kind, secret string, into any, change func() (expires time.Time, err error)) error {
	_, err := s.alter(ctx, key(k, secret), into, true, change)
	return err
}

func (s *State) alter(ctx context.Context, at string, into any, anew bool, change func() (expires time.Time, err error)) (ok bool, err error) {
	err = s.update(ctx, at, func(was []byte, here bool) ([]byte, bool, error) {
		if ok = false; !here && !anew {
			return nil, false, nil
		}
		if here {
			if ok, err = s.read(was, into); !ok && !anew || err != nil {
				return nil, false, err
			}
		}
		expires, err := change()
		if err != nil {
			return nil, false, err
		}
		next, err := write(into, expires)
		return next, true, err
	})
	return ok && err == nil, err
}

// Delete forgets.
func (s *State) Delete(ctx context.Context, k Kind, secret string) error {
	return s.update(ctx, key(k, secret), func([]byte, bool) ([]byte, bool, error) { return nil, true, nil })
}

// Sweep forgets what has expired, and says how much that was.
func (s *State) Sweep(ctx context.Context) (int, error) {
	var old []string
	if s.db == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for at, data := range s.mem {
			if ok, err := s.read(data, nil); err == nil && !ok {
				delete(s.mem, at)
				old = append(old, at)
			}
		}
		return len(old), nil
	}
	for item, err := range s.db.View(bucket).Scan(ctx, "") {
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(item.Key, string(Ring)) {
			continue
		}
		if ok, err := s.read(item.Value, nil); err == nil && !ok {
			old = append(old, item.Key)
		}
	}
	for n := 0; n < len(old); n += 200 {
		part := old[n:min(n+200, len(old))]
		if _, err := s.db.Update(ctx, func(tx store.Tx) error {
			for _, at := range part {
				tx.Bucket(bucket).Delete(at)
			}
			return nil
		}); err != nil {
			return n, err
		}
	}
	return len(old), nil
}

// Keys is where this node's signing keys are kept (token.Kept).
func (s *State) Keys() RingState { return RingState{s} }

// A RingState is the place of the signing keys.
type RingState struct{ s *State }

// Change is as token.Kept wants it.
func (r RingState) Change(ctx context.Context, change func(was []byte) ([]byte, error)) error {
	return r.s.update(ctx, string(Ring), func(was []byte, ok bool) ([]byte, bool, error) {
		if !ok {
			was = nil
		}
		next, err := change(was)
		return next, next != nil, err
	})
}
