package intake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"tombolo/fhir"
	"tombolo/store"
)

// BucketRaw: <sha-256> -> the bytes that arrived, or the first rawPart of them; <sha-256>/<n>, from 00001 on -> the next, and so on to a part that is
// shorter, or to none. A store holds a value several times over while it writes it out: a whole delivery of tens of megabytes is too much for that.
const (
	BucketRaw = "intake-raw"
	rawPart   = 1 << 20
)

func rawKey(hash string, n int) string {
	if n == 0 {
		return hash
	}
	return fmt.Sprintf("%s/%05d", hash, n)
}

// putRaw keeps the bytes of a delivery.
func putRaw(tx store.Tx, hash string, raw []byte) {
	for n := 0; ; n++ {
		part := raw[:min(len(raw), rawPart)]
		tx.Bucket(BucketRaw).Put(rawKey(hash, n), part)
		if raw = raw[len(part):]; len(raw) == 0 {
			return
		}
	}
}

// Raw gives back the bytes of a delivery by their hash, as they arrived.
func (in *Intake) Raw(ctx context.Context, hash string) ([]byte, error) {
	var raw []byte
	for n := 0; ; n++ {
		part, ok, err := in.o.Store.View(BucketRaw).Get(ctx, rawKey(hash, n))
		if err != nil {
			return nil, err
		}
		if n == 0 && !ok {
			return nil, fhir.Errorf(fhir.NotFound, "no delivery with that hash is kept")
		}
		raw = append(raw, part...)
		if len(part) != rawPart { // the last, one that is not there, or a whole delivery of before there were parts
			break
		}
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != hash {
		return nil, fhir.Errorf(fhir.Exception, "the bytes that are kept under that hash are damaged: restore them from a checkpoint, or have the source send them again")
	}
	return raw, nil
}
