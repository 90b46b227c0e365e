package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
	"tombolo/search/scope"
)

// ownSearch is a search on one type over what the system itself holds. FHIR R4 search.html
func (s *server) ownSearch(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.searchOwn(w, r, session, "")
}

// searchOwn is ownSearch, inside one patient's record if patient is not "".
func (s *server) searchOwn(w http.ResponseWriter, r *http.Request, session *access.Session, patient string) error {
	typ := r.PathValue("type")
	if !fhir.IsType(typ) {
		return unknownType(typ)
	}
	own, v, custom, err := s.ownQuestion(r, session)
	if err == nil {
		err = own.Needs(r.Context(), scope.Search, typ)
	}
	if err != nil {
		return err
	}
	q, warnings, err := search.ParseWith(custom, typ, v, !lenient(r))
	if err != nil {
		return allErrors(warnings, err)
	}
	if err := (view{elements: q.Elements}).known(typ); err != nil && !lenient(r) {
		return err
	}
	q.Base, q.Patient = s.base(r), patient
	page, included, err := s.findOwn(r.Context(), own, q)
	if err != nil {
		return err
	}
	if err := own.Show(r.Context(), typ+"?"+encodeQuery(q.URLValues()), append(slices.Clip(page.Resources), included...)); err != nil {
		return err
	}
	write(w, r, http.StatusOK, s.searchset(r, q, page, included, append(warnings, page.Issues...)))
	return nil
}

// ownQuestion reads the parameters of a search over what the system itself holds, with the search parameters that it has defined.
func (s *server) ownQuestion(r *http.Request, session *access.Session) (own *gather.Own, v url.Values, custom search.Custom, err error) {
	if err := noNumbers(r.URL.Query()); err != nil {
		return nil, nil, nil, err
	}
	if v, err = query(r); err != nil {
		return nil, nil, nil, err
	}
	if own, err = s.o.Gather.Own(r.Context(), session); err != nil {
		return nil, nil, nil, err
	}
	custom, err = s.custom(r.Context(), own)
	return own, v, custom, err
}

// findOwn does a search, with what its chains mean and what comes with its matches. All pages of one search are of the moment of its first: a cursor is
// the position of the log at that moment, and where the page begins.
func (s *server) findOwn(ctx context.Context, own *gather.Own, q search.Query) (*search.Page, []*fhir.Resource, error) {
	if err := pin(ctx, own, &q); err != nil {
		return nil, nil, err
	}
	page, err := s.look(ctx, own, q)
	if err != nil {
		return nil, nil, err
	}
	if page.Next != "" {
		page.Next = pinned(q.AsOf, own.Seal(page.Next))
	}
	included, err := search.Included(ctx, own.Searcher(), own.Lookup, q, page.Resources)
	return page, included, err
}

// pin takes the position of the log out of a search's cursor, or gives a new search the position of now.
func pin(ctx context.Context, own *gather.Own, q *search.Query) error {
	if q.Cursor == "" {
		tail, err := own.Tail(ctx)
		q.AsOf = uint64(tail)
		return err
	}
	at, rest, ok := strings.Cut(q.Cursor, ".")
	n, err := strconv.ParseUint(at, 36, 63)
	if !ok || err != nil || n == 0 {
		return badCursor()
	}
	if rest, ok = own.Unseal(rest); !ok {
		return badCursor()
	}
	q.AsOf, q.Cursor = n, rest
	return nil
}

func pinned(asOf uint64, cursor string) string { return strconv.FormatUint(asOf, 36) + "." + cursor }

func badCursor() error {
	return fhir.Errorf(fhir.ValueError, "this is not a cursor of this search: take the next link as it was given").At("_cursor")
}

// look does a search that is pinned, with what its chains mean.
func (s *server) look(ctx context.Context, own *gather.Own, q search.Query) (*search.Page, error) {
	asked, err := search.Resolve(ctx, own.Searcher(), q)
	if err == nil && s.o.Parameters != nil {
		asked, err = s.o.Parameters.Narrow(ctx, own.Source(), asked)
	}
	if err != nil {
		return nil, err
	}
	page, err := own.Searcher().Search(ctx, asked)
	if i := fhir.IssueOf(err); i != nil && i.Expression == "" && q.Cursor != "" {
		err = i.At("_cursor")
	}
	return page, err
}

// noNumbers refuses a person's number in a URL (design law 9).
func noNumbers(v url.Values) error {
	for name, values := range v {
		if strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "_has") {
			continue
		}
		for _, value := range values {
			for alternative := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ',' || c == '|' || c == '$' }) {
				if _, err := fhir.ParseNHSNumber(alternative); err == nil {
					return fhir.IssueOf(numberInURL()).At(name)
				}
			}
		}
	}
	return nil
}

// allErrors tells of everything that is wrong with a search, not just the first.
func allErrors(issues []*fhir.Issue, first error) error {
	if len(issues) < 2 {
		return first
	}
	return allIssues(issues)
}

// searchset is the answer to a search. Its self link says what was understood and used. FHIR R4 search.html#conformance
func (s *server) searchset(r *http.Request, q search.Query, page *search.Page, included []*fhir.Resource, issues []*fhir.Issue) []byte {
	asked := q.URLValues()
	address := s.base(r) + "/" + q.Type
	if q.Patient != "" {
		address = s.base(r) + "/Patient/" + q.Patient + "/" + q.Type
	}
	return s.searchsetAt(address, r, q, asked, page, included, issues)
}

// searchsetAt is searchset at an address, with the parameters that were understood.
func (s *server) searchsetAt(address string, r *http.Request, q search.Query, asked url.Values, page *search.Page, included []*fhir.Resource, issues []*fhir.Issue) []byte {
	links := []fhir.Link{{Relation: "self", URL: withQuery(address, asked)}}
	if page.Next != "" {
		asked.Set("_cursor", page.Next)
		links = append(links, fhir.Link{Relation: "next", URL: withQuery(address, asked)})
	}
	total := page.Total
	if q.Total == "none" && q.Summary != "count" {
		total = -1
	}
	size := 0
	for _, res := range page.Resources {
		size += len(res.Raw()) + 200
	}
	b := fhir.NewBundle("searchset", s.base(r), total, size, links...)
	v := view{summary: q.Summary, elements: q.Elements}
	if q.Summary == "count" {
		v = view{}
	}
	for _, res := range page.Resources {
		b.Add(v.of(res), "match")
	}
	for _, res := range included {
		b.Add(v.of(res), "include")
	}
	if len(issues) > 0 {
		b.Add(fhir.Outcome(issues...), "outcome")
	}
	return b.Bytes()
}
