package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/search"
	"tombolo/search/scope"
)

// Operations on what a system itself holds here, and on nothing.

// convert is $convert: a resource as it came, in the format that is asked for. FHIR R4 resource-operation-convert.html
func (s *server) convert(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	_, res, err := sent(r)
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, res.Raw())
	return nil
}

// span is what $everything is asked for. FHIR R4 patient-operation-everything.html
type span struct {
	types      []string
	start, end time.Time // of the care
	since      time.Time // of the change
	count      int
	after      fhir.Ref // where the page begins
}

func everythingSpan(asked url.Values) (e span, err error) {
	instant := func(name, v string) time.Time {
		at, perr := fhir.ParseDate(strings.ReplaceAll(v, " ", "+"))
		if perr != nil {
			err = fhir.IssueOf(perr).At(name)
		}
		if name == "end" {
			return at.End
		}
		return at.Start
	}
	for name, values := range asked {
		v := strings.Join(values, ",")
		switch name {
		case "_type":
			for t := range strings.SplitSeq(v, ",") {
				if !fhir.IsType(t) {
					return e, fhir.Errorf(fhir.ValueError, "%.40q is not a resource type", t).At("_type")
				}
				e.types = append(e.types, t)
			}
		case "start":
			e.start = instant(name, v)
		case "end":
			e.end = instant(name, v)
		case "_since":
			e.since = instant(name, v)
		case "_count":
			if e.count, err = strconv.Atoi(v); err != nil || e.count < 1 {
				return e, fhir.Errorf(fhir.ValueError, "takes a whole number, 1 or more").At(name)
			}
		case "_cursor":
			e.after = fhir.Ref(v)
		case "_format", "_pretty":
		default:
			return e, fhir.Errorf(fhir.NotSupported, "$everything takes start, end, _since, _type and _count").At(name)
		}
	}
	return e, err
}

func (e span) wants(r *fhir.Resource) bool {
	if len(e.types) > 0 && !slices.Contains(e.types, r.Type()) {
		return false
	}
	if !e.since.IsZero() {
		if at, err := time.Parse(time.RFC3339, r.Text("meta.lastUpdated")); err == nil && at.Before(e.since) {
			return false
		}
	}
	if when := dataset.When(r); when != "" && r.Type() != "Patient" { // what has no date of care belongs to all of it
		if at, err := fhir.ParseDate(when); err == nil && (!e.end.IsZero() && !at.Start.Before(e.end) || !e.start.IsZero() && !at.End.IsZero() && !at.End.After(e.start)) {
			return false
		}
	}
	return true
}

