package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/search"
	"tombolo/search/scope"
	"tombolo/searchparam"
	"tombolo/subscription"
)

// A change is one interaction that writes, by itself or as an entry of a transaction.
type change struct {
	method   string // POST, PUT, PATCH, DELETE
	typ, id  string
	resource *fhir.Resource
	patch    *patch
	ifMatch  string
	ifNone   string        // If-None-Match
	where    *search.Query // conditional: If-None-Exist of a create, the URL's parameters of the others
	at       string        // expression of the entry, "" for a request by itself
}

// done is what became of a change. It is kept with a request that may come again.
type done struct {
	Method  string    `json:"m"`
	Status  int       `json:"s"`
	Ref     fhir.Ref  `json:"r,omitempty"`
	Version int       `json:"v,omitempty"`
	At      time.Time `json:"t"`
	Patient string    `json:"p,omitempty"` // whose record it is in
	Changed bool      `json:"c,omitempty"`
}

// create is POST [type]. FHIR R4 http.html#create
func (s *server) create(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	c := change{method: "POST", typ: r.PathValue("type")}
	if !fhir.IsType(c.typ) {
		return unknownType(c.typ)
	}
	var raw []byte
	var err error
	if raw, c.resource, err = sent(r); err != nil {
		return err
	}
	if cond := r.Header.Get("If-None-Exist"); cond != "" {
		if c.where, err = s.condition(r, c.typ, cond, "If-None-Exist"); err != nil {
			return err
		}
	}
	return s.single(w, r, session, raw, c)
}

// update is PUT [type]/[id], or PUT [type]?[condition]. FHIR R4 http.html#update
func (s *server) update(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	c, err := s.target(r)
	if err != nil {
		return err
	}
	var raw []byte
	if raw, c.resource, err = sent(r); err != nil {
		return err
	}
	return s.single(w, r, session, raw, c)
}

// patch is PATCH [type]/[id], or PATCH [type]?[condition]. FHIR R4 http.html#patch
func (s *server) patch(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	c, err := s.target(r)
	if err != nil {
		return err
	}
	raw, err := body(r)
	if err != nil {
		return err
	}
	if c.patch, err = readPatch(mediaType(r), raw); err != nil {
		return err
	}
	return s.single(w, r, session, raw, c)
}

// delete is DELETE [type]/[id], or DELETE [type]?[condition]. FHIR R4 http.html#delete
func (s *server) delete(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	c, err := s.target(r)
	if err != nil {
		return err
	}
	return s.single(w, r, session, []byte("DELETE "+r.URL.Path), c)
}

// target reads what a PUT, PATCH or DELETE is about from its URL.
func (s *server) target(r *http.Request) (change, error) {
	c := change{method: r.Method, typ: r.PathValue("type"), id: r.PathValue("id"), ifMatch: r.Header.Get("If-Match"), ifNone: r.Header.Get("If-None-Match")}
	if c.id != "" {
		_, err := refOf(r)
		return c, err
	}
	if !fhir.IsType(c.typ) {
		return c, unknownType(c.typ)
	}
	var err error
	c.where, err = s.condition(r, c.typ, r.URL.RawQuery, "the URL")
	return c, err
}

// condition reads a search that decides what is written. It is always strict: a parameter passed over would write to somebody else's resource.
func (s *server) condition(r *http.Request, typ, query, from string) (*search.Query, error) {
	query = strings.TrimPrefix(strings.TrimPrefix(query, typ), "?")
	if i := strings.IndexByte(query, '?'); i >= 0 { // an absolute URL
		query = query[i+1:]
	}
	v, err := url.ParseQuery(query)
	if err != nil {
		return nil, fhir.Errorf(fhir.Invalid, "the condition is not well-formed: check the percent signs").At(from)
	}
	v.Del("_format")
	v.Del("_pretty")
	q, _, err := search.Parse(typ, v, true)
	if err != nil {
		return nil, err
	}
	if len(q.Params) == 0 {
		return nil, fhir.Errorf(fhir.Required, "a condition without parameters means every %s: say which one", typ).At(from)
	}
	q.Sort, q.Cursor, q.Base = nil, "", s.base(r)
	return &q, nil
}

