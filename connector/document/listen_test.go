package document

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// door answers with what a test gives it, and keeps what it got.
type door struct {
	mu      sync.Mutex
	got     []connector.Delivery
	receipt connector.Receipt
	err     error
}

func (d *door) Accept(_ context.Context, c connector.Delivery) (connector.Receipt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, c)
	return d.receipt, d.err
}

func TestWhatTheSenderIsTold(t *testing.T) {
	call, incident := string(example(t, "call.xml")), string(example(t, "incident.json"))
	transient := fhir.Errorf(fhir.NoStore, "disk full")
	for name, c := range map[string]struct {
		method, token, kind, body string
		receipt                   connector.Receipt
		err                       error
		status                    int
		says                      string
		accepted                  int // deliveries that reach the door
	}{
		"a CDA":               {kind: "text/xml; charset=utf-8", body: call, status: 201, says: `trackingIdRef="TRACK-1" result="OK"`, accepted: 1},
		"a FHIR document":     {kind: "application/fhir+json", body: incident, status: 201, says: "the document was taken", accepted: 1},
		"a repeat":            {kind: "text/xml", body: call, receipt: connector.Receipt{Duplicate: true, Reply: []byte("<first/>")}, status: 200, says: "<first/>", accepted: 1},
		"no room":             {kind: "text/xml", body: call, err: transient, status: 503, says: "send it again", accepted: 1},
		"wrong, no room":      {kind: "text/xml", body: "<a", err: transient, status: 503, says: "send it again", accepted: 1},
		"refused by the door": {kind: "text/xml", body: call, err: fhir.Errorf(fhir.BusinessRule, "no such source"), status: 422, says: "no such source", accepted: 1},
		"cut off":             {kind: "text/xml", body: call[:600], status: 400, says: "cut off", accepted: 1},
		"no patient":          {kind: "application/xml", body: cdaDoc(`<id root="1.2.3"/>`), status: 422, says: `"expression":["ClinicalDocument.recordTarget"]`, accepted: 1},
		"a DTD":               {kind: "text/xml", body: "<!DOCTYPE a><a/>", status: 422, says: "DOCTYPE", accepted: 1},
		"too large":           {kind: "text/xml", body: strings.Repeat(" ", MaxBytes+1), status: 413, says: "16 MiB"},
		"a form":              {kind: "application/x-www-form-urlencoded", body: "a=b", status: 415, says: "application/fhir+json"},
		"no type":             {body: call, status: 415, says: "Content-Type"},
		"GET":                 {method: "GET", status: 405, says: "POST"},
		"no token":            {token: "none", kind: "text/xml", body: call, status: 401, says: "bearer"},
	} {
		l, err := New(Options{Source: "rya-999", Token: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		if c.method == "" {
			c.method = "POST"
		}
		d := &door{receipt: c.receipt, err: c.err}
		r := httptest.NewRequest(c.method, "/anything", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		if c.token == "" {
			r.Header.Set("Authorization", "Bearer secret")
		}
		w := httptest.NewRecorder()
		l.Handler(d).ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s\nwant %d with %q", name, w.Code, w.Body, c.status, c.says)
		}
		if len(d.got) != c.accepted {
			t.Errorf("%s: %d deliveries reached the door, want %d", name, len(d.got), c.accepted)
		}
		if c.status == 503 && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
		if k := w.Header().Get("Content-Type"); strings.HasPrefix(w.Body.String(), "<") != strings.Contains(k, "xml") {
			t.Errorf("%s: content type %q", name, k)
		}
		if w.Code >= 400 {
			if o, err := fhir.Parse(w.Body.Bytes()); err != nil || o.Type() != "OperationOutcome" {
				t.Errorf("%s: an error is no OperationOutcome: %s", name, w.Body)
			}
		}
	}
}

func TestSOAPIsAnsweredInSOAP(t *testing.T) {
	l, _ := New(Options{Source: "s"})
	body := `<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Body>` +
		strings.TrimPrefix(string(example(t, "call.xml")), `<?xml version="1.0" encoding="UTF-8"?>`) + `</soap:Body></soap:Envelope>`
	r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Replace(body, "TRACK-1", "T&quot;&lt;1", 1)))
	r.Header.Set("Content-Type", "application/soap+xml")
	w := httptest.NewRecorder()
	l.Handler(&door{}).ServeHTTP(w, r)
	if !strings.HasPrefix(w.Body.String(), `<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Body><itk:InfrastructureResponse`) || !strings.Contains(w.Body.String(), "T&#34;&lt;1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestTheListenerRunsAndStops(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, _ := New(Options{Source: "s", Listener: ln})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	d := &door{}
	go func() { ended <- l.Run(ctx, d) }()
	resp, err := http.Post("http://"+ln.Addr().String()+"/", "text/xml", strings.NewReader(string(example(t, "call.xml"))))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 201 || len(d.got) != 1 {
		t.Errorf("status %d, %d deliveries", resp.StatusCode, len(d.got))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	busy, _ := net.Listen("tcp", "127.0.0.1:0")
	defer busy.Close()
	l, _ = New(Options{Source: "s", Listen: busy.Addr().String()})
	if err := l.Run(t.Context(), d); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("a port that is taken: %v", err)
	}
}

func TestAFileIsADelivery(t *testing.T) {
	for name, kind := range map[string]string{"call.xml": "application/xml", "incident.json": "application/fhir+json"} {
		n := 0
		for d, err := range Deliveries("s", strings.NewReader(string(example(t, name))), name) {
			if n++; err != nil || d.Rejected != nil || d.ContentType != kind || d.Patient == "" {
				t.Errorf("%s: %v %v %s", name, err, d.Rejected, d.ContentType)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d deliveries", name, n)
		}
	}
}
