// Package fhirapi asks a FHIR R4 UK Core server what it holds about one person, and reads FHIR files for import.
//
// The person is found by POST Patient/_search, so that no number of theirs stands in a URL; then the searches that the headings
// need run side by side, page by page. What the server gives is taken only if it says it is that patient's, within
// limits of bytes and pages, and never from another address than the one configured. A heading counts as answered only when every
// search for it was answered in full.
package fhirapi

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// mapping is the name and version of what this package does to resources: nothing but making references relative.
const mapping = "fhirapi/1"

// Options configure a Client. Source and Address are needed; the rest has defaults.
type Options struct {
	Source  string // id of the system in the region file
	Address string // the server's base URL, "https://mh.example/fhir"
	// HTTP is used for its transport and timeout. Redirects are never followed, and no cookies kept.
	HTTP *http.Client
	// Token gives the bearer token for a request of somebody; nil sends none.
	Token func(ctx context.Context, who connector.Requester) (string, error)
	// Statement makes the signed statement about who is asking that goes with each request in the header named Header, beside Token; nil sends none.
	Statement func(ctx context.Context, who connector.Requester) (string, error)
	Header    string
	// MaxBytes bounds what one answer may weigh over all its pages; 16 MiB if 0.
	MaxBytes int64
	// MaxPages bounds the pages of one search; 50 if 0.
	MaxPages int
	// PageSize is asked for by _count; 100 if 0.
	PageSize int
	// Parallel bounds the requests that run at once for one answer; 4 if 0.
	Parallel int
	Now      func() time.Time // time.Now if nil
}

// A Client asks one FHIR server. It may be used from many goroutines.
type Client struct {
	o    Options
	base *url.URL
	http *http.Client

	mu     sync.Mutex
	offers map[string]bool // resource types that can be searched; nil while unknown
	asOf   time.Time
}

var _ connector.Asker = (*Client)(nil)

// New makes a Client. It opens no connection.
func New(o Options) (*Client, error) {
	base, err := parseBase(o.Address)
	if err != nil {
		return nil, fhir.IssueOf(err).From(o.Source)
	}
	if o.Source == "" {
		return nil, fhir.Errorf(fhir.Required, "a FHIR source needs the id of its system in the region file")
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 16 << 20
	}
	if o.MaxPages <= 0 {
		o.MaxPages = 50
	}
	if o.PageSize <= 0 {
		o.PageSize = 100
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &http.Client{}
	if o.HTTP != nil {
		h.Transport, h.Timeout = o.HTTP.Transport, o.HTTP.Timeout
	}
	// A redirect would carry the credentials and the person's number to an address that nobody configured.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{o: o, base: base, http: h}, nil
}

func parseBase(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fhir.Errorf(fhir.ValueError, "address must be the server's base URL, such as https://mh.example/fhir")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fhir.Errorf(fhir.ValueError, "address must hold no user name, query or fragment: give credentials as a token")
	}
	if u.Path != "" && path.Clean(u.Path) != u.Path {
		return nil, fhir.Errorf(fhir.ValueError, "address must not hold empty, '.' or '..' path segments")
	}
	return u, nil
}

// Ask finds the person and gathers what the headings need. See connector.Asker. If some searches fail for the server's fault (not
// for being unsupported or refused), the answer has what the others gave, and the error says how many failed.
func (c *Client) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	a := &asking{Client: c, q: q, budget: newBudget(c.o.MaxBytes), seen: map[fhir.Ref]bool{}}
	a.answer = &connector.Answer{States: map[dataset.Heading]dataset.State{}, Map: mapping}
	capability, ended := a.askCapability(ctx) // while the patient is being looked for
	defer func() { cancel(); <-ended }()      // nothing is under way once the answer is ready
	patient, err := a.findPatient(ctx)
	a.answer.Bytes = a.budget.used()
	if err != nil {
		issue := asIssue(err).From(c.o.Source)
		if issue.Type == fhir.Login || issue.Type == fhir.Suppressed {
			for _, h := range q.Headings {
				a.answer.States[h] = dataset.NotShared
			}
			return a.answer, issue
		}
		return nil, issue
	}
	a.patient = patient.Ref()
	a.answer.Patient = patient

	known := capability()
	results := make([]*result, 0, 8)
	plan := planFor(q.Headings, known)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(c.o.Parallel)
	for _, s := range plan.searches {
		r := &result{search: s}
		results = append(results, r)
		group.Go(func() error {
			a.run(gctx, r)
			return nil // one search failing must not stop the others
		})
	}
	_ = group.Wait()
	results = append(results, a.readReferenced(ctx, results, known)...)
	err = a.conclude(plan, results)
	a.answer.Bytes = a.budget.used()
	return a.answer, err
}