// ownEverything is Patient/$everything over what the system itself holds: the patient's record, and what it names of organisations, people, places and
// medicines. FHIR R4 patient-operation-everything.html
func (s *server) ownEverything(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	r.SetPathValue("type", "Patient")
	ref, err := refOf(r)
	if err != nil {
		return err
	}
	e, err := everythingSpan(r.URL.Query())
	if err != nil {
		return err
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	all, err := own.Record(r.Context(), ref)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(r *fhir.Resource) bool { return !e.wants(r) })
	total := len(all)
	if i := slices.IndexFunc(all, func(r *fhir.Resource) bool { return r.Ref() == e.after }); i >= 0 {
		all = all[i+1:]
	}
	asked := r.URL.Query()
	asked.Del("_format")
	self := s.base(r) + "/" + string(ref) + "/$everything"
	links := []fhir.Link{{Relation: "self", URL: withQuery(self, asked)}}
	if e.count > 0 && len(all) > e.count {
		all = all[:e.count]
		asked.Set("_cursor", string(all[e.count-1].Ref()))
		links = append(links, fhir.Link{Relation: "next", URL: withQuery(self, asked)})
	}
	if err := own.Show(r.Context(), string(ref)+"/$everything", all); err != nil {
		return err
	}
	b := fhir.NewBundle("searchset", s.base(r), total, 0, links...)
	for _, res := range all {
		b.Add(res, "match")
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// compartment is a search inside one patient's record: Patient/[id]/[type]. FHIR R4 http.html#vsearch
func (s *server) compartment(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	ref, err := refOf(r)
	if err != nil {
		return err
	}
	typ := r.PathValue("inside")
	if ref.Type() == "Patient" && typ == "*" {
		return s.searchTypes(w, r, session, ref.ID())
	}
	if strings.HasPrefix(typ, "$") {
		return noOperation(typ, ref.Type()+"/[id]/"+typ)
	}
	if ref.Type() != "Patient" || !fhir.IsType(typ) {
		return fhir.Errorf(fhir.NotFound, "there is nothing at this address: Patient/[id]/[type] searches inside a patient's record, and Patient/[id]/* all of it")
	}
	r.SetPathValue("type", typ)
	return s.searchOwn(w, r, session, ref.ID())
}

// meta is [type]/[id]/$meta: the profiles, tags and labels of a resource. FHIR R4 resource-operation-meta.html
func (s *server) meta(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	_, got, err := s.named(r, session)
	if err != nil {
		return err
	}
	res, err := got.Resource()
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, metaParameters(res))
	return nil
}

func metaParameters(res *fhir.Resource) []byte {
	return fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "return", "valueMeta": rawJSON(res.Value().Member("meta").Raw())}}}).Raw()
}

func (s *server) metaAdd(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.metaChange(w, r, session, true)
}

func (s *server) metaDelete(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.metaChange(w, r, session, false)
}

// metaChange is $meta-add and $meta-delete: of lists, what says the same is there once.
func (s *server) metaChange(w http.ResponseWriter, r *http.Request, session *access.Session, add bool) error {
	ref, err := refOf(r)
	if err != nil {
		return err
	}
	params, err := parameters(r)
	if err != nil {
		return err
	}
	change := params.Get("parameter.valueMeta")
	if !change.Exists() {
		return fhir.Errorf(fhir.Required, "send a parameter meta with a valueMeta").At("Parameters.parameter")
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	as := change1(ref)
	as.method = "PATCH" // as which it is taken: it builds on what is there
	if err := own.Refused(r.Context(), as.lacks(own.Reach())); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	sub := intake.Submission{Source: own.Source(), Raw: params.Raw(), ContentType: typeFHIRJSON, Key: own.Key(key), Asked: asked(r), Reach: own.Reach()}
	receipt, err := s.o.Intake.Submit(r.Context(), sub, func(tx *intake.Writing) ([]byte, error) {
		was, err := tx.Get(r.Context(), ref)
		if err == nil && !own.Reach().May(scope.Read|scope.Search, was) {
			err = fhir.Errorf(fhir.NotFound, "%s is not known here", ref)
		}
		if err != nil {
			return nil, err
		}
		now := was.With("meta", changedMeta(was.Value().Member("meta"), change, add))
		if err := shape(now); err != nil {
			return nil, err
		}
		d, err := put(r.Context(), tx, change1(ref), http.StatusOK, now)
		if err != nil {
			return nil, err
		}
		return json.Marshal(d)
	})
	if err != nil {
		return own.Refused(r.Context(), err)
	}
	var d done
	if err := json.Unmarshal(receipt.Reply, &d); err != nil {
		return err
	}
	if err := s.remember(r, own, d); err != nil {
		return err
	}
	got, err := own.Written(r.Context(), d.Ref, d.Version)
	if err != nil {
		return err
	}
	res, err := got.Resource()
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, metaParameters(res))
	return nil
}

func change1(ref fhir.Ref) change { return change{method: "PUT", typ: ref.Type(), id: ref.ID()} }

