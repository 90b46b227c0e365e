// Package node turns a configuration into a running node. New is the floor plan in code: everything that exists is made here, once, in
// the order in which it depends on what was made before, and nobody else wires anything.
package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/access"
	"tombolo/api"
	"tombolo/audit"
	"tombolo/bulk"
	"tombolo/connector"
	"tombolo/connector/gpconnect"
	"tombolo/directory"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/fhir/profile"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/pki"
	"tombolo/probe"
	"tombolo/region"
	"tombolo/searchparam"
	"tombolo/standing"
	"tombolo/store"
	"tombolo/subscription"
	"tombolo/watch"
	"tombolo/web"
)

// Config is what a node is made of.
type Config struct {
	Region  *region.Region
	Folder  string    // where the region file lies: relative paths in it start here
	File    string    // the region file itself, read again while the node runs; "" if what is agreed does not change
	Data    string    // the data folder; needed unless Store says otherwise
	Store   string    // postgres://… for a database that nodes share; "" for a store embedded in the data folder
	Listen  string    // address of the HTTP listener; "" for none (import, audit)
	Systems string    // address of the listener for systems, which are known by their certificates; "" for none
	TLS     pki.Files // of the listeners; without a certificate Listen speaks plain HTTP
	Base    string    // public base URL of the FHIR API; "" takes it from each request
	Demo    bool      // anybody may sign in as anybody
	Dev     string    // every request acts as this user
	Version string
	Logger  *slog.Logger
	Now     func() time.Time
	// Secret gives a secret by the name under which the region file speaks of it; nil reads the environment.
	Secret func(name string) string
	// Feeds starts what listens and polls; false for commands that only read or import.
	Feeds bool
	// Beside are further pages by pattern, such as the demo's switchboard.
	Beside map[string]http.Handler

	even time.Duration // how refusals are spaced; 0: evenly. For tests that ask thousands of questions
}

// evenly is how long a refusal takes, or twice as long …: more than what is done for one takes on any machine that is fit for its work.
const evenly = 10 * time.Millisecond

// A Node is a running node. Close undoes New.
type Node struct {
	c           Config
	name        string // of this node among those that share a database, since it started
	store       *store.DB
	followers   []*events.Follower
	runners     []runner
	senders     map[string]connector.Sender // by system
	closers     []func() error              // of connectors, after their feeds have stopped
	registers   []*register                 // of national numbers
	services    *directory.Directory
	agreed      *agreed
	directories map[string]*gpconnect.Directory // by address
	profiles    *profile.Definitions            // nil: R4 only
	pages       served
	systems     served

	Audit    *audit.Log
	Access   *access.Manager
	Intake   *intake.Intake
	Gather   *gather.Gatherer
	Bulk     *bulk.Service
	People   *mpi.Index
	Locator  *locator.Locator
	Registry *locator.Registry
	Standing *standing.Index
	Params   *searchparam.Index
	Notices  *subscription.Service
	Probes   *probe.Prober
	Watch    *watch.Watcher

	heads   http.Handler // the audit log's signed heads; nil if this node signs none
	keepers []keeper

	ledger  *probe.Ledger // what was found of each source
	toProbe chan ProbeAsk // by operators

	auditFeed *feed // nil if the audit log goes nowhere else

	stamper    connector.Stamper
	nationals  []national
	publishers []publishing

	verified struct { // the desk's last verification of the audit log
		sync.Mutex
		state web.AuditState
	}

	background sync.WaitGroup
	stop       context.CancelFunc
	watch      Watch // nil: nobody watches
}

