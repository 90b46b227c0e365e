package access

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/region"
)

// A memory is an audit log that only counts.
type memory struct {
	mu sync.Mutex
	by map[audit.Kind]int
}

func (m *memory) Append(_ context.Context, e audit.Event) (audit.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.by[e.Kind]++
	return audit.Entry{}, nil
}

func limited(t *testing.T, l region.Limits) (*Manager, *memory, *time.Time) {
	t.Helper()
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	log := &memory{by: map[audit.Kind]int{}}
	m, err := New(Options{Audit: log, Now: func() time.Time { return at }, Region: &region.Region{ID: "north", Limits: l, Users: []region.User{
		{ID: "doctor", Name: "D", Role: "hospital-doctor", Organisation: "RX1", TokenSHA256: digest("right")}, {ID: "nurse", Name: "N", Role: "nurse", Organisation: "RX1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return m, log, &at
}

func from(address, token string) *http.Request {
	r := httptest.NewRequest("GET", "/fhir/Patient/x", nil)
	r.RemoteAddr = address + ":4711"
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// Whoever tries tokens is slowed, by what they send from and whether or not they hit; others go on, and the log does not fill.
func TestWhoTriesTokensHasToWait(t *testing.T) {
	m, log, at := limited(t, region.Limits{Attempts: 20})
	for i := range 500 {
		_, err := m.Session(from("192.0.2.1", "guess "+strconv.Itoa(i)))
		want := fhir.Login
		if i >= 20 {
			want = fhir.Throttled
		}
		if !fhir.Is(err, want) {
			t.Fatalf("attempt %d: %v, want %s", i+1, err, want)
		}
	}
	if _, err := m.Session(from("192.0.2.1", "right")); !fhir.Is(err, fhir.Throttled) || fhir.IssueOf(err).After <= 0 {
		t.Errorf("the right one among the guesses tells that it is right: %v", err)
	}
	if _, err := m.SignIn(httptest.NewRecorder(), from("192.0.2.1", ""), "", "right"); !fhir.Is(err, fhir.Throttled) {
		t.Errorf("and at the page: %v", err)
	}
	if s, err := m.Session(from("192.0.2.2", "right")); err != nil || s.User != "doctor" {
		t.Errorf("somebody elsewhere is held up: %v", err)
	}
	if _, err := m.Session(from("192.0.2.1", Secret())); !fhir.Is(err, fhir.Login) {
		t.Errorf("an application whose token is over must be told so, to get another: %v", err)
	}
	if n := log.by[audit.Denied]; n < 20 || n > 23 {
		t.Errorf("%d entries of 500 attempts: want the first 20, and one that says so", n)
	}
	if *at = at.Add(2 * time.Minute); m.mayTry("192.0.2.1") != nil {
		t.Error("locked out for good")
	}
	if _, err := m.Session(from("192.0.2.1", "right")); err != nil {
		t.Errorf("after a rest: %v", err)
	}
}

// One user's questions do not use up another's, and one that finds nobody counts for ten.
func TestQuestionsAboutRecordsAreCountedByUser(t *testing.T) {
	m, log, at := limited(t, region.Limits{Opens: 100})
	doctor, nurse := asUser(t, m, "doctor"), asUser(t, m, "nurse")
	n := 0
	for ; doctor.Asks(t.Context()) == nil; n++ {
		doctor = asUser(t, m, "doctor") // of another request
	}
	if n != 100 {
		t.Errorf("%d questions in a moment, want 100", n)
	}
	if err := nurse.Asks(t.Context()); err != nil {
		t.Errorf("another user is held up: %v", err)
	}
	*at = at.Add(5 * time.Minute)
	for n = 0; doctor.Asks(t.Context()) == nil; n++ {
		doctor.Missed()
	}
	if n != 10 {
		t.Errorf("%d numbers could be tried in a moment, want 10", n)
	}
	if err := doctor.Asks(t.Context()); !fhir.Is(err, fhir.Throttled) || fhir.IssueOf(err).RetryAfter() == "0" {
		t.Errorf("%v", err)
	}
	if log.by[audit.Denied] != 2 {
		t.Errorf("%d entries, want one for each time that the limit was reached", log.by[audit.Denied])
	}
}

func asUser(t *testing.T, m *Manager, user string) *Session {
	t.Helper()
	s, err := m.As(user)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
