package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The write-ahead log ends where a record cannot be read: a power cut may have torn it, and then it was never acknowledged. A bit that rots in one that was
// looks the same. What tells the two apart is that each record says how far the log was synced when it was written, so that any record behind the bad
// one can bear witness. Pebble looks for such in later blocks; checkLogs looks in the same one, where the newest records are; and mark puts a witness
// behind the newest, when nothing has been written for a moment and when the store is closed.

// A block of the log, and the header of a piece of a record: checksum, length, kind, number of the log, how far it was synced.
const (
	logBlock  = 32 << 10
	logHeader = 4 + 2 + 1 + 4 + 8
	// The kinds of pieces that say how far the log was synced.
	firstKind, lastKind = 9, 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A piece is the header of one.
type piece struct {
	end    int // in its block
	synced uint64
}

// pieceAt reads the piece of a log that begins at a place of a block; ok is false if there is no whole one.
func pieceAt(block []byte, at int, log uint32) (p piece, ok bool) {
	if at+logHeader > len(block) {
		return p, false
	}
	b := block[at:]
	if kind := b[6]; kind < firstKind || kind > lastKind || binary.LittleEndian.Uint32(b[7:]) != log {
		return p, false
	}
	p.end, p.synced = at+logHeader+int(binary.LittleEndian.Uint16(b[4:])), binary.LittleEndian.Uint64(b[11:])
	if p.end > len(block) {
		return p, false
	}
	sum := crc32.Checksum(block[at+6:p.end], castagnoli)
	return p, binary.LittleEndian.Uint32(b) == (sum>>15|sum<<17)+0xa282ead8
}

// errLogDamaged says that an acknowledged record cannot be read.
var errLogDamaged = errors.New("the write-ahead log is damaged in a place that was synced")

// checkLogs refuses a folder in one of whose write-ahead logs the last block has a record that cannot be read before one that says that it was synced.
func checkLogs(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		n, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil {
			continue
		}
		if err := checkLog(fs, fs.PathJoin(dir, name), uint32(n)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func checkLog(fs vfs.FS, path string, log uint32) error {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, logBlock)
	for start := uint64(0); ; start += logBlock {
		n, err := io.ReadFull(f, buf)
		if n == 0 || err != nil && err != io.ErrUnexpectedEOF {
			if err == io.EOF {
				return nil
			}
			return err
		}
		block, at := buf[:n], 0
		for at+logHeader <= len(block) {
			p, ok := pieceAt(block, at, log)
			if ok {
				at = p.end
				continue
			}
			for later := at + 1; later+logHeader <= len(block); later++ {
				if p, ok := pieceAt(block, later, log); ok && p.synced > start+uint64(at) {
					return errLogDamaged
				}
			}
			return nil // what is in later blocks Pebble looks at
		}
	}
}

// quiet is how long nothing is written before a witness is.
const quiet = 300 * time.Millisecond

// mark writes a record behind the newest one that says that it was synced. The first may be made a moment before Pebble has noted that it was.
func (e *Engine) mark() error {
	return errors.Join(e.db.LogData(nil, pebble.Sync), e.db.LogData(nil, pebble.Sync))
}

// whenQuiet is called when nothing was written for a moment.
func (e *Engine) whenQuiet() {
	if e.gate.Enter(context.Background()) != nil {
		return // it is being closed
	}
	defer e.gate.Leave()
	if err := e.mark(); err != nil {
		e.stop("write-ahead log", err)
	}
}
