package pds

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// tries is how often one question is asked before it is given up.
const tries = 3

// longestRest is as long as PDS may tell us to wait before the question is given up instead.
const longestRest = 10 * time.Second

// get asks one question, and asks again what may succeed then: under the same X-Request-ID, as PDS wants of a request that is sent again. path begins with / and is
// told to nobody but PDS.
func (c *Client) get(ctx context.Context, path string, turn Turn) (fhir.Value, error) {
	id := requestID()
	var err error
	renewed := false
	for n := 0; n < tries; n++ {
		if err := c.budget.wait(ctx, turn); err != nil {
			return fhir.Value{}, c.fails(ctx, err)
		}
		var v fhir.Value
		var again time.Duration
		v, again, err = c.attempt(ctx, path, id)
		switch {
		case err == nil:
			return v, nil
		case fhir.Is(err, fhir.Login) && !renewed && c.o.Tokens != nil: // the token may just have run out
			c.o.Tokens.Drop()
			renewed = true
			n--
			continue
		case fhir.Is(err, fhir.Throttled):
			if again > longestRest {
				c.budget.rest(again)
				return fhir.Value{}, err
			}
			c.budget.rest(max(again, time.Second))
		case !fhir.Is(err, fhir.Timeout) && !fhir.Is(err, fhir.Transient) || ctx.Err() != nil:
			return fhir.Value{}, err
		default:
			t := time.NewTimer(time.Duration(n+1) * 250 * time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return fhir.Value{}, err
			}
		}
	}
	return fhir.Value{}, err
}

// attempt asks once. again is how long PDS wants to be left alone, if it does.
func (c *Client) attempt(ctx context.Context, path, id string) (v fhir.Value, again time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.o.Address+path, nil)
	if err != nil {
		return v, 0, fhir.Errorf(fhir.Exception, "the question to PDS could not be made").From(c.o.Source)
	}
	req.Header.Set("Accept", "application/fhir+json")
	req.Header.Set("X-Request-ID", id)
	if c.o.EndUser != "" {
		req.Header.Set("NHSD-End-User-Organisation-ODS", c.o.EndUser)
	}
	if c.o.Tokens != nil {
		token, err := c.o.Tokens.Token(ctx)
		if err != nil {
			return v, 0, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return v, 0, c.fails(ctx, err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(io.LimitReader(resp.Body, c.o.MaxBytes+1)); err != nil {
		return v, 0, c.fails(ctx, err)
	}
	if int64(body.Len()) > c.o.MaxBytes {
		return v, 0, fhir.Errorf(fhir.TooLong, "PDS's answer is larger than any answer of its can be").From(c.o.Source)
	}
	again = connector.RetryAfter(resp.Header, c.o.Now())
	v, err = fhir.ParseValue(body.Bytes())
	switch {
	case resp.StatusCode != http.StatusOK:
		return v, again, c.refusal(resp.StatusCode, v)
	case err != nil:
		return v, 0, fhir.Errorf(fhir.Structure, "PDS's answer is not JSON").From(c.o.Source)
	case v.Text("resourceType") == "OperationOutcome": // a search that too many answer is a 200
		return v, again, c.refusal(resp.StatusCode, v)
	}
	return v, 0, nil
}

// codes are the errors that the PDS FHIR API documents, and what they are here. Spine-ErrorOrWarningCode
var codes = map[string]struct {
	is   fhir.IssueType
	text string
}{
	"INVALID_RESOURCE_ID":       {fhir.ValueError, "PDS says that this is no NHS number"},
	"UNSUPPORTED_SERVICE":       {fhir.NotSupported, "PDS does not offer what was asked"},
	"MISSING_VALUE":             {fhir.Required, "PDS misses something in the question"},
	"INVALID_VALUE":             {fhir.ValueError, "PDS does not take a value in the question"},
	"INVALID_SEARCH_DATA":       {fhir.Invalid, "PDS does not search by this combination"},
	"ADDITIONAL_PROPERTIES":     {fhir.NotSupported, "PDS does not know a parameter of the question"},
	"ACCESS_DENIED":             {fhir.Forbidden, "PDS does not let this application ask this"},
	"INVALID_METHOD":            {fhir.Forbidden, "PDS does not let this application do this"},
	"FORBIDDEN_UPDATE":          {fhir.Forbidden, "PDS does not let this application change this"},
	"RESOURCE_NOT_FOUND":        {fhir.NotFound, "PDS knows nobody by this number"},
	"INVALIDATED_RESOURCE":      {fhir.Deleted, "PDS has invalidated this number"},
	"UNABLE_TO_CALL_SERVICE":    {fhir.Timeout, "PDS's own services did not answer it in time"},
	"RESOURCE_VERSION_MISMATCH": {fhir.Conflict, "PDS has a newer version of the record"},
	"PRECONDITION_FAILED":       {fhir.Conflict, "PDS does not do this to the record as it stands"},
	"TOO_MANY_REQUESTS":         {fhir.Throttled, "PDS is asked more often than the application may"},
	"TOO_MANY_MATCHES":          {fhir.MultipleMatch, "PDS knows more than one person who may be meant"},
}

// refusal reads an error of PDS: by its code, else by the HTTP status. What it says in diagnostics may repeat the question, and is not passed on.
func (c *Client) refusal(status int, v fhir.Value) error {
	code := ""
	for d := range v.All("issue.details.coding.code") {
		if _, ok := codes[d.Str()]; ok {
			code = d.Str()
			break
		}
	}
	known, ok := codes[code]
	switch {
	case status == http.StatusUnauthorized:
		return fhir.Errorf(fhir.Login, "PDS does not take our token (%s)", orStatus(code, status)).From(c.o.Source)
	case status == http.StatusForbidden:
		return fhir.Errorf(fhir.Forbidden, "PDS does not let this application ask this (%s)", orStatus(code, status)).From(c.o.Source)
	case ok:
		return fhir.Errorf(known.is, "%s (%s)", known.text, code).From(c.o.Source)
	case status == http.StatusTooManyRequests:
		return fhir.Errorf(fhir.Throttled, "PDS is asked more often than the application may (HTTP 429)").From(c.o.Source)
	case status == http.StatusRequestTimeout || status == http.StatusGatewayTimeout:
		return fhir.Errorf(fhir.Timeout, "PDS did not answer it in time (HTTP %d)", status).From(c.o.Source)
	case status >= 500:
		return fhir.Errorf(fhir.Transient, "PDS could not answer (HTTP %d)", status).From(c.o.Source)
	case status == http.StatusNotFound: // not PDS's own: a gateway that knows no such address says nothing about anybody
		return fhir.Errorf(fhir.NotSupported, "there is no PDS at its address (HTTP 404)").From(c.o.Source)
	}
	return fhir.Errorf(fhir.Processing, "PDS refused the question (HTTP %d)", status).From(c.o.Source)
}

func orStatus(code string, status int) string {
	if code != "" {
		return code
	}
	return "HTTP " + strconv.Itoa(status)
}

// fails says what went wrong on the way, without the URL that Go's own error would tell.
func (c *Client) fails(ctx context.Context, err error) *fhir.Issue {
	return connector.Unreached(ctx, "PDS", err).From(c.o.Source)
}

// requestID is a version 4 UUID. RFC 9562 §5.4
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
