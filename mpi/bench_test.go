package mpi_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/mpi/match"
	"tombolo/store"
)

// Who is somebody, out of a hundred thousand people, by what is said of them.
func BenchmarkMatch(b *testing.B) {
	d, asked := hundredThousand(b)
	var next, found atomic.Int64
	b.ReportAllocs()
	b.ResetTimer() // the first run makes the people
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := d.Match(context.Background(), asked[int(next.Add(1))%len(asked)], 5, nil)
			if err != nil {
				b.Error(err)
				return
			}
			if len(c) > 0 {
				found.Add(1)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "matches/s")
	b.ReportMetric(float64(found.Load())/float64(b.N), "found")
}

var hundredThousand = func() func(b *testing.B) (*desk, []match.Description) {
	var once sync.Once
	var d *desk
	var asked []match.Description
	return func(b *testing.B) (*desk, []match.Description) {
		once.Do(func() { d, asked = population(b, 100_000) })
		return d, asked
	}
}()

func population(b *testing.B, n int) (*desk, []match.Description) {
	r := rand.New(rand.NewPCG(1, 2))
	word := func(size int) string {
		const letters = "bcdfghjklmnpqrstvwz"
		out := make([]byte, 0, 2*size)
		for range size {
			out = append(out, letters[r.IntN(len(letters))], "aeiou"[r.IntN(5)])
		}
		return string(out)
	}
	families, given := make([]string, 3000), make([]string, 300)
	for i := range families {
		families[i] = word(3)
	}
	for i := range given {
		given[i] = word(2)
	}
	skewed := func(words []string) string { return words[int(float64(len(words))*r.Float64()*r.Float64())] }
	d := open(b, b.TempDir())
	var asked []match.Description
	ctx := context.Background()
	for from := 0; from < n; from += 500 {
		if _, err := d.db.Update(ctx, func(tx store.Tx) error {
			for i := from; i < from+500; i++ {
				p := fhir.New("Patient", fmt.Sprint("p", i), fhir.M{
					"name": []fhir.HumanName{{Family: skewed(families), Given: []string{skewed(given)}}}, "birthDate": fmt.Sprintf("%d-%02d-%02d", 1930+r.IntN(95), 1+r.IntN(12), 1+r.IntN(28)),
					"gender": []string{"female", "male"}[r.IntN(2)], "address": []fhir.Address{{Line: []string{fmt.Sprint(r.IntN(200), " ", skewed(families), " Road")}, City: skewed(given),
						PostalCode: fmt.Sprintf("ZZ%d %d%c%c", r.IntN(60), r.IntN(10), 'A'+rune(r.IntN(20)), 'A'+rune(r.IntN(6)))}},
					"telecom": []fhir.M{{"system": "phone", "value": fmt.Sprintf("07%09d", r.IntN(1e9))}}})
				if _, err := tx.Put(ctx, store.Home{Source: "s", Patient: p.ID(), Heading: "demographics"}, p); err != nil {
					return err
				}
				if i%50 == 0 {
					q := mpi.FromResource("s", p)
					q.Phone = ""
					asked = append(asked, q.Describe())
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	f := d.db.Follower("mpi", d.Handle)
	ctx, stop := context.WithCancel(ctx)
	var run sync.WaitGroup
	run.Go(func() { _ = f.Run(ctx) })
	tail, err := d.db.Tail(ctx)
	if err == nil {
		err = f.Await(ctx, events.Seq(tail))
	}
	stop()
	run.Wait()
	if err != nil {
		b.Fatal(err)
	}
	return d, asked
}
