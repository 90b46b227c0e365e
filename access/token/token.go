// Package token reads the signed statements of others (a client's assertion, an identity provider's ID token, a neighbour's assertion
// about its user), and keeps the keys with which this node signs its own.
//
// There is one reader for all of them, and it is strict: the algorithms are a fixed list, the key comes from where the region file says
// that the issuer's keys are and never from the statement itself, and anything that is not needed is not understood. What it refuses
// is refused without saying why to whoever sent it; the reason is for the log.
package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxLength is the longest statement that is read, in bytes.
const MaxLength = 16 << 10

// Skew is how far clocks may differ.
const Skew = 60 * time.Second

// Algorithms are those whose signatures are believed: asymmetric ones only, so that no public key is ever taken for a secret.
// RFC 8725 §3.1; SMART App Launch 2.2 client-confidential-asymmetric.html demands RS384 and ES384.
var Algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512}

// Rules are what a statement must keep to.
type Rules struct {
	Issuer   string   // must be its iss
	Audience []string // one of these must be in its aud
	Keys     Keys     // the issuer's
	Types    []string // what its header may give as typ, in small letters, "" for none given; nil: "", "jwt"
	Lifetime time.Duration
	ID       bool // it must have a jti
	Now      time.Time
}

// Keys finds an issuer's public key by its id. It fails if there is none.
type Keys interface {
	Key(ctx context.Context, id string) (jose.JSONWebKey, error)
}

// Claims are what a statement says.
type Claims struct {
	Issuer, Subject, ID      string
	Audience                 []string
	Expires, Issued, NotUsed time.Time // NotUsed: not before
	All                      map[string]any
}

// Text is a claim that is a text, "" otherwise. A dot goes inside: "extensions.ihe_iua".
func (c Claims) Text(path string) string {
	s, _ := c.Claim(path).(string)
	return s
}

// Texts is a claim that is one text or a list of texts, by its path: nil if there is none, and else not nil. ok is false for what is neither.
func (c Claims) Texts(path string) (texts []string, ok bool) {
	switch v := c.Claim(path).(type) {
	case nil:
		return nil, true
	case string:
		return strings.Fields(v), true
	case []any:
		texts = make([]string, 0, len(v))
		for _, x := range v {
			s, isText := x.(string)
			if !isText {
				return nil, false
			}
			texts = append(texts, s)
		}
		return texts, true
	}
	return nil, false
}

