// Package pixm asks another region's identity index who somebody is there: under which identifiers (IHE PIXm, ITI-83), and where no identifier is known there, whether
// the one described is known (PDQm's Patient/$match, ITI-119, or its search, ITI-78).
//
// Whom a question is about goes in bodies, never in addresses. What an index says is held to the person by whoever asked: nothing here decides who is who.
package pixm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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

// The ways in which an index is asked, in the order in which they are tried.
const (
	Identifiers = "pix"    // Patient/$ihe-pix by each identifier that is known
	Match       = "match"  // Patient/$match, by description
	Search      = "search" // Patient/_search, by description
)

// Options of an Index. Source and Address are needed.
type Options struct {
	Source  string   // what the index is called in the region file
	Address string   // FHIR base URL; /Patient/$ihe-pix and /Patient/$match are below it
	Ways    []string // Identifiers, Match, Search; Identifiers alone if not given
	// Get has $ihe-pix asked by GET, as the profile has it, for an index that takes no POST: then people's numbers stand in its URLs. They are written nowhere here.
	Get bool
	// Token gives the credential that goes with a question; nil: none goes (a client certificate may be in HTTP).
	Token    func(ctx context.Context, who connector.Requester) (string, error)
	HTTP     *http.Client
	MaxBytes int64 // of one answer; 1 MiB if 0
}

// An Index is a connector.Asker that answers with who somebody is: its Answer is a Patient and nothing else.
type Index struct{ o Options }

var _ connector.Asker = (*Index)(nil)

// New makes an Index, or says which option is wrong. A redirect is never followed: it would take the credential and the question elsewhere.
func New(o Options) (*Index, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fhir.Errorf(fhir.ValueError, "the index %s needs its FHIR base URL, such as https://record.example.nhs.uk/identity", o.Source)
	}
	o.Address = strings.TrimRight(o.Address, "/")
	if len(o.Ways) == 0 {
		o.Ways = []string{Identifiers}
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<20)
	client := &http.Client{Transport: http.DefaultTransport}
	if o.HTTP != nil {
		*client = *o.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP = client
	return &Index{o}, nil
}

// Ask implements connector.Asker. It tries by each of the person's identifiers, then by Question.About. NotFound: the index knows nobody who is surely this person; of
// MultipleMatch: it knows some who may be. A description is sent only where there is one in the question.
func (x *Index) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	a := &connector.Answer{Map: "pixm/1", States: map[dataset.Heading]dataset.State{}}
	unknown := fhir.Errorf(fhir.NotFound, "the index knows nobody who is surely this person").From(x.o.Source)
	for _, way := range []string{Identifiers, Match, Search} {
		if !slices.Contains(x.o.Ways, way) || way != Identifiers && q.About == nil {
			continue
		}
		var p *fhir.Resource
		var err error
		switch way {
		case Identifiers:
			p, err = x.corresponding(ctx, q, a)
		case Match:
			p, err = x.match(ctx, q, a)
		case Search:
			p, err = x.search(ctx, q, a)
		}
		switch {
		case err == nil:
			a.Patient = p
			if slices.Contains(q.Headings, dataset.Demographics) {
				a.States[dataset.Demographics] = dataset.Present
			}
			return a, nil
		case fhir.Is(err, fhir.MultipleMatch):
			unknown = fhir.IssueOf(err)
		case !fhir.Is(err, fhir.NotFound):
			return nil, err
		}
	}
	return nil, unknown
}

// corresponding asks by each identifier. What the index says belongs to it is of the person it was asked about, who therefore has the identifier asked by as well.
// IHE ITI-83 2:3.83.4.1
func (x *Index) corresponding(ctx context.Context, q connector.Question, a *connector.Answer) (*fhir.Resource, error) {
	for _, id := range q.Identifiers {
		params := []fhir.M{{"name": "sourceIdentifier", "valueString": id.System + "|" + id.Value}}
		for _, system := range q.Wanted {
			params = append(params, fhir.M{"name": "targetSystem", "valueString": system})
		}
		out, err := x.pix(ctx, params, q.Requester, a)
		if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.CodeInvalid) { // nobody by this one, or it does not know that system: 2:3.83.4.2.2.2 and .3
			continue
		}
		if err != nil {
			return nil, err
		}
		if out.Type() != "Parameters" {
			return nil, fhir.Errorf(fhir.Structure, "the index answered $ihe-pix with a %s; Parameters were expected", out.Type()).From(x.o.Source)
		}
		found, err := x.read(out, q.Wanted)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 { // they are known there, and by nothing that is wanted
			continue
		}
		return fhir.New("Patient", "there", fhir.M{"identifier": append(found, fhir.Identifier{System: id.System, Value: id.Value})}), nil
	}
	return nil, fhir.Errorf(fhir.NotFound, "no identifier of this person is known there").From(x.o.Source)
}