// changedMeta is a meta with the profiles, tags and labels of another added or taken away.
func changedMeta(was, change fhir.Value, add bool) fhir.M {
	same := func(a, b fhir.Value) bool {
		if a.IsObject() {
			return a.Text("system") == b.Text("system") && a.Text("code") == b.Text("code")
		}
		return a.Str() == b.Str()
	}
	out := fhir.M{}
	for c := range was.Children() {
		out[c.Key()] = rawJSON(c.Raw())
	}
	for _, name := range []string{"profile", "security", "tag"} {
		var list []fhir.Value
		for v := range was.All(name) {
			list = append(list, v)
		}
		for v := range change.All(name) {
			i := slices.IndexFunc(list, func(have fhir.Value) bool { return same(have, v) })
			switch {
			case add && i < 0:
				list = append(list, v)
			case !add && i >= 0:
				list = slices.Delete(list, i, i+1)
			}
		}
		delete(out, name)
		var raw []rawJSON
		for _, v := range list {
			raw = append(raw, v.Raw())
		}
		if len(raw) > 0 {
			out[name] = raw
		}
	}
	return out
}

// lastN is Observation/$lastn: the newest of each code. FHIR R4 observation-operation-lastn.html
func (s *server) lastN(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if err := noNumbers(r.URL.Query()); err != nil {
		return err
	}
	v, err := query(r)
	if err != nil {
		return err
	}
	most := 1
	if m := v.Get("max"); m != "" {
		if most, err = strconv.Atoi(m); err != nil || most < 1 {
			return fhir.Errorf(fhir.ValueError, "takes a whole number, 1 or more").At("max")
		}
	}
	v.Del("max")
	if !v.Has("patient") && !v.Has("subject") {
		return fhir.Errorf(fhir.Required, "say whose: patient or subject").At("patient")
	}
	q, warnings, err := search.Parse("Observation", v, !lenient(r))
	if err != nil {
		return allErrors(warnings, err)
	}
	q.Base, q.Sort, q.Count = s.base(r), []search.SortKey{{Name: "date", Desc: true}}, 1000
	own, err := s.o.Gather.Own(r.Context(), session)
	if err == nil {
		err = own.Needs(r.Context(), scope.Search, "Observation")
	}
	if err != nil {
		return err
	}
	newest, err := s.lastOfEach(r.Context(), own, q, most)
	if err != nil {
		return err
	}
	if err := own.Show(r.Context(), "Observation/$lastn", newest); err != nil {
		return err
	}
	q.Count, q.Sort = 0, nil
	asked := url.Values(q.URLValues())
	if most > 1 {
		asked.Set("max", strconv.Itoa(most))
	}
	b := fhir.NewBundle("searchset", s.base(r), len(newest), 0, fhir.Link{Relation: "self", URL: withQuery(s.base(r)+"/Observation/$lastn", asked)})
	for _, res := range newest {
		b.Add(res, "match")
	}
	if len(warnings) > 0 {
		b.Add(fhir.Outcome(warnings...), "outcome")
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// lastOfEach keeps the first few of each code; two that share a coding are of one code.
func (s *server) lastOfEach(ctx context.Context, own *gather.Own, q search.Query, most int) ([]*fhir.Resource, error) {
	var out []*fhir.Resource
	group, counts := map[string]int{}, []int{}
	for {
		page, included, err := s.findOwn(ctx, own, q)
		_ = included
		if err != nil {
			return nil, err
		}
		for _, r := range page.Resources {
			var names []string
			for c := range r.Value().All("code.coding") {
				names = append(names, c.Text("system")+"|"+c.Text("code"))
			}
			if len(names) == 0 {
				names = []string{"text " + r.Text("code.text")}
			}
			g := -1
			for _, n := range names {
				if i, ok := group[n]; ok {
					g = i
				}
			}
			if g < 0 {
				g = len(counts)
				counts = append(counts, 0)
			}
			for _, n := range names {
				group[n] = g
			}
			if counts[g]++; counts[g] <= most {
				out = append(out, r)
			}
		}
		if q.Cursor = page.Next; page.Next == "" {
			return out, nil
		}
	}
}
