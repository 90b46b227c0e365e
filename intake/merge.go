package intake

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/store"
)

// BucketOrder: <this server's ref> -> what Order each element of a Partial resource was told with, so that deliveries may come in any order.
const BucketOrder = "intake-order"

// said is, for each element of a resource, the order of the delivery that told of it last. Elements that were only assumed rank below all
// that were said. "*" stands for the whole: the source took it back, or told of all of it.
type said map[string]string

// whole is the element that stands for the resource itself.
const whole = "*"

func rankOf(order string, assumed bool) string {
	if assumed {
		return "0" + order
	}
	return "1" + order
}

func (s said) MarshalJSON() ([]byte, error) { // most elements were told of together
	by := map[string][]string{}
	for _, path := range slices.Sorted(maps.Keys(s)) {
		by[s[path]] = append(by[s[path]], path)
	}
	return json.Marshal(by)
}

func (s *said) UnmarshalJSON(data []byte) error {
	var by map[string][]string
	if err := json.Unmarshal(data, &by); err != nil {
		return err
	}
	*s = said{}
	for order, paths := range by {
		for _, p := range paths {
			(*s)[p] = order
		}
	}
	return nil
}

// A merger lays partial resources of one delivery over what is here. Each element is a register in which the greatest Order wins, so that
// any order of arrival gives the same resource: the one that the deliveries in their own order would give.
type merger struct {
	d                *connector.Delivery
	orders           map[fhir.Ref]said
	cleared, assumed map[fhir.Ref][]string // by this server's refs
}

// merger reads what is known of the order of the content, in one round trip. names are what some of it is called otherwise here.
func (in *Intake) merger(ctx context.Context, tx store.Tx, d *connector.Delivery, refs []fhir.Ref, names map[fhir.Ref]fhir.Ref) (*merger, error) {
	m := &merger{d: d, cleared: map[fhir.Ref][]string{}, assumed: map[fhir.Ref][]string{}, orders: map[fhir.Ref]said{}}
	for ref, paths := range d.Cleared {
		ref = in.o.Stamper.Ref(d.Source, ref)
		m.cleared[cmp.Or(names[ref], ref)] = paths
	}
	for ref, paths := range d.Assumed {
		ref = in.o.Stamper.Ref(d.Source, ref)
		m.assumed[cmp.Or(names[ref], ref)] = paths
	}
	if d.Order == "" {
		return m, nil
	}
	keys := make([]string, len(refs))
	for i, r := range refs {
		keys[i] = string(r)
	}
	known, err := tx.Bucket(BucketOrder).MultiGet(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, data := range known {
		if data == nil {
			continue
		}
		var s said
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "%s: the order of its elements is unreadable: %w", refs[i], err)
		}
		m.orders[refs[i]] = s
	}
	return m, nil
}

// withdrawn reports whether the source took the resource back after it said this.
func (m *merger) withdrawn(ref fhir.Ref) bool {
	return m.d.Order != "" && m.orders[ref][whole] > rankOf(m.d.Order, false)
}

// partial reports whether a resource is to be laid over what is here.
func (m *merger) partial(r *fhir.Resource) bool { return slices.Contains(m.d.Partial, r.Type()) }

// ordered reports whether its elements have an order, so that an older delivery undoes nothing.
func (m *merger) ordered(r *fhir.Resource) bool { return m.d.Order != "" && m.partial(r) }

// over lays r over what is here.
func (m *merger) over(ctx context.Context, tx store.Tx, r *fhir.Resource) (*fhir.Resource, error) {
	was, err := tx.Get(ctx, r.Ref())
	if err != nil && !fhir.Is(err, fhir.NotFound) && !fhir.Is(err, fhir.Deleted) {
		return nil, err
	}
	now := map[string]json.RawMessage{}
	if err == nil {
		now = elements(was)
	}
	order := m.orders[r.Ref()]
	if order == nil {
		order = said{}
	}
	for path, raw := range elements(r) {
		m.set(now, order, path, raw, slices.Contains(m.assumed[r.Ref()], path))
	}
	for _, path := range m.cleared[r.Ref()] {
		for p := range now {
			if p != path && under(p, path) {
				m.set(now, order, p, nil, false)
			}
		}
		m.set(now, order, path, nil, false)
	}
	if m.d.Order != "" {
		data, err := json.Marshal(order)
		if err != nil {
			return nil, err
		}
		tx.Bucket(BucketOrder).Put(string(r.Ref()), data)
	}
	return joined(r, now), nil
}

// set writes one element, unless a later delivery has told of it.
func (m *merger) set(now map[string]json.RawMessage, order said, path string, raw json.RawMessage, assumed bool) {
	rank := rankOf(m.d.Order, assumed)
	if m.d.Order == "" { // as it arrives
		if _, here := now[path]; assumed && here {
			return
		}
		rank = ""
	} else if order.of(path) > rank {
		return
	}
	if raw == nil {
		delete(now, path)
	} else {
		now[path] = raw
	}
	if rank != "" {
		order[path] = rank
	}
}

