package gpconnect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// Interactions that this connector speaks. GP Connect 1.6 integration_interaction_ids.html
const (
	InteractionStructured = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
	InteractionMetadata   = "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1"

	InteractionHTML = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getcarerecord"

	InteractionDocumentPatient = "urn:nhs:names:services:gpconnect:documents:fhir:rest:search:patient-1"
	InteractionDocumentSearch  = "urn:nhs:names:services:gpconnect:documents:fhir:rest:search:documentreference-1"
	InteractionDocumentRead    = "urn:nhs:names:services:gpconnect:documents:fhir:rest:read:binary-1"

	InteractionPatient             = "urn:nhs:names:services:gpconnect:fhir:rest:search:patient-1"
	InteractionSlots               = "urn:nhs:names:services:gpconnect:fhir:rest:search:slot-1"
	InteractionPatientAppointments = "urn:nhs:names:services:gpconnect:fhir:rest:search:patient_appointments-1"
	InteractionAppointmentRead     = "urn:nhs:names:services:gpconnect:fhir:rest:read:appointment-1"
	InteractionAppointmentCreate   = "urn:nhs:names:services:gpconnect:fhir:rest:create:appointment-1"
	InteractionAppointmentUpdate   = "urn:nhs:names:services:gpconnect:fhir:rest:update:appointment-1"
	InteractionAppointmentCancel   = "urn:nhs:names:services:gpconnect:fhir:rest:cancel:appointment-1"
)

const (
	fhirJSON = "application/fhir+json;charset=utf-8"
	oldJSON  = "application/json+fhir;charset=utf-8" // what FHIR called it when Access Record HTML was made
)

// A call is one request of an interaction.
type call struct {
	method, path string
	interaction  string
	scope        string // patient/*.read, patient/*.write, organization/*.read
	query        url.Values
	body         []byte
	ifMatch      string
	old          fhir.NHSNumber // Access Record HTML: whose record, for its older token; zero otherwise
	most         int64          // bytes of the answer; Options.MaxBytes if 0
	turn         *turn          // taken by a large answer, for the caller to give back when it is done with; nil: none is
}

// Large answers take turns, whichever practice they are from: what becomes of one costs several times its size, and many at
// once would be more than a machine has. Records of general practice are hardly ever as large.
const (
	largeAnswer = 4 << 20
	largeAtOnce = 2
)

var turns = make(chan struct{}, largeAtOnce)

// A turn is what a large answer waits for. The zero turn has not been taken.
type turn struct{ taken bool }

func (t *turn) take(ctx context.Context) error {
	if t == nil || t.taken {
		return nil
	}
	select {
	case turns <- struct{}{}:
		t.taken = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) done() {
	if t != nil && t.taken {
		<-turns
		t.taken = false
	}
}

// endpoint finds where an interaction is answered. An issue of type NotSupported: the practice does not offer it.
func (c *Client) endpoint(ctx context.Context, interaction string) (Endpoint, error) {
	if c.o.Where != nil {
		e, err := c.o.Where(ctx, interaction)
		if fhir.Is(err, fhir.NotFound) {
			return e, fhir.Errorf(fhir.NotSupported, "the practice does not offer this through GP Connect: SDS has no endpoint for it")
		}
		return e, err
	}
	e := Endpoint{ASID: c.o.ToASID}
	switch interaction {
	case InteractionStructured, InteractionMetadata:
		e.Address = c.o.Address
	case InteractionHTML:
		e.Address = c.o.HTML
	case InteractionDocumentPatient, InteractionDocumentSearch, InteractionDocumentRead:
		e.Address = c.o.Documents
	default:
		e.Address = c.o.Appointments
	}
	if e.Address == "" {
		return e, fhir.Errorf(fhir.NotSupported, "the practice does not offer this through GP Connect, or the region file gives no address for it")
	}
	return e, nil
}

// offers reports whether there is an endpoint for an interaction. That it cannot be told just now is an error.
func (c *Client) offers(ctx context.Context, interaction string) (bool, error) {
	_, err := c.endpoint(ctx, interaction)
	if fhir.Is(err, fhir.NotSupported) {
		return false, nil
	}
	return err == nil, err
}

// send makes one request and reads the whole answer, or says what went wrong in terms of the source.
func (c *Client) send(ctx context.Context, by connector.Requester, k call) ([]byte, error) {
	resp, err := c.open(ctx, by, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		b.Grow(int(min(n, 1<<20)) + bytes.MinRead)
	}
	in := &bounded{r: resp.Body, left: c.most(k), most: c.most(k)}
	if _, err := b.ReadFrom(in); err != nil {
		return nil, readFailure(ctx, err)
	}
	return b.Bytes(), nil
}

func (c *Client) most(k call) int64 { return cmp.Or(k.most, c.o.MaxBytes) }

// open makes one request. Its answer has been looked at as far as that can be done without reading it.
func (c *Client) open(ctx context.Context, by connector.Requester, k call) (*http.Response, error) {
	req, err := c.request(ctx, by, k)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, netFailure(ctx, err)
	}
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		some, _ := io.ReadAll(io.LimitReader(resp.Body, headSize))
		err = failure(resp.StatusCode, some)
		if i := fhir.IssueOf(err); i != nil && (i.Type == fhir.Throttled || i.Type == fhir.Transient) {
			i.After = connector.RetryAfter(resp.Header, c.o.Now())
		}
	case resp.ContentLength > c.most(k):
		err = tooLong(c.most(k))
	default:
		err = checkType(resp.Header.Get("Content-Type"))
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// request makes the request of a call, with the Spine's headers and the token of whoever asks.
func (c *Client) request(ctx context.Context, by connector.Requester, k call) (*http.Request, error) {
	to, err := c.endpoint(ctx, k.interaction)
	if err != nil {
		return nil, err
	}
	token, err := c.token(by, to.Address, k)
	if err != nil {
		return nil, err
	}
	// GP Connect 1.6 integration_spine_secure_proxy.html: the practice's address stands whole behind the proxy's.
	address := to.Address + k.path
	if c.o.Proxy != "" {
		address = c.o.Proxy + "/" + address
	}
	if len(k.query) > 0 {
		address += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, address, bytes.NewReader(k.body))
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "could not make the request to the practice")
	}
	h, format := req.Header, fhirJSON
	if !k.old.IsZero() {
		format = oldJSON
	}
	h.Set("Accept", format)
	if k.body != nil {
		h.Set("Content-Type", format)
	}
	if k.ifMatch != "" {
		h.Set("If-Match", k.ifMatch)
	}
	h.Set("Authorization", "Bearer "+token)
	by.Accompany(ctx, h)
	h.Set("Ssp-TraceID", traceID(by.TraceID))
	h.Set("Ssp-From", c.o.ASID)
	h.Set("Ssp-To", to.ASID)
	h.Set("Ssp-InteractionID", k.interaction)
	h.Set("User-Agent", "Tombolo/"+c.o.Version)
	return req, nil
}

