package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"tombolo/fhir"
	"tombolo/kv"
)

// A tree is the Merkle tree of RFC 6962 as far as it must be known to add to it: the roots of the perfect subtrees of which it
// is made, the largest first.
type tree struct {
	size  uint64
	peaks []Hash
}

// Entries are summed up by subtree of 2^8, 2^16, … of them, so that a proof or a check of a part reads few.
const step = 8

// add takes in a leaf. done is told of each subtree of a whole number of steps that it completes.
func (t *tree) add(leaf Hash, done func(level int, n uint64, root Hash)) {
	h := leaf
	for level, n := 0, t.size; n&1 == 1; n >>= 1 {
		last := len(t.peaks) - 1
		h = tlog.NodeHash(t.peaks[last], h)
		t.peaks = t.peaks[:last]
		if level++; level%step == 0 && done != nil {
			done(level, n>>1, h)
		}
	}
	t.peaks = append(t.peaks, h)
	t.size++
}

// root is the Merkle tree hash. RFC 6962 §2.1
func (t *tree) root() Hash {
	if len(t.peaks) == 0 {
		return must(tlog.TreeHash(0, nil))
	}
	h := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.peaks[i], h)
	}
	return h
}

func (t *tree) clone() tree { return tree{t.size, append([]Hash(nil), t.peaks...)} }

func (t *tree) head() Head {
	if t.size == 0 {
		return Head{}
	}
	return Head{Seq(t.size), t.root()}
}

func (t *tree) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{layout}, t.size)
	for _, p := range t.peaks {
		b = append(b, p[:]...)
	}
	return b
}

func decodeTree(b []byte) (tree, bool) {
	if len(b) < 9 || b[0] != layout {
		return tree{}, false
	}
	t := tree{size: binary.BigEndian.Uint64(b[1:])}
	if b = b[9:]; t.size == 0 || t.size > 1<<62 || len(b) != bits.OnesCount64(t.size)*hashSize {
		return tree{}, false
	}
	for ; len(b) > 0; b = b[hashSize:] {
		t.peaks = append(t.peaks, Hash(b[:hashSize]))
	}
	return t, true
}

func subtreeKey(level int, n uint64) kv.Key {
	return kv.Key{Part: part, Key: fmt.Sprintf("%s%02x/%s", subtrees, level, hexSeq(Seq(n)))}
}

// hashes reads nodes of the tree for proofs: of the lowest level from the entries, of the others from the subtrees' roots.
type hashes struct {
	ctx context.Context
	r   kv.Reader
}

// ReadHashes implements tlog.HashReader.
func (h hashes) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, index := range indexes {
		var err error
		level, n := tlog.SplitStoredHashIndex(index)
		if out[i], err = h.node(level, uint64(n)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (h hashes) node(level int, n uint64) (Hash, error) {
	base := level / step * step
	first, count := n<<(level-base), uint64(1)<<(level-base)
	from, to := entryKey(Seq(first+1)), entryKey(Seq(first+count+1))
	if base > 0 {
		from, to = subtreeKey(base, first), subtreeKey(base, first+count)
	}
	var t tree
	for e, err := range h.r.Scan(h.ctx, []kv.Range{{Part: part, From: from.Key, To: to.Key}}, 0) {
		if err != nil {
			return Hash{}, err
		}
		if len(e.Value) < hashSize {
			return Hash{}, errors.New("a hash of the audit log's tree is damaged")
		}
		t.add(Hash(e.Value[:hashSize]), nil)
	}
	if t.size != count {
		return Hash{}, errors.New("hashes of the audit log's tree are missing")
	}
	return t.root(), nil
}

// Prove gives the proof that the entry stands in the log of a given size, and the head of that size. RFC 6962 §2.1.1
func (l *Log) Prove(ctx context.Context, s Seq, size Seq) (tlog.RecordProof, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	if s == 0 || s > size || size > head.Seq {
		return nil, fhir.Errorf(fhir.NotFound, "the audit log has %d entries: there is no proof of entry %d in the first %d", head.Seq, s, size)
	}
	p, err := tlog.ProveRecord(int64(size), int64(s)-1, hashes{ctx, l.engine})
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "prove entry %d of the audit log: %w; run tombolo audit verify", s, err)
	}
	return p, nil
}

// CheckEntry reports whether the proof shows that the record is entry s of the log with that head. It needs nothing of the log itself.
func CheckEntry(p tlog.RecordProof, head Head, s Seq, record []byte) error {
	return tlog.CheckRecord(p, int64(head.Seq), head.Hash, int64(s)-1, tlog.RecordHash(record))
}

// Extends gives the proof that the log of the new size only adds to that of the old. RFC 6962 §2.1.2
func (l *Log) Extends(ctx context.Context, old, size Seq) (tlog.TreeProof, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	if old == 0 || old > size || size > head.Seq {
		return nil, fhir.Errorf(fhir.NotFound, "the audit log has %d entries: there is no proof from %d to %d", head.Seq, old, size)
	}
	p, err := tlog.ProveTree(int64(size), int64(old), hashes{ctx, l.engine})
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "prove that the audit log only grew: %w; run tombolo audit verify", err)
	}
	return p, nil
}

// CheckExtends reports whether the proof shows that the newer head's log holds all of the older's, unchanged and in its place.
func CheckExtends(p tlog.TreeProof, newer, older Head) error {
	if older.Seq == 0 {
		return nil // an empty log is the beginning of any
	}
	return tlog.CheckTree(p, int64(newer.Seq), newer.Hash, int64(older.Seq), older.Hash)
}
