package access

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/store"
)

// The token of every user below is their id; these are its hashes.
var users = []region.User{
	{ID: "gp", Name: "Dr Marsh", Role: "gp", Organisation: "M85001", TokenSHA256: digest("gp")},
	{ID: "clerk", Name: "Pat", Role: "receptionist", Organisation: "RX1", TokenSHA256: digest("clerk")},
	{ID: "dev", Name: "Dev", Role: "nurse", Organisation: "RX1"},
	{ID: "me", Name: "Margaret", Role: "citizen", TokenSHA256: digest("me"), PersonRef: fhir.SystemNHSNumber + "|9990000107"},
}

func manager(t *testing.T, o Options) *Manager {
	t.Helper()
	o.Region = &region.Region{Users: users, Organisations: []region.Organisation{{ODS: "RX1", Name: "The Trust"}}}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func request(auth string, cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

func TestATokenIsItsUserAndNothingElseIs(t *testing.T) {
	m := manager(t, Options{})
	s, err := m.Session(request("Bearer clerk"))
	if err != nil || s.User != "clerk" || s.OrganisationName != "The Trust" || s.Purpose != policy.Administration || s.Trace == "" {
		t.Fatalf("%+v %v", s, err)
	}
	for _, auth := range []string{"Bearer nobody", "Bearer ", "clerk", "Basic Y2xlcms6", "Bearer " + digest("clerk"), "Bearer dev"} {
		if _, err := m.Session(request(auth)); !fhir.Is(err, fhir.Login) {
			t.Errorf("%q got in (%v)", auth, err)
		}
	}
	if _, err := m.Session(request("")); !fhir.Is(err, fhir.Login) {
		t.Errorf("nobody got in: %v", err)
	}
	if s, err := m.Session(request("Bearer me")); err != nil || s.Person.Value != "9990000107" {
		t.Errorf("the citizen is not known as herself: %+v %v", s, err)
	}
}

func TestWithoutTheDemoNobodySignsInByNameAlone(t *testing.T) {
	w := httptest.NewRecorder()
	if _, err := manager(t, Options{}).SignIn(w, request(""), "gp", ""); !fhir.Is(err, fhir.Login) || len(w.Result().Cookies()) > 0 {
		t.Errorf("signed in by name: %v", err)
	}
	w = httptest.NewRecorder()
	if s, err := manager(t, Options{Demo: true}).SignIn(w, request(""), "gp", ""); err != nil || s.User != "gp" {
		t.Errorf("the demo's sign-in: %v", err)
	}
	if c := w.Result().Cookies()[0]; !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie: %+v", c)
	}
}

// signIn gives a browser session's cookie.
func signIn(t *testing.T, m *Manager, token string) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	if _, err := m.SignIn(w, request(""), "", token); err != nil {
		t.Fatal(err)
	}
	return w.Result().Cookies()[0]
}

func TestBrowserSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, Options{})
		c := signIn(t, m, "gp")
		var lasted time.Duration
		for range 40 { // used all along, it lasts no longer than the absolute limit
			time.Sleep(25 * time.Minute)
			if _, err := m.Session(request("", c)); err != nil {
				break
			}
			lasted += 25 * time.Minute
		}
		if lasted > AbsoluteTimeout || lasted < AbsoluteTimeout-time.Hour {
			t.Errorf("a session in use lasted %s, want about %s", lasted, AbsoluteTimeout)
		}
		c = signIn(t, m, "gp")
		time.Sleep(IdleTimeout + time.Second)
		if _, err := m.Session(request("", c)); !fhir.Is(err, fhir.Login) {
			t.Error("an idle session lives on")
		}
		c = signIn(t, m, "gp")
		m.SignOut(httptest.NewRecorder(), request("", c))
		if _, err := m.Session(request("", c)); !fhir.Is(err, fhir.Login) {
			t.Error("a session lives on after signing out")
		}
	})
}

