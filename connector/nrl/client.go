package nrl

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// ClientOptions say which locator is asked, and as whom.
type ClientOptions struct {
	Name    string // what people call it, in errors
	Address string // base URL: https://api.service.nhs.uk/record-locator
	As      string // ODS code of the organisation for which it is asked
	// Token gives the access token of a request; nil: none goes (a client certificate may be in HTTP).
	Token    func(context.Context) (string, error)
	HTTP     *http.Client
	MaxBytes int64 // of one answer; 8 MiB if 0
	MaxPages int   // 50 if 0
}

// A Client asks and tells one locator. Who a question is about goes in bodies, never in addresses: searches are by POST, as the locator prefers. What it
// refuses is an error with an *Outcome and a fhir issue type. It may be used from many goroutines.
type Client struct{ o ClientOptions }

// NewClient makes a Client. A redirect is never followed: it would take the credential and the question elsewhere.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fhir.Errorf(fhir.ValueError, "a record locator needs an address such as https://api.service.nhs.uk/record-locator")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 8 << 20
	}
	if o.MaxPages == 0 {
		o.MaxPages = 50
	}
	if o.Name == "" {
		o.Name = "the record locator"
	}
	client := &http.Client{Transport: http.DefaultTransport}
	if o.HTTP != nil {
		*client = *o.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP, o.Address = client, strings.TrimRight(o.Address, "/")
	return &Client{o}, nil
}

// Found is what a search gave.
type Found struct {
	Pointers []Pointer
	Total    int   // what the locator says there are
	Left     int   // entries that could not be read
	Bytes    int64 // over the wire
}

// Search finds the pointers about somebody that the organisation may be told of. trace is the request's id at both ends; "" for a new one.
func (c *Client) Search(ctx context.Context, q Query, trace string) (Found, error) {
	return c.search(ctx, "consumer", q, trace)
}

// Own finds the organisation's own pointers about somebody, as their producer.
func (c *Client) Own(ctx context.Context, q Query) (Found, error) {
	return c.search(ctx, "producer", q, "")
}

// Count is how many pointers there are about somebody.
func (c *Client) Count(ctx context.Context, q Query, trace string) (int, error) {
	q.Count = true
	f, err := c.search(ctx, "consumer", q, trace)
	return f.Total, err
}

func (c *Client) search(ctx context.Context, side string, q Query, trace string) (Found, error) {
	var out Found
	body := map[string]string{"subject:identifier": fhir.SystemNHSNumber + "|" + q.Subject.Digits()}
	if len(q.Types) > 0 {
		body["type"] = strings.Join(q.Types, ",")
	}
	if len(q.Categories) > 0 {
		body["category"] = strings.Join(q.Categories, ",")
	}
	if q.Custodian != "" {
		body["custodian:identifier"] = fhir.SystemODS + "|" + q.Custodian
	}
	if q.Count {
		body["_summary"] = "count"
	}
	seen := map[string]bool{}
	for page := 1; ; page++ {
		data, err := json.Marshal(body)
		if err != nil {
			return out, err
		}
		_, answer, err := c.do(ctx, side, http.MethodPost, "/DocumentReference/_search", "application/json", trace, data)
		if err != nil {
			return out, err
		}
		out.Bytes += int64(len(answer))
		next, err := c.readPage(answer, q, &out)
		switch {
		case err != nil || next == "":
			return out, err
		case seen[next] || page >= c.o.MaxPages:
			return out, fhir.Errorf(fhir.Incomplete, "%s has more pages than can be read, or they lead in a circle", c.o.Name)
		}
		seen[next] = true
		body["next-page-token"] = next
	}
}

// readPage takes the pointers of one answer, and gives the token of the next page.
func (c *Client) readPage(answer []byte, q Query, out *Found) (next string, err error) {
	root, err := fhir.ParseValue(answer)
	if err != nil || root.Text("resourceType") != "Bundle" {
		return "", fhir.Errorf(fhir.Structure, "%s sent what is no Bundle", c.o.Name)
	}
	_, _ = fmt.Sscan(root.Text("total"), &out.Total)
	for e, err := range fhir.Entries(root) {
		if err != nil || e.Resource == nil || e.Resource.Type() != "DocumentReference" {
			out.Left++
			continue
		}
		out.Pointers = append(out.Pointers, Pointer{e.Resource})
	}
	for l := range root.All("link") {
		if l.Text("relation") == "next" { // only the token: where to ask is for this end to know
			if u, err := url.Parse(l.Text("url")); err == nil {
				next = u.Query().Get("next-page-token")
			}
		}
	}
	return next, nil
}

