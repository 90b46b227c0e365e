package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A memory is a log and a cursor store that can be told to fail.
type memory struct {
	mu      sync.Mutex
	n       Seq
	grown   chan struct{}
	cursors map[string]Seq
	saves   []Seq
	readErr error
	saveErr error
	loadErr error
}

func newMemory() *memory { return &memory{grown: make(chan struct{}), cursors: map[string]Seq{}} }

func (m *memory) add(n int) Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n += Seq(n)
	close(m.grown)
	m.grown = make(chan struct{})
	return m.n
}

func (m *memory) set(read, save, load error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readErr, m.saveErr, m.loadErr = read, save, load
}

func (m *memory) Since(_ context.Context, after Seq) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		m.mu.Lock()
		end, err := m.n, m.readErr
		m.mu.Unlock()
		if err != nil {
			yield(Event{}, err)
			return
		}
		for s := after + 1; s <= end; s++ {
			if !yield(Event{Seq: s}, nil) {
				return
			}
		}
	}
}

func (m *memory) Changed(after Seq) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n > after {
		ch := make(chan struct{})
		close(ch)
		return ch
	}
	return m.grown
}

func (m *memory) Tail(context.Context) (Seq, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n, nil
}

func (m *memory) LoadCursor(_ context.Context, name string) (Seq, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursors[name], m.loadErr
}

func (m *memory) SaveCursor(_ context.Context, name string, seq Seq) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saveErr == nil {
		m.cursors[name] = seq
		m.saves = append(m.saves, seq)
	}
	return m.saveErr
}

func (m *memory) cursor(name string) Seq {
	s, _ := m.LoadCursor(context.Background(), name)
	return s
}

// A diary notes what was handled.
type diary struct {
	mu   sync.Mutex
	seen []Seq
	bad  map[Seq]error
}

func (d *diary) handle(_ context.Context, e Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.bad[e.Seq]; err != nil {
		return err
	}
	d.seen = append(d.seen, e.Seq)
	return nil
}

func (d *diary) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad = nil
}

func (d *diary) read() []Seq {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.seen)
}

func upTo(n Seq) (out []Seq) {
	for s := Seq(1); s <= n; s++ {
		out = append(out, s)
	}
	return out
}

func start(t *testing.T, f *Follower) (stop func()) {
	t.Helper()
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want ctx's error", err)
		}
	}
}

func TestFollowerReadsInOrderAndGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMemory(), &diary{}
		m.add(5)
		f := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle, BatchSize: 3}
		stop := start(t, f)
		synctest.Wait()
		m.add(1)
		synctest.Wait()
		if err := f.Await(t.Context(), 6); err != nil {
			t.Error(err)
		}
		stop()
		if got := d.read(); !slices.Equal(got, upTo(6)) || m.cursor("n") != 6 {
			t.Errorf("handled %v, cursor %d; want 1 to 6", got, m.cursor("n"))
		}
		m.add(2)
		again := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle}
		stop = start(t, again)
		synctest.Wait()
		if s := again.Status(); s.Handled != 8 || s.Err != nil {
			t.Errorf("status %+v", s)
		}
		stop()
		if got := d.read(); !slices.Equal(got, upTo(8)) {
			t.Errorf("after starting again: %v, want 1 to 8, none twice", got)
		}
	})
}

func TestFollowerNeverSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMemory(), &diary{bad: map[Seq]error{3: errors.New("disk on fire")}}
		f := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle, MaxPause: 10 * time.Second}
		stop := start(t, f)
		m.add(5)
		time.Sleep(time.Hour)
		s := f.Status()
		if s.Handled != 2 || s.Err == nil || !strings.Contains(s.Err.Error(), "event 3: disk on fire") || s.Tries < 300 || s.Tries > 400 {
			t.Errorf("after an hour: %+v; want 2 handled, stuck on event 3, tried about every 10 s", s)
		}
		if time.Since(s.Since) < 59*time.Minute {
			t.Errorf("stuck since %v, want about an hour", time.Since(s.Since))
		}
		if m.cursor("n") != 2 {
			t.Errorf("cursor %d, want 2: what was done before the bad event is kept", m.cursor("n"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := f.Await(ctx, 4)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "disk on fire") || time.Since(began) != time.Second {
			t.Errorf("Await gave %v after %v; want the deadline kept, and why it is stuck", err, time.Since(began))
		}
		d.mend()
		if err := f.Await(t.Context(), 5); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s := f.Status(); s.Handled != 5 || s.Err != nil || s.Tries != 0 {
			t.Errorf("after mending: %+v", s)
		}
		stop()
		if got := d.read(); !slices.Equal(got, upTo(5)) {
			t.Errorf("handled %v, want 1 to 5", got)
		}
	})
}

