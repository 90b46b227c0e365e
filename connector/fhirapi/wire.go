package fhirapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A budget is the bytes that one answer may still weigh, over all searches. It counts what comes out of decompression.
type budget struct{ left, most int64 }

func newBudget(most int64) *budget { return &budget{left: most, most: most} }

func (b *budget) used() int64 { return b.most - max(atomic.LoadInt64(&b.left), 0) }

// read reads a body within the budget.
func (b *budget) read(r io.Reader) ([]byte, error) {
	left := atomic.LoadInt64(&b.left)
	data, err := io.ReadAll(io.LimitReader(r, max(left, 0)+1))
	if atomic.AddInt64(&b.left, -int64(len(data))) < 0 {
		return nil, b.exceeded()
	}
	return data, err
}

func (b *budget) exceeded() *fhir.Issue {
	return fhir.Errorf(fhir.TooLong, "the answer is larger than %d MiB; raise the system's limit or narrow what it gives", b.most>>20)
}

// pages does one search by POST and follows its next links, handing each resource to take, which may refuse it with an issue. What
// became of it stands in r: failed, issues, complete.
func (a *asking) pages(ctx context.Context, r *result, form string, take func(*fhir.Resource) *fhir.Issue) {
	form += "&_count=" + itoa(a.o.PageSize)
	at := a.base.JoinPath(r.search.typ, "_search")
	followed := map[string]bool{}
	r.complete = true
	for page := 1; ; page++ {
		method := http.MethodPost // FHIR R4 http.html#search: identifiers in the body, never in the URL
		if page > 1 {
			method, form = http.MethodGet, ""
		}
		bundle, err := a.fetch(ctx, method, at, form)
		if err != nil {
			r.fail(err)
			return
		}
		if bundle.Type() != "Bundle" {
			r.fail(notABundle(bundle))
			return
		}
		next := a.readPage(bundle, r, take)
		if next == "" {
			return
		}
		switch at, err = a.follow(at, next); {
		case err != nil:
			r.fail(err)
			return
		case followed[at.String()]:
			r.fail(fhir.Errorf(fhir.Incomplete, "the source's next links lead in a circle after %d pages of %s", page, r.search.typ))
			return
		case page >= a.o.MaxPages:
			r.fail(fhir.Errorf(fhir.Incomplete, "the source has more than %d pages of %s; the rest was not read", page, r.search.typ))
			return
		}
		followed[at.String()] = true
	}
}

func (r *result) fail(err error) {
	r.complete = false
	r.failed = asIssue(err)
	if r.search.typ != "" && r.failed.Expression == "" {
		r.failed = r.failed.At(r.search.typ)
	}
}

// readPage takes a page's entries and gives its next link.
func (a *asking) readPage(bundle *fhir.Resource, r *result, take func(*fhir.Resource) *fhir.Issue) (next string) {
	full := map[string]fhir.Ref{} // urn:uuid and such, as this page uses them
	for e := range fhir.Entries(bundle.Value()) {
		if e.Resource != nil && e.FullURL != "" && e.Resource.ID() != "" {
			full[e.FullURL] = e.Resource.Ref()
		}
	}
	for e, err := range fhir.Entries(bundle.Value()) {
		if err != nil {
			r.note(fhir.IssueOf(err))
			continue
		}
		if e.Resource == nil {
			continue
		}
		if e.Resource.Type() == "OperationOutcome" {
			a.readOutcome(e.Resource, r)
			continue
		}
		res, err := a.localise(e, full)
		if err == nil {
			if issue := take(res); issue != nil {
				err = issue
			}
		}
		if err != nil {
			r.note(asIssue(err))
		}
	}
	for l := range bundle.Value().All("link") {
		if l.Text("relation") == "next" {
			return l.Text("url")
		}
	}
	return ""
}

// note keeps an issue that means that not everything could be taken.
func (r *result) note(i *fhir.Issue) {
	r.complete = false
	r.issues = append(r.issues, i)
}

// readOutcome reads an OperationOutcome among the entries: how a server says that its answer is not whole.
//
// FHIR R4 http.html#search "outcome"; UK Core Access: consumers SHALL check for OperationOutcome entries
func (a *asking) readOutcome(o *fhir.Resource, r *result) {
	for i := range o.Value().All("issue") {
		issue := outcomeIssue(i)
		switch issue.Type {
		case fhir.Informational:
			continue
		case fhir.Incomplete, fhir.Timeout, fhir.Transient, fhir.Throttled, fhir.Suppressed, fhir.NoStore, fhir.NotSupported, fhir.TooCostly, "lock-error":
			r.complete = false
		}
		if issue.Severity == fhir.SevError || issue.Severity == fhir.Fatal {
			r.complete = false
			issue.Severity = fhir.Warning // an error there; here the rest of the answer stands
		}
		r.issues = append(r.issues, issue)
	}
}

