// Package neighbour asks another region's Tombolo for what it can gather about a person.
//
// The neighbour decides by its own agreements and consents, and its answer is decided upon again here. It is asked by the same $gather
// that any client uses; who is really asking goes with the request, so that its audit names them.
package neighbour

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Headers that tell a neighbour who is asking, for its audit. They prove nothing: where the neighbour knows our keys, a signed
// statement about the user goes instead (IHE ITI IUA).
const (
	HeaderUser         = "Tombolo-On-Behalf-Of-User"
	HeaderRole         = "Tombolo-On-Behalf-Of-Role"
	HeaderOrganisation = "Tombolo-On-Behalf-Of-Organisation"
)

// Options of a neighbour.
type Options struct {
	Source  string // its id in the region file
	Address string // base URL, "https://record.wye.example:8443"; /fhir/$gather is below it
	Token   string
	// Assert makes the signed statement about who is asking that goes with each question in place of Token (IHE ITI IUA); nil: none goes.
	Assert   func(ctx context.Context, who connector.Requester) (string, error)
	HTTP     *http.Client
	MaxBytes int64 // 0: 32 MiB
}

// A Neighbour is a connector.Asker.
type Neighbour struct {
	o   Options
	url string // of its FHIR API
}

var _ connector.Asker = (*Neighbour)(nil)

// New makes a Neighbour. A redirect is never followed: it would take the credential elsewhere.
func New(o Options) (*Neighbour, error) {
	u, err := url.Parse(o.Address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fhir.Errorf(fhir.ValueError, "the neighbour %s needs an address such as https://record.example.nhs.uk", o.Source)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	client := &http.Client{Transport: http.DefaultTransport}
	if o.HTTP != nil {
		*client = *o.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP = client
	return &Neighbour{o, strings.TrimSuffix(u.String(), "/") + "/fhir"}, nil
}

// Ask gathers at the neighbour.
func (n *Neighbour) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	var last error = fhir.Errorf(fhir.NotFound, "a neighbour can be asked only for somebody with a national number")
	for _, id := range q.Identifiers { // one region may know by one number whom another knows by the other
		a, err := n.gather(ctx, q, id)
		if err == nil {
			return a, nil
		}
		if last = err; !fhir.Is(err, fhir.NotFound) {
			break
		}
	}
	i := fhir.IssueOf(last)
	if i == nil {
		i = fhir.Errorf(fhir.Exception, "unexpected failure while asking the neighbour")
	}
	return nil, i.From(n.o.Source)
}

// gather asks by one identifier.
func (n *Neighbour) gather(ctx context.Context, q connector.Question, id fhir.Identifier) (*connector.Answer, error) {
	params := []fhir.M{{"name": "identifier", "valueIdentifier": id}}
	for _, h := range q.Headings {
		params = append(params, fhir.M{"name": "heading", "valueCode": h})
	}
	params = append(params, fhir.M{"name": "purpose", "valueCode": q.Requester.Purpose})
	body := fhir.New("Parameters", "", fhir.M{"parameter": params}).Raw()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+"/$gather", bytes.NewReader(body))
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the request could not be made")
	}
	headers := map[string]string{"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
	if err := n.introduce(ctx, headers, q.Requester); err != nil {
		return nil, err
	}
	for k, v := range headers {
		req.Header.Set(k, clean(v))
	}
	q.Requester.Accompany(ctx, req.Header)
	resp, err := n.o.HTTP.Do(req)
	if err != nil {
		return nil, failure(ctx, err)
	}
	defer resp.Body.Close()
	tooLong := fhir.Errorf(fhir.TooLong, "the neighbour's answer is larger than %d bytes", n.o.MaxBytes)
	if resp.ContentLength > n.o.MaxBytes {
		return nil, tooLong
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, n.o.MaxBytes+1))
	if err != nil {
		return nil, failure(ctx, err)
	}
	if int64(len(data)) > n.o.MaxBytes {
		return nil, tooLong
	}
	if err := status(resp, data); err != nil {
		return nil, err
	}
	if err := fhir.CheckCost(data); err != nil {
		return nil, err
	}
	return read(data, q)
}

