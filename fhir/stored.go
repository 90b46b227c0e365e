package fhir

// What a store needs in order to keep and serve bytes without parsing them again.

// Splice returns the resource's JSON with the top-level member name set to value, which must be valid JSON. It is added at the end
// where there was none; all other bytes stay. With is the same for those who want a Resource back.
func (r *Resource) Splice(name string, value []byte) []byte {
	return r.AppendSplice(make([]byte, 0, len(r.Raw())+len(name)+len(value)+4), name, value)
}

// AppendSplice is Splice at the end of out.
func (r *Resource) AppendSplice(out []byte, name string, value []byte) []byte {
	raw := r.Raw()
	if m := r.root.Member(name); m.Exists() {
		root, n, src := r.root.n(), m.n(), r.root.doc.src
		out = append(out, src[root.start:n.start]...)
		out = append(out, value...)
		return append(out, src[n.end:root.end]...)
	}
	out = append(out, raw[:len(raw)-1]...)
	out = append(out, ',')
	out = append(out, mustJSON(name)...)
	out = append(out, ':')
	out = append(out, value...)
	return append(out, '}')
}

// AddRaw appends a resource of which only the reference and the bytes are at hand, as Add does.
func (w *BundleWriter) AddRaw(ref Ref, raw []byte, mode string) {
	if w.entries == 0 {
		w.buf.WriteString(`,"entry":[{`)
	} else {
		w.buf.WriteString(`,{`)
	}
	w.entries++
	if w.base != "" && ref.ID() != "" {
		w.buf.WriteString(`"fullUrl":"` + w.base + "/" + string(ref) + `",`)
	}
	w.buf.WriteString(`"resource":`)
	w.buf.Write(raw)
	if mode != "" {
		w.buf.WriteString(`,"search":{"mode":"` + mode + `"}`)
	}
	w.buf.WriteByte('}')
}
