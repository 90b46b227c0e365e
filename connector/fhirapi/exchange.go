package fhirapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"tombolo/connector"
	"tombolo/fhir"
)

// grantType is how a signed statement about a user becomes an access token. RFC 7523 §2.1
const grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"

const (
	mostToken     = 64 << 10         // bytes of a token endpoint's answer
	longestToken  = time.Minute      // an access token is kept at most, whatever it says: who the user is may change
	tokenIsOld    = 10 * time.Second // before its end
	mostExchanged = 1024             // tokens kept at once
	mostExchange  = 10 * time.Second // that a token is waited for
)

// An Exchange has a source's authorisation server give an access token for a signed statement about who is asking. IHE ITI IUA §3.71 (ITI-71), RFC 7523 §2.1.
// It may be used from many goroutines.
type Exchange struct {
	Address   string // the token endpoint
	Scope     string // asked for; none if ""
	Statement func(ctx context.Context, who connector.Requester) (string, error)
	HTTP      *http.Client
	Now       func() time.Time

	flight singleflight.Group

	mu   sync.Mutex
	kept map[string]exchanged
}

type exchanged struct {
	token string
	until time.Time
}

// Token gives the access token of a user, as whom and for what they ask now: one that was given before, if it holds. Those who ask for it at the same time ask
// once, and who stops waiting does not stop it for the others.
func (x *Exchange) Token(ctx context.Context, who connector.Requester) (string, error) {
	who.TraceID, who.Via = "", nil // which differ from question to question
	key := string(fhir.JSON(who))
	answer := x.flight.DoChan(key, func() (any, error) {
		if token, ok := x.recall(key); ok {
			return token, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mostExchange)
		defer cancel()
		got, err := x.exchange(ctx, who)
		if err == nil {
			x.keep(key, got)
		}
		return got.token, err
	})
	select {
	case got := <-answer:
		token, _ := got.Val.(string)
		return token, got.Err
	case <-ctx.Done():
		return "", wireIssue(ctx, ctx.Err())
	}
}

func (x *Exchange) recall(key string) (token string, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	got, ok := x.kept[key]
	return got.token, ok && x.Now().Before(got.until)
}

func (x *Exchange) keep(key string, got exchanged) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kept == nil || len(x.kept) >= mostExchanged {
		x.kept = map[string]exchanged{}
	}
	x.kept[key] = got
}

func (x *Exchange) exchange(ctx context.Context, who connector.Requester) (got exchanged, err error) {
	statement, err := x.Statement(ctx, who)
	if err != nil {
		return got, fhir.Errorf(fhir.Exception, "the statement about who is asking could not be signed")
	}
	form := url.Values{"grant_type": {grantType}, "assertion": {statement}}
	if x.Scope != "" {
		form.Set("scope", x.Scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.Address, strings.NewReader(form.Encode()))
	if err != nil {
		return got, fhir.Errorf(fhir.Exception, "the request for a token could not be made")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	client := *x.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the statement goes nowhere else
	began := x.Now()
	resp, err := client.Do(req)
	if err != nil {
		return got, wireIssue(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostToken))
	if err != nil {
		return got, wireIssue(ctx, err)
	}
	var said struct {
		Token   string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int    `json:"expires_in"`
		Error   string `json:"error"`
	}
	unread := json.Unmarshal(body, &said)
	switch { // RFC 6749 §5.1, §5.2
	case resp.StatusCode == http.StatusForbidden || said.Error == "access_denied":
		return got, fhir.Errorf(fhir.Forbidden, "the source gives no token to this user")
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return got, fhir.Errorf(fhir.Transient, "the source's authorisation server did not answer (status %d)", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return got, fhir.Errorf(fhir.Login, "the source's authorisation server did not take the statement about who is asking (status %d, %s)", resp.StatusCode, word(said.Error))
	case unread != nil || said.Token == "" || strings.ContainsFunc(said.Token, func(c rune) bool { return c <= ' ' || c > '~' }) || !strings.EqualFold(said.Type, "bearer"):
		return got, fhir.Errorf(fhir.Structure, "the source's authorisation server gave no bearer token")
	}
	lasts := min(time.Duration(said.Expires)*time.Second, longestToken) - tokenIsOld
	return exchanged{said.Token, began.Add(lasts)}, nil
}

// word is a code of RFC 6749 §5.2 as it may stand in a log; what is none is left out.
func word(code string) string {
	if code == "" || len(code) > 40 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "no reason given"
	}
	return code
}