func TestTheGlassIsBrokenForOnePersonAndOneHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, Options{})
		c := signIn(t, m, "gp")
		s, _ := m.Session(request("", c))
		if _, err := m.BreakGlass(t.Context(), s, "daniel", Emergency(" ", time.Now())); !fhir.Is(err, fhir.Required) {
			t.Errorf("no reason was wanted: %v", err)
		}
		if _, err := m.BreakGlass(t.Context(), s, "daniel", Emergency("unconscious", time.Now())); err != nil {
			t.Fatal(err)
		}
		if s.Glass("daniel", time.Now()) != nil {
			t.Error("a session changed under those who hold it")
		}
		s, _ = m.Session(request("", c))
		if g := s.Glass("daniel", time.Now()); g == nil || g.Words != "unconscious" || s.Glass("margaret", time.Now()) != nil {
			t.Error("the grant is not for that person alone")
		}
		for range 3 {
			time.Sleep(21 * time.Minute)
			s, _ = m.Session(request("", c))
		}
		if s.Glass("daniel", time.Now()) != nil {
			t.Error("the grant outlived its hour")
		}
		clerk, _ := m.Session(request("Bearer clerk"))
		if _, err := clerk.InEmergency("daniel", Emergency("unconscious", time.Now())); !fhir.Is(err, fhir.Forbidden) {
			t.Errorf("a receptionist broke the glass: %v", err)
		}
	})
}

func TestDeveloperModeNeedsAUserThereIs(t *testing.T) {
	if _, err := New(Options{Region: &region.Region{}, Dev: "ghost"}); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("got %v", err)
	}
	if s, err := manager(t, Options{Dev: "dev"}).Session(request("")); err != nil || s.User != "dev" || !s.Dev {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := manager(t, Options{Dev: "dev"}).Session(request("Bearer wrong")); err == nil {
		t.Error("a wrong token is as good as none")
	}
}

// A session, what it was locked to and the glass it broke are still there after a restart, and on another node of the store.
func TestSessionsOutliveARestartAndAreTheSameOnEveryNode(t *testing.T) {
	dir := t.TempDir()
	open := func() (*Manager, func()) {
		e, err := pebble.Open(pebble.Options{Dir: filepath.Join(dir, "store"), CacheBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		db, err := store.Open(store.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		return manager(t, Options{Store: db}), func() { _ = db.Close() }
	}
	m, done := open()
	w := httptest.NewRecorder()
	s, err := m.Begin(w, request(""), of(users[0]), "daniel")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.BreakGlass(t.Context(), s, "daniel", Emergency("unconscious", time.Now())); err != nil {
		t.Fatal(err)
	}
	cookie := w.Result().Cookies()[0]
	done()
	m, done = open()
	defer done()
	other := manager(t, Options{Store: m.opts.Store})
	for _, node := range []*Manager{m, other} {
		s, err := node.Session(request("", cookie))
		if err != nil || s.User != "gp" || s.Locked != "daniel" || s.Glass("daniel", time.Now()) == nil || s.Opens("margaret") || !s.Opens("daniel") {
			t.Errorf("%+v %v", s, err)
		}
	}
	other.SignOut(httptest.NewRecorder(), request("", cookie))
	if _, err := m.Session(request("", cookie)); !fhir.Is(err, fhir.Login) {
		t.Error("signed out at one node, still in at the other")
	}
}

func TestSigningInEndsTheSessionBeforeIt(t *testing.T) {
	m := manager(t, Options{})
	first := signIn(t, m, "gp")
	w := httptest.NewRecorder()
	if _, err := m.SignIn(w, request("", first), "", "clerk"); err != nil {
		t.Fatal(err)
	}
	if w.Result().Cookies()[0].Value == first.Value {
		t.Error("the same session goes on: whoever planted it knows it")
	}
	if _, err := m.Session(request("", first)); !fhir.Is(err, fhir.Login) {
		t.Error("the session before is still open")
	}
}

func TestOverTLSTheCookieIsThisHostsAlone(t *testing.T) {
	c := signIn(t, manager(t, Options{Secure: true}), "gp")
	if c.Name != "__Host-tombolo" || !c.Secure || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %+v", c)
	}
}

func TestAnEmergencyWantsSomebodyWhoHasJustSignedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, Options{})
		c := signIn(t, m, "gp")
		time.Sleep(FreshFor + time.Second)
		s, err := m.Session(request("", c))
		if err != nil || !s.Stale() {
			t.Fatalf("%+v %v", s, err)
		}
		if _, err := m.BreakGlass(t.Context(), s, "daniel", Emergency("unconscious", time.Now())); !fhir.Is(err, fhir.Login) {
			t.Errorf("whoever sits down at an open session breaks the glass: %v", err)
		}
	})
}

func TestAUserWhoLeavesTheRegionFileIsOut(t *testing.T) {
	m := manager(t, Options{})
	c := signIn(t, m, "gp")
	delete(m.users, "gp")
	if _, err := m.Session(request("", c)); !fhir.Is(err, fhir.Login) {
		t.Errorf("still in: %v", err)
	}
}