// single does one change, audits it and answers.
func (s *server) single(w http.ResponseWriter, r *http.Request, session *access.Session, raw []byte, c change) error {
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	if err := own.Refused(r.Context(), c.lacks(own.Reach())); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	sub := intake.Submission{Source: own.Source(), Raw: raw, ContentType: mediaType(r), Key: own.Key(key), Asked: asked(r), Reach: own.Reach()}
	receipt, err := s.o.Intake.Submit(r.Context(), sub, func(tx *intake.Writing) ([]byte, error) {
		d, err := apply(r.Context(), tx, c)
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
	return s.tell(w, r, own, d)
}

// idempotencyKey is the client's name for a request that it may send again.
func idempotencyKey(r *http.Request) (string, error) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > 255 {
		return "", fhir.Errorf(fhir.TooLong, "a key has at most 255 characters").At("Idempotency-Key")
	}
	if key != "" {
		key = "header " + key
	}
	return key, nil
}

// asked is what a request that writes says beside its body.
func asked(r *http.Request) string {
	said := []string{r.Method, r.URL.Path, r.URL.RawQuery}
	for _, name := range []string{"If-Match", "If-None-Match", "If-None-Exist"} {
		said = append(said, r.Header.Get(name))
	}
	return strings.Join(said, "\n")
}

var auditKinds = map[string]audit.Kind{"POST": audit.Create, "PUT": audit.Update, "PATCH": audit.Update, "DELETE": audit.Delete}

// remember audits what was written, before a word is said of it.
func (s *server) remember(r *http.Request, own *gather.Own, all ...done) error {
	d := gather.Doing{Kind: audit.Update, Query: r.Method + " " + strings.TrimPrefix(r.URL.Path, "/fhir")}
	if len(all) == 1 {
		d.Kind = auditKinds[all[0].Method]
	}
	for _, x := range all {
		if x.Ref == "" {
			continue
		}
		d.Refs = append(d.Refs, x.Method+" "+string(x.Ref)+"/_history/"+strconv.Itoa(x.Version))
		if x.Patient != "" {
			d.Patients = append(d.Patients, x.Patient)
		}
	}
	return own.Remember(r.Context(), d)
}

// tell answers a single change. FHIR R4 http.html#ops
func (s *server) tell(w http.ResponseWriter, r *http.Request, own *gather.Own, d done) error {
	head := w.Header()
	if d.Version > 0 && d.Method != "DELETE" {
		stamps(head, d.Version, d.At)
		head.Set("Location", s.location(r, d))
		head.Set("Content-Location", s.location(r, d))
	} else if d.Version > 0 {
		head.Set("ETag", etag(d.Version))
	}
	prefer := preferences(r).returns
	switch {
	case prefer == "OperationOutcome":
		if d.Status == http.StatusNoContent {
			d.Status = http.StatusOK
		}
		write(w, r, d.Status, fhir.Outcome(d.words()).Raw())
		return nil
	case prefer == "minimal" || d.Method == "DELETE":
		w.WriteHeader(d.Status)
		return nil
	}
	got, err := own.Written(r.Context(), d.Ref, d.Version)
	if err != nil {
		return err
	}
	if !own.Shows(got) {
		w.WriteHeader(d.Status)
		return nil
	}
	write(w, r, d.Status, got.Body)
	return nil
}

// letters are what each method does, in the letters of scopes. SMART App Launch 2.2 scopes-and-launch-context.html#scopes-for-requesting-fhir-resources
var letters = map[string]scope.Can{"POST": scope.Create, "PUT": scope.Update, "PATCH": scope.Update, "DELETE": scope.Delete}

// lacks is the refusal of a change that no scope lets the application make, whatever is there: the method's own letter, the search that a condition is, and, of a patch,
// which builds on what is there and can test it, reading.
func (c change) lacks(reach *scope.Reach) error {
	err := reach.Lacks(letters[c.method], c.typ)
	if err == nil && c.where != nil {
		err = reach.Lacks(scope.Search, c.typ)
	}
	if err == nil && c.method == "PATCH" {
		err = reach.Lacks(scope.Read|scope.Search, c.typ)
	}
	return err
}

func (s *server) location(r *http.Request, d done) string {
	return s.base(r) + "/" + string(d.Ref) + "/_history/" + strconv.Itoa(d.Version)
}

// words say what became of a change.
func (d done) words() *fhir.Issue {
	text := "nothing was there to be deleted"
	switch {
	case d.Method == "DELETE" && d.Ref != "":
		text = "deleted"
	case d.Method == "DELETE":
	case d.Status == http.StatusCreated:
		text = "created"
	case d.Method == "POST":
		text = "there is one that answers the condition already: nothing was created"
	case d.Changed:
		text = "updated"
	default:
		text = "it says so already: nothing was changed"
	}
	return &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: text}
}