// of is the order of an element: its own, or that of what it is part of, which may have been cleared as a whole.
func (s said) of(path string) string {
	top := s[path]
	if i := strings.IndexAny(path, ".|"); i > 0 {
		top = max(top, s[path[:i]])
	}
	return top
}

func under(path, parent string) bool {
	return len(path) > len(parent) && path[:len(parent)] == parent && (path[len(parent)] == '.' || path[len(parent)] == '|')
}

// parts are elements whose own elements are told of one by one: when a visit began, and when it ended.
var parts = map[string]bool{"Encounter.period": true, "Encounter.hospitalization": true}

// tagPaths are the two kinds of tags, each told of by itself.
var tagPaths = map[string]func(system string) bool{"meta.tag": notOfUnit, "meta.unit": ofUnit}

// elements are a resource's elements by path, without id and what Stamp says in meta. A patient's identifiers are told of by system.
func elements(r *fhir.Resource) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for e := range r.Value().Children() {
		switch k := e.Key(); {
		case k == "resourceType" || k == "id":
		case k == "meta":
			for p := range e.Children() {
				switch p.Key() {
				case "security":
					out["meta.security"] = p.Raw()
				case "tag": // which unit it is of is told of by itself: other tags do not take it away
					for path, want := range tagPaths {
						if tags := tagsOf(r, want); len(tags) > 0 {
							out[path] = fhir.JSON(tags)
						}
					}
				}
			}
		case parts[r.Type()+"."+k]:
			for p := range e.Children() {
				out[k+"."+p.Key()] = p.Raw()
			}
		case k == "identifier" && r.Type() == "Patient":
			for i := range r.Value().All("identifier") {
				p := "identifier|" + i.Text("system")
				if was := out[p]; was != nil {
					out[p] = slices.Concat(was, []byte(","), i.Raw())
				} else {
					out[p] = i.Raw()
				}
			}
		default:
			out[k] = e.Raw()
		}
	}
	return out
}

// joined makes a resource of elements, with the id and meta of r.
func joined(r *fhir.Resource, from map[string]json.RawMessage) *fhir.Resource {
	members := make([]fhir.Member, 0, len(from)+1)
	inner := map[string][]fhir.Member{} // of elements that are told of in parts
	for p := range r.Get("meta").Children() {
		if p.Key() != "security" && p.Key() != "tag" {
			inner["meta"] = append(inner["meta"], fhir.Member{Name: p.Key(), Raw: p.Raw()})
		}
	}
	var tags []json.RawMessage
	for _, path := range slices.Sorted(maps.Keys(tagPaths)) {
		var some []json.RawMessage
		if raw, ok := from[path]; ok && json.Unmarshal(raw, &some) == nil {
			tags = append(tags, some...)
		}
	}
	if tags != nil {
		inner["meta"] = append(inner["meta"], fhir.Member{Name: "tag", Raw: fhir.JSON(tags)})
	}
	var identifiers []fhir.Member
	for path, raw := range from {
		if tagPaths[path] != nil {
			continue
		}
		parent, part, ok := strings.Cut(path, ".")
		switch {
		case strings.HasPrefix(path, "identifier|"):
			identifiers = append(identifiers, fhir.Member{Name: path, Raw: raw})
		case ok:
			inner[parent] = append(inner[parent], fhir.Member{Name: part, Raw: raw})
		default:
			members = append(members, fhir.Member{Name: path, Raw: raw})
		}
	}
	if identifiers != nil {
		byName(identifiers)
		list := []byte("[")
		for i, m := range identifiers {
			if i > 0 {
				list = append(list, ',')
			}
			list = append(list, m.Raw...)
		}
		members = append(members, fhir.Member{Name: "identifier", Raw: append(list, ']')})
	}
	for name, parts := range inner {
		byName(parts)
		object := []byte("{")
		for i, m := range parts {
			if i > 0 {
				object = append(object, ',')
			}
			object = append(append(append(object, fhir.JSON(m.Name)...), ':'), m.Raw...)
		}
		members = append(members, fhir.Member{Name: name, Raw: append(object, '}')})
	}
	return fhir.Join(r.Type(), r.ID(), members)
}

func byName(members []fhir.Member) {
	slices.SortFunc(members, func(a, b fhir.Member) int { return strings.Compare(a.Name, b.Name) })
}

// home is the patient under whom a resource stands: the delivery's, unless a later delivery has moved it to another.
func (m *merger) home(r *fhir.Resource, patient string) string {
	if r.Type() == "Patient" {
		return r.ID()
	}
	if shared[r.Type()] {
		return ""
	}
	if m.ordered(r) {
		for _, of := range fhir.Subjects(r) {
			if id, ok := strings.CutPrefix(of.Reference, "Patient/"); ok {
				return id
			}
		}
	}
	return patient
}

// withdraw notes that the source took a resource back, so that what it said of it before, and comes after, stays out.
func (m *merger) withdraw(tx store.Tx, ref fhir.Ref) error {
	if m.d.Order == "" {
		return nil
	}
	data, err := json.Marshal(said{whole: rankOf(m.d.Order, false)})
	if err != nil {
		return err
	}
	tx.Bucket(BucketOrder).Put(string(ref), data)
	return nil
}
