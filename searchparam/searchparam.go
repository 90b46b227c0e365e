// Package searchparam keeps the search parameters that systems define for their own records here (ADR 10), and the index by which they find.
//
// A SearchParameter is a resource like any other; this room follows the log. From the event of an active one on, what its system writes is indexed as it comes; what was there before is
// indexed in the background, a page at a time. When that is done, the parameter can be searched by. All of it can be made again from the log and the records.
//
// FHIR R4 searchparameter.html
package searchparam

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/search"
	"tombolo/store"
)

// Bucket: p/<source> -> the source's parameters, by the id of their SearchParameter; v/<source>/<type>/<code>/<value> 00 <id> -> nothing, an entry of the index;
// e/<reference> -> the entries of a resource.
const Bucket = "searchparam"

// MaxParameters is how many a system may have.
const MaxParameters = 100

// A State of a parameter.
type State string

// The states.
const (
	Indexing State = "indexing"
	Active   State = "active"
	Refused  State = "refused" // it cannot be indexed: Why says why
)

// A Parameter is one SearchParameter as it stands.
type Parameter struct {
	ID      string          `json:"id"`
	Version int             `json:"version"` // of the SearchParameter
	State   State           `json:"state"`
	Why     string          `json:"why,omitempty"`
	Text    json.RawMessage `json:"text"` // code, type, base, expression and target of the resource

	Types  []string `json:"types,omitempty"`
	Type   int      `json:"type"`   // the type that is being indexed, of Types
	Cursor string   `json:"cursor"` // and how far
	Done   int      `json:"done"`   // resources looked at
}

// define compiles a kept parameter.
func (p Parameter) define() (map[string]*search.Def, error) {
	r, err := fhir.Parse(p.Text)
	if err != nil {
		return nil, err
	}
	return search.Define(r)
}

// kept is what of a SearchParameter is needed.
func kept(r *fhir.Resource) json.RawMessage {
	m := fhir.M{}
	for _, name := range []string{"code", "type", "base", "expression", "target"} {
		if v := r.Get(name); v.Exists() {
			m[name] = json.RawMessage(r.Value().Member(name).Raw())
		}
	}
	return json.RawMessage(fhir.New("SearchParameter", "", m).Raw())
}

// r4Own is where R4's own parameters are defined: one of them is kept as any resource is, and defines nothing.
const r4Own = "http://hl7.org/fhir/SearchParameter/"

// defines reports whether a SearchParameter is to be searched by.
func defines(r *fhir.Resource) bool {
	return r.Type() == "SearchParameter" && r.Text("status") == "active" && !strings.HasPrefix(r.Text("url"), r4Own)
}

// Check refuses a SearchParameter that is to be searched by and cannot be, with the reason.
func Check(r *fhir.Resource) error {
	if !defines(r) {
		return nil
	}
	_, err := search.Define(r)
	return err
}

// Options of an Index.
type Options struct {
	Store  *store.DB
	Logger *slog.Logger
}

// An Index follows the log.
type Index struct {
	o    Options
	wake chan struct{}

	mu       sync.Mutex
	compiled map[string]compiled // by source
}

type compiled struct {
	text   string // as it stands in the bucket
	all    []Parameter
	custom search.Custom
}

// New makes an Index. Handle follows; Run indexes what was there before.
func New(o Options) *Index {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Index{o: o, wake: make(chan struct{}, 1), compiled: map[string]compiled{}}
}

func parametersKey(source string) string { return "p/" + source }

// read compiles what stands in the bucket, once.
func (x *Index) read(source string, value []byte) (compiled, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, ok := x.compiled[source]
	if ok && c.text == string(value) {
		return c, nil
	}
	c = compiled{text: string(value), custom: search.Custom{}}
	if len(value) > 0 {
		if err := json.Unmarshal(value, &c.all); err != nil {
			return c, err
		}
	}
	for _, p := range c.all {
		if p.State == Refused {
			continue
		}
		defs, err := p.define()
		if err != nil {
			return c, err
		}
		for typ, d := range defs {
			c.custom.Add(typ, d)
		}
	}
	x.compiled[source] = c
	return c, nil
}

// Handle takes one event of the log into the index, in the transaction in which the follower's cursor moves.
func (x *Index) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	b := tx.Bucket(Bucket)
	value, _, err := b.Get(ctx, parametersKey(e.Source))
	if err != nil {
		return err
	}
	if e.Ref.Type() == "SearchParameter" {
		if value, err = x.changed(ctx, tx, e, value); err != nil {
			return err
		}
	}
	if len(value) == 0 {
		return nil
	}
	c, err := x.read(e.Source, value)
	if err != nil {
		return err
	}
	if len(c.custom[e.Ref.Type()]) == 0 {
		return nil
	}
	return enter(ctx, tx, e.Source, e.Ref, c.custom)
}

