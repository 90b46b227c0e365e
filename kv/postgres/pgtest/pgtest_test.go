package pgtest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A child of a killed server that does not notice holds the shared memory for as long as it lives, and PostgreSQL does not start over it. Stopped, it never notices.
func TestAServerRestartsOverAnOrphan(t *testing.T) {
	ctx, s := context.Background(), Start(t)
	url := s.Database(t)
	s.Exec(t, url, "create table kept (it int)")
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	var orphan int
	if err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&orphan); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(orphan, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.stop(t, "KILL\n") // and not Kill, which leaves none
	began := time.Now()
	s.Restart(t)
	t.Logf("restarted after %v", time.Since(began))
	s.Exec(t, url, "insert into kept values (1)")
	if err := conn.Ping(ctx); err == nil {
		t.Error("the connection to the server before still answers: no orphan was there")
	}
	// What serves now is left alone.
	s.Stop(t)
	if left := s.orphans(); len(left) > 0 {
		t.Errorf("processes %v work in the data's folder after the server was stopped", left)
	}
	s.Restart(t)
	s.Kill(t)
	if left := s.orphans(); len(left) > 0 {
		t.Errorf("processes %v work in the data's folder after a power cut", left)
	}
}

// A server that did not stop in time was ended, and its files are not in order: they are brought in order first.
func TestChecksumsAreDroppedOfAServerThatWasEnded(t *testing.T) {
	s := Start(t)
	url := s.Database(t)
	s.Exec(t, url, "create table kept (it int)")
	s.Kill(t)
	s.DropChecksums(t)
	s.Restart(t)
	s.Exec(t, url, "insert into kept values (1)")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var kept string
	if err := conn.QueryRow(t.Context(), "show data_checksums").Scan(&kept); err != nil || kept != "off" {
		t.Errorf("checksums are %q, %v", kept, err)
	}
}
