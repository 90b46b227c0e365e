package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/kv/pebble"
	"tombolo/search"
)

// observation is a resource of about 1.1 kB, the mean size of a generated record's.
func observation(patient string, n int) *fhir.Resource {
	return fhir.New("Observation", fmt.Sprintf("%s-o%06d", patient, n), fhir.M{
		"meta": fhir.M{"source": "urn:tombolo:source:rx1-lab#1", "profile": []string{"https://fhir.hl7.org.uk/StructureDefinition/UKCore-Observation"},
			"tag": []fhir.Coding{{System: fhir.SystemHeading, Code: "results"}}},
		"status":            "final",
		"identifier":        []fhir.Identifier{{System: "https://lab.example/result", Value: fmt.Sprintf("%s-%d", patient, n)}},
		"category":          []fhir.CodeableConcept{fhir.Code("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "Laboratory")},
		"code":              fhir.Code(fhir.SystemSNOMED, fmt.Sprint(1000000+n%97), "Serum potassium level"),
		"subject":           fhir.Reference{Reference: "Patient/" + patient},
		"effectiveDateTime": fmt.Sprintf("20%02d-%02d-%02dT10:00:00Z", n%26, 1+n%12, 1+n%28),
		"performer":         []fhir.Reference{{Reference: fmt.Sprintf("Organization/o%d", n%5)}},
		"valueQuantity":     fhir.Quantity{Value: "4.2", Unit: "mmol/L", System: fhir.SystemUCUM, Code: "mmol/L"},
		"note":              []fhir.Annotation{{Text: strings.Repeat("Sample slightly haemolysed; interpret with care. ", 5)}},
	})
}

func benchStore(b *testing.B) *DB {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "store")
	var e kv.Engine
	if enginetest.PostgreSQL() {
		e = enginetest.Open(b, dir)
	} else {
		var err error
		if e, err = pebble.Open(pebble.Options{Dir: dir, CacheBytes: 256 << 20}); err != nil {
			b.Fatal(err)
		}
	}
	db, err := Open(Options{Engine: e})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return db
}

// crowd fills a store with people of a thousand resources each, arriving in random order.
func crowd(b *testing.B, people int) (*DB, []string) {
	b.Helper()
	db := benchStore(b)
	ids := make([]string, people)
	for p := range ids {
		ids[p] = fmt.Sprintf("person%04d", p)
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(people * 1000)
	for i := 0; i < len(order); i += 500 {
		if _, err := db.Update(context.Background(), func(tx Tx) error {
			for _, n := range order[i : i+500] {
				id := ids[n/1000]
				if _, err := tx.Put(context.Background(), Home{Source: "rx1-lab", Patient: id, Heading: "results"}, observation(id, n%1000)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	return db, ids
}

// A record of a thousand resources, as bytes into a Bundle: what a viewer or $everything asks for.
func BenchmarkPersonOf1000(b *testing.B) {
	db, ids := crowd(b, 20)
	ctx := context.Background()
	read := func(b *testing.B, id string) {
		w := fhir.NewBundle("searchset", "https://record.example/fhir", 1000, 1300_000)
		n := 0
		for s, err := range db.PatientRaw(ctx, id) {
			if err != nil {
				b.Fatal(err)
			}
			w.AddRaw(s.Ref, s.Body, "match")
			n++
		}
		if n != 1000 {
			b.Fatalf("%d resources", n)
		}
		b.SetBytes(int64(len(w.Bytes())))
	}
	b.Run("raw", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			read(b, ids[i%len(ids)])
		}
	})
	b.Run("parsed", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			for r, err := range db.Patient(ctx, ids[i%len(ids)]) {
				if err != nil || r == nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("point", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := db.ReadRaw(ctx, fhir.MakeRef("Observation", fmt.Sprintf("%s-o%06d", ids[i%len(ids)], i*7%1000))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("identifier", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p, err := db.Search(ctx, search.Query{Type: "Observation", Params: []search.Param{
				{Name: "identifier", Values: []string{fmt.Sprintf("https://lab.example/result|%s-%d", ids[i%len(ids)], i*7%1000)}}}})
			if err != nil || len(p.Resources) != 1 {
				b.Fatal(p, err)
			}
		}
	})
	b.Run("code page of 20", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p, err := db.Search(ctx, search.Query{Type: "Observation", Count: 20, Params: []search.Param{
				{Name: "code", Values: []string{fhir.SystemSNOMED + "|" + fmt.Sprint(1000000+i%97)}}}})
			if err != nil || len(p.Resources) != 20 {
				b.Fatal(p, err)
			}
		}
	})
}

// One resource, one durable commit.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := benchStore(b)
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
			if writers == 1 {
				for b.Loop() {
					putOne(b, db, int(n.Add(1)))
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						putOne(b, db, int(n.Add(1)))
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func putOne(b *testing.B, db *DB, n int) {
	patient := fmt.Sprintf("person%04d", n%1000)
	if _, err := db.Update(context.Background(), func(tx Tx) error {
		_, err := tx.Put(context.Background(), Home{Source: "rx1-lab", Patient: patient, Heading: "results"}, observation(patient, n))
		return err
	}); err != nil {
		b.Error(err)
	}
}

// Many resources in one commit, patients in random order: what an import does.
func BenchmarkBulk(b *testing.B) {
	db := benchStore(b)
	const size = 500
	ctx := context.Background()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		rs := make([]*fhir.Resource, size)
		homes := make([]Home, size)
		refs := make([]fhir.Ref, size)
		for i := range rs {
			n++
			patient := fmt.Sprintf("person%04d", rand.IntN(1000))
			rs[i], homes[i] = observation(patient, n), Home{Source: "rx1-lab", Patient: patient, Heading: "results"}
			refs[i] = rs[i].Ref()
		}
		b.StartTimer()
		if _, err := db.Update(ctx, func(tx Tx) error {
			if err := tx.Prefetch(ctx, refs...); err != nil {
				return err
			}
			for i, r := range rs {
				if _, err := tx.Put(ctx, homes[i], r); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "resources/s")
}
