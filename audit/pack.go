package audit

import (
	_ "embed"

	"github.com/klauspost/compress/zstd"
)

// Entries are kept packed: AuditEvents are long and much alike, and what is hashed on every verification is the packed form. The
// dictionary belongs to layout 2 for ever: a log that was written with it can be read only with it.
//
//go:embed dictionary.json
var dictionary []byte

const (
	dictionaryID = 0x746f6d32
	maxUnpacked  = 64 << 20 // of one entry or one part of what was shown
)

var (
	packer   = must(zstd.NewWriter(nil, zstd.WithEncoderDictRaw(dictionaryID, dictionary), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(128<<10), zstd.WithEncoderCRC(false)))
	unpacker = must(zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary), zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxUnpacked)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("audit: " + err.Error())
	}
	return v
}
