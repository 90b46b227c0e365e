package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"tombolo/kv"
	"tombolo/kv/postgres/pgtest"
)

const packable = `{"resourceType":"Observation","id":"9","meta":{"versionId":"1"},"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},` +
	`"subject":{"reference":"Patient/1"},"effectiveDateTime":"2026-02-03T04:05:06Z","valueQuantity":{"value":71,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`

// Whatever is packed comes back byte for byte, and no row is much larger than its value.
func TestWhatIsPackedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := []byte(strings.Repeat(rapid.SampledFrom([]string{"", packable, packMark, packMark[:7], "x"}).Draw(t, "piece"), rapid.IntRange(0, 300).Draw(t, "times")))
		value = append(value, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "more")...)
		row := packed(value)
		if row == nil || len(row) > len(value)+len(value)/8+64 {
			t.Fatalf("%d bytes became %d", len(value), len(row))
		}
		if len(row) < len(value)/packRatio && len(value) > packMost {
			t.Fatalf("%d bytes became as few as %d", len(value), len(row))
		}
		if got := unpacked(row); !bytes.Equal(got, value) {
			t.Fatalf("%d bytes came back as %d others", len(value), len(got))
		}
		if plain(value) && !bytes.Equal(row, value) {
			t.Fatalf("a plain value is not in its row as it is")
		}
	})
	if row := packed([]byte(packable)); len(row) > len(packable)/2 {
		t.Errorf("a result of %d bytes takes %d packed", len(packable), len(row))
	}
}

// A row in which bits have turned costs its own value only, and never more memory than a value may have.
func FuzzUnpack(f *testing.F) {
	f.Add(packed([]byte(packable)))
	f.Add([]byte(packMark))
	f.Add([]byte(packMark + "\x03\x01"))
	f.Fuzz(func(t *testing.T, row []byte) {
		if got := unpacked(bytes.Clone(row)); len(got) > packMax {
			t.Errorf("%d bytes of %d", len(got), len(row))
		}
	})
}

// Preconditions on long values hold however the value stands there: packed by this program, by another version to other bytes, or as it was before values were packed.
func TestPreconditionsOnPackedValues(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("by partition %v", apart), func(t *testing.T) {
			ctx := context.Background()
			url := pgtest.URL(t)
			e, err := Open(ctx, Options{URL: url, ByPartition: apart})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = e.Close() }()
			noise := make([]byte, 3000)
			r := rand.NewChaCha8([32]byte{2})
			_, _ = r.Read(noise)
			for i, row := range [][]byte{packed([]byte(packable)), []byte(packable), packedOtherwise(t, []byte(packable))} {
				k := kv.Key{Part: "p", Key: fmt.Sprint(i)}
				if _, err := e.short.Exec(ctx, "insert into entry (part, key, value) values ($1, $2, $3)", []byte(k.Part), []byte(k.Key), row); err != nil {
					t.Fatal(err)
				}
				if v, ok, err := e.Get(ctx, k); err != nil || !ok || string(v) != packable {
					t.Fatalf("row %d: %q, %v, %v", i, v, ok, err)
				}
				put := func(was, now []byte) error {
					_, err := e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: k, Value: was}}, Put: []kv.Entry{{Key: k, Value: now}}})
					return err
				}
				if err := put(noise, []byte("no")); !errors.Is(err, kv.ErrConflict) {
					t.Errorf("row %d: with another value expected: %v", i, err)
				}
				if err := put([]byte(packable[:len(packable)-1]), []byte("no")); !errors.Is(err, kv.ErrConflict) {
					t.Errorf("row %d: with nearly its value expected: %v", i, err)
				}
				if err := put([]byte(packable), noise); err != nil {
					t.Errorf("row %d: with its value expected: %v", i, err)
				}
				if err := put(noise, []byte(packMark)); err != nil {
					t.Errorf("row %d: then: %v", i, err)
				}
				if err := put([]byte(packMark), nil); err != nil {
					t.Errorf("row %d: and of one that begins with the mark: %v", i, err)
				}
				if v, ok, err := e.Get(ctx, k); err != nil || !ok || len(v) != 0 {
					t.Errorf("row %d ends as %q, %v, %v", i, v, ok, err)
				}
			}
			if _, err := e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: kv.Key{Part: "p", Key: "none"}, Value: []byte(packable)}}, Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: "none"}}}}); !errors.Is(err, kv.ErrConflict) {
				t.Errorf("where there is nothing: %v", err)
			}
		})
	}
}

// packedOtherwise packs as a version of the program might whose zstd finds other matches.
func packedOtherwise(t *testing.T, value []byte) []byte {
	t.Helper()
	frame := must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))).EncodeAll(value, nil)
	row := append([]byte(packMark), frame[len(zstdMagic):]...)
	if bytes.Equal(row, packed(value)) {
		t.Fatal("the other version packs to the same bytes")
	}
	return row
}

func BenchmarkUnpack(b *testing.B) {
	row := packed([]byte(packable + packable + packable))
	b.SetBytes(int64(3 * len(packable)))
	for b.Loop() {
		if len(unpacked(row)) != 3*len(packable) {
			b.Fatal("lost")
		}
	}
}

func BenchmarkPack(b *testing.B) {
	value := []byte(packable + packable + packable)
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if len(packed(value)) == len(value) {
			b.Fatal("not packed")
		}
	}
}
