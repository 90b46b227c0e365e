package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"tombolo/fhir"
	"tombolo/kv"
)

// The partitions. docs/storage.md says of each key who writes and who reads it.
const (
	patientPrefix         = "p/" // p/<patient>: one source patient's record
	sourcePrefix          = "s/" // s/<source>: what is nobody's record
	bucketPrefix          = "b/" // b/<bucket>: a room's own
	cataloguePart kv.Part = "c"  // which p/ and s/ partitions there are
)

func patientPart(id string) kv.Part { return kv.Part(patientPrefix + id) }

func bucketPart(name string) kv.Part { return kv.Part(bucketPrefix + name) }

// idPart spreads the entries by which ids are found over 256 partitions, so that an engine of many machines uses them all.
func idPart(ref fhir.Ref) kv.Part {
	sum := sha256.Sum256([]byte(ref))
	return kv.Part("i/" + hex.EncodeToString(sum[:1]))
}

func idKey(ref fhir.Ref) kv.Key { return kv.Key{Part: idPart(ref), Key: string(ref)} }

// Keys inside a p/ or s/ partition.
const (
	currentPrefix = "r/" // r/<Type>/<id> -> the current version
	oldPrefix     = "h/" // h/<Type>/<id>/<version> -> a version that was, or a tombstone
)

func currentKey(part kv.Part, ref fhir.Ref) kv.Key {
	return kv.Key{Part: part, Key: currentPrefix + string(ref)}
}

func refOfCurrent(key string) fhir.Ref { return fhir.Ref(strings.TrimPrefix(key, currentPrefix)) }

func historyPrefix(ref fhir.Ref) string { return oldPrefix + string(ref) + "/" }

func historyKey(part kv.Part, ref fhir.Ref, version int) kv.Key {
	return kv.Key{Part: part, Key: fmt.Sprintf("%s%010d", historyPrefix(ref), version)}
}

// Index keys: partition x/<Type>/<parameter>, key <value> <end> <partition> 00 <id>, no value.
//
// The value is written so that it ends and still sorts as itself: 00 becomes 00 ff, the end is 00 01.
func indexPart(typ, param string) kv.Part { return kv.Part("x/" + typ + "/" + param) }

func indexValue(value string) string { return escaped(value) + valueEnd }

func indexKey(typ, param, value string, at place) kv.Key {
	return indexKeyOf(typ, param, value, at.String())
}

// indexKeyOf is indexKey for a place as it stands in a key.
func indexKeyOf(typ, param, value, at string) kv.Key {
	return kv.Key{Part: indexPart(typ, param), Key: escaped(value) + valueEnd + at}
}

// valueEnd stands after the value in an index key.
const valueEnd = "\x00\x01"

func escaped(value string) string {
	if strings.IndexByte(value, 0) >= 0 {
		return strings.ReplaceAll(value, "\x00", "\x00\xff")
	}
	return value
}

// A place is where a resource of a known type is; places are what a search's answer is ordered by.
type place struct {
	part kv.Part
	id   string
}

func (p place) String() string { return string(p.part) + "\x00" + p.id }

func (p place) compare(o place) int {
	if c := strings.Compare(string(p.part), string(o.part)); c != 0 {
		return c
	}
	return strings.Compare(p.id, o.id)
}

// placeOf reads the place at the end of an index key.
func placeOf(key string) (place, bool) {
	i := strings.LastIndex(key, "\x00")
	if i < 0 {
		return place{}, false
	}
	j := strings.LastIndex(key[:i], "\x00\x01")
	if j < 0 {
		return place{}, false
	}
	return place{kv.Part(key[j+2 : i]), key[i+1:]}, true
}
