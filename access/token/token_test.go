package token_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access/token"
	"tombolo/access/token/tokentest"
	"tombolo/fhir"
)

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// one is a set of a single key.
func one(k jose.JSONWebKey) token.Keys {
	return fixed{Keys: []jose.JSONWebKey{k.Public()}}
}

func genuine(t testing.TB) (tokentest.Genuine, token.Rules) {
	key := tokentest.NewKey(t, "key-1")
	return tokentest.Genuine{Key: key, Type: "JWT", Now: now, Claims: map[string]any{"iss": "https://idp.example", "aud": "https://node.example", "sub": "dr-1", "jti": "1",
			"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "roles": []any{map[string]any{"code": "R8000"}}}},
		token.Rules{Issuer: "https://idp.example", Audience: []string{"https://node.example"}, Keys: one(key), Lifetime: 10 * time.Minute, ID: true, Now: now}
}

func TestForgedStatementsAreRefused(t *testing.T) {
	g, rules := genuine(t)
	c, err := token.Verify(t.Context(), g.Sign(t), rules)
	if err != nil || c.Subject != "dr-1" || c.Text("roles.0.code") != "R8000" {
		t.Fatalf("the genuine statement: %+v, %v", c, err)
	}
	shapes := tokentest.Forged(g)
	if len(shapes) < 60 {
		t.Fatalf("%d shapes", len(shapes))
	}
	seen := map[string]bool{}
	for _, s := range shapes {
		if seen[s.Name] {
			t.Errorf("two shapes are called %q", s.Name)
		}
		seen[s.Name] = true
		_, err := token.Verify(t.Context(), s.Raw, rules)
		if err == nil {
			t.Errorf("believed: %s", s.Name)
			continue
		}
		if strings.Contains(err.Error(), "dr-1") || strings.Contains(err.Error(), "attacker") {
			t.Errorf("%s: the reason tells what was sent: %v", s.Name, err)
		}
	}
	t.Logf("%d shapes refused", len(shapes))
}

// Each byte of a statement counts.
func TestAnEditedStatementIsRefused(t *testing.T) {
	g, rules := genuine(t)
	raw := g.Sign(t)
	for i := range raw {
		b := []byte(raw)
		if b[i] ^= 1; b[i] == '.' || raw[i] == '.' {
			continue
		}
		if _, err := token.Verify(t.Context(), string(b), rules); err == nil {
			t.Fatalf("believed with byte %d changed", i)
		}
	}
}

func TestClocksMayDifferByAMinute(t *testing.T) {
	g, rules := genuine(t)
	raw := g.Sign(t)
	for _, c := range []struct {
		at time.Duration
		ok bool
	}{{-59 * time.Second, true}, {-61 * time.Second, false}, {5*time.Minute + 59*time.Second, true}, {6 * time.Minute, false}} {
		rules.Now = now.Add(c.at)
		if _, err := token.Verify(t.Context(), raw, rules); (err == nil) != c.ok {
			t.Errorf("at %s: %v", c.at, err)
		}
	}
}

func keySet(keys ...jose.JSONWebKey) []byte {
	set := jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	return fhir.JSON(set)
}

func TestAnIssuersKeysAreReadAgainWhenTheyChange(t *testing.T) {
	a, b := tokentest.NewKey(t, "a"), tokentest.NewKey(t, "b")
	var asked atomic.Int32
	var served atomic.Value
	served.Store(keySet(a))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(served.Load().([]byte))
	}))
	defer srv.Close()
	at := now
	s := &token.Set{Place: srv.URL, Now: func() time.Time { return at }}
	has := func(id string) bool { _, err := s.Key(t.Context(), id); return err == nil }
	if !has("a") || has("b") {
		t.Fatal("the keys are not those that are served")
	}
	served.Store(keySet(a, b))
	for range 50 {
		has("made-up") // must not be a way to have us ask again and again
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times for keys that nobody has", asked.Load())
	}
	if at = at.Add(20 * time.Second); !has("b") {
		t.Error("a new key is not found")
	}
	served.Store(keySet(b))
	if at = at.Add(6 * time.Minute); has("a") {
		t.Error("a key that was taken away is still believed")
	}
	served.Store([]byte("<html>"))
	if at = at.Add(6 * time.Minute); !has("b") {
		t.Error("a fault of the issuer's takes known keys away")
	}
}

func TestKeysMayLieInAFile(t *testing.T) {
	a := tokentest.NewKey(t, "a")
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, keySet(a), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &token.Set{Place: path, Now: time.Now}
	if _, err := s.Key(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	gone := &token.Set{Place: path + ".gone", Now: time.Now}
	if _, err := gone.Key(t.Context(), "a"); err == nil {
		t.Error("a key out of nothing")
	}
}

type kept struct{ data []byte }

func (k *kept) Change(_ context.Context, change func([]byte) ([]byte, error)) error {
	out, err := change(k.data)
	if out != nil && err == nil {
		k.data = out
	}
	return err
}

// For three months: whoever read the keys no more than a day ago can check what is signed now, and what was signed a minute ago can still be checked.
func TestOwnKeysChangeWithoutAnybodyNoticing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		ring := &token.Ring{Kept: k, Now: time.Now}
		rules := func(at time.Time, keys token.Keys) token.Rules {
			return token.Rules{Issuer: "n", Audience: []string{"o"}, Keys: keys, Now: at}
		}
		seen := map[string]bool{}
		var yesterday jose.JSONWebKeySet
		for day := range 90 {
			raw, err := ring.Sign(t.Context(), "JWT", map[string]any{"iss": "n", "aud": "o", "sub": "s", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
			if err != nil {
				t.Fatal(err)
			}
			if day > 0 {
				if _, err := token.Verify(t.Context(), raw, rules(time.Now(), fixed{yesterday.Keys})); err != nil {
					t.Fatalf("day %d: with yesterday's keys: %v", day, err)
				}
			}
			if yesterday, err = ring.Public(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, key := range yesterday.Keys {
				if !key.IsPublic() {
					t.Fatal("a private key is shown")
				}
				seen[key.KeyID] = true
			}
			time.Sleep(24*time.Hour - time.Minute)
			again := &token.Ring{Kept: k, Now: time.Now} // another node, or this one after a restart
			raw, err = again.Sign(t.Context(), "JWT", map[string]any{"iss": "n", "aud": "o", "sub": "s", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if _, err := token.Verify(t.Context(), raw, rules(time.Now(), ring)); err != nil {
				t.Fatalf("day %d: what was signed a minute ago: %v", day, err)
			}
		}
		if len(seen) < 3 || len(seen) > 5 {
			t.Errorf("%d keys in 90 days", len(seen))
		}
	})
}

type fixed struct{ Keys []jose.JSONWebKey }

func (f fixed) Key(_ context.Context, id string) (jose.JSONWebKey, error) {
	for _, k := range f.Keys {
		if k.KeyID == id {
			return k, nil
		}
	}
	return jose.JSONWebKey{}, errors.New("no such key")
}

func FuzzVerify(f *testing.F) {
	g, rules := genuine(f)
	f.Add(g.Sign(f))
	for _, s := range tokentest.Forged(g) {
		if len(s.Raw) < 4000 {
			f.Add(s.Raw)
		}
	}
	good := g.Sign(f)
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := token.Verify(t.Context(), raw, rules); err == nil && raw != good {
			t.Fatalf("believed: %q", raw)
		}
		_, _ = token.Issuer(raw)
	})
}
