package connector

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// What goes along with a question over HTTP, whatever it is asked in.
const (
	// HeaderVia names the nodes that a question has passed, the asker last. A node that finds itself among them refuses the question, so that none goes round; one that
	// finds any asks no further region.
	HeaderVia = "Tombolo-Via"
	// HeaderTimeout is for how long the asker waits, as "1.8s": whoever joins an answer of several sources gives by then what it has.
	HeaderTimeout = "Request-Timeout"
	headerTrace   = "X-Request-Id"
)

// MostHops is how many nodes a question may pass.
const MostHops = 8

// Accompany writes what goes along with a question: its trace, the nodes that it has passed, and how long the answer is waited for.
func (r Requester) Accompany(ctx context.Context, h http.Header) {
	if r.TraceID != "" {
		h.Set(headerTrace, visible(r.TraceID))
	}
	if len(r.Via) > 0 {
		h.Set(HeaderVia, strings.Join(r.Via, ", "))
	}
	if end, ok := ctx.Deadline(); ok {
		h.Set(HeaderTimeout, max(time.Until(end), time.Millisecond).Round(time.Millisecond).String())
	}
}

// visible keeps a header value to one line of ASCII.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
}

// Via reads the nodes that a request has passed, the nearest last. What is no name of a node still counts as one.
func Via(h http.Header) []string {
	var out []string
	for _, line := range h.Values(HeaderVia) {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
				name = "?"
			}
			if out = append(out, name); len(out) > MostHops {
				return out
			}
		}
	}
	return out
}

// Patience reads for how long whoever sent a request waits for its answer; 0 if it does not say.
//
// RFC 7240 §4.3 (Prefer: wait, in seconds); between nodes HeaderTimeout, which is finer
func Patience(h http.Header) time.Duration {
	if d, err := time.ParseDuration(h.Get(HeaderTimeout)); err == nil && d > 0 {
		return d
	}
	for _, line := range h.Values("Prefer") {
		for part := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ',' || c == ';' }) {
			name, value, _ := strings.Cut(part, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			if n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`)); err == nil && n > 0 && n <= 3600 {
				return time.Duration(n) * time.Second
			}
		}
	}
	return 0
}

// RetryAfter reads after how long a server wants to be asked again: in seconds or until a date; 0 if it does not say. RFC 9110 §10.2.3
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), time.Hour)
	}
	return 0
}

// Passed reports whether a question has passed a node.
func Passed(via []string, node string) bool { return node != "" && slices.Contains(via, node) }

// SaysNotFound reports whether the body of an HTTP 404 is a FHIR server's word that it has not what was asked for. A 404 without it, a proxy's or a web server's, says
// that nothing lies at the address, and nothing of anybody.
//
// FHIR R4 http.html#2.21.0.1.1, valueset-issue-type.html
func SaysNotFound(body []byte) bool {
	v, err := fhir.ParseValue(body)
	return err == nil && v.Text("resourceType") == "OperationOutcome" && v.Text("issue.code") == string(fhir.NotFound)
}