// apply does one change inside a transaction. Its errors name the entry.
func apply(ctx context.Context, tx *intake.Writing, c change) (d done, err error) {
	switch c.method {
	case "POST":
		d, err = applyCreate(ctx, tx, c)
	case "PUT":
		d, err = applyUpdate(ctx, tx, c)
	case "PATCH":
		d, err = applyPatch(ctx, tx, c)
	case "DELETE":
		d, err = applyDelete(ctx, tx, c)
	default:
		err = fhir.Errorf(fhir.NotSupported, "this method is not one of a FHIR server")
	}
	if i := fhir.IssueOf(err); i != nil && c.at != "" {
		return d, i.At(within(c.at, i.Expression))
	}
	return d, err
}

// within puts an expression inside an entry of a Bundle.
func within(entry, expression string) string {
	if expression == "" {
		return entry
	}
	if typ, rest, ok := strings.Cut(expression, "."); ok && fhir.IsType(typ) {
		return entry + ".resource." + rest
	}
	if fhir.IsType(expression) {
		return entry + ".resource"
	}
	return entry + ": " + expression
}

func (c change) checkBody() error {
	if c.resource.Type() != c.typ {
		return fhir.Errorf(fhir.Invalid, "this address is for a %s, and the body is a %s", c.typ, c.resource.Type()).At("resourceType")
	}
	return nil
}

func applyCreate(ctx context.Context, tx *intake.Writing, c change) (done, error) {
	if err := c.checkBody(); err != nil {
		return done{}, err
	}
	if c.where != nil { // FHIR R4 http.html#ccreate
		found, err := tx.FindOrCreate(ctx, *c.where)
		if err != nil {
			return done{}, err
		}
		if len(found) > 1 {
			return done{}, many("If-None-Exist")
		}
		if len(found) == 1 {
			return is(ctx, tx, c, http.StatusOK, found[0])
		}
	}
	id := c.id // of a transaction, which has told the others already
	if id == "" {
		id = intake.NewID()
	}
	return put(ctx, tx, c, http.StatusCreated, c.resource.With("id", id))
}

func many(where string) error {
	return fhir.Errorf(fhir.MultipleMatch, "more than one answers the condition: make it more exact").At(where)
}

// put writes a resource and says so.
func put(ctx context.Context, tx *intake.Writing, c change, status int, r *fhir.Resource) (done, error) {
	if err := searchparam.Check(r); err != nil {
		return done{}, err
	}
	if err := subscription.Check(r, tx.System().Notify()); err != nil {
		return done{}, err
	}
	write := tx.Put
	if c.method == "POST" {
		write = tx.Create
	}
	changed, err := write(ctx, r)
	if err != nil {
		return done{}, err
	}
	d, err := is(ctx, tx, c, status, r)
	d.Changed = changed
	if !changed {
		d.At = time.Time{}
		if was, err := tx.Get(ctx, r.Ref()); err == nil {
			d.At, _ = time.Parse(time.RFC3339, was.Text("meta.lastUpdated"))
		}
	}
	return d, err
}

// is says what a resource is after the change.
func is(ctx context.Context, tx *intake.Writing, c change, status int, r *fhir.Resource) (done, error) {
	d := done{Method: c.method, Status: status, Ref: r.Ref(), At: tx.Now(), Patient: gather.PatientOf(r)}
	if t, err := time.Parse(time.RFC3339, r.Text("meta.lastUpdated")); err == nil && status == http.StatusOK && c.method == "POST" {
		d.At = t
	}
	var err error
	d.Version, err = tx.Version(ctx, r.Ref())
	return d, err
}

// current finds what a change is about: by id, or by its condition. nil: nothing is there, or it was deleted.
func current(ctx context.Context, tx *intake.Writing, c change, creates bool) (*fhir.Resource, error) {
	if c.where == nil {
		r, err := tx.Get(ctx, fhir.MakeRef(c.typ, c.id))
		if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
			return nil, nil
		}
		return r, err
	}
	find := func(ctx context.Context, q search.Query) ([]*fhir.Resource, error) { return tx.Find(ctx, q, 2) }
	if creates {
		find = tx.FindOrCreate
	}
	found, err := find(ctx, *c.where)
	switch {
	case err != nil:
		return nil, err
	case len(found) > 1:
		return nil, many("")
	case len(found) == 0:
		return nil, nil
	}
	return found[0], nil
}

