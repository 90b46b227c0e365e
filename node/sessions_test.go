package node_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/fhir"
	"tombolo/kv/postgres/pgtest"
	"tombolo/node"
)

// Whoever signs in at one node of a database is signed in at all of them, whatever may be used once is used at one of them, and whoever signs out is out.
func TestNodesThatShareADatabaseShareSessions(t *testing.T) {
	folder, url := t.TempDir(), pgtest.URL(t)
	var nodes []*node.Node
	for range 2 {
		c := config(t, folder)
		c.Data, c.Store = "", url
		n, _ := start(t, c)
		nodes = append(nodes, n)
	}
	user := nodes[0].Access.Users()[0].ID
	s, err := nodes[0].Access.As(user)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if _, err := nodes[0].Access.Begin(w, httptest.NewRequest("POST", "/sign-in", nil), s.Principal(), ""); err != nil {
		t.Fatal(err)
	}
	cookie := w.Result().Cookies()[0]
	ask := func(n *node.Node) (*access.Session, error) {
		r := httptest.NewRequest("GET", "/record", nil)
		r.AddCookie(cookie)
		return n.Access.Session(r)
	}
	if got, err := ask(nodes[1]); err != nil || got.User != user {
		t.Fatalf("signed in at one node, and at the other: %+v %v", got, err)
	}
	var first atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 { // a launch replayed at both
		wg.Go(func() {
			once, err := nodes[i%2].Access.State().Once(t.Context(), "launch epr x", time.Now().Add(time.Minute))
			if err != nil {
				t.Error(err)
			}
			if once {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d of 40 at two nodes were the first", first.Load())
	}
	if err := nodes[0].Access.State().Put(t.Context(), state.Access, "token", access.Grant{Principal: s.Principal(), Client: "gone"}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := nodes[1].Access.Grant(t.Context(), "token"); err != nil || !ok {
		t.Errorf("a token given at one node is not known at the other: %v", err)
	}
	r := httptest.NewRequest(http.MethodPost, "/sign-out", nil)
	r.AddCookie(cookie)
	nodes[0].Access.SignOut(httptest.NewRecorder(), r)
	if got, err := ask(nodes[1]); !fhir.Is(err, fhir.Login) {
		t.Errorf("signed out at one node, and at the other still %+v", got)
	}
	a, err1 := nodes[0].Access.Ring().Public(t.Context())
	b, err2 := nodes[1].Access.Ring().Public(t.Context())
	if err1 != nil || err2 != nil || len(a.Keys) == 0 || len(a.Keys) != len(b.Keys) || a.Keys[0].KeyID != b.Keys[0].KeyID {
		t.Errorf("two nodes sign by keys of their own: %v %v", err1, err2)
	}
}
