package fhirapi

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

func itoa(n int) string { return strconv.Itoa(n) }

// relative reads "Type/id" and "Type/id/_history/3".
func relative(ref string) (fhir.Ref, bool) {
	parts := strings.Split(ref, "/")
	if len(parts) != 2 && (len(parts) != 4 || parts[2] != "_history") || !fhir.IsType(parts[0]) || !fhir.ValidID(parts[1]) {
		return "", false
	}
	return fhir.MakeRef(parts[0], parts[1]), true
}

// own reads a reference to a resource of this server, relative or under its base URL.
func (c *Client) own(ref string) (fhir.Ref, bool) {
	if r, ok := relative(ref); ok {
		return r, true
	}
	u, err := url.Parse(ref)
	if err != nil || u.Scheme == "" || u.RawQuery != "" || !c.within(u) {
		return "", false
	}
	return relative(strings.TrimPrefix(strings.TrimPrefix(u.Path, c.base.Path), "/"))
}

// localise gives an entry's resource as the source's own: its id, and its references, relative. References to other servers stay.
func (c *Client) localise(e fhir.Entry, full map[string]fhir.Ref) (*fhir.Resource, error) {
	r := e.Resource
	if r.ID() == "" {
		ref, ok := c.own(e.FullURL)
		if !ok || ref.Type() != r.Type() {
			return nil, fhir.Errorf(fhir.Required, "the source sent a %s without an id; it was dropped", r.Type()).At(r.Type() + ".id")
		}
		r = r.With("id", ref.ID())
	}
	r, err := fhir.MapReferences(r, func(o fhir.Value, ref string) ([]byte, bool) {
		target, ok := full[ref]
		if !ok {
			target, ok = c.own(ref)
		}
		if !ok || string(target) == ref {
			return nil, false
		}
		return fhir.WithReference(o, string(target)), true
	})
	if err != nil {
		return nil, err
	}
	if r.Type() == "DocumentReference" {
		r, err = c.localAttachments(r)
	}
	return r, err
}

// localAttachments makes the URLs of attachments that lie on this server whole, so that whoever opens one asks this server for it (Fetch) and no other.
func (c *Client) localAttachments(r *fhir.Resource) (*fhir.Resource, error) {
	raw := r.Value().Rewrite(func(v fhir.Value) ([]byte, bool) {
		if v.Key() != "url" || !v.IsString() {
			return nil, false
		}
		ref, ok := relative(v.Str())
		return fhir.JSON(c.base.JoinPath(string(ref)).String()), ok
	})
	return fhir.Parse(raw)
}

// readable are the types that a record refers to and that are nobody's.
var readable = []string{"Practitioner", "PractitionerRole", "Organization", "Location", "Medication"}

const maxReferenced = 200

// readReferenced reads the practitioners, organisations, places and medicines that the results refer to, a batch a type. What cannot
// be had is left to the references' own display texts; names are no reason to call an answer incomplete.
func (a *asking) readReferenced(ctx context.Context, results []*result, offers map[string]bool) []*result {
	wanted := a.references(results)
	var out []*result
	for _, typ := range readable {
		ids := slices.Sorted(maps.Keys(wanted[typ]))
		if len(ids) == 0 || offers != nil && !offers[typ] {
			continue
		}
		r := &result{search: search{typ: typ, filter: "_id"}}
		a.pages(ctx, r, "_id="+url.QueryEscape(strings.Join(ids, ",")), func(res *fhir.Resource) *fhir.Issue {
			if res.Type() == typ && wanted[typ][res.ID()] {
				if typ == "Organization" && a.isPractice(res) {
					res = tagged(res, dataset.GPPractice)
				}
				r.found = append(r.found, res)
			}
			return nil
		})
		if !r.complete {
			r.failed = nil
			r.issues = []*fhir.Issue{{Type: fhir.Incomplete, Severity: fhir.Information, Expression: typ,
				Text: "details of some people or places named in the record could not be read from the source; their names are as the record gives them"}}
		}
		out = append(out, r)
	}
	return out
}

// references are the ids referred to, by type, as far as they are not in the results already.
func (a *asking) references(results []*result) map[string]map[string]bool {
	have := map[fhir.Ref]bool{}
	wanted := map[string]map[string]bool{}
	n := 0
	look := func(v fhir.Value, ref string) ([]byte, bool) {
		if r, ok := relative(ref); ok && slices.Contains(readable, r.Type()) && !have[r] && n < maxReferenced {
			have[r] = true
			n++
			if wanted[r.Type()] == nil {
				wanted[r.Type()] = map[string]bool{}
			}
			wanted[r.Type()][r.ID()] = true
		}
		return nil, false
	}
	for _, r := range results {
		for _, res := range r.found {
			have[res.Ref()] = true
		}
	}
	for _, r := range results {
		for _, res := range r.found {
			if h := dataset.HeadingOf(headed(res)); h == "" || slices.Contains(a.q.Headings, h) {
				_, _ = fhir.MapReferences(res, look)
			}
		}
	}
	if slices.Contains(a.q.Headings, dataset.GPPractice) {
		_, _ = fhir.MapReferences(a.answer.Patient, look)
	}
	return wanted
}

// isPractice reports whether an organisation is the patient's registered practice, when that was asked for.
func (a *asking) isPractice(org *fhir.Resource) bool {
	if !slices.Contains(a.q.Headings, dataset.GPPractice) {
		return false
	}
	for g := range a.answer.Patient.Value().All("generalPractitioner.reference") {
		if g.Str() == string(org.Ref()) {
			return true
		}
	}
	return false
}
