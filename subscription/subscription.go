// Package subscription tells systems that something changed in what they hold here: R4 Subscriptions over rest-hook (walk C of the design).
//
// A Subscription is a resource like any other. This room follows the log: what changes and answers a Subscription's criteria is written into its outbox in
// the transaction in which the follower's cursor moves, under a number without gaps. One sender for each Subscription takes what is there to its endpoint, in order, until it is
// told 2xx, at least once. A notification says that there is something new and how many there were: no content, no identifier, no reference. What it is about
// is read at the API, where it is decided and audited.
//
// FHIR R4 subscription.html; in a notification with a body, and in the operations $status and $events, the shape of HL7's Subscriptions R5 Backport for R4, content "empty".
package subscription

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/search"
)

// Bucket holds, for each Subscription of a source:
//
//	p/<source>               -> the source's Subscriptions, as they are defined, by id
//	n/<source>/<id>          -> how many events there were since it began, in decimal
//	d/<source>/<id>          -> Progress
//	o/<source>/<id>/<number> -> the time of one event: to be sent if the number is above Progress.Sent, else kept for $events
const Bucket = "subscription"

const (
	// MaxSubscriptions is how many a system may have.
	MaxSubscriptions = 100
	// MaxWaiting is how many events wait for one endpoint. Those that come after are counted and not kept: the numbers show the gap.
	MaxWaiting = 10_000
	// Kept is how many events that were sent can still be asked for.
	Kept = 1000
)

// A State of a Subscription. FHIR R4 valueset-subscription-status.html
type State string

// The states.
const (
	Requested State = "requested" // waits for its endpoint to answer a first time
	Active    State = "active"
	Failed    State = "error" // given up: somebody has to mend its endpoint, and request it again
	Off       State = "off"
)

// A Definition is what of a Subscription the room works by.
type Definition struct {
	ID       string            `json:"id"`
	Criteria string            `json:"criteria"`
	Endpoint string            `json:"endpoint"`
	Body     bool              `json:"body,omitempty"` // a notification has a body
	Header   map[string]string `json:"header,omitempty"`
	End      time.Time         `json:"end,omitzero"`
	Why      string            `json:"why,omitempty"` // why nothing is sent, though it was asked for
}

func (d Definition) hash() string {
	sum := sha256.Sum256(fhir.JSON(d))
	return hex.EncodeToString(sum[:8])
}

// Progress is how far the sender of a Subscription has come.
type Progress struct {
	State State     `json:"state"`
	Of    string    `json:"of"` // hash of the Definition
	Sent  uint64    `json:"sent"`
	Tries int       `json:"tries,omitempty"`   // in vain, since the last answer
	Since time.Time `json:"since,omitzero"`    // of the first of these
	Next  time.Time `json:"next,omitzero"`     // not before then
	Why   string    `json:"problem,omitempty"` // of the last of these, in words
}

// Asked reports whether a Subscription's resource asks for notifications.
func asked(r *fhir.Resource) bool {
	return r.Type() == "Subscription" && slices.Contains([]string{string(Requested), string(Active)}, r.Text("status"))
}

// Check refuses a Subscription that asks for what is not given, with the reason. allowed are the addresses to which its system may have notifications sent
// (of the region file): an address below one of them is.
func Check(r *fhir.Resource, allowed []string) error {
	if !asked(r) {
		return nil
	}
	_, err := define(r, allowed)
	return err
}

// define reads a Subscription. FHIR R4 subscription.html#resource
func define(r *fhir.Resource, allowed []string) (Definition, error) {
	d := Definition{ID: r.ID(), Criteria: r.Text("criteria"), Endpoint: r.Text("channel.endpoint")}
	if kind := r.Text("channel.type"); kind != "rest-hook" {
		return d, fhir.Errorf(fhir.NotSupported, "notifications are sent over rest-hook only: write it, and an endpoint").At("Subscription.channel.type")
	}
	if _, err := d.query(); err != nil {
		return d, err
	}
	if err := Permitted(d.Endpoint, allowed); err != nil {
		return d, err
	}
	if payload := r.Text("channel.payload"); payload != "" {
		kind, _, err := mime.ParseMediaType(payload)
		if err != nil || kind != "application/fhir+json" {
			return d, fhir.Errorf(fhir.NotSupported, "a notification is empty, or application/fhir+json: leave payload out, or write that").At("Subscription.channel.payload")
		}
		d.Body = true
	}
	for h := range r.Value().All("channel.header") {
		name, value, err := header(h.Str())
		if err != nil {
			return d, err
		}
		if d.Header == nil {
			d.Header = map[string]string{}
		}
		d.Header[name] = value
	}
	if end := r.Text("end"); end != "" {
		at, err := time.Parse(time.RFC3339, end)
		if err != nil {
			return d, fhir.Errorf(fhir.ValueError, "end is an instant, such as 2027-03-31T17:00:00Z").At("Subscription.end")
		}
		d.End = at.UTC()
	}
	return d, nil
}

