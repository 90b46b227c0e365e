package gpconnect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Interactions that this connector speaks. GP Connect 1.6 integration_interaction_ids.html
const (
	InteractionStructured = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
	InteractionMetadata   = "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1"
)

const fhirJSON = "application/fhir+json;charset=utf-8"

// Options of a Client. Source, Address, ASID and ToASID are needed; the rest has defaults.
type Options struct {
	Source  string // id of the system in the region file
	Address string // the practice's service root, through the Spine proxy where there is one
	ASID    string // ours (Ssp-From)
	ToASID  string // the practice's (Ssp-To)

	Issuer   string // URL by which the practice knows us; https://tombolo.invalid/NODE if not given
	NodeName string // this installation, for the practice's audit; "tombolo" if not given
	Version  string // of this program; "1" if not given

	HTTP     *http.Client          // http.DefaultClient's transport if not given; redirects are never followed
	Now      func() time.Time      // time.Now if not given
	MaxBytes int64                 // most that an answer may have; 32 MiB if not given
	Narrow   func(Include) Include // site policy, such as only the last 20 consultations; may be nil
}

// A Client asks one practice. It may be used from many goroutines.
type Client struct {
	o    Options
	http http.Client
}

var _ connector.Asker = (*Client)(nil)

// New makes a Client, or says which option is wrong.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Address)
	switch {
	case o.Source == "":
		return nil, fhir.Errorf(fhir.Required, "a GP Connect source needs its id")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fhir.Errorf(fhir.ValueError, "address must be the practice's service root, such as https://gp.example.nhs.uk/M85001/STU3/1").From(o.Source)
	case o.ASID == "":
		return nil, fhir.Errorf(fhir.Required, "GP Connect needs this installation's own ASID").From(o.Source)
	case o.ToASID == "":
		return nil, fhir.Errorf(fhir.Required, "GP Connect needs the practice's ASID: give it as asid").From(o.Source)
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.NodeName = cmp.Or(o.NodeName, "tombolo")
	o.Version = cmp.Or(o.Version, "1")
	o.Issuer = strings.TrimRight(cmp.Or(o.Issuer, "https://tombolo.invalid/"+url.PathEscape(o.NodeName)), "/")
	o.MaxBytes = cmp.Or(o.MaxBytes, 32<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Client{o: o}
	if o.HTTP != nil {
		c.http = *o.HTTP
	}
	// A redirect could send the token and the NHS number to somebody else.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http.Jar = nil
	return c, nil
}

// Ask asks the practice for the headings of the question, by NHS number.
func (c *Client) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	nhs, err := nhsNumber(q.Identifiers)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	// GP Connect 1.6: the API serves direct care only, and the token would say so falsely of anything else.
	switch q.Requester.Purpose {
	case "TREAT", "ETREAT", "BTG", "CAREMGT", "COC":
	default:
		return nil, fhir.Errorf(fhir.Forbidden, "GP Connect may be asked for direct care only").From(c.o.Source)
	}
	if !slices.ContainsFunc(q.Headings, offered) {
		return nil, fhir.Errorf(fhir.NotSupported, "GP Connect gives none of the headings asked for").From(c.o.Source)
	}
	in := For(q.Headings)
	if c.o.Narrow != nil {
		in = c.o.Narrow(in)
	}
	if err := in.Check(c.o.Now()); err != nil {
		return nil, from(err, c.o.Source)
	}
	body, err := c.send(ctx, http.MethodPost, "/Patient/$gpc.getstructuredrecord", InteractionStructured, "patient/*.read", q.Requester, in.parameters(nhs))
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	bundle, err := fhir.ParseValue(body)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	if bundle.Text("resourceType") == "OperationOutcome" {
		return nil, failure(http.StatusInternalServerError, body).From(c.o.Source)
	}
	done, err := Convert(bundle)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	return answer(done, q.Headings, c.o.Source, int64(len(body))), nil
}

// Capability reads what the practice's system says it can do. It says nothing of any person.
//
// GP Connect 1.6 accessrecord_structured_get_the_fhir_capability_statement.html
func (c *Client) Capability(ctx context.Context, by connector.Requester) (fhir.Value, error) {
	body, err := c.send(ctx, http.MethodGet, "/metadata", InteractionMetadata, "organization/*.read", by, nil)
	if err != nil {
		return fhir.Value{}, from(err, c.o.Source)
	}
	v, err := fhir.ParseValue(body)
	if err == nil && v.Text("resourceType") != "CapabilityStatement" {
		err = fhir.Errorf(fhir.Structure, "not a CapabilityStatement")
	}
	if err != nil {
		return fhir.Value{}, from(err, c.o.Source)
	}
	return v, nil
}

