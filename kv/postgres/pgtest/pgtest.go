// Package pgtest gives tests a real PostgreSQL: a throw-away server of the binaries that are installed, on a socket in a temporary
// folder, with the settings a real one would have.
//
// A test process starts at most one, when the first test asks, and every test gets databases of its own. The server stops when the
// process ends, however it ends. Where there are no binaries the test is skipped and says so; with TOMBOLO_CI set, it fails.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tombolo/kv"
)

// oldest is the first release that kv/postgres runs on.
const oldest = 15

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// URL is the address of a new, empty database on this process's server. It goes when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = start("", nil) })
	if shared.err != nil {
		unavailable(t, shared.err)
	}
	return shared.server.Database(t)
}

// Shared is the address of a database on this process's server that is there until the process ends, for tests that cannot say when they do.
func Shared() (string, error) {
	shared.once.Do(func() { shared.server, shared.err = start("", nil) })
	if shared.err != nil {
		return "", shared.err
	}
	return shared.server.url("postgres"), nil
}

// Need skips the test where there is no PostgreSQL to run, and fails it with TOMBOLO_CI set.
func Need(t testing.TB) {
	t.Helper()
	if _, err := binaries(); err != nil {
		unavailable(t, err)
	}
}

// Start starts a server of its own for a test that changes it: with other settings ("fsync=off"), or to stop and start it. It stops when
// the test ends.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartAt(t, "", settings...)
}

// StartAt is Start with the server's data in a folder that is there, and not in a temporary one: on a disk that is to be tried.
func StartAt(t testing.TB, folder string, settings ...string) *Server {
	t.Helper()
	s, err := start(folder, settings)
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(s.end)
	return s
}

// unavailable skips the test where there is no PostgreSQL, and fails it where there must be or where it does not start.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errNone) && os.Getenv("TOMBOLO_CI") == "" {
		t.Skipf("SKIPPED, nothing was tested on PostgreSQL: %v", err)
	}
	t.Fatal(err)
}

var errNone = fmt.Errorf("no PostgreSQL %d or newer is installed here (its initdb and postgres; on Debian: apt-get install postgresql)", oldest)

// A Server is a running PostgreSQL.
type Server struct {
	dir, bin string
	folder   string // of the data, if not in dir
	settings []string
	owner    *syscall.SysProcAttr

	n     atomic.Int64 // databases made
	mu    sync.Mutex
	alive io.Closer // closing it ends the server
	ended chan struct{}
}

// start makes a cluster and runs it.
func start(folder string, settings []string) (_ *Server, err error) {
	s := &Server{folder: folder, settings: settings}
	if s.bin, err = binaries(); err != nil {
		return nil, err
	}
	var uid, gid int
	if s.owner, uid, gid, err = unprivileged(); err != nil {
		return nil, err
	}
	// Not a test's own folder: the server's user must be able to get there, and a socket's path is short (107 bytes).
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.dir)
		}
	}()
	if os.Getuid() == 0 {
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
		if folder != "" {
			if err := os.Chown(folder, uid, gid); err != nil {
				return nil, err
			}
		}
	}
	args := []string{"-D", s.data(), "-U", "tombolo", "-A", "trust", "-E", "UTF8", "--locale=C", "--data-checksums"}
	if folder == "" {
		args = append(args, "--no-sync") // the files that initdb makes a power cut may have; the server runs with fsync on
	}
	if out, err := s.command("initdb", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, s.run()
}

func (s *Server) data() string {
	if s.folder != "" {
		return filepath.Join(s.folder, "data")
	}
	return filepath.Join(s.dir, "data")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir, c.SysProcAttr = s.dir, s.owner
	return c
}

