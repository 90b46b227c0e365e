package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"tombolo/kv"
	"tombolo/kv/postgres/pgtest"
)

// One small record and its event, durably: what a live message costs. Commits that arrive together share a transaction.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			e := open(b, Options{URL: pgtest.URL(b)})
			defer func() { _ = e.Close() }()
			var n atomic.Int64
			value, event := make([]byte, 1100), make([]byte, 250)
			one := func() {
				i := n.Add(1)
				part := kv.Part(fmt.Sprint("p/", i%1000))
				k := kv.Key{Part: part, Key: fmt.Sprint("r/Observation/", i)}
				batch := kv.Batch{Expect: []kv.Precondition{{Key: k, Absent: true}}, Put: []kv.Entry{{Key: k, Value: value}}, Append: [][]byte{event}}
				for j := range 10 {
					batch.Put = append(batch.Put, kv.Entry{Key: kv.Key{Part: kv.Part(fmt.Sprint("x/Observation/", j)), Key: fmt.Sprint(rand.IntN(1e6), part, i)}})
				}
				if _, err := e.Commit(context.Background(), batch); err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
			if writers == 1 {
				for b.Loop() {
					one()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// The log alone, so that what its order costs can be seen: n nodes that append one record at a time, 32 writers in all, on the disk as it is and on
// one that takes 2 ms to sync, as many do.
func BenchmarkAppendNodes(b *testing.B) {
	for _, disk := range []struct {
		name     string
		settings []string
	}{{"as it is", nil}, {"sync of 2 ms", []string{"commit_delay=2000", "commit_siblings=0"}}} {
		server := pgtest.Start(b, disk.settings...)
		for _, nodes := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("disk=%s/nodes=%d", disk.name, nodes), func(b *testing.B) {
				url := server.Database(b)
				var engines []*Engine
				for range nodes {
					e := open(b, Options{URL: url})
					defer func() { _ = e.Close() }()
					engines = append(engines, e)
				}
				var n atomic.Int64
				b.SetParallelism(32 / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					e := engines[int(n.Add(1))%nodes]
					for pb.Next() {
						if _, err := e.Commit(context.Background(), kv.Batch{Append: [][]byte{make([]byte, 250)}}); err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

func BenchmarkMultiGet(b *testing.B) {
	for _, byPartition := range []bool{false, true} {
		b.Run(fmt.Sprintf("byPartition=%v", byPartition), func(b *testing.B) {
			e := open(b, Options{URL: pgtest.URL(b), ByPartition: byPartition})
			defer func() { _ = e.Close() }()
			var batch kv.Batch
			var keys []kv.Key
			for i := range 10_000 {
				k := kv.Key{Part: kv.Part(fmt.Sprintf("i/%02x", i%256)), Key: fmt.Sprint("Observation/", i)}
				batch.Put = append(batch.Put, kv.Entry{Key: k, Value: make([]byte, 100)})
				if i%20 == 0 {
					keys = append(keys, k)
				}
			}
			if _, err := e.Commit(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.MultiGet(context.Background(), keys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A record of a thousand entries among many.
func BenchmarkScan(b *testing.B) {
	e := open(b, Options{URL: pgtest.URL(b)})
	defer func() { _ = e.Close() }()
	fill(b, e, 20, 1000, 1300)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n := 0
		for _, err := range e.Scan(context.Background(), []kv.Range{{Part: kv.Part(fmt.Sprintf("p%03d", i%20))}}, 0) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}
