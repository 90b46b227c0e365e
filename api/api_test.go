package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tombolo/access"
	"tombolo/api"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/directory"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/searchparam"
	"tombolo/sim/lookout"
	"tombolo/store"
	"tombolo/subscription"
)

// All that is said of the API here holds on PostgreSQL too.
func TestOnPostgreSQL(t *testing.T) { enginetest.OnPostgreSQL(t) }

// A site is the FHIR face with all that stands behind it, on a real store, and two systems that keep their records there.
type site struct {
	t     testing.TB
	url   string // of /fhir
	audit *audit.Log
	db    *store.DB
	in    *intake.Intake

	gather    *gather.Gatherer
	users     *access.Manager
	people    *mpi.Index
	bulkStops func() // waits until it has
	// logged is what the API has logged, to be read when nothing is asked any more.
	logged *bytes.Buffer
	watch  *lookout.Lookout
}

func open(t testing.TB) *site { t.Helper(); return openWith(t, func(*region.Region) {}) }

// openWith is open in a region that is a little different.
func openWith(t testing.TB, differ func(*region.Region)) *site {
	t.Helper()
	return openOn(t, enginetest.Open(t, t.TempDir()), differ)
}

// openOn is openWith on an engine.
func openOn(t testing.TB, engine kv.Engine, differ func(*region.Region)) *site {
	t.Helper()
	gives := map[dataset.Heading]region.Way{dataset.Demographics: region.Push, dataset.Problems: region.Push, dataset.Results: region.Push}
	r := &region.Region{ID: "test", Name: "Test", Organisations: []region.Organisation{{ODS: "RX1", Name: "The Trust", Kind: region.KindAcute}, {ODS: "RX2", Name: "Another"}},
		Users: []region.User{
			{ID: "epr", Name: "EPR", Role: "system", Organisation: "RX1", System: "epr", TokenSHA256: digest("epr")},
			{ID: "other", Name: "Other", Role: "system", Organisation: "RX2", System: "other", TokenSHA256: digest("other")},
			{ID: "doctor", Name: "Dr Ade", Role: "hospital-doctor", Organisation: "RX1", TokenSHA256: digest("doctor")},
		},
		Identity: region.Identity{Clients: []region.Client{{ID: "app", Name: "An app of the EPR", Kind: region.ServiceClient, Role: "system", Organisation: "RX1", System: "epr",
			Scopes: []string{"system/*.cruds", "patient/*.cruds"}}}},
		Systems: []region.System{{ID: "epr", Organisation: "RX1", Connector: "api", Product: "EPR", Release: region.Release{All: true}, Gives: gives},
			{ID: "other", Organisation: "RX2", Connector: "api", Release: region.Release{All: true}, Gives: gives}},
	}
	differ(r)
	watch := lookout.Over(t, lookout.Options{Region: r})
	db, err := store.Open(store.Options{Engine: engine})
	must(t, err)
	log, err := audit.Open(t.Context(), engine, audit.Options{})
	must(t, err)
	watch.Open(db, log)
	stamper := connector.Stamper{Key: []byte("test")}
	people, where := mpi.New(db, stamper), locator.New(db)
	ctx, stop := context.WithCancel(context.Background())
	params := searchparam.New(searchparam.Options{Store: db})
	notices := subscription.New(subscription.Options{Store: db, HTTP: &http.Client{Transport: watch.Outward(http.DefaultTransport)}, Allowed: func(source string) []string {
		sys, _ := r.System(source)
		return sys.Notify()
	}})
	followers := []*events.Follower{db.Follower("mpi", people.Handle), db.Follower("locator", where.Handle), db.Follower("searchparam", params.Handle), db.Follower("subscription", notices.Handle)}
	done := make(chan struct{}, 6)
	go func() { notices.Run(ctx); done <- struct{}{} }()
	go func() { _ = params.Run(ctx); done <- struct{}{} }()
	for _, f := range followers {
		go func() { _ = f.Run(ctx); done <- struct{}{} }()
	}
	in := intake.New(intake.Options{Store: db, Region: r, Stamper: stamper, Await: func(ctx context.Context, seq events.Seq) error {
		return errors.Join(followers[0].Await(ctx, seq), followers[1].Await(ctx, seq), followers[2].Await(ctx, seq), followers[3].Await(ctx, seq))
	}})
	users, err := access.New(access.Options{Region: r})
	must(t, err)
	g := gather.New(gather.Options{Region: r, People: people, Kept: db, Audit: log, Stamper: stamper})
	logged := &bytes.Buffer{}
	s := &site{t: t, audit: log, db: db, in: in, gather: g, users: users, people: people, logged: logged, watch: watch}
	srv := httptest.NewServer(watch.Answers(api.New(api.Options{Gather: g, Directory: directory.New(directory.Options{Store: db, Region: func() *region.Region { return r }}), Intake: in, Bulk: s.bulkRuns(), Parameters: params, Subscriptions: notices, Access: users, Name: "Test", Version: "test", Logger: slog.New(watch.Log(slog.NewTextHandler(logged, nil)))})))
	s.url = srv.URL + "/fhir"
	t.Cleanup(func() {
		srv.Close()
		s.bulkStops()
		stop()
		for range cap(done) {
			<-done
		}
		watch.Close()
		_ = db.Close()
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An answer is what came back.
type answer struct {
	*http.Response
	body []byte
}

func (a answer) value(t testing.TB) fhir.Value {
	t.Helper()
	v, err := fhir.ParseValue(a.body)
	if err != nil {
		t.Fatalf("%s: not JSON: %v", a.Status, err)
	}
	return v
}

func (a answer) text(t testing.TB, path string) string { t.Helper(); return a.value(t).Text(path) }

// do sends a request as the system epr; headers are "Name: value".
func (s *site) do(method, path string, body any, headers ...string) answer {
	s.t.Helper()
	return s.as("epr", method, path, body, headers...)
}

func (s *site) as(token, method, path string, body any, headers ...string) answer {
	s.t.Helper()
	var from io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		from = strings.NewReader(b)
	case []byte:
		from = strings.NewReader(string(b))
	case *fhir.Resource:
		from = strings.NewReader(string(b.Raw()))
	default:
		data, err := json.Marshal(b)
		must(s.t, err)
		from = strings.NewReader(string(data))
	}
	url := path
	if !strings.HasPrefix(path, "http") {
		url = s.url + "/" + path
		if path == "" {
			url = s.url
		}
	}
	req, err := http.NewRequest(method, url, from)
	must(s.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	if from != nil {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	must(s.t, err)
	return answer{res, data}
}

// want fails unless the answer has the status, and, of an error, is an OperationOutcome that says something.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: %d, want %d: %.600s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
	if status >= 400 && a.Request.Method != "HEAD" {
		if v := a.value(t); v.Text("resourceType") != "OperationOutcome" || v.Text("issue.diagnostics") == "" || v.Text("issue.code") == "" {
			t.Fatalf("%s %s: an error without an OperationOutcome that says what: %.600s", a.Request.Method, a.Request.URL.Path, a.body)
		}
	}
	return a
}

func patientJSON(family string) string {
	return fmt.Sprintf(`{"resourceType":"Patient","name":[{"family":%q}],"birthDate":"1980-01-31"}`, family)
}

// made creates a resource and gives its reference.
func (s *site) made(body string) string {
	s.t.Helper()
	v, err := fhir.ParseValue([]byte(body))
	must(s.t, err)
	a := s.do("POST", v.Text("resourceType"), body).want(s.t, 201)
	return v.Text("resourceType") + "/" + a.text(s.t, "id")
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
