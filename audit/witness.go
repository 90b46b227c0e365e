package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"tombolo/fhir"
)

// Handler offers the log's signed head, the public key and the proofs that the log only grew, for others to keep and check. Nothing of
// any event is in them, so they are open to anybody:
//
//	GET /audit/head                       a signed checkpoint
//	GET /audit/key                        the public key
//	GET /audit/proof?from=N&to=M          that the first N entries of M are those of before
func Handler(l *Log, k Key) http.Handler {
	mux := http.NewServeMux()
	text := func(w http.ResponseWriter, body []byte) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body)
	}
	mux.HandleFunc("GET /audit/head", func(w http.ResponseWriter, r *http.Request) {
		head, err := l.Head(r.Context())
		var msg []byte
		if err == nil {
			msg, err = k.Sign(head)
		}
		if err != nil {
			http.Error(w, "the head cannot be read now", http.StatusServiceUnavailable)
			return
		}
		text(w, msg)
	})
	mux.HandleFunc("GET /audit/key", func(w http.ResponseWriter, _ *http.Request) { text(w, []byte(k.Public+"\n")) })
	mux.HandleFunc("GET /audit/proof", func(w http.ResponseWriter, r *http.Request) {
		from, err1 := strconv.ParseUint(r.FormValue("from"), 10, 62)
		to, err2 := strconv.ParseUint(r.FormValue("to"), 10, 62)
		if err1 != nil || err2 != nil {
			http.Error(w, "give from and to, the sizes of two heads", http.StatusBadRequest)
			return
		}
		p, err := l.Extends(r.Context(), Seq(from), Seq(to))
		switch {
		case fhir.Is(err, fhir.NotFound):
			http.Error(w, "there are not so many entries", http.StatusNotFound)
		case err != nil:
			http.Error(w, "the proof cannot be made now", http.StatusServiceUnavailable)
		default:
			b, _ := json.Marshal(p)
			text(w, b)
		}
	})
	return mux
}

// A Witness keeps the heads of other nodes' logs, so that none of them can rewrite its past unseen: it asks for the newest head, checks
// that the log it is of holds all that it held before, and only then keeps it.
type Witness struct {
	Dir  string // where the heads are kept: one file and one key for each log
	HTTP *http.Client

	mu sync.Mutex
}

// ErrRewritten says that a log is no longer the one whose head was kept.
var ErrRewritten = errors.New("the log was rewritten or cut")

// File is where the heads of a log are kept: what its owner's tombolo audit verify --heads takes.
func (w *Witness) File(id string) string { return filepath.Join(w.Dir, id+".heads") }

func (w *Witness) keyFile(id string) string { return filepath.Join(w.Dir, id+".key") }

// Look asks the node at base for its log's head and keeps it. The key that came first is the key: another later is an error, and so
// is a head that does not hold what was kept (ErrRewritten).
func (w *Witness) Look(ctx context.Context, id, base string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := os.MkdirAll(w.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the heads of %s: %w", id, err)
	}
	base = strings.TrimSuffix(base, "/")
	public, err := w.public(ctx, id, base)
	if err != nil {
		return err
	}
	msg, err := w.get(ctx, base+"/audit/head")
	if err != nil {
		return fmt.Errorf("ask %s for its audit log's head: %w", id, err)
	}
	head, err := OpenHead(msg, public)
	if err != nil {
		return err
	}
	kept, err := lastHead(w.File(id), public)
	if err != nil {
		return err
	}
	if kept != nil && *kept == head {
		return nil
	}
	if kept != nil && kept.Seq > 0 {
		if err := w.extends(ctx, base, head, *kept); err != nil {
			// What was seen is the evidence: it is kept beside, never among the good ones.
			return errors.Join(fmt.Errorf("the audit log of %s: %w", id, err), KeepHead(filepath.Join(w.Dir, id+".refused"), msg))
		}
	}
	return KeepHead(w.File(id), msg)
}

func (w *Witness) extends(ctx context.Context, base string, head, kept Head) error {
	if head.Seq <= kept.Seq {
		return fmt.Errorf("%w: it had %d entries and now says %d", ErrRewritten, kept.Seq, head.Seq)
	}
	b, err := w.get(ctx, fmt.Sprintf("%s/audit/proof?from=%d&to=%d", base, kept.Seq, head.Seq))
	if err != nil {
		return fmt.Errorf("it gave no proof that it only grew: %w", err)
	}
	var p tlog.TreeProof
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("%w: what it gave for a proof is none", ErrRewritten)
	}
	if err := CheckExtends(p, head, kept); err != nil {
		return fmt.Errorf("%w: its %d entries do not begin with the %d whose head is kept here", ErrRewritten, head.Seq, kept.Seq)
	}
	return nil
}

// public is the log's key as it was first seen.
func (w *Witness) public(ctx context.Context, id, base string) (string, error) {
	if b, err := os.ReadFile(w.keyFile(id)); err == nil {
		return strings.TrimSpace(string(b)), nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the key of %s: %w", id, err)
	}
	b, err := w.get(ctx, base+"/audit/key")
	if err != nil {
		return "", fmt.Errorf("ask %s for its audit log's key: %w", id, err)
	}
	if err := os.WriteFile(w.keyFile(id), b, 0o600); err != nil {
		return "", fmt.Errorf("keep the key of %s: %w", id, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// get reads one short answer. A redirect is not followed.
func (w *Witness) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if w.HTTP != nil {
		client.Transport = w.HTTP.Transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %d", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}
