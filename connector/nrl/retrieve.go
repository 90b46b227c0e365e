package nrl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// interactionRead is what the Spine Secure Proxy is asked for. NRL: Retrieval Read Interaction
const interactionRead = "urn:nhs:names:services:nrl:DocumentReference.content.read"

// RetrieverOptions say what may be fetched, and as whom. Zero: nothing.
type RetrieverOptions struct {
	Proxy  string        // the Spine Secure Proxy, https://proxy.example; "" if there is none
	ASID   string        // of our own system, for the proxy
	Hosts  []string      // from which is fetched without it, and to which users are sent: a host as it stands in addresses, or *.example.nhs.uk
	Issuer func() string // this node's own public base URL
	// Token gives the access token for large documents (LDR); nil: none goes.
	Token    func(context.Context) (string, error)
	HTTP     *http.Client
	MaxBytes int64 // of a document; 32 MiB if 0
	Now      func() time.Time
}

// A Retriever fetches what pointers lead to. An address comes from whoever registered the pointer: only the proxy, and hosts that the region file names, are gone to,
// nothing is redirected, and what is no document of the kind that the pointer says is not taken. It implements connector.Retriever.
type Retriever struct{ o RetrieverOptions }

var _ connector.Retriever = (*Retriever)(nil)

// NewRetriever makes a Retriever.
func NewRetriever(o RetrieverOptions) (*Retriever, error) {
	if u, err := url.Parse(o.Proxy); o.Proxy != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return nil, fhir.Errorf(fhir.ValueError, "the Spine Secure Proxy needs an address such as https://proxy.example.nhs.uk")
	}
	o.Proxy = strings.TrimRight(o.Proxy, "/")
	o.MaxBytes = cmp.Or(o.MaxBytes, 32<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	client := &http.Client{Transport: http.DefaultTransport}
	if o.HTTP != nil {
		*client = *o.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP = client
	return &Retriever{o}, nil
}

// Retrieve implements connector.Retriever. NotSupported: it is to be read elsewhere.
func (x *Retriever) Retrieve(ctx context.Context, by connector.Requester, pointer *fhir.Resource) (connector.Retrieved, error) {
	p := Pointer{Resource: pointer}
	address := p.Text("content.attachment.url")
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return connector.Retrieved{}, fhir.Errorf(fhir.Structure, "the pointer's address is none that could be opened: ask whoever holds the record")
	case NamesSomebody(address, p.Subject()):
		return connector.Retrieved{}, fhir.Errorf(fhir.Structure, "the pointer's address has a person's number in it, so it is not followed: ask whoever holds the record")
	}
	mechanism := p.Mechanism()
	if u.Scheme == "ssp" {
		mechanism = SSP
	}
	if mechanism == SSP {
		file, err := x.proxied(ctx, by, p, u)
		return connector.Retrieved{File: file}, err
	}
	if u.Scheme != "https" && !loopback(u) || !x.allowed(u.Host) {
		return connector.Retrieved{}, fhir.Errorf(fhir.NotSupported, "this is held elsewhere, at a place that is not opened from here: ask whoever holds the record, or open it in their system")
	}
	if mechanism == InContext {
		return connector.Retrieved{Launch: u.String()}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return connector.Retrieved{}, fhir.Errorf(fhir.Exception, "the request could not be made")
	}
	if mechanism == LDR && x.o.Token != nil { // details to ring are public, and are asked for by nobody in particular
		token, err := x.o.Token(ctx)
		if err != nil {
			return connector.Retrieved{}, fhir.Errorf(fhir.Exception, "the access token could not be had: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	file, err := x.get(req, p)
	return connector.Retrieved{File: file}, err
}

func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// allowed reports whether the region file lets a host be gone to.
func (x *Retriever) allowed(host string) bool {
	return slices.ContainsFunc(x.o.Hosts, func(h string) bool {
		if suffix, ok := strings.CutPrefix(h, "*"); ok {
			return strings.HasSuffix(strings.ToLower(host), strings.ToLower(suffix)) && strings.HasPrefix(suffix, ".")
		}
		return strings.EqualFold(h, host)
	})
}

// proxied fetches through the Spine Secure Proxy, which knows whether the two systems may. NRL consumer API, "Requesting Information via the SSP"
func (x *Retriever) proxied(ctx context.Context, by connector.Requester, p Pointer, u *url.URL) (*fhir.Resource, error) {
	if x.o.Proxy == "" || x.o.ASID == "" {
		return nil, fhir.Errorf(fhir.NotSupported, "this is held elsewhere, and is fetched through the Spine Secure Proxy, which this region has no access to: ask whoever holds the record")
	}
	to := ""
	for id := range p.Value().All("context.related.identifier") {
		if id.Text("system") == fhir.SystemASID {
			to = id.Text("value")
		}
	}
	if to == "" {
		return nil, fhir.Errorf(fhir.Structure, "the pointer does not say which system the proxy is to ask: ask whoever holds the record")
	}
	if by.UserID == "" || by.OrganisationODS == "" {
		return nil, fhir.Errorf(fhir.Required, "whoever holds the record must be told which user asks, and for which organisation")
	}
	provider := *u
	provider.Scheme = "https"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.o.Proxy+"/"+strings.ReplaceAll(url.QueryEscape(provider.String()), "+", "%20"), nil)
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the request could not be made")
	}
	req.Header.Set("Authorization", "Bearer "+x.token(by, provider.String()))
	req.Header.Set("Ssp-TraceID", by.TraceID)
	req.Header.Set("Ssp-From", x.o.ASID)
	req.Header.Set("Ssp-To", to)
	req.Header.Set("Ssp-InteractionID", interactionRead)
	return x.get(req, p)
}

// token is the unsigned JWT by which the provider learns who asks. NRL consumer API, "Access Token (JWT)"; RFC 7519 §6
func (x *Retriever) token(by connector.Requester, audience string) string {
	issuer := ""
	if x.o.Issuer != nil {
		issuer = x.o.Issuer()
	}
	user := fhir.SystemSDSRole + "|" + by.SDSRoleID
	if by.SDSRoleID == "" || by.SDSRoleID == "UNK" {
		user = issuer + "/Id/user|" + by.UserID
	}
	issued := x.o.Now().Unix()
	claims := fhir.JSON(fhir.M{"iss": issuer, "sub": user, "aud": audience, "iat": issued, "exp": issued + 300, "reason_for_request": "directcare", "scope": "patient/DocumentReference.read",
		"requesting_system": "https://fhir.nhs.uk/Id/accredited-system|" + x.o.ASID, "requesting_organization": fhir.SystemODS + "|" + by.OrganisationODS, "requesting_user": user})
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + enc.EncodeToString(claims) + "."
}

// retryPause is how long is waited before what failed in passing is asked for once more: the service is known to fail the first time now and then.
const retryPause = 200 * time.Millisecond

// get fetches a document, and once more if it fails in passing.
func (x *Retriever) get(req *http.Request, p Pointer) (*fhir.Resource, error) {
	file, err := x.once(req, p)
	if !fhir.Is(err, fhir.Transient) {
		return file, err
	}
	select {
	case <-time.After(retryPause):
		return x.once(req, p)
	case <-req.Context().Done():
		return nil, err
	}
}

func (x *Retriever) once(req *http.Request, p Pointer) (*fhir.Resource, error) {
	resp, err := x.o.HTTP.Do(req)
	if err != nil {
		return nil, fetchFailure(req.Context(), err)
	}
	defer resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound || status == http.StatusGone:
		return nil, fhir.Errorf(fhir.NotFound, "whoever holds the record no longer has this document (status %d)", status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, fhir.Errorf(fhir.Suppressed, "whoever holds the record does not give this document to us (status %d)", status)
	case status >= 500 || status == http.StatusTooManyRequests:
		return nil, fhir.Errorf(fhir.Transient, "whoever holds the record could not give this document now (status %d): try again", status)
	case status != http.StatusOK:
		return nil, fhir.Errorf(fhir.NotSupported, "whoever holds the record did not give this document (status %d)", status)
	}
	tooLong := fhir.Errorf(fhir.TooLong, "the document is larger than %d MiB: open it in the system that holds it", x.o.MaxBytes>>20)
	if resp.ContentLength > x.o.MaxBytes {
		return nil, tooLong
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, x.o.MaxBytes+1))
	if err != nil {
		return nil, fetchFailure(req.Context(), err)
	}
	if int64(len(data)) > x.o.MaxBytes {
		return nil, tooLong
	}
	return taken(p, resp.Header.Get("Content-Type"), data)
}

func fetchFailure(ctx context.Context, err error) error {
	return connector.Unreached(ctx, "whoever holds the record", err)
}

// taken holds what came to what the pointer said: its kind. A Binary in FHIR's own form is taken as it is.
func taken(p Pointer, declared string, data []byte) (*fhir.Resource, error) {
	said, _, err := mime.ParseMediaType(p.Text("content.attachment.contentType"))
	got, params, goterr := mime.ParseMediaType(declared)
	if err != nil || goterr != nil || got != said {
		return nil, fhir.Errorf(fhir.Structure, "what came is no document of the kind that the pointer says: open it in the system that holds it")
	}
	if got == "application/fhir+json" && bytes.Contains(data[:min(len(data), 1024)], []byte(`"Binary"`)) {
		if r, err := fhir.Parse(data); err == nil && r.Type() == "Binary" {
			return r, nil
		}
	}
	return fhir.New("Binary", "", fhir.M{"contentType": mime.FormatMediaType(got, params), "data": base64.StdEncoding.EncodeToString(data)}), nil
}
