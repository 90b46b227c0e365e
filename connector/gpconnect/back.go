package gpconnect

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// A Returned is one R4 resource as STU3 (CareConnect-GPC) again.
type Returned struct {
	From    *fhir.Resource
	Type    string // STU3 type
	ID      string
	Raw     json.RawMessage
	Lost    []string // members for which STU3 has no place
	Refused string   // why it cannot be told in STU3 at all; Raw is nil then
}

// Ref is the STU3 reference.
func (r Returned) Ref() string { return r.Type + "/" + r.ID }

// Return converts R4 UK Core resources to STU3 for those who still ask in it: the way back of Convert, for the same types. They are
// converted together, so that references between them can be put right. It is pure and keeps their order. What STU3 has no place for is
// named, never put in a place that means something else; what would be turned round by leaving something out is refused.
func Return(resources []*fhir.Resource) []Returned {
	b := &backward{names: map[string]string{}}
	out := make([]Returned, len(resources))
	for i, r := range resources {
		typ := stu3Type(r)
		id := r.ID()
		if typ == "ProcedureRequest" {
			id = strings.TrimPrefix(id, "pr-")
		}
		out[i] = Returned{From: r, Type: typ, ID: id}
		if typ != "" {
			b.names[string(r.Ref())] = typ + "/" + id
		}
	}
	for i := range out {
		b.one(&out[i])
	}
	return out
}

// stu3Type is what an R4 resource is in STU3, "" if GP Connect has nothing of the kind. A ServiceRequest is two things there.
func stu3Type(r *fhir.Resource) string {
	switch typ := r.Type(); typ {
	case "ServiceRequest":
		if r.Text("intent") == "plan" || dataset.HeadingOf(r) == dataset.Results || strings.HasPrefix(r.ID(), "pr-") {
			return "ProcedureRequest"
		}
		return "ReferralRequest"
	case "Appointment", "Slot", "Schedule":
		return ""
	default:
		if f, ok := shapes[typ]; ok && f.to == typ {
			return typ
		}
	}
	return ""
}

type backward struct{ names map[string]string }

type tree = map[string]any

func (b *backward) one(r *Returned) {
	if r.Type == "" {
		r.Refused = "GP Connect has no such type"
		return
	}
	m := tree{}
	dec := json.NewDecoder(bytes.NewReader(r.From.Raw()))
	dec.UseNumber() // 1.0 stays 1.0
	if err := dec.Decode(&m); err != nil {
		r.Refused = "it cannot be read"
		return
	}
	e := &elder{tree: m}
	if r.From.Get("modifierExtension").Exists() {
		e.refuse("it carries a modifier that GP Connect cannot tell")
	}
	if fn := backForms[r.Type]; fn != nil {
		fn(e)
	}
	if e.refused != "" {
		r.Refused = e.refused
		return
	}
	e.restore(r.Type)
	members := shapes[r.Type].members
	for _, k := range slices.Sorted(maps.Keys(m)) {
		switch k {
		case "resourceType", "id", "meta", "extension", "contained", "text", "language":
			continue
		}
		if _, ok := members[strings.TrimPrefix(k, "_")]; !ok {
			delete(m, k)
			if !strings.HasPrefix(k, "_") { // the extension of a value is that "unknown" which R4 wanted and STU3 does not
				r.Lost = append(r.Lost, k)
			}
		}
	}
	m["resourceType"], m["id"], m["meta"] = r.Type, r.ID, e.meta(r.Type)
	r.Raw = fhir.JSON(b.everywhere(m))
}

// everywhere puts references, code systems and extensions under the names that they had.
func (b *backward) everywhere(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = b.everywhere(v[i])
		}
	case tree:
		for k, c := range v {
			s, isText := c.(string)
			switch {
			case k == "reference" && isText:
				if to, ok := b.names[s]; ok {
					v[k] = to
				}
			case k == "system" && isText:
				v[k] = oldSystem(s)
			case k == "url" && isText:
				v[k] = oldExtension(s)
			default:
				v[k] = b.everywhere(c)
			}
		}
		warningBack(v)
	}
	return v
}

// warningBack: the warning of a list was a bare code.
func warningBack(ext tree) {
	if url, _ := ext["url"].(string); !strings.HasSuffix(url, "ListWarningCode-1") && !strings.HasSuffix(url, "-ListWarningCode") {
		return
	}
	if c, ok := ext["valueCodeableConcept"].(tree); ok {
		ext["url"] = gpcExt + "CareConnect-GPC-ListWarningCode-1"
		ext["valueCode"] = code(c)
		delete(ext, "valueCodeableConcept")
	}
}

var oldSystems = func() map[string]string {
	m := map[string]string{}
	for _, old := range slices.Sorted(maps.Keys(systems)) {
		to := systems[old]
		if strings.Contains(to, "/Id/") {
			continue // the canonical identifier systems are those of GP Connect 1.x
		}
		if _, ok := m[to]; !ok || strings.Contains(old, "/CodeSystem/") {
			m[to] = old
		}
	}
	return m
}()