// New makes a node: it opens the data folder, and takes the HTTP address so that a taken one is noticed now.
func New(ctx context.Context, c Config) (n *Node, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	n = &Node{c: c, name: access.NewTrace(), directories: map[string]*gpconnect.Directory{}, senders: map[string]connector.Sender{}, toProbe: make(chan ProbeAsk, 4)}
	defer func() {
		if err != nil {
			_ = n.Close()
		}
	}()

	n.watched()
	c = n.c

	// What is kept.
	engine, err := openEngine(ctx, c)
	if err != nil {
		return n, err
	}
	if n.store, err = store.Open(store.Options{Engine: engine, Now: c.Now}); err != nil {
		return n, errors.Join(err, engine.Close())
	}
	if n.Audit, err = audit.Open(ctx, engine, audit.Options{Now: c.Now, Node: c.Region.ID}); err != nil {
		return n, err
	}
	if n.watch != nil {
		n.watch.Open(n.store, n.Audit)
	}
	if n.stamper, err = n.stampKey(ctx); err != nil {
		return n, err
	}

	// Who follows the log.
	n.People = mpi.New(n.store, n.stamper)
	n.Locator, n.Registry = locator.New(n.store), locator.NewRegistry(n.store)
	n.Standing = standing.New(n.store)
	n.Params = searchparam.New(searchparam.Options{Store: n.store, Logger: c.Logger})
	n.Notices = n.notices()
	n.followers = []*events.Follower{
		n.follower("mpi", n.People.Handle),
		n.follower(locator.FollowerName, n.Locator.Handle),
		n.follower("standing", n.Standing.Handle),
	}
	// What only a system that keeps its record here can have asked for. Where there is none, no message pays for its being looked for; where one comes
	// to be, its follower begins at the beginning of the log.
	if keepsRecords(c.Region) {
		n.followers = append(n.followers, n.follower("searchparam", n.Params.Handle))
	}
	if slices.ContainsFunc(c.Region.Systems, func(s region.System) bool { return len(s.Notify()) > 0 }) {
		n.followers = append(n.followers, n.follower("subscription", n.Notices.Handle))
	}
	if err := n.Locator.Prepare(ctx); err != nil {
		return n, err
	}

	// The two doors.
	n.Intake = intake.New(intake.Options{Store: n.store, Region: c.Region, Stamper: n.stamper, Await: n.Await, Now: c.Now, Logger: c.Logger})
	askers, err := n.connect()
	if err != nil {
		return n, err
	}
	if n.agreed, err = n.agree(ctx); err != nil {
		return n, err
	}
	if err := n.publish(); err != nil {
		return n, err
	}
	if err := n.probing(ctx); err != nil {
		return n, err
	}
	n.Gather = gather.New(gather.Options{Region: c.Region, Agreed: n.agreed, OptOuts: standing.Register{File: n.optOuts, Now: c.Now}, People: n.People, Standing: n.Standing, Kept: n.store, Audit: n.Audit,
		Askers: askers, Stamper: n.stamper, Learn: n.learn, Saw: n.saw, Heard: n.heard, Probed: n.ledger.All, Pointed: n.pointed, Even: cmp.Or(c.even, evenly), Now: c.Now, Logger: c.Logger})

	n.probes(askers)
	n.Bulk = bulk.New(bulk.Options{Store: n.store, Gather: n.Gather, Intake: n.Intake, Await: n.Await, Node: n.name, Now: c.Now, Logger: c.Logger})

	if err := n.definitions(); err != nil {
		return n, err
	}

	// Which organisations and services there are.
	if err := n.careServices(); err != nil {
		return n, err
	}

	// Who watches over the audit log.
	if err := n.trust(); err != nil {
		return n, err
	}

	// The faces.
	if n.Access, err = access.New(access.Options{Region: c.Region, Store: n.store, Audit: n.Audit, Issuer: n.issuer, Demo: c.Demo, Dev: c.Dev,
		Secure: c.TLS.Cert != "" || strings.HasPrefix(n.issuer(), "https://"), Path: n.path, HTTP: n.client(), Reach: func(nb region.Neighbour) (*http.Client, error) { return n.asking(nb.TLS) }, Now: c.Now, Here: n.stamper.ID(c.Region.ID, "node", "")}); err != nil {
		return n, err
	}
	n.keepers = append(n.keepers, n.sweeper(), keeper{forgetEvery, "forget sources' earlier answers", inTurn(n.lease("last-good"), func(ctx context.Context) error {
		_, err := n.Gather.DropEarlier(ctx)
		return err
	})})
	return n, n.listeners()
}

