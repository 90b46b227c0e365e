package extract

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

const (
	maxUpload = 256 << 20
	// patience is how long an upload waits for its report before it is told that the file is safe and will be taken in.
	patience = 20 * time.Second
)

// listen starts taking uploads; what it returns stops that.
func (r *Runner) listen(ctx context.Context) (stop func(), err error) {
	if r.o.Listen == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", r.o.Listen)
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "listen for uploads: %w", err).From(r.o.Source)
	}
	if host, _, _ := net.SplitHostPort(l.Addr().String()); r.o.Token == "" && !net.ParseIP(host).IsLoopback() {
		r.o.Logger.Warn("anybody who can reach this address may upload: give the system a token", "address", l.Addr().String())
	}
	server := &http.Server{Handler: connector.Contained(r.o.Logger, r.o.Around(r.Handler())), ErrorLog: slog.NewLogLogger(r.o.Logger.Handler(), slog.LevelWarn), BaseContext: func(net.Listener) context.Context { return ctx }, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ReadTimeout: 30 * time.Minute, MaxHeaderBytes: 16 << 10}
	r.mu.Lock()
	r.addr = l.Addr()
	r.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			r.o.Logger.Error("uploads can no longer be taken", "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-ended
	}, nil
}

// Handler takes uploads: PUT or POST /contacts.csv, or /documents/letter.pdf for a folder that the mapping knows. A file is whole on
// disk before it is answered for. The answer is 201 with a report once everything in it is durable, 202 when that takes longer, 422 when
// the file was refused; always as an OperationOutcome.
func (r *Runner) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /{name...}", r.upload)
	mux.HandleFunc("POST /{name...}", r.upload)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", "PUT, POST")
		answer(w, http.StatusMethodNotAllowed, fhir.Errorf(fhir.NotSupported, "send a file with PUT or POST to /its-name.csv"))
	})
	return http.NewCrossOriginProtection().Handler(mux) // no web page elsewhere may send files by somebody's browser
}

