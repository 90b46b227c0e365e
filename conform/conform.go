// Package conform asks a FHIR R4 server what it can do, and tries it: its capability statement, the interactions, a table of searches and a
// table of errors. It speaks HTTP only and knows nothing of the server, so it says of any server what this program's own clients would miss.
//
// A run writes a few resources under ids that begin with "conform-", and deletes them. Run it against a server that holds no real records.
package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tombolo/fhir"
)

// Options of a run.
type Options struct {
	URL   string // the server's base, https://host/fhir
	Token string // bearer token; "" for none
	HTTP  *http.Client
}

// A Verdict on one check.
type Verdict string

// The verdicts. Lacks is something that R4 leaves to the server, and it does not have; Fails is something it does that is not R4.
const (
	Passes Verdict = "ok"
	Lacks  Verdict = "lacks"
	Fails  Verdict = "FAILS"
)

// A Result is what came of one check.
type Result struct {
	Group   string  `json:"group"`
	Check   string  `json:"check"`
	Cites   string  `json:"cites"` // the section of R4
	Verdict Verdict `json:"verdict"`
	Said    string  `json:"said,omitempty"` // why not
}

// A Report is what came of a run.
type Report struct {
	Server  string    `json:"server"` // as it calls itself
	URL     string    `json:"url"`
	At      time.Time `json:"at"`
	Results []Result  `json:"results"`
}

// Count is how many checks came out so.
func (r Report) Count(v Verdict) (n int) {
	for _, x := range r.Results {
		if x.Verdict == v {
			n++
		}
	}
	return n
}

// Write prints the report for people: what holds in a line each, and what does not with the reason.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "FHIR R4 conformance of %s (%s), %s\n", r.URL, r.Server, r.At.UTC().Format("2 January 2006, 15:04 MST"))
	group := ""
	for _, x := range r.Results {
		if x.Group != group {
			group = x.Group
			fmt.Fprintf(&b, "\n%s\n", group)
		}
		fmt.Fprintf(&b, "  %-5s  %-62s %s\n", x.Verdict, x.Check, x.Cites)
		if x.Said != "" {
			fmt.Fprintf(&b, "         %s\n", x.Said)
		}
	}
	fmt.Fprintf(&b, "\n%d hold, %d are lacking, %d fail.\n", r.Count(Passes), r.Count(Lacks), r.Count(Fails))
	_, err := io.WriteString(w, b.String())
	return err
}

// A run is one client at work.
type run struct {
	ctx    context.Context
	o      Options
	report *Report
	cs     fhir.Value // its CapabilityStatement
	group  string
}

// Run does all checks. Its error says that the server cannot be reached at all.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	o.URL = strings.TrimRight(o.URL, "/")
	r := Report{URL: o.URL, At: time.Now()}
	c := &run{ctx: ctx, o: o, report: &r}
	if _, err := c.do("GET", "metadata", ""); err != nil {
		return r, fmt.Errorf("reach %s: %w", o.URL, err)
	}
	for _, g := range []struct {
		name string
		do   func()
	}{{"Capability", c.capability}, {"Interactions", c.interactions}, {"Transactions and batches", c.bundles}, {"Searches", c.searches}, {"Operations", c.operations}, {"Errors", c.errors}} {
		c.group = g.name
		g.do()
	}
	c.clean()
	return r, ctx.Err()
}

// lack is an error that says that the server does not have this, as it may.
type lack struct{ error }

func lacking(format string, args ...any) error { return lack{fmt.Errorf(format, args...)} }

// check does one check and writes down what came of it.
func (c *run) check(what, cites string, do func() error) bool {
	res := Result{Group: c.group, Check: what, Cites: cites, Verdict: Passes}
	if err := do(); err != nil {
		res.Verdict, res.Said = Fails, err.Error()
		if l := (lack{}); errors.As(err, &l) {
			res.Verdict = Lacks
		}
	}
	c.report.Results = append(c.report.Results, res)
	return res.Verdict == Passes
}

// An answer is what came back.
type answer struct {
	status int
	head   http.Header
	body   []byte
	asked  string
}

func (a answer) value() fhir.Value { v, _ := fhir.ParseValue(a.body); return v }

func (a answer) text(path string) string { return a.value().Text(path) }

// is fails unless the answer has one of the statuses. 404 to an address, 405 and 501 say that the server lacks it.
func (a answer) is(statuses ...int) error {
	for _, s := range statuses {
		if a.status == s {
			return nil
		}
	}
	err := fmt.Errorf("%s: %d, expected %s%s", a.asked, a.status, strings.Trim(strings.ReplaceAll(fmt.Sprint(statuses), " ", " or "), "[]"), a.words())
	if a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotImplemented {
		return lack{err}
	}
	return err
}

// words are what an OperationOutcome says.
func (a answer) words() string {
	v := a.value()
	if v.Text("resourceType") != "OperationOutcome" {
		return ""
	}
	if s := v.Text("issue.diagnostics"); s != "" {
		return ": " + s[:min(len(s), 200)]
	}
	return ": " + v.Text("issue.details.text")
}

// do sends a request; headers are "Name: value".
func (c *run) do(method, path, body string, headers ...string) (answer, error) {
	url := path
	if !strings.HasPrefix(path, "http") {
		url = c.o.URL
		if path != "" {
			url += "/" + path
		}
	}
	req, err := http.NewRequestWithContext(c.ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/fhir+json")
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := c.o.HTTP.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return answer{res.StatusCode, res.Header, data, method + " " + strings.TrimPrefix(url, c.o.URL)}, err
}

// want is do with the status that is expected.
func (c *run) want(status int, method, path, body string, headers ...string) (answer, error) {
	a, err := c.do(method, path, body, headers...)
	if err == nil {
		err = a.is(status)
	}
	return a, err
}
