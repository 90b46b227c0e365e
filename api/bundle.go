package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/fhir/r4"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/search/scope"
)

// maxEntries bounds a Bundle that is sent to be done.
const maxEntries = 10_000

// bundle is a batch or a transaction. FHIR R4 http.html#transaction
func (s *server) bundle(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	raw, res, err := readBundle(r)
	if err != nil {
		return err
	}
	if res.Type() != "Bundle" {
		return fhir.Errorf(fhir.Structure, "this address takes a Bundle of type transaction or batch; a %s goes to /%s", res.Type(), res.Type()).At("resourceType")
	}
	var entries []*entry
	for v := range res.Value().All("entry") {
		if len(entries) == maxEntries {
			return fhir.Errorf(fhir.TooCostly, "a Bundle has at most %d entries: send it in parts", maxEntries).At("Bundle.entry")
		}
		entries = append(entries, &entry{value: v, at: "Bundle.entry[" + strconv.Itoa(len(entries)) + "]"})
	}
	wrong := misshapen(res)
	if len(wrong[-1]) > 0 {
		return allIssues(wrong[-1])
	}
	for i, e := range entries {
		e.wrong = wrong[i]
	}
	switch typ := res.Text("type"); typ {
	case "transaction":
		return s.transaction(w, r, own, res, raw, entries)
	case "batch":
		return s.batch(w, r, entries, len(raw))
	default:
		return fhir.Errorf(fhir.ValueError, "this address takes a transaction or a batch: say which").At("Bundle.type")
	}
}

// misshapen is what is wrong with the Bundle itself, beside the resources in it, by entry; -1: with what stands around them.
func misshapen(bundle *fhir.Resource) map[int][]*fhir.Issue {
	plain := json.RawMessage(`{"resourceType":"Basic"}`) // in the place of each, which is held to its shape when it is done
	res, err := fhir.Parse(bundle.Value().Rewrite(func(v fhir.Value) ([]byte, bool) { return plain, v.Key() == "resource" && v.IsObject() }))
	if err != nil {
		return map[int][]*fhir.Issue{-1: {fhir.IssueOf(err)}}
	}
	by := map[int][]*fhir.Issue{}
	for _, i := range r4.Check(res, r4.Shape) {
		n := -1
		if rest, ok := strings.CutPrefix(i.Expression, "Bundle.entry["); ok {
			digits, _, _ := strings.Cut(rest, "]")
			n, _ = strconv.Atoi(digits)
		}
		by[n] = append(by[n], i)
	}
	return by
}

// An entry of a Bundle that is sent to be done. Its resource is read from the Bundle's bytes where it is needed, and not kept: a large Bundle's trees would be larger than all else.
type entry struct {
	value   fhir.Value
	oldID   string    // of the resource, as it came
	wrong   allIssues // with the entry itself
	at      string    // its expression
	fullURL string
	method  string
	url     *url.URL
	change  change
	cond    string // the condition of change.where, as it came
	reads   bool
	ref     fhir.Ref // what it is about, once known
	key     string   // of a batch's: the client's name for it, "" if it has none
}

func (e *entry) issue(t fhir.IssueType, where, format string, args ...any) *fhir.Issue {
	return fhir.Errorf(t, format, args...).At(e.at + where)
}

// read takes an entry apart. FHIR R4 bundle-definitions.html#Bundle.entry.request
func (s *server) readEntry(r *http.Request, e *entry) error {
	req := e.value.Member("request")
	e.fullURL, e.method = e.value.Text("fullUrl"), req.Text("method")
	if !req.Exists() || e.method == "" {
		return e.issue(fhir.Required, ".request.method", "each entry says what is to be done")
	}
	u, err := url.Parse(strings.TrimPrefix(strings.TrimPrefix(req.Text("url"), s.base(r)), "/"))
	if err != nil || u.IsAbs() || req.Text("url") == "" {
		return e.issue(fhir.ValueError, ".request.url", "an address of this server, such as Patient or Patient/1")
	}
	e.url = u
	path := strings.Split(u.Path, "/")
	e.change = change{method: e.method, typ: path[0], at: e.at, ifMatch: req.Text("ifMatch"), ifNone: req.Text("ifNoneMatch")}
	if len(path) > 1 {
		e.change.id = path[1]
	}
	if e.method == "GET" || e.method == "HEAD" {
		e.reads = true
		return nil
	}
	if _, ok := order[e.method]; !ok {
		return e.issue(fhir.NotSupported, ".request.method", "a method of a FHIR server: GET, POST, PUT, PATCH or DELETE")
	}
	if !fhir.IsType(path[0]) || len(path) > 2 || e.change.id != "" && !fhir.ValidID(e.change.id) {
		return e.issue(fhir.ValueError, ".request.url", "an address of this server, such as Patient or Patient/1")
	}
	if err := s.readBody(r, e); err != nil {
		return err
	}
	return s.readConditions(r, e, req)
}

