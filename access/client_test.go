package access

import (
	"net/http/httptest"
	"strings"
	"testing"

	"tombolo/region"
)

// The audit is told from where a request came, as far as this node can know it, and nothing that a header merely claims.
func TestASessionSaysFromWhereItCame(t *testing.T) {
	m, err := New(Options{Dev: "dr", Region: &region.Region{Users: []region.User{{ID: "dr", Name: "Dr Ade", Role: "hospital-doctor"}}}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.2.0.9:51000"
	r.Header.Set("User-Agent", "Ward browser\x00\x1b[31m/1.0 "+strings.Repeat("é", 300))
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	s, err := m.Session(r)
	if err != nil {
		t.Fatal(err)
	}
	if s.Address != "10.2.0.9" || !strings.HasPrefix(s.Device, "Ward browser[31m/1.0 é") || len([]rune(s.Device)) != 200 {
		t.Errorf("from %q with %q", s.Address, s.Device)
	}
	r.RemoteAddr = "[2001:db8::7]:443"
	if s, _ := m.Session(r); s.Address != "2001:db8::7" {
		t.Errorf("from %q", s.Address)
	}
}
