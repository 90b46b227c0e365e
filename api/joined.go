package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
)

// A joinedRecord is one person's joined record as something that can be searched: what was gathered for this one request, and nothing else.
type joinedRecord struct {
	rec   *gather.Record
	all   []gather.Joined
	byRef map[fhir.Ref]gather.Joined
}

func searchable(rec *gather.Record) *joinedRecord {
	j := &joinedRecord{rec: rec, all: rec.Joined(), byRef: map[fhir.Ref]gather.Joined{}}
	for _, e := range j.all {
		j.byRef[e.Found.Ref()] = e
	}
	return j
}

// Search finds all that matches, in the record's own order: a record is never so large that it has to be found in parts.
func (j *joinedRecord) Search(_ context.Context, q search.Query) (*search.Page, error) {
	m, err := search.Compile(q)
	if err != nil {
		return nil, err
	}
	p := &search.Page{}
	for _, e := range j.all {
		if e.Found.Type() == q.Type && m.Match(e.Found) {
			p.Resources = append(p.Resources, e.Found)
		}
	}
	p.Total = len(p.Resources)
	return p, nil
}

func (j *joinedRecord) lookup(_ context.Context, refs ...fhir.Ref) ([]*fhir.Resource, error) {
	var out []*fhir.Resource
	for _, ref := range refs {
		if e, ok := j.byRef[ref]; ok {
			out = append(out, e.Found)
		}
	}
	return out, nil
}

// joined are the entries of these, as they are given.
func (j *joinedRecord) joined(found []*fhir.Resource) []gather.Joined {
	out := make([]gather.Joined, len(found))
	for i, r := range found {
		out[i] = j.byRef[r.Ref()]
	}
	return out
}

// A joinedPage is what of the matches is given at once.
type joinedPage struct {
	size  int // 0: all
	after string
	query string // what is asked, without where its page begins
}

// cut takes a page out of the matches. A record is gathered anew for each page, and may have changed: the cursor names the last entry that was given, so that no entry
// that stays is passed over or given twice, and if anything has changed, that is told.
func (p joinedPage) cut(matches []*fhir.Resource) (page []*fhir.Resource, next string, issues []*fhir.Issue, err error) {
	asked, state := sha256.Sum256([]byte(p.query)), sha256.New()
	for _, r := range matches {
		state.Write([]byte(string(r.Ref()) + "/" + r.Text("meta.versionId") + "\n"))
	}
	of, now := hex.EncodeToString(asked[:4]), hex.EncodeToString(state.Sum(nil)[:4])
	from := 0
	if p.after != "" {
		parts := strings.SplitN(p.after, ".", 4)
		if len(parts) != 4 || parts[1] != of {
			return nil, "", nil, badCursor()
		}
		n, err := strconv.ParseUint(parts[0], 36, 31)
		if err != nil || !fhir.ValidID(parts[3]) {
			return nil, "", nil, badCursor()
		}
		if from = min(int(n), len(matches)); parts[2] != now {
			if i := slices.IndexFunc(matches, func(r *fhir.Resource) bool { return r.ID() == parts[3] }); i >= 0 {
				from = i + 1
			}
			issues = append(issues, &fhir.Issue{Type: fhir.Informational, Severity: fhir.Warning, Text: "the record has changed since the page before this one was given: begin again to have all of it as it is now"})
		}
	}
	page = matches[from:]
	if p.size > 0 && len(page) > p.size {
		page = page[:p.size]
		next = strconv.FormatInt(int64(from+p.size), 36) + "." + of + "." + now + "." + page[p.size-1].ID()
	}
	return page, next, issues, nil
}

// giveJoined answers a search inside a joined record. v are the parameters as they were sent, patient among them.
func (s *server) giveJoined(w http.ResponseWriter, r *http.Request, rec *gather.Record, q search.Query, v url.Values, warnings []*fhir.Issue) error {
	j := searchable(rec)
	q.Base = s.base(r)
	asked, err := search.Resolve(r.Context(), j, q)
	if err != nil {
		return err
	}
	found, err := j.Search(r.Context(), asked)
	if err != nil {
		return err
	}
	search.Sort(q, found.Resources)
	p := joinedPage{size: q.Count, after: v.Get("_cursor")}
	v.Del("_cursor")
	address := s.base(r) + "/" + q.Type
	p.query = q.Type + "?" + v.Encode()
	page, next, changed, err := p.cut(found.Resources)
	if err != nil {
		return err
	}
	sel := gather.Selection{Links: []fhir.Link{{Relation: "self", URL: withQuery(address, v)}}, Total: len(found.Resources), Issues: append(warnings, changed...)}
	if next != "" {
		v.Set("_cursor", next)
		sel.Links = append(sel.Links, fhir.Link{Relation: "next", URL: withQuery(address, v)})
	}
	if q.Summary == "count" || v.Get("_count") == "0" { // FHIR R4 search.html#count
		page, sel.Links = nil, sel.Links[:1]
	}
	included, err := search.Included(r.Context(), j, j.lookup, q, page)
	if err != nil {
		return err
	}
	sel.Matches, sel.Included = j.joined(page), j.joined(included)
	if part := (view{summary: q.Summary, elements: q.Elements}); !part.whole() && q.Summary != "count" {
		sel.View = part.of
	}
	write(w, r, http.StatusOK, rec.Select(s.base(r), sel))
	return nil
}

// everythingJoined answers $everything of a joined record, a page of it at a time if _count says so; with each page comes what its entries refer to and is nobody's record.
// FHIR R4 patient-operation-everything.html
func (s *server) everythingJoined(w http.ResponseWriter, r *http.Request, rec *gather.Record, e span) error {
	j := searchable(rec)
	var matches []*fhir.Resource
	var sel gather.Selection
	for _, x := range j.all {
		switch {
		case !e.wants(x.Found):
		case !x.Beside:
			matches = append(matches, x.Found)
		case e.count == 0:
			sel.Included = append(sel.Included, x)
		}
	}
	v := r.URL.Query()
	v.Del("_format")
	v.Del("_pretty")
	v.Del("_cursor")
	self := s.base(r) + "/Patient/" + rec.Person.ID + "/$everything"
	page, next, changed, err := joinedPage{size: e.count, after: string(e.after), query: "$everything?" + v.Encode()}.cut(matches)
	if err != nil {
		return err
	}
	sel.Matches, sel.Total, sel.Issues = j.joined(page), len(matches), changed
	sel.Links = []fhir.Link{{Relation: "self", URL: withQuery(self, v)}}
	if next != "" {
		v.Set("_cursor", next)
		sel.Links = append(sel.Links, fhir.Link{Relation: "next", URL: withQuery(self, v)})
	}
	if e.count > 0 {
		sel.Included = j.beside(sel.Matches, e)
	}
	write(w, r, http.StatusOK, rec.Select(s.base(r), sel))
	return nil
}

// beside are the resources that are nobody's record to which these refer, and to which those refer.
func (j *joinedRecord) beside(from []gather.Joined, e span) []gather.Joined {
	var out []gather.Joined
	seen := map[fhir.Ref]bool{}
	for len(from) > 0 {
		var more []gather.Joined
		for _, x := range from {
			_, _ = fhir.MapReferences(x.Given, func(_ fhir.Value, ref string) ([]byte, bool) {
				if to, ok := j.byRef[fhir.Ref(ref)]; ok && to.Beside && !seen[to.Found.Ref()] && e.wants(to.Found) {
					seen[to.Found.Ref()] = true
					more = append(more, to)
				}
				return nil, false
			})
		}
		out, from = append(out, more...), more
	}
	return out
}
