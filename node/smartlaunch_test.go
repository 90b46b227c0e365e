package node_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access/token/tokentest"
	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/sim/national"
	"tombolo/watch"
)

// smartLaunches is a region whose ambulance service's system launches as SMART says.
const smartLaunches = upward + `  - {id: doctor, name: A Doctor, role: hospital-doctor, organisation: RX1, token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a09}
limits: {attempts: 100000}
identity:
  issuer: "%s"
  launchers:
    - {id: epr, name: The EPR, organisation: RYA, fhir: "%[3]s/fhir", client: north, users: {555: medic, 777: doctor}}
`

// An ehr is a system that launches as SMART App Launch says, and everything of whose answers a test may change.
type ehr struct {
	*httptest.Server
	key   jose.JSONWebKey
	ahead atomic.Int64 // of the time, here and in the node

	strange atomic.Int32 // how often it was asked for what it does not have

	mu        sync.Mutex
	challenge string
	codes     map[string]bool // it takes each as often as it comes: that one is used once is not its to see to here
	says      smartSays
}

// smartSays is what an ehr says in one launch.
type smartSays struct {
	idToken       string         // "" for one that is good
	claims        map[string]any // changed in a good one
	grant         map[string]any // changed in the answer to the code; nil takes a member away
	patient       map[string]any // changed in the patient
	configuration map[string]any
	elsewhere     string // where it sends whoever asks for the patient
	status        int    // of the answer with the patient
}

const ann = "9990000107"

func newEHR(t *testing.T) *ehr {
	t.Helper()
	e := &ehr{key: tokentest.NewKey(t, "ehr-1"), codes: map[string]bool{}}
	mux := http.NewServeMux()
	e.Server = httptest.NewServer(mux)
	t.Cleanup(e.Close)
	say := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /fhir/.well-known/smart-configuration", func(w http.ResponseWriter, _ *http.Request) {
		say(w, 200, changed(map[string]any{"issuer": e.URL, "jwks_uri": e.URL + "/keys", "authorization_endpoint": e.URL + "/authorize", "token_endpoint": e.URL + "/token",
			"code_challenge_methods_supported": []string{"S256"}}, e.now().configuration))
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		say(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{e.key.Public()}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		code, sum := r.PostFormValue("code"), sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		e.mu.Lock()
		good := (e.codes[code] || code == "") && base64.RawURLEncoding.EncodeToString(sum[:]) == e.challenge && r.PostFormValue("client_id") == "north"
		e.mu.Unlock()
		if !good {
			say(w, 400, map[string]any{"error": "invalid_grant"})
			return
		}
		says := e.now()
		raw := says.idToken
		if raw == "" {
			raw = e.genuine(says.claims).Sign(t)
		}
		say(w, 200, changed(map[string]any{"access_token": "read-ann", "token_type": "Bearer", "expires_in": 300, "scope": "launch openid fhirUser patient/Patient.r", "patient": "p1", "id_token": raw}, says.grant))
	})
	mux.HandleFunc("GET /fhir/Patient/p1", func(w http.ResponseWriter, r *http.Request) {
		says := e.now()
		patient := map[string]any{"resourceType": "Patient", "id": "p1", "birthDate": "1948-03-12", "identifier": []any{map[string]any{"system": fhir.SystemNHSNumber, "value": ann}}}
		switch {
		case says.elsewhere != "":
			http.Redirect(w, r, says.elsewhere, http.StatusTemporaryRedirect)
		case says.status != 0:
			say(w, says.status, patient)
		default:
			say(w, 200, changed(patient, says.patient))
		}
	})
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) { e.strange.Add(1) })
	return e
}

