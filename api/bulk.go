package api

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/bulk"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search/scope"
)

// Work that takes longer than a request: a system's own record in and out, as NDJSON. FHIR R4 async.html, HL7 Bulk Data Access 2.0.0

// A Bulk does such work. bulk.Service is one.
type Bulk interface {
	Export(ctx context.Context, own *gather.Own, request string, e bulk.Export) (bulk.Job, error)
	Import(ctx context.Context, own *gather.Own, ask bulk.Asking, from io.Reader) (bulk.Job, error)
	Job(ctx context.Context, source, id string) (bulk.Job, error)
	Cancel(ctx context.Context, source, id string) error
	Lines(ctx context.Context, j bulk.Job, file int, yield func(packed []byte) error) error
}

// bulkPath is where jobs are asked after, below /fhir.
const bulkPath = "$bulk"

// ndjson are the names of the one format of the files. HL7 Bulk Data Access 2.0.0 export.html#query-parameters
var ndjson = []string{"application/fhir+ndjson", "application/ndjson", "application/x-ndjson", "ndjson"}

func (s *server) bulkRoutes() []route {
	if s.o.Bulk == nil {
		return nil
	}
	export := func(level string) handler {
		return func(w http.ResponseWriter, r *http.Request, session *access.Session) error {
			return s.export(w, r, session, level)
		}
	}
	return []route{
		{pattern: "GET /fhir/$export", interaction: "$export", system: export("system")},
		{pattern: "POST /fhir/$export", system: export("system")},
		{pattern: "GET /fhir/Patient/$export", interaction: "$export", typ: "Patient", system: export("patient")},
		{pattern: "POST /fhir/Patient/$export", system: export("patient")},
		{pattern: "GET /fhir/Group/{id}/$export", interaction: "$export", typ: "Group", system: export("group")},
		{pattern: "POST /fhir/Group/{id}/$export", system: export("group")},
		{pattern: "POST /fhir/$import", interaction: "$import", system: s.importLines},
		{pattern: "GET /fhir/" + bulkPath + "/{job}/status", system: s.job, lines: true},
		{pattern: "DELETE /fhir/" + bulkPath + "/{job}/status", system: s.cancelJob, lines: true},
		{pattern: "GET /fhir/" + bulkPath + "/{job}/file/{file}", system: s.jobFile, lines: true},
	}
}

// export begins one. HL7 Bulk Data Access 2.0.0 export.html#bulk-data-kick-off-request
func (s *server) export(w http.ResponseWriter, r *http.Request, session *access.Session, level string) error {
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	if !preferences(r).async {
		return mustBeAsync()
	}
	v := r.URL.Query()
	if r.Method == http.MethodPost {
		params, err := parameters(r)
		if err != nil {
			return err
		}
		for p := range params.All("parameter") {
			v.Add(p.Text("name"), parameterText(p))
		}
	}
	e, err := readExport(v, level, preferences(r).lenient)
	if err != nil {
		return err
	}
	if level == "group" {
		r.SetPathValue("type", "Group")
		ref, err := refOf(r)
		if err != nil {
			return err
		}
		if e.Patients, err = s.members(r.Context(), own, ref, e.Patients); err != nil {
			return err
		}
	}
	for _, typ := range append([]string{"*"}, e.Types...) {
		if err := own.Needs(r.Context(), scope.Read, typ); err != nil {
			return err
		}
	}
	job, err := s.o.Bulk.Export(r.Context(), own, s.requestURL(r), e)
	if err != nil {
		return err
	}
	return s.begun(w, r, job)
}

func mustBeAsync() error {
	return fhir.Errorf(fhir.Required, "this takes longer than a request: ask for it with Prefer: respond-async, and look after it at the address in Content-Location").At("Prefer")
}

// members are the patients of a group; with some, those of them who are asked for.
func (s *server) members(ctx context.Context, own *gather.Own, group fhir.Ref, some []string) ([]string, error) {
	all, err := own.Members(ctx, group)
	if err != nil {
		return nil, err
	}
	if len(some) == 0 {
		return all, nil
	}
	for _, id := range some {
		if !slices.Contains(all, id) {
			return nil, fhir.Errorf(fhir.NotFound, "not all of these patients are members of the group").At("patient")
		}
	}
	return some, nil
}

// parameterText is a simple parameter as it would stand in a URL.
func parameterText(p fhir.Value) string {
	for c := range p.Children() {
		switch {
		case c.Key() == "valueReference":
			return c.Text("reference")
		case strings.HasPrefix(c.Key(), "value"):
			return c.Str()
		}
	}
	return ""
}

// requestURL is the address that was asked, as the manifest repeats it.
func (s *server) requestURL(r *http.Request) string {
	at := s.base(r) + strings.TrimPrefix(r.URL.Path, "/fhir")
	if r.URL.RawQuery != "" {
		at += "?" + r.URL.RawQuery
	}
	return at
}

