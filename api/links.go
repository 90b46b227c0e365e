package api

import (
	"context"
	"net/http"
	"net/url"
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
	inOrder, err := conditionsInOrder(entries)
	if err != nil {
		return nil, err
	}
	for _, e := range inOrder {
		if e.reads {
			continue
		}
		if err := l.rewriteCondition(e); err != nil {
			return nil, err
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

// conditionsInOrder gives the entries as they were sent, but each after those that its condition names by their fullUrl: what "subject=urn:uuid:…" means is
// known when it is known what stands behind that. Conditions that wait for each other mean nothing, and are refused.
func conditionsInOrder(entries []*entry) ([]*entry, error) {
	named := map[string]*entry{}
	for _, e := range entries {
		if e.fullURL != "" && !e.reads {
			named[e.fullURL] = e
		}
	}
	const waits, done = 1, 2
	out, state := make([]*entry, 0, len(entries)), map[*entry]int{}
	var put func(e *entry) error
	put = func(e *entry) error {
		switch state[e] {
		case waits:
			return e.issue(fhir.BusinessRule, ".request", "the condition names an entry of this transaction whose own condition waits for this one: nobody can say which comes first. Name by identifier what one of them is about")
		case done:
			return nil
		}
		state[e] = waits
		for _, name := range namesIn(e.cond) {
			if other := named[name]; other != nil {
				if err := put(other); err != nil {
					return err
				}
			}
		}
		state[e] = done
		out = append(out, e)
		return nil
	}
	for _, e := range entries {
		if err := put(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// namesIn are the values in a condition that may be a fullUrl.
func namesIn(condition string) []string {
	if !strings.Contains(condition, "urn") && !strings.Contains(condition, "http") {
		return nil
	}
	var out []string
	for pair := range strings.SplitSeq(condition, "&") {
		_, value, _ := strings.Cut(pair, "=")
		if text, err := url.QueryUnescape(value); err == nil {
			out = append(out, strings.Split(text, ",")...)
		}
	}
	return out
}

// rewriteCondition has an entry's condition speak of what its names will be here.
func (l *links) rewriteCondition(e *entry) error {
	changed := false
	pairs := strings.Split(e.cond, "&")
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		values := namesIn(pair)
		for j, v := range values {
			if ref, ok := l.byID[v]; ok && ref != "" {
				values[j], changed = string(ref), true
			}
		}
		if len(values) > 0 {
			value = url.QueryEscape(strings.Join(values, ","))
		}
		pairs[i] = name + "=" + value
	}
	if !changed {
		return nil
	}
	e.cond = strings.Join(pairs, "&")
	return l.s.where(l.r, e)
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
