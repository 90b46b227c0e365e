package store

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"strconv"

	"tombolo/fhir"
	"tombolo/kv"
)

// Verify holds two sides of the store to each other (records and the keys made of them, say) in bounded memory and in whatever order they
// are read: each side is the sum of the hashes of what it should agree on, kept for a few thousand piles. Piles whose sums differ
// are looked through one by one. The hash is keyed anew in every process; that two different sides sum up alike by chance is
// a matter of one in 2^128.

// A sum of hashes; the order of adding plays no part.
type sum [2]uint64

func (s *sum) add(o sum) { s[0], s[1] = s[0]+o[0], s[1]+o[1] }

// times is the sum of n times the hash.
func (s sum) times(n int64) sum { return sum{s[0] * uint64(n), s[1] * uint64(n)} }

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashOf(b []byte) sum { return sum{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)} }

// A tally is what one side says there must be, and what the other says there is.
type tally struct{ want, found sum }

func (t *tally) add(o tally)   { t.want.add(o.want); t.found.add(o.found) }
func (t *tally) differs() bool { return t.want != t.found }

// pileOf is the pile of a reference, the same as its partition in the index of ids.
func pileOf(ref fhir.Ref) byte {
	s := sha256.Sum256([]byte(ref))
	return s[0]
}

// An indexPile is part of one partition of the index: of the keys of some of the places.
type indexPile struct {
	part kv.Part
	n    byte
}

// indexPiles is how many piles there are to a partition.
const indexPiles = 64

func indexPileOf(part kv.Part, at place) indexPile {
	return indexPile{part, byte(maphash.String(seeds[0], at.id) % indexPiles)}
}

// A hasher makes hashes of several words in one buffer.
type hasher struct{ b []byte }

func (h *hasher) of(words ...string) sum {
	h.b = h.b[:0]
	for _, w := range words {
		h.b = append(binary.AppendUvarint(h.b, uint64(len(w))), w...)
	}
	return hashOf(h.b)
}

func (h *hasher) version(ref fhir.Ref, n int) sum {
	h.b = append(strconv.AppendInt(h.b[:0], int64(n), 10), '/')
	h.b = append(h.b, ref...)
	return hashOf(h.b)
}

func (h *hasher) key(k kv.Key) sum {
	h.b = append(append(append(h.b[:0], k.Part...), 0), k.Key...)
	return hashOf(h.b)
}
