package postgres

import (
	"bytes"
	_ "embed"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"tombolo/kv"
)

// Resources of one kind are much alike, and PostgreSQL compresses each value by itself: a FHIR resource of 1.3 kB to 1.0 kB by lz4, and to 0.3 kB by zstd with a
// dictionary of what FHIR resources have in common. So values of some size are packed here before they are sent.
//
// A packed value is the mark, the number of the dictionary, and a frame of zstd without its magic number. Any value that does not begin with the mark stands as it is,
// as all do that were written before there was packing; one that begins with it is packed whatever comes of it.

// packMark is eight bytes that no value begins with by chance.
const packMark = "\xfe\x93tbl\xd7p\x01"

const (
	packLeast = 256      // bytes; shorter ones are not worth it
	packMost  = 64 << 10 // and longer ones are left to the server, so that what a page of a scan comes to in memory stays bounded
	packRatio = 16       // for the same reason, one that would become smaller than that is left
)

// The dictionary belongs to what was packed with it for ever. A better one is another file, with another number.
//
//go:embed dictionary/1.txt
var dictionary []byte

const dictionaryID = 1

const zstdMagic = "\x28\xb5\x2f\xfd"

var (
	packer = must(zstd.NewWriter(nil, zstd.WithEncoderDictRaw(dictionaryID, dictionary), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(128<<10), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false)))
	unpacker = must(zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary), zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(packMax)))
)

// packMax is the longest value that is unpacked: those that begin with the mark are packed at any length, and none is longer (checkBatch).
const packMax = 64 << 20

func must[T any](v T, err error) T {
	if err != nil {
		panic("kv/postgres: " + err.Error())
	}
	return v
}

// packed is the value as it stands in its row.
func packed(value []byte) []byte {
	if marked := bytes.HasPrefix(value, []byte(packMark)); !marked && (len(value) < packLeast || len(value) > packMost) {
		return present(value)
	} else if p := pack(value); marked || len(p) < len(value)-len(value)/8 && len(p) > len(value)/packRatio {
		return p
	}
	return value
}

func pack(value []byte) []byte {
	// The frame comes behind the mark, its magic number under the end of it.
	b := make([]byte, len(packMark)-len(zstdMagic), len(packMark)+len(value)/2)
	b = packer.EncodeAll(value, b)
	copy(b, packMark)
	return b
}

// unpacked is the value that stands in a row; it may be the same bytes. What cannot be unpacked is damaged, and is handed on as it stands: one such value must not
// keep a call from the others, and whoever reads a resource finds by its SHA-256 that it is not one.
func unpacked(row []byte) []byte {
	if !bytes.HasPrefix(row, []byte(packMark)) {
		return row
	}
	frame := append([]byte(zstdMagic), row[len(packMark):]...)
	value, err := unpacker.DecodeAll(frame, nil)
	if err != nil {
		return row
	}
	return present(value)
}

// unpackEntries unpacks the values of many entries, on all processors.
func unpackEntries(entries []kv.Entry) {
	const portion = 32
	var wg sync.WaitGroup
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(portion)) - portion; i < len(entries); i = int(next.Add(portion)) - portion {
			for j := range entries[i:min(i+portion, len(entries))] {
				entries[i+j].Value = unpacked(entries[i+j].Value)
			}
		}
	}
	for range min(runtime.GOMAXPROCS(0), len(entries)/portion) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// plain says whether a value stands in its row as it is, whichever version of the program wrote it.
func plain(value []byte) bool {
	return len(value) < packLeast && !bytes.HasPrefix(value, []byte(packMark))
}