// introduce says who is asking: by a signed statement, else by the node's own credential.
func (n *Neighbour) introduce(ctx context.Context, headers map[string]string, who connector.Requester) error {
	if n.o.Assert == nil {
		headers["Authorization"] = "Bearer " + n.o.Token
		headers[HeaderUser], headers[HeaderRole], headers[HeaderOrganisation] = who.UserID, who.RoleName, who.OrganisationODS
		return nil
	}
	statement, err := n.o.Assert(ctx, who)
	if err != nil {
		return fhir.Errorf(fhir.Exception, "this node could not sign for its user: %w", err)
	}
	headers["Authorization"] = "Bearer " + statement
	return nil
}

// clean keeps a header value to one line of ASCII.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
}

func failure(ctx context.Context, err error) error {
	return connector.Unreached(ctx, "the neighbour", err)
}

// status says what a neighbour's status means, with what its body adds: a 404 that is not the neighbour's own word is a wrong address, and says nothing of anybody.
func status(resp *http.Response, body []byte) error {
	i := statusIssue(resp.StatusCode, body)
	if i == nil {
		return nil
	}
	if i.Type == fhir.Throttled || i.Type == fhir.Transient {
		i.After = connector.RetryAfter(resp.Header, time.Now())
	}
	return i
}

func statusIssue(code int, body []byte) *fhir.Issue {
	switch {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound && connector.SaysNotFound(body):
		return fhir.Errorf(fhir.NotFound, "the neighbour has no record that it shares")
	case code == http.StatusNotFound:
		return fhir.Errorf(fhir.NotSupported, "there is no Tombolo at the neighbour's address (status 404): mend it. It is the address below which /fhir lies")
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fhir.Errorf(fhir.Suppressed, "the neighbour refused this node: check the credential and the agreement")
	case code == http.StatusTooManyRequests:
		return fhir.Errorf(fhir.Throttled, "the neighbour is refusing further requests for now")
	case code >= 300 && code < 400:
		return fhir.Errorf(fhir.Transient, "the neighbour sent a redirect, which is not followed: mend its address")
	case code >= 500:
		return fhir.Errorf(fhir.Transient, "the neighbour failed with status %d", code)
	}
	return fhir.Errorf(fhir.NotSupported, "the neighbour refused the question with status %d", code)
}

// read takes a neighbour's Bundle apart: the person, the entries, the states, and what it says is missing.
func read(data []byte, q connector.Question) (*connector.Answer, error) {
	root, err := fhir.ParseValue(data)
	if err != nil {
		return nil, err
	}
	if root.Text("resourceType") != "Bundle" {
		return nil, fhir.Errorf(fhir.Structure, "the neighbour's answer is not a Bundle")
	}
	a := &connector.Answer{States: map[dataset.Heading]dataset.State{}, Map: "tombolo/1", Bytes: int64(len(data))}
	from := map[string]string{} // the ODS code of whoever holds an entry, by its reference
	for e, err := range fhir.Entries(root) {
		if err != nil || e.Resource == nil {
			a.Issues = append(a.Issues, fhir.Errorf(fhir.Incomplete, "an entry of the neighbour's answer could not be read"))
			continue
		}
		switch {
		case e.Resource.Type() == "OperationOutcome":
			outcome(a, e.Resource, q)
		case e.Resource.Type() == "Provenance":
			holders(from, e.Resource)
		case e.Mode != "match":
		case e.Resource.Type() == "Patient":
			if a.Patient != nil {
				return nil, fhir.Errorf(fhir.BusinessRule, "the neighbour answered about more than one person").OfStranger()
			}
			a.Patient = e.Resource
		default:
			a.Content = append(a.Content, e.Resource)
		}
	}
	ofOnePerson(a, q)
	a.Origins = map[fhir.Ref]connector.Origin{}
	for _, r := range a.Content {
		_, id, _ := strings.Cut(r.Text("meta.source"), "#")
		if ods := from[string(r.Ref())]; ods != "" && id != "" && id != connector.Withheld {
			a.Origins[r.Ref()] = connector.Origin{Organisation: ods, ID: id}
		}
	}
	for _, r := range a.Content {
		if h := dataset.HeadingOf(r); h != "" && a.States[h] != dataset.NotKnown {
			a.States[h] = dataset.Present
		}
	}
	return a, nil
}

