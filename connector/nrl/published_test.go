package nrl_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"tombolo/connector/nrl"
	"tombolo/fhir"
)

// A publishedAnswer is one example of the OpenAPI files: what the locator is said to answer to a request.
type publishedAnswer struct {
	name, method, path string
	status             int
	body               map[string]any
}

func at(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// publishedAnswers are all examples of answers of one side.
func publishedAnswers(t *testing.T, side string) (out []publishedAnswer) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "data", "04-nhs-apis", "nrl-2026", side+".yaml"))
	if err != nil {
		t.Skip("the published API is not here: it comes with ../shared/data")
	}
	var api map[string]any
	if err := yaml.Unmarshal(data, &api); err != nil {
		t.Fatal(err)
	}
	resolve := func(v any) any {
		for {
			ref, ok := at(v, "$ref").(string)
			if !ok {
				return v
			}
			v = at(api, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
	}
	paths, _ := api["paths"].(map[string]any)
	for path, ops := range paths {
		for method, op := range ops.(map[string]any) {
			responses, _ := at(op, "responses").(map[string]any)
			for status, r := range responses {
				contents, _ := at(resolve(r), "content").(map[string]any)
				for _, c := range contents {
					examples, _ := at(c, "examples").(map[string]any)
					if one := at(c, "example"); one != nil {
						examples = map[string]any{"example": map[string]any{"value": one}}
					}
					for name, e := range examples {
						code := map[string]int{"200": 200, "201": 201, "4XX": 400}[status]
						body, _ := at(resolve(e), "value").(map[string]any)
						if code == 0 || body == nil {
							t.Errorf("%s %s %s %s: an example of a kind that this test does not know", side, method, path, status)
							continue
						}
						out = append(out, publishedAnswer{name: side + " " + method + " " + path + " " + status + " " + name, method: method, path: path, status: code, body: body})
					}
				}
			}
		}
	}
	return out
}

// Whatever the published examples answer, the client understands: pointers, counts, what was done, and each refusal with the locator's own code.
func TestEveryPublishedAnswerIsUnderstood(t *testing.T) {
	seen := 0
	for _, side := range []string{"consumer", "producer"} {
		for _, c := range publishedAnswers(t, side) {
			seen++
			t.Run(c.name, func(t *testing.T) {
				body, err := json.Marshal(c.body)
				if err != nil {
					t.Fatal(err)
				}
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", nrl.MediaType)
					w.Header().Set("Location", "/DocumentReference/Y05868-1")
					w.WriteHeader(c.status)
					_, _ = w.Write(body)
				}))
				defer srv.Close()
				client, err := nrl.NewClient(nrl.ClientOptions{Address: srv.URL, As: "Y05868"})
				if err != nil {
					t.Fatal(err)
				}
				c.understood(t, client, side)
			})
		}
	}
	if seen < 18 {
		t.Errorf("the published files have %d examples of answers: have they moved?", seen)
	}
}

func (c publishedAnswer) understood(t *testing.T, client *nrl.Client, side string) {
	entries, _ := c.body["entry"].([]any)
	about := nrl.Number("9000000017")
	for _, e := range entries {
		if n, ok := at(e, "resource", "subject", "identifier", "value").(string); ok {
			about = nrl.Number(n)
		}
	}
	p := nrl.Pointer{Resource: leading(nrl.SSP, "ssp://p1.nhs.uk/1").With("id", "Y05868-1")}
	var err error
	switch {
	case side == "producer" && c.method == "post" && c.path == "/DocumentReference":
		var id string
		if id, err = client.Create(t.Context(), p, "c"); err == nil && id != "Y05868-1" {
			t.Errorf("registered as %q", id)
		}
	case c.method == "put":
		err = client.Update(t.Context(), p)
	case c.method == "delete":
		err = client.Delete(t.Context(), "Y05868-1")
	case strings.HasSuffix(c.path, "{id}"):
		var got nrl.Pointer
		if got, err = client.Read(t.Context(), "Y05868-1"); err == nil && got.ID() != c.body["id"] {
			t.Errorf("read %s, want %v", got.ID(), c.body["id"])
		}
	case side == "producer":
		err = c.found(t, func() (nrl.Found, error) { return client.Own(t.Context(), nrl.Query{Subject: about}) }, len(entries))
	default:
		err = c.found(t, func() (nrl.Found, error) { return client.Search(t.Context(), nrl.Query{Subject: about}, "") }, len(entries))
	}
	if c.status < 400 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var o *nrl.Outcome
	issues, _ := c.body["issue"].([]any)
	if !errors.As(err, &o) || len(o.Issues) != len(issues) || fhir.IssueOf(err) == nil {
		t.Fatalf("the refusal is lost: %v", err)
	}
	for i, issue := range issues {
		codings, _ := at(issue, "details", "coding").([]any)
		if want := at(codings[0], "code"); o.Issues[i].Detail != want || o.Issues[i].Code != at(issue, "code") || o.Issues[i].Severity != at(issue, "severity") {
			t.Errorf("issue %d is %+v, want %v", i, o.Issues[i], issue)
		}
	}
}

func (c publishedAnswer) found(t *testing.T, ask func() (nrl.Found, error), entries int) error {
	f, err := ask()
	if err != nil {
		return err
	}
	total, _ := c.body["total"].(uint64)
	if len(f.Pointers) != entries || f.Total != int(total) || f.Left != 0 {
		t.Errorf("%d pointers of %d, %d could not be read; want %d of %d", len(f.Pointers), f.Total, f.Left, entries, total)
	}
	return nil
}