// run starts the server under a shell that ends with it, and ends it when this process ends or closes the pipe: also one that crashes leaves no
// server behind. None of its processes gets more than 4 GiB: a page that was damaged on purpose had one take all that the machine had.
func (s *Server) run() error {
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "shared_buffers=64MB", "-c", "max_connections=200", "-c", "log_min_messages=fatal"}
	for _, set := range s.settings {
		args = append(args, "-c", set)
	}
	watch := `trap '' INT TERM HUP; ulimit -v 4194304; exec 3<&0; "$0" "$@" </dev/null 3<&- & pg=$!
		{ while read -r how <&3; do kill -$how $pg; done; : >"$DIR/ending"; kill -QUIT $pg; } & reader=$!
		wait $pg; kill -9 $reader 2>/dev/null; [ ! -e "$DIR/ending" ] || rm -rf "$DIR"`
	c := exec.Command("/bin/sh", append([]string{"-c", watch, filepath.Join(s.bin, "postgres")}, args...)...)
	c.Dir, c.SysProcAttr = s.dir, s.owner
	c.Env = append(os.Environ(), "DIR="+s.dir, "LC_ALL=C")
	log, err := os.Create(filepath.Join(s.dir, "server.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	c.Stderr, c.Stdout = log, log
	alive, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	s.mu.Lock()
	s.alive, s.ended = alive, ended
	s.mu.Unlock()
	return s.ready(ended)
}

// A server that has no lock file for so long has given up starting.
const startGrace = 5 * time.Second

// ready waits until the server takes connections. One that does not start is ended, and its folder left as it is.
func (s *Server) ready(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	alive := time.Now()
	for {
		conn, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if _, err := os.Stat(filepath.Join(s.data(), "postmaster.pid")); err == nil {
			alive = time.Now()
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Millisecond):
			if ctx.Err() == nil && time.Since(alive) < startGrace {
				continue
			}
			// The shell that watches over it waits to be told.
			_, _ = io.WriteString(s.alive.(io.Writer), "KILL\n")
			<-ended
		}
		text, _ := os.ReadFile(filepath.Join(s.dir, "server.log"))
		return fmt.Errorf("the throw-away PostgreSQL did not start: %w\n%s", err, text)
	}
}

// Kill ends the server as a power cut would, without it knowing; Restart brings it back.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.stop(t, "KILL\n")
	s.endOrphans(0) // a power cut leaves none
}

// KillBackend ends, as kill -9 does, one of the server's processes that serve connections; the server then ends all others and recovers by itself.
// It answers false if there is no connection.
func (s *Server) KillBackend(t testing.TB) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn := connect(ctx, t, s.url("postgres"))
		var pid int
		// One at work rather than one that waits for something to do.
		err := conn.QueryRow(ctx, `select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
			order by state = 'active' desc, random() limit 1`).Scan(&pid)
		lost := conn.IsClosed() // the server may be on its way down from the last time
		_ = conn.Close(ctx)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return false
		case err == nil:
			return syscall.Kill(pid, syscall.SIGKILL) == nil
		case !lost || ctx.Err() != nil:
			t.Fatal(err)
		}
	}
}

// DropChecksums has a server that was stopped keep no checksums of its pages from its next start on, as one that `initdb` made without -k. One that took too
// long to stop, and was ended, is stopped again: only files that were left in order are changed.
func (s *Server) DropChecksums(t testing.TB) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		c := s.command("pg_checksums", "--disable", "-D", s.data())
		c.Env = append(os.Environ(), "LC_ALL=C")
		out, err := c.CombinedOutput()
		if err == nil {
			return
		}
		if attempt == 3 || !bytes.Contains(out, []byte("must be shut down")) {
			t.Fatalf("pg_checksums: %v\n%s", err, out)
		}
		s.Restart(t)
		s.Stop(t)
	}
}

// Stop ends the server as an operator would in a hurry: connections are cut.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.stop(t, "INT\n")
}

func (s *Server) stop(t testing.TB, how string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(s.alive.(io.Writer), how); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) { // it may have ended by itself
		t.Fatalf("stop PostgreSQL: %v", err)
	}
	for _, harder := range []string{"QUIT\n", "KILL\n"} { // one that was asked to stop while it recovers may wait for ever
		select {
		case <-s.ended:
			return
		case <-time.After(stopTime):
			_, _ = io.WriteString(s.alive.(io.Writer), harder)
		}
	}
	<-s.ended
}

// stopTime is how long a server may take to stop before it is told more plainly.
const stopTime = time.Minute

// Ended says whether the server has ended by itself: it does where it cannot go on, as after a second failure while it recovers.
func (s *Server) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// orphanTime is how long the children of a killed server have to notice and leave by themselves.
const orphanTime = 2 * time.Second