// ofOnePerson leaves out what the neighbour says is somebody else's, or does not say whose it is: nothing then says that it gave all that it has under those headings
// (design law 9).
func ofOnePerson(a *connector.Answer, q connector.Question) {
	if a.Patient == nil {
		return // the core believes nothing of such an answer
	}
	kept := a.Content[:0]
	for _, r := range a.Content {
		if theirs(r, a.Patient.Ref(), q.Identifiers) {
			kept = append(kept, r)
			continue
		}
		if h := dataset.HeadingOf(r); h != "" {
			a.States[h] = dataset.NotKnown
		}
		a.Issues = append(a.Issues, &fhir.Issue{Type: fhir.BusinessRule, Severity: fhir.Warning, Stranger: len(fhir.Subjects(r)) > 0, Text: "the neighbour sent a " + r.Type() + " of another patient, or did not say whose it is; it was dropped"})
	}
	a.Content = kept
}

// theirs reports whether a resource says that it is this patient's; what need not say whose it is need not.
func theirs(r *fhir.Resource, patient fhir.Ref, asked []fhir.Identifier) bool {
	subjects := fhir.Subjects(r)
	if len(subjects) == 0 {
		return !fhir.NeedsPatient(r.Type())
	}
	return slices.ContainsFunc(subjects, func(s fhir.Reference) bool {
		if s.Reference != "" {
			return fhir.Ref(s.Reference) == patient
		}
		return s.Identifier != nil && slices.ContainsFunc(asked, func(id fhir.Identifier) bool {
			got, want := s.Identifier.Canonical(), id.Canonical()
			return got.System == want.System && got.Value == want.Value
		})
	})
}

// clip keeps what a neighbour says to the length of a sentence or two.
func clip(s string) string {
	const most = 400
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + " …"
	}
	return s
}

// mostIssues is how many of a neighbour's remarks are passed on.
const mostIssues = 200

// holders reads which organisation holds the entries that a Provenance is about. An entry that several hold has no one origin.
func holders(from map[string]string, p *fhir.Resource) {
	ods := ""
	for id := range p.Value().All("agent.who.identifier") {
		if id.Text("system") == fhir.SystemODS {
			ods = id.Text("value")
		}
	}
	for t := range p.Value().All("target.reference") {
		if was, said := from[t.Str()]; said && was != ods {
			ods = ""
		}
		from[t.Str()] = ods
	}
}

// outcome reads what the neighbour's own sources left open, and its heading states.
func outcome(a *connector.Answer, r *fhir.Resource, q connector.Question) {
	for i := range r.Value().All("issue") {
		if i.Text("severity") == "information" {
			continue
		}
		if len(a.Issues) == mostIssues {
			a.Issues = append(a.Issues, fhir.Errorf(fhir.Incomplete, "the neighbour says more of what is missing than is passed on"))
		}
		if len(a.Issues) > mostIssues {
			break
		}
		a.Issues = append(a.Issues, &fhir.Issue{Type: fhir.IssueType(i.Text("code")), Severity: fhir.Warning, Text: clip(i.Text("diagnostics"))})
	}
	for x := range r.Value().All("extension") {
		var heading, state, source string
		given := true
		for p := range x.All("extension") {
			switch p.Text("url") {
			case "heading":
				heading = p.Text("valueCode")
			case "state":
				state = p.Text("valueCode")
			case "source":
				source = p.Text("valueCode")
			case "given":
				given = p.Get("valueBoolean").Bool()
			}
		}
		switch h, st := dataset.Heading(heading), dataset.State(state); {
		case !given || !h.Valid():
		case source == "" && a.States[h] != dataset.NotKnown:
			a.States[h] = st
		case source != "" && st == dataset.NotKnown: // one of its sources was not heard: there may be more than the others gave
			a.States[h] = st
		}
	}
}