func changed(m, change map[string]any) map[string]any {
	for k, v := range change {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

func (e *ehr) now() smartSays { e.mu.Lock(); defer e.mu.Unlock(); return e.says }

func (e *ehr) time() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

// genuine is the statement of who its user is.
func (e *ehr) genuine(change map[string]any) tokentest.Genuine {
	now := e.time()
	return tokentest.Genuine{Key: e.key, Type: "JWT", Now: now, Claims: changed(map[string]any{"iss": e.URL, "aud": "north", "sub": "555", "jti": "1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}, change)}
}

// A smartUser is somebody with a browser who is launched, and follows nothing by itself.
type smartUser struct {
	t      *testing.T
	node   string
	client http.Client
	cookie *http.Cookie
}

func (u *smartUser) get(path string) (*http.Response, string) {
	u.t.Helper()
	req, err := http.NewRequestWithContext(u.t.Context(), "GET", u.node+path, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	if u.cookie != nil {
		req.AddCookie(u.cookie)
	}
	u.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := u.client.Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return resp, string(body)
}

// begin is launched: the system knows of a code, and the browser of the launch under way. What the system sends it back with is returned.
func (u *smartUser) begin(e *ehr) url.Values {
	u.t.Helper()
	resp, body := u.get("/launch?" + url.Values{"iss": {e.URL + "/fhir"}, "launch": {"ctx"}}.Encode())
	to, err := resp.Location()
	if resp.StatusCode != http.StatusSeeOther || err != nil || len(resp.Cookies()) != 1 {
		u.t.Fatalf("begun: %d %v %.300s", resp.StatusCode, err, body)
	}
	u.cookie = resp.Cookies()[0]
	q := to.Query()
	if !strings.HasPrefix(to.String(), e.URL+"/authorize?") || q.Get("code_challenge_method") != "S256" || q.Get("aud") != e.URL+"/fhir" || q.Get("launch") != "ctx" || q.Get("state") == "" {
		u.t.Fatalf("begun at %s", to)
	}
	code := rand.Text()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.challenge, e.codes[code] = q.Get("code_challenge"), true
	return url.Values{"state": {q.Get("state")}, "code": {code}}
}

func (u *smartUser) back(q url.Values) (*http.Response, string) {
	u.t.Helper()
	return u.get("/launch/back?" + q.Encode())
}

// Whoever is launched as SMART says sees the one record; whatever is wrong with the launch, the answer is the one page from which nothing leads on, nobody is let in, and it is in the audit log.
func TestASMARTLaunchThatSomebodyMeddlesWithLeadsNowhere(t *testing.T) {
	l := national.New(national.Options{Token: "secret"})
	above := httptest.NewServer(l)
	t.Cleanup(above.Close)
	var stranger atomic.Int32
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stranger.Add(1) }))
	t.Cleanup(attacker.Close)
	e := newEHR(t)
	var log lockedLog
	n := run(t, node.Config{Region: regionOf(t, smartLaunches, above.URL, "https://record.north.example", e.URL), Data: t.TempDir(), Listen: "127.0.0.1:0",
		Now:    e.time,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Secret: func(name string) string { return map[string]string{"NRL_TOKEN": "secret"}[name] }})
	deliver(t, n, "1", "p1", patientP("p1", ann, "Taylor", nil))
	eventually(t, "Ann is known", func() bool {
		_, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: ann})
		return err == nil
	})
	user := func() *smartUser { return &smartUser{t: t, node: "http://" + n.Addr()} }
	say := func(s smartSays) { e.mu.Lock(); defer e.mu.Unlock(); e.says = s }

	u := user()
	good := u.begin(e)
	if resp, body := u.back(good); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/record/"+personOf(t, n, ann) || len(resp.Cookies()) == 0 {
		t.Fatalf("launched: %d to %s: %.500s", resp.StatusCode, resp.Header.Get("Location"), body)
	}

	page, refusals := "", 0
	refused := func(what string, resp *http.Response, body string) {
		t.Helper()
		if page == "" {
			page = body
		}
		if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 || body != page || strings.Contains(body, `action="/record`) {
			t.Errorf("%s: %d to %q, another page %v", what, resp.StatusCode, resp.Header.Get("Location"), body != page)
		}
		refusals++
	}
	resp, body := u.back(good)
	refused("used before", resp, body)

	// What somebody between, or beside, can change.
	for what, change := range map[string]func(u *smartUser, q url.Values){
		"another's browser":        func(u *smartUser, _ url.Values) { u.cookie = nil },
		"another launch's browser": func(u *smartUser, _ url.Values) { o := user(); o.begin(e); u.cookie = o.cookie },
		"a state that is edited":   func(_ *smartUser, q url.Values) { q.Set("state", q.Get("state")+"A") },
		"no state":                 func(_ *smartUser, q url.Values) { q.Del("state") },
		"no code":                  func(_ *smartUser, q url.Values) { q.Del("code"); q.Set("error", "access_denied") },
		"a code that is made up":   func(_ *smartUser, q url.Values) { q.Set("code", "made-up") },
		"another launch's code":    func(_ *smartUser, q url.Values) { q.Set("code", user().begin(e).Get("code")) },
		"another server's answer":  func(_ *smartUser, q url.Values) { q.Set("iss", attacker.URL) },
		"too late":                 func(*smartUser, url.Values) { e.ahead.Store(int64(6 * time.Minute)) },
	} {
		u := user()
		q := u.begin(e)
		change(u, q)
		resp, body := u.back(q)
		refused(what, resp, body)
		e.ahead.Store(0)
	}

	// What the system says, or somebody in its name.
	id := func(system, value string) map[string]any { return map[string]any{"system": system, "value": value} }
	says := map[string]smartSays{
		"another date of birth":           {patient: map[string]any{"birthDate": "1948-03-13"}},
		"no date of birth":                {patient: map[string]any{"birthDate": nil}},
		"half a date of birth":            {patient: map[string]any{"birthDate": "1948-03"}},
		"no number":                       {patient: map[string]any{"identifier": nil}},
		"a number that is none":           {patient: map[string]any{"identifier": []any{id(fhir.SystemNHSNumber, "9990000108")}}},
		"two numbers":                     {patient: map[string]any{"identifier": []any{id(fhir.SystemNHSNumber, "9990000778"), id(fhir.SystemNHSNumber, ann)}}},
		"somebody who is not known here":  {patient: map[string]any{"identifier": []any{id(fhir.SystemNHSNumber, "9990000778")}}},
		"another patient than it said":    {patient: map[string]any{"id": "p2"}},
		"something else than a patient":   {patient: map[string]any{"resourceType": "Person"}},
		"nothing of a patient":            {status: http.StatusNotFound},
		"the patient is elsewhere":        {elsewhere: attacker.URL + "/Patient/p1"},
		"nobody's record":                 {grant: map[string]any{"patient": nil}},
		"a record by a path":              {grant: map[string]any{"patient": "../Patient/p1"}},
		"no id_token":                     {grant: map[string]any{"id_token": nil}},
		"no access":                       {grant: map[string]any{"access_token": nil}},
		"a user whom nobody knows here":   {claims: map[string]any{"sub": "666"}},
		"a user of another organisation":  {claims: map[string]any{"sub": "777"}},
		"a token for another application": {claims: map[string]any{"aud": "another"}},
		"a token for a day and more":      {claims: map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}},
	}
	for _, f := range tokentest.Forged(e.genuine(nil)) {
		if f.Raw != "" {
			says["forged: "+f.Name] = smartSays{idToken: f.Raw}
		}
	}
	for what, s := range says {
		u := user()
		q := u.begin(e)
		say(s)
		resp, body := u.back(q)
		refused(what, resp, body)
		say(smartSays{})
	}

	// Systems that are not of the region file, however much they look like one that is; and one that has no PKCE.
	for _, iss := range []string{attacker.URL, attacker.URL + "/fhir", e.URL, e.URL + "/fhir/../x", e.URL + "/fhir?x=" + attacker.URL, e.URL + "@" + strings.TrimPrefix(attacker.URL, "http://") + "/fhir", strings.ToUpper(e.URL) + "/fhir", ""} {
		resp, body := user().get("/launch?" + url.Values{"iss": {iss}, "launch": {"ctx"}}.Encode())
		refused("launched by "+iss, resp, body)
	}
	for what, c := range map[string]map[string]any{"no PKCE": {"code_challenge_methods_supported": nil}, "plain PKCE": {"code_challenge_methods_supported": []string{"plain"}}, "no issuer": {"issuer": nil}, "no address": {"token_endpoint": ""}} {
		say(smartSays{configuration: c})
		resp, body := user().get("/launch?" + url.Values{"iss": {e.URL + "/fhir"}, "launch": {"ctx"}}.Encode())
		refused(what, resp, body)
		say(smartSays{})
	}
	if stranger.Load()+e.strange.Load() > 0 {
		t.Errorf("a stranger was asked %d times, and the system itself for what it does not have %d times", stranger.Load(), e.strange.Load())
	}
	for _, secret := range []string{ann, "1948-03", "read-ann", good.Get("code"), good.Get("state")} {
		if strings.Contains(page, secret) || strings.Contains(log.String(), secret) {
			t.Errorf("%q is on the page or in the log", secret)
		}
	}
	audited := 0
	for entry, err := range n.Audit.All(t.Context(), 0, 100_000) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := entry.Summary(); err == nil && s.Kind == audit.Denied && strings.Contains(strings.Join(s.What, " "), "launch: ") {
			if audited++; strings.Contains(string(entry.Body), ann) || strings.Contains(string(entry.Body), "1948-03") {
				t.Errorf("who is meant stands in a reason: %q", s.What)
			}
		}
	}
	if audited != refusals {
		t.Errorf("%d refusals, %d in the audit log", refusals, audited)
	}

	// The privacy officer is told of what no mistake of a user's makes.
	eventually(t, "the alarm is raised", func() bool {
		items, err := n.Watch.Queue(t.Context(), false)
		return err == nil && slices.ContainsFunc(items, func(i watch.Item) bool {
			return i.Kind == "launch" && i.User == "launcher epr" && i.Grave && i.Count >= 3
		})
	})

	// Many at once with one answer: one gets in.
	u = user()
	q := u.begin(e)
	var in atomic.Int32
	var many sync.WaitGroup
	for range 50 {
		many.Go(func() {
			again := &smartUser{t: t, node: u.node, cookie: u.cookie}
			if resp, _ := again.back(q); resp.StatusCode == http.StatusSeeOther {
				in.Add(1)
			}
		})
	}
	if many.Wait(); in.Load() != 1 {
		t.Errorf("%d of 50 got in with one answer", in.Load())
	}
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