// query compiles the criteria. They are about the changed resource alone: what is linked with it is not looked up each time anything changes.
func (d Definition) query() (search.Query, error) {
	typ, text, _ := strings.Cut(d.Criteria, "?")
	if !fhir.IsType(typ) {
		return search.Query{}, fhir.Errorf(fhir.ValueError, "criteria are a search, such as Observation?code=http://loinc.org|4548-4").At("Subscription.criteria")
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return search.Query{}, fhir.Errorf(fhir.ValueError, "the criteria are not well-formed: check the percent signs").At("Subscription.criteria")
	}
	q, _, err := search.Parse(typ, values, true)
	if err == nil && (len(q.Chains) > 0 || len(q.Include)+len(q.RevInclude)+len(q.Sort)+len(q.Elements) > 0 || q.List != "" || q.Count > 0 || q.Cursor != "" || q.Summary != "" || q.Total != "") {
		err = fhir.Errorf(fhir.NotSupported, "criteria take parameters of the resource itself: no chains, _has, _list, and nothing that shapes an answer")
	}
	if err == nil {
		_, err = search.Compile(q)
	}
	if err != nil {
		issue := fhir.IssueOf(err)
		return q, fhir.Errorf(issue.Type, "%s", issue.Text).At("Subscription.criteria")
	}
	return q, nil
}

// header reads one of channel.header, "Authorization: Bearer …". Those that are the sender's own are refused.
func header(text string) (name, value string, err error) {
	refused := fhir.Errorf(fhir.ValueError, "a header is Authorization or begins with X-, then ': ' and its value on the same line").At("Subscription.channel.header")
	name, value, ok := strings.Cut(text, ":")
	name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	if !ok || name != "Authorization" && !strings.HasPrefix(name, "X-") || strings.ContainsAny(name, " \t") {
		return "", "", refused
	}
	if strings.IndexFunc(name+value, func(c rune) bool { return c < ' ' || c == 0x7f }) >= 0 {
		return "", "", refused
	}
	return name, value, nil
}

// Permitted refuses an endpoint that is not below one of the allowed addresses: nobody has this server call whom they like. Origins are compared as they
// are parsed, paths by whole segments.
func Permitted(endpoint string, allowed []string) error {
	const where = "Subscription.channel.endpoint"
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return fhir.Errorf(fhir.ValueError, "an endpoint is an https address without a user or a fragment in it").At(where)
	}
	for _, a := range allowed {
		if base, err := url.Parse(a); err == nil && below(u, base) {
			return nil
		}
	}
	if len(allowed) == 0 {
		return fhir.Errorf(fhir.BusinessRule, "no address is agreed to which this system's notifications go: have whoever keeps the region file add options: {notify: 'https://…'} to the system").At(where)
	}
	return fhir.Errorf(fhir.BusinessRule, "this address is not below one that is agreed for this system's notifications (options: notify in the region file)").At(where)
}

func below(u, base *url.URL) bool {
	root := strings.TrimSuffix(path.Clean("/"+base.Path), "/")
	at := path.Clean("/" + u.Path)
	return u.Scheme == base.Scheme && strings.EqualFold(u.Hostname(), base.Hostname()) && port(u) == port(base) && (at == root || strings.HasPrefix(at, root+"/")) && strings.TrimSuffix(at, "/") == strings.TrimSuffix(u.Path, "/") && // as it is written: whoever answers may read it otherwise
		!strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") && !strings.Contains(u.Path, "..")
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func definitionsKey(source string) string  { return "p/" + source }
func countKey(source, id string) string    { return "n/" + source + "/" + id }
func progressKey(source, id string) string { return "d/" + source + "/" + id }
func outboxPrefix(source, id string) string {
	return "o/" + source + "/" + id + "/"
}

// eventKey sorts as the numbers do.
func eventKey(source, id string, number uint64) string {
	digits := strconv.FormatUint(number, 10)
	return outboxPrefix(source, id) + strings.Repeat("0", 20-len(digits)) + digits
}

func read[T any](data []byte) (v T, err error) {
	if len(data) > 0 {
		err = json.Unmarshal(data, &v)
	}
	return v, err
}

// permanent reports whether an endpoint says that it will never take anything.
func permanent(status int) bool { return status == http.StatusGone }
