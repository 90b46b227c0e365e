package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tombolo/kv"
	"tombolo/kv/postgres/pgtest"
)

func sql(t testing.TB, url, text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// databaseOf is the name of the database in an address.
func databaseOf(t testing.TB, url string) string {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return c.Database
}

func refused(t *testing.T, what, url string, words ...string) {
	t.Helper()
	e, err := Open(context.Background(), Options{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		_ = e.Close()
		t.Errorf("%s: opened", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}

func TestUnsafeServersAreRefused(t *testing.T) {
	url := pgtest.URL(t)
	refused(t, "synchronous_commit off in the address", url+"&synchronous_commit=off", "synchronous_commit = on", "can be lost")
	sql(t, url, "alter role tombolo set synchronous_commit = off")
	refused(t, "synchronous_commit off for the role", url, "synchronous_commit = on", "ALTER ROLE")
	sql(t, url, "alter role tombolo reset synchronous_commit")
	for _, level := range []string{"local", "remote_apply"} {
		if err := open(t, Options{URL: url + "&synchronous_commit=" + level}).Close(); err != nil {
			t.Error(err)
		}
	}
	sql(t, url, "alter database "+databaseOf(t, url)+" set synchronous_commit = off")
	refused(t, "synchronous_commit off for the database", url, "synchronous_commit = on", "ALTER DATABASE")
	sql(t, url, "alter database "+databaseOf(t, url)+" reset synchronous_commit")
	sql(t, url, "alter role tombolo set zero_damaged_pages = on")
	refused(t, "zero_damaged_pages on for the role", url, "zero_damaged_pages", "ALTER ROLE")
	sql(t, url, "alter role tombolo reset zero_damaged_pages")
	for _, c := range []struct{ setting, words string }{{"fsync=off", "fsync = on"}, {"full_page_writes=off", "full_page_writes = on"}, {"synchronous_commit=off", "synchronous_commit = on"},
		{"data_sync_retry=on", "data_sync_retry = off"}} {
		refused(t, c.setting, pgtest.Start(t, c.setting).Database(t), c.words, "postgresql.conf")
	}
	for _, table := range []string{"entry", "log", "turn"} {
		sql(t, url, "alter table tombolo."+table+" set unlogged")
		refused(t, "an unlogged table", url, table, "set logged")
		sql(t, url, "alter table tombolo."+table+" set logged")
	}
	good := server{version: 150000, fsync: "on", pages: "on", commit: "on", retry: "off", zero: "off"}
	if err := good.safe(); err != nil {
		t.Error(err)
	}
	old, standby := good, good
	old.version, standby.standby = 140011, true
	if err := old.safe(); err == nil || !strings.Contains(err.Error(), "15 or newer") {
		t.Errorf("PostgreSQL 14: %v", err)
	}
	if err := standby.safe(); err == nil || !strings.Contains(err.Error(), "standby") {
		t.Errorf("a standby: %v", err)
	}
	refused(t, "no address", "", "postgres://")
	refused(t, "nobody there", "postgres://ann:hunter2@127.0.0.1:1/x?connect_timeout=2", "127.0.0.1")
	for _, bad := range []string{"postgres://ann:hunter2@127.0.0.1:1/x?connect_timeout=2", "postgres://ann:hunter2@:bad:/x"} {
		if _, err := Open(context.Background(), Options{URL: bad}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the message shows the password: %v", err)
		}
	}
}

// Without checksums of its pages a server may bring back what was changed: that is said once, and of a server that keeps them it is not.
func TestAServerWithoutChecksumsIsToldOf(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	said := func() int {
		var log bytes.Buffer
		e := open(t, Options{URL: url, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if _, err := e.Commit(t.Context(), kv.Batch{Append: [][]byte{{1}}}); err != nil { // over another connection
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		return strings.Count(log.String(), "pg_checksums --enable")
	}
	if n := said(); n != 0 {
		t.Errorf("with checksums it is said %d times", n)
	}
	server.Stop(t)
	server.DropChecksums(t)
	server.Restart(t)
	if n := said(); n != 1 {
		t.Errorf("without checksums it is said %d times", n)
	}
}

// What was safe when the node started may not be so after a failover: each new connection is looked at.
func TestAConnectionIsCheckedWhenItIsMade(t *testing.T) {
	url := pgtest.URL(t)
	e := open(t, Options{URL: url})
	defer func() { _ = e.Close() }()
	if _, err := e.Tail(context.Background()); err != nil {
		t.Fatal(err)
	}
	e.short.Reset()
	sql(t, url, "alter role tombolo set synchronous_commit = off")
	defer sql(t, url, "alter role tombolo reset synchronous_commit")
	if _, err := e.Commit(context.Background(), kv.Batch{Append: [][]byte{{1}}}); err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("commit over a connection that does not keep: %v", err)
	}
}

// A server's settings can be changed under a node's connections: from the next commit on nothing is written, and when they are mended, it is.
func TestNothingIsWrittenToAServerThatBecomesUnsafe(t *testing.T) {
	ctx, server := context.Background(), pgtest.Start(t)
	url := server.Database(t)
	e := open(t, Options{URL: url, MaxConns: 1}) // one, so that the connection was there before
	defer func() { _ = e.Close() }()
	commit := func() error {
		_, err := e.Commit(ctx, kv.Batch{Append: [][]byte{{1}}})
		return err
	}
	if err := commit(); err != nil {
		t.Fatal(err)
	}
	written := kv.Position(1)
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		change := func(how string, until func(error) bool) {
			t.Helper()
			sql(t, url, "alter system "+how)
			sql(t, url, "select pg_reload_conf()")
			for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // each of the server's processes is told a moment later
				err := commit()
				if err == nil {
					written++
				}
				if until(err) {
					return
				}
				if time.Since(began) > 20*time.Second {
					t.Fatalf("after %s a commit says %v", how, err)
				}
			}
		}
		change("set "+setting+" = off", func(err error) bool { return err != nil })
		for range 3 {
			if err := commit(); err == nil || !strings.Contains(err.Error(), setting+" = off") || !strings.Contains(err.Error(), "would not keep") {
				t.Errorf("%s off: a commit says %v", setting, err)
			}
		}
		if tail, err := e.Tail(ctx); err != nil || tail != written {
			t.Errorf("%s off: the log ends at %d (%v), and %d commits were acknowledged", setting, tail, err, written)
		}
		change("reset "+setting, func(err error) bool { return err == nil })
	}
	// What is as safe or safer than usual is left as it is, for each commit.
	for _, level := range []string{"local", "remote_apply"} {
		sql(t, url, "alter system set synchronous_commit = "+level)
		sql(t, url, "select pg_reload_conf()")
		if err := commit(); err != nil {
			t.Errorf("synchronous_commit = %s: %v", level, err)
		}
	}
}

func TestNodesThatStartTogetherMakeOneSchema(t *testing.T) {
	url := pgtest.URL(t)
	var wg sync.WaitGroup
	engines := make([]*Engine, 8)
	for i := range engines {
		wg.Go(func() {
			e, err := Open(context.Background(), Options{URL: url, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Errorf("node %d: %v", i, err)
				return
			}
			engines[i] = e
		})
	}
	wg.Wait()
	for i, e := range engines {
		if e == nil {
			continue
		}
		if at, err := e.Commit(context.Background(), kv.Batch{Append: [][]byte{{byte(i)}}}); err != nil || at != kv.Position(i+1) {
			t.Errorf("node %d: position %d, %v", i, at, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMigrationsAreChecked(t *testing.T) {
	url := pgtest.URL(t)
	if err := open(t, Options{URL: url}).Close(); err != nil {
		t.Fatal(err)
	}
	sql(t, url, "update tombolo.migration set sha256 = 'another'")
	refused(t, "another text", url, "0001-entries-and-log.sql", "differs")
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	sql(t, url, "update tombolo.migration set sha256 = '"+all[0].sum+"'")
	sql(t, url, "insert into tombolo.migration (name, sha256) values ('9999-from-the-future.sql', '')")
	refused(t, "a newer schema", url, "newer version", "9999-from-the-future.sql")
	sql(t, url, "create schema theirs; create table theirs.log (line text)")
	refused(t, "somebody else's tables", url+"&search_path=theirs", "some other program")
}

// Two processes on one database: each engine is one.
func TestManyNodesCompareAndSet(t *testing.T) {
	for _, byPartition := range []bool{false, true} {
		t.Run(fmt.Sprintf("byPartition=%v", byPartition), func(t *testing.T) {
			ctx, url := context.Background(), pgtest.URL(t)
			k := kv.Key{Part: "p", Key: "count"}
			var wg sync.WaitGroup
			const nodes, workers, rounds = 3, 3, 20
			for range nodes {
				e := open(t, Options{URL: url, ByPartition: byPartition})
				defer func() { _ = e.Close() }()
				for range workers {
					wg.Go(func() {
						for done := 0; done < rounds; {
							v, ok, err := e.Get(ctx, k)
							if err != nil {
								t.Error(err)
								return
							}
							_, err = e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: k, Value: v, Absent: !ok}},
								Put: []kv.Entry{{Key: k, Value: append(v, 'x')}}, Append: [][]byte{fmt.Append(nil, len(v))}})
							switch {
							case err == nil:
								done++
							case !errors.Is(err, kv.ErrConflict):
								t.Error(err)
								return
							}
						}
					})
				}
			}
			wg.Wait()
			e := open(t, Options{URL: url})
			defer func() { _ = e.Close() }()
			if v, _, err := e.Get(ctx, k); err != nil || len(v) != nodes*workers*rounds {
				t.Errorf("%d increments, %v; want %d: an update was lost", len(v), err, nodes*workers*rounds)
			}
			n := kv.Position(0)
			for r, err := range e.Log(ctx, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if r.At != n+1 || string(r.Value) != fmt.Sprint(n) {
					t.Fatalf("record %d at %d says %s: the log's order is not the order of the commits", n, r.At, r.Value)
				}
				n++
			}
		})
	}
}

// A precondition on what the commit does not write must hold too at the commit's place in the log, whoever commits in between: if two
// nodes each write only while the other has not, one of them finds out.
func TestNoWriteSkewBetweenNodes(t *testing.T) {
	ctx, url := context.Background(), pgtest.URL(t)
	a, b := open(t, Options{URL: url}), open(t, Options{URL: url})
	defer func() { _ = a.Close(); _ = b.Close() }()
	for round := range 40 {
		ka, kb := kv.Key{Part: "p", Key: fmt.Sprint("a", round)}, kv.Key{Part: "q", Key: fmt.Sprint("b", round)}
		var wg sync.WaitGroup
		var ea, eb error
		wg.Go(func() {
			_, ea = a.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: kb, Absent: true}}, Put: []kv.Entry{{Key: ka}}})
		})
		wg.Go(func() {
			_, eb = b.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: ka, Absent: true}}, Put: []kv.Entry{{Key: kb}}})
		})
		wg.Wait()
		if (ea == nil) == (eb == nil) || errors.Join(ea, eb) != nil && !errors.Is(errors.Join(ea, eb), kv.ErrConflict) {
			t.Fatalf("round %d: %v and %v: want one of them refused", round, ea, eb)
		}
	}
}

