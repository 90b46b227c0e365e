package fhirapi

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// deliver reads the file the second time, one patient after the other, what is nobody's first. It reports whether more is wanted.
func (f *file) deliver() bool {
	f.placeBinaries()
	groups, order := map[fhir.Ref][]int{}, []fhir.Ref{}
	put := func(g fhir.Ref, i int) {
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], i)
	}
	for i := range f.entries {
		g, err := f.groupOf(i, 0)
		if err != nil {
			data, _ := f.bytes(f.entries[i].span)
			f.reject(data, f.entries[i].place, asIssue(err))
			if f.stopped {
				return false
			}
			continue
		}
		put(g, i)
	}
	if i := slices.Index(order, ""); i > 0 {
		order = slices.Insert(slices.Delete(order, i, i+1), 0, "")
	}
	for _, g := range order {
		if !f.group(g, groups[g]) {
			return false
		}
	}
	if len(f.deleted) > 0 {
		return f.yield(connector.Delivery{Source: f.source, Received: f.received, ContentType: "application/fhir+json",
			Raw: fhir.JSON(f.deleted), Delete: f.deleted, Map: fileMapping}, nil)
	}
	return true
}

// groupOf is the patient an entry goes with, "" for nobody.
func (f *file) groupOf(i, deep int) (fhir.Ref, error) {
	e := f.entries[i]
	if e.with != "" && deep == 0 {
		if target, ok := f.resolve(e.with); ok {
			if j, in := f.known[target]; in {
				return f.groupOf(j, 1)
			}
		}
		return "", nil
	}
	if e.group == "" {
		return "", nil
	}
	ref, ok := f.resolve(e.group)
	if !ok || ref.Type() != "Patient" {
		return "", fhir.Errorf(fhir.BusinessRule, "the %s refers to a patient who is not in the file: give a relative reference (Patient/id) or put the Patient in", e.ref.Type()).At(e.ref.Type() + ".subject")
	}
	return ref, nil
}

// placeBinaries puts each Binary with the document that attaches it, for its content is that patient's.
func (f *file) placeBinaries() {
	for u, g := range f.binary {
		target, ok := f.resolve(u)
		if !ok {
			continue
		}
		if i, in := f.known[target]; in && target.Type() == "Binary" && f.entries[i].group == "" {
			f.entries[i].group = g
		}
	}
}

// group hands over one patient's entries, in as many deliveries as their size needs.
func (f *file) group(g fhir.Ref, members []int) bool {
	for part := 0; len(members) > 0; part++ {
		n, size := 0, int64(0)
		for n < len(members) && n < maxContent {
			e := f.entries[members[n]]
			if size += e.end - e.start; n > 0 && size > maxDelivery {
				break
			}
			n++
		}
		d := f.delivery(g, members[:n], part)
		if !f.yield(d, nil) {
			return false
		}
		members = members[n:]
	}
	return true
}

func (f *file) delivery(g fhir.Ref, members []int, part int) connector.Delivery {
	d := connector.Delivery{Source: f.source, Received: f.received, Map: fileMapping, Patient: g.ID()}
	if f.id != "" {
		d.ID = f.id + "#" + string(g) + "#" + strconv.Itoa(part)
	}
	var raw bytes.Buffer
	begin, between, end := "", "\n", "\n"
	d.ContentType = "application/fhir+ndjson"
	if !f.lines {
		d.ContentType = "application/fhir+json"
		if begin, between, end = "", "", ""; !f.single {
			begin, between, end = `{"resourceType":"Bundle","type":"`+cmp.Or(f.typ, "collection")+`","entry":[`, ",", "]}"
		}
	}
	raw.WriteString(begin)
	for n, i := range members {
		e := f.entries[i]
		data, err := f.bytes(e.span)
		if err != nil {
			d.Issues = append(d.Issues, asIssue(err).At(f.placeName(e.place)).From(f.source))
			continue
		}
		if n > 0 {
			raw.WriteString(between)
		}
		raw.Write(data)
		_, res, err := f.parse(data)
		var missing []string
		if err == nil {
			res, missing, err = f.relate(res)
		}
		if err != nil {
			d.Issues = append(d.Issues, asIssue(err).At(f.placeName(e.place)).From(f.source))
			continue
		}
		for _, m := range missing {
			issue := fhir.Errorf(fhir.Incomplete, "%s", m).At(f.placeName(e.place)).From(f.source)
			issue.Severity = fhir.Warning
			d.Issues = append(d.Issues, issue)
		}
		d.Content = append(d.Content, res)
	}
	raw.WriteString(end)
	d.Raw = raw.Bytes()
	return d
}

// relate makes a resource's references relative, or by identifier, and says which lead nowhere.
func (f *file) relate(res *fhir.Resource) (*fhir.Resource, []string, error) {
	missing := map[string]bool{}
	out, err := fhir.MapReferences(res, func(o fhir.Value, ref string) ([]byte, bool) {
		if target, ok := f.resolve(ref); ok {
			if string(target) == ref {
				return nil, false
			}
			return fhir.WithReference(o, string(target)), true
		}
		if typ, id, ok := conditional(ref); ok {
			if id.Value == "" {
				missing["a conditional reference to a "+typ+" by something other than its identifier could not be kept"] = true
			}
			return byIdentifier(o, typ, id), true
		}
		if strings.HasPrefix(ref, "urn:") {
			missing["a reference leads to an entry that is not in the file"] = true
		}
		return nil, false
	})
	if err == nil && (out.Type() == "DocumentReference" || out.Type() == "DiagnosticReport") {
		raw := out.Value().Rewrite(func(v fhir.Value) ([]byte, bool) {
			if v.Key() != "url" || !v.IsString() {
				return nil, false
			}
			target, ok := f.full[v.Str()]
			return fhir.JSON(target), ok
		})
		out, err = fhir.Parse(raw)
	}
	return out, slices.Sorted(maps.Keys(missing)), err
}

// byIdentifier is a Reference object with identifier in place of reference; display and the rest stay.
func byIdentifier(o fhir.Value, typ string, id fhir.Identifier) []byte {
	m := fhir.M{}
	_ = o.Decode(&m)
	delete(m, "reference")
	m["type"] = typ
	if id.Value != "" {
		m["identifier"] = id
	}
	return fhir.JSON(m)
}
