package web

import (
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A topic is a part of a consultation: a title with what was written under it, in the order of writing, or one thing written.
type topic struct {
	Title, Text string
	Marks       []mark
	Items       []topic
}

// The lists by which a consultation is laid out. GP Connect 1.6 accessrecord_structured_development_consultation_guidance.html
const (
	listConsultation = "325851000000107"
	listTopic        = "25851000000105"
	listCategory     = "24781000000107"
	codeComment      = "37331000000100" // Comment note: the words are all there is to it
)

const mostDepth = 6 // of a consultation's layout: it has three levels

// byRef finds whatever a record shows by its reference.
func byRef(rec *gather.Record) map[fhir.Ref]*fhir.Resource {
	all := map[fhir.Ref]*fhir.Resource{}
	var take func(entries []gather.Entry)
	take = func(entries []gather.Entry) {
		for i := range entries {
			for _, m := range entries[i].Members {
				all[m.Resource.Ref()] = m.Resource
			}
			take(entries[i].Related)
		}
	}
	for _, s := range rec.Sections {
		take(s.Entries)
	}
	return all
}

// topics lays a consultation out as it was written, and says which of the entries under it are told by that. What a list names and the
// record does not show is passed over: it was not asked, or is not for this reader.
func (t teller) topics(e *gather.Entry) (out []topic, told map[fhir.Ref]bool) {
	lists, inside := map[fhir.Ref]*fhir.Resource{}, map[fhir.Ref]bool{}
	var order []fhir.Ref
	for i := range e.Related {
		r := e.Related[i].Lead
		if !structural(r) {
			continue
		}
		lists[r.Ref()] = r
		order = append(order, r.Ref())
		for item := range r.Value().All("entry.item.reference") {
			inside[fhir.Ref(item.Str())] = true
		}
	}
	slices.Sort(order)
	l := &outline{t: t, lists: lists, told: map[fhir.Ref]bool{}, seen: map[fhir.Ref]bool{}}
	for _, ref := range order {
		if !inside[ref] {
			out = append(out, l.list(lists[ref], 0)...)
		}
	}
	return out, l.told
}

// An outline is a consultation being laid out.
type outline struct {
	t          teller
	lists      map[fhir.Ref]*fhir.Resource
	told, seen map[fhir.Ref]bool
}

// list is a list's topic: its items alone where it has no title of its own.
func (l *outline) list(r *fhir.Resource, depth int) []topic {
	if l.seen[r.Ref()] || depth > mostDepth {
		return nil
	}
	l.seen[r.Ref()] = true
	var items []topic
	for item := range r.Value().All("entry.item.reference") {
		ref := fhir.Ref(item.Str())
		if sub := l.lists[ref]; sub != nil {
			items = append(items, l.list(sub, depth+1)...)
		} else if at := l.t.all[ref]; at != nil {
			l.told[ref] = true
			items = append(items, l.leaf(at))
		}
	}
	title := r.Text("title")
	if len(items) == 0 || title == "" || r.Text("code.coding.code") == listConsultation {
		return items
	}
	return []topic{{Title: title, Items: items}}
}

func (l *outline) leaf(r *fhir.Resource) topic {
	told := l.t.tell(r)
	out := topic{Text: join(": ", told.What, told.Value), Marks: told.Marks}
	if r.Text("code.coding.code") == codeComment && told.Value != "" {
		out.Text = told.Value
	}
	if h := dataset.HeadingOf(r); h == dataset.Medications || h == dataset.Immunisations || h == dataset.Referrals || h == dataset.Problems {
		out.Title = h.Title()
	}
	return out
}