// readWhole is readEntry, and holds the entry itself to R4.
func (s *server) readWhole(r *http.Request, e *entry) error {
	err := s.readEntry(r, e)
	if err == nil && len(e.wrong) > 0 {
		err = e.wrong
	}
	return err
}

func (s *server) readBody(r *http.Request, e *entry) error {
	body := e.value.Member("resource")
	if e.method == "DELETE" {
		return nil
	}
	if !body.Exists() {
		return e.issue(fhir.Required, ".resource", "there is nothing to write")
	}
	res, err := e.resource()
	if err != nil {
		return err
	}
	if e.method != "PATCH" {
		e.oldID = res.ID()
		if issues := r4.Check(res, r4.Shape); len(issues) > 0 {
			for j, i := range issues {
				issues[j] = i.At(within(e.at, i.Expression))
			}
			return allIssues(issues)
		}
		return nil
	}
	if e.change.patch, err = patchIn(res); err != nil {
		i := fhir.IssueOf(err)
		return i.At(e.at + ".resource")
	}
	return nil
}

// resource reads what the entry holds.
func (e *entry) resource() (*fhir.Resource, error) {
	res, err := fhir.Parse(e.value.Member("resource").Raw())
	if err == nil {
		err = proportionate(res)
	}
	if i := fhir.IssueOf(err); i != nil {
		return nil, i.At(within(e.at, i.Expression))
	}
	return res, err
}

// patchIn reads the patch that an entry holds: a Binary with a JSON Patch, or Parameters. FHIR R4 http.html#patch
func patchIn(res *fhir.Resource) (*patch, error) {
	if res.Type() == "Binary" {
		data, err := fhir.DecodeBase64(res.Text("data"))
		if err != nil {
			return nil, fhir.Errorf(fhir.ValueError, "not base64").At("Binary.data")
		}
		return readPatch(res.Text("contentType"), data)
	}
	return readPatch(typeFHIRJSON, res.Raw())
}

func (s *server) readConditions(r *http.Request, e *entry, req fhir.Value) (err error) {
	switch {
	case e.method == "POST":
		if e.change.id != "" {
			return e.issue(fhir.ValueError, ".request.url", "POST to the type alone, or PUT to an id")
		}
		e.cond = req.Text("ifNoneExist")
	case e.change.id == "":
		if e.cond = e.url.RawQuery; e.cond == "" {
			return e.issue(fhir.Required, ".request.url", "say which: Type/id, or Type?condition")
		}
	}
	if e.cond != "" {
		return s.where(r, e)
	}
	return nil
}

// where reads the entry's condition.
func (s *server) where(r *http.Request, e *entry) (err error) {
	if e.change.where, err = s.condition(r, e.change.typ, e.cond, ""); err != nil {
		i := fhir.IssueOf(err)
		return i.At(e.at + ".request")
	}
	return nil
}

// lacks is the refusal of an entry that no scope lets the application do, whatever is there, before anything of the transaction is done.
func (e *entry) lacks(reach *scope.Reach) error {
	var err error
	switch {
	case !e.reads:
		err = e.change.lacks(reach)
	case !fhir.IsType(e.change.typ): // of the whole system: it answers for itself
	case fhir.ValidID(e.change.id) && !strings.HasPrefix(e.change.id, "_"):
		err = reach.Lacks(scope.Read|scope.Search, e.change.typ)
	default:
		err = reach.Lacks(scope.Search, e.change.typ)
	}
	if i := fhir.IssueOf(err); i != nil {
		return i.At(e.at + ".request")
	}
	return nil
}