// Claim is a claim by its path; nil if there is none. A number goes into a list: "roles.0.code". So does the value of another claim:
// "nhsid_nrbac_roles[person_roleid=selected_roleid].org_code" is that of the role which the user has selected. A name that holds dots is
// found whole first.
func (c Claims) Claim(path string) any {
	var at any = c.All
	if v, ok := c.All[path]; ok {
		return v
	}
	for part := range strings.SplitSeq(path, ".") {
		part, chosen, choose := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		switch in := at.(type) {
		case map[string]any:
			at = in[part]
		case []any:
			i := slices.Index([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, part)
			if i < 0 || i >= len(in) {
				return nil
			}
			at = in[i]
		default:
			return nil
		}
		if choose {
			at = c.choose(at, chosen)
		}
	}
	return at
}

// choose finds the element of a list whose member is the value of another claim: "member=claim".
func (c Claims) choose(list any, by string) any {
	member, claim, ok := strings.Cut(by, "=")
	want, said := c.All[claim].(string)
	in, isList := list.([]any)
	if !ok || !said || !isList {
		return nil
	}
	for _, x := range in {
		if m, isObject := x.(map[string]any); isObject && m[member] == want {
			return m
		}
	}
	return nil
}

type header struct {
	Alg jose.SignatureAlgorithm `json:"alg"`
	Kid string                  `json:"kid"`
	Typ *string                 `json:"typ"`
}

// The header parameters that are read or harmless. What else a header holds (jku, jwk, x5u, x5c, crit, b64, zip, enc …) would have the
// sender say how it is to be believed. RFC 8725 §3.10
var headerNames = []string{"alg", "kid", "typ", "x5t", "x5t#S256"}

// Issuer is who a statement says it is from, before anything of it is believed: it says only whose keys to look at.
func Issuer(raw string) (string, error) {
	_, payload, err := split(raw)
	if err != nil {
		return "", err
	}
	var c struct {
		Iss string `json:"iss"`
	}
	if err := object(payload, &c, nil); err != nil || c.Iss == "" {
		return "", errors.New("it names no issuer")
	}
	return c.Iss, nil
}

// ErrSignature is a statement that was changed, or that somebody else signed.
var ErrSignature = errors.New("its signature is not by that key")

// Verify reads a statement and believes it, or says why not. The error is for the log and holds nothing of the statement.
func Verify(ctx context.Context, raw string, r Rules) (*Claims, error) {
	head, payload, err := split(raw)
	if err != nil {
		return nil, err
	}
	var h header
	if err := object(head, &h, headerNames); err != nil {
		return nil, fmt.Errorf("its header: %w", err)
	}
	types := r.Types
	if types == nil {
		types = []string{"", "jwt"}
	}
	typ := ""
	if h.Typ != nil {
		typ = strings.TrimPrefix(strings.ToLower(*h.Typ), "application/")
	}
	switch {
	case !slices.Contains(Algorithms, h.Alg):
		return nil, errors.New("its algorithm is not one that is believed")
	case h.Kid == "" || len(h.Kid) > 200:
		return nil, errors.New("it does not say by which key it is signed (kid)")
	case !slices.Contains(types, typ):
		return nil, errors.New("it is a statement of another kind (typ)")
	}
	key, err := r.Keys.Key(ctx, h.Kid)
	if err != nil {
		return nil, err
	}
	if err := usable(key, h.Alg); err != nil {
		return nil, err
	}
	sig, err := jose.ParseSignedCompact(raw, Algorithms)
	if err != nil {
		return nil, errors.New("it is not a signed statement")
	}
	signed, err := sig.Verify(key)
	if err != nil || !bytes.Equal(signed, payload) {
		return nil, ErrSignature
	}
	return r.believe(payload)
}

// split takes a compact JWS apart, strictly: three parts of base64url, without padding, line ends or loose bits at the end. RFC 7515 §2, §7.1
func split(raw string) (header, payload []byte, err error) {
	if len(raw) > MaxLength {
		return nil, nil, errors.New("it is too long")
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("it has %d parts, and a signed statement has three", len(parts))
	}
	var out [3][]byte
	for i, p := range parts {
		if p == "" {
			return nil, nil, errors.New("a part of it is empty")
		}
		if strings.ContainsAny(p, "\r\n") { // which the decoder would pass over
			return nil, nil, errors.New("it is not base64url")
		}
		if out[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return nil, nil, errors.New("it is not base64url")
		}
	}
	return out[0], out[1], nil
}

// object reads a JSON object strictly: one value, no name twice, valid UTF-8, and only the names allowed (nil: any).
func object(data []byte, into any, allowed []string) error {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if d.PeekKind() != '{' {
		return errors.New("it is not a JSON object")
	}
	v, err := d.ReadValue()
	if err != nil {
		return errors.New("it is not valid JSON, or a name stands twice in it")
	}
	v = v.Clone() // the decoder's own bytes hold only until its next step
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	var names map[string]json.RawMessage
	if err := json.Unmarshal(v, &names); err != nil {
		return errors.New("it is not valid JSON")
	}
	for name := range names {
		if allowed != nil && !slices.Contains(allowed, name) {
			return errors.New("it holds a parameter that is not understood here")
		}
		if allowed == nil && slices.ContainsFunc(registered, func(r string) bool { return name != r && strings.EqualFold(name, r) }) {
			return errors.New("a claim stands in it in other letters") // which readers that ignore case would take for the claim
		}
	}
	if err := json.Unmarshal(v, into); err != nil {
		return errors.New("a value in it has the wrong type")
	}
	return nil
}

var registered = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}