// keepsRecords reports whether any system writes its record over the FHIR API.
func keepsRecords(r *region.Region) bool {
	return slices.ContainsFunc(r.Systems, func(s region.System) bool { return s.Connector == "api" || s.Certificate != "" }) ||
		slices.ContainsFunc(r.Users, func(u region.User) bool { return u.System != "" }) ||
		slices.ContainsFunc(r.Identity.Clients, func(c region.Client) bool { return c.System != "" })
}

func (c *Config) check() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Secret == nil {
		c.Secret = os.Getenv
	}
	if c.Data == "" && c.Store == "" {
		return errors.New("a node needs a place for its data: give --data DIR, or --store postgres://…")
	}
	if (c.Demo || c.Dev != "") && c.Listen != "" && !loopback(c.Listen) {
		return fmt.Errorf("without sign-in a node listens on loopback only, not on %s", c.Listen)
	}
	if c.Data == "" {
		return nil
	}
	return os.MkdirAll(c.Data, 0o700)
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// stampKey reads the secret that turns sources' ids into this node's, or makes it the first time.
func (n *Node) stampKey(ctx context.Context) (connector.Stamper, error) {
	var key []byte
	_, err := n.store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket("node")
		was, ok, err := b.Get(ctx, "stamp-key")
		if err != nil {
			return err
		}
		if key = was; !ok {
			key = make([]byte, 32)
			_, _ = rand.Read(key)
			b.Put("stamp-key", key)
		}
		return nil
	})
	return connector.Stamper{Key: key}, err
}

// follower makes one that takes each event into a room in the same transaction in which its cursor moves.
func (n *Node) follower(name string, handle func(context.Context, store.Tx, events.Event) error) *events.Follower {
	return n.store.Follower(name, handle)
}

// Await waits until the followers have taken in the log up to seq.
func (n *Node) Await(ctx context.Context, seq events.Seq) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, f := range n.followers {
		if err := f.Await(ctx, seq); err != nil {
			return err
		}
	}
	return nil
}

// catchUp waits, for a while, until the followers have taken in what was in the log when the node started: a power cut takes back the last of what they
// have made of it (store.Follower), and what was acknowledged shall be found at once. A follower with more to do than that is told of by /readyz.
func (n *Node) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tail, err := n.store.Tail(ctx)
	if err == nil {
		err = n.Await(ctx, tail)
	}
	if err != nil {
		n.c.Logger.Warn("the index has not caught up with the log; pages and answers lack the newest until it has", "error", err)
	}
}

// learn keeps a patient found at a live source in the index, through the one door like anything else from outside.
func (n *Node) learn(ctx context.Context, source string, patient *fhir.Resource) error {
	_, err := n.Intake.Accept(ctx, connector.Delivery{
		Source: source, ID: "live/" + patient.ID(), Received: n.c.Now(), ContentType: "application/fhir+json",
		Raw: patient.Raw(), Content: []*fhir.Resource{patient}, Patient: patient.ID(), Map: "live/1",
	})
	return err
}

// Run serves until ctx ends, then stops in the reverse order of starting.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.Start(ctx)
	n.catchUp(ctx)
	failed := make(chan error, 2)
	var running []served
	for _, l := range []served{n.pages, n.systems} {
		if l.listener != nil {
			running = append(running, l)
			go func() { failed <- l.serve() }()
		}
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopCtx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	for _, l := range running {
		_ = l.server.Shutdown(stopCtx)
	}
	return nil
}