// A log reader on one node never passes a position that another node commits later.
func TestLogReadersOfManyNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	url := pgtest.URL(t)
	const nodes, workers, rounds = 3, 4, 30
	const total = kv.Position(nodes * workers * rounds)
	var wg sync.WaitGroup
	for range nodes {
		e := open(t, Options{URL: url})
		defer func() { _ = e.Close() }()
		wg.Go(func() {
			for cursor := kv.Position(0); cursor < total; {
				for r, err := range e.Log(ctx, cursor) {
					if err != nil || r.At != cursor+1 {
						t.Errorf("position %d after %d, %v", r.At, cursor, err)
						return
					}
					cursor = r.At
				}
				if cursor == total {
					return
				}
				select {
				case <-e.Changed(cursor):
				case <-ctx.Done():
					t.Errorf("still waiting after %d of %d", cursor, total)
					return
				}
			}
		})
		for range workers {
			wg.Go(func() {
				for range rounds {
					if _, err := e.Commit(ctx, kv.Batch{Append: [][]byte{{1}}}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestChangesOfOtherNodesAreNoticed(t *testing.T) {
	ctx, url := context.Background(), pgtest.URL(t)
	far := open(t, Options{URL: url})
	defer func() { _ = far.Close() }()
	noticed := func(what string, e *Engine, at kv.Position) {
		t.Helper()
		ch := e.Changed(at)
		if got, err := far.Commit(ctx, kv.Batch{Append: [][]byte{{1}}}); err != nil || got != at+1 {
			t.Fatalf("Commit: %d, %v", got, err)
		}
		select {
		case <-ch:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: a commit of another node was not noticed", what)
		}
	}
	told := open(t, Options{URL: url, Poll: time.Hour})
	defer func() { _ = told.Close() }()
	noticed("by notification", told, 0)
	sql(t, url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'select coalesce(max(at)%' and pid <> pg_backend_pid()")
	noticed("by notification, after the connection was cut", told, 1)

	looks := open(t, Options{URL: url, Poll: 10 * time.Millisecond})
	defer func() { _ = looks.Close() }()
	looks.stop() // its listener hears nothing more
	looks.stopped.Wait()
	polling, stop := context.WithCancel(ctx)
	defer stop()
	go looks.poll(polling)
	noticed("by looking", looks, 2)
}

// Kill the server under commits: what was acknowledged is there when it is back, and the engine goes on by itself.
func TestAcknowledgedSurvivesTheServer(t *testing.T) {
	ctx, server := context.Background(), pgtest.Start(t)
	e := open(t, Options{URL: server.Database(t)})
	defer func() { _ = e.Close() }()
	acked := map[string]bool{}
	for round := range 3 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		some := make(chan struct{}, 4096)
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					k := fmt.Sprintf("%d/%d/%d", round, w, i)
					if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: k}}}, Append: [][]byte{[]byte(k)}}); err != nil {
						return
					}
					mu.Lock()
					acked[k] = true
					mu.Unlock()
					some <- struct{}{}
				}
			})
		}
		for range 50 + 70*round {
			<-some
		}
		if round == 1 {
			server.Stop(t)
		} else {
			server.Kill(t)
		}
		go func() { // those that still want to say so
			for range some {
			}
		}()
		wg.Wait()
		close(some)
		server.Restart(t)
		found := map[string]bool{}
		for en, err := range e.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
			if err != nil {
				t.Fatalf("after the restart: %v", err)
			}
			found[en.Key.Key] = true
		}
		logged := map[string]bool{}
		for r, err := range e.Log(ctx, 0) {
			if err != nil {
				t.Fatalf("after the restart: %v", err)
			}
			logged[string(r.Value)] = true
		}
		for k := range acked {
			if !found[k] || !logged[k] {
				t.Fatalf("round %d: %s was acknowledged and is lost (key there %v, in the log %v)", round, k, found[k], logged[k])
			}
		}
		if len(found) != len(logged) {
			t.Fatalf("round %d: %d keys and %d records: a commit was kept in part", round, len(found), len(logged))
		}
	}
	if len(acked) < 300 {
		t.Errorf("only %d commits were acknowledged: was anything tested?", len(acked))
	}
}

