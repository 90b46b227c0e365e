package connector

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatGoesAlongWithAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1800*time.Millisecond)
		defer cancel()
		h := http.Header{}
		Requester{TraceID: "t\r\nX: 1", Via: []string{"far", "here"}}.Accompany(ctx, h)
		if got := h.Get("X-Request-Id"); got != "tX: 1" {
			t.Errorf("trace %q", got)
		}
		if via, waits := Via(h), Patience(h); !slices.Equal(via, []string{"far", "here"}) || waits != 1800*time.Millisecond {
			t.Errorf("via %v, waits %s", via, waits)
		}
		h = http.Header{}
		Requester{}.Accompany(context.Background(), h)
		if len(h) > 0 {
			t.Errorf("of nobody in particular: %v", h)
		}
	})
}

func TestHowLongWhoAsksWaits(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{HeaderTimeout, "1.5s", 1500 * time.Millisecond}, {HeaderTimeout, "-1s", 0}, {HeaderTimeout, "soon", 0}, {HeaderTimeout, "", 0},
		{"Prefer", "wait=3", 3 * time.Second}, {"Prefer", "respond-async, wait=10", 10 * time.Second}, {"Prefer", `handling=strict; WAIT="2"`, 2 * time.Second},
		{"Prefer", "wait=0", 0}, {"Prefer", "wait=99999999", 0}, {"Prefer", "waiting=3", 0},
	} {
		if got := Patience(http.Header{c.name: {c.value}}); got != c.want {
			t.Errorf("%s: %s is %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

func TestTheNodesThatAQuestionPassed(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  []string
	}{
		{nil, nil}, {[]string{""}, nil}, {[]string{" , "}, nil}, {[]string{"a, b", "c"}, []string{"a", "b", "c"}}, {[]string{"\x01"}, []string{"?"}},
		{[]string{strings.Repeat("x", 65)}, []string{"?"}}, {[]string{strings.Repeat("x,", 1_000_000)}, slices.Repeat([]string{"x"}, MostHops+1)},
	} {
		if got := Via(http.Header{HeaderVia: c.lines}); !slices.Equal(got, c.want) {
			t.Errorf("%.40q: %v, want %v", c.lines, got, c.want)
		}
	}
}

func TestWhenToAskAgain(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0, "999999999": time.Hour,
		"Sun, 22 Nov 2026 12:00:30 GMT": 30 * time.Second, "Sun, 22 Nov 2026 11:00:00 GMT": 0, "Mon, 22 Nov 2027 12:00:00 GMT": time.Hour} {
		if got := RetryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
	}
}

func TestA404IsTheServersWordOrNobodys(t *testing.T) {
	for body, want := range map[string]bool{
		`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`:     true,
		`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported"}]}`: false,
		`<html>404</html>`: false, ``: false, `{"error":"not-found"}`: false,
	} {
		if got := SaysNotFound([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}