// changed takes a SearchParameter into a system's parameters, as it is by now.
func (x *Index) changed(ctx context.Context, tx store.Tx, e events.Event, value []byte) ([]byte, error) {
	var all []Parameter
	if len(value) > 0 {
		if err := json.Unmarshal(value, &all); err != nil {
			return nil, err
		}
	}
	at := slices.IndexFunc(all, func(p Parameter) bool { return p.ID == e.Ref.ID() })
	r, err := tx.Get(ctx, e.Ref)
	switch {
	case fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) || err == nil && (connector.SourceOf(r) != e.Source || !defines(r)):
		if at < 0 {
			return value, nil
		}
		all = slices.Delete(all, at, at+1)
	case err != nil:
		return nil, err
	default:
		version, err := tx.Version(ctx, e.Ref)
		if err != nil {
			return nil, err
		}
		p := Parameter{ID: e.Ref.ID(), Version: version, State: Indexing, Text: kept(r)}
		if at >= 0 && string(all[at].Text) == string(p.Text) {
			return value, nil
		}
		if at >= 0 {
			all = slices.Delete(all, at, at+1)
		}
		defs, err := search.Define(r)
		for typ := range defs {
			p.Types = append(p.Types, typ)
			if slices.ContainsFunc(all, func(o Parameter) bool { return o.State != Refused && o.has(typ, r.Text("code")) }) {
				err = fhir.Errorf(fhir.BusinessRule, "another SearchParameter defines %s on %s already", r.Text("code"), typ)
			}
		}
		slices.Sort(p.Types)
		if err == nil && len(all) >= MaxParameters {
			err = fhir.Errorf(fhir.TooCostly, "a system has at most %d search parameters of its own", MaxParameters)
		}
		if err != nil {
			p.State, p.Why = Refused, fhir.IssueOf(err).Text
		}
		all = append(all, p)
	}
	value, err = json.Marshal(all)
	tx.Bucket(Bucket).Put(parametersKey(e.Source), value)
	x.poke()
	return value, err
}

func (p Parameter) has(typ, code string) bool {
	r, err := fhir.Parse(p.Text)
	return err == nil && r.Text("code") == code && slices.Contains(p.Types, typ)
}

func (x *Index) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func entryPrefix(source, typ, code string) string {
	return "v/" + source + "/" + typ + "/" + code + "/"
}

// enter makes a resource's entries those of what it is now.
func enter(ctx context.Context, tx store.Tx, source string, ref fhir.Ref, custom search.Custom) error {
	b := tx.Bucket(Bucket)
	var entries []string
	r, err := tx.Get(ctx, ref)
	switch {
	case fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) || err == nil && connector.SourceOf(r) != source:
	case err != nil:
		return err
	default:
		for code, d := range custom[ref.Type()] {
			for _, v := range d.Entries(r) {
				entries = append(entries, entryPrefix(source, ref.Type(), code)+v+"\x00"+ref.ID())
			}
		}
	}
	slices.Sort(entries)
	old, ok, err := b.Get(ctx, "e/"+string(ref))
	if err != nil {
		return err
	}
	var were []string
	if ok {
		if err := json.Unmarshal(old, &were); err != nil {
			return err
		}
	}
	if slices.Equal(were, entries) {
		return nil
	}
	for _, k := range were {
		if !slices.Contains(entries, k) {
			b.Delete(k)
		}
	}
	for _, k := range entries {
		b.Put(k, nil)
	}
	if len(entries) == 0 {
		b.Delete("e/" + string(ref))
	} else {
		b.Put("e/"+string(ref), fhir.JSON(entries))
	}
	return nil
}

// Run indexes what was there before a parameter, until ctx ends. Several nodes may do it at the same time: it comes to the same.
func (x *Index) Run(ctx context.Context) error {
	for wait := soon; ; {
		did, err := x.step(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			x.o.Logger.Error("a search parameter's index could not be made and will be gone on with", "error", err)
		case did:
			wait = soon
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.wake: // from within a transaction, whose parameter may be seen only in a moment
			wait = soon
		case <-time.After(wait):
			wait = min(2*wait, seldom)
		}
	}
}

// How soon after one has been told of is looked for a parameter to index; and how often where none was told of: another node may have taken it in.
const (
	soon   = 10 * time.Millisecond
	seldom = 5 * time.Second
)

// pageOf is how many resources are indexed in one transaction.
const pageOf = 200

