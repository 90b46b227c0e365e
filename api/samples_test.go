package api_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
)

// A sample is one request of a walk-through, as editors' REST clients keep them: blocks between lines of ###, with @variables and names for what came back.
type sample struct {
	name, method, url string
	headers           []string
	body              string
}

var (
	sampleVariable = regexp.MustCompile(`\{\{\s*([^}]+?)\s*\}\}`)
	sampleRequest  = regexp.MustCompile(`^(?:(GET|POST|PUT|PATCH|DELETE|HEAD)\s+)?(\S.*?)(?:\s+HTTP/1\.1)?$`)
)

// samples reads a file of them, and the variables it sets.
func samples(text string) (out []sample, variables map[string]string) {
	variables = map[string]string{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for _, block := range regexp.MustCompile(`(?m)^###.*$`).Split(text, -1) {
		var s sample
		lines := strings.Split(block, "\n")
		i := 0
		for ; i < len(lines); i++ {
			l := strings.TrimSpace(lines[i])
			switch {
			case strings.HasPrefix(l, "@"):
				k, v, _ := strings.Cut(l[1:], "=")
				variables[strings.TrimSpace(k)] = strings.TrimSpace(v)
				continue
			case strings.HasPrefix(l, "# @name"):
				s.name = strings.TrimSpace(strings.TrimPrefix(l, "# @name"))
				continue
			case l == "" || strings.HasPrefix(l, "#") || strings.HasPrefix(l, "//"):
				continue
			}
			break
		}
		if i == len(lines) {
			continue
		}
		m := sampleRequest.FindStringSubmatch(strings.TrimSpace(lines[i]))
		if s.method, s.url = m[1], m[2]; s.method == "" {
			s.method = "GET"
		}
		for i++; i < len(lines) && strings.TrimSpace(lines[i]) != ""; i++ {
			if l := strings.TrimSpace(lines[i]); strings.HasPrefix(l, "&") || strings.HasPrefix(l, "?") {
				s.url += l
			} else if !strings.HasPrefix(strings.ToLower(l), "authorization") && strings.Contains(l, ":") {
				k, v, _ := strings.Cut(l, ":")
				s.headers = append(s.headers, k+": "+strings.TrimSpace(v))
			}
		}
		if i < len(lines) {
			s.body = strings.TrimSpace(strings.Join(lines[i:], "\n"))
		}
		out = append(out, s)
	}
	return out, variables
}

// The requests of another server's walk-throughs, sent as they are: what is offered here is done, all else is refused with what, where and how, and nothing is a
// fault of this server.
func TestAnotherServersWalkThroughsAreDoneOrRefusedClearly(t *testing.T) {
	dir := "../../shared/data/09-fhir-test-cases/ms-fhir-server-rest-samples"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the samples are not here: they come with ../shared/data")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.http"))
	must(t, err)
	done, refused, missing := 0, 0, 0
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { // so that its store is let go of
			text, err := os.ReadFile(path)
			must(t, err)
			s := open(t)
			all, variables := samples(string(text))
			answers := map[string]answer{}
			for _, x := range all {
				lacks := false
				var fill func(text string) string
				fill = func(text string) string {
					return sampleVariable.ReplaceAllStringFunc(text, func(v string) string {
						name := sampleVariable.FindStringSubmatch(v)[1]
						if of, rest, ok := strings.Cut(name, ".response."); ok {
							if a, was := answers[of]; was {
								if h, ok := strings.CutPrefix(rest, "headers."); ok {
									return a.Header.Get(h)
								}
								if r, err := fhir.ParseValue(a.body); err == nil {
									return r.Text(strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(rest, "body"), "."), "$."))
								}
							}
							lacks = true
							return ""
						}
						switch value, known := variables[name]; {
						case strings.Contains(strings.ToLower(name), "host") || strings.Contains(strings.ToLower(name), "url"):
							return s.url
						case known:
							return fill(value)
						}
						lacks = true
						return ""
					})
				}
				url := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(fill(x.url), "https://"), "http://"), " ", "%20")
				url = strings.TrimPrefix(url, strings.TrimPrefix(s.url, "http://"))
				if strings.Contains(url, "connect/token") || strings.Contains(url, "://") || strings.HasPrefix(url, "<") || strings.HasPrefix(x.body, "<") || strings.Contains(url, "localhost") {
					missing++
					continue
				}
				body := fill(x.body)
				if lacks {
					missing++
					continue
				}
				for i, h := range x.headers {
					x.headers[i] = fill(h)
				}
				var send any
				if body != "" {
					send = body
				}
				a := s.do(x.method, s.url+"/"+strings.TrimPrefix(url, "/"), send, x.headers...)
				for tries := 0; a.StatusCode == 503 && strings.Contains(string(a.body), "being indexed") && tries < 200; tries++ { // as its Retry-After says
					time.Sleep(20 * time.Millisecond)
					a = s.do(x.method, s.url+"/"+strings.TrimPrefix(url, "/"), send, x.headers...)
				}
				answers[x.name] = a
				switch {
				case a.StatusCode >= 500:
					t.Errorf("%s: %s %s: %s: %.300s", filepath.Base(path), x.method, url, a.Status, a.body)
				case a.StatusCode >= 400:
					refused++
					if v, err := fhir.ParseValue(a.body); x.method != "HEAD" && (err != nil || v.Text("resourceType") != "OperationOutcome" || v.Text("issue.diagnostics") == "") {
						t.Errorf("%s: %s %s: %s without an OperationOutcome that says what: %.200s", filepath.Base(path), x.method, url, a.Status, a.body)
					}
					t.Logf("%s: %s %.120s: %d %.160s", filepath.Base(path), x.method, url, a.StatusCode, a.value(t).Text("issue.expression")+": "+a.value(t).Text("issue.diagnostics"))
				default:
					done++
				}
			}
		})
	}
	t.Logf("%d done, %d refused, %d not sent because a file or an answer they need is not there", done, refused, missing)
	if done < 150 {
		t.Errorf("only %d requests were done", done)
	}
}
