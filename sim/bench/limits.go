package bench

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tombolo/fhir"
)

// limits measures what this machine can do at the most of the things of which the workloads are made, in the same minutes: one synced write, the
// checksum, the parser, a copy in memory. docs/performance.md works the physical limit of each figure out of them.
func (b *storeBench) limits(ctx context.Context) error {
	b.o.Told("what the machine can do")
	more := map[string]float64{}
	f, err := os.Create(filepath.Join(b.o.Dir, "limits"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	var syncs []time.Duration
	for range 300 {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		syncs = append(syncs, time.Since(began))
	}
	slices.Sort(syncs)
	more["one synced write of 4 kB, ms at the median"] = float64(syncs[len(syncs)/2].Microseconds()) / 1000
	var record [][]byte
	size := 0
	for _, g := range b.crowd.person(0) {
		record, size = append(record, g.raw), size+len(g.raw)
	}
	rate := func(name string, one func()) {
		n := 0
		began := time.Now()
		for time.Since(began) < 300*time.Millisecond && ctx.Err() == nil {
			one()
			n++
		}
		more[name] = float64(n*size) / 1e6 / time.Since(began).Seconds()
	}
	rate("SHA-256, MB/s a core", func() {
		for _, r := range record {
			_ = sha256.Sum256(r)
		}
	})
	var failed error
	rate("strict parse, MB/s a core", func() {
		for _, r := range record {
			if _, err := fhir.Parse(r); err != nil {
				failed = err
			}
		}
	})
	to := make([]byte, 1<<20)
	rate("copy, MB/s a core", func() {
		for _, r := range record {
			copy(to, r)
		}
	})
	b.emit(Result{Workload: "limits", What: "what the machine can do at the most", Count: 1, More: more})
	return failed
}
