package state_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/access/state"
	"tombolo/access/token"
	"tombolo/kv/enginetest"
	"tombolo/store"
)

var _ token.Kept = state.RingState{}

func db(t *testing.T, dir string) *store.DB {
	t.Helper()
	d, err := store.Open(store.Options{Engine: enginetest.Open(t, filepath.Join(dir, "store"))})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestOnPostgreSQL(t *testing.T) { enginetest.OnPostgreSQL(t) }

func each(t *testing.T, test func(t *testing.T, s *state.State, c *clock)) {
	start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	t.Run("in the store", func(t *testing.T) {
		c, d := &clock{at: start}, db(t, t.TempDir())
		defer d.Close()
		test(t, state.New(d, c.now), c)
	})
	t.Run("in memory", func(t *testing.T) {
		c := &clock{at: start}
		test(t, state.New(nil, c.now), c)
	})
}

func TestWhatIsTakenOnceIsTakenByOne(t *testing.T) {
	each(t, func(t *testing.T, s *state.State, c *clock) {
		if err := s.Put(t.Context(), state.Code, "abc", "value", c.now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		took, first := 0, 0
		for range 50 {
			wg.Go(func() {
				var v string
				ok, err := s.Take(t.Context(), state.Code, "abc", &v)
				once, err2 := s.Once(t.Context(), "jti", c.now().Add(time.Minute))
				mu.Lock()
				defer mu.Unlock()
				if err != nil || err2 != nil {
					t.Error(err, err2)
				}
				if ok && v == "value" {
					took++
				}
				if once {
					first++
				}
			})
		}
		wg.Wait()
		if took != 1 || first != 1 {
			t.Errorf("taken %d times, first %d times; want once", took, first)
		}
	})
}

func TestWhatHasExpiredIsNotThereAndIsSweptAway(t *testing.T) {
	each(t, func(t *testing.T, s *state.State, c *clock) {
		_ = s.Put(t.Context(), state.Access, "a", 1, c.now().Add(time.Minute))
		_ = s.Put(t.Context(), state.Access, "b", 2, c.now().Add(time.Hour))
		_, _ = s.Once(t.Context(), "j", c.now().Add(time.Minute))
		c.add(2 * time.Minute)
		if ok, err := s.Get(t.Context(), state.Access, "a", nil); ok || err != nil {
			t.Error("it is still there", err)
		}
		if ok, _ := s.Take(t.Context(), state.Access, "a", nil); ok {
			t.Error("it can still be taken")
		}
		if first, _ := s.Once(t.Context(), "j", c.now().Add(time.Minute)); !first {
			t.Error("an id that nobody can use any more is still remembered")
		}
		_ = s.Put(t.Context(), state.Access, "c", 3, c.now().Add(time.Second))
		c.add(time.Minute + time.Second)
		if n, err := s.Sweep(t.Context()); n != 2 || err != nil {
			t.Errorf("swept %d, %v; want 2", n, err)
		}
		n := 0
		if ok, _ := s.Get(t.Context(), state.Access, "b", &n); !ok || n != 2 {
			t.Error("what holds was swept away")
		}
	})
}

func TestWhatIsRememberedOutlivesARestartAndIsNoSecret(t *testing.T) {
	dir, now := t.TempDir(), time.Now
	d := db(t, dir)
	s := state.New(d, now)
	if err := s.Put(t.Context(), state.Session, "the-secret", 7, now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	ring := &token.Ring{Kept: s.Keys(), Now: now}
	before, err := ring.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for item := range d.View("access").Scan(t.Context(), "") {
		if strings.Contains(item.Key+string(item.Value), "the-secret") {
			t.Error("the secret itself is kept")
		}
	}
	_ = d.Close()
	d = db(t, dir)
	defer d.Close()
	s = state.New(d, now)
	n := 0
	if ok, err := s.Get(t.Context(), state.Session, "the-secret", &n); !ok || n != 7 || err != nil {
		t.Errorf("after a restart: %d, %v, %v", n, ok, err)
	}
	after, err := (&token.Ring{Kept: s.Keys(), Now: now}).Public(t.Context())
	if err != nil || len(after.Keys) == 0 || after.Keys[0].KeyID != before.Keys[0].KeyID {
		t.Error("the signing keys were lost", err)
	}
}

func TestAChangeIsWhole(t *testing.T) {
	each(t, func(t *testing.T, s *state.State, c *clock) {
		until := c.now().Add(time.Minute)
		_ = s.Put(t.Context(), state.Session, "k", 0, until)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				var n int
				if ok, err := s.Change(t.Context(), state.Session, "k", &n, func() (time.Time, error) { n++; return until, nil }); !ok || err != nil {
					t.Error(ok, err)
				}
			})
		}
		wg.Wait()
		n := 0
		if _, _ = s.Get(t.Context(), state.Session, "k", &n); n != 20 {
			t.Errorf("20 changes made %d", n)
		}
	})
}
