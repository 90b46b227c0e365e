package harness

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// fullBody is just under what the API takes in one request.
const fullBody = 31 << 20

// mostTaken is what a node may have resident while it takes such a body: it is kept as it came, stamped, hashed, and written twice.
// The bound of a quarter of a gigabyte holds for what is refused, and not for what is taken.
const mostTaken = 960 << 20

// waysIn are bodies as large as are taken, for each way in of the FHIR API: what, method, path, media type, beginning, repeated, end.
var waysIn = [][7]string{
	{"JSON, many tokens", "POST", "Patient", "application/fhir+json", `{"resourceType":"Patient","name":[`, `{"family":"a"},`, `{"family":"b"}]}`},
	{"JSON, one string", "POST", "Binary", "application/fhir+json", `{"resourceType":"Binary","contentType":"text/plain","data":"`, `QUJD`, `"}`},
	{"XML, many elements", "POST", "Patient", "application/fhir+xml", `<Patient xmlns="http://hl7.org/fhir">`, `<name><family value="a"/></name>`, `</Patient>`},
	{"XML, one attribute", "POST", "Binary", "application/fhir+xml", `<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/><data value="`, `QUJD`, `"/></Binary>`},
	{"XML, too deep", "POST", "Patient", "application/fhir+xml", `<Patient xmlns="http://hl7.org/fhir">`, `<extension>`, ``},
	{"XML, entities", "POST", "Patient", "application/fhir+xml", `<!DOCTYPE p [<!ENTITY a "`, `aaaa`, `">]><Patient xmlns="http://hl7.org/fhir"/>`},
	{"a JSON Patch of many", "PATCH", "Basic/way", "application/json-patch+json", `[`, `{"op":"add","path":"/identifier","value":[{"value":"a"}]},`, `{"op":"test","path":"/id","value":"way"}]`},
	{"a FHIRPath Patch of many", "PATCH", "Basic/way", "application/fhir+json", `{"resourceType":"Parameters","parameter":[`, `{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Basic.author"}]},`, `{"name":"operation"}]}`},
	{"a batch of many", "POST", "", "application/fhir+json", `{"resourceType":"Bundle","type":"batch","entry":[`, `{"request":{"method":"GET","url":"Basic/way"}},`, `{"request":{"method":"GET","url":"Basic/way"}}]}`},
	{"a transaction of few", "POST", "", "application/fhir+json", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Binary/big"},"resource":{"resourceType":"Binary","id":"big","contentType":"text/plain","data":"`, `QUJD`, `"}}]}`},
	{"a search in the body", "POST", "Basic/_search", "application/x-www-form-urlencoded", `code=`, `a,`, `b`},
	{"a resource to validate", "POST", "Patient/$validate", "application/fhir+json", `{"resourceType":"Patient","name":[`, `{"family":"a"},`, `{}]}`},
}

// Whatever way a body comes in, and also where it is taken, the node keeps its memory.
func TestEveryWayIntoTheAPIKeepsItsMemory(t *testing.T) {
	p := start(t, Place{Dir: t.TempDir()})
	send := func(t *testing.T, method, path, media, coding string, body io.Reader) (status int, location string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(p.URL+"/"+path, "/"), body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", media)
		r.Header.Set("Prefer", "respond-async")
		if coding != "" {
			r.Header.Set("Content-Encoding", coding)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, "" // it may hang up in the middle
		}
		defer got.Body.Close()
		words, _ := io.ReadAll(io.LimitReader(got.Body, 300))
		_, _ = io.Copy(io.Discard, got.Body)
		if t.Logf("answered %d", got.StatusCode); got.StatusCode >= 500 {
			t.Errorf("answered %d: %s", got.StatusCode, words)
		}
		return got.StatusCode, got.Header.Get("Content-Location")
	}
	bounded := func(t *testing.T) {
		t.Helper()
		most := residentMost(t, p.cmd.Process.Pid)
		if t.Logf("%d MiB were resident at most", most>>20); most > mostTaken {
			t.Errorf("want at most %d", mostTaken>>20)
		}
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
	}
	if status, _ := send(t, "PUT", "Basic/way", "application/fhir+json", "", strings.NewReader(`{"resourceType":"Basic","id":"way","code":{"text":"x"}}`)); status != 201 {
		t.Fatalf("answered %d", status)
	}
	ways := waysIn
	if os.Getenv("TOMBOLO_SOAK") == "" {
		ways = ways[:5] // all of them take minutes
	}
	for _, w := range ways {
		t.Run(w[0], func(t *testing.T) {
			content, _ := repeated(w[4], w[5], w[6], fullBody)
			send(t, w[1], w[2], w[3], "", content)
			bounded(t)
		})
	}
	packed := func(write func(w io.Writer)) io.Reader {
		out, in := io.Pipe()
		go func() {
			z, _ := gzip.NewWriterLevel(in, gzip.BestSpeed)
			b := bufio.NewWriterSize(z, 1<<16)
			write(b)
			_ = b.Flush()
			_ = z.Close()
			_ = in.Close()
		}()
		return out
	}
	t.Run("a gigabyte in a megabyte", func(t *testing.T) {
		content, _ := repeated(`{"resourceType":"Binary","contentType":"text/plain","data":"`, `AAAA`, `"}`, 1<<30)
		if status, _ := send(t, "POST", "Binary", "application/fhir+json", "gzip", packed(func(w io.Writer) { _, _ = io.Copy(w, content) })); status != 413 && status != 0 {
			t.Errorf("answered %d, want 413", status)
		}
		bounded(t)
	})
	t.Run("an import of a hundred megabytes", func(t *testing.T) {
		status, at := send(t, "POST", "$import", "application/fhir+ndjson", "gzip", packed(func(w io.Writer) {
			long, _ := repeated(`{"resourceType":"Basic","id":"long","code":{"text":"`, `a`, `"}}`+"\n", 40<<20)
			_, _ = io.Copy(w, long) // a line that is too long
			for i := range (60 << 20) / 20_000 {
				fmt.Fprintf(w, `{"resourceType":"Basic","id":"b%d","code":{"text":"%s"}}`+"\n", i, strings.Repeat("a", 20_000))
			}
		}))
		if status != 202 {
			t.Fatalf("answered %d, want 202", status)
		}
		for until := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(got.Body)
			_ = got.Body.Close()
			if got.StatusCode == 200 {
				if !strings.Contains(string(body), fmt.Sprintf(`"taken":%d`, (60<<20)/20_000)) || !strings.Contains(string(body), `"count":1`) {
					t.Errorf("its manifest: %.400s", body)
				}
				break
			}
			if got.StatusCode != 202 || time.Now().After(until) {
				t.Fatalf("answered %d: %.300s", got.StatusCode, body)
			}
		}
		bounded(t)
	})
}
