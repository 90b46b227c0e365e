package api

import (
	"context"
	"net/http"
	"strings"

	"tombolo/fhir"
	"tombolo/intake"
)

// links are the references inside a transaction: what each name that the Bundle uses will be here. FHIR R4 http.html#trules
type links struct {
	s    *server
	r    *http.Request
	byID map[string]fhir.Ref // fullUrl -> what it becomes
	old  map[string]fhir.Ref // "Type/id" of entries that are POSTed without a fullUrl of that form, which many clients send all the same
	cond map[string]fhir.Ref // "Type?query" -> what it means
}

// link decides what every entry that writes is about: ids for what is created, what answers a condition for the others.
func (s *server) link(ctx context.Context, tx *intake.Writing, r *http.Request, entries []*entry) (*links, error) {
	l := &links{s: s, r: r, byID: map[string]fhir.Ref{}, old: map[string]fhir.Ref{}, cond: map[string]fhir.Ref{}}
	targets := map[fhir.Ref]bool{}
	var known []fhir.Ref
	for _, e := range entries {
		if e.change.id != "" && !e.reads {
			known = append(known, fhir.MakeRef(e.change.typ, e.change.id))
		}
	}
	if err := tx.Prefetch(ctx, known...); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.reads {
			continue
		}
		ref, err := target(ctx, tx, e)
		if err != nil {
			return nil, err
		}
		e.ref = ref
		if ref == "" { // a condition that nothing answers, of what is not created then
			continue
		}
		if e.method != "POST" || e.change.where == nil {
			if targets[ref] {
				return nil, e.issue(fhir.BusinessRule, ".request.url", "two entries of this transaction are about the same resource: join them")
			}
			targets[ref] = true
		}
		if err := l.name(e, ref); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// target is what an entry that writes is about.
func target(ctx context.Context, tx *intake.Writing, e *entry) (fhir.Ref, error) {
	c := e.change
	if c.where == nil {
		if c.method == "POST" {
			return fhir.MakeRef(c.typ, intake.NewID()), nil
		}
		return fhir.MakeRef(c.typ, c.id), nil
	}
	was, err := current(ctx, tx, c, c.method == "POST" || c.method == "PUT")
	if err != nil {
		if i := fhir.IssueOf(err); i != nil {
			return "", i.At(e.at + ".request")
		}
		return "", err
	}
	switch {
	case was != nil:
		return was.Ref(), nil
	case c.method == "PUT" && e.oldID != "":
		return fhir.MakeRef(c.typ, e.oldID), nil
	case c.method == "POST" || c.method == "PUT":
		return fhir.MakeRef(c.typ, intake.NewID()), nil
	}
	return "", nil
}

// name remembers by which names the Bundle may speak of an entry.
func (l *links) name(e *entry, ref fhir.Ref) error {
	if e.fullURL != "" {
		if was, ok := l.byID[e.fullURL]; ok && was != ref {
			return e.issue(fhir.BusinessRule, ".fullUrl", "two entries have the same fullUrl")
		}
		l.byID[e.fullURL] = ref
	}
	if e.method == "POST" && e.oldID != "" {
		l.old[string(fhir.MakeRef(e.change.typ, e.oldID))] = ref
	}
	return nil
}

// rewrite gives an entry's resource as it will stand here: links to other entries and conditional references become references, in Reference
// elements, in elements that are a URL themselves, and in the narrative. All other bytes stay.
func (l *links) rewrite(ctx context.Context, tx *intake.Writing, e *entry, r *fhir.Resource) (*fhir.Resource, error) {
	var failed error
	link := func(v fhir.Value) ([]byte, bool) {
		if !v.IsString() || failed != nil || len(v.Raw()) > longestLink && v.Key() != "div" {
			return nil, false
		}
		text := v.Str()
		to, err := l.resolve(ctx, tx, e, v.Key(), text)
		if err != nil {
			failed = err
			return nil, false
		}
		if to == "" && v.Key() == "div" {
			to = l.narrative(text)
		}
		if to == "" || to == text {
			return nil, false
		}
		return fhir.JSON(to), true
	}
	if !holdsLink(r.Value(), link) || failed != nil { // most do not, and are not copied
		return r, failed
	}
	raw := r.Value().Rewrite(link)
	if failed != nil {
		return r, failed
	}
	return fhir.Parse(raw)
}

// longestLink is longer than any text that is looked up as a link, in bytes.
const longestLink = 8 << 10

// holdsLink reports whether a value has something in it that link would write otherwise. Asking stops there.
func holdsLink(v fhir.Value, link func(fhir.Value) ([]byte, bool)) bool {
	if _, ok := link(v); ok {
		return true
	}
	for c := range v.Children() {
		if holdsLink(c, link) {
			return true
		}
	}
	return false
}

// resolve says what a text means; "" if it is not a link.
func (l *links) resolve(ctx context.Context, tx *intake.Writing, e *entry, key, text string) (string, error) {
	if ref, ok := l.byID[text]; ok && (key == "reference" || strings.Contains(text, ":")) {
		return string(ref), nil
	}
	isReference := key == "reference"
	if strings.HasPrefix(text, "urn:uuid:") || strings.HasPrefix(text, "urn:oid:") {
		if isReference {
			return "", e.issue(fhir.NotFound, ".resource", "a reference to %.60q, and no entry of this transaction has that fullUrl", text)
		}
		return "", nil
	}
	if !isReference {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(text, l.s.base(l.r)+"/"); ok {
		text = rest
		if !strings.Contains(rest, "?") {
			return rest, nil
		}
	}
	if typ, query, ok := strings.Cut(text, "?"); ok && fhir.IsType(typ) {
		return l.conditional(ctx, tx, e, typ, query)
	}
	// FHIR R4 bundle.html#references: a relative reference, seen from an entry with an absolute fullUrl.
	plain, version, versioned := strings.Cut(text, "/_history/")
	if root, ok := rootOf(e.fullURL); ok {
		if ref, ok := l.byID[root+plain]; ok {
			return string(ref), nil
		}
	}
	if ref, ok := l.old[plain]; ok && string(ref) != plain {
		if versioned {
			_ = version // the version was of the client's copy; there is no such version here
		}
		return string(ref), nil
	}
	return "", nil
}

// rootOf is the base of a fullUrl of the form [root]/Type/id, with the slash.
func rootOf(fullURL string) (string, bool) {
	i := strings.LastIndexByte(fullURL, '/')
	if i < 0 {
		return "", false
	}
	j := strings.LastIndexByte(fullURL[:i], '/')
	if j < 0 || !fhir.IsType(fullURL[j+1:i]) {
		return "", false
	}
	return fullURL[:j+1], true
}

// conditional resolves "Practitioner?identifier=…": exactly one must answer. FHIR R4 http.html#trules
func (l *links) conditional(ctx context.Context, tx *intake.Writing, e *entry, typ, query string) (string, error) {
	if ref, ok := l.cond[typ+"?"+query]; ok {
		return string(ref), nil
	}
	q, err := l.s.condition(l.r, typ, query, e.at+".resource")
	if err != nil {
		i := fhir.IssueOf(err)
		return "", i.At(e.at + ".resource")
	}
	found, err := tx.Find(ctx, *q, 2)
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", e.issue(fhir.NotFound, ".resource", "nothing answers a conditional reference to a %s", typ)
	case len(found) > 1:
		return "", e.issue(fhir.MultipleMatch, ".resource", "more than one %s answers a conditional reference", typ)
	}
	l.cond[typ+"?"+query] = found[0].Ref()
	return string(found[0].Ref()), nil
}

// narrative rewrites links in a narrative's HTML: href and src that are an entry's fullUrl.
func (l *links) narrative(div string) string {
	if !strings.Contains(div, "urn:") {
		return ""
	}
	out := div
	for full, ref := range l.byID {
		for _, quote := range []string{`"`, `'`} {
			for _, name := range []string{"href=", "src="} {
				out = strings.ReplaceAll(out, name+quote+full+quote, name+quote+string(ref)+quote)
			}
		}
	}
	if out == div {
		return ""
	}
	return out
}
