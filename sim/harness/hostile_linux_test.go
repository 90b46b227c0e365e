//go:build linux

package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/api"
	"tombolo/connector/hl7v2"
	"tombolo/sim"
	"tombolo/sim/lookout"
)

const (
	hostileSize  = 100 << 20
	mostResident = 256 << 20
)

// A repeated is a body of a size that is never in memory as a whole: a beginning, something over and over, and an end.
func repeated(begin, again, end string, size int) (body io.Reader, length int64) {
	n := (size - len(begin) - len(end)) / len(again)
	chunk := strings.Repeat(again, max(1, min(n, (1<<20)/len(again))))
	readers := []io.Reader{strings.NewReader(begin)}
	for left := n * len(again); left > 0; left -= len(chunk) {
		readers = append(readers, strings.NewReader(chunk[:min(left, len(chunk))]))
	}
	readers = append(readers, strings.NewReader(end))
	return io.MultiReader(readers...), int64(len(begin) + n*len(again) + len(end))
}

// hostileJSON are bodies of a hundred megabytes that are FHIR in name only, or too much of it.
var hostileJSON = map[string][3]string{
	"too deep":       {`{"resourceType":"Patient","id":"x","extension":`, `[{"extension":`, `1`},
	"many tokens":    {`{"resourceType":"Patient","id":"x","name":[`, `{},`, `{}]}`},
	"one string":     {`{"resourceType":"Patient","id":"x","name":[{"family":"`, `a`, `"}]}`},
	"not UTF-8":      {`{"resourceType":"Patient","id":"x","name":[{"family":"`, "\xff\xfe", `"}]}`},
	"never ending":   {`{"resourceType":"Patient","id":"x"`, ` `, ``},
	"many entries":   {`{"resourceType":"Bundle","type":"transaction","entry":[`, `{"resource":{"resourceType":"Basic","id":"x"}},`, `{}]}`},
	"one base64":     {`{"resourceType":"Binary","contentType":"text/plain","data":"`, `QUJD`, `"}`},
	"nothing at all": {``, `x`, ``},
}

// hostileXML are documents, and hostileCSV extracts, of a hundred megabytes.
var (
	hostileXML = map[string][3]string{
		"too deep":   {`<ClinicalDocument xmlns="urn:hl7-org:v3">`, `<a>`, ``},
		"one title":  {`<ClinicalDocument xmlns="urn:hl7-org:v3"><title>`, `a`, `</title></ClinicalDocument>`},
		"attributes": {`<ClinicalDocument xmlns="urn:hl7-org:v3" `, `a="b" `, `/>`},
	}
	hostileCSV = map[string][3]string{
		"one cell":     {"contact_id,patient_id,surname\n1,", "a", "\n"},
		"one quote":    {"contact_id,patient_id,surname\n1,\"", "a\n", ""},
		"many columns": {"contact_id", ",a", "\n"},
		"many cells":   {"contact_id,patient_id,surname\n1", ",a", "\n"},
		"not UTF-8":    {"contact_id,patient_id,surname\n", "\xff\xfe\x00", "\n"},
		"no line":      {"", "\x00", ""},
	}
)

// refusedBy sends a body that says how long it is, and holds the answer to be a refusal: it may also hang up in the middle. An upload may
// be kept, and be refused while it is read.
func refusedBy(t *testing.T, method, url, contentType string, body [3]string) {
	t.Helper()
	content, length := repeated(body[0], body[1], body[2], hostileSize)
	r, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	r.Header.Set("Content-Type", contentType)
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return
	}
	defer got.Body.Close()
	if text, _ := io.ReadAll(got.Body); got.StatusCode != http.StatusAccepted && (got.StatusCode < 400 || got.StatusCode >= 500) {
		t.Errorf("answered %d: %.300s", got.StatusCode, text)
	}
}

// A little less than /fhir reads of a resource, and of a transaction.
const (
	withinLimit       = api.MaxResource - 4096
	bundleWithinLimit = api.MaxWrite - 4096
)

// refusedWithin is refusedBy of a body that does not say how long it is.
func refusedWithin(t *testing.T, method, url, contentType string, body [3]string, size int) {
	t.Helper()
	content, _ := repeated(body[0], body[1], body[2], size)
	r, err := http.NewRequestWithContext(t.Context(), method, url, io.NopCloser(content))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = -1
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Prefer", "respond-async")
	got, err := http.DefaultClient.Do(r)
	if err != nil { // it may hang up in the middle
		return
	}
	defer got.Body.Close()
	// The lines of an import are looked at after it was begun, and told of in what it comes to.
	begun := got.StatusCode == http.StatusAccepted && strings.HasSuffix(url, "/$import")
	if text, _ := io.ReadAll(got.Body); !begun && (got.StatusCode < 400 || got.StatusCode >= 500) {
		t.Errorf("answered %d: %.300s", got.StatusCode, text)
	}
}

// residentMost is the most memory that a process has had resident, in bytes, since it was last reset.
func residentMost(t *testing.T, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return mostIn(t, string(data))
}