// outcomeIssue reads one issue of a remote OperationOutcome. Its free text is not passed on: it may name the person.
func outcomeIssue(v fhir.Value) *fhir.Issue {
	code, severity := fhir.IssueType(token(v.Text("code"))), fhir.Severity(token(v.Text("severity")))
	if code == "" {
		code = fhir.Processing
	}
	if severity == "" {
		severity = fhir.Warning
	}
	text := "the source says: " + string(code)
	if detail := token(v.Text("details.coding.code")); detail != "" {
		text += " (" + detail + ")"
	}
	return &fhir.Issue{Type: code, Severity: severity, Text: text}
}

// token lets through what looks like a code, and nothing that could be a person's number or name.
func token(s string) string {
	digits := 0
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
		default:
			return ""
		}
	}
	if len(s) > 48 || digits > 5 {
		return ""
	}
	return s
}

func notABundle(r *fhir.Resource) error {
	if r.Type() == "OperationOutcome" {
		i := outcomeIssue(r.Get("issue"))
		i.Severity = ""
		return i
	}
	return fhir.Errorf(fhir.Structure, "the source answered a search with a %s; a searchset Bundle was expected", r.Type())
}

// follow resolves a next link and refuses any that leaves the source: credentials go to the configured origin and path only. The
// parts are compared parsed, since as strings "https://mh.example" is a prefix of "https://mh.example.attacker.test".
func (c *Client) follow(from *url.URL, link string) (*url.URL, error) {
	u, err := from.Parse(link)
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the source's next link is not a URL")
	}
	u.Fragment = ""
	if !c.within(u) {
		return nil, fhir.Errorf(fhir.Processing, "the source's next link leads to another address than the one configured; it was not followed. If the server stands behind a proxy, set its public base URL")
	}
	return u, nil
}

