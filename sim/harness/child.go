// Package harness kills a running node, again and again, and then looks whether everything that it acknowledged is there.
//
// The node is a process of its own, so that it can be killed as kill -9 and a power cut's first half kill: without a word. Senders of HL7 v2 messages and
// of FHIR Bundles keep, as real ones do, what was not acknowledged, to send it again. What was acknowledged must be stored whole, found by its
// identifiers, and be there once; what was not, is there whole or not at all. On both engines, and on PostgreSQL the server is killed too.
package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tombolo/node"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/lookout"
)

// Source is the system that the senders are.
const Source = "rx1-pas"

const oneTrust = `
region: {id: harness, name: Harness}
organisations:
  - {ods: RX1, name: Severn Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
systems:
  - {id: rx1-pas, organisation: RX1, product: PAS, connector: hl7v2, listen: %q, release: all, gives: {demographics: push, encounters: push, documents: push}}
  - {id: m85001-gp, organisation: M85001, product: GP, connector: api, release: all, gives: {demographics: push, results: push}}
%sagreements:
  - {id: direct-care, parties: [RX1, M85001], purposes: [direct-care], headings: all, from: 2026-04-01}
users:
  - {id: gp-system, name: GP system, role: system, organisation: M85001, system: m85001-gp}
`

// otherDoors are systems that send documents and extracts.
const otherDoors = `  - {id: c1-letters, organisation: RX1, product: Letters, connector: document, listen: %q, release: all, gives: {documents: push}}
  - {id: c2-clinic, organisation: RX1, product: Clinic, connector: extract, listen: %q, drop: %q, mapping: "builtin:community", release: all, gives: {demographics: push, encounters: push}}
`

// A Place is where a node keeps what it is given: a folder, and for all but a store that is embedded in it, a database.
type Place struct {
	Dir   string
	Store string // postgres://…; "" for the embedded store
	// Documents and Uploads are where the node listens for those, if they are given: both or neither.
	Documents, Uploads string
}

// The child is told by the environment where its data lies and where to listen.
const (
	envDir   = "TOMBOLO_HARNESS_DIR"
	envStore = "TOMBOLO_HARNESS_STORE"
	envAddr  = "TOMBOLO_HARNESS_ADDR"
	envDoors = "TOMBOLO_HARNESS_DOORS" // of documents and of uploads, with a comma between them
	// envImport names a file: the child imports it and ends.
	envImport = "TOMBOLO_HARNESS_IMPORT"
)

// Child runs a node if this process was started as one, and never returns then. A test's TestMain calls it first.
func Child() {
	dir := os.Getenv(envDir)
	if dir == "" {
		return
	}
	ctx := context.Background()
	if file := os.Getenv(envImport); file != "" {
		if err := importFile(ctx, dir, file); err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	documents, uploads, _ := strings.Cut(os.Getenv(envDoors), ",")
	n, err := open(ctx, Place{dir, os.Getenv(envStore), documents, uploads}, os.Getenv(envAddr))
	if err == nil {
		err = serve(ctx, n)
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when whoever started this process has gone, or lets go of it
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "harness: the node did not start:", err)
	os.Exit(1)
}

// importFile takes a file in as the PAS's.
func importFile(ctx context.Context, dir, file string) error {
	n, err := open(ctx, Place{Dir: dir}, nowhere)
	if err != nil {
		return err
	}
	n.Start(ctx)
	files, _, err := node.Files([]string{file})
	if err != nil {
		return err
	}
	report, err := n.Import(ctx, Source, files, func(int64) {})
	fmt.Println(report)
	err = errors.Join(err, n.Close())
	// What the system says of this process's memory, at its end. (Its resource usage would count what started it, too.)
	if status, no := os.ReadFile("/proc/self/status"); no == nil {
		_, _ = os.Stdout.Write(status)
	}
	return err
}

// serve starts the node, and says where its FHIR API is.
func serve(ctx context.Context, n *node.Node) error {
	go func() {
		if err := n.Run(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "harness: the node stopped:", err)
			os.Exit(1)
		}
	}()
	fmt.Printf("ready http://%s/fhir\n", n.Addr())
	return nil
}