// mostIn reads the most memory that a process has had resident, in bytes, out of its status.
func mostIn(t *testing.T, status string) int64 {
	t.Helper()
	for line := range strings.Lines(status) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Skip("SKIPPED: this system does not say how much memory a process has had")
	return 0
}

// Whatever is sent to a door, and however much of it, the node keeps its memory, answers, stores none of it, and goes on.
func TestHostileBodiesCostNoMemoryAndAreNotStored(t *testing.T) {
	at := Place{Dir: t.TempDir()}
	for _, door := range []*string{&at.Documents, &at.Uploads} {
		addr, release, err := sim.ReserveAddress()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(release)
		*door = addr
	}
	p := start(t, at)
	bounded := func(t *testing.T, bound int64) {
		t.Helper()
		most := residentMost(t, p.cmd.Process.Pid)
		if t.Logf("%d MiB were resident at most", most>>20); most > bound {
			t.Errorf("want at most %d", bound>>20)
		}
		// Each door by itself: 5 sets the most back to what there is now.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
	}
	for name, body := range hostileJSON {
		for _, path := range []string{"", "/Patient"} {
			t.Run("POST /fhir"+path+"/"+name, func(t *testing.T) {
				content, length := repeated(body[0], body[1], body[2], hostileSize)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+path, content)
				if err != nil {
					t.Fatal(err)
				}
				if r.ContentLength = length; path != "" {
					r.ContentLength = -1 // it does not say how much is to come
				}
				r.Header.Set("Content-Type", "application/fhir+json")
				got, err := http.DefaultClient.Do(r)
				if err == nil { // it may hang up in the middle
					_, _ = io.Copy(io.Discard, got.Body)
					_ = got.Body.Close()
					if got.StatusCode < 400 || got.StatusCode >= 500 {
						t.Errorf("answered %d", got.StatusCode)
					}
				}
				bounded(t, mostResident)
			})
		}
	}
	// The other ways to write, without saying how much is to come; and what is just within the limit, which is read whole.
	for name, body := range hostileJSON {
		for _, door := range []struct{ method, path, contentType string }{
			{"PUT", "/Patient/x", "application/fhir+json"}, {"PATCH", "/Patient/x", "application/json-patch+json"}, {"POST", "/$import", "application/fhir+ndjson"},
			{"POST", "/Patient/x/$meta-add", "application/fhir+json"}, {"POST", "/Patient/$validate", "application/fhir+json"},
		} {
			t.Run(door.method+" "+door.path+"/"+name, func(t *testing.T) {
				refusedWithin(t, door.method, p.URL+door.path, door.contentType, body, hostileSize)
				bounded(t, mostResident)
			})
		}
		for path, size := range map[string]int{"": bundleWithinLimit, "/Patient": withinLimit} {
			t.Run("POST /fhir"+path+" within the limit/"+name, func(t *testing.T) {
				refusedWithin(t, http.MethodPost, p.URL+path, "application/fhir+json", body, size)
				bounded(t, mostResident)
			})
		}
	}
	for name, body := range map[string][3]string{
		"too deep":   {`<Patient xmlns="http://hl7.org/fhir">`, `<extension>`, ``},
		"one string": {`<Patient xmlns="http://hl7.org/fhir"><name><family value="`, `a`, `"/></name></Patient>`},
		"many tags":  {`<Patient xmlns="http://hl7.org/fhir">`, `<name/>`, `</Patient>`},
		"attributes": {`<Patient xmlns="http://hl7.org/fhir" `, `a="b" `, `/>`},
		"not UTF-8":  {`<Patient xmlns="http://hl7.org/fhir"><name><family value="`, "\xff\xfe", `"/></name></Patient>`},
	} {
		for _, size := range []int{hostileSize, withinLimit} {
			t.Run(fmt.Sprintf("POST XML/%s of %d MB", name, size>>20), func(t *testing.T) {
				refusedWithin(t, http.MethodPost, p.URL+"/Patient", "application/fhir+xml", body, size)
				bounded(t, mostResident)
			})
		}
	}
	for name, body := range hostileXML {
		t.Run("documents/"+name, func(t *testing.T) {
			refusedBy(t, http.MethodPost, "http://"+at.Documents+"/", "application/xml", body)
			bounded(t, mostResident)
		})
	}
	for name, body := range hostileCSV {
		t.Run("uploads/"+name, func(t *testing.T) {
			refusedBy(t, http.MethodPut, "http://"+at.Uploads+"/contacts.csv", "text/csv", body)
			bounded(t, mostResident)
		})
	}
	for name, body := range map[string][3]string{
		"one segment":  {"\vMSH|^~\\&|PAS|RX1|T|H|20260301||ADT^A01|1|P|2.4\rPID|||", "a", "\r\x1c\r"},
		"many fields":  {"\vMSH|^~\\&|PAS|RX1|T|H|20260301||ADT^A01|2|P|2.4\rPID|", "|", "\r\x1c\r"},
		"never ending": {"\vMSH|^~\\&|PAS", "\r", ""},
		"no start":     {"", "x", "\x1c\r"},
	} {
		t.Run("MLLP/"+name, func(t *testing.T) {
			c, err := net.DialTimeout("tcp", p.Addr, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			content, _ := repeated(body[0], body[1], body[2], hostileSize)
			_, _ = io.Copy(c, content) // it may hang up in the middle
			bounded(t, mostResident)
		})
	}
	// It has not been hurt, and nothing of all that is stored.
	senders := NewSenders(1)
	senders.Run(t.Context(), p.Addr, 1)
	if acked, err := senders.Take(); err != nil || len(acked) != 1 {
		t.Errorf("afterwards %d of 1 messages was acknowledged (%v)", len(acked), err)
	}
	p.Kill()
	s, err := Open(context.Background(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	twice, seen, err := s.Twice(context.Background())
	if err != nil || twice > 0 || seen > 10 {
		t.Errorf("%d resources are stored, want those of one message (%v)", seen, err)
	}
}

// The largest message that a feed takes is a document: it is taken, and answered, within the same bound. Several at once are taken one after the other.
func TestTheLargestDocumentsAreTakenWithinTheirMemory(t *testing.T) {
	p := start(t, Place{Dir: t.TempDir()})
	const size = hl7v2.MaxMessage - 2048
	message := func(n int) []byte {
		head := fmt.Sprintf("MSH|^~\\&|PAS|RX1|T|H|20260301||MDM^T02|big-%d|P|2.4\rEVN||20260301\rPID|1||B%d^^^RX1^PI||Hart^Rosalind||19510417|2\r"+
			"TXA|1|DS^Summary|TX|||20260302||||||D%d|||||AU||AV\rOBX|1|ED|DS^Summary||^application^pdf^Base64^", n, n, n)
		return append(append(append(make([]byte, 0, size+16), head...), bytes.Repeat([]byte("JVBERi0x"), (size-len(head))/8)...), "||||||F\r"...)
	}
	taken := func(n int) {
		c := &hl7v2.Client{Addr: p.Addr, Timeout: 2 * time.Minute}
		defer c.Close()
		ack, err := c.Send(t.Context(), message(n))
		if err != nil || !ack.Accepted() {
			t.Errorf("a document of %d bytes was answered %v (%v)", size, ack, err)
		}
	}
	within := func(what string, bound int64) {
		if most := residentMost(t, p.cmd.Process.Pid); most > bound {
			t.Errorf("with %s %d MiB were resident at most, want at most %d", what, most>>20, bound>>20)
		} else {
			t.Logf("with %s %d MiB were resident at most", what, most>>20)
		}
	}
	taken(0)
	within("one document", mostResident)
	var senders sync.WaitGroup
	for n := range 4 {
		senders.Go(func() { taken(1 + n) })
	}
	senders.Wait()
	within("four at once", 3*mostResident/2) // one is taken after the other, and the store writes out what came before meanwhile
}

// Files to be imported may be as large as they like, and hold what they like.
func TestHostileFilesCostNoMemory(t *testing.T) {
	bodies := map[string][3]string{
		"lines.ndjson": {``, `{"resourceType":"Patient","id":"x","extension":[[[[` + "\n", ``},
		"line.ndjson":  {``, `{`, ``},
		"one.hl7":      {"MSH|^~\\&|PAS|RX1|T|H|20260301||ADT^A01|1|P|2.4\rPID|||", "a", "\r"},
		"empty.hl7":    {"", "\r", ""},
		"deep.xml":     {`<ClinicalDocument xmlns="urn:hl7-org:v3">`, `<a>`, ``},
		"long.xml":     {`<ClinicalDocument xmlns="urn:hl7-org:v3"><title>`, `a`, `</title></ClinicalDocument>`},
	}
	if rounds(t, 0, 1) == 0 { // each of millions of lines and entries is listed with its reason
		delete(bodies, "lines.ndjson")
	}
	for name, body := range hostileJSON {
		if name == "many entries" && rounds(t, 0, 1) == 0 {
			continue
		}
		bodies[strings.ReplaceAll(name, " ", "-")+".json"] = body
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, name)
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := repeated(body[0], body[1], body[2], hostileSize)
			if _, err := io.Copy(f, content); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			c := exec.CommandContext(t.Context(), os.Args[0])
			c.Env = append(os.Environ(), envDir+"="+filepath.Join(dir, "data"), envImport+"="+file)
			var said bytes.Buffer
			both := lookout.Said(&said)
			c.Stdout, c.Stderr = both, both
			if err := c.Run(); err != nil {
				t.Fatalf("the import ended with %v: %s", err, said.String())
			}
			most := mostIn(t, said.String())
			if t.Logf("%d MiB were resident at most", most>>20); most > mostResident {
				t.Errorf("want at most %d: %s", mostResident>>20, said.String())
			}
		})
	}
}