// Start starts the followers and, if configured, the feeds, in the background until ctx ends or Close.
func (n *Node) Start(ctx context.Context) {
	ctx, n.stop = context.WithCancel(ctx)
	for _, f := range n.followers {
		n.background.Go(func() {
			if err := n.follow(ctx, f); err != nil && ctx.Err() == nil {
				n.c.Logger.Error("a follower of the log stopped", "error", err)
			}
		})
	}
	n.background.Go(func() { n.renewIndex(ctx) })
	if n.c.File != "" {
		n.background.Go(func() { n.agreed.keepUp(ctx) })
	}
	n.serveUpkeep(ctx)
	n.background.Go(func() { _ = n.Watch.Run(ctx) })
	n.background.Go(func() { n.probeAsked(ctx) })
	for _, k := range n.keepers {
		n.background.Go(func() { n.keep(ctx, k) })
	}
	if !n.c.Feeds {
		return
	}
	n.background.Go(func() { _ = n.Bulk.Run(ctx) })
	n.background.Go(func() { _ = n.Params.Run(ctx) })
	n.background.Go(func() { n.Notices.Run(ctx) })
	for _, r := range n.runners {
		n.background.Go(func() { n.keepRunning(ctx, r) })
	}
}

// keepRunning starts a feed again when it stops: one broken feed must not take the others with it.
func (n *Node) keepRunning(ctx context.Context, r runner) {
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		err := r.Run(ctx, n.Intake)
		if ctx.Err() != nil {
			return
		}
		n.c.Logger.Error("a feed stopped and will be started again", "source", r.source, "after", wait, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// Addr is the address at which the node listens for HTTP.
func (n *Node) Addr() string { return n.pages.addr() }

// Region is the id of the region that the node runs.
func (n *Node) Region() string { return n.c.Region.ID }

// Close stops what runs and closes the store.
func (n *Node) Close() error {
	if n.stop != nil {
		n.stop()
	}
	n.background.Wait()
	for _, l := range []served{n.pages, n.systems} {
		if l.listener != nil {
			_ = l.listener.Close()
		}
	}
	var errs []error
	for _, c := range n.closers {
		errs = append(errs, c())
	}
	if n.watch != nil {
		n.watch.Close()
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// fhirAPI is the FHIR API, on whichever listener it stands.
func (n *Node) fhirAPI() http.Handler {
	return api.New(api.Options{Gather: n.Gather, Tasks: n, Directory: n.services, Intake: n.Intake, Bulk: n.Bulk, Parameters: n.Params, Subscriptions: n.Notices, Access: n.Access, Definitions: n.profiles, Base: n.c.Base, Name: n.c.Region.Name, Version: n.c.Version, Logger: n.c.Logger})
}

// handler is what people and their applications ask.
func (n *Node) handler() (http.Handler, error) {
	wo := n.webOptions()
	n.signIns(&wo)
	pages, err := web.New(wo)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	face := ownOrigin(n.fhirAPI())
	mux.Handle("/fhir/", crossOrigin(wo.Apps, face))
	mux.Handle("/fhir", crossOrigin(wo.Apps, face))
	mux.Handle("/identity/", crossOrigin(wo.Apps, face))
	mux.Handle("/directory/", crossOrigin(wo.Apps, face))
	mux.Handle("/", pages)
	n.authorisation(mux, wo.Apps, pages)
	mux.HandleFunc("GET /launch/nrl/{pointer}", n.followed)
	if err := n.locatorFaces(mux); err != nil {
		return nil, err
	}
	n.auditPages(mux)
	n.health(mux)
	for pattern, h := range n.c.Beside {
		mux.Handle(pattern, h)
	}
	if n.c.Demo || n.c.Dev != "" {
		return loopbackHosts(mux), nil
	}
	if n.Access.Secure() {
		return strictly(mux), nil
	}
	return mux, nil
}

// strictly has browsers ask this host over TLS alone from now on, so that nobody on the way gets to answer in the clear. RFC 6797
func strictly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		next.ServeHTTP(w, r)
	})
}

// ownOrigin refuses what another site has a browser send with its user's cookie: an application sends a token.
func ownOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json;charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(fhir.Outcome(fhir.Errorf(fhir.Forbidden, "this was sent from another site without an access token, and was not taken")).Raw())
	}))
	guarded := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// loopbackHosts answers to loopback names only. Where nobody need sign in, a page elsewhere could otherwise have a browser ask this node
// under a name that it points here (DNS rebinding).
func loopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this node answers to localhost and loopback addresses only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
