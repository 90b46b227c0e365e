package gpconnect

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A Directory is the Spine Directory Service, which knows where each practice's system answers each interaction. It says nothing of any
// person. Of a practice that changed its system it may be a few minutes behind; the specification wants no more than a session.
//
// SDS FHIR API: /Endpoint gives the address and the party key of an interaction, /Device the ASID of the system that has that key.
type Directory struct {
	o     DirectoryOptions
	http  http.Client
	known *connector.Lookup[key, Endpoint]
}

type key struct{ ods, interaction string }

// DirectoryOptions of a Directory. Address is needed.
type DirectoryOptions struct {
	Address string        // service root, https://…/spine-directory/FHIR/R4
	APIKey  string        // header apikey, where the service wants one
	TTL     time.Duration // how long an answer is believed; five minutes if not given
	HTTP    *http.Client
	Now     func() time.Time
}

// NewDirectory makes a Directory.
func NewDirectory(o DirectoryOptions) (*Directory, error) {
	if !isRoot(o.Address) {
		return nil, fhir.Errorf(fhir.ValueError, "the address of SDS must be its service root, such as https://api.service.nhs.uk/spine-directory/FHIR/R4")
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.TTL = cmp.Or(o.TTL, 5*time.Minute)
	d := &Directory{o: o}
	d.known = connector.NewLookup(o.TTL, o.Now, d.look)
	if o.HTTP != nil {
		d.http = *o.HTTP
	}
	d.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return d, nil
}

// For gives Options.Where of the client for one practice.
func (d *Directory) For(ods string) func(context.Context, string) (Endpoint, error) {
	return func(ctx context.Context, interaction string) (Endpoint, error) {
		return d.Endpoint(ctx, ods, interaction)
	}
}

// Endpoint finds where an organisation's system answers an interaction. An issue of type NotFound: nowhere. While SDS cannot be reached an
// answer that has grown old is given rather than none.
func (d *Directory) Endpoint(ctx context.Context, ods, interaction string) (Endpoint, error) {
	return d.known.Get(ctx, key{ods, interaction})
}

// The systems of SDS's identifiers.
const (
	systemInteraction = "https://fhir.nhs.uk/Id/nhsServiceInteractionId"
	systemPartyKey    = "https://fhir.nhs.uk/Id/nhsMhsPartyKey"
)

// look asks the two questions. GP Connect 1.6 integration_spine_directory_service.html
func (d *Directory) look(ctx context.Context, k key) (Endpoint, error) {
	q := url.Values{"organization": {fhir.SystemODS + "|" + k.ods}, "identifier": {systemInteraction + "|" + k.interaction}}
	endpoint, err := d.only(ctx, "Endpoint", q)
	if err != nil {
		return Endpoint{}, err
	}
	out := Endpoint{Address: strings.TrimRight(endpoint.Text("address"), "/")}
	if !isRoot(out.Address) {
		return Endpoint{}, fhir.Errorf(fhir.Structure, "SDS gives no usable address for the organisation's system: it is %d characters long and no service root", len(out.Address))
	}
	if party := identifierOf(endpoint, systemPartyKey); party != "" {
		q.Add("identifier", systemPartyKey+"|"+party)
	}
	device, err := d.only(ctx, "Device", q)
	if err != nil {
		return Endpoint{}, err
	}
	if out.ASID = identifierOf(device, fhir.SystemASID); out.ASID == "" {
		return Endpoint{}, fhir.Errorf(fhir.Required, "SDS gives no ASID for the organisation's system").At("Device.identifier")
	}
	return out, nil
}

// only asks for the one resource that answers.
func (d *Directory) only(ctx context.Context, typ string, q url.Values) (fhir.Value, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.o.Address+"/"+typ+"?"+q.Encode(), nil)
	if err != nil {
		return fhir.Value{}, fhir.Errorf(fhir.Exception, "could not make the request to SDS")
	}
	req.Header.Set("Accept", "application/fhir+json")
	req.Header.Set("X-Correlation-Id", traceID(""))
	if d.o.APIKey != "" {
		req.Header.Set("apikey", d.o.APIKey)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return fhir.Value{}, fhir.Errorf(netFailure(ctx, err).Type, "SDS could not be asked where the practice's system answers")
	}
	defer resp.Body.Close()
	const limit = 1 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return fhir.Value{}, fhir.Errorf(netFailure(ctx, err).Type, "SDS broke off in the middle of its answer")
	case resp.StatusCode == http.StatusTooManyRequests:
		return fhir.Value{}, fhir.Errorf(fhir.Throttled, "SDS is being asked too often; try again shortly")
	case resp.StatusCode != http.StatusOK:
		return fhir.Value{}, fhir.Errorf(fhir.Transient, "SDS did not say where the practice's system answers (HTTP %d)", resp.StatusCode)
	case len(body) > limit:
		return fhir.Value{}, fhir.Errorf(fhir.TooLong, "SDS's answer is larger than any answer of its can be")
	}
	v, err := fhir.ParseValue(body)
	if err != nil {
		return fhir.Value{}, err
	}
	if v.Text("resourceType") != "Bundle" {
		return fhir.Value{}, fhir.Errorf(fhir.Structure, "SDS's answer is not a Bundle")
	}
	found := slices.DeleteFunc(slices.Collect(v.All("entry.resource")), func(r fhir.Value) bool { return r.Text("resourceType") != typ })
	switch len(found) {
	case 0:
		return fhir.Value{}, fhir.Errorf(fhir.NotFound, "SDS knows of no %s for this organisation and interaction", typ)
	case 1:
		return found[0], nil
	}
	// GP Connect 1.6 integration_sds_registering_endpoints.html: one provider system an organisation.
	return fhir.Value{}, fhir.Errorf(fhir.MultipleMatch, "SDS gives %d entries of %s where there should be one: ask for them to be put right", len(found), typ)
}

func identifierOf(r fhir.Value, system string) string {
	for id := range r.All("identifier") {
		if id.Text("system") == system {
			return id.Text("value")
		}
	}
	return ""
}
