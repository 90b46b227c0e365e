package harness

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/sim"
)

// inside runs a node in this process, and stops it when the function that it returns is called.
func inside(t testing.TB, at Place) (addr string, stop func()) {
	t.Helper()
	addr, release, err := sim.ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	n, err := open(context.Background(), at, addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Start(ctx)
	stop = sync.OnceFunc(func() {
		cancel()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return addr, stop
}

// Design law 7: once only. Each message comes one to five times, over two connections at once, in any order.
func TestWhatComesAgainIsTakenOnce(t *testing.T) {
	dir := Place{Dir: t.TempDir()}
	addr, stop := inside(t, dir)
	r := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	var all []Message
	var lines [2][]Message
	for n := range rounds(t, 150, 20_000) {
		m := NewMessage(0, n)
		all = append(all, m)
		for range 1 + r.IntN(5) {
			k := r.IntN(2)
			at := len(lines[k]) - r.IntN(min(len(lines[k]), 6)+1) // not far from its first
			lines[k] = append(lines[k][:at], append([]Message{m}, lines[k][at:]...)...)
		}
	}
	var mu sync.Mutex
	answers := map[string][]byte{}
	var wg sync.WaitGroup
	for _, line := range lines {
		wg.Go(func() {
			c := &hl7v2.Client{Addr: addr}
			defer c.Close()
			for _, m := range line {
				ack, err := c.Send(t.Context(), m.Bytes)
				if err != nil || !ack.Accepted() {
					t.Errorf("%s: answered %s (%v)", m.Control, ack.Code, err)
					continue
				}
				mu.Lock()
				if first, again := answers[m.Control]; again && !bytes.Equal(first, ack.Raw) {
					t.Errorf("%s: its repeat was answered otherwise than it was", m.Control)
				}
				answers[m.Control] = ack.Raw
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	stop()
	allThere(t, dir, all)
	once(t, dir)
}

// Memory does not grow with the number of messages: ten million in a soak. The figures are compared with each other, a quarter of the way and at the end.
func TestMemoryStaysFlat(t *testing.T) {
	const connections, step = 8, 40_000
	n := rounds(t, 8_000, 10_000_000)
	if os.Getenv("TOMBOLO_SOAK") == "" && testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 30)) // of which the store keeps an eighth of what it reads: full early on
	addr, _ := inside(t, Place{Dir: t.TempDir()})
	senders := NewSenders(connections)
	began, sent, took := time.Now(), 0, sim.ProcessorTime()
	send := func(n int) (heap, resident int64) {
		for done := 0; done+connections <= n; { // in steps, so that what the senders remember is not what is measured
			acked, err := sendAll(t, senders, addr, connections, min(step, n-done)/connections)
			if err != nil {
				t.Fatal(err)
			}
			before := sent / (25 * step)
			done, sent = done+acked, sent+acked
			if sent/(25*step) > before {
				t.Logf("%d messages after %s, resident %.0f MiB", sent, time.Since(began).Round(time.Second), mib(residentBytes()))
			}
		}
		debug.FreeOSMemory() // collects, and gives back what is free: what is resident then is in use
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc), residentBytes()
	}
	heap0, rss0 := send(n / 4)
	first := (sim.ProcessorTime() - took) / time.Duration(max(sent, 1))
	took, sent0 := sim.ProcessorTime(), sent
	heap1, rss1 := send(n - n/4)
	t.Logf("processor a message, sending it included: %s in the first quarter, then %s", first, (sim.ProcessorTime()-took)/time.Duration(max(sent-sent0, 1)))
	t.Logf("heap %.1f MiB, then %.1f; resident %.0f MiB, then %.0f", mib(heap0), mib(heap1), mib(rss0), mib(rss1))
	// The store's own buffers and caches, of a fixed size, may fill meanwhile: what is left is far less than the messages would take if they stayed. The
	// soak sends ten million against the same bounds.
	if heap1-heap0 > 192<<20 {
		t.Errorf("the heap grew by %.1f MiB over %d messages", mib(heap1-heap0), n-n/4)
	}
	if rss0 > 0 && rss1-rss0 > 384<<20 {
		t.Errorf("resident memory grew by %.0f MiB over %d messages", mib(rss1-rss0), n-n/4)
	}
}

// sendAll has each sender send some messages, and gives how many were acknowledged in all: no fewer. On a machine that is busy with something else an answer
// may come too late, and a sender ends there; it is sent again, as long as any get through.
func sendAll(t *testing.T, senders *Senders, addr string, connections, each int) (acked int, err error) {
	for nothing := 0; acked < each*connections; {
		senders.Run(t.Context(), addr, (each*connections-acked+connections-1)/connections)
		took, err := senders.Take()
		if err != nil {
			return acked, err
		}
		if acked += len(took); len(took) > 0 {
			nothing = 0
		} else if nothing++; nothing == 30 {
			return acked, fmt.Errorf("%d of %d were acknowledged, and then none in 30 tries", acked, each*connections)
		}
	}
	return acked, nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// residentBytes is this process's resident memory now; 0 where that cannot be told.
func residentBytes() int64 {
	data, _ := os.ReadFile("/proc/self/statm")
	if f := strings.Fields(string(data)); len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
