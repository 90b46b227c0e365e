package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"tombolo/kv"
)

func openOn(fs vfs.FS) (*Engine, error) {
	return Open(Options{Dir: "/region/data/store", CacheBytes: 8 << 20, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), fs: fs})
}

// rounds is how often something is done: few times, or in a soak (TOMBOLO_SOAK) many.
func rounds(few, many int) int {
	if s := os.Getenv("TOMBOLO_SOAK"); s == "" || s == "0" {
		return few
	}
	return many
}

// The power goes while many commit: what was acknowledged is there afterwards, each commit whole or not at all, whatever else of what was not synced
// has reached the disk.
func TestAcknowledgedSurvivesAPowerCut(t *testing.T) {
	ctx := context.Background()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewCrashableMem()
	acked := map[string]bool{}
	next := 0
	n := rounds(100, 5000)
	for round := range n {
		e, err := openOn(mem)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		var mu sync.Mutex
		var writers sync.WaitGroup
		stop, began := make(chan struct{}), make(chan struct{}, 1<<16)
		for w := range 3 {
			writers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					k := fmt.Sprintf("%06d/%d/%06d", next+round, w, i)
					var b kv.Batch
					for _, part := range []kv.Part{"a", "b"} { // both or none
						size := i % 700
						if i%100 == 50 {
							size = largeValue
						}
						b.Put = append(b.Put, kv.Entry{Key: kv.Key{Part: part, Key: k}, Value: []byte(strings.Repeat("x", size))})
					}
					b.Append = [][]byte{[]byte(k)}
					if _, err := e.Commit(ctx, b); err != nil {
						t.Errorf("Commit: %v", err)
						return
					}
					mu.Lock()
					acked[k] = true
					mu.Unlock()
					began <- struct{}{}
				}
			})
		}
		if round%2 == 0 { // old logs are emptied meanwhile
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					if err := e.emptyLogs(); err != nil {
						t.Errorf("empty logs: %v", err)
						return
					}
				}
			})
		}
		for range 1 + r.IntN(40) {
			<-began
		}
		mu.Lock()
		promised := make([]string, 0, len(acked))
		for k := range acked {
			promised = append(promised, k)
		}
		after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 2))})
		mu.Unlock()
		close(stop)
		writers.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		mem = after
		if acked = survivors(t, mem, promised); t.Failed() {
			t.Fatalf("round %d of %d", round, n)
		}
		if len(acked) > 2000 { // start afresh, or looking takes ever longer
			mem, acked = vfs.NewCrashableMem(), map[string]bool{}
			next += round
		}
	}
}

// The power goes while one writes lazily and others commit after having seen how far it is: what it wrote is lost from its end only, and never what
// an acknowledged commit rested on, also one that wrote nothing.
func TestLazyCommitsAreLostFromTheEnd(t *testing.T) {
	ctx := context.Background()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	lazyKey := func(n int) kv.Key { return kv.Key{Part: "lazy", Key: fmt.Sprintf("%06d", n)} }
	count := kv.Key{Part: "lazy count", Key: "n"}
	n := rounds(100, 5000)
	lost := 0
	for round := range n {
		mem := vfs.NewCrashableMem()
		e, err := openOn(mem)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var work sync.WaitGroup
		rested, wrote := 0, 0
		stop, began := make(chan struct{}), make(chan struct{}, 1<<16)
		until := func(do func(i int) error) {
			work.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := do(i); err != nil {
						t.Errorf("round %d: %v", round, err)
						return
					}
				}
			})
		}
		until(func(i int) error {
			_, err := e.Commit(ctx, kv.Batch{Lazy: true, Put: []kv.Entry{{Key: lazyKey(i)}, {Key: count, Value: fmt.Append(nil, i)}}})
			mu.Lock()
			wrote = i
			mu.Unlock()
			return err
		})
		for w := range 2 {
			until(func(i int) error {
				since := e.Moment()
				v, ok, err := e.Get(ctx, count)
				if err != nil || !ok {
					return err
				}
				b := kv.Batch{Expect: []kv.Precondition{{Key: count, Value: v}}, Since: since}
				if w == 0 {
					b = kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "seen", Key: fmt.Sprint(i)}, Value: v}}}
				}
				switch _, err = e.Commit(ctx, b); {
				case errors.Is(err, kv.ErrConflict):
					return nil
				case err != nil:
					return err
				}
				seen, _ := strconv.Atoi(string(v))
				mu.Lock()
				rested = max(rested, seen)
				mu.Unlock()
				began <- struct{}{}
				return nil
			})
		}
		for range 1 + r.IntN(20) {
			<-began
		}
		mu.Lock()
		must, all := rested, wrote
		after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 2))})
		mu.Unlock()
		close(stop)
		work.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		there := lazyThere(t, after)
		for i, k := range there {
			if k != lazyKey(i).Key {
				t.Fatalf("round %d: lazy commit %d is lost, and a later one is there", round, i)
			}
		}
		if len(there)-1 < must {
			t.Fatalf("round %d: lazy commits up to %d are there, and commit %d was rested on by one that was acknowledged", round, len(there)-1, must)
		}
		if len(there)-1 < all {
			lost++
		}
	}
	if lost == 0 {
		t.Error("no lazy commit was lost in any power cut: this has tested nothing")
	}
}