func oldSystem(s string) string {
	if old, ok := oldSystems[s]; ok {
		return old
	}
	if rest, ok := strings.CutPrefix(s, terminology+"v3-"); ok {
		return "http://hl7.org/fhir/v3/" + rest
	}
	if rest, ok := strings.CutPrefix(s, terminology+"v2-"); ok {
		return "http://hl7.org/fhir/v2/" + rest
	}
	return s
}

var oldExtensions = func() map[string]string {
	m := map[string]string{}
	for _, old := range slices.Sorted(maps.Keys(sameInUKCore)) {
		to := sameInUKCore[old]
		base := stu3Ext
		if strings.Contains(old, "GPC-") || strings.HasPrefix(old, "GPConnect-") {
			base = gpcExt
		}
		if _, ok := m[ukExt+to]; !ok || base == gpcExt {
			m[ukExt+to] = base + old + "-1"
		}
	}
	return m
}()

func oldExtension(url string) string {
	if old, ok := oldExtensions[url]; ok {
		return old
	}
	return url
}

// code is the code of a concept's first coding.
func code(concept any) string {
	m, _ := concept.(tree)
	list, _ := m["coding"].([]any)
	if len(list) == 0 {
		return ""
	}
	first, _ := list[0].(tree)
	s, _ := first["code"].(string)
	return s
}

// An elder is a resource on its way back.
type elder struct {
	tree
	refused string
}

func (e *elder) refuse(why string) {
	if e.refused == "" {
		e.refused = why
	}
}

// rename moves a member to where STU3 has it.
func (e *elder) rename(from, to string) {
	for _, under := range [...]string{"", "_"} {
		if v, ok := e.tree[under+from]; ok {
			delete(e.tree, under+from)
			e.tree[under+to] = v
		}
	}
}

// bare turns a concept into its code.
func (e *elder) bare(name string) {
	if v, ok := e.tree[name]; ok {
		if e.tree[name] = code(v); e.tree[name] == "" {
			delete(e.tree, name)
		}
	}
}

// single keeps the first of a list that STU3 has once; the rest is lost where STU3 has no place.
func (e *elder) single(name string) {
	if list, ok := e.tree[name].([]any); ok && len(list) > 0 {
		e.tree[name] = list[0]
		if len(list) > 1 {
			e.tree[name+" (all but the first)"] = list[1:]
		}
	}
}

func (e *elder) text(name string) string { s, _ := e.tree[name].(string); return s }

// items are the objects of a list.
func items(v any) []tree {
	var out []tree
	list, _ := v.([]any)
	for _, i := range list {
		if m, ok := i.(tree); ok {
			out = append(out, m)
		}
	}
	return out
}

// take removes the extension that carried an element of STU3 through R4, and gives what it held. See carry.
func (e *elder) take(url string) []any {
	list, _ := e.tree["extension"].([]any)
	var held, rest []any
	for _, x := range list {
		m, _ := x.(tree)
		if m["url"] != url {
			rest = append(rest, x)
			continue
		}
		for k, v := range m {
			if strings.HasPrefix(k, "value") {
				held = append(held, v)
			}
		}
	}
	if len(held) > 0 {
		e.tree["extension"] = rest
		if len(rest) == 0 {
			delete(e.tree, "extension")
		}
	}
	return held
}

// extend adds an extension.
func (e *elder) extend(x tree) {
	list, _ := e.tree["extension"].([]any)
	e.tree["extension"] = append(list, x)
}

func (e *elder) has(url string) bool {
	for _, x := range items(e.tree["extension"]) {
		if u, _ := x["url"].(string); u == url || oldExtension(u) == url {
			return true
		}
	}
	return false
}

const carried = "http://hl7.org/fhir/3.0/StructureDefinition/extension-"

// restore puts what Convert carried in extensions back into its own place.
func (e *elder) restore(typ string) {
	for name := range shapes[typ].members {
		if held := e.take(carried + typ + "." + name); len(held) > 0 {
			switch name {
			case "status", "verificationStatus", "taken", "created", "isBrand", "isOverTheCounter", "context", "notDone":
				e.tree[name] = held[0]
			default:
				e.tree[name] = held
			}
		}
	}
}

// meta has the profile of CareConnect-GPC, the labels, and the source as a tag, since STU3 has no meta.source.
func (e *elder) meta(typ string) tree {
	old, _ := e.tree["meta"].(tree)
	m := tree{"profile": []string{"https://fhir.nhs.uk/STU3/StructureDefinition/" + profileOf(typ)}}
	for _, k := range [...]string{"security", "versionId", "lastUpdated"} {
		if v, ok := old[k]; ok {
			m[k] = v
		}
	}
	var tags []any
	for _, t := range items(old["tag"]) {
		if t["system"] != fhir.SystemHeading {
			tags = append(tags, t)
		}
	}
	if s, _ := old["source"].(string); strings.HasPrefix(s, "urn:tombolo:source:") {
		source, _, _ := strings.Cut(strings.TrimPrefix(s, "urn:tombolo:source:"), "#")
		tags = append(tags, tree{"system": fhir.SystemSource, "code": source})
	}
	if len(tags) > 0 {
		m["tag"] = tags
	}
	return m
}

func profileOf(typ string) string {
	switch typ {
	case "Condition":
		return "CareConnect-GPC-ProblemHeader-Condition-1"
	}
	return "CareConnect-GPC-" + typ + "-1"
}
