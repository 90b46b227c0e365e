package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/kv"
)

// A stored value is a header and the body:
//
//	1 byte   layout, 1
//	1 byte   flags: 1 = tombstone
//	32 bytes SHA-256 of the reference, 00, and everything after this hash
//	varints  version, time in ms, length of source, source, length of heading, heading
//	         body
const (
	layout        = 1
	flagTombstone = 1
	hashAt        = 2
	hashed        = hashAt + sha256.Size
)

func encode(s Stored) []byte { return seal(s.Ref, append(head(s, len(s.Body)), s.Body...)) }

// head begins a value with all but its body, for which there is room.
func head(s Stored, room int) []byte {
	b := make([]byte, hashed, hashed+32+len(s.Source)+len(s.Heading)+room)
	b[0] = layout
	if s.Deleted {
		b[1] = flagTombstone
	}
	b = binary.AppendUvarint(b, uint64(s.Version))
	b = binary.AppendVarint(b, s.At.UnixMilli())
	b = appendText(b, s.Source)
	return appendText(b, s.Heading)
}

// seal puts the hash into a value that is otherwise whole.
func seal(ref fhir.Ref, b []byte) []byte {
	sum := valueHash(ref, b)
	copy(b[hashAt:], sum[:])
	return b
}

// valueHash covers the reference too, so that one resource's content under another's key is noticed.
func valueHash(ref fhir.Ref, value []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	var lead [96]byte
	n := append(append(lead[:0], ref...), 0, value[1])
	h.Write(n)
	h.Write(value[hashed:])
	h.Sum(sum[:0])
	return sum
}

// decode reads a stored value. What fails its hash is an error that names the resource; its content is not looked at.
func decode(ref fhir.Ref, v []byte) (Stored, error) {
	damaged := func() (Stored, error) {
		return Stored{}, fhir.Errorf(fhir.Exception, "%s is damaged in the store: its checksum is wrong, so it is not shown. Restore it from a checkpoint, or have its source send it again", ref)
	}
	if len(v) < hashed {
		return damaged()
	}
	if sum := valueHash(ref, v); v[0] != layout || sum != [sha256.Size]byte(v[hashAt:hashed]) {
		return damaged()
	}
	s := Stored{Ref: ref, Deleted: v[1]&flagTombstone != 0}
	rest := v[hashed:]
	version, n := binary.Uvarint(rest)
	if n <= 0 {
		return damaged()
	}
	at, m := binary.Varint(rest[n:])
	if m <= 0 {
		return damaged()
	}
	rest = rest[n+m:]
	var ok1, ok2 bool
	s.Source, rest, ok1 = cutText(rest)
	s.Heading, rest, ok2 = cutText(rest)
	if !ok1 || !ok2 {
		return damaged()
	}
	s.Version, s.At, s.Body = int(version), time.UnixMilli(at).UTC(), rest
	return s, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutText(b []byte) (string, []byte, bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return "", nil, false
	}
	return string(b[k : k+int(n)]), b[k+int(n):], true
}

// An entry is what stands in the index under Type/id: where the resource is, and enough to know whether a write changes anything
// without reading it. Every write of a resource changes its entry, so the entry alone guards against two writing at once.
//
//	1 byte layout, 1 byte flags, 32 bytes hash of the content, varint version, partition, and 00 and a partition for each
//	other in which older versions lie
type entry struct {
	part    kv.Part
	older   []kv.Part
	version int
	deleted bool
	content [sha256.Size]byte
}

func (e *entry) encode() []byte {
	b := make([]byte, 2, 48+len(e.part))
	b[0] = layout
	if e.deleted {
		b[1] = flagTombstone
	}
	b = append(b, e.content[:]...)
	b = binary.AppendUvarint(b, uint64(e.version))
	b = append(b, e.part...)
	for _, p := range e.older {
		b = append(b, 0)
		b = append(b, p...)
	}
	return b
}

var errEntry = errors.New("entry in the index of ids is damaged")

func decodeEntry(b []byte) (*entry, error) {
	if len(b) < hashed || b[0] != layout {
		return nil, errEntry
	}
	e := &entry{deleted: b[1]&flagTombstone != 0, content: [sha256.Size]byte(b[hashAt:hashed])}
	version, n := binary.Uvarint(b[hashed:])
	if n <= 0 {
		return nil, errEntry
	}
	e.version = int(version)
	for i, p := range strings.Split(string(b[hashed+n:]), "\x00") {
		if i == 0 {
			e.part = kv.Part(p)
		} else {
			e.older = append(e.older, kv.Part(p))
		}
	}
	return e, nil
}

// present is nil if there is a current version.
func (e *entry) present(ref fhir.Ref) error {
	if e == nil {
		return notFound(ref)
	}
	if e.deleted {
		return fhir.Errorf(fhir.Deleted, "%s was deleted", ref)
	}
	return nil
}

// parts are all partitions in which versions may lie.
func (e *entry) parts() []kv.Part { return append([]kv.Part{e.part}, e.older...) }

// patient is the id of the source patient in whose record the resource is, "" if nobody's.
func (e *entry) patient() string { return patientOf(e.part) }

func patientOf(part kv.Part) string {
	id, ok := strings.CutPrefix(string(part), patientPrefix)
	if !ok {
		return ""
	}
	return id
}

// readEntry looks a reference up. A nil entry means there never was one; raw is what stands there, for a precondition.
func readEntry(ctx context.Context, r kv.Reader, ref fhir.Ref) (e *entry, raw []byte, err error) {
	raw, ok, err := r.Get(ctx, idKey(ref))
	if err != nil {
		return nil, nil, readError(err)
	}
	if !ok {
		return nil, nil, nil
	}
	if e, err = decodeEntry(raw); err != nil {
		return nil, nil, fhir.Errorf(fhir.Exception, "%s: %w", ref, err)
	}
	return e, raw, nil
}

// contentHash is the same for two resources that differ in nothing but meta.versionId and meta.lastUpdated, which are ours.
func contentHash(r *fhir.Resource) (sum [sha256.Size]byte) {
	h := sha256.New()
	b := make([]byte, 0, 512)
	write := func(v fhir.Value) {
		b = appendText(b[:0], v.Key())
		b = binary.AppendUvarint(b, uint64(len(v.Raw())))
		h.Write(b)
		h.Write(v.Raw())
	}
	for m := range r.Value().Children() {
		if m.Key() != "meta" {
			write(m)
		}
	}
	h.Write([]byte{0xff, 0xff}) // the rest is meta
	for m := range r.Value().Member("meta").Children() {
		if m.Key() != "versionId" && m.Key() != "lastUpdated" {
			write(m)
		}
	}
	h.Sum(sum[:0])
	return sum
}
