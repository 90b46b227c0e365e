package pds

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/connector"
	"tombolo/fhir"
)

// TokenOptions say how an access token is had: an application-restricted RESTful API with a signed JWT, as NHS England's API platform has it. All but HTTP and Now are needed.
type TokenOptions struct {
	Address string // of the token endpoint, https://api.service.nhs.uk/oauth2/token
	APIKey  string // the application's: iss and sub
	KeyID   string // kid of the public key that the platform has
	Key     *rsa.PrivateKey
	HTTP    *http.Client
	Now     func() time.Time
}

// Tokens gets access tokens and keeps one while it is good. It may be used from many goroutines.
type Tokens struct {
	o      TokenOptions
	http   http.Client
	signer jose.Signer

	mu    sync.Mutex
	token string
	until time.Time
}

// assertionType of a signed JWT. RFC 7523 §2.2
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// NewTokens makes Tokens, or says which option is wrong.
func NewTokens(o TokenOptions) (*Tokens, error) {
	if o.Address == "" || o.APIKey == "" || o.KeyID == "" || o.Key == nil {
		return nil, fhir.Errorf(fhir.Required, "an access token needs the token endpoint, the application's API key, the key's id and the private key")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS512, Key: jose.JSONWebKey{Key: o.Key, KeyID: o.KeyID}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fhir.Errorf(fhir.ValueError, "the key cannot sign with RS512")
	}
	t := &Tokens{o: o, signer: signer}
	if o.HTTP != nil {
		t.http = *o.HTTP
	}
	t.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return t, nil
}

// ParseKey reads an RSA private key, PEM of PKCS #8 or PKCS #1.
func ParseKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fhir.Errorf(fhir.Structure, "the signing key is not a PEM file")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the signing key is neither PKCS #8 nor PKCS #1")
	}
	rk, ok := k.(*rsa.PrivateKey)
	if !ok || rk.N.BitLen() < 2048 {
		return nil, fhir.Errorf(fhir.ValueError, "the signing key must be RSA with 2048 bits at least: the platform takes RS512")
	}
	return rk, nil
}

// Token gives one that is good for some time yet.
func (t *Tokens) Token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now()
	if t.token != "" && now.Before(t.until) {
		return t.token, nil
	}
	token, good, err := t.fetch(ctx, now)
	if err != nil {
		return "", err
	}
	t.token, t.until = token, now.Add(good-good/10) // renewed before it runs out
	return token, nil
}

// Drop forgets the token: it was refused.
func (t *Tokens) Drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token = ""
}

func (t *Tokens) fetch(ctx context.Context, now time.Time) (string, time.Duration, error) {
	claims, _ := json.Marshal(map[string]any{"iss": t.o.APIKey, "sub": t.o.APIKey, "aud": t.o.Address, "jti": requestID(), "exp": now.Add(4 * time.Minute).Unix()})
	signed, err := t.signer.Sign(claims)
	if err != nil {
		return "", 0, fhir.Errorf(fhir.Exception, "the request for a token could not be signed")
	}
	assertion, err := signed.CompactSerialize()
	if err != nil {
		return "", 0, fhir.Errorf(fhir.Exception, "the request for a token could not be signed")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {assertionType}, "client_assertion": {assertion}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.o.Address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, fhir.Errorf(fhir.ValueError, "the token endpoint's address is not a URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := t.http.Do(req)
	if err != nil {
		return "", 0, connector.Unreached(ctx, "the token endpoint", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", 0, fhir.Errorf(fhir.Transient, "the token endpoint broke off")
	}
	v, err := fhir.ParseValue(body)
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return "", 0, fhir.Errorf(fhir.Transient, "the token endpoint could not answer (HTTP %d)", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return "", 0, fhir.Errorf(fhir.Forbidden, "the token endpoint does not take our signed request (HTTP %d): check the API key, the key's id and that the platform has the public key", resp.StatusCode)
	case err != nil || v.Text("access_token") == "":
		return "", 0, fhir.Errorf(fhir.Structure, "the token endpoint's answer has no token")
	}
	s, err := strconv.Atoi(strings.Trim(string(v.Member("expires_in").Raw()), `"`)) // the platform writes a string
	if err != nil || s <= 0 {
		s = 300
	}
	return v.Text("access_token"), time.Duration(min(s, 3600)) * time.Second, nil
}