func TestCheckpointIsCheckedWhenRestored(t *testing.T) {
	ctx, url := context.Background(), pgtest.URL(t)
	e := open(t, Options{URL: url})
	defer func() { _ = e.Close() }()
	for i := range 200 {
		if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: fmt.Sprint(i)}, Value: fmt.Append(nil, "dose ", i)}}, Append: [][]byte{{1}}}); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "copy")
	if err := e.Checkpoint(ctx, dir); err != nil {
		t.Fatal(err)
	}
	into := func(schema string) error {
		return Restore(ctx, Options{URL: url + "&search_path=" + schema, Log: slog.New(slog.DiscardHandler)}, dir)
	}
	if err := into("tombolo"); err == nil || !strings.Contains(err.Error(), "a store already") {
		t.Errorf("restore over a store: %v", err)
	}
	if err := into("fresh"); err != nil {
		t.Fatal(err)
	}
	c := open(t, Options{URL: url + "&search_path=fresh"})
	defer func() { _ = c.Close() }()
	if v, _, err := c.Get(ctx, kv.Key{Part: "p", Key: "77"}); err != nil || string(v) != "dose 77" {
		t.Errorf("restored: %q, %v", v, err)
	}
	for _, file := range []string{"entry.copy.zst", "log.copy.zst", checkpointFile} {
		path := filepath.Join(dir, file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{5, len(good) / 2, len(good) - 3} {
			bad := append([]byte(nil), good...)
			bad[at] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := into("damaged"); err == nil {
				t.Errorf("%s with byte %d changed was restored", file, at)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := into("damaged"); err != nil { // nothing of the failed attempts was left there
		t.Errorf("a good checkpoint after damaged ones: %v", err)
	}
	if err := Restore(ctx, Options{URL: url}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no complete checkpoint") {
		t.Errorf("an empty folder: %v", err)
	}
}

// A node that is started while its database recovers waits for it; a database that refuses it is told of at once.
func TestANodeWaitsForAServerThatIsOnItsWay(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	e := open(t, Options{URL: url})
	defer func() { _ = e.Close() }()
	for range 5 {
		if _, err := e.Commit(context.Background(), kv.Batch{Append: [][]byte{{1}}}); err != nil {
			t.Log(err) // the server went a moment ago
		}
		server.KillBackend(t)
		if err := open(t, Options{URL: url}).Close(); err != nil {
			t.Error(err)
		}
	}
	began := time.Now()
	refused(t, "a setting that loses what is acknowledged", url+"&synchronous_commit=off", "synchronous_commit = on")
	if took := time.Since(began); took > startTime/2 {
		t.Errorf("it was refused after %v: it was tried again", took)
	}
}

// A server that crashes takes connections that nobody will serve: it hangs up before what is said to it, in the middle, or after it.
func TestANodeWaitsForAServerThatHangsUp(t *testing.T) {
	url := pgtest.URL(t)
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(c.Host, fmt.Sprintf(".s.PGSQL.%d", c.Port))
	dir, err := os.MkdirTemp("", "hangup") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	front, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	reads := []int64{0, 0, 0, 4, 8, 0} // bytes that are read before it hangs up
	hungUp := make(chan struct{})
	var through sync.WaitGroup
	through.Go(func() {
		for n := 0; ; n++ {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			if n < len(reads) {
				_, _ = io.CopyN(io.Discard, conn, reads[n])
				_ = conn.Close()
				continue
			}
			if n == len(reads) {
				close(hungUp)
			}
			server, err := net.Dial("unix", there)
			if err != nil {
				_ = conn.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{server, conn}, {conn, server}} {
				through.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				})
			}
		}
	})
	e := open(t, Options{URL: fmt.Sprintf("postgres:///%s?host=%s&port=5432&user=%s", c.Database, dir, c.User)})
	select {
	case <-hungUp:
	default:
		t.Error("nobody hung up")
	}
	if _, err := e.Commit(t.Context(), kv.Batch{Append: [][]byte{{1}}}); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	_ = front.Close()
	through.Wait()
}

// What is too much to be sent at once goes in several parts, and is one commit all the same: another's change that it did not know of, or a connection that ends in
// the middle of it, leaves nothing of it behind.
func TestACommitThatIsSentInPartsIsOne(t *testing.T) {
	e := open(t, Options{URL: schemaOf(pgtest.URL(t), "parts")})
	ctx := t.Context()
	large := func(name string) (b kv.Batch) {
		for i := range 5 {
			value := bytes.Repeat([]byte{byte('a' + i)}, sendRoom*2/3)
			b.Put = append(b.Put, kv.Entry{Key: kv.Key{Part: "p", Key: fmt.Sprintf("%s%d", name, i)}, Value: value})
		}
		b.Append = [][]byte{[]byte(name)}
		return b
	}
	count := func(name string) (n int) {
		t.Helper()
		for i, en := range large(name).Put {
			v, ok, err := e.Get(ctx, en.Key)
			if err != nil {
				t.Fatal(err)
			}
			if ok && bytes.Equal(v, en.Value) {
				n++
			} else if ok {
				t.Errorf("%s%d has another value", name, i)
			}
		}
		return n
	}
	batches := &counted{}
	g := compose([]*commit{{batch: large("x"), packed: make([][]byte, 5)}})
	var b pgx.Batch
	e.queueWrites(&b, g)
	if err := sendInParts(ctx, batches, &b); err != nil || batches.n < 3 {
		t.Fatalf("sent in %d parts, %v: want several", batches.n, err)
	}

	if at, err := e.Commit(ctx, large("whole")); err != nil || at == 0 || count("whole") != 5 {
		t.Errorf("at %d, %v: %d of 5 are there", at, err, count("whole"))
	}
	refused := large("refused")
	refused.Expect = []kv.Precondition{{Key: kv.Key{Part: "p", Key: "whole0"}, Absent: true}}
	if _, err := e.Commit(ctx, refused); !errors.Is(err, kv.ErrConflict) || count("refused") != 0 {
		t.Errorf("a precondition that does not hold: %v, and %d of 5 are there", err, count("refused"))
	}

	// The connection ends before the third part: the first two were done.
	conn, err := e.short.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	ends := &counted{sender: conn, ends: func() { _ = conn.Conn().Close(ctx) }, at: 3}
	b = pgx.Batch{}
	b.Queue("begin")
	e.queueWrites(&b, compose([]*commit{{batch: large("cut"), packed: make([][]byte, 5)}}))
	b.Queue("commit")
	if err := sendInParts(ctx, ends, &b); err == nil || ends.n != 3 || count("cut") != 0 {
		t.Errorf("the connection ended at part %d: %v, and %d of 5 are there", ends.n, err, count("cut"))
	}
}

// counted counts what is sent, and ends the connection before one of it.
type counted struct {
	sender
	n, at int
	ends  func()
}

func (c *counted) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if c.n++; c.n == c.at {
		c.ends()
	}
	if c.sender == nil {
		return nowhere{}
	}
	return c.sender.SendBatch(ctx, b)
}

type nowhere struct{ pgx.BatchResults }

func (nowhere) Close() error { return nil }
