package gpconnect

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// An Endpoint is where a practice's system answers, and its ASID.
type Endpoint struct{ Address, ASID string }

// Options of a Client. Source, ASID, and Address with ToASID or else Where are needed; the rest has defaults.
type Options struct {
	Source  string // id of the system in the region file
	Address string // the practice's service root for Access Record Structured
	ASID    string // ours (Ssp-From)
	ToASID  string // the practice's (Ssp-To)

	// Each capability has a service root of its own. "" where the practice does not offer it, or it is not wanted.
	HTML, Documents, Appointments string

	// Where looks endpoints up instead of the four addresses and ToASID above: a Directory's For. An issue of type NotFound means that
	// the practice does not offer the interaction.
	Where func(ctx context.Context, interaction string) (Endpoint, error)
	// Proxy is the Spine Secure Proxy, https://proxy.example/, through which every address is reached; "" to go straight there.
	Proxy string

	Issuer   string // URL by which the practice knows us; https://tombolo.invalid/NODE if not given
	NodeName string // this installation, for the practice's audit; "tombolo" if not given
	Version  string // of this program; "1" if not given

	HTTP     *http.Client          // http.DefaultClient's transport if not given; redirects are never followed
	Now      func() time.Time      // time.Now if not given
	MaxBytes int64                 // most that an answer may have; 32 MiB if not given
	Narrow   func(Include) Include // site policy, such as only the last 20 consultations; may be nil
	Recall   time.Duration         // how long what a practice says it can do is believed; an hour if not given, never if negative
}

// A Client asks one practice. It may be used from many goroutines.
type Client struct {
	o    Options
	http http.Client

	mu    sync.Mutex
	known capability // what the practice's system last said it can do
}

var _ connector.Asker = (*Client)(nil)

// New makes a Client, or says which option is wrong.
func New(o Options) (*Client, error) {
	switch {
	case o.Source == "":
		return nil, fhir.Errorf(fhir.Required, "a GP Connect source needs its id")
	case o.Where == nil && !isRoot(o.Address):
		return nil, fhir.Errorf(fhir.ValueError, "address must be the practice's service root, such as https://gp.example.nhs.uk/M85001/STU3/1").From(o.Source)
	case o.ASID == "":
		return nil, fhir.Errorf(fhir.Required, "GP Connect needs this installation's own ASID").From(o.Source)
	case o.Where == nil && o.ToASID == "":
		return nil, fhir.Errorf(fhir.Required, "GP Connect needs the practice's ASID: give it as asid").From(o.Source)
	}
	for name, address := range map[string]string{"html": o.HTML, "documents": o.Documents, "appointments": o.Appointments, "proxy": o.Proxy} {
		if address != "" && !isRoot(address) {
			return nil, fhir.Errorf(fhir.ValueError, "%s must be a service root, such as https://gp.example.nhs.uk/M85001/STU3/1", name).From(o.Source)
		}
	}
	for _, root := range []*string{&o.Address, &o.HTML, &o.Documents, &o.Appointments, &o.Proxy} {
		*root = strings.TrimRight(*root, "/")
	}
	o.NodeName = cmp.Or(o.NodeName, "tombolo")
	o.Version = cmp.Or(o.Version, "1")
	o.Issuer = strings.TrimRight(cmp.Or(o.Issuer, "https://tombolo.invalid/"+url.PathEscape(o.NodeName)), "/")
	o.MaxBytes = cmp.Or(o.MaxBytes, 32<<20)
	o.Recall = cmp.Or(o.Recall, time.Hour)
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

// isRoot reports whether s can be a service root: nothing but a place, over HTTP.
func isRoot(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && u.RawQuery == "" && u.Fragment == ""
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
