package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// doors is a node with somebody signed in in a browser.
func doors(t *testing.T) (*Node, *http.Cookie) {
	t.Helper()
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	n := holding(t, c, 1)
	w := httptest.NewRecorder()
	s, err := n.Access.As("doctor")
	if err == nil {
		_, err = n.Access.Begin(w, httptest.NewRequest("POST", "/sign-in", nil), s.Principal(), "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return n, w.Result().Cookies()[0]
}

func (n *Node) knock(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://north.example"+path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	n.pages.server.Handler.ServeHTTP(w, r)
	return w
}

// What another site has somebody's browser send to the API, with the cookie by which they are signed in, is not taken: not even to be audited as theirs.
func TestTheAPITakesNothingThatAnotherSiteSendsWithACookie(t *testing.T) {
	n, cookie := doors(t)
	const ask = `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueString":"9990000107"}]}`
	for _, from := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		w := n.knock("POST", "/fhir/$gather", ask, append(from, "Content-Type", "application/fhir+json", "Cookie", cookie.String())...)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "OperationOutcome") {
			t.Errorf("%v: %d %s", from, w.Code, w.Body)
		}
		if w := n.knock("POST", "/fhir/$gather", ask, append(from, "Content-Type", "application/fhir+json", "Authorization", "bearer doctor")...); w.Code != http.StatusNotFound {
			t.Errorf("an application elsewhere, with its token, %v: %d", from, w.Code)
		}
	}
	if w := n.knock("POST", "/fhir/$gather", ask, "Sec-Fetch-Site", "same-origin", "Content-Type", "application/fhir+json", "Cookie", cookie.String()); w.Code != http.StatusNotFound {
		t.Errorf("a page of ours: %d", w.Code)
	}
}

// The sources of a region, and how they do, are told to this machine and to operators.
func TestMetricsAreNotForEverybody(t *testing.T) {
	n, _ := doors(t)
	if w := n.knock("GET", "/metrics", ""); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "tombolo_") {
		t.Errorf("anybody elsewhere: %d", w.Code)
	}
	if w := n.knock("GET", "/metrics", "", "Authorization", "Bearer doctor"); w.Code != http.StatusUnauthorized {
		t.Errorf("a doctor elsewhere: %d", w.Code)
	}
	r := httptest.NewRequest("GET", "https://north.example/metrics", nil)
	r.RemoteAddr = "127.0.0.1:4711"
	w := httptest.NewRecorder()
	if n.pages.server.Handler.ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Errorf("this machine: %d", w.Code)
	}
	if w := n.knock("GET", "/metrics", "", "X-Forwarded-For", "127.0.0.1"); w.Code != http.StatusUnauthorized {
		t.Errorf("who says to be this machine: %d", w.Code)
	}
}

// Over TLS a browser is told to come over TLS alone, whatever it asks for.
func TestOverTLSBrowsersAreToldToStayThere(t *testing.T) {
	h := strictly(http.NotFoundHandler())
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)); !strings.HasPrefix(w.Header().Get("Strict-Transport-Security"), "max-age=31536000") {
		t.Errorf("%v", w.Header())
	}
}
