package locator

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/store"
)

// RegistryBucket is the name of what other organisations have registered here:
//
//	id/<pointer id>             -> Registered
//	of/<NHS number>/<id>        -> nothing
//	was/<pointer id>/<when>     -> Registered, as it was until then
//	count/<custodian>           -> how many
//
// Unlike the pointers that follow the log it is nobody's shadow: it is the record itself.
const RegistryBucket = "locator-registry"

// A Registered is a pointer that an organisation keeps here: a record of its own, whether or not this region knows the person.
type Registered struct {
	ID          string          `json:"id"`
	Application string          `json:"app"` // through which it came
	Subject     string          `json:"nhs"`
	Custodian   string          `json:"custodian"`
	Type        string          `json:"type"`     // system|code
	Category    string          `json:"category"` // system|code
	Created     time.Time       `json:"created"`
	Updated     time.Time       `json:"updated"`
	Doc         json.RawMessage `json:"doc"` // the DocumentReference
}

// A Registry keeps pointers for those who register them. It may be used from many goroutines, and from many nodes on one store.
type Registry struct{ db *store.DB }

// NewRegistry makes a Registry over a store.
func NewRegistry(db *store.DB) *Registry { return &Registry{db} }

// Create keeps a new pointer and takes away those that it replaces, all or nothing. It fails with fhir.Conflict if the id is taken; one that is to be
// replaced and is not there is passed over.
func (g *Registry) Create(ctx context.Context, p Registered, replaces ...string) error {
	_, err := g.db.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(RegistryBucket)
		if _, taken, err := b.Get(ctx, "id/"+p.ID); err != nil {
			return err
		} else if taken {
			return fhir.Errorf(fhir.Conflict, "there is a pointer with this id already")
		}
		for _, id := range slices.Compact(slices.Sorted(slices.Values(replaces))) {
			if _, err := g.remove(ctx, tx, id); err != nil && !fhir.Is(err, fhir.NotFound) {
				return err
			}
		}
		p.Created, p.Updated = tx.Now(), tx.Now()
		return g.put(ctx, b, p, 1)
	})
	return err
}

// Update changes a pointer's document; who and what it is about stays. It fails with fhir.NotFound.
func (g *Registry) Update(ctx context.Context, id string, change func(Registered) (json.RawMessage, error)) error {
	_, err := g.db.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(RegistryBucket)
		p, err := g.get(ctx, b.Get, id)
		if err != nil {
			return err
		}
		doc, err := change(p)
		if err != nil {
			return err
		}
		g.keep(b, p, tx.Now())
		p.Doc, p.Updated = doc, tx.Now()
		return g.put(ctx, b, p, 0)
	})
	return err
}

// Delete takes a pointer away. It fails with fhir.NotFound.
func (g *Registry) Delete(ctx context.Context, id string) error {
	_, err := g.db.Update(ctx, func(tx store.Tx) error {
		_, err := g.remove(ctx, tx, id)
		return err
	})
	return err
}

func (g *Registry) remove(ctx context.Context, tx store.Tx, id string) (Registered, error) {
	b := tx.Bucket(RegistryBucket)
	p, err := g.get(ctx, b.Get, id)
	if err != nil {
		return p, err
	}
	g.keep(b, p, tx.Now())
	b.Delete("id/" + id)
	b.Delete("of/" + p.Subject + "/" + id)
	return p, g.count(ctx, b, p.Custodian, -1)
}

func (g *Registry) put(ctx context.Context, b store.TxBucket, p Registered, more int) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	b.Put("id/"+p.ID, data)
	b.Put("of/"+p.Subject+"/"+p.ID, nil)
	if more == 0 {
		return nil
	}
	return g.count(ctx, b, p.Custodian, more)
}

// keep remembers a pointer as it was: what was told of it must be able to be told again.
func (g *Registry) keep(b store.TxBucket, p Registered, until time.Time) {
	data, _ := json.Marshal(p)
	b.Put("was/"+p.ID+"/"+until.UTC().Format("20060102T150405.000000000"), data)
}

func (g *Registry) count(ctx context.Context, b store.TxBucket, custodian string, more int) error {
	v, _, err := b.Get(ctx, "count/"+custodian)
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(v))
	b.Put("count/"+custodian, strconv.AppendInt(nil, int64(max(n+more, 0)), 10))
	return nil
}

func (g *Registry) get(ctx context.Context, get func(context.Context, string) ([]byte, bool, error), id string) (p Registered, err error) {
	data, ok, err := get(ctx, "id/"+id)
	if err != nil {
		return p, err
	}
	if !ok {
		return p, fhir.Errorf(fhir.NotFound, "there is no such pointer")
	}
	return p, unreadable(json.Unmarshal(data, &p))
}

func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return fhir.Errorf(fhir.Exception, "a registered pointer cannot be read: restore it from a backup")
}

// Get returns a pointer, or an issue of type NotFound.
func (g *Registry) Get(ctx context.Context, id string) (Registered, error) {
	return g.get(ctx, g.db.View(RegistryBucket).Get, id)
}

// Of returns the pointers about whoever has any of these NHS numbers, by id.
func (g *Registry) Of(ctx context.Context, numbers ...string) ([]Registered, error) {
	v := g.db.View(RegistryBucket)
	var keys []string
	for _, n := range numbers {
		for item, err := range v.Scan(ctx, "of/"+n+"/") {
			if err != nil {
				return nil, err
			}
			keys = append(keys, "id/"+strings.TrimPrefix(item.Key, "of/"+n+"/"))
		}
	}
	slices.Sort(keys)
	found, err := v.MultiGet(ctx, slices.Compact(keys)...)
	if err != nil {
		return nil, err
	}
	var out []Registered
	for _, data := range found {
		if data == nil {
			continue // taken away between the two reads
		}
		var p Registered
		if err := unreadable(json.Unmarshal(data, &p)); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Counts is how many pointers each custodian has here.
func (g *Registry) Counts(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	for item, err := range g.db.View(RegistryBucket).Scan(ctx, "count/") {
		if err != nil {
			return nil, err
		}
		if n, _ := strconv.Atoi(string(item.Value)); n > 0 {
			out[strings.TrimPrefix(item.Key, "count/")] = n
		}
	}
	return out, nil
}
