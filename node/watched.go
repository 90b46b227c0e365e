package node

import (
	"log/slog"
	"net/http"

	"tombolo/audit"
	"tombolo/store"
)

// A Watch sees whatever leaves a node. It is the seam at which tests look whether any of it tells what it may not (package lookout).
type Watch interface {
	// Log is the node's log from now on; each line goes to also as well.
	Log(also slog.Handler) slog.Handler
	// Outward sees what is asked of others over HTTP.
	Outward(http.RoundTripper) http.RoundTripper
	// Answers sees what is answered over HTTP. It is called once for each listener, and for the one that has /metrics first.
	Answers(http.Handler) http.Handler
	// Upkeep sees what is answered to operators on the socket in the data folder.
	Upkeep(http.Handler) http.Handler
	// Exchange sees what came over MLLP, and what it gives sees each answer before that is sent.
	Exchange(asked []byte) func(answered []byte)
	// Tells sees what is sent to a system over MLLP, each message before its first byte.
	Tells(system string) func(message []byte)
	// Audited sees each message that is sent to the audit repository by syslog, before its first byte.
	Audited(message []byte)
	// Open says what the node keeps, as soon as it is open.
	Open(*store.DB, *audit.Log)
	// Close is called when nothing runs any more and what is kept is still open.
	Close()
}

// Watched, if it is set, watches over each node that is made in this process from then on. Only tests set it, in their TestMain, so that no test can forget
// to: see docs/adr/0025-every-node-of-a-test-is-watched.md.
var Watched func(Config) Watch

// watched puts a node under watch, if there is one.
func (n *Node) watched() {
	if Watched == nil {
		return
	}
	n.watch = Watched(n.c)
	n.c.Logger = slog.New(n.watch.Log(n.c.Logger.Handler()))
}

// answers is a handler under watch, if there is one.
func (n *Node) answers(h http.Handler) http.Handler {
	if n.watch == nil {
		return h
	}
	return n.watch.Answers(h)
}

// kept is the upkeep socket's handler under watch, if there is one.
func (n *Node) kept(h http.Handler) http.Handler {
	if n.watch == nil {
		return h
	}
	return n.watch.Upkeep(h)
}
