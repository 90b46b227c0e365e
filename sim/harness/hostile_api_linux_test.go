package harness

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Just under what the API takes: of a batch or transaction, of one resource, and of XML.
const (
	fullBundle   = 23 << 20
	fullResource = 15 << 20
	fullXML      = 7 << 20
)

// A way is a body as large as is taken, by one way into the FHIR API: its beginning, what is repeated, and its end.
type way struct {
	what, method, path, media, begin, again, end string
	size                                         int
	status                                       int
}

const (
	fhirJSON = "application/fhir+json"
	fhirXML  = "application/fhir+xml"
)

// waysRefused are bodies of the full size that nobody needs.
var waysRefused = []way{
	{"JSON, many tokens", "POST", "Patient", fhirJSON, `{"resourceType":"Patient","name":[`, `{"family":"a"},`, `{"family":"b"}]}`, fullResource, 400},
	{"XML, many elements", "POST", "Patient", fhirXML, `<Patient xmlns="http://hl7.org/fhir">`, `<name><family value="a"/></name>`, `</Patient>`, fullXML, 400},
	{"XML, too deep", "POST", "Patient", fhirXML, `<Patient xmlns="http://hl7.org/fhir">`, `<extension>`, ``, fullXML, 400},
	{"XML, entities", "POST", "Patient", fhirXML, `<!DOCTYPE p [<!ENTITY a "`, `aaaa`, `">]><Patient xmlns="http://hl7.org/fhir"/>`, fullXML, 400},
	{"XML, too long", "POST", "Patient", fhirXML, `<Patient xmlns="http://hl7.org/fhir">`, `<name><family value="a"/></name>`, `</Patient>`, fullResource, 413},
	{"a JSON Patch of many", "PATCH", "Basic/way", "application/json-patch+json", `[`, `{"op":"add","path":"/identifier","value":[{"value":"a"}]},`, `{"op":"test","path":"/id","value":"way"}]`, fullResource, 400},
	{"a FHIRPath Patch of many", "PATCH", "Basic/way", fhirJSON, `{"resourceType":"Parameters","parameter":[`, `{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Basic.author"}]},`, `{"name":"operation"}]}`, fullResource, 400},
	{"a batch of too many", "POST", "", fhirJSON, `{"resourceType":"Bundle","type":"batch","entry":[`, `{"request":{"method":"GET","url":"Basic/way"}},`, `{"request":{"method":"GET","url":"Basic/way"}}]}`, fullBundle, 400},
	{"a transaction of little", "POST", "", fhirJSON, `{"resourceType":"Bundle","type":"transaction","entry":[`, `{},`, `{}]}`, fullBundle, 400},
	{"an entry that is too large", "POST", "", fhirJSON, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Binary/big"},"resource":{"resourceType":"Binary","id":"big","contentType":"text/plain","data":"`, `QUJD`, `"}}]}`, fullBundle, 413},
	{"a search in the body", "POST", "Basic/_search", "application/x-www-form-urlencoded", `code=`, `a,`, `b`, fullResource, 413},
	{"a resource to validate", "POST", "Patient/$validate", fhirJSON, `{"resourceType":"Patient","name":[`, `{"family":"a"},`, `{}]}`, fullResource, 413},
}

// measured is an entry of a batch or transaction: an Observation of some sixteen kilobytes.
var measured = `{"request":{"method":"POST","url":"Observation"},"resource":{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"85354-9","display":"Blood pressure panel"}]},` +
	`"effectiveDateTime":"2026-01-31T10:00:00Z","component":[` + strings.Repeat(`{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6","display":"Systolic blood pressure"}]},"valueQuantity":{"value":107.5,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},`, 90) +
	`{"code":{"text":"a last one"}}]}}`

// waysTaken are bodies of the full size that are stored. They are made when they are wanted: a node is a process of this program, and is not to have them too.
func waysTaken() []way {
	return []way{
		{"one resource", "POST", "Binary", fhirJSON, `{"resourceType":"Binary","contentType":"text/plain","data":"`, `QUJD`, `"}`, fullResource, 201},
		{"one resource in XML", "POST", "Binary", fhirXML, `<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/><data value="`, `QUJD`, `"/></Binary>`, fullXML, 201},
		{"a transaction of many", "POST", "", fhirJSON, `{"resourceType":"Bundle","type":"transaction","entry":[`, measured + ",", measured + `]}`, fullBundle, 200},
		{"a batch of many", "POST", "", fhirJSON, `{"resourceType":"Bundle","type":"batch","entry":[`, measured + ",", measured + `]}`, fullBundle, 200},
		{"a transaction of few", "POST", "", fhirJSON, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Binary"},"resource":{"resourceType":"Binary","contentType":"text/plain","data":"` +
			strings.Repeat("QUJD", 2<<20) + `"}},{"request":{"method":"PUT","url":"Binary/big"},"resource":{"resourceType":"Binary","id":"big","contentType":"text/plain","data":"`, `QUJD`, `"}}]}`, fullBundle, 200},
		{"a patch", "PATCH", "Binary/way", "application/json-patch+json", `[{"op":"replace","path":"/data","value":"`, `QUJD`, `"}]`, fullResource, 200},
	}
}

// send sends a body and gives the status, 0 if the node hung up in the middle, and Content-Location.
func (p *Process) send(t *testing.T, w way, coding string, body io.Reader) (status int, location string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), w.method, strings.TrimSuffix(p.URL+"/"+w.path, "/"), body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", w.media)
	r.Header.Set("Prefer", "respond-async")
	if coding != "" {
		r.Header.Set("Content-Encoding", coding)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, ""
	}
	defer got.Body.Close()
	words, _ := io.ReadAll(io.LimitReader(got.Body, 300))
	_, _ = io.Copy(io.Discard, got.Body)
	if w.status != 0 && got.StatusCode != w.status {
		t.Errorf("answered %d, want %d: %s", got.StatusCode, w.status, words)
	}
	return got.StatusCode, got.Header.Get("Content-Location")
}

func (p *Process) sendFull(t *testing.T, w way) {
	t.Helper()
	content, _ := repeated(w.begin, w.again, w.end, w.size)
	p.send(t, w, "", content)
}

// bounded holds the most that was resident since the last look to a bound.
func (p *Process) bounded(t *testing.T, bound int64) {
	t.Helper()
	most := residentMost(t, p.cmd.Process.Pid)
	if t.Logf("%d MiB were resident at most", most>>20); most > bound {
		t.Errorf("want at most %d", bound>>20)
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// small is a node on a small machine: its store caches as little as it ever does, so that what is resident is what the bodies cost.
func small(t *testing.T, at Place) *Process {
	t.Helper()
	t.Setenv("GOMEMLIMIT", "512MiB")
	p := start(t, at)
	p.send(t, way{method: "PUT", path: "Basic/way", media: fhirJSON}, "", strings.NewReader(`{"resourceType":"Basic","id":"way","code":{"text":"x"}}`))
	p.send(t, way{method: "PUT", path: "Binary/way", media: fhirJSON}, "", strings.NewReader(`{"resourceType":"Binary","id":"way","contentType":"text/plain","data":"QUJD"}`))
	return p
}

// What is as large as may be taken is taken within the memory that all else is refused in.
func TestTheLargestBodiesAreTakenWithinTheirMemory(t *testing.T) {
	for _, e := range engines(t) {
		t.Run(e.name, func(t *testing.T) {
			place, _ := e.place(t)
			for _, w := range waysTaken() {
				t.Run(w.what, func(t *testing.T) {
					place.Dir = t.TempDir()
					p := small(t, place)
					defer p.Kill()
					p.sendFull(t, w)
					time.Sleep(writtenOut)
					p.bounded(t, mostResident)
				})
			}
		})
	}
	t.Run("several at once", func(t *testing.T) {
		p := small(t, Place{Dir: t.TempDir()})
		defer p.Kill()
		var senders sync.WaitGroup
		for _, i := range []int{0, 2, 0, 2} {
			senders.Go(func() { p.sendFull(t, waysTaken()[i]) })
		}
		senders.Wait()
		time.Sleep(writtenOut)
		p.bounded(t, mostAtOnce)
	})
}

// writtenOut is how long the store goes on with a large body after it was acknowledged: until then it costs memory.
const writtenOut = 500 * time.Millisecond

// mostAtOnce is what may be resident when several large bodies come at once: one is taken after the other, while the store writes out what came before, and its cache of
// 128 MiB fills.
const mostAtOnce = 3 * mostResident / 2

// Whatever way a body comes in, the node keeps its memory.
func TestEveryWayIntoTheAPIKeepsItsMemory(t *testing.T) {
	p := small(t, Place{Dir: t.TempDir()})
	for _, w := range waysRefused {
		t.Run(w.what, func(t *testing.T) {
			p.sendFull(t, w)
			p.bounded(t, mostResident)
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
		p.send(t, way{method: "POST", path: "Binary", media: fhirJSON, status: 413}, "gzip", packed(func(w io.Writer) { _, _ = io.Copy(w, content) }))
		p.bounded(t, mostResident)
	})
	t.Run("an import of a hundred megabytes", func(t *testing.T) {
		status, at := p.send(t, way{method: "POST", path: "$import", media: "application/fhir+ndjson"}, "gzip", packed(func(w io.Writer) {
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
		p.bounded(t, mostResident)
	})
}