func TestFollowerOutlivesItsLogAndCursorStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMemory(), &diary{}
		broken := errors.New("no route to host")
		m.set(broken, broken, broken)
		f := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle}
		stop := start(t, f)
		m.add(3)
		time.Sleep(time.Minute)
		if s := f.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "load the cursor") {
			t.Errorf("no cursor: %+v", s)
		}
		m.set(broken, broken, nil)
		time.Sleep(time.Minute)
		if s := f.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "read the log") {
			t.Errorf("no log: %+v", s)
		}
		m.set(nil, broken, nil)
		time.Sleep(time.Minute)
		if s := f.Status(); s.Handled != 3 {
			t.Errorf("no saving: %+v; what was handled is handled", s)
		}
		m.set(nil, nil, nil)
		m.add(1)
		time.Sleep(time.Minute)
		stop()
		if got := d.read(); !slices.Equal(got, upTo(4)) || m.cursor("n") != 4 {
			t.Errorf("handled %v, cursor %d; want 1 to 4", got, m.cursor("n"))
		}
	})
}

// After a night of a full disk, or of a database that was away, a follower goes on within a second or two of its being mended, and has not
// filled the operator's log meanwhile.
func TestFollowerGoesOnSoonAfterALongFailure(t *testing.T) {
	for name, fail := range map[string][3]error{"the log": {errors.New("no database"), nil, nil}, "its cursor": {nil, errors.New("disk full"), nil}, "its start": {nil, nil, errors.New("no database")}} {
		synctest.Test(t, func(t *testing.T) {
			m, d := newMemory(), &diary{}
			var told strings.Builder
			f := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle, Logger: slog.New(slog.NewTextHandler(&told, nil))}
			m.set(fail[0], fail[1], fail[2])
			stop := start(t, f)
			m.add(2)
			time.Sleep(8 * time.Hour)
			m.set(nil, nil, nil)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s := f.Status(); s.Err != nil || s.Handled != 2 || m.cursor("n") != 2 {
				t.Errorf("%s: two seconds after it was mended: %+v, cursor %d", name, s, m.cursor("n"))
			}
			stop()
			if n := strings.Count(told.String(), "will try again"); n < 900 || n > 1000 {
				t.Errorf("%s: the operator was told %d times in eight hours, want about twice a minute", name, n)
			}
		})
	}
}

// A cursor that could not be saved is saved as soon as it can be, also if nothing more happens.
func TestFollowerSavesItsCursorLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMemory(), &diary{}
		m.set(nil, errors.New("full"), nil)
		f := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle}
		stop := start(t, f)
		m.add(2)
		time.Sleep(time.Minute)
		if s := f.Status(); s.Handled != 2 || s.Err == nil {
			t.Errorf("while saving fails: %+v; want it to be told", s)
		}
		m.set(nil, nil, nil)
		time.Sleep(time.Minute)
		if s := f.Status(); m.cursor("n") != 2 || s.Err != nil {
			t.Errorf("cursor %d, %+v; want it saved at 2", m.cursor("n"), s)
		}
		stop()
	})
}

func TestFollowerHandsOverBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.add(10)
		var batches []string
		bad := true
		f := &Follower{Name: "n", Log: m, Cursors: m, BatchSize: 4, HandleBatch: func(_ context.Context, b []Event) (bool, error) {
			for _, e := range b {
				if e.Seq == 7 && bad {
					bad = false
					return false, &HandleError{Seq: 7, Err: errors.New("not now")}
				}
			}
			batches = append(batches, fmt.Sprintf("%d-%d", b[0].Seq, b[len(b)-1].Seq))
			return b[0].Seq == 1, nil // the first batch saves its own cursor
		}}
		stop := start(t, f)
		if err := f.Await(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if want := []string{"1-4", "5-6", "7-10"}; !slices.Equal(batches, want) {
			t.Errorf("batches %v, want %v: those before a bad event go first", batches, want)
		}
		if want := []Seq{6, 10}; !slices.Equal(m.saves, want) {
			t.Errorf("cursor saved at %v, want %v", m.saves, want)
		}
	})
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMemory(), &diary{}
		f := &Follower{Name: "n", Log: m, Cursors: m, Handle: d.handle}
		if err := f.Await(t.Context(), 0); err != nil {
			t.Errorf("nothing to await: %v", err)
		}
		var wg sync.WaitGroup
		for s := range Seq(5) {
			wg.Go(func() {
				if err := f.Await(t.Context(), s+1); err != nil {
					t.Error(err)
				}
				if got := f.Status().Handled; got <= s {
					t.Errorf("Await(%d) returned when %d had been handled", s+1, got)
				}
			})
		}
		synctest.Wait() // they wait although nobody runs yet
		stop := start(t, f)
		for range 5 {
			m.add(1)
		}
		wg.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Await(ctx, 6); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("awaiting what does not come: %v", err)
		}
		stop()
		if n := len(f.waiting); n != 0 {
			t.Errorf("%d waiters left behind", n)
		}
	})
}