// readExport reads what is asked for. HL7 Bulk Data Access 2.0.0 export.html#query-parameters
func readExport(v url.Values, level string, lenient bool) (bulk.Export, error) {
	e := bulk.Export{Level: level}
	for name, values := range v {
		for _, value := range values {
			if err := addExport(&e, name, value, lenient); err != nil {
				return e, err
			}
		}
	}
	for _, f := range e.Filters {
		if len(e.Types) > 0 && !slices.Contains(e.Types, f.Type) {
			return e, fhir.Errorf(fhir.Invalid, "a filter is on %s, which _type leaves out", f.Type).At("_typeFilter")
		}
	}
	return e, nil
}

func addExport(e *bulk.Export, name, value string, lenient bool) error {
	switch name {
	case "_outputFormat":
		if !slices.Contains(ndjson, strings.ReplaceAll(value, " ", "+")) {
			return fhir.Errorf(fhir.NotSupported, "files are application/fhir+ndjson").At(name)
		}
	case "_since":
		at, err := fhir.ParseDate(strings.ReplaceAll(value, " ", "+"))
		if err != nil || !strings.Contains(value, "T") {
			return fhir.Errorf(fhir.ValueError, "takes an instant, such as 2026-01-31T09:30:00Z: best the transactionTime of the export before").At(name)
		}
		e.Since = at.Start
	case "_type":
		for typ := range strings.SplitSeq(value, ",") {
			if !fhir.IsType(typ) {
				return fhir.Errorf(fhir.ValueError, "%.40q is not a FHIR R4 resource type", typ).At(name)
			}
			e.Types = append(e.Types, typ)
		}
	case "_typeFilter":
		for part := range strings.SplitSeq(value, ",") {
			if err := addFilter(e, part); err != nil {
				return err
			}
		}
	case "patient":
		for part := range strings.SplitSeq(value, ",") {
			ref := fhir.Ref(part)
			if e.Level == "system" || ref.Type() != "Patient" || !fhir.ValidID(ref.ID()) {
				return fhir.Errorf(fhir.Invalid, "takes Patient/[id], of patients' and groups' exports").At(name)
			}
			e.Patients, e.Some = append(e.Patients, ref.ID()), true
		}
	case "_format", "_pretty":
	default:
		if !lenient {
			return fhir.Errorf(fhir.NotSupported, "$export takes _type, _since, _typeFilter, _outputFormat and patient here: leave this out, or ask with Prefer: handling=lenient to have it passed over").At(name)
		}
	}
	return nil
}

// addFilter reads one of _typeFilter: a search on a type. Several on a type widen what is given. A comma inside a value is part of the filter before it.
func addFilter(e *bulk.Export, part string) error {
	typ, query, ok := strings.Cut(part, "?")
	if !ok && len(e.Filters) > 0 { // the value of a list, cut by the comma between filters
		f := &e.Filters[len(e.Filters)-1]
		for name, values := range f.Query {
			if values[len(values)-1] != "" && name == f.Last {
				values[len(values)-1] += "," + part
				return bulk.CheckFilter(*f)
			}
		}
	}
	v, err := url.ParseQuery(query)
	if !ok || err != nil || !fhir.IsType(typ) {
		return fhir.Errorf(fhir.Invalid, "is written Type?parameter=value, and percent-encoded as a whole").At("_typeFilter")
	}
	f := bulk.Filter{Type: typ, Query: v}
	if last := query[strings.LastIndexByte(query, '&')+1:]; last != "" {
		f.Last, _, _ = strings.Cut(last, "=")
	}
	if err := bulk.CheckFilter(f); err != nil {
		return fhir.IssueOf(err).At("_typeFilter: " + fhir.IssueOf(err).Expression)
	}
	e.Filters = append(e.Filters, f)
	return nil
}

// begun says where a job is to be asked after.
func (s *server) begun(w http.ResponseWriter, r *http.Request, job bulk.Job) error {
	w.Header().Set("Content-Location", s.base(r)+"/"+bulkPath+"/"+job.ID+"/status")
	write(w, r, http.StatusAccepted, fhir.Outcome(&fhir.Issue{Type: fhir.Informational, Severity: fhir.Information,
		Text: "begun: ask after it at the address in Content-Location"}).Raw())
	return nil
}