// usable reports whether a key may have signed with an algorithm: of the right kind, strong enough, public, and meant for signing.
func usable(key jose.JSONWebKey, alg jose.SignatureAlgorithm) error {
	if !key.Valid() || !key.IsPublic() {
		return errors.New("the issuer's key is not a valid public key")
	}
	if key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != string(alg) {
		return errors.New("the issuer's key is for something else")
	}
	if !kindOf(key, alg) {
		return errors.New("the issuer's key is of another kind than the algorithm")
	}
	return nil
}

// Object reads a JSON object as statements are read: one value, no name twice, no claim in other letters, valid UTF-8.
func Object(data []byte) (map[string]any, error) {
	var all map[string]any
	err := object(data, &all, nil)
	return all, err
}

// Believe holds what an issuer has said itself, when it was asked, to the rules of its signed statements; Keys and Types have no part in it. RFC 7662 §2.2
func Believe(all map[string]any, r Rules) (*Claims, error) {
	payload, err := json.Marshal(all)
	if err != nil {
		return nil, errors.New("it is not valid JSON")
	}
	return r.believe(payload)
}

// believe holds the claims to the rules.
func (r Rules) believe(payload []byte) (*Claims, error) {
	var c struct {
		Iss, Sub, Jti string
		Aud           json.RawMessage
		Exp, Iat, Nbf *float64
	}
	if err := object(payload, &c, nil); err != nil {
		return nil, err
	}
	out := &Claims{Issuer: c.Iss, Subject: c.Sub, ID: c.Jti}
	if err := json.Unmarshal(payload, &out.All); err != nil {
		return nil, errors.New("it is not valid JSON")
	}
	var one string
	if json.Unmarshal(c.Aud, &one) == nil {
		out.Audience = []string{one}
	} else if json.Unmarshal(c.Aud, &out.Audience) != nil {
		return nil, errors.New("it does not say for whom it is (aud)")
	}
	var ok bool
	if out.Expires, ok = moment(c.Exp); !ok || c.Exp == nil {
		return nil, errors.New("it does not say until when it holds (exp)")
	}
	if out.Issued, ok = moment(c.Iat); !ok || c.Iat == nil {
		return nil, errors.New("it does not say when it was made (iat)")
	}
	if out.NotUsed, ok = moment(c.Nbf); !ok {
		return nil, errors.New("it says in no readable way from when it holds (nbf)")
	}
	switch {
	case out.Issuer == "" || out.Issuer != r.Issuer:
		return nil, errors.New("it is from another issuer (iss)")
	case !slices.ContainsFunc(out.Audience, func(a string) bool { return a != "" && slices.Contains(r.Audience, a) }):
		return nil, errors.New("it is meant for somebody else (aud)")
	case out.Subject == "" || len(out.Subject) > 200:
		return nil, errors.New("it does not say about whom it is (sub)")
	case r.ID && (out.ID == "" || len(out.ID) > 200):
		return nil, errors.New("it has no id by which it could be known again (jti)")
	case !r.Now.Before(out.Expires.Add(Skew)):
		return nil, errors.New("it has expired (exp)")
	case out.Issued.After(r.Now.Add(Skew)):
		return nil, errors.New("it was made in the future (iat): set the clocks")
	case out.NotUsed.After(r.Now.Add(Skew)):
		return nil, errors.New("it does not hold yet (nbf): set the clocks")
	case r.Lifetime > 0 && (out.Expires.Sub(out.Issued) > r.Lifetime || out.Expires.After(r.Now.Add(r.Lifetime+Skew))):
		return nil, fmt.Errorf("it holds for longer than %s", r.Lifetime)
	}
	return out, nil
}

// moment is a NumericDate. RFC 7519 §2
func moment(v *float64) (time.Time, bool) {
	if v == nil {
		return time.Time{}, true
	}
	if math.IsNaN(*v) || *v < 0 || *v > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(int64(*v), 0), true
}