func open(ctx context.Context, at Place, addr string) (*node.Node, error) {
	doors := ""
	if at.Documents != "" {
		doors = fmt.Sprintf(otherDoors, at.Documents, at.Uploads, filepath.Join(at.Dir, "drop"))
	}
	r, problems := region.Parse("harness.yaml", fmt.Appendf(nil, oneTrust, addr, doors))
	for _, p := range problems {
		if p.Severity == region.Error {
			return nil, errors.New(p.String())
		}
	}
	var log *slog.Logger
	if os.Getenv(envDir) != "" { // the lookout of whoever started this process reads it
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return node.New(ctx, node.Config{Region: r, Folder: at.Dir, Data: at.Dir, Store: at.Store, Feeds: addr != nowhere, Listen: "127.0.0.1:0", Dev: "gp-system", Logger: log})
}

// nowhere is the feed's address in a node that only looks at what is stored.
const nowhere = "127.0.0.1:0"

// A Process is a node in a process of its own.
type Process struct {
	Addr string // of its MLLP listener
	URL  string // of its FHIR API
	cmd  *exec.Cmd
	in   io.Closer
	done chan error
	said strings.Builder // to be read when done
}

// StartProcess starts this very program, which calls Child first, as a node, under a wrapper such as strace if one is given, and waits until it listens.
func StartProcess(at Place, wrap ...string) (*Process, error) { return startUnless(nil, at, wrap...) }

// startUnless is StartProcess on a machine that may go off meanwhile: it then ends what it started, and gives a DiedError.
func startUnless(gone <-chan struct{}, at Place, wrap ...string) (*Process, error) {
	addr, release, err := sim.ReserveAddress()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		release()
		return nil, err
	}
	line := append(wrap, program)
	p := &Process{Addr: addr, cmd: exec.Command(line[0], line[1:]...), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), envDir+"="+at.Dir, envStore+"="+at.Store, envAddr+"="+addr, envDoors+"="+at.Documents+","+at.Uploads)
	p.cmd.Stderr = lookout.Said(&p.said)
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err != nil {
		release()
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		release()
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		ready <- line
		err := p.cmd.Wait()
		release()
		p.done <- err
	}()
	select {
	case line := <-ready:
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready "); ok {
			p.URL = url
			return p, nil
		}
		return nil, &DiedError{<-p.done, p.said.String()}
	case <-time.After(startTime):
		p.dump()
		p.Kill()
		return nil, fmt.Errorf("the node did not start within %v: %s", startTime, p.said.String())
	case <-gone:
		p.Kill()
		return nil, &DiedError{errors.New("its machine is off"), p.said.String()}
	}
}

// startTime is how long a node may take to start.
const startTime = time.Minute

// dump has the process say what each of its goroutines does, and end.
func (p *Process) dump() {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(5 * time.Second):
	}
}

// A DiedError says that a node ended before it was ready.
type DiedError struct {
	Err  error
	Said string
}

func (e *DiedError) Error() string {
	return fmt.Sprintf("the node ended before it was ready: %v: %s", e.Err, e.Said)
}

// Kill ends the process as kill -9 does, and returns when it is gone, and what it wrapped with it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.in.Close()
	p.Wait()
}

// Wait returns when the process has ended by itself, or was killed from elsewhere.
func (p *Process) Wait() {
	err := <-p.done
	p.done <- err
}

// Ended reports whether the process has ended, and what it last said.
func (p *Process) Ended() (ended bool, said string) {
	select {
	case err := <-p.done:
		p.done <- err
		return true, p.said.String()
	default:
		return false, ""
	}
}

// storeDir is where a node keeps its store.
func storeDir(dir string) string { return filepath.Join(dir, "store") }
