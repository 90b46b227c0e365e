package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
	"tombolo/search/scope"
)

// Searches across types: of the whole system, and of all of one patient's record. FHIR R4 http.html#search

// systemSearch is GET [base]?parameters and POST [base]/_search.
func (s *server) systemSearch(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.searchTypes(w, r, session, "")
}

// An across is a search on several types, which its pages go through one after the other.
type across struct {
	types   []string
	queries map[string]search.Query
	named   bool // the types were named
}

func (s *server) searchTypes(w http.ResponseWriter, r *http.Request, session *access.Session, patient string) error {
	own, v, custom, err := s.ownQuestion(r, session)
	if err != nil {
		return err
	}
	a, warnings, err := s.across(r, v, patient, custom)
	if err != nil {
		return allErrors(warnings, err)
	}
	if err := a.within(r.Context(), own); err != nil {
		return err
	}
	page, included, err := s.findAcross(r.Context(), own, a)
	if err != nil {
		return err
	}
	first := a.queries[a.types[0]]
	asked, address, where := first.URLValues(), s.base(r), "?"
	if a.named {
		asked.Set("_type", strings.Join(a.types, ","))
	}
	if patient != "" {
		address += "/Patient/" + patient + "/*"
		where = "Patient/" + patient + "/*?"
	}
	if err := own.Show(r.Context(), where+encodeQuery(asked), append(slices.Clip(page.Resources), included...)); err != nil {
		return err
	}
	write(w, r, http.StatusOK, s.searchsetAt(address, r, first, asked, page, included, append(warnings, page.Issues...)))
	return nil
}

// across reads the parameters for each of the types. What is asked without a type must be in the index: to look through everything there is for each of R4's
// types would cost more than anybody means.
func (s *server) across(r *http.Request, v url.Values, patient string, custom search.Custom) (across, []*fhir.Issue, error) {
	a := across{queries: map[string]search.Query{}, types: search.Types()}
	if list := strings.Join(v["_type"], ","); list != "" {
		a.types, a.named = slices.Compact(slices.Sorted(strings.SplitSeq(list, ","))), true
	}
	v.Del("_type")
	var warnings []*fhir.Issue
	for i, typ := range a.types {
		if !fhir.IsType(typ) {
			return a, nil, fhir.Errorf(fhir.ValueError, "%.40q is not a FHIR R4 resource type", typ).At("_type")
		}
		q, issues, err := search.ParseWith(custom, typ, v, !lenient(r))
		if x := fhir.IssueOf(err); x != nil && x.Type == fhir.Invalid && !a.named && strings.Contains(x.Text, "has no search parameter") {
			return a, nil, fhir.Errorf(fhir.Invalid, "not every type has this parameter: say which types with _type=Patient,Condition, or ask for what all have, such as _id, _tag or _lastUpdated").At(x.Expression)
		}
		if err != nil {
			return a, issues, err
		}
		if i == 0 {
			warnings = issues
		}
		if len(q.Sort) > 0 && len(a.types) > 1 {
			return a, nil, fhir.Errorf(fhir.NotSupported, "what is found of several types is in the order of the types: leave _sort out, or name one type").At("_sort")
		}
		if !a.named && patient == "" && len(q.Chains) == 0 && len(search.Keys(q)) == 0 {
			return a, nil, fhir.Errorf(fhir.TooCostly, "say which types with _type, or ask for something that is in the index, such as _id, _tag or _lastUpdated").At("_type")
		}
		q.Base, q.Patient = s.base(r), patient
		a.queries[typ] = q
	}
	return a, warnings, nil
}

// within leaves out the types of which the application may find nothing; if they were named, it is told.
func (a *across) within(ctx context.Context, own *gather.Own) error {
	if err := own.Needs(ctx, scope.Search, "*"); err != nil {
		return err
	}
	var types []string
	for _, typ := range a.types {
		err := own.Reach().Lacks(scope.Search, typ)
		switch {
		case err == nil:
			types = append(types, typ)
		case a.named:
			return own.Refused(ctx, err)
		}
	}
	a.types = types
	return nil
}

// findAcross does a page. Its cursor is the position of the log, the type, and the cursor in that type.
func (s *server) findAcross(ctx context.Context, own *gather.Own, a across) (*search.Page, []*fhir.Resource, error) {
	first := a.queries[a.types[0]]
	begin := first.Cursor == ""
	if err := pin(ctx, own, &first); err != nil {
		return nil, nil, err
	}
	types, cursor := a.types, ""
	if !begin {
		typ, rest, ok := strings.Cut(first.Cursor, ".")
		i := slices.Index(types, typ)
		if !ok || i < 0 {
			return nil, nil, badCursor()
		}
		types, cursor = types[i:], rest
	}
	wanted := first.Count
	if wanted == 0 {
		wanted = 50
	}
	out := &search.Page{}
	for _, typ := range types {
		if first.Summary != "count" && len(out.Resources) >= wanted {
			out.Next = pinned(first.AsOf, own.Seal(typ+"."))
			break
		}
		q := a.queries[typ]
		q.AsOf, q.Cursor, cursor = first.AsOf, cursor, ""
		q.Count = wanted - len(out.Resources)
		page, err := s.look(ctx, own, q)
		if err != nil {
			return nil, nil, err
		}
		out.Resources, out.Issues = append(out.Resources, page.Resources...), append(out.Issues, page.Issues...)
		if out.Total += page.Total; page.Total < 0 {
			begin = false
		}
		if page.Next != "" {
			out.Next = pinned(first.AsOf, own.Seal(typ+"."+page.Next))
			break
		}
	}
	if !begin || out.Next != "" {
		out.Total = -1
	}
	included, err := search.Included(ctx, own.Searcher(), own.Lookup, first, out.Resources)
	return out, included, err
}