// readFailure says how the reading of an answer failed.
func readFailure(ctx context.Context, err error) error {
	if fhir.IssueOf(err) != nil {
		return err
	}
	return netFailure(ctx, err)
}

// record asks for a bundle and converts it while it arrives.
func (c *Client) record(ctx context.Context, by connector.Requester, k call, anybody bool) (*Converted, error) {
	resp, err := c.open(ctx, by, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	in := &arriving{ctx: ctx, r: resp.Body, turn: k.turn}
	done, err := newConverter(anybody).read(in, c.most(k))
	if err == nil {
		return done, nil
	}
	if fhir.Is(err, fhir.Structure) { // an OperationOutcome in the place of a bundle is a failure of its own
		_, _ = io.Copy(io.Discard, io.LimitReader(in, int64(headSize-len(in.head))))
		if v, perr := fhir.ParseValue(in.head); perr == nil && v.Text("resourceType") == "OperationOutcome" {
			return nil, failure(http.StatusInternalServerError, in.head)
		}
	}
	return nil, readFailure(ctx, err)
}

// headSize is what is kept of the beginning of an answer, and read of one that is a failure, to say what went wrong.
const headSize = 64 << 10

// An arriving answer waits for its turn once it has turned out to be large.
type arriving struct {
	ctx  context.Context
	r    io.Reader
	n    int64
	turn *turn
	head []byte
}

func (a *arriving) Read(p []byte) (int, error) {
	if a.n >= largeAnswer {
		if err := a.turn.take(a.ctx); err != nil {
			return 0, err
		}
	}
	n, err := a.r.Read(p)
	a.n += int64(n)
	if room := headSize - len(a.head); room > 0 {
		a.head = append(a.head, p[:min(n, room)]...)
	}
	return n, err
}

// ask sends and reads the answer as JSON of one of the wanted resource types; an OperationOutcome in its place is a failure.
func (c *Client) ask(ctx context.Context, by connector.Requester, k call, want ...string) (fhir.Value, int64, error) {
	body, err := c.send(ctx, by, k)
	if err != nil {
		return fhir.Value{}, 0, err
	}
	v, err := fhir.ParseValue(body)
	if err != nil {
		return fhir.Value{}, 0, err
	}
	switch typ := v.Text("resourceType"); {
	case slices.Contains(want, typ):
		return v, int64(len(body)), nil
	case typ == "OperationOutcome":
		return fhir.Value{}, 0, failure(http.StatusInternalServerError, body)
	}
	return fhir.Value{}, 0, fhir.Errorf(fhir.Structure, "the practice's answer is not a %s", strings.Join(want, " or "))
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
	return connector.Unreached(ctx, "the practice's system", err)
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