// order is that in which a transaction is done, whatever order it was sent in. FHIR R4 http.html#trules
var order = map[string]int{"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}

// transaction does all, or nothing.
func (s *server) transaction(w http.ResponseWriter, r *http.Request, own *gather.Own, res *fhir.Resource, raw []byte, entries []*entry) error {
	for _, e := range entries {
		if err := s.readWhole(r, e); err != nil {
			return err
		}
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	if id := res.Get("identifier"); key == "" && id.Text("value") != "" {
		key = "bundle " + id.Text("system") + "|" + id.Text("value")
	}
	for _, e := range entries {
		if err := own.Refused(r.Context(), e.lacks(own.Reach())); err != nil {
			return err
		}
	}
	receipt, err := s.o.Intake.Submit(r.Context(), intake.Submission{Source: own.Source(), Raw: raw, ContentType: "application/fhir+json", Key: own.Key(key), Reach: own.Reach()},
		func(tx *intake.Writing) ([]byte, error) {
			all, err := s.applyAll(r, tx, entries)
			if err != nil {
				return nil, err
			}
			return json.Marshal(all)
		})
	if err != nil {
		return own.Refused(r.Context(), err)
	}
	var all []done
	if err := json.Unmarshal(receipt.Reply, &all); err != nil {
		return err
	}
	var wrote []done
	for i := range all {
		if i < len(entries) && !entries[i].reads {
			wrote = append(wrote, all[i])
		}
	}
	if len(wrote) > 0 {
		if err := s.remember(r, own, wrote...); err != nil {
			return err
		}
	}
	return s.tellAll(w, r, own, entries, all)
}

// applyAll does a transaction's entries in their order, on the resources as the Bundle links them.
func (s *server) applyAll(r *http.Request, tx *intake.Writing, entries []*entry) ([]done, error) {
	ctx := r.Context()
	links, err := s.link(ctx, tx, r, entries)
	if err != nil {
		return nil, err
	}
	all := make([]done, len(entries))
	turn := make([]int, len(entries))
	for i := range turn {
		turn[i] = i
	}
	slices.SortStableFunc(turn, func(a, b int) int {
		x, y := entries[a], entries[b]
		return cmp.Or(cmp.Compare(order[x.method], order[y.method]), cmp.Compare(patientsFirst(x), patientsFirst(y)))
	})
	// Patients first among all that is written, so that what is about them has them.
	slices.SortStableFunc(turn, func(a, b int) int {
		x, y := entries[a], entries[b]
		if x.method == "DELETE" || y.method == "DELETE" || x.reads || y.reads {
			return 0
		}
		return cmp.Compare(patientsFirst(x), patientsFirst(y))
	})
	for _, i := range turn {
		e := entries[i]
		if e.reads {
			if err := mustBeThere(ctx, tx, e); err != nil {
				return nil, err
			}
			continue
		}
		c := e.change
		if c.method == "POST" || c.method == "PUT" {
			if c.resource, err = e.resource(); err == nil {
				c.resource, err = links.rewrite(ctx, tx, e, c.resource)
			}
			if err != nil {
				return nil, err
			}
		}
		if c.method == "POST" {
			c.id = e.ref.ID()
		}
		if all[i], err = applyLinked(ctx, tx, e, c); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// patientsFirst ranks a delete of a patient last among deletes and a write of one first among writes.
func patientsFirst(e *entry) int {
	if (e.change.typ == "Patient") == (e.method == "DELETE") {
		return 1
	}
	return 0
}

// applyLinked is apply for an entry whose condition has been looked up already while linking, so that it is decided once.
func applyLinked(ctx context.Context, tx *intake.Writing, e *entry, c change) (done, error) {
	if c.where == nil || e.ref == "" {
		return apply(ctx, tx, c)
	}
	switch c.method {
	case "POST":
		was, err := tx.Get(ctx, e.ref)
		if err == nil {
			return is(ctx, tx, c, http.StatusOK, was)
		}
		c.where = nil
	case "PUT":
		if c.resource.ID() == "" {
			c.resource = c.resource.With("id", e.ref.ID())
		}
		c.where, c.id = nil, e.ref.ID()
	}
	return apply(ctx, tx, c)
}

// mustBeThere fails a transaction that reads what is not there. FHIR R4 http.html#transaction
func mustBeThere(ctx context.Context, tx *intake.Writing, e *entry) error {
	if e.change.id == "" || !fhir.IsType(e.change.typ) || strings.HasPrefix(e.change.id, "_") || strings.HasPrefix(e.change.id, "$") {
		return nil
	}
	_, err := tx.Get(ctx, fhir.MakeRef(e.change.typ, e.change.id))
	if i := fhir.IssueOf(err); i != nil {
		return i.At(e.at + ".request.url")
	}
	return err
}

// tellAll answers a transaction: an entry for each entry, in the order in which they were sent. FHIR R4 http.html#transaction-response
func (s *server) tellAll(w http.ResponseWriter, r *http.Request, own *gather.Own, entries []*entry, all []done) error {
	prefer := preferences(r).returns
	b := fhir.NewBundle("transaction-response", "", -1, 0, fhir.Link{Relation: "self", URL: s.base(r)})
	for i, e := range entries {
		if e.reads {
			b.AddEntry(s.innerWithin(r, e, maxAnswer-b.Len()))
			continue
		}
		d := all[i]
		response := fhir.M{"status": strconv.Itoa(d.Status) + " " + http.StatusText(d.Status), "lastModified": fhir.Instant(d.At)}
		part := fhir.EntryParts{Response: response}
		if d.Version > 0 {
			response["etag"] = etag(d.Version)
		}
		if d.Ref != "" && d.Method != "DELETE" {
			part.FullURL = s.base(r) + "/" + string(d.Ref)
			response["location"] = string(d.Ref) + "/_history/" + strconv.Itoa(d.Version)
			if prefer == "representation" {
				got, err := own.Written(r.Context(), d.Ref, d.Version)
				if err != nil {
					return err
				}
				if own.Shows(got) {
					part.Resource = got.Body
				}
			}
		}
		if prefer == "OperationOutcome" {
			response["outcome"] = json.RawMessage(fhir.Outcome(d.words()).Raw())
		}
		b.AddEntry(part)
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// batch does each entry by itself: one that fails says so in its place, and hinders no other. size is that of the request, in bytes. FHIR R4 http.html#batch
func (s *server) batch(w http.ResponseWriter, r *http.Request, entries []*entry, size int) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	if key != "" { // of each entry one of its own: those that failed are done when it comes again, and the others are not done twice
		for _, e := range entries {
			sum := sha256.Sum256([]byte(key + "\x00" + e.at))
			e.key = "entry " + hex.EncodeToString(sum[:])
		}
	}
	turn := make([]int, len(entries))
	answers := make([]fhir.EntryParts, len(entries))
	for i, e := range entries {
		turn[i] = i
		if err := s.readWhole(r, e); err != nil {
			answers[i] = s.failed(err)
		}
	}
	slices.SortStableFunc(turn, func(a, b int) int { return cmp.Compare(order[entries[a].method], order[entries[b].method]) })
	// Mostly what is written comes back, and a buffer that grows is in memory twice.
	b, next := fhir.NewBundle("batch-response", "", -1, size+600*len(entries), fhir.Link{Relation: "self", URL: s.base(r)}), 0
	waiting := 0 // bytes of what has no place yet, because something before it is done later
	for _, i := range turn {
		if answers[i].Response == nil {
			answers[i] = s.innerWithin(r, entries[i], maxAnswer-b.Len()-waiting)
			waiting += len(answers[i].Resource)
		}
		// What has its place in the Bundle is not kept beside it. Of what was sent in the order in which it is done that is each as it comes.
		for ; next < len(answers) && answers[next].Response != nil; next++ {
			b.AddEntry(answers[next])
			waiting -= len(answers[next].Resource)
			answers[next] = fhir.EntryParts{Response: fhir.M{}}
		}
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

func (s *server) failed(err error) fhir.EntryParts {
	i := s.issueOf(err)
	status := statusOf(i)
	if all, ok := err.(allIssues); ok {
		return fhir.EntryParts{Response: fhir.M{"status": strconv.Itoa(status) + " " + http.StatusText(status), "outcome": json.RawMessage(fhir.Outcome(all...).Raw())}}
	}
	return fhir.EntryParts{Response: fhir.M{"status": strconv.Itoa(status) + " " + http.StatusText(status), "outcome": json.RawMessage(fhir.Outcome(i).Raw())}}
}

// A recorder keeps what a handler answers.
type recorder struct {
	head   http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.head }
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// passed on are the headers of the outer request that hold for each entry.
var passedOn = []string{"Authorization", "Cookie", "Prefer", "User-Agent"}

// maxAnswer is how large the answer to a batch or transaction may become before no more is read for it, in bytes.
const maxAnswer = 32 << 20

// innerWithin is inner while there is room for what it answers. What writes is done all the same.
func (s *server) innerWithin(r *http.Request, e *entry, room int) fhir.EntryParts {
	if e.reads && room <= 0 {
		return s.failed(e.issue(fhir.TooLong, ".request", "the answers before this have %d bytes together: ask for this one by itself", maxAnswer))
	}
	return s.inner(r, e)
}

// inner does one entry as a request by itself.
func (s *server) inner(r *http.Request, e *entry) fhir.EntryParts {
	method := e.method
	req := e.value.Member("request")
	var send []byte
	contentType := typeFHIRJSON
	if body := e.value.Member("resource"); body.Exists() && method != "GET" && method != "DELETE" {
		send = body.Raw()
		if method == "PATCH" {
			if res, err := e.resource(); err == nil && res.Type() == "Binary" {
				send, _ = fhir.DecodeBase64(res.Text("data"))
				contentType = res.Text("contentType")
			}
		}
	}
	target := "/fhir/" + e.url.Path
	if e.url.RawQuery != "" {
		target += "?" + e.url.RawQuery
	}
	in, err := http.NewRequestWithContext(r.Context(), method, target, bytes.NewReader(send))
	if err != nil {
		return s.failed(e.issue(fhir.ValueError, ".request.url", "not an address"))
	}
	in.Host, in.TLS, in.RemoteAddr = r.Host, r.TLS, r.RemoteAddr
	for _, name := range passedOn {
		in.Header[name] = r.Header[name]
	}
	in.Header.Set("Content-Type", contentType)
	if e.key != "" {
		in.Header.Set("Idempotency-Key", e.key)
	}
	for header, member := range map[string]string{"If-Match": "ifMatch", "If-None-Match": "ifNoneMatch", "If-Modified-Since": "ifModifiedSince", "If-None-Exist": "ifNoneExist"} {
		if v := req.Text(member); v != "" {
			in.Header.Set(header, v)
		}
	}
	rec := &recorder{head: http.Header{}}
	if strings.Trim(e.url.Path, "/") == "" {
		return s.failed(e.issue(fhir.NotSupported, ".request.url", "a Bundle inside a Bundle is not done: send it by itself"))
	}
	s.mux.ServeHTTP(rec, in)
	return partsOf(rec)
}

func partsOf(rec *recorder) fhir.EntryParts {
	rec.WriteHeader(http.StatusOK)
	p := fhir.EntryParts{Response: fhir.M{"status": fmt.Sprintf("%d %s", rec.status, http.StatusText(rec.status))}}
	for header, member := range map[string]string{"ETag": "etag", "Location": "location"} {
		if v := rec.head.Get(header); v != "" {
			p.Response[member] = v
		}
	}
	if t, err := http.ParseTime(rec.head.Get("Last-Modified")); err == nil {
		p.Response["lastModified"] = fhir.Instant(t)
	}
	if rec.body.Len() > 0 {
		if rec.status >= 400 {
			p.Response["outcome"] = json.RawMessage(rec.body.Bytes())
		} else {
			p.Resource = rec.body.Bytes()
		}
	}
	return p
}
