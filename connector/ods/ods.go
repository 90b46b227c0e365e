// Package ods looks organisations up in the Organisation Data Service: what they are called, where they are, whether they go on, and who succeeded them.
//
// It speaks the Organisation Data Terminology API (FHIR R4). Nothing in it is about any person.
package ods

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Options of a Client. Address is needed.
type Options struct {
	Address string        // https://api.service.nhs.uk/organisation-data-terminology-api/fhir
	APIKey  string        // header apikey, where the service wants one
	Believe time.Duration // how long an answer is believed; a day if not given
	HTTP    *http.Client
	Now     func() time.Time
}

// An Organisation is what ODS says of one.
type Organisation struct {
	Code       string        `json:"code"`
	Name       string        `json:"name"`
	Active     bool          `json:"active"`
	Address    *fhir.Address `json:"address,omitempty"`
	Phone      string        `json:"phone,omitempty"`
	Roles      []string      `json:"roles,omitempty"` // codes of ODSOrganisationRole that are active, RO177
	Successors []string      `json:"successors,omitempty"`
	Changed    string        `json:"changed,omitempty"` // LastChangeDate
}

// A Client asks ODS. It may be used from many goroutines.
type Client struct {
	o     Options
	http  http.Client
	known *connector.Lookup[string, Organisation]
}

// New makes a Client, or says which option is wrong.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" {
		return nil, fhir.Errorf(fhir.ValueError, "the address of ODS must be its service root, such as https://api.service.nhs.uk/organisation-data-terminology-api/fhir")
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.Believe = cmp.Or(o.Believe, 24*time.Hour)
	c := &Client{o: o}
	c.known = connector.NewLookup(o.Believe, o.Now, c.look)
	if o.HTTP != nil {
		c.http = *o.HTTP
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

var code = regexp.MustCompile(`^[A-Za-z0-9]{1,12}$`)

// Organisation looks one up by its ODS code. NotFound: ODS knows no such code. While ODS cannot be reached, an answer that has grown old is given rather than none.
func (c *Client) Organisation(ctx context.Context, ods string) (Organisation, error) {
	if !code.MatchString(ods) {
		return Organisation{}, fhir.Errorf(fhir.ValueError, "an ODS code has letters and digits only, twelve at most")
	}
	return c.known.Get(ctx, ods)
}

func (c *Client) look(ctx context.Context, ods string) (Organisation, error) {
	v, err := c.get(ctx, "/Organization/"+ods)
	if err != nil {
		return Organisation{}, err
	}
	if v.Text("resourceType") != "Organization" {
		return Organisation{}, fhir.Errorf(fhir.Structure, "ODS's answer is not an Organization")
	}
	org := Organisation{Code: ods, Name: v.Text("name"), Active: v.Text("active") != "false", Changed: changed(v)}
	for t := range v.All("telecom") {
		if t.Text("system") == "phone" && org.Phone == "" {
			org.Phone = t.Text("value")
		}
	}
	for a := range v.All("address") {
		var to fhir.Address
		if org.Address == nil && a.Decode(&to) == nil {
			org.Address = &to
		}
	}
	org.Roles = roles(v)
	if org.Active {
		return org, nil // whoever goes on has no successor
	}
	if org.Successors, err = c.successors(ctx, ods); err != nil && !fhir.Is(err, fhir.NotFound) {
		return Organisation{}, err
	}
	return org, nil
}

const extensionRoot = "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-"

// roles are the codes of the roles that an Organization has now.
func roles(v fhir.Value) []string {
	var out []string
	for x := range v.All("extension") {
		if x.Text("url") != extensionRoot+"OrganisationRole" {
			continue
		}
		role, active := "", true
		for part := range x.All("extension") {
			switch part.Text("url") {
			case "roleCode":
				role = part.Text("valueCodeableConcept.coding.code")
			case "active":
				active = part.Member("valueBoolean").Bool()
			}
		}
		if role != "" && active && !slices.Contains(out, role) {
			out = append(out, role)
		}
	}
	return out
}

// changed is the LastChangeDate.
func changed(v fhir.Value) string {
	for x := range v.All("extension") {
		if x.Text("url") != extensionRoot+"TypedDateTime" {
			continue
		}
		isChange, at := false, ""
		for part := range x.All("extension") {
			isChange = isChange || part.Text("valueCoding.code") == "LastChangeDate"
			at = cmp.Or(part.Text("valueDateTime"), at)
		}
		if isChange {
			return at
		}
	}
	return ""
}

// successors are the codes in the successor properties of an organisation's code. The published specification names the property in words only, so each property
// whose name begins with "successor" and whose value is a code counts.
func (c *Client) successors(ctx context.Context, ods string) ([]string, error) {
	q := url.Values{"system": {fhir.SystemODS}, "code": {ods}, "property": {"*"}}
	v, err := c.get(ctx, "/CodeSystem/$lookup?"+q.Encode())
	if err != nil {
		return nil, err
	}
	var out []string
	for p := range v.All("parameter") {
		if p.Text("name") != "property" {
			continue
		}
		name, value := "", ""
		for part := range p.All("part") {
			switch part.Text("name") {
			case "code":
				name = part.Text("valueCode") + part.Text("valueString")
			case "value":
				value = part.Text("valueCode") + part.Text("valueString") + part.Text("valueCoding.code")
			}
		}
		if strings.HasPrefix(strings.ToLower(name), "successor") && code.MatchString(value) && value != ods && !slices.Contains(out, value) {
			out = append(out, value)
		}
	}
	return out, nil
}

// get asks one question.
func (c *Client) get(ctx context.Context, path string) (fhir.Value, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.o.Address+path, nil)
	if err != nil {
		return fhir.Value{}, fhir.Errorf(fhir.Exception, "the question to ODS could not be made")
	}
	req.Header.Set("Accept", "application/fhir+json")
	if c.o.APIKey != "" {
		req.Header.Set("apikey", c.o.APIKey)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fhir.Value{}, connector.Unreached(ctx, "ODS", err)
	}
	defer resp.Body.Close()
	const limit = 5 << 20 // the service gives no more
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return fhir.Value{}, fhir.Errorf(fhir.Transient, "ODS broke off in the middle of its answer")
	case len(body) > limit:
		return fhir.Value{}, fhir.Errorf(fhir.TooLong, "ODS's answer is larger than any answer of its can be")
	}
	v, bad := fhir.ParseValue(body)
	switch status := resp.StatusCode; {
	case status == http.StatusOK && bad != nil:
		return v, fhir.Errorf(fhir.Structure, "ODS's answer is not JSON")
	case status == http.StatusOK:
		return v, nil
	case status == http.StatusNotFound || status == http.StatusGone:
		return v, fhir.Errorf(fhir.NotFound, "ODS knows no such organisation (HTTP %d)", status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return v, fhir.Errorf(fhir.Forbidden, "ODS does not take our API key (HTTP %d)", status)
	case status == http.StatusTooManyRequests:
		return v, fhir.Errorf(fhir.Throttled, "ODS is asked too often (HTTP 429)")
	case status == http.StatusMethodNotAllowed || status == http.StatusNotAcceptable:
		return v, fhir.Errorf(fhir.NotSupported, "ODS does not offer what was asked (HTTP %d)", status)
	case status >= 500:
		return v, fhir.Errorf(fhir.Transient, "ODS could not answer (HTTP %d)", status)
	}
	return v, fhir.Errorf(fhir.Invalid, "ODS refused the question (HTTP %d)", resp.StatusCode)
}
