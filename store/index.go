package store

import (
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

const paramUpdated = "_lastUpdated"

// indexKeys are the keys under which a resource at a place can be found across records: one for each pair of search.Values, with
// three differences, each of which candidates.go makes good when it looks up.
//
//   - A reference to the very patient in whose record the resource stands has none: the record is a partition, and is scanned.
//   - _id has none: the index of ids is there already. (Ids in capitals have one, because search leaves case aside.)
//   - _lastUpdated, whose values are updated, is that of the version being written.
func indexKeys(r *fhir.Resource, at place, updated []string) []kv.Key {
	keys := make([]kv.Key, 0, 16)
	own, end := ownValue(at.part), at.code()
	for name, value := range search.Values(r) {
		if value == own || name == paramUpdated || name == "_id" && r.ID() == strings.ToLower(r.ID()) {
			continue
		}
		keys = append(keys, indexKeyOf(r.Type(), name, value, end))
	}
	for _, value := range updated {
		keys = append(keys, indexKeyOf(r.Type(), paramUpdated, value, end))
	}
	return keys
}

// updatedValues are the index values of a meta.lastUpdated, the same for every type.
func updatedValues(updated string) (values []string) {
	stamp := fhir.New("Basic", "", fhir.M{"meta": fhir.M{"lastUpdated": updated}})
	for name, value := range search.Values(stamp) {
		if name == paramUpdated {
			values = append(values, value)
		}
	}
	return values
}

// ownValue is how search.Values writes a reference to the patient whose record a partition is; "\x00" for other partitions.
func ownValue(part kv.Part) string {
	id := patientOf(part)
	if id == "" {
		return "\x00"
	}
	return id + "/Patient"
}

// ownersIn are the patients to whom a reference is held by one of the ranges, the references that indexKeys leaves out.
func ownersIn(ranges []search.Range) []string {
	var ids []string
	for _, r := range ranges {
		id, _, _ := strings.Cut(r.From, "/")
		if fhir.ValidID(id) && r.Holds(r.Name, id+"/Patient") {
			ids = append(ids, id)
		}
	}
	return ids
}
