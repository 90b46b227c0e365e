package audit

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tombolo/fhir"
	"tombolo/kv"
)

// A Seq is an entry's place in the log; the first is 1.
type Seq uint64

// A Hash is a node of the log's Merkle tree. RFC 6962 §2.1
type Hash = tlog.Hash

// A Head says how far the log goes and the root of the Merkle tree over all of it. Published outside (kept by a neighbour, printed,
// mailed), it is what a later log is held to.
type Head struct {
	Seq  Seq
	Hash Hash
}

// String is the short form, "300:BASE64".
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(s string) (Head, error) {
	seq, sum, ok := strings.Cut(strings.TrimSpace(s), ":")
	n, err := strconv.ParseUint(seq, 10, 63)
	b, herr := base64.StdEncoding.DecodeString(sum)
	if !ok || err != nil || herr != nil || len(b) != tlog.HashSize {
		return Head{}, fhir.Errorf(fhir.ValueError, "not the head of an audit log: write number:hash, as tombolo audit verify prints it")
	}
	return Head{Seq(n), Hash(b)}, nil
}

// An Entry is one event in its place.
type Entry struct {
	Seq      Seq
	PersonID string    // whom it is about; "" if nobody
	User     string    // whose act it was
	At       time.Time // when it came into the log: never before the entry before it
	Hash     Hash      // its leaf of the Merkle tree
	Body     []byte    // the AuditEvent

	record []byte // as it lies in the log: what Hash is the hash of
}

// Resource is the AuditEvent.
func (e Entry) Resource() (*fhir.Resource, error) { return fhir.Parse(e.Body) }

// Recorded is when the clock said that it happened: the same as At but where the clock has gone back. Another system's event has only At.
func (e Entry) Recorded() time.Time {
	if len(e.record) > 1 && e.record[1]&foreign != 0 {
		return e.At
	}
	if r, err := e.Resource(); err == nil {
		if t, err := time.Parse(time.RFC3339Nano, r.Text("recorded")); err == nil {
			return t
		}
	}
	return e.At
}

// Record is the entry exactly as it is hashed, for those who check a proof with other tools.
func (e Entry) Record() []byte { return e.record }

// How the log lies in its partition: entries in order; for each person and each user the places of their entries; the roots of
// complete subtrees of 2^8, 2^16, … entries; and the head.
const (
	part      kv.Part = "audit"
	entries           = "e/"
	headKey           = "head"
	persons           = "p/"
	subtrees          = "t/"
	users             = "u/"
	layout    byte    = 2
	foreign   byte    = 1 // flag: another system's AuditEvent, kept as it came
	hashSize          = tlog.HashSize
	fixedSize         = 1 + 1 + 8 + 2 + 2 // layout, flags, time, length of the person's and of the user's id
)

func entryKey(s Seq) kv.Key { return kv.Key{Part: part, Key: entries + hexSeq(s)} }

const hexDigits = "0123456789abcdef"

func hexSeq(s Seq) string {
	var b [16]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigits[s&15]
		s >>= 4
	}
	return string(b[:])
}

func parseSeq(s string) (Seq, bool) {
	if len(s) != 16 {
		return 0, false
	}
	n := Seq(0)
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			n = n<<4 | Seq(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | Seq(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func personPrefix(id string) string { return persons + url.PathEscape(id) + "/" }

func userPrefix(id string) string { return users + url.PathEscape(id) + "/" }

func personKey(id string, s Seq) kv.Key { return kv.Key{Part: part, Key: personPrefix(id) + hexSeq(s)} }

func userKey(id string, s Seq) kv.Key { return kv.Key{Part: part, Key: userPrefix(id) + hexSeq(s)} }

// record writes what is hashed and kept of an event. Every bit of it means something.
func record(flags byte, at time.Time, person, user string, body []byte) []byte {
	b := make([]byte, 0, fixedSize+len(person)+len(user)+len(body)/3)
	b = append(b, layout, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(at.UnixMilli()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(person)))
	b = append(b, person...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(user)))
	b = append(b, user...)
	return packer.EncodeAll(body, b)
}

// setTime changes the time of a record that is not in the log yet.
func setTime(record []byte, at time.Time) {
	binary.BigEndian.PutUint64(record[2:], uint64(at.UnixMilli()))
}

// value is what stands at an entry's key: its leaf hash, so that an altered entry is known by itself, and the record.
func value(leaf Hash, record []byte) []byte {
	return append(append(make([]byte, 0, hashSize+len(record)), leaf[:]...), record...)
}

// places reads whom an entry is about and whose act it was, without unpacking it.
func places(record []byte) (person, user string, body []byte, ok bool) {
	if len(record) < fixedSize || record[0] != layout {
		return "", "", nil, false
	}
	b := record[10:]
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n+2 {
		return "", "", nil, false
	}
	person, b = string(b[:n]), b[n:]
	n = int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return "", "", nil, false
	}
	return person, string(b[:n]), b[n:], true
}

// decode reads an entry and checks it against its own hash.
func decode(s Seq, v []byte) (Entry, bool) {
	if len(v) < hashSize {
		return Entry{}, false
	}
	e := Entry{Seq: s, Hash: Hash(v[:hashSize]), record: v[hashSize:]}
	person, user, packed, ok := places(e.record)
	if !ok || tlog.RecordHash(e.record) != e.Hash {
		return Entry{}, false
	}
	e.PersonID, e.User = person, user
	e.At = time.UnixMilli(int64(binary.BigEndian.Uint64(e.record[2:]))).UTC()
	body, err := unpacker.DecodeAll(packed, nil)
	if err != nil {
		return Entry{}, false
	}
	if e.Body = body; e.record[1]&foreign == 0 {
		e.Body = withID(body, idOf(s))
	}
	return e, true
}

// withID puts the id, which an event has from its place, where fhir.New would have written it.
func withID(body []byte, id string) []byte {
	const start = `{"resourceType":"AuditEvent"`
	if !strings.HasPrefix(string(body[:min(len(body), len(start))]), start) {
		return body
	}
	b := make([]byte, 0, len(body)+len(id)+8)
	b = append(b, start...)
	b = append(b, `,"id":"`+id+`"`...)
	return append(b, body[len(start):]...)
}
