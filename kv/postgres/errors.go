package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tombolo/kv"
)

// PostgreSQL's SQLSTATEs that mean something to us, and our own.
//
// PostgreSQL 15, appendix A
const (
	stateHold          = "TK001" // migrations: hold()
	stateSerialization = "40001"
	stateDeadlock      = "40P01"
	stateDiskFull      = "53100"
	stateTooMany       = "53300"
	stateStopping      = "57P01"
	stateCrashing      = "57P02"
	stateStarting      = "57P03"
	stateIO            = "58030"
	stateIdle          = "25P03"
	statePermission    = "42501"
	stateReadOnly      = "25006"
	stateNoDatabase    = "3D000"
	stateNobody        = "28000"
	statePassword      = "28P01"
	stateUnsafe        = "22P02" // turnSQL
)

func state(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// explain says how to mend what the server says. (A server's message names tables and settings; what it says in detail can hold keys, and
// is left out.)
func explain(err error) error {
	how := ""
	switch state(err) {
	case stateDiskFull:
		how = "the database's disk is full: make room, and work goes on by itself"
	case stateTooMany:
		how = "the server has no connections left: raise max_connections, or lower what this and other programs take"
	case stateStopping, stateCrashing, stateStarting:
		how = "the server is restarting: it is tried again"
	case stateIO:
		how = "the database's disk fails: look at the server's log and its machine"
	case stateIdle:
		how = "it lay untouched for too long: read in one go, or take a new snapshot"
	case statePermission:
		how = "grant the user CREATE on the database, or make the schema and its owner the user"
	case stateReadOnly:
		how = "the server takes no writes: give the address of the primary, or several hosts and target_session_attrs=read-write"
	case stateUnsafe:
		how = "the server would not keep what it acknowledges, so nothing is written to it: set fsync, full_page_writes and synchronous_commit on again " +
			"(postgresql.conf, ALTER SYSTEM, ALTER ROLE, ALTER DATABASE) and reload it, and work goes on by itself"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", how, err)
}

// again says whether an answer was lost with its connection, or the server was not there for a moment, so that a read may be repeated.
func again(err error) bool {
	switch state(err) {
	case stateStopping, stateCrashing, stateStarting, stateIO: // of a disk that goes away under a running server, or until another takes over
		return true
	case "":
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kv.ErrClosed)
	}
	return false
}

// How often a read is tried: over a new connection if the old one had died, and for two seconds while the server is on its way back.
const (
	readTries  = 4
	awaitTries = 9
)

// reading runs a read, and runs it again where that may help.
func reading(ctx context.Context, read func() error) error {
	for attempt := 1; ; attempt++ {
		err := read()
		if err == nil {
			return nil
		}
		tries := awaitTries
		if state(err) == "" {
			tries = readTries
		}
		if !again(err) {
			return fmt.Errorf("read: %w", explain(err))
		}
		if attempt >= tries || !pause(ctx, attempt) {
			return fmt.Errorf("read: %w: %w", kv.ErrUnavailable, explain(err))
		}
	}
}

// pause waits a little longer each time; false if ctx ended meanwhile.
func pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(time.Duration(attempt*attempt) * 10 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// failing are the indexes of the preconditions of which hold() says that they do not.
func failing(err error, of int) (out []int, ok bool) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != stateHold {
		return nil, false
	}
	for n := range strings.SplitSeq(pg.Detail, ",") {
		i, err := strconv.Atoi(n)
		if err != nil || i < 1 || i > of {
			return nil, false
		}
		out = append(out, i-1)
	}
	return out, len(out) > 0
}

// maxKey bounds a partition's name and a key together: PostgreSQL indexes no more than a third of a page.
const maxKey = 2600

func checkKey(k kv.Key) error {
	if n := len(k.Part) + len(k.Key); n > maxKey {
		return fmt.Errorf("kv: a partition's name and key of %d bytes are too long for PostgreSQL's index (%d at most)", n, maxKey)
	}
	return nil
}
