package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/locator"
	"tombolo/store"
)

// An Upkeep is something to be done to a store as a whole, or asked of a node: by commands, beside what it does for others.
type Upkeep struct {
	Do      string      `json:"do"`            // verify, reindex, stats, pointers, backup or restore; of a whole node, probe, explain or audit
	Dir     string      `json:"dir,omitempty"` // of a backup
	Probe   *ProbeAsk   `json:"probe,omitempty"`
	Explain *ExplainAsk `json:"explain,omitempty"`
	Audit   *AuditAsk   `json:"audit,omitempty"`
}

// Kept says what came of an Upkeep.
type Kept struct {
	OK   bool            `json:"ok"`   // false: something is wrong with the store, and Text says what
	Text string          `json:"text"` // for people
	Data json.RawMessage `json:"data"` // for programs
}

// Maintain does a piece of upkeep. The embedded store belongs to one process: if a node runs on it, that node is asked to do it, over the socket
// in its data folder, while it goes on working. A restore is for a place where there is no store yet.
func Maintain(ctx context.Context, c Config, u Upkeep, tell func(store.Progress)) (Kept, error) {
	if err := there(c); err != nil && u.Do != "restore" { // before a folder is made
		return Kept{}, err
	}
	if u.Do == "restore" {
		if _, err := readManifest(u.Dir); err != nil { // before a folder is made, too
			return Kept{}, err
		}
	}
	if err := c.check(); err != nil {
		return Kept{}, err
	}
	if u.Do == "restore" {
		return restore(ctx, c, u.Dir, tell)
	}
	if c.Store == "" {
		if k, err := askNode(ctx, c.Data, u, tell); !errors.Is(err, errNoNode) {
			return k, err
		}
	}
	db, err := OpenStore(ctx, c)
	if err != nil {
		return Kept{}, err
	}
	k, err := maintain(ctx, c, db, u, tell)
	return k, errors.Join(err, db.Close())
}

// there says whether there is a data folder where one is named, with a store in it where the store is to be there.
func there(c Config) error {
	if c.Data == "" {
		return nil
	}
	text, folder := "there is no store in %s: give the --data that serve runs with", filepath.Join(c.Data, "store")
	if c.Store != "" { // its keys and signed heads lie there, and a backup without them is not whole
		text, folder = "there is no data folder %s: give the --data that serve runs with", c.Data
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return fmt.Errorf(text, c.Data)
	}
	return nil
}

// OpenStore opens the store that a configuration names, and nothing else of a node.
func OpenStore(ctx context.Context, c Config) (*store.DB, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	engine, err := openEngine(ctx, c)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return db, nil
}

// maintain does it on an open store.
func maintain(ctx context.Context, c Config, db *store.DB, u Upkeep, tell func(store.Progress)) (Kept, error) {
	switch u.Do {
	case "verify":
		r, err := db.Verify(ctx, tell)
		if err != nil {
			return Kept{}, err
		}
		return kept(r.OK(), r.String(), r)
	case "reindex":
		r, err := db.Reindex(ctx, tell)
		if err != nil {
			return Kept{}, err
		}
		return kept(true, r.String(), r)
	case "stats":
		n, err := db.Stats(ctx, tell)
		if err != nil {
			return Kept{}, err
		}
		disk, err := db.DiskBytes(ctx)
		if err != nil {
			return Kept{}, err
		}
		return kept(true, fmt.Sprintf("%s  %.1f MiB on disk\n", n, float64(disk)/(1<<20)), struct {
			*store.Counts
			DiskBytes int64 `json:"diskBytes"`
		}{n, disk})
	case "pointers":
		if err := locator.New(db).Rebuild(ctx); err != nil {
			return Kept{}, err
		}
		return kept(true, "The pointers are dropped, and are made anew from the log by the node that runs, or by the next that starts.\n", nil)
	case "backup":
		return backup(ctx, c, db, u.Dir, tell)
	}
	return Kept{}, fhir.Errorf(fhir.NotSupported, "there is no upkeep called %q", u.Do)
}

func kept(ok bool, text string, data any) (Kept, error) {
	raw, err := json.Marshal(data)
	return Kept{OK: ok, Text: text, Data: raw}, err
}

// socketName is where a node that runs on an embedded store takes requests for upkeep: of whoever may use the data folder, and nobody else.
const socketName = "upkeep.sock"

// longestSocket is what fits into a socket's address.
const longestSocket = 103

// mostAsked bounds what is asked: the heads that others kept of an audit log may go with it.
const mostAsked = 64 << 20

var errNoNode = errors.New("no node runs here")

