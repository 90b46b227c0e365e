// Package postgres is the engine for more than one node: kv on PostgreSQL 15 or newer, in one table (part, key) → value and one log.
//
// A commit is one transaction in one round trip. Commits of one process that arrive together share a transaction; transactions
// of all processes take turns on one row's lock, which is what makes log positions consecutive and preconditions exact (ADR 6).
// What is visible is durable: the server shows a transaction only after its commit record is on disk. SQL lives here and nowhere else;
// tables and settings are in docs/storage.md.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tombolo/kv"
	"tombolo/kv/engine"
)

// Options for Open. Only URL must be set.
type Options struct {
	// URL is the address of the database: postgres://user:password@host/database?sslmode=verify-full, with whatever else libpq knows.
	// The tables are in the schema tombolo, or in that which ?search_path= names.
	URL string
	// MaxConns bounds the connections for short calls; 4 a processor and at least 8 if 0. Snapshots and long scans have up to 8 more
	// and the listener has one.
	MaxConns int
	// SnapshotIdle is how long a snapshot or a long scan may lie untouched before the server ends it; 5 minutes if 0. A forgotten one
	// would keep the server from clearing away what was deleted since.
	SnapshotIdle time.Duration
	// Poll is how often the log is looked at for what notifications did not tell; 1 s if 0.
	Poll time.Duration
	// ByPartition makes each statement that reads or deletes name the one partition it is about, for a table distributed over
	// machines; otherwise a call is one statement. It is set by itself where the table is distributed by Citus.
	ByPartition bool
	// Tracer is told of every statement; nil for none.
	Tracer pgx.QueryTracer
	Log    *slog.Logger // slog.Default() if nil

	schema string // instead of that of the URL
}

// An Engine is an open schema. It implements kv.Engine.
type Engine struct {
	opts   Options
	schema string
	where  string        // host, database and schema, for messages; never the password
	short  *pgxpool.Pool // calls that are done when they return
	long   *pgxpool.Pool // snapshots and long scans, so that they never keep short calls waiting

	gate    *engine.Gate
	stem    func(kv.Key) int // GroupBy; nil if no keys have groups
	queue   queue
	log     *engine.Tail       // how far the log is known to go
	stop    context.CancelFunc // ends the listener
	stopped sync.WaitGroup

	checked   atomic.Bool // the server keeps checksums of its pages
	unchecked sync.Once   // said that the server keeps no checksums of its pages

	snapMu    sync.Mutex
	snapshots map[*snapshot]struct{}
}

var _ kv.Engine = (*Engine)(nil)

// Connections for snapshots and long scans.
const longConns = 8

// Open connects, checks that the server keeps what it acknowledges, makes or updates the tables, and starts listening for changes.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.URL == "" {
		return nil, errors.New("open store: no database given: it looks like postgres://user:password@host/database")
	}
	if o.MaxConns == 0 {
		o.MaxConns = max(8, 4*runtime.NumCPU())
	}
	if o.SnapshotIdle == 0 {
		o.SnapshotIdle = 5 * time.Minute
	}
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	e := &Engine{opts: o, gate: engine.NewGate(), snapshots: map[*snapshot]struct{}{}, queue: newQueue()}
	if err := e.connect(ctx); err != nil {
		return nil, err
	}
	tail, err := e.readTail(ctx)
	if err != nil {
		e.short.Close()
		e.long.Close()
		return nil, err
	}
	e.log = engine.NewTail(tail)
	listening, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.stopped.Go(func() { e.listen(listening) })
	e.stopped.Go(func() { e.poll(listening) })
	return e, nil
}

// connect reads the address, prepares the schema, and makes the pools.
func (e *Engine) connect(ctx context.Context) error {
	config, err := pgxpool.ParseConfig(e.opts.URL)
	if err != nil {
		return badURL(err)
	}
	c := config.ConnConfig
	if e.schema = cmp.Or(e.opts.schema, c.RuntimeParams["search_path"]); e.schema == "" {
		e.schema = "tombolo"
	}
	c.RuntimeParams["search_path"] = quote(e.schema)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "tombolo"
	}
	c.Tracer = e.opts.Tracer
	e.where = fmt.Sprintf("%s/%s (schema %s)", c.Host, c.Database, e.schema)

	if err := e.arrive(ctx, c); err != nil {
		return e.openError(err)
	}
	if e.short, err = e.pool(ctx, config.Copy(), e.opts.MaxConns, shortIdle); err != nil {
		return e.openError(err)
	}
	if e.long, err = e.pool(ctx, config.Copy(), longConns, e.opts.SnapshotIdle); err != nil {
		e.short.Close()
		return e.openError(err)
	}
	return nil
}

// startTime is how long Open waits for a server that says that it is starting or recovering.
const startTime = time.Minute