// tell makes a request that changes something. Only an outcome that says so means that it was done: whatever else answers under its address has done nothing.
func (c *Client) tell(ctx context.Context, method, path, content, correlation string, body []byte) (http.Header, error) {
	h, answer, err := c.do(ctx, "producer", method, path, content, correlation, body)
	if err != nil {
		return nil, err
	}
	if o := readOutcome(http.StatusOK, answer); len(o.Issues) != 1 || o.Issues[0].Severity != "information" {
		return nil, fhir.Errorf(fhir.Transient, "%s answered what is not understood", c.o.Name)
	}
	return h, nil
}

// Read gives one pointer.
func (c *Client) Read(ctx context.Context, id string) (Pointer, error) {
	_, answer, err := c.do(ctx, "consumer", http.MethodGet, "/DocumentReference/"+url.PathEscape(id), "", "", nil)
	if err != nil {
		return Pointer{}, err
	}
	r, err := fhir.Parse(answer)
	if err != nil || r.Type() != "DocumentReference" {
		return Pointer{}, fhir.Errorf(fhir.Structure, "%s sent what is no pointer", c.o.Name)
	}
	return Pointer{r}, nil
}

// Create registers a pointer and gives the id that it has been given. The same correlation may be sent again where no answer was heard; a locator that
// heeds it makes no second pointer.
func (c *Client) Create(ctx context.Context, p Pointer, correlation string) (id string, err error) {
	h, err := c.tell(ctx, http.MethodPost, "/DocumentReference", MediaType, correlation, p.Raw())
	if err != nil {
		return "", err
	}
	_, id, ok := strings.Cut(h.Get("Location"), "/DocumentReference/")
	if !ok || id == "" {
		return "", fhir.Errorf(fhir.Transient, "%s does not say what it made of a pointer", c.o.Name)
	}
	return id, nil
}

// Upsert registers a pointer under its own id. A Conflict means that there is one already.
func (c *Client) Upsert(ctx context.Context, p Pointer) error {
	_, err := c.tell(ctx, http.MethodPut, "/DocumentReference", MediaType, "", p.Raw())
	return err
}

// Update changes a pointer.
func (c *Client) Update(ctx context.Context, p Pointer) error {
	_, err := c.tell(ctx, http.MethodPut, "/DocumentReference/"+url.PathEscape(p.ID()), MediaType, "", p.Raw())
	return err
}

// Delete takes a pointer away; one that is not there is no error.
func (c *Client) Delete(ctx context.Context, id string) error {
	_, err := c.tell(ctx, http.MethodDelete, "/DocumentReference/"+url.PathEscape(id), "", "", nil)
	if o := OutcomeOf(err); o != nil && o.Status == http.StatusNotFound {
		return nil
	}
	return err
}

// do makes one request.
func (c *Client) do(ctx context.Context, side, method, path, content, correlation string, body []byte) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.o.Address+"/"+side+"/FHIR/R4"+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fhir.Errorf(fhir.Exception, "the request could not be made")
	}
	req.Header.Set("Accept", MediaType)
	req.Header.Set(HeaderODS, c.o.As)
	req.Header.Set(HeaderRequest, requestID())
	if correlation != "" {
		req.Header.Set(HeaderCorrelation, correlation)
	}
	if content != "" {
		req.Header.Set("Content-Type", content)
	}
	if c.o.Token != nil {
		token, err := c.o.Token(ctx)
		if err != nil {
			return nil, nil, fhir.Errorf(fhir.Transient, "no access token for %s: %w", c.o.Name, err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return nil, nil, c.failure(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, c.o.MaxBytes+1))
	switch {
	case err != nil:
		return nil, nil, c.failure(ctx, err)
	case int64(len(answer)) > c.o.MaxBytes:
		return nil, nil, fhir.Errorf(fhir.TooLong, "%s sent more than %d bytes", c.o.Name, c.o.MaxBytes)
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return resp.Header, answer, nil
	}
	o := readOutcome(resp.StatusCode, answer)
	return nil, nil, fhir.Errorf(o.kind(), "%s: %w", c.o.Name, error(o))
}

func (c *Client) failure(ctx context.Context, err error) error {
	return connector.Unreached(ctx, c.o.Name, err)
}

// requestID is a new UUID.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
