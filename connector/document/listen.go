package document

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Options configure a Listener. Source is needed, and Listen or Listener to run.
type Options struct {
	Source   string
	Listen   string                          // host:port to listen on
	Listener net.Listener                    // used instead of Listen if not nil; Run closes it
	Token    string                          // the bearer token that senders must show; "" wants none
	Parallel int                             // documents read at once; 4 if 0: this bounds memory
	Log      *slog.Logger                    // nil: silent
	Around   func(http.Handler) http.Handler // what the handler is put into; nil: nothing
	Now      func() time.Time
}

// A Listener receives documents by HTTP POST.
type Listener struct {
	o     Options
	slots chan struct{}
}

var _ connector.Runner = (*Listener)(nil)

// New makes a Listener. It opens nothing.
func New(o Options) (*Listener, error) {
	if o.Source == "" {
		return nil, fhir.Errorf(fhir.Required, "a document source needs the id of its system in the region file")
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Around == nil {
		o.Around = func(h http.Handler) http.Handler { return h }
	}
	return &Listener{o: o, slots: make(chan struct{}, o.Parallel)}, nil
}

// Run listens until ctx ends, then lets documents that are being taken finish.
func (l *Listener) Run(ctx context.Context, door connector.Door) error {
	ln := l.o.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", l.o.Listen); err != nil {
			return fhir.Errorf(fhir.Exception, "documents cannot be received: %w; set the system's listen to a free host:port", err).From(l.o.Source)
		}
	}
	srv := &http.Server{Handler: connector.Contained(l.o.Log, l.o.Around(l.Handler(door))), ErrorLog: slog.NewLogLogger(l.o.Log.Handler(), slog.LevelWarn), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 60 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fhir.Errorf(fhir.Exception, "receiving documents ended: %w", err).From(l.o.Source)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	return nil
}

// Handler takes documents by POST at any path. It answers 201 when a document is durable, 200 when it was before, 400, 413, 415 or 422 with
// an OperationOutcome when it is wrong (and then it is kept in quarantine), and 503 when it should be sent again.
func (l *Listener) Handler(door connector.Door) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			l.refuse(w, http.StatusMethodNotAllowed, fhir.Errorf(fhir.NotSupported, "documents are sent here by POST"))
			return
		}
		if !l.known(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			l.refuse(w, http.StatusUnauthorized, fhir.Errorf(fhir.Login, "a valid bearer token is needed"))
			return
		}
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || !accepted[kind] {
			l.refuse(w, http.StatusUnsupportedMediaType, fhir.Errorf(fhir.NotSupported, "send application/fhir+json, or CDA as application/xml or text/xml").At("Content-Type"))
			return
		}
		select {
		case l.slots <- struct{}{}:
			defer func() { <-l.slots }()
		case <-r.Context().Done():
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBytes))
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			l.refuse(w, http.StatusRequestEntityTooLarge, fhir.Errorf(fhir.TooLong, "a document has %d MiB at most", MaxBytes>>20))
			return
		case err != nil:
			l.refuse(w, http.StatusBadRequest, fhir.Errorf(fhir.Structure, "the document was cut off before its end; send it again"))
			return
		}
		l.take(w, r, door, Read(l.o.Source, body, kind, l.o.Now()))
	})
}

var accepted = map[string]bool{"application/fhir+json": true, "application/json": true, "application/xml": true, "text/xml": true, "application/soap+xml": true}

func (l *Listener) known(r *http.Request) bool {
	if l.o.Token == "" {
		return true
	}
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(l.o.Token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// take hands a delivery to the door and answers what became of it.
func (l *Listener) take(w http.ResponseWriter, r *http.Request, door connector.Door, d connector.Delivery) {
	if d.Rejected == nil {
		d.Reply = l.reply(d)
	}
	receipt, err := door.Accept(r.Context(), d)
	switch issue := fhir.IssueOf(err); {
	case err != nil && (issue == nil || issue.Type == fhir.Transient || issue.Type == fhir.NoStore):
		// Nothing is promised, not even that a wrong document was kept. FHIR R4 http.html: 503, send again
		w.Header().Set("Retry-After", "5")
		l.refuse(w, http.StatusServiceUnavailable, fhir.Errorf(fhir.Transient, "the document could not be stored now; send it again"))
	case d.Rejected != nil:
		l.refuse(w, statusOf(d.Rejected), d.Rejected)
	case err != nil:
		l.refuse(w, http.StatusUnprocessableEntity, issue)
	default:
		status, body := http.StatusCreated, d.Reply
		if receipt.Duplicate {
			status = http.StatusOK
			if receipt.Reply != nil {
				body = receipt.Reply
			}
		}
		send(w, status, body)
	}
}

func statusOf(i *fhir.Issue) int {
	switch i.Type {
	case fhir.Structure:
		return http.StatusBadRequest
	case fhir.TooLong:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusUnprocessableEntity
}

func (l *Listener) refuse(w http.ResponseWriter, status int, i *fhir.Issue) {
	l.o.Log.Warn("document refused", "source", l.o.Source, "status", status, "type", i.Type, "at", i.Expression, "why", i.Text)
	send(w, status, fhir.Outcome(i).Raw())
}

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/fhir+json")
	if bytes.HasPrefix(body, []byte("<")) {
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// reply is what a sender is told of a document that was taken: an ITK infrastructure response to what came in an ITK envelope, inside SOAP if it
// came so; an OperationOutcome to everything else. It is stored with the delivery, so that a repeat gets the same.
func (l *Listener) reply(d connector.Delivery) []byte {
	if strings.Contains(d.ContentType, "xml") {
		if tracking, soap, ok := envelope(d.Raw); ok {
			return acknowledgement(tracking, soap, d.Received)
		}
	}
	issues := []*fhir.Issue{{Type: fhir.Informational, Severity: fhir.Information, Text: "the document was taken"}}
	return fhir.Outcome(append(issues, d.Issues...)...).Raw()
}

// envelope reads the tracking id of the ITK distribution envelope around a document, and which SOAP is around that.
func envelope(raw []byte) (tracking, soap string, ok bool) {
	dec := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	dec.CharsetReader = charset
	for {
		tok, err := dec.Token()
		if err != nil {
			return "", "", false
		}
		e, is := tok.(xml.StartElement)
		switch {
		case !is:
		case e.Name.Local == "Envelope":
			soap = e.Name.Space
		case e.Name.Space == itkSpace && e.Name.Local == "header":
			for _, a := range e.Attr {
				if a.Name.Local == "trackingid" {
					tracking = a.Value
				}
			}
			return tracking, soap, true
		case e.Name.Space == hl7:
			return "", "", false
		}
	}
}

// acknowledgement is an ITK infrastructure response. ITK 2.2 core, infrastructure acknowledgement
func acknowledgement(tracking, soap string, at time.Time) []byte {
	var b bytes.Buffer
	attr := func(name, value string) {
		b.WriteString(" " + name + `="`)
		_ = xml.EscapeText(&b, []byte(value))
		b.WriteString(`"`)
	}
	if soap != "" {
		b.WriteString("<soap:Envelope")
		attr("xmlns:soap", soap)
		b.WriteString("><soap:Body>")
	}
	b.WriteString("<itk:InfrastructureResponse")
	attr("xmlns:itk", itkSpace)
	attr("timestamp", at.UTC().Format("2006-01-02T15:04:05Z"))
	attr("trackingIdRef", tracking)
	attr("result", "OK")
	b.WriteString("/>")
	if soap != "" {
		b.WriteString("</soap:Body></soap:Envelope>")
	}
	return b.Bytes()
}
