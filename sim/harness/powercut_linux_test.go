//go:build linux

package harness

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tombolo/kv/postgres/pgtest"
	"tombolo/sim/disk"
)

// A powered victim keeps what it is given on a disk that can lose its power.
type powered struct {
	*victim
	disk *disk.Disk
	at   string
	keep *disk.Disk // is copied again and again
}

// powerUp makes a victim whose store, or whose database's, lies on a disk of its own.
func powerUp(t *testing.T, engine string, o disk.Options) *powered {
	t.Helper()
	at, err := os.MkdirTemp("", "disk") // where the database's own user gets to, too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(at) })
	if err := os.Chmod(at, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &powered{disk: disk.New(o), at: at}
	p.mount(t)
	t.Cleanup(func() { p.disk.Unmount() })
	place, server := Place{Dir: filepath.Join(p.at, "data")}, (*pgtest.Server)(nil)
	if engine == "postgres" {
		folder := filepath.Join(p.at, "database")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		server = pgtest.StartAt(t, folder)
		place = Place{Dir: t.TempDir(), Store: server.Database(t)}
	}
	p.victim = newVictim(t, place, server)
	return p
}

func (p *powered) mount(t *testing.T) {
	t.Helper()
	if err := p.disk.Mount(p.at); err != nil {
		t.Skipf("SKIPPED: no power cut is simulated here: %v", err)
	}
}

// cutPower takes the power from everything at once, and gives it back.
func (p *powered) cutPower() {
	p.died["power"]++
	p.disk.Cut()
	p.off()
	p.on(p.disk.After(p.pieces()))
}

// pieces decides what of unsynced writes survives: in half of the cuts nothing, in the others what chance keeps.
func (p *powered) pieces() *rand.Rand {
	if p.r.IntN(2) == 0 {
		return nil
	}
	return p.r
}

// off ends whatever still runs on a disk without power.
func (p *powered) off() {
	if p.node != nil {
		p.node.Kill()
		p.node = nil
	}
	if p.server != nil {
		p.server.Kill(p.t)
	}
	p.disk.Unmount()
}

// on goes on with what a disk holds.
func (p *powered) on(d *disk.Disk) {
	p.t.Helper()
	if p.disk != d && p.disk != p.keep {
		p.disk.Discard()
	}
	p.disk = d
	p.mount(p.t)
	if p.server != nil {
		p.server.Restart(p.t)
	}
}

var bothEngines = []string{"embedded", "postgres"}

// Acknowledged means durable: also when the power goes, and with it all that the disk was not told to keep.
func TestNothingAcknowledgedIsLostInAPowerCut(t *testing.T) {
	for _, engine := range bothEngines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel() // much of it is waiting
			p, n := powerUp(t, engine, disk.Options{Strict: engine == "embedded"}), rounds(t, 15, 500)
			for round := range n {
				p.round(p.cutPower)
				if round%5 == 4 {
					p.look(false)
				}
				if t.Failed() {
					t.Fatalf("round %d of %d", round+1, n)
				}
			}
			p.look(true)
			t.Logf("%d power cuts: %d messages and %d transactions acknowledged", n, len(p.messages), len(p.bundles))
			if len(p.messages)+len(p.bundles) < n/2 {
				t.Errorf("too little was acknowledged in %d rounds: this proves little", n)
			}
		})
	}
}

// The power goes as the disk is asked to keep something: the kth time, for each k (a few in a short run) of a run of a given length.
func TestNothingAcknowledgedIsLostWhenThePowerGoesAtASync(t *testing.T) {
	each, soak := 4, rounds(t, 0, 1) > 0
	if soak {
		each = 100
	}
	for _, engine := range bothEngines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel() // much of it is waiting
			p := powerUp(t, engine, disk.Options{Strict: engine == "embedded"})
			base := p.base()
			died, began := 0, time.Now()
			for k, step := 1, 1; ; k += step {
				if tooLong(t, began, k-1, 100*each) {
					break
				}
				if !soak {
					step += 2 // 1, 4, 9, 16 …
				}
				if !p.cutAt(base, k, each) {
					t.Logf("the power went at %d different syncs of %d messages and %d transactions, which took fewer than %d", died, each, each, k)
					break
				}
				died++
				if t.Failed() {
					t.Fatalf("the power went at sync %d", k)
				}
			}
			if died < 4 {
				t.Errorf("the power went at %d syncs only: this proves little", died)
			}
		})
	}
}

// base is the disk as it is before a node has ever run.
func (p *powered) base() *disk.Disk {
	if p.server != nil {
		p.server.Stop(p.t)
	}
	p.disk.Unmount()
	p.keep = p.disk
	return p.disk
}

// cutAt runs a node on a fresh copy of the disk and cuts the power at the kth sync. It answers false if there were not so many.
func (p *powered) cutAt(base *disk.Disk, k, each int) bool {
	p.t.Helper()
	server := p.server
	*p.victim = *newVictim(p.t, p.victim.at, server)
	p.senders, p.writers = NewSenders(1), NewWriters(1)
	p.on(base.After(nil))
	p.disk.SetSync(func(n int) disk.Fault { return disk.Fault{Cut: n == k} })
	node, err := startUnless(p.disk.Gone(), p.victim.at)
	if died := new(DiedError); err != nil && !errors.As(err, &died) {
		p.t.Fatal(err)
	}
	if err == nil {
		p.node = node
		ctx, stop := context.WithCancel(p.t.Context())
		go func() {
			select {
			case <-p.disk.Gone():
				node.Kill()
			case <-ctx.Done():
			}
		}()
		p.send(ctx, each)
		stop()
	}
	p.take()
	select {
	case <-p.disk.Gone():
	default:
		p.off()
		return false
	}
	p.off()
	p.on(p.disk.After(p.pieces()))
	p.look(true)
	p.node = p.start() // and it goes on as if nothing had been
	p.send(p.t.Context(), 2)
	p.take()
	if p.senders.Waiting(0) || p.writers.Waiting(0) {
		p.t.Errorf("after the power went at sync %d the node does not go on", k)
	}
	p.look(true)
	p.off()
	return true
}

