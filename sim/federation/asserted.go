package federation

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/access/token"
)

// Asserted is another vendor's server that answers nobody of whom it is not told, signed, who they are, and decides by it: IHE ITI IUA. It takes the statement as
// the bearer token, in a header of its own, or exchanged for an access token at /token (RFC 7523); each statement once.
type Asserted struct {
	Next http.Handler // what it gives

	mu                              sync.Mutex
	Keys                            token.Keys
	Issuer, Audience, Header, Scope string   // Header "": as the bearer token
	Roles                           []string // to which it gives something
	Exchanges                       bool     // it takes only tokens that it gave
	used                            map[string]bool
	given                           map[string]*token.Claims
	Heard                           []string // who asked, "user role purpose", once for each statement
	Said                            []string // why it refused a statement
}

// Set changes how it decides.
func (a *Asserted) Set(change func(a *Asserted)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *Asserted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case strings.HasSuffix(r.URL.Path, "/token"):
		a.exchange(w, r)
		return
	case a.Header != "":
		bearer = r.Header.Get(a.Header)
	}
	who, status := a.told(r, bearer)
	if status == 0 && !slices.Contains(a.Roles, who.Text("extensions.ihe_iua.subject_role")) {
		status = http.StatusForbidden
	}
	if status != 0 {
		w.Header().Set("Content-Type", "application/fhir+json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"security"}]}`))
		return
	}
	a.Next.ServeHTTP(w, r)
}

// told is who a request says is asking; status is what it is refused with, 0 if it is not.
func (a *Asserted) told(r *http.Request, bearer string) (*token.Claims, int) {
	if !a.Exchanges {
		return a.verify(r, bearer)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if who, ok := a.given[bearer]; ok {
		return who, 0
	}
	return nil, http.StatusUnauthorized
}

func (a *Asserted) verify(r *http.Request, statement string) (*token.Claims, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who, err := token.Verify(r.Context(), statement, token.Rules{Issuer: a.Issuer, Audience: []string{a.Audience}, Keys: a.Keys, Lifetime: 5 * time.Minute, ID: true, Now: time.Now()})
	switch {
	case err != nil:
		a.Said = append(a.Said, err.Error())
		return who, http.StatusUnauthorized
	case a.used[who.ID]:
		a.Said = append(a.Said, "a statement came again")
		return who, http.StatusUnauthorized
	case who.Text("extensions.ihe_iua.home_community_id") == "" || who.Text("extensions.ihe_iua.subject_organization_id") == "":
		a.Said = append(a.Said, "a statement does not say from where")
		return who, http.StatusUnauthorized
	}
	if a.used == nil {
		a.used = map[string]bool{}
	}
	a.used[who.ID] = true
	a.Heard = append(a.Heard, who.Subject+" "+who.Text("extensions.ihe_iua.subject_role")+" "+who.Text("extensions.ihe_iua.purpose_of_use"))
	return who, 0
}

// exchange gives an access token for a statement, unless it would answer its user nothing.
func (a *Asserted) exchange(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, v map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	if r.ParseForm() != nil || r.PostForm.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.PostForm.Get("scope") != a.Scope {
		answer(http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
		return
	}
	who, status := a.verify(r, r.PostForm.Get("assertion"))
	switch {
	case status != 0:
		answer(http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	case !slices.Contains(a.Roles, who.Text("extensions.ihe_iua.subject_role")):
		answer(http.StatusBadRequest, map[string]any{"error": "access_denied"})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given == nil {
		a.given = map[string]*token.Claims{}
	}
	access := "given-for-" + who.ID
	a.given[access] = who
	answer(http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300})
}
