package intake

import (
	"context"
	"encoding/json"
	"iter"
	"strings"

	"tombolo/fhir"
)

// Quarantine lists what could not be taken, at most limit (0: all), for whoever must mend it.
func (in *Intake) Quarantine(ctx context.Context, limit int) ([]Quarantined, error) {
	var out []Quarantined
	for item, err := range in.o.Store.View(BucketQuarantine).ScanFrom(ctx, "", limit) {
		if err != nil {
			return nil, err
		}
		var q Quarantined
		if err := json.Unmarshal(item.Value, &q); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the quarantine list holds an unreadable entry")
		}
		out = append(out, q)
	}
	return out, nil
}

// Held lists what of a source could not be taken at all and waits for whoever must mend it, at most limit (0: all).
func (in *Intake) Held(ctx context.Context, source string, limit int) ([]Quarantined, error) {
	var out []Quarantined
	prefix := source + "\x00whole\x00"
	for item, err := range in.o.Store.View(BucketQuarantine).ScanFrom(ctx, prefix, limit) {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(item.Key, prefix) {
			break
		}
		var q Quarantined
		if err := json.Unmarshal(item.Value, &q); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the quarantine list holds an unreadable entry")
		}
		out = append(out, q)
	}
	return out, nil
}

// HeldRaw is what waits in quarantine of a source under a hash, with its bytes; of type NotFound if it does not wait.
func (in *Intake) HeldRaw(ctx context.Context, source, hash string) (Quarantined, []byte, error) {
	data, ok, err := in.o.Store.View(BucketQuarantine).Get(ctx, quarantineKey(source, hash, true))
	if err != nil {
		return Quarantined{}, nil, err
	}
	if !ok {
		return Quarantined{}, nil, fhir.Errorf(fhir.NotFound, "nothing waits in quarantine under that hash")
	}
	var q Quarantined
	if err := json.Unmarshal(data, &q); err != nil {
		return Quarantined{}, nil, fhir.Errorf(fhir.Exception, "the quarantine list holds an unreadable entry")
	}
	raw, err := in.Raw(ctx, hash)
	return q, raw, err
}

// Kept yields everything that a source sent, as it arrived, each content once: what was taken and what was not.
func (in *Intake) Kept(ctx context.Context, source string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		given := map[string]bool{}
		for item, err := range in.o.Store.View(BucketSeen).ScanFrom(ctx, source+"\x00", 0) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !strings.HasPrefix(item.Key, source+"\x00") {
				return
			}
			hash := item.Key[strings.LastIndexByte(item.Key, 0)+1:]
			if strings.Count(item.Key, "\x00") < 2 || given[hash] {
				continue
			}
			given[hash] = true
			raw, err := in.Raw(ctx, hash)
			if !yield(raw, err) {
				return
			}
		}
	}
}
