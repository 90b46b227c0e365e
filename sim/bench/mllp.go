package bench

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/acute"
	"tombolo/sim/cast"
)

// today is the day on which the workloads' people live: the same seed gives the same bytes on any day.
var today = time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)

const oneTrust = `
region: {id: bench, name: Bench}
organisations:
  - {ods: RX1, name: Severn Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
systems:
  - {id: rx1-pas, organisation: RX1, product: PAS, connector: hl7v2, listen: %q, release: all,
     gives: {demographics: push, gp-practice: push, personal-contacts: push, allergies: push, problems: push, procedures: push, encounters: push,
       appointments: push, results: push, imaging: push, documents: push}}
agreements:
  - {id: direct-care, parties: [RX1, M85001], purposes: [direct-care], headings: all, from: 2026-04-01}
users:
  - {id: dev, name: A Developer, role: gp, organisation: M85001}
`

// Messages are at least n messages of a trust's day: registrations, admissions, discharges and clinic attendances of as many people as it
// takes, in the order in which they happened to each, dealt out so that one person's stay on one connection.
func Messages(seed uint64, n, connections int) [][][]byte {
	out := make([][][]byte, connections)
	for have, size := 0, max(n/2, 16); have < n; size *= 2 {
		clear(out)
		have = 0
		people := cast.Generate(seed, size, today)
		for _, m := range acute.New(acute.Options{People: people, Now: func() time.Time { return today }}).Messages() {
			if have == n {
				break
			}
			h := fnv.New32a()
			_, _ = h.Write([]byte(m.Person))
			k := h.Sum32() % uint32(connections)
			out[k] = append(out[k], m.Bytes)
			have++
		}
	}
	return out
}

// A trust is a node with one feed, running.
type trust struct {
	*node.Node
	addr string // of the feed
	stop func() error
}

func startTrust(ctx context.Context, o Options, place node.Config) (t *trust, err error) {
	addr, release, err := sim.ReserveAddress()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	r, problems := region.Parse("bench.yaml", fmt.Appendf(nil, oneTrust, addr))
	for _, p := range problems {
		if p.Severity == region.Error {
			return nil, fmt.Errorf("the workload's region: %v", p)
		}
	}
	n, err := node.New(ctx, node.Config{Region: r, Folder: o.Dir, Data: place.Data, Store: place.Store, Feeds: true})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	n.Start(ctx)
	return &trust{n, addr, func() error { defer release(); cancel(); return n.Close() }}, nil
}

// mllp sends a trust's messages over several connections, on each the next when the last is acknowledged.
func mllp(ctx context.Context, o Options) (Result, error) {
	if o.Count <= 0 {
		o.Count = 30_000
	}
	o.Told("making %d messages", o.Count)
	warm := max(o.Count/10, o.Connections)
	queues := Messages(o.Seed, o.Count+warm, o.Connections)
	t, err := startTrust(ctx, o, node.Config{Data: filepath.Join(o.Dir, "data")})
	if err != nil {
		return Result{}, err
	}
	defer t.stop()
	for i, q := range queues { // the first tenth opens connections and fills caches
		n := min(len(q), warm/o.Connections+1)
		if _, err := send(ctx, t.addr, q[:n]); err != nil {
			return Result{}, err
		}
		queues[i] = q[n:]
	}
	o.Told("sending over %d connections", o.Connections)
	took := make([][]time.Duration, o.Connections)
	errs := make([]error, o.Connections)
	var wg sync.WaitGroup
	watch := start(o)
	for i, q := range queues {
		wg.Go(func() { took[i], errs[i] = send(ctx, t.addr, q) })
	}
	wg.Wait()
	var all []time.Duration
	for i := range took {
		all = append(all, took[i]...)
		if errs[i] != nil {
			return Result{}, errs[i]
		}
	}
	r := watch.result("messages", len(all), o.Connections, all)
	r.DiskBytes = diskUse(o.Dir)
	s := t.Intake.Stats()["rx1-pas"]
	r.More = map[string]float64{"accepted": float64(s.Accepted), "rejected": float64(s.Rejected), "duplicates": float64(s.Duplicates)}
	return r, nil
}

// send sends messages over one connection and takes the time of each.
func send(ctx context.Context, addr string, messages [][]byte) ([]time.Duration, error) {
	c := &hl7v2.Client{Addr: addr, Timeout: time.Minute}
	defer c.Close()
	took := make([]time.Duration, 0, len(messages))
	for _, m := range messages {
		began := time.Now()
		ack, err := c.Send(ctx, m)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		if !ack.Accepted() {
			return nil, fhir.Errorf(fhir.Processing, "a message of the workload was answered %s: %s %s", ack.Code, ack.Text, ack.Error)
		}
	}
	return took, nil
}

// importFiles takes the same messages from files.
func importFiles(ctx context.Context, o Options) (Result, error) {
	if o.Count <= 0 {
		o.Count = 30_000
	}
	folder := filepath.Join(o.Dir, "files")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return Result{}, err
	}
	var paths []string
	for i, q := range Messages(o.Seed, o.Count, 16) {
		path := filepath.Join(folder, fmt.Sprintf("%02d.hl7", i))
		var data []byte
		for _, m := range q {
			data = append(append(data, m...), '\r')
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return Result{}, err
		}
		paths = append(paths, path)
	}
	t, err := startTrust(ctx, o, node.Config{Data: filepath.Join(o.Dir, "data")})
	if err != nil {
		return Result{}, err
	}
	defer t.stop()
	files, _, err := node.Files(paths)
	if err != nil {
		return Result{}, err
	}
	o.Told("importing %d messages", o.Count)
	watch := start(o)
	rep, err := t.Import(ctx, "rx1-pas", files, func(int64) {})
	if err != nil {
		return Result{}, err
	}
	r := watch.result("messages", rep.Deliveries, 8, nil)
	r.DiskBytes = diskUse(filepath.Join(o.Dir, "data"))
	r.More = map[string]float64{"resources": float64(rep.Resources), "resources/s": float64(rep.Resources) / r.Seconds, "rejected": float64(rep.Rejected)}
	return r, nil
}