// concurrency holds a change to the version its client knew. FHIR R4 http.html#concurrency
func concurrency(ctx context.Context, tx *intake.Writing, c change, was *fhir.Resource) error {
	if c.ifNone != "" {
		version := 0
		if was != nil {
			version, _ = tx.Version(ctx, was.Ref())
		}
		if v, ok := versionIn(c.ifNone); was != nil && (strings.TrimSpace(c.ifNone) == "*" || ok && v == version) {
			return fhir.Errorf(fhir.Conflict, "it is there already, as version %d", version).At("If-None-Match")
		}
	}
	if c.ifMatch == "" {
		return nil
	}
	if was == nil {
		return fhir.Errorf(fhir.Conflict, "it is not there: leave If-Match out to create it").At("If-Match")
	}
	version, err := tx.Version(ctx, was.Ref())
	if err != nil {
		return err
	}
	if _, ok := versionIn(c.ifMatch); !ok && strings.TrimSpace(c.ifMatch) != "*" {
		return fhir.Errorf(fhir.ValueError, "this is no version: write it as the ETag has it, W/\"%d\"", version).At("If-Match")
	}
	if want, ok := versionIn(c.ifMatch); strings.TrimSpace(c.ifMatch) != "*" && (!ok || want != version) {
		return fhir.Errorf(fhir.Conflict, "somebody else changed it: it is at version %d now. Read it, and make the change again", version).At("If-Match")
	}
	return nil
}

func applyUpdate(ctx context.Context, tx *intake.Writing, c change) (done, error) {
	if err := c.checkBody(); err != nil {
		return done{}, err
	}
	was, err := current(ctx, tx, c, true)
	if err != nil {
		return done{}, err
	}
	if err := concurrency(ctx, tx, c, was); err != nil {
		return done{}, err
	}
	r, status := c.resource, http.StatusOK
	switch {
	case c.where == nil && r.ID() == "":
		return done{}, fhir.Errorf(fhir.Required, "the resource needs the id that the address has").At(c.typ + ".id")
	case c.where == nil && r.ID() != c.id:
		return done{}, fhir.Errorf(fhir.Invalid, "the resource has another id than the address").At(c.typ + ".id")
	case was == nil: // FHIR R4 http.html#upsert, http.html#cond-update
		status = http.StatusCreated
		if r.ID() == "" {
			r = r.With("id", intake.NewID())
		}
	case r.ID() == "":
		r = r.With("id", was.ID())
	case r.ID() != was.ID():
		return done{}, fhir.Errorf(fhir.Invalid, "the resource has another id than the one that answers the condition").At(c.typ + ".id")
	}
	return put(ctx, tx, c, status, r)
}

func applyPatch(ctx context.Context, tx *intake.Writing, c change) (done, error) {
	was, err := current(ctx, tx, c, false)
	if err != nil {
		return done{}, err
	}
	if was == nil || !tx.Reach().May(scope.Read|scope.Search, was) {
		return done{}, fhir.Errorf(fhir.NotFound, "there is nothing to patch")
	}
	if err := concurrency(ctx, tx, c, was); err != nil {
		return done{}, err
	}
	r, err := c.patch.apply(was)
	if err != nil {
		return done{}, err
	}
	if r.Ref() != was.Ref() {
		return done{}, fhir.Errorf(fhir.BusinessRule, "a patch cannot change what the resource is, or its id").At("Parameters")
	}
	return put(ctx, tx, c, http.StatusOK, r)
}

// applyDelete takes away what is there. Where nothing is, that is as it should be. FHIR R4 http.html#delete
func applyDelete(ctx context.Context, tx *intake.Writing, c change) (done, error) {
	was, err := current(ctx, tx, c, false)
	if err != nil {
		return done{}, err
	}
	if err := concurrency(ctx, tx, c, was); err != nil {
		return done{}, err
	}
	d := done{Method: "DELETE", Status: http.StatusNoContent, At: tx.Now()}
	if was == nil {
		return d, nil
	}
	if err := tx.Delete(ctx, was.Ref()); err != nil {
		return done{}, err
	}
	d.Ref, d.Patient, d.Changed = was.Ref(), gather.PatientOf(was), true
	d.Version, err = tx.Version(ctx, was.Ref())
	return d, err
}