func (r *Runner) upload(w http.ResponseWriter, q *http.Request) {
	if r.o.Token != "" {
		token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(r.o.Token)) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="uploads"`) // RFC 6750 §3
			answer(w, http.StatusUnauthorized, fhir.Errorf(fhir.Login, "send the upload token as Authorization: Bearer …"))
			return
		}
	}
	dir, base, issue := r.confined(q.PathValue("name"))
	if issue != nil {
		answer(w, http.StatusBadRequest, issue)
		return
	}
	if q.ContentLength > maxUpload {
		answer(w, http.StatusRequestEntityTooLarge, tooLarge)
		return
	}
	temporary := path.Join(working, ".upload-"+rand.Text()+".part")
	modified, issue := r.store(temporary, http.MaxBytesReader(w, q.Body, maxUpload))
	if issue != nil {
		_ = r.root.Remove(temporary)
		answer(w, status(issue), issue)
		return
	}
	if !r.o.Mapping.Matches(base) { // a document: it waits for the manifest that names it
		if err := r.root.Rename(temporary, path.Join(dir, base)); err != nil {
			_ = r.root.Remove(temporary)
			answer(w, http.StatusServiceUnavailable, fhir.Errorf(fhir.Transient, "the file could not be put into the drop folder: send it again"))
			return
		}
		answer(w, http.StatusCreated, &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: "the document is kept; it is taken in with the manifest that names it"})
		return
	}
	r.queue(w, q, temporary, claimed(dir, modified, base))
}

// queue hands a whole upload to the sweep and waits for its report, as long as the sender and patience allow.
func (r *Runner) queue(w http.ResponseWriter, q *http.Request, temporary, name string) {
	reported := make(chan *Report, 1)
	r.mu.Lock()
	r.awaiting[name] = reported
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.awaiting, name)
		r.mu.Unlock()
	}()
	if err := r.root.Rename(temporary, path.Join(working, name)); err != nil {
		_ = r.root.Remove(temporary)
		answer(w, http.StatusServiceUnavailable, fhir.Errorf(fhir.Transient, "the file could not be put into the drop folder: send it again"))
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case report := <-reported:
		code := http.StatusCreated
		if report.Refused != nil {
			code = http.StatusUnprocessableEntity
		}
		write(w, code, report.Outcome())
	case <-wait.C:
		answer(w, http.StatusAccepted, kept)
	case <-q.Context().Done(): // this program is being stopped, or the sender has gone
		answer(w, http.StatusAccepted, kept)
	}
}

var kept = &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: "the file is kept and is being taken in; the report will lie beside it in done or failed"}

// answer gives a waiting sender the report.
func (r *Runner) answer(name string, report *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.awaiting[name]; c != nil {
		c <- report // has room for one, and gets one
		delete(r.awaiting, name)
	}
}

// store writes the body to a file and to the disk. It gives the moment that the file system noted.
func (r *Runner) store(name string, body io.Reader) (time.Time, *fhir.Issue) {
	f, err := r.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o660)
	if err != nil {
		return time.Time{}, fhir.Errorf(fhir.NoStore, "the file could not be kept: send it again later")
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, body); err != nil {
		var large *http.MaxBytesError
		var path *fs.PathError
		switch {
		case errors.As(err, &large):
			return time.Time{}, tooLarge
		case errors.As(err, &path):
			return time.Time{}, fhir.Errorf(fhir.NoStore, "the file could not be kept: is the disk full? Send it again later")
		}
		return time.Time{}, fhir.Errorf(fhir.Incomplete, "the upload broke off: send the file again, whole")
	}
	if err := f.Sync(); err != nil {
		return time.Time{}, fhir.Errorf(fhir.NoStore, "the file could not be kept: send it again later")
	}
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, fhir.Errorf(fhir.NoStore, "the file could not be kept: send it again later")
	}
	return info.ModTime(), nil
}

var tooLarge = fhir.Errorf(fhir.TooLong, "a file may have %d MiB at most: send it in parts", maxUpload>>20)

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._ ()+-]{0,150}$`)

// confined reads where an upload is to go: a plain name, at most one folder deep, and that folder one the mapping knows.
func (r *Runner) confined(name string) (dir, base string, issue *fhir.Issue) {
	dir, base, nested := strings.Cut(name, "/")
	if !nested {
		dir, base = ".", name
	}
	if nested && !slices.Contains(r.o.Mapping.folders(), dir) || dir == working || dir == done || dir == failed {
		return "", "", fhir.Errorf(fhir.Forbidden, "there is no such folder for uploads: send to /name or to /folder/name with a folder of the mapping")
	}
	if !plainName.MatchString(base) || ignored(base) || strings.Contains(base, "..") {
		return "", "", fhir.Errorf(fhir.ValueError, "the file name may have letters, digits, blanks and . _ - + ( ), and starts with a letter or digit")
	}
	if !r.o.Mapping.Matches(base) && strings.EqualFold(path.Ext(base), ".csv") {
		return "", "", fhir.Errorf(fhir.NotSupported, "the mapping %s reads no CSV file of this name; it reads %s", r.o.Mapping.Name, strings.Join(r.o.Mapping.Globs(), ", "))
	}
	if info, err := r.root.Lstat(path.Join(dir, base)); err == nil && !info.Mode().IsRegular() {
		return "", "", fhir.Errorf(fhir.Conflict, "something other than a file has this name")
	}
	return dir, base, nil
}

func status(issue *fhir.Issue) int {
	switch issue.Type {
	case fhir.TooLong:
		return http.StatusRequestEntityTooLarge
	case fhir.NoStore, fhir.Transient:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func answer(w http.ResponseWriter, code int, issue *fhir.Issue) { write(w, code, fhir.Outcome(issue)) }

func write(w http.ResponseWriter, code int, outcome *fhir.Resource) {
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(outcome.Raw())
}
