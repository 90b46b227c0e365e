package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/access/token"
	"tombolo/fhir"
)

// What a provider says of a token is believed for a moment: long enough that somebody who tries the same one over and over does not have it asked each time, and
// short enough that what it takes back is gone. A failure to answer is nobody's answer, and is not remembered.
const (
	introspectedFor  = 10 * time.Second
	mostIntrospected = 4096
	introspectWithin = 5 * time.Second
)

// ErrNotActive is what a provider says of a token that it does not know, that has expired, or that was taken back. RFC 7662 §2.2 tells them not apart.
var ErrNotActive = errors.New("its provider says that it does not hold (active)")

type introspected struct {
	mu  sync.Mutex
	now map[[32]byte]told
}

type told struct {
	answer map[string]any // nil: not active
	until  time.Time
}

// Opaque finds the provider that is asked about tokens which say nothing by themselves: the one of the region file that launches so. No token is shown to any other.
func (s *Set) Opaque() (*Provider, error) {
	i := slices.IndexFunc(s.list, func(p *Provider) bool { return p.LaunchIntrospect })
	if i < 0 {
		return nil, errors.New("it is no signed statement, and no provider is asked about others")
	}
	return s.list[i], nil
}

// IntrospectLaunch asks the provider about an opaque token that launches somebody here, made for one of the audience, and holds what it answers to the rules of a signed
// one. RFC 7662 leaves most of an answer to the provider. What it may lack is: iss (it was asked at its own address), iat (until when it holds is enough), jti (the token itself is
// known again) and, where it names as client_id one that the region file has under launch_clients, aud. Whatever cannot be asked or read is refused.
func (p *Provider) IntrospectLaunch(ctx context.Context, raw string, lifetime time.Duration, audience ...string) (*token.Claims, error) {
	if raw == "" || len(raw) > token.MaxLength || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("it is no token") // RFC 6750 §2.1 b64token
	}
	sum := sha256.Sum256([]byte(raw))
	now := p.o.Now()
	all, err := p.introspect(ctx, raw, sum, now)
	if err != nil {
		return nil, err
	}
	missing := func(name string, value any) {
		if _, ok := all[name]; !ok {
			all[name] = value
		}
	}
	missing("iss", p.Issuer)
	missing("iat", now.Unix())
	missing("jti", hex.EncodeToString(sum[:]))
	if client, _ := all["client_id"].(string); slices.Contains(p.LaunchClients, client) && len(audience) > 0 {
		missing("aud", audience[0])
	}
	c, err := token.Believe(all, token.Rules{Issuer: p.Issuer, Audience: audience, Lifetime: lifetime, ID: true, Now: now})
	if err != nil {
		return nil, err
	}
	return c, p.moreOf(ctx, raw, c)
}

// moreOf asks for claims that the answer does not hold.
func (p *Provider) moreOf(ctx context.Context, raw string, c *token.Claims) error {
	desc, _, err := p.discover(ctx)
	if err != nil {
		return err
	}
	return p.more(ctx, desc, raw, c)
}

// introspect is what the provider says of a token, a copy that its reader may change. RFC 7662 §2
func (p *Provider) introspect(ctx context.Context, raw string, sum [32]byte, now time.Time) (map[string]any, error) {
	p.opaque.mu.Lock()
	known, ok := p.opaque.now[sum]
	p.opaque.mu.Unlock()
	if !ok || !now.Before(known.until) {
		answer, err := p.askAbout(ctx, raw)
		if err != nil {
			return nil, err
		}
		known = told{answer, now.Add(introspectedFor)}
		p.opaque.mu.Lock()
		if p.opaque.now == nil || len(p.opaque.now) >= mostIntrospected {
			p.opaque.now = map[[32]byte]told{}
		}
		p.opaque.now[sum] = known
		p.opaque.mu.Unlock()
	}
	if known.answer == nil {
		return nil, ErrNotActive
	}
	out := make(map[string]any, len(known.answer)+4)
	for k, v := range known.answer {
		out[k] = v
	}
	return out, nil
}

func (p *Provider) askAbout(ctx context.Context, raw string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, introspectWithin)
	defer cancel()
	desc, _, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(desc.IntrospectionEndpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && !strings.HasPrefix(p.Issuer, "http://") {
		return nil, errors.New("its provider says of itself no address at which it could be asked about tokens (introspection_endpoint)")
	}
	form, err := p.proof(desc)
	if err != nil {
		return nil, err
	}
	form.Set("token", raw)
	form.Set("token_type_hint", "access_token")
	form.Set("client_id", p.Client)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("its provider could not be asked about it")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := p.o.HTTP.Do(req)
	if err != nil { // which may hold the address and, by a careless proxy, more
		return nil, fhir.Errorf(fhir.Transient, "its provider could not be asked about it")
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10+1))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || resp.StatusCode != http.StatusOK || kind != "application/json" || len(data) > 64<<10 {
		return nil, fhir.Errorf(fhir.Transient, "its provider did not say whether it holds (%d)", resp.StatusCode)
	}
	all, err := token.Object(data)
	if err != nil {
		return nil, err
	}
	active, said := all["active"].(bool)
	switch {
	case !said:
		return nil, errors.New("its provider did not say whether it holds")
	case !active:
		return nil, nil
	}
	if kind, ok := all["token_type"].(string); ok && !strings.EqualFold(kind, "Bearer") && !strings.EqualFold(kind, "access_token") {
		return nil, errors.New("it is a token of another kind (token_type)") // a refresh token, or one bound to a key that nobody shows here
	}
	if _, bound := all["cnf"]; bound {
		return nil, errors.New("it is bound to a key that nobody shows here (cnf)") // RFC 7800
	}
	return all, nil
}

// proof is what proves to the provider who we are, as a form.
func (p *Provider) proof(desc *discovered) (url.Values, error) {
	pairs, err := p.credential(desc)
	if err != nil {
		return nil, err
	}
	if len(pairs) == 0 { // anybody could ask about anybody's token
		return nil, errors.New("no secret and no key is shared with its provider, which would say nothing to just anybody")
	}
	form := url.Values{}
	for name, value := range pairs {
		form.Set(name, value)
	}
	return form, nil
}
