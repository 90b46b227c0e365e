package pebble

import (
	"encoding/binary"
	"fmt"

	"tombolo/kv"
)

// What the first byte of a Pebble key says it is.
const (
	tagFormat = 0x00 // "format" -> formatValue
	tagData   = 0x01 // length of part (2 bytes), part, key -> value
	tagLog    = 0x02 // position (8 bytes) -> log record
)

var (
	formatKey = []byte{tagFormat, 'f', 'o', 'r', 'm', 'a', 't'}
	logEnd    = []byte{tagLog + 1}
)

// appendKey writes the Pebble key of a kv key. The part's length stands before it, so that no key of one partition can be taken for
// one of another; within a partition the order of bytes is that of the key.
func appendKey(b []byte, part kv.Part, key string) []byte {
	b = append(b, tagData)
	b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
	b = append(b, part...)
	return append(b, key...)
}

// appendEnd writes the first Pebble key after a partition.
func appendEnd(b []byte, part kv.Part) []byte {
	b = appendKey(b, part, "")
	for i := len(b) - 1; ; i-- { // ends at the tag at the latest, which is not 0xff
		if b[i] < 0xff {
			b[i]++
			return b[:i+1]
		}
	}
}

// partOf reads the partition of a Pebble key.
func partOf(key []byte) (kv.Part, error) {
	if len(key) < 3 || len(key) < 3+int(binary.BigEndian.Uint16(key[1:])) {
		return "", fmt.Errorf("read: a key of %d bytes is none of this program's: restore a backup", len(key))
	}
	return kv.Part(key[3 : 3+int(binary.BigEndian.Uint16(key[1:]))]), nil
}

// prefixLen is how much of a Pebble key of this partition comes before the kv key.
func prefixLen(part kv.Part) int { return 3 + len(part) }

func checkPart(part kv.Part) error {
	if len(part) > 1<<16-1 {
		return fmt.Errorf("kv: a partition's name of %d bytes is too long (65535 at most)", len(part))
	}
	return nil
}

func logKey(p kv.Position) []byte {
	return binary.BigEndian.AppendUint64([]byte{tagLog}, uint64(p))
}

func logPosition(key []byte) kv.Position { return kv.Position(binary.BigEndian.Uint64(key[1:])) }