// importLines takes NDJSON in the body and begins to write it.
func (s *server) importLines(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	if err := own.Needs(r.Context(), scope.Update, "*"); err != nil {
		return err
	}
	if !preferences(r).async {
		return mustBeAsync()
	}
	if !slices.Contains(ndjson, mediaType(r)) {
		return fhir.Errorf(fhir.NotSupported, "send one resource a line, as application/fhir+ndjson").At("Content-Type")
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	from, err := unpacked(r)
	if err != nil {
		return err
	}
	job, err := s.o.Bulk.Import(r.Context(), own, bulk.Asking{Address: s.requestURL(r), Key: key, Asked: asked(r)}, &unhurried{from, http.NewResponseController(w), 0})
	if err != nil {
		return err
	}
	return s.begun(w, r, job)
}

// An unhurried reader may take as long as something comes: a listener's limit on a whole request is for those that fit into memory.
type unhurried struct {
	io.Reader
	c    *http.ResponseController
	left int
}

const silence = time.Minute

func (u *unhurried) Read(b []byte) (int, error) {
	if u.left <= 0 {
		u.left = 1 << 20
		_ = u.c.SetReadDeadline(time.Now().Add(silence)) // where there is none, there is no limit
	}
	n, err := u.Reader.Read(b)
	u.left -= n
	return n, err
}

// job says how a job stands. HL7 Bulk Data Access 2.0.0 export.html#bulk-data-status-request
func (s *server) job(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	_, j, err := s.jobOf(r, session)
	if err != nil {
		return err
	}
	head := w.Header()
	switch j.State {
	case bulk.Failed:
		return fhir.Errorf(j.Failure.Type, "%s", j.Failure.Text)
	case bulk.Done:
		head.Set("Expires", j.Expires.UTC().Format(http.TimeFormat))
		head.Set("Content-Type", "application/json")
		body := fhir.JSON(s.manifest(r, j))
		head.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
		return nil
	}
	progress := j.Progress()
	head.Set("X-Progress", progress[:min(len(progress), 100)])
	head.Set("Retry-After", "1")
	write(w, r, http.StatusAccepted, fhir.Outcome(&fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: progress}).Raw())
	return nil
}

// jobOf finds the job that a request names. One that was begun for an application that reaches further than this one is not there for it.
func (s *server) jobOf(r *http.Request, session *access.Session) (*gather.Own, bulk.Job, error) {
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return nil, bulk.Job{}, err
	}
	j, err := s.o.Bulk.Job(r.Context(), own.Source(), r.PathValue("job"))
	if err != nil {
		return nil, j, err
	}
	covers, err := own.Covers(r.Context(), j.Mandate)
	if err == nil && !covers {
		err = bulk.NoSuchJob()
	}
	return own, j, err
}

// manifest lists the files of a job. HL7 Bulk Data Access 2.0.0 export.html#response---output-manifest
func (s *server) manifest(r *http.Request, j bulk.Job) fhir.M {
	lists := map[string][]fhir.M{"output": {}, "error": {}}
	for i, f := range j.Files {
		lists[f.Kind] = append(lists[f.Kind], fhir.M{"type": f.Type, "count": f.Count, "url": fmt.Sprintf("%s/%s/%s/file/%d", s.base(r), bulkPath, j.ID, i)})
	}
	m := fhir.M{"transactionTime": fhir.Instant(j.At), "request": j.Request, "requiresAccessToken": true, "output": lists["output"], "error": lists["error"]}
	if len(lists["deleted"]) > 0 {
		m["deleted"] = lists["deleted"]
	}
	if j.Import != nil {
		m["extension"] = fhir.M{"lines": j.Import.Lines, "taken": j.Done}
	}
	return m
}

func (s *server) cancelJob(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	own, _, err := s.jobOf(r, session)
	if err != nil {
		return err
	}
	if err := s.o.Bulk.Cancel(r.Context(), own.Source(), r.PathValue("job")); err != nil {
		return err
	}
	write(w, r, http.StatusAccepted, fhir.Outcome(&fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: "cancelled, and its files are gone"}).Raw())
	return nil
}

// jobFile streams one of a job's files. Each person's part was audited before it was made; that it is fetched is audited before it is given.
func (s *server) jobFile(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	own, j, err := s.jobOf(r, session)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.PathValue("file"))
	if err != nil || j.State != bulk.Done || n < 0 || n >= len(j.Files) {
		return fhir.Errorf(fhir.NotFound, "this job has no such file: the addresses are in its manifest")
	}
	if err := own.Remember(r.Context(), gather.Doing{Kind: audit.Export, Query: strings.TrimPrefix(r.URL.Path, "/fhir/")}); err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", "application/fhir+ndjson")
	head.Add("Vary", "Accept-Encoding")
	packed := accepts(r, "gzip")
	if packed {
		head.Set("Content-Encoding", "gzip")
	}
	control := http.NewResponseController(w)
	err = s.o.Bulk.Lines(r.Context(), j, n, func(piece []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(silence))
		if packed {
			_, err := w.Write(piece)
			return err
		}
		z, err := gzip.NewReader(strings.NewReader(string(piece)))
		if err == nil {
			_, err = io.Copy(w, z)
		}
		return err
	})
	if err != nil {
		// The answer has begun: that it breaks off is all that can be said.
		s.o.Logger.Warn("a file of a bulk job was not given whole", "job", j.ID, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
