package bulk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"

	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/store"
)

// An Asking is the request by which a job was asked for.
type Asking struct {
	Address string // as its manifest repeats it
	// Key is the client's own name for the request, with which it may safely be sent again; "" if it stands for itself.
	Key string
	// Asked is what the request says beside its lines: method, address, conditions. The same lines under the same Key to another address are another request.
	Asked string
}

// A once is one request that may have come before: what it is known by, and the hash of what it brings, as it comes in.
type once struct {
	place string // its key in the bucket; "" if it stands for itself
	sum   hash.Hash
}

// begun is what is remembered under a key.
type begun struct {
	Source string `json:"source"`
	Job    string `json:"job"`
	Hash   string `json:"hash"` // of what was asked and of what came
}

// A twin says that the same key was used meanwhile by a request that was sooner done.
type twin struct{ begun begun }

func (*twin) Error() string { return "the same key was used at the same time" }

func (s *Service) once(own *gather.Own, ask Asking) *once {
	o := &once{sum: sha256.New()}
	o.sum.Write([]byte(ask.Asked + "\x00"))
	if ask.Key != "" {
		name := sha256.Sum256([]byte(own.Key(ask.Key)))
		o.place = "once/" + own.Source() + "/" + hex.EncodeToString(name[:16])
	}
	return o
}

func (o *once) hash() string { return hex.EncodeToString(o.sum.Sum(nil)) }

// before gives what was begun under the key; ok is false if nothing was.
func (o *once) before(ctx context.Context, from interface {
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)
}) (was begun, ok bool, err error) {
	if o.place == "" {
		return was, false, nil
	}
	v, ok, err := from.Get(ctx, o.place)
	if err == nil && ok {
		err = json.Unmarshal(v, &was)
	}
	return was, ok, err
}

// again is the answer to a request whose key came before, once all of it was read.
func (o *once) again(was begun) (Job, error) {
	if was.Hash != o.hash() {
		return Job{}, fhir.Errorf(fhir.BusinessRule, "this key was used for another request: give each request its own key, and repeat a request byte for byte")
	}
	return Job{ID: was.Job, Source: was.Source}, nil
}

// keep remembers in a transaction which job was begun; a *twin if another was, meanwhile.
func (o *once) keep(ctx context.Context, b store.TxBucket, job Job) error {
	was, ok, err := o.before(ctx, b)
	switch {
	case err != nil || o.place == "":
		return err
	case ok:
		return &twin{was}
	}
	b.Put(o.place, fhir.JSON(begun{job.Source, job.ID, o.hash()}))
	return nil
}

// forget takes back in a transaction that a job was begun.
func (o *once) forget(ctx context.Context, b store.TxBucket, job string) error {
	if was, ok, err := o.before(ctx, b); err != nil || !ok || was.Job != job {
		return err
	}
	b.Delete(o.place)
	return nil
}