// send sends some messages and transactions.
func (v *victim) send(ctx context.Context, each int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.senders.Run(ctx, v.node.Addr, each)
	}()
	v.writers.Run(ctx, v.node.URL, each)
	<-done
}

// A disk that says that it could not keep something has not, and will not. What runs on it may end, and is then started again; nothing is acknowledged
// that a power cut afterwards takes away.
func TestNothingIsAcknowledgedThatADiskFailedToSync(t *testing.T) {
	for _, engine := range bothEngines {
		for _, fault := range []struct {
			name string
			at   func(n int) bool
		}{
			{"once", func(n int) bool { return n == 12 }},
			{"from then on", func(n int) bool { return n >= 20 }},
			{"now and then", func(n int) bool { return n%17 == 0 }},
		} {
			t.Run(engine+"/"+fault.name, func(t *testing.T) {
				t.Parallel() // much of it is waiting
				p := powerUp(t, engine, disk.Options{})
				p.round(func() { time.Sleep(100 * time.Millisecond) }) // all is well
				p.disk.SetSync(func(n int) disk.Fault {
					if fault.at(n) {
						return disk.Fault{Err: syscall.EIO}
					}
					return disk.Fault{}
				})
				p.troubled(2 * time.Second)
				failed := p.disk.Failed()
				p.disk.SetSync(nil)
				p.cutPower()
				p.look(true)
				p.comesBack()
				t.Logf("%d syncs failed", failed)
				if failed == 0 {
					t.Error("no sync failed: this proves nothing")
				}
				if engine == "embedded" && p.died["node"] == 0 {
					t.Error("the node went on, not knowing what the disk holds")
				}
			})
		}
	}
}

// troubled sends for a time while the disk misbehaves, and starts the node and the database again where they end.
func (p *powered) troubled(d time.Duration) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.t.Context(), d)
	defer stop()
	for ctx.Err() == nil {
		if p.node == nil {
			node, err := StartProcess(p.victim.at)
			if died := new(DiedError); errors.As(err, &died) {
				time.Sleep(20 * time.Millisecond)
				continue
			} else if err != nil {
				p.t.Fatal(err)
			}
			p.node = node
		}
		p.send(ctx, 3)
		p.take()
		if ended, _ := p.node.Ended(); ended {
			p.died["node"]++
			p.node = nil
		}
		if p.server != nil && p.server.Ended() {
			p.died["server"]++
			p.server.Restart(p.t)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// comesBack holds to that all goes on, by itself once its processes run, and says how long that took.
func (p *powered) comesBack() {
	p.t.Helper()
	if p.node == nil {
		p.node = p.start()
	}
	began, before := time.Now(), len(p.messages)
	for p.senders.Waiting(0) || p.writers.Waiting(0) || len(p.messages) == before {
		p.send(p.t.Context(), 1)
		p.take()
		if time.Since(began) > time.Minute {
			_, said := p.node.Ended()
			p.t.Fatalf("a minute after the disk was mended nothing is taken: %s", said)
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.t.Logf("ended meanwhile: %v; taken again after %v; acknowledged in all: %d messages, %d transactions", p.died, time.Since(began).Round(time.Millisecond), len(p.messages), len(p.bundles))
	p.look(true)
}

// A sync that takes five seconds holds acknowledgements up and breaks nothing.
func TestASyncOfFiveSecondsHoldsUpAcknowledgementsOnly(t *testing.T) {
	slow := 2 * time.Second
	if rounds(t, 0, 1) > 0 {
		slow = 5 * time.Second
	}
	for _, engine := range bothEngines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel() // it is all waiting
			p := powerUp(t, engine, disk.Options{})
			p.node = p.start()
			p.disk.SetSync(func(n int) disk.Fault {
				if n == 7 {
					return disk.Fault{Delay: slow}
				}
				return disk.Fault{}
			})
			began := time.Now()
			p.send(t.Context(), 10)
			p.take()
			if took := time.Since(began); len(p.messages) != 20 || len(p.bundles) != 40 || took < slow {
				t.Errorf("%d of 20 messages and %d of 40 transactions were acknowledged in %v", len(p.messages), len(p.bundles), took)
			}
			p.cutPower()
			p.look(true)
		})
	}
}

// A disk that is full: nothing is acknowledged that is not kept, and work goes on by itself when there is room.
func TestAFullDiskIsWaitedFor(t *testing.T) {
	for _, engine := range bothEngines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel() // much of it is waiting
			p := powerUp(t, engine, disk.Options{})
			p.round(func() { time.Sleep(100 * time.Millisecond) })
			room := int64(64 << 10) // a few pages: a database makes much of little room
			if engine == "embedded" {
				room = 100 << 20 // less than the store's reserve
			}
			p.disk.SetSize(p.disk.Used() + room)
			time.Sleep(300 * time.Millisecond) // how full a disk is, is looked at four times a second
			p.troubled(3 * time.Second)
			if !p.senders.Waiting(0) || !p.writers.Waiting(0) {
				t.Error("the disk is full and all is taken: this proves nothing")
			}
			p.disk.SetSize(4 << 30)
			p.comesBack()
			if engine == "embedded" && p.died["node"] > 0 {
				t.Error("the node ended, though it had its reserve left")
			}
			p.cutPower()
			p.look(true)
		})
	}
}
