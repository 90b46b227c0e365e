package mpi

import (
	"context"
	"slices"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// Some sources know whose a national number is: the register that gives it out. What such an authority says goes before what others say: of the number in use, of
// those it superseded, of the practice and of death. A number that another source has for somebody described differently is not believed from
// that source; one that the authority has invalidated is believed from nobody. One more key of the bucket:
//
//	void/<system>|<value>              -> id of the authority's Patient that says that the number is nobody's
//	void/<system>|<value>/<patient id> -> nothing: a patient who has it nevertheless
const voidPrefix = "void/"

// Trust makes sources authorities for the numbers that they tell of. Call it before the index follows the log.
func (x *Index) Trust(sources ...string) { x.trusted = append(x.trusted, sources...) }

// void reports whether an authority has said that a number is nobody's, and notes who has it.
func void(ctx context.Context, b store.TxBucket, id fhir.Identifier, patient string) (bool, error) {
	key := voidPrefix + short(id.System+"|"+id.Value)
	_, ok, err := b.Get(ctx, key)
	if ok {
		b.Put(key+"/"+patient, nil)
	}
	return ok, err
}

// valid takes back that a number is nobody's: who has it is looked at anew.
func (x *Index) valid(ctx context.Context, b store.TxBucket, key string, anew []Patient) ([]Patient, error) {
	if _, ok, err := b.Get(ctx, key); err != nil || !ok {
		return anew, err
	}
	b.Delete(key)
	for item, err := range b.Scan(ctx, key+"/") {
		if err != nil {
			return anew, err
		}
		b.Delete(item.Key)
		_, p, err := x.owner(ctx, b, item.Key[len(key)+1:])
		if err != nil {
			return anew, err
		}
		if p == nil {
			continue
		}
		if q, _ := p.without(item.Key[len(key)+1:]); q.ID != "" {
			anew = append(anew, q)
		}
	}
	return anew, nil
}

// claim takes in what an authority says of the numbers of its Patient, before it is known who that is, and gives the patients of other sources who must be looked
// at anew once it is: those who have one of the numbers and are described as somebody else, or whose number is nobody's.
func (x *Index) claim(ctx context.Context, b store.TxBucket, pt *Patient) (anew []Patient, err error) {
	for _, id := range nationalNumbers(pt.Identifiers) {
		if id.Use == "old" {
			continue
		}
		key := voidPrefix + short(id.System+"|"+id.Value)
		if pt.Redacted {
			b.Put(key, []byte(pt.ID))
		} else if anew, err = x.valid(ctx, b, key, anew); err != nil {
			return nil, err
		}
		owner, err := getString(ctx, b, idKey(id))
		if err != nil {
			return nil, err
		}
		if owner == "" {
			continue
		}
		p := &Person{}
		if err := getJSON(ctx, b, personPrefix+owner, p); err != nil {
			return nil, err
		}
		_, rest := p.without(pt.ID)
		if !pt.Redacted && (len(rest) == 0 || agreeWith(*pt, rest)) {
			continue
		}
		b.Delete(idKey(id))
		for _, q := range rest {
			if !q.Trusted && slices.ContainsFunc(q.Identifiers, func(k fhir.Identifier) bool { return k.System == id.System && k.Value == id.Value }) && !slices.ContainsFunc(anew, func(k Patient) bool { return k.ID == q.ID }) {
				anew = append(anew, q)
			}
		}
	}
	if pt.Redacted { // nobody is known by what is nobody's
		pt.Identifiers = nil
	}
	return anew, nil
}

// look looks at patients anew, as if they had been sent again.
func (x *Index) look(ctx context.Context, tx store.Tx, e events.Event, anew []Patient) error {
	for _, q := range anew {
		if err := x.patient(ctx, tx, events.Event{Seq: e.Seq, Ref: fhir.MakeRef("Patient", q.ID), Source: q.Source, At: e.At}); err != nil {
			return err
		}
	}
	return nil
}
