package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
)

// A Seq is an entry's place in the log; the first is 1.
type Seq uint64

// A Hash is the SHA-256 of an entry and, through the one before, of the whole log up to it.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// A Head says how far the log goes and what it hashes to. Published outside (printed, mailed, given to a neighbour), it is what a later
// log is held to.
type Head struct {
	Seq  Seq
	Hash Hash
}

// String is the form to publish, "300:9f86d0…".
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(s string) (Head, error) {
	var h Head
	seq, sum, ok := strings.Cut(strings.TrimSpace(s), ":")
	n, err := strconv.ParseUint(seq, 10, 64)
	b, herr := hex.DecodeString(sum)
	if !ok || err != nil || herr != nil || len(b) != len(h.Hash) {
		return Head{}, fhir.Errorf(fhir.ValueError, "not the head of an audit log: write number:hash, as tombolo audit verify prints it")
	}
	h.Seq = Seq(n)
	copy(h.Hash[:], b)
	return h, nil
}

// An Entry is one event in its place.
type Entry struct {
	Seq        Seq
	PersonID   string
	Prev, Hash Hash
	Body       []byte // the AuditEvent
}

// Head is the log's head as of this entry.
func (e Entry) Head() Head { return Head{e.Seq, e.Hash} }

// Resource is the AuditEvent.
func (e Entry) Resource() (*fhir.Resource, error) { return fhir.Parse(e.Body) }

// sum is the entry's hash: of the hash before it, then of each field with its length before it, so that no two entries can be
// written to give the same bytes.
func (e Entry) sum() Hash {
	h := sha256.New()
	var n [8]byte
	field := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	h.Write(e.Prev[:])
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], uint64(e.Seq))
	field(seq[:])
	field([]byte(e.PersonID))
	field(e.Body)
	return Hash(h.Sum(nil))
}

// How the log lies in its partition: entries in order, the head, and for each person the places of their entries.
const (
	part      kv.Part = "audit"
	entries           = "e/"
	headKey           = "head"
	persons           = "p/"
	layout    byte    = 1
	fixedSize         = 1 + 2*sha256.Size + 2 // layout, prev, hash, length of the person's id
)

func entryKey(s Seq) kv.Key { return kv.Key{Part: part, Key: entries + hexSeq(s)} }

func hexSeq(s Seq) string { return fmt.Sprintf("%016x", uint64(s)) }

func personPrefix(id string) string { return persons + url.PathEscape(id) + "/" }

func personKey(id string, s Seq) kv.Key { return kv.Key{Part: part, Key: personPrefix(id) + hexSeq(s)} }

func parseSeq(s string) (Seq, bool) {
	n, err := strconv.ParseUint(s, 16, 64)
	return Seq(n), err == nil && s == hexSeq(Seq(n))
}

// encode writes the value of an entry's key. Every bit of it means something, so that none can be changed unseen.
func (e Entry) encode() []byte {
	b := make([]byte, 0, fixedSize+len(e.PersonID)+len(e.Body))
	b = append(b, layout)
	b = append(b, e.Prev[:]...)
	b = append(b, e.Hash[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.PersonID)))
	b = append(b, e.PersonID...)
	return append(b, e.Body...)
}

// decode reads an entry and checks it against its own hash.
func decode(s Seq, b []byte) (Entry, bool) {
	if len(b) < fixedSize || b[0] != layout {
		return Entry{}, false
	}
	e := Entry{Seq: s}
	copy(e.Prev[:], b[1:])
	copy(e.Hash[:], b[1+sha256.Size:])
	n := int(binary.BigEndian.Uint16(b[fixedSize-2:]))
	if b = b[fixedSize:]; len(b) < n {
		return Entry{}, false
	}
	e.PersonID, e.Body = string(b[:n]), b[n:]
	return e, e.sum() == e.Hash
}

func (h Head) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(h.Seq)), h.Hash[:]...)
}

func decodeHead(b []byte) (Head, bool) {
	var h Head
	if len(b) != 8+len(h.Hash) {
		return h, false
	}
	h.Seq = Seq(binary.BigEndian.Uint64(b))
	copy(h.Hash[:], b[8:])
	return h, true
}
