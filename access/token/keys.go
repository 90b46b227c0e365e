package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// leastRSA is the shortest RSA key that is believed, in bits. NIST SP 800-131A
const leastRSA = 2048

func kindOf(key jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(alg), "RS") && k.N.BitLen() >= leastRSA || strings.HasPrefix(string(alg), "PS") && k.N.BitLen() >= leastRSA
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256() || alg == jose.ES384 && k.Curve == elliptic.P384() || alg == jose.ES512 && k.Curve == elliptic.P521()
	}
	return false
}

// How long keys read from elsewhere are kept, and how soon they may be asked for again when an id is not among them.
const (
	keepKeys  = 5 * time.Minute
	askAgain  = 15 * time.Second
	largest   = 256 << 10
	mostOfAll = 100 // keys in one set
)

// A Set is an issuer's keys, at the place that the region file gives: an https address, or the path of a file. It may be used from
// many goroutines.
type Set struct {
	Place string
	HTTP  *http.Client
	Now   func() time.Time

	mu   sync.Mutex
	keys []jose.JSONWebKey
	read time.Time
}

var _ Keys = (*Set)(nil)

// Key finds a key by its id. One that is not there has the set read again, though not more often than every few seconds: an issuer
// changes its keys when it likes, and a sender of made-up ids must not have us ask the issuer each time.
func (s *Set) Key(ctx context.Context, id string) (jose.JSONWebKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	key, ok := s.find(id)
	age := now.Sub(s.read)
	if s.read.IsZero() || age > keepKeys || !ok && age > askAgain {
		keys, err := s.fetch(ctx)
		s.read = now
		if err != nil && !ok {
			return key, fmt.Errorf("the issuer's keys cannot be read: %w", err)
		}
		if err == nil {
			s.keys = keys
			key, ok = s.find(id)
		}
	}
	if !ok {
		return key, errors.New("the issuer has no key of that id (kid)")
	}
	return key, nil
}

func (s *Set) find(id string) (jose.JSONWebKey, bool) {
	i := slices.IndexFunc(s.keys, func(k jose.JSONWebKey) bool { return k.KeyID == id })
	if i < 0 {
		return jose.JSONWebKey{}, false
	}
	return s.keys[i], true
}

func (s *Set) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	data, err := s.bytes(ctx)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || len(set.Keys) > mostOfAll {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	var out []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		// Keys of kinds that are not understood are passed over (RFC 7517 §5); so are secret ones, which have no place there, and certificates, which nobody here checks.
		if k.UnmarshalJSON(raw) == nil && k.IsPublic() && k.KeyID != "" {
			out = append(out, k)
		}
	}
	return out, nil
}

func (s *Set) bytes(ctx context.Context) ([]byte, error) {
	if !strings.HasPrefix(s.Place, "https://") && !strings.HasPrefix(s.Place, "http://") {
		return os.ReadFile(s.Place)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Place, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if s.HTTP != nil {
		client.Transport = s.HTTP.Transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, errors.New("no answer from where they are")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d from where they are", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, largest))
}

// How long a key of our own signs, and how long before that it is shown, so that nobody meets a signature by a key that they had no chance
// to read.
const (
	signsFor = 30 * 24 * time.Hour
	showFor  = 24 * time.Hour
)

// A Kept is where the ring lies: with the node's other data, shared by the nodes of one store.
type Kept interface {
	// Change reads what is kept (nil if nothing is) and writes what change gives back, if it is not nil, all or nothing.
	Change(ctx context.Context, change func(was []byte) ([]byte, error)) error
}

// A Ring is this node's own signing keys: one that signs, one that will next, and those that have and whose statements may still be about.
// It may be used from many goroutines, and many nodes.
type Ring struct {
	Kept Kept
	Now  func() time.Time
}

// An own key. The JWK holds its private part: it lies where the node's records lie, which others cannot read.
type own struct {
	Key   jose.JSONWebKey `json:"key"`
	From  time.Time       `json:"from"`  // signs from
	Until time.Time       `json:"until"` // to
}

// keys are the ring's, changed where their time has come.
func (r *Ring) keys(ctx context.Context) (ring []own, err error) {
	now := r.Now()
	err = r.Kept.Change(ctx, func(was []byte) ([]byte, error) {
		ring = nil
		if was != nil {
			if err := json.Unmarshal(was, &ring); err != nil {
				return nil, errors.New("the signing keys that are kept cannot be read")
			}
		}
		n := len(ring)
		ring = slices.DeleteFunc(ring, func(k own) bool { return now.After(k.Until.Add(showFor)) })
		changed := len(ring) != n
		last := now
		if len(ring) > 0 && ring[len(ring)-1].Until.After(now) {
			last = ring[len(ring)-1].Until
		}
		if last.Sub(now) < 2*showFor || len(ring) == 0 {
			k, err := newKey(last)
			if err != nil {
				return nil, err
			}
			ring, changed = append(ring, k), true
		}
		if !changed {
			return nil, nil
		}
		return json.Marshal(ring)
	})
	return ring, err
}

func newKey(from time.Time) (own, error) {
	key, err := rsa.GenerateKey(rand.Reader, leastRSA)
	if err != nil {
		return own{}, err
	}
	public := jose.JSONWebKey{Key: key.Public()}
	sum, err := public.Thumbprint(crypto.SHA256) // RFC 7638
	if err != nil {
		return own{}, err
	}
	// RS256 is what every relying party must understand. OpenID Connect Discovery §3
	return own{jose.JSONWebKey{Key: key, KeyID: base64.RawURLEncoding.EncodeToString(sum), Algorithm: string(jose.RS256), Use: "sig"}, from, from.Add(signsFor)}, nil
}

// Public is the ring as others may see it.
func (r *Ring) Public(ctx context.Context) (jose.JSONWebKeySet, error) {
	ring, err := r.keys(ctx)
	out := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range ring {
		out.Keys = append(out.Keys, k.Key.Public())
	}
	return out, err
}

// Key finds one of the ring's public keys.
func (r *Ring) Key(ctx context.Context, id string) (jose.JSONWebKey, error) {
	ring, err := r.Public(ctx)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	if keys := ring.Key(id); len(keys) == 1 {
		return keys[0], nil
	}
	return jose.JSONWebKey{}, errors.New("this node has no key of that id (kid)")
}

// Sign makes a statement of claims. typ says what kind of statement it is, so that one kind is never taken for another (RFC 8725 §3.11).
func (r *Ring) Sign(ctx context.Context, typ string, claims any) (string, error) {
	ring, err := r.keys(ctx)
	if err != nil {
		return "", err
	}
	now := r.Now()
	i := slices.IndexFunc(ring, func(k own) bool { return !now.Before(k.From) && now.Before(k.Until) })
	if i < 0 {
		return "", errors.New("no signing key holds now: the clock has gone back")
	}
	return Sign(ring[i].Key, typ, claims)
}

// Sign makes a statement with a key of one's own.
func Sign(key jose.JSONWebKey, typ string, claims any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}