// A line is what a node says while it does a piece of upkeep: how far it has come, and at the end what came of it.
type line struct {
	Progress *store.Progress `json:"progress,omitempty"`
	Kept     *Kept           `json:"kept,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// askNode has the node that runs on a data folder do it.
func askNode(ctx context.Context, data string, u Upkeep, tell func(store.Progress)) (Kept, error) {
	path := filepath.Join(data, socketName)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return Kept{}, errNoNode
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	defer client.CloseIdleConnections()
	if u.Dir != "" {
		if u.Dir, err = filepath.Abs(u.Dir); err != nil { // the node stands elsewhere
			return Kept{}, err
		}
	}
	body, err := json.Marshal(u)
	if err != nil {
		return Kept{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://upkeep/", bytes.NewReader(body))
	if err != nil {
		return Kept{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Kept{}, fmt.Errorf("ask the node that runs on %s: %w", data, err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return Kept{}, fmt.Errorf("the node that runs on %s stopped before it was done: run the command again (%w)", data, err)
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return Kept{}, fmt.Errorf("the node that runs on %s answered what is not understood: is it of this version?", data)
		}
		switch {
		case l.Progress != nil && tell != nil:
			tell(*l.Progress)
		case l.Error != "":
			return Kept{}, errors.New(l.Error)
		case l.Kept != nil:
			return *l.Kept, nil
		}
	}
}

// serveUpkeep takes requests for upkeep until ctx ends. A node that cannot says so and works without.
func (n *Node) serveUpkeep(ctx context.Context) {
	if n.c.Store != "" || n.c.Data == "" {
		return // a database is there for whoever has its address
	}
	path := filepath.Join(n.c.Data, socketName)
	_ = os.Remove(path) // of a node that did not come to remove it: the store's own lock says that none runs
	var l net.Listener
	err := fmt.Errorf("the path %s is longer than the %d bytes that a socket's may have", path, longestSocket)
	if len(path) <= longestSocket {
		l, err = net.Listen("unix", path)
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		n.c.Logger.Warn("tombolo store commands cannot ask this node; stop it to run them", "error", err)
		return
	}
	s := &http.Server{Handler: connector.Contained(n.c.Logger, n.kept(http.HandlerFunc(n.upkeep))), ErrorLog: slog.NewLogLogger(n.c.Logger.Handler(), slog.LevelWarn), BaseContext: func(net.Listener) context.Context { return ctx }}
	n.background.Go(func() { _ = s.Serve(l) })
	n.background.Go(func() { <-ctx.Done(); _ = s.Close() })
}

// upkeep does one piece and streams how far it has come.
func (n *Node) upkeep(w http.ResponseWriter, r *http.Request) {
	var u Upkeep
	if err := json.NewDecoder(io.LimitReader(r.Body, mostAsked)).Decode(&u); err != nil {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	out := json.NewEncoder(w)
	say := func(l line) {
		_ = out.Encode(l)
		_ = http.NewResponseController(w).Flush()
	}
	n.c.Logger.Info("store upkeep", "do", u.Do)
	k, err := n.does(r.Context(), u, func(p store.Progress) { say(line{Progress: &p}) })
	if err != nil {
		n.c.Logger.Warn("store upkeep did not come to its end", "do", u.Do, "error", err)
		say(line{Error: strings.TrimSpace(err.Error())})
		return
	}
	say(line{Kept: &k})
}

// does does what is asked of a node that runs.
func (n *Node) does(ctx context.Context, u Upkeep, tell func(store.Progress)) (Kept, error) {
	switch {
	case u.Do == "probe" && u.Probe != nil:
		return n.probeKept(ctx, *u.Probe)
	case u.Do == "explain" && u.Explain != nil:
		return n.explainKept(ctx, *u.Explain)
	case u.Do == "audit" && u.Audit != nil:
		return n.auditKept(ctx, *u.Audit)
	}
	return maintain(ctx, n.c, n.store, u, tell)
}

// renewIndex makes an index that another version of the program made anew, while the node works.
func (n *Node) renewIndex(ctx context.Context) {
	if !n.store.IndexIsStale() {
		return
	}
	n.c.Logger.Warn("the search index was made by another version of this program: it is made anew now, and until then searches across records read everything")
	did, err := n.store.Reindex(ctx, nil)
	switch {
	case err == nil:
		n.c.Logger.Warn("the search index is renewed", "resources", did.Resources, "added", did.Added, "removed", did.Removed)
	case ctx.Err() == nil:
		n.c.Logger.Error("the search index could not be renewed: run tombolo store reindex", "error", err)
	}
}