// pix asks $ihe-pix.
func (x *Index) pix(ctx context.Context, params []fhir.M, who connector.Requester, a *connector.Answer) (*fhir.Resource, error) {
	if !x.o.Get {
		return x.do(ctx, http.MethodPost, "/Patient/$ihe-pix", fhir.New("Parameters", "", fhir.M{"parameter": params}).Raw(), "application/fhir+json", who, a)
	}
	v := url.Values{}
	for _, p := range params {
		v.Add(p["name"].(string), p["valueString"].(string))
	}
	return x.do(ctx, http.MethodGet, "/Patient/$ihe-pix?"+v.Encode(), nil, "", who, a)
}

// read takes the identifiers that are wanted. Two of one system are of two people, or of one who is there twice: either way nobody can say which is meant.
func (x *Index) read(out *fhir.Resource, wanted []string) ([]fhir.Identifier, error) {
	var found []fhir.Identifier
	for p := range out.Value().All("parameter") {
		var id fhir.Identifier
		if p.Text("name") != "targetIdentifier" || p.Member("valueIdentifier").Decode(&id) != nil {
			continue
		}
		if id = id.Canonical(); id.Value == "" || id.Check() != nil || len(wanted) > 0 && !slices.Contains(wanted, id.System) {
			continue
		}
		if i := slices.IndexFunc(found, func(o fhir.Identifier) bool { return o.System == id.System }); i < 0 {
			found = append(found, id)
		} else if found[i].Value != id.Value && len(wanted) > 0 {
			return nil, fhir.Errorf(fhir.MultipleMatch, "the index has more than one identifier of a system for this person").From(x.o.Source)
		}
	}
	return found, nil
}

// match asks by description, for a match about which the index has no doubt. IHE ITI-119 2:3.119.4.1.2
func (x *Index) match(ctx context.Context, q connector.Question, a *connector.Answer) (*fhir.Resource, error) {
	body := fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "resource", "resource": json.RawMessage(q.About.Raw())}, {"name": "onlyCertainMatches", "valueBoolean": true}, {"name": "count", "valueInteger": 3}}})
	out, err := x.do(ctx, http.MethodPost, "/Patient/$match", body.Raw(), "application/fhir+json", q.Requester, a)
	if err != nil {
		return nil, err
	}
	return x.one(out, func(e fhir.Value) bool {
		for ext := range e.All("search.extension") {
			if ext.Text("url") == "http://hl7.org/fhir/StructureDefinition/match-grade" {
				return ext.Text("valueCode") == "certain"
			}
		}
		return false
	})
}

// search asks by description for whoever is described exactly so. IHE ITI-78 2:3.78.4.1
func (x *Index) search(ctx context.Context, q connector.Question, a *connector.Answer) (*fhir.Resource, error) {
	v := url.Values{}
	for param, path := range map[string]string{"family:exact": "name.family", "birthdate": "birthDate", "gender": "gender"} {
		if s := q.About.Text(path); s != "" {
			v.Set(param, s)
		}
	}
	if given := q.About.Text("name.given"); given != "" {
		v.Set("given", given)
	}
	if v.Get("family:exact") == "" || v.Get("birthdate") == "" || v.Get("given") == "" {
		return nil, fhir.Errorf(fhir.NotFound, "too little is known of this person to ask by").From(x.o.Source)
	}
	out, err := x.do(ctx, http.MethodPost, "/Patient/_search", []byte(v.Encode()), "application/x-www-form-urlencoded", q.Requester, a)
	if err != nil {
		return nil, err
	}
	return x.one(out, func(fhir.Value) bool { return true })
}

// one is the Patient of a Bundle in which there is exactly one who counts. IHE ITI-119 2:3.119.4.2.2
func (x *Index) one(out *fhir.Resource, counts func(entry fhir.Value) bool) (*fhir.Resource, error) {
	if out.Type() != "Bundle" {
		return nil, fhir.Errorf(fhir.Structure, "the index answered with a %s; a searchset Bundle was expected", out.Type()).From(x.o.Source)
	}
	var found []*fhir.Resource
	others := 0
	for e := range out.Value().All("entry") {
		r, err := fhir.FromValue(e.Member("resource"))
		switch {
		case err != nil:
			return nil, fhir.Errorf(fhir.Structure, "an entry of the index's answer could not be read").From(x.o.Source)
		case r.Type() == "OperationOutcome":
			if i := outcome(r.Value()); i != nil {
				return nil, i.From(x.o.Source)
			}
		case r.Type() != "Patient":
		case counts(e):
			found = append(found, r)
		default:
			others++
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found)+others > 0:
		return nil, fhir.Errorf(fhir.MultipleMatch, "the index knows people who may be this person, and none who surely is").From(x.o.Source)
	}
	return nil, fhir.Errorf(fhir.NotFound, "nobody described so is known there").From(x.o.Source)
}