// All gives the SearchParameters of every system that has some.
func (x *Index) All(ctx context.Context) (map[string][]Parameter, error) {
	all := map[string][]Parameter{}
	for item, err := range x.o.Store.View(Bucket).Scan(ctx, "p/") {
		if err != nil {
			return nil, err
		}
		source := strings.TrimPrefix(item.Key, "p/")
		c, err := x.read(source, item.Value)
		if err != nil {
			return nil, err
		}
		all[source] = c.all
	}
	return all, nil
}

// step indexes a page of one parameter, if one is to be indexed.
func (x *Index) step(ctx context.Context) (did bool, err error) {
	for item, err := range x.o.Store.View(Bucket).Scan(ctx, "p/") {
		if err != nil {
			return false, err
		}
		source := strings.TrimPrefix(item.Key, "p/")
		c, err := x.read(source, item.Value)
		if err != nil {
			return false, err
		}
		for _, p := range c.all {
			if p.State == Indexing {
				return true, x.index(ctx, source, p, c.custom)
			}
		}
	}
	return false, nil
}

func (x *Index) index(ctx context.Context, source string, p Parameter, custom search.Custom) error {
	var found []fhir.Ref
	next := p
	if p.Type == len(p.Types) {
		next.State = Active
	} else {
		page, err := x.o.Store.Search(ctx, search.Query{Type: p.Types[p.Type], Source: source, Count: pageOf, Cursor: p.Cursor})
		if err != nil {
			return err
		}
		for _, r := range page.Resources {
			found = append(found, r.Ref())
		}
		next.Done += len(found)
		if next.Cursor = page.Next; page.Next == "" {
			next.Type++
		}
	}
	_, err := x.o.Store.Update(ctx, func(tx store.Tx) error {
		for _, ref := range found {
			if err := enter(ctx, tx, source, ref, custom); err != nil {
				return err
			}
		}
		b := tx.Bucket(Bucket)
		value, _, err := b.Get(ctx, parametersKey(source))
		if err != nil {
			return err
		}
		var all []Parameter
		if err := json.Unmarshal(value, &all); err != nil {
			return err
		}
		for i := range all {
			if all[i].ID == p.ID && all[i].Version == p.Version && all[i].Type == p.Type && all[i].Cursor == p.Cursor {
				all[i] = next
			}
		}
		b.Put(parametersKey(source), fhir.JSON(all))
		return nil
	})
	return err
}

// Of gives a system's parameters as they stand.
func (x *Index) Of(ctx context.Context, source string) ([]Parameter, search.Custom, error) {
	value, _, err := x.o.Store.View(Bucket).Get(ctx, parametersKey(source))
	if err != nil || len(value) == 0 {
		return nil, nil, err
	}
	c, err := x.read(source, value)
	return c.all, c.custom, err
}

// maxAmong is how many resources of the index one search looks at.
const maxAmong = 20_000

// Narrow finds in the index where what a query asks for may be. A parameter that is not wholly indexed yet is refused, by name.
func (x *Index) Narrow(ctx context.Context, source string, q search.Query) (search.Query, error) {
	if len(q.Custom) == 0 {
		return q, nil
	}
	all, _, err := x.Of(ctx, source)
	if err != nil {
		return q, err
	}
	for _, name := range q.Named() {
		for _, p := range all {
			if p.State == Indexing && p.has(q.Type, name) {
				return q, fhir.Errorf(fhir.Transient, "this search parameter is being indexed, %d resources so far: try again, or ask after it with SearchParameter/%s/$status", p.Done, p.ID).At(name)
			}
		}
	}
	for _, ranges := range q.CustomRanges() {
		found, err := x.within(ctx, source, q.Type, ranges)
		if err != nil {
			return q, err
		}
		if found != nil && (q.Among == nil || len(found) < len(q.Among)) {
			q.Among = found
		}
	}
	return q, nil
}

// within are the resources that have an entry in one of the ranges; nil if they are too many to help.
func (x *Index) within(ctx context.Context, source, typ string, ranges []search.Range) (map[fhir.Ref]bool, error) {
	out := map[fhir.Ref]bool{}
	for _, r := range ranges {
		prefix := entryPrefix(source, typ, r.Name)
		n := 0
		for item, err := range x.o.Store.View(Bucket).ScanFrom(ctx, prefix+r.From, maxAmong+1) {
			if err != nil {
				return nil, err
			}
			value, id, ok := strings.Cut(strings.TrimPrefix(item.Key, prefix), "\x00")
			if !strings.HasPrefix(item.Key, prefix) || r.To != "" && value >= r.To {
				break
			}
			if n++; n > maxAmong || len(out) > maxAmong {
				return nil, nil
			}
			if ok && r.Holds(r.Name, value) {
				out[fhir.MakeRef(typ, id)] = true
			}
		}
	}
	return out, nil
}
