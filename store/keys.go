package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
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

// Index keys: partition x<name of type and parameter>, key <value> <end> <place>, no value.
//
// The value is written so that it ends and still sorts as itself: 00 becomes 00 ff, the end is 00 01. The place is p and the codes of patient and id
// (idcode.go), or s, the source, 00 and the code of the id: in the order of places, and each place's keys apart from all others'.
func indexPart(typ, param string) kv.Part {
	n := indexName{typ, param}
	if p, ok := indexNames().parts[n]; ok {
		return p.part
	}
	return namedPart(n) // nothing is in it
}

// An indexName is a search parameter of a type.
type indexName struct{ typ, param string }

func (n indexName) String() string { return n.typ + "/" + n.param }

// namedPart is the partition of a parameter. There are a thousand or two, and each name stands in every key of its partition, twice in PostgreSQL: so it is short.
func namedPart(n indexName) kv.Part {
	sum := sha256.Sum256([]byte(n.String()))
	return kv.Part("x" + base64.RawURLEncoding.EncodeToString(sum[:4]))
}

type indexTable struct {
	parts map[indexName]indexed
	names map[kv.Part]indexName
}

type indexed struct {
	part  kv.Part
	token bool
}

// indexNames are the partitions of all parameters that are indexed, both ways.
var indexNames = sync.OnceValue(func() indexTable {
	t := indexTable{map[indexName]indexed{}, map[kv.Part]indexName{}}
	for typ, d := range search.Indexed() {
		n := indexName{typ, d.Name}
		part := namedPart(n)
		t.parts[n], t.names[part] = indexed{part, d.Kind == search.KindToken}, n
	}
	return t
})

// isIndex says whether a partition is of the index.
func isIndex(part kv.Part) bool { return len(part) == 7 && part[0] == 'x' && part[1] != '/' }

// formerIndex is how partitions of the index began up to index rules 2: x/<Type>/<parameter>. Reindex removes them.
const formerIndex = "x/"

// ofIndex is what a partition of the index is for; its own name where this program does not know it.
func ofIndex(part kv.Part) (typ, param string) {
	if n, ok := indexNames().names[part]; ok {
		return n.typ, n.param
	}
	return "", string(part)
}

// indexValue is how keys of the index begin that are of a value.
func indexValue(typ, param, value string) string {
	if indexNames().parts[indexName{typ, param}].token {
		value = shortToken(value)
	}
	return escaped(value) + valueEnd
}

// indexRange is where the index has the entries of a range of values.
func indexRange(typ string, r search.Range) kv.Range {
	out := kv.Range{Part: indexPart(typ, r.Name)}
	if value, ok := r.Exact(); ok {
		out.From = indexValue(typ, r.Name, value)
		out.To = strings.TrimSuffix(out.From, valueEnd) + "\x00\xff" // 00 in a value, after which nothing of this one comes
		return out
	}
	// The ends of other ranges are no whole values: of tokens they end with the bar.
	out.From = escaped(r.From) + valueEnd
	if r.To != "" {
		out.To = escaped(r.To) + valueEnd
	}
	return out
}

func indexKey(typ, param, value string, at place) kv.Key {
	return indexKeyOf(typ, param, value, at.code())
}

// indexKeyOf is indexKey for a place as it stands in a key.
func indexKeyOf(typ, param, value, at string) kv.Key {
	return kv.Key{Part: indexPart(typ, param), Key: indexValue(typ, param, value) + at}
}

// stem is how an engine may keep keys of the index together: those of one value and one patient's record. (What is nobody's has no groups: there may be any
// number of organisations that are active.) See kv.Grouper; the code of an id begins with neither.
func stem(k kv.Key) int {
	if !isIndex(k.Part) {
		return -1
	}
	i := strings.Index(k.Key, valueEnd)
	if i < 0 || len(k.Key) < i+3 || k.Key[i+2] != 'p' {
		return 0
	}
	_, n, ok := idOf(k.Key[i+3:])
	if !ok {
		return 0
	}
	return i + 3 + n
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

// partCode is how the keys of the index write a partition with records, before the code of an id.
func partCode(part kv.Part) string {
	if id := patientOf(part); id != "" {
		return string(appendID([]byte{'p'}, id))
	}
	return "s" + strings.TrimPrefix(string(part), sourcePrefix) + "\x00"
}

// code is the place as it stands in keys of the index.
func (p place) code() string { return string(appendID([]byte(partCode(p.part)), p.id)) }

// placeOf reads the place at the end of an index key.
func placeOf(key string) (at place, ok bool) {
	i := strings.Index(key, valueEnd) // what follows 00 in a value is not 01
	if i < 0 || len(key) < i+3 {
		return place{}, false
	}
	kind, rest := key[i+2], key[i+3:]
	switch kind {
	case 'p':
		id, n, ok := idOf(rest)
		if !ok {
			return place{}, false
		}
		at.part, rest = patientPart(id), rest[n:]
	case 's':
		source, after, ok := strings.Cut(rest, "\x00")
		if !ok {
			return place{}, false
		}
		at.part, rest = kv.Part(sourcePrefix+source), after
	default:
		return place{}, false
	}
	id, n, ok := idOf(rest)
	at.id = id
	return at, ok && n == len(rest)
}