// Restart starts a server that was stopped or killed, or ended by itself. PostgreSQL does not start while a child of the one before is attached to its shared memory: most notice
// within milliseconds that their parent is gone, and one that does not, because it computes, waits for a disk or gets no processor, is ended.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.endOrphans(orphanTime)
	var err error
	for began := time.Now(); time.Since(began) < 3*time.Minute; time.Sleep(100 * time.Millisecond) {
		if err = s.run(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// endOrphans waits until all children of an ended server are gone, and ends those that are there after some time.
func (s *Server) endOrphans(after time.Duration) {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(20 * time.Millisecond) {
		left := s.orphans()
		if len(left) == 0 {
			return
		}
		if time.Since(began) >= after {
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// orphans are the processes that work in the folder of the data, as all of a server's do and nobody else's; it is for when the server itself has ended. Where
// there is no /proc it finds none.
func (s *Server) orphans() (pids []int) {
	// Asked as the server's own user: not even root may look at where another's process works, in most containers.
	c := s.command("", "-c", "LC_ALL=C exec ls -l /proc/[0-9]*/cwd 2>/dev/null")
	c.Path = "/bin/sh"
	out, _ := c.Output() // ls fails over each process that is another user's, or has just ended
	data, err := filepath.EvalSymlinks(s.data())
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		link, target, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		if at := strings.LastIndex(link, "/proc/"); at >= 0 && target == data {
			if pid, err := strconv.Atoi(strings.TrimSuffix(link[at+len("/proc/"):], "/cwd")); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// end stops the server for good and waits until its folder is gone.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.alive.Close()
	<-s.ended
	_ = os.RemoveAll(s.dir)
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://tombolo@/%s?host=%s", database, s.dir)
}

// Database makes a new, empty database and gives its address. It goes when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "t" + strconv.FormatInt(s.n.Add(1), 10)
	s.Exec(t, s.url("postgres"), "create database "+name+" template template0")
	t.Cleanup(func() {
		s.mu.Lock()
		ended := s.ended
		s.mu.Unlock()
		select {
		case <-ended: // the server went first, and all with it
		default:
			s.Exec(t, s.url("postgres"), "drop database if exists "+name+" with (force)")
		}
	})
	return s.url(name)
}

// Exec runs one statement on a connection of its own.
func (s *Server) Exec(t testing.TB, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn := connect(ctx, t, url)
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// connect waits for a server that is still recovering from what a test did to it.
func connect(ctx context.Context, t testing.TB, url string) *pgx.Conn {
	t.Helper()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// LoseEvent takes a record out of the log in a schema.
func LoseEvent(url string, at kv.Position) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "delete from log where at = $1", int64(at))
	return errors.Join(err, conn.Close(ctx))
}

// Files are where in the folder "data" the server keeps these tables and indexes, all of what they hold written out.
func (s *Server) Files(t testing.TB, url string, relations ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn := connect(ctx, t, url)
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "checkpoint"); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range relations {
		var path string
		if err := conn.QueryRow(ctx, "select pg_relation_filepath($1::regclass)", r).Scan(&path); err != nil {
			t.Fatalf("%s: %v", r, err)
		}
		out = append(out, path)
	}
	return out
}

// binaries finds the newest installed server: on the PATH, or where Debian and others keep each version's.
func binaries() (string, error) {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/opt/postgresql*/bin", "/opt/homebrew/opt/postgresql*/bin"} {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	slices.Sort(dirs)
	slices.Reverse(dirs)
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // it looks for postgres and its files beside itself
			dirs = append([]string{filepath.Dir(path)}, dirs...)
		}
	}
	best, newest := "", 0
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		words := strings.Fields(string(out)) // postgres (PostgreSQL) 15.18 (Debian …)
		if len(words) < 3 {
			continue
		}
		major, _, _ := strings.Cut(words[2], ".")
		if v, err := strconv.Atoi(strings.TrimRight(major, "abcdelprtv")); err == nil && v > newest {
			best, newest = dir, v
		}
	}
	if newest < oldest || runtime.GOOS == "windows" {
		return "", errNone
	}
	return best, nil
}

// unprivileged is how to run as a user that PostgreSQL accepts: it refuses to run as root.
func unprivileged() (attr *syscall.SysProcAttr, uid, gid int, err error) {
	// In a group of its own, so that an interrupt typed at the tests does not end the server before they are done with it.
	attr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() != 0 {
		return attr, os.Getuid(), os.Getgid(), nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.Atoi(u.Uid)
		gid, gerr := strconv.Atoi(u.Gid)
		if uerr == nil && gerr == nil {
			attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			return attr, uid, gid, nil
		}
	}
	return nil, 0, 0, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
}