// within reports whether a URL is the base or below it.
func (c *Client) within(u *url.URL) bool {
	if u.Opaque != "" || u.User != nil || !strings.EqualFold(u.Scheme, c.base.Scheme) ||
		!strings.EqualFold(u.Hostname(), c.base.Hostname()) || port(u) != port(c.base) {
		return false
	}
	escaped := strings.ToLower(u.EscapedPath())
	if strings.Contains(escaped, "%2e") || strings.Contains(escaped, "%2f") || strings.Contains(escaped, "%5c") || strings.Contains(escaped, `\`) {
		return false
	}
	p := strings.TrimSuffix(u.Path, "/")
	if p != "" && path.Clean(p) != p {
		return false
	}
	return p == c.base.Path || strings.HasPrefix(p, c.base.Path+"/")
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// fetch does one request and reads its resource. form is the body of a search.
func (a *asking) fetch(ctx context.Context, method string, at *url.URL, form string) (*fhir.Resource, error) {
	r := request{method: method, at: at, by: a.q.Requester}
	if form != "" {
		r.body, r.form = []byte(form), "application/x-www-form-urlencoded"
	}
	data, _, err := a.do(ctx, r, a.budget)
	if fhir.Is(err, fhir.NotFound) { // of a search, that there is no such search: nobody found is an empty Bundle
		return nil, statusIssue(http.StatusNotFound)
	}
	if err != nil {
		return nil, err
	}
	if err := fhir.CheckCost(data); err != nil {
		return nil, err
	}
	return fhir.Parse(data)
}

// A request is one exchange with the server.
type request struct {
	method string
	at     *url.URL
	body   []byte
	form   string // media type of the body
	accept string // application/fhir+json if ""
	by     connector.Requester
}

// do makes a request and gives the bytes of its answer and their media type.
func (c *Client) do(ctx context.Context, r request, within *budget) (data []byte, form string, err error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.at.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, "", fhir.Errorf(fhir.Exception, "the request could not be made")
	}
	req.Header.Set("Accept", cmp.Or(r.accept, "application/fhir+json"))
	if r.form != "" {
		req.Header.Set("Content-Type", r.form)
	}
	r.by.Accompany(ctx, req.Header)
	if c.o.Token != nil {
		token, err := c.o.Token(ctx, r.by)
		if i := fhir.IssueOf(err); i != nil {
			return nil, "", i
		}
		if err != nil {
			return nil, "", fhir.Errorf(fhir.Login, "no token for the source: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if c.o.Statement != nil {
		statement, err := c.o.Statement(ctx, r.by)
		if err != nil {
			return nil, "", fhir.Errorf(fhir.Exception, "the statement about who is asking could not be signed")
		}
		req.Header.Set(c.o.Header, statement)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", wireIssue(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		some, _ := io.ReadAll(io.LimitReader(resp.Body, mostOutcome)) // also so that the connection can be used again
		return nil, "", refusal(resp, some, c.o.Now())
	}
	form, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if r.accept == "" && strings.Contains(form, "xml") {
		return nil, "", fhir.Errorf(fhir.Structure, "the source answered XML; set it to answer application/fhir+json")
	}
	if resp.ContentLength > within.most {
		return nil, "", within.exceeded()
	}
	if data, err = within.read(resp.Body); err != nil {
		return nil, "", wireIssue(ctx, err)
	}
	return data, form, nil
}

// wireIssue says what a failed exchange means. Go's own text is left out: it quotes URLs and addresses.
func wireIssue(ctx context.Context, err error) *fhir.Issue {
	var sent *url.Error
	if i := fhir.IssueOf(err); i != nil && !errors.As(err, &sent) {
		return i
	}
	return connector.Unreached(ctx, "the source", err)
}

// mostOutcome is what is read of a refusal.
const mostOutcome = 16 << 10

// refusal says what a status means together with what came with it: when the source wants to be asked again, and whether it is the source that says that it has
// not what it was asked for, or only that nothing lies at the address.
func refusal(resp *http.Response, body []byte, now time.Time) *fhir.Issue {
	i := statusIssue(resp.StatusCode)
	if i.Type == fhir.Throttled || i.Type == fhir.Transient {
		i.After = connector.RetryAfter(resp.Header, now)
	}
	if resp.StatusCode == http.StatusNotFound && connector.SaysNotFound(body) {
		return fhir.Errorf(fhir.NotFound, "the source has nothing of what it was asked for (status 404)")
	}
	return i
}

// statusIssue says what an HTTP status means. FHIR R4 http.html#Status-Codes
func statusIssue(status int) *fhir.Issue {
	switch {
	case status >= 300 && status < 400:
		return fhir.Errorf(fhir.Processing, "the source redirected us (status %d); redirects are not followed, so set its address to where it really is", status)
	case status == http.StatusUnauthorized:
		return fhir.Errorf(fhir.Login, "the source did not accept our credentials (status 401): check the system's token")
	case status == http.StatusForbidden:
		return fhir.Errorf(fhir.Suppressed, "the source does not share this with us (status 403)")
	case status == http.StatusTooManyRequests:
		return fhir.Errorf(fhir.Throttled, "the source has had too many requests (status 429)")
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		return fhir.Errorf(fhir.Timeout, "the source did not answer in time (status %d)", status)
	case status >= 500 && status != http.StatusNotImplemented:
		return fhir.Errorf(fhir.Transient, "the source failed (status %d)", status)
	case status == 400, status == 404, status == 405, status == 410, status == 415, status == 422, status == 501:
		return fhir.Errorf(fhir.NotSupported, "the source does not offer this search (status %d)", status)
	}
	return fhir.Errorf(fhir.Processing, "the source answered with status %d", status)
}

func asIssue(err error) *fhir.Issue {
	if i := fhir.IssueOf(err); i != nil {
		return i
	}
	return fhir.Errorf(fhir.Exception, "unexpected failure while asking the source")
}

// capabilityTTL is how long a server's CapabilityStatement is believed.
const capabilityTTL = time.Hour

// capabilityWait is how long a question waits for the CapabilityStatement once it could go on without.
const capabilityWait = 500 * time.Millisecond

// askCapability starts asking what the server offers, and returns how to learn it (nil if it does not say in time) and what is closed
// when the asking has ended.
func (a *asking) askCapability(ctx context.Context) (learn func() map[string]bool, ended <-chan struct{}) {
	offers, done := make(chan map[string]bool, 1), make(chan struct{})
	go func() {
		defer close(done)
		offers <- a.capability(ctx, a)
	}()
	return func() map[string]bool {
		select {
		case o := <-offers:
			return o
		default:
		}
		t := time.NewTimer(capabilityWait)
		defer t.Stop()
		select {
		case o := <-offers:
			return o
		case <-t.C:
		case <-ctx.Done():
		}
		return nil
	}, done
}

// capability is the types that the server says can be searched; nil if it does not say. It is asked once an hour.
//
// FHIR R4 http.html#capabilities
func (c *Client) capability(ctx context.Context, a *asking) map[string]bool {
	c.mu.Lock()
	offers, asOf := c.offers, c.asOf
	c.mu.Unlock()
	if offers != nil && c.o.Now().Sub(asOf) < capabilityTTL {
		return offers
	}
	r, err := a.fetch(ctx, http.MethodGet, c.base.JoinPath("metadata"), "")
	if err != nil || r.Type() != "CapabilityStatement" {
		return offers // better an old answer than none; and without any, everything is tried
	}
	offers = map[string]bool{}
	for res := range r.Value().All("rest.resource") {
		for i := range res.All("interaction.code") {
			if i.Str() == "search-type" {
				offers[res.Text("type")] = true
			}
		}
	}
	if len(offers) == 0 {
		return nil
	}
	c.mu.Lock()
	c.offers, c.asOf = offers, c.o.Now()
	c.mu.Unlock()
	return offers
}