// outcome is the first of the issues that leaves an answer less than whole, nil if there is none. Its words are not passed on: they may name the person.
func outcome(v fhir.Value) *fhir.Issue {
	for i := range v.All("issue") {
		t := fhir.IssueType(i.Text("code"))
		switch i.Text("severity") {
		case "warning":
			if t == fhir.Incomplete || t == fhir.Timeout || t == fhir.Transient {
				return fhir.Errorf(fhir.Incomplete, "the index has not looked at everybody whom it knows")
			}
		case "error", "fatal":
			switch t {
			case fhir.Timeout, fhir.Throttled, fhir.Suppressed, fhir.Forbidden, fhir.NotSupported, fhir.TooCostly, fhir.MultipleMatch, fhir.NotFound:
				return fhir.Errorf(t, "the index says: %s", string(t))
			}
			return fhir.Errorf(fhir.Transient, "the index could not answer")
		}
	}
	return nil
}

// do asks one question and gives the resource that answers it.
func (x *Index) do(ctx context.Context, method, path string, body []byte, contentType string, who connector.Requester, a *connector.Answer) (*fhir.Resource, error) {
	req, err := http.NewRequestWithContext(ctx, method, x.o.Address+path, bytes.NewReader(body))
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the question to the index could not be made").From(x.o.Source)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/fhir+json")
	who.Accompany(ctx, req.Header)
	if x.o.Token != nil {
		token, err := x.o.Token(ctx, who)
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the credential for the index could not be had: %w", err).From(x.o.Source)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := x.o.HTTP.Do(req)
	if err != nil {
		return nil, x.failure(ctx, err)
	}
	defer resp.Body.Close()
	tooLong := fhir.Errorf(fhir.TooLong, "the index's answer is larger than %d bytes", x.o.MaxBytes).From(x.o.Source)
	if resp.ContentLength > x.o.MaxBytes {
		return nil, tooLong
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, x.o.MaxBytes+1))
	if err != nil {
		return nil, x.failure(ctx, err)
	}
	if a.Bytes += int64(len(data)); int64(len(data)) > x.o.MaxBytes {
		return nil, tooLong
	}
	out, bad := fhir.Parse(data)
	if resp.StatusCode != http.StatusOK {
		i := x.refused(resp.StatusCode, out)
		if i.Type == fhir.Throttled || i.Type == fhir.Transient {
			i.After = connector.RetryAfter(resp.Header, time.Now())
		}
		return nil, i
	}
	if bad != nil {
		return nil, fhir.Errorf(fhir.Structure, "the index's answer is not a FHIR resource in JSON").From(x.o.Source)
	}
	return out, nil
}

func (x *Index) failure(ctx context.Context, err error) error {
	return connector.Unreached(ctx, "the index", err).From(x.o.Source)
}

// refused says what a status means, with what its OperationOutcome adds (nil if there is none): a 404 without one is a wrong address, and says nothing of anybody.
func (x *Index) refused(status int, out *fhir.Resource) *fhir.Issue {
	code := ""
	if out != nil && out.Type() == "OperationOutcome" {
		code = out.Text("issue.code")
	}
	t, text := fhir.NotSupported, "the index refused the question with status %d"
	switch {
	case status == http.StatusNotFound && code == string(fhir.NotFound):
		t, text = fhir.NotFound, "the index knows nobody by this (status %d)"
	case status == http.StatusBadRequest && code == string(fhir.CodeInvalid):
		t, text = fhir.CodeInvalid, "the index has no identifiers of this system (status %d)"
	case status == http.StatusForbidden && code == string(fhir.CodeInvalid): // 2:3.83.4.2.2.4
		text = "the index has no identifiers of the systems that are wanted (status %d): mend them in the region file"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		text = "there is no index at its address, or it takes no POST (status %d): mend its address, or write get: true"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		t, text = fhir.Forbidden, "the index refused this node with status %d: check the credential and the agreement"
	case status == http.StatusTooManyRequests:
		t, text = fhir.Throttled, "the index is asked too often (status %d)"
	case status >= 500, status >= 300 && status < 400:
		t, text = fhir.Transient, "the index failed with status %d"
	}
	return fhir.Errorf(t, text, status).From(x.o.Source)
}