func lazyThere(t *testing.T, fs *vfs.MemFS) (keys []string) {
	t.Helper()
	e, err := openOn(fs)
	if err != nil {
		t.Fatalf("what a power cut left cannot be opened: %v", err)
	}
	defer func() { _ = e.Close() }()
	for en, err := range e.Scan(context.Background(), []kv.Range{{Part: "lazy"}}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, en.Key.Key)
	}
	return keys
}

// survivors are the keys that are there after a power cut. It fails the test if a promised one is not, if one is there by half, or if the log
// says otherwise.
func survivors(t *testing.T, fs *vfs.MemFS, promised []string) map[string]bool {
	t.Helper()
	ctx := context.Background()
	e, err := openOn(fs)
	if err != nil {
		t.Fatalf("what a power cut left cannot be opened: %v", err)
	}
	defer func() { _ = e.Close() }()
	there := map[kv.Part]map[string]bool{"a": {}, "b": {}, "log": {}}
	for en, err := range e.Scan(ctx, []kv.Range{{Part: "a"}, {Part: "b"}}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		there[en.Key.Part][en.Key.Key] = true
	}
	for rec, err := range e.Log(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		there["log"][string(rec.Value)] = true
	}
	for _, k := range promised {
		if !there["a"][k] || !there["b"][k] || !there["log"][k] {
			t.Errorf("%s was acknowledged and is lost", k)
		}
	}
	if len(there["a"]) != len(there["b"]) || len(there["a"]) != len(there["log"]) {
		t.Errorf("%d and %d keys and %d log records: a commit is there by half", len(there["a"]), len(there["b"]), len(there["log"]))
	}
	return there["a"]
}

// faultFrom tells a process of this test, which may end as a failing disk ends a node, at which call to begin.
const faultFrom = "TOMBOLO_TEST_FAULT_FROM"

// Each call to the disk that opening and closing make fails, one after the other. What comes of it is an error that names the store, or, where a write in the
// background failed, a process that ends and says so, or nothing at all; never a panic. And when the disk is sound again all is there.
func TestADiskThatFailsWhileOpening(t *testing.T) {
	if from := os.Getenv(faultFrom); from != "" {
		k, err := strconv.ParseInt(from, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		failEach(t, k)
		return
	}
	stopped, refused := 0, 0
	for k := int64(1); ; {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), faultFrom+"="+strconv.FormatInt(k, 10))
		out, err := c.CombinedOutput()
		text := string(out)
		refused += strings.Count(text, "refused: ")
		if err == nil {
			break
		}
		if strings.Contains(text, "panic") || strings.Contains(text, "--- FAIL") || !strings.Contains(text, "stopping, so that nothing is acknowledged") {
			t.Fatalf("from call %d on: %v\n%s", k, err, text)
		}
		stopped++
		last := text[strings.LastIndex(text, "call ")+len("call "):]
		number, _, _ := strings.Cut(last, " ")
		if k, err = strconv.ParseInt(number, 10, 64); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		k++
	}
	t.Logf("%d failing calls were an error, %d ended the process", refused, stopped)
	if refused < 10 {
		t.Error("too few failures mattered: this proves little")
	}
}

// failEach lets the calls from the kth on fail one by one, each on a disk of its own.
func failEach(t *testing.T, k int64) {
	left, want := crashed(t)
	for ; ; k++ {
		disk := left.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
		var calls atomic.Int64
		var failed atomic.Bool
		e, err := openOn(errorfs.Wrap(disk, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if calls.Add(1) != k {
				return nil
			}
			failed.Store(true)
			fmt.Printf("call %d is %v of %s\n", k, o.Kind, filepath.Base(o.Path))
			return syscall.EIO
		})))
		if err == nil {
			err = e.Close()
		} else {
			fmt.Println("refused:", err)
			if !strings.Contains(err.Error(), "/region/data/store") {
				t.Errorf("call %d: %q does not name the store", k, err)
			}
		}
		if !failed.Load() {
			return
		}
		_ = err // closing may fail on a failing disk
		e, err = openOn(disk)
		if err != nil {
			t.Fatalf("after call %d had failed: %v", k, err)
		}
		if tail, err := e.Tail(t.Context()); err != nil || int(tail) != want {
			t.Errorf("after call %d had failed: %d of %d commits, %v", k, tail, want, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// crashed is what a crash left of some commits: a table, and a log that must be read.
func crashed(t *testing.T) (left *vfs.MemFS, commits int) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	e, err := openOn(mem)
	if err != nil {
		t.Fatal(err)
	}
	for ; commits < 50; commits++ {
		if _, err := e.Commit(t.Context(), kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: strconv.Itoa(commits)}}}, Append: [][]byte{{1}}}); err != nil {
			t.Fatal(err)
		}
		if commits == 25 {
			if err := e.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	left = mem.CrashClone(vfs.CrashCloneCfg{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return left, commits
}
