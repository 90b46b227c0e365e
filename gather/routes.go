package gather

import (
	"bytes"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// origin is where a resource of this lane was first: for a neighbour as it says, for a system its own organisation and the id it has there.
func (l *lane) origin(told map[fhir.Ref]connector.Origin, r *fhir.Resource) connector.Origin {
	if l.Kind == neighbourLane {
		return told[r.Ref()]
	}
	_, id, _ := strings.Cut(r.Text("meta.source"), "#")
	if id == "" || id == connector.Withheld || l.system.Organisation == "" {
		return connector.Origin{}
	}
	return connector.Origin{Organisation: l.system.Organisation, ID: id}
}

// onceEach leaves out what came by a second route: the same organisation's resource under the same id, saying the same. The first stays, which is the one
// that came straight from its source if any did. What says anything else is not the same, whatever its id: two products of one trust may number alike.
func onceEach(members []Member) []Member {
	type place struct {
		connector.Origin
		typ string
	}
	seen := map[place][]int{}
	out := members[:0:0]
next:
	for _, m := range members {
		if m.origin == (connector.Origin{}) {
			out = append(out, m)
			continue
		}
		at := place{m.origin, m.Resource.Type()}
		for _, i := range seen[at] {
			if out[i].Source != m.Source && saysTheSame(out[i].Resource, m.Resource) {
				continue next
			}
		}
		seen[at] = append(seen[at], len(out))
		out = append(out, m)
	}
	return out
}

// saysTheSame compares two resources by all but what each route writes itself: id, meta, and whom references name.
func saysTheSame(a, b *fhir.Resource) bool { return bytes.Equal(bare(a), bare(b)) }

func bare(r *fhir.Resource) []byte {
	root := r.Value()
	id, meta := root.Member("id"), root.Member("meta")
	return root.Rewrite(func(v fhir.Value) ([]byte, bool) {
		switch {
		case v == id, v == meta, v.Key() == "reference" && v.IsString():
			return []byte(`""`), true
		}
		return nil, false
	})
}
