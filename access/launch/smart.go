package launch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/access/token"
	"tombolo/fhir"
	"tombolo/region"
)

// PathBack is where a launching system that speaks SMART sends its user back to, below the node's own base URL: it is registered there.
const PathBack = "/launch/back"

const smartFor = 5 * time.Minute

// A smart launch under way.
type smart struct {
	Launcher, Verifier, Browser string
}

// A configuration is what a system says of its authorisation server. SMART App Launch 2.2 conformance.html#using-well-known
type configuration struct {
	Issuer    string   `json:"issuer"`
	Keys      string   `json:"jwks_uri"`
	Authorize string   `json:"authorization_endpoint"`
	Token     string   `json:"token_endpoint"`
	PKCE      []string `json:"code_challenge_methods_supported"`
}

// SMART takes a launch by iss and launch from a system of the region file: the address to send the user to, and the browser's secret. SMART App
// Launch 2.2 app-launch.html#launch-app-ehr-launch
func (r *Reader) SMART(ctx context.Context, iss, launch string) (to, browser string, err error) {
	i := slices.IndexFunc(r.m.Region().Identity.Launchers, func(l region.Launcher) bool {
		return l.FHIR != "" && strings.TrimRight(l.FHIR, "/") == strings.TrimRight(iss, "/")
	})
	if i < 0 || launch == "" || len(launch) > 2000 {
		return "", "", errors.New("there is no such launching system (iss)") // another's address is never asked anything
	}
	l := r.m.Region().Identity.Launchers[i]
	c, err := r.configuration(ctx, l)
	if err != nil {
		return "", "", err
	}
	browser = access.Secret()
	st, verifier := access.Secret(), oauth2.GenerateVerifier()
	if err := r.m.State().Put(ctx, state.SignIn, st, smart{l.ID, verifier, browser}, r.m.Now().Add(smartFor)); err != nil {
		return "", "", err
	}
	return r.oauth(l, c).AuthCodeURL(st, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("launch", launch), oauth2.SetAuthURLParam("aud", strings.TrimRight(iss, "/"))), browser, nil
}

func (r *Reader) oauth(l region.Launcher, c configuration) *oauth2.Config {
	return &oauth2.Config{ClientID: l.Client, RedirectURL: r.m.Issuer() + PathBack, Scopes: []string{"launch", "openid", "fhirUser", "patient/Patient.r"},
		Endpoint: oauth2.Endpoint{AuthURL: c.Authorize, TokenURL: c.Token, AuthStyle: oauth2.AuthStyleInParams}}
}

func (r *Reader) configuration(ctx context.Context, l region.Launcher) (c configuration, err error) {
	if err := r.get(ctx, strings.TrimRight(l.FHIR, "/")+"/.well-known/smart-configuration", "", &c); err != nil {
		return c, err
	}
	for _, at := range []string{c.Authorize, c.Token, c.Keys} {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || u.Scheme != "https" && !strings.HasPrefix(l.FHIR, "http://") {
			return c, errors.New("the launching system says of itself what cannot be used")
		}
	}
	if c.Issuer == "" || !slices.Contains(c.PKCE, "S256") {
		return c, errors.New("the launching system's authorisation server has no PKCE or no OpenID Connect")
	}
	return c, nil
}

// get reads JSON from a launching system.
func (r *Reader) get(ctx context.Context, at, bearer string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/fhir+json, application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := r.http().Do(req)
	if err != nil {
		return errors.New("the launching system does not answer")
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.New("the launching system did not give what it launched with")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errors.New("the launching system's answer cannot be read")
	}
	return nil
}

func (r *Reader) http() *http.Client {
	return &http.Client{Transport: r.m.Transport(), Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Back takes the user back from a launching system: whose record it has before it, and who they are there.
func (r *Reader) Back(ctx context.Context, st, code, iss, browser string) (*Launch, error) {
	var a smart
	ok, err := r.m.State().Take(ctx, state.SignIn, st, &a)
	if err != nil {
		return nil, err
	}
	l, known := r.m.Region().Launcher(a.Launcher)
	if !ok || !known || browser == "" || browser != a.Browser || code == "" {
		return nil, errors.New("a launch that nobody began, that another browser began, or that was refused there")
	}
	c, err := r.configuration(ctx, l)
	if err != nil {
		return nil, err
	}
	if iss != "" && iss != c.Issuer {
		return nil, errors.New("the answer is another authorisation server's (iss)")
	}
	t, err := r.oauth(l, c).Exchange(context.WithValue(ctx, oauth2.HTTPClient, r.http()), code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, errors.New("the launching system did not take the code")
	}
	raw, _ := t.Extra("id_token").(string)
	patient, _ := t.Extra("patient").(string)
	who, err := token.Verify(ctx, raw, token.Rules{Issuer: c.Issuer, Audience: []string{l.Client}, Keys: &token.Set{Place: c.Keys, HTTP: r.http(), Now: r.m.Now}, Lifetime: 24 * time.Hour, Now: r.m.Now()})
	if err != nil {
		return nil, forged(l.ID, err)
	}
	if !fhir.ValidID(patient) {
		return nil, errors.New("the launching system does not say whose record")
	}
	var p struct {
		Type        string            `json:"resourceType"`
		ID          string            `json:"id"`
		BirthDate   string            `json:"birthDate"`
		Identifiers []fhir.Identifier `json:"identifier"`
	}
	if err := r.get(ctx, strings.TrimRight(l.FHIR, "/")+"/Patient/"+patient, t.AccessToken, &p); err != nil {
		return nil, err
	}
	out := &Launch{Launcher: l, BirthDate: p.BirthDate, Location: l.Organisation, Practitioner: who.Subject}
	for _, id := range p.Identifiers {
		if id = id.Canonical(); id.System == fhir.SystemNHSNumber && id.Use != "old" {
			if out.Patient.Value != "" && out.Patient.Value != id.Value {
				return nil, errors.New("the launching system's patient has two NHS numbers")
			}
			out.Patient = id
		}
	}
	if p.Type != "Patient" || p.ID != patient {
		return nil, Meddled{l.ID, "the launching system gave another patient"}
	}
	return out, out.check()
}
