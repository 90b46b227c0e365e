package fhirpath

import (
	"strings"
	"time"

	"tombolo/fhir"
)

// fhirFunctions are those that FHIR adds. FHIR R4 fhirpath.html#functions
var fhirFunctions = map[string]*function{
	"extension":      {least: 1, most: 1, do: extension},
	"hasValue":       {do: hasValue},
	"getValue":       {do: getValue},
	"resolve":        {do: resolve},
	"memberOf":       {least: 1, most: 1, do: memberOf},
	"conformsTo":     {least: 1, most: 1, do: conformsTo},
	"htmlChecks":     {do: htmlChecks},
	"htmlChecks2":    {do: htmlChecks},
	"checkModifiers": {most: 50, do: checkModifiers},
}

func extension(r *run, n *call, lo int) error {
	url, ok, err := r.textArgument(n, 0)
	if err != nil {
		return err
	}
	hi := len(r.stack)
	if !ok {
		return r.nothing(lo)
	}
	for i := lo; i < hi; i++ {
		from := len(r.stack)
		if err := r.children(r.stack[i], "extension"); err != nil {
			return err
		}
		kept := from
		for j := from; j < len(r.stack); j++ {
			if r.stack[j].val.Member("url").Str() == url {
				r.stack[kept] = r.stack[j]
				kept++
			}
		}
		r.stack = r.stack[:kept]
	}
	r.keep(lo, hi)
	return nil
}

func hasValue(r *run, n *call, lo int) error {
	return r.answer(lo, computed(len(r.stack) == lo+1 && r.stack[lo].hasValue()))
}

// getValue gives the System value of a FHIR primitive.
func getValue(r *run, n *call, lo int) error {
	if len(r.stack) != lo+1 {
		return r.nothing(lo)
	}
	v := r.stack[lo].system()
	if v == nil || !r.stack[lo].hasValue() {
		return r.nothing(lo)
	}
	return r.answer(lo, computed(v))
}

// resolve follows references: into what is contained, into the Bundle, and as Env.Resolve knows. What is not found is left out.
func resolve(r *run, n *call, lo int) error {
	hi := len(r.stack)
	for i := lo; i < hi; i++ {
		it := r.stack[i]
		ref, ok := it.system().(string)
		if !ok {
			ref = it.val.Member("reference").Str()
		}
		if ref == "" {
			continue
		}
		v, err := r.resolved(ref)
		if err != nil {
			return err
		}
		if !v.Exists() && r.env.Resolve != nil {
			v = r.env.Resolve(ref)
		}
		if v.Exists() {
			if err := r.push(resourceItem(v)); err != nil {
				return err
			}
		}
	}
	r.keep(lo, hi)
	return nil
}

// resolved looks for a reference in the resource, and in the Bundle if it is one. FHIR R4 references.html#contained, bundle.html#references
func (r *run) resolved(ref string) (fhir.Value, error) {
	root := r.resource().val
	if r.env.Root.typ != nil {
		root = r.env.Root.val
	}
	if id, contained := strings.CutPrefix(ref, "#"); contained {
		if id == "" {
			return root, nil
		}
		for c := range root.All("contained") {
			if c.Member("id").Str() == id {
				return c, nil
			}
		}
		return fhir.Value{}, nil
	}
	for e := range root.All("entry") {
		if err := r.step(1); err != nil {
			return fhir.Value{}, err
		}
		full, res := e.Member("fullUrl").Str(), e.Member("resource")
		if full == ref && res.Exists() {
			return res, nil
		}
		if typ, id, ok := strings.Cut(ref, "/"); ok && typ == res.Member("resourceType").Str() && id == res.Member("id").Str() {
			return res, nil
		}
	}
	return fhir.Value{}, nil
}

func memberOf(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil {
		return err
	}
	vs, ok, err := r.textArgument(n, 0)
	if err != nil || it == nil || !ok {
		return r.none(lo, err)
	}
	if r.env.MemberOf != nil {
		if in, known := r.env.MemberOf(vs, *it); known {
			return r.answer(lo, computed(in))
		}
	}
	return r.nothing(lo) // FHIR R4 fhirpath.html: if the value set cannot be told, the result is empty
}

const baseProfile = "http://hl7.org/fhir/StructureDefinition/"

func conformsTo(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil {
		return err
	}
	profile, ok, err := r.textArgument(n, 0)
	if err != nil || it == nil || !ok {
		return r.none(lo, err)
	}
	if name, base := strings.CutPrefix(profile, baseProfile); base {
		if t := r.model.named[name]; t != nil {
			return r.answer(lo, computed(it.typ.Is(t)))
		}
	}
	if r.env.ConformsTo != nil {
		if so, known := r.env.ConformsTo(profile, *it); known {
			return r.answer(lo, computed(so))
		}
	}
	return fault("conformsTo() names a profile that is not known here")
}

// checkModifiers gives its input if it has no modifier extensions but those named; else it is an error.
func checkModifiers(r *run, n *call, lo int) error {
	known := map[string]bool{}
	hi := len(r.stack)
	for i := range n.args {
		url, ok, err := r.textArgument(n, i)
		if err != nil {
			return err
		}
		if ok {
			known[url] = true
		}
	}
	for i := lo; i < hi; i++ {
		for e := range r.stack[i].val.All("modifierExtension") {
			if !known[e.Member("url").Str()] {
				return fault("there is a modifier extension that the expression does not know")
			}
		}
	}
	return nil
}

func htmlChecks(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil || it == nil {
		return err
	}
	s, _ := it.system().(string)
	if err := r.step(len(s) / 8); err != nil {
		return err
	}
	return r.answer(lo, computed(Narrative(s) == nil))
}

func (r *run) clock() time.Time {
	if r.now.IsZero() {
		if r.now = r.env.Now; r.now.IsZero() {
			r.now = time.Now()
		}
	}
	return r.now
}

func today(r *run, n *call, lo int) error {
	m := momentOf(r.clock())
	return r.answer(lo, computed(Moment{kind: kindDate, precision: toDay, part: [7]int{m.part[0], m.part[1], m.part[2]}}))
}

func timeOfDay(r *run, n *call, lo int) error {
	m := momentOf(r.clock())
	m.kind, m.zone, m.offset = kindTime, false, 0
	m.part[0], m.part[1], m.part[2] = 0, 0, 0
	return r.answer(lo, computed(m))
}
