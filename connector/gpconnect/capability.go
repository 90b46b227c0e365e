package gpconnect

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Capability reads what the practice's system says it can do. It says nothing of any person.
//
// GP Connect 1.6 accessrecord_structured_get_the_fhir_capability_statement.html
func (c *Client) Capability(ctx context.Context, by connector.Requester) (fhir.Value, error) {
	v, _, err := c.ask(ctx, by, call{method: http.MethodGet, path: "/metadata", interaction: InteractionMetadata, scope: "organization/*.read"}, "CapabilityStatement")
	if err != nil {
		return fhir.Value{}, from(err, c.o.Source)
	}
	return v, nil
}

var _ connector.Describer = (*Client)(nil)

// Describe is what the practice's system says of itself.
func (c *Client) Describe(ctx context.Context, by connector.Requester) (connector.Description, error) {
	v, err := c.Capability(ctx, by)
	if err != nil {
		return connector.Description{}, err
	}
	d := connector.ReadCapability(v)
	if k := readCapability(v); k.minor >= 0 {
		d.Speaks = "GP Connect 1." + strconv.Itoa(k.minor)
	}
	return d, nil
}

// A capability is what is known of what a practice's system can do.
type capability struct {
	at    time.Time
	said  bool // it said so; if not, it may be able to do anything
	none  bool // it does not give structured records at all
	minor int  // of version 1.minor, -1 if it did not say
	types map[string]bool
}

// unheard is how long a practice that would not say what it can do is left alone with that question.
const unheard = 5 * time.Minute

// capability tells what the practice's system can do: as it last said, or asked anew. A system that does not say is asked for
// everything, since what it does not know it must answer with a warning; only one that is switched off for us, or time that has
// run out, is an error.
//
// GP Connect 1.6 accessrecord_structured_development_version_compatibility.html
func (c *Client) capability(ctx context.Context, by connector.Requester) (capability, error) {
	now := c.o.Now()
	c.mu.Lock()
	k := c.known
	c.mu.Unlock()
	keep := c.o.Recall
	if !k.said {
		keep = min(keep, unheard)
	}
	if age := now.Sub(k.at); !k.at.IsZero() && age >= 0 && age < keep {
		return k, nil
	}
	v, err := c.Capability(ctx, by)
	switch {
	case err == nil:
		k = readCapability(v)
	case ctx.Err() != nil, fhir.Is(err, fhir.Timeout), fhir.Is(err, fhir.Forbidden), fhir.Is(err, fhir.Suppressed), fhir.Is(err, fhir.Required):
		return capability{}, err
	case fhir.Is(err, fhir.NotSupported):
		if ok, ferr := c.offers(ctx, InteractionStructured); ferr != nil || !ok {
			return capability{none: ferr == nil}, ferr
		}
		k = capability{minor: -1}
	default:
		k = capability{minor: -1}
	}
	k.at = now
	c.mu.Lock()
	c.known = k
	c.mu.Unlock()
	return k, nil
}

func readCapability(v fhir.Value) capability {
	k := capability{said: true, minor: -1, types: map[string]bool{}}
	if major, rest, ok := strings.Cut(v.Text("version"), "."); ok && major == "1" {
		minor, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(minor); err == nil {
			k.minor = n
		}
	}
	for p := range v.All("profile.reference") {
		name, _, _ := strings.Cut(p.Str(), "/_history/")
		k.types[name[strings.LastIndexByte(name, '/')+1:]] = true
	}
	operations, structured := 0, false
	for o := range v.All("rest.operation.name") {
		operations++
		structured = structured || strings.TrimPrefix(o.Str(), "$") == "gpc.getstructuredrecord"
	}
	k.none = operations > 0 && !structured
	return k
}

// gives reports whether a query may be asked: the version of the specification has it, or the system lists the profile of what it
// returns. What cannot be told is asked.
func (k capability) gives(q *query) bool {
	switch {
	case k.none:
		return false
	case !k.said, k.minor < 0, k.minor >= q.since:
		return true
	}
	return k.types[q.profile]
}