// arrive prepares the schema, and waits for a server that is on its way, or that went away in the middle of it. One that is not there at all is an
// error at once: the address may be wrong.
func (e *Engine) arrive(ctx context.Context, c *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		lost, err := e.prepare(ctx, c)
		switch state(err) {
		case stateStopping, stateCrashing, stateStarting:
			lost = true
		}
		if err == nil || !lost || !pause(ctx, min(attempt, 10)) {
			return err
		}
	}
}

// prepare checks the server on one connection, and migrates there. lost says that the connection was there and went.
func (e *Engine) prepare(ctx context.Context, c *pgx.ConnConfig) (lost bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		gone := func(how error) bool { return errors.Is(err, how) }
		return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, gone), err // somebody was there
	}
	defer func() {
		lost = conn.IsClosed()
		_ = conn.Close(context.WithoutCancel(ctx))
	}()
	if err := e.session(ctx, conn, shortIdle); err != nil {
		return false, err
	}
	if err := migrate(ctx, conn, e.schema); err != nil {
		return false, err
	}
	if err := logged(ctx, conn); err != nil {
		return false, err
	}
	if !e.opts.ByPartition {
		e.opts.ByPartition, err = distributed(ctx, conn)
	}
	return false, err
}

func badURL(err error) error {
	return fmt.Errorf("open store: the database's address is not understood (it looks like postgres://user:password@host/database): %w", err)
}

func (e *Engine) openError(err error) error {
	var connect *pgconn.ConnectError
	if how := ""; errors.As(err, &connect) {
		switch state(err) {
		case stateNoDatabase:
			how = "there is no such database: make it (createdb), or give the address of the one that is meant"
		case stateNobody, statePassword:
			how = "the database lets this user not in: is the name right, and the password, from PGPASSWORD or ~/.pgpass?"
		case "":
			how = "the database does not answer: is it up, is the address right, and may this machine reach it?"
		}
		if how != "" {
			err = fmt.Errorf("%s: %w", how, err)
		}
	}
	return fmt.Errorf("open store %s: %w", e.where, explain(err))
}

// shortIdle is how long a commit's transaction may wait for its own process, which is only long enough to be killed or stopped in.
const shortIdle = 10 * time.Second

func (e *Engine) pool(ctx context.Context, c *pgxpool.Config, conns int, idle time.Duration) (*pgxpool.Pool, error) {
	c.MaxConns, c.MinConns = int32(conns), 0
	c.MaxConnIdleTime = 5 * time.Minute
	// Every new connection is checked anew: after a failover or a change of settings it may lead to another kind of server.
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return e.session(ctx, conn, idle) }
	return pgxpool.NewWithConfig(ctx, c)
}

// distributed says whether Citus spreads the table over machines.
func distributed(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var citus bool
	if err := conn.QueryRow(ctx, "select to_regclass('pg_catalog.pg_dist_partition') is not null").Scan(&citus); err != nil || !citus {
		return false, err
	}
	err := conn.QueryRow(ctx, "select exists (select from pg_dist_partition where logicalrel = 'entry'::regclass and partmethod = 'h')").Scan(&citus)
	return citus, err
}

// Unchecked says whether the server keeps no checksums of its pages: a bit that rots in them can then bring back what a row was before it was changed.
func (e *Engine) Unchecked() bool { return !e.checked.Load() }

// Spread says whether partitions lie on many machines, so that a call is cheaper the fewer it names.
func (e *Engine) Spread() bool { return e.opts.ByPartition }

// DiskBytes is the room that the tables take on the server's disk, or on those of all machines of a Citus cluster.
func (e *Engine) DiskBytes(ctx context.Context) (n int64, err error) {
	if err := e.gate.Enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.Leave()
	err = reading(ctx, func() error {
		var spread bool
		if err := e.short.QueryRow(ctx, "select to_regproc('citus_total_relation_size') is not null").Scan(&spread); err != nil {
			return err
		}
		of := "pg_total_relation_size('entry')"
		if spread && e.opts.ByPartition {
			of = "citus_total_relation_size('entry')"
		}
		return e.short.QueryRow(ctx, "select "+of+" + pg_total_relation_size('log')").Scan(&n)
	})
	return n, err
}

// Close waits for calls under way, then closes all connections. Whoever reads a long scan or holds a snapshot finds out at its next
// step. A second Close does nothing.
func (e *Engine) Close() error {
	if !e.gate.Shut() {
		return nil
	}
	e.stop()
	e.stopped.Wait()
	e.log.Close()
	e.snapMu.Lock()
	open := e.snapshots
	e.snapshots = nil
	e.snapMu.Unlock()
	for s := range open {
		s.release()
	}
	e.short.Close()
	e.long.Close()
	return nil
}
