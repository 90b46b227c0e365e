package search

import (
	"context"

	"tombolo/fhir"
)

// A Searcher answers FHIR searches: the local store, a remote FHIR server, a neighbour.
type Searcher interface {
	Search(ctx context.Context, q Query) (*Page, error)
}

// A Query is a parsed FHIR search on one resource type. FHIR R4 search.html
type Query struct {
	Type   string
	Params []Param // all must hold
	Chains []Chain // of other resources that must be there; Resolve turns them into Params
	Sort   []SortKey
	// Include and RevInclude are what else to give of what is linked. Who answers calls Included.
	Include, RevInclude []Include
	// List, if not "", is the id of a List: only what is in it is found. Resolve turns it into Any.
	List string
	// Any, if not nil, holds the only references that may be found: what Resolve made of Chains.
	Any map[fhir.Ref]bool
	// Among, if not nil, holds every match that has not changed since AsOf, and maybe more: where to look, if that is known.
	Among map[fhir.Ref]bool
	// Custom are search parameters beside R4's own.
	Custom Custom
	Count  int    // page size wanted; 0: the searcher's own
	Cursor string // opaque, from Page.Next

	// Patient, if set, keeps the search inside one source patient's compartment: its id on this server. It says where to
	// look, which the searcher knows best (a Medication names no patient), so Matches does not judge it.
	Patient string

	// AsOf, if not 0, is a position of the log: the answer is as it was then, whatever was written since. Pages of one search share it.
	AsOf uint64

	// Source, if set, keeps the search inside what one source holds: the id of its system. Like Patient it is the searcher's business.
	Source string

	// Within, if set, is what of it all may be found: a further condition on each resource, which is the searcher's business too.
	Within func(*fhir.Resource) bool

	// Base is the service's own base URL, without a slash at the end: absolute references below it mean the same as relative ones.
	Base string

	Total    string   // _total: none, estimate, accurate; "" if not said
	Summary  string   // _summary: true, text, data, count, false; "" if not said
	Elements []string // _elements: keep only these (and what is mandatory) in the answer
}

// A Param is one search parameter: any of Values may match. Values stand as in a decoded URL, one alternative each, with
// prefix ("ge2026-01-01"), "system|code" and FHIR's own escapes (`\,` `\|` `\$` `\\`) still in them; see Token and Escape.
type Param struct {
	Name     string
	Modifier string
	Values   []string

	refs map[fhir.Ref]bool // of a chain: Values as a set of relative references
}

// A Chain is a condition on resources linked with the one that is searched for. FHIR R4 search.html#chaining, search.html#has
type Chain struct {
	Name string // as it was written, for the self link: "subject:Patient.name"
	Raw  string // its values, likewise

	Via    string   // the reference parameter: of the searched type, or, if Has, of Query.Type
	Has    bool     // the others refer to the one searched for
	Types  []string // the types of the others
	Params []Param  // what the others must answer
	Chains []Chain  // and what must be linked with them
}

// An Include asks for what is linked with what was found. FHIR R4 search.html#revinclude
type Include struct {
	Type    string // that has the reference; "*": any
	Name    string // the reference parameter; "*": any
	Target  string // only resources of this type; "": any
	Iterate bool   // also of what was included
}

// A SortKey is one key of _sort.
type SortKey struct {
	Name string
	Desc bool
}

// A Page is part of the answer. Issues are warnings that belong in the Bundle as an outcome.
type Page struct {
	Resources []*fhir.Resource
	Next      string // cursor of the next page, "" at the end
	Total     int    // -1: not counted
	Issues    []*fhir.Issue
}