func from(err error, source string) error {
	if is := fhir.IssueOf(err); is != nil {
		return is.From(source)
	}
	return err
}

// nhsNumber finds the one identifier by which GP Connect knows people.
func nhsNumber(ids []fhir.Identifier) (fhir.NHSNumber, error) {
	for _, id := range ids {
		if id = id.Canonical(); id.System == fhir.SystemNHSNumber && id.Value != "" {
			return fhir.ParseNHSNumber(id.Value)
		}
	}
	return fhir.NHSNumber{}, fhir.Errorf(fhir.NotSupported, "a GP practice can be asked by NHS number only, and none is known for this person")
}

// send makes one request and reads the whole answer, or says what went wrong in terms of the source.
func (c *Client) send(ctx context.Context, method, path, interaction, scope string, by connector.Requester, body []byte) ([]byte, error) {
	token, err := c.token(by, scope, c.o.Now())
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.o.Address+path, bytes.NewReader(body))
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "could not make the request to the practice")
	}
	h := req.Header
	h.Set("Accept", fhirJSON)
	if body != nil {
		h.Set("Content-Type", fhirJSON)
	}
	h.Set("Authorization", "Bearer "+token)
	// GP Connect 1.6 integration_spine_secure_proxy.html
	h.Set("Ssp-TraceID", traceID(by.TraceID))
	h.Set("Ssp-From", c.o.ASID)
	h.Set("Ssp-To", c.o.ToASID)
	h.Set("Ssp-InteractionID", interaction)
	h.Set("User-Agent", "Tombolo/"+c.o.Version)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, netFailure(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		some, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, failure(resp.StatusCode, some)
	}
	if err := checkType(resp.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	tooLong := fhir.Errorf(fhir.TooLong, "the practice's answer is larger than the %d MiB that this system takes from one source", c.o.MaxBytes>>20)
	if resp.ContentLength > c.o.MaxBytes {
		return nil, tooLong
	}
	data, err := readAll(resp.Body, resp.ContentLength, c.o.MaxBytes)
	if err != nil {
		return nil, netFailure(ctx, err)
	}
	if int64(len(data)) > c.o.MaxBytes {
		return nil, tooLong
	}
	return data, nil
}

// readAll reads one byte more than allowed at the most, and allocates no more than what comes.
func readAll(r io.Reader, length, most int64) ([]byte, error) {
	var b bytes.Buffer
	if length > 0 && length <= most {
		b.Grow(int(min(length, 1<<20)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(r, most+1))
	return b.Bytes(), err
}

// checkType takes FHIR JSON under its names old and new. GP Connect 1.6 development_fhir_api_guidance.html
func checkType(header string) error {
	typ, params, err := mime.ParseMediaType(header)
	if err == nil {
		switch cs := strings.ToLower(params["charset"]); {
		case cs != "" && cs != "utf-8" && cs != "utf8":
			return fhir.Errorf(fhir.Structure, "the practice's answer is not in UTF-8")
		case typ == "application/fhir+json", typ == "application/json+fhir", typ == "application/json":
			return nil
		}
	}
	return fhir.Errorf(fhir.Structure, "the practice's answer is not FHIR JSON: something else may stand at its address")
}

// netFailure says how the network failed, without the address and whatever else the error's text may hold.
func netFailure(ctx context.Context, err error) *fhir.Issue {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fhir.Errorf(fhir.Timeout, "the practice's system did not answer in time")
	case ctx.Err() != nil:
		return fhir.Errorf(fhir.Transient, "the question was withdrawn before the practice's system had answered")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fhir.Errorf(fhir.Transient, "the practice's system broke off in the middle of its answer")
	}
	return fhir.Errorf(fhir.Transient, "the practice's system could not be reached")
}

// traceID is the request's own, if it is a UUID as both sides' logs want it; else a new one.
func traceID(s string) string {
	if len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(strings.ToLower(s), "0123456789abcdef-") == "" {
		return s
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