// asking is one question on its way.
type asking struct {
	*Client
	q       connector.Question
	patient fhir.Ref
	budget  *budget
	answer  *connector.Answer
	seen    map[fhir.Ref]bool
}

// result is what one search gave.
type result struct {
	search   search
	found    []*fhir.Resource
	complete bool
	failed   *fhir.Issue // why nothing or not everything came
	issues   []*fhir.Issue
}

// findPatient asks by each identifier in turn until one matches exactly one patient who is not merged into another.
func (a *asking) findPatient(ctx context.Context) (*fhir.Resource, error) {
	var tries []string
	if a.q.Patient != "" && fhir.ValidID(a.q.Patient) {
		tries = append(tries, "_id="+url.QueryEscape(a.q.Patient))
	}
	for _, id := range a.q.Identifiers {
		if id = id.Canonical(); id.Check() == nil {
			tries = append(tries, "identifier="+url.QueryEscape(escape(id.System)+"|"+escape(id.Value)))
		}
	}
	if len(tries) == 0 {
		return nil, fhir.Errorf(fhir.NotFound, "the person has no identifier by which this source could be asked")
	}
	for _, form := range tries {
		r := &result{search: search{typ: "Patient"}}
		a.pages(ctx, r, form, func(p *fhir.Resource) *fhir.Issue {
			if p.Type() == "Patient" {
				r.found = append(r.found, p)
			}
			return nil
		})
		if r.failed != nil && r.failed.Type == fhir.NotSupported && strings.HasPrefix(form, "_id=") {
			continue // a server need not search by _id; the identifiers are the usual way
		}
		if r.failed != nil {
			return nil, r.failed
		}
		if !r.complete {
			return nil, fhir.Errorf(fhir.Incomplete, "the search for the patient was not answered in full, so it is not sure that one person is meant")
		}
		switch live := current(r.found); len(live) {
		case 0:
		case 1:
			return live[0], nil
		default:
			return nil, fhir.Errorf(fhir.MultipleMatch, "the source has %d patients with that identifier; ask its administrators to merge or correct them", len(live))
		}
	}
	return nil, fhir.Errorf(fhir.NotFound, "the source does not know this person by any identifier we have")
}

// current leaves out patients who have been replaced by another of the list: FHIR R4 patient.html#merging.
func current(found []*fhir.Resource) []*fhir.Resource {
	ids := map[fhir.Ref]bool{}
	for _, p := range found {
		ids[p.Ref()] = true
	}
	var out []*fhir.Resource
	listed := map[fhir.Ref]bool{}
	for _, p := range found {
		replaced := false
		for l := range p.Value().All("link") {
			if l.Text("type") == "replaced-by" && ids[fhir.Ref(l.Text("other.reference"))] {
				replaced = true
			}
		}
		if !replaced && !listed[p.Ref()] {
			listed[p.Ref()] = true
			out = append(out, p)
		}
	}
	return out
}

// escape protects the characters that have a meaning in a search value. FHIR R4 search.html#escaping
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(s)
}

// run does one search and keeps what is the patient's.
func (a *asking) run(ctx context.Context, r *result) {
	form := "patient=" + url.QueryEscape(string(a.patient))
	if r.search.filter != "" {
		form += "&" + r.search.filter
	}
	a.pages(ctx, r, form, func(res *fhir.Resource) *fhir.Issue {
		if issue := a.belongs(res); issue != nil {
			return issue
		}
		r.found = append(r.found, res)
		return nil
	})
}

// belongs checks that a resource is the patient's (design law 9).
func (a *asking) belongs(res *fhir.Resource) *fhir.Issue {
	if res.Type() == "Patient" {
		if res.Ref() != a.patient {
			return fhir.Errorf(fhir.BusinessRule, "the source sent another patient's demographics; they were dropped. Tell its administrators").At("Patient").OfStranger()
		}
		return nil
	}
	subjects := fhir.Subjects(res)
	for _, s := range subjects {
		if s.Reference == "" && a.askedBy(s.Identifier) {
			continue
		}
		if ref, ok := relative(s.Reference); !ok || ref != a.patient {
			return fhir.Errorf(fhir.BusinessRule, "the source sent a %s of another patient; it was dropped. Tell its administrators", res.Type()).At(res.Type()).OfStranger()
		}
	}
	if len(subjects) == 0 && fhir.NeedsPatient(res.Type()) {
		return fhir.Errorf(fhir.BusinessRule, "the source sent a %s that does not say whose it is; it was dropped", res.Type()).At(res.Type() + ".subject")
	}
	return nil
}

func (a *asking) askedBy(id *fhir.Identifier) bool {
	if id == nil {
		return false
	}
	got := id.Canonical()
	for _, want := range a.q.Identifiers {
		if want = want.Canonical(); want.System == got.System && want.Value == got.Value {
			return true
		}
	}
	return false
}
